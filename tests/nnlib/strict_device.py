"""A stand-in for CuPy, as strict as the real one: its arrays never turn into NumPy arrays unless told to, by `get()`.

It computes with NumPy behind a wall. What a GPU refuses is refused here too: np.asarray of a device array, NumPy
functions on it, any operation between a device array and a NumPy array, and every name and keyword that CuPy lacks
(cupy_names.json). And it counts what makes a GPU slow: `counted()` lists each time that the processor would have
to wait for a result, and each array that is copied to the device.
"""

import contextlib
import json
import re
import sys
import types
from pathlib import Path

import numpy as np

NAMES = json.loads(Path(__file__).with_name("cupy_names.json").read_text("utf-8"))["names"]
# Their results have a size, or go to a place, that the processor has to know.
WAITING = {"argwhere", "bincount", "extract", "flatnonzero", "nonzero", "unique", "ndarray.compress", "ndarray.nonzero"}
WAITING |= {f"ndarray.{name}" for name in ("dump", "dumps", "get", "item", "tobytes", "tofile", "tolist")}
NO_CALLER = re.compile(r"strict_device\.py$|\bnnlib.backend\.py$|\bnumpy\b")  # these only pass it on


class Counts:
    """What happened in a `with counted()` block: lists of "what, where"."""

    def __init__(self):
        self.waits, self.copies = [], []


open_counts: list[Counts] = []


@contextlib.contextmanager
def counted():
    counts = Counts()
    open_counts.append(counts)
    try:
        yield counts
    finally:
        open_counts.remove(counts)


def note(kind, what):
    """Append to every open list, with the line that asked for it: not one of this module, NumPy or nnlib.backend."""
    frame = sys._getframe(1)
    while frame.f_back and NO_CALLER.search(frame.f_code.co_filename):
        frame = frame.f_back
    for counts in open_counts:
        getattr(counts, kind).append(f"{what}, {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """A device array: a NumPy array that only this module may look at."""

    def __init__(self, hidden):
        self.hidden = np.asarray(hidden)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed: use to_numpy(x)")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(
            f"np.{function.__name__} was called on a device array: use get_array_module(x).{function.__name__}"
        )

    def __array_ufunc__(self, ufunc, method, *args, out=None, **kwargs):
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} was called on a device array")
        function = device_function(ufunc.__name__, ufunc)
        result = function(*args, **kwargs, **({} if out is None else {"out": out[0]}))
        return result if out is None else out[0]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if f"ndarray.{name}" not in NAMES:
            raise AttributeError(f"an array of CuPy has no attribute {name}")
        found = getattr(self.hidden, name)
        return device_function(f"ndarray.{name}", found) if callable(found) else wrap(found)

    def get(self):
        note("waits", "get()")
        return self.hidden.copy()

    def __getitem__(self, index):
        index = unwrap_index(index)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts):
            note("waits", "x[mask]")
        return wrap(self.hidden[index])

    def __setitem__(self, index, value):
        self.hidden[unwrap_index(index)] = unwrap(value)

    def __len__(self):
        return len(self.hidden)

    def __iter__(self):  # without a wait on a GPU, but one small array after the other: never meant
        note("waits", "iteration")
        return (wrap(item) for item in self.hidden)


def waiting(method):
    def wait(self, *args):
        note("waits", method)
        return getattr(self.hidden, method)(*args)

    return wait


for method in ("__float__", "__int__", "__bool__", "__index__", "__complex__", "__repr__", "__str__", "__format__"):
    setattr(ndarray, method, waiting(method))


def wrap(x):
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(x)
    return tuple(wrap(item) for item in x) if isinstance(x, tuple) and any(isinstance(i, np.ndarray) for i in x) else x


def unwrap(x):
    if isinstance(x, ndarray):
        return x.hidden
    if isinstance(x, np.ndarray) and x.ndim > 0:
        raise TypeError("a NumPy array met a device array: move it with to_device(x)")
    return type(x)(unwrap(item) for item in x) if isinstance(x, list | tuple) else x


def unwrap_index(index):
    return tuple(unwrap(i) for i in index) if isinstance(index, tuple) else unwrap(index)


def device_function(name, function):
    """A function on device arrays that takes the keywords which CuPy's function of this name takes, and no others."""
    if name not in NAMES:
        raise AttributeError(f"CuPy has no {name}")
    allowed = NAMES[name] or ()

    def call(*args, **kwargs):
        for keyword in kwargs:
            if keyword not in allowed and "**" not in allowed:
                raise TypeError(f"CuPy's {name} takes no {keyword}=")
        if name in WAITING or (name == "where" and len(args) == 1):
            note("waits", name)
        result = function(*[unwrap(x) for x in args], **{key: unwrap(value) for key, value in kwargs.items()})
        return result if name in WAITING and not isinstance(result, np.ndarray | tuple) else wrap(result)

    return call


def asarray(x):
    if isinstance(x, ndarray):
        return x
    note("copies", f"asarray of {np.shape(x)}")
    return ndarray(np.array(x))


class Philox4x3210:
    """CuPy's bit generator on the device; like that, it keeps 32 bits of its seed."""

    def __init__(self, seed=None, *, size=-1):
        self.hidden = np.random.Philox(int(np.random.SeedSequence(seed).generate_state(1)[0]))


class Generator:
    """Random numbers that are born on the device."""

    def __init__(self, bit_generator):
        if not isinstance(bit_generator, Philox4x3210):
            raise TypeError(f"expected a bit generator of the device, got {bit_generator!r}")
        self.hidden = np.random.Generator(bit_generator.hidden)

    def __getattr__(self, name):
        return device_function(f"random.Generator.{name}", getattr(self.hidden, name))


class Mirror:
    """The functions of a NumPy module that CuPy has too, on device arrays."""

    def __init__(self, module, path="", own=()):
        self.module, self.path = module, path
        vars(self).update({item.__name__: item for item in own})

    def __getattr__(self, name):
        path = f"{self.path}{name}"
        if path not in NAMES and not any(known.startswith(f"{path}.") for known in NAMES):
            raise AttributeError(f"module 'cupy' has no attribute {path!r}")
        attribute = getattr(self.module, name)
        if isinstance(attribute, types.ModuleType):
            return Mirror(attribute, f"{path}.")
        callable_here = callable(attribute) and not isinstance(attribute, type)
        return device_function(path, attribute) if callable_here else attribute


random = Mirror(np.random, "random.", own=(Philox4x3210, Generator))
__getattr__ = Mirror(np).__getattr__

# An array says which library made it by the first part of its type's module: this one is at the top, as CuPy is.
ndarray.__module__ = "strict_device"
sys.modules["strict_device"] = sys.modules[__name__]
