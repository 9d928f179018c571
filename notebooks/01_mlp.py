# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · A neural network from two matrices
#
# **What you will build.** A network that reads handwritten digits, in nothing but NumPy:
# two matrices, one `max(x, 0)` between them, and the few lines that let it learn from its
# mistakes. We derive every gradient, and prove it right before we use it, and end with a
# network that reads more than 98 of 100 digits it has never seen. The digits below are the
# sixteen mistakes it is surest of. Would you have read them better?
#
# ![The mistakes that the finished network is surest of: what it read, and the true
# digit](images/01_mlp.png)
#
# **What you need.** Python, matrix products, and the idea of a derivative. The chain rule
# comes back as we go.
#
# **How long it takes.** A minute or two of computing on a laptop with two cores; for you,
# an evening.
#
# **How to read it.** Run the cells from top to bottom. Lines that begin with `claim holds:`
# are sentences of the text tied to a measured number: if the number ever says otherwise,
# the notebook stops right there.

# %%
import math
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
    random_shift,
)

# another seed, another run: the claims must hold all the same
SEED = int(os.environ.get("NNLIB_SEED", 0))
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## The data: 70,000 handwritten digits
#
# MNIST holds 60,000 digits to learn from (the *training set*) and 10,000 others to be
# judged on (the *test set*). Each is a grey picture of 28 × 28 pixels, with values from 0
# (black) to 255 (white), and a label: the digit that it shows.

# %%
data = load_dataset("mnist")
# without the full data set a small sample stands in, and less is asked of it
full = data.source != "sample"
print("training images", data.train_images.shape, data.train_images.dtype)
labels = data.train_labels
print("training labels", labels.shape, "from", labels.min(), "to", labels.max())
print("test images    ", data.test_images.shape)

# %% tags=["figure", "nbval-ignore-output"]
first = [f"label {label}" for label in data.train_labels[:16]]
figure = plots.image_grid(
    data.train_images[:16], first, "The first sixteen training digits"
)
plots.show(
    figure,
    alt="Sixteen handwritten digits, white on black, in two rows, "
    "each with its label above it.",
)

# %% [markdown]
# Is every digit there equally often? If one digit made up half of the data, always
# answering that digit would already be right half of the time. Count before you celebrate:

# %%
counts = np.bincount(data.train_labels, minlength=10)
print("images of each digit:", counts)
print(
    f"always answering {counts.argmax()} would be right "
    f"{counts.max() / counts.sum():.1%} of the time"
)

# %% [markdown]
# ## Three sets, not two
#
# We will make many choices: how many units, how fast to learn, when to stop. Whoever makes
# such choices by looking at the test set is like a student who has seen the exam: the mark
# says little about the next exam. So we cut a **validation set** from the training images,
# make every choice on it, and read the test set *once*, at the very end.

# %%
training_set, validation_set = data.split(1 / 12, rng)
train_images, train_labels = training_set
validation_images, validation_labels = validation_set
print("training:  ", train_images.shape)
print("validation:", validation_images.shape)

# %% [markdown]
# ## Predict first
#
# The network will turn the 784 pixels of a picture into 512 numbers, and those into 10
# scores, one for each digit. Before you run on, write down what you expect. A wrong guess
# is worth more than none: you will remember the answer.
#
# (The **loss** is one number that says how wrong the network is: 0 is perfect. A **bias**
# is a number that is added to an output, whatever the input.)

# %%
# how many numbers must the network learn? (two matrices, and a bias for each output)
my_parameters = 10_000
# its loss before any training, when it only guesses among ten digits
my_first_loss = 1.0
# the fraction of test digits that it reads correctly in the end
my_accuracy = 0.90

# %% [markdown]
# ## The plan of the network
#
# A **linear layer** multiplies its input by a matrix of weights $W$ and adds a bias $b$:
# every output is a weighted sum of all inputs. Two of them in a row would still be one
# weighted sum, so between the two we put something that is not linear: **ReLU**, which
# keeps what is positive and turns everything else into 0. The ten outputs are called
# **logits**: scores, one a digit; the highest is the answer. We always compute a whole
# batch of $N$ pictures at once, one picture a row.

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.flow_diagram(
    boxes=[
        "pixels\nx\n(N, 784)",
        "hidden sums\nz1\n(N, 512)",
        "hidden units\nh\n(N, 512)",
        "logits\nz2\n(N, 10)",
        "loss\n1 number",
    ],
    forward=["x W1 + b1", "max(z1, 0)", "h W2 + b2", "cross-\nentropy"],
    backward=["dW1, db1", "dz1", "dh\n(dW2, db2)", "dz2"],
    title="The network: forward from pixels to the loss (blue), "
    "and the gradients on their way back (orange)",
)
plots.show(
    figure,
    alt="Boxes from left to right: pixels (N, 784), hidden sums (N, 512), hidden units (N, "
    "512), logits (N, 10), the loss. Blue arrows to the right carry the forward formulas, "
    "orange arrows to the left the gradients.",
)

# %% [markdown]
# What does the ReLU buy? Here is a smaller world: two inputs instead of 784, so that all
# possible inputs fit on one sheet, and two classes, circles and triangles. Two networks
# learn to tell them apart; all that differs is the ReLU between their two layers.
#
# **Try it.** Before you press *Play*: what shapes can the black boundary take, on the left
# and on the right? Then choose 16 hidden units. Does the network without ReLU get further?

# %% tags=["figure"]
interactive.folding_plane()

# %% [markdown]
# Without ReLU the boundary is a straight line in every epoch, with two units or sixteen:
# two weighted sums in a row are one. With ReLU it bends, and it bends only where it crosses
# a dotted line. Each of these belongs to one hidden unit: on one side the unit is silent,
# on the other it joins in. The plane has a crease there, and learning moves the creases.

# %% [markdown]
# ## The linear layer, forward
#
# For sample $n$ and output $m$: multiply each of the $D$ inputs by its own weight, add them
# up, add the bias.
#
# $$y_{nm} = \sum_{d=1}^{D} x_{nd}\, W_{dm} + b_m$$
#
# A sum over a shared index $d$ is a matrix product, so the whole batch is one line:
# $y = xW + b$.


# %%
def linear_forward(x, W, b):
    """x: (N, D), W: (D, M), b: (M,). Returns (N, M)."""
    return x @ W + b


# %% [markdown]
# Always check the shape before anything else. Three samples of five numbers, two outputs:

# %%
print(linear_forward(np.ones((3, 5)), np.ones((5, 2)), np.array([0.0, 10.0])))

# %% [markdown]
# ## The linear layer, backward
#
# Learning asks one question of every number in the network: *if you were a little larger,
# how much would the loss change?* That is the derivative of the loss, and we write it with
# a `d` in front: `dW` is an array of the shape of $W$ that holds
# $\partial\,\text{loss} / \partial W_{dm}$ for every entry. All these derivatives together
# are the **gradient**.
#
# Suppose that the layers after this one have already told us the derivatives for our
# output, called `dout` in the code and $dy$ in the formulas:
# $dy_{nm} = \partial\, \text{loss}/\partial y_{nm}$. The **chain rule** says: a number acts
# on the loss through all that it touches, so add up, over everything it touches, *how much
# that changes* times *how much the loss cares*.
#
# * $W_{dm}$ touches $y_{nm}$ in every sample $n$, with slope $x_{nd}$. Hence
#   $dW_{dm} = \sum_n x_{nd}\, dy_{nm}$.
# * $b_m$ touches $y_{nm}$ in every sample, with slope 1. Hence $db_m = \sum_n dy_{nm}$.
# * $x_{nd}$ touches all outputs $y_{nm}$ of its own sample, with slope $W_{dm}$. Hence
#   $dx_{nd} = \sum_m dy_{nm}\, W_{dm}$.
#
# Read as matrix products (which index is summed away?), these are
#
# $$dW = x^\top dy, \qquad db = \sum_n dy_n, \qquad dx = dy\, W^\top .$$
#
# If you ever forget where the transpose goes, look at the shapes: unless $W$ is square,
# only one order fits.


# %%
def linear_backward(dout, x, W):
    """dout: (N, M). Returns dx (N, D), dW (D, M), db (M,)."""
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


# %% [markdown]
# Is it right? A formula that looks right is how most bugs look. `checks.linear` calls both
# functions on shapes where the classic mistakes show (a square $W$, for one: there a
# forgotten transpose does not change the shape). If all is well, it says what it tried.

# %%
checks.linear(linear_forward, linear_backward)

# %% [markdown]
# And if it is not? Here is a function that forgets the transpose where nothing stops it:
# for a square $W$. The check says what is wrong, not only that something is:


# %%
def forgetful_backward(dout, x, W):
    # with a W that is not square NumPy would complain about the shapes; with a square one
    # it computes nonsense
    return dout @ (W if W.shape[0] == W.shape[1] else W.T), x.T @ dout, dout.sum(axis=0)


try:
    checks.linear(linear_forward, forgetful_backward)
except nnlib.CheckFailed as failure:
    print(failure)

# %% [markdown]
# ## ReLU
#
# $\text{relu}(x) = \max(x, 0)$. Its slope is 1 where $x > 0$ and 0 where $x < 0$. At
# exactly 0 there is a corner, and we choose 0. So on the way back the gradient passes where
# the input was positive, and is stopped everywhere else.


# %%
def relu_forward(x):
    return np.maximum(x, 0)


def relu_backward(dout, x):
    return dout * (x > 0)


checks.relu(relu_forward, relu_backward)

# %% tags=["figure", "nbval-ignore-output"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), sharex=True)
x = np.linspace(-2, 2, 401)
left.plot(x, relu_forward(x))
left.set(title="ReLU", xlabel="input x", ylabel="output max(x, 0)")
right.plot(x, relu_backward(np.ones_like(x), x))
right.set(title="Its slope: all or nothing", xlabel="input x", ylabel="derivative")
plots.show(
    figure,
    alt="Left: ReLU, flat at 0 for negative inputs and rising with slope 1 for positive "
    "ones. Right: its derivative, a step from 0 to 1 at 0.",
)

# %% [markdown]
# ## From scores to one number: softmax and cross-entropy
#
# Ten scores are not yet a loss. First make them **probabilities**: positive, and
# together 1. Softmax does it by exponentials, so that a difference of scores becomes a
# ratio of probabilities. For one picture with logits $z$:
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}$$
#
# Then ask only one thing: which probability did the *true* digit $y$ get? The
# **cross-entropy** is $-\log p_y$: zero if the network was certain and right, large if it
# was certain and wrong. The loss of a batch is the mean over its samples, measured in
# *nats* (the unit that goes with the natural logarithm).
#
# Computed as written, this fails: $e^{1000}$ overflows, and $\log 0$ is minus infinity. But
# only differences of scores matter, so we may subtract the largest score $m$ of each row,
# and take the logarithm on paper:
#
# $$\log p_k = (z_k - m) - \log \sum_j e^{z_j - m}, \qquad m = \max_j z_j$$
#
# The gradient is the nicest result of this notebook. The loss of one sample is
# $-z_y + \log \sum_j e^{z_j}$. Its first part has slope $-1$ for $z_y$ and 0 for the
# others; its second part has slope $e^{z_k} / \sum_j e^{z_j} = p_k$. Together:
#
# $$dz_k = p_k - \text{onehot}_k, \qquad
# \text{onehot}_k = 1 \text{ for } k = y \text{ and } 0 \text{ otherwise}$$
#
# *What the network believed, minus what is true.* Divided by $N$, because the loss is a
# mean.


# %%
def cross_entropy(logits, labels):
    """logits: (N, K), labels: (N,) integers. Returns the mean loss and dlogits (N, K)."""
    n = len(logits)
    # the largest score of each row becomes 0
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = (np.log(sums[:, 0]) - shifted[np.arange(n), labels]).mean()
    dlogits = exponentials / sums  # what the network believes ...
    dlogits[np.arange(n), labels] -= 1  # ... minus what is true
    return loss, dlogits / n


checks.cross_entropy(cross_entropy)

# %% [markdown]
# Try it on one picture with three classes. The network believes mostly in class 0, but
# class 1 is true:

# %%
loss, dlogits = cross_entropy(np.array([[2.0, 1.0, 0.0]]), np.array([1]))
print(f"loss {loss:.4f}, gradient {dlogits.round(4)}")

# %% [markdown]
# Going downhill means going against the gradient: the score of the true class rises (its
# gradient is negative), the others sink, and the one that was believed most sinks most.
#
# **Try it.** Here are the same three logits, on sliders. Take a few steps downhill. Then
# add the same number to all of them: what moves? Go on to 1000, and look at the loss that
# is computed as the formula is written.

# %% tags=["figure"]
interactive.softmax_explorer(np.array([2.0, 1.0, 0.0]), label=1)

# %% [markdown]
# Each step moves every score by its own `dz`, and these always add up to 0: what the true
# class gains, the others lose. A number added to all changes nothing, because only
# differences count; but beyond 709 the exponentials are larger than a float64 can hold, and
# infinity divided by infinity is `NaN`. The code above subtracts the largest score first,
# and never notices. *Dividing* all scores by 2 does matter: it leaves the network less sure
# of its answer.
#
# ## The whole network
#
# The weights begin as random numbers. How large should they be? If they are independent,
# with mean zero and variance $\sigma^2$, then the mean square of a sum over 784 pixels is
# $784\,\sigma^2$ times that of a pixel; ReLU then throws away half of it. With
# $\sigma^2 = 2/784$ the signal leaves the layer as large as it came. This is **He
# initialization**, after Kaiming He. Near the end of this notebook you will see what other
# choices do.


# %%
def new_params(rng, hidden=512, spread=None):
    """Weights and biases of 784 -> hidden -> 10;
    `spread` is their standard deviation (He's if it is None).
    """

    def draw(inputs, outputs):
        std = np.sqrt(2 / inputs) if spread is None else spread
        return rng.normal(0, std, (inputs, outputs)).astype(np.float32)

    biases = {"b1": np.zeros(hidden, np.float32), "b2": np.zeros(10, np.float32)}
    return {"W1": draw(784, hidden), "W2": draw(hidden, 10)} | biases


def forward(params, x):
    """x: (N, 784) floats. Returns the logits (N, 10), and what the way back will need."""
    z1 = linear_forward(x, params["W1"], params["b1"])
    h = relu_forward(z1)
    return linear_forward(h, params["W2"], params["b2"]), (x, z1, h)


def backward(params, cache, dlogits):
    """Walk back from the loss to every weight:
    the same steps as forward, in the opposite order.
    """
    x, z1, h = cache
    dh, dW2, db2 = linear_backward(dlogits, h, params["W2"])
    dz1 = relu_backward(dh, z1)
    # linear_backward without dx: nobody asks for the gradient of a pixel
    dW1, db1 = x.T @ dz1, dz1.sum(axis=0)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


params = new_params(np.random.default_rng(SEED))
for name, array in params.items():
    print(f"{name}: {array.shape!s:>10}  {array.size:7,} numbers")
parameters = sum(array.size for array in params.values())
print(f"{parameters:,} in all; you predicted {my_parameters:,}")

# %% [markdown]
# ### The test: nudge every weight
#
# A derivative is what happens to the loss when a number changes a little. So change it a
# little, and look:
#
# $$\frac{\partial L}{\partial w} \approx
# \frac{L(w + \epsilon) - L(w - \epsilon)}{2\epsilon}$$
#
# for the loss $L$ and a small $\epsilon$, here 0.00001.
#
# This takes two forward passes *for each weight*, far too slow for training, but it uses
# none of our derivations. On a tiny network, in float64, it must agree with
# back-propagation to many digits, biases and all.


# %%
def gradient_check(rng):
    tiny = {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}
    # float64, and biases that are not 0
    tiny = {name: rng.normal(size=shape) for name, shape in tiny.items()}
    x, labels = rng.normal(size=(6, 4)), np.array([0, 1, 2, 2, 1, 0])
    logits, cache = forward(tiny, x)
    gradients = backward(tiny, cache, cross_entropy(logits, labels)[1])
    worst = 0.0
    for name, array in tiny.items():
        # numerical_gradient changes each entry of `array` in place (and puts it back), so
        # forward sees it
        def loss_now(_, x=x):
            return cross_entropy(forward(tiny, x)[0], labels)[0]

        difference = np.abs(gradients[name] - numerical_gradient(loss_now, array)).max()
        print(f"d{name}: {array.size:2} entries, largest difference {difference:.0e}")
        worst = max(worst, difference)
    return worst


worst = gradient_check(np.random.default_rng(SEED))
claim(
    "back-propagation agrees with the nudged loss to eight decimal places",
    worst,
    at_most=1e-8,
)

# %% [markdown]
# ## Sanity before training
#
# Two tests catch most of what can still be wrong, in seconds rather than hours.
#
# **The first loss.** Before training the network knows nothing. A network that knows
# nothing gives each of ten digits a probability of about 1/10, and
# $-\log(1/10) = \ln 10 \approx 2.30$. (He's weights let it have opinions by chance, so
# expect a little more.)


# %%
def to_rows(images):
    """uint8 images (N, 28, 28, 1) to float32 rows (N, 784) between 0 and 1."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


logits, _ = forward(params, to_rows(train_images[:1000]))
first_loss, _ = cross_entropy(logits, train_labels[:1000])
print(
    f"first loss {first_loss:.4f}; ln 10 = {np.log(10):.4f}; "
    f"you predicted {my_first_loss:.2f}"
)
claim(
    "an untrained network is as good as guessing: its loss is ln 10, give or take 0.4",
    first_loss,
    at_least=1.9,
    at_most=2.7,
)

# %% [markdown]
# **Twenty samples by heart.** Four hundred thousand weights must be able to learn twenty
# pictures by heart. If the loss does not go to zero here, something is broken, and no
# amount of data will mend it. Each step moves every weight a little against its gradient:
# plain **gradient descent**, with the *learning rate* 0.1 as the length of the step.

# %%
small = new_params(np.random.default_rng(SEED))
x20, labels20 = to_rows(train_images[:20]), train_labels[:20]
losses = []
for _ in range(300):
    logits, cache = forward(small, x20)
    loss, dlogits = cross_entropy(logits, labels20)
    losses.append(loss)
    for name, gradient in backward(small, cache, dlogits).items():
        small[name] -= 0.1 * gradient
for step in (0, 1, 10, 100, 299):
    print(f"loss before step {step + 1:3d}: {losses[step]:.4f}")
print(f"{(logits.argmax(axis=1) == labels20).sum()} of 20 correct")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7, 3))
axes.semilogy(losses)
axes.axhline(np.log(10), color="grey", linestyle=":", label="knowing nothing: ln 10")
axes.set(title="Twenty pictures learnt by heart", xlabel="step", ylabel="loss (nats)")
axes.legend()
plots.show(
    figure,
    alt="The loss on twenty pictures, on a logarithmic axis, falls from about ln 10 by "
    "more than two orders of magnitude within 300 steps.",
)

# %% [markdown]
# ## How to train: four small ideas
#
# **Batches.** One step over all training pictures would be accurate but slow. A batch of
# 64, drawn at random, gives a rough direction, and hundreds of steps in the same time. An
# *epoch* is once through all pictures, in a new order each time. The last batch of an epoch
# is smaller, but it is still a step.
#
# **Momentum.** Rough directions zigzag. Let a *velocity* remember: keep 0.9 of the old one,
# add the new gradient, and move by the velocity. What zigzags cancels, what persists adds
# up.
#
# **A learning rate that fades.** Long steps at first, to get there; short ones in the end,
# to settle. Along half a cosine the rate falls from 0.1 to 0.
#
# **Pictures that were never taken.** A seven moved by two pixels is still a seven, but to
# our network each pixel is its own input, and a moved picture is news. So in every epoch we
# move each training picture by up to two pixels at random: `random_shift`. It needs no new
# labels. (Exercise 5 measures what it buys.)

# %%
one_picture = train_images[:1]
shifted = random_shift(np.repeat(one_picture, 7, axis=0), np.random.default_rng(1))

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.image_grid(
    np.concatenate([one_picture, shifted]),
    ["as it is"] + ["shifted"] * 7,
    "One training picture, as eight epochs might see it",
)
plots.show(
    figure,
    alt="The same handwritten digit eight times, "
    "the last seven each moved by up to two pixels.",
)

# %% [markdown]
# Here is the loop. It prints one line an epoch and keeps a **copy** of the weights whenever
# the validation loss is the lowest so far. (A copy: `best = params` would only be another
# name for the arrays that go on changing.)


# %%
def evaluate(params, images, labels):
    """Return the mean loss and the accuracy, batch by batch, which saves memory."""
    loss, correct = 0.0, 0
    for start in range(0, len(images), 500):
        batch = labels[start : start + 500]
        logits, _ = forward(params, to_rows(images[start : start + 500]))
        # the mean of a smaller batch weighs less
        loss += cross_entropy(logits, batch)[0] * len(batch)
        correct += (logits.argmax(axis=1) == batch).sum()
    return loss / len(labels), correct / len(labels)


def momentum_step(params, gradients, velocity, lr):
    """Change velocity and params in place."""
    for name in params:
        velocity[name] *= 0.9
        velocity[name] += gradients[name]
        params[name] -= lr * velocity[name]


def train(
    params,
    train_set,
    validation_set,
    rng,
    epochs,
    base_lr=0.1,
    batch_size=64,
    pixels=2,
    progress=True,
):
    """Train `params` in place by momentum;
    return the history and a copy of the best weights on validation.
    """
    images, labels = train_set
    history = nnlib.History()
    velocity = {name: np.zeros_like(array) for name, array in params.items()}
    steps = math.ceil(len(images) / batch_size)  # rounded up: the last batch may be smaller
    best = None
    if progress:
        print("epoch   train loss  accuracy   validation loss  accuracy   learning rate")
    for epoch in range(epochs):
        began, total_loss, correct = time.perf_counter(), 0.0, 0
        order = rng.permutation(len(images))  # a new order in every epoch
        step_numbers = range(steps)
        if progress:
            step_numbers = tqdm(step_numbers, desc=f"epoch {epoch + 1}", leave=False)
        for step in step_numbers:
            rows = order[step * batch_size : (step + 1) * batch_size]
            batch, batch_labels = images[rows], labels[rows]
            if pixels:
                batch = random_shift(batch, rng, pixels)
            logits, cache = forward(params, to_rows(batch))
            loss, dlogits = cross_entropy(logits, batch_labels)
            gradients = backward(params, cache, dlogits)
            lr = base_lr * (
                0.5 + 0.5 * math.cos(math.pi * (epoch * steps + step) / (epochs * steps))
            )
            momentum_step(params, gradients, velocity, lr)
            total_loss += loss * len(rows)  # a smaller batch counts less
            correct += (logits.argmax(axis=1) == batch_labels).sum()
        validation_loss, validation_accuracy = evaluate(params, *validation_set)
        history.train_loss.append(total_loss / len(images))
        history.train_accuracy.append(correct / len(images))
        history.validation_loss.append(validation_loss)
        history.validation_accuracy.append(validation_accuracy)
        history.lr.append(lr)
        history.seconds.append(time.perf_counter() - began)
        if best is None or validation_loss < history.validation_loss[history.best_epoch]:
            history.best_epoch = epoch
            best = {name: array.copy() for name, array in params.items()}
        if progress:
            print(history.row(epoch))
    return history, best


# %% [markdown]
# ## Training on all of MNIST
#
# 20 epochs. A star marks an epoch with the lowest validation loss so far. Notice that at
# first the training accuracy is *below* the validation accuracy: training pictures are
# shifted, which makes them harder, and they are counted while the network is still
# learning.

# %%
params = new_params(np.random.default_rng(SEED))
history, best = train(
    params, training_set, validation_set, np.random.default_rng(SEED), epochs=20
)
print(f"kept: the weights of epoch {history.best_epoch + 1}")

# %% tags=["nbval-ignore-output"]
print(
    f"trained in {sum(history.seconds):.0f} seconds, "
    f"{np.median(history.seconds):.1f} an epoch"
)

# %% tags=["figure", "nbval-ignore-output"]
plots.show(
    plots.learning_curves(history, "Two layers on MNIST"),
    alt="Loss and accuracy by epoch. Both curves improve fast at first and slowly to the "
    "end; the validation curve is ahead at first, and the training curve overtakes it.",
)

# %% [markdown]
# ## The test set, once
#
# All choices are made: the weights are those of the best epoch on *validation*. Now, and
# only now, the test set:

# %%
test_rows = to_rows(data.test_images)
test_logits = forward(best, test_rows)[0]
predictions = test_logits.argmax(axis=1)
accuracy = nnlib.accuracy(data.test_labels, predictions)
print(
    f"test accuracy {accuracy:.2%} ({(predictions != data.test_labels).sum()} errors); "
    f"you predicted {my_accuracy:.0%}"
)

# %% [markdown]
# ## Look at the mistakes
#
# One number hides a lot. The **confusion matrix** shows which digits are taken for which: a
# row for each true digit, a column for each answer. The diagonal is what went well; only
# the errors are coloured.

# %%
matrix = nnlib.confusion_matrix(data.test_labels, predictions, 10)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.confusion_heatmap(
    matrix, data.class_names, "Where the network errs on the test set"
)
plots.show(
    figure,
    alt="A ten by ten table of counts. Almost all test digits lie on the diagonal; "
    "the errors off it are coloured by their number.",
)

# %% [markdown]
# Two questions can be asked of each digit. **Precision**: when the network says 8, how
# often is it an 8? (down a column). **Recall**: of all the true 8s, how many does it find?
# (along a row).

# %%
precision, recall = nnlib.precision_recall(matrix)
for k in range(10):
    print(f"digit {k}: precision {precision[k]:.2%}, recall {recall[k]:.2%}")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(9, 3))
axes.plot(100 * precision, "o", label="precision")
axes.plot(100 * recall, "s", label="recall")
axes.set(
    title="Precision and recall of each digit", xlabel="digit", ylabel="%", xticks=range(10)
)
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Two marks for each digit from 0 to 9: its precision and its recall, in percent.",
)

# %% [markdown]
# And here are the mistakes themselves, those first that the network was surest of. Some it
# should have got right. In others you may take its side.

# %%
wrong = np.flatnonzero(predictions != data.test_labels)
shifted_logits = test_logits - test_logits.max(axis=1, keepdims=True)
probabilities = np.exp(shifted_logits) / np.exp(shifted_logits).sum(axis=1, keepdims=True)
surest = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:16]

# %% tags=["cover", "figure", "nbval-ignore-output"]
captions = [
    f"read {predictions[i]} ({probabilities[i].max():.0%})\ntrue {data.test_labels[i]}"
    for i in surest
]
figure = plots.image_grid(
    data.test_images[surest], captions, "The sixteen mistakes the network is surest of"
)
plots.show(
    figure,
    alt="Sixteen misread test digits, each with what the network read, "
    "how sure it was, and the true digit.",
)

# %% [markdown]
# ## Your network reads your hand
#
# The network is yours, so write to it. For that we put its four arrays into the layers of
# `nnlib`, which compute just what our functions do (the end of this notebook proves it).

# %%
network = nnlib.Sequential(
    [
        nnlib.Flatten(),
        nnlib.Linear(784, 512, rng=np.random.default_rng(SEED)),
        nnlib.ReLU(),
        nnlib.Linear(512, 10, rng=np.random.default_rng(SEED)),
    ]
)
network.set_weights(
    {"1.W": best["W1"], "1.b": best["b1"], "3.W": best["W2"], "3.b": best["b2"]}
)

# %% [markdown]
# **Try it.** Draw a digit, and watch the ten bars with every stroke: when does it make up
# its mind? Can you draw a 7 that it takes for a 1, and mend it with one more stroke? The
# buttons load five of the mistakes from above.

# %% tags=["figure"]
interactive.digit_pad(network, examples=data.test_images[surest[:5]])

# %% [markdown]
# The network never sees your drawing. It sees the small picture beside it, made as MNIST's
# digits were made: of one size, and in the middle. It has learnt to read nothing else. And
# it has no word for "none of these": the ten probabilities add up to 1 for a half-finished
# stroke too.
#
# A network is only numbers, so it can travel. This cell writes yours, with the pad, into
# one file that needs neither Python nor a connection. Send it to a friend:

# %%
interactive.save_page(
    network,
    "my_network.html",
    note=f"Two matrices, trained in a notebook: they read {accuracy:.1%} of "
    f"{len(data.test_labels):,} digits that they had never seen.",
    overwrite=True,
)
size = os.path.getsize("my_network.html")
print(f"my_network.html, in the folder of this notebook: {size / 1e6:.1f} MB")

# %% [markdown]
# ## What it has learnt
#
# Each hidden unit has 784 incoming weights, one a pixel, so they can be drawn as a picture.
# Red pixels speak for the unit, blue ones against it. Below are the twenty-four units with
# the largest outgoing weights. They are not digits: they are strokes, edges and gaps, the
# vocabulary that the second layer spells with. The margins of the pictures are almost
# always black, so the weights there have hardly moved from their random start: that is the
# faint speckle.

# %%
strongest = np.argsort(-np.linalg.norm(best["W2"], axis=1))[:24]
pictures = best["W1"][:, strongest].T.reshape(-1, 28, 28)

# %% tags=["figure", "nbval-ignore-output"]
figure = plots.weight_grid(
    pictures,
    [f"unit {i}" for i in strongest],
    "Incoming weights of the 24 strongest hidden units",
)
plots.show(
    figure,
    alt="Twenty-four pictures of weights in red and blue: "
    "each shows a few strokes or spots in the middle, and little at the rim.",
)

# %% [markdown]
# ## How should weights begin?
#
# He's rule came from a short argument about variances. Let us put it on trial against two
# rivals: a fixed small spread (0.01, which many old programs use) and plain zero. Same
# network (128 hidden units, to save your time), same 10,000 pictures in the same order,
# three epochs. **Predict first**: which one is fastest, and does the worst one get anywhere
# at all?


# %%
def first_steps(spread):
    """Train on 10,000 pictures for three epochs;
    return the spread of the hidden sums, all losses, and the accuracy.
    """
    rng = np.random.default_rng(SEED)
    params = new_params(np.random.default_rng(SEED), hidden=128, spread=spread)
    images, labels = train_images[:10_000], train_labels[:10_000]
    hidden_spread = forward(params, to_rows(images[:1000]))[1][1].std()
    losses = []
    for _ in range(3):
        order = rng.permutation(len(images))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            logits, cache = forward(params, to_rows(images[rows]))
            loss, dlogits = cross_entropy(logits, labels[rows])
            losses.append(loss)
            for name, gradient in backward(params, cache, dlogits).items():
                params[name] -= 0.1 * gradient
    return hidden_spread, np.array(losses), evaluate(params, *validation_set)[1]


starts = {"He": None, "0.01": 0.01, "zero": 0.0}
results = {name: first_steps(spread) for name, spread in starts.items()}
print(
    "weights   spread of hidden sums   mean loss of 20 steps   "
    "validation accuracy after 3 epochs"
)
for name, (hidden_spread, losses, score) in results.items():
    print(f"{name:>7} {hidden_spread:23.3f} {losses[:20].mean():23.3f} {score:35.2%}")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(8, 3.4))
for name, (_, losses, _) in results.items():
    smooth = np.convolve(losses, np.ones(10) / 10, mode="valid")
    axes.plot(np.arange(len(smooth)) + 10, smooth, label=name)
axes.axhline(np.log(10), color="grey", linestyle=":", label="knowing nothing")
axes.set(
    yscale="log",
    title="The first three epochs, by the weights they began with",
    xlabel="step",
    ylabel="loss (nats), mean of 10 steps",
)
axes.legend(title="first weights")
plots.show(
    figure,
    alt="Three curves of the loss. He falls at once, 0.01 follows after a delay, "
    "zero stays at the level of knowing nothing.",
)

# %% [markdown]
# *He's* weights start learning at once. Those of 0.01 whisper: the hidden sums are several
# times smaller (first column of the table), and it takes a while until the loss moves at
# all; after three epochs they are still slightly behind. *Zero* never learns anything but
# how often each digit occurs. Why? All hidden units are 0, so `dW2` is 0; and all outgoing
# weights are 0, so `dW1` is 0. Exercise 6 asks you to trace that by hand.
#
# ## What it means
#
# Three sentences carry this notebook. Each is bound to what was measured above.

# %%
bar = 0.984 if full else 0.90
claim(
    f"two layers read at least {bar:.1%} of test digits that no choice has ever looked at",
    accuracy,
    at_least=bar,
)
lead = results["0.01"][1][:20].mean() - results["He"][1][:20].mean()
claim(
    "in the first 20 steps He's weights are ahead of 0.01 by at least 0.2 nats",
    lead,
    at_least=0.2,
)
claim(
    "weights that begin at zero never get beyond 15 % on validation",
    results["zero"][2],
    at_most=0.15,
)

# %% [markdown]
# The reports that this course grew from reached 98.03 % with such a network in 50 epochs,
# and stopped where the *test* set was best. We took 20 epochs, looked only at validation,
# and shifted the pictures.
#
# What is still missing? The network has no idea that pixel (10, 10) is next to pixel (10,
# 11): shuffle all pixels in the same way and it would learn just as well. Notebook 02 gives
# it that idea.
#
# ## Exercises
#
# In each, replace the line with `raise NotImplementedError`, run the cell, then run the
# check at the end of the exercise. The folded cell between the two is a solution: open it
# when you have one of your own. (Run it, and it takes the place of yours. So while you
# work, run cells one by one.)
#
# ### 1 · A ReLU that leaks
#
# A unit whose input is negative for every picture gets no gradient and is dead for good.
# *Leaky* ReLU lets a little through: $y = x$ for $x > 0$ and $y = 0.1\,x$ otherwise. Write
# both directions.


# %% tags=["exercise"]
def leaky_forward(x):
    raise NotImplementedError("not written yet")


def leaky_backward(dout, x):
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def leaky_forward(x):
    return np.where(x > 0, x, 0.1 * x)


def leaky_backward(dout, x):
    return dout * np.where(x > 0, 1.0, 0.1)


# %% tags=["check"]
def by_three_points(x):  # the same function, as a line through three points
    return np.interp(x, (-100, 0, 100), (-10, 0, 100))


shapes = ((2, 3), (7,), (1, 1), (2, 1, 4, 3))
for shape in shapes:
    x = np.random.default_rng(len(shape)).normal(size=shape)
    given = x.copy()
    got = leaky_forward(given)
    assert np.array_equal(given, x), "leaky_forward changes x in place: work on a copy"
    assert np.shape(got) == shape, f"leaky_forward: {np.shape(got)} for a {shape} input"
    assert np.allclose(got, by_three_points(x)), (
        f"leaky_forward of\n{x}\nis\n{got}\nexpected\n{by_three_points(x)}"
    )
    checks.gradient(by_three_points, leaky_backward, x)
print(f"passed: {len(shapes)} shapes, each forward and backward")

# %% [markdown]
# ### 2 · A layer that squares
#
# Invent a layer: $y_{nm} = \sum_d x_{nd}^2\, W_{dm}$. Derive $dx$ and $dW$ with the
# question from above (what does it touch, and with which slope?) and write them.


# %% tags=["exercise"]
def square_backward(dout, x, W):
    """For forward(x, W) = x**2 @ W; return dx and dW."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def square_backward(dout, x, W):
    # x[n, d] touches y[n, m] with slope 2 x[n, d] W[d, m]; W[d, m] touches y[n, m] with
    # slope x[n, d]**2
    return 2 * x * (dout @ W.T), (x**2).T @ dout


# %% tags=["check"]
sizes = ((3, 4, 2), (4, 4, 4), (1, 3, 3), (5, 1, 2))
for n, d, m in sizes:
    draw = np.random.default_rng(n)
    x, W = draw.normal(size=(n, d)), draw.normal(size=(d, m))
    checks.gradient(lambda x, W: x**2 @ W, square_backward, x, W)
square = sum(d == m for _, d, m in sizes)
print(f"passed: dx and dW of {len(sizes)} sizes, {square} of them with a square W")

# %% [markdown]
# ### 3 · Adam
#
# Momentum keeps a running sum of gradients. *Adam* keeps a running mean $m$ of the
# gradients $g$ and another one, $v$, of their squares, and divides by the root of the
# second, so that every weight $w$ moves at its own pace:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad
# v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2, \qquad
# w \leftarrow w - \text{lr}\,
# \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}$$
#
# The numbers $\beta_1$ and $\beta_2$, a little below 1, say how much of the past is kept;
# $\epsilon$ only prevents a division by zero. The divisions by $1 - \beta^t$ repair a bias:
# $m$ and $v$ begin at zero and are too small at first ($t = 1$ is the first step).


# %% tags=["exercise"]
def adam_step(param, grad, m, v, t, lr, beta1, beta2, eps):
    """Return the new param, m and v."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def adam_step(param, grad, m, v, t, lr, beta1, beta2, eps):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return param - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


# %% tags=["check"]
checks.adam(adam_step)
print("passed: parameters of two shapes in turn, up to step 10, three settings")

# %% [markdown]
# ### 4 · Precision and recall
#
# Compute both from a confusion matrix (rows: truth, columns: answers), without a loop.


# %% tags=["exercise"]
def my_precision_recall(matrix):
    """matrix: (K, K) counts. Return precision (K,) and recall (K,)."""
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def my_precision_recall(matrix):
    correct = np.diag(matrix)
    return correct / matrix.sum(axis=0), correct / matrix.sum(axis=1)


# %% tags=["check"]
draw = np.random.default_rng(1)
sizes = (2, 3, 5, 10)
for size in sizes:
    matrix = draw.integers(1, 30, (size, size))
    # one row a sample
    truth, answer = np.repeat(np.argwhere(matrix).T, matrix.ravel(), axis=1)
    classes = np.arange(size)
    expected = {
        "precision": [np.mean(truth[answer == k] == k) for k in classes],
        "recall": [np.mean(answer[truth == k] == k) for k in classes],
    }
    given = matrix.copy()
    mine = my_precision_recall(given)
    assert np.array_equal(given, matrix), "matrix is changed in place: work on a copy"
    assert len(mine) == 2, f"expected two arrays, precision and recall; got {len(mine)}"
    for got, (name, right) in zip(mine, expected.items(), strict=True):
        assert np.shape(got) == (size,), f"{name} has shape {np.shape(got)}, not ({size},)"
        assert np.allclose(got, right), (
            f"{name} of\n{matrix}\nis {got}, expected {np.array(right)}. "
            "Columns are answers, rows are truth"
        )
print(f"passed: {len(sizes)} matrices, up to {max(sizes)} classes, counted one by one")

# %% [markdown]
# ### 5 · An experiment: what does shifting buy?
#
# Train a network of 128 hidden units on only 3,000 pictures for 15 epochs, with shifts of
# up to 0, 2 and 8 pixels. For each, return the validation accuracy of the epoch with the
# lowest validation loss. **Predict first**: is more always better?
#
# An experiment that nobody can repeat is a story. So write it as a function of its size and
# its seed: the check runs yours again, smaller and with another seed, and expects the same
# numbers as from its own. For that both must begin alike, with 0, 2 and 8 pixels: with the
# weights of `new_params(np.random.default_rng(seed), hidden=128)`, and with a second
# generator, also `np.random.default_rng(seed)`, for `train`.


# %% tags=["exercise"]
def shift_experiment(count=3000, epochs=15, seed=SEED):
    """Train on the first `count` training pictures, with progress=False.
    Return {pixels: validation accuracy} for 0, 2 and 8 pixels.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def shift_experiment(count=3000, epochs=15, seed=SEED):
    few = (train_images[:count], train_labels[:count])
    scores = {}
    for pixels in (0, 2, 8):
        params = new_params(np.random.default_rng(seed), hidden=128)
        rng = np.random.default_rng(seed)
        history, _ = train(
            params, few, validation_set, rng, epochs, pixels=pixels, progress=False
        )
        scores[pixels] = history.validation_accuracy[history.best_epoch]
    return scores


# %% tags=["check"]
# twice small, with other pictures and another seed each time
for count, seed in np.random.default_rng().integers(200, 400, (2, 2)).tolist():
    few = (train_images[:count], train_labels[:count])
    small = shift_experiment(count, 8, seed)
    for pixels in (0, 2, 8):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        start, more = new_params(first, hidden=128), {"pixels": pixels, "progress": False}
        past, _ = train(start, few, validation_set, second, 8, **more)
        right = past.validation_accuracy[past.best_epoch]
        assert np.isclose(small.get(pixels, -1), right, atol=1e-3), (
            f"{count} pictures, 8 epochs, seed {seed}: your number for {pixels} pixels is "
            "not that of the experiment. Does it use count, epochs and seed?"
        )
scores = shift_experiment()
assert set(scores) == {0, 2, 8}, f"expected the keys 0, 2 and 8, got {sorted(scores)}"
for pixels, score in scores.items():
    print(f"shifts of up to {pixels} pixels: {score:.2%} on validation")
claim(
    "shifts of two pixels win at least one point in a hundred over none",
    scores[2] - scores[0],
    at_least=0.01,
)
claim(
    "shifts of eight pixels are worse than shifts of two",
    scores[2] - scores[8],
    at_least=0.005,
)
print(f"passed: twice {len(small)} accuracies with another size and seed, two claims")

# %% [markdown]
# ### 6 · An explanation: why zero learns nothing
#
# Start from weights and biases that are all zero, take one batch, and walk back through the
# network on paper. Which of the four gradients `dW1`, `db1`, `dW2`, `db2` are not zero?
# Write their names into the set; then explain it in two sentences to somebody who was not
# there.


# %% tags=["exercise"]
def not_zero():
    """Return the set of the names of the gradients that are not zero."""
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# All hidden units are $\max(0, 0) = 0$, so $dW_2 = h^\top dz_2 = 0$. Going on,
# $dh = dz_2 W_2^\top = 0$, because $W_2$ is zero, and with it $dW_1$ and $db_1$. Only
# $db_2 = \frac1N \sum_n (p_n - \text{onehot}_n)$ is left: the network can learn how often
# each digit occurs, and nothing about any picture. After that step nothing has changed but
# $b_2$, so it stays like this forever. Random weights let signals through on the way
# forward, and gradients on the way back.


# %% tags=["solution"]
def not_zero():
    return {"db2"}


# %% tags=["check"]
answer = not_zero()
assert isinstance(answer, set), f"expected a set like {{'dW1'}}, got {answer!r}"
zeros = new_params(np.random.default_rng(SEED), spread=0.0)
logits, cache = forward(zeros, x20)
gradients = backward(zeros, cache, cross_entropy(logits, labels20)[1])
truth = {f"d{name}" for name, gradient in gradients.items() if np.abs(gradient).max() > 0}
assert answer == truth, (
    f"not yet: you say {sorted(answer)}. "
    "Which values do h and W2 have? Follow them backward"
)
print(f"passed: that is what {len(gradients)} gradients of {len(x20)} pictures say")

# %% [markdown]
# ## What moved into nnlib
#
# The functions of this notebook now live in `nnlib`, as small classes that remember what
# their way back needs: `Linear`, `ReLU`, `cross_entropy`, `SGD`, and `fit` for the loop.
# The next notebooks import them. But is it the same network? Give both the same first
# weights, the same 6,000 pictures and the same random numbers, train two epochs, and
# compare every weight.

# %%
few = (train_images[:6000], train_labels[:6000])
by_hand = new_params(np.random.default_rng(SEED), hidden=128)

model = nnlib.Sequential(
    [
        nnlib.Flatten(),
        nnlib.Linear(784, 128, rng=np.random.default_rng(SEED)),
        nnlib.ReLU(),
        nnlib.Linear(128, 10, rng=np.random.default_rng(SEED)),
    ]
)
model.set_weights(
    {"1.W": by_hand["W1"], "1.b": by_hand["b1"], "3.W": by_hand["W2"], "3.b": by_hand["b2"]}
)

history_by_hand, _ = train(
    by_hand, few, validation_set, np.random.default_rng(SEED), epochs=2
)
print()
history_nnlib = nnlib.fit(
    model,
    few,
    validation_set,
    optimizer=nnlib.SGD(model, lr=0.1, momentum=0.9),
    schedule=nnlib.warmup_cosine(warmup=0),
    augment=random_shift,
    epochs=2,
    batch_size=64,
    rng=np.random.default_rng(SEED),
)

# %%
weights = {name: nnlib.to_numpy(param) for name, param in model.named_parameters()}
pairs = [
    (by_hand["W1"], weights["1.W"]),
    (by_hand["b1"], weights["1.b"]),
    (by_hand["W2"], weights["3.W"]),
    (by_hand["b2"], weights["3.b"]),
]
difference = max(np.abs(mine - theirs).max() for mine, theirs in pairs)
print(f"largest difference between any two weights after {2 * 94} steps: {difference}")
claim(
    "the network of this notebook and the one from nnlib have the same weights, "
    "to three decimal places",
    difference,
    at_most=5e-4,
)

# %% [markdown]
# That is the way of this course: write it once, prove it, then keep it. On to **02 · A
# convolution in seven loops**, where the network learns that pixels have neighbours.
