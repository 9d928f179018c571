# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · A convolution in seven loops
#
# **What you will build.** A small window that slides over a picture and asks the same
# question everywhere. First you choose the question yourself, and the window blurs,
# sharpens or finds edges, as below. Then a network learns its own 32 questions: you will
# write convolution and max-pooling, forward and backward, in loops so plain that every line
# is the formula itself. They are right. They are also so slow that you would wait hours for
# one look at MNIST, and you will measure where the time goes.
#
# ![Three pictures, each through five small kernels: unchanged, blurred, sharpened, its
# edges](images/02_cnn_loops.png)
#
# **What you need.** Notebook 01: the linear layer, ReLU, cross-entropy, and what `dW` and
# `dout` mean.
#
# **How long it takes.** Half a minute of computing on a laptop with two cores; for you, an
# evening.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import nnlib
from nnlib import (
    checks,
    claim,
    interactive,
    load_dataset,
    numerical_gradient,
    plots,
    reference,
)

# another seed, another run: the claims must hold all the same
SEED = int(os.environ.get("NNLIB_SEED", 0))

# %%
digits = load_dataset("mnist")
clothes = load_dataset("fashion_mnist")


def to_images(images):
    """uint8 images (N, 28, 28, 1) to float32 between 0 (black) and 1 (white)."""
    return images.astype(np.float32) / np.float32(255)


# %% [markdown]
# ## Predict first
#
# The network of this notebook slides 32 windows of 3 × 3 pixels over a digit, sends the 32
# results through ReLU, and keeps the largest of every 2 × 2 values. The 6,272 numbers that
# are left go through two linear layers as in notebook 01: to 128 hidden units, and to 10
# scores. Write down what you expect:

# %%
my_parameters = 100_000  # how many numbers must this network learn?
my_busiest = "convolution"  # which layer multiplies most often: "convolution" or "linear"?
my_hours = 0.1  # how many hours do plain Python loops need for one epoch, 60,000 digits?

# %% [markdown]
# ## What the network of notebook 01 cannot know
#
# Shuffle the pixels of all digits, always in the same way. For you, everything is lost:

# %%
order = np.random.default_rng(SEED).permutation(28 * 28)
four = digits.train_images[:4]
shuffled = four.reshape(4, -1)[:, order].reshape(four.shape)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.image_grid(
    np.concatenate([four, shuffled]),
    [f"label {label}" for label in digits.train_labels[:4]] + ["the same,\nshuffled"] * 4,
    "Four digits, and the same four with all pixels shuffled in the same way",
)
plots.show(
    figure,
    alt="Four handwritten digits; beside them four pictures of scattered "
    "dots in which nothing is seen.",
)

# %% [markdown]
# The network of notebook 01 would not even notice. Its first layer is a sum over all
# pixels, and a sum does not care about order: shuffle the rows of $W$ like the pixels, and
# every hidden unit gets the number it always got.

# %%
W = np.random.default_rng(SEED).normal(size=(28 * 28, 512))
rows = to_images(digits.train_images[:100]).reshape(100, -1)
difference = np.abs(rows @ W - rows[:, order] @ W[order]).max()
claim(
    "a linear layer on shuffled pixels can compute just what it computed before",
    difference,
    at_most=1e-9,
)

# %% [markdown]
# So it never knew that a pixel has *neighbours*. Nor does it share anything between places:
# each unit has weights of its own for every pixel. Let us build a layer that knows its
# neighbours, and uses the same weights everywhere.
#
# ## Filters by hand
#
# Take nine numbers, arranged 3 × 3: a **kernel**. Lay it on the picture. Multiply each of
# its numbers with the pixel below it, and add the nine products: that is *one* output. Move
# the kernel one pixel to the right, and do it again; at the end of the row, go one down.
# Nine numbers, the same nine everywhere.
#
# With the kernel $K$ lying on rows $r$ to $r+2$ and columns $c$ to $c+2$ of the picture
# $x$, this is
#
# $$y_{rc} = \sum_{i=0}^{2} \sum_{j=0}^{2} K_{ij}\; x_{r+i,\,c+j}$$


# %%
def slide(picture, kernel):
    """Slide a kernel (kh, kw) over a grey picture (H, W).
    Returns (H - kh + 1, W - kw + 1).
    """
    kh, kw = kernel.shape
    H, W = picture.shape
    result = np.zeros((H - kh + 1, W - kw + 1))
    for row in range(H - kh + 1):
        for column in range(W - kw + 1):
            for i in range(kh):
                for j in range(kw):
                    result[row, column] += kernel[i, j] * picture[row + i, column + j]
    return result


# %% [markdown]
# A kernel that subtracts what is on its left from what is on its right, on a picture that
# is dark on the left and bright on the right:

# %%
left_to_right = np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]])
step = np.array([[0, 0, 0, 0, 5, 5, 5, 5]] * 4)
result = slide(step, left_to_right).astype(int)
print("picture:", step, "kernel:", left_to_right, "result:", result, sep="\n")

# %% [markdown]
# Nothing where all is the same, much where dark becomes bright: it finds vertical edges,
# wherever they are. Its numbers add up to 0, so areas of constant brightness vanish. Five
# kernels, and what their numbers add up to:

# %%
kernels = {
    "as it is": np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    "blur": np.full((3, 3), 1 / 9),  # the mean of nine pixels
    # a pixel, plus what sets it apart from 4 neighbours
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "vertical edges": left_to_right,
    "horizontal edges": left_to_right.T,
}
for name, kernel in kernels.items():
    print(f"{name:>16}: its numbers add up to {kernel.sum():.0f}")

# %% [markdown]
# And here is what they make of clothes and digits. In the two columns on the right, red is
# where it gets brighter (to the right, or downwards), blue where it gets darker, and white
# where nothing happens.

# %%
chosen = [(clothes, 9), (clothes, 8), (digits, 8)]  # a data set, and a label in it
pictures = [
    to_images(data.train_images[data.train_labels == label][0, :, :, 0])
    for data, label in chosen
]

# %% tags=["cover", "figure", "nbval-ignore-output"]
figure, grid = plt.subplots(1 + len(pictures), len(kernels), figsize=(8.5, 7.2))
for axes in grid.flat:
    axes.axis("off")
for (top, *column), (name, kernel) in zip(grid.T, kernels.items(), strict=True):
    top.imshow(kernel, cmap="RdBu_r", vmin=-9, vmax=9)
    top.set_title(name)
    for (i, j), number in np.ndenumerate(kernel):
        top.text(j, i, f"{number:.2g}", ha="center", va="center", fontsize=9)
    colours, low, high = ("RdBu_r", -3, 3) if kernel.sum() == 0 else ("gray", 0, 1)
    for axes, picture in zip(column, pictures, strict=True):
        axes.imshow(slide(picture, kernel), cmap=colours, vmin=low, vmax=high)
figure.suptitle("Five kernels (top row) slide over three pictures")
plots.show(
    figure,
    alt="A grid: five kernels in the top row; below each, what it makes of a boot, a bag "
    "and an eight. Blur softens, sharpen hardens, the edge kernels leave only vertical or "
    "only horizontal outlines, in red and blue.",
)

# %% [markdown]
# Now slide one yourself, over the eight. Drag the window across the left side of its upper
# loop, and watch the nine products and their sum. **Try it**: where is the sum largest, and
# where most negative? Change the 0 in the middle of the kernel to 9: what becomes of the
# output? And can you find nine numbers that move the whole picture by one pixel?

# %% tags=["figure"]
interactive.moving_window(pictures[2], left_to_right, presets=kernels)

# %% [markdown]
# Each stroke has two edges: where the window goes from dark to bright, the products add up
# to something positive, and where it goes back to dark, to the same with a minus sign. On
# black paper, and inside a broad stroke, they cancel. With 9 in the middle the kernel's
# numbers no longer add up to 0, so brightness itself comes through. And a kernel with a
# single 1, not in its middle, moves the picture: at every place it fetches a neighbour.

# %% [markdown]
# Engineers have designed such kernels for decades. The idea of this notebook: do not design
# them, *learn* them.
#
# (A word on words. Mathematicians call this sum a *cross-correlation*, and a convolution is
# the same with the kernel turned by half a circle. A network that learns its kernels can
# learn them turned, so everybody says convolution.)
#
# ## Sizes: stride and padding
#
# The kernel may not stick out, so the result is smaller than the picture. If that is not
# wanted, add a frame of zeros around the picture: **padding**. And if fewer outputs are
# enough, move by more than one pixel: the **stride**.

# %% tags=["figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 3, figsize=(10, 4.2))
for axes, (kernel, stride, padding) in zip(
    panels, [(3, 1, 0), (3, 1, 1), (3, 2, 1)], strict=True
):
    side = 5 + 2 * padding
    axes.pcolormesh(
        np.pad(np.full((5, 5), 0.35), padding),
        cmap="Blues",
        vmin=0,
        vmax=1,
        edgecolors="grey",
    )
    axes.add_patch(
        plt.Rectangle(
            (0, 0), kernel, kernel, fill=False, edgecolor="C3", linewidth=3, zorder=3
        )
    )
    middles = np.arange(0, side - kernel + 1, stride) + kernel / 2
    axes.plot(*np.meshgrid(middles, middles), "o", color="C3", markersize=6)
    axes.set(
        title=f"stride {stride}, padding {padding}",
        xlabel="column (pixels)",
        ylabel="row (pixels)",
    )
    axes.set(
        aspect="equal",
        xticks=[],
        yticks=[],
        xlim=(padding - 1.2, padding + 6.2),
        ylim=(padding + 6.2, padding - 1.2),
    )
figure.suptitle(
    "A 3 × 3 kernel on a 5 × 5 picture: "
    "its first place, and a dot for the middle of every place"
)
plots.show(
    figure,
    alt="Three panels with a 5 by 5 picture, a red 3 by 3 window and dots for all its "
    "places: without padding three by three dots, with padding one five by five, "
    "with padding one and stride two three by three.",
)

# %% [markdown]
# Predict the size of the output for six cases. (All are square: one size stands for height
# and width.) Beware, some of the numbers that stand here now are wrong:

# %%
my_sizes = {  # (size of the picture, kernel, stride, padding): size of the output
    (28, 3, 1, 0): 28,
    (28, 3, 1, 1): 28,
    (28, 5, 1, 1): 28,
    (28, 2, 2, 0): 14,
    (28, 3, 2, 1): 15,
    (7, 2, 2, 0): 4,
}

# %% [markdown]
# No formula yet: let us simply walk, and count the places where the kernel fits.


# %%
def count_places(size, kernel, stride, padding):
    """Walk along one side of a picture, in steps of `stride`, and count the places of the
    kernel.
    """
    places, left = 0, -padding
    while left + kernel <= size + padding:
        places += 1
        left += stride
    return places


print("picture  kernel  stride  padding   output   you said")
for (size, kernel, stride, padding), guess in my_sizes.items():
    places = count_places(size, kernel, stride, padding)
    print(
        f"{size:7} {kernel:7} {stride:7} {padding:8} {places:8} "
        f"{guess:10}{'' if guess == places else '   <-'}"
    )

# %% [markdown]
# Now the formula. The padded picture is $H + 2p$ long. The first place takes $k$ of it;
# what is left, $H + 2p - k$, has room for one more place every $s$ pixels, and a rest
# smaller than $s$ is lost (we round down):
#
# $$H_o = \left\lfloor \frac{H + 2p - k}{s} \right\rfloor + 1$$
#
# The last row of the table is such a loss: the seventh pixel is in no window.

# %%
cases = [
    (H, k, s, p) for H in (7, 28) for k in (1, 2, 3, 5) for s in (1, 2, 3) for p in range(3)
]
walked = [count_places(H, k, s, p) for H, k, s, p in cases]
computed = [(H + 2 * p - k) // s + 1 for H, k, s, p in cases]
claim("walking and the formula agree on 72 geometries", walked, equals=computed)

# %% [markdown]
# ## Many channels, many filters: seven loops
#
# A colour picture has three numbers at every pixel, its **channels**; our hidden layer will
# have 32. So a filter gets a 3 × 3 kernel *for each input channel* and adds up all their
# products. And one filter asks only one question, so we take several: each makes one output
# channel, and has one bias. Pictures are `x` $(N, H, W, C_\text{in})$, channels last; all
# kernels together are `W` $(k_h, k_w, C_\text{in}, C_\text{out})$. For picture $n$, place
# $(r, c)$, filter $m$, and the padded $x$:
#
# $$y_{nrcm} = b_m + \sum_{i} \sum_{j} \sum_{k} x_{n,\; rs+i,\; cs+j,\; k}\; W_{ijkm}$$
#
# Four indices on the left say *which* output, three under the sums say *what* it is made
# of. Seven indices, seven loops:


# %%
def pad(x, padding):
    """A frame of zeros around each picture of x (N, H, W, C)."""
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def conv2d(x, W, b, stride, padding):
    """x: (N, H, W, C_in), W: (kh, kw, C_in, C_out), b: (C_out,).
    Returns (N, Ho, Wo, C_out).
    """
    x = pad(x, padding)
    kh, kw, C_in, C_out = W.shape
    Ho, Wo = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((len(x), Ho, Wo, C_out), x.dtype)
    for n in range(len(x)):
        for row in range(Ho):
            for column in range(Wo):
                top, left = row * stride, column * stride  # the window's first pixel
                for c_out in range(C_out):
                    total = b[c_out]
                    for i in range(kh):
                        for j in range(kw):
                            for c_in in range(C_in):
                                pixel = x[n, top + i, left + j, c_in]
                                total += pixel * W[i, j, c_in, c_out]
                    y[n, row, column, c_out] = total
    return y


# %% [markdown]
# Shapes and a sum you can do in your head: two channels of ones, a kernel of ones, a bias
# of 100. Inside, 3 × 3 × 2 ones meet. At the rim and in the corners, some of them meet the
# zeros of the frame:

# %%
y = conv2d(
    np.ones((1, 4, 5, 2)), np.ones((3, 3, 2, 1)), np.array([100.0]), stride=1, padding=1
)
print("shape", y.shape)
print(y[0, :, :, 0].astype(int))

# %% [markdown]
# And our five filters by hand are now one call, with five output channels:

# %%
W = np.stack(list(kernels.values()), axis=-1)[:, :, None, :]  # (3, 3, 1, 5)
boot = pictures[0].astype(np.float64)
y = conv2d(boot[None, :, :, None], W, np.zeros(5), stride=1, padding=0)
by_hand = np.stack([slide(boot, kernel) for kernel in kernels.values()], axis=-1)
print("W", W.shape, " y", y.shape)
claim(
    "one convolution with five filters is five kernels slid by hand",
    np.abs(y[0] - by_hand).max(),
    at_most=1e-12,
)

# %% [markdown]
# Nine weights are used at every place of the picture. How many would a linear layer spend
# to make an output of the same shape, with a weight from every pixel to every output?

# %%
print(f"32 filters of 3 × 3 on a grey picture:  {3 * 3 * 1 * 32:12,} weights")
print(f"a linear layer to 28 × 28 × 32 outputs: {28 * 28 * (28 * 28 * 32):12,} weights")

# %% [markdown]
# ## The way back
#
# As in notebook 01, ask of every number: *what does it touch, and with which slope?* The
# layers behind us have told us `dout`, that is $dy_{nrcm}$ for every output.
#
# * $b_m$ touches $y_{nrcm}$ in every picture and at every place, with slope 1. Add up all
#   $dy_{nrcm}$ of its filter.
# * $W_{ijkm}$ touches the same outputs. At each place its slope is the pixel it meets
#   there, $x_{n,\,rs+i,\,cs+j,\,k}$.
# * A pixel touches the outputs of *every window that covers it*, in each with the slope of
#   the weight that lies on it.
#
# The last one is awkward: which windows cover this pixel, and which weight lies on it?
# There is a way around the question. Forward, all the work is multiplications, a pixel
# times a weight, each added to one output. Look at *one* of them:
#
# $$y \leftarrow y + x\, W \qquad\text{sends back}\qquad
# dx \leftarrow dx + dy\, W, \qquad dW \leftarrow dW + dy\, x$$
#
# **Each multiplication sends two gradients back**: to its pixel, with the weight as slope;
# to its weight, with the pixel as slope. So walk through the same seven loops, visit the
# same multiplications, and add up. The `+=` is the sum of the chain rule: a pixel lies
# under many windows, a weight meets many pixels.


# %%
def conv2d_backward(dout, x, W, stride, padding):
    """dout: (N, Ho, Wo, C_out). Returns dx, dW and db in the shapes of x, W and b."""
    height, width = x.shape[1:3]
    x = pad(x, padding)
    kh, kw, C_in, C_out = W.shape
    dx, dW, db = np.zeros_like(x), np.zeros_like(W), np.zeros(C_out, W.dtype)
    for n in range(dout.shape[0]):
        for row in range(dout.shape[1]):
            for column in range(dout.shape[2]):
                top, left = row * stride, column * stride
                for c_out in range(C_out):
                    d = dout[n, row, column, c_out]
                    db[c_out] += d
                    for i in range(kh):
                        for j in range(kw):
                            for c_in in range(C_in):
                                dx[n, top + i, left + j, c_in] += d * W[i, j, c_in, c_out]
                                dW[i, j, c_in, c_out] += d * x[n, top + i, left + j, c_in]
    # nobody asks for the gradient of the frame: cut it off
    return dx[:, padding : padding + height, padding : padding + width], dW, db


# %% [markdown]
# `checks.conv2d` tries both on geometries where the classic mistakes show: kernels that are
# not square, a stride that misses the last row, more padding than anybody needs. If all is
# well, it says what it tried.

# %%
checks.conv2d(conv2d, conv2d_backward)

# %% [markdown]
# Books put it like this: *the gradient of a convolution is a convolution with the flipped
# kernel*. True, if you sit at a pixel and look at the windows. Our loops do that flip
# already, so flipping the kernel as well is wrong:


# %%
def flipped_backward(dout, x, W, stride, padding):
    return conv2d_backward(dout, x, W[::-1, ::-1], stride, padding)


try:
    checks.conv2d(conv2d, flipped_backward)
except nnlib.CheckFailed as failure:
    print(failure)

# %% [markdown]
# Try another one: change a `+=` of `conv2d_backward` to `=`, run its cell and the check,
# read what it says, and change it back.
#
# Do not trust the check alone: nudge every number and look at the loss, as in notebook 01.
# As a loss, any weighted sum of the outputs will do; its weights are then `dout`. The
# gradients should agree to many digits.

# %%
draw = np.random.default_rng(SEED)
x, W = draw.normal(size=(2, 5, 6, 2)), draw.normal(size=(2, 3, 2, 3))  # float64
b = draw.normal(size=3)
dout = draw.normal(size=conv2d(x, W, b, stride=2, padding=1).shape)
analytic = conv2d_backward(dout, x, W, stride=2, padding=1)
worst = 0.0
for name, array, gradient in zip(("x", "W", "b"), (x, W, b), analytic, strict=True):
    numerical = numerical_gradient(lambda _: (conv2d(x, W, b, 2, 1) * dout).sum(), array)
    gap = np.abs(gradient - numerical).max()
    print(
        f"d{name}: {array.size:3} numbers nudged, largest difference below 1e-8:",
        gap < 1e-8,
    )
    worst = max(worst, gap)
claim(
    "the seven loops backward agree with the nudged loss to eight decimal places",
    worst,
    at_most=1e-8,
)

# %% [markdown]
# ## Max-pooling
#
# *Is there an edge?* matters more than *on exactly which pixel is it?* So keep only the
# largest value of every 2 × 2 window, in each channel by itself: a quarter of the numbers,
# and most of the news. There is nothing to learn in it.
#
# On the way back: the largest value of a window touches the output with slope 1. All others
# could change a little, and nobody would notice: slope 0. So each gradient goes to **the
# winner of its window**, and to nobody else. Where several are equal, there is a corner, as
# in ReLU at 0. We choose the first (`argmax` does), and so does PyTorch.
#
# `np.ndindex` goes through all indices of a shape: four loops in one line.


# %%
def max_pool2d(x, size, stride):
    """x: (N, H, W, C). Returns (N, Ho, Wo, C), the largest value of each window."""
    Ho, Wo = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    y = np.zeros((len(x), Ho, Wo, x.shape[3]), x.dtype)
    for n, row, column, c in np.ndindex(*y.shape):
        top, left = row * stride, column * stride
        y[n, row, column, c] = x[n, top : top + size, left : left + size, c].max()
    return y


def max_pool2d_backward(dout, x, size, stride):
    """dout: (N, Ho, Wo, C). Returns dx in the shape of x."""
    dx = np.zeros_like(x)
    for n, row, column, c in np.ndindex(*dout.shape):
        top, left = row * stride, column * stride
        window = x[n, top : top + size, left : left + size, c]
        i, j = divmod(window.argmax(), size)  # the winner's row and column in its window
        # +=, for windows may overlap
        dx[n, top + i, left + j, c] += dout[n, row, column, c]
    return dx


checks.max_pool2d(max_pool2d, max_pool2d_backward)

# %% [markdown]
# Two windows, side by side. In the right one, all are equal; only the first gets the
# gradient:

# %%
x = np.array([[1.0, 3.0, 2.0, 2.0], [0.0, 2.0, 2.0, 2.0]]).reshape(1, 2, 4, 1)
dout = np.array([10.0, 20.0]).reshape(1, 1, 2, 1)
print("largest:", max_pool2d(x, 2, 2).ravel())
print(max_pool2d_backward(dout, x, 2, 2)[0, :, :, 0])

# %% [markdown]
# The three steps of our network on the boot, with a filter that we know: convolution, ReLU
# (only edges of one direction survive: from dark to bright), and max-pooling. (Where a
# picture touches the frame, the zeros of the padding look like an edge.)

# %%
K = left_to_right[:, :, None, None]  # (3, 3, 1, 1)
edges = conv2d(boot[None, :, :, None], K, np.zeros(1), stride=1, padding=1)
positive = np.maximum(edges, 0)
stages = {
    "picture": boot,
    "vertical edges": edges[0, :, :, 0],
    "ReLU": positive[0, :, :, 0],
    "max-pool 2": max_pool2d(positive, 2, 2)[0, :, :, 0],
}

# %% tags=["figure", "nbval-ignore-output"]
figure, panels = plt.subplots(1, 4, figsize=(11, 3.3))
for axes, (name, stage) in zip(panels, stages.items(), strict=True):
    signed = name != "picture"
    axes.imshow(
        stage,
        cmap="RdBu_r" if signed else "gray",
        vmin=-3 if signed else 0,
        vmax=3 if signed else 1,
    )
    ticks = range(0, len(stage), 7)
    axes.set(
        title=f"{name}\n{stage.shape[0]} × {stage.shape[1]}", xticks=ticks, yticks=ticks
    )
    axes.set(xlabel="column (pixels)", ylabel="row (pixels)")
    axes.grid(False)
figure.suptitle("A boot on its way: red is positive, blue is negative, white is 0")
plots.show(
    figure,
    alt="Four pictures of a boot: in grey; its vertical edges in red and blue; only "
    "the red ones after ReLU; the same at half the height and width after max-pooling.",
)

# %% [markdown]
# ## The whole network
#
# Convolution, ReLU, max-pooling; then every digit becomes one row of 14 · 14 · 32 = 6,272
# numbers, and the network of notebook 01 takes over.

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.flow_diagram(
    boxes=[
        "pictures\nx\n(N, 28, 28, 1)",
        "maps\nz1\n(N, 28, 28, 32)",
        "pooled\np\n(N, 14, 14, 32)",
        "hidden units\nh2\n(N, 128)",
        "logits\n\n(N, 10)",
    ],
    forward=["conv\nW1, b1", "ReLU,\nmax-pool", "W2, b2,\nReLU", "W3, b3"],
    backward=["dW1, db1", "dz1", "dW2, db2,\ndp", "dW3, db3,\ndh2"],
    title="The network: forward (blue), and the gradients on their way back (orange)",
)
plots.show(
    figure,
    alt="Boxes from left to right: pictures (N, 28, 28, 1), maps (N, 28, 28, 32), pooled "
    "(N, 14, 14, 32), hidden units (N, 128), logits (N, 10). "
    "Blue arrows carry the layers, orange arrows the gradients.",
)


# %%
def new_params(rng, filters=32, side=28, hidden=128, classes=10, dtype=np.float32):
    """He initialization: the variance is 2 over the number of inputs of one output.
    Biases begin at 0.
    """
    flat = (side // 2) ** 2 * filters
    shapes = {"W1": (3, 3, 1, filters), "W2": (flat, hidden), "W3": (hidden, classes)}
    params = {}
    for layer, (name, shape) in enumerate(shapes.items(), start=1):
        inputs = np.prod(shape[:-1])
        params[name] = rng.normal(0, np.sqrt(2 / inputs), shape).astype(dtype)
        params[f"b{layer}"] = np.zeros(shape[-1], dtype)
    return params


def forward(params, x):
    """x: (N, H, W, 1) floats. Returns the logits (N, K), and what the way back will
    need.
    """
    z1 = conv2d(x, params["W1"], params["b1"], stride=1, padding=1)
    h1 = np.maximum(z1, 0)
    p = max_pool2d(h1, size=2, stride=2)
    flat = p.reshape(len(x), -1)  # one row for each picture
    z2 = flat @ params["W2"] + params["b2"]
    h2 = np.maximum(z2, 0)
    return h2 @ params["W3"] + params["b3"], (x, z1, h1, p, flat, z2, h2)


def backward(params, cache, dlogits):
    """The same steps in the opposite order."""
    x, z1, h1, p, flat, z2, h2 = cache
    dW3, db3, dh2 = h2.T @ dlogits, dlogits.sum(axis=0), dlogits @ params["W3"].T
    dz2 = dh2 * (z2 > 0)
    dW2, db2, dflat = flat.T @ dz2, dz2.sum(axis=0), dz2 @ params["W2"].T
    dh1 = max_pool2d_backward(dflat.reshape(p.shape), h1, size=2, stride=2)
    dz1 = dh1 * (z1 > 0)
    _, dW1, db1 = conv2d_backward(dz1, x, params["W1"], stride=1, padding=1)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}


params = new_params(np.random.default_rng(SEED))
for name, array in params.items():
    print(f"{name}: {array.shape!s:>14}  {array.size:7,} numbers")
print(
    f"{sum(array.size for array in params.values()):,} in all; "
    f"you predicted {my_parameters:,}"
)

# %% [markdown]
# Is the whole right, not only its parts? A tiny version in float64, and every parameter
# nudged:

# %%
# fixed: should a nudge cross a corner of ReLU or of the maximum, it proves nothing
draw = np.random.default_rng(0)
tiny = new_params(draw, filters=2, side=6, hidden=5, classes=3, dtype=np.float64)
for name in ("b1", "b2", "b3"):
    tiny[name] += draw.normal(size=tiny[name].shape)  # biases of 0 could hide a mistake
x, labels = draw.normal(size=(2, 6, 6, 1)), np.array([2, 0])
logits, cache = forward(tiny, x)
gradients = backward(tiny, cache, nnlib.cross_entropy(logits, labels)[1])
worst = 0.0
for name, array in tiny.items():
    numerical = numerical_gradient(
        lambda _: nnlib.cross_entropy(forward(tiny, x)[0], labels)[0], array
    )
    gap = np.abs(gradients[name] - numerical).max()
    worst = max(worst, gap)
    print(f"d{name}: largest difference below 1e-8:", gap < 1e-8)
claim(
    "back-propagation through the whole network agrees with the nudged loss",
    worst,
    at_most=1e-8,
)

# %% [markdown]
# ## Does it learn?
#
# A handful of digits is all that our patience allows: the first 0, 1, 2, 3, 4 and 5 of the
# training set. Before any training the loss should be near $\ln 10 \approx 2.30$, that of
# knowing nothing; with six pictures, chance has its say.

# %%
handful = np.array([np.flatnonzero(digits.train_labels == digit)[0] for digit in range(6)])
x6, labels6 = to_images(digits.train_images[handful]), digits.train_labels[handful]
first_loss, _ = nnlib.cross_entropy(forward(params, x6)[0], labels6)
print(f"first loss {first_loss:.4f}; ln 10 = {np.log(10):.4f}")
claim(
    "before training the loss is ln 10, give or take 0.8",
    first_loss,
    at_least=1.5,
    at_most=3.1,
)

# %% [markdown]
# Now plain gradient descent, six steps on these six pictures. The learning rate is smaller
# than in notebook 01: a weight of the convolution acts at 784 places at once, so the same
# step moves the outputs much further.

# %%
losses, began = [], time.perf_counter()
for _ in tqdm(range(6), desc="steps", leave=False):
    logits, cache = forward(params, x6)
    loss, dlogits = nnlib.cross_entropy(logits, labels6)
    losses.append(loss)
    for name, gradient in backward(params, cache, dlogits).items():
        params[name] -= 0.02 * gradient
seconds_per_picture = (time.perf_counter() - began) / (6 * len(x6))

logits, (_, _, _, pooled, *_) = forward(params, x6)
losses.append(nnlib.cross_entropy(logits, labels6)[0])
for number, loss in enumerate(losses):
    print(f"steps taken: {number}, loss {loss:.4f}")
print(f"read: {logits.argmax(axis=1)}, true: {labels6}")
claim(
    "six steps with the loops bring the loss below half of the first one",
    losses[-1] / losses[0],
    at_most=0.5,
)

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(losses, "o-")
axes.axhline(np.log(10), color="grey", linestyle=":", label="knowing nothing: ln 10")
axes.set(
    title="Six digits, learnt with seven loops", xlabel="steps taken", ylabel="loss (nats)"
)
axes.legend()
plots.show(
    figure, alt="The loss on six digits falls from about ln 10 towards 0 within six steps."
)

# %% [markdown]
# It learns. Below is what the first linear layer gets to see: the digit 5 through the first
# eight of the 32 filters, after ReLU and max-pooling. The filters began as random numbers,
# and six steps have hardly changed them; still, each answers to strokes of another kind.
# (Notebook 06 looks at filters that were trained to the end.)

# %% tags=["figure", "nbval-ignore-output"]
eight = pooled[5].transpose(2, 0, 1)[:8, :, :, None]  # (8, 14, 14, 1)
eight = eight / np.maximum(eight.max(axis=(1, 2), keepdims=True), 1e-6)
title = "A five through the first eight filters, each scaled to its own brightest value"
figure = plots.image_grid(eight, [f"filter {i}" for i in range(8)], title)
plots.show(
    figure,
    alt="Eight small grey pictures of the same digit five; "
    "each shows other parts of its strokes.",
)

# %% [markdown]
# ## What it costs
#
# You have just waited for 36 pictures: six, six times. One epoch of MNIST has 60,000.
# (Convolution and max-pooling are loops here; the linear layers are not.)

# %% tags=["nbval-ignore-output"]
hours = 60_000 * seconds_per_picture / 3600
print(f"{seconds_per_picture:.2f} seconds for one picture, forward and back")
print(f"{hours:.1f} hours for one epoch of MNIST; you predicted {my_hours}")

# %% [markdown]
# (The program that this course grew from was written with such loops too; its report says
# four hours an epoch.)
#
# Is a convolution that much work? Count the multiplications, each with its addition. Every
# output of a layer needs one for each number that it sums:

# %%
multiply_adds = {  # outputs × inputs of each output, for one picture on the way forward
    "convolution": (28 * 28 * 32) * (3 * 3 * 1),
    "linear, 6272 to 128": 128 * 6272,
    "linear, 128 to 10": 10 * 128,
}
for name, count in multiply_adds.items():
    print(
        f"{name:>20}: {count:8,} multiply-adds, {count / sum(multiply_adds.values()):6.1%}"
    )
print(f"you predicted: the {my_busiest} layer")

# %% [markdown]
# The way back needs twice as many, for each sends two gradients back. That holds for every
# layer, so the shares remain. (Max-pooling only compares.)
#
# The convolution is the *smaller* part of the arithmetic! Then who takes the time? Measure
# each layer by itself, forward and back, on the same six pictures:

# %% tags=["nbval-ignore-output"]


def measure(function):
    """Return the seconds for one picture:
    the fastest call within half a second, divided by the number of pictures.
    """
    times = []
    while sum(times) < 0.5 and len(times) < 100:
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times) / len(x6)


def convolution():
    z1 = conv2d(x6, params["W1"], params["b1"], 1, 1)
    conv2d_backward(z1, x6, params["W1"], 1, 1)  # any array of this shape will do as dout


def linear(rows, W, b):
    z = rows @ W + b
    return z @ W.T, rows.T @ z, z.sum(axis=0)


flat, hidden = pooled.reshape(6, -1), np.ones((6, 128), np.float32)
seconds = {
    "convolution": measure(convolution),
    "linear, 6272 to 128": measure(lambda: linear(flat, params["W2"], params["b2"])),
    "linear, 128 to 10": measure(lambda: linear(hidden, params["W3"], params["b3"])),
}
nanoseconds = {name: 1e9 * seconds[name] / (3 * multiply_adds[name]) for name in seconds}
print("one picture, forward and back:")
print("               layer   multiply-adds   milliseconds   nanoseconds each")
for name in seconds:
    print(
        f"{name:>20} {3 * multiply_adds[name]:15,} {1000 * seconds[name]:14.3f} "
        f"{nanoseconds[name]:18.3f}"
    )

# %% tags=["figure", "nbval-ignore-output"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.8), sharey=True)
names = list(seconds)
left.barh(names, [3 * multiply_adds[name] for name in names], color="C0")
left.set(
    title="The arithmetic",
    xlabel="multiply-adds a picture",
    ylabel="layer",
    xscale="log",
    xlim=(1, 1e8),
)
right.barh(names, [seconds[name] for name in names], color="C3")
right.set(title="The time", xlabel="seconds a picture", xscale="log", xlim=(1e-7, 10))
left.invert_yaxis()
left.yaxis.labelpad = 12
figure.suptitle(
    "One picture, forward and back: "
    "the time does not follow the arithmetic (logarithmic axes)"
)
plots.show(
    figure,
    alt="Bars for three layers on logarithmic axes. Multiply-adds: most in the large "
    "linear layer, somewhat fewer in the convolution, few in the small linear layer. "
    "Seconds: the convolution takes far more than both others.",
)

# %% [markdown]
# It is not the arithmetic. It is the **interpreter**. For one multiply-add in a loop,
# Python looks up name after name, computes the indices, packs them into a tuple, lets NumPy
# fetch a single number and wrap it as an object, the same again for the weight, and only
# then multiplies. A matrix product asks once, and the processor runs through whole rows of
# numbers, several at a time. The cure is plain, then: let the convolution *be* a matrix
# product.
#
# ## What it means

# %%
more = multiply_adds["linear, 6272 to 128"] / multiply_adds["convolution"]
claim(
    "the linear layer does more than three times as many multiply-adds as the convolution",
    more,
    at_least=3,
)
ratio = nanoseconds["convolution"] / nanoseconds["linear, 6272 to 128"]
claim(
    "and yet a multiply-add in a loop takes at least ten times "
    "as long as in a matrix product",
    ratio,
    at_least=10,
)
claim(
    "one epoch of MNIST with these loops would take at least half an hour",
    hours,
    at_least=0.5,
)

# %% [markdown]
# ## Exercises
#
# As in notebook 01: write your version over the line with `raise NotImplementedError`, run
# that cell, then the check at the end of the exercise. The folded cell between the two is a
# solution, and takes the place of yours if you run it.
#
# ### 1 · Sizes
#
# Write the formula for the size of the output, and refuse a kernel that fits nowhere. Then
# turn it around: which padding keeps the size of the picture when the stride is 1? For some
# kernels there is none; refuse them too.


# %% tags=["exercise"]
def output_size(size, kernel, stride, padding):
    """Return the size of the output;
    raise ValueError if the kernel is larger than the padded picture.
    """
    raise NotImplementedError("not written yet")


def same_padding(kernel):
    """Return the padding that keeps the size at stride 1;
    raise ValueError if there is none.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def output_size(size, kernel, stride, padding):
    if kernel > size + 2 * padding:
        raise ValueError(
            f"a kernel of {kernel} does not fit into {size} "
            f"pixels and a padding of {padding}"
        )
    return (size + 2 * padding - kernel) // stride + 1


def same_padding(kernel):
    if kernel % 2 == 0:
        raise ValueError(f"2 * padding must be kernel - 1, and {kernel - 1} is odd")
    return (kernel - 1) // 2


# %% tags=["check"]
def outcome(function, *arguments):
    """Return what the function returns, or the words for its ValueError."""
    try:
        return function(*arguments)
    except ValueError:
        return "a ValueError"


cases = {(28, 3, 1, 1), (28, 2, 2, 0), (5, 5, 3, 0), (4, 7, 1, 1), (3, 5, 4, 1)}
draw = np.random.default_rng(1)
cases |= {
    tuple(case) for case in draw.integers((1, 1, 1, 0), (15, 9, 5, 4), (60, 4)).tolist()
}
for case in sorted(cases):
    got, right = outcome(output_size, *case), count_places(*case) or "a ValueError"
    assert got == right, f"output_size{case} gives {got}, expected {right}"
kernels = range(1, 13)
for kernel in kernels:
    tries = (p for p in range(kernel) if count_places(28, kernel, 1, p) == 28)
    got, right = outcome(same_padding, kernel), next(tries, "a ValueError")
    assert got == right, f"same_padding({kernel}) gives {got}, expected {right}"
impossible = sum(count_places(*case) == 0 for case in cases)
print(
    f"passed: {len(cases)} sizes, {impossible} of them impossible, {len(kernels)} kernels"
)

# %% [markdown]
# ### 2 · Average pooling
#
# Instead of the largest value of each window, take the mean. Who touches the output now,
# and with which slope? Write both directions. (Windows may overlap.)


# %% tags=["exercise"]
def avg_pool2d(x, size, stride):
    """x: (N, H, W, C). Return (N, Ho, Wo, C), the mean of each window."""
    raise NotImplementedError("not written yet")


def avg_pool2d_backward(dout, x, size, stride):
    """dout: (N, Ho, Wo, C). Return dx in the shape of x."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def avg_pool2d(x, size, stride):
    Ho, Wo = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    y = np.zeros((len(x), Ho, Wo, x.shape[3]), x.dtype)
    for n, row, column, c in np.ndindex(*y.shape):
        top, left = row * stride, column * stride
        y[n, row, column, c] = x[n, top : top + size, left : left + size, c].mean()
    return y


def avg_pool2d_backward(dout, x, size, stride):
    dx = np.zeros_like(x)
    for n, row, column, c in np.ndindex(*dout.shape):
        top, left = row * stride, column * stride
        # to everybody alike
        dx[n, top : top + size, left : left + size, c] += dout[n, row, column, c] / size**2
    return dx


# %% tags=["check"]
cases = (
    ((2, 4, 5, 2), 2, 2),
    ((1, 5, 4, 3), 3, 1),
    ((2, 6, 4, 1), 2, 3),
    ((1, 7, 5, 1), 3, 2),
)
for shape, size, stride in cases:
    case = f"size {size}, stride {stride}, x {shape}"
    x = np.random.default_rng(size).normal(size=shape)
    given, right = x.copy(), reference.avg_pool2d(x, size, stride)
    got = avg_pool2d(given, size, stride)
    assert np.array_equal(given, x), "avg_pool2d changes x in place: work on a copy"
    assert np.shape(got) == right.shape, f"{case}: {np.shape(got)}, expected {right.shape}"
    assert np.allclose(got, right), f"{case}: these are not the means"
    checks.gradient(
        lambda x, size=size, stride=stride: reference.avg_pool2d(x, size, stride),
        lambda dout, x, size=size, stride=stride: avg_pool2d_backward(
            dout, x, size, stride
        ),
        x,
    )
overlap = sum(stride < size for _, size, stride in cases)
print(f"passed: {len(cases)} sizes, in {overlap} of them windows overlap, both directions")

# %% [markdown]
# ### 3 · Design a filter
#
# A 3 × 3 kernel for *diagonal* edges: positive where dark becomes bright from the upper
# left to the lower right, with 1 as its largest answer; exactly 0 on areas of constant
# brightness; and exactly 0 on edges along the other diagonal, wherever they lie. (An edge
# is a step from 0 to 1.) Think first: what must all its numbers add up to? And those on
# each line that falls from left to right?


# %% tags=["exercise"]
def diagonal_filter():
    """Return a (3, 3) array."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def diagonal_filter():
    # rises from the upper left to the lower right; the same on both sides of that diagonal,
    # where the other edge cuts
    return np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]) / 3


# %% tags=["check"]
kernel = np.array(diagonal_filter())
assert kernel.shape == (3, 3), f"expected the shape (3, 3), got {kernel.shape}"
assert kernel.dtype.kind in "fi", f"expected real numbers, got {kernel.dtype}"
row, column = np.indices((9, 9))
flat_area = slide(np.ones((9, 9)), kernel)
assert np.allclose(flat_area, 0), (
    f"on a constant area it answers {flat_area[0, 0]:.3g}: its numbers must add up to 0"
)
places = range(-4, 5)
for place in places:  # the edge, moved through the whole picture
    unwanted = slide((column - row > place).astype(float), kernel)  # bright upper right
    assert np.allclose(unwanted, 0), (
        f"on the other diagonal it answers up to {np.abs(unwanted).max():.3g}, not 0"
    )
    wanted = slide((row + column > 8 + place).astype(float), kernel)  # bright lower right
    assert wanted.min() > -1e-9, (
        f"it answers {wanted.min():.3g} on its own edge: never less than 0 there, please"
    )
    assert np.isclose(wanted.max(), 1), (
        f"its largest answer is {wanted.max():.3g}, not 1: scale it"
    )
print(f"passed: a constant area, and both diagonals at {len(places)} places")

# %% [markdown]
# ### 4 · A kernel of one pixel
#
# A 1 × 1 convolution looks at no neighbours at all: at each pixel it mixes the channels,
# with the same weights everywhere. That is a linear layer, applied to every pixel. So write
# it without a single loop: one `reshape`, so that every pixel is a row; one matrix product;
# one `reshape` back.


# %% tags=["exercise"]
def conv1x1(x, W, b):
    """x: (N, H, W, C_in), W: (1, 1, C_in, C_out), b: (C_out,). Return (N, H, W, C_out)."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def conv1x1(x, W, b):
    rows = x.reshape(-1, x.shape[3])  # (N*H*W, C_in)
    return (rows @ W[0, 0] + b).reshape(*x.shape[:3], -1)


# %% tags=["check"]
draw = np.random.default_rng(1)
sizes = ((2, 5, 4, 3, 6), (1, 3, 7, 4, 4), (3, 1, 2, 1, 5), (2, 4, 4, 5, 1))
for *shape, c_out in sizes:
    inputs = draw.normal(size=shape), draw.normal(size=(1, 1, shape[3], c_out))
    inputs += (draw.normal(size=c_out),)
    given = [array.copy() for array in inputs]
    got, right = conv1x1(*given), conv2d(*inputs, stride=1, padding=0)
    for name, array, before in zip(("x", "W", "b"), given, inputs, strict=True):
        assert np.array_equal(array, before), f"{name} is changed in place: work on a copy"
    assert np.shape(got) == right.shape, f"shape {np.shape(got)}, expected {right.shape}"
    assert np.allclose(got, right), (
        f"x {shape}: the loops give other numbers: the first pixel is {got[0, 0, 0]}, "
        f"not {right[0, 0, 0]}"
    )
same = sum(size[3] == size[4] for size in sizes)
print(f"passed: {len(sizes)} sizes, {same} of them with as many channels out as in")

# %% [markdown]
# ### 5 · An experiment: how far does an output see?
#
# One 3 × 3 convolution sees 3 × 3 pixels. Stack two or three of them: how many pixels of
# the input act on *one* output? **Predict first.** Then let the gradients tell: put a 1 at
# one place in the middle of an otherwise zero `dout`, send it back through 1, 2 or 3
# convolutions (`conv2d_backward`, stride 1, positive weights, a padding that keeps the size
# of the picture, 13 × 13), and count the pixels whose gradient is not 0. This is the
# *receptive field*. Let the kernel and the size of the picture be arguments: the check asks
# for others too, and finds the same numbers in its own way, by lighting one pixel after the
# other and looking whether the output in the middle notices.


# %% tags=["exercise"]
def receptive_fields(kernel=3, size=13):
    """Return {1: pixels, 2: pixels, 3: pixels}, by the number of convolutions;
    kernel (odd) and size (of the picture) are pixels along one side.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def receptive_fields(kernel=3, size=13):
    # dx needs the weights, not the picture
    x, W = np.zeros((1, size, size, 1)), np.ones((kernel, kernel, 1, 1))
    pixels = {}
    for depth in (1, 2, 3):
        d = np.zeros_like(x)
        d[0, size // 2, size // 2, 0] = 1.0
        for _ in range(depth):
            d, _, _ = conv2d_backward(d, x, W, stride=1, padding=kernel // 2)
        pixels[depth] = np.count_nonzero(d)
    return pixels


# %% tags=["check"]
cases = ((3, 9), (1, 5), (5, 7), (3, 13))  # (5, 7): the picture ends before the field does
for kernel, size in cases:
    pixels = receptive_fields(kernel, size)
    assert set(pixels) == {1, 2, 3}, f"expected the keys 1, 2 and 3, got {sorted(pixels)}"
    # one pixel is lit in each row, and nothing else; which of them reach the middle?
    lit, all_ones = np.eye(size**2).reshape(-1, size, size, 1), np.ones((kernel, kernel))
    for depth in (1, 2, 3):
        patches = nnlib.conv.im2col(lit, (kernel, kernel), 1, kernel // 2)
        lit = (patches @ all_ones.ravel()).reshape(lit.shape)
        right = np.count_nonzero(lit[:, size // 2, size // 2])
        assert pixels[depth] == right, (
            f"{depth} convolutions with {kernel} × {kernel}, picture {size} × {size}: you "
            f"count {pixels[depth]} pixels, but the output notices {right}"
        )
for depth, count in receptive_fields().items():
    print(
        f"{depth} × (3 × 3): sees {count:2} pixels with {9 * depth:2} weights; "
        f"one kernel of that size has {count:2}"
    )
print(f"passed: {len(cases)} kernels and pictures, each 1, 2 and 3 convolutions deep")

# %% [markdown]
# ### 6 · An explanation: first move, or first compute?
#
# Move a picture by one pixel to the right and then apply a layer; or apply the layer and
# then move its *output* by one. For which of these is it always the same, as long as
# nothing touches the rim: `"convolution"` (3 × 3, stride 1, padding 1), `"max-pool 2"` (2 ×
# 2, stride 2), `"linear"` (every pixel to every pixel of an output picture of the same
# size)? Write their names into the set; then explain to somebody who was not there why it
# matters.


# %% tags=["exercise"]
def same_either_way():
    """Return the set of the names, e.g. {"max-pool 2", "linear"}."""
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# Only the convolution: it does the same everywhere, so it cannot know whether the picture
# moved or the paper under it. An edge that it has learnt to find on the left is found on
# the right, without another example. Max-pooling is *nearly* so: its windows stand on a
# grid of two pixels, so moving by two pixels moves its output by one, while moving by one
# deals the pixels out to other windows. The linear layer has its own weight for every pair
# of pixels and makes something quite different of a moved picture. That is why notebook 01
# had to show its network shifted digits, and why the linear layers behind our convolution
# still have that to learn.


# %% tags=["solution"]
def same_either_way():
    return {"convolution"}


# %% tags=["check"]
answer = same_either_way()
assert isinstance(answer, set), f'expected a set like {{"linear"}}, got {answer!r}'
draw = np.random.default_rng(0)
x = np.zeros((1, 12, 12, 1))
x[0, 4:8, 4:8, 0] = draw.normal(size=(4, 4))  # something in the middle, far from the rim
kernel, weights = draw.normal(size=(3, 3, 1, 1)), draw.normal(size=(144, 144))
layers = {
    "convolution": lambda x: conv2d(x, kernel, np.zeros(1), stride=1, padding=1),
    "max-pool 2": lambda x: max_pool2d(x, size=2, stride=2),
    "linear": lambda x: (x.reshape(1, 144) @ weights).reshape(1, 12, 12, 1),
}


def moved(x, pixels):
    return np.roll(x, pixels, axis=2)


truth = {
    name
    for name, layer in layers.items()
    if np.allclose(layer(moved(x, 1)), moved(layer(x), 1))
}
assert answer == truth, (
    f"not yet: you say {sorted(answer)}. Move a picture first, then its output: "
    "for which layers are the two alike?"
)
print(f"passed: {len(layers)} layers, each before and after a move")
pool = layers["max-pool 2"]
print(
    "max-pool 2: two pixels in are one pixel out:",
    np.array_equal(pool(moved(x, 2)), moved(pool(x), 1)),
)

# %% [markdown]
# ## What moved into nnlib
#
# These loops now live in `nnlib.reference`. Nobody will train with them, but they are the
# judges: whatever faster way we invent must give their numbers. Are they the same as yours?
# On an awkward geometry (a kernel that is not square, stride 2, padding, three channels,
# windows that overlap), every digit must agree:

# %%
draw = np.random.default_rng(SEED)
x = draw.normal(size=(2, 7, 6, 3)).astype(np.float32)
W = draw.normal(size=(3, 2, 3, 4)).astype(np.float32)
b = draw.normal(size=4).astype(np.float32)
y, pooled = conv2d(x, W, b, 2, 1), max_pool2d(x, 3, 2)
pairs = {
    "conv2d": (y, reference.conv2d(x, W, b, 2, 1)),
    "max_pool2d": (pooled, reference.max_pool2d(x, 3, 2)),
    "max_pool2d_backward": (
        max_pool2d_backward(pooled, x, 3, 2),
        reference.max_pool2d_backward(pooled, x, 3, 2),
    ),
}
mine, theirs = conv2d_backward(y, x, W, 2, 1), reference.conv2d_backward(y, x, W, 2, 1)
pairs |= {
    f"conv2d_backward, {name}": pair
    for name, *pair in zip(("dx", "dW", "db"), mine, theirs, strict=True)
}
for name, (mine, theirs) in pairs.items():
    print(
        f"{name:>20}: {mine.shape!s:>13} equal to the last digit: "
        f"{np.array_equal(mine, theirs)}"
    )
equal = all(np.array_equal(mine, theirs) for mine, theirs in pairs.values())
claim(
    "the loops of this notebook and those of nnlib.reference give the very same numbers",
    equal,
    equals=True,
)

# %% [markdown]
# You have a convolution that is right, and a number for how slow it is. Exercise 4 has
# given away how it becomes fast: a convolution with one pixel is a matrix product over
# pixels. On to **03 · A convolution is a Linear on patches**, where the same holds for any
# kernel, and the hours become seconds.
