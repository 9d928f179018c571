"""Recurrent layers: a sequence read one step at a time, by the same weights, with a state that is carried along.

Their one idea: unrolled over time, a recurrence is a deep network whose layers share their weights. So the gradient
comes to each state from two sides, from above (the loss) and from the future (the next state), and the gradient of a
shared weight is the sum over all steps. Only the state has to wait for the step before: everything else is one matrix
product for all steps at once. Inside, arrays are therefore time first, (T, N, ...): a step is one contiguous block.
"""

import numpy as np

from .backend import get_array_module, to_device
from .initializers import Initializer, glorot_normal, orthogonal
from .layers import Layer, check_floats, check_gradient


class _Recurrent(Layer):
    """What the recurrent layers share: weights for `gates` blocks of H columns, side by side."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rng: np.random.Generator,
        init: Initializer = orthogonal,
        return_sequences: bool = False,
        dtype=np.float32,
    ):
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            name = type(self).__name__
            raise ValueError(f"{name} expects at least 1 input and 1 hidden unit, got {input_size} and {hidden_size}")
        self.return_sequences = return_sequences
        Wx = [glorot_normal((input_size, hidden_size), rng) for _ in range(self.gates)]
        Wh = [init((hidden_size, hidden_size), rng) for _ in range(self.gates)]
        self.params = {
            "Wx": to_device(np.concatenate(Wx, axis=1).astype(dtype)),
            "Wh": to_device(np.concatenate(Wh, axis=1).astype(dtype)),
            "b": to_device(np.zeros(self.gates * hidden_size, dtype)),
        }


class RNN(_Recurrent):
    """The recurrence h_t = tanh(x_t Wx + h_(t-1) Wh + b), from h_0 = 0, with Wx (D, H), Wh (H, H) and b (H,).

    It returns the last state, or with return_sequences=True every state. Each batch begins anew: no state is kept from
    one to the next. `init` draws Wh; Wx is Glorot normal. (Elman 1990; gradients: Werbos 1990.)
    """

    def forward(self, x, training: bool = False):
        """x: (N, T, D) float. Returns the last state (N, H), or all of them (N, T, H).

        Raises ValueError for another shape, for integers, and for sequences of no steps.
        """
        Wx, Wh, b = self.params["Wx"], self.params["Wh"], self.params["b"]
        xp, x = get_array_module(x), _time_first(self, x, len(Wx))
        h = _projected(x, Wx, b)  # (T, N, H): so far what the inputs alone say, for all steps at once
        for t in range(len(h)):
            if t > 0:
                h[t] += h[t - 1] @ Wh
            xp.tanh(h[t], out=h[t])
        self.saved = (x, h) if training else None
        return _output(self, h)

    def backward(self, dout, input_grad: bool = True):
        """dout: the shape of forward's output. Returns dx (N, T, D); assigns grads Wx, Wh and b."""
        (x, h), Wh = self.recall(), self.params["Wh"]
        xp, dout, carry = get_array_module(h), _gradient_of_states(self, dout, h), 0
        dz = h * h
        xp.subtract(1, dz, out=dz)  # tanh', for every step at once
        for t in reversed(range(len(h))):
            dz[t] *= dout[t] + carry  # from above, and from the future
            carry = dz[t] @ Wh.T
        self.grads = {"Wx": _summed(x, dz), "Wh": _summed(h[:-1], dz[1:]), "b": dz.sum(axis=(0, 1))}
        return (dz @ self.params["Wx"].T).swapaxes(0, 1) if input_grad else None


class GRU(_Recurrent):
    """The gated recurrence h_t = (1 - z) n + z h_(t-1), from h_0 = 0, which can keep a state for many steps.

    With a = x_t Wx + b and c = h_(t-1) Wh, each cut into three parts (r, z, n) of H columns:
    reset gate r = sigmoid(a_r + c_r), update gate z = sigmoid(a_z + c_z), candidate n = tanh(a_n + r c_n).
    Wx is (D, 3H), Wh (H, 3H), b (3H,). This is PyTorch's form with b_hh = 0. (Cho et al. 2014, arXiv 1406.1078.)
    Input, output and arguments are those of `RNN`.
    """

    gates = 3

    def forward(self, x, training: bool = False):
        """x: (N, T, D) float. Returns the last state (N, H), or all of them (N, T, H). Raises as `RNN` does."""
        Wx, Wh, b = self.params["Wx"], self.params["Wh"], self.params["b"]
        xp, x, H = get_array_module(x), _time_first(self, x, len(Wx)), len(Wh)
        a = _projected(x, Wx, b)  # (T, N, 3H); each step turns its block into r, z and n
        h, c = xp.empty((*a.shape[:2], H), a.dtype), xp.empty_like(a) if training else None
        state = xp.zeros(h.shape[1:], h.dtype)
        for t in range(len(h)):
            from_state = state @ Wh
            a[t, :, : 2 * H] = _sigmoid(xp, a[t, :, : 2 * H] + from_state[:, : 2 * H])
            r, z, n = a[t, :, :H], a[t, :, H : 2 * H], a[t, :, 2 * H :]
            xp.tanh(n + r * from_state[:, 2 * H :], out=n)
            h[t] = n + z * (state - n)
            state = h[t]
            if training:
                c[t] = from_state
        self.saved = (x, a, c, h) if training else None
        return _output(self, h)

    def backward(self, dout, input_grad: bool = True):
        """dout: the shape of forward's output. Returns dx (N, T, D); assigns grads Wx, Wh and b."""
        (x, a, c, h), Wh = self.recall(), self.params["Wh"]
        xp, H, dout, carry = get_array_module(h), len(Wh), _gradient_of_states(self, dout, h), 0
        da, dc = xp.empty_like(a), xp.empty_like(a)
        for t in reversed(range(len(h))):
            before = h[t - 1] if t > 0 else xp.zeros_like(h[0])
            r, z, n = a[t, :, :H], a[t, :, H : 2 * H], a[t, :, 2 * H :]
            dh = dout[t] + carry
            da[t, :, 2 * H :] = dn = dh * (1 - z) * (1 - n**2)
            da[t, :, H : 2 * H] = dh * (before - n) * z * (1 - z)
            da[t, :, :H] = dn * c[t, :, 2 * H :] * r * (1 - r)
            dc[t] = da[t]
            dc[t, :, 2 * H :] *= r
            carry = dh * z + dc[t] @ Wh.T  # z is the straight road back in time
        self.grads = {"Wx": _summed(x, da), "Wh": _summed(h[:-1], dc[1:]), "b": da.sum(axis=(0, 1))}
        return (da @ self.params["Wx"].T).swapaxes(0, 1) if input_grad else None


def _time_first(layer, x, input_size):
    """Check the sequences x (N, T, D) and return them as a contiguous (T, N, D)."""
    name = type(layer).__name__
    if x.ndim != 3 or x.shape[2] != input_size:
        hint = ": a picture read row by row is x.reshape(N, H, W * C)" if x.ndim == 4 else ""
        raise ValueError(f"{name} expects sequences (N, T, {input_size}), got {x.shape}{hint}")
    if x.shape[1] == 0:
        raise ValueError(f"{name} expects sequences of at least one step, got {x.shape}")
    check_floats(layer, x)
    return get_array_module(x).ascontiguousarray(x.swapaxes(0, 1))


def _output(layer, h):
    return h.swapaxes(0, 1) if layer.return_sequences else h[-1]


def _gradient_of_states(layer, dout, h):
    """Return what the loss sends to each state, (T, N, H): to the last alone unless the layer returns all of them."""
    T, N, H = h.shape
    check_gradient(layer, dout, (N, T, H) if layer.return_sequences else (N, H))
    if layer.return_sequences:
        return dout.swapaxes(0, 1)
    return [0] * (T - 1) + [dout]


def _projected(x, Wx, b):
    """Return x Wx + b for all steps and samples in one product; x: (T, N, D)."""
    z = x.reshape(-1, x.shape[2]) @ Wx
    z += b
    return z.reshape(*x.shape[:2], len(b))


def _summed(inputs, gradients):
    """Return the gradient of a shared weight: inputs^T gradients, summed over steps and samples in one product."""
    return inputs.reshape(-1, inputs.shape[2]).T @ gradients.reshape(-1, gradients.shape[2])


def _sigmoid(xp, x):
    return 0.5 * (1 + xp.tanh(0.5 * x))  # 1 / (1 + exp(-x)), which would overflow
