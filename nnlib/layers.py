"""The layers that every network uses: Linear, ReLU, Tanh, Flatten, Dropout.

Their one idea: a layer is a function with a memory. `forward(x, training=True)` keeps what `backward` will need, and
`backward(dout)` turns the gradient of the loss for the layer's output into the one for its input (the chain rule),
leaving the gradients of its own parameters in `grads`. Throughout, `dW` stands for the derivative of the loss for `W`.
"""

import copy
import math

import numpy as np

from .backend import generator_beside, get_array_module, to_device
from .initializers import Initializer, he_normal


class Layer:
    """What layers share: `params` and `grads`, dicts of arrays with equal keys, and a memory of the last forward."""

    def __init__(self):
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}
        self.saved = None  # what backward needs; None unless the last forward was a training one

    def forward(self, x, training: bool = False):
        """Return the layer's output; with training=True also keep what backward needs."""
        raise NotImplementedError

    def backward(self, dout, input_grad: bool = True):
        """Return dx, the gradient for the input of the last training forward, and assign `grads`.

        dout: the gradient for the layer's output, of its shape (ValueError for another); it is never changed in place.
        With input_grad=False a layer may save the work and return None: a model's first layer has nobody to pass dx to.
        """
        raise NotImplementedError

    def twin(self) -> "Layer":
        """Return a layer with the same parameters, not copies of them, and with a memory and gradients of its own."""
        return copy.copy(self)

    def recall(self):
        """Return what forward kept; raises RuntimeError where there was no training forward."""
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs forward(x, training=True) just before it")
        return self.saved


def check_gradient(layer: Layer, dout, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless dout has the shape of the layer's output: NumPy would broadcast many others."""
    if dout.shape != shape:
        raise ValueError(f"{type(layer).__name__}.backward expects dout {shape}, got {dout.shape}")


def check_floats(layer: Layer, x) -> None:
    """Raise ValueError unless x holds floats: 0..255 as integers would be computed with unscaled."""
    if x.dtype.kind != "f":
        name = type(layer).__name__
        raise ValueError(f"{name} expects floats, got {x.dtype}: scale images first, x.astype(np.float32) / 255")


class Linear(Layer):
    """The affine map y = x W + b, with W (in_features, out_features) and b (out_features,)."""

    def __init__(self, in_features: int, out_features: int, *, rng, init: Initializer = he_normal, dtype=np.float32):
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear expects at least 1 feature on each side, got {in_features} and {out_features}")
        self.params = {
            "W": to_device(init((in_features, out_features), rng).astype(dtype)),
            "b": to_device(np.zeros(out_features, dtype)),
        }

    def forward(self, x, training: bool = False):
        """x: (N, in_features) float. Returns (N, out_features). Raises ValueError for another shape or for integers."""
        W, b = self.params["W"], self.params["b"]
        if x.ndim != 2 or x.shape[1] != len(W):
            hint = ": put Flatten() before Linear" if x.ndim > 2 else ""
            raise ValueError(f"Linear expects (N, {len(W)}), got {x.shape}{hint}")
        check_floats(self, x)
        self.saved = x if training else None
        return x @ W + b

    def backward(self, dout, input_grad: bool = True):
        """dout: (N, out_features). Returns dx (N, in_features); assigns grads W and b."""
        x, W = self.recall(), self.params["W"]
        check_gradient(self, dout, (len(x), W.shape[1]))
        self.grads = {"W": x.T @ dout, "b": dout.sum(axis=0)}
        return dout @ W.T if input_grad else None


class ReLU(Layer):
    """max(x, 0), entry by entry. Its derivative at exactly 0 is taken as 0."""

    def forward(self, x, training: bool = False):
        """x: any shape. Returns the same shape."""
        xp = get_array_module(x)
        y = xp.maximum(x, xp.zeros(x.shape[1:], x.dtype))  # against a number, NumPy takes twice as long
        self.saved = y > 0 if training else None
        return y

    def backward(self, dout, input_grad: bool = True):
        """dout: the shape of x. Returns dx: the gradient passes where x > 0."""
        positive = self.recall()
        check_gradient(self, dout, positive.shape)
        return dout * positive


class Tanh(Layer):
    """The hyperbolic tangent, entry by entry."""

    def forward(self, x, training: bool = False):
        """x: any shape. Returns the same shape, values in (-1, 1)."""
        y = get_array_module(x).tanh(x)
        self.saved = y if training else None
        return y

    def backward(self, dout, input_grad: bool = True):
        """dout: the shape of x. Returns dx = dout * (1 - tanh(x)^2)."""
        y = self.recall()
        check_gradient(self, dout, y.shape)
        return dout * (1 - y**2)


class Flatten(Layer):
    """Lay out each sample as one row: (N, H, W, C) becomes (N, H*W*C)."""

    def forward(self, x, training: bool = False):
        """x: (N, ...). Returns (N, product of the rest)."""
        self.saved = x.shape if training else None
        return x.reshape(len(x), -1)

    def backward(self, dout, input_grad: bool = True):
        """dout: (N, product of the rest). Returns dx in the shape of x."""
        shape = self.recall()
        check_gradient(self, dout, (shape[0], math.prod(shape[1:])))
        return dout.reshape(shape)


class Dropout(Layer):
    """While training, set each entry to 0 with probability p and scale the others by 1 / (1 - p); else the identity.

    The scale keeps the expected value, so that prediction needs no change (Srivastava et al. 2014).
    """

    def __init__(self, p: float, *, rng: np.random.Generator):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout expects a probability 0 <= p < 1, got {p}")
        self.p, self.rng = p, rng

    def twin(self) -> "Dropout":
        """As for every layer; the twin's generator is another, seeded by one integer from this layer's."""
        twin = super().twin()
        twin.rng = np.random.default_rng(self.rng.integers(2**63))
        return twin

    def forward(self, x, training: bool = False):
        """x: any shape. Returns the same shape."""
        if not training:
            self.saved = None
            return x
        kept = generator_beside(x, self.rng).random(x.shape, np.float32) >= self.p
        self.saved = kept.astype(x.dtype) / x.dtype.type(1 - self.p)
        return x * self.saved

    def backward(self, dout, input_grad: bool = True):
        """dout: the shape of x. Returns dx: the gradient passes through what was kept, with the same scale."""
        scale = self.recall()
        check_gradient(self, dout, scale.shape)
        return dout * scale
