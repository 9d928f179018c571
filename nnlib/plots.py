"""The figures that every notebook draws; beside `nnlib.interactive` the only module that imports matplotlib.

Its one idea: each function returns a Figure with a title and named axes, and `show` puts it on the page together with a
description for readers who cannot see it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .training import History

sns.set_theme(style="whitegrid", palette="colorblind", rc={"figure.dpi": 100, "figure.constrained_layout.use": True})


def show(figure: Figure, alt: str) -> None:
    """Display a figure with its alternative text, and close it. Outside a notebook, open it in a window.

    Raises ValueError for an empty alternative text: a reader who cannot see the figure has nothing else.
    """
    if not alt.strip():
        raise ValueError("show needs alternative text: say in a sentence what the figure shows")
    try:
        from IPython import get_ipython

        in_notebook = get_ipython() is not None
    except ImportError:
        in_notebook = False
    if in_notebook:
        from IPython.display import display

        display(figure, metadata={"image/png": {"alt": alt}})
    else:
        plt.show()
    plt.close(figure)


def learning_curves(history: History, title: str = "Learning curves") -> Figure:
    """Loss and accuracy by epoch, training and validation; a dotted line marks the epoch whose weights were kept."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    epochs = np.arange(1, len(history.train_loss) + 1)
    for axes, name, unit in ((left, "loss", "cross-entropy (nats)"), (right, "accuracy", "accuracy")):
        axes.plot(epochs, getattr(history, f"train_{name}"), "o-", markersize=4, label="training")
        axes.plot(epochs, getattr(history, f"validation_{name}"), "s-", markersize=4, label="validation")
        if history.best_epoch is not None:
            axes.axvline(history.best_epoch + 1, color="grey", linestyle=":", label="weights kept")
        axes.set(xlabel="epoch", ylabel=unit, title=name.capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    left.set_yscale("log")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.suptitle(title)
    return figure


def confusion_heatmap(matrix: np.ndarray, class_names: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Draw the confusion matrix with its counts; only the errors are coloured: the diagonal would outshine them."""
    size = 0.52 * len(class_names) + 1.5
    figure, axes = plt.subplots(figsize=(size + 0.8, size))
    sns.heatmap(
        matrix,
        mask=np.eye(len(matrix), dtype=bool),
        annot=True,
        fmt="d",
        cmap="rocket_r",
        linewidths=0.5,
        xticklabels=class_names,
        yticklabels=class_names,
        cbar_kws={"label": "wrongly classified images"},
        ax=axes,
    )
    for k, count in enumerate(np.diag(matrix)):
        axes.text(k + 0.5, k + 0.5, str(count), ha="center", va="center", color="grey", fontsize=9)
    axes.grid(False)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.tick_params(axis="y", rotation=0)
    return figure


def image_grid(images: np.ndarray, captions: Sequence[str], title: str, columns: int = 8) -> Figure:
    """Images (N, H, W, C), uint8 or floats in 0..1, each with a caption above it; C is 1 (grey) or 3 (colour)."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) != len(captions) or len(images) == 0:
        raise ValueError(f"expected images (N, H, W, 1 or 3) and N captions, got {images.shape} and {len(captions)}")
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    size = (1.25 * columns, (1.15 + 0.17 * lines) * rows + 0.4)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    white = 255 if images.dtype == np.uint8 else 1.0
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=white)
        axes.set_title(caption, fontsize=9)
    figure.suptitle(title)
    return figure


def weight_grid(weights: np.ndarray, captions: Sequence[str], title: str, columns: int = 8) -> Figure:
    """Weight images (N, H, W) on one symmetric colour scale: red adds to a unit's sum, blue takes away, white is 0."""
    if weights.ndim != 3 or len(weights) != len(captions) or len(weights) == 0:
        raise ValueError(f"expected weights (N, H, W) and N captions, got {weights.shape} and {len(captions)}")
    rows = -(-len(weights) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(1.25 * columns + 0.8, 1.35 * rows + 0.4), squeeze=False)
    limit = float(np.abs(weights).max()) or 1.0
    for axes in grid.flat:
        axes.axis("off")
    for axes, weight, caption in zip(grid.flat, weights, captions, strict=False):
        drawn = axes.imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(caption, fontsize=9)
    figure.colorbar(drawn, ax=grid, label="weight", shrink=0.9)
    figure.suptitle(title)
    return figure


def mosaic(weights: np.ndarray, columns: int) -> np.ndarray:
    """Lay filters out as one picture for `imshow`, row by row, with a gap of one pixel between neighbours.

    weights (N, H, W): returns the weights themselves, to be drawn on one colour scale for all, with NaN in the gaps.
    weights (N, H, W, 3): returns colours in 0..1, each filter scaled by its own largest weight; a weight of 0 is
    mid-grey, a filter of zeros too, and the gaps are white. Raises ValueError for other shapes.
    """
    if weights.ndim not in (3, 4) or weights.shape[3:] not in ((), (3,)) or 0 in weights.shape or columns < 1:
        raise ValueError(f"expected weights (N, H, W) or (N, H, W, 3) and columns, got {weights.shape} and {columns}")
    N, H, W = weights.shape[:3]
    if weights.ndim == 4:
        largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
        weights = 0.5 + 0.5 * weights / np.where(largest > 0, largest, 1)
    columns = min(columns, N)
    rows = -(-N // columns)
    gap = np.nan if weights.ndim == 3 else 1.0
    sheet = np.full((rows * (H + 1) - 1, columns * (W + 1) - 1, *weights.shape[3:]), gap)
    for k, picture in enumerate(weights):
        top, left = k // columns * (H + 1), k % columns * (W + 1)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def flow_diagram(boxes: Sequence[str], forward: Sequence[str], backward: Sequence[str], title: str) -> Figure:
    """Boxes from left to right; between neighbours a blue arrow for the way forward and a red one for the way back.

    boxes: their texts. forward, backward: what stands on the arrows, one text for each pair of neighbours.
    """
    if len(boxes) != len(forward) + 1 or len(boxes) != len(backward) + 1:
        raise ValueError(f"expected one arrow text fewer than boxes, got {len(boxes)}, {len(forward)}, {len(backward)}")
    blue, red = sns.color_palette()[0], sns.color_palette()[3]
    figure, axes = plt.subplots(figsize=(2.3 * len(boxes), 2.2))
    axes.set(xlim=(-0.35, len(boxes) - 0.65), ylim=(-1, 1), title=title)
    axes.axis("off")
    for i, text in enumerate(boxes):
        axes.text(i, 0, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": "white", "ec": "grey"})
    for i, (there, back) in enumerate(zip(forward, backward, strict=True)):
        axes.annotate("", (i + 0.68, 0.2), (i + 0.32, 0.2), arrowprops={"arrowstyle": "->", "color": blue, "lw": 1.5})
        axes.annotate("", (i + 0.32, -0.2), (i + 0.68, -0.2), arrowprops={"arrowstyle": "->", "color": red, "lw": 1.5})
        axes.text(i + 0.5, 0.3, there, ha="center", va="bottom", color=blue)
        axes.text(i + 0.5, -0.3, back, ha="center", va="top", color=red)
    return figure
