"""Many machines for one gradient: the slices of a batch are tasks of a Dask cluster, and their gradients come back.

Its one idea: what is added, and in which order, is settled by the slices alone, as in `DataParallel`. So Dask may share
them out as it likes, and begin a slice again elsewhere when a worker dies: the gradient is the same, bit for bit.
"""

import contextlib
import ctypes
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
DIFFERENT = "here is {}; {}: the gradients would not be the same"
GONE = "the scheduler is gone: start it and its workers, connect a new Client, call fit again (a checkpoint goes on)"


class ClusterParallel:
    """Computes a model's gradients on the workers of a Dask cluster: bit for bit those of `DataParallel`.

    client: a `distributed.Client`. slices: as in `DataParallel`. In each step the weights go out once and travel from
    worker to worker; each slice goes with its task, and its gradients come back. No data stay there: as bytes, pictures
    weigh less than most weights, `augment` makes new ones each time, and so a worker that dies holds nothing that is
    missed, and one that joins late helps at once.
    Raises RuntimeError for a cluster without workers, and for workers with another nnlib, NumPy or Python, named.
    """

    workers = None  # threads for what stays here, such as validation: one for each core

    def __init__(self, model, client: distributed.Client, slices: int | None = None):
        check_count("slices", slices)
        self.model, self.client, self.slices = model, client, slices
        # a lambda is sent whole, so that a worker whose nnlib has no such module can answer too
        versions = client.run(lambda: __import__("nnlib.cluster").cluster.version(), on_error="return")
        if not versions:
            raise RuntimeError("the cluster has no workers yet: start some (dask worker ADDRESS --nthreads 1)")
        if others := [f"{address} has {theirs}" for address, theirs in versions.items() if theirs != version()]:
            raise RuntimeError(DIFFERENT.format(version(), "; ".join(others)))

    def gradients(self, x, labels, *, validate: bool = True):
        """Do as `DataParallel.gradients`; ConnectionError: no scheduler; RuntimeError: a worker of another version."""
        ends, labels = cut(x, labels, self.slices), to_numpy(labels)
        weights, submit = [to_numpy(param) for _, param in self.model.named_parameters()], self.client.submit
        try:
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # weights may be large
                weights = submit(list, weights, pure=False)  # a task: the scheduler can send its content again
                tasks = []
                for start, end in itertools.pairwise(ends):
                    part = to_numpy(x[start:end]), labels[start:end], len(x), validate
                    tasks.append(submit(_work, version(), _pack(self.model.twin()), weights, *part, pure=False))
            losses, right, gradients = zip(*self.client.gather(tasks), strict=True)
        except (CancelledError, OSError, RuntimeError) as error:
            if self.client.status == "running" and not isinstance(error, CancelledError):
                raise  # the error of a task
            raise ConnectionError(GONE) from error
        total = SumInOrder()
        for place, arrays in enumerate(gradients):
            total.add(place, arrays if place else [array.copy() for array in arrays])  # what arrives may be read-only
        self.model.set_gradients([to_device(array) for array in total.arrays])
        return sum(losses), sum(right)


@functools.cache
def version() -> str:
    """Say in words what the last digits of a gradient depend on: the sources of nnlib, NumPy, Python."""
    source = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
    return f"nnlib {source.hexdigest()[:8]}, NumPy {np.__version__}, Python {platform.python_version()}"


@functools.cache
def _settle():
    BLAS.limit(limits=1, user_api="blas")  # for good: Dask gives one core to each thread of a worker
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where there is no glibc
        for what, size in ((-1, 1 << 30), (-3, 1 << 25)):  # trim, mmap: Dask has memory handed back at once, and
            ctypes.CDLL(None).mallopt(what, size)  # fetching it anew was measured to take half of a worker's time


def _work(expected: str, packed: bytes, weights: list, x, labels, N: int, validate: bool):
    if version() != expected:  # this worker joined late
        raise RuntimeError(DIFFERENT.format(expected, f"{distributed.get_worker().address} has {version()}"))
    _settle()
    weights, x, labels = [to_device(array) for array in weights], to_device(x), to_device(labels)
    loss, right, gradients = slice_gradients(_unpack(packed, weights), x, labels, N, validate)
    return to_numpy(loss)[()], to_numpy(right)[()], [to_numpy(array) for array in gradients]


def _pack(twin) -> bytes:
    """Pickle a model without its parameters, which go another way, and without its gradients and memories."""
    for layer in twin.layers:
        layer.grads, layer.saved = {}, None
    places = {id(param): i for i, (_, param) in enumerate(twin.named_parameters())}

    class Pickler(cloudpickle.Pickler):  # cloudpickle, because a layer may be one of the notebook's own
        def persistent_id(self, thing):
            return places.get(id(thing))

    Pickler(file := io.BytesIO()).dump(twin)
    return file.getvalue()


def _unpack(packed: bytes, weights: list):
    class Unpickler(pickle.Unpickler):
        persistent_load = staticmethod(weights.__getitem__)

    return Unpickler(io.BytesIO(packed)).load()
