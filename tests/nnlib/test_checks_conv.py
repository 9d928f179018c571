"""Each classic mistake of convolution and pooling, planted in a student's function: the check must say what it is."""

import re

import numpy as np
import pytest

import nnlib
from nnlib import CheckFailed, checks, reference


def pad(x, before, after):
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))


def out_shape(x, kh, kw, stride, padding):
    return (x.shape[1] + 2 * padding - kh) // stride + 1, (x.shape[2] + 2 * padding - kw) // stride + 1


def conv2d(x, W, b, stride, padding, before=None):
    """A student's version, over windows, with room for mistakes: `before` rows of padding above, the rest below."""
    kh, kw, _, c_out = W.shape
    Ho, Wo = out_shape(x, kh, kw, stride, padding)
    before = padding if before is None else before
    x = pad(x, before, 2 * padding - before)
    y = np.zeros((len(x), Ho, Wo, c_out))
    for r in range(Ho):
        for c in range(Wo):
            window = x[:, r * stride : r * stride + kh, c * stride : c * stride + kw]
            y[:, r, c] = np.tensordot(window, W, axes=3) + b
    return y


def conv2d_backward(dout, x, W, stride, padding, before=None, assign=False, step=None):
    kh, kw = W.shape[:2]
    H, width = x.shape[1:3]
    step = stride if step is None else step
    before = padding if before is None else before
    x = pad(x, before, 2 * padding - before)
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for r in range(dout.shape[1]):
        for c in range(dout.shape[2]):
            d = dout[:, r, c]
            place = (slice(None), slice(r * step, r * step + kh), slice(c * step, c * step + kw))
            dx[place] = np.tensordot(d, W, axes=(1, 3)) + (0 if assign else dx[place])
            dW += np.tensordot(x[place], d, axes=(0, 0))
    return dx[:, before : before + H, before : before + width], dW, dout.sum(axis=(0, 1, 2))


def im2col(x, kernel_size, stride, padding):
    kh, kw = kernel_size
    Ho, Wo = out_shape(x, kh, kw, stride, padding)
    x = pad(x, padding, padding)
    rows = [
        x[n, r * stride : r * stride + kh, c * stride : c * stride + kw].ravel()
        for n in range(len(x))
        for r in range(Ho)
        for c in range(Wo)
    ]
    return np.array(rows)


def col2im(rows, x_shape, kernel_size, stride, padding, add=True):
    """By places of the kernel, the fast way."""
    (N, H, width, C), (kh, kw) = x_shape, kernel_size
    x = pad(np.zeros(x_shape), padding, padding)
    Ho, Wo = out_shape(np.zeros(x_shape), kh, kw, stride, padding)
    rows = rows.reshape(N, Ho, Wo, kh, kw, C)
    for i in range(kh):
        for j in range(kw):
            view = x[:, i : i + stride * Ho : stride, j : j + stride * Wo : stride]
            view[...] = rows[:, :, :, i, j] + (view if add else 0)
    return x[:, padding : padding + H, padding : padding + width]


def max_pool2d(x, size, stride, function=np.max):
    Ho, Wo = out_shape(x, size, size, stride, 0)
    y = np.zeros((len(x), Ho, Wo, x.shape[3]))
    for r in range(Ho):
        for c in range(Wo):
            window = x[:, r * stride : r * stride + size, c * stride : c * stride + size]
            y[:, r, c] = function(window, axis=(1, 2))
    return y


def max_pool2d_backward(dout, x, size, stride, add=True, last=False, step=None):
    dx, step = np.zeros_like(x), stride if step is None else step
    for n, r, c, k in np.ndindex(*dout.shape):
        window = x[n, r * step : r * step + size, c * step : c * step + size, k].ravel()
        best = len(window) - 1 - window[::-1].argmax() if last else window.argmax()
        i, j = divmod(int(best), size)
        place = n, r * step + i, c * step + j, k
        dx[place] = dout[n, r, c, k] + (dx[place] if add else 0)
    return dx


def pool_every_tie(dout, x, size, stride, add=True, share=False):
    dx = np.zeros_like(x)
    for r in range(dout.shape[1]):
        for c in range(dout.shape[2]):
            place = slice(None), slice(r * stride, r * stride + size), slice(c * stride, c * stride + size)
            mask = (x[place] == x[place].max(axis=(1, 2), keepdims=True)).astype(float)
            if share:
                mask /= mask.sum(axis=(1, 2), keepdims=True)
            dx[place] = mask * dout[:, r : r + 1, c : c + 1] + (dx[place] if add else 0)
    return dx


@pytest.mark.parametrize(
    "check, functions",
    [
        (checks.conv2d, (conv2d, conv2d_backward)),
        (checks.conv2d, (reference.conv2d, reference.conv2d_backward)),
        (checks.im2col, (im2col, col2im)),
        (checks.im2col, (reference.im2col, reference.col2im)),
        (checks.im2col, (nnlib.im2col, nnlib.col2im)),
        (checks.max_pool2d, (max_pool2d, max_pool2d_backward)),
        (checks.max_pool2d, (reference.max_pool2d, reference.max_pool2d_backward)),
    ],
)
def test_right_functions_pass(check, functions, capsys):
    assert check(*functions) is None
    assert capsys.readouterr().out.startswith(f"checks.{check.__name__}: ")


def changed(function, change):
    return lambda *arguments: change(function(*arguments), *arguments)


def unpadded_forward(x, W, b, stride, padding):
    return conv2d(x, W, b, stride, 0)


def square_forward(x, W, b, stride, padding):
    Ho, Wo = out_shape(x, W.shape[0], W.shape[0], stride, padding)
    y = conv2d(pad(x, 0, 9), W, b, stride, padding)
    return y[:, :Ho, :Wo]


def transposed_picture(x, W, b, stride, padding):
    return conv2d(x.transpose(0, 2, 1, 3), W.transpose(1, 0, 2, 3), b, stride, padding)


def all_seven_assigned(dout, x, W, stride, padding):
    kh, kw, c_in = W.shape[:3]
    dx = pad(np.zeros_like(x), padding, padding)
    for n, r, c, k in np.ndindex(*dout.shape):
        for i in range(kh):
            for j in range(kw):
                for m in range(c_in):
                    dx[n, r * stride + i, c * stride + j, m] = dout[n, r, c, k] * W[i, j, m, k]
    right = conv2d_backward(dout, x, W, stride, padding)
    return dx[:, padding : padding + x.shape[1], padding : padding + x.shape[2]], *right[1:]


def padded_dx(dout, x, W, stride, padding):
    dx, dW, db = conv2d_backward(dout, pad(x, padding, padding), W, stride, 0)
    return dx, dW, db


def in_place_backward(dout, x, W, stride, padding):
    gradients = conv2d_backward(dout, x, W, stride, padding)
    dout *= 2
    return gradients


def only(part):
    """Gradients in which only dout[part] counts."""

    def backward(dout, x, W, stride, padding):
        kept = np.zeros_like(dout)
        kept[part] = dout[part]
        right, wrong = (conv2d_backward(d, x, W, stride, padding) for d in (dout, kept))
        return right[0], *wrong[1:]

    return backward


def with_gradients(change):
    return changed(conv2d_backward, lambda g, dout, x, W, stride, padding: change(*g, dout, W))


CONV2D = {
    "not written": (lambda *a: None, conv2d_backward, "forward(x, W, b, stride, padding) is not written yet"),
    "backward not written": (conv2d, lambda *a: (None, None, None), "dx is not written yet"),
    "no bias": (lambda x, W, b, s, p: conv2d(x, W, 0, s, p), conv2d_backward, "the bias b is missing"),
    "bias in the inner loop": (
        lambda x, W, b, s, p: conv2d(x, W, W[..., 0].size * b, s, p),
        conv2d_backward,
        "once for every weight",
    ),
    "flipped": (lambda x, W, *a: conv2d(x, W[::-1, ::-1], *a), conv2d_backward, "the kernel is flipped"),
    "kernel transposed": (
        lambda x, W, *a: conv2d(x, W.transpose(1, 0, 2, 3) if W.shape[0] == W.shape[1] else W, *a),
        conv2d_backward,
        "W's rows and columns are exchanged",
    ),
    "channels transposed": (
        lambda x, W, *a: conv2d(x, W.transpose(0, 1, 3, 2) if W.shape[2] == W.shape[3] else W, *a),
        conv2d_backward,
        "W's channels are exchanged",
    ),
    "last channel": (lambda x, W, *a: conv2d(x[..., -1:], W[:, :, -1:], *a), conv2d_backward, "only the last channel"),
    "first channel": (lambda x, W, *a: conv2d(x[..., :1], W[:, :, :1], *a), conv2d_backward, "only the first channel"),
    "padding above only": (lambda *a: conv2d(*a, before=2 * a[4]), conv2d_backward, "padding is on one side only"),
    "padding below only": (lambda *a: conv2d(*a, before=0), conv2d_backward, "padding is on one side only"),
    "no padding": (unpadded_forward, conv2d_backward, "the padding is missing"),
    "half the padding": (
        lambda x, W, b, s, p: conv2d(pad(x, p, 0), W, b, s, 0),
        conv2d_backward,
        "one side only: count it twice",
    ),
    "no stride": (lambda x, W, b, s, p: conv2d(x, W, b, 1, p), conv2d_backward, "the stride is ignored"),
    "height for width": (square_forward, conv2d_backward, "the kernel's height is used for its width"),
    "H and W exchanged": (transposed_picture, conv2d_backward, "the picture's rows and columns are exchanged"),
    "no + 1": (
        changed(conv2d, lambda y, *a: y[:, :-1, :-1]),
        conv2d_backward,
        "one is missing in each direction",
    ),
    "channels first": (
        changed(conv2d, lambda y, *a: y.transpose(0, 3, 1, 2)),
        conv2d_backward,
        "channels must come last",
    ),
    "= for += over windows": (conv2d, lambda *a: conv2d_backward(*a, assign=True), "+= instead of ="),
    "= for += in seven loops": (conv2d, all_seven_assigned, "+= instead of ="),
    "backward flipped": (
        conv2d,
        changed(
            conv2d_backward,
            lambda g, dout, x, W, s, p: (conv2d_backward(dout, x, W[::-1, ::-1], s, p)[0], *g[1:]),
        ),
        "the kernel is flipped",
    ),
    "backward without stride": (conv2d, lambda *a: conv2d_backward(*a, step=1), "dx is wrong: the stride is ignored"),
    "dW without stride": (
        conv2d,
        changed(conv2d_backward, lambda g, *a: (g[0], conv2d_backward(*a, step=1)[1], g[2])),
        "dW is wrong: the stride is ignored",
    ),
    "backward padded above only": (
        conv2d,
        changed(conv2d_backward, lambda g, *a: (g[0], conv2d_backward(*a, before=2 * a[4])[1], g[2])),
        "dW is wrong: the padding is on one side only",
    ),
    "cut from the wrong end": (
        conv2d,
        changed(padded_dx, lambda g, dout, x, W, s, p: (g[0][:, : x.shape[1], : x.shape[2]], *g[1:])),
        "cut off at the wrong end",
    ),
    "padding left on": (conv2d, padded_dx, "cut the padding off again"),
    "padding cut on one side": (
        conv2d,
        changed(padded_dx, lambda g, dout, x, W, s, p: (g[0][:, p:, p:], *g[1:])),
        "the padding is cut off on one side only",
    ),
    "dW over N": (conv2d, with_gradients(lambda dx, dW, db, d, W: (dx, dW / len(d), db)), "dW is wrong: it is divided"),
    "dW flipped": (
        conv2d,
        with_gradients(lambda dx, dW, db, d, W: (dx, dW[::-1, ::-1], db)),
        "dW is wrong: it is flip",
    ),
    "last position": (conv2d, only((-1, -1, -1)), "only the last position counts"),
    "last picture": (conv2d, only(-1), "only the last picture counts"),
    "db over N": (conv2d, with_gradients(lambda dx, dW, db, d, W: (dx, dW, db / len(d))), "db is wrong: it is divided"),
    "db mean": (conv2d, with_gradients(lambda dx, dW, db, d, W: (dx, dW, d.mean((0, 1, 2)))), "it is the mean"),
    "db over pictures": (conv2d, with_gradients(lambda dx, dW, db, d, W: (dx, dW, d.sum(0))), "sum(axis=(0, 1, 2))"),
    "db over positions": (conv2d, with_gradients(lambda dx, dW, db, d, W: (dx, dW, d.sum((1, 2)))), "axis=(0, 1, 2)"),
    "dout changed": (conv2d, in_place_backward, "changes its argument dout in place"),
    "two results": (conv2d, lambda *a: conv2d_backward(*a)[:2], "must return (dx, dW, db)"),
    "something else": (changed(conv2d, lambda y, *a: y * 1.5), conv2d_backward, "y is wrong at [0"),
}


@pytest.mark.parametrize("mistake", CONV2D)
def test_conv2d_says_what_is_wrong(mistake):
    forward, backward, words = CONV2D[mistake]
    with pytest.raises(CheckFailed, match=re.escape(words)):
        checks.conv2d(forward, backward)


def reordered(*axes):
    """Rows of patches whose (position, kernel row, kernel column, channel) come in another order."""

    def change(rows, x, kernel_size, stride, padding):
        return rows.reshape(len(rows), *kernel_size, x.shape[3]).transpose(0, *axes).reshape(rows.shape)

    return changed(im2col, change)


def position_first(rows, x, kernel_size, stride, padding):
    return rows.reshape(len(x), -1, rows.shape[1]).transpose(1, 0, 2).reshape(rows.shape)


def one_sided(x, kernel_size, stride, padding):
    return im2col(pad(x, 2 * padding, 0), kernel_size, stride, 0)


def square_im2col(x, kernel_size, stride, padding):
    (kh, kw), C = kernel_size, x.shape[3]
    square = im2col(pad(x, 0, 2), (kh, max(kh, kw)), stride, padding)
    N, (Ho, Wo) = len(x), out_shape(pad(x, 0, 2), kh, max(kh, kw), stride, padding)
    right = out_shape(x, kh, kh, stride, padding)
    rows = square.reshape(N, Ho, Wo, kh, max(kh, kw), C)[:, : right[0], : right[1], :, :kw]
    return rows.reshape(N * right[0] * right[1], -1)


def padded_with_edges(x, kernel_size, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="edge")
    return im2col(x, kernel_size, stride, 0)


def averaged(rows, *rest):
    return col2im(rows, *rest) / np.maximum(col2im(np.ones_like(rows), *rest), 1)


def uncut(rows, x_shape, kernel_size, stride, padding):
    N, H, width, C = x_shape
    return col2im(rows, (N, H + 2 * padding, width + 2 * padding, C), kernel_size, stride, 0)


def cut_wrongly(rows, x_shape, kernel_size, stride, padding):
    return uncut(rows, x_shape, kernel_size, stride, padding)[:, 2 * padding :, 2 * padding :]


def windows_assigned(rows, x_shape, kernel_size, stride, padding):
    (N, H, width, C), (kh, kw) = x_shape, kernel_size
    x, rows = pad(np.zeros(x_shape), padding, padding), iter(rows)
    for n in range(N):
        for r in range((H + 2 * padding - kh) // stride + 1):
            for c in range((width + 2 * padding - kw) // stride + 1):
                x[n, r * stride : r * stride + kh, c * stride : c * stride + kw] = next(rows).reshape(kh, kw, C)
    return x[:, padding : padding + H, padding : padding + width]


def scaled_rows(rows, *rest):
    rows *= 2
    return col2im(rows, *rest) / 2


def raising(*arguments):
    raise NotImplementedError


IM2COL = {
    "not written": (raising, col2im, "im2col(x, kernel_size, stride, padding) is not written yet"),
    "col2im not written": (
        im2col,
        lambda *a: ...,
        "col2im(rows, x_shape, kernel_size, stride, padding) is not written",
    ),
    "channels first": (reordered(3, 1, 2), col2im, "channels come first in a row"),
    "rows and columns": (reordered(2, 1, 3), col2im, "rows and columns are exchanged within a row"),
    "position first": (changed(im2col, position_first), col2im, "the picture must come first"),
    "flipped": (
        changed(im2col, lambda rows, x, k, s, p: rows.reshape(len(rows), -1, x.shape[3])[:, ::-1].reshape(rows.shape)),
        col2im,
        "the patches are flipped",
    ),
    "transposed": (changed(im2col, lambda rows, *a: rows.T), col2im, "it seems to be transposed"),
    "one side": (one_sided, col2im, "the padding is on one side only"),
    "edges": (padded_with_edges, col2im, "the padding must be zeros"),
    "no padding": (lambda x, k, s, p: im2col(x, k, s, 0), col2im, "the padding is missing"),
    "no stride": (lambda x, k, s, p: im2col(x, k, 1, p), col2im, "the stride is ignored"),
    "height for width": (square_im2col, col2im, "the kernel's height is used for its width"),
    "= for += by place": (im2col, lambda *a: col2im(*a, add=False), "+= instead of ="),
    "= for += by window": (im2col, windows_assigned, "+= instead of ="),
    "averaged": (im2col, averaged, "overlapping patches are averaged"),
    "uncut": (im2col, uncut, "cut the padding off again"),
    "cut on one side": (im2col, changed(uncut, lambda x, r, xs, k, s, p: x[:, p:, p:]), "cut off on one side only"),
    "cut at the wrong end": (im2col, cut_wrongly, "cut off at the wrong end"),
    "rows changed": (im2col, scaled_rows, "changes its argument rows in place"),
}


@pytest.mark.parametrize("mistake", IM2COL)
def test_im2col_says_what_is_wrong(mistake):
    forward, backward, words = IM2COL[mistake]
    with pytest.raises(CheckFailed, match=re.escape(words)):
        checks.im2col(forward, backward)


def step_for_size(x, size, stride):
    Ho, Wo = out_shape(x, size, size, stride, 0)
    return max_pool2d(x, min(size, stride), stride)[:, :Ho, :Wo]


def rounded_up(x, size, stride):
    extra = (-(x.shape[1] - size) % stride, -(x.shape[2] - size) % stride)
    return max_pool2d(np.pad(x, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), constant_values=-9), size, stride)


def by_place_assigned(dout, x, size, stride):
    dx = np.zeros_like(x)
    for i in range(size):
        for j in range(size):
            for n, r, c, k in np.ndindex(*dout.shape):
                window = x[n, r * stride : r * stride + size, c * stride : c * stride + size, k]
                dx[n, r * stride + i, c * stride + j, k] = dout[n, r, c, k] * (window.argmax() == i * size + j)
    return dx


def block_assigned(dout, x, size, stride):
    dx = np.zeros_like(x)
    for n, r, c, k in np.ndindex(*dout.shape):
        place = n, slice(r * stride, r * stride + size), slice(c * stride, c * stride + size), k
        first = (np.arange(size * size) == x[place].argmax()).reshape(size, size)
        dx[place] = dout[n, r, c, k] * first
    return dx


def changed_dout(dout, *rest):
    dx = max_pool2d_backward(dout, *rest)
    dout[...] = 0
    return dx


MAX_POOL2D = {
    "not written": (raising, max_pool2d_backward, "forward(x, size, stride) is not written yet"),
    "backward not written": (max_pool2d, raising, "backward(dout, x, size, stride) is not written yet"),
    "mean": (lambda *a: max_pool2d(*a, function=np.mean), max_pool2d_backward, "it is the mean"),
    "minimum": (lambda *a: max_pool2d(*a, function=np.min), max_pool2d_backward, "it is the minimum"),
    "absolute": (lambda x, *a: max_pool2d(abs(x), *a), max_pool2d_backward, "the maximum of |x|"),
    "from 0": (lambda x, *a: max_pool2d(np.maximum(x, 0), *a), max_pool2d_backward, "negative values are lost"),
    "over channels": (
        changed(max_pool2d, lambda y, *a: np.repeat(y.max(axis=3, keepdims=True), y.shape[3], axis=3)),
        max_pool2d_backward,
        "each channel has its own maximum",
    ),
    "stride ignored": (lambda x, size, s: max_pool2d(x, size, size), max_pool2d_backward, "y has shape"),
    "stride 1": (lambda x, size, s: max_pool2d(x, size, 1), max_pool2d_backward, "the stride is ignored"),
    "stride for size": (step_for_size, max_pool2d_backward, "the window is as wide as the stride"),
    "rounded up": (rounded_up, max_pool2d_backward, "round down"),
    "every tie": (max_pool2d, pool_every_tie, "every one of them gets the gradient"),
    "ties share": (max_pool2d, lambda *a: pool_every_tie(*a, share=True), "they share the gradient"),
    "last of ties": (max_pool2d, lambda *a: max_pool2d_backward(*a, last=True), "the last gets the gradient"),
    "= for += of winners": (max_pool2d, lambda *a: max_pool2d_backward(*a, add=False), "+= instead of ="),
    "= for += of windows": (max_pool2d, block_assigned, "+= instead of ="),
    "= for += by place": (max_pool2d, by_place_assigned, "+= instead of ="),
    "= and every tie": (max_pool2d, lambda *a: pool_every_tie(*a, add=False), "+= instead of ="),
    "no chain rule": (max_pool2d, lambda d, *a: max_pool2d_backward(np.ones_like(d), *a), "the chain rule is missing"),
    "shared out": (
        max_pool2d,
        lambda d, x, size, stride: reference.avg_pool2d_backward(d, x, size, stride),
        "it is shared out over the window",
    ),
    "backward without stride": (max_pool2d, lambda *a: max_pool2d_backward(*a, step=1), "the stride is ignored"),
    "dout changed": (max_pool2d, changed_dout, "changes its argument dout in place"),
}


@pytest.mark.parametrize("mistake", MAX_POOL2D)
def test_max_pool2d_says_what_is_wrong(mistake):
    forward, backward, words = MAX_POOL2D[mistake]
    with pytest.raises(CheckFailed, match=re.escape(words)):
        checks.max_pool2d(forward, backward)
