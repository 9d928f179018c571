"""Is a gradient right? Ask the function itself, by nudging its input.

Its one idea: f(x + h) - f(x - h) over 2h is the derivative up to an error of order h^2, for any f and with no calculus.
"""

from collections.abc import Callable

import numpy as np

from .layers import Layer


class CheckFailed(AssertionError):
    """A check found something wrong. The message says what; `inputs` holds the arrays that show it, by name."""

    def __init__(self, message: str, inputs: dict | None = None):
        super().__init__(message)
        self.inputs = inputs or {}


def numerical_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Return df/dx by central differences, one entry of x at a time.

    f: takes an array of x's shape, returns a scalar. x: float64 (float32 has too few digits: ValueError); each entry is
    changed in place while f is called, and put back. Takes 2 * x.size calls of f: use it on small arrays.
    """
    if x.dtype != np.float64:
        raise ValueError(f"numerical_gradient expects a float64 array, got {x.dtype}: use x.astype(np.float64)")
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        original = x[index]
        try:
            x[index] = original + h
            above = f(x)
            x[index] = original - h
            below = f(x)
        finally:
            x[index] = original
        gradient[index] = (above - below) / (2 * h)
    return gradient


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest |a - b| over the largest entry of either (at least 0.01): one number for a whole array."""
    if not a.size:
        return 0.0
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-2))


def check_layer(layer: Layer, x: np.ndarray, rng: np.random.Generator, tolerance: float = 1e-6) -> float:
    """Compare a layer's backward with numerical gradients: for its input and for every parameter.

    layer: built with dtype=np.float64. x: one small batch, float64. rng: draws the gradient that is sent backward.
    Returns the largest relative error; raises CheckFailed if one exceeds the tolerance or a shape is wrong.
    """
    dropout_state = layer.rng.bit_generator.state if hasattr(layer, "rng") else None

    def forward():
        if dropout_state is not None:
            layer.rng.bit_generator.state = dropout_state  # the same entries dropped at every call
        return layer.forward(x, training=True)

    dout = rng.normal(size=forward().shape)
    before = dout.copy()
    analytic = {"x": layer.backward(dout), **layer.grads}
    if not np.array_equal(dout, before):
        raise CheckFailed(f"{type(layer).__name__}.backward changed dout in place", {"x": x, "dout": before})
    if set(analytic) != {"x", *layer.params}:
        raise CheckFailed(f"grads has the keys {sorted(layer.grads)}, params has {sorted(layer.params)}")
    worst = 0.0
    for name, array in {"x": x, **layer.params}.items():
        if analytic[name].shape != array.shape:
            raise CheckFailed(f"the gradient for {name} has shape {analytic[name].shape}, expected {array.shape}")
        numerical = numerical_gradient(lambda _: float((forward() * dout).sum()), array)
        error = relative_error(analytic[name], numerical)
        if not error <= tolerance:
            raise CheckFailed(
                f"{type(layer).__name__}: the gradient for {name} is off by {error:.1e} (relative); allowed are"
                f" {tolerance:.0e}. Compare .inputs['analytic'] with .inputs['numerical'] of this error",
                {"x": x, "dout": dout, "analytic": analytic[name], "numerical": numerical},
            )
        worst = max(worst, error)
    return worst
