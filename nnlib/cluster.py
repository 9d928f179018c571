"""Many machines for one gradient: the slices of a batch are tasks of a Dask cluster, and their gradients come back.

Its one idea: what is added, and in which order, is settled by the slices alone, as in `DataParallel`. So a cluster may
share them out as it likes, and begin a slice again elsewhere when a worker dies: the gradient is the same, bit for bit.
All of that (scheduling, retries, a dashboard) is Dask's; the slicing and the adding are ours.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import pickle
import platform
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np

from .backend import to_device, to_numpy
from .parallel import BLAS, SumInOrder, check_count, cut, slice_gradients

try:
    import cloudpickle
    import dask
    import distributed
except ImportError as error:
    raise ImportError("nnlib.cluster needs Dask: pip install -e '.[dask]' (or make setup-grade)") from error


class ClusterParallel:
    """Computes a model's gradients on the workers of a Dask cluster: bit for bit those of `DataParallel`.

    client: a `distributed.Client`, connected. slices: as in `DataParallel`, by default too.
    In each step the weights go out once, then travel from worker to worker; each slice of the batch goes with its task,
    and its gradients come back. Nothing stays on a worker: one that dies costs time and no number, one that joins late
    helps at the next step. (Data placed there once would save the way of the pictures, which as bytes weigh less than
    most weights; but what `augment` makes is new in every step, and what a dead worker held would be lost.)
    Raises RuntimeError for a cluster without workers, and for workers with another nnlib, NumPy or Python, named.
    """

    workers = None  # threads for what stays here, such as validation: one for each core

    def __init__(self, model, client: distributed.Client, slices: int | None = None):
        check_count("slices", slices)
        self.model, self.client, self.slices = model, client, slices

        def tell():  # inside of a function, so it is sent whole: an older nnlib need not have it
            with contextlib.suppress(ImportError):
                from nnlib.cluster import version

                return version()
            return "no nnlib.cluster"

        versions = client.run(tell)
        if not versions:
            raise RuntimeError("the cluster has no workers yet: start some (dask worker ADDRESS --nthreads 1)")
        if others := [f"{address} has {theirs}" for address, theirs in versions.items() if theirs != version()]:
            raise RuntimeError(f"here is {version()}; {'; '.join(others)}: the gradients would not be the same")

    def gradients(self, x, labels, *, validate: bool = True):
        """Return (mean cross-entropy in nats, number of right answers) of a batch, and assign every layer's `grads`.

        As `DataParallel.gradients`. Also raises ConnectionError when the scheduler is gone, RuntimeError when a worker
        has joined that has another version, and what Dask raises for a task that its workers die of again and again.
        """
        ends, labels = cut(x, labels, self.slices), to_numpy(labels)
        weights = [to_numpy(param) for _, param in self.model.named_parameters()]
        submit = functools.partial(self.client.submit, pure=False)
        try:
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # weights may be large
                weights = submit(list, weights)  # a task too: the scheduler can send what is in it again
                tasks = []
                for start, end in itertools.pairwise(ends):
                    part = to_numpy(x[start:end]), labels[start:end], len(x), validate
                    tasks.append(submit(_work, version(), _pack(self.model.twin()), weights, *part))
            losses, right, gradients = zip(*self.client.gather(tasks), strict=True)
        except (CancelledError, OSError, RuntimeError) as error:
            if self.client.status == "running" and not isinstance(error, CancelledError):
                raise  # the error of a task
            raise ConnectionError(
                "the scheduler of the cluster is gone. Start it and its workers again, connect a new Client, and call"
                " fit once more: with a checkpoint it goes on after the last finished epoch"
            ) from error
        total = SumInOrder()
        for place, arrays in enumerate(gradients):
            total.add(place, arrays if place else [array.copy() for array in arrays])  # what arrives may be read-only
        self.model.set_gradients([to_device(array) for array in total.arrays])
        return sum(losses), sum(right)


@functools.cache
def version() -> str:
    """Say in words what the last digits of a gradient depend on: the sources of nnlib, NumPy, Python."""
    source = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    checksum = hashlib.sha256(source).hexdigest()[:8]
    return f"nnlib {checksum}, NumPy {np.__version__}, Python {platform.python_version()}"


@functools.cache
def _one_blas_thread():
    return BLAS.limit(limits=1, user_api="blas")  # for good: Dask gives one core to each thread of a worker


def _work(expected: str, packed: bytes, weights: list, x, labels, N: int, validate: bool):
    if version() != expected:  # it joined late
        where = distributed.get_worker().address
        raise RuntimeError(f"here is {expected}; {where} has {version()}: the gradients would not be the same")
    _one_blas_thread()
    weights, x, labels = [to_device(array) for array in weights], to_device(x), to_device(labels)
    loss, right, gradients = slice_gradients(_Unpack(packed, weights).load(), x, labels, N, validate)
    return to_numpy(loss)[()], to_numpy(right)[()], [to_numpy(array) for array in gradients]


def _pack(twin) -> bytes:
    """Pickle a model without its parameters, which go another way, and without its gradients and memories."""
    file = io.BytesIO()
    pickler = _Pack(file)
    pickler.places = {id(grad): -1 for _, grad in twin.named_gradients()} | {id(it.saved): -1 for it in twin.layers}
    pickler.places |= {id(param): i for i, (_, param) in enumerate(twin.named_parameters())}
    pickler.dump(twin)
    return file.getvalue()


class _Pack(cloudpickle.Pickler):  # cloudpickle, because a layer may be one of the notebook's own
    def persistent_id(self, thing):
        return None if thing is None else self.places.get(id(thing))


class _Unpack(pickle.Unpickler):
    def __init__(self, packed: bytes, weights: list):
        super().__init__(io.BytesIO(packed))
        self.weights = weights

    def persistent_load(self, place):
        return None if place < 0 else self.weights[place]
