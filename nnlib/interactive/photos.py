"""A photograph to move, mirror, darken and disturb, while networks say what it shows; and what such figures share.

Its one idea: the networks themselves are in the browser, so every change is answered at once, and with the numbers that
nnlib computes from the same rounded weights.
"""

import base64
import copy
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from ..backend import to_device, to_float
from ..layers import Dropout
from ..model import Sequential
from .figure import Figure, encode, png
from .network import SETTINGS, network_json, softmax

MOST_PICTURES = 12
NOISE_UNIT = 32  # the noise is stored as whole numbers: so many are one standard deviation
REACH = 4  # the photo lab tries every shift of up to so many pixels


def photo_lab(
    models: Mapping[str, Sequential],
    images: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    dtype: str = "int8",
) -> Figure:
    """Move a photograph, mirror it, make it darker or noisy, and watch what each of the networks answers.

    models: one to three networks by name; each takes (N, H, W, C) of floats in 0..1 and gives one logit for each class.
    images: uint8 (n, H, W, C), 1 to 12 pictures to choose from, C is 1 or 3. labels: their n classes, whole numbers.
    class_names: the classes' names. dtype: how the weights are written (see `network_json`).

    A button tries the 81 shifts of up to 4 pixels, and counts those at which each network is right.

    Layers of one's own are allowed before the first layer of nnlib, as long as they only scale colours and reshape.
    Raises ValueError for other pictures, labels and names, and for a model that `network_json` refuses.
    """
    images, labels, class_names = checked(images, labels, class_names)
    if not isinstance(models, Mapping) or not 1 <= len(models) <= 3:
        raise ValueError('photo_lab expects one to three models by name, such as {"CNN": network}')
    written, rounded = zip(*(for_browser(model, images, class_names, dtype) for model in models.values()), strict=True)
    data = {
        "images": encode(images),
        "labels": labels,
        "class_names": class_names,
        "names": [str(name) for name in models],
        "networks": written,
        "noise": encode(_noise(images.shape[1:])),
        "noise_unit": NOISE_UNIT,
        "reach": REACH,
    }
    settings = {"as it is": {}, "4 pixels to the right": {"right": 4}, "mirrored": {"mirror": True}}
    settings |= {"a noise of 40 levels": {"noise": 40}}
    variants = np.array([change_photo(images[0], **setting) for setting in settings.values()])
    answers = {name: softmax(model.predict(variants)) for name, model in zip(models, rounded, strict=True)}
    places = range(-REACH, REACH + 1)
    shifted = np.array([change_photo(images[0], right=right, down=down) for down in places for right in places])
    hits = {
        name: model.predict(shifted).argmax(axis=1) == labels[0] for name, model in zip(models, rounded, strict=True)
    }
    alt = (
        f"A picture of the class {class_names[labels[0]]}, with sliders for shift, brightness and noise and a mirror, "
        f"and what {' and '.join(data['names'])} answer to it, class by class: "
    )
    alt += "; ".join(
        f"{text}, " + ", ".join(f"{name} says {class_names[p[k].argmax()]}" for name, p in answers.items())
        for k, text in enumerate(settings)
    )
    alt += ". Of 81 shifts, " + " and ".join(f"{name} is right at {hit.sum()}" for name, hit in hits.items()) + "."
    still = png(_lab_still(variants, list(settings), answers, hits, class_names))
    return Figure("photo_lab", data, png=still, alt=alt, height=640, scripts=("net", "photos"))


def change_photo(
    image: np.ndarray,
    *,
    right: int = 0,
    down: int = 0,
    mirror: bool = False,
    brightness: float = 1.0,
    noise: float = 0.0,
) -> np.ndarray:
    """Change a picture (H, W, C) of uint8 as the photo lab's controls do; return it as uint8 again.

    mirror: swap left and right, first. right, down: then move it by so many pixels (negative: the other way); what
    comes in is black. brightness: then multiply. noise: at last add this standard deviation, in levels of 255, times a
    picture of normally distributed numbers, always the same one.
    """
    H, W = image.shape[:2]
    moved = np.zeros_like(image)
    rows, columns = np.arange(H) - down, np.arange(W) - right  # where each pixel comes from
    inside = np.ix_((rows >= 0) & (rows < H), (columns >= 0) & (columns < W))
    source = image[:, ::-1] if mirror else image
    moved[inside] = source[np.ix_(rows[(rows >= 0) & (rows < H)], columns[(columns >= 0) & (columns < W)])]
    changed = brightness * moved.astype(float) + noise * _noise(image.shape).astype(float) / NOISE_UNIT
    return np.floor(changed.clip(0, 255) + 0.5).astype(np.uint8)


def _noise(shape):
    """Return a picture of normally distributed numbers, in whole `NOISE_UNIT`s of a standard deviation, int8."""
    return np.rint(NOISE_UNIT * np.random.default_rng(0).normal(size=shape)).clip(-127, 127).astype(np.int8)


def checked(images, labels, class_names):
    """Return images, labels and names as array and lists; raise ValueError for what does not fit together."""
    images, class_names = np.asarray(images), [str(name) for name in class_names]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"expected uint8 pictures (n, H, W, 1 or 3), got {images.dtype} {images.shape}")
    if len(images) > MOST_PICTURES or max(images.shape[1:3]) > 64:
        raise ValueError(f"expected up to {MOST_PICTURES} pictures of up to 64 x 64 pixels, got {images.shape}")
    if len(set(class_names)) < len(class_names) or len(class_names) < 2:
        raise ValueError(f"class_names are different names, two at least, got {class_names}")
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"expected {len(images)} labels, whole numbers, got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(f"labels are 0 to {len(class_names) - 1}, got {labels.min()} to {labels.max()}")
    return images, labels.tolist(), class_names


def for_browser(model, images, class_names, dtype):
    """Return a model as data for web/photos.js, and a copy of it with the weights that the data hold.

    Its first layers may be of one's own kind: what they do to pictures is found out and written as a gain and an offset
    for each colour, and a shape.
    """
    if not isinstance(model, Sequential):
        raise ValueError(f"expected a model, nnlib.Sequential([...]), got {type(model).__name__}")
    layers = [copy.deepcopy(layer) for layer in model.layers if not isinstance(layer, Dropout)]
    own = next((place for place, layer in enumerate(layers) if type(layer) in SETTINGS), len(layers))
    if own == len(layers):
        raise ValueError("the model has no layer that the network in the browser knows")
    written = _preparation(layers[:own], images) | {"network": network_json(Sequential(layers[own:]), dtype=dtype)}
    for layer, entry in zip(layers[own:], written["network"]["layers"], strict=True):
        layer.params = {key: to_device(_decoded(entry[key]).astype(param.dtype)) for key, param in layer.params.items()}
    rounded = Sequential(layers)
    found = rounded.predict(images[:1]).shape
    if found != (1, len(class_names)):
        raise ValueError(f"the model answers {found} to one picture, expected a logit for each of {len(class_names)}")
    return written, rounded


def _preparation(layers, images):
    """Return {"gain", "offset", "shape"} of layers that do no more than scale each colour and reshape."""
    x = to_float(images)
    ends = np.stack([np.zeros_like(x[0]), np.ones_like(x[0])])
    y, black_white = (Sequential(layers).predict(values) if layers else values for values in (x, ends))
    if y.size == x.size and len(y) == len(x):
        offset, white = black_white.reshape(ends.shape)[:, 0, 0]
        gain = white - offset
        if np.allclose(y.reshape(x.shape), gain * x + offset, rtol=0, atol=1e-4):
            return {"gain": gain.tolist(), "offset": offset.tolist(), "shape": list(y.shape[1:])}
    names = ", ".join(type(layer).__name__ for layer in layers)
    raise ValueError(f"the browser's network can scale colours and reshape pictures; {names} does something else")


def _decoded(entry):
    """Return the float32 weights that `network_json` has written."""
    values = np.frombuffer(base64.b64decode(entry["base64"]), entry["dtype"]).reshape(entry["shape"])
    scales = _decoded(entry["scales"]) if "scales" in entry else np.float32(1)
    return values.astype(np.float32) * scales


def _lab_still(variants, texts, answers, hits, class_names):
    """Draw, for paper, a picture in four settings, below each what the networks say, and the shifts that they bear."""
    figure = plt.figure(figsize=(10, 4.6))
    left, right = figure.subfigures(1, 2, width_ratios=[4.4, 1])
    grid = left.subplots(2, len(texts), height_ratios=[1, 1.4], sharey="row")
    height = 0.8 / len(answers)
    for column, (upper, lower) in enumerate(grid.T):
        draw(upper, variants[column], texts[column])
        for k, (name, probabilities) in enumerate(answers.items()):
            places = np.arange(len(class_names)) + (k - (len(answers) - 1) / 2) * height
            lower.barh(places, 100 * probabilities[column], height, label=name, color=f"C{k}", hatch="//" * k)
        lower.set(xlim=(0, 100), xticks=(0, 50, 100), xlabel="probability (%)")
    grid[1, 0].set_yticks(range(len(class_names)), class_names, fontsize=9)
    grid[1, 0].invert_yaxis()
    grid[1, -1].legend(fontsize=9)
    for axes, (name, hit) in zip(right.subplots(len(hits), squeeze=False).flat, hits.items(), strict=True):
        axes.imshow(hit.reshape(2 * REACH + 1, -1), cmap="Blues", vmin=0, vmax=1.5, extent=[-4.5, 4.5, 4.5, -4.5])
        axes.set(xticks=(-REACH, 0, REACH), yticks=(-REACH, 0, REACH))
        axes.set_title(f"{name}: right at\n{hit.sum()} of {hit.size} shifts", fontsize=10)
        axes.grid(False)
    return figure


def draw(axes, picture, title):
    """Draw a picture (H, W, C), uint8 or floats in 0..1, below a title."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
