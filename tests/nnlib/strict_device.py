"""A stand-in for CuPy, as strict as the real one: its arrays never turn into NumPy arrays unless told to, by `get()`.

It computes with NumPy behind a wall. What a GPU refuses is refused here too: np.asarray of a device array, NumPy
functions on it, and any operation between a device array and a NumPy array.
"""

import types

import numpy as np


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
        if out is not None:
            kwargs["out"] = tuple(unwrap(x) for x in out)
        result = wrap(getattr(ufunc, method)(*[unwrap(x) for x in args], **kwargs))
        return out[0] if out is not None else result

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = getattr(self.hidden, name)
        return device_function(attribute) if callable(attribute) else wrap(attribute)

    def get(self):
        return self.hidden.copy()

    def __getitem__(self, index):
        return wrap(self.hidden[unwrap_index(index)])

    def __setitem__(self, index, value):
        self.hidden[unwrap_index(index)] = unwrap(value)

    def __len__(self):
        return len(self.hidden)

    def __float__(self):
        return float(self.hidden)

    def __int__(self):
        return int(self.hidden)

    def __bool__(self):
        return bool(self.hidden)


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


def device_function(function):
    def call(*args, **kwargs):
        args = [unwrap(x) for x in args]
        return wrap(function(*args, **{key: unwrap(value) for key, value in kwargs.items()}))

    return call


def asarray(x):
    return x if isinstance(x, ndarray) else ndarray(np.array(x))


class Mirror:
    """The functions of a NumPy module, on device arrays."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        attribute = getattr(self.module, name)
        if isinstance(attribute, types.ModuleType):
            return Mirror(attribute)
        return device_function(attribute) if callable(attribute) and not isinstance(attribute, type) else attribute


__getattr__ = Mirror(np).__getattr__
