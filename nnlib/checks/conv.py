"""Checks of convolution, im2col and max-pooling: each right function, its mistakes, and what shows them.

Their one idea: all three cut pictures into patches on the way forward, and add patches up on the way back. The mistakes
in these two steps are listed once, as wrong `_patches` and wrong `_add_up`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from .core import OVER_N, Task, each

# ------------------------------------------------------------------------------------------- from pictures to patches


def _pad(x, before, after, **mode):
    """Pad pictures above and on the left, and below and on the right; with zeros if no mode says otherwise."""
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), **mode) if before or after else x


def _patches(x, kernel, stride, padding):
    """Return every patch of the pictures x (N, H, W, C): (N, Ho, Wo, kh, kw, C)."""
    windows = np.lib.stride_tricks.sliding_window_view(_pad(x, padding, padding), kernel, (1, 2))
    return np.moveaxis(windows[:, ::stride, ::stride], 3, -1)  # from (N, Ho, Wo, C, kh, kw)


def _too_near(x, kernel, stride, padding):
    """Return as many patches as there should be, but only one pixel apart."""
    Ho, Wo = _patches(x, kernel, stride, padding).shape[1:3]
    return _patches(x, kernel, 1, padding)[:, :Ho, :Wo]


def _padded(before, after):
    """Return `_patches` that pads with before and after times the padding."""
    return lambda x, kernel, stride, p: _patches(_pad(x, before * p, after * p), kernel, stride, 0)


def _counted(sizes):
    """Return `_patches` that takes their number from other sizes: (H, kh), (W, kw) = sizes(H, W, kh, kw, stride)."""

    def patches(x, kernel, stride, padding):
        x = _pad(x, padding, padding)
        Ho, Wo = ((size - k) // stride + 1 for size, k in sizes(*x.shape[1:3], *kernel, stride))
        return _patches(_pad(x, 0, 99), kernel, stride, 0)[:, :Ho, :Wo]

    return patches


def _in_order(*axes):
    """Return `_patches` whose axes (N, Ho, Wo, kh, kw, C) come in another order."""
    return lambda *arguments: _patches(*arguments).transpose(axes)


ONE_SIDE = "the padding is on one side only: it belongs on all four"
PATCHES = {  # words: a wrong `_patches`
    "the stride is ignored": lambda x, kernel, stride, padding: _patches(x, kernel, 1, padding),
    "the picture's height is used for its width": _counted(lambda H, W, kh, kw, s: ((H, kh), (H, kw))),
    "the picture's height and width are exchanged": _counted(lambda H, W, kh, kw, s: ((W, kh), (H, kw))),
    "the picture's rows and columns are exchanged": _in_order(0, 2, 1, 3, 4, 5),
    "one is missing in each direction: (H + 2*padding - kh) // stride + 1": (
        _counted(lambda H, W, kh, kw, s: ((H - s, kh), (W - s, kw)))
    ),
    "round down: no window may stick out of the picture": (
        _counted(lambda H, W, kh, kw, s: ((H + s - 1, kh), (W + s - 1, kw)))
    ),
}
PADDED_PATCHES = {  # where there is padding, and where kernels need not be square
    "the padding is missing": _padded(0, 0),
    "the padding is on one side only: count it twice": [_padded(1, 0), _padded(0, 1)],
    ONE_SIDE: [_padded(2, 0), _padded(0, 2)],
    "the kernel's height is used for its width": _counted(lambda H, W, kh, kw, s: ((H, kh), (W, kh))),
    "the kernel's width is used for its height": _counted(lambda H, W, kh, kw, s: ((H, kw), (W, kw))),
    "the kernel's height and width are exchanged": _counted(lambda H, W, kh, kw, s: ((H, kw), (W, kh))),
}
ROWS_OF_PATCHES = {  # in im2col alone
    "a patch's channels come first in a row: they must come last": _in_order(0, 1, 2, 5, 3, 4),
    "a patch's rows and columns are exchanged within a row": _in_order(0, 1, 2, 4, 3, 5),
    "rows are ordered by position first: the picture must come first": _in_order(1, 2, 0, 3, 4, 5),
    "the patches are flipped": lambda *arguments: _patches(*arguments)[:, :, :, ::-1, ::-1],
    "the padding must be zeros": lambda x, kernel, s, p: _patches(_pad(x, p, p, mode="edge"), kernel, s, 0),
}

# ------------------------------------------------------------------------------------------- from patches to pictures


def _add_up(patches, x_shape, stride, padding, put=np.add, cut=(1, 1)):
    """Return pictures of x_shape in which each pixel is the sum of its copies: the adjoint of `_patches`.

    put and cut are for mistakes: put(pixels, patch) is what takes the pixels' place; cut: how often the padding is cut
    off above and on the left, and below and on the right.
    """
    (N, H, W, C), (Ho, Wo, kh, kw) = x_shape, patches.shape[1:5]
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C))
    for row, column in np.ndindex(Ho, Wo):
        pixels = x[:, row * stride : row * stride + kh, column * stride : column * stride + kw]
        pixels[...] = put(pixels, patches[:, row, column])
    before, after = cut[0] * padding, cut[1] * padding
    return x[:, before : x.shape[1] - after, before : x.shape[2] - after]


def _assign_by_place(patches, x_shape, stride, padding):
    """Assign instead of adding, one place of the kernel after the other."""
    (N, H, W, C), (Ho, Wo, kh, kw) = x_shape, patches.shape[1:5]
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C))
    for i, j in np.ndindex(kh, kw):
        x[:, i : i + Ho * stride : stride, j : j + Wo * stride : stride] = patches[:, :, :, i, j]
    return x[:, padding : padding + H, padding : padding + W]


OVERLAP = "where windows overlap, their gradients must add up: += instead of ="
NEAR = "the stride is ignored: patches start `stride` apart"
ASSIGNED = [partial(_add_up, put=lambda pixels, patch: patch), _assign_by_place]
ADD_UP = {  # words: a wrong `_add_up`
    OVERLAP: ASSIGNED,
    NEAR: lambda patches, x_shape, stride, padding: _add_up(patches, x_shape, 1, padding),
    "cut the padding off again": partial(_add_up, cut=(0, 0)),
    "the padding is cut off on one side only": [partial(_add_up, cut=(1, 0)), partial(_add_up, cut=(0, 1))],
    "the padding is cut off at the wrong end: `padding` rows and columns on each side": (
        [partial(_add_up, cut=(2, 0)), partial(_add_up, cut=(0, 2))]
    ),
}

# -------------------------------------------------------------------------------------------------------- convolution


def _convolve(x, W, b, stride, padding, patches=_patches):
    return np.tensordot(patches(x, W.shape[:2], stride, padding), W, 3) + b


def _dx(dout, x, W, stride, padding, add_up=_add_up):
    return add_up(np.tensordot(dout, W, (3, 3)), x.shape, stride, padding)


def _dW(dout, x, W, stride, padding, patches=_patches):
    return np.tensordot(patches(x, W.shape[:2], stride, padding), dout, ((0, 1, 2), (0, 1, 2)))


FLIPPED = "the kernel is flipped: W[0, 0] belongs to the upper left pixel"
ROWS = "W's rows and columns are exchanged"
CHANNELS = "W's channels are exchanged: it is W[i, j, c_in, c_out]"
LAST_PICTURE = "only the last picture counts: sum over all of them"
LAST_POSITION = "only the last position counts: use += for the sum over them"
CONV2D_Y = each(PADDED_PATCHES | PATCHES, lambda wrong: partial(_convolve, patches=wrong)) | {
    "the bias b is missing": lambda x, W, b, *how: _convolve(x, W, 0 * b, *how),
    "the bias is added once for every weight: once for every output is right": (
        lambda x, W, b, *how: _convolve(x, W, W[..., 0].size * b, *how)
    ),
    FLIPPED: lambda x, W, *rest: _convolve(x, W[::-1, ::-1], *rest),
    ROWS: lambda x, W, *rest: _convolve(x, W.swapaxes(0, 1), *rest),
    CHANNELS: lambda x, W, *rest: _convolve(x, W.swapaxes(2, 3), *rest),
    "only the last channel counts: sum over all of them": lambda x, W, *r: _convolve(x[..., -1:], W[:, :, -1:], *r),
    "only the first channel counts: sum over all of them": lambda x, W, *r: _convolve(x[..., :1], W[:, :, :1], *r),
    "channels must come last": lambda *arguments: _convolve(*arguments).transpose(0, 3, 1, 2),
}
CONV2D_DX = each(ADD_UP, lambda wrong: partial(_dx, add_up=wrong)) | {
    FLIPPED: lambda dout, x, W, *how: _dx(dout, x, W[::-1, ::-1], *how),
    ROWS: lambda dout, x, W, *how: _dx(dout, x, W.swapaxes(0, 1), *how),
    CHANNELS: lambda dout, x, W, *how: _dx(dout, x, W.swapaxes(2, 3), *how),
}
CONV2D_DX[OVERLAP] += [  # = in all seven loops: the last channel wins too
    lambda dout, x, W, *how, wrong=wrong: _dx(dout[..., -1:], x, W[..., -1:], *how, add_up=wrong) for wrong in ASSIGNED
]
CONV2D_DW = {
    "it is flipped: dW[0, 0] collects the upper left pixel of every patch": lambda *a: _dW(*a)[::-1, ::-1],
    NEAR: partial(_dW, patches=_too_near),
    ONE_SIDE: [partial(_dW, patches=wrong) for wrong in PADDED_PATCHES[ONE_SIDE]],
    OVER_N: lambda dout, *rest: _dW(dout, *rest) / len(dout),
    LAST_PICTURE: lambda dout, x, *rest: _dW(dout[-1:], x[-1:], *rest),
    LAST_POSITION: (
        lambda dout, x, W, *how: np.multiply.outer(_patches(x, W.shape[:2], *how)[-1, -1, -1], dout[-1, -1, -1])
    ),
}
CONV2D_DB = {
    OVER_N: lambda dout, *rest: dout.sum(axis=(0, 1, 2)) / len(dout),
    "it is the mean: every output has the same b, so their gradients add up": lambda dout, *rest: dout.mean((0, 1, 2)),
    LAST_PICTURE: lambda dout, *rest: dout[-1].sum(axis=(0, 1)),
    LAST_POSITION: lambda dout, *rest: dout[-1, -1, -1],
    "sum over the pictures and over both directions, dout.sum(axis=(0, 1, 2))": (
        [lambda dout, *rest: dout.sum(axis=0), lambda dout, *rest: dout.sum(axis=(1, 2))]
    ),
}


CONV2D_FORWARD = Task("forward", _convolve, {"y": CONV2D_Y})
CONV2D_BACKWARD = Task(
    "backward",
    lambda dout, *rest: (_dx(dout, *rest), _dW(dout, *rest), dout.sum(axis=(0, 1, 2))),
    {"dx": CONV2D_DX, "dW": CONV2D_DW, "db": CONV2D_DB},
)
GEOMETRIES = [  # (N, H, W, C_in), kernel, C_out, stride, padding
    ((1, 4, 4, 1), (3, 3), 1, 1, 0),
    ((2, 5, 4, 3), (3, 3), 3, 1, 1),  # as many channels out as in: exchanging them does not change W's shape
    ((2, 5, 6, 2), (2, 3), 3, 1, 0),
    ((2, 6, 7, 2), (3, 2), 3, 2, 1),  # stride 2, and a row and a column that no window reaches
    ((1, 4, 5, 2), (1, 2), 1, 3, 2),  # a stride that leaves gaps, more padding than kernel
    ((2, 7, 7, 1), (3, 3), 2, 2, 0),
    ((2, 3, 3, 2), (1, 1), 3, 1, 0),
]


def _tried():
    """Return what the geometries are, for people."""
    oblong, padded = sum(k[0] != k[1] for _, k, *_ in GEOMETRIES), sum(padding > 0 for *_, padding in GEOMETRIES)
    strides = [stride for *_, stride, _ in GEOMETRIES if stride > 1]
    strided = f"{len(strides)} with stride {' or '.join(map(str, sorted(set(strides))))}"
    return f"{len(GEOMETRIES)} geometries ({oblong} kernels that are not square, {strided}, {padded} padded)"


def conv2d(forward: Callable, backward: Callable) -> None:
    """Check a convolution: forward(x, W, b, stride, padding) -> y; backward(dout, x, W, stride, padding) -> dx, dW, db.

    x: (N, H, W, C_in), not padded yet; W: (kh, kw, C_in, C_out), which need not be square; b: (C_out,); stride and
    padding: ints, for both directions. y and dout: (N, Ho, Wo, C_out), with Ho = (H + 2*padding - kh) // stride + 1.
    Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}
    for shape, kernel, C_out, stride, padding in GEOMETRIES[:1] + GEOMETRIES:  # one twice: what remembers it shows
        x, W, b = rng.normal(size=shape), rng.normal(size=(*kernel, shape[3], C_out)), rng.normal(size=C_out)
        how = {"stride": stride, "padding": padding}
        y = CONV2D_FORWARD.check(forward, {"x": x, "W": W, "b": b} | how, seen)["y"]
        seen = {"x": x, "W": W, "b": b}
        dout, x, W = (rng.normal(size=array.shape) for array in (y, x, W))  # not what forward has seen
        CONV2D_BACKWARD.check(backward, {"dout": dout, "x": x, "W": W} | how, seen)
    print(f"checks.conv2d: forward and backward agree on {_tried()}")


# ------------------------------------------------------------------------------------------------------------- im2col


def _im2col(x, kernel, stride, padding, patches=_patches):
    return patches(x, kernel, stride, padding).reshape(-1, kernel[0] * kernel[1] * x.shape[3])


def _col2im(rows, x_shape, kernel, stride, padding, add_up=_add_up):
    Ho, Wo = ((size + 2 * padding - k) // stride + 1 for size, k in zip(x_shape[1:3], kernel, strict=True))
    return add_up(rows.reshape(x_shape[0], Ho, Wo, *kernel, x_shape[3]), x_shape, stride, padding)


IM2COL_ROWS = each(PADDED_PATCHES | PATCHES | ROWS_OF_PATCHES, lambda wrong: partial(_im2col, patches=wrong))
COL2IM_X = each(ADD_UP, lambda wrong: partial(_col2im, add_up=wrong)) | {
    "overlapping patches are averaged: they must be added up": (
        lambda rows, *how: _col2im(rows, *how) / np.maximum(_col2im(np.ones_like(rows), *how), 1)
    )
}
IM2COL, COL2IM = Task("im2col", _im2col, {"rows": IM2COL_ROWS}), Task("col2im", _col2im, {"x": COL2IM_X})


def im2col(im2col: Callable, col2im: Callable) -> None:
    """Check that pictures become rows of patches, and that rows are added back to pictures.

    im2col(x, (kh, kw), stride, padding) -> rows; col2im(rows, x_shape, (kh, kw), stride, padding) -> (N, H, W, C).
    x: (N, H, W, C), not padded yet; rows: (N*Ho*Wo, kh*kw*C), ordered by picture, row and column; in a row the patch's
    own rows, columns and channels. stride and padding: ints. Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}
    for shape, kernel, _, stride, padding in GEOMETRIES[:1] + GEOMETRIES:
        how = {"kernel_size": kernel, "stride": stride, "padding": padding}
        x = rng.normal(size=shape)
        rows = rng.normal(size=IM2COL.check(im2col, {"x": x} | how, seen)["rows"].shape)
        COL2IM.check(col2im, {"rows": rows, "x_shape": shape} | how, seen)
        seen = {"x": x, "rows": rows}
    print(f"checks.im2col: im2col and col2im agree on {_tried()}")


# -------------------------------------------------------------------------------------------------------- max-pooling


def _pool(x, size, stride, patches=_patches, largest=np.max):
    return largest(patches(x, (size, size), stride, 0), axis=(3, 4))


def _as_wide_as_the_stride(x, size, stride):
    Ho, Wo = _pool(x, size, stride).shape[1:3]
    return _pool(x, stride, stride)[:, :Ho, :Wo]


def _first_maximum(windows):
    """Return a mask of windows (N, Ho, Wo, k, k, C): 1 at the first maximum of each, else 0."""
    N, Ho, Wo, k, _, C = windows.shape
    winners = windows.reshape(N, Ho, Wo, k * k, C).argmax(axis=3)
    return np.moveaxis(np.eye(k * k)[winners], -1, 3).reshape(windows.shape)


def _all_maxima(windows):
    return (windows == windows.max(axis=(3, 4), keepdims=True)) * 1.0


def _unpool(dout, x, size, stride, share=_first_maximum, patches=_patches, add_up=_add_up):
    """Send each gradient back to its window: share(windows) of it to every pixel."""
    return add_up(dout[:, :, :, None, None] * share(patches(x, (size, size), stride, 0)), x.shape, stride, 0)


MAX_POOL2D_Y = each(PATCHES, lambda wrong: partial(_pool, patches=wrong)) | {
    "windows start `stride` apart, not `size`": lambda x, size, stride: _pool(x, size, size),
    "the window is as wide as the stride: it must be as wide as `size`": _as_wide_as_the_stride,
    "negative values are lost: do not let the maximum start at 0": lambda x, *how: _pool(np.maximum(x, 0), *how),
    "it is the mean of each window": partial(_pool, largest=np.mean),
    "it is the minimum of each window": partial(_pool, largest=np.min),
    "it is the maximum of |x|": lambda x, *how: _pool(np.abs(x), *how),
    "each channel has its own maximum": lambda x, *how: _pool(x.max(3, keepdims=True) + 0 * x, *how),
    "channels must come last": lambda *arguments: _pool(*arguments).transpose(0, 3, 1, 2),
}
SHARES = {  # words: how a window's gradient is shared out by mistake
    "where values tie, every one of them gets the gradient: only the first may": _all_maxima,
    "where values tie, they share the gradient: the first gets all of it": (
        lambda windows: _all_maxima(windows) / _all_maxima(windows).sum(axis=(3, 4), keepdims=True)
    ),
    "where values tie, the last gets the gradient: the first must": (
        lambda windows: _first_maximum(windows[:, :, :, ::-1, ::-1])[:, :, :, ::-1, ::-1]
    ),
    "it is shared out over the window": lambda windows: np.full(windows.shape, 1 / windows.shape[3] ** 2),
}
WINNERS_ASSIGNED = partial(_add_up, put=lambda pixels, patch: np.where(patch != 0, patch, pixels))
MAX_POOL2D_DX = each(SHARES, lambda share: partial(_unpool, share=share)) | {
    "the chain rule is missing: multiply by dout": lambda dout, *rest: _unpool(np.ones_like(dout), *rest),
    OVERLAP: [
        partial(_unpool, share=share, add_up=wrong)
        for share in (_first_maximum, _all_maxima)
        for wrong in (*ASSIGNED, WINNERS_ASSIGNED)
    ],
    "the stride is ignored: windows start `stride` apart": partial(_unpool, patches=_too_near, add_up=ADD_UP[NEAR]),
}
MAX_POOL2D_FORWARD = Task("forward", _pool, {"y": MAX_POOL2D_Y})
MAX_POOL2D_BACKWARD = Task("backward", _unpool, {"dx": MAX_POOL2D_DX})
POOLS = [  # (N, H, W, C), size, stride, and whether values tie
    ((1, 4, 4, 1), 2, 2, False),
    ((2, 6, 4, 3), 2, 2, False),
    ((2, 7, 5, 2), 2, 2, False),  # odd sizes: the last row and column are in no window
    ((2, 5, 6, 2), 3, 1, False),  # windows overlap
    ((2, 7, 5, 2), 2, 3, False),  # windows leave gaps
    ((2, 4, 6, 2), 2, 2, True),
    ((2, 7, 5, 2), 3, 2, True),
]


def max_pool2d(forward: Callable, backward: Callable) -> None:
    """Check max-pooling: forward(x, size, stride) -> y; backward(dout, x, size, stride) -> dx.

    x: (N, H, W, C); size and stride: ints, so that windows may overlap, or miss the last rows and columns. Where
    values tie in a window, the first of them, from left to right and downwards, gets the gradient. Prints one line if
    all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}
    for shape, size, stride, ties in POOLS[:1] + POOLS:
        x, x_backward = 1e6 * (rng.normal(size=(2, *shape)) - 1.0)  # some windows are all negative, and far from 0
        if ties:
            x, x_backward = rng.integers(-1, 2, size=(2, *shape)).astype(np.float64)
        how = {"size": size, "stride": stride}
        y = MAX_POOL2D_FORWARD.check(forward, {"x": x} | how, seen)["y"]
        seen = {"x": x}
        MAX_POOL2D_BACKWARD.check(backward, {"dout": rng.normal(size=y.shape), "x": x_backward} | how, seen)
    overlapping, tied = sum(stride < size for _, size, stride, _ in POOLS), sum(ties for *_, ties in POOLS)
    apart = sum(stride > size for _, size, stride, _ in POOLS)
    tried = f"{overlapping} where windows overlap, {apart} where they leave gaps, {tied} where values tie"
    print(f"checks.max_pool2d: forward and backward agree on {len(POOLS)} geometries ({tried})")
