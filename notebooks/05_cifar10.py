# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · Colour photographs
#
# **What you will build.** Digits were easy: white strokes on black, always in the middle.
# CIFAR-10 holds photographs, 32 × 32 pixels small: ships before any sky, dogs from any
# side, frogs that look like leaves. You read its files byte by byte, make new training
# pictures out of old ones, and train both networks of this course on it: the convolutional
# one, which names three of four pictures it has never seen, and the recurrent one, which
# reads a photograph row by row. Then you look at what each of them cannot see.
#
# ![Sixteen pictures that the finished network misnames, with its answer and the
# truth](images/05_cifar10.png)
#
# **What you need.** The convolution of notebook 03, and the RNN of notebook 04.
#
# **How long it takes.** Nine minutes of computing on a laptop with two cores. (Without
# CIFAR-10 at hand, a stand-in takes its place, and half a minute will do.)

# %%
import os
import time
import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import nnlib
from nnlib import claim, interactive, load_dataset, plots, to_device, to_numpy

SEED = int(os.environ.get("NNLIB_SEED", 0))
rng = np.random.default_rng(SEED)

data = load_dataset("cifar10")
full = data.source != "sample"
names = data.class_names
print("on this page:", data.title, "·", data.source)

# %% [markdown]
# That last line matters. If the real files are not on your computer, the pictures below are
# the *colour-fashion stand-in*: clothes in random colours. Everything then runs just as
# well, but the numbers in the text are those of CIFAR-10.
#
# ## Predict first
#
# Write down your guesses before you run on.

# %%
# how many bytes does a file need for one colour picture of 32 × 32, and its label?
my_bytes = 1000
# the fraction of test pictures that the convolutional network will name correctly;
# guessing gives 0.1
my_cnn = 0.5
# and the recurrent network, which sees one row after the other
my_rnn = 0.5
# the two classes that are confused most
my_pair = ("automobile", "truck")

# %% [markdown]
# ## A file, byte by byte
#
# CIFAR-10 comes in three versions. The popular one consists of Python *pickles*, and a
# pickle may run any code when it is opened: never open one from a stranger. The *binary*
# version is only bytes, and a **byte** is only a number from 0 to 255. Each file holds
# 10,000 records, one after the other, with nothing between them:
#
# | bytes | what |
# | ---: | --- |
# | 1 | the label, 0 to 9 |
# | 1024 | the red plane: how much red each pixel has, row by row |
# | 1024 | the green plane |
# | 1024 | the blue plane |
#
# So `np.frombuffer` and one `reshape` read it all. Only the order has to be changed: in the
# file, the three colours of a pixel lie 1,024 bytes apart; we want them side by side,
# channels last.


# %%
RECORD = 1 + 3 * 32 * 32


def read_records(content):
    """content: bytes. Returns images (N, 32, 32, 3) and labels (N,), both uint8."""
    if len(content) % RECORD:
        raise ValueError(
            f"{len(content):,} bytes are no whole number of records of {RECORD:,} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    planes = records[:, 1:].reshape(-1, 3, 32, 32)  # (N, channel, row, column)
    return planes.transpose(0, 2, 3, 1), labels


def write_records(images, labels):
    """The way back: images (N, 32, 32, 3) uint8 and labels (N,) to bytes."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([labels.astype(np.uint8), planes]).tobytes()


print(f"one record has {RECORD:,} bytes; you predicted {my_bytes:,}")

# %% [markdown]
# The proof: read the file of the test pictures ourselves, and compare with what
# `load_dataset` returns. (Without the file, we write the stand-in's pictures in the same
# format, and read those.)

# %%
folders = [
    Path(folder)
    for folder in (os.environ.get("NNLIB_DATA_DIR"), nnlib.datasets.DATA_DIR)
    if folder
]
files = [folder / "cifar-10-batches-bin" / "test_batch.bin" for folder in folders]
found = [file for file in files if file.is_file()] if full else []
content = (
    found[0].read_bytes() if found else write_records(data.test_images, data.test_labels)
)
images, labels = read_records(content)
print(f"{len(content):,} bytes = {len(images):,} records of {RECORD:,}")
print("the first ten bytes:", list(content[:10]))
print(
    f"the first is a label: {content[0]}, {names[content[0]]}; the others are the red of "
    "the first nine pixels"
)
claim("our reader and nnlib's agree in every pixel", images, equals=data.test_images)
claim("and in every label", labels, equals=data.test_labels)
claim(
    "written again, they are the same bytes",
    write_records(images, labels) == content,
    equals=True,
)

# %% [markdown]
# ## Look, class by class
#
# Never train on what you have not looked at. A row for each class:

# %% tags=["figure", "nbval-ignore-output"]
rows = [np.flatnonzero(data.train_labels == k)[:10] for k in range(10)]
figure, grid = plt.subplots(10, 10, figsize=(10, 10.4))
for k, row in enumerate(rows):
    for axes, i in zip(grid[k], row, strict=True):
        axes.imshow(data.train_images[i])
        axes.set(xticks=[], yticks=[])
    grid[k, 0].set_ylabel(names[k], rotation=0, ha="right", va="center")
figure.suptitle(f"{data.title}: the first ten training pictures of each class")
plots.show(
    figure,
    alt="A hundred small colour pictures, ten of each class, one class a row with its "
    "name.",
)

# %% [markdown]
# Could colour alone be enough? Average all pictures of a class. Ships and airplanes come
# out bluish, frogs and deer brown; but nothing has a shape any more, because no two dogs
# stand in the same place.

# %%
means = np.stack(
    [data.train_images[data.train_labels == k].mean(axis=0) / 255 for k in range(10)]
)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.image_grid(
    means, names, f"{data.title}: the mean of all training pictures of a class", columns=10
)
plots.show(
    figure,
    alt="Ten blurred pictures, one a class, with hardly a shape but different colours.",
)

# %%
counts = np.bincount(data.train_labels, minlength=10)
print("training pictures of each class:", counts)
print("test pictures of each class:    ", np.bincount(data.test_labels, minlength=10))

# %% [markdown]
# All classes are equally frequent: whoever always gives the same answer is right one time
# in ten. Now put aside one picture in ten for validation. Every choice on this page was
# made on those.

# %%
training_set, validation_set = data.split(0.1, rng)
train_images, train_labels = training_set
validation_images, validation_labels = validation_set
print("training:  ", train_images.shape, train_images.dtype)
print("validation:", validation_images.shape)

# %% [markdown]
# ## Normalise, with what the training set knows
#
# Scaled by 255, pixels lie between 0 and 1: never negative, and much of what they say is
# only how bright the photograph is. A network learns faster from numbers around 0 that
# spread by about 1. So subtract the mean of each colour and divide by its standard
# deviation,
#
# $$\hat{x}_{ijc} = \frac{x_{ijc} - \mu_c}{\sigma_c} ,$$
#
# with $\mu$ and $\sigma$ of the *training* pictures. The validation and the test pictures
# are treated with the same six numbers: their own are not known to us, for tomorrow's
# pictures come one by one.
#
# Where do we put this? As float32, all pictures would take four times the memory. As the
# first *layer* of the network, it is done batch by batch, and nobody can forget it at the
# test. A layer needs a `forward` and a `backward`:


# %%
mean = (train_images.mean(axis=(0, 1, 2)) / 255).astype(np.float32)
std = (train_images.std(axis=(0, 1, 2)) / 255).astype(np.float32)


class Normalise(nnlib.Layer):
    """(x - mean) / std, colour by colour."""

    def __init__(self):
        super().__init__()
        self.mean, self.std = to_device(mean), to_device(std)

    def forward(self, x, training=False):
        return (x - self.mean) / self.std

    def backward(self, dout, input_grad=True):
        return dout / self.std


for name, values in (("mean", mean), ("std", std)):
    print(f"{name}: red {values[0]:.3f}, green {values[1]:.3f}, blue {values[2]:.3f}")
normal = nnlib.Sequential([Normalise()])
for name, some in (("training", train_images[:4000]), ("validation", validation_images)):
    z = normal.predict(some).astype(np.float64)
    print(
        f"{name}: mean {np.round(z.mean(axis=(0, 1, 2)), 2)}, "
        f"std {np.round(z.std(axis=(0, 1, 2)), 2)}"
    )
    claim(
        f"every colour of the {name} pictures now has a mean near 0",
        np.abs(z.mean(axis=(0, 1, 2))).max(),
        at_most=0.1,
    )
error = nnlib.check_layer(Normalise(), rng.normal(size=(2, 3, 4, 3)), rng)
claim("its backward agrees with numerical gradients", error, at_most=1e-6)

# %% [markdown]
# ## Pictures that were never taken
#
# Fifty thousand photographs are few: a network with a quarter of a million weights can
# learn them by heart. But a dog seen in the mirror is still a dog, and a ship two pixels
# further right is still a ship. So change the pictures a little each time they are shown;
# the label stays true. This is called **augmentation**.
#
# * A **flip** swaps left and right, in half of the pictures, drawn at random. (Up and down?
#   There is no such ship. And a flipped 2 is no digit.)
# * A **shift** moves the picture by up to two pixels in both directions; what comes in from
#   outside is black.


# %%
def flip(images, rng):
    """images: (N, H, W, C). Mirror each with probability 1/2."""
    flipped = images.copy()
    chosen = rng.random(len(images)) < 0.5
    # the axes are picture, row, column, colour: the columns backwards
    flipped[chosen] = images[chosen][:, :, ::-1]
    return flipped


def shift(images, rng, pixels=2):
    """images: (N, H, W, C).
    Move each by up to `pixels` in both directions: cut a window out of a padded picture.
    """
    H, W = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    tops, lefts = rng.integers(0, 2 * pixels + 1, (2, len(images)))
    return np.stack(
        [x[t : t + H, c : c + W] for x, t, c in zip(padded, tops, lefts, strict=True)]
    )


some = train_images[:64]
same_flip = np.array_equal(
    flip(some, np.random.default_rng(1)), nnlib.random_flip(some, np.random.default_rng(1))
)
same_shift = np.array_equal(
    shift(some, np.random.default_rng(1)),
    nnlib.random_shift(some, np.random.default_rng(1)),
)
claim(
    "from the same generator, nnlib's random_flip and random_shift make the same pictures",
    same_flip and same_shift,
    equals=True,
)

# %% tags=["figure", "nbval-ignore-output"]
seen = np.concatenate(
    [train_images[:1].repeat(8, axis=0), train_images[3:4].repeat(8, axis=0)]
)
changed = shift(flip(seen, np.random.default_rng(2)), np.random.default_rng(3))
changed[::8] = seen[::8]
captions = ["as it is" if i % 8 == 0 else f"epoch {i % 8}" for i in range(16)]
figure = plots.image_grid(
    changed, captions, f"{data.title}: two pictures, as a network sees them in seven epochs"
)
plots.show(
    figure,
    alt="Two rows of eight: a picture, then seven versions of it, some mirrored, each "
    "moved a little.",
)

# %% [markdown]
# ## What each of them buys
#
# Is that worth the trouble? Measure it. A small network, few pictures (where learning by
# heart is easiest), and all four combinations with the same first weights and the same
# order of pictures. The network is the one that we train below, with far fewer filters:
# three times *convolution, pool, ReLU*, then two linear layers.


# %%
def cnn(rng, filters=(32, 48, 96), hidden=128):
    """Three convolutions of 3 × 3; each pool halves the sides."""
    first, second, third = filters
    return nnlib.Sequential(
        [
            Normalise(),  # (N, 32, 32, 3)
            nnlib.Conv2d(3, first, 3, padding=1, rng=rng),  # (N, 32, 32, 32)
            nnlib.MaxPool2d(2),  # (N, 16, 16, 32)
            nnlib.ReLU(),
            nnlib.Conv2d(first, second, 3, padding=1, rng=rng),  # (N, 16, 16, 48)
            nnlib.MaxPool2d(2),  # (N, 8, 8, 48)
            nnlib.ReLU(),
            nnlib.Conv2d(second, third, 3, padding=1, rng=rng),  # (N, 8, 8, 96)
            nnlib.MaxPool2d(2),  # (N, 4, 4, 96)
            nnlib.ReLU(),
            nnlib.Flatten(),  # (N, 1536)
            nnlib.Linear(4 * 4 * third, hidden, rng=rng),
            nnlib.ReLU(),
            # small: at first, no class is preferred
            nnlib.Linear(hidden, 10, rng=rng, init=nnlib.normal(0.01)),
        ]
    )


def flip_and_shift(images, rng, pixels=2):
    return nnlib.random_shift(nnlib.random_flip(images, rng), rng, pixels)


def gently(images, rng):
    return flip_and_shift(images, rng, pixels=1)


def train(
    model,
    lr,
    epochs,
    training_set=training_set,
    validation_set=validation_set,
    batch_size=32,
    **options,
):
    return nnlib.fit(
        model,
        training_set,
        validation_set,
        optimizer=nnlib.Adam(model, lr=lr),
        schedule=nnlib.warmup_cosine(0.1),
        epochs=epochs,
        batch_size=batch_size,
        rng=np.random.default_rng(SEED),
        **options,
    )


# %%
count, epochs = (2000, 15) if full else (1000, 8)
few = (train_images[:count], train_labels[:count])
judges = (validation_images[:1000], validation_labels[:1000])
combinations = {
    "as they are": None,
    "flipped": nnlib.random_flip,
    "shifted": nnlib.random_shift,
    "flipped and shifted": flip_and_shift,
}
tried = {}
for name, augment in combinations.items():
    small = cnn(np.random.default_rng(SEED), filters=(8, 16, 32), hidden=64)
    tried[name] = train(small, 2e-3, epochs, few, judges, augment=augment, progress=False)
print(
    f"{count:,} pictures, {epochs:2} epochs   training accuracy   validation accuracy   gap"
)
for name, history in tried.items():
    learnt, true = history.train_accuracy[-1], history.validation_accuracy[-1]
    print(f"{name:<27} {learnt:17.1%} {true:21.1%} {learnt - true:7.1%}")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(8, 3.6))
for (name, history), colour in zip(tried.items(), ("C0", "C1", "C2", "C4"), strict=True):
    epoch = np.arange(1, 1 + len(history.train_loss))
    axes.plot(epoch, history.train_loss, "--", color=colour)
    axes.plot(epoch, history.validation_loss, "-", color=colour, label=name)
axes.set(
    title=f"{data.title}: {count:,} pictures, with and without augmentation",
    xlabel="epoch",
    ylabel="cross-entropy (nats)",
)
axes.legend(
    title="validation (dashed: training)", loc="center left", bbox_to_anchor=(1, 0.5)
)
plots.show(
    figure,
    alt="Four pairs of loss curves. Without augmentation, training falls far below "
    "validation; with flips and shifts the two stay close together.",
)

# %%
gap = {
    name: history.train_accuracy[-1] - history.validation_accuracy[-1]
    for name, history in tried.items()
}
narrower = gap["as they are"] - gap["flipped and shifted"]
points = 5 if full else 2
claim(
    f"flips and shifts together narrow the gap by {points} points or more",
    narrower,
    at_least=points / 100,
)

# %% [markdown]
# Without augmentation, the network does what a hurried student does: it learns the pictures
# by heart and is little the wiser. Each change takes some of that away: the mirror doubles
# the pictures, the shifts multiply them by 25. Look at the last column first: the gap
# closes. The validation accuracy moves far less, and need not even rise: a network that is
# shown ever new pictures needs more epochs to make use of them. That is the price of
# augmentation. (And each line is one short run: differences of a point or two are luck.)
# With 45,000 pictures and a handful of epochs, a network is far from knowing them by heart,
# so below we are gentle: flips, and shifts by one pixel.
#
# ## The convolutional network
#
# Three convolutions, each followed by a pool and ReLU. While the sides halve, the channels
# grow in number: the network trades *where* for *what*. First the two cheap tests of a new
# network: a first loss near $\ln 10$, and twenty pictures learnt by heart.


# %%
def sanity(make, lr, steps):
    """Print the first loss, and how well twenty pictures are learnt by heart."""
    model = make(np.random.default_rng(SEED))
    first, _ = nnlib.evaluate(model, train_images[:500], train_labels[:500])
    twenty = (train_images[:20], train_labels[:20])
    train(model, lr, steps, twenty, twenty, progress=False)
    last, accuracy = nnlib.evaluate(model, *twenty)
    print(
        f"first loss {first:.2f}, ln 10 = {np.log(10):.2f}; twenty pictures by heart: "
        f"loss {last:.3f}, {accuracy:.0%}"
    )
    claim("the first loss is ln 10, to a tenth", abs(first - np.log(10)), at_most=0.1)
    claim("twenty pictures are learnt by heart", accuracy, equals=1.0)


sanity(cnn, 2e-3, 40)
network = cnn(np.random.default_rng(SEED))
print(f"{sum(param.size for _, param in network.named_parameters()):,} weights and biases")

# %%
cnn_history = train(network, 2e-3, 6 if full else 2, augment=gently, workers=nnlib.cores())

# %% tags=["nbval-ignore-output"]
print(
    f"{sum(cnn_history.seconds):.0f} seconds, {np.median(cnn_history.seconds):.1f} an epoch"
)

# %% tags=["figure", "nbval-ignore-output"]
plots.show(
    plots.learning_curves(cnn_history, f"Three convolutions on {data.title}"),
    alt="Loss and accuracy by epoch for training and validation: both improve together to "
    "the last epoch.",
)

# %% [markdown]
# ## The recurrent network
#
# For the RNN of notebook 04, a photograph is a sequence of 32 rows, and a row is 96
# numbers: the 32 pixels from left to right, three colours each. At each step the network
# reads one row and updates its state $h$, with the same weights in every step:
#
# $$h_t = \tanh(x_t W_x + h_{t-1} W_h + b)$$
#
# In notebook 04, only the *last* state was handed to the linear layer: enough for a digit,
# whose strokes the state can carry to the end. A photograph says more in 32 rows than one
# state can carry. So let the layers above see *all* 32 states, side by side: what the
# network has in mind after one row, after two, and so on. They are a hidden layer of 128
# units and ten logits, as in the CNN, with a little dropout in between. Below we try both.


# %%
class Rows(nnlib.Layer):
    """Pictures (N, 32, 32, 3) become sequences of rows, (N, 32, 96)."""

    def forward(self, x, training=False):
        return x.reshape(len(x), 32, 96)

    def backward(self, dout, input_grad=True):
        return dout.reshape(-1, 32, 32, 3)


def rnn(rng, every_state=True):
    # (N, 32, 128) -> (N, 4096)
    read_out = [nnlib.Flatten(), nnlib.Dropout(0.2, rng=rng)] if every_state else []
    return nnlib.Sequential(
        [
            Normalise(),
            Rows(),  # (N, 32, 96)
            # (N, 32, 128), or the last state, (N, 128)
            nnlib.RNN(96, 128, rng=rng, return_sequences=every_state),
            *read_out,
            nnlib.Linear(32 * 128 if every_state else 128, 128, rng=rng),
            nnlib.ReLU(),
            nnlib.Dropout(0.2, rng=rng),
            nnlib.Linear(128, 10, rng=rng, init=nnlib.normal(0.01)),
        ]
    )


sanity(rnn, 1e-3, 40)
few = (train_images[:4000], train_labels[:4000])
best = {}
for every_state in (False, True):
    model = rnn(np.random.default_rng(SEED), every_state)
    history = train(model, 1e-3, 3, few, judges, clip_norm=1.0, progress=False)
    best[every_state] = max(history.validation_accuracy)
    which = "every state" if every_state else "last state"
    print(f"{len(few[1]):,} pictures, 3 epochs, {which:<11}: {best[every_state]:.1%}")
claim(
    "the read-out of every state is ahead by 5 points or more",
    best[True] - best[False],
    at_least=0.05,
)

reader = rnn(np.random.default_rng(SEED))
print(f"{sum(param.size for _, param in reader.named_parameters()):,} weights and biases")

# %% [markdown]
# Gradients that travel through 32 steps can explode (notebook 04). `clip_norm=1` scales
# them down when their common length exceeds 1.

# %%
rnn_history = train(
    reader, 1e-3, 8 if full else 6, batch_size=64, augment=gently, clip_norm=1.0
)

# %% tags=["nbval-ignore-output"]
print(
    f"{sum(rnn_history.seconds):.0f} seconds, {np.median(rnn_history.seconds):.1f} an epoch"
)

# %% tags=["figure", "nbval-ignore-output"]
plots.show(
    plots.learning_curves(rnn_history, f"Row by row: an RNN on {data.title}"),
    alt="Loss and accuracy by epoch for training and validation: both improve, validation "
    "is slightly ahead.",
)

# %% [markdown]
# ## Ask twice
#
# A mirrored dog is a dog, and we told both networks so by flipping. Do they know? Show them
# each picture and its mirror image: the two rows of logits differ a little, as two opinions
# do. Their mean is wiser than each of them. It costs no training, only a second look. Is it
# worth that? The validation pictures decide:


# %%
def ask_twice(model, images):
    """Return the mean of the logits for the images and for their mirror images, (N, 10)."""
    return (model.predict(images) + model.predict(images[:, :, ::-1])) / 2


for name, model in (("CNN", network), ("RNN", reader)):
    once = nnlib.accuracy(
        validation_labels, model.predict(validation_images).argmax(axis=1)
    )
    twice = nnlib.accuracy(
        validation_labels, ask_twice(model, validation_images).argmax(axis=1)
    )
    print(f"{name}, validation accuracy: asked once {once:.2%}, asked twice {twice:.2%}")
    text = (
        "a second look does the {} no harm"
        if full
        else "a second look costs the {} at most 5 points"
    )
    claim(text.format(name), twice - once, at_least=0.0 if full else -0.05)

# %% [markdown]
# It is. From here on, an *answer* is what a network says after two looks.
#
# ## The test set, once
#
# Nothing will be chosen any more. Both networks, on the 10,000 pictures that no choice has
# looked at:

# %%
logits = {
    name: ask_twice(model, data.test_images)
    for name, model in (("CNN", network), ("RNN", reader))
}
predictions = {name: values.argmax(axis=1) for name, values in logits.items()}
accuracies = {
    name: nnlib.accuracy(data.test_labels, predicted)
    for name, predicted in predictions.items()
}
one_look = {
    "CNN": network.predict(data.test_images),
    "RNN": reader.predict(data.test_images),
}
for name, guess in (("CNN", my_cnn), ("RNN", my_rnn)):
    print(f"{name}: test accuracy {accuracies[name]:.2%} (you predicted {guess:.0%})")
    print(
        "     with one look it would be "
        f"{nnlib.accuracy(data.test_labels, one_look[name].argmax(axis=1)):.2%}"
    )

# %% [markdown]
# ## Which classes, and what for what?

# %%
matrices = {
    name: nnlib.confusion_matrix(data.test_labels, predictions[name], 10)
    for name in predictions
}

# %% tags=["figure", "nbval-ignore-output"]
for name in ("CNN", "RNN"):
    figure = plots.confusion_heatmap(
        matrices[name], names, f"{data.title}, {name}: errors on the test set"
    )
    plots.show(
        figure,
        alt=f"The {name}'s confusion matrix with class names: right answers on the "
        "diagonal, errors coloured.",
    )

# %%
print("                    CNN                    RNN")
print("class         precision   recall    precision   recall")
scores = {name: nnlib.precision_recall(matrix) for name, matrix in matrices.items()}
for k in range(10):
    numbers = [scores[name][part][k] for name in ("CNN", "RNN") for part in (0, 1)]
    print(
        f"{names[k]:<12} {numbers[0]:10.1%} {numbers[1]:8.1%} "
        f"{numbers[2]:12.1%} {numbers[3]:8.1%}"
    )
for name, matrix in matrices.items():
    both = matrix + matrix.T
    np.fill_diagonal(both, 0)
    i, j = np.unravel_index(both.argmax(), both.shape)
    print(
        f"{name}: most often confused are {names[i]} and {names[j]}, {both[i, j]} times; "
        f"you predicted {my_pair}"
    )
    if full:
        claim(
            f"no two classes are confused by the {name} as often as cats and dogs",
            {i, j} == {3, 5},
            equals=True,
        )

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(9, 3.2))
for offset, name in ((-0.2, "CNN"), (0.2, "RNN")):
    axes.bar(np.arange(10) + offset, 100 * scores[name][1], 0.38, label=name)
axes.set(
    title=f"{data.title}: how many test pictures of each class are found",
    ylabel="recall (%)",
    xlabel="class",
)
axes.set_xticks(range(10), names, rotation=30, ha="right")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Two bars for each class, the recall of the CNN and of the RNN; the CNN's is "
    "higher.",
)

# %% [markdown]
# And the mistakes themselves: those that the CNN was surest of. Cover the captions and name
# them yourself.


# %%
def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


# %% tags=["cover", "figure", "nbval-ignore-output"]
def surest_mistakes(name, count, title, of=None):
    """Draw the wrong answers with the highest probability;
    `of`: only between these classes.
    """
    sure = softmax(logits[name]).max(axis=1)
    wrong = np.flatnonzero(predictions[name] != data.test_labels)
    if of is not None:
        wrong = wrong[
            np.isin(data.test_labels[wrong], of) & np.isin(predictions[name][wrong], of)
        ]
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    captions = [
        f"{names[predictions[name][i]]} {sure[i]:.0%}\ntrue: {names[data.test_labels[i]]}"
        for i in chosen
    ]
    return plots.image_grid(data.test_images[chosen], captions, title)


figure = surest_mistakes(
    "CNN", 16, f"{data.title}: what the CNN gets wrong while being surest of itself"
)
plots.show(
    figure,
    alt="Sixteen small photographs, each with the network's wrong answer, how sure it "
    "was, and the true class.",
)

# %% tags=["figure", "nbval-ignore-output"]
figure = surest_mistakes(
    "RNN", 16, f"{data.title}: what the RNN gets wrong while being surest of itself"
)
plots.show(
    figure,
    alt="Sixteen small photographs, each with the network's wrong answer, how sure it "
    "was, and the true class.",
)

# %% [markdown]
# ### Cats and dogs
#
# Of all pairs, this one is the hardest: the same fur, the same colours, the same sofa. What
# tells a cat from a dog are ears and snout, and of those a picture of 32 × 32 has a handful
# of pixels. (On the stand-in we look at two other classes that are hard to tell apart:
# those with the most confusions.)

# %%
pair = (
    (3, 5)
    if full
    else np.unravel_index((matrices["CNN"] * (1 - np.eye(10))).argmax(), (10, 10))
)
of_pair = np.isin(data.test_labels, pair)
for name in ("CNN", "RNN"):
    two = logits[name][of_pair][:, pair]  # pretend that there were no other classes
    right = (np.array(pair)[two.argmax(axis=1)] == data.test_labels[of_pair]).mean()
    stray = 1 - np.isin(predictions[name][of_pair], pair).mean()
    print(
        f"{name}: if it had to say only {names[pair[0]]} or {names[pair[1]]}, it would be "
        f"right {right:.1%} of the time"
    )
    print(
        f"     (coin: 50 %); asked for all ten classes, it calls {stray:.1%} of them "
        "something else altogether"
    )

# %% tags=["figure", "nbval-ignore-output"]
title = (
    f"{data.title}: {names[pair[0]]} or {names[pair[1]]}? "
    "The CNN's surest confusions of the two"
)
plots.show(
    surest_mistakes("CNN", 16, title, of=pair),
    alt="Sixteen small pictures of the two classes that the CNN confuses most, with its "
    "answer and the truth.",
)

# %% [markdown]
# ## What a sequence of rows cannot see
#
# Both networks saw the same pictures. Why is one so much better? Look at what happens to a
# row. The RNN computes $x_t W_x$: each of the 96 numbers has its own row of weights, and a
# sum does not know which of its numbers belong to pixels side by side. So let us do
# something cruel: shuffle the columns of all pictures, with one and the same shuffle.

# %%
shuffle = np.random.default_rng(5).permutation(32)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.image_grid(
    np.concatenate([data.train_images[:8], data.train_images[:8][:, :, shuffle]]),
    [names[k] for k in data.train_labels[:8]] * 2,
    f"{data.title}: eight pictures, and the same with their columns shuffled",
)
plots.show(
    figure,
    alt="Above, eight pictures; below, the same with shuffled columns: only vertical "
    "stripes are left.",
)

# %% [markdown]
# **Predict**: what is left of the RNN if we shuffle the rows of $W_x$ in the same way? And
# can the CNN be saved like that?

# %%
some_images, some_labels = validation_images[:1000], validation_labels[:1000]
shuffled = some_images[:, :, shuffle]
adapted = rnn(np.random.default_rng(SEED))
weights = reader.copy_weights()
Wx = to_numpy(weights["2.Wx"]).reshape(32, 3, -1)
weights["2.Wx"] = to_device(Wx[shuffle].reshape(96, -1))
adapted.set_weights(weights)
gap = np.abs(adapted.predict(shuffled) - reader.predict(some_images)).max()
claim(
    "with its input weights shuffled alike, the RNN gives the same logits for shuffled "
    "pictures",
    gap,
    at_most=1e-2,
)
for name, model in (("CNN", network), ("RNN", reader), ("RNN, Wx shuffled alike", adapted)):
    before, after = (
        nnlib.evaluate(model, pictures, some_labels)[1]
        for pictures in (some_images, shuffled)
    )
    print(f"{name:<23} {after:6.1%} of the shuffled pictures")

# %% [markdown]
# For the RNN, the shuffled pictures are *exactly as easy* as the true ones: whatever it can
# learn from one, it can learn from the other. It does not know that pixels have neighbours;
# it has to find that out from the data, for every place anew. No shuffle of weights can
# save the CNN: its kernel looks at three pixels *side by side*, and in the shuffled
# pictures these have nothing to do with each other. Being helpless against the cruel
# shuffle is its strength: it has *bet* on neighbours, and in photographs the bet is won.
#
# ### A photograph in your hands
#
# Here are ten validation pictures, of each class the first that both networks name. In
# front stands the one that the RNN finds hardest after four pixels to the right. **Try
# this**: drag a photograph a few pixels to one side (or use the sliders, or the arrow
# keys). Which network loses it first, and does down cost the same as right? Let the last
# button try every shift. Then mirror it, and add noise, little by little: do you bet on the
# same network again?

# %% tags=["figure"]
named = np.all(
    [m.predict(some_images).argmax(axis=1) == some_labels for m in (network, reader)],
    axis=0,
)
of_class = [np.flatnonzero(some_labels == k) for k in range(10)]
firsts = np.array([of_k[named[of_k].argmax()] for of_k in of_class])
pushed = np.zeros_like(some_images[firsts])
pushed[:, :, 4:] = some_images[firsts, :, :-4]
firsts = firsts[np.diag(softmax(reader.predict(pushed))).argsort(kind="stable")]
interactive.photo_lab(
    {"CNN": network, "RNN": reader}, some_images[firsts], some_labels[firsts], names
)

# %% [markdown]
# The networks run in this page, with their weights rounded to 8 bits. Notice how little a
# photograph has to move before an answer changes, although to us nothing has happened; and
# that the network which bears a shift better need not bear noise better. But these are ten
# pictures: they tell you what to look for, not what is true of all.
#
# The second thing is position. Move the pictures to the right or downwards, further than in
# training:


# %%
def moved(images, right=0, down=0):
    """Push the pictures out of their frame; what comes in is black."""
    result = np.zeros_like(images)
    result[:, down:, right:] = images[:, : 32 - down, : 32 - right]
    return result


pixels = [0, 2, 4, 6, 8]
curves = {}
for name, model in (("CNN", network), ("RNN", reader)):
    for way in ("right", "down"):
        curves[name, way] = [
            nnlib.evaluate(model, moved(some_images, **{way: p}), some_labels)[1]
            for p in pixels
        ]
        print(
            f"{name}, {way:<5} by {pixels} pixels: "
            + "  ".join(f"{value:.1%}" for value in curves[name, way])
        )

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(8, 3.4))
for (name, way), values in curves.items():
    axes.plot(
        pixels,
        100 * np.array(values),
        {"right": "o-", "down": "s--"}[way],
        color={"CNN": "C0", "RNN": "C1"}[name],
        label=f"{name}, {way}",
    )
axes.set(
    title=f"{data.title}: pictures pushed out of their frame",
    xlabel="pixels",
    ylabel="validation accuracy (%)",
    ylim=(0, None),
)
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Accuracy against the shift in pixels: four falling lines, for two networks and "
    "two ways.",
)

# %%
still = {
    name: curves[name, "right"][2] / curves[name, "right"][0] for name in ("CNN", "RNN")
}
claim(
    "four pixels to the right, the CNN keeps more of its accuracy than the RNN",
    still["CNN"] - still["RNN"],
    at_least=0,
)

# %% [markdown]
# Training has shown them one pixel; from two on, both networks pay. But the CNN falls less:
# its kernels give the same answer at every place, and only the last layers have to look for
# it elsewhere. The RNN shares its weights over *rows*: downwards, each pattern has met
# every weight before. But a picture that moves to the right brings each pixel to weights
# that have never seen it.
#
# ## What it costs: memory and time
#
# Where does the memory go? Count bytes: the pictures, the weights, what Adam remembers, and
# what the layers keep for the way back.


# %%
def kept(model):
    """Bytes of what the layers remember of the last training batch (views are counted once,
    with their arrays).
    """
    arrays = {}
    for layer in model.layers:
        for item in layer.saved if isinstance(layer.saved, tuple) else (layer.saved,):
            if hasattr(item, "nbytes"):
                owner = item if item.base is None else item.base
                arrays[id(owner)] = owner.nbytes
    return sum(arrays.values())


def megabytes(count):
    return f"{count / 1e6:8.1f} MB"


batch, batch_labels = to_device(train_images[:64]), to_device(train_labels[:64])
print("training pictures as uint8 ", megabytes(train_images.nbytes))
print("the same as float32       ", megabytes(4 * train_images.nbytes))
columns = len(train_images) * 16 * 16 * 9 * 32 * 4
print("their patches for the second convolution, all at once", megabytes(columns))
for name, model in (("CNN", network), ("RNN", reader)):
    size = sum(param.nbytes for _, param in model.named_parameters())
    print(f"{name}: weights                {megabytes(size)}")
    print(f"     Adam's two moments     {megabytes(2 * size)}")
    model.forward(batch, training=True)
    print(f"     kept for a batch of 64 {megabytes(kept(model))}")
    model.forward(batch)
    print(f"     after a prediction     {megabytes(kept(model))}")
    claim(
        f"after a prediction, the {name} keeps nothing of its pictures",
        kept(model),
        equals=0,
    )

# %% [markdown]
# Two things in this table are worth remembering. The pictures stay `uint8` until their
# batch is due: that alone saves three quarters. And all patches at once would fill more
# than ten gigabytes, which is why `Conv2d` lays them out in chunks and makes them *again*
# on the way back instead of keeping them. The peak of a whole training step, measured:


# %% tags=["nbval-ignore-output"]
def peak_and_seconds(model):
    """Bytes at the peak of a training step with Adam, batch of 64, and the seconds of the
    fastest of five.
    """
    optimizer, times = nnlib.Adam(model), []
    tracemalloc.start()
    for _ in range(6):
        began = time.perf_counter()
        _, dlogits = nnlib.cross_entropy(model.forward(batch, training=True), batch_labels)
        model.backward(dlogits)
        optimizer.step()
        times.append(time.perf_counter() - began)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, min(times[1:])


for name, make, history in (("CNN", cnn, cnn_history), ("RNN", rnn, rnn_history)):
    peak, seconds = peak_and_seconds(make(np.random.default_rng(SEED)))
    print(
        f"{name}: at the peak of a step {peak / 1e6:.0f} MB;"
        f" a step {1000 * seconds:.0f} ms; an epoch {np.median(history.seconds):.1f} s;"
        f" {sum(history.seconds):.0f} s in all"
    )

# %% [markdown]
# ### What changes on a GPU
#
# With CuPy and `NNLIB_DEVICE=cuda`, the same notebook trains on a graphics card. The lines
# stay; the habits change.
#
# * **The card's memory is small and its own.** `fit` moves the pictures there once, as
#   uint8. What you no longer need has to go: `del big_array`, or a prediction, after which
#   the layers have forgotten their last batch (the table above says so). As long as *one*
#   name still points to an array, its memory stays taken.
# * **Freed is not given back.** Asking the card for memory is slow, so CuPy keeps what you
#   freed in a *pool*, for the next array. `nvidia-smi` goes on showing it as taken.
#   `cupy.get_default_memory_pool().used_bytes()` says what is truly in use,
#   `.total_bytes()` what the pool holds, and `.free_all_blocks()` hands the rest back (to
#   another program, say).
# * **The processor runs ahead.** A call returns as soon as the card has its order. Only
#   when you *look* at a number (`float(loss)`, `to_numpy`) does Python wait for the card.
#   So `fit` adds up the losses on the card, and reads them once an epoch; and whoever
#   measures time has to wait for the card first.
# * **Larger bites.** Chunks of 2 MB suit a processor's cache; a card wants thousands of
#   rows at once, so there `Conv2d` takes chunks of 256 MB.
#
# ## Keep the weights
#
# Minutes of work are worth keeping. Save, load into fresh networks that began with other
# random numbers, compare:

# %%
with tempfile.TemporaryDirectory() as folder:
    for name, model, make in (("CNN", network, cnn), ("RNN", reader, rnn)):
        path = os.path.join(folder, f"{name}.npz")
        model.save(path)
        loaded = make(np.random.default_rng(SEED + 1))
        loaded.load(path)
        same = np.array_equal(loaded.predict(some_images), model.predict(some_images))
        claim(
            f"the {name} that was saved and loaded gives exactly the same logits",
            same,
            equals=True,
        )

# %% [markdown]
# ## What it means

# %%
bars = {"CNN": 0.75, "RNN": 0.56} if full else {"CNN": 0.5, "RNN": 0.5}
for name, bar in bars.items():
    claim(
        f"the {name} names at least {bar:.0%} of the test pictures",
        accuracies[name],
        at_least=bar,
    )
claim(
    "the CNN beats the RNN by at least 10 points"
    if full
    else "the CNN is not behind the RNN by more than 10 points",
    accuracies["CNN"] - accuracies["RNN"],
    at_least=0.1 if full else -0.1,
)

# %% [markdown]
# The reports that this course grew from stopped at 59.01 % (CNN, 23 epochs on a GPU) and
# 52.79 % (RNN, 73 epochs on a GPU). What is different here is no new kind of layer:
# normalised colours, a third convolution, a read-out of every state, pictures that were
# never taken, Adam with a learning rate that fades, a second look, and a validation set
# that tells which of it helps.
#
# ## Exercises
#
# As before: write your version over the line with `raise NotImplementedError`, run that
# cell, then the check at the end of the exercise. The folded cell between the two is a
# solution, and takes the place of yours if you run it.
#
# ### 1 · One picture from the middle
#
# All records are equally long, so one of them can be had without a look at the others:
# `np.frombuffer` takes a `count` and an `offset`. (`np.memmap` does the same with a file,
# of which only that part is then read.) It should also work where the end of the file is
# damaged.


# %% tags=["exercise"]
def picture_at(content, number):
    """content: bytes of a binary CIFAR file.
    Return (image (32, 32, 3) uint8, label) of record `number`.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def picture_at(content, number):
    record = np.frombuffer(content, np.uint8, count=RECORD, offset=number * RECORD)
    return record[1:].reshape(3, 32, 32).transpose(1, 2, 0), int(record[0])


# %% tags=["check"]
# records of random bytes: nothing is known about them but their places
draw = np.random.default_rng(1)
made_up = draw.integers(0, 256, 20 * RECORD + 100, dtype=np.uint8)  # the end is damaged
row, column, colour = np.indices((32, 32, 3))
numbers = (0, 1, 7, 19)
for number in numbers:
    first = number * RECORD
    pixels = made_up[first + 1 + 1024 * colour + 32 * row + column]
    image, label = picture_at(made_up.tobytes(), number)
    assert np.shape(image) == (32, 32, 3), (
        f"the image has shape {np.shape(image)}; colours come last"
    )
    assert image.dtype == np.uint8, f"the pixels are {image.dtype}, expected uint8"
    assert label == made_up[first], (
        f"record {number}: the label is {label}, expected {made_up[first]}"
    )
    assert np.array_equal(image, pixels), f"record {number}: the pixels differ"
print(f"passed: {len(numbers)} records of {len(made_up) // RECORD}, every byte")

# %% [markdown]
# ### 2 · Cut a hole
#
# Another augmentation: paint a square of each picture grey, so that the network can't rely
# on one detail alone (*cutout*). Draw the corners
# `top, left = rng.integers(0, 32 - size + 1, (2, N))` and fill with 128.


# %% tags=["exercise"]
def random_hole(images, rng, size=8):
    """images: (N, 32, 32, 3) uint8.
    Return a copy with one square of size × size pixels set to 128 in each picture.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def random_hole(images, rng, size=8):
    holed = images.copy()
    tops, lefts = rng.integers(0, 32 - size + 1, (2, len(images)))
    for image, top, left in zip(holed, tops, lefts, strict=True):
        image[top : top + size, left : left + size] = 128
    return holed


# %% tags=["check"]
cases = ((400, 8), (400, 5), (1, 8), (3, 32))
for count, size in cases:
    noise = (
        np.random.default_rng(size).integers(0, 100, (count, 32, 32, 3)).astype(np.uint8)
    )
    given, generator = noise.copy(), np.random.default_rng(count)
    holed, more = random_hole(given, generator, size), random_hole(noise, generator, size)
    again = random_hole(noise, np.random.default_rng(count), size)
    assert np.array_equal(given, noise), "the pictures handed in have changed: use a copy"
    assert holed.shape == noise.shape and holed.dtype == np.uint8, (
        f"expected uint8 {noise.shape}, got {holed.dtype} {holed.shape}"
    )
    assert np.array_equal(again, holed), "the same generator made another hole"
    hole = (holed == 128).all(axis=3)  # (count, 32, 32)
    assert np.array_equal(holed[~hole], noise[~hole]), "pixels outside of the hole changed"
    for axis, lines in ((2, "rows"), (1, "columns")):
        covered = hole.any(axis=axis)  # (count, 32)
        ends = covered.argmax(axis=1), 32 - covered[:, ::-1].argmax(axis=1)
        assert (ends[1] - ends[0] == size).all() and (
            hole.sum(axis=(1, 2)) == size**2
        ).all(), f"not every picture has one hole of {size} × {size} in all colours"
        assert count < 100 or covered.any(axis=0).all(), (
            f"some {lines} of pixels are never covered: may the hole touch the rim?"
        )
    assert count < 100 or not np.array_equal(more, holed), "the second call: the same holes"
print(f"passed: {sum(count for count, _ in cases)} pictures, {len(cases)} sizes and counts")

# %% [markdown]
# ### 3 · The right answer among the first three
#
# Cat, dog, deer: a network that hesitates between three may still be useful. The **top-k
# accuracy** counts an answer as right if the true class is among the $k$ highest logits.


# %% tags=["exercise"]
def top_k_accuracy(logits, labels, k):
    """logits: (N, K), labels: (N,). Return the fraction, 0..1."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def top_k_accuracy(logits, labels, k):
    best = np.argsort(-logits, axis=1)[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


# %% tags=["check"]
draw = np.random.default_rng(1)
cases = [
    (n, classes, k) for n, classes in ((50, 10), (7, 3), (1, 5)) for k in (1, 2, classes)
]
for n, classes, k in cases:
    z, truth = draw.normal(size=(n, classes)), draw.integers(0, classes, n)
    given = z.copy(), truth.copy()
    got = top_k_accuracy(*given, k)
    assert all(map(np.array_equal, given, (z, truth))), "an input is changed: copy it"
    # how many logits are higher than that of the truth?
    higher = [sum(row > row[label]) for row, label in zip(z, truth, strict=True)]
    right = sum(rank < k for rank in higher) / n
    assert np.shape(got) == () and np.isclose(got, right), (
        f"{n} pictures, {classes} classes, k = {k}: {got}, expected {right}"
    )
for name in ("CNN", "RNN"):
    fractions = {k: top_k_accuracy(logits[name], data.test_labels, k) for k in (1, 2, 3)}
    print(name, "  ".join(f"top {k}: {share:.1%}" for k, share in fractions.items()))
print(f"passed: {len(cases)} sets of logits, ranked one by one")

# %% [markdown]
# ### 4 · An experiment: ask more often
#
# Two looks were better than one. Are six better than two? Show the CNN (`network`) each
# picture as it is, moved to the right by some pixels, and moved to the left, and each of
# them in the mirror as well. Use `np.roll(images, pixels, axis=2)`: what leaves on one side
# comes in on the other. **Predict first**: what happens with one pixel, and with eight? Try
# it on validation pictures: the test set has been read.


# %% tags=["exercise"]
def ask_often(images, pixels):
    """Return the mean logits of six looks: moved by -pixels, 0 and pixels to the right,
    each also mirrored.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def ask_often(images, pixels):
    steps = (-pixels, 0, pixels)
    return sum(ask_twice(network, np.roll(images, step, axis=2)) for step in steps) / 3


# %% tags=["check"]
steps, views = (0, 1, 5), some_images[:40]
for pixels in steps:
    given = views.copy()
    six = ask_often(given, pixels)
    assert np.array_equal(given, views), "the pictures are changed in place: copy them"
    assert np.shape(six) == (40, 10), f"expected logits (40, 10), got {np.shape(six)}"
    # all six looks at once, as six times as many pictures
    looks = [np.roll(views, move, axis=2) for move in (-pixels, 0, pixels)]
    looks += [look[:, :, ::-1] for look in looks]
    right = network.predict(np.concatenate(looks)).reshape(6, 40, 10).mean(axis=0)
    assert np.allclose(six, right, rtol=1e-3, atol=1e-3), (
        f"pixels = {pixels}: these are not the means of six looks"
    )
for pixels in (0, 1, 8):
    score = nnlib.accuracy(some_labels, ask_often(some_images, pixels).argmax(axis=1))
    print(
        f"moved by {pixels} pixels: {score:.1%} of {len(some_labels):,} validation pictures"
    )
print(f"passed: the logits of {len(views)} pictures for {len(steps)} distances")

# %% [markdown]
# ### 5 · An explanation: which changes leave the label true?
#
# Here are six changes of a picture. Which of them may be used to train a network on
# photographs of animals and vehicles (`"photographs"`), and which for one that reads
# handwritten digits (`"digits"`)? Put the letters into two sets, and say for each that you
# left out which label it would make false.
#
# a: swap left and right · b: shift by two pixels · c: turn by 180 degrees · d: make it a
# little darker · e: shuffle the columns, every time anew · f: turn by five degrees


# %% tags=["exercise"]
def harmless():
    """Return {"photographs": a set of letters, "digits": a set of letters}."""
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# Shifts (b), a little less light (d) and five degrees (f) harm neither. The mirror (a)
# makes a 2 into no digit at all, but every animal and vehicle has two sides. Turned by 180
# degrees (c), a 6 is a 9; and a photograph of a ship with the sea above is one that nobody
# takes: the label stays true, but the network learns about a world in which it will never
# be asked. Shuffled columns (e) leave nothing to be recognised.


# %% tags=["solution"]
def harmless():
    return {"photographs": {"a", "b", "d", "f"}, "digits": {"b", "d", "f"}}


# %% tags=["check"]
import hashlib

questions = {
    "a": "is a mirrored 2 a 2, and a mirrored 7 a 7? And a dog in the mirror: a dog?",
    "b": "does it matter to the label where the thing stands?",
    "c": "turn a 6, and read it again. And who photographs a ship below the sea?",
    "d": "what do you still recognise at dusk?",
    "e": "what is left to be recognised? Look at the shuffled pictures above",
    "f": "has everybody who takes a picture, or writes, such a steady hand?",
}
# the right answers are written down as fingerprints only
true = "1349b5a3 1b7df20f 3aa389ca 51b34828 724a412e a1c80e2e cd3508b6"
true += ""
answer = harmless()
assert set(answer) == {"photographs", "digits"}, (
    f"expected the keys photographs and digits, got {sorted(answer)}"
)
for kind, letters in answer.items():
    assert isinstance(letters, set) and letters <= set(questions), (
        f"{kind}: expected a set of letters from a to f, got {letters!r}"
    )
    for letter, question in questions.items():
        mark = hashlib.sha256(f"{kind} {letter}".encode()).hexdigest()[:8]
        assert (letter in letters) == (mark in true.split()), (
            f"{kind}, think again about {letter}: {question}"
        )
print(f"passed: {len(questions)} changes, each for {len(answer)} kinds of pictures")

# %% [markdown]
# ## What moved into nnlib
#
# `random_flip`, beside `random_shift`. In **06 · What the filters look for**, you look into
# the convolutions themselves: what does each of the filters wait for?
