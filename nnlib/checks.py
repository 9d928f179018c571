"""Checks for the functions that a student writes: each returns quietly, or raises CheckFailed with what is wrong.

Its one idea: a check knows the classic mistakes. It calls the function on inputs chosen so that each of them shows
(square matrices, exact zeros, huge logits, one sample), and compares a wrong answer with what each mistake would give.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .gradcheck import CheckFailed, numerical_gradient

Hints = Sequence[tuple[np.ndarray, str]]  # (what a mistake would give, the words for it)
SEE = "To see the arrays of this check: import sys; sys.last_value.inputs"


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
        over_n = "it is divided by the batch size: that belongs into the loss, which has done it already"
        hints = [(dout @ W, "W must be transposed here: y = x W, so dx = dout W^T")] if d == m else []
        _compare("backward", "dx", dx, dout @ W.T, inputs, hints)
        hints = [(x.T @ dout / n, over_n)] + ([(dout.T @ x, "it is transposed: dW = x^T dout")] if d == m else [])
        _compare("backward", "dW", dW, x.T @ dout, inputs, hints)
        hints = [(dout.mean(axis=0), over_n), (dout[-1], "only the last sample counts: sum over all of them")]
        _compare("backward", "db", db, dout.sum(axis=0), inputs, hints)


def relu(forward: Callable, backward: Callable) -> None:
    """Check forward(x) -> y and backward(dout, x) -> dx, for x of any shape."""
    rng = np.random.default_rng(0)
    for shape in ((4, 5), (2, 3, 3, 2), (1, 1)):
        x, dout = rng.normal(size=shape), rng.normal(size=shape)
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


def _call(name: str, function: Callable, inputs: dict, outputs: Sequence[str], may_change: Sequence[str] = ()):
    """Call a student's function on copies of the inputs, return its result(s) as arrays, explain whatever is amiss."""
    copies = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in inputs.items()}
    arguments = ", ".join(inputs)
    try:
        with np.errstate(all="ignore"):
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
        return np.asarray(result)
    if not isinstance(result, tuple | list) or len(result) != len(outputs):
        found = f"{len(result)} values" if isinstance(result, tuple | list) else f"one {type(result).__name__}"
        raise CheckFailed(f"{name} must return ({', '.join(outputs)}), it returned {found}", inputs)
    for key, value in zip(outputs, result, strict=True):
        if value is None or value is Ellipsis:
            raise CheckFailed(f"{name}: {key} is not written yet: it is {value}", inputs)
    return tuple(np.asarray(value) for value in result)


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
    gap = np.nan_to_num(np.abs(got - expected), nan=np.inf)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    place = f" at [{', '.join(str(int(i)) for i in worst)}]" if worst else ""
    values = f"{got[worst]:.6g}, expected {expected[worst]:.6g}"
    raise CheckFailed(f"{name}: {what} is wrong{place}: {values}. {SEE}", inputs)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-5, atol=1e-7)
