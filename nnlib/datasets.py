"""Real data in one call: MNIST, Fashion-MNIST and CIFAR-10 as uint8 images, channels last.

The one idea: always know where the data came from. `load_dataset` looks in local folders, then asks the official
mirrors, and last takes a small committed sample; it verifies the content, says which one it used, and
`Dataset.source` keeps the answer. `python -m nnlib.datasets` fetches everything (`make data`).
"""

import gzip
import hashlib
import math
import os
import queue
import struct
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests
from tqdm import tqdm

LabelledImages = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images (N, H, W, C) uint8 and labels (N,) int64, in a training set and a test set.

    title: how a page names the data. source: "official" (every checksum verified),
    "local copy (not the official files)", or "sample". class_names: label 3 is called class_names[3].
    """

    name: str
    title: str
    source: str
    class_names: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[LabelledImages, LabelledImages]:
        """Divide the training set at random: `fraction` of it is for validation, the rest for training.

        Returns (train_images, train_labels), (validation_images, validation_labels): copies, with no image in both.
        """
        count = len(self.train_labels)
        held_out = round(fraction * count) if isinstance(fraction, Real) and 0 < fraction < 1 else 0
        if not 0 < held_out < count:
            raise ValueError(f"split expects a fraction of images between none and all of {count:,}, got {fraction!r}")
        if not isinstance(rng, np.random.Generator):
            raise ValueError(f"split expects a random generator such as np.random.default_rng(0), got {rng!r}")
        order = rng.permutation(count)
        train, validation = order[held_out:], order[:held_out]
        images, labels = self.train_images, self.train_labels
        return (images[train], labels[train]), (images[validation], labels[validation])

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the four arrays: equal for equal data, whatever files it came from."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def __repr__(self) -> str:
        """One line: `Dataset(MNIST, official: 60,000 training and 10,000 test images of 28x28x1, 10 classes)`."""
        size = "x".join(map(str, self.train_images.shape[1:]))
        return f"Dataset({self.title}, {self.source}: {self._counts()} of {size}, {len(self.class_names)} classes)"

    def _counts(self):
        return f"{len(self.train_labels):,} training and {len(self.test_labels):,} test images"


def load_dataset(
    name: str, *, data_dir: str | Path | None = None, download: bool = True, sample: bool = True
) -> Dataset:
    """Load "mnist", "fashion_mnist" or "cifar10", and print one line that says which source it came from.

    Looks in `data_dir` (or else in the folder that NNLIB_DATA_DIR names), then in the repository's data/ and where
    Debian keeps data sets; then asks the official mirrors, unless `download` is False or NNLIB_OFFLINE=1; and last
    takes the committed sample, or raises FileNotFoundError when `sample` is False. NNLIB_DATA=sample takes the sample
    at once. Raises ValueError for an unknown name, and for a local file that is damaged.
    """
    if name not in OFFICIAL:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(map(repr, OFFICIAL))}")
    wanted = OFFICIAL[name]
    try:
        dataset = _load_full(name, data_dir, download)
    except _Unavailable as reason:
        if not sample:
            raise FileNotFoundError(
                f"{wanted.title} is not here in full: {reason}. Run `make data` where there is a network, or let "
                f"NNLIB_DATA_DIR name a folder that holds {wanted.folder}/ with {', '.join(wanted.files)}."
            ) from None
        dataset = _load_sample(name)
        place = "" if dataset.title == wanted.title else f" in place of {wanted.title}"
        print(f"{dataset.title}{place}: a sample of {dataset._counts()} ({reason})")
    else:
        official = dataset.source == "official"
        verdict = "official files, checksums verified" if official else "local copy, not the official files"
        print(f"{dataset.title}: {dataset._counts()} ({verdict})")
    return dataset


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


_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
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
        files=_IDX,
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
        files=_IDX,
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

_REPOSITORY = Path(__file__).resolve().parents[1]
DATA_DIR = _REPOSITORY / "data" if (_REPOSITORY / "pyproject.toml").is_file() else Path(pooch.os_cache("nnlib"))
SYSTEM_DIR = Path("/usr/share/datasets")  # Debian's package dataset-fashion-mnist
MANIFEST = "verified.sha256"  # beside files that were unpacked from a verified archive
PROBE_SECONDS = 3
PAUSE_SECONDS = 1  # before the mirrors are asked a second time


class _Unavailable(Exception):
    """Why the full data set is not to be had."""


def _load_full(name, data_dir, download):
    """Return the whole data set from a local folder or a mirror, or raise _Unavailable with the reason."""
    if (asked := os.environ.get("NNLIB_DATA", "")) not in ("", "sample"):
        raise ValueError(f"NNLIB_DATA={asked} is not known: it is either unset or NNLIB_DATA=sample")
    if asked:
        raise _Unavailable("NNLIB_DATA=sample asks for it")
    wanted, lacking = OFFICIAL[name], "no local files"
    own = data_dir or os.environ.get("NNLIB_DATA_DIR")
    homes = [Path(own).expanduser(), DATA_DIR] if own else [DATA_DIR]
    for home in [*homes, SYSTEM_DIR]:
        missing = [file for file in wanted.files if not _find(home / wanted.folder, file)]
        if not missing:
            return _read(name, home / wanted.folder)
        for folder in (home, home / "cifar-10-batches-py", home / "cifar-10-batches-bin"):
            found = _find(folder, "data_batch_1") or _find(folder, "cifar-10-python.tar")
            if name == "cifar10" and found:
                raise _damaged(found, "CIFAR-10's binary version", "its Python version: pickles, never opened here")
        if len(missing) < len(wanted.files):
            lacking = f"a local {wanted.folder}/ lacks {', '.join(missing)}"
    try:
        if not download:
            raise _Unavailable("download=False")
        if os.environ.get("NNLIB_OFFLINE", "") not in ("", "0"):
            raise _Unavailable("NNLIB_OFFLINE is set")
        return _read(name, _download(wanted, homes))
    except _Unavailable as reason:
        raise _Unavailable(f"{lacking}, and {reason}") from None


# ------------------------------------------------------------------------------------------------ reading local files


def _find(folder, file):
    """Return the path of a file that may be compressed, or None."""
    return next((path for path in (folder / f"{file}.gz", folder / file) if os.path.isfile(path)), None)


def _read(name, folder):
    """Read a complete folder, check its structure, and find out by checksum whether it is the official one."""
    wanted = OFFICIAL[name]
    paths = [_find(folder, file) for file in wanted.files]
    contents = [_content(path) for path in paths]
    hashes = {file: _sha256(content) for file, content in zip(wanted.files, contents, strict=True)}
    manifest = (folder / MANIFEST).read_text("utf-8", "replace") if (folder / MANIFEST).is_file() else ""
    official = hashes == wanted.checksums or manifest == _manifest(wanted, hashes)
    if name == "cifar10":
        batches = [_parse_cifar(*file, wanted) for file in zip(paths, contents, strict=True)]
        train_images, train_labels = (np.concatenate(arrays) for arrays in zip(*batches[:-1], strict=True))
        test_images, test_labels = batches[-1]
    else:
        shapes = [shape for count in wanted.sizes for shape in ((count, *wanted.image_shape[:2]), (count,))]
        arrays = map(_parse_idx, paths, contents, shapes)
        train_images, train_labels, test_images, test_labels = arrays
    source = "official" if official else "local copy (not the official files)"
    return _dataset(name, source, train_images, train_labels, test_images, test_labels)


def _dataset(name, source, train_images, train_labels, test_images, test_labels):
    wanted = OFFICIAL[name]
    return Dataset(
        name=name,
        title=wanted.title,
        source=source,
        class_names=wanted.class_names,
        train_images=train_images.reshape(-1, *wanted.image_shape),  # (N, 28, 28) -> (N, 28, 28, 1)
        train_labels=train_labels.astype(np.int64),
        test_images=test_images.reshape(-1, *wanted.image_shape),
        test_labels=test_labels.astype(np.int64),
    )


def _content(path):
    """Return a file's bytes, decompressed if they are compressed, whatever the file is called."""
    raw = path.read_bytes()
    try:
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, "a whole gzip file", f"a damaged one ({error})") from None


def _parse_idx(path, content, shape):
    """IDX: a big-endian magic number (0x0800 + how many dimensions), the dimensions, then one byte for each entry."""
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    size = len(header) + math.prod(shape)
    if not content.startswith(header) or len(content) != size:
        raise _damaged(path, f"an IDX file of shape {shape}, {size:,} bytes in all", _describe(content))
    array = np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
    return array.copy() if len(shape) > 1 else _checked_labels(path, array)  # a copy may be written to


def _parse_cifar(path, content, wanted):
    """CIFAR's binary version: for each image its label, then the red, the green and the blue plane, row by row."""
    height, width, channels = wanted.image_shape
    count = wanted.sizes[1]  # every batch is as large as the test set
    size = count * (1 + height * width * channels)
    if len(content) != size:
        raise _damaged(path, f"{count:,} labelled images, {size:,} bytes in all", _describe(content))
    records = np.frombuffer(content, np.uint8).reshape(count, -1)
    planes = records[:, 1:].reshape(count, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(path, records[:, 0])


def _checked_labels(path, labels):
    if labels.max() > 9:
        raise _damaged(path, "labels from 0 to 9", f"the label {labels.max()}")
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


def _damaged(path, expected, got):
    return ValueError(f"{path} cannot be used: expected {expected}, got {got}. Delete it and run `make data`.")


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _manifest(wanted, hashes):
    """Text, as sha256sum writes it, that ties unpacked files to the verified archive they came from."""
    return "".join(f"{digest}  {file}\n" for file, digest in (wanted.checksums | hashes).items())


# ------------------------------------------------------------------------------------------------------- the mirrors

_network_is_away = False  # found out once, then remembered for as long as the process lives


def _download(wanted, homes):
    """Fetch what is missing into the first data folder that can be written to; return where the files are.

    Everything is made and verified in a scratch folder, then renamed: what goes wrong half-way leaves nothing behind.
    """
    _look_for_the_network()
    for home in homes:
        folder = home / wanted.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(prefix=".download-", dir=folder)
            break
        except OSError as error:
            problem = error.strerror
    else:
        raise _Unavailable(f"no data folder can be written to ({problem})")
    with scratch as temporary:
        temporary, mirrors = Path(temporary), list(wanted.mirrors)
        try:
            for remote, checksum in wanted.checksums.items():
                if remote not in wanted.files:
                    _unpack(_fetch(mirrors, remote, checksum, temporary), wanted)
                elif not _find(folder, remote):
                    _fetch(mirrors, f"{remote}.gz", checksum, temporary)
            for path in sorted(temporary.iterdir(), key=lambda path: path.name != MANIFEST):  # the manifest goes first
                path.replace(folder / path.name)
        except OSError as error:
            raise _Unavailable(f"the download could not be written ({error.strerror})") from None
    return folder


def _look_for_the_network():
    """Ask the host of every mirror at once: any answer, even an error page, means that there is a network."""
    global _network_is_away
    hosts = {urlsplit(url).netloc: url for wanted in OFFICIAL.values() for url in wanted.mirrors}
    if not _network_is_away:
        answers = queue.SimpleQueue()
        for url in hosts.values():  # daemon threads: a name server that never answers must not hold up the exit
            threading.Thread(target=lambda url=url: answers.put(_answers(url)), daemon=True).start()
        deadline = time.monotonic() + PROBE_SECONDS
        try:
            _network_is_away = not any(answers.get(timeout=max(0, deadline - time.monotonic())) for _ in hosts)
        except queue.Empty:
            _network_is_away = True
    if _network_is_away:
        raise _Unavailable("no network was found; restart Python to look again")


def _answers(url):
    try:
        requests.head(url, timeout=PROBE_SECONDS)
        return True
    except requests.RequestException as error:
        return isinstance(error, requests.exceptions.SSLError)  # somebody answered, though not to be trusted


def _fetch(mirrors, remote, checksum, folder):
    """Download one file from the first mirror that serves it whole; that mirror is asked first for the next file."""
    path, failures = folder / remote, {}
    for attempt in range(2):
        time.sleep(PAUSE_SECONDS * attempt)
        for mirror in mirrors:
            # total=1: pooch asks a bar for its truth before it sets the total, and without a total it has none
            with tqdm(
                total=1, desc=remote, unit="B", unit_scale=True, disable=bool(os.environ.get("TQDM_DISABLE"))
            ) as bar:
                get = pooch.HTTPDownloader(bar, 2**16, timeout=(5, 30), headers={"Accept-Encoding": "identity"})
                try:
                    get(mirror + remote, path, None)
                    if _sha256(path.read_bytes() if remote.endswith(".tar.gz") else _content(path)) == checksum:
                        mirrors.sort(key=lambda other: other != mirror)
                        return path
                    problem = "wrong checksum"
                except requests.HTTPError as error:
                    problem = f"HTTP {error.response.status_code}"
                except requests.RequestException:
                    problem = "the connection broke off"
                except ValueError:
                    problem = "a damaged file"
            failures[urlsplit(mirror).netloc] = problem
    reasons = "; ".join(f"{host}: {problem}" for host, problem in failures.items())
    raise _Unavailable(f"no mirror served {remote} whole ({reasons})")


def _unpack(archive, wanted):
    """Write the expected members, and only those, under names of our own; then the manifest that vouches for them."""
    members = {f"{wanted.folder}/{file}": file for file in wanted.files}
    hashes = dict.fromkeys(wanted.files)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isfile() and (file := members.get(member.name)):
                content = tar.extractfile(member).read()
                archive.with_name(file).write_bytes(content)
                hashes[file] = _sha256(content)
    if None in hashes.values():
        raise _Unavailable(f"{archive.name} lacks {', '.join(file for file in hashes if not hashes[file])}")
    archive.with_name(MANIFEST).write_text(_manifest(wanted, hashes), encoding="utf-8", newline="\n")
    archive.unlink()


# -------------------------------------------------------------------------------------------------------- the samples


def _load_sample(name):
    """Load the committed sample, made by tools/author/samples.py: 4,000 + 1,000 images, equally many of each class."""
    if name == "cifar10":
        return _colour_fashion()
    path = DATA_DIR / "samples" / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the samples are part of the course's repository")
    with np.load(path, allow_pickle=False) as arrays:
        return _dataset(name, "sample", **arrays)


def _colour_fashion():
    """Make the stand-in for CIFAR-10: the Fashion-MNIST sample in its shape, (N, 32, 32, 3), in random colours.

    No part of CIFAR-10 may be committed. Here each picture gets a margin of 2 pixels and is blended from a random dark
    background to a random bright foreground, so that the colour says nothing about the class. The labels and the
    class names are Fashion-MNIST's; the seed is fixed.
    """
    fashion, rng = _load_sample("fashion_mnist"), np.random.default_rng(10)

    def tint(images):  # (N, 28, 28, 1) -> (N, 32, 32, 3)
        grey = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))).astype(np.uint16)
        background = rng.integers(0, 128, (len(images), 1, 1, 3), dtype=np.uint16)
        foreground = rng.integers(128, 256, (len(images), 1, 1, 3), dtype=np.uint16)
        return ((background * (255 - grey) + foreground * grey + 127) // 255).astype(np.uint8)  # 65,152 at most: fits

    images = {"train_images": tint(fashion.train_images), "test_images": tint(fashion.test_images)}
    return replace(fashion, name="cifar10", title="colour-fashion stand-in", **images)


def main(names: list[str]) -> int:
    """Fetch the named data sets, or all; return 1 if one of them is not here in full afterwards, else 0."""
    failed = False
    for name in names or OFFICIAL:
        try:
            load_dataset(name, sample=False)
        except (OSError, ValueError) as error:
            failed = True
            print(error, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
