"""Checks for the functions that a student writes: each returns quietly, or raises CheckFailed with what is wrong.

Its one idea: a check knows the classic mistakes. It calls the function on inputs chosen so that each of them shows
(square matrices, exact zeros, huge logits, one sample), and compares a wrong answer with what each mistake would give.
"""

from collections.abc import Callable, Sequence

import numpy as np

from . import conv
from .gradcheck import CheckFailed, numerical_gradient

Hints = Sequence[tuple[np.ndarray, str]]  # (what a mistake would give, the words for it)
SEE = "To see the arrays of this check: import sys; sys.last_value.inputs"
ONE_SIDE = "the padding is on one side only: it belongs on all four"
OVER_N = "it is divided by the batch size: that belongs into the loss, which has done it already"
OVERLAP = "where windows overlap, their gradients must add up: += instead of ="


def linear(forward: Callable, backward: Callable) -> None:
    """Check forward(x, W, b) -> y and backward(dout, x, W) -> (dx, dW, db), with x (N, D), W (D, M), b (M,)."""
    rng = np.random.default_rng(0)
    for n, d, m in ((5, 3, 4), (6, 4, 4), (4, 4, 4), (1, 2, 3)):  # W square: transposing it does not change its shape
        x, W, b, dout = (rng.normal(size=shape) for shape in ((n, d), (d, m), (m,), (n, m)))
        inputs = {"x": x, "W": W, "b": b}
        y = _call("forward", forward, inputs, ("y",))
        hints = [(x @ W, "the bias b is missing")]
        if d == m:
            hints.append((x @ W.T + b, "W is transposed"))
        _compare("forward", "y", y, x @ W + b, inputs, hints)

        inputs = {"dout": dout, "x": x, "W": W}
        dx, dW, db = _call("backward", backward, inputs, ("dx", "dW", "db"))
        hints = [(dout @ W, "W must be transposed here: y = x W, so dx = dout W^T")] if d == m else []
        _compare("backward", "dx", dx, dout @ W.T, inputs, hints)
        hints = [(x.T @ dout / n, OVER_N)] + ([(dout.T @ x, "it is transposed: dW = x^T dout")] if d == m else [])
        _compare("backward", "dW", dW, x.T @ dout, inputs, hints)
        hints = [(dout.mean(axis=0), OVER_N), (dout[-1], "only the last sample counts: sum over all of them")]
        _compare("backward", "db", db, dout.sum(axis=0), inputs, hints)


def relu(forward: Callable, backward: Callable) -> None:
    """Check forward(x) -> y and backward(dout, x) -> dx, for x of any shape."""
    rng = np.random.default_rng(0)
    for shape, scale in (((4, 5), 1.0), ((2, 3, 3, 2), 1.0), ((1, 1), 1.0), ((4, 5), 1e3), ((4, 5), 1e-3)):
        x, dout = scale * rng.normal(size=shape), rng.normal(size=shape)
        if x.size > 1:
            x.flat[::4] = 0.0  # max(x, 0) has a corner here; the course takes 0 as its derivative
            dout.flat[:2] = 1.0, -1.0
        y = _call("forward", forward, {"x": x}, ("y",))
        _compare("forward", "y", y, np.maximum(x, 0), {"x": x}, [(np.abs(x), "it is |x|"), (x, "it is x itself")])

        inputs = {"dout": dout, "x": x}
        dx = _call("backward", backward, inputs, ("dx",))
        hints = [
            (dout * (x >= 0), "at x = 0 the gradient must be 0: use x > 0, not x >= 0"),
            (np.maximum(dout, 0), "the mask looks at dout: it must look at x, the input of the forward pass"),
            (dout * (dout > 0) * (x > 0), "negative gradients are lost: the mask must look at x alone"),
            (x > 0, "it is the local derivative alone: the chain rule multiplies it by dout"),
            (dout * np.maximum(x, 0), "dout is multiplied by relu(x): multiply it by the derivative, 1 where x > 0"),
            (dout, "it is dout unchanged: no gradient may pass where x <= 0"),
        ]
        _compare("backward", "dx", dx, dout * (x > 0), inputs, hints)


def cross_entropy(function: Callable) -> None:
    """Check function(logits, labels) -> (loss, dlogits): a mean over the batch; logits (N, K), integer labels (N,)."""
    rng = np.random.default_rng(0)
    huge = "exp overflows or underflows: subtract the maximum of each row from its logits before exp"
    shift = "rows of very different size break it: subtract each row's own maximum, not one maximum of the whole array"
    floor = "a probability underflowed to 0 before its logarithm was taken: compute log p as z_label - log(sum(exp z))"
    cases = [
        ("ordinary logits", rng.normal(size=(5, 4)), "nan or infinite on ordinary logits"),
        ("one sample", rng.normal(size=(1, 3)), "nan or infinite on one sample"),
        ("two classes", rng.normal(size=(6, 2)), "nan or infinite with two classes"),
        ("logits near 10,000", rng.normal(size=(4, 5)) + 1e4, huge),
        ("rows of very different size", np.array([[9e3, 9e3 - 1, 8e3], [0.0, 1.0, 2.0], [-9e3, -9e3, 1 - 9e3]]), shift),
        ("logits from -10,000 to 10,000", rng.normal(size=(4, 5)) * 1e4, floor),
    ]
    for case, logits, not_finite in cases:
        n, k = logits.shape
        labels = (np.arange(n) * 2 + 1) % k
        z = logits - logits.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        onehot = np.eye(k)[labels]
        losses = -log_p[np.arange(n), labels]
        inputs = {"logits": logits, "labels": labels}
        loss, dlogits = _call("cross_entropy", function, inputs, ("loss", "dlogits"))
        if not np.all(np.isfinite(loss)) or not np.all(np.isfinite(dlogits)):
            raise CheckFailed(f"cross_entropy: the result is not finite for {case}: {not_finite}. {SEE}", inputs)
        hints = [
            (losses.sum(), "it is the sum over the batch: divide it by N"),
            (losses.mean() / n, "it is divided by N twice"),
            (-losses.mean(), "its sign is wrong: log p is negative, the loss is -log p"),
            (losses.mean() / np.log(2), "it is in bits: use the natural logarithm"),
        ]
        p = np.exp(log_p)
        for eps in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16, 1e-20, 1e-30):
            wrong = -np.log(p[np.arange(n), labels] + eps).mean()
            clipped = -np.log(np.maximum(p[np.arange(n), labels], eps)).mean()
            hints += [(wrong, floor), (clipped, floor)]
        name = f"cross_entropy ({case})"
        _compare(name, "loss", loss, losses.mean(), inputs, hints)
        hints = [
            (p - onehot, "it is not divided by N, although the loss is the mean over the batch"),
            ((p - onehot) / n**2, "it is divided by N twice"),
            ((onehot - p) / n, "its sign is wrong: it is softmax minus one-hot"),
            (p / n, "the one-hot labels are not subtracted"),
            ((p - onehot) / (n * k), "it is divided by the number of classes too: the mean goes over the batch alone"),
        ]
        _compare(name, "dlogits", dlogits, (p - onehot) / n, inputs, hints)


def adam(step: Callable) -> None:
    """Check step(param, grad, m, v, t, lr, beta1, beta2, eps) -> (param, m, v), with t = 1 at the first step.

    It may change param, m and v in place, but not grad.
    """
    rng = np.random.default_rng(0)
    for lr, beta1, beta2, eps in ((0.1, 0.9, 0.999, 1e-8), (0.01, 0.5, 0.8, 1e-2), (0.3, 0.0, 0.9, 1e-3)):
        states = [[rng.normal(size=shape), np.zeros(shape), np.zeros(shape)] for shape in ((3, 2), (3, 2), (4,))]
        for t in (1, 2, 3, 10):
            for index, (param, m, v) in enumerate(states):  # in turn: nothing of one may leak into the next
                grad = rng.normal(size=param.shape) * 0.1 ** (index + 1)
                inputs = {"param": param, "grad": grad, "m": m, "v": v}
                inputs |= {"t": t, "lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
                results = _call("adam", step, inputs, ("param", "m", "v"), may_change=("param", "m", "v"))
                new_m, new_v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
                m_hat, v_hat = new_m / (1 - beta1**t), new_v / (1 - beta2**t)
                root = np.sqrt(v_hat)
                expected = param - lr * m_hat / (root + eps)
                late = new_m / (1 - beta1 ** (t + 1)) / (np.sqrt(new_v / (1 - beta2 ** (t + 1))) + eps)
                hints = {
                    "param": [
                        (param - lr * new_m / (np.sqrt(new_v) + eps), "the bias correction is missing"),
                        (param - lr * new_m / (root + eps), "m is not bias-corrected: divide it by 1 - beta1^t"),
                        (param - lr * m_hat / (np.sqrt(new_v) + eps), "v is not bias-corrected: divide by 1 - beta2^t"),
                        (param - lr * m_hat / np.sqrt(v_hat + eps), "eps is inside the root: it belongs outside"),
                        (param - lr * m_hat / (v_hat + eps), "the root of v is missing"),
                        (param - lr * late, "t is counted one too far: the first step has t = 1"),
                        (param + lr * m_hat / (root + eps), "it climbs: the step goes against the gradient"),
                        (param - lr * grad, "it is plain gradient descent"),
                    ],
                    "m": [
                        (m_hat, "it is the corrected mean: return the uncorrected one, the next step starts from it"),
                        (beta1 * m + grad, "grad must be weighted by 1 - beta1"),
                        ((1 - beta1) * m + beta1 * grad, "beta1 and 1 - beta1 are exchanged"),
                    ],
                    "v": [
                        (v_hat, "it is the corrected mean: return the uncorrected one, the next step starts from it"),
                        (beta2 * v + (1 - beta2) * grad, "grad must be squared"),
                        (beta2 * v + grad**2, "grad^2 must be weighted by 1 - beta2"),
                        ((1 - beta2) * v + beta2 * grad**2, "beta2 and 1 - beta2 are exchanged"),
                    ],
                }
                # m and v first: an error in them explains an error in param
                for name, got, right in zip("mv", results[1:], (new_m, new_v), strict=True):
                    _compare(f"adam, step t = {t}", name, got, right, inputs, hints[name])
                _compare(f"adam, step t = {t}", "param", results[0], expected, inputs, hints["param"])
                states[index] = [expected, new_m, new_v]


def gradient(forward: Callable, backward: Callable, *inputs: np.ndarray) -> None:
    """Check any pair forward(*inputs) -> y, backward(dout, *inputs) -> their gradients, against numerical gradients.

    inputs: small float64 arrays. With one input, backward returns one array; with several, a tuple in their order.
    """
    named = {f"input {i + 1}": x for i, x in enumerate(inputs)}
    y = _call("forward", forward, named, ("y",))
    dout = np.random.default_rng(0).normal(size=y.shape)
    outputs = [f"gradient {i + 1}" for i in range(len(inputs))]
    results = _call("backward", backward, {"dout": dout} | named, outputs)
    for i, (name, got) in enumerate(zip(outputs, results if len(inputs) > 1 else [results], strict=True)):

        def total(x, i=i):
            return float((forward(*inputs[:i], x, *inputs[i + 1 :]) * dout).sum())

        _compare("backward", name, got, numerical_gradient(total, inputs[i].copy()), {"dout": dout} | named)


def conv2d(forward: Callable, backward: Callable) -> None:
    """Check a convolution: forward(x, W, b, stride, padding) -> y; backward(dout, x, W, stride, padding) -> dx, dW, db.

    x: (N, H, W, C_in), not padded yet; W: (kh, kw, C_in, C_out), which need not be square; b: (C_out,); stride and
    padding: ints, for both directions. y and dout: (N, Ho, Wo, C_out), with Ho = (H + 2*padding - kh) // stride + 1.
    """
    rng = np.random.default_rng(0)
    for shape, kernel, c_out, stride, padding in (
        ((1, 4, 4, 1), (3, 3), 1, 1, 0),
        ((2, 5, 6, 2), (2, 3), 3, 1, 0),
        ((2, 5, 4, 3), (3, 3), 3, 1, 1),  # as many channels out as in: exchanging them does not change W's shape
        ((2, 6, 7, 2), (3, 2), 3, 2, 1),  # stride 2, and a row and a column that no window reaches
        ((1, 4, 5, 2), (1, 2), 1, 3, 2),  # a stride that leaves gaps, more padding than kernel
        ((2, 7, 7, 1), (3, 3), 2, 2, 0),
        ((2, 3, 3, 2), (1, 1), 3, 1, 0),
    ):
        x, W, b = rng.normal(size=shape), rng.normal(size=(*kernel, shape[3], c_out)), rng.normal(size=c_out)
        inputs = {"x": x, "W": W, "b": b, "stride": stride, "padding": padding}
        how, where = (b, stride, padding), (shape, kernel, stride, padding)
        right, flipped = _conv2d(x, W, *how), W[::-1, ::-1]
        hints = [
            (right - b, "the bias b is missing"),
            (
                right + (W[..., 0].size - 1) * b,
                "the bias is added once for every weight: once for every output is right",
            ),
            (right.swapaxes(1, 2), "the picture's rows and columns are exchanged"),
            (_conv2d(x, flipped, *how), "the kernel is flipped: W[0, 0] belongs to the upper left pixel"),
            (_conv2d(x[..., -1:], W[:, :, -1:], *how), "only the last channel counts: sum over all of them"),
            (_conv2d(x[..., :1], W[:, :, :1], *how), "only the first channel counts: sum over all of them"),
        ]
        hints += [(_conv2d(one_side, W, b, stride, 0), ONE_SIDE) for one_side in _padded_on_one_side(x, padding)]
        if kernel[0] == kernel[1]:
            hints.append((_conv2d(x, W.swapaxes(0, 1), *how), "W's rows and columns are exchanged"))
        if c_out == shape[3]:
            hints.append((_conv2d(x, W.swapaxes(2, 3), *how), "W's channels are exchanged: it is W[i, j, c_in, c_out]"))
        y = _call("forward", forward, inputs, ("y",))
        _explain_output("forward", "y", y, inputs, *where, c_out)
        _compare("forward", "y", y, right, inputs, hints)

        dout = rng.normal(size=right.shape)
        inputs = {"dout": dout, "x": x, "W": W, "stride": stride, "padding": padding}
        got = _call("backward", backward, inputs, ("dx", "dW", "db"))
        d, W2 = dout.reshape(-1, c_out), W.reshape(-1, c_out)
        hints = _col2im_hints(d @ W2.T, *where)
        hints += _col2im_hints(d[:, -1:] @ W2[:, -1:].T, *where)[:2]  # = in all seven loops: the last c_out wins too
        drows = d @ flipped.reshape(-1, c_out).T
        hints.append((conv.col2im(drows, *where), "the kernel is flipped: W[0, 0] belongs to the upper left pixel"))
        if c_out == shape[3]:
            drows = d @ W.swapaxes(2, 3).reshape(-1, c_out).T
            hints.append((conv.col2im(drows, *where), "W's channels are exchanged: it is W[i, j, c_in, c_out]"))
        _explain_input("backward", "dx", got[0], shape, padding, inputs)
        _compare("backward", "dx", got[0], conv.col2im(d @ W2.T, *where), inputs, hints)

        rows = conv.im2col(x, kernel, stride, padding)
        dW, last = (rows.T @ d).reshape(W.shape), slice(-len(rows) // shape[0], None)
        near = _pad(x, padding)[:, : right.shape[1] + kernel[0] - 1, : right.shape[2] + kernel[1] - 1]
        hints = [
            (dW / shape[0], OVER_N),
            (dW[::-1, ::-1], "it is flipped: dW[0, 0] collects the upper left pixel of every patch"),
            ((rows[last].T @ d[last]).reshape(W.shape), "only the last picture counts: sum over all of them"),
            ((rows[-1:].T @ d[-1:]).reshape(W.shape), "only the last position counts: use += for the sum over them"),
            ((conv.im2col(near, kernel).T @ d).reshape(W.shape), "the stride is ignored: patches start `stride` apart"),
        ]
        for one_side in _padded_on_one_side(x, padding):
            hints.append(((conv.im2col(one_side, kernel, stride).T @ d).reshape(W.shape), ONE_SIDE))
        _compare("backward", "dW", got[1], dW, inputs, hints)
        hints = [
            (d.sum(axis=0) / shape[0], OVER_N),
            (d.mean(axis=0), "it is the mean: every output has the same b, so their gradients add up"),
            (d[last].sum(axis=0), "only the last picture counts: sum over all of them"),
            (d[-1], "only the last position counts: use += for the sum over them"),
        ]
        if got[2].shape in {dout.shape[1:], dout.shape[::3]}:
            words = "sum over the pictures and over both directions, dout.sum(axis=(0, 1, 2))"
            raise CheckFailed(f"backward: db has shape {got[2].shape}, expected {b.shape}: {words}. {SEE}", inputs)
        _compare("backward", "db", got[2], d.sum(axis=0), inputs, hints)


def im2col(im2col: Callable, col2im: Callable) -> None:
    """Check that pictures become rows of patches, and that rows are added back to pictures.

    im2col(x, (kh, kw), stride, padding) -> rows; col2im(rows, x_shape, (kh, kw), stride, padding) -> (N, H, W, C).
    x: (N, H, W, C), not padded yet; rows: (N*Ho*Wo, kh*kw*C), ordered by picture, row and column; in a row the patch's
    own rows, columns and channels. stride and padding: ints.
    """
    rng = np.random.default_rng(0)
    for shape, kernel, stride, padding in (
        ((1, 3, 3, 1), (2, 2), 1, 0),
        ((2, 4, 5, 2), (2, 3), 1, 0),
        ((2, 5, 4, 3), (3, 3), 1, 1),
        ((2, 6, 7, 2), (3, 2), 2, 1),
        ((1, 4, 5, 2), (1, 2), 3, 2),
        ((2, 7, 7, 1), (3, 3), 2, 0),
        ((2, 3, 3, 2), (1, 1), 1, 0),
    ):
        x = rng.normal(size=shape)
        inputs = {"x": x, "kernel_size": kernel, "stride": stride, "padding": padding}
        right = conv.im2col(x, kernel, stride, padding)
        patches = right.reshape(shape[0], -1, *kernel, shape[3])
        hints = [
            (patches.transpose(0, 1, 4, 2, 3), "a patch's channels come first in a row: they must come last"),
            (patches.transpose(0, 1, 3, 2, 4), "a patch's rows and columns are exchanged within a row"),
            (patches[:, :, ::-1, ::-1], "the patches are flipped"),
            (patches.transpose(1, 0, 2, 3, 4), "rows are ordered by position first: the picture must come first"),
        ]
        if padding:
            widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
            edges = conv.im2col(np.pad(x, widths, mode="edge"), kernel, stride)
            hints.append((edges, "the padding must be zeros"))
        hints += [(conv.im2col(one_side, kernel, stride), ONE_SIDE) for one_side in _padded_on_one_side(x, padding)]
        hints = [(wrong.reshape(right.shape), words) for wrong, words in hints]
        rows = _call("im2col", im2col, inputs, ("rows",))
        _explain_output("im2col", "rows", rows, inputs, shape, kernel, stride, padding, right.shape[1])
        _compare("im2col", "rows", rows, right, inputs, hints)

        rows = rng.normal(size=right.shape)
        inputs = {"rows": rows, "x_shape": shape, "kernel_size": kernel, "stride": stride, "padding": padding}
        x = _call("col2im", col2im, inputs, ("x",))
        right = conv.col2im(rows, shape, kernel, stride, padding)
        copies = np.maximum(conv.col2im(np.ones_like(rows), shape, kernel, stride, padding), 1)
        hints = [(right / copies, "overlapping patches are averaged: they must be added up")]
        _explain_input("col2im", "x", x, shape, padding, inputs)
        _compare("col2im", "x", x, right, inputs, hints + _col2im_hints(rows, shape, kernel, stride, padding))


def max_pool2d(forward: Callable, backward: Callable) -> None:
    """Check max-pooling: forward(x, size, stride) -> y; backward(dout, x, size, stride) -> dx.

    x: (N, H, W, C); size and stride: ints, so that windows may overlap, or miss the last rows and columns. Where
    values tie in a window, the first of them, from left to right and downwards, gets the gradient.
    """
    rng = np.random.default_rng(0)
    for shape, size, stride, ties in (
        ((1, 4, 4, 1), 2, 2, False),
        ((2, 6, 4, 3), 2, 2, False),
        ((2, 7, 5, 2), 2, 2, False),  # odd sizes: the last row and column are in no window
        ((2, 5, 6, 2), 3, 1, False),  # windows overlap
        ((2, 7, 5, 2), 2, 3, False),  # windows leave gaps
        ((2, 4, 6, 2), 2, 2, True),
        ((2, 7, 5, 2), 3, 2, True),
    ):
        x = 1e6 * (rng.normal(size=shape) - 1.0)  # some windows are all negative, and far from 0
        if ties:
            x = rng.integers(-1, 2, size=shape).astype(np.float64)
        inputs = {"x": x, "size": size, "stride": stride}
        right = _pool(x, size, stride, np.max)
        hints = [
            (np.maximum(right, 0), "negative values are lost: do not let the maximum start at 0"),
            (_pool(x, size, stride, np.mean), "it is the mean of each window"),
            (_pool(x, size, stride, np.min), "it is the minimum of each window"),
            (_pool(np.abs(x), size, stride, np.max), "it is the maximum of |x|"),
            (np.broadcast_to(right.max(axis=3, keepdims=True), right.shape), "each channel has its own maximum"),
        ]
        if stride < size:
            narrow = _pool(x, stride, stride, np.max)[:, : right.shape[1], : right.shape[2]]
            hints.append((narrow, "the window is as wide as the stride: it must be as wide as `size`"))
        y = _call("forward", forward, inputs, ("y",))
        _explain_output("forward", "y", y, inputs, shape, (size, size), stride, 0, shape[3])
        _compare("forward", "y", y, right, inputs, hints)

        dout = rng.normal(size=right.shape)
        inputs = {"dout": dout, "x": x, "size": size, "stride": stride}
        hints = [
            (_unpool(dout, x, size, stride, share), words)
            for share, words in (
                (_all_maxima, "where values tie, every one of them gets the gradient: only the first may"),
                (_shared_maxima, "where values tie, they share the gradient: the first gets all of it"),
                (_last_maximum, "where values tie, the last gets the gradient: the first must"),
                (lambda window: np.full(window.shape, 1 / window.size), "it is shared out over the window"),
            )
        ]
        mask = _unpool(np.ones_like(dout), x, size, stride, _first_maximum)
        hints.append((mask, "the chain rule is missing: multiply by dout"))
        for maximum in (_first_maximum, _all_maxima):
            hints += [(wrong, OVERLAP) for wrong in _unpool_assigned(dout, x, size, stride, maximum)]
        near = np.zeros_like(x)
        reach = right.shape[1] + size - 1, right.shape[2] + size - 1
        if reach[0] <= shape[1] and reach[1] <= shape[2]:
            near[:, : reach[0], : reach[1]] = _unpool(dout, x[:, : reach[0], : reach[1]], size, 1, _first_maximum)
            hints.append((near, "the stride is ignored: windows start `stride` apart"))
        dx = _call("backward", backward, inputs, ("dx",))
        _compare("backward", "dx", dx, _unpool(dout, x, size, stride, _first_maximum), inputs, hints)


def rnn(forward: Callable, backward: Callable) -> None:
    """Check a recurrence h_t = tanh(x_t Wx + h_(t-1) Wh + b) over whole sequences.

    forward(x, h0, Wx, Wh, b) -> h; backward(dh, x, h0, h, Wx, Wh) -> (dx, dh0, dWx, dWh, db).
    x: (N, T, D), h0: (N, H), the state before the first step; Wx: (D, H), Wh: (H, H), b: (H,). h: (N, T, H), the states
    after every step; dh: (N, T, H), what the loss sends to each of them, without what comes back through time.
    """
    rng = np.random.default_rng(0)
    easy = [(2, 3, 3, 4), (3, 4, 4, 4), (1, 6, 1, 2), (4, 4, 2, 1), (1, 1, 2, 3), (3, 1, 3, 3)]
    for number, (n, t, d, hidden) in enumerate([*easy, (5, 9, 2, 3), (2, 3, 3, 4)]):
        x, h0 = rng.normal(size=(n, t, d)), rng.normal(size=(n, hidden))
        hard = number >= len(easy)  # one sample drives tanh to its ends, and the loss looks at the last state alone
        if hard:
            x[0] *= 1000
        Wx, Wh, b = (rng.normal(size=shape) / np.sqrt(shape[0]) for shape in ((d, hidden), (hidden, hidden), (hidden,)))
        inputs = {"x": x, "h0": h0, "Wx": Wx, "Wh": Wh, "b": b}
        right = _states(x, h0, Wx, Wh, b)
        linear = _states(x, h0, Wx, Wh, b, squash=lambda z: z)
        hints = [
            (_states(x, h0, Wx, Wh, 0 * b), "the bias b is missing"),
            (_states(x, 0 * h0, Wx, Wh, b), "it starts from zeros: it must start from h0"),
            (_states(x, h0, Wx, Wh.T, b), "Wh is transposed: it is h_(t-1) Wh"),
            (_states(x, h0, Wx, 0 * Wh, b), "the state before is not used: h_(t-1) Wh is missing"),
            (np.concatenate([_states(x[:, [i]], h0, Wx, Wh, b) for i in range(t)], 1), "every step starts from h0"),
            (linear, "tanh is missing"),
            (np.tanh(linear), "tanh is applied to what is returned only: the next step must start from it too"),
            (_states(x, h0, Wx, Wh, b, squash=lambda z: np.maximum(z, 0)), "it is ReLU, not tanh"),
            (_states(x[:, ::-1], h0, Wx, Wh, b), "the sequence is read backwards"),
            (_states(x[:, ::-1], h0, Wx, Wh, b)[:, ::-1], "the sequence is read backwards"),
            (np.repeat(right[:, -1:], t, 1), "every step holds the last state: keep a copy of each"),
        ]
        if d == hidden:
            hints.append((_states(x, h0, Wx.T, Wh, b), "Wx is transposed: it is x_t Wx"))
        h = _call("forward", forward, inputs, ("h",))
        for shape, words in (
            ((n, hidden), "it is one state: return the states of all steps"),
            ((n, t + 1, hidden), "there is one state too many: leave h0 out"),
            ((t, n, hidden), "samples come first, then steps"),
        ):
            if h.shape == shape != right.shape:
                raise CheckFailed(f"forward: h has shape {h.shape}, expected {right.shape}: {words}. {SEE}", inputs)
        if n == t:
            hints.append((right.swapaxes(0, 1), "samples come first, then steps"))
        _compare("forward", "h", h, right, inputs, hints)

        dh = rng.normal(size=right.shape)
        if hard:
            dh[:, :-1] = 0
        inputs = {"dh": dh, "x": x, "h0": h0, "h": right, "Wx": Wx, "Wh": Wh}
        outputs = ("dx", "dh0", "dWx", "dWh", "db")
        got = dict(zip(outputs, _call("backward", backward, inputs, outputs), strict=True))
        expected, hints = _bptt(*inputs.values()), {name: [] for name in outputs}
        before = np.concatenate([h0[:, None], right[:, :-1]], 1)
        dz = expected["dz"]
        for name, source in (("dWx", x), ("dWh", before), ("db", np.ones((n, t, 1)))):
            parts = np.einsum("nti,ntj->tij", source, dz).reshape(t, *expected[name].shape)
            hints[name] += [
                (parts[0], "only the first step counts: the steps share it, so add up over all of them (+=)"),
                (parts[-1], "only the last step counts: the steps share it, so add up over all of them (+=)"),
                (parts.mean(0), "it is the mean over the steps: they share it, so their gradients add up"),
                (parts.sum(0) / n, OVER_N),
            ]
        dWh = np.einsum("nti,ntj->ij", right, dz)
        hints["dWh"] += [
            (expected["dWh"].T, "it is transposed: h_(t-1)^T dz_t"),
            (dWh, "it pairs dz_t with h_t: the state that went in is h_(t-1)"),
            (np.einsum("nti,ntj->ij", right[:, :-1], dz[:, 1:]), "the first step is missing: there h_(t-1) is h0"),
        ]
        hints["dx"].append((expected["dx"][:, ::-1], "its steps are in reverse order"))
        hints["dh0"] += [
            (0 * h0, "it is zero: h0 too has a gradient, what the first step sends further back"),
            (dz[:, 0], "go one product further, through Wh: the first step's dz Wh^T"),
            (dz[:, 0] @ Wh, "Wh must be transposed: dz Wh^T"),
            (dz[:, 0] @ Wh.T + dh[:, 0], "dh[:, 0] is the gradient of the state after the first step, not of h0"),
            (dz[:, -1] @ Wh.T, "it is what the last step sends back: go on to the first"),
        ]
        if d == hidden:
            hints["dx"].append((dz @ Wx, "Wx must be transposed: dz Wx^T"))
            hints["dWx"].append((expected["dWx"].T, "it is transposed: x_t^T dz_t"))
        for mistake, words in _BPTT_MISTAKES.items():
            wrong = _bptt(*inputs.values(), mistake)
            for name in outputs:
                hints[name].append((wrong[name], words))
        for name in ("dx", "dWx", "dWh", "db", "dh0"):  # dx first: a mistake in the loop itself shows there
            _compare("backward", name, got[name], expected[name], inputs, hints[name])


_BPTT_MISTAKES = {
    "no carry": "the carry is missing: each state gets a gradient from the future too, dz_(t+1) Wh^T",
    "only carry": "dh is used at the last step alone: at each step it is added to the carry",
    "no tanh'": "the derivative of tanh is missing: multiply by 1 - h_t^2",
    "carry without tanh'": "the carry skips the derivative of tanh: it is dz Wh^T, with dz after the derivative",
    "tanh' of h": "h is tanh(z) already: the derivative is 1 - h_t^2, not 1 - tanh(h_t)^2",
    "tanh' not squared": "the derivative of tanh is 1 - h_t^2: the square is missing",
    "tanh' of the state before": "the derivative of tanh is taken at h_(t-1): it is 1 - h_t^2",
    "Wh not transposed": "Wh must be transposed on the way back: the carry is dz Wh^T",
    "last step dropped": "the last step is left out: begin at t = T - 1",
    "first step dropped": "the first step is left out: go on down to t = 0",
    "carry piles up": "the carry of later steps is added again: assign it (=), each step's dz contains it already",
}


def _bptt(dh, x, h0, h, Wx, Wh, mistake=None) -> dict[str, np.ndarray]:
    """Back-propagate through time, without a mistake or with a known one. Returns the gradients, and dz (N, T, H)."""
    T, before, dz = x.shape[1], np.concatenate([h0[:, None], h[:, :-1]], 1), np.zeros_like(h)
    slope = {
        "no tanh'": np.ones_like(h),
        "tanh' of h": 1 - np.tanh(h) ** 2,
        "tanh' not squared": 1 - h,
        "tanh' of the state before": 1 - before**2,
    }.get(mistake, 1 - h**2)
    steps = range(mistake == "first step dropped", T - (mistake == "last step dropped"))
    carry = np.zeros_like(h0)
    for t in reversed(steps):
        dstate = carry if mistake == "only carry" and t < T - 1 else dh[:, t] + carry
        dz[:, t] = dstate * slope[:, t]
        back = (dstate if mistake == "carry without tanh'" else dz[:, t]) @ (
            Wh if mistake == "Wh not transposed" else Wh.T
        )
        if mistake == "carry piles up":
            carry = carry + back
        elif mistake != "no carry" or t == 0:
            carry = back
    dWx, dWh = np.einsum("nti,ntj->ij", x, dz), np.einsum("nti,ntj->ij", before, dz)
    return {"dx": dz @ Wx.T, "dh0": carry, "dWx": dWx, "dWh": dWh, "db": dz.sum(axis=(0, 1)), "dz": dz}


def _states(x, h0, Wx, Wh, b, squash=np.tanh):
    """Return the states (N, T, H) of a recurrence; tests hold it against the loops and against PyTorch."""
    states = [h0]
    for t in range(x.shape[1]):
        states.append(squash(x[:, t] @ Wx + states[-1] @ Wh + b))
    return np.stack(states[1:], axis=1)


def _call(name: str, function: Callable, inputs: dict, outputs: Sequence[str], may_change: Sequence[str] = ()):
    """Call a student's function on copies of the inputs, return its result(s) as arrays, explain whatever is amiss."""
    arguments = ", ".join(inputs)
    try:
        with np.errstate(all="ignore"):
            copies = _copies(inputs)
            result = function(*copies.values())
    except NotImplementedError as error:
        raise CheckFailed(f"{name}({arguments}) is not written yet") from error
    except Exception as error:
        raise CheckFailed(f"{name}({arguments}) raised {type(error).__name__}: {error}. {SEE}", inputs) from error
    if result is None or result is Ellipsis:
        raise CheckFailed(f"{name}({arguments}) is not written yet: it returns {result} (is a `return` missing?)")
    for key, value in inputs.items():
        if key not in may_change and not np.array_equal(copies[key], value):
            raise CheckFailed(f"{name} changes its argument {key} in place, which others still need: copy it", inputs)
    if len(outputs) == 1:
        if isinstance(result, tuple):
            raise CheckFailed(f"{name} must return one array, it returned a tuple of {len(result)}", inputs)
        return _called_again(name, function, inputs, [np.array(result)])[0]
    if not isinstance(result, tuple | list) or len(result) != len(outputs):
        found = f"{len(result)} values" if isinstance(result, tuple | list) else f"one {type(result).__name__}"
        raise CheckFailed(f"{name} must return ({', '.join(outputs)}), it returned {found}", inputs)
    for key, value in zip(outputs, result, strict=True):
        if value is None or value is Ellipsis:
            raise CheckFailed(f"{name}: {key} is not written yet: it is {value}", inputs)
    return _called_again(name, function, inputs, [np.array(value) for value in result])


def _called_again(name: str, function: Callable, inputs: dict, results: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the results if the function gives the same ones again; raise CheckFailed if it remembers the first."""
    with np.errstate(all="ignore"):
        again = function(*_copies(inputs).values())
    for first, second in zip(results, again if len(results) > 1 else [again], strict=True):
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            raise CheckFailed(
                f"{name} gives another result when called again: it keeps something of the last call", inputs
            )
    return tuple(results)


def _copies(inputs: dict) -> dict:
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in inputs.items()}


def _compare(name: str, what: str, got: np.ndarray, expected: np.ndarray, inputs: dict, hints: Hints = ()) -> None:
    """Raise CheckFailed, in the words of the first hint that fits, unless `got` equals `expected`."""
    expected = np.asarray(expected)
    if got.shape != expected.shape:
        hint = ": is it transposed?" if got.shape == expected.shape[::-1] else ""
        raise CheckFailed(f"{name}: {what} has shape {got.shape}, expected {expected.shape}{hint}. {SEE}", inputs)
    if got.dtype.kind not in "fiub":
        raise CheckFailed(f"{name}: {what} holds {got.dtype}, expected real numbers", inputs)
    if _equal(got, expected):
        return
    for wrong, words in hints:
        wrong = np.asarray(wrong)
        if wrong.shape == got.shape and _equal(got, wrong) and not _equal(wrong, expected):
            raise CheckFailed(f"{name}: {what} is wrong: {words}. {SEE}", inputs)
    gap = np.nan_to_num(np.abs(got - expected) - 1e-5 * np.abs(expected), nan=np.inf)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    place = f" at [{', '.join(str(int(i)) for i in worst)}]" if worst else ""
    values = f"{got[worst]:.6g}, expected {expected[worst]:.6g}"
    raise CheckFailed(f"{name}: {what} is wrong{place}: {values}. {SEE}", inputs)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether they are equal but for rounding, be it that of float32."""
    return np.allclose(a, b, rtol=1e-5, atol=1e-7 * max(1.0, np.abs(b).max(initial=0)))


def _conv2d(x, W, b, stride, padding):
    """Convolve by `nnlib.conv`, which the tests hold against PyTorch."""
    y = conv.im2col(x, W.shape[:2], stride, padding) @ W.reshape(-1, W.shape[3]) + b
    return y.reshape(len(x), *_positions(x.shape, W.shape[:2], stride, padding), W.shape[3])


def _positions(x_shape, kernel, stride, padding) -> tuple[int, int]:
    """Return (Ho, Wo)."""
    return tuple((size + 2 * padding - k) // stride + 1 for size, k in zip(x_shape[1:3], kernel, strict=True))


def _pad(x, above, below=None):
    """Add rows of zeros above and below, and as many columns to the left and to the right."""
    width = (above, above if below is None else below)
    return np.pad(x, ((0, 0), width, width, (0, 0)))


def _padded_on_one_side(x, padding) -> list:
    return [_pad(x, 2 * padding, 0), _pad(x, 0, 2 * padding)] if padding else []


def _explain_output(name, what, got, inputs, x_shape, kernel, stride, padding, last) -> None:
    """Raise CheckFailed if `got` has the shape (N, Ho, Wo, last), or (N*Ho*Wo, last), that a known mistake gives."""
    (N, h, w, _), (kh, kw) = x_shape, kernel
    right = _positions(x_shape, kernel, stride, padding)
    if got.shape in {(N, *right, last), (N * right[0] * right[1], last)}:
        return
    H, W, late = h + 2 * padding, w + 2 * padding, stride - 1
    mistakes = [
        ((h, w), (kh, kw), stride, "the padding is missing"),
        ((h + padding, w + padding), (kh, kw), stride, "the padding is on one side only: count it twice"),
        ((H, W), (kh, kw), 1, "the stride is ignored"),
        ((H, W), (kh, kh), stride, "the kernel's height is used for its width"),
        ((H, W), (kw, kw), stride, "the kernel's width is used for its height"),
        ((H, W), (kw, kh), stride, "the kernel's height and width are exchanged"),
        ((H, H), (kh, kw), stride, "the picture's height is used for its width"),
        ((W, H), (kh, kw), stride, "the picture's height and width are exchanged"),
        (
            (H - stride, W - stride),
            (kh, kw),
            stride,
            "one is missing in each direction: (H + 2*padding - kh) // stride + 1",
        ),
        ((H + late, W + late), (kh, kw), stride, "round down: no window may stick out of the picture"),
    ]
    for size, kernel_size, step, words in mistakes:
        Ho, Wo = _positions((N, *size), kernel_size, step, 0)
        if got.shape in {(N, Ho, Wo, last), (N * Ho * Wo, last)}:
            found = f"{what} has shape {got.shape}, but there are {right[0]} by {right[1]} positions"
            raise CheckFailed(f"{name}: {found}: {words}. {SEE}", inputs)
    if got.shape == (N, last, *right):
        raise CheckFailed(f"{name}: {what} has shape {got.shape}: channels must come last. {SEE}", inputs)


def _explain_input(name, what, got, x_shape, padding, inputs) -> None:
    """Raise CheckFailed if `got`, a gradient for pictures of x_shape, still has (some of) their padding."""
    N, H, W, C = x_shape
    for extra, words in (
        (2 * padding, "cut the padding off again"),
        (padding, "the padding is cut off on one side only"),
    ):
        if padding and got.shape == (N, H + extra, W + extra, C):
            raise CheckFailed(f"{name}: {what} has shape {got.shape}, expected {x_shape}: {words}. {SEE}", inputs)


def _col2im_hints(rows, x_shape, kernel, stride, padding) -> list:
    """Return what mistakes on the way from rows back to pictures give: the right rows (N*Ho*Wo, kh*kw*C) are given."""
    N, H, W, C = x_shape
    kh, kw = kernel
    Ho, Wo = _positions(x_shape, kernel, stride, padding)
    padded_shape = (N, H + 2 * padding, W + 2 * padding, C)
    whole, near, by_window, by_tap = (np.zeros(padded_shape) for _ in range(4))
    inside = slice(padding, padding + H), slice(padding, padding + W)
    whole[...] = conv.col2im(rows, padded_shape, kernel, stride)
    near[:, : Ho + kh - 1, : Wo + kw - 1] = conv.col2im(rows, (N, Ho + kh - 1, Wo + kw - 1, C), kernel)
    patches = rows.reshape(N, Ho, Wo, kh, kw, C)
    for row, column in np.ndindex(Ho, Wo):
        by_window[:, row * stride : row * stride + kh, column * stride : column * stride + kw] = patches[:, row, column]
    for i, j in np.ndindex(kh, kw):
        by_tap[:, i : i + Ho * stride : stride, j : j + Wo * stride : stride] = patches[:, :, :, i, j]
    return [
        (by_window[:, *inside], OVERLAP),
        (by_tap[:, *inside], OVERLAP),
        (near[:, *inside], "the stride is ignored: patches start `stride` apart"),
        (whole[:, :H, :W], "the padding is cut off at the wrong end: `padding` rows and columns on each side"),
        (whole[:, 2 * padding :, 2 * padding :], "the padding is cut off at the wrong end: `padding` on each side"),
    ]


def _windows(x, size, stride):
    """Yield (index, place) of every window of x: its index in the output, and the slices that cut it out of x."""
    Ho, Wo = _positions(x.shape, (size, size), stride, 0)
    for n, row, column, c in np.ndindex(len(x), Ho, Wo, x.shape[3]):
        top, left = row * stride, column * stride
        yield (n, row, column, c), (n, slice(top, top + size), slice(left, left + size), c)


def _pool(x, size, stride, function):
    """Apply function(window) -> number to every window."""
    y = np.zeros((len(x), *_positions(x.shape, (size, size), stride, 0), x.shape[3]))
    for index, place in _windows(x, size, stride):
        y[index] = function(x[place])
    return y


def _unpool(dout, x, size, stride, share):
    """Send each gradient back, times share(window) -> (size, size)."""
    dx = np.zeros_like(x)
    for index, place in _windows(x, size, stride):
        dx[place] += dout[index] * share(x[place])
    return dx


def _unpool_assigned(dout, x, size, stride, share) -> list:
    """Return what `_unpool` gives with = for +=: for whole windows, for winners alone, and place by place."""
    by_window, by_winner, by_place = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for index, place in _windows(x, size, stride):
        won = share(x[place])
        by_window[place] = dout[index] * won
        by_winner[place][won > 0] = dout[index]
    for i, j in np.ndindex(size, size):
        for index, place in _windows(x, size, stride):
            by_place[place][i, j] = dout[index] * share(x[place])[i, j]
    return [by_window, by_winner, by_place]


def _all_maxima(window):
    return (window == window.max()).astype(float)


def _shared_maxima(window):
    return _all_maxima(window) / _all_maxima(window).sum()


def _first_maximum(window):
    return (np.arange(window.size) == window.argmax()).reshape(window.shape).astype(float)


def _last_maximum(window):
    return _first_maximum(window[::-1, ::-1])[::-1, ::-1]
