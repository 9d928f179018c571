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
(train_images, train_labels), (validation_images, validation_labels) = data.split(1 / 6, rng)
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


model = mlp(np.random.default_rng(SEED))
x, labels = train_images[:128], train_labels[:128]
whole = gradient(model, x, labels)[1]
halves = [gradient(model, x[part], labels[part])[1] for part in np.split(np.arange(128), 2)]
unit = np.abs(whole[0]).sum(axis=0).argmax()  # the one that is pulled at most

# %% tags=["cover", "figure", "nbval-ignore-output"]
figure, grid = plt.subplots(1, 3, figsize=(9, 3.1))
shown = [half[0][:, unit] / 2 for half in halves] + [whole[0][:, unit]]
limit = max(np.abs(values).max() for values in shown)
titles = ("64 pictures ask for this", "+   the other 64 for this", "=   all 128 for this")
for axes, values, title in zip(grid, shown, titles, strict=True):
    axes.imshow(values.reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set(title=title, xticks=[], yticks=[])
plots.show(
    figure,
    alt="Three pictures of the gradient for the weights of one hidden unit, red up and "
    "blue down: of one half of a batch, of the other half, and of both, which is their sum.",
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
    return [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]


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


for slices in (2, 3, 7, 128):
    together = add([share_of(model, x, labels, part) for part in cut(128, slices)])
    off = max(np.abs(a - b).max() for a, b in zip(whole, together, strict=True))
    claim(f"{slices} slices give the gradient of the whole batch, to 1e-6", off, at_most=1e-6)

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


shares = [share_of(model, x, labels, part) for part in cut(128, 8)]
in_order = add(shares)
print(f"whole batch and two halves: {differing(whole, add([shares[0]] + shares[1:])):.1%}")
for order in ([7, 6, 5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 7, 4, 2, 6], range(8)):
    print("eight slices in the order", *order, "differ from the first order in", end=" ")
    print(f"{differing(in_order, add([shares[i] for i in order])):.1%} of the numbers")
print("you predicted:", "the same bits" if my_same_bits else "other bits")

# %% [markdown]
# Rounding. A sum of float32 numbers is rounded after each addition, so $(a + b) + g$ need
# not be $a + (b + g)$. Most people say "the same", because on paper it is. Nobody
# notices the last bit of one step; but training multiplies it (notebook 08 watched two
# equal trainings part), and then no two runs agree, and no stored digit can be checked.
#
# The remedy costs nothing: **add in the order of the slices, not in that in which they
# arrive.** Then the slices alone decide the bits, and the workers, how many they are and how
# fast, don't.
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
        return add(list(pool.map(lambda task: share_of(task[0], x, labels, task[1]), tasks)))


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


model = cnn(np.random.default_rng(SEED))
one, two, five = (by_threads(model, x, labels, 5, workers) for workers in (1, 2, 5))
claim("two workers and five give the bits of one", differing(one, two), equals=0)
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


hands = list(range(1, min(nnlib.cores(), 4) + 1))
networks = {"cnn": cnn(np.random.default_rng(SEED)), "mlp": mlp(np.random.default_rng(SEED))}
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
    listed = ", ".join(f"{1000 * s:.1f} ms with {w}" for w, s in zip(hands, seconds, strict=True))
    print(f"{name}: {listed}; serial {serial[name]:.0%}")

# %% tags=["figure", "nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7, 3.2))
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
# The points are measured, the curves beyond them are what the law says. The network with
# few weights and much to compute shares well. The other one has ten times more weights:
# adding up and Adam's step take much of its time, and no further hand helps there.
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
claim("there are at least two workers, or one on a cluster of yours", len(pids), at_least=1)
claim("and this process is none of them", os.getpid() in pids.values(), equals=False)

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
# `nnlib.cluster.ClusterParallel` is this with care: a pickled model that leaves at home what
# nobody needs, dropout that draws the same as here, a check that every worker has the same
# nnlib and NumPy. It sends each slice of pictures with its task, in every step. That sounds
# wasteful; why it is not, we shall count. Training with it must give the losses of one
# worker: not similar ones, *these*.

# %%
count, epochs = (4000, 2) if full else (1500, 2)
few = (train_images[:count], train_labels[:count])
judges = (validation_images[:1000], validation_labels[:1000])


def train_cnn(make):
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
        progress=False,
        parallel=make(model),
    )
    return history, model.copy_weights()


def equal_weights(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


alone, weights_alone = train_cnn(lambda model: nnlib.DataParallel(model, workers=1))
cluster_history, weights = train_cnn(lambda model: ClusterParallel(model, client))
print("epoch   one worker here       the cluster")
for epoch, losses in enumerate(zip(alone.train_loss, cluster_history.train_loss, strict=True)):
    print(f"{epoch + 1:5}   {losses[0]:.12f}        {losses[1]:.12f}")
# on machines with other processors, last digits may differ
if not address:
    claim("every weight is equal to the last bit", equal_weights(weights, weights_alone), equals=True)

# %% [markdown]
# ## A worker dies
#
# Machines fail; on a thousand of them, some machine fails every day. So let us see it. In
# the ninth step of the same training, in the middle of its work, one worker gets the signal
# that no process can refuse. **You predicted how many samples that loses.**


# %%
def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Murder:
    """Hands every step on to a ClusterParallel; in one of them, a worker is killed."""

    def __init__(self, parallel, step, delay=0.02):
        self.parallel, self.step, self.delay, self.steps = parallel, step, delay, 0
        self.model, self.slices, self.workers = parallel.model, parallel.slices, None

    def gradients(self, *arguments, **options):
        self.steps += 1
        if self.steps == self.step:
            victim = next(iter(pids))
            there = {"workers": [victim], "on_error": "ignore"}
            threading.Timer(self.delay, client.run, [die], there).start()
        return self.parallel.gradients(*arguments, **options)


survived, weights = train_cnn(lambda model: Murder(ClusterParallel(model, client), 9))
killed = next(iter(pids.values()))
claim("the worker is dead", killed in client.run(os.getpid).values(), equals=False)
rows = zip(alone.train_loss, survived.train_loss, strict=True)
print("difference of the losses, epoch by epoch:", [first - second for first, second in rows])
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
# size of the network crosses its line. Pictures are as nothing beside that, at least for the
# MLP: *that* is why ClusterParallel may send them again in every step. And it is why the two
# networks fare so differently on the cluster. Here is the clock, of one step:

# %% tags=["nbval-ignore-output"]
there = {
    name: step_time(model, ClusterParallel(model, client)) for name, model in networks.items()
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
# collects? Stand in a circle. Everybody cuts their gradient into as many chunks as there
# are workers, and hands *one* chunk to the right, all at the same time; whoever gets a chunk
# adds their own to it, and next time hands on the sum.
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


for workers in (2, 4, 8):
    gradients = [flat(share_of(networks["mlp"], x, labels, part)) for part in cut(128, workers)]
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
# workers agree with each other to the last bit, but not with the sum in the order of slices.
# A ring is reproducible too; it has only chosen other bits, which change with the number of
# workers.
#
# Now the clock of both, with a network and lines of your choice. **Try**: find a setting in
# which 1,000 workers are slower than one. Then keep the network and make the line faster:
# does the ring's best number of workers grow with the bandwidth, or does something else hold
# it back?

# %% tags=["figure"]
interactive.scaling(sizes["mlp"], 0.1, workers=16, gigabits=10.0)

# %% [markdown]
# The server's curve turns down early: every further worker adds to its line. The ring's goes
# on, until another term takes over: a message needs its latency, however short it is, and a
# ring of 1,000 passes on 1,998 of them one after the other. No bandwidth helps against that.
# (Large clusters build trees of rings.)
#
# ## Say less
#
# If talking is the price, send less. Two ideas: **float16**, half the bytes; and **top-k**,
# only the largest entries, here one in a hundred, with their places. What of the rest? Forget
# it, or remember what was not sent and add it to the next gradient: **error feedback**
# (Stich et al. 2018). You predicted what forgetting costs.
#
# We play four workers in one process: what arrives is computed exactly, only nothing travels.
# To be fair, each contender gets the best of the same three learning rates, chosen on
# validation pictures; then three seeds, and pictures of the test set that chose nothing.


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


def train(seed, lr, sets, batch_size=64, workers=4, send=None, delay=0, epochs=3):
    """Plain SGD; sets: training pictures, labels, and pairs to judge by. Returns accuracies.

    send(worker, gradient): what arrives of it. delay: steps until a gradient is applied.
    """
    images, labels, *judges = sets
    draw, waiting = np.random.default_rng(seed), deque()
    model = mlp(draw, hidden=64)
    params = [param for _, param in model.named_parameters()]
    for _ in range(epochs):
        order = draw.permutation(len(images))
        for start in range(0, len(order), batch_size):
            rows, total = order[start : start + batch_size], 0
            for worker, part in enumerate(cut(len(rows), min(workers, len(rows)))):
                g = flat(share_of(model, images[rows], labels[rows], part))
                total = total + (send(worker, g) if send else g)
            waiting.append(total)
            if len(waiting) > delay:
                ends = np.cumsum([param.size for param in params])[:-1]
                for param, grad in zip(params, np.split(waiting.popleft(), ends), strict=True):
                    param -= np.float32(lr) * grad.reshape(param.shape)
    return [nnlib.accuracy(model.predict(x), y) for x, y in judges]


# %% [markdown]
# Thirty-six trainings: a search is the best thing that can happen to a cluster, because its
# runs need not talk to each other at all. One `map`, and every worker is busy.

# %%
some = 5000 if full else 1500
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


def search(contenders, rates=(0.1, 0.2, 0.4)):
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
sent = {n: f"{b / 1000:6.1f} kB a worker and step" for n, b in zip(compressed, kilobytes, strict=True)}
report(compressed, sent)
mean = {name: np.mean(scores) for name, (_, scores) in compressed.items()}
lost = 100 * (mean["float32"] - mean["top 1 %, forgotten"])
print(f"forgetting costs {lost:.1f} points; you predicted {my_points}")

# %% [markdown]
# FILL

# %%
claim(
    "float16 costs less than a point",
    mean["float32"] - mean["float16"],
    at_most=0.01,
)
claim(
    "top 1 % with error feedback costs less than four points",
    mean["float32"] - mean["top 1 %, error feedback"],
    at_most=0.04,
)

# %% [markdown]
# ## Don't wait
#
# The other way to lose less time: nobody waits. A worker computes with the weights that it
# has, and its gradient is applied when it arrives, to weights that have moved on: it is
# **stale**. Here every gradient is applied some steps late. Again each delay gets the best
# of the same rates.

# %%
rates = (0.025, 0.05, 0.1, 0.2, 0.4)
stale = search({f"{d} steps late": {"delay": d, "workers": 1} for d in (0, 1, 4, 16)}, rates)
report(stale)

# %% [markdown]
# FILL
#
# ## Or give everybody more to do
#
# With more workers, a larger batch keeps each of them as busy as before, and they talk once
# a batch. But then an epoch has fewer steps. The **linear scaling rule** (Goyal et al. 2017):
# a batch that is so many times larger, a learning rate that is so many times larger. Same
# epochs, same pictures; the rule against the rate of the small batch.

# %%
base_lr, base = 0.1, 32
batches = (32, 128, 512, 2048)
laws = {}
for law in ("the rate stays", "the rule"):
    for size in batches:
        lr = base_lr * (size / base if law == "the rule" else 1)
        laws[law, size] = search({size: {"batch_size": size, "workers": 1}}, (lr,))[size]
for law in ("the rate stays", "the rule"):
    for size in batches:
        report({f"{law}, batch {size}": laws[law, size]})

# %% [markdown]
# FILL
#
# That was the last of the cluster. Close it: the exercises need none.

# %%
client.close()
if cluster:
    cluster.close()
