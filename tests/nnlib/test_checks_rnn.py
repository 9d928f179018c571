"""Each classic mistake of back-propagation through time, planted in a student's functions: the check must say it."""

import re

import numpy as np
import pytest

from nnlib import CheckFailed, checks, reference

STUDENT = """
def forward(x, h0, Wx, Wh, b):
    h, state = np.zeros((*x.shape[:2], len(b))), h0
    for t in range(x.shape[1]):
        state = np.tanh(x[:, t] @ Wx + state @ Wh + b)
        h[:, t] = state
    return h

def backward(dh, x, h0, h, Wx, Wh):
    T = x.shape[1]
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(len(Wh))
    carry = np.zeros_like(h0)
    for t in reversed(range(T)):
        before = h[:, t - 1] if t > 0 else h0
        dstate = dh[:, t] + carry
        dz = dstate * (1 - h[:, t] ** 2)
        dx[:, t] = dz @ Wx.T
        dWx += x[:, t].T @ dz
        dWh += before.T @ dz
        db += dz.sum(axis=0)
        carry = dz @ Wh.T
    dh0 = carry
    return dx, dh0, dWx, dWh, db
"""


def student(*changes):
    """The student's two functions with lines changed: (old, new) pairs of text."""
    source = STUDENT
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    names = {"np": np}
    exec(source, names)
    return names["forward"], names["backward"]


@pytest.mark.parametrize("functions", [student(), (reference.rnn, reference.rnn_backward)])
def test_right_functions_pass(functions):
    checks.rnn(*functions)


def test_float32_passes():
    forward, backward = student()
    checks.rnn(
        lambda *arrays: forward(*[array.astype(np.float32) for array in arrays]).astype(np.float32),
        lambda *arrays: [g.astype(np.float32) for g in backward(*[array.astype(np.float32) for array in arrays])],
    )


BUGS = {
    # forward
    "bias forgotten": ("state @ Wh + b)", "state @ Wh)", "the bias b is missing"),
    "starts from zeros": ("len(b))), h0", "len(b))), 0 * h0", "it must start from h0"),
    "Wh transposed": ("state @ Wh +", "state @ Wh.T +", "Wh is transposed"),
    "no recurrence": (" + state @ Wh", "", "h_(t-1) Wh is missing"),
    "always from h0": ("state @ Wh +", "h0 @ Wh +", "every step starts from h0"),
    "no tanh": ("np.tanh(x[:, t] @ Wx + state @ Wh + b)", "x[:, t] @ Wx + state @ Wh + b", "tanh is missing"),
    "tanh at the end": (
        ("np.tanh(x[:, t] @ Wx + state @ Wh + b)", "x[:, t] @ Wx + state @ Wh + b"),
        ("return h\n\ndef", "return np.tanh(h)\n\ndef"),
        "applied to what is returned only",
    ),
    "relu": ("np.tanh(x[:, t] @ Wx + state @ Wh + b)", "np.maximum(x[:, t] @ Wx + state @ Wh + b, 0)", "ReLU"),
    "read backwards": ("    for t in range(x.shape[1]):", "    for t in range(x.shape[1])[::-1]:", "read backwards"),
    "read backwards, in order": (
        "        h[:, t] = state",
        "        h[:, t] = state\n    if True:\n        h = forward2(x[:, ::-1], h0, Wx, Wh, b)",
        "read backwards",
    ),
    "one state": ("return h\n\ndef", "return state\n\ndef", "return the states of all steps"),
    "h0 as well": ("return h\n\ndef", "return np.concatenate([h0[:, None], h], 1)\n\ndef", "one state too many"),
    "time first": ("return h\n\ndef", "return h.swapaxes(0, 1)\n\ndef", "samples come first"),
    "last state everywhere": ("return h\n\ndef", "return np.repeat(h[:, -1:], h.shape[1], 1)\n\ndef", "keep a copy"),
    # backward: time
    "carry dropped": ("dstate = dh[:, t] + carry", "dstate = dh[:, t]", "the carry is missing"),
    "carry never set": ("        carry = dz @ Wh.T", "        carry = 0 * carry", "the carry is missing|it is zero"),
    "only the carry": ("dh[:, t] + carry", "(dh[:, t] if t == T - 1 else carry)", "dh is used at the last step alone"),
    "tanh' forgotten": ("dz = dstate * (1 - h[:, t] ** 2)", "dz = dstate", "derivative of tanh is missing"),
    "tanh' not in the carry": ("carry = dz @ Wh.T", "carry = dstate @ Wh.T", "the carry skips the derivative of tanh"),
    "tanh' of h": ("1 - h[:, t] ** 2", "1 - np.tanh(h[:, t]) ** 2", "h is tanh(z) already"),
    "square forgotten": ("1 - h[:, t] ** 2", "1 - h[:, t]", "the square is missing"),
    "tanh' one step off": ("1 - h[:, t] ** 2", "1 - before ** 2", "taken at h_(t-1)"),
    "Wh not transposed": ("carry = dz @ Wh.T", "carry = dz @ Wh", "Wh must be transposed"),
    "last step dropped": ("reversed(range(T))", "reversed(range(T - 1))", "the last step is left out"),
    "first step dropped": ("reversed(range(T))", "reversed(range(1, T))", "the first step is left out"),
    "carry piles up": ("carry = dz @ Wh.T", "carry = carry + dz @ Wh.T", "added again"),
    # backward: what comes out
    "dx reversed": ("dx[:, t] =", "dx[:, T - 1 - t] =", "in reverse order"),
    "dx with Wx": ("dx[:, t] = dz @ Wx.T", "dx[:, t] = dz @ (Wx if Wx.shape[0] == len(Wh) else Wx.T)", "Wx must be tr"),
    "dWx of the first step": ("dWx += ", "dWx = ", "only the first step counts"),
    "dWh of the first step": ("dWh += ", "dWh = ", "only the first step counts"),
    "db of the first step": ("db += ", "db = ", "only the first step counts"),
    "dWx of the last step": ("dWx += x[:, t].T @ dz", "dWx += x[:, t].T @ dz * (t == T - 1)", "only the last step"),
    "dWh of the last step": ("dWh += before.T @ dz", "dWh += before.T @ dz * (t == T - 1)", "only the last step"),
    "db of the last step": ("db += dz.sum(axis=0)", "db += dz.sum(axis=0) * (t == T - 1)", "only the last step"),
    "mean over the steps": ("dWh += before.T @ dz", "dWh += before.T @ dz / T", "it is the mean over the steps"),
    "over N": ("dWx += x[:, t].T @ dz", "dWx += x[:, t].T @ dz / len(x)", "divided by the batch size"),
    "dWh with h_t": ("dWh += before.T", "dWh += h[:, t].T", "it pairs dz_t with h_t"),
    "dWh transposed": ("dWh += before.T @ dz", "dWh += dz.T @ before", "it is transposed"),
    "dWh without h0": ("dWh += before.T @ dz", "dWh += before.T @ dz * (t > 0)", "there h_(t-1) is h0"),
    "wraps around": ("h[:, t - 1] if t > 0 else h0", "h[:, t - 1]", "dWh is wrong"),
    "dh0 forgotten": ("dh0 = carry", "dh0 = 0 * carry", "h0 too has a gradient"),
    "dh0 is dz": ("dh0 = carry", "dh0 = dz", "one product further"),
    "dh0 with dh": ("dh0 = carry", "dh0 = carry + dh[:, 0]", "not of h0"),
    "dh0 with Wh": ("dh0 = carry", "dh0 = dz @ Wh", "Wh must be transposed"),
    # whose gradients they are
    "upstream changed": (
        "dstate = dh[:, t] + carry",
        "dh[:, t] += carry; dstate = dh[:, t]",
        "changes its argument dh",
    ),
    "dh0 not returned": (
        "return dx, dh0, dWx, dWh, db",
        "return dx, dWx, dWh, db",
        "must return (dx, dh0, dWx, dWh, db)",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_each_mistake_is_named(name):
    *changes, words = BUGS[name]
    if isinstance(changes[0], str):
        changes = [tuple(changes)]
    forward, backward = student(*changes)
    forward.__globals__["forward2"] = student()[0]
    with pytest.raises(CheckFailed) as failure:
        checks.rnn(forward, backward)
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), str(failure.value)), failure.value


@pytest.mark.parametrize("at_one", [True, False])
@pytest.mark.parametrize("name", [name for name in BUGS if name not in ("dh0 not returned", "upstream changed")])
def test_mistakes_in_sequences_of_one_step_and_of_more(name, at_one):
    """A function that errs at T = 1 alone, or above it alone, is caught as well, where the mistake changes anything."""
    *changes, _ = BUGS[name]
    wrong = student(*([tuple(changes)] if isinstance(changes[0], str) else changes))
    wrong[0].__globals__["forward2"] = student()[0]

    def choose(right, wrong, x_at):
        return lambda *arrays: (wrong if (arrays[x_at].shape[1] == 1) == at_one else right)(*arrays)

    functions = [choose(right, bad, place) for right, bad, place in zip(student(), wrong, (0, 1), strict=True)]
    if at_one and name in HARMLESS_AT_ONE:
        return checks.rnn(*functions)
    with pytest.raises(CheckFailed):
        checks.rnn(*functions)


HARMLESS_AT_ONE = {
    *("always from h0", "tanh at the end", "read backwards", "read backwards, in order"),
    *("last state everywhere", "carry dropped", "only the carry", "carry piles up", "dx reversed"),
    *("dWx of the first step", "dWh of the first step", "db of the first step"),
    *("dWx of the last step", "dWh of the last step", "db of the last step", "mean over the steps"),
}


def test_what_is_not_written_yet_says_so():
    def stub(*arguments):
        raise NotImplementedError

    with pytest.raises(CheckFailed, match=r"forward.* is not written yet"):
        checks.rnn(stub, stub)
    with pytest.raises(CheckFailed, match=r"backward.* is not written yet"):
        checks.rnn(student()[0], stub)


def test_a_state_kept_between_calls_shows():
    kept = []

    def forward(x, h0, Wx, Wh, b):
        start = kept[-1] if kept and kept[-1].shape == h0.shape else h0
        h = reference.rnn(x, start, Wx, Wh, b)
        kept.append(h[:, -1])
        return h

    with pytest.raises(CheckFailed, match="keeps something of the last call"):
        checks.rnn(forward, reference.rnn_backward)


CORNERS = {
    "steps without a gradient from above are skipped": (
        "        dstate = dh[:, t] + carry",
        "        if not dh[:, t].any():\n            continue\n        dstate = dh[:, t] + carry",
    ),
    "tanh that overflows": (
        "state = np.tanh(x[:, t] @ Wx + state @ Wh + b)",
        "z = x[:, t] @ Wx + state @ Wh + b; state = (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z))",
    ),
    "the past cut off after six steps": ("reversed(range(T))", "reversed(range(max(0, T - 6), T))"),
}


@pytest.mark.parametrize("name", CORNERS)
def test_mistakes_that_show_in_hard_cases_alone(name):
    with pytest.raises(CheckFailed):
        checks.rnn(*student(CORNERS[name]))


def test_what_is_remembered_by_its_shape_shows():
    known = {}

    def forward(x, *others):
        return known.setdefault(x.shape, reference.rnn(x, *others))

    with pytest.raises(CheckFailed):
        checks.rnn(forward, reference.rnn_backward)
