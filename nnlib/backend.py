"""Where arrays live: NumPy on the processor, CuPy on a GPU, and one code path for both.

Its one idea: an array knows the library that made it, so a function asks its argument and calls that library.
"""

import importlib
import os
import sys
from types import ModuleType

import numpy as np

DEVICES = {"cpu": "numpy", "cuda": "cupy"}  # NNLIB_DEVICE -> the library whose arrays live there


def get_array_module(x) -> ModuleType:
    """Return the library that made the array or scalar x: the module `numpy`, or the module `cupy`.

    Raises TypeError if x is neither an array nor a scalar of such a library (a list, say, or Python's 1.0).
    """
    library = sys.modules.get(type(x).__module__.partition(".")[0])
    if not hasattr(library, "ndarray"):
        raise TypeError(f"expected a NumPy or CuPy array, got a {type(x).__name__}: convert it with np.asarray(...)")
    return library


def to_device(x):
    """Move an array to the device that the environment variable NNLIB_DEVICE names: `cpu` (the default) or `cuda`.

    Returns x itself where it is there already. Raises ValueError for an unknown device, RuntimeError without CuPy.
    """
    device = os.environ.get("NNLIB_DEVICE", "cpu")
    if device not in DEVICES:
        raise ValueError(f"NNLIB_DEVICE is {device!r}; expected one of {', '.join(DEVICES)}")
    try:
        library = importlib.import_module(DEVICES[device])
    except ImportError as error:
        raise RuntimeError(f"NNLIB_DEVICE={device} needs {DEVICES[device]}: pip install -e '.[gpu]'") from error
    return library.asarray(x)


def to_numpy(x) -> np.ndarray:
    """Return x as a NumPy array: a GPU array is copied over, a NumPy array is returned as it is."""
    return x.get() if hasattr(x, "get") else np.asarray(x)


def generator_beside(x, rng: np.random.Generator):
    """Return a generator whose numbers arise where the array x lives, and follow from the state of rng alone.

    For a NumPy array that is rng itself. For a GPU array it is a generator on the GPU, seeded by one integer from rng:
    numbers drawn by the processor would have to be copied over, and a GPU would wait for them at every step. It is made
    anew for each call, so nothing has to be saved from the GPU: who restores rng gets the same numbers again.
    """
    xp = get_array_module(x)
    if xp is np:
        return rng
    return xp.random.Generator(xp.random.Philox4x3210(int(rng.integers(2**32))))


def to_float(x):
    """Return images as the floats that layers compute with: uint8 becomes float32 in [0, 1], floats stay as they are.

    Raises ValueError for any other dtype: 0..255 stored as int64 would otherwise reach the network unscaled.
    """
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    if x.dtype.kind != "f":
        raise ValueError(f"expected uint8 images or floats, got {x.dtype}: convert with x.astype(np.float32)")
    return x
