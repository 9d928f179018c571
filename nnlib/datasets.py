"""Real data in one call: MNIST, Fashion-MNIST and CIFAR-10 as uint8 images, channels last.

The one idea: always know where the data came from. `load_dataset` looks in local folders, then asks the official
mirrors, and last takes a small committed sample; it verifies the content, says which one it used, and
`Dataset.source` keeps the answer. `python -m nnlib.datasets` fetches everything (`make data`).
"""

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np
import pooch

from . import mirrors
from .data_files import OFFICIAL, damaged, find_file, read_folder
from .mirrors import Unavailable

LabelledImages = tuple[np.ndarray, np.ndarray]
_REPOSITORY = Path(__file__).resolve().parents[1]
DATA_DIR = _REPOSITORY / "data" if (_REPOSITORY / "pyproject.toml").is_file() else Path(pooch.os_cache("nnlib"))
SYSTEM_DIR = Path("/usr/share/datasets")  # Debian's package dataset-fashion-mnist


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
    at once. Raises ValueError for an unknown name, and for a local file that is damaged; FileNotFoundError too where a
    download would have to make more than the last folder of the path that was named (a slip of the pen).
    """
    if name not in OFFICIAL:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(map(repr, OFFICIAL))}")
    official = OFFICIAL[name]
    try:
        dataset = _load_full(name, data_dir, download)
    except Unavailable as reason:
        if not sample:
            raise FileNotFoundError(
                f"{official.title} is not here in full: {reason}. Run `make data` where there is a network, or let "
                f"NNLIB_DATA_DIR name a folder that holds {official.folder}/ with {', '.join(official.files)}."
            ) from None
        dataset = _load_sample(name)
        place = "" if dataset.title == official.title else f" in place of {official.title}"
        print(f"{dataset.title}{place}: a sample of {dataset._counts()} ({reason})")
    else:
        verified = dataset.source == "official"
        verdict = "official files, checksums verified" if verified else "local copy, not the official files"
        print(f"{dataset.title}: {dataset._counts()} ({verdict})")
    return dataset


def _load_full(name, data_dir, download):
    """Return the whole data set from a local folder or a mirror, or raise Unavailable with the reason."""
    if (asked := os.environ.get("NNLIB_DATA", "")) not in ("", "sample"):
        raise ValueError(f"NNLIB_DATA={asked} is not known: it is either unset or NNLIB_DATA=sample")
    if asked:
        raise Unavailable("NNLIB_DATA=sample asks for it")
    official, lacking = OFFICIAL[name], "no local files"
    own = data_dir or os.environ.get("NNLIB_DATA_DIR")
    homes = [Path(own).expanduser(), DATA_DIR] if own else [DATA_DIR]
    for home in [*homes, SYSTEM_DIR]:
        missing = [file for file in official.files if not find_file(home / official.folder, file)]
        if not missing:
            return _read(name, home / official.folder)
        for folder in (home, home / "cifar-10-batches-py", home / "cifar-10-batches-bin"):
            found = find_file(folder, "data_batch_1") or find_file(folder, "cifar-10-python.tar")
            if name == "cifar10" and found:
                raise damaged(found, "CIFAR-10's binary version", "its Python version: pickles, never opened here")
        if len(missing) < len(official.files):
            lacking = f"a local {official.folder}/ lacks {', '.join(missing)}"
    try:
        if not download:
            raise Unavailable("download=False")
        if os.environ.get("NNLIB_OFFLINE", "") not in ("", "0"):
            raise Unavailable("NNLIB_OFFLINE is set")
        return _read(name, mirrors.download(official, homes))
    except Unavailable as reason:
        raise Unavailable(f"{lacking}, and {reason}") from None


def _read(name, folder):
    arrays, verified = read_folder(OFFICIAL[name], folder)
    return _dataset(name, "official" if verified else "local copy (not the official files)", *arrays)


def _dataset(name, source, train_images, train_labels, test_images, test_labels):
    official = OFFICIAL[name]
    return Dataset(
        name=name,
        title=official.title,
        source=source,
        class_names=official.class_names,
        train_images=train_images.reshape(-1, *official.image_shape),  # (N, 28, 28) -> (N, 28, 28, 1)
        train_labels=train_labels.astype(np.int64),
        test_images=test_images.reshape(-1, *official.image_shape),
        test_labels=test_labels.astype(np.int64),
    )


def _load_sample(name):
    """Load the committed sample, made by data/make_samples.py: 4,000 + 1,000 images, equally many of each class."""
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
