# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · One gradient, many workers
#
# **What you will build.** A batch, cut into slices and given away: first to the threads of
# your own machine, then to other processes, on a cluster that starts on your laptop and may
# as well be a room full of computers. You count what they have to tell each other, and try
# to make them talk less. And while a network is being trained, you will kill one of its
# workers.
#
# ![The gradient that half a batch asks for, plus that of the other half, is that of the
# whole batch](images/12_many_workers.png)
#
# **What you need.** Back-propagation (notebook 01) and the convolution (03). Dask comes
# with the course's packages; how to use more machines than this one stands below.
#
# **How long it takes.** Two minutes of computing on a laptop with two cores.

# %%
import logging
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_limits

import nnlib
from nnlib import claim, interactive, load_dataset, plots
from nnlib.cluster import ClusterParallel

SEED = int(os.environ.get("NNLIB_SEED", 0))
rng = np.random.default_rng(SEED)

data = load_dataset("fashion_mnist")
full = data.source != "sample"
(train_images, train_labels), (validation_images, validation_labels) = data.split(
    1 / 6, rng
)
print("training:  ", train_images.shape)
print("validation:", validation_images.shape)

# %% [markdown]
# ## Predict first
#
# Write down your guesses. Each of them is met again.

# %%
# two halves of a batch, their gradients added: is that the whole batch's gradient,
# in float32, to the last bit?
my_same_bits = True
# a network of 407,050 weights, four workers, one of which collects and hands out:
# how many megabytes go over its line in each step?
my_megabytes = 1.6
# if every worker sends only the largest hundredth of its gradient, and forgets the rest:
# how many points of accuracy does that cost?
my_points = 10
# a worker is killed in the middle of an epoch: how many samples of it are lost?
my_lost = 64

# %% [markdown]
# ## Two halves
#
# The loss of a batch is a mean over its samples, so its gradient is a mean too: sample $n$
# pulls at the weights in its own direction $g_n$, and what the batch asks for is
#
# $$g = \frac{1}{N} \sum_n g_n .$$
#
# A sum does not care who computes which part of it. Cut the batch in two, and each half can
# be given away. Here is what two halves of a batch ask of *one* hidden unit, drawn as the
# picture of its 784 weights:


# %%
def mlp(rng, hidden=512):
    """784 -> hidden -> 10. Many weights, little to compute."""
    return nnlib.Sequential(
        [
            nnlib.Flatten(),
            nnlib.Linear(784, hidden, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(hidden, 10, rng=rng, init=nnlib.normal(0.01)),
        ]
    )


def gradient(model, x, labels):
    """One backward pass. Returns the mean loss, and a list with a gradient for each
    parameter.
    """
    logits = model.forward(x, training=True)
    loss, dlogits = nnlib.cross_entropy(logits, labels)
    model.backward(dlogits)
    return loss, [grad for _, grad in model.named_gradients()]


# %%
model = mlp(np.random.default_rng(SEED))
x, labels = train_images[:128], train_labels[:128]
whole = gradient(model, x, labels)[1]
halves = [gradient(model, x[part], labels[part])[1] for part in np.split(np.arange(128), 2)]
unit = np.abs(whole[0]).sum(axis=0).argmax()  # the one that is pulled at most

# %% tags=["cover", "figure", "nbval-ignore-output"]
figure, grid = plt.subplots(1, 3, figsize=(9, 2.5))
shown = [half[0][:, unit] / 2 for half in halves] + [whole[0][:, unit]]
limit = max(np.abs(values).max() for values in shown)
titles = ("64 pictures ask for this", "+   the other 64 for this", "=   all 128 for this")
for axes, values, title in zip(grid, shown, titles, strict=True):
    axes.imshow(values.reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set(title=title, xticks=[], yticks=[])
plots.show(
    figure,
    alt="Three pictures of the gradient for the weights of one hidden unit, red up and "
    "blue down: of one half of a batch, of the other half, and their sum.",
)

# %% [markdown]
# Slices of different sizes need care: a mean over five samples must not count as much as a
# mean over a hundred. So each slice's gradient is weighted by its **share** of the batch,
#
# $$g = \frac{N_\text{first}}{N}\, g_\text{first} + \frac{N_\text{second}}{N}\,
# g_\text{second} + \dots$$


# %%
def cut(N, slices):
    """Return the slices of a batch of N samples, as equal as whole numbers allow."""
    ends = [N * i // slices for i in range(slices + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def share_of(model, x, labels, part):
    """What one slice adds to the gradient of the batch."""
    share = (part.stop - part.start) / len(x)
    return [grad * np.float32(share) for grad in gradient(model, x[part], labels[part])[1]]


def add(shares):
    """Add up lists of arrays, one after the other."""
    total = [array.copy() for array in shares[0]]
    for arrays in shares[1:]:
        for sum_so_far, array in zip(total, arrays, strict=True):
            sum_so_far += array
    return total


# %%
for slices in (2, 3, 7, 128):
    together = add([share_of(model, x, labels, part) for part in cut(128, slices)])
    off = max(np.abs(a - b).max() for a, b in zip(whole, together, strict=True))
    claim(
        f"{slices} slices give the gradient of the whole batch, to 1e-6", off, at_most=1e-6
    )

# %% [markdown]
# ## Equal, but to which digit?
#
# You predicted whether two halves give the same *bits*. Count those numbers of the gradient
# that differ, if only in the last digit:


# %%
def flat(arrays):
    """All numbers of a list of arrays, in one row."""
    return np.concatenate([array.ravel() for array in arrays])


def differing(first, second):
    """The fraction of numbers that are not equal to the last bit."""
    return (flat(first) != flat(second)).mean()


in_two = add([share_of(model, x, labels, part) for part in cut(128, 2)])
print(f"whole batch and two halves differ in {differing(whole, in_two):.1%} of the numbers")
shares = [share_of(model, x, labels, part) for part in cut(128, 8)]
in_order = add(shares)
for order in ([7, 6, 5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 7, 4, 2, 6], range(8)):
    print("eight slices in the order", *order, "differ from the first order in", end=" ")
    print(f"{differing(in_order, add([shares[i] for i in order])):.1%} of the numbers")
print("you predicted:", "the same bits" if my_same_bits else "other bits")

# %% [markdown]
# Rounding. A sum of float32 numbers is rounded after each addition, so $(g_1 + g_2) + g_3$
# need not be $g_1 + (g_2 + g_3)$. Most people say "the same", because on paper it is.
# Nobody notices the last bit of one step; but training multiplies it (notebook 08 watched
# two equal trainings part), and then no two runs agree, and no stored digit can be checked.
#
# The remedy costs nothing: **add in the order of the slices, not in that in which they
# arrive.** Then the slices alone decide the bits, and the workers, how many they are and
# how fast, don't.
#
# ## Many hands on one machine
#
# Now give the slices to threads. NumPy lets go of Python's lock while it computes, so they
# really run at the same time; the weights they share, but each needs a model with a memory
# of its own, its *twin*. `map` returns results in the order of the tasks, whoever is
# finished first. That is all:


# %%
def by_threads(model, x, labels, slices, workers):
    tasks = [(model.twin(), part) for part in cut(len(x), slices)]
    with ThreadPoolExecutor(workers) as pool:
        return add(
            list(pool.map(lambda task: share_of(task[0], x, labels, task[1]), tasks))
        )


# %%
def cnn(rng):
    """The two convolutions of notebook 03. Few weights, much to compute."""
    return nnlib.Sequential(
        [
            nnlib.Conv2d(1, 32, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Conv2d(32, 64, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Linear(7 * 7 * 64, 10, rng=rng, init=nnlib.normal(0.01)),
        ]
    )


# %%
model = cnn(np.random.default_rng(SEED))
one, two, five = (by_threads(model, x, labels, 5, workers) for workers in (1, 2, 5))
claim("two workers give the bits of one", differing(one, two), equals=0)
claim("and so do five", differing(one, five), equals=0)
nnlib.DataParallel(model, workers=2, slices=5).gradients(x, labels)
library = [grad for _, grad in model.named_gradients()]
off = max(np.abs(a - b).max() for a, b in zip(one, library, strict=True))
claim("nnlib.DataParallel gives our gradient, to 1e-6", off, at_most=1e-6)

# %% [markdown]
# ### What more hands can't do
#
# A step of training has a part that is shared out, the slices, and a part that is not:
# adding up, and the step of the optimizer. Let one worker need a time of 1, of which a part
# $\text{serial}$ can't be shared. Then
#
# $$\text{time}(\text{workers}) = \text{serial} + \frac{1 - \text{serial}}{\text{workers}}
# \qquad\Rightarrow\qquad \text{speed-up} < \frac{1}{\text{serial}} .$$
#
# This is **Amdahl's law** (Amdahl 1967): with a twentieth that can't be shared, a thousand
# workers are no more than twenty times faster. It has one parameter; measure it here.


# %% tags=["nbval-ignore-output"]
def best_time(function, repeats=7):
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def step_time(model, parallel):
    optimizer = nnlib.Adam(model)
    return best_time(lambda: (parallel.gradients(x, labels), optimizer.step()))


# %% tags=["nbval-ignore-output"]
hands = list(range(1, min(nnlib.cores(), 4) + 1))
networks = {
    "cnn": cnn(np.random.default_rng(SEED)),
    "mlp": mlp(np.random.default_rng(SEED)),
}
clocks = {
    name: np.array([step_time(model, nnlib.DataParallel(model, w, 4)) for w in hands])
    for name, model in networks.items()
}
serial = {}
for name, seconds in clocks.items():
    relative, hoped = seconds / seconds[0], 1 / np.array(hands)
    # least squares of relative = serial + (1 - serial) * hoped
    above, room = relative - hoped, 1 - hoped
    serial[name] = np.clip((above @ room) / max(room @ room, 1e-9), 0, 1)
    listed = ", ".join(
        f"{1000 * s:.1f} ms with {w}" for w, s in zip(hands, seconds, strict=True)
    )
    print(f"{name}: {listed}; serial {serial[name]:.0%}")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7, 2.3))
many = np.arange(1, 33)
for (name, part), marker in zip(serial.items(), "os", strict=True):
    axes.plot(many, 1 / (part + (1 - part) / many), label=f"{name}: serial {part:.0%}")
    axes.plot(hands, clocks[name][0] / clocks[name], marker, color="black", markersize=5)
axes.plot(many, many, ":", color="grey", label="perfect sharing")
axes.set(title="Amdahl's law, fitted to this machine", xlabel="workers", ylabel="speed-up")
axes.set(ylim=(0, 12))
axes.legend()
plots.show(
    figure,
    alt="Speed-up against workers up to 32 for two networks: points measured here, and the "
    "curve of Amdahl's law through them, which bends away from perfect sharing.",
)

# %% [markdown]
# The points are measured, the curves beyond them are what the law says. (A machine that is
# busy with something else has no second hand to lend, and looks serial.) The two networks
# differ in what they do beside computing: the MLP has eight times more weights to add up
# and to hand to Adam, and ten times less to compute.
#
# ## Many machines
#
# Threads share one memory. Other machines don't: what they are to know must be sent, and
# somebody must say who does what, notice who has died, and give their work to others. We
# don't write that. **Dask** (Rocklin 2015) is a scheduler in plain Python: `submit` sends a
# function and its arguments to some worker and returns at once with a *future*, `gather`
# waits for results.
#
# The next cell starts a scheduler and two workers on this machine, each a process with a
# memory of its own. More machines? On one of them run `dask scheduler`, on each (with the
# course installed) `dask worker tcp://THAT-ONE:8786 --nthreads 1`, and open this notebook
# with `make lab SCHEDULER=tcp://THAT-ONE:8786`. Nothing else changes.

# %%
logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it reports every farewell
address = os.environ.get("SCHEDULER")
cluster = None
if not address:
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )
client = Client(address or cluster, direct_to_workers=True)
pids = client.run(os.getpid)
claim("the workers are processes of their own", os.getpid() in pids.values(), equals=False)

# %% [markdown]
# A step on a cluster, written out. The batch is placed on the workers once, and stays
# (`scatter`); each step, the weights go out and gradients come back, one for each slice.

# %%
parts = cut(len(x), 4)
placed = client.scatter([(x[part], labels[part]) for part in parts])  # once


def share_there(model, piece, N):
    """Runs on a worker: the part of its slice in the gradient of N samples."""
    x, labels = piece
    with threadpool_limits(1):
        return share_of(model, x, labels, slice(0, len(x))), len(x) / N


def by_cluster(model):
    there = client.submit(lambda model: model, model, pure=False)  # weights out
    futures = [client.submit(share_there, there, p, len(x), pure=False) for p in placed]
    results = client.gather(futures)  # gradients back, in the order of the slices
    return add([[g * np.float32(share) for g in grads] for grads, share in results])


model = cnn(np.random.default_rng(SEED))
with threadpool_limits(1):
    here, there = by_threads(model, x, labels, 4, 2), by_cluster(model)
off = max(np.abs(a - b).max() for a, b in zip(here, there, strict=True))
claim("the cluster's gradient is that of the threads, to 1e-6", off, at_most=1e-6)

# %% [markdown]
# `nnlib.cluster.ClusterParallel` is this with care: a pickled model that leaves at home
# what nobody needs, dropout that draws the same as here, a check that every worker has the
# same nnlib and NumPy. It sends each slice of pictures with its task, in every step. That
# sounds wasteful; why it is not, we shall count. Training with it must give the losses of
# one worker: not similar ones, *these*.

# %%
count, epochs = (4000, 2) if full else (1500, 2)
few = (train_images[:count], train_labels[:count])
judges = (validation_images[:1000], validation_labels[:1000])


def train_cnn(make, schedule=None):
    """Train from the same beginning; make(model) says who computes the gradients."""
    model = cnn(np.random.default_rng(SEED))
    history = nnlib.fit(
        model,
        few,
        judges,
        optimizer=nnlib.Adam(model),
        epochs=epochs,
        batch_size=128,
        rng=np.random.default_rng(SEED),
        schedule=schedule,
        progress=False,
        parallel=make(model),
    )
    return history, model.copy_weights()


def equal_weights(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


# %%
alone, weights_alone = train_cnn(lambda model: nnlib.DataParallel(model, workers=1))
cluster_history, weights = train_cnn(lambda model: ClusterParallel(model, client))
print("epoch   one worker here       the cluster")
for epoch, losses in enumerate(
    zip(alone.train_loss, cluster_history.train_loss, strict=True)
):
    print(f"{epoch + 1:5}   {losses[0]:.12f}        {losses[1]:.12f}")
# on machines with other processors, last digits may differ
if not address:
    claim(
        "every weight is equal to the last bit",
        equal_weights(weights, weights_alone),
        equals=True,
    )

# %% [markdown]
# ## A worker dies
#
# Machines fail; on a thousand of them, some machine fails every day. So let us see it. In
# the tenth step of the same training, in the middle of its work, one worker gets the signal
# that no process can refuse. **You predicted how many samples that loses.**


# %%
def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_one(step, total):
    """A schedule that leaves the rate as it is, and lets a worker die in the tenth step."""
    if step == 8:
        there = {"workers": [next(iter(pids))], "on_error": "ignore"}
        threading.Timer(0.02, client.run, [die], there).start()
    return 1.0


survived, weights = train_cnn(lambda model: ClusterParallel(model, client), kill_one)
killed = next(iter(pids.values()))
claim("the worker is dead", killed in client.run(os.getpid).values(), equals=False)
rows = zip(alone.train_loss, survived.train_loss, strict=True)
print(
    "difference of the losses, epoch by epoch:", [first - second for first, second in rows]
)
if not address:
    same = equal_weights(weights, weights_alone)
    claim("the weights are those of a training in which nobody died", same, equals=True)
print(f"samples lost: 0; you predicted {my_lost}")

# %% [markdown]
# Nothing was lost, because nothing that matters lives on a worker. A slice is a *function
# and its arguments*; when a worker disappears, Dask gives the same call to another one, and
# starts a new process in its place. The same call gives the same bits, so the order of
# addition does the rest. Most people guess that a worker takes its samples with it. That
# would be so if we had placed them there for good: then they would have to be placed again.
# (The scheduler is another matter: when *it* dies, `fit` says so, and a `checkpoint=` goes
# on after the last finished epoch.)
#
# ## The price: talking
#
# Now count. What goes over a line in a step, for a batch of 128 pictures in four slices?

# %%
sizes = {}
for name, model in networks.items():
    sizes[name] = sum(param.size for _, param in model.named_parameters())
    print(
        f"{name}: {sizes[name]:9,} weights, {4 * sizes[name] / 1e6:.2f} MB; "
        f"pictures of the batch, as bytes: {x.nbytes / 1e6:.2f} MB"
    )
megabytes = 2 * 3 * 4 * sizes["mlp"] / 1e6
print(f"mlp, four workers, one collects: {megabytes:.1f} MB; you predicted {my_megabytes}")

# %% [markdown]
# The one who collects gets three gradients and sends the sum three times, so six times the
# size of the network crosses its line. Pictures are as nothing beside that, at least for
# the MLP: *that* is why ClusterParallel may send them again in every step. And it is why
# the two networks fare so differently on the cluster. Here is the clock, of one step:

# %% tags=["nbval-ignore-output"]
there = {
    name: step_time(model, ClusterParallel(model, client))
    for name, model in networks.items()
}
print("ms of a step      one thread   threads   the cluster   the cluster's price")
for name, seconds in clocks.items():
    price = there[name] - seconds[-1]
    row = [1000 * time for time in (seconds[0], seconds[-1], there[name], price)]
    print(f"{name:<12}{row[0]:16.1f}{row[1]:10.1f}{row[2]:14.1f}{row[3]:22.1f}")

# %% [markdown]
# All of that on one machine, whose "line" is its own memory. With real lines, write the
# time of a step as a sum: computing is shared out, talking is not.
#
# $$\text{time} = \frac{\text{alone}}{\text{workers}} + \text{talking}, \qquad
# \text{talking}_\text{server} = 2\left(\text{latency} + (\text{workers} - 1)\,
# \frac{\text{bytes}}{\text{bandwidth}}\right) .$$
#
# The factor $\text{workers} - 1$ is the trouble: all of them talk to one.
#
# ## All at once: a ring
#
# Is there a way to add up numbers that lie on different machines, without anybody who
# collects? There is (Patarasuk and Yuan 2009). Stand in a circle. Everybody cuts their
# gradient into as many chunks as there are workers, and hands *one* chunk to the right, all
# at the same time; whoever gets a chunk adds their own to it, and next time hands on the
# sum.
#
# **Try**: before you step on, say where the first complete sum will appear, and after how
# many steps. Then: how much has each sent when everybody has everything?

# %% tags=["figure"]
interactive.ring(4)

# %% [markdown]
# After $\text{workers} - 1$ steps each worker holds one complete chunk, and after as many
# again all have all. Each has sent $2\,(\text{workers} - 1)/\text{workers}$ gradients: less
# than *two*, whether they are four or four thousand. In code, with a counter:


# %%
def ring_sum(gradients):
    """gradients: one flat array for each worker. Returns what each holds at the end, and
    how many numbers each has sent.
    """
    workers = len(gradients)
    held = [np.array_split(g.copy(), workers) for g in gradients]
    sent = [0] * workers
    for step in range(2 * (workers - 1)):
        adding = step < workers - 1
        moves = []
        for worker in range(workers):
            # when all sums are complete, worker 0 holds that of chunk 1
            chunk = (worker - step if adding else worker - step + workers) % workers
            moves.append(((worker + 1) % workers, chunk, held[worker][chunk].copy()))
            sent[worker] += held[worker][chunk].size
        for to, chunk, numbers in moves:
            held[to][chunk] = held[to][chunk] + numbers if adding else numbers
    return [np.concatenate(chunks) for chunks in held], sent


# %%
for workers in (2, 4, 8):
    gradients = [
        flat(share_of(networks["mlp"], x, labels, part)) for part in cut(128, workers)
    ]
    held, sent = ring_sum(gradients)
    assert all(np.array_equal(held[0], other) for other in held), "not all hold the same"
    off = np.abs(held[0] - sum(gradients)).max()
    print(
        f"{workers} workers: each sends {max(sent) / sizes['mlp']:.2f} gradients, "
        f"a server would pass {2 * (workers - 1)}; all hold the same bits; "
        f"{(held[0] != sum(gradients)).mean():.0%} of them not those of the order"
    )
    claim(f"a ring of {workers} adds up the gradient, to 1e-6", off, at_most=1e-6)

# %% [markdown]
# Every chunk begins its journey at another worker, so it is added in another order: all
# workers agree with each other to the last bit, but not with the sum in the order of
# slices. A ring is reproducible too; it has only chosen other bits, which change with the
# number of workers.
#
# Now the clock of both, with a network and lines of your choice. **Try**: find a setting in
# which 1,000 workers are slower than one. Then keep the network and make the line faster:
# does the ring's best number of workers grow with the bandwidth, or does something else
# hold it back?

# %% tags=["figure"]
interactive.scaling(sizes["mlp"], 0.1, workers=16, gigabits=10.0)

# %% [markdown]
# The server's curve turns down early: every further worker adds to its line. The ring's
# goes on, until another term takes over: a message needs its latency, however short it is,
# and a ring of 1,000 passes on 1,998 of them one after the other. No bandwidth helps
# against that. (Large clusters build trees of rings.)
#
# ## Say less
#
# If talking is the price, send less. Two ideas: **float16**, half the bytes; and **top-k**,
# only the largest entries, here one in a hundred, with their places. What of the rest?
# Forget it, or remember what was not sent and add it to the next gradient: **error
# feedback** (Stich et al. 2018). You predicted what forgetting costs.
#
# We play four workers in one process: what arrives is computed exactly, only nothing
# travels. To be fair, each contender gets the best of the same four learning rates, chosen
# on validation pictures; then three seeds, and pictures of the test set that chose nothing.


# %%
class TopK:
    """Send the largest `fraction` of a gradient. With memory, what was left comes next."""

    def __init__(self, fraction, memory):
        self.fraction, self.memory, self.left = fraction, memory, {}

    def __call__(self, worker, g):
        if self.memory:
            g = g + self.left.get(worker, 0)
        k = max(1, round(self.fraction * g.size))
        chosen = np.argpartition(np.abs(g), -k)[-k:]
        arrives = np.zeros_like(g)
        arrives[chosen] = g[chosen]
        self.left[worker] = g - arrives
        return arrives


def half(worker, g):
    return g.astype(np.float16).astype(np.float32)


# %%
def train(seed, lr, sets, batch_size=64, hands=4, send=None, delay=0, epochs=6):
    """Plain SGD, whose rate falls to zero in a line. Returns accuracies.

    sets: training pictures, labels, and pairs to judge by. send(worker, gradient): what
    arrives of it. delay: steps until a gradient is applied.
    """
    images, labels, *judges = sets
    draw, waiting, step = np.random.default_rng(seed), deque(), 0
    steps = epochs * -(-len(images) // batch_size)
    model = mlp(draw, hidden=64)
    params = [param for _, param in model.named_parameters()]
    for _ in range(epochs):
        order = draw.permutation(len(images))
        for start in range(0, len(order), batch_size):
            rows, total = order[start : start + batch_size], 0
            for worker, part in enumerate(cut(len(rows), min(hands, len(rows)))):
                g = flat(share_of(model, images[rows], labels[rows], part))
                total = total + (send(worker, g) if send else g)
            waiting.append(total)
            if len(waiting) > delay:
                ends = np.cumsum([param.size for param in params])[:-1]
                grads = np.split(waiting.popleft(), ends)
                rate, step = np.float32(lr * (1 - step / steps)), step + 1
                for param, grad in zip(params, grads, strict=True):
                    param -= rate * grad.reshape(param.shape)
    return [nnlib.evaluate(model, x, y)[1] for x, y in judges]


# %% [markdown]
# Forty-eight trainings: a search is the best thing that can happen to a cluster, because
# its runs need not talk to each other at all. One `map`, and every worker is busy.

# %%
some = 5000 if full else 2000
sets = (
    *(train_images[:some], train_labels[:some]),
    (validation_images[:2000], validation_labels[:2000]),
    (data.test_images[:5000], data.test_labels[:5000]),
)
placed_sets = client.scatter(sets, broadcast=True)


def task(sets, seed, lr, make_send=None, **settings):
    """One training, on a worker."""
    with threadpool_limits(1), np.errstate(all="ignore"):  # a rate may be too high: so what
        return train(seed, lr, sets, send=make_send() if make_send else None, **settings)


# %%
def search(contenders, rates=(0.1, 0.2, 0.4, 0.8)):
    """contenders: name -> settings of `train`. Each at its best rate, chosen on validation.
    Returns name -> (rate, test accuracies for three seeds).
    """
    runs = [(name, lr, SEED + i) for name in contenders for lr in rates for i in range(3)]
    futures = [
        client.submit(task, list(placed_sets), seed, lr, **contenders[name], pure=False)
        for name, lr, seed in runs
    ]
    scores = dict(zip(runs, client.gather(futures), strict=True))
    found = {}
    for name in contenders:
        seeds = {lr: [scores[name, lr, SEED + i] for i in range(3)] for lr in rates}
        best = max(rates, key=lambda lr: np.mean([valid for valid, _ in seeds[lr]]))
        found[name] = best, [test for _, test in seeds[best]]
    return found


def report(found, extra=None):
    for name, (lr, scores) in found.items():
        more = f"   {extra[name]}" if extra else ""
        print(
            f"{name:<28} lr {lr:<5g} {np.mean(scores):.1%}"
            f" ({min(scores):.1%} to {max(scores):.1%}){more}"
        )


# %%
compressed = search(
    {
        "float32": {},
        "float16": {"make_send": lambda: half},
        "top 1 %, forgotten": {"make_send": lambda: TopK(0.01, memory=False)},
        "top 1 %, error feedback": {"make_send": lambda: TopK(0.01, memory=True)},
    }
)
P = 784 * 64 + 64 + 64 * 10 + 10
kilobytes = [4 * P, 2 * P, 8 * round(P / 100), 8 * round(P / 100)]  # a place is 4 bytes too
sent = {
    n: f"{b / 1000:6.1f} kB a worker and step"
    for n, b in zip(compressed, kilobytes, strict=True)
}
report(compressed, sent)
mean = {name: np.mean(scores) for name, (_, scores) in compressed.items()}
lost = 100 * (mean["float32"] - mean["top 1 %, forgotten"])
print(f"forgetting costs {lost:.1f} points; you predicted {my_points}")

# %%
claim(
    "float16 costs less than a point, or two on the sample",
    mean["float32"] - mean["float16"],
    at_most=0.01 if full else 0.02,
)
claim(
    "top 1 % with error feedback costs less than three points",
    mean["float32"] - mean["top 1 %, error feedback"],
    at_most=0.03,
)

# %% [markdown]
# float16 is as good as free, and half is all that it saves. Top-k sends fifty times less.
# Who forgets the rest pays for it: an entry that is never among the largest is never
# learnt, whatever it adds up to. Who *remembers* it pays nothing here: small entries wait
# until they have grown, and travel then. Most people expect that 99 % of a gradient can't
# be missing without harm. It isn't missing, it is late.
#
# ## Don't wait
#
# The other way to lose less time: nobody waits. A worker computes with the weights that it
# has, and its gradient is applied when it arrives, to weights that have moved on: it is
# **stale**. Here every gradient is applied some steps late. Again each delay gets the best
# of the same rates.

# %%
rates = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
stale = search({f"{d} steps late": {"delay": d, "hands": 1} for d in (0, 1, 4, 16)}, rates)
report(stale)
worst = {name: np.mean(scores) for name, (_, scores) in stale.items()}
claim(
    "sixteen steps late cost at least five points, each at its best rate",
    worst["0 steps late"] - worst["16 steps late"],
    at_least=0.05,
)

# %% [markdown]
# Late is not always harmless: each step of delay costs, and the more so the later,
# *although* each delay has its own best rate, which falls as the delay grows. A gradient
# that is late by a few steps points where it was downhill then; with large steps we have
# long left that place. So asynchronous training buys its speed with steps of less worth,
# and with something else: whoever comes first changes the weights first, and no training is
# ever repeated, bit for bit. (Why did error feedback do no harm, being late as well? There
# every *large* entry comes at once.)
#
# ## Or give everybody more to do
#
# With more workers, a larger batch keeps each of them as busy as before, and they talk once
# a batch. But then an epoch has fewer steps. The **linear scaling rule** (Goyal et al.
# 2017): a batch that is so many times larger, a learning rate that is so many times larger.
# Same epochs, same pictures; the rule against the rate of the small batch.

# %%
batches = (32, 128, 512, 2048)
settings = {size: {"batch_size": size, "hands": 1} for size in batches}
searched = search(settings, (0.1, 0.2, 0.4, 0.8, 1.6))
by_rule = {}
for base_lr in (0.0125, searched[32][0]):
    for size in batches:
        by_rule[base_lr, size] = search({size: settings[size]}, (base_lr * size / 32,))[
            size
        ]
for base_lr in (0.0125, searched[32][0]):
    report({f"from {base_lr:g}, batch {size}": by_rule[base_lr, size] for size in batches})
report({f"searched, batch {size}": searched[size] for size in batches})
slow, fast = (
    [np.mean(by_rule[lr, size][1]) for size in batches] for lr in (0.0125, searched[32][0])
)

# %%
claim(
    "from a small rate, the rule keeps the accuracy from batches of 32 to those of 2,048",
    max(slow) - min(slow),
    at_most=0.03 if full else 0.1,
)
claim(
    "from the best rate, it loses at least 20 points on the way",
    fast[0] - min(fast),
    at_least=0.2,
)

# %% [markdown]
# Begin with a small rate, and the rule is uncannily good: a batch 64 times larger, 64 times
# fewer steps, and the same accuracy. Small steps add up: many of them in a row are worth
# one large step in their sum. But nobody trains with a rate that small; look at what the
# best rate for batches of 32 reaches. From there, the rule breaks: a step that long leaves
# the neighbourhood in which the gradient is true, and training flies apart. Its limit is
# thus one of the *rate*, and the search says where: no batch does well above 0.8 here. Then
# larger batches only mean fewer steps, and no rate makes up for that. (A warm-up moves the
# limit; Shallue et al. 2019 searched for it with care.)
#
# That was the last of the cluster. Close it: the exercises need none.

# %%
client.close()
if cluster:
    cluster.close()

# %% [markdown]
# ## What it means
#
# * A gradient is a mean, so it can be shared out; the bits are settled by the slices and by
#   the order of addition, whoever computes.
# * What can't be shared out sets the limit: the serial part on one machine, talking between
#   many. Few weights and much computing share well.
# * A pure function of its arguments can be called again: that is all it takes to lose a
#   worker and no number.
# * Who sends less, waits less or takes larger batches trains *another* training. Each of
#   the three has a price, and it must be measured with a search of its own.
#
# ## Exercises
#
# As in notebook 01: write your version over the line with `raise NotImplementedError`, run
# that cell, then the check at the end of the exercise. The folded cell between the two is a
# solution, and takes the place of yours if you run it.
#
# ### 1 · Whoever comes first
#
# `map` handed us results in the order of the tasks, but only once it had all of them.
# Better: add each slice as soon as all those before it are there, and keep the others
# waiting. The sum must have the bits of the order 0, 1, 2 …, whatever arrives first.


# %% tags=["exercise"]
def add_as_they_come(arrivals):
    """arrivals: pairs (place, array) in any order; places are 0, 1, 2 ... without a gap.
    Return the sum of the arrays, added in the order of their places.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def add_as_they_come(arrivals):
    total, waiting, next_place = 0.0, {}, 0
    for place, array in arrivals:
        waiting[place] = array
        while next_place in waiting:
            array = waiting.pop(next_place)
            total = array.copy() if next_place == 0 else total + array
            next_place += 1
    return total


# %% tags=["check"]
draw, tried = np.random.default_rng(0), 0
for count in (1, 2, 5, 9):
    arrays = [(10.0**i * draw.normal(size=40)).astype(np.float32) for i in range(count)]
    right = arrays[0].copy()
    for array in arrays[1:]:
        right = right + array
    for _ in range(4):
        order, given = draw.permutation(count).tolist(), [array.copy() for array in arrays]
        got = add_as_they_come([(place, given[place]) for place in order])
        off = np.abs(np.asarray(got, np.float64) - right).max() / np.abs(right).max()
        assert off < 1e-5, f"arrived as {order}: not the sum of all"
        assert np.array_equal(got, right), (
            f"arrived as {order}: right, but not to the last bit"
        )
        assert np.asarray(got).dtype == np.float32, "the sum of float32 arrays is float32"
        assert all(np.array_equal(a, b) for a, b in zip(given, arrays, strict=True)), (
            "an array that came in was changed: work on a copy"
        )
        tried += 1
print(f"passed: {tried} orders of up to 9 arrays, each to the last bit")

# %% [markdown]
# ### 2 · Find the bug
#
# A colleague averages the gradients of the workers. It passed the tests, for years, and
# then somebody trained with a batch of 100 on three workers.
#
# ```python
# def combine(gradients, counts):
#     return sum(gradients) / len(gradients)
# ```
#
# What is wrong, and when does nobody see it? Write it right; `counts` are the numbers of
# samples. (A worker may have got none: its gradient is then `nan`, the mean of nothing.)


# %% tags=["exercise"]
def combine(gradients, counts):
    """gradients: a list of arrays of one shape, each the mean over counts[i] samples.
    Return the mean over all samples.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def combine(gradients, counts):
    total = sum(counts)
    pairs = zip(gradients, counts, strict=True)
    return sum(gradient * (count / total) for gradient, count in pairs if count)


# %% tags=["check"]
draw = np.random.default_rng(1)
cases = ((64, 64), (33, 33, 34), (5, 1), (0, 7, 3), (1, 2, 3, 0, 90))
for counts in cases:
    samples = [draw.normal(size=(count, 6)) for count in counts]
    gradients = [s.mean(axis=0) if len(s) else np.full(6, np.nan) for s in samples]
    kept = [gradient.copy() for gradient in gradients]
    got, right = combine(gradients, list(counts)), np.concatenate(samples).mean(axis=0)
    same = all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(gradients, kept, strict=True)
    )
    assert same, "a gradient is changed in place: work on a copy"
    assert np.shape(got) == (6,), (
        f"counts {counts}: expected shape (6,), got {np.shape(got)}"
    )
    assert np.isfinite(got).all(), f"counts {counts}: there is a nan in the answer"
    assert np.allclose(got, right), f"counts {counts}: not the mean over all samples"
unequal = sum(len(set(counts)) > 1 for counts in cases)
print(f"passed: {len(cases)} batches, {unequal} of them unequal, {2} with an idle worker")

# %% [markdown]
# ### 3 · By hand: the best number of workers
#
# For a server without latency, the time of a step is
#
# $$\frac{\text{alone}}{\text{workers}} + 2\,(\text{workers} - 1)\,
# \frac{\text{bytes}}{\text{bandwidth}} .$$
#
# Derive for which number of workers it is shortest (paper first; the derivative is zero
# there), then write it, without trying all of them. It is a whole number, and at least 1.


# %% tags=["exercise"]
def best_workers(alone, size, bandwidth):
    """alone: seconds; size: bytes of a gradient; bandwidth: bytes a second.
    Return the whole number of workers with the shortest step.
    """
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# The derivative for the number of workers is $-\text{alone}/\text{workers}^2 + 2\,
# \text{bytes}/\text{bandwidth}$, so the best number is $\sqrt{\text{alone} \cdot
# \text{bandwidth} / (2\,\text{bytes})}$: four times the bandwidth is worth twice the
# workers. One of the two whole numbers beside it is the best.


# %% tags=["solution"]
def best_workers(alone, size, bandwidth):
    ideal = (alone * bandwidth / (2 * size)) ** 0.5
    near = [max(1, int(ideal)), int(ideal) + 1]
    return min(near, key=lambda w: alone / w + 2 * (w - 1) * size / bandwidth)


# %% tags=["check"]
draw = np.random.default_rng(2)
cases = [(0.1, 1e6, 1.25e8), (0.001, 1e8, 1e8), (1.0, 1e6, 1e9)]
cases += [tuple(10.0 ** draw.uniform((-3, 4, 7), (1, 8, 10))) for _ in range(40)]
for alone, size, bandwidth in cases:
    many = np.arange(1, 100_000)
    times = alone / many + 2 * (many - 1) * size / bandwidth
    got, case = (
        best_workers(alone, size, bandwidth),
        f"{alone:.3g} s, {size:.3g} B, {bandwidth:.3g} B/s",
    )
    assert got == int(got) and got >= 1, (
        f"{case}: expected a whole number from 1, got {got}"
    )
    assert times[min(int(got), 99_999) - 1] <= times.min() * (1 + 1e-9), (
        f"{case}: {got} workers are not the best; {many[times.argmin()]} are"
    )
print(f"passed: {len(cases)} clusters, each against all numbers up to 99,999")

# %% [markdown]
# ### 4 · Amdahl, backwards
#
# You bought 16 cores and training became 5 times faster. How much of it is serial? And how
# fast would it be with 64? Write the function that answers both.


# %% tags=["exercise"]
def from_speed_up(speed_up, workers, more):
    """speed_up was measured with so many workers.
    Return (the serial part, the speed-up with `more` workers) by Amdahl's law.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def from_speed_up(speed_up, workers, more):
    serial = (1 / speed_up - 1 / workers) / (1 - 1 / workers)
    return serial, 1 / (serial + (1 - serial) / more)


# %% tags=["check"]
draw, tried = np.random.default_rng(3), 0
for workers in (2, 3, 16, 100):
    for part in (0.0, 0.013, 0.2, 1.0, *draw.random(3)):
        for more in (1, 7, 64):
            speed_up = 1 / (part + (1 - part) / workers)
            got = from_speed_up(speed_up, workers, more)
            case = f"{speed_up:.3f} times with {workers}"
            assert np.shape(got) == (2,), f"expected two numbers, got {got!r}"
            assert np.isclose(got[0], part, atol=1e-9), (
                f"{case}: a serial part of {got[0]:.4f}?"
            )
            again = 1 / (part + (1 - part) / more)
            assert np.isclose(got[1], again), f"{case}, then {more}: {got[1]:.4f} times?"
            tried += 1
print(f"passed: {tried} machines, from all shared to nothing shared")

# %% [markdown]
# ### 5 · An experiment: meet less often
#
# Another way to talk less: every worker trains on its own for some steps, with plain SGD on
# its part of the pictures, and then all set their weights to the mean of all (*local SGD*,
# the heart of federated learning). **Predict first**: what does it cost to meet every 32
# steps instead of every step?
#
# For the check's sake begin alike: `mlp(np.random.default_rng(seed), hidden=32)`; worker
# `w` of 4 has the pictures `w, w + 4, w + 8, …` of the first `count`, and takes them in
# order, 16 at a time, `steps` times in all, from the front again when they end (`count` is
# a multiple of 64). After every `meet` steps of each, all take the mean of the four.


# %% tags=["exercise"]
def local_experiment(count=2048, steps=256, seed=SEED):
    """Learning rate 0.1. Return {meet: accuracy on 2,000 validation pictures}
    for meet = 1 and 32.
    """
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def local_experiment(count=2048, steps=256, seed=SEED):
    scores = {}
    for meet in (1, 32):
        models = [mlp(np.random.default_rng(seed), hidden=32) for _ in range(4)]
        for step in range(steps):
            for w, model in enumerate(models):
                images, labels = train_images[w:count:4], train_labels[w:count:4]
                start = 16 * step % len(images)
                grads = gradient(
                    model, images[start : start + 16], labels[start : start + 16]
                )[1]
                for (_, param), grad in zip(model.named_parameters(), grads, strict=True):
                    param -= np.float32(0.1) * grad
            if (step + 1) % meet == 0:
                copies = [model.copy_weights() for model in models]
                mean = {name: sum(c[name] for c in copies) / 4 for name in copies[0]}
                for model in models:
                    model.set_weights(mean)
        judges = validation_images[:2000], validation_labels[:2000]
        scores[meet] = nnlib.evaluate(models[0], *judges)[1]
    return scores


# %% tags=["check"]
def sgd(images, labels, size, steps, seed):
    """One worker, alone, with batches of this size. Returns its model."""
    model = mlp(np.random.default_rng(seed), hidden=32)
    for step in range(steps):
        rows = slice(size * step % len(images), size * step % len(images) + size)
        grads = gradient(model, images[rows], labels[rows])[1]
        for (_, param), grad in zip(model.named_parameters(), grads, strict=True):
            param -= np.float32(0.1) * grad
    return model


def accuracy_of(models):
    """The accuracy of the mean of some models."""
    weights = [model.copy_weights() for model in models]
    mean = {name: sum(w[name] for w in weights) / len(weights) for name in weights[0]}
    models[0].set_weights(mean)
    return nnlib.evaluate(models[0], validation_images[:2000], validation_labels[:2000])[1]


def whole_batches(count, steps, seed):
    """Meeting in every step is training with batches of 64."""
    return accuracy_of([sgd(train_images[:count], train_labels[:count], 64, steps, seed)])


def one_meeting(count, seed):
    """With 32 steps, and a meeting at their end."""
    parts = [(train_images[w:count:4], train_labels[w:count:4]) for w in range(4)]
    return accuracy_of([sgd(*part, 16, 32, seed) for part in parts])


draw = np.random.default_rng()
for count, seed in zip(
    (64 * draw.integers(4, 9, 2)).tolist(), draw.integers(100, 200, 2).tolist(), strict=True
):
    small, case = (
        local_experiment(count, 32, seed),
        f"{count} pictures, 32 steps, seed {seed}",
    )
    assert set(small) == {1, 32}, f"expected the keys 1 and 32, got {sorted(small)}"
    assert np.isclose(small[1], whole_batches(count, 32, seed), atol=2e-3), (
        f"{case}: meeting in each step is training with batches of 64, which gives another "
        "accuracy. Does it use count, steps and seed?"
    )
    assert np.isclose(small[32], one_meeting(count, seed), atol=2e-3), (
        f"{case}: four trainings, one mean at the end: another accuracy"
    )
scores = local_experiment()
assert np.isclose(scores[1], whole_batches(2048, 256, SEED), atol=2e-3), (
    "another number for 256 steps"
)
for meet, score in scores.items():
    print(f"a meeting every {meet:2} steps: {score:.1%} on validation")
claim(
    "to meet 32 times less often costs less than five points",
    scores[1] - scores[32],
    at_most=0.05,
)
print(f"passed: twice {len(small)} accuracies with another size and seed, one claim")

# %% [markdown]
# ### 6 · An explanation: what moves the last bit?
#
# A training with `ClusterParallel(model, client, slices=8)` is run again, and one thing is
# changed. Which changes may move the last bits of the weights? Put their names in a set:
#
# * `"workers"`: ten workers instead of two;
# * `"slices"`: six slices instead of eight;
# * `"death"`: a worker dies on the way;
# * `"arrival"`: the slices' gradients come back in another order;
# * `"batch"`: the samples of each batch are the same, but in reverse;
# * `"threads"`: `DataParallel(model, slices=8)` instead.


# %% tags=["exercise"]
def moves_bits():
    """Return a set with some of the six names."""
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# Only what changes a sum: other slices group the samples in another way, and a reversed
# batch puts other samples into each slice, in another order. Who computes a slice, where,
# how often and when, does not enter into any sum.


# %% tags=["solution"]
def moves_bits():
    return {"batch", "slices"}


# %% tags=["check"]
def bits_with(slices=8, workers=2, backwards=False, arrival=None):
    """The gradient of a small model, with one thing changed."""
    model = mlp(np.random.default_rng(5), hidden=40)
    x, labels = train_images[:50], train_labels[:50]
    x, labels = (x[::-1].copy(), labels[::-1].copy()) if backwards else (x, labels)
    done = {}
    for place in arrival or range(slices):  # computed twice, as after a death
        for _ in range(workers):
            done[place] = share_of(model.twin(), x, labels, cut(50, slices)[place])
    return flat(add([done[place] for place in range(slices)]))


answer = moves_bits()
assert isinstance(answer, set), f'expected a set like {{"workers"}}, got {answer!r}'
usual = bits_with()
changes = {"workers": {"workers": 3}, "slices": {"slices": 6}, "death": {"workers": 1}}
changes |= {"arrival": {"arrival": (3, 1, 0, 7, 2, 6, 5, 4)}, "batch": {"backwards": True}}
changed = {
    name for name, how in changes.items() if not np.array_equal(usual, bits_with(**how))
}
assert answer <= {*changes, "threads"}, (
    f"only these names: {', '.join([*changes, 'threads'])}"
)
assert answer == changed, (
    f"not yet: you say {sorted(answer)}. For each of the six: does it change what is "
    "added, or in which order?"
)
print(f"passed: that is what happened to the bits when {len(changes)} things were changed")

# %% [markdown]
# ## What moved into nnlib
#
# `DataParallel`, for the threads of one machine, and `nnlib.cluster.ClusterParallel`, for
# the machines of a cluster; `fit(..., parallel=...)` takes either. Its hundred lines do
# what you wrote here: cut, send, add in order. The rest is Dask's, and all of it ran on the
# gradient that you derived by hand in notebook 01.
