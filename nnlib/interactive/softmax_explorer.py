"""Softmax and cross-entropy for one sample, to be pulled at: logits on sliders, and what becomes of them beside.

Its one idea: only differences of logits count. The same number added to all of them changes nothing, on paper; in a
computer it makes the formula overflow as it stands, and leaves the one that subtracts the largest logit untouched.
"""

from collections.abc import Sequence

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

from ..losses import cross_entropy
from .figure import Figure, png

REACH = 10  # the sliders go from -10 to 10
MOST_CLASSES = 10
STEPS_ON_PAPER = 5


def softmax_explorer(logits: np.ndarray, label: int = 0, *, class_names: Sequence[str] | None = None) -> Figure:
    """Pull at the logits of one sample; see their probabilities, the loss, and its gradient.

    logits: (K,), K from 2 to 10, finite numbers within -10..10. label: the true class, 0..K-1, which can be changed.
    class_names: K different texts; "class 0", "class 1", ... by default.

    Further sliders add one number c to all logits, and divide them by a temperature; a button moves every logit against
    its gradient, by just as much. On paper: the logits as they are, with 100 added, divided by 2, and after five
    steps. Raises ValueError for other arguments.
    """
    logits = np.asarray(logits)
    if logits.ndim != 1 or not 2 <= len(logits) <= MOST_CLASSES or logits.dtype.kind not in "fiu":
        raise ValueError(f"logits are 2 to {MOST_CLASSES} numbers, (K,), got {logits.dtype} {logits.shape}")
    logits = logits.astype(float)
    if not (np.abs(logits) <= REACH).all():  # NaN isn't either
        raise ValueError(f"logits lie within -{REACH}..{REACH}, got {logits}")
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < len(logits):
        raise ValueError(f"label is the number of a class, 0..{len(logits) - 1}, got {label!r}")
    names = [f"class {k}" for k in range(len(logits))] if class_names is None else [str(name) for name in class_names]
    if len(set(names)) != len(logits) or len(names) != len(logits):
        raise ValueError(f"class_names are {len(logits)} different texts, got {names}")
    data = {"logits": logits.tolist(), "label": int(label), "names": names, "reach": REACH}
    loss, _ = _loss(logits, label)
    alt = (
        f"A slider for each of {len(logits)} logits, and a bar for its probability. The loss of {names[label]} is "
        f"{loss:.4f}; it stays when the same number is added to all logits, changes when all are divided by one, "
        "and sinks with each step against the gradient."
    )
    still = png(_still(logits, label, names))
    return Figure("softmax_explorer", data, png=still, alt=alt, height=150 + 45 * len(logits))


def _loss(logits, label, temperature=1.0):
    """Return the loss of one sample (K,), and its gradient for the logits."""
    loss, gradient = cross_entropy(logits[None] / temperature, np.array([label]))
    return float(loss), gradient[0] / temperature


def _still(logits, label, names) -> matplotlib.figure.Figure:
    """Draw the probabilities in four settings side by side, the true class in black."""
    downhill = logits
    for _ in range(STEPS_ON_PAPER):
        downhill = downhill - _loss(downhill, label)[1]
    settings = {
        "as they are": logits,
        "100 added to all": logits + 100,
        "all divided by 2": logits / 2,
        f"after {STEPS_ON_PAPER} steps downhill": downhill,
    }
    figure, panels = plt.subplots(2, 2, figsize=(9, 2.6 + 0.7 * len(logits)), sharex=True)
    truth = np.eye(len(logits))[label]
    for axes, (title, z) in zip(panels.flat, settings.items(), strict=True):
        loss, gradient = _loss(z, label)
        colours = ["black" if k == label else "0.65" for k in range(len(z))]
        bars = axes.barh(range(len(z)), gradient + truth, color=colours)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=9)
        axes.set_yticks(range(len(z)), [f"{name}: {value:.2f}" for name, value in zip(names, z, strict=True)])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(title=f"{title}: loss {loss:.4f}", xlim=(0, 1.15), xlabel="probability")
    figure.suptitle(f"One sample's logits in four settings; true is {names[label]} (black)")
    return figure
