"""Checks of the Linear layer, ReLU, cross-entropy and Adam: each right function, its mistakes, and what shows them."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .core import OVER_N, Task, each

# ------------------------------------------------------------------------------------------------------------- linear

LINEAR_Y = {"the bias b is missing": lambda x, W, b: x @ W, "W is transposed": lambda x, W, b: x @ W.T + b}
LINEAR_DX = {"W must be transposed here: y = x W, so dx = dout W^T": lambda dout, x, W: dout @ W}
LINEAR_DW = {
    "it is transposed: dW = x^T dout": lambda dout, x, W: dout.T @ x,
    OVER_N: lambda dout, x, W: x.T @ dout / len(x),
}
LINEAR_DB = {
    OVER_N: lambda dout, x, W: dout.mean(axis=0),
    "only the last sample counts: sum over all of them": lambda dout, x, W: dout[-1],
    "it keeps an axis for the samples: dout.sum(axis=0)": lambda dout, x, W: dout.sum(axis=0, keepdims=True),
}
LINEAR_FORWARD = Task("forward", lambda x, W, b: x @ W + b, {"y": LINEAR_Y})
LINEAR_BACKWARD = Task(
    "backward",
    lambda dout, x, W: (dout @ W.T, x.T @ dout, dout.sum(axis=0)),
    {"dx": LINEAR_DX, "dW": LINEAR_DW, "db": LINEAR_DB},
)
LINEAR_SIZES = [(6, 4, 4), (5, 3, 4), (4, 4, 4), (1, 2, 3)]  # N, D, M. W square: transposing it keeps its shape


def linear(forward: Callable, backward: Callable) -> None:
    """Check forward(x, W, b) -> y and backward(dout, x, W) -> (dx, dW, db), with x (N, D), W (D, M), b (M,).

    Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}
    for n, d, m in LINEAR_SIZES[:1] + LINEAR_SIZES:  # one twice: a result that is remembered for a shape is found out
        x, W, b = rng.normal(size=(n, d)), rng.normal(size=(d, m)), rng.normal(size=m)
        LINEAR_FORWARD.check(forward, {"x": x, "W": W, "b": b}, seen)
        seen = {"x": x, "W": W, "b": b}
        x, W, dout = rng.normal(size=(n, d)), rng.normal(size=(d, m)), rng.normal(size=(n, m))
        LINEAR_BACKWARD.check(backward, {"dout": dout, "x": x, "W": W}, seen)  # not the x that forward has seen
    square, single = sum(d == m for n, d, m in LINEAR_SIZES), sum(n == 1 for n, d, m in LINEAR_SIZES)
    tried = f"{len(LINEAR_SIZES)} sizes ({square} with a square W, {single} with a single sample)"
    print(f"checks.linear: forward and backward agree on {tried}")


# --------------------------------------------------------------------------------------------------------------- relu

RELU_Y = {"it is |x|": np.abs, "it is x itself": lambda x: x}
RELU_DX = {
    "at x = 0 the gradient must be 0: use x > 0, not x >= 0": lambda dout, x: dout * (x >= 0),
    "the mask looks at dout: it must look at x, the input of the forward pass": lambda dout, x: dout * (dout > 0),
    "negative gradients are lost: the mask must look at x alone": lambda dout, x: dout * (dout > 0) * (x > 0),
    "it is the local derivative alone: the chain rule multiplies it by dout": lambda dout, x: x > 0,
    "dout is multiplied by relu(x): multiply it by the derivative, 1 where x > 0": lambda dout, x: dout * x.clip(0),
    "it is dout unchanged: no gradient may pass where x <= 0": lambda dout, x: dout,
    "the mask is the wrong way round: the gradient passes where x > 0": lambda dout, x: dout * (x <= 0),
}
RELU_FORWARD = Task("forward", lambda x: np.maximum(x, 0), {"y": RELU_Y})
RELU_BACKWARD = Task("backward", lambda dout, x: dout * (x > 0), {"dx": RELU_DX})
RELU_ARRAYS = [((4, 5), 1.0), ((2, 3, 3, 2), 1.0), ((1, 1), 1.0), ((4, 5), 1e3), ((4, 5), 1e-3)]  # shape, scale


def relu(forward: Callable, backward: Callable) -> None:
    """Check forward(x) -> y and backward(dout, x) -> dx, for x of any shape.

    Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen, zeros = np.random.default_rng(0), {}, 0
    for shape, scale in RELU_ARRAYS:
        (x, x_backward), dout = scale * rng.normal(size=(2, *shape)), rng.normal(size=shape)
        if x.size > 1:  # max(x, 0) has a corner at 0; the course takes 0 as its derivative
            x.flat[::4] = x_backward.flat[::4] = 0.0
            dout.flat[:2] = 1.0, -1.0
        RELU_FORWARD.check(forward, {"x": x}, seen)
        seen = {"x": x}
        RELU_BACKWARD.check(backward, {"dout": dout, "x": x_backward}, seen)  # not the x that forward has seen
        zeros += np.any(x == 0)
    print(f"checks.relu: forward and backward agree on {len(RELU_ARRAYS)} arrays ({zeros} with exact zeros)")


# ------------------------------------------------------------------------------------------------------ cross-entropy


def _cross_entropy(logits, labels):
    """Return the loss and dlogits, the stable way."""
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    n, k = logits.shape
    return -log_p[np.arange(n), labels].mean(), (np.exp(log_p) - np.eye(k)[labels]) / n


def _by_logarithm_of(shift, guard=0.0):
    """Return cross-entropy by the logarithm of probabilities + guard, with shift(logits) subtracted before exp."""

    def function(logits, labels):
        exponentials, (n, k) = np.exp(logits - shift(logits)), logits.shape
        p = exponentials / exponentials.sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(n), labels] + guard).mean(), (p - np.eye(k)[labels]) / n

    return function


def _row_maximum(logits):
    return logits.max(axis=1, keepdims=True)


def _loss(change):
    """Return a function that gives change(loss, N) of the right loss."""
    return lambda logits, labels: change(_cross_entropy(logits, labels)[0], len(labels))


def _dlogits(change):
    """Return a function that gives change(dlogits, labels, N, K) of the right dlogits."""
    return lambda logits, labels: change(_cross_entropy(logits, labels)[1], labels, *logits.shape)


GUARDS = [0.0, *(10.0**-n for n in (5, 6, 7, 8, 9, 10, 12, 15, 16, 20, 30))]
FLOOR = "a probability underflowed to 0 before its logarithm was taken: compute log p as z_label - log(sum(exp z))"
SHIFT = "rows of very different size break it: subtract each row's own maximum, not one maximum of the whole array"
HUGE = "exp overflows or underflows: subtract the maximum of each row from its logits before exp"
COLUMNS = "1 is subtracted in whole columns: it belongs to one entry of each row, dlogits[np.arange(N), labels]"
BOTH = {
    FLOOR: [_by_logarithm_of(_row_maximum, guard) for guard in GUARDS],
    SHIFT: _by_logarithm_of(np.max),
    HUGE: _by_logarithm_of(np.zeros_like),
}
LOSS = {
    "it is the sum over the batch: divide it by N": _loss(lambda loss, n: loss * n),
    "it is divided by N twice": _loss(lambda loss, n: loss / n),
    "its sign is wrong: log p is negative, the loss is -log p": _loss(lambda loss, n: -loss),
    "it is in bits: use the natural logarithm": _loss(lambda loss, n: loss / np.log(2)),
}
DLOGITS = {
    "it is not divided by N, although the loss is the mean over the batch": _dlogits(lambda d, _, n, k: d * n),
    "it is divided by N twice": _dlogits(lambda d, _, n, k: d / n),
    "it is divided by the number of classes too: the mean goes over the batch alone": _dlogits(
        lambda d, _, n, k: d / k
    ),
    "its sign is wrong: it is softmax minus one-hot": _dlogits(lambda d, _, n, k: -d),
    "the one-hot labels are not subtracted": _dlogits(lambda d, labels, n, k: d + np.eye(k)[labels] / n),
    COLUMNS: _dlogits(lambda d, labels, n, k: d + (np.eye(k)[labels] - np.isin(np.arange(k), labels)) / n),
}
CROSS_ENTROPY = Task("cross_entropy", _cross_entropy, {"all": BOTH, "loss": LOSS, "dlogits": DLOGITS})


def cross_entropy(function: Callable) -> None:
    """Check function(logits, labels) -> (loss, dlogits): a mean over the batch; logits (N, K), integer labels (N,).

    Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}
    batches = {
        "ordinary logits": rng.normal(size=(5, 4)),
        "others of that shape": rng.normal(size=(5, 4)),
        "one sample": rng.normal(size=(1, 3)),
        "two classes": rng.normal(size=(6, 2)),
        "logits near 10,000": rng.normal(size=(4, 5)) + 1e4,
        "rows of very different size": np.array([[9e3, 9e3 - 1, 8e3], [0.0, 1.0, 2.0], [-9e3, -9e3, 1 - 9e3]]),
        "logits from -10,000 to 10,000": rng.normal(size=(4, 5)) * 1e4,
    }
    for case, logits in batches.items():
        inputs = {"logits": logits, "labels": (np.arange(len(logits)) * 2 + 1) % logits.shape[1]}
        CROSS_ENTROPY.check(function, inputs, seen, case=f" ({case})")
        seen = inputs
    single, large = sum(len(z) == 1 for z in batches.values()), sum(abs(z).max() > 1e3 for z in batches.values())
    tried = f"{len(batches)} batches ({single} of a single sample, {large} with logits beyond 1,000)"
    print(f"checks.cross_entropy: loss and dlogits agree on {tried}")


# --------------------------------------------------------------------------------------------------------------- adam


def _adam(param, grad, m, v, t, lr, beta1, beta2, eps, new_m=None, new_v=None, direction=None):
    """Return the new param, m and v. new_m, new_v, direction: formulas that mistakes replace."""
    m = new_m(m, grad, beta1) if new_m else beta1 * m + (1 - beta1) * grad
    v = new_v(v, grad, beta2) if new_v else beta2 * v + (1 - beta2) * grad**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    step = direction(m, v, m_hat, v_hat, eps) if direction else m_hat / (np.sqrt(v_hat) + eps)
    return param - lr * step, m, v


def _corrected_returned(param, grad, m, v, t, lr, beta1, beta2, eps):
    param, m, v = _adam(param, grad, m, v, t, lr, beta1, beta2, eps)
    return param, m / (1 - beta1**t), v / (1 - beta2**t)


DIRECTIONS = {
    "the bias correction is missing": lambda m, v, m_hat, v_hat, eps: m / (np.sqrt(v) + eps),
    "m is not bias-corrected: divide it by 1 - beta1^t": lambda m, v, m_hat, v_hat, eps: m / (np.sqrt(v_hat) + eps),
    "v is not bias-corrected: divide by 1 - beta2^t": lambda m, v, m_hat, v_hat, eps: m_hat / (np.sqrt(v) + eps),
    "eps is inside the root: it belongs outside": lambda m, v, m_hat, v_hat, eps: m_hat / np.sqrt(v_hat + eps),
    "the root of v is missing": lambda m, v, m_hat, v_hat, eps: m_hat / (v_hat + eps),
    "it climbs: the step goes against the gradient": lambda m, v, m_hat, v_hat, eps: -m_hat / (np.sqrt(v_hat) + eps),
}
NEW_M = {
    "grad must be weighted by 1 - beta1": lambda m, grad, beta1: beta1 * m + grad,
    "beta1 and 1 - beta1 are exchanged": lambda m, grad, beta1: (1 - beta1) * m + beta1 * grad,
}
NEW_V = {
    "grad must be squared": lambda v, grad, beta2: beta2 * v + (1 - beta2) * grad,
    "grad^2 must be weighted by 1 - beta2": lambda v, grad, beta2: beta2 * v + grad**2,
    "beta2 and 1 - beta2 are exchanged": lambda v, grad, beta2: (1 - beta2) * v + beta2 * grad**2,
}
SEVERAL = {
    **each(DIRECTIONS, lambda formula: partial(_adam, direction=formula)),
    **each(NEW_M, lambda formula: partial(_adam, new_m=formula)),
    **each(NEW_V, lambda formula: partial(_adam, new_v=formula)),
    "it is the corrected mean: return the uncorrected one, the next step starts from it": _corrected_returned,
    "t is counted one too far: the first step has t = 1": lambda p, g, m, v, t, *how: _adam(p, g, m, v, t + 1, *how),
}
PARAM = {"it is plain gradient descent": lambda param, grad, m, v, t, lr, *rest: param - lr * grad}
ADAM = Task(
    "adam",
    _adam,
    {"all": SEVERAL, "param": PARAM, "m": {}, "v": {}},
    first=("m", "v"),
    may_change=("param", "m", "v"),
)
ADAM_SETTINGS = [(0.1, 0.9, 0.999, 1e-8), (0.01, 0.5, 0.8, 1e-2), (0.3, 0.0, 0.9, 1e-3)]  # lr, beta1, beta2, eps
ADAM_SHAPES = [(3, 2), (3, 2), (4,)]


def adam(step: Callable) -> None:
    """Check step(param, grad, m, v, t, lr, beta1, beta2, eps) -> (param, m, v), with t = 1 at the first step.

    It may change param, m and v in place, but not grad. Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen, steps = np.random.default_rng(0), {}, 0
    for lr, beta1, beta2, eps in ADAM_SETTINGS:
        how = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
        states = [dict(zip(("param", "m", "v"), abs(rng.normal(size=(3, *s))), strict=True)) for s in ADAM_SHAPES]
        for t in (7, 1, 2, 3, 10):  # a training that goes on, then one that begins
            for index, state in enumerate(states):  # in turn: nothing of one may leak into the next
                if t == 1:
                    state |= {"m": np.zeros(ADAM_SHAPES[index]), "v": np.zeros(ADAM_SHAPES[index])}
                grad = rng.normal(size=ADAM_SHAPES[index]) * 0.1 ** (index + 1)
                inputs = {"param": state["param"], "grad": grad, "m": state["m"], "v": state["v"], "t": t}
                state |= ADAM.check(step, inputs | how, seen, case=f", step t = {t}")
                seen, steps = inputs, steps + 1
    settings = f"{len(ADAM_SETTINGS)} settings, {len(ADAM_SHAPES)} parameters in turn"
    print(f"checks.adam: param, m and v agree on {steps} steps ({settings})")
