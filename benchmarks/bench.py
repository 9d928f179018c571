"""nnlib beside PyTorch in one run: the same networks, weights, batches and threads; prints Markdown tables.

    python -m benchmarks.bench            about two minutes; wants an idle machine

Its one idea: a clock is honest when both contenders take turns under it. Each gets a short burst, then the other, many
times over; medians are quoted, and what counts is the ratio. Peak memory is taken in a process of its own for each.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

THREADS = "2"
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)  # before NumPy starts its BLAS

import numpy as np  # noqa: E402

import nnlib  # noqa: E402
from nnlib import (  # noqa: E402
    RNN,
    Adam,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    clip_grad_norm,
    cross_entropy,
    to_device,
)

torch = None
if importlib.util.find_spec("torch") and sys.argv[1:] != ["memory", "nnlib"]:  # there its own memory would count too
    import torch

MNIST, CIFAR = (1, (32,), (28, 28)), (3, (32, 64, 64), (32, 32))  # channels, filters of each convolution, picture size
TARGETS = {"mnist step": 0.8, "cifar step": 1.2, "rnn step": 0.5, "inference": 1.0, "memory": 1.0}


# ------------------------------------------------------------------------------------------------ the two contenders


def our_network(channels, filters, size, pool_first=False) -> Sequential:
    """Build Conv2d 3x3, ReLU, MaxPool2d 2 for each number of filters, then Linear 128, ReLU, Linear 10."""
    rng, layers = np.random.default_rng(0), []
    for count in filters:
        block = [ReLU(), MaxPool2d(2)]
        layers += [Conv2d(channels, count, 3, padding=1, rng=rng), *(block[::-1] if pool_first else block)]
        channels, size = count, (size[0] // 2, size[1] // 2)
    layers += [Flatten(), Linear(channels * size[0] * size[1], 128, rng=rng), ReLU(), Linear(128, 10, rng=rng)]
    return Sequential(layers)


def their_network(ours: Sequential, channels, filters, size):
    """Build the same network in PyTorch, with the weights of ours."""
    layers = []
    for layer in ours.layers:
        if isinstance(layer, Conv2d):
            c_in, c_out = layer.params["W"].shape[2:]
            layers.append(torch.nn.Conv2d(c_in, c_out, 3, padding=1))
        elif isinstance(layer, Linear):
            layers.append(torch.nn.Linear(*layer.params["W"].shape))
        elif isinstance(layer, MaxPool2d):
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers.append(getattr(torch.nn, type(layer).__name__)())
    theirs = torch.nn.Sequential(*layers)
    flattened = (*(side // 2 ** len(filters) for side in size), filters[-1])  # channels last here, first there
    with torch.no_grad():
        for layer, twin in zip(ours.layers, theirs, strict=True):
            if not layer.params:
                continue
            W = nnlib.to_numpy(layer.params["W"])
            if W.ndim == 4:
                W = W.transpose(3, 2, 0, 1)
            elif len(W) == np.prod(flattened):
                W = W.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(W.shape).T
            else:
                W = W.T
            twin.weight.copy_(torch.from_numpy(W.copy()))
            twin.bias.zero_()
    return theirs


class Ours:
    """nnlib's side of a contest."""

    def __init__(self, network, batch, pool_first=False):
        channels, _, size = network
        rng = np.random.default_rng(1)
        self.model = our_network(*network, pool_first)
        self.x = to_device(rng.random((batch, *size, channels), np.float32))
        self.labels = to_device(rng.integers(0, 10, batch))
        self.optimizer = Adam(self.model)

    def step(self):
        """Run one training step; return the loss."""
        loss, dlogits = cross_entropy(self.model.forward(self.x, training=True), self.labels, validate=False)
        self.model.backward(dlogits)
        self.optimizer.step()
        return float(loss)

    def infer(self):
        """Predict the whole batch, 512 pictures at a time."""
        self.model.predict(self.x)


class Theirs:
    """PyTorch's side, given ours: the same weights, pictures and labels."""

    def __init__(self, network, ours: Ours):
        device = "cuda" if os.environ.get("NNLIB_DEVICE") == "cuda" else "cpu"
        self.model = their_network(ours.model, *network).to(device)
        self.x = torch.from_numpy(nnlib.to_numpy(ours.x).transpose(0, 3, 1, 2).copy()).to(device)
        self.labels = torch.from_numpy(nnlib.to_numpy(ours.labels)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def step(self):
        """Run one training step; return the loss."""
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @(torch.no_grad() if torch else lambda function: function)
    def infer(self):
        """Predict the whole batch, 512 pictures at a time."""
        return [self.model(self.x[i : i + 512]).cpu() for i in range(0, len(self.x), 512)]


class OurRNN:
    """nnlib's side of the recurrent contest: 28 rows of 28 pixels, 128 tanh units, the last state classified."""

    def __init__(self, batch=128, hidden=128):
        rng = np.random.default_rng(1)
        self.model = Sequential([RNN(28, hidden, rng=rng), Linear(hidden, 10, rng=rng)])
        self.x = to_device(rng.random((batch, 28, 28), np.float32))
        self.labels = to_device(rng.integers(0, 10, batch))
        self.optimizer = Adam(self.model)

    def step(self):
        """Run one training step, the gradients clipped to norm 1; return the loss."""
        loss, dlogits = cross_entropy(self.model.forward(self.x, training=True), self.labels, validate=False)
        self.model.backward(dlogits)
        clip_grad_norm(self.model, 1.0)
        self.optimizer.step()
        return float(loss)


class TheirRNN:
    """PyTorch's side, given ours: the same weights, sequences and labels."""

    def __init__(self, ours: OurRNN):
        device = "cuda" if os.environ.get("NNLIB_DEVICE") == "cuda" else "cpu"
        weights = {name: nnlib.to_numpy(param).T.copy() for name, param in ours.model.named_parameters()}
        hidden = len(weights["0.Wh"])
        self.recurrent = torch.nn.RNN(28, hidden, batch_first=True)
        self.linear = torch.nn.Linear(hidden, 10)
        with torch.no_grad():
            self.recurrent.weight_ih_l0.copy_(torch.from_numpy(weights["0.Wx"]))
            self.recurrent.weight_hh_l0.copy_(torch.from_numpy(weights["0.Wh"]))
            self.linear.weight.copy_(torch.from_numpy(weights["1.W"]))
            for bias in (self.recurrent.bias_ih_l0, self.recurrent.bias_hh_l0, self.linear.bias):
                bias.zero_()
        self.recurrent.to(device)
        self.linear.to(device)
        self.params = [*self.recurrent.parameters(), *self.linear.parameters()]
        self.x = torch.from_numpy(nnlib.to_numpy(ours.x)).to(device)
        self.labels = torch.from_numpy(nnlib.to_numpy(ours.labels)).to(device)
        self.optimizer = torch.optim.Adam(self.params)

    def step(self):
        """Run one training step, the gradients clipped to norm 1; return the loss."""
        self.optimizer.zero_grad()
        logits = self.linear(self.recurrent(self.x)[0][:, -1])
        loss = torch.nn.functional.cross_entropy(logits, self.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        return float(loss.detach())


# ------------------------------------------------------------------------------------------------------------- clocks


def take_turns(contenders, rounds, burst) -> list[float]:
    """Return each contender's median seconds: `rounds` times a pause, a warm-up call and `burst` timed ones, in turns.

    The pause is for the other's threads, which go on spinning for some 30 ms after their last work.
    """
    seconds = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, times in zip(contenders, seconds, strict=True):
            time.sleep(0.1)
            contender()
            for _ in range(burst):
                began = time.perf_counter()
                contender()
                times.append(time.perf_counter() - began)
    return [float(np.median(times)) for times in seconds]


def contest(network, batch, action="step", rounds=8, burst=6, pool_first=False) -> list[float]:
    """Return the seconds of ours and, where PyTorch is there, of theirs; both must begin with the same loss."""
    ours = Ours(network, batch, pool_first)
    sides = [ours, Theirs(network, ours)] if torch else [ours]
    return race(sides, action, rounds, burst)


def recurrent_contest(rounds=8, burst=8) -> list[float]:
    """Return the seconds of a recurrent network's training step: ours and, where PyTorch is there, theirs."""
    ours = OurRNN()
    return race([ours, TheirRNN(ours)] if torch else [ours], "step", rounds, burst)


def race(sides, action, rounds, burst) -> list[float]:
    """Let the sides take turns, once it is clear that they begin with the same loss."""
    losses = [side.step() for side in sides]
    if not np.allclose(losses, losses[0], rtol=1e-3):
        raise RuntimeError(f"these are not the same networks: their first losses are {losses}")
    return take_turns([getattr(side, action) for side in sides], rounds, burst)


def gigaflops(network, batch, training) -> float:
    """Count the multiplications and additions, in 10^9, of the convolutions and Linears of one step or prediction."""
    channels, filters, (H, W) = network
    products = []
    for count in filters:
        products.append(H * W * 9 * channels * count)
        channels, H, W = count, H // 2, W // 2
    products += [channels * H * W * 128, 1280]
    passes = 3 * sum(products) - products[0] if training else sum(products)  # nobody asks for the first layer's dx
    return 2e-9 * batch * passes


def sgemm() -> float:
    """Return the GFLOP/s of NumPy's product of two 1536 x 1536 float32 matrices, the median of 15."""
    a = to_device(np.ones((1536, 1536), np.float32))
    return 2e-9 * 1536**3 / take_turns([lambda: float((a @ a)[0, 0])], 3, 5)[0]


# ------------------------------------------------------------------------------------------------------------- memory


def measure_memory(side: str) -> None:
    """Train on MNIST-sized data and predict 10,000 pictures; print [MB before, peak MB] of this process."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60_000, 28, 28, 1), np.uint8), rng.integers(0, 10, 60_000)
    ours = Ours(MNIST, 64)
    contender = ours if side == "nnlib" else Theirs(MNIST, ours)
    if side == "PyTorch":
        images, labels, ours = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels), None
    before = peak_so_far()
    for i in range(0, 60 * 64, 64):
        contender.x, contender.labels = images[i : i + 64], labels[i : i + 64]
        if side == "PyTorch":
            contender.x = contender.x.float() / 255
        contender.step()
    contender.x = images[:10_000] if side == "nnlib" else images[:10_000].float() / 255
    contender.infer()
    print(json.dumps([before, peak_so_far()]))


def peak_so_far() -> float:
    """Return this process's peak memory in MB. (Linux hands a parent's ru_maxrss on to its children: VmHWM is ours.)"""
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        import resource  # Windows has none

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def peak_memory(side: str) -> list[float]:
    """Run `measure_memory` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench", "memory", side]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# ------------------------------------------------------------------------------------------------------------- tables


def row(*cells) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def heading(*cells) -> None:
    """Print the first two lines of a Markdown table: names, and all columns but the first to the right."""
    print()
    row(*cells)
    row("---", *["---:"] * (len(cells) - 1))


def against(ours: float, theirs: list[float], digits=1) -> list[str]:
    """Return the cells: ours, theirs, ratio."""
    if not theirs:
        return [f"{ours:.{digits}f}", "–", "–"]
    return [f"{ours:.{digits}f}", f"{theirs[0]:.{digits}f}", f"{ours / theirs[0]:.2f}"]


def speed_table() -> None:
    """Print training steps and inference, with GFLOP/s against the machine's own matrix product."""
    best = sgemm()
    heading("", "nnlib, ms", "PyTorch, ms", "ratio", "target", "nnlib, GFLOP/s", f"of sgemm ({best:.0f})")
    for name, network, batch, action, target, options in (
        ("MNIST CNN, training step, batch 64", MNIST, 64, "step", "mnist step", {}),
        ("the same, pool before ReLU", MNIST, 64, "step", "mnist step", {"pool_first": True}),
        ("CIFAR CNN, training step, batch 128", CIFAR, 128, "step", "cifar step", {"rounds": 5, "burst": 4}),
        ("MNIST CNN, inference, 10,000 pictures", MNIST, 10_000, "infer", "inference", {"rounds": 4, "burst": 1}),
        ("CIFAR CNN, inference, 10,000 pictures", CIFAR, 10_000, "infer", "inference", {"rounds": 2, "burst": 1}),
    ):
        if action == "infer":
            ours, *theirs = inference(network, **options)
        else:
            ours, *theirs = contest(network, batch, action, **options)
        rate = gigaflops(network, batch, action == "step") / ours
        cells = against(1000 * ours, [1000 * t for t in theirs])
        row(name, *cells, f"≤ {TARGETS[target]}", f"{rate:.0f}", f"{rate / best:.0%}")
    ours, *theirs = recurrent_contest()
    rate = 2e-9 * 128 * (28 * (2 * 28 * 128 + 3 * 128 * 128) + 3 * 1280) / ours  # nobody asks for the input's gradient
    cells = against(1000 * ours, [1000 * t for t in theirs])
    row(
        "RNN, 28 steps, 128 units, training step, batch 128",
        *cells,
        f"≤ {TARGETS['rnn step']}",
        f"{rate:.0f}",
        f"{rate / best:.0%}",
    )


def inference(network, rounds, burst) -> list[float]:
    """Return the seconds in which each side predicts 10,000 pictures."""
    ours = Ours(network, 64)
    sides = [ours, Theirs(network, ours)] if torch else [ours]
    channels, _, size = network
    x = np.random.default_rng(2).random((10_000, *size, channels), np.float32)
    ours.x = to_device(x)
    if torch:
        sides[1].x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(sides[1].x.device)
    return take_turns([side.infer for side in sides], rounds, burst)


def memory_table() -> None:
    """Print the peak memory of training on MNIST and predicting 10,000 pictures."""
    heading("Training on MNIST, batch 64, and predicting 10,000", "nnlib", "PyTorch", "ratio", "target")
    (before, peak), *theirs = [peak_memory(side) for side in (["nnlib", "PyTorch"] if torch else ["nnlib"])]
    target = f"≤ {TARGETS['memory']}"
    row("peak of the process, MB", *against(peak, [p for _, p in theirs], 0), target)
    row("of it, above libraries, weights and data, MB", *against(peak - before, [p - b for b, p in theirs], 0), target)


def scaling_table() -> None:
    """Print the time per picture over batch sizes, and per pixel over picture sizes: both should stay level."""
    heading("MNIST CNN, training step", "nnlib, µs a picture", "PyTorch", "ratio")
    for batch in (16, 64, 256, 512):
        ours, *theirs = (t / batch * 1e6 for t in contest(MNIST, batch, rounds=4, burst=3))
        row(f"batch {batch}, 28 by 28", *against(ours, theirs))
    for side in (28, 56, 112):
        ours, *theirs = (t / 16 * 1e6 for t in contest((1, (32,), (side, side)), 16, rounds=4, burst=3))
        cells = against(ours, theirs)
        row(f"batch 16, {side} by {side} ({ours / side**2 * 1000:.0f} ns a pixel)", *cells)


def main() -> None:
    """Print all tables."""
    if sys.argv[1:2] == ["memory"]:
        if torch:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return measure_memory(sys.argv[2])
    versions = f"NumPy {np.__version__}, " + (f"PyTorch {torch.__version__}" if torch else "no PyTorch")
    where = os.environ.get("NNLIB_DEVICE", "cpu")
    print(f"nnlib beside PyTorch: {where}, {os.environ['OPENBLAS_NUM_THREADS']} threads, float32, Adam. {versions}")
    if torch:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    else:
        print("PyTorch is not installed, so nnlib runs alone: make setup-torch")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0  # Windows has none
    if load > 0.5:
        print(f"This machine is busy (load {load:.1f}): the numbers below are not to be quoted")
    speed_table()
    if where == "cpu" and importlib.util.find_spec("resource"):  # not on Windows
        memory_table()
    scaling_table()
    if where == "cpu" and importlib.util.find_spec("cupy"):
        print(flush=True)
        subprocess.run([sys.executable, "-m", "benchmarks.bench"], env=os.environ | {"NNLIB_DEVICE": "cuda"})


if __name__ == "__main__":
    main()
