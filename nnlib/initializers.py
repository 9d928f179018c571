"""How weights begin: random numbers whose spread keeps signals the same size from layer to layer.

Its one idea: an initializer is a function `(shape, rng) -> float64 array`. The last axis of a weight is its outputs and
all axes before it its inputs, so `(in, out)` and `(kh, kw, C_in, C_out)` need no separate cases.
"""

from collections.abc import Callable

import numpy as np

Initializer = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / fan_in, for layers followed by ReLU.

    He et al. 2015, https://arxiv.org/abs/1502.01852.
    """
    fan_in = np.prod(shape[:-1])
    return rng.normal(0.0, np.sqrt(2.0 / fan_in), shape)


def glorot_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / (fan_in + fan_out), for tanh (Glorot and Bengio 2010)."""
    receptive_field = np.prod(shape[:-2])  # kh * kw of a convolution, 1 for a matrix
    fan_in, fan_out = receptive_field * shape[-2], receptive_field * shape[-1]
    return rng.normal(0.0, np.sqrt(2.0 / (fan_in + fan_out)), shape)


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Orthonormal rows or columns, for recurrent weights: singular values of 1 (Saxe et al. 2013, arXiv 1312.6120).

    The array is read as a matrix (fan_in, fan_out).
    """
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # makes the draw uniform over all orthogonal matrices
    return (q if rows >= columns else q.T).reshape(shape)


def normal(std: float) -> Initializer:
    """Return the initializer that draws from a normal distribution of this standard deviation (0 gives zeros)."""
    if not std >= 0:
        raise ValueError(f"expected a standard deviation of at least 0, got {std}")
    return lambda shape, rng: rng.normal(0.0, std, shape)
