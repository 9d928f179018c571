"""Checkpoints: a run of `fit` in a file, so that it can stop after any epoch and go on as if it never had.

Its one idea: a run goes on bit for bit only if nothing that shapes it has changed. So the file holds what training
changes (weights, the optimizer's state, the generators, the history) and a description of what must stay as it was
(data, network, batches, epochs, optimizer, schedule, clipping, augmentation); a run of another description is refused.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .backend import get_array_module, to_device, to_numpy
from .layers import Layer
from .model import Sequential, load_arrays, save_arrays
from .optim import Optimizer

FORMAT = 3  # of the files; the second did not describe the network
PROBES = 256  # training pictures that an augmentation is tried on
DATA = ("training images", "training labels", "validation images", "validation labels")


def describe(data: tuple, optimizer: Optimizer, epochs, batch_size, schedule, clip_norm, augment) -> dict:
    """Return what must be equal when a run is resumed, in values that JSON can hold.

    data: training images, labels, validation images, labels; all other arguments are those of `fit`.
    Each layer of the optimizer's model is told by its type, parameters and settings, and counted as in their names: the
    weights of "layer 1" are 1.W. Arrays that a layer keeps beside its parameters are not seen.
    A function cannot be compared, so what it does is: a schedule's factor at every step (`schedule` must depend on its
    arguments alone), an augmentation's result on the first 256 training pictures, with a generator of its own. Not seen
    are a change of `augment` that these pictures do not show, and a state that a function keeps to itself.
    """
    count = len(data[0])
    facts = {f"layer {i}": _layer_words(layer) for i, layer in enumerate(optimizer.model.layers)}
    settings = {key: value for key, value in vars(optimizer).items() if key not in ("model", "state", "steps")}
    facts |= {"optimizer": f"{type(optimizer).__name__}({_settings_words(settings)})"}
    facts |= {"epochs": int(epochs), "batch_size": int(batch_size), "samples": count}
    facts |= {name: _array_facts(name, array) for name, array in zip(DATA, data, strict=True)}
    facts |= {"clip_norm": None if clip_norm is None else float(clip_norm)}
    facts |= {"schedule": _schedule_facts(schedule, epochs * math.ceil(count / batch_size))}
    facts |= {"augment": _augment_facts(augment, data[0][:PROBES])}
    return facts


class Checkpoint:
    """The file of one run, which `describe` has described: `resume` at the beginning, `save` after each epoch."""

    def __init__(self, path: str | Path, model: Sequential, optimizer: Optimizer, rng: np.random.Generator, run: dict):
        self.path, self.model, self.optimizer = Path(path), model, optimizer
        self.generators = [rng] + [layer.rng for layer in model.layers if hasattr(layer, "rng")]
        self.run = run | {"random generators": _generator_words(self.generators)}

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
        changed = [key for key in before | now if _differs(key, before, now)]
        if changed:
            changes = [_change(key, before.get(key), now.get(key)) for key in changed]
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


def _layer_words(layer: Layer) -> str:
    """Return a line such as `Conv2d(W float32 (3, 3, 1, 8), b float32 (8,), kernel_size=(3, 3), ...)`."""
    params = [f"{name} {param.dtype} {param.shape}" for name, param in layer.params.items()]
    settings = {
        key: value
        for key, value in vars(layer).items()
        if key not in ("params", "grads", "saved", "rng") and (isinstance(value, np.generic) or not _is_array(value))
    }
    return f"{type(layer).__name__}({', '.join([*params, *filter(None, [_settings_words(settings)])])})"


def _settings_words(settings: dict) -> str:
    return ", ".join(f"{key}={_value_words(value)}" for key, value in sorted(settings.items()))


def _value_words(value) -> str:
    """Return words that are equal for settings which train alike: a list is a tuple, but a float64 is no Python float.

    (NumPy computes float32 times np.float64 in float64.)
    """
    match value:
        case np.integer() | np.bool_():
            return repr(value.item())
        case np.generic():
            return f"{value.dtype} {value.item()!r}"
        case None | bool() | int() | float() | str():
            return repr(value)
        case list() | tuple():
            return f"({', '.join(map(_value_words, value))})"
        case dict():
            return f"{{{_settings_words(value)}}}"
    if _is_array(value):
        return f"{value.dtype} {value.shape} with checksum {_checksum(value)}"
    return _name(value) if callable(value) else type(value).__qualname__


def _is_array(value) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _checksum(array) -> int:
    return zlib.crc32(np.ascontiguousarray(to_numpy(array)))


def _array_facts(name: str, array) -> dict:
    if name.endswith("labels"):
        array = array.astype(np.int64)  # 3 is 3, whatever integer holds it
    return {"words": f"{array.dtype} {array.shape}", "digest": _checksum(array)}


def _generator_words(generators: list) -> str:
    """Name the generators of fit and of each layer; an equal number tells that two of them are one and the same."""
    identities = list(dict.fromkeys(id(generator.bit_generator) for generator in generators))
    return ", ".join(
        f"{type(generator.bit_generator).__name__} no. {identities.index(id(generator.bit_generator)) + 1}"
        for generator in generators
    )


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)  # a functools.partial has none


def _schedule_facts(schedule, steps: int) -> dict | None:
    if schedule is None:
        return None
    factors = np.array([schedule(step, steps) for step in range(steps)], np.float64)
    few = ", ".join(f"{factors[step]:.3g}" for step in (0, steps // 2, steps - 1))
    digest = hashlib.sha256(factors).hexdigest()
    return {"words": f"{_name(schedule)} (factors {few} at first, half-way and at last)", "digest": digest}


def _augment_facts(augment, images) -> dict | None:
    if augment is None:
        return None
    digest = hashlib.sha256()
    for seed in range(2):
        made = augment(images.copy(), np.random.default_rng(seed))  # it may work in place, and these are the caller's
        digest.update(f"{made.dtype} {made.shape}".encode())
        digest.update(np.ascontiguousarray(to_numpy(made)))
    library = get_array_module(images).__name__  # a GPU draws other numbers
    return {"words": _name(augment), "digest": digest.hexdigest(), "library": library}


def _differs(key: str, before: dict, now: dict) -> bool:
    """Compare one fact of two runs; what cannot be compared is held to be equal."""
    old, new = before.get(key), now.get(key)
    if key == "schedule" and any(before[k] != now[k] for k in ("epochs", "batch_size", "samples")):
        return (old is None) != (new is None)  # its factors belong to another number of steps
    if isinstance(old, dict) and isinstance(new, dict):
        return old["digest"] != new["digest"] and old.get("library") == new.get("library")
    return old != new


def _change(key: str, old, new) -> str:
    """Say in words what has changed."""
    if key == "epochs":
        return f"epochs was {old} and is now {new} (to train a finished model further, call fit with a new checkpoint)"
    if key == "clip_norm":
        return f"clip_norm was {old} and is now {new} (its first epochs were clipped as it was)"
    if key in ("schedule", "augment"):
        old, new = (fact["words"] if fact else None for fact in (old, new))
        if old == new:
            what = "gives other factors" if key == "schedule" else "makes other pictures of the same ones"
            return f"{key} is still called {new} but {what} (arguments? a number taken from outside?)"
    if key in DATA:
        old, new = old["words"], new["words"]
        return f"the {key} " + ("are others" if old == new else f"were {old} and are now {new}")
    if key.startswith("layer "):
        old, new = old or "not there", new or "not there"
    if key == "random generators":
        return f"the random generators were {old} and are now {new}"
    return f"{key} was {old} and is now {new}"
