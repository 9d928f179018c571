"""Back-propagation through time, step by step: what reaches each state, and what each step adds to the gradient of Wh.

Its one idea: dWh is a sum over time. Whoever goes back step by step, and watches the shares pile up, sees which steps
have a say in it.
"""

import copy
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from ..backend import to_device, to_float, to_numpy
from ..losses import cross_entropy
from ..model import Sequential
from ..recurrent import RNN
from .figure import Figure, encode, png

MOST_WEIGHTS = 80_000  # of all Wh together: 430 kB on the page
MOST_STEPS = 112
POWERS = 12  # the axis of norms spans so many powers of ten


def backward_steps(models: Mapping[str, Sequential], x: np.ndarray, label: int) -> Figure:
    """Go back through a sequence, from its last step to the first, and watch the shares of dWh pile up.

    For each step t: the norm of the gradient that reaches its state, the norm and the picture of the step's share,
    h_(t-1)^T dz_t, and the sum so far. At the first step the sum is nnlib's own dWh, whose norm stands beside it.
    On paper: both norms by step, a panel for each model.

    models: a name for each network: layers of which one is an RNN that returns its last state, and logits at the end.
    They stay as they are. x: one input of theirs, (1, ...), floats or uint8 pixels; the RNN gets it as (1, T, D).
    label: its class, whose cross-entropy is the loss.

    The page holds the weights Wh in float32, 80,000 of them at most, and up to 112 steps. Raises ValueError for more,
    for other models, for more than one input, for a label that is no class, and for numbers that are not finite.
    """
    if not isinstance(models, Mapping) or not models:
        raise ValueError("backward_steps expects a dict of models by their names, one at least")
    if np.ndim(x) < 2 or len(x) != 1:
        raise ValueError(f"backward_steps expects one input, (1, ...), got {np.shape(x)}")
    runs = {str(name): _run(name, model, np.asarray(x), label) for name, model in models.items()}
    shapes = {run["rows"].shape for run in runs.values()}
    if len(shapes) > 1 or max(shapes)[0] > MOST_STEPS:
        raise ValueError(f"the models read one sequence of at most {MOST_STEPS} steps, got (T, D) = {sorted(shapes)}")
    if (weights := sum(run["Wh"].size for run in runs.values())) > MOST_WEIGHTS:
        raise ValueError(f"these Wh hold {weights:,} weights, more than {MOST_WEIGHTS:,}: take fewer models or units")
    norms = {name: _norms(run) for name, run in runs.items()}
    high = int(np.ceil(np.log10(max(value.max() for pair in norms.values() for value in pair))))
    data = {
        "rows": encode(next(iter(runs.values()))["rows"]),
        "runs": [
            {"name": name, "norm": float(np.linalg.norm(run["dWh"]))} | {k: encode(run[k]) for k in ("Wh", "h", "dh")}
            for name, run in runs.items()
        ],
        "axis": [high - POWERS, high],
    }
    alt = (
        f"A sequence of {max(shapes)[0]} rows, read from top to bottom; beside each row the norm of the gradient that "
        "reaches its step and that of the step's share of dWh, on a logarithmic axis, filled in from the last row to "
        "the first. Two colour maps show the share of one step, and the sum so far, which becomes dWh."
    )
    return Figure("backward_steps", data, png=_still(runs, norms, high), alt=alt, height=640)


def _run(name, model, x, label):
    """Send one input through a copy of the model and back. Returns rows (T, D), h (T, H), Wh, dh (H,), and dWh."""
    kinds = [type(layer) for layer in model.layers] if isinstance(model, Sequential) else []
    if kinds.count(RNN) != 1 or model.layers[kinds.index(RNN)].return_sequences:
        raise ValueError(f"the model {name!r} must be a Sequential with one RNN that returns its last state")
    model = copy.deepcopy(model)  # the way back leaves gradients behind
    place = kinds.index(RNN)
    rnn = model.layers[place]
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of NaN and infinity is looked at below
        logits = model.forward(to_device(to_float(x)), training=True)
        rows, h = rnn.saved  # time first: (T, 1, D), (T, 1, H)
        _, dout = cross_entropy(logits, to_device(np.array([label])))
        for layer in reversed(model.layers[place + 1 :]):
            dout = layer.backward(dout, input_grad=True)
        rnn.backward(dout, input_grad=False)
    run = {"rows": rows[:, 0], "h": h[:, 0], "Wh": rnn.params["Wh"], "dh": dout[0], "dWh": rnn.grads["Wh"]}
    run = {key: to_numpy(array).astype(np.float32) for key, array in run.items()}
    if not all(np.isfinite(array).all() for array in run.values()):
        raise ValueError(f"the model {name!r} computes NaN or infinity for this input")
    if not run["dWh"].any():
        raise ValueError(f"dWh of the model {name!r} is zero for this input: there is nothing to see")
    return run


def _norms(run):
    """Go back by steps. Returns the norms of what reaches each state, (T,), and of each step's share of dWh, (T,)."""
    h, Wh, gradient = run["h"].astype(float), run["Wh"].astype(float), run["dh"].astype(float)
    before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
    reaches, shares = np.zeros(len(h)), np.zeros(len(h))
    for t in reversed(range(len(h))):
        dz = gradient * (1 - h[t] ** 2)
        reaches[t], shares[t] = np.linalg.norm(gradient), np.linalg.norm(np.outer(before[t], dz))
        gradient = Wh @ dz
    return reaches, shares


def _still(runs, norms, high):
    """Draw for paper: the sequence, and beside it both norms of every step, a panel for each model."""
    rows = next(iter(runs.values()))["rows"]
    T, low = len(rows), 10.0 ** (high - POWERS)
    figure, (first, *others) = plt.subplots(1, 1 + len(runs), figsize=(3 * len(runs) + 2, 4), sharey=True)
    first.imshow(rows, cmap="gray_r", aspect="auto", extent=(0, rows.shape[1], T + 0.5, 0.5))
    first.set(title="the sequence", xticks=[], ylabel="step t")
    first.grid(False)
    for axes, (name, (reaches, shares)) in zip(others, norms.items(), strict=True):
        steps = np.arange(1, T + 1)
        axes.barh(steps, np.maximum(shares - low, 0), left=low, height=0.7, color="C0", label="share of $dW_h$")
        seen = reaches > low
        axes.plot(reaches[seen], steps[seen], "o", color="C1", markersize=4, label="gradient that reaches $h_t$")
        axes.set(title=name, xscale="log", xlim=(low, 10.0**high), xlabel="norm")
    handles, labels = others[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle("Backward through time: which steps have a say in $dW_h$?")
    return png(figure)
