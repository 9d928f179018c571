"""A trained nnlib model as data for the browser, where `web/net.js` runs it.

Its one idea: a layer is its name, its settings and its weights; the weights, rounded to fewer bits, are most of a page.
"""

import numpy as np

from ..backend import to_numpy
from ..conv import AvgPool2d, Conv2d, MaxPool2d
from ..layers import Dropout, Flatten, Layer, Linear, ReLU, Tanh
from ..model import Sequential
from ..recurrent import GRU, RNN
from .figure import encode

# What net.js knows: the layer, and the settings that its forward needs besides the weights.
SETTINGS: dict[type[Layer], tuple[str, ...]] = {
    Linear: (),
    ReLU: (),
    Tanh: (),
    Flatten: (),
    Dropout: (),
    Conv2d: ("stride", "padding"),
    MaxPool2d: ("kernel_size", "stride", "padding"),
    AvgPool2d: ("kernel_size", "stride", "padding"),
    RNN: ("return_sequences",),
    GRU: ("return_sequences",),
}
DTYPES = ("float32", "float16", "int8")
LIGHT = 300_000  # weights: in float16 and written as text they are 800 kB


def network_json(model: Sequential, *, dtype: str | None = "float16") -> dict:
    """Return the model as a dict that JSON can hold and `Net.load` of net.js reads.

    dtype: how the weights are rounded. "float32" keeps them; "float16" keeps three digits of each; "int8" writes
    whole numbers from -127 to 127 with one scale, a float32, for every column of a matrix, that is for every unit or
    output channel. Biases stay float32. None chooses: "float16" up to 300,000 weights (0.8 MB), "int8" above, "float32"
    where a weight is beyond float16's 65,504.

    Raises ValueError for what is no Sequential, for a layer that net.js does not know, for weights that are NaN or
    infinite, for weights beyond float16's range with "float16", and for another dtype.
    """
    if not isinstance(model, Sequential):
        raise ValueError(f"expected a model, nnlib.Sequential([...]), got {type(model).__name__}")
    if dtype is None:
        dtype = _light_dtype(model)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}")
    layers = []
    for place, layer in enumerate(model.layers):
        name = type(layer).__name__
        if type(layer) not in SETTINGS:  # not isinstance: what somebody derived from Linear may compute anything
            known = ", ".join(known.__name__ for known in SETTINGS)
            raise ValueError(f"layer {place}, {name}, is unknown to the network in the browser, which knows {known}")
        entry = {"type": name} | {setting: getattr(layer, setting) for setting in SETTINGS[type(layer)]}
        for key, param in layer.params.items():
            entry[key] = _encoded(to_numpy(param), dtype, f"{key} of layer {place}, {name},")
        layers.append(entry)
    return {"layers": layers}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, K) of logits (N, K), as `Net.softmax` does of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _light_dtype(model):
    weights = [to_numpy(param) for _, param in model.named_parameters()]
    if any(np.abs(weight).max() > np.finfo(np.float16).max for weight in weights):
        return "float32"
    return "float16" if sum(weight.size for weight in weights) <= LIGHT else "int8"


def _encoded(weights, dtype, name):
    """Return {"dtype", "shape", "base64"} of an array, with its "scales" in int8; a vector (a bias) stays float32."""
    with np.errstate(over="ignore"):  # float64 beyond float32's range becomes infinite, and is refused
        weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(f"{name} is not finite (it holds NaN or infinity): has the training diverged?")
    if dtype == "float32" or weights.ndim < 2:
        return encode(weights)
    largest = np.abs(weights).max(axis=tuple(range(weights.ndim - 1)))  # of each column
    if dtype == "float16":
        if largest.max() > np.finfo(np.float16).max:
            raise ValueError(f"{name} goes up to {largest.max():,.0f}, beyond float16's 65,504: take dtype='float32'")
        return encode(weights.astype(np.float16))
    scales = largest / np.float32(127)
    scales[scales == 0] = 1  # a column of zeros
    return encode(np.rint(weights / scales).clip(-127, 127).astype(np.int8)) | {"scales": encode(scales)}
