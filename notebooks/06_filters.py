# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 · What the filters look for
#
# **What you will build.** Six ways to look inside a network: its filters before and after
# training, what each layer makes of a picture, the patches that a filter likes best, the
# picture that a class would love most, a tiny change that fools it, and what happens to the
# answer when a part of the picture is hidden. Each is a few lines of NumPy. And each comes
# with a measurement, because pictures of networks are persuasive, and some of them lie.
#
# ![Twenty-four colour filters of the first layer, before training and
# after](images/06_filters.png)
#
# **What you need.** Convolutions (notebooks 02 and 03), and for one section the RNN of
# notebook 04. This notebook trains the small networks that it shows.
#
# **How long it takes.** Two minutes of computing on a laptop with two cores.

# %%
import copy
import os

import matplotlib.pyplot as plt
import numpy as np

import nnlib
from nnlib import checks, claim, interactive, load_dataset, plots

SEED = int(
    os.environ.get("NNLIB_SEED", 0)
)  # another seed, another run: the claims must hold all the same
rng = np.random.default_rng(SEED)

digits = load_dataset("mnist")
colour = load_dataset("cifar10")
full = "sample" not in (digits.source, colour.source)

# %% [markdown]
# Two data sets: the grey digits that you know, and small colour pictures, 32 × 32 pixels
# with a red, a green and a blue value each. The lines above say where they came from. We
# set validation pictures aside and look at those; the test sets stay closed in this
# notebook, because we choose and compare all the time.


# %%
def prepare(data, fraction):
    """Return (images, labels) for training, at most 15,000, and for validation."""
    (images, labels), validation = data.split(fraction, rng)
    return (images[:15_000], labels[:15_000]), validation


digits_train, digits_validation = prepare(digits, 1 / 12)
colour_train, colour_validation = prepare(colour, 1 / 10)
for data, (images, _) in ((digits, digits_train), (colour, colour_train)):
    print(
        f"{data.title}: trained on {images.shape}, classes: {', '.join(data.class_names)}"
    )

# %% [markdown]
# ## Predict first

# %%
# how alike are neighbouring weights of a trained filter? (0: not at all, 1: equal)
my_correlation = 0.0
# the picture that excites the class 3 most, more than any real one: "a digit" or
# "a pattern"?
my_dream = "a digit"
# white is 1, black is 0: how much must each pixel change until half of the answers
# are wrong?
my_change = 0.5

# %% [markdown]
# ## Two networks, and how they began
#
# Filters of 3 × 3 are good for reading digits and bad for being read by us: nine numbers
# are too few to tell a small edge from an accident. (Exercise 4 measures that.) So our
# first layers get **7 × 7**. Both networks are otherwise like those of notebook 03:
# convolutions, pools, ReLU, two linear layers.
#
# One more choice makes them readable. Notebook 01 said: weights that begin large keep their
# random start as a speckle under all they learn. Here the first layer begins *small* (a
# spread of 0.01), so that what was learnt outshines what was there before. Further down we
# check whether that is fair.
#
# The colour network also begins with a layer that has nothing to learn: it subtracts the
# mean of each colour and divides by its spread. As a layer it has a way back too, so
# gradients arrive at the raw pixels.


# %%
class Standardise(nnlib.Layer):
    """(x - mean) / spread of each colour, as measured on these images (uint8)."""

    def __init__(self, images):
        super().__init__()
        mean, spread = images.mean(axis=(0, 1, 2)) / 255, images.std(axis=(0, 1, 2)) / 255
        self.mean, self.spread = (
            nnlib.to_device(values.astype(np.float32)) for values in (mean, spread)
        )

    def forward(self, x, training=False):
        return (x - self.mean) / self.spread

    def backward(self, dout, input_grad=True):
        return dout / self.spread


SMALL = nnlib.normal(0.01)


def digit_network(rng, init=SMALL):
    return nnlib.Sequential(
        [
            nnlib.Conv2d(1, 16, 7, padding=3, rng=rng, init=init),  # (N, 28, 28, 16)
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Conv2d(16, 32, 3, padding=1, rng=rng),  # (N, 14, 14, 32)
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Linear(7 * 7 * 32, 64, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(64, 10, rng=rng),
        ]
    )


def colour_network(rng):
    return nnlib.Sequential(
        [
            Standardise(colour_train[0][:2000]),
            nnlib.Conv2d(
                3, 24, 7, stride=2, padding=3, rng=rng, init=SMALL
            ),  # (N, 16, 16, 24)
            nnlib.ReLU(),
            nnlib.Conv2d(24, 32, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Conv2d(32, 64, 3, padding=1, rng=rng),  # (N, 8, 8, 64)
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Linear(4 * 4 * 64, 64, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(64, 10, rng=rng),
        ]
    )


def train(
    model, training_set, validation_set, epochs, lr=0.05, progress=True, descent=nnlib.SGD
):
    """Plain descent with momentum, and 2,000 validation pictures to watch it."""
    return nnlib.fit(
        model,
        training_set,
        tuple(array[:2000] for array in validation_set),
        optimizer=descent(model, lr=lr, momentum=0.9),
        schedule=nnlib.warmup_cosine(0.1),
        epochs=epochs,
        batch_size=64,
        rng=np.random.default_rng(SEED),
        progress=progress,
    )


def filters_of(model):
    """A copy of the weights of the first convolution, (kh, kw, C_in, C_out)."""
    first = next(layer for layer in model.layers if isinstance(layer, nnlib.Conv2d))
    return nnlib.to_numpy(first.params["W"]).copy()


reader = digit_network(np.random.default_rng(SEED))
reader_before = filters_of(reader)
history = train(reader, digits_train, digits_validation, epochs=2 if full else 3)


# %%
class FilmedSGD(nnlib.SGD):
    """Descent that keeps a copy of the first filters after each step, for later."""

    def step(self):
        super().step()
        film.append(filters_of(self.model))


viewer = colour_network(np.random.default_rng(SEED))
viewer_before = filters_of(viewer)
film = [viewer_before]
history = train(viewer, colour_train, colour_validation, epochs=3, descent=FilmedSGD)

# %% [markdown]
# ## The filters, before and after
#
# A filter has a weight for each pixel below it, so it can be drawn as a small picture. For
# grey filters we take *one* colour scale for all, symmetric around 0: red adds, blue takes
# away, white does not care. On the left are filters that engineers made by hand, as in
# notebook 02. In the middle: random numbers. On the right: the same sixteen filters, after
# training.

# %%
by_hand = np.array(
    [
        [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
        [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
        [[-1, -1, 0], [-1, 0, 1], [0, 1, 1]],
        [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]],
    ]
)
reader_after = filters_of(reader)

# %% tags=["figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 3, figsize=(11, 3.9), width_ratios=[0.8, 1, 1])
for axes, filters, columns, title in (
    (panels[0], by_hand, 2, "By hand (3 × 3)"),
    (panels[1], reader_before[:, :, 0].transpose(2, 0, 1), 4, "Before training (7 × 7)"),
    (panels[2], reader_after[:, :, 0].transpose(2, 0, 1), 4, "After training (7 × 7)"),
):
    limit = np.abs(filters).max()
    drawn = axes.imshow(
        plots.mosaic(filters, columns), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    axes.axis("off")
    axes.set_title(title)
    figure.colorbar(drawn, ax=axes, shrink=0.75, label="weight")
figure.suptitle(f"Filters of the first layer, trained on {digits.title}")
plots.show(
    figure,
    alt="Three panels in red and blue. Left, four hand-made kernels: one half red, one "
    "half blue, in four directions. Middle, sixteen filters of speckle. Right, the same "
    "sixteen after training: red and blue areas side by side.",
)

# %% [markdown]
# Nobody told the network about edges. It was asked for digits, and this is what helped.
#
# Colour filters have three weights a pixel: for red, green and blue. As a picture needs
# values from 0 to 1, each filter is scaled by *its own* largest weight, and 0 becomes
# mid-grey. Grey-looking filters see light and dark; coloured ones compare colours.

# %%
viewer_after = filters_of(viewer)

# %% tags=["cover", "figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 2, figsize=(10, 3.7))
for axes, filters, title in (
    (panels[0], viewer_before, "Before training"),
    (panels[1], viewer_after, "After training"),
):
    axes.imshow(plots.mosaic(filters.transpose(3, 0, 1, 2), columns=6))
    axes.axis("off")
    axes.set_title(title)
figure.suptitle(
    f"24 colour filters of 7 × 7 pixels, trained on {colour.title} (mid-grey: weight 0)"
)
plots.show(
    figure,
    alt="Left, twenty-four filters of coloured speckle. Right, the same after training: "
    "bars and edges in several directions, some black and white, some in colours.",
)

# %% [markdown]
# ### Can it be measured?
#
# "They look smoother" is an impression. Here is a number: take every weight and its
# neighbour (to the right, or below), and compute the **correlation** of these pairs. Random
# weights know nothing of their neighbours: it is about 0. If equal neighbours were the
# rule, it would be 1.


# %%
def neighbour_correlation(filters):
    """filters: (kh, kw, C, F). The correlation of weights with their neighbours, -1..1."""
    here = np.concatenate([filters[:, :-1].ravel(), filters[:-1].ravel()])
    there = np.concatenate([filters[:, 1:].ravel(), filters[1:].ravel()])
    return np.corrcoef(here, there)[0, 1]


before, after = neighbour_correlation(reader_before), neighbour_correlation(reader_after)
print(
    f"{digits.title}: before training {before:+.2f}, after {after:+.2f};"
    f" you predicted {my_correlation}"
)
colour_before = neighbour_correlation(viewer_before)
colour_after = neighbour_correlation(viewer_after)
print(f"{colour.title}: before training {colour_before:+.2f}, after {colour_after:+.2f}")

# %% [markdown]
# And when does it happen? We kept the colour filters after each step of their training.
# **Guess first**: after which part of all steps are neighbouring weights as alike as at the
# end? Then play the film, and go back to its beginning step by step.

# %% tags=["figure"]
moments = (np.linspace(0, 1, 14) ** 2 * (len(film) - 1)).round().astype(int)
likeness = [neighbour_correlation(filters) for filters in film]
frames = []
for moment in moments:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[1.5, 1])
    panels[0].imshow(plots.mosaic(film[moment].transpose(3, 0, 1, 2), columns=6))
    panels[0].axis("off")
    panels[1].plot(likeness, color="C0")
    panels[1].plot(moment, likeness[moment], "o", color="black")
    panels[1].set(xlabel="step of training", ylabel="correlation of neighbours")
    frames.append(figure)
interactive.player(
    frames,
    [f"step {moment} of {len(film) - 1}" for moment in moments],
    label="filters after",
    alt="The twenty-four colour filters after a step of their training, to be chosen with "
    "a slider, each scaled by its own largest weight; beside them a curve of how alike "
    "neighbouring weights are, which rises steeply at the beginning.",
)

# %% [markdown]
# The speckle is gone very early: look at how steep the curve is on its left. Smooth is what
# comes first. *Which* colours and edges it will be takes longer: follow one filter through
# the later frames, and you see it change while the curve hardly moves.
#
# ### Does a network need beautiful filters?
#
# Now the test of fairness. The same digit network, the same pictures in the same order; but
# its first layer begins with He's weights, twenty times larger.

# %%
plain = digit_network(np.random.default_rng(SEED), init=nnlib.he_normal)
plain_before = filters_of(plain)
train(plain, digits_train, digits_validation, epochs=2 if full else 3, progress=False)
plain_after = filters_of(plain)
_, reader_accuracy = nnlib.evaluate(reader, *digits_validation)
_, plain_accuracy = nnlib.evaluate(plain, *digits_validation)
print("the first layer begins   validation accuracy   correlation of neighbouring weights")
print(f"small                    {reader_accuracy:19.2%}   {after:35.2f}")
print(
    f"as He says               {plain_accuracy:19.2%}   "
    f"{neighbour_correlation(plain_after):35.2f}"
)

# %% tags=["figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 2, figsize=(8.5, 3.9))
for axes, filters, title in (
    (panels[0], plain_before, "Before training"),
    (panels[1], plain_after, "After training"),
):
    limit = np.abs(plain_before).max()
    drawn = axes.imshow(
        plots.mosaic(filters[:, :, 0].transpose(2, 0, 1), 4),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
    )
    axes.axis("off")
    axes.set_title(title)
figure.colorbar(drawn, ax=panels, shrink=0.8, label="weight")
figure.suptitle("The same network, begun with He's larger weights: as good, and unreadable")
plots.show(
    figure,
    alt="Two panels of sixteen filters of red and blue speckle, before and after "
    "training: hardly any difference.",
)

# %% [markdown]
# So the tidy filters above tell the truth about *their* network, and little about others.
# What a filter looks like depends on how it began, and a network can do its work with
# filters that nobody can read: the layers behind them learn to make use of whatever speckle
# they get. An ugly filter is not an untrained one.
#
# ## One picture, layer by layer
#
# `Sequential` runs its layers in order, so the first few of them are a network too. Ask
# that one, and you get the **activation maps**: for each filter one picture of where it
# found what it looks for.


# %%
def maps_after(model, layer, images):
    """What comes out of layer number `layer` (counted from 0): (N, H, W, filters)."""
    return nnlib.Sequential(model.layers[: layer + 1]).predict(images)


def first_of_each_class(model, validation_set):
    """The first picture of each class that the model recognises (the first at all, if it
    recognises none): nobody picked them by hand.
    """
    images, labels = (array[:2000] for array in validation_set)
    right = model.predict(images).argmax(axis=1) == labels
    of_class = [np.flatnonzero(labels == k) for k in range(10)]
    chosen = [rows[right[rows].argmax()] for rows in of_class]
    return images[chosen], labels[chosen]


ten_digits, _ = first_of_each_class(reader, digits_validation)
ten_colour, _ = first_of_each_class(viewer, colour_validation)
for name, model, images in (("digit", reader, ten_digits), ("colour", viewer, ten_colour)):
    print(f"the {name} network")
    for number, layer in enumerate(model.layers):
        shape = maps_after(model, number, images[:1]).shape[1:]
        print(f"  {number:2} {type(layer).__name__:<12} {' × '.join(map(str, shape))}")


# %% tags=["figure", "nbval-ignore-output"]
def show_maps(model, layers, images, title, alt):
    """Draw each picture, and the six busiest maps of each of these layers, each scaled by
    its own largest value.
    """
    figure, grid = plt.subplots(2 * len(images), 2, figsize=(9.5, 5.8), width_ratios=[1, 6])
    for axes in grid.flat:
        axes.axis("off")
    for image, rows in zip(images, grid.reshape(-1, 2, 2), strict=True):
        rows[0, 0].imshow(image, cmap="gray")
        rows[0, 0].set_title("the picture", fontsize=9)
        for axes, (layer, name) in zip(rows[:, 1], layers.items(), strict=True):
            # as after ReLU
            maps = np.maximum(maps_after(model, layer, image[None])[0], 0)
            maps = maps.transpose(2, 0, 1)
            busiest = np.argsort(-maps.mean(axis=(1, 2)), kind="stable")[:6]
            maps = maps[busiest] / maps[busiest].max(axis=(1, 2), keepdims=True)
            axes.imshow(plots.mosaic(maps, 6), cmap="magma", vmin=0, vmax=1)
            axes.set_title(f"{name}: filters {', '.join(map(str, busiest))}", fontsize=9)
    figure.suptitle(title)
    plots.show(figure, alt=alt)


show_maps(
    reader,
    {0: "first convolution", 3: "second convolution"},
    ten_digits[[2, 7]],
    "Two digits, and where the six busiest filters find something (black: nothing)",
    "Two digits; beside each, six maps of the first and six of the second convolution. "
    "The first show the strokes, each from another side; the second are coarser, with a "
    "few bright spots.",
)
show_maps(
    viewer,
    {1: "first convolution", 3: "second convolution"},
    ten_colour[[1, 7]],
    "Two colour pictures, and where the six busiest filters find something",
    "Two colour pictures; beside each, six maps of the first and six of the second "
    "convolution, in which edges and areas light up.",
)

# %% [markdown]
# The first layer's maps are still pictures: one lights up on upper edges, the next on left
# ones. One layer further they are coarse, and say *where something is*, no longer what it
# looked like. Much of each is black. How much?

# %%
quietest = 1.0
for name, model, images in (
    ("digit", reader, digits_validation[0]),
    ("colour", viewer, colour_validation[0]),
):
    for number in (2, 5):
        silent = (maps_after(model, number, images[:500]) == 0).mean()
        print(
            f"{name} network, after layer {number}:"
            f" {silent:.0%} of all numbers are exactly 0"
        )
        quietest = min(quietest, silent)
claim(
    "in each of these layers at least two numbers in five are exactly 0",
    quietest,
    at_least=0.4,
)

# %% [markdown]
# ## The nine patches that a filter likes best
#
# From the second layer on, weights cannot be drawn any more: they speak of 16 or 24 input
# channels, not of colours. So ask differently: show the filter thousands of pictures, and
# cut out the patches where it answered most. That works at any depth.
#
# Which pixels does an output see, its **receptive field**? Walk through the layers. A
# kernel of $k$ pixels sees $k - 1$ more than one; a stride makes all later steps longer;
# padding lets the field begin outside of the picture.
#
# $$\text{size} \leftarrow \text{size} + (k - 1)\cdot\text{jump}, \qquad
# \text{start} \leftarrow \text{start} - p\cdot\text{jump}, \qquad
# \text{jump} \leftarrow \text{jump}\cdot s$$


# %%
def receptive_field(layers):
    """Return (start, jump, size): output (r, c) sees the pixels from start + jump*r on,
    size of them; columns alike.
    """
    start, jump, size = 0, 1, 1
    for layer in layers:
        # convolutions and pools; the others look at single pixels
        if hasattr(layer, "kernel_size"):
            size += (layer.kernel_size[0] - 1) * jump
            start -= layer.padding[0] * jump
            jump *= layer.stride[0]
    return start, jump, size


for name, model, layers in (("digit", reader, (0, 3)), ("colour", viewer, (1, 3, 6))):
    for layer in layers:
        start, jump, size = receptive_field(model.layers[: layer + 1])
        print(
            f"{name} network, layer {layer}: sees {size} × {size} pixels,"
            f" the first of them at {start} + {jump} r"
        )

# %% [markdown]
# Right? Back-propagation knows: a pixel outside of the field has a gradient of exactly 0.
# This is also the first time that we ask a whole network for the gradient of its *input*,
# `input_grad=True`. Training never needed it, but it costs nothing new: it is one more step
# of the same chain rule.


# %%
def input_gradient(model, images, dout):
    """images: (N, H, W, C) float32; dout: gradient for the model's output.
    Returns the gradient for the images.
    """
    model.forward(nnlib.to_device(images), training=True)
    return nnlib.to_numpy(model.backward(nnlib.to_device(dout), input_grad=True))


def to_floats(images):
    """uint8 images to float32 between 0 and 1."""
    return images.astype(np.float32) / np.float32(255)


part = nnlib.Sequential(viewer.layers[:4])
dout = np.zeros(part.predict(ten_colour).shape, np.float32)
dout[:, 8, 7] = 1  # row 8, column 7 of every map
touched = np.abs(input_gradient(part, to_floats(ten_colour), dout)).max(axis=(0, 3)) > 0
rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
start, jump, size = receptive_field(part.layers)
top, left = start + 8 * jump, start + 7 * jump
bottom, right = top + size - 1, left + size - 1
print(f"rows {rows[0]} to {rows[-1]}, expected {top} to {bottom}")
print(f"columns {columns[0]} to {columns[-1]}, expected {left} to {right}")
claim(
    "the input gradient reaches exactly the pixels of the receptive field",
    [rows[0], rows[-1], columns[0], columns[-1]],
    equals=[top, bottom, left, right],
)


# %% [markdown]
# Now the search. Of each picture only the best place counts, so that the nine come from
# nine pictures.


# %%
def favourite_patches(model, layer, images, k, count=9):
    """The patches (count, size, size, C) of uint8 images to which filter k of a layer
    answers most.
    """
    maps = maps_after(model, layer, images)[..., k]  # (N, Ho, Wo)
    start, jump, size = receptive_field(model.layers[: layer + 1])
    best = maps.reshape(len(maps), -1).argmax(axis=1)  # the best place of each picture
    strongest = np.argsort(-maps.reshape(len(maps), -1).max(axis=1), kind="stable")[:count]
    patches = []
    for n in strongest:
        row, column = (
            start + jump * place + size for place in divmod(best[n], maps.shape[2])
        )
        # what lies outside is drawn black
        padded = np.pad(images[n], ((size, size), (size, size), (0, 0)))
        patches.append(padded[row : row + size, column : column + size])
    return np.array(patches)


seen_digits, seen_colour = digits_validation[0][:2000], colour_validation[0][:2000]


# %% tags=["figure", "nbval-ignore-output"]
def strip(pictures):
    """pictures: (N, H, W, 1 or 3), uint8 or floats in 0..1.
    One colour picture of all of them, side by side.
    """
    pictures = to_floats(pictures) if pictures.dtype == np.uint8 else pictures
    pictures = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
    framed = np.pad(pictures, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1)
    return framed.transpose(1, 0, 2, 3).reshape(pictures.shape[1], -1, 3)


def show_favourites(model, layer, images, filters, title, alt, weights=None):
    """One row a filter: its weights, if they can be drawn, and its nine favourite
    patches.
    """
    figure, grid = plt.subplots(
        len(filters), 2, figsize=(8.5, 0.85 * len(filters) + 0.5), width_ratios=[1, 9]
    )
    for (left, right), k in zip(grid, filters, strict=True):
        right.imshow(
            strip(favourite_patches(model, layer, images, k)), interpolation="nearest"
        )
        if weights is None:
            left.text(
                0.5, 0.5, f"filter {k}", ha="center", va="center", transform=left.transAxes
            )
        elif weights.shape[2] == 1:
            limit = np.abs(weights).max()
            left.imshow(weights[:, :, 0, k], cmap="RdBu_r", vmin=-limit, vmax=limit)
        else:
            left.imshow(plots.mosaic(weights[None, ..., k], 1))
        left.axis("off")
        right.axis("off")
    figure.suptitle(title)
    plots.show(figure, alt=alt)


norms = np.linalg.norm(reader_after.reshape(-1, 16), axis=0)
show_favourites(
    reader,
    0,
    seen_digits,
    np.argsort(-norms, kind="stable")[:4],
    "First layer of the digit network: a filter, and the nine patches it likes best",
    "Four rows. On the left a filter in red and blue; on its right nine patches of digits "
    "in which strokes lie where the filter is red and gaps where it is blue.",
    reader_after,
)
show_favourites(
    viewer,
    1,
    seen_colour,
    np.argsort(-np.linalg.norm(viewer_after.reshape(-1, 24), axis=0), kind="stable")[:4],
    "First layer of the colour network",
    "Four rows: a colour filter and nine patches of seven by seven pixels which resemble "
    "it in direction and colour.",
    viewer_after,
)

# %% [markdown]
# No surprise so far: a first-layer filter is a weighted sum, so of all patches of the same
# strength it likes the one that looks like itself (exercise 5). Deeper down it becomes
# interesting. Here are filters of the *third* convolution of the colour network, chosen
# only by how strongly they answer. Their fields are 21 pixels wide, two thirds of the
# picture:

# %% tags=["figure", "nbval-ignore-output"]
deep = maps_after(viewer, 6, seen_colour)
show_favourites(
    viewer,
    6,
    seen_colour,
    np.argsort(-deep.max(axis=(0, 1, 2)), kind="stable")[:6],
    "Third convolution: what six filters of the colour network like best",
    "Six rows of nine patches. Within a row the patches share colours or shapes, and "
    "often the class.",
)

# %% [markdown]
# Does such a filter stand for a *class*? Look at the labels of its nine pictures and count
# the commonest one. Nine pictures drawn by lot have one too, so draw lots as well, to
# compare.


# %%
def commonest_class(model, layer, images, labels):
    """For each filter of a layer: how many of its nine best pictures have the commonest
    class among them (mean).
    """
    best = maps_after(model, layer, images).max(axis=(1, 2))  # (N, filters)
    nine = labels[np.argsort(-best, axis=0, kind="stable")[:9]]  # (9, filters)
    return np.mean([np.bincount(column).max() for column in nine.T])


seen_labels = colour_validation[1][:2000]
by_layer = {
    layer: commonest_class(viewer, layer, seen_colour, seen_labels) for layer in (1, 3, 6)
}
by_lot = np.mean([np.bincount(rng.choice(seen_labels, 9)).max() for _ in range(500)])
for (layer, count), name in zip(
    by_layer.items(), ("first", "second", "third"), strict=True
):
    print(f"{name} convolution (layer {layer}): {count:.1f} of 9 are of one class")
print(f"nine pictures drawn by lot:    {by_lot:.1f}")
claim(
    "in every layer it is fewer than six of nine: a filter is not a class",
    max(by_layer.values()),
    at_most=6,
)

# %% [markdown]
# Even the first layer's filters are above the lot: a colour or an edge is commoner in some
# classes than in others. And even the third layer's are far from nine. A filter stands for
# a *property*, and several classes share it.
#
# ## The picture that a class would love most
#
# Training asks: *which weights* make the score of the right class higher? Turn the question
# around, and keep the weights: **which pixels** would? The way is the same, uphill along
# the gradient, only that it is the input's:
#
# $$x \leftarrow x + \eta\; \frac{g}{\lVert g \rVert}, \qquad
# g = \frac{\partial\, \text{score}_k}{\partial x}$$
#
# With the gradient for the logits set to 1 at class $k$ and 0 elsewhere, `input_gradient`
# gives exactly this $g$. Check it first, as always: nudge a few pixels, in float64.

# %%
exact = copy.deepcopy(reader)
for layer in exact.layers:
    layer.params = {
        name: nnlib.to_numpy(param).astype(np.float64)
        for name, param in layer.params.items()
    }
# float64, and no two pixels alike in a pool
picture = ten_digits[3:4] / 255 + 0.01 * rng.random((1, 28, 28, 1))
exact.forward(picture, training=True)
gradient = exact.backward(np.eye(10)[[3]], input_grad=True)
worst = 0.0
for row, column in rng.integers(4, 24, (10, 2)):
    nudge = np.zeros_like(picture)
    nudge[0, row, column] = 1e-6
    slope = (exact.forward(picture + nudge) - exact.forward(picture - nudge))[0, 3] / 2e-6
    worst = max(worst, abs(slope - gradient[0, row, column, 0]))
claim("ten nudged pixels move the score as the input gradient says", worst, at_most=1e-6)

# %% [markdown]
# We climb for all ten classes at once, from a black picture (digits) or a grey one. Nothing
# but one rule: pixels stay between 0 and 1, as in any picture.
#
# Then once more with three more rules, each of which says: *be more like a picture*.
#
# * **Decay**: every step, all pixels fade a little towards the start. Only what is worth it
#   stays.
# * **Blur**: every step, each pixel takes a little from its neighbours. Checkerboards die.
# * **Jitter**: before each step, the picture moves by a pixel or two, so that nothing can
#   rely on one exact pixel.


# %%
def blur(x, amount):
    """x: (N, H, W, C).
    Each pixel gives `amount` to each of its neighbours, first along columns, then along
    rows.
    """
    for axis in (1, 2):
        x = (1 - 2 * amount) * x + amount * (np.roll(x, 1, axis) + np.roll(x, -1, axis))
    return x


def dream(
    model, start, steps=150 if full else 80, step=0.5, decay=0.0, soften=0.0, jitter=0
):
    """start: (10, H, W, C), one picture a class.
    Returns the pictures that climb the score of their class.
    """
    x, moves = start.astype(np.float32), np.random.default_rng(SEED)
    for _ in range(steps):
        shift = moves.integers(-jitter, jitter + 1, 2)
        g = input_gradient(model, np.roll(x, shift, (1, 2)), np.eye(10, dtype=np.float32))
        g = np.roll(g, -shift, (1, 2))
        g /= np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)) + np.float32(1e-12)
        x = start + (1 - decay) * (x + step * g - start)  # fade towards where it began
        x = np.clip(blur(x, soften), 0, 1).astype(np.float32)
    return x


rules = {"decay": 0.02, "soften": 0.05, "jitter": 2}
digit_start, colour_start = np.zeros((10, 28, 28, 1)), np.full((10, 32, 32, 3), 0.5)
digit_dreams = {
    "plain": dream(reader, digit_start),
    "with the rules": dream(reader, digit_start, **rules),
}
colour_dreams = {
    "plain": dream(viewer, colour_start),
    "with the rules": dream(viewer, colour_start, **rules),
}


# %% tags=["figure", "nbval-ignore-output"]
def show_dreams(dreams, real, class_names, title, alt):
    figure, rows = plt.subplots(
        len(dreams) + 1, 1, figsize=(9.5, 1.02 * (len(dreams) + 1) + 0.7)
    )
    for axes, (name, pictures) in zip(
        rows, (dreams | {"real pictures": real}).items(), strict=True
    ):
        axes.imshow(strip(pictures), interpolation="nearest")
        axes.set_yticks([real.shape[1] / 2], [name])
        axes.set_xticks([])
        axes.grid(False)
    rows[0].xaxis.tick_top()
    rows[0].set_xticks((np.arange(10) + 0.5) * (real.shape[2] + 1), class_names, fontsize=9)
    rows[0].tick_params(length=0)
    figure.suptitle(title)
    plots.show(figure, alt=alt)


show_dreams(
    digit_dreams,
    ten_digits,
    digits.class_names,
    "What the digit network would love to see, class by class",
    "Three rows of ten. Plain: strokes that suggest a digit, drowned in dots and dashes. "
    "With the rules: soft strokes on black. Last row: real digits.",
)
show_dreams(
    colour_dreams,
    ten_colour,
    colour.class_names,
    "What the colour network would love to see, class by class",
    "Three rows of ten. Plain: a riot of coloured dots. With the rules: soft patches of "
    "colour. Last row: real ones.",
)

# %% [markdown]
# Would you have recognised the 3 in the first row without its name? How sure is the
# network? And, a fairer judge: what does *another* network say, one that was trained on the
# same digits but has never seen these pictures being made? Let us ask an RNN (notebook 04),
# which reads a picture row by row.

# %%
row_reader = nnlib.Sequential(
    [
        nnlib.RNN(28, 64, rng=np.random.default_rng(SEED)),
        nnlib.Linear(64, 10, rng=np.random.default_rng(SEED + 1)),
    ]
)
row_reader.layers[0].params["Wx"] *= np.float32(0.1)  # begin small here too
rnn_before = nnlib.to_numpy(row_reader.layers[0].params["Wx"]).copy()
as_rows = [(images[..., 0], labels) for images, labels in (digits_train, digits_validation)]
history = nnlib.fit(
    row_reader,
    as_rows[0],
    as_rows[1],
    optimizer=nnlib.SGD(row_reader, lr=0.05, momentum=0.9),
    schedule=nnlib.warmup_cosine(0.1),
    epochs=5 if full else 10,
    batch_size=64,
    clip_norm=1.0,
    rng=np.random.default_rng(SEED),
    progress=False,
)
print(f"the RNN reads {max(history.validation_accuracy):.1%} of the validation digits")


# %%
def probabilities(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


classes = np.arange(10)
real_logits = reader.predict(digits_validation[0])
real_best = real_logits.max(axis=0)  # the best score of any real picture, for each class
agreed, sure, ratio = {}, {}, {}
print(f"you predicted: {my_dream}")
print(
    "dreams           the network's own surety   score : best real score"
    "   the RNN agrees   the RNN's surety"
)
for name, pictures in digit_dreams.items():
    own, other = reader.predict(pictures), row_reader.predict(pictures[..., 0])
    agreed[name] = probabilities(other)[classes, classes].mean()
    sure[name] = probabilities(own)[classes, classes].mean()
    ratio[name] = (own[classes, classes] / real_best).mean()
    print(
        f"{name:<17}{sure[name]:24.1%}   {ratio[name]:23.1f}"
        f"   {(other.argmax(axis=1) == classes).sum():8} of 10   {agreed[name]:16.1%}"
    )

# %% [markdown]
# On average, a plain dream scores higher than the best real picture of its class, and yet
# another network is less sure what it is. What no digit needs and this score likes is in
# them too: dots and dashes everywhere. A score has no word for "and the rest should be
# black".
#
# The rules add that word, and *they*, not the network, make the second row so pleasant to
# look at. Whether the pictures also mean more to others, the last two columns say (of ten
# pictures: a difference of one or two says little). So when you next see a striking picture
# of what a network "sees", ask which rules made it.
#
# ## How little it takes
#
# The same gradient has a dark side. Take a real picture that the network reads correctly,
# and change every pixel by the same tiny amount, up or down, each in the direction in which
# the *loss* grows (Goodfellow et al. 2015 called this the fast gradient sign method):
#
# $$x \leftarrow x + \epsilon\;
# \text{sign}\left(\frac{\partial\, \text{loss}}{\partial x}\right)$$
#
# To compare, change every pixel by the same amount in a random direction. Grey values are
# numbered from 0 to 255, so we count $\epsilon$ in such steps.


# %%
def harmful_direction(model, images, labels):
    """For each pixel +1 or -1: the direction in which the loss grows."""
    logits = model.forward(nnlib.to_device(to_floats(images)), training=True)
    _, dlogits = nnlib.cross_entropy(logits, nnlib.to_device(labels))
    return np.sign(nnlib.to_numpy(model.backward(dlogits, input_grad=True)))


def change(images, direction, levels):
    """Move each pixel by so many of the 255 levels; no pixel leaves 0..1."""
    changed = to_floats(images) + np.float32(levels / 255) * direction
    return np.clip(changed, 0, 1).astype(np.float32)


LEVELS = (0, 1, 2, 4, 8, 16, 32, 64)
fooled = {}
for title, model, (images, labels) in (
    (digits.title, reader, digits_validation),
    (colour.title, viewer, colour_validation),
):
    images, labels = images[:500], labels[:500]
    directions = {
        "directed": harmful_direction(model, images, labels),
        "random": rng.choice(np.float32([-1, 1]), images.shape),
    }
    fooled[title] = {}
    for name, way in directions.items():
        variants = [change(images, way, levels) for levels in LEVELS]
        answers = [model.predict(variant).argmax(axis=1) for variant in variants]
        fooled[title][name] = [nnlib.accuracy(labels, answer) for answer in answers]
print("levels of 255             " + "".join(f"{levels:7}" for levels in LEVELS))
for title, curves in fooled.items():
    print(title)
    for name, curve in curves.items():
        print(
            f"  {name:<10} still right   "
            + "".join(f"{accuracy:7.0%}" for accuracy in curve)
        )
for title, curves in fooled.items():
    curve = curves["directed"]
    enough = [n for n, a in zip(LEVELS, curve, strict=True) if a <= 0.5 * curve[0]]
    levels = enough[0] if enough else 255
    print(
        f"{title}: at {levels / 255:.3f} at most half of the right answers are left;"
        f" you predicted {my_change}"
    )

# %% tags=["figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
for axes, (title, curves) in zip(panels, fooled.items(), strict=True):
    for (name, curve), marker in zip(curves.items(), ("o-", "s--"), strict=True):
        axes.plot(
            LEVELS, [100 * accuracy for accuracy in curve], marker, label=f"{name} change"
        )
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xticks(LEVELS, LEVELS)
    axes.set(title=title, xlabel="change of every pixel (levels of 255)", ylim=(-3, 103))
panels[0].set_ylabel("still right (% of 500 pictures)")
panels[1].legend()
figure.suptitle("The same amount of change, with and without direction")
plots.show(
    figure,
    alt="Two panels, accuracy against the size of the change. Random changes hardly "
    "matter; directed ones bring the accuracy down to nearly nothing, for the colour "
    "pictures after a few levels.",
)

# %% tags=["figure", "nbval-ignore-output"]
panels = []
for model, data, ten, levels in (
    (reader, digits, ten_digits, 48),
    (viewer, colour, ten_colour, 4),
):
    direction = harmful_direction(model, ten, classes)
    changed = change(ten, direction, levels)
    before_p, after_p = (
        probabilities(model.predict(pictures)) for pictures in (ten, changed)
    )
    # the first two that are misread now
    for k in np.argsort(after_p.argmax(axis=1) == classes, kind="stable")[:2]:
        panels += [
            (to_floats(ten[k]), f"{data.class_names[k]} ({before_p[k, k]:.0%})"),
            (0.5 + 0.5 * direction[k], f"± {levels} levels"),
            (
                changed[k],
                f"{data.class_names[after_p[k].argmax()]} ({after_p[k].max():.0%})",
            ),
        ]
figure, grid = plt.subplots(2, 6, figsize=(9.5, 3.7))
for axes, (picture, caption) in zip(grid.flat, panels, strict=True):
    axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    axes.axis("off")
    axes.set_title(caption, fontsize=9)
figure.suptitle(
    "A picture, a change (drawn at full strength), and their sum: what the network says "
    "to it"
)
plots.show(
    figure,
    alt="Two digits and two colour pictures, each with the change drawn large beside it "
    "and the changed picture, which we would still read as before. The captions say what "
    "the network reads in each.",
)

# %% [markdown]
# We would read all of them as before. So the network looks at something other than what we
# look at, and what excites it is a poor guide to what is in the picture. Why does so little
# suffice? Because there is so much of it: many hundred pixels each add a small step, and
# all of them pull in the same direction.
#
# Take the step yourself. The middle picture is the change, as it would look at full
# strength. **Try this**: choose a picture, and find the smallest step that changes the
# answer. Can you see the difference, between left and right? Then leave the slider where it
# is, and choose the other direction, at random.

# %% tags=["figure"]
interactive.step_size(viewer, ten_colour, classes, colour.class_names)

# %% [markdown]
# Each pixel moves just as far in both directions, and the two curves have little in common:
# against the answer it falls from the first level on, at random it stays, in most pictures,
# near where it was. What counts is not the size of a change but where it points.
#
# ## Hide and see
#
# The most direct question of all needs no gradient: **hide a part of the picture, and watch
# the answer**. Slide a square over the picture, and note by how much the loss rises, in
# nats. Where it rises a lot, there was something that mattered.
#
# By hand first. **Try this**: drag the grey square over a picture (or move it with the
# arrow keys), and find the place where the network loses it. Each place leaves its colour
# on the map. Fill in the rest with the button; then hide by black and by white instead, and
# compare the maps.

# %% tags=["figure"]
interactive.occluder(viewer, ten_colour, classes, colour.class_names)

# %% [markdown]
# Notice two things. Some places make the network *surer* (blue): what was there spoke for
# another class. And the map changes with the colour that hides. Next, the same for several
# pictures and both networks at once.


# %%
def occlusion_map(model, image, label, size, fill, step=2):
    """By how many nats the loss rises when a square of `size` pixels is hidden by the value
    `fill`, place by place.
    """
    places = range(0, len(image) - size + 1, step)
    corners = [(row, column) for row in places for column in places]
    # the last one stays whole
    variants = np.repeat(to_floats(image)[None], len(corners) + 1, axis=0)
    for variant, (row, column) in zip(variants, corners, strict=False):
        variant[row : row + size, column : column + size] = fill
    logits = model.predict(variants).astype(np.float64)
    others = np.delete(logits, label, axis=1)
    # -log p, exact even where p is nearly 1
    loss = np.log1p(np.exp(others - logits[:, [label]]).sum(axis=1))
    return (loss[:-1] - loss[-1]).reshape(len(places), len(places))


# %% tags=["figure", "nbval-ignore-output"]
def show_occlusion(model, images, labels, names, size, fills, title, alt):
    figure, grid = plt.subplots(
        1 + len(fills), len(labels), figsize=(9.8, 1.45 * (1 + len(fills)) + 0.8)
    )
    side = images.shape[1]
    for column, (image, label) in zip(
        grid.T, zip(images, labels, strict=True), strict=True
    ):
        column[0].imshow(image, cmap="gray")
        column[0].set_title(names[label], fontsize=9)
        for axes, fill in zip(column[1:], fills.values(), strict=True):
            values = occlusion_map(model, image, label, size, fill)
            # the square's middle
            extent = (size / 2 - 1, side - size / 2 + 1, side - size / 2 + 1, size / 2 - 1)
            drawn = axes.imshow(values, cmap="RdBu_r", vmin=-2, vmax=2, extent=extent)
            axes.set(xlim=(0, side), ylim=(side, 0))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, name in zip(
        grid, ["the picture", *(f"hidden by {name}" for name in fills)], strict=True
    ):
        row[0].set_ylabel(name, fontsize=9)
    figure.colorbar(
        drawn, ax=grid[1:], label="rise of the loss (nats)", extend="both", shrink=0.8
    )
    figure.suptitle(title)
    plots.show(figure, alt=alt)


fills = {"black": 0.0, "grey": 0.5, "white": 1.0}
some = [0, 2, 3, 4, 7, 8]
show_occlusion(
    reader,
    ten_digits[some],
    some,
    digits.class_names,
    7,
    fills,
    "Digits: a square of 7 × 7 pixels is hidden (drawn at its middle)",
    "Six digits, and below each three maps. Hidden by black, the loss rises where strokes "
    "are; hidden by white, it rises in empty places too.",
)
show_occlusion(
    viewer,
    ten_colour[some],
    some,
    colour.class_names,
    8,
    fills,
    "Colour pictures: a square of 8 × 8 pixels is hidden (drawn at its middle)",
    "Six colour pictures, and below each three maps of where the loss rises (red) or "
    "falls (blue) when a square is hidden. The three maps of a picture are not the same.",
)

# %% [markdown]
# Look down a column: the three maps of one picture do not agree. *Hiding* is not nothing; a
# black square on a white wall is a new object. So every such map answers "what if this were
# black?", and not "what matters?". How much do they differ, and does the reddest spot
# matter at all? For a hundred pictures that are read correctly, we hide the square that the
# map calls worst, and to compare one drawn by lot.


# %%
def examine(model, validation_set, size, count):
    """Return how often hiding the worst or a random square makes a right answer wrong, and
    how two maps agree.
    """
    images, labels = (array[:500] for array in validation_set)
    right = np.flatnonzero(model.predict(images).argmax(axis=1) == labels)[:count]
    agreement, variants = [], {"worst": [], "random": []}
    for n in right:
        grey, black = (
            occlusion_map(model, images[n], labels[n], size, fill, step=4)
            for fill in (0.5, 0.0)
        )
        agreement.append(np.corrcoef(grey.ravel(), black.ravel())[0, 1])
        for name, place in (("worst", grey.argmax()), ("random", rng.integers(grey.size))):
            row, column = (4 * i for i in divmod(place, len(grey)))
            variant = to_floats(images[n])
            variant[row : row + size, column : column + size] = 0.5
            variants[name].append(variant)
    wrong = {
        name: np.mean(model.predict(np.array(pictures)).argmax(axis=1) != labels[right])
        for name, pictures in variants.items()
    }
    return wrong, np.mean(agreement)


print(
    "one grey square makes the answer wrong    the worst square   a random one   "
    "agreement of grey and black maps"
)
hidden, agreement = {}, {}
for title, model, validation_set, size in (
    (digits.title, reader, digits_validation, 7),
    (colour.title, viewer, colour_validation, 8),
):
    hidden[title], agreement[title] = examine(
        model, validation_set, size, 100 if full else 50
    )
    print(
        f"{title:<39} {hidden[title]['worst']:18.0%} {hidden[title]['random']:14.0%} "
        f"{agreement[title]:34.2f}"
    )

# %% [markdown]
# The worst square does matter: where the map points, a sixteenth of the picture decides.
# But remember that it is the *worst of many* tries; whoever looks for weak spots always
# finds some.
#
# ## What a network looks at that reads row by row
#
# The RNN has no filters that slide. Each of its 64 units has one weight for each of the 28
# pixels of a row, and sees all rows through the same weights. So all of its input weights
# are one picture, 28 × 64. Let us sort the units by where their weights are:

# %%
rnn_after = nnlib.to_numpy(row_reader.layers[0].params["Wx"])  # (28, 64)
# of each pixel of a row, over all units
moved = np.sqrt(((rnn_after - rnn_before) ** 2).mean(axis=1))
ink = digits_train[0].mean(axis=(0, 1, 3)) / 255
print(
    "pixel of the row (left to right), its mean brightness, and how far its weights moved:"
)
for pixel in (0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27):
    print(f"  {pixel:2} {ink[pixel]:12.4f} {moved[pixel]:12.4f}")
where = (rnn_after**2 * np.arange(28)[:, None]).sum(axis=0) / (rnn_after**2).sum(axis=0)
order = np.argsort(where, kind="stable")

# %% tags=["figure", "nbval-ignore-output"]
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11, 3.7), width_ratios=[1, 1, 0.6], sharey=True
)
limit = np.abs(rnn_after).max()
for axes, weights, title in (
    (left, rnn_before, "Before training"),
    (middle, rnn_after, "After training"),
):
    drawn = axes.imshow(
        weights[:, order], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
    )
    axes.set(title=title, xlabel="unit, sorted by where its weights are")
    axes.grid(False)
left.set_ylabel("pixel of the row, from left to right")
figure.colorbar(drawn, ax=middle, label="weight")
right.barh(np.arange(28), moved, color="C0")
right.set(title="How far they moved", xlabel="rms change")
figure.suptitle(f"The input weights of an RNN with 64 units ({digits.title})")
plots.show(
    figure,
    alt="Two pictures of 28 by 64 weights in red and blue, before and after training, and "
    "bars of how far the weights of each pixel moved: least for the outermost pixels.",
)

# %% [markdown]
# The outermost pixels are black in nearly every digit. A weight that is always multiplied
# by 0 gets a gradient of 0, and stays as it was drawn: the rows at the upper and lower rim
# are as pale as before. Further in, most columns are red at one height and blue at another:
# such a unit compares two places of a row, and does so in every row.
#
# ## What such pictures show, and what they don't
#
# | picture | shows | does not show |
# | --- | --- | --- |
# | filters | what this layer multiplies by | whether the network is good: noise works too |
# | activation maps | where a filter answered, in one picture | that anybody listens to it |
# | favourite patches | what a filter likes *in these pictures* | what else it would like |
# | the dream of a class | what raises one score | what a class looks like; rules do that |
# | a directed change | how close the next answer is | uselessness: chance never does this |
# | occlusion | what happens if it turns grey | what matters: another colour, another map |
#
# And the sentences that were measured. Where the small sample stands in for the data, less
# is asked of it.

# %%
claim(
    "before training, neighbouring weights are not alike",
    max(abs(before), abs(colour_before)),
    at_most=0.15,
)
bar = 0.5 if full else 0.4
claim(
    f"after training their correlation is at least {bar} in the digit network",
    after,
    at_least=bar,
)
bar = 0.35 if full else 0.3
claim(f"and at least {bar} in the colour network", colour_after, at_least=bar)
bar = 0.02 if full else 0.05
claim(
    f"begun as He says, the accuracy differs by at most {bar:.0%}",
    abs(reader_accuracy - plain_accuracy),
    at_most=bar,
)
claim(
    "with filters that are less than half as smooth",
    neighbour_correlation(plain_after) / after,
    at_most=0.5,
)
claim(
    "of a filter's nine favourites at least 0.3 more share a class than of nine drawn by "
    "lot (mean of the layers)",
    np.mean(list(by_layer.values())) - by_lot,
    at_least=0.3,
)
claim(
    "on average, plain dreams score higher than the best real picture of their class",
    ratio["plain"],
    at_least=1.05,
)
claim(
    "the network is surer of its plain dreams than the RNN is, by at least 10 points",
    sure["plain"] - agreed["plain"],
    at_least=0.1,
)
for title, levels in ((digits.title, 64), (colour.title, 8)):
    place = LEVELS.index(levels)
    gap = fooled[title]["random"][place] - fooled[title]["directed"][place]
    text = (
        f"{title}: {levels} levels with direction cost at least 30 points more than without"
    )
    claim(text, gap, at_least=0.3)
for (title, wrong), bar in zip(hidden.items(), (0.05, 0.2), strict=True):
    text = (
        f"{title}: the worst square is wrong at least {100 * bar:.0f} points more often "
        "than one by lot"
    )
    claim(text, wrong["worst"] - wrong["random"], at_least=bar)
claim(
    "the maps of grey and of black squares are far from equal",
    max(agreement.values()),
    at_most=0.6,
)
claim(
    "the middle pixels' weights moved at least ten times as far as the outermost",
    moved[8:20].mean() / moved[[0, -1]].mean(),
    at_least=10,
)

# %% [markdown]
# ## Exercises
#
# As before: write your version over the line with `raise NotImplementedError`, run that
# cell, then the check. The folded cell between the two is a solution, and takes the place
# of yours if you run it.
#
# ### 1 · A filter as a picture
#
# `plots.mosaic` turned colour filters into pictures. Write the heart of it: divide by the
# largest absolute weight, and move the result from $-1 \ldots 1$ to $0 \ldots 1$. What must
# a filter of zeros become?


# %% tags=["exercise"]
def as_picture(weights):
    """weights: (kh, kw, 3) of one filter.
    Return values in 0..1, where 0.5 stands for a weight of 0.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def as_picture(weights):
    largest = np.abs(weights).max()
    return 0.5 + 0.5 * weights / (largest if largest > 0 else 1)


# %% tags=["check"]
draw = np.random.default_rng(1)
cases = {
    "a filter": draw.normal(size=(7, 5, 3)),
    "one of opposite sign": -3 * draw.normal(size=(3, 4, 3)),
    "a very small one": 1e-9 * draw.normal(size=(2, 2, 3)),
    "one that is nowhere negative": draw.random((4, 4, 3)),
    "a constant one": np.ones((3, 3, 3)),
    "one of zeros": np.zeros((3, 3, 3)),  # don't divide by 0
}
for name, weights in cases.items():
    given, right = weights.copy(), plots.mosaic(weights[None], 1)
    got = as_picture(given)
    assert np.array_equal(given, weights), "the weights are changed in place: copy them"
    assert np.shape(got) == right.shape, f"{name}: shape {np.shape(got)}, not {right.shape}"
    assert np.allclose(got, right), f"{name} gives another picture"
print(f"passed: {len(cases)} filters, as in the figures above")

# %% [markdown]
# ### 2 · Another rule: total variation
#
# A picture is smooth where neighbours are alike. Its *total variation*, here squared, adds
# up all differences of neighbours:
# $\text{tv}(x) = \sum_{rc} (x_{r,c+1} - x_{rc})^2 + (x_{r+1,c} - x_{rc})^2$. Subtracting
# its gradient while climbing is a fourth rule. Write both; each pixel takes part in up to
# four differences.


# %% tags=["exercise"]
def tv(x):
    """x: (H, W). Return one number."""
    raise NotImplementedError("not written yet")


def tv_backward(dout, x):
    """Return dx; dout is a number."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def tv(x):
    return (np.diff(x, axis=0) ** 2).sum() + (np.diff(x, axis=1) ** 2).sum()


def tv_backward(dout, x):
    dx, down, right = np.zeros_like(x), 2 * np.diff(x, axis=0), 2 * np.diff(x, axis=1)
    dx[1:] += down  # the lower pixel of each pair counts with +, the upper one with -
    dx[:-1] -= down
    dx[:, 1:] += right
    dx[:, :-1] -= right
    return dout * dx


# %% tags=["check"]
def by_pairs(x):  # every pair of pixels, those at a distance of 1 count (twice)
    places = [*np.ndindex(x.shape)]
    pairs = [
        (a, b) for a in places for b in places if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
    ]
    return np.array(sum((x[a] - x[b]) ** 2 for a, b in pairs) / 2)


shapes = ((4, 5), (3, 3), (1, 6), (5, 1), (2, 2))
for shape in shapes:
    x = np.random.default_rng(shape[1]).normal(size=shape)
    given = x.copy()
    got = tv(given)
    assert np.array_equal(given, x), "tv changes x in place: work on a copy"
    assert np.shape(got) == (), f"tv is one number, this has the shape {np.shape(got)}"
    assert np.isclose(got, by_pairs(x)), f"tv of\n{x}\nis {got}, expected {by_pairs(x)}"
    checks.gradient(by_pairs, tv_backward, x)
print(f"passed: {len(shapes)} shapes, {sum(1 in shape for shape in shapes)} of them lines")

# %% [markdown]
# ### 3 · Any answer you like
#
# The directed change made the true class worse. Now choose the answer: change a digit, in
# several small steps, until the digit network (`reader`) reads `target`. (Which loss must
# sink, and which way is downhill?) No pixel may move by more than `size`, or leave 0 to 1.


# %% tags=["exercise"]
def talk_into(image, target, size, steps=20):
    """image: (H, W, 1) uint8.
    Return it changed, (H, W, 1) floats in 0..1, so that `reader` reads it as `target`.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def talk_into(image, target, size, steps=20):
    start = to_floats(image)
    x = start
    for _ in range(steps):
        logits = reader.forward(nnlib.to_device(x[None]), training=True)
        _, dlogits = nnlib.cross_entropy(logits, nnlib.to_device(np.array([target])))
        gradient = nnlib.to_numpy(reader.backward(dlogits, input_grad=True))[0]
        # the loss of the target sinks
        x = x - np.float32(2 * size / steps) * np.sign(gradient)
        x = np.clip(np.clip(x, start - size, start + size), 0, 1)
    return x


# %% tags=["check"]
def losses(pictures, targets):
    logits = nnlib.to_numpy(reader.predict(np.asarray(pictures, np.float32)))
    pairs = zip(logits, targets, strict=True)
    return np.array([nnlib.cross_entropy(z[None], np.array([k]))[0] for z, k in pairs])


targets, cases = np.arange(10), ((7, 0.02, 4), (4, 0.1, 10), (3, 0.35, 20))
for digit, size, steps in cases:
    image, size = ten_digits[digit], np.float32(size)
    given, start = image.copy(), to_floats(image)
    changed = [np.array(talk_into(given, target, size, steps)) for target in range(10)]
    assert np.array_equal(given, image), "the image is changed in place: work on a copy"
    assert {x.shape for x in changed} == {image.shape}, f"expected the shape {image.shape}"
    assert min(map(np.min, changed)) >= 0 and max(map(np.max, changed)) <= 1, (
        "a pixel left 0..1"
    )
    assert max(np.abs(x - start).max() for x in changed) <= size + 1e-6, (
        f"a pixel moved by more than {size:.2f}"
    )
    before, after = losses([start] * 10, targets), losses(changed, targets)
    others = before > 0.01  # but for the digit that it is read as already
    assert np.all(after[others] < before[others]), (
        f"size {size:.2f}: for some target the loss did not sink. Which way is downhill?"
    )
answers = reader.predict(np.array(changed, np.float32)).argmax(axis=1)
print(f"the targets 0 to 9 are read as {answers}")
claim(
    "a three was talked into at least seven of ten answers",
    (answers == targets).sum(),
    at_least=7,
)
print(f"passed: {len(cases)} sizes, each with {len(targets)} targets, and the claim")

# %% [markdown]
# ### 4 · An experiment: how easily does noise look like an edge?
#
# Take the mean out of a filter, and ask how well a *slope* fits it:
# $w_{ij} \approx \alpha\, i + \beta\, j$. The fraction of its square sum that the best
# slope explains is 1 for a perfect edge (as two of the hand-made ones). **Predict first**:
# of 5,000 random filters of 3 × 3, how many are explained to more than one half? And of
# 5 × 5, and 7 × 7?


# %% tags=["exercise"]
def edge_share(filters):
    """filters: (F, k, k).
    Return (F,): the fraction of each that the best slope explains.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def edge_share(filters):
    k = filters.shape[1]
    ramp = np.arange(k) - (k - 1) / 2
    ramp = ramp / np.sqrt(k * (ramp**2).sum())
    centred = filters - filters.mean(axis=(1, 2), keepdims=True)
    # with two slopes of length 1, at right angles
    down, right = (centred.sum(axis=axis) @ ramp for axis in (2, 1))
    return (down**2 + right**2) / (centred**2).sum(axis=(1, 2))


# %% tags=["check"]
def by_least_squares(filters):  # how much of the rest does a fitted plane leave over?
    i, j = (index.ravel() for index in np.indices(filters.shape[1:]))
    flat = filters.reshape(len(filters), -1).T  # (k*k, F)
    left_over = np.linalg.lstsq(np.stack([i, j, i**0], 1), flat)[1]
    return 1 - left_over / ((flat - flat.mean(axis=0)) ** 2).sum(axis=0)


# random filters of other sizes and of another mean, and perfect slopes
draw = np.random.default_rng(1)
cases = [draw.normal(k, 2, (50, k, k)) for k in (2, 3, 4, 7)] + [by_hand[:2]]
for filters in cases:
    given, right = filters.copy(), by_least_squares(filters)
    got = edge_share(given)
    assert np.array_equal(given, filters), "the filters are changed in place: copy them"
    assert np.shape(got) == right.shape, f"expected {right.shape}, got {np.shape(got)}"
    assert np.allclose(got, right), (
        f"{filters.shape[1:]}: {got[:3].round(3)} ..., a fit by least squares explains "
        f"{right[:3].round(3)} ..."
    )
lucky = {}
for k in (3, 5, 7):
    shares = edge_share(rng.normal(size=(5000, k, k)))
    lucky[k] = (shares > 0.5).mean()
    print(
        f"random {k} × {k}: a slope explains {shares.mean():.0%} on average;"
        f" more than half of {lucky[k]:.1%}"
    )
trained = edge_share(reader_after[:, :, 0].transpose(2, 0, 1))
print(
    f"trained, 7 × 7: a slope explains {trained.mean():.0%} on average;"
    f" more than half of {(trained > 0.5).mean():.1%}"
)
claim(
    "at least one in twenty random 3 × 3 filters passes for an edge",
    lucky[3],
    at_least=0.05,
)
claim("and not one in five hundred of 7 × 7", lucky[7], at_most=0.002)
print(f"passed: {sum(map(len, cases))} filters fitted by least squares, two claims")

# %% [markdown]
# ### 5 · An explanation: the patch that a filter likes best
#
# Of all patches whose squares add up to 1, which one excites a first-layer filter most?
# Return it; then explain in two sentences why, and why the same question has no such answer
# for a filter of the second layer.


# %% tags=["exercise"]
def best_patch(weights):
    """weights: (kh, kw, C) of one filter.
    Return the patch of the same shape, of length 1, with the greatest answer.
    """
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# The answer is a product, entry by entry and added up:
# $\langle \text{patch}, W \rangle = \lVert \text{patch} \rVert \lVert W \rVert \cos\theta$.
# With both lengths fixed only the angle counts, and it is best when the patch points in the
# direction of $W$: the filter likes a picture of *itself* (the inequality of Cauchy and
# Schwarz). A second-layer filter is a sum of maxima and ReLUs of such products; no single
# direction wins there, and we have to search.


# %% tags=["solution"]
def best_patch(weights):
    return weights / np.linalg.norm(weights)


# %% tags=["check"]
draw = np.random.default_rng(1)
filters = [viewer_after[..., k].astype(np.float64) for k in range(3)]
filters += [draw.normal(size=shape) for shape in ((3, 2, 3), (1, 1, 2), (4, 4, 1))]
rivals = 2000
for weights in filters:
    given = weights.copy()
    answer = np.array(best_patch(given))
    assert np.array_equal(given, weights), "the weights are changed in place: copy them"
    assert answer.shape == weights.shape, f"{answer.shape} for weights {weights.shape}"
    assert np.isclose((answer**2).sum(), 1), "expected a patch of length 1"
    # patches anywhere, and patches so near to yours that a better direction shows
    nudges = draw.normal(size=(rivals, *weights.shape))
    nudges *= 10.0 ** draw.uniform(-4, 2, (rivals, 1, 1, 1))
    others = answer + nudges
    others /= np.sqrt((others**2).sum(axis=(1, 2, 3), keepdims=True))
    best = (others * weights).sum(axis=(1, 2, 3)).max()
    assert (answer * weights).sum() >= best, (
        f"a patch found by chance excites it more: {best:.6f}, yours "
        f"{(answer * weights).sum():.6f}"
    )
print(f"passed: {len(filters)} filters, none of {rivals:,} rivals excites one more")

# %% [markdown]
# ## What moved into nnlib
#
# `plots.mosaic`, which lays filters out as one picture. All else here was a few lines on
# top of what you had: a network that gives the gradient of its input is a network that you
# can question. In **07 · Optimizers**, the question is how it learns in the first place: by
# which steps, and when to stop.
