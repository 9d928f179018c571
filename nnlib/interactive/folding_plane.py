"""The plane that folds: what a ReLU between two linear layers is for, on points in a plane that one can see whole.

Its one idea: each hidden unit with a ReLU is a crease, the line on which it switches on, and the boundary between two
answers can bend only where it crosses a crease. Without ReLU there is no crease, and all units together draw one line.
"""

import copy
from collections.abc import Sequence as Several

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

from ..backend import to_device, to_numpy
from ..layers import Linear, ReLU
from ..losses import check_labels, cross_entropy
from ..metrics import accuracy
from ..model import Sequential
from ..optim import SGD
from .figure import Figure, encode, png
from .network import network_json

EPOCHS = (*range(11), 12, 14, 16, 18, 20, 25, 30, 35, 40)  # after these, a network is shown
ON_PAPER = (0, 4, 40)
MOST_POINTS, MOST_UNITS = 1000, 64


def folding_plane(
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    hidden: Several[int] = (2, 4, 16),
    seed: int = 7,
) -> Figure:
    """Watch the boundary between two classes while two networks learn, epoch by epoch: one with ReLU, one without.

    points: (N, 2) finite floats, at most 1,000 of them, and labels: (N,), integers 0 and 1; by default two arms of a
    spiral, 120 points each. hidden: up to four numbers of hidden units to choose from, each 1 to 64; the middle one is
    shown first, and on paper. seed: for the points, the weights and the order; equal seeds give equal bytes. (Of 24
    seeds, 13 lead four units with ReLU to 98 % and more: where a crease begins matters. With sixteen, all do.)

    All networks learn in this call, by SGD with momentum, 40 epochs in batches of 20: about a quarter of a second for
    the default. The browser computes their answers from the weights. Raises ValueError for other arguments.
    """
    if points is None and labels is None:
        points, labels = two_arms(np.random.default_rng(seed))
    points, labels = _checked_points(points, labels)
    hidden = list(hidden)
    if not 1 <= len(hidden) <= 4 or not all(isinstance(H, int) and 1 <= H <= MOST_UNITS for H in hidden):
        raise ValueError(f"hidden lists one to four numbers of units, each 1 to {MOST_UNITS}, got {hidden}")
    runs = [[_learn(points, labels, H, relu, seed) for relu in (False, True)] for H in hidden]
    limit = float(np.float32(1.15 * (np.abs(points).max() or 1)))
    middle = len(hidden) // 2
    networks = [[[network_json(model, dtype="float32") for model in run] for run in pair] for pair in runs]
    data = {
        "points": encode(points),
        "labels": encode(labels.astype(np.uint8)),
        "hidden": hidden,
        "start": middle,
        "epochs": EPOCHS,
        "limit": limit,
        "networks": networks,  # by number of units, then without and with ReLU, then by epoch
    }
    scores = [accuracy(labels, run[-1].predict(points).argmax(axis=1)) for run in runs[middle]]
    alt = (
        f"A plane with points of two classes, as two networks of {hidden[middle]} hidden units divide it, after "
        f"{', '.join(map(str, ON_PAPER[:-1]))} and {ON_PAPER[-1]} epochs. Without ReLU the boundary is a straight line "
        f"to the end, and {scores[0]:.1%} of the points are right; with ReLU it bends where it crosses a crease: "
        f"{scores[1]:.1%}. A slider goes through the epochs."
    )
    still = png(_still(points, labels, runs[middle], hidden[middle], limit))
    return Figure("folding_plane", data, png=still, alt=alt, height=600, scripts=("net",))


def two_arms(rng: np.random.Generator, count: int = 120, noise: float = 0.06) -> tuple[np.ndarray, np.ndarray]:
    """Return points (2*count, 2) float32 on two arms of a spiral, and their labels: no straight line parts the two."""
    radius = np.linspace(0.15, 1, count)
    angles = 1.5 * np.pi * radius + np.pi * np.arange(2)[:, None]  # the second arm is the first, half a turn on
    arms = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=-1)  # (2, count, 2)
    points = arms.reshape(-1, 2) + rng.normal(0, noise, (2 * count, 2))
    return points.astype(np.float32), np.repeat([0, 1], count)


def _checked_points(points, labels):
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not 2 <= len(points) <= MOST_POINTS or points.dtype.kind != "f":
        raise ValueError(f"points are 2 to {MOST_POINTS} floats (N, 2), got {points.dtype} {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points are finite, got NaN or infinity among them")
    if labels.shape != (len(points),):
        raise ValueError(f"labels are one for each of {len(points)} points, got {labels.shape}")
    check_labels(labels, 2)
    if len(set(labels.tolist())) < 2:
        raise ValueError("labels of both classes, 0 and 1, are needed")
    return points.astype(np.float32), labels


def _learn(points, labels, H, relu, seed):
    """Train 2 -> H -> 2, with ReLU or without, and return a copy of the network after each of EPOCHS."""
    rng = np.random.default_rng(seed)
    model = Sequential([Linear(2, H, rng=rng), *[ReLU()] * relu, Linear(H, 2, rng=rng)])
    optimizer = SGD(model, lr=0.1, momentum=0.9)
    snapshots = []
    for epoch in range(EPOCHS[-1] + 1):
        if epoch in EPOCHS:
            snapshots.append(copy.deepcopy(model))
        order = rng.permutation(len(points))
        for start in range(0, len(order), 20):
            batch = order[start : start + 20]
            logits = model.forward(to_device(points[batch]), training=True)
            _, dlogits = cross_entropy(logits, to_device(labels[batch]))
            model.backward(dlogits)
            optimizer.step()
    return snapshots


def _still(points, labels, pair, H, limit) -> matplotlib.figure.Figure:
    """Draw both networks after the epochs of ON_PAPER: the probabilities, the boundary, the creases, the points."""
    figure, grid = plt.subplots(2, len(ON_PAPER), figsize=(9, 6.2), sharex=True, sharey=True)
    ticks = np.linspace(-limit, limit, 81)
    plane = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2).astype(np.float32)
    for row, run, name in zip(grid, pair, ("without ReLU", "with ReLU"), strict=True):
        for axes, epoch in zip(row, ON_PAPER, strict=True):
            model = run[EPOCHS.index(epoch)]
            logits = model.predict(plane).astype(float)
            belief = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])).reshape(81, 81)
            axes.contourf(ticks, ticks, belief, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
            axes.contour(ticks, ticks, belief, levels=[0.5], colors="black", linewidths=2)
            if name == "with ReLU":
                W, b = (to_numpy(model.layers[0].params[key]).astype(float) for key in "Wb")
                for k in range(H):  # where unit k switches on: x W[:, k] + b[k] = 0
                    foot = -b[k] * W[:, k] / (W[:, k] @ W[:, k])
                    along = np.array([-W[1, k], W[0, k]])
                    axes.axline(foot, foot + along, color="black", linestyle=":", linewidth=1)
            for label, marker, colour in ((0, "o", "navy"), (1, "^", "maroon")):
                axes.plot(*points[labels == label].T, marker, color=colour, markersize=2.5)
            score = accuracy(labels, model.predict(points).argmax(axis=1))
            axes.set(title=f"{name}, epoch {epoch}: {score:.1%}", xlim=(-limit, limit), ylim=(-limit, limit))
            axes.set(aspect="equal", xticks=[], yticks=[])
    return figure
