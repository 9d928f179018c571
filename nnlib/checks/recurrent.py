"""The check of a recurrence over whole sequences: the right functions, their mistakes, and what shows them."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .core import OVER_N, Task, each

# ------------------------------------------------------------------------------------------------------------ forward


def _states(x, h0, Wx, Wh, b, squash=np.tanh):
    """Return the states (N, T, H) of a recurrence, step by step."""
    states = [h0]
    for t in range(x.shape[1]):
        states.append(squash(x[:, t] @ Wx + states[-1] @ Wh + b))
    return np.stack(states[1:], axis=1)


def _after(h0, h):
    """Return states h (N, T, H) with the initial state before them."""
    return np.concatenate([h0[:, None], h], axis=1)


def _always_from_h0(x, *rest):
    return np.concatenate([_states(x[:, [t]], *rest) for t in range(x.shape[1])], axis=1)


def _last_everywhere(x, *rest):
    return np.repeat(_states(x, *rest)[:, -1:], x.shape[1], axis=1)


RNN_H = {
    "the bias b is missing": lambda x, h0, Wx, Wh, b: _states(x, h0, Wx, Wh, 0 * b),
    "it starts from zeros: it must start from h0": lambda x, h0, Wx, Wh, b: _states(x, 0 * h0, Wx, Wh, b),
    "Wx is transposed: it is x_t Wx": lambda x, h0, Wx, Wh, b: _states(x, h0, Wx.T, Wh, b),
    "Wh is transposed: it is h_(t-1) Wh": lambda x, h0, Wx, Wh, b: _states(x, h0, Wx, Wh.T, b),
    "the state before is not used: h_(t-1) Wh is missing": lambda x, h0, Wx, Wh, b: _states(x, h0, Wx, 0 * Wh, b),
    "every step starts from h0": _always_from_h0,
    "tanh is missing": partial(_states, squash=lambda z: z),
    "tanh is applied to what is returned only: the next step must start from it too": (
        lambda *arguments: np.tanh(_states(*arguments, squash=lambda z: z))
    ),
    "it is ReLU, not tanh": partial(_states, squash=lambda z: np.maximum(z, 0)),
    "the sequence is read backwards": [
        lambda x, *rest: _states(x[:, ::-1], *rest),
        lambda x, *rest: _states(x[:, ::-1], *rest)[:, ::-1],
    ],
    "every step holds the last state: keep a copy of each": _last_everywhere,
    "it is one state: return the states of all steps": lambda *arguments: _states(*arguments)[:, -1],
    "there is one state too many: leave h0 out": lambda x, h0, *rest: _after(h0, _states(x, h0, *rest)),
    "samples come first, then steps": lambda *arguments: _states(*arguments).swapaxes(0, 1),
}
RNN_FORWARD = Task("forward", _states, {"h": RNN_H})

# ----------------------------------------------------------------------------------------------------------- backward


def _back_through_time(
    dh, x, h0, h, Wx, Wh,
    *,
    steps=lambda T: range(T),
    arriving=lambda dh, carry, t: dh[:, t] + carry,
    slope=lambda h, before: 1 - h**2,
    send=lambda carry, arrived, dz, Wh: dz @ Wh.T,
):  # fmt: skip
    """Return dz (N, T, H), the gradient before each tanh, and dh0. The keywords are what mistakes replace.

    steps: those that are walked, backwards. arriving: the gradient of a state. slope: the derivative of tanh. send:
    the next carry.
    """
    dz, carry, before = np.zeros_like(h), np.zeros_like(h0), _after(h0, h[:, :-1])
    for t in reversed(steps(x.shape[1])):
        arrived = arriving(dh, carry, t)
        dz[:, t] = arrived * slope(h[:, t], before[:, t])
        carry = send(carry, arrived, dz[:, t], Wh)
    return dz, carry


def _gradients(dh, x, h0, h, Wx, Wh, counted=lambda dz: dz, **replaced):
    """Return dx, dh0, dWx, dWh, db. counted: what of dz counts for the weights, which all steps share."""
    dz, dh0 = _back_through_time(dh, x, h0, h, Wx, Wh, **replaced)
    kept = counted(dz)
    return dz @ Wx.T, dh0, _share(x, kept), _share(_after(h0, h[:, :-1]), kept), kept.sum(axis=(0, 1))


def _share(inputs, dz):
    """Return the gradient of a weight: a sum over samples and steps."""
    return np.einsum("nti,ntj->ij", inputs, dz)


def _dz(*arguments):
    return _back_through_time(*arguments)[0]


def _only(step):
    """Return a function that keeps one step of dz (N, T, H)."""
    return lambda dz: dz * (np.arange(dz.shape[1]) == step % dz.shape[1])[:, None]


REPLACED = {  # words: what they replace
    "the carry is missing: each state gets a gradient from the future too, dz_(t+1) Wh^T": (
        dict(arriving=lambda dh, carry, t: dh[:, t])
    ),
    "dh is used at the last step alone: at each step it is added to the carry": (
        dict(arriving=lambda dh, carry, t: carry if t < dh.shape[1] - 1 else dh[:, t])
    ),
    "the derivative of tanh is missing: multiply by 1 - h_t^2": dict(slope=lambda h, before: 1),
    "the carry skips the derivative of tanh: it is dz Wh^T, with dz after the derivative": (
        dict(send=lambda carry, arrived, dz, Wh: arrived @ Wh.T)
    ),
    "h is tanh(z) already: the derivative is 1 - h_t^2, not 1 - tanh(h_t)^2": (
        dict(slope=lambda h, before: 1 - np.tanh(h) ** 2)
    ),
    "the derivative of tanh is 1 - h_t^2: the square is missing": dict(slope=lambda h, before: 1 - h),
    "the derivative of tanh is taken at h_(t-1): it is 1 - h_t^2": dict(slope=lambda h, before: 1 - before**2),
    "Wh must be transposed on the way back: the carry is dz Wh^T": dict(send=lambda carry, arrived, dz, Wh: dz @ Wh),
    "the last step is left out: begin at t = T - 1": dict(steps=lambda T: range(T - 1)),
    "the first step is left out: go on down to t = 0": dict(steps=lambda T: range(1, T)),
    "the carry of later steps is added again: assign it (=), each step's dz contains it already": (
        dict(send=lambda carry, arrived, dz, Wh: carry + dz @ Wh.T)
    ),
    "only the first step counts: the steps share it, so add up over all of them (+=)": dict(counted=_only(0)),
    "only the last step counts: the steps share it, so add up over all of them (+=)": dict(counted=_only(-1)),
    "it is the mean over the steps: they share it, so their gradients add up": dict(
        counted=lambda dz: dz / dz.shape[1]
    ),
    OVER_N: dict(counted=lambda dz: dz / len(dz)),
}
RNN_DX = {
    "its steps are in reverse order": lambda *arguments: _gradients(*arguments)[0][:, ::-1],
    "Wx must be transposed: dz Wx^T": lambda *arguments: _dz(*arguments) @ arguments[4],
}
RNN_DH0 = {
    "it is zero: h0 too has a gradient, what the first step sends further back": lambda dh, x, h0, *rest: 0 * h0,
    "go one product further, through Wh: the first step's dz Wh^T": lambda *arguments: _dz(*arguments)[:, 0],
    "Wh must be transposed: dz Wh^T": lambda *arguments: _dz(*arguments)[:, 0] @ arguments[5],
    "dh[:, 0] is the gradient of the state after the first step, not of h0": (
        lambda dh, *rest: _gradients(dh, *rest)[1] + dh[:, 0]
    ),
    "it is what the last step sends back: go on to the first": lambda *arguments: (
        _dz(*arguments)[:, -1] @ arguments[5].T
    ),
}
RNN_DWX = {"it is transposed: x_t^T dz_t": lambda *arguments: _gradients(*arguments)[2].T}
RNN_DWH = {
    "it is transposed: h_(t-1)^T dz_t": lambda *arguments: _gradients(*arguments)[3].T,
    "it pairs dz_t with h_t: the state that went in is h_(t-1)": lambda *arguments: _share(
        arguments[3], _dz(*arguments)
    ),
    "the first step is missing: there h_(t-1) is h0": (
        lambda dh, x, h0, *rest: _share(_after(0 * h0, rest[0][:, :-1]), _dz(dh, x, h0, *rest))
    ),
    "at the first step h[:, t - 1] is h[:, -1], the last state: there h_(t-1) is h0": (
        lambda *arguments: _share(np.roll(arguments[3], 1, axis=1), _dz(*arguments))
    ),
}
LOOP = each(REPLACED, lambda replaced: partial(_gradients, **replaced))
RNN_BACKWARD = Task(
    "backward",
    _gradients,
    {"dx": RNN_DX, "dh0": RNN_DH0, "dWx": RNN_DWX, "dWh": RNN_DWH, "db": {}, "all": LOOP},
    first=("dx", "dWx", "dWh", "db"),  # dx first: a mistake in the loop itself shows there
)

# -------------------------------------------------------------------------------------------------------------- check

SEQUENCES = [  # N, T, D, H; whether one sample drives tanh to its ends, and the loss looks at the last state alone
    (3, 5, 4, 4, False),  # D = H: transposing Wx keeps its shape
    (2, 3, 3, 4, False),
    (1, 6, 1, 2, False),
    (4, 4, 2, 1, False),
    (1, 1, 2, 3, False),
    (3, 1, 3, 3, False),
    (5, 9, 2, 3, True),
    (2, 3, 3, 4, True),
]


def rnn(forward: Callable, backward: Callable) -> None:
    """Check a recurrence h_t = tanh(x_t Wx + h_(t-1) Wh + b) over whole sequences.

    forward(x, h0, Wx, Wh, b) -> h; backward(dh, x, h0, h, Wx, Wh) -> (dx, dh0, dWx, dWh, db).
    x: (N, T, D), h0: (N, H), the state before the first step; Wx: (D, H), Wh: (H, H), b: (H,). h: (N, T, H), the states
    after every step; dh: (N, T, H), what the loss sends to each of them, without what comes back through time.
    Prints one line if all is well, raises CheckFailed if not.
    """
    rng, seen = np.random.default_rng(0), {}

    def draw(N, T, D, H, hard):
        shapes = {"x": (N, T, D), "h0": (N, H), "Wx": (D, H), "Wh": (H, H), "b": (H,)}
        inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        inputs["x"][0] *= 1000 if hard else 1
        for weights in ("Wx", "Wh", "b"):
            inputs[weights] /= np.sqrt(len(inputs[weights]))
        return inputs

    for case in SEQUENCES:
        inputs = draw(*case)
        h = RNN_FORWARD.check(forward, inputs, seen)["h"]
        seen = inputs | {"h": h}
        inputs = draw(*case)  # not what forward has seen
        h, dh = _states(*inputs.values()), rng.normal(size=h.shape)
        dh[:, :-1] *= not case[-1]
        given = {"dh": dh, "x": inputs["x"], "h0": inputs["h0"], "h": h, "Wx": inputs["Wx"], "Wh": inputs["Wh"]}
        RNN_BACKWARD.check(backward, given, seen)
    single, hard = sum(T == 1 for _, T, *_ in SEQUENCES), sum(hard for *_, hard in SEQUENCES)
    tried = f"{single} of a single step, {hard} that drive tanh to its ends"
    print(f"checks.rnn: forward and backward agree on {len(SEQUENCES)} batches of sequences ({tried})")
