"""Checkpoints: a run of `fit` in a file, so that it can stop after any epoch and go on as if it never had.

Its one idea: a run goes on bit for bit only if nothing that shapes it has changed. So the file holds what training
changes (weights, the optimizer's state, the generators, the history) and a description of what must stay as it was
(data, batches, epochs, optimizer, schedule, clipping, augmentation); a run of another description is refused.
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
from .model import Sequential, load_arrays, save_arrays
from .optim import Optimizer

FORMAT = 2  # of the files; the first did not describe schedule, clipping, augmentation and epochs
PROBES = 256  # training pictures that an augmentation is tried on


def describe(data: tuple, optimizer: Optimizer, epochs, batch_size, schedule, clip_norm, augment) -> dict:
    """Return what must be equal when a run is resumed, in values that JSON can hold.

    data: training images, labels, validation images, labels; all other arguments are those of `fit`.
    A function cannot be compared, so what it does is: a schedule's factor at every step (`schedule` must depend on its
    arguments alone), an augmentation's result on the first 256 training pictures, with a generator of its own. Not seen
    are a change of `augment` that these pictures do not show, and a state that a function keeps to itself.
    """
    count, checksum = len(data[0]), 0
    for array in data:
        checksum = zlib.crc32(np.ascontiguousarray(to_numpy(array)), checksum)
    settings = {k: v for k, v in vars(optimizer).items() if isinstance(v, int | float | tuple) and k != "steps"}
    facts = {"optimizer": type(optimizer).__name__, **settings}
    facts |= {"epochs": int(epochs), "batch_size": int(batch_size), "samples": count}
    facts |= {"checksum of the data": checksum, "clip_norm": None if clip_norm is None else float(clip_norm)}
    facts |= {"schedule": _schedule_facts(schedule, epochs * math.ceil(count / batch_size))}
    facts |= {"augment": _augment_facts(augment, data[0][:PROBES])}
    return json.loads(json.dumps(facts))  # as it will be read back: a tuple is a list


class Checkpoint:
    """The file of one run, which `describe` has described: `resume` at the beginning, `save` after each epoch."""

    def __init__(self, path: str | Path, model: Sequential, optimizer: Optimizer, rng: np.random.Generator, run: dict):
        self.path, self.model, self.optimizer, self.run = Path(path), model, optimizer, run
        self.generators = [rng] + [layer.rng for layer in model.layers if hasattr(layer, "rng")]

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
        save_arrays(self.path, arrays | {"facts": np.array(json.dumps(facts))})

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
        facts = json.loads(str(arrays["facts"]))
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"{name} is a checkpoint of another version of nnlib, which described its run in other words: finish it"
                " with that version, or delete the file to begin anew"
            )
        before = facts["run"] | {"generators": len(facts["generators"])}
        now = self.run | {"generators": len(self.generators)}
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
        made = augment(images, np.random.default_rng(seed))
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
    return f"{key} was {old} and is now {new}"
