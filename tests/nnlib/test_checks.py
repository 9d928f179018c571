"""Each classic mistake, planted in a student's function: the check must report it, and in words that say what it is."""

import itertools

import numpy as np
import pytest

from nnlib import CheckFailed, checks


def linear_forward(x, W, b):
    return x @ W + b


def linear_backward(dout, x, W):
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def relu_forward(x):
    return np.maximum(x, 0)


def relu_backward(dout, x):
    return dout * (x > 0)


def loss(logits, labels):
    n = len(labels)
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    dlogits = np.exp(log_p)
    dlogits[np.arange(n), labels] -= 1
    return -log_p[np.arange(n), labels].mean(), dlogits / n


def adam_step(param, grad, m, v, t, lr, beta1, beta2, eps):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    return param - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def adam_in_place(param, grad, m, v, t, lr, beta1, beta2, eps):
    m += (1 - beta1) * (grad - m)
    v += (1 - beta2) * (grad**2 - v)
    param -= lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return param, m, v


def test_right_functions_pass():
    assert checks.linear(linear_forward, linear_backward) is None
    assert checks.relu(relu_forward, relu_backward) is None
    assert checks.cross_entropy(loss) is None
    assert checks.adam(adam_step) is None
    assert checks.adam(adam_in_place) is None


def in_place_relu(x):
    x[x < 0] = 0
    return x


def in_place_relu_backward(dout, x):
    dout[x <= 0] = 0
    return dout


def unshifted(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(labels)), labels]).mean(), loss(logits, labels)[1]


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def global_maximum(logits, labels):
    return unshifted(logits - logits.max(), labels)


def log_of_probability(logits, labels):
    return unshifted(logits - logits.max(axis=1, keepdims=True), labels)


def guarded_log(logits, labels):
    p = softmax(logits - logits.max(axis=1, keepdims=True))
    return -np.log(p[np.arange(len(labels)), labels] + 1e-9).mean(), loss(logits, labels)[1]


def clipped_log(logits, labels):
    p = softmax(logits - logits.max(axis=1, keepdims=True)).clip(1e-12, 1)
    return -np.log(p[np.arange(len(labels)), labels]).mean(), loss(logits, labels)[1]


def with_loss(change):
    return lambda logits, labels: change(*loss(logits, labels), len(labels))


def whole_columns(logits, labels):
    p = softmax(logits - logits.max(axis=1, keepdims=True))
    p[:, labels] -= 1
    return loss(logits, labels)[0], p / len(labels)


leaking_state = {}
counter = itertools.count(1)


def adam_with_shared_state(param, grad, m, v, t, lr, beta1, beta2, eps):
    m, v = leaking_state.get(grad.shape, (m, v))
    result = adam_step(param, grad, m, v, t, lr, beta1, beta2, eps)
    leaking_state[grad.shape] = result[1:]
    return result


def adam_variant(bias1=True, bias2=True, inside=False, late=0):
    def step(param, grad, m, v, t, lr, beta1, beta2, eps):
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        m_hat = m / (1 - beta1 ** (t + late)) if bias1 else m
        v_hat = v / (1 - beta2 ** (t + late)) if bias2 else v
        root = np.sqrt(v_hat + eps) if inside else np.sqrt(v_hat) + eps
        return param - lr * m_hat / root, m, v

    return step


def corrected_returned(*arguments):
    param, m, v = adam_step(*arguments)
    t, beta1 = arguments[4], arguments[6]
    return param, m / (1 - beta1**t), v


def changes_grad(param, grad, *rest):
    result = adam_step(param, grad, *rest)
    grad *= 0
    return result


BUGS = {
    # name: (check, forward or function, backward or None, what the message must say)
    "W transposed, forward": (
        checks.linear,
        lambda x, W, b: x @ (W if W.shape[0] != W.shape[1] else W.T) + b,
        linear_backward,
        "W is transposed",
    ),
    "W transposed, backward": (
        checks.linear,
        linear_forward,
        lambda dout, x, W: (dout @ (W if W.shape[0] == W.shape[1] else W.T), x.T @ dout, dout.sum(0)),
        "dx is wrong: W must be transposed",
    ),
    "dW transposed": (
        checks.linear,
        linear_forward,
        lambda dout, x, W: (dout @ W.T, dout.T @ x, dout.sum(0)),
        "dW is wrong: it is transposed",
    ),
    "dW transposed where it is not square": (
        checks.linear,
        linear_forward,
        lambda dout, x, W: (dout @ W.T, dout.T @ x if W.shape[0] != W.shape[1] else x.T @ dout, dout.sum(0)),
        r"dW has shape \(4, 3\), expected \(3, 4\): it is transposed",
    ),
    "a gradient of 0 for ever": (
        checks.relu,
        relu_forward,
        lambda dout, x: np.zeros_like(x),
        "dx is wrong: it is 0 everywhere",
    ),
    "whole columns": (checks.cross_entropy, whole_columns, None, "subtracted in whole columns"),
    "dx forgotten": (
        checks.linear,
        linear_forward,
        lambda dout, x, W: (x.T @ dout, dout.sum(0)),
        r"must return \(dx, dW, db\), it returned 2 values",
    ),
    "an exception": (
        checks.linear,
        lambda x, W, b: x @ b @ W,
        linear_backward,
        r"forward\(x, W, b\) raised ValueError",
    ),
    "relu in place": (checks.relu, in_place_relu, relu_backward, "forward changes its argument x in place"),
    "dout in place": (checks.relu, relu_forward, in_place_relu_backward, "backward changes its argument dout in place"),
    "not divided by N": (
        checks.cross_entropy,
        with_loss(lambda a, d, n: (a, d * n)),
        None,
        "dlogits .* not divided by N",
    ),
    "divided twice": (checks.cross_entropy, with_loss(lambda a, d, n: (a, d / n)), None, "divided by N twice"),
    "loss a sum": (checks.cross_entropy, with_loss(lambda a, d, n: (a * n, d)), None, "it is the sum over the batch"),
    "wrong sign": (checks.cross_entropy, with_loss(lambda a, d, n: (a, -d)), None, "its sign is wrong"),
    "loss of the wrong sign": (checks.cross_entropy, with_loss(lambda a, d, n: (-a, d)), None, "its sign is wrong"),
    "in bits": (checks.cross_entropy, with_loss(lambda a, d, n: (a / np.log(2), d)), None, "natural logarithm"),
    "no row maximum": (checks.cross_entropy, unshifted, None, "subtract the maximum of each row"),
    "a global maximum": (checks.cross_entropy, global_maximum, None, "each row's own maximum"),
    "log of a zero probability": (checks.cross_entropy, log_of_probability, None, "a probability underflowed to 0"),
    "log(p + 1e-9)": (checks.cross_entropy, guarded_log, None, "a probability underflowed to 0"),
    "log of a clipped p": (checks.cross_entropy, clipped_log, None, "a probability underflowed to 0"),
    "no bias correction": (checks.adam, adam_variant(False, False), None, "the bias correction is missing"),
    "m not corrected": (checks.adam, adam_variant(bias1=False), None, "m is not bias-corrected"),
    "v not corrected": (checks.adam, adam_variant(bias2=False), None, "v is not bias-corrected"),
    "eps inside the root": (checks.adam, adam_variant(inside=True), None, "eps is inside the root"),
    "t one too far": (checks.adam, adam_variant(late=1), None, "t is counted one too far"),
    "corrected m returned": (checks.adam, corrected_returned, None, "return the uncorrected one"),
    "shared state": (checks.adam, adam_with_shared_state, None, "adam gives another result when called again"),
    "a tuple of one": (checks.relu, lambda x: (relu_forward(x), x), relu_backward, "must return one array"),
    "clipped": (checks.relu, lambda x: x.clip(0, 6), relu_backward, "forward: y is wrong"),
    "own step counter": (checks.adam, lambda *a: adam_step(*a[:4], next(counter), *a[5:]), None, "when called again"),
    "grad in place": (checks.adam, changes_grad, None, "adam changes its argument grad in place"),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs(name):
    check, first, second, message = BUGS[name]
    with pytest.raises(CheckFailed, match=message):
        check(first) if second is None else check(first, second)


def test_gradient_checks_any_pair_of_functions(rng):
    a, b = rng.normal(size=(3, 2)), rng.normal(size=2)
    assert checks.gradient(np.sin, lambda dout, x: dout * np.cos(x), a) is None
    assert checks.gradient(lambda a, b: a * b, lambda dout, a, b: (dout * b, (dout * a).sum(axis=0)), a, b) is None
    with pytest.raises(CheckFailed, match=r"backward: gradient 1 is wrong at \["):
        checks.gradient(np.sin, lambda dout, x: dout * np.sin(x), a)
    with pytest.raises(CheckFailed, match=r"gradient 2 has shape \(3, 2\), expected \(2,\)"):
        checks.gradient(lambda a, b: a * b, lambda dout, a, b: (dout * b, dout * a), a, b)
    with pytest.raises(CheckFailed, match="is not written yet"):
        checks.gradient(np.sin, lambda dout, x: None, a)


def stub(*arguments):
    raise NotImplementedError("write me")


@pytest.mark.parametrize("unwritten", [stub, lambda *arguments: None, lambda *arguments: ...])
def test_a_stub_is_not_written_yet(unwritten):
    for call in (
        lambda: checks.linear(unwritten, linear_backward),
        lambda: checks.linear(linear_forward, unwritten),
        lambda: checks.relu(unwritten, unwritten),
        lambda: checks.cross_entropy(unwritten),
        lambda: checks.adam(unwritten),
    ):
        with pytest.raises(CheckFailed, match="is not written yet"):
            call()


def test_a_failure_carries_the_arrays_that_show_it():
    with pytest.raises(CheckFailed, match=r"sys\.last_value\.inputs") as failure:
        checks.relu(relu_forward, lambda dout, x: dout * (x >= 0))
    dout, x = failure.value.inputs["dout"], failure.value.inputs["x"]
    assert (dout * (x >= 0) != dout * (x > 0)).any()
