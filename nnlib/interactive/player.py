"""A player: pictures in a row, and a slider over them.

Its one idea: what changes slowly (filters from epoch to epoch, a boundary that bends) needs no program, only pictures
that one can go through at one's own pace, forwards and back.
"""

import base64
import io
import struct
from collections.abc import Sequence

import matplotlib.figure
import numpy as np

from .figure import Figure, png


def player(frames, labels: Sequence[str], *, alt: str, label: str = "step", start: int = -1, dpi: int = 100) -> Figure:
    """Return a figure with a slider over pictures, and a button that plays them in at most five seconds.

    frames: matplotlib figures, all of one size (they are closed), or an array of pictures: (N, H, W) greys or
    (N, H, W, 3) colours, uint8 or floats in 0..1, shown as enlarged pixels.
    labels: N texts; the slider shows them behind its own `label`. alt: what is seen, and what can be done.
    start: the frame that is shown first, and on paper (the last). dpi: pixels an inch, for matplotlib's figures.

    Raises ValueError for no frames, frames of different sizes, another number of labels, values out of range.
    """
    labels = [str(text) for text in labels]
    are_figures = all(isinstance(frame, matplotlib.figure.Figure) for frame in frames)
    if not are_figures:
        frames = _as_bytes(frames)
    if not len(frames) or len(frames) != len(labels):
        raise ValueError(f"player expects as many labels as frames, one at least: got {len(frames)} and {len(labels)}")
    if not -len(frames) <= start < len(frames):
        raise ValueError(f"start is the number of one of {len(frames)} frames, got {start}")
    if are_figures and len({tuple(frame.get_size_inches()) for frame in frames}) > 1:
        raise ValueError("player expects frames of one size, or the page would jump: give each the same figsize")
    pictures = [png(frame, dpi) for frame in frames] if are_figures else [_picture(frame) for frame in frames]
    start %= len(pictures)
    still = pictures[start] if are_figures else _picture(_enlarged(frames[start]))
    width, height = struct.unpack(">II", still[16:24])  # where every PNG has them
    data = {
        "frames": [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures],
        "labels": labels,
        "label": label,
        "start": start,
        "alt": alt,
        "width": width,
        "height": height,
        "pixelated": not are_figures,
    }
    return Figure("player", data, png=still, alt=alt, height=height + 80)


def _as_bytes(frames):
    """Return pictures as uint8."""
    frames = np.asarray(frames)
    if frames.ndim not in (3, 4) or frames.shape[3:] not in ((), (3,)) or 0 in frames.shape:
        raise ValueError(f"player expects figures, or an array (N, H, W) or (N, H, W, 3), got {frames.shape}")
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating) or not (frames.min() >= 0 and frames.max() <= 1):
        raise ValueError(f"player expects uint8 pictures or floats in 0..1, got {frames.dtype}")
    return np.round(255 * frames).astype(np.uint8)


def _enlarged(picture, width=560):
    """Repeat the pixels of a picture (H, W, ...) up to about this width."""
    times = max(1, width // picture.shape[1])
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _picture(array):
    """Write uint8 pixels as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", optimize=True, dpi=(100, 100))
    return buffer.getvalue()
