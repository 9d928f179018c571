# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · NumPy beside PyTorch
#
# **What you will build.** One network, twice: in `nnlib`, which you know to the last line,
# and in PyTorch, which everybody uses. Both begin with the same weights and see the same
# pictures in the same order. So everything must agree: the first loss, each of 403,000
# gradients, the loss at every step. It does (left), and what still differs (right) is
# rounding, and no more. Then you train both on all of Fashion-MNIST, and put them under the
# clock.
#
# ![The losses of both over a hundred steps, one line upon the other, and how far
# apart](images/08_numpy_vs_pytorch.png)
#
# **What you need.** The convolution of notebook 03. PyTorch you need not know; here you
# meet it.
#
# **How long it takes.** Three minutes of computing on a laptop.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np

import nnlib
from nnlib import claim, load_dataset, plots, reference

SEED = int(os.environ.get("NNLIB_SEED", 0))

# %% [markdown]
# Is PyTorch there? The course does without it everywhere else, and you may read this
# notebook without it too: the cells that need it begin with `if torch:` and then do
# nothing.

# %% tags=["torch"]
try:
    import torch
except ImportError:
    torch = None

if torch:
    # one thread: the same digits at every run, and a fair clock beside NumPy with one
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print("PyTorch is installed: every cell runs.")
else:
    print(
        "PyTorch is NOT installed: the cells that need it do nothing. `make setup-torch` "
        "installs it."
    )

# %%
data = load_dataset("fashion_mnist")
full = data.source != "sample"
training_set, validation_set = data.split(1 / 12, np.random.default_rng(SEED))
print("training:  ", training_set[0].shape)
print("validation:", validation_set[0].shape)


def to_images(images):
    """uint8 images (N, 28, 28, 1) to float32 between 0 (black) and 1 (white)."""
    return images.astype(np.float32) / np.float32(255)


# %% tags=["figure", "nbval-ignore-output"]
examples = [np.flatnonzero(data.train_labels == k)[:2] for k in range(10)]
order = np.transpose(examples).ravel()
names = [data.class_names[k] for k in data.train_labels[order]]
figure = plots.image_grid(
    data.train_images[order],
    names,
    "Fashion-MNIST: ten kinds of clothes, two of each",
    columns=10,
)
plots.show(
    figure,
    alt="Twenty small grey pictures of clothes in two rows, one column for each of the "
    "ten kinds.",
)

# %% [markdown]
# ## Predict first
#
# Training one network twice: once in a few hundred lines of Python on top of NumPy, once in
# a library that thousands of people have made fast. Write down what you expect:

# %%
# how many times longer than PyTorch will the seven loops of notebook 02 need?
my_loops = 10
# and nnlib?
my_nnlib = 10
# how many points of test accuracy will lie between the two, once both are trained?
my_points = 5.0

# %% [markdown]
# ## One network, written twice
#
# A convolution with 16 filters of 5 × 5, laid on every second pixel (stride 2), ReLU, a
# hidden layer of 128 units, ReLU, ten logits: the kind of network with which one of the
# reports behind this course compared NumPy and PyTorch. There is no pooling in it; that
# comes later.

# %%
FILTERS, SIDE = 16, 14  # the convolution leaves 14 × 14 places


def our_network(rng, init=nnlib.he_normal, dtype=np.float32):
    return nnlib.Sequential(
        [
            nnlib.Conv2d(
                1, FILTERS, 5, stride=2, padding=2, rng=rng, init=init, dtype=dtype
            ),  # (N, 14, 14, 16)
            nnlib.ReLU(),
            nnlib.Flatten(),  # (N, 3136)
            nnlib.Linear(SIDE * SIDE * FILTERS, 128, rng=rng, init=init, dtype=dtype),
            nnlib.ReLU(),
            nnlib.Linear(128, 10, rng=rng, init=init, dtype=dtype),
        ]
    )


def their_network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, FILTERS, 5, stride=2, padding=2),  # (N, 16, 14, 14)
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(SIDE * SIDE * FILTERS, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 10),
    )


for name, param in our_network(np.random.default_rng(SEED)).named_parameters():
    print(f"{name:4} {param.shape!s:14} {param.size:8,} numbers")

# %% [markdown]
# You could have written the second one yourself: our names are PyTorch's names. Two things
# differ. PyTorch needs no `rng` (it has one global source of random numbers), and it has no
# `backward` that you could read: it remembers every operation, and walks the list back by
# itself. That is called *autograd*.
#
# ## Moving the weights across
#
# To compare the two, they must begin equal. Copying numbers is easy; the question is *which
# axis is which*.
#
# | | nnlib | PyTorch |
# | --- | --- | --- |
# | pictures | $(N, H, W, C)$, channels last | $(N, C, H, W)$, channels first |
# | a convolution's weights | `(kh, kw, C_in, C_out)` | `(C_out, C_in, kh, kw)` |
# | a Linear's weights | (in, out): $y = xW + b$ | (out, in): $y = xW^T + b$ |
#
# So far it is a matter of `transpose`. The trap is in `Flatten`: it lays out a picture in
# the order in which the numbers lie in memory, and that order is not the same. A picture of
# 2 × 2 pixels with three channels:

# %% tags=["figure", "nbval-ignore-output"]
# channels last: all channels of a pixel, then the next pixel
channel = np.tile([0, 1, 2], 4)
pixel = np.repeat([1, 2, 3, 4], 3)
figure, grid = plt.subplots(2, 1, figsize=(8, 2.9))
# channels first: all pixels of a channel, then the next channel
first = np.argsort(channel, kind="stable")
for axes, order, title in (
    (grid[0], np.arange(12), "nnlib, channels last: pixel by pixel"),
    (grid[1], first, "PyTorch, channels first: channel by channel"),
):
    axes.imshow(channel[order][None], cmap="Set2", vmin=0, vmax=7, aspect="auto")
    for place, (p, c) in enumerate(zip(pixel[order], channel[order], strict=True)):
        axes.text(
            place, 0, f"pixel {p}\nchannel {c + 1}", ha="center", va="center", fontsize=8
        )
    axes.grid(False)
    axes.set(title=title, yticks=[], xticks=range(12), xlabel="place in the flattened row")
plots.show(
    figure,
    alt="Two rows of twelve coloured cells. Above, the colours of the three channels "
    "alternate; below, there are four cells of each colour in a row.",
)

# %% [markdown]
# The first Linear reads such a row. Its weights for *pixel 2, channel 1* stand in row 3 of
# our matrix and in column 1 of PyTorch's. So take its long axis apart into $(H, W, C)$,
# bring the channels to the front, and put it together again:


# %%
def to_their_axes(array):
    """A weight, or its gradient, in nnlib's axes. Returns it in PyTorch's."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)  # (kh, kw, C_in, C_out) -> (C_out, C_in, kh, kw)
    if len(array) == SIDE * SIDE * FILTERS:  # the Linear that reads a flattened picture
        planes = array.reshape(SIDE, SIDE, FILTERS, -1).transpose(2, 0, 1, 3)
        array = planes.reshape(array.shape)
    return array.T  # (in, out) -> (out, in); a bias has one axis and stays as it is


def copy_weights(ours, theirs, convert=to_their_axes):
    """Give PyTorch's network the weights of ours: both list weight and bias, layer by
    layer, in the same order.
    """
    twins = zip(ours.named_parameters(), theirs.parameters(), strict=True)
    with torch.no_grad():
        for (_, param), twin in twins:
            twin.copy_(torch.from_numpy(convert(nnlib.to_numpy(param)).copy()))
    return theirs


def their_images(images):
    """Pictures (N, H, W, C) of NumPy as a PyTorch tensor (N, C, H, W)."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


# %% [markdown]
# ## Equal: the logits, the loss, every gradient
#
# Forward and backward, in both:


# %%
def our_pass(model, x, labels):
    """Logits, loss and all gradients of nnlib, in PyTorch's axes."""
    logits = model.forward(nnlib.to_device(x), training=True)
    loss, dlogits = nnlib.cross_entropy(logits, nnlib.to_device(labels))
    model.backward(dlogits)
    found = {"logits": logits, "loss": loss}
    found = {name: nnlib.to_numpy(value) for name, value in found.items()}
    return found | {
        f"d{name}": to_their_axes(nnlib.to_numpy(grad))
        for name, grad in model.named_gradients()
    }


def their_pass(model, x, labels):
    """The same of PyTorch, under the same names."""
    logits = model(their_images(x))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    model.zero_grad()  # PyTorch adds new gradients to the old ones
    loss.backward()
    found = {"logits": logits.detach().numpy(), "loss": loss.detach().numpy()}
    names = [
        f"d{i}.{key}"
        for i, layer in enumerate(model)
        for key in ("W", "b")
        if list(layer.parameters())
    ]
    return found | {
        name: param.grad.numpy()
        for name, param in zip(names, model.parameters(), strict=True)
    }


def gap(ours, theirs):
    """The largest difference between two arrays, as a fraction of the largest number in
    them.
    """
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


# %% [markdown]
# How equal is equal? In float32 a number has seven decimal digits, and whoever adds the
# same numbers in another order rounds differently. So first in float64, with sixteen
# digits, where rounding has no say. If the two networks are the same mathematics, all must
# agree to ten digits at least:

# %%
x, labels = to_images(training_set[0][:64]), training_set[1][:64].astype(np.int64)
x64 = x.astype(np.float64)
ours64 = our_pass(our_network(np.random.default_rng(SEED), dtype=np.float64), x64, labels)
print(f"first loss {ours64['loss']:.4f}; knowing nothing: ln 10 = {np.log(10):.4f}")

# %% tags=["torch"]
if torch:
    theirs = copy_weights(
        our_network(np.random.default_rng(SEED), dtype=np.float64), their_network().double()
    )
    theirs64 = their_pass(theirs, x64, labels)
    for name, value in theirs64.items():
        print(
            f"{name:7} {value.shape!s:16} difference below 1e-10: "
            f"{gap(ours64[name], value) < 1e-10}"
        )
    claim(
        "in float64 logits, loss and all gradients agree to ten digits",
        max(gap(ours64[name], value) for name, value in theirs64.items()),
        at_most=1e-10,
    )

# %% [markdown]
# They are the same. This also proves our whole chain of gradients once more, from a side
# that shares no line with it.
#
# Now in float32, in which everybody trains. There is one trap. At 0, ReLU has a corner: a
# number that rounding pushes from $+10^{-8}$ to $-10^{-8}$ is cut off, and its gradient
# with it. Both results are right, and yet they are not close. Among the 200,000 numbers
# that enter a ReLU here, that does happen now and then. So for the comparison we take
# pictures that keep away from the corner, 64 out of the first 256:


# %%
def away_from_corners(model, x):
    """For each picture: is everything that enters a ReLU either exactly 0, or too large for
    rounding to turn it?
    """
    x, safe = nnlib.to_device(x), np.ones(len(x), bool)
    for layer in model.layers:
        if isinstance(layer, nnlib.ReLU):
            z = np.abs(nnlib.to_numpy(x)).reshape(len(x), -1)
            safe &= ((z == 0) | (z > 3e-6 * z.max())).all(axis=1)
        x = layer.forward(x)
    return safe


model = our_network(np.random.default_rng(SEED))
safe = away_from_corners(model, to_images(training_set[0][:256]))
rows = np.flatnonzero(safe)[:64]
x, labels = to_images(training_set[0][rows]), training_set[1][rows].astype(np.int64)
claim(
    "at least a quarter of the pictures keep away from the corner",
    safe.mean(),
    at_least=0.25,
)

# %% tags=["torch"]
if torch:
    ours32 = our_pass(model, x, labels)
    theirs32 = their_pass(copy_weights(model, their_network()), x, labels)
    for name, value in theirs32.items():
        print(
            f"{name:7} {value.shape!s:16} difference below 1e-5: "
            f"{gap(ours32[name], value) < 1e-5}"
        )
    claim(
        "in float32 logits, loss and all gradients agree to 1e-5",
        max(gap(ours32[name], value) for name, value in theirs32.items()),
        at_most=1e-5,
    )

# %% [markdown]
# What if we had forgotten about the order of `Flatten`, and only transposed? Every shape
# would fit, and nobody would complain:

# %% tags=["torch"]
if torch:
    careless = copy_weights(
        model, their_network(), lambda W: W.transpose(3, 2, 0, 1) if W.ndim == 4 else W.T
    )
    shapes = [
        value.shape == theirs32[name].shape
        for name, value in their_pass(careless, x, labels).items()
    ]
    print("every shape fits:", all(shapes))
    wrong = gap(ours32["logits"], their_pass(careless, x, labels)["logits"])
    claim("but the logits are off by more than a tenth of the largest", wrong, at_least=0.1)

# %% [markdown]
# That is how it goes wrong in practice: trained weights are moved to another library, and
# *something* comes out.
#
# ## A hundred steps
#
# Now both learn: stochastic gradient descent with momentum, the same batches in the same
# order. The optimizers have the same formula ([`torch.optim.SGD`][sgd]). We wrap each
# library in a class with the same two methods, and everything after that is written once.
#
# [sgd]: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html


# %%
class Ours:
    def __init__(self, model, weight_decay=0.0):
        self.model = model
        self.optimizer = nnlib.SGD(model, lr=1.0, momentum=0.9, weight_decay=weight_decay)

    def step(self, x, labels, lr):
        """One step on images (N, 28, 28, 1), float32. Returns the loss before it."""
        logits = self.model.forward(nnlib.to_device(x), training=True)
        loss, dlogits = nnlib.cross_entropy(logits, nnlib.to_device(labels))
        self.model.backward(dlogits)
        self.optimizer.lr = lr
        self.optimizer.step()
        return float(loss)

    def logits(self, x):
        return nnlib.to_numpy(self.model.forward(nnlib.to_device(x)))


class Theirs:
    def __init__(self, model, weight_decay=0.0):
        self.model = model
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=1.0, momentum=0.9, weight_decay=weight_decay
        )

    def step(self, x, labels, lr):
        logits = self.model(their_images(x))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return loss.item()

    def logits(self, x):
        with torch.no_grad():  # nothing to remember: there will be no way back
            return self.model(their_images(x)).numpy()


# %% [markdown]
# Will the losses stay equal for ever? Each step rounds a little, in each library in its own
# way, and the next step builds on it. To know what rounding alone can do, let nnlib also
# run against *itself*, with the 64 pictures of each batch turned round, last to first. The
# mean over a batch does not care; only the order of additions changes.


# %%
def batches(epochs, images, labels, batch_size=64, augment=None):
    """Yield (x, labels) for every step: shuffled anew in each epoch, but by the same random
    numbers in each call.
    """
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            x = images[rows] if augment is None else augment(images[rows], rng)
            yield to_images(x), labels[rows].astype(np.int64)


def hundred_losses(side, dtype=np.float32, turned=False):
    """The losses of the first hundred steps at a learning rate of 0.03."""
    losses = []
    for x, labels in batches(3, *training_set):
        if turned:
            x, labels = x[::-1].copy(), labels[::-1].copy()
        losses.append(side.step(x.astype(dtype), labels, 0.03))
        if len(losses) == 100:
            return np.array(losses)


ours = hundred_losses(Ours(our_network(np.random.default_rng(SEED))))
turned = hundred_losses(Ours(our_network(np.random.default_rng(SEED))), turned=True)
ours64 = hundred_losses(
    Ours(our_network(np.random.default_rng(SEED), dtype=np.float64)), np.float64
)
for step in (1, 10, 100):
    print(f"step {step:3}: loss {ours64[step - 1]:.4f} in float64")

# %% tags=["torch"]
if torch:
    copied = copy_weights(our_network(np.random.default_rng(SEED)), their_network())
    theirs = hundred_losses(Theirs(copied))
    copied = copy_weights(
        our_network(np.random.default_rng(SEED), dtype=np.float64), their_network().double()
    )
    theirs64 = hundred_losses(Theirs(copied), np.float64)
    claim(
        "in float64 all hundred losses agree to 1e-4",
        np.abs(ours64 - theirs64).max(),
        at_most=1e-4,
    )
    claim("in float32 the first ten do", np.abs(ours - theirs)[:10].max(), at_most=1e-4)

# %% tags=["cover", "figure", "nbval-ignore-output", "torch"]
if torch:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    steps = np.arange(1, 101)
    left.plot(steps, theirs, color="C1", linewidth=6, alpha=0.5, label="PyTorch")
    left.plot(steps, ours, color="black", linewidth=1, label="nnlib")
    left.set(
        title="The same loss at each of the first hundred steps",
        xlabel="step",
        ylabel="loss (nats)",
    )
    left.legend()
    for label, gaps, style in (
        (
            "float32: nnlib − nnlib, batches turned",
            ours - turned,
            {"color": "grey", "marker": "x"},
        ),
        ("float32: nnlib − PyTorch", ours - theirs, {"color": "C1", "marker": "o"}),
        ("float64: nnlib − PyTorch", ours64 - theirs64, {"color": "C0", "marker": "."}),
    ):
        right.semilogy(
            steps,
            np.maximum(np.abs(gaps), 1e-17),
            linestyle="",
            markersize=4,
            label=label,
            **style,
        )
    right.axhline(1e-4, color="grey", linestyle=":", label="1e-4")
    right.set(
        title="How far apart they are",
        xlabel="step",
        ylabel="difference (nats)",
        ylim=(5e-18, 3),
    )
    right.legend(loc="lower left", bbox_to_anchor=(0.02, 0.16), fontsize=8)
    plots.show(
        figure,
        alt="Left, the loss over a hundred steps: a thin black line for nnlib runs inside "
        "a wide orange one for PyTorch. Right, the differences on a logarithmic axis: in "
        "float32 those between nnlib and PyTorch and those between nnlib and itself begin "
        "near one ten-millionth; in float64 they stay at the bottom.",
    )

# %% [markdown]
# On the left you see one line upon the other. The right side shows what float32 can do:
# sooner or later, a number close to a ReLU's corner tips over in one of the two and not in
# the other, its gradient with it, and from there the difference grows like an avalanche. In
# which step that happens is luck: within these hundred it may catch nnlib and PyTorch
# (orange), nnlib and itself (grey), both or neither. But in the long run nnlib does not
# stay with itself either (you will see it below), so nothing is left that would need
# another explanation. With nine more digits (blue) nothing tips, and the two stay together.
# (A point on the lower rim is a difference of exactly 0.)
#
# Remember this picture when somebody's training "cannot be reproduced".
#
# ## Both trained to the end
#
# All training pictures, eight epochs, in float64. Half of the pictures are mirrored, by
# lot, anew in each epoch (a mirrored shoe is a shoe); there is a little weight decay, and a
# learning rate that climbs for a moment and then fades along a cosine. All of this was
# chosen on the validation set, and the weights are those of the last step. The loop knows
# its contender only by `step` and `logits`, so it trains either:


# %%
EPOCHS, LR, DECAY = 8, 0.04, 0.0005


def evaluate(side, images, labels, dtype=np.float32):
    """Mean loss (nats) and accuracy (0..1) on uint8 images, and the class that each was
    given.
    """
    parts = [
        side.logits(to_images(images[start : start + 500]).astype(dtype))
        for start in range(0, len(images), 500)
    ]
    logits = np.concatenate(parts).astype(np.float64)
    answers = logits.argmax(axis=1)
    loss, accuracy = nnlib.cross_entropy(logits, labels)[0], (answers == labels).mean()
    return float(loss), float(accuracy), answers


def train(side, dtype=np.float64):
    """Train one contender to the end."""
    steps_an_epoch = -(-len(training_set[0]) // 64)
    schedule = nnlib.warmup_cosine(0.1)
    steps = enumerate(batches(EPOCHS, *training_set, augment=nnlib.random_flip))
    for step, (x, labels) in steps:
        side.step(x.astype(dtype), labels, LR * schedule(step, EPOCHS * steps_an_epoch))
        if (step + 1) % steps_an_epoch == 0:
            loss, accuracy, _ = evaluate(side, *validation_set, dtype)
            print(
                f"epoch {(step + 1) // steps_an_epoch}: validation loss {loss:.4f}, "
                f"accuracy {accuracy:.2%}"
            )


nnlib_side = Ours(our_network(np.random.default_rng(SEED), dtype=np.float64), DECAY)
train(nnlib_side)

# %% tags=["nbval-ignore-output", "torch"]
if torch:
    copied = copy_weights(
        our_network(np.random.default_rng(SEED), dtype=np.float64), their_network().double()
    )
    pytorch_side = Theirs(copied, DECAY)
    train(pytorch_side)

# %% [markdown]
# The same table twice, is it not? (Still, PyTorch's digits depend on the processor in ways
# that we don't control, so its tables are never compared; what is checked are its claims.)
# Now the test set, once:

# %%
_, nnlib_accuracy, nnlib_answers = evaluate(
    nnlib_side, data.test_images, data.test_labels, np.float64
)
print(f"nnlib: test accuracy {nnlib_accuracy:.2%}")

# %% tags=["nbval-ignore-output", "torch"]
if torch:
    _, pytorch_accuracy, pytorch_answers = evaluate(
        pytorch_side, data.test_images, data.test_labels, np.float64
    )
    points = 100 * abs(nnlib_accuracy - pytorch_accuracy)
    print(f"PyTorch: test accuracy {pytorch_accuracy:.2%}")
    print(
        "pictures to which the two give different answers: "
        f"{np.sum(nnlib_answers != pytorch_answers)}"
    )
    print(f"points between the two: {points:.2f}; you predicted {my_points}")

# %%
bar = 0.9 if full else 0.75
claim(
    f"nnlib names at least {bar:.0%} of the test pictures rightly",
    nnlib_accuracy,
    at_least=bar,
)

# %% tags=["torch"]
if torch:
    claim(
        f"PyTorch names at least {bar:.0%} of the test pictures rightly",
        pytorch_accuracy,
        at_least=bar,
    )
    claim("the two lie within 0.3 points of each other", points, at_most=0.3)
    same = np.mean(nnlib_answers == pytorch_answers)
    claim(
        "they give the same answer for at least 99.9 % of the pictures",
        same,
        at_least=0.999,
    )

# %% [markdown]
# The report that this notebook answers found 71.74 % for its NumPy and 83.70 % for PyTorch.
# What does PyTorch do better? Nothing. Given the same weights, batches and formulas, the
# two are one network. What separated them there was not the library: a recipe, or a bug.
# (Which, no report can tell.) We shall take recipes apart below.
#
# And in float32, in which everybody trains? There the avalanche comes sooner or later, and
# then the two are as far apart as any two trainings that differ in rounding. How far is
# that? nnlib against itself once more, its batches turned round, three epochs on 10,000
# pictures:


# %%
few = tuple(part[:10_000] for part in training_set)


def short_training(side, epochs, turned=False):
    """Train in float32 on few pictures.
    Returns the loss of every step, and the seconds an epoch.
    """
    schedule, losses, began = nnlib.warmup_cosine(0.1), [], time.perf_counter()
    steps = epochs * -(-len(few[0]) // 64)
    for step, (x, labels) in enumerate(batches(epochs, *few)):
        if turned:
            x, labels = x[::-1].copy(), labels[::-1].copy()
        losses.append(side.step(x, labels, 0.03 * schedule(step, steps)))
    return losses, (time.perf_counter() - began) / epochs


answers, paths = [], []
for turned in (False, True):
    side = Ours(our_network(np.random.default_rng(SEED)))
    losses, _ = short_training(side, 3, turned)
    _, accuracy, answer = evaluate(side, *validation_set)
    answers.append(answer)
    paths.append(losses)
    print(
        f"{'turned round' if turned else 'as they are':12}:"
        f" validation accuracy {accuracy:.2%}"
    )
print(f"the same answer for {np.mean(answers[0] == answers[1]):.1%} of the pictures")
if full:  # the sample's three epochs are too short
    drift = np.abs(np.subtract(*paths)).max()
    claim(
        "at some step the losses of nnlib and itself are more than a thousandth apart",
        drift,
        at_least=1e-3,
    )

# %% [markdown]
# Where did they part? **Try this.** Go from the first step of these trainings to the last,
# by the slider, by its buttons or by a click on a curve, and watch the underlined digits,
# in which the two losses differ. How long does nothing happen, and how fast does it happen
# then? Then choose another pair: these are the hundred steps from above.

# %% tags=["figure", "nbval-ignore-output"]
from nnlib import interactive

trainings = {"float32: nnlib and itself, turned": {"nnlib": paths[0], "turned": paths[1]}}
if torch:
    trainings |= {
        "float32: nnlib and PyTorch": {"nnlib": ours, "PyTorch": theirs},
        "float64: nnlib and PyTorch": {"nnlib": ours64, "PyTorch": theirs64},
    }
interactive.gap(trainings)

# %% [markdown]
# Notice the three parts. For dozens of steps the two differ in the last digit or two, or
# not at all. Then come a few dozen in which the difference grows a thousand times and more,
# until it crosses the dotted line. And then it stops growing: these are two trainings now,
# each as right as the other. Within their hundred steps nnlib and PyTorch may still be in
# the first part, as float64 is for far longer.
#
# Wherever those answers differ, nothing but rounding made them differ. Remember that when
# somebody shows you a small improvement, from one training each.
#
# ## The honest clocks
#
# The report needed 1975 seconds an epoch with NumPy, and 1.7 with PyTorch. That *is*
# PyTorch's doing, is it not? Let us put four versions of our network under the clock, which
# differ in nothing but how the convolution is computed:
#
# * **loops**: the seven loops of notebook 02,
# * **im2col**: notebook 03 as we first wrote it: all rows of the batch at once,
# * **nnlib**: the same in chunks that stay in the cache, and without the gradient for the
#   pictures,
# * **PyTorch**, with one thread as NumPy here, and with all there are.


# %%
class Loops(nnlib.Conv2d):
    def forward(self, x, training=False):
        self.saved = x
        return reference.conv2d(x, self.params["W"], self.params["b"], 2, 2)

    def backward(self, dout, input_grad=True):
        dx, dW, db = reference.conv2d_backward(dout, self.saved, self.params["W"], 2, 2)
        self.grads = {"W": dW, "b": db}
        return dx


class Im2col(nnlib.Conv2d):
    def forward(self, x, training=False):
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
        patches = windows[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3)  # (N, Ho, Wo, kh, kw, C)
        self.rows, self.shape = patches.reshape(-1, 25 * x.shape[3]), x.shape
        W, b = self.params["W"], self.params["b"]
        return (self.rows @ W.reshape(-1, W.shape[3]) + b).reshape(*patches.shape[:3], -1)

    def backward(self, dout, input_grad=True):
        W, d = self.params["W"], dout.reshape(-1, dout.shape[3])
        self.grads = {"W": (self.rows.T @ d).reshape(W.shape), "b": d.sum(axis=0)}
        return nnlib.col2im(d @ W.reshape(-1, W.shape[3]).T, self.shape, 5, 2, 2)


def on_processor(convolution=nnlib.Conv2d):
    """Our network as NumPy arrays, even where NNLIB_DEVICE says otherwise, with this class
    of convolution in it.
    """
    model = our_network(np.random.default_rng(SEED))
    model.layers[0] = convolution(
        1, FILTERS, 5, stride=2, padding=2, rng=np.random.default_rng(SEED)
    )
    for layer in model.layers:
        layer.params = {name: nnlib.to_numpy(param) for name, param in layer.params.items()}
    return model


def numpy_pass(model, x, labels):
    logits = model.forward(x, training=True)
    model.backward(nnlib.cross_entropy(logits, labels)[1])
    return [logits, *(grad for _, grad in model.named_gradients())]


x, labels = to_images(training_set[0][:2]), training_set[1][:2]
fast, slow, plain = (
    numpy_pass(on_processor(kind), x, labels) for kind in (nnlib.Conv2d, Loops, Im2col)
)
worst = max(
    gap(one, other)
    for others in (slow, plain)
    for one, other in zip(fast, others, strict=True)
)
claim("loops, im2col and nnlib compute the same, to 1e-4", worst, at_most=1e-4)

# %% [markdown]
# A clock for one training step on 64 pictures, with a hand at every layer. For nnlib it
# stops the time around each `forward` and `backward`. For PyTorch we do what autograd does,
# but layer by layer, so that its clock has the same hands.


# %%
PARTS = ["convolution", "ReLU", "Flatten", "large Linear", "ReLU", "small Linear"]
x, labels = to_images(training_set[0][:64]), training_set[1][:64].astype(np.int64)


class Clock:
    """Adds up the seconds between its calls, by the name of what was done."""

    def __init__(self):
        self.parts = dict.fromkeys([*dict.fromkeys(PARTS), "loss", "optimizer"], 0.0)
        self.last = time.perf_counter()

    def __call__(self, name):
        now = time.perf_counter()
        self.parts[name] += now - self.last
        self.last = time.perf_counter()


def our_timed_step(side, x=x, labels=labels):
    layers, clock = list(zip(PARTS, side.model.layers, strict=True)), Clock()
    for name, layer in layers:
        x = layer.forward(x, training=True)
        clock(name)
    _, dout = nnlib.cross_entropy(x, labels)
    clock("loss")
    for name, layer in reversed(layers):
        dout = layer.backward(dout, input_grad=layer is not side.model.layers[0])
        clock(name)
    side.optimizer.lr = 1e-6
    side.optimizer.step()
    clock("optimizer")
    return clock.parts


def their_timed_step(side, x, labels):
    side.optimizer.zero_grad()
    layers, clock, kept = list(zip(PARTS, side.model, strict=True)), Clock(), []
    for name, layer in layers:
        # cut: each layer gets a graph of its own
        x = x.detach().requires_grad_(layer is not side.model[0])
        kept.append((x, layer(x)))
        x = kept[-1][1]
        clock(name)
    logits = x.detach().requires_grad_()
    torch.nn.functional.cross_entropy(logits, labels).backward()
    dout = logits.grad
    clock("loss")
    for (name, _), (entered, left) in zip(reversed(layers), reversed(kept), strict=True):
        left.backward(dout)
        dout = entered.grad
        clock(name)
    side.optimizer.param_groups[0]["lr"] = 1e-6
    side.optimizer.step()
    clock("optimizer")
    return clock.parts


# %% [markdown]
# The contenders take turns, and of every part the fastest time counts: whatever else the
# computer is doing can only make it slower. Waiting for 64 pictures in loops would try your
# patience, so the loops get one picture, and the time of their convolution is multiplied
# by 64. (Their other layers are those of im2col.)

# %% tags=["nbval-ignore-output"]
contenders = {
    "im2col": (our_timed_step, Ours(on_processor(Im2col)), x, labels),
    "nnlib": (our_timed_step, Ours(on_processor()), x, labels),
}
if torch:
    tensors = their_images(x), torch.from_numpy(labels)
    for name in ("PyTorch", "PyTorch, all threads"):
        contenders[name] = (their_timed_step, Theirs(their_network()), *tensors)

runs = {name: [] for name in contenders}
for _ in range(5):
    for name, (timed_step, *arguments) in contenders.items():
        if torch:
            torch.set_num_threads(os.cpu_count() if name.endswith("all threads") else 1)
        timed_step(*arguments)  # to warm up
        runs[name] += [timed_step(*arguments) for _ in range(3)]
if torch:
    torch.set_num_threads(1)
milliseconds = {
    name: {part: 1000 * min(run[part] for run in found) for part in found[0]}
    for name, found in runs.items()
}
one_picture = min(
    our_timed_step(Ours(on_processor(Loops)), x[:1], labels[:1])["convolution"]
    for _ in range(2)
)
in_loops = milliseconds["im2col"] | {"convolution": 64 * 1000 * one_picture}
milliseconds = {"loops": in_loops} | milliseconds
total = {name: sum(parts.values()) for name, parts in milliseconds.items()}

print(f"{'':22}  ms a step   seconds an epoch   times nnlib")
for name, step in total.items():
    print(
        f"{name:22} {step:10,.1f} {step / 1000 * 60_000 / 64:18,.1f} "
        f"{step / total['nnlib']:13,.2f}"
    )
print(
    f"\nNumPy {np.__version__}"
    + (f", PyTorch {torch.__version__}" if torch else "")
    + f", {os.cpu_count()} cores"
)
if torch:
    for name, guess in (("loops", my_loops), ("nnlib", my_nnlib)):
        print(
            f"{name} took {total[name] / total['PyTorch']:,.1f} times as long as PyTorch;"
            f" you predicted {guess}"
        )

# %% tags=["figure", "nbval-ignore-output"]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 3.6), width_ratios=[1, 1.35], sharey=True
)
shown = list(total)
places = np.arange(len(shown))
left.barh(places, [total[name] for name in shown], color="grey")
left.set(
    xscale="log",
    xlabel="milliseconds (each line: ten times more)",
    title="One training step on 64 pictures",
)
left.set_yticks(places, shown)
left.invert_yaxis()
start = np.zeros(len(shown))
for part in milliseconds["nnlib"]:
    share = np.array([milliseconds[name][part] / total[name] for name in shown])
    right.barh(places, 100 * share, left=100 * start, label=part)
    start += share
right.set(xlabel="share of the step (%)", title="Where its time goes")
right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Left, bars of milliseconds on a logarithmic axis: the bar of the loops is far "
    "longer than the others. Right, each step divided: in the loops the convolution takes "
    "all, in the others it shares with the large Linear and the optimizer.",
)

# %%
claim(
    "the loops need at least two hundred times as long as nnlib",
    total["loops"] / total["nnlib"],
    at_least=200,
)

# %% tags=["torch"]
if torch:
    claim(
        "nnlib needs at most five times as long as PyTorch",
        total["nnlib"] / total["PyTorch"],
        at_most=5,
    )

# %% [markdown]
# So it is not NumPy against PyTorch that makes the difference of a thousand. It is loops
# against everything else. Row by row, why:
#
# * **The interpreter.** The loops spend nearly all their time outside of arithmetic: for
#   each single product, Python looks up the names, checks the types, makes a new number and
#   throws the old one away. The four others call the interpreter a few dozen times a step.
# * **Memory traffic.** im2col writes all patches of the batch to memory and reads them
#   twice, and it computes the gradient for the pictures, which nobody uses. nnlib works in
#   chunks whose rows stay in the processor's cache.
# * **BLAS.** The large Linear is one matrix product, in NumPy and in PyTorch: both hand it
#   to a library of such products (*BLAS*) that was tuned for this processor. There is
#   nothing left for Python to be slow at.
# * **Fused kernels.** `x @ W + b` makes NumPy write the product to memory, read it, add,
#   and write it again; PyTorch's `addmm` adds $b$ while it is there. Its optimizer does a
#   parameter in few passes where NumPy needs one for each `*=` and `+=`. On the other hand
#   PyTorch keeps the books for autograd, and its convolution is made for many channels, not
#   for one.
# * **Threads.** With all cores, PyTorch divides every layer among them. (They wait for each
#   other: if something else keeps a core busy, that row is by far the slower of the two.)
#   NumPy does so too, but in matrix products only; the rest runs on one core. (`make lab`
#   starts NumPy's BLAS with one thread, so that all digits are equal on all computers.)
#
# How much is it? The same times as rates, for the two layers that matter:

# %% tags=["nbval-ignore-output"]
# multiply-adds: the large Linear forward, and its two gradients
products = 3 * 64 * SIDE * SIDE * FILTERS * 128
print(f"{'':22}  large Linear, GFLOP/s    convolution, ns a multiply-add")
for name in total:
    gflops = 2 * products / milliseconds[name]["large Linear"] / 1e6
    # these two also compute the gradient for the pictures
    passes = 3 if name in ("loops", "im2col") else 2
    multiply_adds = passes * 64 * SIDE * SIDE * 25 * FILTERS
    nanoseconds = milliseconds[name]["convolution"] * 1e6 / multiply_adds
    print(f"{name:22} {gflops:22.0f} {nanoseconds:33.2f}")

# %% [markdown]
# ## How weights begin
#
# If two programs disagree although both are right, look first at what nobody wrote down:
# the defaults. How large are the first random weights? Many a NumPy network draws them from
# a normal distribution of spread 0.01. Ours uses He's, whose variance is $2/n$ for $n$
# inputs. PyTorch's layers, if nobody says otherwise, draw weights *and biases* uniformly
# between $-1/\sqrt n$ and $1/\sqrt n$: a variance of $1/(3n)$. (Its manual calls this
# [Kaiming-uniform](https://docs.pytorch.org/docs/stable/nn.init.html) with $a = \sqrt 5$;
# Kaiming is He's first name.)


# %%
def uniform_default(shape, rng):
    """What PyTorch's Linear and Conv2d do unless told otherwise."""
    bound = 1 / np.sqrt(np.prod(shape[:-1]))
    return rng.uniform(-bound, bound, shape)


def begun(init):
    rng = np.random.default_rng(SEED)
    model = our_network(rng, init=init)
    if init is uniform_default:
        # its biases begin within the same bound
        for layer in filter(lambda layer: layer.params, model.layers):
            W, b = layer.params["W"], layer.params["b"]
            bound = 1 / np.sqrt(W[..., 0].size)
            b[...] = nnlib.to_device(rng.uniform(-bound, bound, len(b)).astype(np.float32))
    return model


beginnings = {
    "normal, 0.01": nnlib.normal(0.01),
    "He": nnlib.he_normal,
    "PyTorch's default": uniform_default,
}
x = nnlib.to_device(to_images(training_set[0][:500]))
print("spread of the signal after   convolution   large Linear   logits")
for name, init in beginnings.items():
    model, signal, spreads = begun(init), x, []
    for layer in model.layers:
        signal = layer.forward(signal)
        if layer.params:
            spreads.append(float(signal.std()))
    print(f"{name:27}" + "".join(f"{spread:12.5f}" for spread in spreads))

# %% tags=["torch"]
if torch:
    torch.manual_seed(SEED)
    for layer in (torch.nn.Conv2d(8, 64, 3), torch.nn.Linear(6272, 128)):
        weights, biases = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        fan_in = weights[0].size
        inside = max(np.abs(weights).max(), np.abs(biases).max()) * np.sqrt(fan_in)
        name = type(layer).__name__
        claim(
            f"PyTorch's {name} begins within 1/sqrt(n), weights and biases",
            inside,
            at_most=1.0001,
        )
        claim(
            "and the variance of its weights is 1/(3n), within 5 %",
            weights.var() * 3 * fan_in,
            at_least=0.95,
            at_most=1.05,
        )

# %% [markdown]
# With 0.01, the signal shrinks at every layer until all logits are nearly 0; so do the
# gradients on their way back. The network sits on a plateau, at the loss $\ln 10$ of
# knowing nothing, until it has grown itself larger weights. Here are the first two epochs
# on 10,000 pictures, without any schedule:

# %%
curves = {}
for name, init in beginnings.items():
    side = Ours(begun(init))
    curves[name] = [side.step(x, labels, 0.03) for x, labels in batches(2, *few)]
    _, accuracy, _ = evaluate(side, *validation_set)
    print(
        f"{name:17}: loss after 20 steps {np.mean(curves[name][15:25]):.3f},"
        f" validation accuracy after 2 epochs {accuracy:.2%}"
    )

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(8, 3.6))
for name, losses in curves.items():
    axes.plot(
        np.arange(10, len(losses) + 1),
        np.convolve(losses, np.ones(10) / 10, "valid"),
        label=name,
    )
axes.axhline(np.log(10), color="grey", linestyle=":", label="knowing nothing: ln 10")
axes.set(
    title="Three ways to begin",
    xlabel="step (64 pictures each)",
    ylabel="loss, mean of ten steps (nats)",
)
axes.legend()
plots.show(
    figure,
    alt="Training loss by step: the curves of He and of PyTorch's default fall at once; "
    "that of 0.01 first stays at ln 10, then falls.",
)

# %%
early = {name: np.mean(losses[15:25]) for name, losses in curves.items()}
claim(
    "with a spread of 0.01 the network still knows next to nothing after 20 steps",
    early["normal, 0.01"],
    at_least=2.0,
)
claim("with He's it has learnt something by then", early["He"], at_most=1.5)
claim("and so it has with PyTorch's default", early["PyTorch's default"], at_most=1.7)

# %% [markdown]
# ## Numbers that are too large
#
# Some programs break only after an hour, when the logits have grown. Softmax as it stands
# in the book is $p_k = e^{z_k} / \sum_j e^{z_j}$, and in float32 $e^{89}$ is infinite. A
# popular cure is to add a tiny number before the logarithm, $-\log(p + 10^{-9})$. The right
# one (`nnlib.cross_entropy`) never makes $p$ at all: with the largest logit $m$,
#
# $$-\log p_k = \log \sum_j e^{z_j - m} - (z_k - m).$$
#
# Two logits, $s$ and 0; the true class is the one with 0. The loss is then $\log(e^s + 1)$,
# nearly $s$, and its slope for the wrong logit is nearly 1:


# %%
def as_in_the_book(z):
    p = np.exp(z) / np.exp(z).sum()
    return -np.log(p[1]), p[0]


def with_a_tiny_number(z):
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return -np.log(p[1] + np.float32(1e-9)), p[0] * p[1] / (p[1] + np.float32(1e-9))


def ours_stable(z):
    loss, dlogits = nnlib.cross_entropy(z[None], np.array([1]))
    return loss, dlogits[0, 0]


print("      s        as in the book    log(p + 1e-9)       log-sum-exp")
print("              loss     slope     loss     slope     loss     slope")
found, ways = {}, (as_in_the_book, with_a_tiny_number, ours_stable)
for s in (1, 10, 30, 100, 1000):
    z = np.array([s, 0], np.float32)
    with np.errstate(all="ignore"):  # NumPy would warn of what we want to see
        found[s] = [value for way in ways for value in way(z)]
    print(f"{s:7}" + "".join(f"{value:10.4f}" for value in found[s]))

# %%
claim(
    "at logits of 1000 the book's softmax is not a number",
    np.isnan(found[1000][1]),
    equals=True,
)
claim("log(p + 1e-9) says less than 21 where 1000 is right", found[1000][2], at_most=21)
claim("and its slope is 0", found[1000][3], equals=0)
claim(
    "log-sum-exp is right: a loss of 1000 and a slope of 1",
    found[1000][4:],
    equals=[1000, 1],
)

# %% [markdown]
# The tiny number does not crash, and that is the worst of it: where the network is most
# wrong, its slope is 0, and the network never learns of its mistake. What does PyTorch do?

# %% tags=["torch"]
if torch:
    z = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor([1]))
    loss.backward()
    claim(
        "PyTorch's cross_entropy is right at 1000 too",
        [loss.item(), z.grad[0, 0].item()],
        equals=[1000, 1],
    )
    by_hand = -torch.log(torch.softmax(z, dim=1))[0, 1].item()
    claim(
        "but the logarithm of its softmax, taken by hand, is infinite",
        by_hand,
        equals=np.inf,
    )

# %% [markdown]
# ## What helps, one thing at a time
#
# The report closes with a list of what would improve its NumPy network: a convolution,
# ReLU, more epochs, vectorising, pooling. A list is a promise. Let us keep it, one thing
# after the other, on 10,000 training pictures, always with the same recipe. We begin with
# less than the report's network: one hidden layer with tanh, one epoch.


# %%
def ladder_network(convolution, activation, pooling):
    rng, layers, inputs = np.random.default_rng(SEED), [], 28 * 28
    if convolution:
        layers = [
            nnlib.Conv2d(1, FILTERS, 5, stride=1 if pooling else 2, padding=2, rng=rng),
            activation(),
        ]
        layers += [nnlib.MaxPool2d(2)] if pooling else []
        inputs = SIDE * SIDE * FILTERS
    layers += [
        nnlib.Flatten(),
        nnlib.Linear(inputs, 128, rng=rng),
        activation(),
        nnlib.Linear(128, 10, rng=rng),
    ]
    return nnlib.Sequential(layers)


rungs = {
    "one hidden layer, tanh, one epoch": (False, nnlib.Tanh, 1, False),
    "+ a convolution": (True, nnlib.Tanh, 1, False),
    "+ ReLU": (True, nnlib.ReLU, 1, False),
    "+ more epochs: five": (True, nnlib.ReLU, 5, False),
    "+ vectorising": (True, nnlib.ReLU, 5, False),
    "+ pooling": (True, nnlib.ReLU, 5, True),
}
ladder, ladder_seconds = {}, {}
for name, (convolution, activation, epochs, pooling) in rungs.items():
    if name != "+ vectorising":
        side = Ours(ladder_network(convolution, activation, pooling))
        _, ladder_seconds[name] = short_training(side, epochs)
        _, accuracy, _ = evaluate(side, *validation_set)
    else:
        ladder_seconds[name] = ladder_seconds["+ more epochs: five"]
    before = list(ladder.values())
    ladder[name] = 100 * accuracy
    print(
        f"{name:35}{ladder[name]:6.2f} %"
        + (f"{ladder[name] - before[-1]:+8.2f} points" if before else "")
    )

# %% [markdown]
# Each line is one training, and 5,000 pictures tell an accuracy to about half a point: a
# smaller step, up or down, is luck. And vectorising? It changes no digit: that is its
# point. What it buys is time, and with time, epochs. Here is what an epoch of 10,000
# pictures costs on each rung; up to the fourth, the convolution is done in loops (as
# measured above).

# %% tags=["nbval-ignore-output"]
slow = total["loops"] / 1000 * len(few[0]) / 64
cost = {
    name: slow if "convolution" in name or "ReLU" in name or "epochs" in name else s
    for name, s in ladder_seconds.items()
}
print(
    "\n".join(f"{name:35}{seconds:8.1f} seconds an epoch" for name, seconds in cost.items())
)

# %% tags=["figure", "nbval-ignore-output"]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 3.6), width_ratios=[1.35, 1], sharey=True
)
places = np.arange(len(ladder))
left.plot(list(ladder.values()), places, "o-")
for place, score in enumerate(ladder.values()):
    left.text(score + 0.15, place - 0.12, f"{score:.1f} %", fontsize=9)
left.set(
    title="What each step gains",
    xlabel="validation accuracy (%)",
    xlim=(None, max(ladder.values()) + 1.2),
)
left.set_yticks(places, ladder)
left.invert_yaxis()
right.barh(places, list(cost.values()), color="grey")
right.set(
    xscale="log",
    title="What it costs",
    xlabel="seconds an epoch (each line: ten times more)",
)
plots.show(
    figure,
    alt="Left, validation accuracy from rung to rung, with its value at each. Right, "
    "seconds an epoch on a logarithmic axis: three rungs with loops are far slower than "
    "those after vectorising.",
)

# %%
steps_up = dict(zip(ladder, np.diff([0, *ladder.values()]), strict=True))
least = (3, 1) if full else (3, 0)
claim(
    f"all together gain at least {least[0]} points",
    ladder["+ pooling"] - ladder["one hidden layer, tanh, one epoch"],
    at_least=least[0],
)
claim(
    f"of these, more epochs gain at least {least[1]}",
    steps_up["+ more epochs: five"],
    at_least=least[1],
)

# %% [markdown]
# ## The map
#
# The course ends here, and `torch.nn` begins. You know your way about already: this is
# everything that `nnlib` exports, and where it lives over there. Where nothing stands,
# PyTorch leaves it to you, to NumPy or to another library.

# %%
MAP = {
    "Sequential": "torch.nn.Sequential",
    "DataParallel": "torch.nn.DataParallel",  # many GPUs; ours: many cores
    "cores": "torch.get_num_threads",
    "Layer": "torch.nn.Module",
    "Linear": "torch.nn.Linear",
    "Conv2d": "torch.nn.Conv2d",
    "MaxPool2d": "torch.nn.MaxPool2d",
    "AvgPool2d": "torch.nn.AvgPool2d",
    "ReLU": "torch.nn.ReLU",
    "Tanh": "torch.nn.Tanh",
    "Flatten": "torch.nn.Flatten",
    "Dropout": "torch.nn.Dropout",
    "RNN": "torch.nn.RNN",
    "GRU": "torch.nn.GRU",
    "im2col": "torch.nn.functional.unfold",
    "col2im": "torch.nn.functional.fold",
    "cross_entropy": "torch.nn.functional.cross_entropy",
    "SGD": "torch.optim.SGD",
    "Adam": "torch.optim.Adam",
    "warmup_cosine": "torch.optim.lr_scheduler.LambdaLR",
    "clip_grad_norm": "torch.nn.utils.clip_grad_norm_",
    "normal": "torch.nn.init.normal_",
    "he_normal": "torch.nn.init.kaiming_normal_",
    "glorot_normal": "torch.nn.init.xavier_normal_",
    "orthogonal": "torch.nn.init.orthogonal_",
    "check_layer": "torch.autograd.gradcheck",
    "numerical_gradient": "torch.autograd.gradcheck",
    "get_array_module": "torch.Tensor.device",
    "to_device": "torch.Tensor.to",
    "to_numpy": "torch.Tensor.numpy",
    "Dataset": "torch.utils.data.Dataset",
    "load_dataset": None,  # torchvision.datasets
    "random_shift": None,  # torchvision.transforms
    "random_flip": None,
    "fit": None,  # you write the loop, as above
    "evaluate": None,
    "History": None,
    "accuracy": None,
    "confusion_matrix": None,
    "precision_recall": None,
    "checks": None,
    "CheckFailed": None,
    "reference": None,
    "claim": None,
    "ClaimFailed": None,
}
for name, theirs_name in MAP.items():
    print(f"{name:20} {theirs_name or '– no counterpart'}")

# %%
claim(
    "every name that nnlib exports is in the map, and no other",
    sorted(set(MAP) ^ set(nnlib.__all__)),
    equals=[],
)

# %% tags=["torch"]
if torch:
    missing = []
    for path in filter(None, MAP.values()):
        found_there = torch
        for part in path.split(".")[1:]:
            found_there = getattr(found_there, part, None)
        missing += [path] if found_there is None else []
    claim("every name on the right exists in PyTorch", missing, equals=[])

# %% [markdown]
# ## What it means
#
# * Two libraries that share no line agree on every gradient: to ten digits in float64,
#   where a hundred losses agree as well, and to 1e-5 in float32. Trained, they name the
#   same clothes. What you derived by hand in notebooks 01 to 03 is what everybody computes.
# * A factor of a thousand is what loops cost, not NumPy. Vectorised, the two need times of
#   the same order on a processor (the README has the careful measurement). PyTorch's real
#   advantages are others: autograd, GPUs, and thousands of layers that somebody has tested
#   already.
# * Twelve points of accuracy are not the library's doing either. Where two programs score
#   so differently, look at what they do not share: how the weights begin, how long they
#   train, which pictures they see, and their bugs.
#
# ## Exercises
#
# As before: write your version over the line with `raise NotImplementedError`, run that
# cell, then the check at the end of the exercise. None of them needs PyTorch.
#
# ### 1 · The way home
#
# Somebody gives you the trained weights of a PyTorch network. Write the inverse of
# `to_their_axes`, for convolutions, for Linears, and for the Linear that follows a
# `Flatten` of pictures $(H, W, C)$.


# %% tags=["exercise"]
def to_our_axes(weight, flattened=None):
    """weight: in PyTorch's axes. flattened: (H, W, C) if this Linear reads flattened
    pictures. Return it in ours.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def to_our_axes(weight, flattened=None):
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if flattened is not None:
        H, W, C = flattened
        weight = weight.reshape(-1, C, H, W).transpose(0, 2, 3, 1).reshape(weight.shape)
    return weight.T


# %% tags=["check"]
draw = np.random.default_rng(1)
kernels = [draw.normal(size=size) for size in ((3, 2, 4, 5), (5, 5, 1, 6), (3, 3, 2, 2))]
linears = [draw.normal(size=size) for size in ((6, 6), (4, 7), (1, 3))]
flattened = [((2, 3, 4), 5), ((3, 3, 3), 27), ((4, 2, 1), 3), ((1, 5, 2), 10)]


def asked(weight, *flattened):
    given = weight.copy()
    got = to_our_axes(given, *flattened)
    assert np.array_equal(given, weight), "the weight is changed in place: copy it"
    return got


for ours in kernels:  # (kh, kw, C_in, C_out)
    got = asked(ours.transpose(3, 2, 0, 1))
    assert np.shape(got) == ours.shape, f"convolution: {np.shape(got)}, not {ours.shape}"
    assert np.array_equal(got, ours), "a convolution: the right shape, but axes exchanged"
for ours in linears:
    assert np.array_equal(asked(ours.T), ours), "a Linear keeps (out, in) in PyTorch"
for (H, W, C), out in flattened:
    picture, theirs = draw.normal(size=(H, W, C)), draw.normal(size=(out, H * W * C))
    got, right = asked(theirs, (H, W, C)), theirs @ picture.transpose(2, 0, 1).ravel()
    assert np.shape(got) == theirs.shape[::-1], f"after Flatten: shape {np.shape(got)}"
    assert np.allclose(picture.ravel() @ got, right), (
        "a Linear after Flatten: its output differs. In which order does a row list pixels "
        "and channels?"
    )
print(f"passed: {len(kernels)} convolutions, {len(linears)} and {len(flattened)} Linears")

# %% [markdown]
# ### 2 · Yes or no, safely
#
# A network with a single logit $z$ says *yes* with probability
# $\sigma(z) = 1 / (1 + e^{-z})$. For the label $y$ (1 for yes, 0 for no) the loss is
# $-y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))$. Write it so that it is right at
# $z = \pm 1000$, without a warning. (PyTorch calls it `binary_cross_entropy_with_logits`.
# Hint: `np.logaddexp`, or take out the maximum by hand.)


# %% tags=["exercise"]
def yes_or_no_loss(z, y):
    """z: logits (N,), y: labels (N,), 0 or 1. Return the losses (N,)."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def yes_or_no_loss(z, y):
    return np.logaddexp(0, z) - y * z


# %% tags=["check"]
draw = np.random.default_rng(1)
cases = {
    "small logits": draw.normal(size=200),
    "large logits": 1000 * draw.normal(size=200),
    "one logit": np.array([0.5]),
    "z = -1000, 0 and 1000": np.repeat([-1000.0, 0.0, 1000.0], 2),
}
for case, z in cases.items():
    y = np.arange(len(z)) % 2 if case[0] == "z" else draw.integers(0, 2, len(z))
    # two classes, the first with a logit of 0: what the loss of ten classes makes of them
    pairs = zip(np.stack([0 * z, z], 1), y, strict=True)
    right = [nnlib.cross_entropy(row[None], np.array([label]))[0] for row, label in pairs]
    given = z.copy(), y.copy()
    with np.errstate(over="raise", divide="raise", invalid="raise"):  # no warning, please
        got = yes_or_no_loss(*given)
    assert all(map(np.array_equal, given, (z, y))), "an input is changed in place: copy it"
    assert np.shape(got) == z.shape, f"{case}: shape {np.shape(got)}, expected {z.shape}"
    for logit, label, value, loss in zip(z, y, got, right, strict=True):
        assert np.isclose(value, loss, rtol=1e-9, atol=1e-12), (
            f"z = {logit:g}, y = {label}: {value}, expected {loss}"
        )
print(f"passed: {sum(map(len, cases.values()))} logits, up to 1,000 and beyond")

# %% [markdown]
# ### 3 · PyTorch's default, in general
#
# PyTorch's `kaiming_uniform_(a)` draws uniformly between $-r$ and $r$, with a variance of
# $2 / ((1 + a^2)\, n)$ for $n$ inputs. Find $r$ (what is the variance of a uniform
# distribution?) and write the initializer. For which $a$ is its variance He's?


# %% tags=["exercise"]
def kaiming_uniform(a):
    """Return an initializer: a function (shape, rng) -> float64 array, where all axes but
    the last are inputs.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def kaiming_uniform(a):
    def initializer(shape, rng):
        # a uniform distribution on (-r, r) has variance r² / 3
        r = np.sqrt(3 * 2 / ((1 + a**2) * np.prod(shape[:-1])))
        return rng.uniform(-r, r, shape)

    return initializer


# %% tags=["check"]
cases = [(shape, a) for shape in ((3, 3, 20, 200), (60, 500)) for a in (0, 1, np.sqrt(5))]
for shape, a in cases:
    generator, inputs, case = np.random.default_rng(0), np.prod(shape[:-1]), f"a = {a:.3g}"
    initializer = kaiming_uniform(a)
    drawn, more = (np.array(initializer(shape, generator)) for _ in range(2))
    again = initializer(shape, np.random.default_rng(0))
    assert drawn.shape == shape, f"shape {drawn.shape}, expected {shape}"
    assert drawn.dtype == np.float64, f"{drawn.dtype}, expected float64"
    assert np.array_equal(again, drawn), "the same generator, but other numbers"
    assert not np.array_equal(more, drawn), "the generator that is handed in is not used"
    variance = drawn.var() * (1 + a**2) * inputs
    assert abs(variance - 2) < 0.05, (
        f"{case}: the variance is {variance:.2f} / ((1 + a²) n), with 2 expected"
    )
    # sorted, numbers of a uniform distribution lie on a line
    line = np.linspace(-1, 1, drawn.size) * np.abs(drawn).max()
    assert np.abs(np.sort(drawn.ravel()) - line).max() < 0.05 * line[-1], (
        f"{case}: the numbers are not uniform between -r and r"
    )
print(f"passed: {len(cases)} initializers, their shape, variance and distribution")

# %% [markdown]
# ### 4 · An experiment: the forgotten order of Flatten
#
# We saw what happens if weights are moved without minding the order of `Flatten`: nonsense.
# But what if they have not been *trained* yet? Shuffle the rows of the large Linear's first
# weights (seed 1, say), train as usual for two epochs on 10,000 pictures, and compare.
# **Predict first**: how many points will it cost?
#
# The check runs your experiment again, shorter and with other seeds, and expects the
# numbers of its own. So begin alike: both times with a new
# `Ours(our_network(np.random.default_rng(seed)))`, and shuffle the rows of the large
# weights `W` by `np.random.default_rng(order).permutation(len(W))`.


# %% tags=["exercise"]
def flatten_experiment(epochs=2, seed=SEED, order=1):
    """Return {"in order": accuracy, "shuffled": accuracy} on the validation set.

    short_training(side, epochs) trains; evaluate(side, *validation_set) returns loss,
    accuracy and answers; the large Linear is side.model.layers[3].
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def flatten_experiment(epochs=2, seed=SEED, order=1):
    scores = {}
    for name in ("in order", "shuffled"):
        side = Ours(our_network(np.random.default_rng(seed)))
        if name == "shuffled":
            W = side.model.layers[3].params["W"]
            W[...] = W[np.random.default_rng(order).permutation(len(W))]
        short_training(side, epochs)
        _, scores[name], _ = evaluate(side, *validation_set)
    return scores


# %% tags=["check"]
# twice a shorter one, with other seeds each time
for seed, order in np.random.default_rng().integers(2, 1000, (2, 2)).tolist():
    small = flatten_experiment(1, seed, order)
    for name in ("in order", "shuffled"):
        again = our_network(np.random.default_rng(seed))
        large = again.layers[3].params["W"]
        rows = np.random.default_rng(order).permutation(len(large))
        large[:] = large[rows if name == "shuffled" else slice(None)]
        short_training(Ours(again), 1)
        right = evaluate(Ours(again), *validation_set)[1]
        assert np.isclose(small.get(name, -1), right, atol=1e-3), (
            f"1 epoch, seed {seed}, order {order}: your number for {name!r} is not "
            "that of the experiment. Does it use epochs, seed and order?"
        )
scores = flatten_experiment()
assert set(scores) == {"in order", "shuffled"}, f"expected two keys, got {sorted(scores)}"
for name, score in scores.items():
    print(f"{name:9} {score:.2%} on validation")
most = 0.02 if full else 0.06
claim(
    f"before training, the order costs nothing: less than {100 * most:.0f} points either "
    "way",
    abs(scores["in order"] - scores["shuffled"]),
    at_most=most,
)
print(f"passed: twice {len(small)} accuracies with other seeds, one claim")

# %% [markdown]
# Random weights are as random in any order. The order of `Flatten` is a *convention*; it
# matters only to weights that have learnt under it.
#
# ### 5 · An explanation: to the last bit?
#
# Five ways to do the same sum or product in another way. Which of them give float32 results
# that are equal *to the last bit*, always, and not only nearly? Name them in a set; then
# say why in two sentences.


# %% tags=["exercise"]
def equal_to_the_last_bit():
    """Return a set with some of "turn the batch", "move the axes", "double then halve",
    "chunks", "swap a + b".
    """
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# *Moving axes* copies numbers and computes nothing. *Doubling and halving* changes the
# exponent alone, and *swapping the two sides of one addition* gives the same sum, rounded
# in the same way. But to turn the batch, or to cut it into chunks that are added up later,
# is to change the order of many additions. Each of them rounds, and $(a + b) + c$ is
# rounded at other places than $a + (b + c)$. That is why two right programs differ in the
# last digits, and why the clock of a fast library (chunks, threads) is paid for with digits
# that depend on the machine.


# %% tags=["solution"]
def equal_to_the_last_bit():
    return {"move the axes", "double then halve", "swap a + b"}


# %% tags=["check"]
a, b = np.random.default_rng(2).normal(size=(2, 1000, 50)).astype(np.float32)


def one_by_one(rows):
    """The sum of the rows, added one after the other."""
    result = np.zeros(50, np.float32)
    for row in rows:
        result = result + row
    return result


truth = {
    "turn the batch": np.array_equal(one_by_one(a), one_by_one(a[::-1])),
    "move the axes": np.array_equal(a, a.T.copy().T),
    "double then halve": np.array_equal(a, (a * 2) / 2),
    "chunks": np.array_equal(one_by_one(a), one_by_one(a[:500]) + one_by_one(a[500:])),
    "swap a + b": np.array_equal(a + b, b + a),
}
answer = equal_to_the_last_bit()
assert isinstance(answer, set), f'expected a set like {{"chunks"}}, got {answer!r}'
assert answer <= set(truth), f"unknown names: {sorted(answer - set(truth))}"
wrong = sorted(name for name in truth if (name in answer) != truth[name])
assert not wrong, (
    f"not yet: look again at {wrong[0]!r}. Which numbers are added, and in which order?"
)
print(f"passed: that is what the bits of {len(truth)} ways say")

# %% [markdown]
# ## What moves into nnlib
#
# Nothing: this was the comparison that all the others led up to. What moves is you. Rewrite
# the network of notebook 03 in `torch.nn`, with the map beside you, and expect the same
# accuracy. And when some day PyTorch does something odd, you know what happens underneath,
# for you have written it.
