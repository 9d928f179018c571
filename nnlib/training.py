"""The training loop: batches, epochs, early stopping on validation data, and a record of all that happened.

Its one idea: the validation set chooses (which epoch's weights, when to stop) and the test set never comes in here.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .backend import get_array_module, to_device, to_numpy
from .checkpoints import Checkpoint, describe
from .losses import check_labels, cross_entropy
from .model import Sequential
from .optim import Optimizer, Schedule, clip_grad_norm
from .parallel import DataParallel, cores, forward_in_batches

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
    workers: int | None = None,
    parallel=None,
) -> History:
    """Train a model, watch it on validation data, and leave it with the weights of its best epoch.

    train, validation: `(images, labels)`, images (N, ...) uint8 or float, labels (N,) integers.
    rng: shuffles the samples of each epoch. schedule: `(step, total_steps) -> factor` of the optimizer's learning rate.
    patience: stop after this many epochs without a lower validation loss. clip_norm: see `clip_grad_norm`.
    augment: `(images, rng) -> images`, applied to each training batch (see `nnlib.augment`).
    progress: show a bar and print one row an epoch. checkpoint: a file that is written after every epoch; where it
    exists, training goes on from there and ends with the same weights, bit for bit, as if it had never stopped.
    workers: cut each batch into slices, and let as many threads take them (see `DataParallel`); how many changes
    nothing but the time it takes. None: each batch in one piece.
    parallel: instead of workers, whatever is to compute the gradients: `DataParallel(model, ...)`, or
    `ClusterParallel(model, client)` for the machines of a cluster. Equal slices give equal weights, bit for bit.

    Returns the History. The stop button (KeyboardInterrupt) ends training early and just as cleanly.
    Raises ValueError for data that do not fit, and for a checkpoint of another network, data or settings (`patience`,
    `progress` and the number of workers may change); FloatingPointError when the loss is no longer finite.
    """
    images, labels = _checked(model, *train, "training")
    validation = _checked(model, *validation, "validation")
    _check_settings(model, optimizer, checkpoint, epochs=epochs, batch_size=batch_size, patience=patience)
    _check_parallel(model, workers, parallel)
    history, best, base_lr, steps = History(), None, optimizer.lr, math.ceil(len(images) / batch_size)
    if parallel is None and workers is not None:
        parallel = DataParallel(model, workers)
    gradients = _whole_batch(model) if parallel is None else parallel.gradients
    threads = None if parallel is None else parallel.workers or cores()
    if checkpoint is not None:
        data = (images, labels, *validation)
        run = describe(data, optimizer, epochs, batch_size, schedule, clip_norm, augment, parallel)
        checkpoint = Checkpoint(checkpoint, model, optimizer, rng, run)
        best = checkpoint.resume(history)
    bar = _announce(progress, len(history.seconds), epochs, steps)
    try:
        for epoch in range(len(history.seconds), epochs):
            if _is_out_of_patience(history, epoch, patience):
                break
            began, losses, correct = time.perf_counter(), [], 0
            order = to_device(rng.permutation(len(images)))
            for step in range(steps):
                rows = order[step * batch_size : (step + 1) * batch_size]  # the last batch may be smaller
                batch, batch_labels = images[rows], labels[rows]
                if augment is not None:
                    batch = augment(batch, rng)
                loss, right = gradients(batch, batch_labels, validate=False)
                if clip_norm is not None:
                    clip_grad_norm(model, clip_norm)
                if schedule is not None:
                    optimizer.lr = base_lr * schedule(epoch * steps + step, epochs * steps)
                optimizer.step()
                losses.append(loss * len(rows))  # stays on the device: reading it now would make a GPU wait
                correct += right
                bar.update()
            logits = forward_in_batches(model, validation[0], 512, threads)
            # all that the epoch has measured, in one transfer: the one time that a GPU is waited for
            numbers = _fetch([*losses, correct, *_measure(logits, validation[1])])
            _record(history, numbers, len(images), optimizer.lr, time.perf_counter() - began)
            if best is None or history.validation_loss[epoch] < history.validation_loss[history.best_epoch]:
                best, history.best_epoch = model.copy_weights(), epoch
            if progress:
                tqdm.write(history.row(epoch))
            if checkpoint is not None:
                checkpoint.save(history, best)
    except KeyboardInterrupt:
        _drop_a_half_record(history)
        tqdm.write(f"stopped by hand in epoch {len(history.seconds) + 1}")
    finally:
        bar.close()
        optimizer.lr = base_lr
        if best is not None:
            model.set_weights(best)
    if progress and best is not None:
        tqdm.write(f"the model has the weights of epoch {history.best_epoch + 1}, the best on validation")
    return history


def evaluate(
    model: Sequential, images: np.ndarray, labels: np.ndarray, batch_size: int = 512, workers: int | None = None
) -> tuple[float, float]:
    """Return (mean cross-entropy in nats, accuracy in 0..1) of a model on images (N, ...) with labels (N,).

    batch_size and workers are those of `model.predict`.
    """
    labels = labels if hasattr(labels, "ndim") else np.asarray(labels)
    logits = forward_in_batches(model, images, batch_size, workers)
    if labels.shape == logits.shape[:1]:  # another shape is refused below
        check_labels(labels, logits.shape[1])
    loss, accuracy = _fetch(_measure(logits, to_device(labels))).tolist()
    return loss, accuracy


def _whole_batch(model: Sequential) -> Callable:
    """Return what `DataParallel.gradients` is, for a batch in one piece."""

    def gradients(x, labels, *, validate: bool = True):
        logits = model.forward(x, training=True)
        loss, dlogits = cross_entropy(logits, labels, validate=validate)
        model.backward(dlogits)
        return loss, (logits.argmax(axis=1) == labels).sum()

    return gradients


def _measure(logits, labels) -> list:
    """Return mean cross-entropy and accuracy as two scalars that stay on the device."""
    loss, _ = cross_entropy(logits.astype(np.float64), labels, validate=False)
    return [loss, (logits.argmax(axis=1) == labels).mean()]


def _fetch(scalars: list) -> np.ndarray:
    """Return scalars of one device as a NumPy array of float64, in one transfer."""
    return to_numpy(get_array_module(scalars[-1]).stack(scalars).astype(np.float64))


def _checked(model: Sequential, images, labels, name: str):
    """Return images and labels on the device; raise ValueError where they cannot be trained or evaluated on.

    They are looked at where they are: what comes from the processor is checked there, and no GPU has to wait.
    """
    images, labels = (x if hasattr(x, "ndim") else np.asarray(x) for x in (images, labels))
    if len(images) == 0 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"expected {name} images (N, ...) and labels (N,), got {images.shape} and {labels.shape}")
    if images.dtype.kind == "f" and not math.isfinite(float(images.sum(dtype=np.float64))):
        raise ValueError(f"the {name} images contain NaN or infinite pixels: find them with np.isfinite(images)")
    check_labels(labels, model.forward(to_device(images[:1])).shape[1])
    return to_device(images), to_device(labels)


def _check_settings(model: Sequential, optimizer: Optimizer, checkpoint, **numbers: int | None) -> None:
    """Raise ValueError or FileNotFoundError for settings that `fit` cannot work with."""
    for name, number in numbers.items():
        if number is None and name == "patience":
            continue
        if not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"expected an integer of at least 1, got {name}={number!r}")
    if optimizer.model is not model:
        raise ValueError("the optimizer belongs to another model: make it of this one, e.g. Adam(model)")
    if checkpoint is not None and not Path(checkpoint).resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of checkpoint={str(checkpoint)!r} does not exist: make it first")


def _check_parallel(model: Sequential, workers: int | None, parallel) -> None:
    """Raise ValueError where both are given, or a `parallel` that computes another model's gradients."""
    if workers is not None and parallel is not None:
        raise ValueError("give workers or parallel, not both: parallel=DataParallel(model, workers)")
    if parallel is not None and parallel.model is not model:
        raise ValueError(f"parallel belongs to another model: make a {type(parallel).__name__} of this one")


def _announce(progress: bool, start: int, epochs: int, steps: int) -> tqdm:
    """Print the header of the epochs to come, and return the bar that counts their batches."""
    if progress and start < epochs:
        tqdm.write(HEADER)
    hidden = not progress or os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return tqdm(total=epochs * steps, initial=start * steps, unit="batch", leave=False, disable=hidden)


def _is_out_of_patience(history: History, epoch: int, patience: int | None) -> bool:
    return patience is not None and history.best_epoch is not None and epoch - history.best_epoch > patience


def _record(history: History, numbers: np.ndarray, count: int, lr: float, seconds: float) -> None:
    """Append an epoch to the history. numbers: each batch's summed loss; correct samples; validation loss, accuracy.

    Raises FloatingPointError, before anything is appended, if a loss is infinite or NaN.
    """
    losses, (correct, validation_loss, validation_accuracy) = numbers[:-3], numbers[-3:].tolist()
    if not (np.isfinite(losses).all() and math.isfinite(validation_loss)):
        bad = np.flatnonzero(~np.isfinite(losses))
        place = f"batch {bad[0] + 1} of {len(losses)}" if len(bad) else "on the validation data"
        raise FloatingPointError(
            f"the loss is no longer finite in epoch {len(history.seconds) + 1}, {place} (learning rate {lr:.2g}). Look"
            " at: a learning rate 10 times smaller; the scale of the first weights; clip_norm=1; numerical gradients of"
            " a layer that you wrote. The model has its best weights so far, if an epoch was finished."
        )
    history.train_loss.append(float(losses.sum()) / count)
    history.train_accuracy.append(correct / count)
    history.validation_loss.append(validation_loss)
    history.validation_accuracy.append(validation_accuracy)
    history.lr.append(lr)
    history.seconds.append(seconds)


def _drop_a_half_record(history: History) -> None:
    """Make all lists as long as the one that `_record` appends to last: the stop button may have come in between."""
    for values in vars(history).values():
        if isinstance(values, list):
            del values[len(history.seconds) :]
