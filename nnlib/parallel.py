"""Many hands for one gradient: a batch is cut into slices, and threads take them.

Its one idea: the loss of a batch is a mean over its samples, so its gradient is a sum over slices, whoever computes
them. What is added, and in which order, is settled by the slices alone: two workers or ten give the same gradient, bit
for bit. Threads are enough: NumPy lets go of Python's lock inside its loops and products, and they share the weights.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
from threadpoolctl import ThreadpoolController

from .backend import get_array_module, to_device
from .losses import check_labels, cross_entropy

CACHED = 32  # samples: so few of them fit a processor's cache, layer after layer
BLAS = ThreadpoolController()  # found once, since that takes milliseconds


class DataParallel:
    """Computes a model's gradients with several threads, which share its parameters; each has a memory of its own.

    workers: the number of threads; by default one for each core. slices: into how many parts a batch is cut, at most
    one a sample; by default four of at least 16 samples, or more of at most 32. On a GPU, which shares out its work
    itself, there is one worker, and by default one slice.
    The result depends on slices, in the last digits, but never on workers. Dropout draws for each slice anew.
    """

    def __init__(self, model, workers: int | None = None, slices: int | None = None):
        for name, number in (("workers", workers), ("slices", slices)):
            check_count(name, number)
        self.model, self.workers, self.slices = model, workers, slices

    def gradients(self, x, labels, *, validate: bool = True):
        """Return (mean cross-entropy in nats, number of right answers) of a batch, and assign every layer's `grads`.

        x: (N, ...) uint8 or float; labels: (N,) integers. Raises ValueError for others, and what a layer raises; the
        `grads` are then as they were. `fit` has checked its labels once and passes validate=False.
        """
        on_processor = get_array_module(x) is np
        ends = cut(x, labels, self.slices)
        total = SumInOrder()

        def work(place: int, twin):
            part = slice(ends[place], ends[place + 1])
            loss, right, gradients = slice_gradients(twin, x[part], labels[part], len(x), validate)
            total.add(place, gradients)
            return loss, right

        # The twins are made here, one after the other: so dropout draws the same, whoever takes which slice.
        tasks = ((place, self.model.twin()) for place in range(len(ends) - 1))
        workers = (self.workers or cores()) if on_processor else 1
        losses, right = zip(*share_out(work, tasks, workers), strict=True)
        self.model.set_gradients(total.arrays)
        return sum(losses), sum(right)


def cut(x, labels, slices: int | None = None) -> list[int]:
    """Return where the slices of a batch begin, and where the last one ends. slices: see `DataParallel`.

    Raises ValueError unless x is (N, ...) and labels (N,), with N > 0.
    """
    N = len(x)
    if N == 0 or labels.shape != (N,):
        raise ValueError(f"expected samples (N, ...) and labels (N,) with N > 0, got {x.shape} and {labels.shape}")
    by_default = max(1, min(4, N // 16), math.ceil(N / CACHED)) if get_array_module(x) is np else 1
    slices = min(slices or by_default, N)
    return [N * i // slices for i in range(slices + 1)]


def slice_gradients(twin, x, labels, N: int, validate: bool = True) -> tuple:
    """Return what a slice adds to a batch of N: (its part of the mean loss, right answers, list of gradients)."""
    logits = twin.forward(x, training=True)
    if validate:
        check_labels(labels, logits.shape[1])
    loss, dlogits = cross_entropy(logits, labels, validate=False)
    share = len(logits) / N
    dlogits *= share  # what was a mean over the slice becomes its part of the mean over the batch
    twin.backward(dlogits)
    return loss * share, (logits.argmax(axis=1) == labels).sum(), [grad for _, grad in twin.named_gradients()]


def share_out(function: Callable, tasks: Iterable[tuple], workers: int) -> list:
    """Return [function(*task) for task in tasks], computed by `workers` threads, while this one waits.

    Meanwhile BLAS computes each product on one thread: more would fight with ours for the cores. After an error, or at
    the stop button, no further task is begun; once all threads have ended, the first error is raised.
    """
    waiting = deque(enumerate(tasks))
    results, errors = [None] * len(waiting), []

    def work():
        while not errors:
            try:
                place, task = waiting.popleft()
            except IndexError:  # nothing is left
                return
            try:
                results[place] = function(*task)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, name="nnlib-worker") for _ in range(min(workers, len(waiting)))]
    with BLAS.limit(limits=1, user_api="blas"):
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # the stop button: what has begun is brought to its end
            errors.append(error)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
    if errors:
        raise errors[0]
    return results


class SumInOrder:
    """Adds up lists of arrays that arrive in any order, in the order of their places: rounding depends on it."""

    def __init__(self):
        self.arrays, self.waiting, self.next, self.lock = None, {}, 0, threading.Lock()

    def add(self, place: int, arrays: list) -> None:
        """Add the arrays of `place` (0, 1, ...) as soon as all those before it are there."""
        with self.lock:
            self.waiting[place] = arrays
            while self.next in self.waiting:
                arrays = self.waiting.pop(self.next)
                self.next += 1
                if self.arrays is None:
                    self.arrays = arrays
                    continue
                for total, array in zip(self.arrays, arrays, strict=True):
                    total += array


def forward_in_batches(model, x, batch_size: int, workers: int | None = None):
    """Return the logits (N, K) of x (N, ...) on the device, so that a GPU need not wait between two batches.

    On a processor a batch is at most 32 samples, whose layers fit the cache: for pictures, nearly twice as fast as 512.
    workers: as many threads take the batches; None: one, and BLAS uses what threads it has.
    """
    check_count("workers", workers)
    if len(x) == 0 or batch_size < 1:
        raise ValueError(f"predict expects at least one sample and a batch_size above 0, got {len(x)}, {batch_size}")
    xp = get_array_module(to_device(x[:1]))
    size = min(batch_size, CACHED) if xp is np else batch_size

    def work(start: int):
        return model.forward(to_device(x[start : start + size]))

    tasks = [(start,) for start in range(0, len(x), size)]
    if workers is None or xp is not np:
        return xp.concatenate([work(*task) for task in tasks])
    return np.concatenate(share_out(work, tasks, workers))


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_count(name: str, number: int | None) -> None:
    """Raise ValueError unless number is None or an integer of at least 1."""
    if number is not None and (not isinstance(number, int | np.integer) or number < 1):
        raise ValueError(f"expected an integer of at least 1, or None, got {name}={number!r}")
