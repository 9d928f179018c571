import numpy as np
import pytest

from nnlib import SGD, Flatten, Linear, Sequential, fit, random_flip, random_shift


def test_every_image_is_moved_as_a_whole_and_by_at_most_the_pixels_allowed(rng):
    images = np.zeros((500, 9, 7, 2), np.uint8)
    images[:, 4, 3] = np.arange(500)[:, None] % 250 + 1  # one dot in the middle, of a value that names the image
    moved = random_shift(images, rng, pixels=2)
    assert moved.shape == images.shape and moved.dtype == np.uint8
    n, y, x = np.nonzero(moved[..., 0])
    assert np.array_equal(n, np.arange(500)) and np.array_equal(moved[n, y, x], images[:, 4, 3])
    assert set(y - 4) == set(x - 3) == {-2, -1, 0, 1, 2}
    assert len(set(zip(y, x, strict=True))) == 25


def test_what_comes_in_is_zero_and_the_original_is_left_alone(rng):
    images = np.ones((20, 3, 3, 1), np.float32)
    moved = random_shift(images, rng, pixels=3)
    assert set(np.unique(moved)) == {0, 1} and (images == 1).all()
    assert np.array_equal(random_shift(images, rng, pixels=0), images)


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others(rng):
    images = rng.integers(0, 256, (400, 3, 4, 3), dtype=np.uint8)
    flipped, before = random_flip(images, rng), images.copy()
    assert flipped.shape == images.shape and flipped.dtype == np.uint8 and not np.shares_memory(flipped, images)
    kept = (flipped == images).all(axis=(1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))  # left and right, not up and down
    assert (kept ^ mirrored).all() and 150 < mirrored.sum() < 250
    assert np.array_equal(images, before), "the originals were changed"


@pytest.mark.parametrize("augment", [random_flip, random_shift])
def test_seeded(augment):
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    first, second, other = (augment(images, np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize("augment", [random_flip, random_shift])
def test_fit_hands_over_each_picture_with_its_own_label(augment, rng):
    """`fit` takes the labels of a batch before it changes the pictures, so these must stay in their places."""
    labels = rng.integers(0, 10, 200)
    images = np.zeros((200, 6, 6, 1), np.uint8)
    images[:, 2:4, 2:4, 0] = 20 * labels[:, None, None] + 20  # 2 pixels from the border: a shift loses none of them
    seen = []

    def watch(batch, generator):
        augmented = augment(batch, generator)
        seen.extend(augmented.max(axis=(1, 2, 3)))
        assert np.array_equal(augmented.max(axis=(1, 2, 3)), batch.max(axis=(1, 2, 3))), "pictures changed places"
        return augmented

    model = Sequential([Flatten(), Linear(36, 10, rng=rng)])
    fit(
        model,
        (images, labels),
        (images, labels),
        optimizer=SGD(model, lr=0.1),
        epochs=1,
        batch_size=64,
        rng=rng,
        augment=watch,
        progress=False,
    )
    assert sorted(seen) == sorted(images.max(axis=(1, 2, 3)))


def test_pictures_without_channels(rng):
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    with_channel, without = (random_shift(x, np.random.default_rng(2)) for x in (images[..., None], images))
    assert np.array_equal(with_channel[..., 0], without)


def test_bad_input(rng):
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, C\)"):
        random_shift(np.zeros((28, 28)), rng)
    with pytest.raises(ValueError, match=r"got .* and -1"):
        random_shift(np.zeros((1, 2, 2, 1)), rng, pixels=-1)
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, C\), got \(28, 28\)"):
        random_flip(np.zeros((28, 28)), rng)
