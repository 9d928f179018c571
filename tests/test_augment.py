import numpy as np
import pytest

from nnlib import random_shift


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


def test_seeded(rng):
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    first, second = (random_shift(images, np.random.default_rng(2)) for _ in range(2))
    assert np.array_equal(first, second)


def test_pictures_without_channels(rng):
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    with_channel, without = (random_shift(x, np.random.default_rng(2)) for x in (images[..., None], images))
    assert np.array_equal(with_channel[..., 0], without)


def test_bad_input(rng):
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, C\)"):
        random_shift(np.zeros((28, 28)), rng)
    with pytest.raises(ValueError, match=r"got .* and -1"):
        random_shift(np.zeros((1, 2, 2, 1)), rng, pixels=-1)
