"""The matrix of patches, row by row: im2col and col2im to touch.

Its one idea: every entry of that matrix is a copy of a pixel. Point at a pixel, and its copies light up; col2im adds so
many gradients for it.
"""

import matplotlib.pyplot as plt
import numpy as np

from ..reference import im2col
from .figure import Figure, encode, png

LARGEST = 16  # pixels a side: a matrix of more rows can't be read


def patch_matrix(image: np.ndarray, kernel_size: tuple[int, int] = (3, 3), stride: int = 1, padding: int = 0) -> Figure:
    """Move a window over a picture, and watch im2col write each patch as one row of a matrix.

    Point at a pixel (or press the arrow keys): its copies light up. How many there are in the whole matrix is what
    col2im adds up for it. Stride and padding can be changed in the figure. On paper: three moments of the writing.

    image: (H, W), numbers, at most 16 by 16. kernel_size: (kh, kw), within the picture. stride: 1 to 3. padding: 0 to
    2 pixels of zeros on every side. Raises ValueError for anything else.
    """
    image, kernel_size = _checked(image, kernel_size, stride, padding)
    alt = (
        "Left, a small picture with a window on it; right, the matrix of patches, which gains one row for each "
        "position of the window. Move the window, and its row lights up; point at a pixel, and all of its copies in "
        "the matrix light up and are counted."
    )
    data = {"image": encode(image), "kernel_size": kernel_size, "stride": stride, "padding": padding}
    return Figure("patch_matrix", data, png=_still(image, kernel_size, stride, padding), alt=alt, height=620)


def _still(image, kernel_size, stride, padding):
    """Draw three moments for paper: the first row, half of them, all; the middle pixel and its copies are marked."""
    (H, W), (kh, kw) = image.shape, kernel_size
    rows = im2col(image[None, :, :, None], kernel_size, stride, padding)
    marked = np.zeros((1, H, W, 1))
    marked[0, H // 2, W // 2] = 1
    copies = np.argwhere(im2col(marked, kernel_size, stride, padding))  # (count, 2): row and place
    across = (W + 2 * padding - kw) // stride + 1
    padded = np.pad(image, padding)
    shades = {"cmap": "gray", "vmin": min(0, image.min()), "vmax": max(0, image.max()) or 1}
    figure, grid = plt.subplots(2, 3, figsize=(9, 7), height_ratios=[1, 1.6])
    for p, (above, below) in zip((0, len(rows) // 2, len(rows) - 1), grid.T, strict=True):
        window = (p // across * stride - 0.5, p % across * stride - 0.5)  # top, left
        above.imshow(padded, **shades)
        above.add_patch(plt.Rectangle(window[::-1], kw, kh, fill=False, ec="C3", lw=3))
        above.plot(W // 2 + padding, H // 2 + padding, "D", color="C0", mec="white")
        written = np.where(np.arange(len(rows))[:, None] <= p, rows, np.nan)
        below.imshow(written, aspect="auto", **shades)
        below.add_patch(plt.Rectangle((-0.5, p - 0.5), kh * kw, 1, fill=False, ec="C3", lw=3, clip_on=False))
        so_far = copies[copies[:, 0] <= p]
        below.plot(so_far[:, 1], so_far[:, 0], "D", color="C0", mec="white")
        above.set(title=f"position {p}", xticks=[], yticks=[])
        what = f"copies of ◆: {len(so_far)} of {len(copies)}"
        below.set(title=what, xlabel="place in the patch", xticks=range(kh * kw), ylabel="row = position")
    for axes in grid.flat:
        axes.grid(False)
    figure.suptitle("A window moves over a picture; each patch becomes a row of the matrix")
    return png(figure)


def _checked(image, kernel_size, stride, padding):
    """Return the picture as (H, W) float32 and the kernel's size as two ints; raise ValueError where they don't fit."""
    image = np.asarray(image)
    if image.ndim != 2 or 0 in image.shape or max(image.shape) > LARGEST or image.dtype.kind not in "uif":
        raise ValueError(
            f"patch_matrix expects one picture (H, W) of numbers, at most {LARGEST} by {LARGEST}, "
            f"got {image.dtype} {image.shape}"
        )
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise ValueError("patch_matrix expects finite pixels, got NaN or infinity")
    try:
        kh, kw = (int(side) for side in kernel_size)
    except (TypeError, ValueError):
        raise ValueError(f"kernel_size is a pair (height, width), got {kernel_size!r}") from None
    if not (1 <= kh <= image.shape[0] and 1 <= kw <= image.shape[1]):
        raise ValueError(f"a kernel of {kh} by {kw} does not fit into a picture of shape {image.shape}")
    if stride not in (1, 2, 3):
        raise ValueError(f"stride is 1, 2 or 3, got {stride!r}")
    if padding not in (0, 1, 2):
        raise ValueError(f"padding is 0, 1 or 2, got {padding!r}")
    return image, (kh, kw)
