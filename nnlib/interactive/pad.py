"""A sheet on which one draws a digit that a network reads: in a notebook, or as one file to send to a friend.

Its one idea: a network reads only pictures like those it has learnt from. So a drawing, wherever it stands on the sheet
and however large it is, is first made into what MNIST would have made of it; `web/strokes.js` computes the same.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ..model import Sequential, whole_file
from ..recurrent import GRU, RNN
from .figure import Figure, encode, png
from .network import network_json, softmax

PEN = 2.6  # the pen's thickness in pixels of the picture: MNIST's digits hold as much ink
INK, BOX = 84, 80  # a drawing is laid out finely first: its longer side takes 80 of 84 pixels
MOST_EXAMPLES = 20
# the drawing on paper, a line of points: x y, y downwards
LINE = (
    "89 65 103 48 125 37 149 35 172 41 191 55 201 74 202 96 194 116 176 131 154 139 "
    "149 136 173 143 193 156 205 174 208 194 201 213 187 230 165 241 139 246 114 243 91 233 74 218"
)
THREE = np.array(LINE.split(), float).reshape(1, -1, 2)


def digit_pad(
    model: Sequential,
    *,
    labels: Sequence[str] = "0123456789",
    image_shape: tuple[int, int] = (28, 28),
    examples: np.ndarray | None = None,
) -> Figure:
    """Draw a digit and watch the model's probabilities change with every stroke.

    model: takes pictures as (N, H, W, 1), (N, H, W) or (N, H*W) of floats in 0..1, gives one logit for each label.
    labels: the names of its answers. image_shape: (H, W) of its pictures. examples: uint8 (n, H, W) or (n, H, W, 1),
    up to 20 pictures to load by a button. On paper: a drawn 3 (where no label is "3": the first example).

    The weights travel with the figure, in the dtype that `network_json` chooses. Raises ValueError for layers that the
    browser's network does not know, for weights that are not finite, and for another size of picture or of answer.
    """
    return _digit_pad(model, labels, image_shape, examples)


def belief_pad(
    model: Sequential, *, labels: Sequence[str] = "0123456789", examples: np.ndarray | None = None
) -> Figure:
    """Draw a digit and see what a network that reads it row by row believes after each of the 28 rows.

    model: its first layer is an RNN or a GRU that reads rows of 28 pixels, (N, 28, 28) in all, and returns its last
    state; the other layers turn a state into one logit for each label. labels, examples: see `digit_pad`.

    A slider says how many rows have been read. Then the network is asked at once (the other layers get the state that
    it has), or it reads on, with the rest left blank. Raises ValueError for another model, and as `digit_pad` does.
    """
    if isinstance(model, Sequential):
        _check_reader(model.layers[0])
    network = network_json(model, dtype=None)
    labels, examples = _checked_labels(labels), _checked_examples(examples, (28, 28))
    _input_shape(model, (28, 28), len(labels))
    picture = centre_digit(draw_ink(THREE))
    beliefs = np.concatenate([softmax(model.predict(picture[None, : t + 1])) for t in range(28)])
    data = {"network": network, "image_shape": (28, 28), "labels": labels, "examples": _encoded(examples)}
    alt = (
        "A sheet to draw a digit on; beside it the 28 rows of the picture that the network sees, and a map of what it "
        "believes after each of them, with a slider for the rows read. The one shown is read, at its end, as "
        f"{labels[beliefs[-1].argmax()]}."
    )
    still = png(_belief_still(picture, beliefs, labels))
    return Figure("belief_pad", data, png=still, alt=alt, height=655, scripts=("net", "strokes"))


def save_page(
    model: Sequential,
    path: str | Path,
    *,
    title: str = "A network that reads digits",
    note: str = "",
    labels: Sequence[str] = "0123456789",
    image_shape: tuple[int, int] = (28, 28),
    examples: np.ndarray | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the digit pad with this model as one HTML file, to send to a friend: it works without a network.

    title: stands above the pad. note: a sentence on the model below it, its accuracy for instance. The others: see
    `digit_pad`. dtype: how the weights are written (see `network_json`). None takes "float16" up to 300,000
    weights, a page of up to 0.9 MB, and "int8" above, 1.4 characters of the page for each: 784-512-10 makes 0.6 MB.

    Raises FileExistsError if the file is there already and overwrite is False, FileNotFoundError without its folder,
    another OSError where it can't be written (nothing half-written stays), and ValueError as `digit_pad` does.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it, such as {path / 'my_network.html'}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already: choose another name, or write over it with overwrite=True")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first, or choose another one")
    said = f"{note.strip()} " if note.strip() else ""
    said += "Draw a digit, and the network answers: it is in this page, and nothing that you draw leaves it."
    figure = _digit_pad(model, labels, image_shape, examples, dtype, said)
    page = figure.page(title)
    try:
        with whole_file(path) as file:
            file.write(page.encode())
    except OSError as error:
        raise type(error)(error.errno, f"{path} can't be written: {error.strerror}") from None


def draw_ink(strokes: Sequence[Sequence[tuple[float, float]]]) -> np.ndarray:
    """Draw lines of points (x, y), y downwards, with MNIST's pen, as large as fits. Returns (84, 84) floats in 0..1."""
    lines = [np.asarray(stroke, float).reshape(-1, 2) for stroke in strokes]
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    thickness = PEN * BOX / 20
    scale = (BOX - thickness) / max((high - low).max(), 1e-9)
    middles = np.stack(np.meshgrid(np.arange(INK) + 0.5, np.arange(INK) + 0.5), axis=-1)  # (INK, INK, 2): x, y
    ink = np.zeros((INK, INK))
    for line in lines:
        line = (line - (low + high) / 2) * scale + INK / 2
        for a, b in zip(line, line[1:] if len(line) > 1 else line, strict=False):
            begin, end = np.minimum(a, b) - thickness / 2 - 1, np.maximum(a, b) + thickness / 2 + 1  # far enough
            columns, rows = (slice(max(0, int(begin[axis])), int(end[axis]) + 1) for axis in (0, 1))
            from_a = middles[rows, columns] - a
            along = (from_a @ (b - a) / max((b - a) @ (b - a), 1e-12)).clip(0, 1)
            distance = np.linalg.norm(from_a - along[..., None] * (b - a), axis=-1)
            near = ink[rows, columns]
            np.maximum(near, (thickness / 2 + 0.5 - distance).clip(0, 1), out=near)  # smooth at the edge
    return ink


def centre_digit(ink: np.ndarray, image_shape: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Make a drawing into a picture as MNIST's were made (LeCun et al. 1998): scaled, smooth, in the middle.

    ink: (rows, columns), floats in 0..1, or uint8; 0 is paper. Returns image_shape, uint8: the ink's longer side takes
    20 of 28 pixels, proportions kept; each pixel is the mean of the ink below it; then all is moved by whole pixels,
    until the centre of mass lies in pixel (14, 14) of (28, 28), but no ink leaves the picture. MNIST's own digits stay
    as they are. Without ink the picture is empty. Raises ValueError for another shape.
    """
    ink = np.asarray(ink)
    if ink.ndim != 2 or 0 in ink.shape:
        raise ValueError(f"centre_digit expects ink of shape (rows, columns), got {ink.shape}")
    ink = ink / 255 if ink.dtype == np.uint8 else ink.astype(float)
    masses = ink.sum(axis=1), ink.sum(axis=0)
    if not masses[0].any():
        return np.zeros(image_shape, np.uint8)
    size = max(np.ptp(np.flatnonzero(mass)) + 1 for mass in masses) / (min(image_shape) * 20 / 28)  # of a pixel
    rows, columns = (_shares(mass, count, size) for mass, count in zip(masses, image_shape, strict=True))
    return np.floor(255 * (rows @ ink @ columns.T) + 0.5).astype(np.uint8)


def _shares(mass, count, size):
    """Return, along one axis, the share (count, len(mass)) that the ink's pixels have in each of the picture's."""
    places = np.arange(len(mass))
    begin, end = np.flatnonzero(mass)[[0, -1]] + (0, 1)
    centre = (mass @ (places + 0.5) / mass.sum() - begin) / size  # in pixels of the picture, from where the ink begins
    margin = np.ceil(count / 2 - centre - 1e-6)  # whole pixels, as in MNIST
    edge = begin - size * margin.clip(0, np.floor(count - (end - begin) / size))  # no ink falls off the picture
    low = edge + size * np.arange(count)[:, None]
    return (np.minimum(low + size, places + 1) - np.maximum(low, places)).clip(min=0) / size


def _digit_pad(model, labels, image_shape, examples, dtype=None, note=""):
    network = network_json(model, dtype=dtype)
    labels, image_shape = _checked_labels(labels), _checked_shape(image_shape)
    examples = _checked_examples(examples, image_shape)
    input_shape = _input_shape(model, image_shape, len(labels))
    drawn = examples is None or "3" in labels
    picture = centre_digit(draw_ink(THREE), image_shape) if drawn else examples[0]
    probabilities = softmax(model.predict(picture.reshape(input_shape)))[0]
    best = int(probabilities.argmax())
    data = {
        "network": network,
        "input_shape": input_shape,
        "image_shape": image_shape,
        "labels": labels,
        "examples": _encoded(examples),
        "note": note,
    }
    alt = (
        "A sheet to draw a digit on; beside it the "
        f"{image_shape[0]} by {image_shape[1]} pixels that the network sees, and a bar for each of its {len(labels)} "
        f"answers, which changes with every stroke. The one shown is read as {labels[best]}."
    )
    still = png(_digit_still(THREE if drawn else None, picture, probabilities, labels))
    return Figure("digit_pad", data, png=still, alt=alt, height=455, scripts=("net", "strokes"))


def _digit_still(strokes, picture, probabilities, labels):
    """Draw the pad for paper: the drawing (or the example), the picture that the network sees, and the answers."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 3), width_ratios=[1, 1, 1.3])
    if strokes is None:
        left.imshow(picture, cmap="gray_r")
    else:
        for stroke in strokes:
            left.plot(*np.transpose(stroke), color="black", linewidth=5, solid_capstyle="round")
        left.set(xlim=(0, 280), ylim=(280, 0), aspect="equal")
    middle.imshow(picture, cmap="gray", vmin=0, vmax=255)
    for axes, title in ((left, "drawn"), (middle, "what the network sees")):
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(False)
    right.barh(range(len(labels)), 100 * probabilities)
    right.set_yticks(range(len(labels)), labels)
    right.invert_yaxis()
    right.set(title="what it answers", xlabel="probability (%)", xlim=(0, 100))
    return figure


def _check_reader(layer):
    """Raise ValueError unless this first layer reads rows of 28 pixels and hands its last state on."""
    recurrent = isinstance(layer, RNN | GRU)
    width = len(layer.params["Wx"]) if recurrent else None
    if width != 28 or layer.return_sequences:
        found = type(layer).__name__ + (
            f"({width}, ..., return_sequences={layer.return_sequences})" if recurrent else "()"
        )
        raise ValueError(
            "belief_pad expects a model that begins with RNN(28, ...) or GRU(28, ...) and goes on from its last state; "
            f"this one begins with {found} (without its first layer it is nnlib.Sequential(model.layers[1:]))"
        )


def _belief_still(picture, beliefs, labels):
    """Draw, for paper, the picture and beside each of its rows the belief after it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), sharey=True)
    left.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 28, 28.5, 0.5))
    left.set(title="what the network sees", ylabel="rows read", xticks=[])
    drawn = right.imshow(
        beliefs, cmap="viridis", vmin=0, vmax=1, aspect="auto", extent=(-0.5, len(labels) - 0.5, 28.5, 0.5)
    )
    right.set(title="what it believes then")
    right.set_xticks(range(len(labels)), labels)
    for axes in (left, right):
        axes.grid(False)
    figure.colorbar(drawn, label="probability")
    return figure


def _checked_labels(labels):
    labels = [str(label) for label in labels]
    if len(set(labels)) < len(labels) or not labels:
        raise ValueError(f"labels are different names, one for each answer, got {labels}")
    return labels


def _checked_shape(image_shape):
    if len(image_shape) != 2 or not all(isinstance(side, int) and 8 <= side <= 112 for side in image_shape):
        raise ValueError(f"image_shape is (height, width) in pixels, each from 8 to 112, got {image_shape!r}")
    return list(image_shape)


def _checked_examples(examples, image_shape):
    """Return the examples as (n, H, W), or None; raise ValueError for what are no such pictures."""
    if examples is None:
        return None
    examples = np.asarray(examples)
    shape = examples.shape[:-1] if examples.ndim == 4 and examples.shape[-1] == 1 else examples.shape
    H, W = image_shape
    if examples.dtype != np.uint8 or len(shape) != 3 or shape[1:] != (H, W) or not 1 <= shape[0] <= MOST_EXAMPLES:
        raise ValueError(
            f"examples are 1 to {MOST_EXAMPLES} uint8 pictures (n, {H}, {W}), got {examples.dtype} {examples.shape}"
        )
    return examples.reshape(shape)


def _encoded(examples):
    return None if examples is None else encode(examples)


def _input_shape(model, image_shape, answers):
    """Return the shape in which the model takes one picture; raise ValueError if it takes none."""
    H, W = image_shape
    refused = []
    for shape in ([1, H, W, 1], [1, H, W], [1, H * W]):
        try:
            found = model.predict(np.zeros(shape, np.float32)).shape
        except ValueError as error:
            refused.append(str(error))
            continue
        if found == (1, answers):
            return shape
        raise ValueError(f"the model answers {found} to one picture, expected (1, {answers}): a logit for each label")
    raise ValueError(
        f"the model takes pictures of {H} x {W} neither as (N, {H}, {W}, 1) nor as (N, {H}, {W}) nor as (N, {H * W}): "
        + "; ".join(dict.fromkeys(refused))
    )
