"""The files that MNIST, Fashion-MNIST and CIFAR-10 are published as: which they are, and how to read them.

The one idea: a file is used whole or not at all. Its structure is checked down to the last byte, its checksum tells
whether it is the official one, and a damaged file is an error that says what to do, never a reason to look elsewhere.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Official:
    """What a data set consists of, where it is published, and the SHA-256 that proves it."""

    title: str
    folder: str  # below a data folder
    image_shape: tuple[int, int, int]
    sizes: tuple[int, int]  # training images, test images
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[str, ...]  # in the folder; an IDX file is there as it is or with .gz
    checksums: dict[str, str]  # of an IDX file's decompressed content, or of an archive as it is


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
OFFICIAL = {
    "mnist": Official(
        title="MNIST",
        folder="mnist",
        image_shape=(28, 28, 1),
        sizes=(60_000, 10_000),
        class_names=tuple("0123456789"),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        files=IDX,
        checksums={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Official(
        title="Fashion-MNIST",
        folder="fashion-mnist",
        image_shape=(28, 28, 1),
        sizes=(60_000, 10_000),
        class_names=tuple("T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        files=IDX,
        checksums={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "cifar10": Official(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        image_shape=(32, 32, 3),
        sizes=(50_000, 10_000),
        class_names=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
        checksums={"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    ),
}

MANIFEST = "verified.sha256"  # beside files that were unpacked from a verified archive


def find_file(folder: Path, name: str) -> Path | None:
    """Return the path of a file that may be compressed, or None."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if os.path.isfile(path)), None)


def read_folder(official: Official, folder: Path) -> tuple[list[np.ndarray], bool]:
    """Read a complete folder. Raises ValueError for a damaged file.

    Returns [training images, labels (N,), test images, labels], uint8, and whether every checksum is the official one.
    Images are (N, H, W) from IDX files, (N, H, W, 3) from CIFAR's.
    """
    paths = [find_file(folder, name) for name in official.files]
    contents = [read_content(path) for path in paths]
    hashes = {name: sha256(content) for name, content in zip(official.files, contents, strict=True)}
    path = folder / MANIFEST
    manifest = path.read_text("utf-8", "replace") if path.is_file() else ""
    verified = hashes == official.checksums or manifest == manifest_of(official, hashes)
    if official.files == IDX:
        shapes = [shape for count in official.sizes for shape in ((count, *official.image_shape[:2]), (count,))]
        arrays = list(map(_parse_idx, paths, contents, shapes))
    else:
        batches = [_parse_cifar(path, content, official) for path, content in zip(paths, contents, strict=True)]
        training = [np.concatenate(arrays) for arrays in zip(*batches[:-1], strict=True)]
        arrays = [*training, *batches[-1]]
    return arrays, verified


def read_content(path: Path) -> bytes:
    """Return a file's bytes, decompressed if they are compressed, whatever the file is called."""
    raw = path.read_bytes()
    try:
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, "a whole gzip file", f"a damaged one ({error})") from None


def sha256(content: bytes) -> str:
    """Return the checksum in hex."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(official: Official, hashes: dict[str, str]) -> str:
    """Text, as sha256sum writes it, that ties unpacked files to the verified archive they came from."""
    return "".join(f"{digest}  {name}\n" for name, digest in (official.checksums | hashes).items())


def damaged(path: Path, expected: str, got: str) -> ValueError:
    """Return the error for a file that cannot be used."""
    return ValueError(f"{path} cannot be used: expected {expected}, got {got}. Delete it and run `make data`.")


def _parse_idx(path, content, shape):
    """IDX: a big-endian magic number (0x0800 + how many dimensions), the dimensions, then one byte for each entry."""
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    size = len(header) + math.prod(shape)
    if not content.startswith(header) or len(content) != size:
        raise damaged(path, f"an IDX file of shape {shape}, {size:,} bytes in all", _describe(content))
    array = np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
    return array.copy() if len(shape) > 1 else _checked_labels(path, array)  # a copy may be written to


def _parse_cifar(path, content, official):
    """CIFAR's binary version: for each image its label, then the red, the green and the blue plane, row by row."""
    height, width, channels = official.image_shape
    count = official.sizes[1]  # every batch is as large as the test set
    size = count * (1 + height * width * channels)
    if len(content) != size:
        raise damaged(path, f"{count:,} labelled images, {size:,} bytes in all", _describe(content))
    records = np.frombuffer(content, np.uint8).reshape(count, -1)
    planes = records[:, 1:].reshape(count, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(path, records[:, 0])


def _checked_labels(path, labels):
    if labels.max() > 9:
        raise damaged(path, "labels from 0 to 9", f"the label {labels.max()}")
    return labels


def _describe(content):
    """Say in words what a file seems to be that is not what it should be."""
    if content.lstrip()[:1] == b"<":
        return "a web page (HTML)"
    if content[:1] == b"\x80":
        return "a Python pickle, which is never opened here"
    if content[:3] == b"\x00\x00\x08" and len(content) >= 4 + 4 * content[3]:
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        return f"an IDX file whose header says {shape}, {len(content):,} bytes in all"
    return f"{len(content):,} bytes that begin with {content[:4].hex(' ') or 'nothing'}"
