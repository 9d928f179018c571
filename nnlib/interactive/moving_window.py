"""The window that moves: one kernel slides over one picture, and every output is nine products and their sum.

Its one idea: the same nine numbers everywhere. Change one of them, and every output changes.
"""

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

from .figure import Figure, encode, png

LARGEST = 99  # a weight goes from -99 to 99
PRESETS = {
    "vertical edges": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "horizontal edges": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "blur": [[1 / 9] * 3] * 3,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
}


def moving_window(
    image: np.ndarray,
    kernel: np.ndarray,
    *,
    presets: Mapping[str, np.ndarray] | None = None,
    at: tuple[int, int] | None = None,
) -> Figure:
    """Slide a 3 by 3 kernel over a grey picture: see the nine products below it, their sum, and the output grow.

    image: (H, W) floats in 0..1, each side 3 to 64. kernel: (3, 3) finite numbers within -99..99; each can be changed.
    presets: kernels to choose from by name; by default two that find edges, one that blurs, one that sharpens.
    at: (row, column) of the window's upper left pixel at first, and on paper; by default where the answer is largest.

    The output (H-2, W-2) is that of `nnlib.Conv2d` without padding and bias. Raises ValueError for other arguments.
    """
    image = _checked_image(image)
    kernel = _checked_kernel(kernel, "kernel")
    presets = {str(name): _checked_kernel(each, f"preset {name!r}") for name, each in (presets or PRESETS).items()}
    output = slide(image, kernel)
    if at is None:
        at = np.unravel_index(np.abs(output).argmax(), output.shape)
    row, column = map(int, at)
    if not (0 <= row < output.shape[0] and 0 <= column < output.shape[1]):
        raise ValueError(f"the window's place lies within {output.shape}, got {(row, column)}")
    data = {
        "image": encode(image),
        "kernel": encode(kernel),
        "presets": [{"name": name, "kernel": encode(each)} for name, each in presets.items()],
        "at": [row, column],
        "largest": LARGEST,
    }
    alt = (
        f"A picture of {image.shape[0]} by {image.shape[1]} pixels with a window of 3 by 3 on it, the nine pixels in "
        f"it times nine weights, and the output of {output.shape[0]} by {output.shape[1]}. At row {row}, column "
        f"{column} the products add up to {output[row, column]:.3f}. Move the window, change a weight."
    )
    return Figure("moving_window", data, png=png(_still(image, kernel, output, row, column)), alt=alt, height=640)


def slide(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return what the kernel (3, 3) makes of image (H, W): (H-2, W-2) float64, without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(float), (3, 3))  # (H-2, W-2, 3, 3)
    return (windows * kernel).sum(axis=(2, 3))


def _checked_image(image):
    image = np.asarray(image)
    if image.ndim != 2 or not all(3 <= side <= 64 for side in image.shape):
        raise ValueError(f"image is one grey picture (H, W), each side 3 to 64 pixels, got {image.shape}")
    if image.dtype.kind != "f":
        raise ValueError(f"image holds floats in 0..1, got {image.dtype}: scale it, image.astype(np.float32) / 255")
    if not ((image >= 0) & (image <= 1)).all():  # NaN is neither
        raise ValueError("image holds floats in 0..1, got others (or NaN)")
    return image.astype(np.float32)


def _checked_kernel(kernel, name):
    kernel = np.asarray(kernel)
    if kernel.shape != (3, 3) or kernel.dtype.kind not in "fiu":
        raise ValueError(f"{name} is (3, 3) numbers, got {kernel.dtype} {kernel.shape}")
    if not (np.abs(kernel.astype(float)) <= LARGEST).all():
        raise ValueError(f"{name} holds numbers from -{LARGEST} to {LARGEST}, got others (or NaN)")
    return kernel.astype(np.float64)


def _still(image, kernel, output, row, column) -> matplotlib.figure.Figure:
    """Draw the picture with its window, the nine products as a sum, and the output with the one that they make."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.9), width_ratios=[1, 1.1, 1])
    left.imshow(image, cmap="gray", vmin=0, vmax=1)
    left.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 3, 3, fill=False, edgecolor="C3", linewidth=2.5))
    left.set(title="the window on the picture")
    patch = image[row : row + 3, column : column + 3].astype(float)
    for (i, j), weight in np.ndenumerate(kernel):
        text = f"{patch[i, j]:.2f}\n× {weight:.3g}\n= {patch[i, j] * weight:.2f}"
        middle.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=10)
    middle.set(xlim=(0, 3), ylim=(3, 0), aspect="equal", title=f"nine products, sum {output[row, column]:.3f}")
    middle.set(xticks=range(4), yticks=range(4), xticklabels=[], yticklabels=[])
    reach = _reach(kernel)
    right.imshow(output, cmap="gray" if reach is None else "RdBu_r", vmin=-(reach or 0), vmax=reach or 1)
    right.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2.5))
    right.set(title="the output: one number a window")
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    return figure


def _reach(kernel):
    """Return the largest possible answer of a kernel whose numbers add up to 0; None for all others."""
    return np.abs(kernel).sum() / 2 if np.abs(kernel).sum() > 0 and abs(kernel.sum()) < 1e-9 else None
