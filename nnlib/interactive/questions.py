"""Two questions to a network about a picture: which step changes its answer, and which part must not be hidden.

Their one idea: both are asked by changing the picture a little and asking again; the browser asks the network itself.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from ..backend import to_device, to_float, to_numpy
from ..losses import cross_entropy
from ..model import Sequential
from .figure import Figure, encode, png
from .network import softmax
from .photos import checked, draw, for_browser

FILLS = {"grey": 0.5, "black": 0.0, "white": 1.0}
POSITIONS = 64  # steps of the slider of `step_size`


def step_size(
    model: Sequential,
    images: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    most: float = 16.0,
    dtype: str = "float16",
) -> Figure:
    """Change every pixel of a picture by a small step, against the right answer or at random, and watch the answer.

    model, images, labels, class_names, dtype: see `photo_lab`. most: the largest step, in levels of 255. The direction
    is the sign of the loss's gradient for each pixel (Goodfellow et al. 2015), or drawn by lot, always the same one.

    Raises ValueError as `photo_lab` does, and for a largest step outside of 0..255.
    """
    images, labels, class_names = checked(images, labels, class_names)
    if not 0 < most <= 255:
        raise ValueError(f"most is a step of more than 0 and at most 255 levels, got {most}")
    written, rounded = for_browser(model, images, class_names, dtype)
    _, dlogits = cross_entropy(rounded.forward(to_device(images), training=True), to_device(np.array(labels)))
    harmful = np.sign(to_numpy(rounded.backward(dlogits, input_grad=True))).astype(np.int8)
    lot = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), images.shape)
    levels = np.arange(POSITIONS + 1) * most / POSITIONS
    answers = np.array(  # (n, 2, steps, classes)
        [
            [softmax(rounded.predict(_stepped(image, way, levels))) for way in ways]
            for image, *ways in zip(images, harmful, lot, strict=True)
        ]
    )
    chances = answers[np.arange(len(images)), :, :, labels]  # of the true class: (n, 2, steps)
    data = {
        "network": written,
        "images": encode(images),
        "directions": encode(np.stack([harmful, lot], axis=1)),
        "labels": labels,
        "class_names": class_names,
        "levels": levels.tolist(),
        "chances": encode(chances.astype(np.float32)),
        "answers": encode(answers.argmax(axis=3).astype(np.uint8)),
    }
    changes = answers[0, 0].argmax(axis=1) != answers[0, 0, 0].argmax()
    shown = int(changes.argmax()) if changes.any() else POSITIONS
    before, after = (class_names[answers[0, 0, j].argmax()] for j in (0, shown))
    alt = (
        f"A picture that the network calls {before}, a change of its pixels by {levels[shown]:g} of 255 levels against "
        f"the right answer, and their sum, which it calls {after}; curves of the right answer's probability over the "
        "step, with and without direction. A slider sets the step."
    )
    still = png(_step_still(images[0], harmful[0], levels, shown, answers[0], labels[0], class_names))
    return Figure("step_size", data, png=still, alt=alt, height=720, scripts=("net", "photos"))


def occluder(
    model: Sequential,
    images: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    size: int = 8,
    dtype: str = "float16",
) -> Figure:
    """Drag a square over a picture, and watch the probability of the true class; each place leaves its mark on a map.

    model, images, labels, class_names, dtype: see `photo_lab`; one picture (H, W, C) with one label will do as well.
    size: the side of the square in pixels. The map shows by how many nats the loss rises when it hides a place.

    Raises ValueError as `photo_lab` does, and for a square that is empty or larger than the picture.
    """
    images, labels = (np.asarray(images), labels) if np.ndim(images) == 4 else (np.asarray(images)[None], [labels])
    images, labels, class_names = checked(images, labels, class_names)
    sides = images.shape[1:3]
    if not isinstance(size, int | np.integer) or not 1 <= size < min(sides):
        raise ValueError(f"size is a whole number of pixels, 1 to {min(sides) - 1}, got {size!r}")
    written, rounded = for_browser(model, images, class_names, dtype)
    places = [(row, column) for row in range(0, sides[0] - size + 1, 2) for column in range(0, sides[1] - size + 1, 2)]
    covered = np.array([hide(images[0], *place, size) for place in places])
    worst = places[int(softmax(rounded.predict(covered))[:, labels[0]].argmin())]
    variants = np.array([to_float(images[0])] + [hide(images[0], *worst, size, fill) for fill in FILLS.values()])
    answers = softmax(rounded.predict(variants))
    data = {
        "network": written,
        "images": encode(images),
        "labels": labels,
        "class_names": class_names,
        "size": int(size),
        "fills": FILLS,
    }
    alt = (
        f"A picture of the class {class_names[labels[0]]} with a square of {size} by {size} pixels to drag over it, "
        "the probability of that class, and a map of the places where the square has been. On paper: "
        + ", ".join(
            f"{text} {p:.0%}" for text, p in zip(["uncovered", *FILLS], answers[:, labels[0]].tolist(), strict=True)
        )
        + ", all at one place."
    )
    still = png(_occluder_still(variants, answers, labels[0], class_names))
    return Figure("occluder", data, png=still, alt=alt, height=470, scripts=("net", "photos"))


def hide(image: np.ndarray, row: int, column: int, size: int, fill: float = 0.5) -> np.ndarray:
    """Return a picture (H, W, C) of uint8 as floats in 0..1, a square of it hidden; row, column: its upper left."""
    hidden = to_float(image).copy()
    hidden[row : row + size, column : column + size] = fill
    return hidden


def _stepped(image, direction, levels):
    """Move each pixel of a uint8 picture by each of the levels of 255; none leaves 0..1. Returns (steps, H, W, C)."""
    steps = (np.asarray(levels) / 255).astype(np.float32)[:, None, None, None]
    return np.clip(to_float(image) + steps * direction.astype(np.float32), 0, 1)


def _step_still(image, direction, levels, shown, answers, label, class_names):
    """Draw, for paper, a picture, a change, their sum, and the right answer's probability over the step."""
    figure, panels = plt.subplots(1, 4, figsize=(10, 2.6), width_ratios=[1, 1, 1, 1.5])
    for axes, picture, j in (
        (panels[0], to_float(image), 0),
        (panels[2], _stepped(image, direction, levels)[shown], shown),
    ):
        best = answers[0, j].argmax()
        draw(axes, picture, f"{class_names[best]} ({answers[0, j, best]:.0%})")
    draw(panels[1], 0.5 + 0.5 * direction.astype(np.float32), f"± {levels[shown]:g} levels")
    for curves, text, style in zip(answers, ("against the answer", "at random"), ("C1-", "C0--"), strict=True):
        panels[3].plot(levels, 100 * curves[:, label], style, label=text)
    panels[3].axvline(levels[shown], color="grey", linestyle=":")
    panels[3].set(xlabel="step (levels of 255)", ylabel="probability (%)", title=class_names[label], ylim=(-3, 103))
    panels[3].legend(fontsize=8)
    return figure


def _occluder_still(variants, answers, label, class_names):
    """Draw, for paper, a picture, and the same place of it hidden by grey, black and white."""
    figure, panels = plt.subplots(1, len(variants), figsize=(9, 3))
    for axes, picture, probabilities, text in zip(panels, variants, answers, ("as it is", *FILLS), strict=True):
        best = probabilities.argmax()
        draw(axes, picture, f"{text}: it says {class_names[best]}\n{class_names[label]}: {probabilities[label]:.0%}")
    return figure
