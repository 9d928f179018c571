"""Sequential: layers in a row, which is all that the networks of this course need.

Its one idea: forward runs the layers from first to last, backward from last to first; neither knows what is in them.
"""

import contextlib
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .backend import to_device, to_float, to_numpy
from .layers import Layer
from .parallel import forward_in_batches


class Sequential:
    """A model: the output of each layer is the input of the next."""

    def __init__(self, layers: Sequence[Layer]):
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("Sequential expects a list of at least one layer, got an empty one")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ValueError(f"Sequential expects layers, such as ReLU(), got {layer!r}")
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise ValueError("a layer remembers its last input, so each place in a model needs a layer of its own")
        with_params = [i for i, layer in enumerate(self.layers) if layer.params]
        self.first_with_params = with_params[0] if with_params else len(self.layers)

    def forward(self, x, training: bool = False):
        """x: (N, ...) floats, or uint8 images, which become float32 in [0, 1] here. Returns the last layer's output."""
        x = to_float(x)
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dout, input_grad: bool = False):
        """Give every layer its gradients; dout is the gradient for the model's output.

        With input_grad=True, returns the gradient for the model's input, in its shape; otherwise None, and the first
        layer that has parameters is spared the computation of what nobody asks for.
        """
        last = 0 if input_grad else self.first_with_params
        for i in reversed(range(last, len(self.layers))):
            dout = self.layers[i].backward(dout, input_grad=input_grad or i > last)
        return dout if input_grad else None

    def predict(self, x, batch_size: int = 512, workers: int | None = None) -> np.ndarray:
        """x: (N, ...), as in `forward`. Returns the logits (N, K) as a NumPy array, computed batch by batch.

        batch_size: samples at one time, at most. workers: as many threads share out the batches, which changes nothing
        but the time it takes; None leaves all to BLAS, which may use threads of its own.
        """
        return to_numpy(forward_in_batches(self, x, batch_size, workers))

    def twin(self) -> "Sequential":
        """Return a model of twins of the layers: the same parameters, a memory and gradients of its own."""
        return Sequential([layer.twin() for layer in self.layers])

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield ("0.W", array), ("0.b", array), ...: the layer's position, then the parameter's name."""
        return ((f"{i}.{key}", param) for i, layer in enumerate(self.layers) for key, param in layer.params.items())

    def named_gradients(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the gradients of the last backward under the names of their parameters."""
        return ((f"{i}.{key}", grad) for i, layer in enumerate(self.layers) for key, grad in layer.grads.items())

    def set_gradients(self, gradients: Sequence) -> None:
        """Assign every layer's `grads`: one array for each parameter, in the order of `named_parameters`."""
        arrays = iter(gradients)
        for layer in self.layers:
            layer.grads = {key: next(arrays) for key in layer.params}

    def copy_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of every parameter by name: training on does not change it."""
        return {name: param.copy() for name, param in self.named_parameters()}

    def set_weights(self, weights: Mapping[str, np.ndarray], source: str = "the weights") -> None:
        """Copy `weights` into the parameters, in place.

        Raises ValueError, before anything is changed, where a name or a shape differs; `source` names their origin.
        """
        params = dict(self.named_parameters())
        faults = [f"{name} is missing" for name in params if name not in weights]
        faults += [f"{name} is not in the model" for name in weights if name not in params]
        faults += [
            f"{name} has shape {weights[name].shape}, the model expects {params[name].shape}"
            for name in params
            if name in weights and weights[name].shape != params[name].shape
        ]
        faults += [
            f"{name} holds {array.dtype}, not floats" for name, array in weights.items() if array.dtype.kind != "f"
        ]
        if faults:
            raise ValueError(f"{source} does not fit this model: {'; '.join(faults)}")
        for name, param in params.items():
            param[...] = to_device(weights[name])

    def save(self, path: str | Path) -> None:
        """Write all parameters to an .npz file at exactly this path; an older file stays whole until the new one is."""
        save_arrays(path, {name: to_numpy(param) for name, param in self.named_parameters()})

    def load(self, path: str | Path) -> None:
        """Read parameters that `save` wrote.

        Raises FileNotFoundError, or ValueError for a damaged file or for other names or shapes; the model is then as
        it was.
        """
        self.set_weights(load_arrays(path), source=Path(path).name)


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an .npz file, whole or not at all."""
    with whole_file(path) as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to write bytes to: a temporary one beside `path`, which takes its name once all is written."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(unfinished, "xb") as file:  # not by tempfile, whose files nobody else may read
            yield file
        os.replace(unfinished, path)
    except BaseException:  # a full disk, but the stop button too
        unfinished.unlink(missing_ok=True)
        raise


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an .npz file without pickle. Raises FileNotFoundError, or ValueError if the file is damaged."""
    with open(path, "rb") as file:
        try:
            return dict(np.load(file, allow_pickle=False).items())
        except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{Path(path).name} cannot be read as an .npz file of arrays: {error}") from error
