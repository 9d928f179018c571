"""Training pictures that were never taken: small changes that leave the label true.

Its one idea: the network sees each picture a little differently in every epoch, so it cannot learn it by heart. Such a
function takes a batch and the generator, `(images, rng) -> images`, and `fit` applies it to training batches alone.
"""

import numpy as np

from .backend import generator_beside, get_array_module


def random_shift(images, rng: np.random.Generator, pixels: int = 2):
    """Move each image by up to `pixels` in both directions; what comes in from outside is 0.

    images: (N, H, W, C), or (N, H, W) as a recurrent network reads them; any dtype. Returns a new array like it.
    """
    if images.ndim not in (3, 4) or pixels < 0:
        raise ValueError(f"expected images (N, H, W, C) and pixels of at least 0, got {images.shape} and {pixels}")
    xp, (n, h, w, *channels) = get_array_module(images), images.shape
    padded = xp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), *[(0, 0)] * len(channels)))
    corners = generator_beside(images, rng).integers(0, 2 * pixels + 1, (2, n))  # the top rows, the left columns
    rows, columns = corners[0, :, None] + xp.arange(h), corners[1, :, None] + xp.arange(w)  # (N, H) and (N, W)
    return padded[xp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def random_flip(images, rng: np.random.Generator):
    """Swap left and right in each image with probability 1/2: for photographs, not for digits or letters.

    images: (N, H, W, C), any dtype. Returns a new array of the same shape and dtype.
    """
    if images.ndim != 4:
        raise ValueError(f"expected images (N, H, W, C), got {images.shape}")
    xp = get_array_module(images)
    mirrored = generator_beside(images, rng).random(len(images)) < 0.5
    return xp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
