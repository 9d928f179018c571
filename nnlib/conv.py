"""Convolution and pooling: pictures are (N, H, W, C), channels last, and kernels (kh, kw, C_in, C_out).

Their one idea: a convolution is the same `Linear` applied to every patch of a picture. `im2col` lays the patches out as
rows, one matrix product does the rest, and `col2im`, its adjoint, adds each row's gradient back to where it came from.
"""

import numpy as np

from .backend import get_array_module, to_device
from .initializers import Initializer, he_normal
from .layers import Layer, check_floats, check_gradient

Size = int | tuple[int, int]  # an int stands for (int, int)
CHUNK_BYTES = {"numpy": 2 << 20}  # rows of patches at one time: what a processor's cache holds; a GPU likes more


def im2col(x, kernel_size: Size, stride: Size = 1, padding: Size = 0):
    """Lay out every patch of every picture as one row.

    x: (N, H, W, C). Returns (N*Ho*Wo, kh*kw*C), a copy: rows by picture, then from left to right and downwards; in a
    row the patch's own rows, columns and channels, the order of a kernel's W.reshape(-1, C_out). Padding adds zeros
    on all four sides, and Ho = (H + 2*padding - kh) // stride + 1. Raises ValueError where no patch fits.
    """
    (kh, kw), (sh, sw), padding = _pairs(kernel_size, stride, padding)
    N, Ho, Wo, C = _output_shape("im2col", x.shape, (kh, kw), (sh, sw), padding)
    x = _padded(x, padding)
    if (
        in_planes := C < 8
    ):  # a copy is fast along its innermost axis, so let that be Wo pixels instead of kw * C numbers
        x = get_array_module(x).ascontiguousarray(x.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
    n, h, w, c = x.strides
    strides = (n, sh * h, sw * w, h, w, c)
    patches = get_array_module(x).lib.stride_tricks.as_strided(x, (N, Ho, Wo, kh, kw, C), strides)
    if in_planes:
        return patches.transpose(3, 4, 5, 0, 1, 2).reshape(kh * kw * C, N * Ho * Wo).T
    return patches.reshape(N * Ho * Wo, kh * kw * C)


def col2im(rows, x_shape: tuple[int, int, int, int], kernel_size: Size, stride: Size = 1, padding: Size = 0):
    """Add every row of patches back to the pixels that it was copied from: the adjoint of `im2col`.

    rows: (N*Ho*Wo, kh*kw*C); x_shape: (N, H, W, C) of the pictures. Returns that shape: each pixel is the sum of all
    its copies, so <im2col(x), rows> = <x, col2im(rows)>. Raises ValueError where the shapes do not fit.
    """
    (kh, kw), (sh, sw), (ph, pw) = _pairs(kernel_size, stride, padding)
    N, Ho, Wo, C = _output_shape("col2im", x_shape, (kh, kw), (sh, sw), (ph, pw))
    if rows.shape != (N * Ho * Wo, kh * kw * C):
        raise ValueError(f"col2im expects rows of shape {(N * Ho * Wo, kh * kw * C)}, got {rows.shape}")
    xp, (H, W) = get_array_module(rows), x_shape[1:3]
    patches = rows.reshape(N, Ho, Wo, kh, kw, C)
    strips = xp.zeros((N, H + 2 * ph, Wo, kw, C), rows.dtype)
    for i in range(kh):  # downwards first, then to the right: kh + kw additions are fewer than kh * kw
        strips[:, i : i + sh * Ho : sh] += patches[:, :, :, i]
    x = xp.zeros((N, H + 2 * ph, W + 2 * pw, C), rows.dtype)
    for j in range(kw):
        x[:, :, j : j + sw * Wo : sw] += strips[:, :, :, j]
    return x[:, ph : ph + H, pw : pw + W]


class Conv2d(Layer):
    """A convolution: y = im2col(x) W + b at every position, with W (kh, kw, C_in, C_out) and b (C_out,).

    As in `torch.nn.Conv2d` it is, strictly, a cross-correlation: the kernel is not flipped.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        rng,
        init: Initializer = he_normal,
        dtype=np.float32,
    ):
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"Conv2d expects at least 1 channel on each side, got {in_channels} and {out_channels}")
        self.kernel_size, self.stride, self.padding = _pairs(kernel_size, stride, padding)
        self.params = {
            "W": to_device(init((*self.kernel_size, in_channels, out_channels), rng).astype(dtype)),
            "b": to_device(np.zeros(out_channels, dtype)),
        }

    def forward(self, x, training: bool = False):
        """x: (N, H, W, C_in) float. Returns (N, Ho, Wo, C_out). Raises ValueError for other shapes or integers."""
        W, b = self.params["W"], self.params["b"]
        N, Ho, Wo, _ = _checked(self, x, channels=W.shape[2])
        self.saved = x if training else None
        xp, C_out = get_array_module(x), W.shape[3]
        y, line = xp.empty((N, Ho, Wo, C_out), x.dtype), xp.tile(b, Wo)  # long lines are added faster than short ones
        for part in self.chunks(y):
            rows = im2col(x[part], self.kernel_size, self.stride, self.padding)
            xp.matmul(rows, W.reshape(-1, C_out), out=y[part].reshape(-1, C_out))
            y[part].reshape(-1, Wo * C_out)[...] += line
        return y

    def backward(self, dout, input_grad: bool = True):
        """dout: (N, Ho, Wo, C_out). Returns dx (N, H, W, C_in); assigns grads W and b."""
        x, W = self.recall(), self.params["W"]
        xp, C_out = get_array_module(x), W.shape[3]
        N, Ho, Wo, _ = _checked(self, x)
        check_gradient(self, dout, (N, Ho, Wo, C_out))
        dx = xp.empty_like(x) if input_grad else None
        dW, db = 0, 0
        for part in self.chunks(dout):
            rows = im2col(x[part], self.kernel_size, self.stride, self.padding)  # again: cheaper than to keep them
            d = dout[part].reshape(-1, C_out)
            dW += rows.T @ d
            db += xp.ones(len(d), d.dtype) @ d  # d.sum(axis=0), five times as fast
            if input_grad:
                drows = d @ W.reshape(-1, C_out).T
                dx[part] = col2im(drows, x[part].shape, self.kernel_size, self.stride, self.padding)
        self.grads = {"W": dW.reshape(W.shape), "b": db}
        return dx

    def chunks(self, y) -> list[slice]:
        """Cut the batch of outputs y (N, Ho, Wo, C_out) into slices whose rows of patches stay in the cache."""
        N, Ho, Wo, _ = y.shape
        limit = CHUNK_BYTES.get(get_array_module(y).__name__, 1 << 28)
        step = max(1, limit // (Ho * Wo * self.params["W"][..., 0].size * y.itemsize))
        return [slice(i, i + step) for i in range(0, N, step)]


class MaxPool2d(Layer):
    """The largest value of each window, channel by channel. Padding never wins: it counts as minus infinity.

    The stride is the kernel's size unless given. Where values tie, the first of the window gets the gradient.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        super().__init__()
        stride = kernel_size if stride is None else stride
        self.kernel_size, self.stride, self.padding = _pairs(kernel_size, stride, padding, pool=True)

    def forward(self, x, training: bool = False):
        """x: (N, H, W, C) float. Returns (N, Ho, Wo, C)."""
        _checked(self, x)
        xp = get_array_module(x)
        first, *others = _views(_padded(x, self.padding, -np.inf), self.kernel_size, self.stride)
        y = first.copy()
        winner = xp.zeros(y.shape, np.min_scalar_type(len(others))) if training else None  # its place in the window
        for place, view in enumerate(others, start=1):
            if training:
                xp.maximum(winner, (view > y) * winner.dtype.type(place), out=winner)
            xp.maximum(y, view, out=y)
        self.saved = (x.shape, winner) if training else None
        return y

    def backward(self, dout, input_grad: bool = True):
        """dout: (N, Ho, Wo, C). Returns dx (N, H, W, C): each gradient goes to its window's winner."""
        (N, H, W, C), winner = self.recall()
        check_gradient(self, dout, winner.shape)
        ph, pw = self.padding
        xp = get_array_module(dout)
        dx = xp.zeros((N, H + 2 * ph, W + 2 * pw, C), dout.dtype)
        overlapping = self.stride[0] < self.kernel_size[0] or self.stride[1] < self.kernel_size[1]
        for place, view in enumerate(_views(dx, self.kernel_size, self.stride)):
            if overlapping:
                view += dout * (winner == place)
            else:  # the same in one pass: nobody else writes to these pixels
                xp.multiply(dout, winner == place, out=view)
        return dx[:, ph : ph + H, pw : pw + W]


class AvgPool2d(Layer):
    """The mean of each window, channel by channel. The zeros of the padding count, as is the default in PyTorch.

    The stride is the kernel's size unless given.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        super().__init__()
        stride = kernel_size if stride is None else stride
        self.kernel_size, self.stride, self.padding = _pairs(kernel_size, stride, padding, pool=True)

    def forward(self, x, training: bool = False):
        """x: (N, H, W, C) float. Returns (N, Ho, Wo, C)."""
        _checked(self, x)
        self.saved = x.shape if training else None
        views = _views(_padded(x, self.padding), self.kernel_size, self.stride)
        return sum(views[1:], start=views[0]) / len(views)

    def backward(self, dout, input_grad: bool = True):
        """dout: (N, Ho, Wo, C). Returns dx (N, H, W, C): each gradient is shared out evenly over its window."""
        N, H, W, C = shape = self.recall()
        check_gradient(self, dout, _output_shape("AvgPool2d", shape, self.kernel_size, self.stride, self.padding))
        ph, pw = self.padding
        dx = get_array_module(dout).zeros((N, H + 2 * ph, W + 2 * pw, C), dout.dtype)
        views = _views(dx, self.kernel_size, self.stride)
        share = dout / len(views)
        for view in views:
            view += share
        return dx[:, ph : ph + H, pw : pw + W]


def _pairs(kernel_size: Size, stride: Size, padding: Size, pool: bool = False) -> list[tuple[int, int]]:
    """Return the three sizes as (height, width) each; raise ValueError where they are no such sizes."""
    pairs = []
    for name, size, least in (("kernel_size", kernel_size, 1), ("stride", stride, 1), ("padding", padding, 0)):
        pair = size if isinstance(size, tuple | list) else (size, size)
        if len(pair) != 2 or not all(isinstance(i, int | np.integer) and i >= least for i in pair):
            raise ValueError(f"{name} must be an int of at least {least}, or a pair (height, width), got {size!r}")
        pairs.append((int(pair[0]), int(pair[1])))
    (kh, kw), _, (ph, pw) = pairs
    if pool and (2 * ph > kh or 2 * pw > kw):
        raise ValueError(f"the padding of a pool must be at most half its kernel_size {(kh, kw)}, got {(ph, pw)}")
    return pairs


def _output_shape(name: str, x_shape, kernel_size, stride, padding) -> tuple[int, ...]:
    """Return (N, Ho, Wo, C) for pictures of shape x_shape (N, H, W, C); raise ValueError where no window fits."""
    if len(x_shape) != 4 or 0 in x_shape:
        raise ValueError(f"{name} expects pictures (N, H, W, C), at least one of them, got the shape {tuple(x_shape)}")
    (N, H, W, C), (kh, kw), (sh, sw), (ph, pw) = x_shape, kernel_size, stride, padding
    H, W = H + 2 * ph, W + 2 * pw
    if kh > H or kw > W:
        raise ValueError(f"{name}: the kernel, {kh} by {kw}, is larger than the padded picture, {H} by {W}")
    return N, (H - kh) // sh + 1, (W - kw) // sw + 1, C


def _checked(layer: Layer, x, channels: int | None = None) -> tuple[int, ...]:
    """Raise ValueError unless x is a batch of float pictures with these channels; return (N, Ho, Wo, C)."""
    name = type(layer).__name__
    if channels is not None and (x.ndim != 4 or x.shape[3] != channels):
        hint = ""
        if x.ndim == 4 and x.shape[1] == channels:
            hint = ": channels come last, x.transpose(0, 2, 3, 1)"
        elif x.ndim == 3:
            hint = ": one picture is x[None]" if x.shape[2] == channels else ": grey pictures are x[..., None]"
        raise ValueError(f"{name} expects (N, H, W, {channels}) images, got {x.shape}{hint}")
    check_floats(layer, x)
    return _output_shape(name, x.shape, layer.kernel_size, layer.stride, layer.padding)


def _padded(x, padding: tuple[int, int], value: float = 0.0):
    """Return x (N, H, W, C) with `padding` rows and columns of `value` on all four sides."""
    if padding == (0, 0):
        return x
    (N, H, W, C), (ph, pw) = x.shape, padding
    padded = get_array_module(x).full((N, H + 2 * ph, W + 2 * pw, C), value, x.dtype)
    padded[:, ph : ph + H, pw : pw + W] = x
    return padded


def _views(x, kernel_size: tuple[int, int], stride: tuple[int, int]) -> list:
    """Return, for each place in the kernel from left to right and downwards, its pixels at all positions of the kernel.

    x: (N, H, W, C), padded. The kh*kw views (N, Ho, Wo, C) look into x: writing to one of them changes x.
    """
    (kh, kw), (sh, sw) = kernel_size, stride
    bottom, right = x.shape[1] - kh, x.shape[2] - kw  # the last position where the kernel still fits
    return [x[:, i : i + bottom + 1 : sh, j : j + right + 1 : sw] for i in range(kh) for j in range(kw)]
