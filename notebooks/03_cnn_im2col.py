# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · A convolution is a Linear layer on patches
#
# **What you will build.** The convolution of notebook 02 once more, now without a single
# loop over pixels: cut the picture into patches, lay each patch out as one row, and the
# seven loops become *one matrix product*. It gives the same numbers, hundreds of times
# faster. With it you train two networks on all of MNIST; the better one misreads at most
# eight digits in a thousand.
#
# ![A small picture with one patch marked, and the matrix in which that patch is one
# row](images/03_cnn_im2col.png)
#
# **What you need.** The convolution of notebook 02, and the Linear layer of notebook 01.
#
# **How long it takes.** Five minutes of computing on a laptop with two cores.

# %%
import os
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

import nnlib
from nnlib import checks, claim, interactive, load_dataset, plots, reference

SEED = int(os.environ.get("NNLIB_SEED", 0))
rng = np.random.default_rng(SEED)

data = load_dataset("mnist")
full = data.source != "sample"
training_set, validation_set = data.split(1 / 12, rng)
train_images, train_labels = training_set
validation_images, validation_labels = validation_set
print("training:  ", train_images.shape)
print("validation:", validation_images.shape)

# %% [markdown]
# ## Predict first
#
# Below we slide a kernel of 3 × 3 over one picture of 28 × 28, with one pixel of padding
# all around. We write every patch that it sees as one row of a matrix. Which shape has that
# matrix? And by how much will it be faster than the loops?

# %%
my_rows = 28  # how many rows has the matrix of patches?
my_columns = 28  # and how many columns?
my_speedup = 10  # how many times faster than the seven loops will the forward pass be?

# %% [markdown]
# ## The idea
#
# Look at one output of a convolution: the position $(r, c)$ and the filter $k$. It is one
# sum over the patch below the kernel: every pixel of the patch times the weight that lies
# on it.
#
# $$y_{rck} = \sum_{i,\,j,\,c'} \text{patch}_{ijc'}\, W_{ijc'k} + b_k$$
#
# Now forget that $i$, $j$ and the channel $c'$ are three indices. Number the entries of the
# patch from first to last with *one* index $d$, and those of the kernel in the same order:
#
# $$y_{k} = \sum_{d} \text{patch}_{d}\, W_{dk} + b_k$$
#
# You have seen this line: it is the Linear layer of notebook 01. A convolution is **the
# same Linear layer, applied to every patch of the picture**. So if all patches lie below
# each other as the rows of one matrix, the whole convolution is
#
# $$Y = \text{rows}\; W + b .$$
#
# The function that makes those rows is called **im2col** (the name says *columns*, because
# older programs wrote patches as columns). Here is one patch on its way:

# %% tags=["cover", "figure", "nbval-ignore-output"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), width_ratios=[1, 1.25])
picture = np.arange(36).reshape(6, 6)
for axes, values, title in (
    (left, picture, "A picture of 6 × 6 pixels, and one patch of 3 × 3"),
    (
        right,
        reference.im2col(picture[None, :, :, None], (3, 3)),
        "im2col: 16 patches as rows of 9",
    ),
):
    axes.imshow(values, cmap="Blues", vmin=-10, vmax=70, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, value, ha="center", va="center", fontsize=8)
    axes.grid(False)
    axes.set(title=title, xticks=range(values.shape[1]), yticks=range(len(values)))
left.set(xlabel="column of pixels", ylabel="row of pixels")
right.set(xlabel="place in the patch, d = 3 i + j", ylabel="patch")
left.add_patch(plt.Rectangle((1.5, 0.5), 3, 3, fill=False, ec="crimson", lw=3))
right.add_patch(plt.Rectangle((-0.5, 5.5), 9, 1, fill=False, ec="crimson", lw=3))
plots.show(
    figure,
    alt="Left, a six by six picture with its pixels numbered and one patch of three by "
    "three framed in red. Right, a matrix of sixteen rows of nine; "
    "the framed patch is its seventh row.",
)

# %% [markdown]
# Count in the picture: there are 4 × 4 positions, so 16 rows; a patch has 3 × 3 = 9 pixels,
# so 9 columns. In general, a batch of $N$ pictures gives a matrix of shape
# $(N \cdot H_o \cdot W_o,\; k_h \cdot k_w \cdot C)$.

# %%
rows = reference.im2col(train_images[:1] / 255, (3, 3), 1, 1)
print(f"one picture of MNIST: {rows.shape}; you predicted ({my_rows}, {my_columns})")

# %% [markdown]
# Now move the window yourself. Here is one of our digits, shrunk to 7 × 7 pixels. Slide the
# window from position to position, and watch each patch become a row. Then point at a pixel
# (or go there with the arrow keys): **where are its copies, and how many?** Try one in the
# middle, one at an edge, and the corner. Then again with padding 1, and with stride 2.

# %% tags=["figure"]
# each of the 7 × 7 pixels is the mean of 3 × 3
tiny = train_images[0, 4:25, 4:25, 0].reshape(7, 3, 7, 3).mean(axis=(1, 3))
interactive.patch_matrix(tiny, (3, 3), stride=1, padding=0)

# %% [markdown]
# The matrix holds nothing new, only copies. A pixel in the middle has nine, one for each
# place in the patch, and they climb to the right: the further the window moves on, the
# further left and up in it the pixel lies. The corner has a single one; with padding 1 it
# has four. Keep these numbers in mind for the way back.

# %% [markdown]
# ## im2col, the first way: an array of indices
#
# NumPy can pick many elements at once: `x[rows, columns]` with two arrays of indices. The
# pixel in place $(i, j)$ of the patch at position $(r, c)$ is the pixel
# $(r\,s + i,\; c\,s + j)$ of the picture, with the stride $s$. Broadcasting builds all of
# these sums without a loop.


# %%
def output_size(size, kernel, stride):
    """How many positions there are in one direction (padding has been added already)."""
    return (size - kernel) // stride + 1


def pad(x, padding):
    """x: (N, H, W, C). Zeros on all four sides."""
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def im2col_fancy(x, kernel_size, stride, padding):
    """x: (N, H, W, C). Returns the rows (N*Ho*Wo, kh*kw*C)."""
    x, (kh, kw) = pad(x, padding), kernel_size
    N, H, W, C = x.shape
    r = stride * np.arange(output_size(H, kh, stride))
    c = stride * np.arange(output_size(W, kw, stride))
    picked_rows = r[:, None, None, None] + np.arange(kh)[:, None]  # (Ho, 1, kh, 1)
    # (Wo, 1, kw): both together broadcast to (Ho, Wo, kh, kw)
    picked_columns = c[:, None, None] + np.arange(kw)
    return x[:, picked_rows, picked_columns].reshape(N * len(r) * len(c), kh * kw * C)


small = np.arange(16.0).reshape(1, 4, 4, 1)
print(im2col_fancy(small, (3, 3), 1, 0).astype(int))

# %% [markdown]
# ## im2col, the second way: no index at all
#
# An array is one long line of numbers in memory. What makes it a picture is only a rule:
# *to go one row down, skip so many bytes; to go one column right, skip so many*. These
# numbers are the array's **strides** (in bytes; the kernel's stride is another matter).

# %%
x = np.zeros((2, 28, 28, 3), np.float32)
print("shape", x.shape, "strides in bytes", x.strides)

# %% [markdown]
# A matrix of patches needs no new numbers, only a new rule. Moving to the next patch is
# moving to the next pixel; moving inside the patch is moving to the next pixel as well. So
# we describe an array with six axes $(N, H_o, W_o, k_h, k_w, C)$ that looks at the *same*
# memory, with the picture's own strides used twice. Such an array is called a *view*, and
# making one costs nothing. Only the last step, `reshape`, copies, because rows of a matrix
# must not overlap in memory.


# %%
def patches_view(x, kernel_size, stride):
    """x: (N, H, W, C), padded.
    Returns a view (N, Ho, Wo, kh, kw, C) of the same memory: nothing is copied.

    as_strided believes whatever it is told:
    with a wrong shape it would read memory that is not ours.
    """
    (N, H, W, C), (kh, kw), (n, h, w, c) = x.shape, kernel_size, x.strides
    shape = (N, output_size(H, kh, stride), output_size(W, kw, stride), kh, kw, C)
    return np.lib.stride_tricks.as_strided(x, shape, (n, stride * h, stride * w, h, w, c))


def im2col(x, kernel_size, stride, padding):
    """x: (N, H, W, C). Returns the rows (N*Ho*Wo, kh*kw*C)."""
    patches = patches_view(pad(x, padding), kernel_size, stride)
    N, Ho, Wo, kh, kw, C = patches.shape
    return patches.reshape(N * Ho * Wo, kh * kw * C)


view = patches_view(small, (3, 3), 1)
print("the view", view.shape, "shares the picture's memory:", np.shares_memory(view, small))
odd = rng.normal(size=(2, 7, 6, 3))
same = all(
    np.array_equal(
        im2col(odd, kernel, stride, padding), im2col_fancy(odd, kernel, stride, padding)
    )
    for kernel in ((3, 3), (2, 3), (1, 1))
    for stride in (1, 2)
    for padding in (0, 1)
)
claim(
    "both ways give the same rows, for every kernel, stride and padding tried",
    same,
    equals=True,
)

# %% [markdown]
# ## The way back: col2im
#
# Backward, the Linear layer will hand us `drows`: how much the loss cares about every entry
# of the matrix. But the matrix holds *copies*. A pixel in the middle of the picture was
# copied into nine rows (for a 3 × 3 kernel), always with slope 1, and acts on the loss
# through all of them. So, by the chain rule: **add up the gradients of all its copies.**
# The function that does so is called **col2im**.
#
# Instead of walking over millions of copies one by one, walk over the $k_h \cdot k_w$
# places in the kernel: all copies made at place $(i, j)$ belong to a regular grid of
# pixels, and a grid is one slice. Note the `+=`: the grids overlap.


# %%
def col2im(rows, x_shape, kernel_size, stride, padding):
    """rows: (N*Ho*Wo, kh*kw*C).
    Returns the sum of its copies for each pixel, (N, H, W, C).
    """
    (N, H, W, C), (kh, kw) = x_shape, kernel_size
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C), rows.dtype)
    Ho, Wo = output_size(x.shape[1], kh, stride), output_size(x.shape[2], kw, stride)
    patches = rows.reshape(N, Ho, Wo, kh, kw, C)
    for i in range(kh):
        for j in range(kw):
            grid = x[:, i : i + stride * Ho : stride, j : j + stride * Wo : stride]
            grid += patches[:, :, :, i, j]
    return x[:, padding : padding + H, padding : padding + W]


checks.im2col(im2col, col2im)

# %% [markdown]
# Send a matrix of ones back, and every pixel says how often it was copied. In the corner
# once, in the middle nine times:

# %%
ones = np.ones((16, 9))
print(col2im(ones, (1, 6, 6, 1), (3, 3), 1, 0)[0, :, :, 0].astype(int))

# %% [markdown]
# There is a word for this pair. Both functions are linear, and for any picture $x$ and any
# matrix $m$ the two inner products agree (multiply entry by entry, and add up):
#
# $$\langle \text{im2col}(x),\, m \rangle = \langle x,\, \text{col2im}(m) \rangle$$
#
# col2im is the **adjoint** of im2col (for matrices: the transpose). The backward pass of
# *every* linear layer is the adjoint of its forward pass, which makes a test that needs no
# derivative at all:

# %%
x = rng.normal(size=(2, 7, 6, 3))
m = rng.normal(size=im2col(x, (3, 2), 2, 1).shape)
left_side = (im2col(x, (3, 2), 2, 1) * m).sum()
right_side = (x * col2im(m, x.shape, (3, 2), 2, 1)).sum()
print(f"left and right differ by less than 1e-12: {abs(left_side - right_side) < 1e-12}")

# %% [markdown]
# ## Convolution, forward and backward
#
# All the rest is the Linear layer, word for word: `rows @ W + b` forward, and its three
# gradients backward.


# %%
def conv_forward(x, W, b, stride, padding):
    """x: (N, H, W, C_in), W: (kh, kw, C_in, C_out). Returns (N, Ho, Wo, C_out)."""
    kh, kw, _, C_out = W.shape
    Ho = output_size(x.shape[1] + 2 * padding, kh, stride)
    Wo = output_size(x.shape[2] + 2 * padding, kw, stride)
    rows = im2col(x, (kh, kw), stride, padding)
    return (rows @ W.reshape(-1, C_out) + b).reshape(len(x), Ho, Wo, C_out)


def conv_backward(dout, x, W, stride, padding):
    """dout: (N, Ho, Wo, C_out). Returns dx, dW, db."""
    kh, kw, _, C_out = W.shape
    d = dout.reshape(-1, C_out)  # (N*Ho*Wo, C_out): the output was laid out like this
    rows = im2col(x, (kh, kw), stride, padding)
    dW = (rows.T @ d).reshape(W.shape)
    drows = d @ W.reshape(-1, C_out).T
    return col2im(drows, x.shape, (kh, kw), stride, padding), dW, d.sum(axis=0)


checks.conv2d(conv_forward, conv_backward)

# %% [markdown]
# That check compares with the right answer on kernels that are not square, strides,
# paddings and odd sizes. What would it say to the most popular mistake of all, `=` where
# `+=` belongs?


# %%
def careless_backward(dout, x, W, stride, padding):
    _, dW, db = conv_backward(dout, x, W, stride, padding)
    kh, kw, C_in, C_out = W.shape
    drows = dout.reshape(-1, C_out) @ W.reshape(-1, C_out).T
    patches = drows.reshape(*dout.shape[:3], kh, kw, C_in)
    padded = pad(np.zeros_like(x), padding)
    for i in range(kh):
        for j in range(kw):
            end_i, end_j = i + stride * dout.shape[1], j + stride * dout.shape[2]
            # the last copy wins
            padded[:, i:end_i:stride, j:end_j:stride] = patches[:, :, :, i, j]
    return padded[:, padding : padding + x.shape[1], padding : padding + x.shape[2]], dW, db


try:
    checks.conv2d(conv_forward, careless_backward)
except nnlib.CheckFailed as failure:
    print(failure)

# %% [markdown]
# ### The same numbers as the loops
#
# Notebook 02's loops live in `nnlib.reference`. In float64, on an awkward geometry, the two
# agree to the last digits. (Not to the very last: they add the same numbers in another
# order.)

# %%
x, W, b = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)
y_loops = reference.conv2d(x, W, b, 2, 1)
dout = rng.normal(size=y_loops.shape)
differences = [np.abs(conv_forward(x, W, b, 2, 1) - y_loops).max()]
gradients = conv_backward(dout, x, W, 2, 1)
gradients_loops = reference.conv2d_backward(dout, x, W, 2, 1)
for mine, theirs in zip(gradients, gradients_loops, strict=True):
    differences.append(np.abs(mine - theirs).max())
claim(
    "output and gradients equal those of the loops to twelve decimal places",
    max(differences),
    at_most=1e-12,
)

# %% [markdown]
# ## Pooling without loops over pixels
#
# The same trick: walk over the places in the window, not over the windows. All first pixels
# of all windows are one slice of the picture, all second pixels another. The largest of
# these slices, entry by entry (`np.maximum.reduce`), is the pooled picture.
#
# Backward, the gradient goes to the pixel that won. And if two pixels tie? In MNIST that is
# no rare accident: in the black background all four are equal. `argmax` returns the first,
# so the first gets it all, and nothing is counted twice.


# %%
def window_slices(x, size, stride):
    """One slice (N, Ho, Wo, C) for each place in the window:
    they look into x, so writing to them changes x.
    """
    bottom, right = x.shape[1] - size + 1, x.shape[2] - size + 1
    return [
        x[:, i : i + bottom : stride, j : j + right : stride]
        for i in range(size)
        for j in range(size)
    ]


def pool_forward(x, size, stride):
    return np.maximum.reduce(window_slices(x, size, stride))


def pool_backward(dout, x, size, stride):
    # (N, Ho, Wo, C): the first place with the maximum
    winner = np.argmax(window_slices(x, size, stride), axis=0)
    dx = np.zeros_like(x)
    for place, pixels in enumerate(window_slices(dx, size, stride)):
        pixels += dout * (winner == place)
    return dx


checks.max_pool2d(pool_forward, pool_backward)

# %% [markdown]
# ## The clock
#
# Now for the point of it all. The first layer of our network (32 filters of 3 × 3 on 28 ×
# 28 pixels, then a 2 × 2 pool), per picture, in milliseconds. The loops do one picture, the
# others a batch of 64; each time is the best of several.


# %% tags=["nbval-ignore-output"]
def best_time(function, repeats):
    """Seconds of the fastest of several calls:
    whatever else the computer does can only make a call slower.
    """
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


batch = train_images[:64].astype(np.float32) / 255
W, b = nnlib.he_normal((3, 3, 1, 32), rng).astype(np.float32), np.zeros(32, np.float32)
y = conv_forward(batch, W, b, 1, 1)
pooled = pool_forward(y, 2, 2)
layer, pool = nnlib.Conv2d(1, 32, 3, padding=1, rng=rng), nnlib.MaxPool2d(2)
on_device, y_device, pooled_device = (
    nnlib.to_device(array) for array in (batch, y, pooled)
)
layer.forward(on_device, training=True)
pool.forward(y_device, training=True)
one, y1, pooled1 = batch[:1], y[:1], pooled[:1]


def by_indices():
    return im2col_fancy(batch, (3, 3), 1, 1) @ W.reshape(-1, 32) + b


def pool_by_loops():
    return reference.max_pool2d(y1, 2), reference.max_pool2d_backward(pooled1, y1, 2)


def pool_by_nnlib():
    return pool.forward(y_device, training=True), pool.backward(pooled_device)


steps = {  # (count of pictures, repeats, function)
    "loops": {
        "forward": (1, 1, lambda: reference.conv2d(one, W, b, 1, 1)),
        "backward": (1, 1, lambda: reference.conv2d_backward(y1, one, W, 1, 1)),
        "pool": (1, 2, pool_by_loops),
    },
    "im2col by indices": {
        "forward": (64, 5, by_indices),
    },
    "im2col by strides": {
        "forward": (64, 5, lambda: conv_forward(batch, W, b, 1, 1)),
        "backward": (64, 5, lambda: conv_backward(y, batch, W, 1, 1)),
        "pool": (64, 5, lambda: (pool_forward(y, 2, 2), pool_backward(pooled, y, 2, 2))),
    },
    "nnlib": {
        "forward": (64, 5, lambda: layer.forward(on_device, training=True)),
        "backward": (64, 5, lambda: layer.backward(y_device)),
        "pool": (64, 5, pool_by_nnlib),
    },
}
milliseconds = {
    name: {
        part: 1000 * best_time(function, repeats) / count
        for part, (count, repeats, function) in parts.items()
    }
    for name, parts in steps.items()
}
print("milliseconds per picture     forward  backward      pool   all three")
for name, parts in milliseconds.items():
    row = [parts[part] for part in ("forward", "backward", "pool") if part in parts]
    row += [sum(row)] if len(row) == 3 else []
    print(f"{name:<25}" + "".join(f"{value:11.3f}" for value in row))

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(8, 3))
names = [name for name in milliseconds if "pool" in milliseconds[name]]
for offset, part in zip((-0.25, 0, 0.25), ("forward", "backward", "pool"), strict=True):
    axes.barh(
        np.arange(len(names)) + offset,
        [milliseconds[name][part] for name in names],
        0.25,
        label=part,
    )
axes.set(
    xscale="log",
    xlabel="milliseconds per picture (each line: ten times more)",
    title="The price of one picture",
)
axes.set_yticks(range(len(names)), names)
axes.invert_yaxis()
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Bars on a logarithmic axis: "
    "the loops need hundreds of times longer than the versions by im2col.",
)

# %%
ratio = milliseconds["loops"]["forward"] / milliseconds["im2col by strides"]["forward"]
claim(
    "forward, one matrix product is at least twenty times faster than seven loops",
    ratio,
    at_least=20,
)

# %% tags=["nbval-ignore-output"]
print(f"measured here: {ratio:,.0f} times faster; you predicted {my_speedup}")

# %% [markdown]
# Loops and matrix product do the same multiplications. The loops pay the Python interpreter
# for each of them; the matrix product pays it once, and then a routine that was tuned for
# this processor does the rest.
#
# ## The price: memory
#
# Nearly every pixel is copied nine times. For this first layer that is little. For a
# convolution on 32 channels it adds up, and whoever lays out all test pictures at once will
# run out of memory:

# %%
for name, pictures, size, channels in (
    ("first layer, a batch of 64", 64, 28, 1),
    ("on 32 channels, a batch of 64", 64, 14, 32),
    ("on 32 channels, 10,000 pictures", 10_000, 14, 32),
):
    megabytes = pictures * size * size * 9 * channels * 4 / 1e6
    print(f"{name:<31} rows of {9 * channels:3} numbers, {megabytes:8,.1f} MB in float32")

# %% [markdown]
# There is a second price, less visible. A processor computes on numbers in its *cache*, a
# small memory close by; main memory is many times slower. Rows that do not fit into the
# cache are written out to main memory, only to be fetched back for the product. So cut the
# batch into **chunks** of a few pictures and finish one before beginning the next: the
# arithmetic is the same, but the rows never leave the cache. `nnlib.Conv2d` does that (and
# one thing more: a copy is fast along its innermost axis, so a picture of few channels is
# laid out plane by plane first). How much does the size of the chunk matter on your
# computer? Where the curve begins to rise, the rows no longer fit.

# %%
wide = rng.normal(size=(128, 32, 32, 32)).astype(np.float32)
W2, b2 = nnlib.he_normal((3, 3, 32, 32), rng).astype(np.float32), np.zeros(32, np.float32)
sizes = [1, 2, 4, 8, 16, 32, 64, 128]


def in_chunks(size):
    for start in range(0, len(wide), size):
        conv_forward(wide[start : start + size], W2, b2, 1, 1)


per_picture = [
    1000 * best_time(lambda size=size: in_chunks(size), 3) / len(wide) for size in sizes
]

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(sizes, per_picture, "o-")
axes.set_xscale("log", base=2)
axes.set(
    title="A 3 × 3 convolution on 32 × 32 pixels, 32 channels in and out",
    xlabel="pictures in a chunk",
    ylabel="ms per picture",
    ylim=(0, None),
)
axes.set_xticks(sizes, sizes)
plots.show(
    figure,
    alt="Milliseconds per picture against the number of pictures in a chunk, "
    "from 1 to 128, on a logarithmic axis.",
)

# %% [markdown]
# One more thing is free. ReLU keeps the order of numbers, so it does not matter whether the
# maximum is taken before or after it: $\text{relu}(\max(a, b)) = \max(\text{relu}(a),
# \text{relu}(b))$. After the pool there are four times fewer numbers. So our networks pool
# first.

# %%
relu = nnlib.ReLU()
swapped = np.array_equal(
    pool_forward(np.maximum(y, 0), 2, 2), np.maximum(pool_forward(y, 2, 2), 0)
)
claim("ReLU before the pool and ReLU after it give exactly the same", swapped, equals=True)

# %% [markdown]
# ## Into nnlib
#
# `Conv2d` and `MaxPool2d` of `nnlib` are what you just wrote, with a memory for the way
# back, and in chunks. The same numbers? With the same weights, forward and backward:

# %%
mine = conv_forward(batch, W, b, 1, 1)
layer = nnlib.Conv2d(1, 32, 3, padding=1, rng=rng)
layer.params["W"][...] = nnlib.to_device(W)
theirs = nnlib.to_numpy(layer.forward(on_device, training=True))
dx = nnlib.to_numpy(layer.backward(nnlib.to_device(mine)))
mine_dx, mine_dW, mine_db = conv_backward(mine, batch, W, 1, 1)
scale = np.abs(mine_dW).max()
gaps = [
    np.abs(mine - theirs).max(),
    np.abs(mine_dx - dx).max(),
    np.abs(mine_dW - nnlib.to_numpy(layer.grads["W"])).max() / scale,
]
claim(
    "nnlib's convolution has our outputs and gradients, to four decimal places",
    max(gaps),
    at_most=5e-5,
)

# %% [markdown]
# ## The network of notebook 02, on all of MNIST
#
# What would have taken the loops hours an epoch is now a matter of seconds: 32 filters of 3
# × 3, a pool, a hidden layer of 128 units, ten logits. We train it with **Adam** (exercise
# 3 of notebook 01; notebook 07 looks inside), a learning rate that climbs for a moment and
# then fades along a cosine, and shifted pictures as before. Training stops early when three
# epochs bring no better validation loss, and the weights of the best epoch are restored.
# With `workers`, every core of the machine takes its share: each batch is cut into slices,
# and their gradients are added, in the same order however many cores there are.
#
# Before a long training, the two cheap tests: the first loss near $\ln 10$, and twenty
# pictures learnt by heart.


# %%
def one_convolution(rng):
    return nnlib.Sequential(
        [
            nnlib.Conv2d(1, 32, 3, padding=1, rng=rng),  # (N, 28, 28, 1) -> (N, 28, 28, 32)
            nnlib.MaxPool2d(2),  # (N, 14, 14, 32)
            nnlib.ReLU(),
            nnlib.Flatten(),  # (N, 6272)
            nnlib.Linear(14 * 14 * 32, 128, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(128, 10, rng=rng),
        ]
    )


def train(model, epochs, training_set=training_set, progress=True):
    return nnlib.fit(
        model,
        training_set,
        validation_set,
        optimizer=nnlib.Adam(model, lr=2e-3),
        schedule=nnlib.warmup_cosine(0.1),
        augment=nnlib.random_shift,
        epochs=epochs,
        batch_size=64,
        patience=3,
        rng=np.random.default_rng(SEED),
        progress=progress,
        workers=nnlib.cores(),
    )


model = one_convolution(np.random.default_rng(SEED))
first_loss, _ = nnlib.evaluate(model, train_images[:500], train_labels[:500])
print(f"first loss {first_loss:.3f}, ln 10 = {np.log(10):.3f}")

twenty = (train_images[:20], train_labels[:20])
by_heart = one_convolution(np.random.default_rng(SEED))
nnlib.fit(
    by_heart,
    twenty,
    twenty,
    optimizer=nnlib.Adam(by_heart),
    epochs=30,
    batch_size=20,
    rng=rng,
    progress=False,
)
loss, accuracy = nnlib.evaluate(by_heart, *twenty)
print(f"twenty pictures after 30 steps: loss {loss:.4f}, {accuracy:.0%} correct")
claim("thirty steps are enough to learn twenty pictures by heart", loss, at_most=0.1)

# %%
history = train(model, epochs=8)

# %% tags=["nbval-ignore-output"]
print(f"{sum(history.seconds):.0f} seconds, {np.median(history.seconds):.1f} an epoch")

# %% tags=["figure", "nbval-ignore-output"]
plots.show(
    plots.learning_curves(history, "One convolution on MNIST"),
    alt="Loss and accuracy by epoch for training and validation: both improve; "
    "validation is ahead at first.",
)

# %% [markdown]
# ## A second convolution
#
# After the first pool, a 3 × 3 kernel sees strokes instead of pixels: each of its inputs
# already stands for a patch. So let us put a second convolution there. Its input has 16
# channels, its output 32; after its pool only 7 × 7 positions are left, and the hidden
# layer, which held almost all weights, shrinks to a quarter.


# %%
def two_convolutions(rng):
    return nnlib.Sequential(
        [
            nnlib.Conv2d(1, 16, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Conv2d(16, 32, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Linear(7 * 7 * 32, 128, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(128, 10, rng=rng),
        ]
    )


deeper = two_convolutions(np.random.default_rng(SEED))
for name, network in (("one convolution", model), ("two convolutions", deeper)):
    print(
        f"{name:<17} {sum(param.size for _, param in network.named_parameters()):8,} "
        "weights and biases"
    )

# %%
deeper_history = train(deeper, epochs=8)

# %% tags=["nbval-ignore-output"]
print(
    f"{sum(deeper_history.seconds):.0f} seconds, "
    f"{np.median(deeper_history.seconds):.1f} an epoch"
)

# %% tags=["figure", "nbval-ignore-output"]
plots.show(
    plots.learning_curves(deeper_history, "Two convolutions on MNIST"),
    alt="Loss and accuracy by epoch for training and validation: both improve; "
    "validation is ahead at first.",
)

# %% [markdown]
# Minutes of work are worth keeping. Save the weights, load them into a fresh network that
# began with other random numbers, and ask both:

# %%
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "deeper.npz")
    deeper.save(path)
    loaded = two_convolutions(np.random.default_rng(SEED + 1))
    loaded.load(path)
same = np.array_equal(
    loaded.predict(validation_images[:100]), deeper.predict(validation_images[:100])
)
claim(
    "the network that was saved and loaded gives exactly the same logits", same, equals=True
)

# %% [markdown]
# ## The test set, once
#
# Both networks are finished, and nothing will be chosen any more. Now the test set:

# %%
test_logits = {
    "one convolution": model.predict(data.test_images),
    "two convolutions": deeper.predict(data.test_images),
}
accuracies = {}
for name, logits in test_logits.items():
    accuracies[name] = nnlib.accuracy(data.test_labels, logits.argmax(axis=1))
    errors = (logits.argmax(axis=1) != data.test_labels).sum()
    print(f"{name}: test accuracy {accuracies[name]:.2%} ({errors} errors)")

# %% [markdown]
# ## Look at the mistakes
#
# Of the deeper network: which digits does it confuse, how precise is it for each, and which
# pictures did it get wrong while being surest of itself?

# %%
predictions = test_logits["two convolutions"].argmax(axis=1)
matrix = nnlib.confusion_matrix(data.test_labels, predictions, 10)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.confusion_heatmap(
    matrix, data.class_names, "Two convolutions: errors on the test set"
)
plots.show(
    figure,
    alt="A ten by ten table of counts, nearly all of them on the diagonal; "
    "the errors off it are coloured.",
)

# %%
precision, recall = nnlib.precision_recall(matrix)
for k in range(10):
    print(f"digit {k}: precision {precision[k]:.2%}, recall {recall[k]:.2%}")

# %%
logits = test_logits["two convolutions"]
wrong = np.flatnonzero(predictions != data.test_labels)
probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)
surest = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:16]

# %% tags=["figure", "nbval-ignore-output"]
captions = [
    f"read {predictions[i]} ({probabilities[i].max():.0%})\ntrue {data.test_labels[i]}"
    for i in surest
]
figure = plots.image_grid(
    data.test_images[surest],
    captions,
    "What two convolutions still get wrong, the surest first",
)
plots.show(
    figure,
    alt="Up to sixteen misread test digits, each with what was read, "
    "how surely, and the true digit.",
)

# %% [markdown]
# Compare with the mistakes of notebook 01. Most of these would make you hesitate too.
#
# ## Your network reads your hand
#
# Draw a digit, and the network that you have just trained answers with every stroke.
# **Try** to write one that it can't make up its mind about. Then write a letter: what does
# it take it for, and how sure is it?

# %% tags=["figure"]
interactive.digit_pad(deeper, examples=data.test_images[:5])

# %% [markdown]
# Two things are worth a second look. The network never sees your drawing, but a small
# picture made of it as MNIST's were made, of the same size and in the middle: the only kind
# that it has learnt to read. And it knows ten answers and no eleventh, so a letter becomes
# a digit, sometimes a very sure one.
#
# The same pad is yours to give away: one file with all of your weights in it, which needs
# neither Python nor a connection. Send it to a friend.

# %%
reads = f"{accuracies['two convolutions']:.1%} of {len(data.test_labels):,} test digits"
interactive.save_page(
    deeper,
    "my_cnn.html",
    note=f"Trained in a notebook with two convolutions. It reads {reads}.",
    examples=data.test_images[:5],
    overwrite=True,
)
print("saved as my_cnn.html, in the folder of this notebook")

# %% [markdown]
# ## What it means

# %%
bar_one, bar_two = (0.989, 0.992) if full else (0.93, 0.93)
claim(
    f"one convolution reads at least {bar_one:.1%} of the test digits",
    accuracies["one convolution"],
    at_least=bar_one,
)
claim(
    f"two convolutions read at least {bar_two:.1%}",
    accuracies["two convolutions"],
    at_least=bar_two,
)

# %% [markdown]
# The report that this notebook answers reached 98.60 % with the first network, in 38 epochs
# on a GPU, stopped where the *test* set was best. Our convolution is that of the loops: the
# same multiplications in another order. What else changed is the recipe: Adam, shifted
# pictures, and a validation set that does the choosing.
#
# ## Exercises
#
# As in notebook 01: write your version over the line with `raise NotImplementedError`, run
# that cell, then the check at the end of the exercise. The folded cell between the two is a
# solution, and takes the place of yours if you run it.
#
# ### 1 · im2col for sounds
#
# A sound has one axis instead of two: $(N, T, C)$. Write its im2col (no padding; in a row,
# channels go innermost).


# %% tags=["exercise"]
def im2col_1d(x, kernel, stride):
    """x: (N, T, C). Return the rows (N*To, kernel*C)."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def im2col_1d(x, kernel, stride):
    _, T, C = x.shape
    starts = stride * np.arange((T - kernel) // stride + 1)
    return x[:, starts[:, None] + np.arange(kernel)].reshape(-1, kernel * C)


# %% tags=["check"]
cases = (((2, 9, 3), 3, 1), ((1, 7, 1), 2, 2), ((3, 8, 2), 4, 3), ((2, 5, 4), 5, 1))
for shape, kernel, stride in cases:
    sound = np.random.default_rng(kernel).normal(size=shape)
    given, case = sound.copy(), f"{shape}, kernel {kernel}, stride {stride}"
    got = im2col_1d(given, kernel, stride)
    # a picture one pixel wide
    right = reference.im2col(sound[:, :, None], (kernel, 1), (stride, 1))
    assert np.array_equal(given, sound), "the sound is changed in place: work on a copy"
    assert np.shape(got) == right.shape, f"{case}: {np.shape(got)}, expected {right.shape}"
    assert np.array_equal(got, right), f"{case}: the rows differ. Channels go innermost"
overlap = sum(stride < kernel for _, kernel, stride in cases)
print(f"passed: {len(cases)} sounds, in {overlap} of them patches overlap, every entry")

# %% [markdown]
# ### 2 · Holes in the kernel
#
# A *dilated* convolution leaves gaps of $g - 1$ pixels between the weights of its kernel,
# and so sees further for the same price: place $(i, j)$ lies on pixel
# $(r + g\,i,\; c + g\,j)$. Write its rows for stride 1 and no padding. (Which of the two
# ways needs fewer changes?)


# %% tags=["exercise"]
def im2col_dilated(x, kernel_size, gap):
    """x: (N, H, W, C). Return the rows (N*Ho*Wo, kh*kw*C); with gap=1 it is im2col."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def im2col_dilated(x, kernel_size, gap):
    (N, H, W, C), (kh, kw), (n, h, w, c) = x.shape, kernel_size, x.strides
    shape = (N, H - gap * (kh - 1), W - gap * (kw - 1), kh, kw, C)
    patches = np.lib.stride_tricks.as_strided(x, shape, (n, h, w, gap * h, gap * w, c))
    return patches.reshape(-1, kh * kw * C)


# %% tags=["check"]
cases = (((2, 8, 7, 3), (3, 3), 1), ((1, 9, 7, 2), (3, 2), 2), ((2, 7, 9, 1), (2, 3), 3))
for shape, (kh, kw), gap in cases:
    draw, case = np.random.default_rng(gap), f"kernel {kh} × {kw}, gap {gap}, x {shape}"
    x, W = draw.normal(size=shape), draw.normal(size=(kh, kw, shape[3], 4))
    # the same kernel with zeros in its holes
    spread = np.zeros((gap * (kh - 1) + 1, gap * (kw - 1) + 1, shape[3], 4))
    spread[::gap, ::gap] = W
    right = reference.im2col(x, spread.shape[:2]) @ spread.reshape(-1, 4)
    given = x.copy()
    rows, size = im2col_dilated(given, (kh, kw), gap), (len(right), kh * kw * shape[3])
    assert np.array_equal(given, x), "x is changed in place: work on a copy"
    assert np.shape(rows) == size, f"{case}: shape {np.shape(rows)}, expected {size}"
    assert np.allclose(rows @ W.reshape(-1, 4), right), (
        f"{case}: the patches hold the wrong pixels"
    )
holes = sum(gap > 1 for *_, gap in cases)
print(f"passed: {len(cases)} kernels, {holes} of them with holes, x never square")

# %% [markdown]
# ### 3 · A test without derivatives
#
# Write a function that says whether a `col2im` is the adjoint of an `im2col`, from inner
# products with random numbers alone.


# %% tags=["exercise"]
def is_adjoint(im2col, col2im):
    """Return True if <im2col(x), m> = <x, col2im(m)> for random x and m,
    with kernel (3, 2), stride 1, padding 1.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def is_adjoint(im2col, col2im):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 3))
    rows = im2col(x, (3, 2), 1, 1)
    m = rng.normal(size=rows.shape)
    return bool(np.isclose((rows * m).sum(), (x * col2im(m, x.shape, (3, 2), 1, 1)).sum()))


# %% tags=["check"]
def mean_of_copies(m, *rest):
    return col2im(m, *rest) / np.maximum(col2im(np.ones_like(m), *rest), 1)


def first_pixel_lost(m, *rest):
    x = col2im(m, *rest)
    x[0, 0, 0, 0] = 0
    return x


pairs = {
    "the pair of this notebook": (im2col, col2im, True),
    "the loops of nnlib.reference": (reference.im2col, reference.col2im, True),
    "both times 3": (lambda *a: 3 * im2col(*a), lambda *a: 3 * col2im(*a), True),
    "gradients 1 % too large": (im2col, lambda *a: 1.01 * col2im(*a), False),
    "a picture upside down": (im2col, lambda *a: col2im(*a)[:, ::-1], False),
    "rows in another order": (lambda *a: im2col(*a)[::-1], col2im, False),
    "gradients of zero": (im2col, lambda *a: 0 * col2im(*a), False),
    "the mean of the copies": (im2col, mean_of_copies, False),
    "the gradient of one pixel lost": (im2col, first_pixel_lost, False),
}
for what, (there, back, right) in pairs.items():
    got = is_adjoint(there, back)
    assert isinstance(got, bool | np.bool_), f"expected True or False, got {got!r}"
    assert got == right, f"it {'rejects' if right else 'accepts'} {what}"
adjoint = sum(right for *_, right in pairs.values())
print(f"passed: {len(pairs)} pairs, {adjoint} of them adjoint")

# %% [markdown]
# ### 4 · What does a network cost?
#
# Count the multiply-adds of one forward pass of a convolution, for one picture.


# %% tags=["exercise"]
def multiply_adds(height, width, kernel_size, in_channels, out_channels, stride, padding):
    """kernel_size, stride and padding are ints.
    Return the number of multiplications of a weight with an input.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def multiply_adds(height, width, kernel_size, in_channels, out_channels, stride, padding):
    Ho = (height + 2 * padding - kernel_size) // stride + 1
    Wo = (width + 2 * padding - kernel_size) // stride + 1
    return Ho * Wo * kernel_size**2 * in_channels * out_channels


# %% tags=["check"]
draw = np.random.default_rng(1)
sizes = draw.integers((5, 5, 1, 1, 1, 1, 0), (12, 12, 6, 5, 9, 4, 3), (40, 7)).tolist()
for height, width, kernel_size, c_in, c_out, stride, padding in sizes:
    # every entry of every row meets one weight of each kernel
    picture = np.zeros((1, height, width, c_in))
    rows = im2col(picture, (kernel_size, kernel_size), stride, padding)
    size = (height, width, kernel_size, c_in, c_out, stride, padding)
    got, right = multiply_adds(*size), rows.size * c_out
    assert got == right, f"multiply_adds{size} gave {got:,}, expected {right:,}"
oblong = sum(height != width for height, width, *_ in sizes)
print(f"passed: {len(sizes)} convolutions, {oblong} pictures of them not square")

# %% [markdown]
# ### 5 · An experiment: does a kernel need neighbours?
#
# Train the first network with kernels of 1, 3 and 5 pixels (the padding keeps the size) for
# three epochs on 3,000 pictures. **Predict first**: what can a kernel of one pixel not see?
#
# The check runs your experiment again, smaller and with another seed, and expects the
# numbers of its own. So begin alike: with `one_convolution(np.random.default_rng(seed))`,
# in which `layers[0]` gives way to a `Conv2d` that draws from another
# `np.random.default_rng(seed)`.


# %% tags=["exercise"]
def kernel_experiment(count=3000, epochs=3, seed=SEED):
    """Use train(model, epochs, few, progress=False) on the first `count` training pictures.
    Return {kernel_size: best validation accuracy} for 1, 3 and 5.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def kernel_experiment(count=3000, epochs=3, seed=SEED):
    few, scores = (train_images[:count], train_labels[:count]), {}
    for kernel_size in (1, 3, 5):
        model = one_convolution(np.random.default_rng(seed))
        model.layers[0] = nnlib.Conv2d(
            1, 32, kernel_size, padding=kernel_size // 2, rng=np.random.default_rng(seed)
        )
        history = train(model, epochs, few, progress=False)
        scores[kernel_size] = max(history.validation_accuracy)
    return scores


# %% tags=["check"]
# twice small, with other pictures and another seed each time
for count, seed in np.random.default_rng().integers(200, 400, (2, 2)).tolist():
    few = (train_images[:count], train_labels[:count])
    small = kernel_experiment(count, 1, seed)
    for size in (1, 3, 5):
        model, again = (
            one_convolution(np.random.default_rng(seed)),
            np.random.default_rng(seed),
        )
        model.layers[0] = nnlib.Conv2d(1, 32, size, padding=size // 2, rng=again)
        right = max(train(model, 1, few, progress=False).validation_accuracy)
        assert np.isclose(small.get(size, -1), right, atol=1e-3), (
            f"{count} pictures, 1 epoch, seed {seed}: your number for kernel size {size} "
            "is not that of the experiment. Does it use count, epochs and seed?"
        )
scores = kernel_experiment()
assert set(scores) == {1, 3, 5}, f"expected the keys 1, 3 and 5, got {sorted(scores)}"
for kernel_size, score in scores.items():
    print(f"kernel of {kernel_size} × {kernel_size}: {score:.2%} on validation")
claim(
    "a kernel that sees neighbours beats one that sees a single pixel",
    max(scores[3], scores[5]) - scores[1],
    at_least=0.005,
)
print(f"passed: twice {len(small)} accuracies with another size and seed, one claim")

# %% [markdown]
# ### 6 · An explanation: who needs col2im?
#
# Of the three gradients of a convolution, which pass through `col2im`? Name them in a set;
# then say in two sentences why the first layer of a network never calls it.


# %% tags=["exercise"]
def needs_col2im():
    """Return a set with some of "dx", "dW" and "db"."""
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# Only $dx$. The weights and the bias were never copied: they stand in one place, and their
# gradients are sums over all rows, which the matrix product does. The pixels were copied,
# so their gradients must be brought home. But in the first layer the input is the picture
# itself, and nobody wants to change that; so its $dx$ is not computed at all, and `col2im`
# is never called. (Notebook 06 does ask for it: which picture excites the network most?)


# %% tags=["solution"]
def needs_col2im():
    return {"dx"}


# %% tags=["check"]
answer = needs_col2im()
assert isinstance(answer, set), f'expected a set like {{"db"}}, got {answer!r}'
draw, kept = np.random.default_rng(1), col2im
x, W = draw.normal(size=(2, 5, 6, 2)), draw.normal(size=(3, 3, 2, 2))
dout = draw.normal(size=(2, 3, 4, 2))
gradients = conv_backward(dout, x, W, 1, 0)
try:
    # a col2im that forgets everything
    col2im = lambda rows, x_shape, *rest: np.zeros(x_shape)  # noqa: E731
    without = conv_backward(dout, x, W, 1, 0)
finally:
    col2im = kept
changed = {
    name
    for name, right, broken in zip(("dx", "dW", "db"), gradients, without, strict=True)
    if not np.array_equal(right, broken)
}
assert answer == changed, (
    f"not yet: you say {sorted(answer)}. Take col2im out of conv_backward: "
    "which of the three can still be right?"
)
print(f"passed: that is what happens to the {len(gradients)} gradients without col2im")

# %% [markdown]
# ## What moved into nnlib
#
# `im2col`, `col2im`, `Conv2d`, `MaxPool2d` (and `AvgPool2d`); the tests hold them against
# your loops and PyTorch. A convolution shares its weights over *space*. In **04 ·
# Back-propagation through time**, a network shares them over *time*, and reads a picture
# like a book: row by row.
