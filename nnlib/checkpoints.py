"""Checkpoints: a run of `fit` in a file, so that it can stop after any epoch and go on as if it never had.

Its one idea: a run goes on bit for bit only if nothing that shapes it has changed. So the file holds what training
changes (weights, the optimizer's state, the generators, the history) and a description of what must stay as it was
(data, network, batches, epochs, optimizer, schedule, clipping, augmentation); a run of another description is refused.
"""

import json
import math
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .backend import to_device, to_numpy
from .layers import Layer
from .model import Sequential, load_arrays, save_arrays
from .optim import Optimizer

FORMAT = 5  # of the files: how a run is described in them
PROBES = 256  # training pictures that an augmentation is tried on
NOT_SETTINGS = ("params", "grads", "saved", "rng", "model", "state", "steps")  # of a layer, of an optimizer


def describe(
    data: tuple, optimizer: Optimizer, epochs, batch_size, schedule, clip_norm, augment, parallel
) -> dict[str, str]:
    """Return what must be equal when a run is resumed, each fact in words.

    data: training images, labels, validation images, labels; all other arguments are those of `fit`.
    A layer is told by its type, parameters and settings, and counted as in their names: the weights of "layer 1" are
    1.W. A function cannot be compared, so what it does is: a schedule's factor at every step, an augmentation's result
    on the first 256 training pictures. Not seen are a change of `augment` that these do not show, a state that a
    function keeps to itself, and arrays that a layer keeps beside its parameters.
    """
    train_images, train_labels, validation_images, validation_labels = data
    facts = {f"layer {number}": _in_words(layer) for number, layer in enumerate(optimizer.model.layers)}
    return (
        facts
        | {
            "optimizer": _in_words(optimizer),
            "epochs": str(epochs),
            "batch_size": str(batch_size),
            "workers": _workers_in_words(parallel),
            "clip_norm": str(clip_norm and float(clip_norm)),
            "training images": _array_in_words(train_images),
            "training labels": _array_in_words(train_labels.astype(np.int64)),  # 3 is 3, whatever integer holds it
            "validation images": _array_in_words(validation_images),
            "validation labels": _array_in_words(validation_labels.astype(np.int64)),
            "schedule": _schedule_in_words(schedule, epochs * math.ceil(len(train_images) / batch_size)),
            "augment": _augment_in_words(augment, train_images[:PROBES]),
        }
    )


class Checkpoint:
    """The file of one run, which `describe` has described: `resume` at the beginning, `save` after each epoch."""

    def __init__(self, path: str | Path, model: Sequential, optimizer: Optimizer, rng: np.random.Generator, run: dict):
        self.path, self.model, self.optimizer = Path(path), model, optimizer
        self.generators = [rng] + [layer.rng for layer in model.layers if hasattr(layer, "rng")]
        self.run = run | {"random generators": _generators_in_words(self.generators)}

    def save(self, history, best: dict) -> None:
        """Write everything to the file. history: the dataclass `History`; best: the best epoch's weights by name."""
        arrays = {f"model/{name}": to_numpy(param) for name, param in self.model.named_parameters()}
        arrays |= {f"best/{name}": to_numpy(param) for name, param in best.items()}
        for name, state in self.optimizer.state.items():
            arrays |= {f"optimizer/{name}/{key}": to_numpy(value) for key, value in state.items()}
        facts = {
            "format": FORMAT,
            "run": self.run,
            "steps": self.optimizer.steps,
            "history": asdict(history),
            "generators": [generator.bit_generator.state for generator in self.generators],
        }
        save_arrays(self.path, arrays | {"facts": np.array(json.dumps(facts, default=_to_json))})

    def resume(self, history) -> dict | None:
        """Put everything back as `save` found it, the history too, and return the best weights; None without a file.

        Raises ValueError, before anything is changed, if the file is of another run or is no checkpoint.
        """
        if not self.path.exists():
            return None
        arrays, name = load_arrays(self.path), self.path.name
        if "facts" not in arrays:
            raise ValueError(
                f"{name} is no checkpoint of fit (weights alone are read by model.load): choose another name"
            )
        facts = json.loads(str(arrays["facts"]), object_hook=_from_json)
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"{name} is a checkpoint of another version of nnlib, which described its run in other words: finish it"
                " with that version, or delete the file to begin anew"
            )
        before, now = facts["run"], self.run
        changed = [key for key in before | now if before.get(key) != now.get(key)]
        if {"epochs", "batch_size", "training images"} & set(changed):  # then there are other steps, and other factors
            changed = [key for key in changed if key != "schedule"]
        if changed:
            changes = [f"{key}: {before.get(key, 'none')} before, {now.get(key, 'none')} now" for key in changed]
            raise ValueError(
                f"{name} belongs to another run: {'; '.join(changes)}. Put it back to go on, give this run a checkpoint"
                " of its own, or delete the file to begin anew"
            )
        weights, best, state = {}, {}, {}
        for key, value in arrays.items():
            match key.split("/"):
                case ["model", param_name]:
                    weights[param_name] = value
                case ["best", param_name]:
                    best[param_name] = to_device(value)
                case ["optimizer", param_name, state_name]:
                    state.setdefault(param_name, {})[state_name] = to_device(value)
        self.model.set_weights(weights, source=name)
        self.optimizer.steps, self.optimizer.state = facts["steps"], state
        for generator, generator_state in zip(self.generators, facts["generators"], strict=True):
            generator.bit_generator.state = generator_state
        vars(history).update(facts["history"])
        return best


def _to_json(value):
    """Turn what JSON does not know into what it does: NumPy's scalars, and the arrays in a generator's state."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a checkpoint cannot hold {value!r}")


def _from_json(values: dict):
    return np.array(values["array"], values["dtype"]) if values.keys() == {"array", "dtype"} else values


def _in_words(thing: Layer | Optimizer) -> str:
    """Return a line such as `Linear(W float32 (9, 3), b float32 (3,))` or `Dropout(p=0.3)`."""
    told = [f"{name} {param.dtype} {param.shape}" for name, param in getattr(thing, "params", {}).items()]
    for name, value in sorted(vars(thing).items()):
        if name not in NOT_SETTINGS and isinstance(value, bool | int | float | str | tuple | list | np.generic | None):
            told.append(f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(told)})"


def _array_in_words(array) -> str:
    checksum = zlib.crc32(np.ascontiguousarray(to_numpy(array)))
    return f"{array.dtype} {array.shape} with checksum {checksum:08x}"


def _generators_in_words(generators: list) -> str:
    """Name the generators of fit and of each layer; an equal number tells that two of them are one and the same."""
    kinds, numbers = [generator.bit_generator for generator in generators], [id(g.bit_generator) for g in generators]
    return ", ".join(f"{type(kind).__name__} no. {numbers.index(id(kind)) + 1}" for kind in kinds)


def _schedule_in_words(schedule, steps: int) -> str:
    if schedule is None:
        return "none"
    factors = np.array([schedule(step, steps) for step in range(steps)], np.float64)
    few = ", ".join(f"{factors[step]:.3g}" for step in (0, steps // 2, steps - 1))
    return f"one of factors {few} at first, half-way and at last, with checksum {zlib.crc32(factors):08x}"


def _workers_in_words(parallel) -> str:
    """Tell what the last digits depend on: the slices, and neither how many workers there are nor where."""
    if parallel is None:
        return "none"
    return "some" if parallel.slices is None else f"some, with {parallel.slices} slices"


def _augment_in_words(augment, images) -> str:
    """Tell an augmentation by what it makes. A GPU draws other numbers, so an augmented run stays on its device."""
    if augment is None:
        return "none"
    made = [augment(images.copy(), np.random.default_rng(seed)) for seed in range(2)]  # a copy: it may work in place
    return f"one that makes {' and '.join(map(_array_in_words, made))} of the first pictures"
