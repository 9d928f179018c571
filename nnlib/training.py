"""The training loop: batches, epochs, early stopping on validation data, and a record of all that happened.

Its one idea: the validation set chooses (which epoch's weights, when to stop) and the test set never comes in here.
"""

import json
import math
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .backend import get_array_module, to_device, to_numpy
from .losses import check_labels, cross_entropy
from .model import Sequential, load_arrays, save_arrays
from .optim import Optimizer, Schedule, clip_grad_norm

HEADER = "epoch   train loss  accuracy   validation loss  accuracy   learning rate"


@dataclass
class History:
    """What `fit` recorded: lists with one entry an epoch. Losses in nats, accuracies in 0..1, seconds of wall time.

    Training loss and accuracy are means over the epoch's batches, taken while the weights change and dropout drops;
    validation's are measured after the epoch. `best_epoch` is the index into these lists with the lowest validation
    loss (None before the first epoch ends): its weights are the ones that the model has when `fit` returns.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None

    def row(self, epoch: int) -> str:
        """Return the line that `fit` prints for an epoch (an index); a star marks the best epoch so far."""
        return (
            f"{epoch + 1:5d} {self.train_loss[epoch]:12.4f} {self.train_accuracy[epoch]:9.2%}"
            f" {self.validation_loss[epoch]:17.4f} {self.validation_accuracy[epoch]:9.2%} {self.lr[epoch]:15.2g}"
            f"{' *' if epoch == self.best_epoch else ''}"
        )


def fit(
    model: Sequential,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    schedule: Schedule | None = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    augment: Callable | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> History:
    """Train a model, watch it on validation data, and leave it with the weights of its best epoch.

    train, validation: `(images, labels)`, images (N, ...) uint8 or float, labels (N,) integers.
    rng: shuffles the samples of each epoch. schedule: `(step, total_steps) -> factor` of the optimizer's learning rate.
    patience: stop after this many epochs without a lower validation loss. clip_norm: see `clip_grad_norm`.
    augment: `(images, rng) -> images`, applied to each training batch (see `nnlib.augment`).
    progress: show a bar and print one row an epoch. checkpoint: a file that is written after every epoch; where it
    exists, training goes on from there and ends with the same weights, bit for bit, as if it had never stopped.

    Returns the History. The stop button (KeyboardInterrupt) ends training early and just as cleanly.
    Raises ValueError for data that do not fit, FloatingPointError when the loss is no longer finite.
    """
    images, labels = _checked(model, *train, "training")
    validation = _checked(model, *validation, "validation")
    for name, number in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("patience", 1 if patience is None else patience),
    ):
        if not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"expected an integer of at least 1, got {name}={number!r}")
    if optimizer.model is not model:
        raise ValueError("the optimizer belongs to another model: make it of this one, e.g. Adam(model)")
    if checkpoint is not None and not Path(checkpoint).resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of checkpoint={str(checkpoint)!r} does not exist: make it first")
    count, base_lr, history, best = len(images), optimizer.lr, History(), None
    steps, run = math.ceil(count / batch_size), _facts_of_run(optimizer, batch_size, images, labels)
    quiet = not progress or "TQDM_DISABLE" in os.environ
    if checkpoint is not None and Path(checkpoint).exists():
        history, best = _resume(checkpoint, model, optimizer, rng, run)
    start = len(history.seconds)
    if progress and start < epochs:
        tqdm.write(HEADER)
    bar = tqdm(total=epochs * steps, initial=start * steps, unit="batch", leave=False, disable=quiet)
    try:
        for epoch in range(start, epochs):
            if patience is not None and history.best_epoch is not None and epoch - history.best_epoch > patience:
                break
            began, correct, losses = time.perf_counter(), 0, []
            order = to_device(rng.permutation(count))
            for step in range(steps):
                rows = order[step * batch_size : (step + 1) * batch_size]  # the last batch may be smaller
                batch, batch_labels = images[rows], labels[rows]
                if augment is not None:
                    batch = augment(batch, rng)
                logits = model.forward(batch, training=True)
                loss, dlogits = cross_entropy(logits, batch_labels, validate=False)
                model.backward(dlogits)
                if clip_norm is not None:
                    clip_grad_norm(model, clip_norm)
                if schedule is not None:
                    optimizer.lr = base_lr * schedule(epoch * steps + step, epochs * steps)
                optimizer.step()
                losses.append(loss * len(rows))  # stays on the device: reading it now would make a GPU wait
                correct += (logits.argmax(axis=1) == batch_labels).sum()
                bar.update()
            losses = to_numpy(get_array_module(losses[0]).stack(losses)).astype(np.float64)
            validation_loss, validation_accuracy = evaluate(model, *validation)
            if not (np.isfinite(losses).all() and math.isfinite(validation_loss)):
                raise FloatingPointError(_diverged(losses, epoch, optimizer.lr))
            history.train_loss.append(float(losses.sum()) / count)
            history.train_accuracy.append(int(correct) / count)
            history.validation_loss.append(validation_loss)
            history.validation_accuracy.append(validation_accuracy)
            history.lr.append(optimizer.lr)
            history.seconds.append(time.perf_counter() - began)
            if best is None or validation_loss < history.validation_loss[history.best_epoch]:
                best, history.best_epoch = model.copy_weights(), epoch
            if progress:
                tqdm.write(history.row(epoch))
            if checkpoint is not None:
                _save_checkpoint(checkpoint, model, optimizer, rng, history, best, run)
    except KeyboardInterrupt:
        for values in (value for value in vars(history).values() if isinstance(value, list)):
            del values[len(history.seconds) :]  # the stop may have come between two of the lines above
        tqdm.write(f"stopped by hand in epoch {len(history.seconds) + 1}")
    finally:
        bar.close()
        optimizer.lr = base_lr
        if best is not None:
            model.set_weights(best)
    if progress and best is not None:
        tqdm.write(f"the model has the weights of epoch {history.best_epoch + 1}, the best on validation")
    return history


def evaluate(model: Sequential, images: np.ndarray, labels: np.ndarray, batch_size: int = 512) -> tuple[float, float]:
    """Return (mean cross-entropy in nats, accuracy in 0..1) of a model on images (N, ...) with labels (N,)."""
    logits = model.predict(images, batch_size)
    labels = to_numpy(labels)
    loss, _ = cross_entropy(logits.astype(np.float64), labels)
    return float(loss), float((logits.argmax(axis=1) == labels).mean())


def _checked(model: Sequential, images, labels, name: str):
    """Return images and labels on the device; raise ValueError where they cannot be trained or evaluated on."""
    images, labels = (x if hasattr(x, "ndim") else np.asarray(x) for x in (images, labels))
    if len(images) == 0 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"expected {name} images (N, ...) and labels (N,), got {images.shape} and {labels.shape}")
    images, labels = to_device(images), to_device(labels)
    if images.dtype.kind == "f" and not math.isfinite(float(images.sum(dtype=np.float64))):
        raise ValueError(f"the {name} images contain NaN or infinite pixels: find them with np.isfinite(images)")
    check_labels(labels, model.forward(images[:1]).shape[1])
    return images, labels


def _diverged(losses: np.ndarray, epoch: int, lr: float) -> str:
    bad = np.flatnonzero(~np.isfinite(losses))
    place = f"batch {bad[0] + 1} of {len(losses)}" if len(bad) else "on the validation data"
    return (
        f"the loss is no longer finite in epoch {epoch + 1}, {place} (learning rate {lr:.2g}). Look at: a learning rate"
        " 10 times smaller; the scale of the first weights; clip_norm=1; numerical gradients of a layer that you wrote."
        " The model has its best weights so far, if an epoch was finished."
    )


def _generators(model: Sequential, rng: np.random.Generator) -> list[np.random.Generator]:
    return [rng] + [layer.rng for layer in model.layers if hasattr(layer, "rng")]


def _facts_of_run(optimizer, batch_size, images, labels) -> dict:
    """Return what must be equal when a run is resumed: the optimizer's settings, the batches, the data."""
    settings = {k: v for k, v in vars(optimizer).items() if isinstance(v, int | float | tuple) and k != "steps"}
    data = zlib.crc32(np.ascontiguousarray(to_numpy(labels)), zlib.crc32(np.ascontiguousarray(to_numpy(images))))
    facts = {"optimizer": type(optimizer).__name__, **settings, "batch_size": int(batch_size), "samples": len(images)}
    return json.loads(json.dumps(facts | {"checksum of the data": data}))  # as it will be read back: a tuple is a list


def _save_checkpoint(path, model, optimizer, rng, history, best, run) -> None:
    arrays = {f"model/{name}": to_numpy(param) for name, param in model.named_parameters()}
    arrays |= {f"best/{name}": to_numpy(param) for name, param in best.items()}
    for name, state in optimizer.state.items():
        arrays |= {f"optimizer/{name}/{key}": to_numpy(value) for key, value in state.items()}
    facts = {
        "run": run,
        "steps": optimizer.steps,
        "history": asdict(history),
        "generators": [generator.bit_generator.state for generator in _generators(model, rng)],
    }
    save_arrays(path, arrays | {"facts": np.array(json.dumps(facts))})


def _resume(path, model, optimizer, rng, run) -> tuple[History, dict]:
    """Put everything back as `_save_checkpoint` found it; raise ValueError if the file is of another run."""
    arrays = load_arrays(path)
    name = Path(path).name
    if "facts" not in arrays:
        raise ValueError(f"{name} is no checkpoint of fit (weights alone are read by model.load): choose another name")
    facts = json.loads(str(arrays["facts"]))
    generators = _generators(model, rng)
    run, before = run | {"generators": len(generators)}, facts["run"] | {"generators": len(facts["generators"])}
    if changed := [key for key in run | before if run.get(key) != before.get(key)]:
        changes = ", ".join(f"{key} was {before.get(key)} and is now {run.get(key)}" for key in changed)
        raise ValueError(f"{name} belongs to another run: {changes}. Delete the file to begin anew")
    weights, best, optimizer_state = {}, {}, {}
    for key, value in arrays.items():
        match key.split("/"):
            case ["model", param_name]:
                weights[param_name] = value
            case ["best", param_name]:
                best[param_name] = to_device(value)
            case ["optimizer", param_name, state_name]:
                optimizer_state.setdefault(param_name, {})[state_name] = to_device(value)
    model.set_weights(weights, source=name)
    optimizer.steps, optimizer.state = facts["steps"], optimizer_state
    for generator, state in zip(generators, facts["generators"], strict=True):
        generator.bit_generator.state = state
    return History(**facts["history"]), best
