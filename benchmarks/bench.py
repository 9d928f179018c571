"""nnlib beside PyTorch in one run: the same networks, weights, batches and cores; prints Markdown tables.

    python -m benchmarks.bench [--busy]    about three minutes; it refuses to start on a machine that is busy

Its one idea: a clock is honest when the contenders take turns under it, each in a process of its own. A short burst for
one, then for the other, many times over; medians are quoted, and what counts is the ratio. In one process they would
share the allocator: what one of them frees makes the other faster.
"""

import contextlib
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

import nnlib
from nnlib import (
    RNN,
    Adam,
    Conv2d,
    DataParallel,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    clip_grad_norm,
    cores,
    cross_entropy,
    to_device,
)
from nnlib.parallel import BLAS

torch = None
alone = sys.argv[1:2] in (["memory"], ["contender"]) and "nnlib" in sys.argv[2]  # a process of nnlib's own
if importlib.util.find_spec("torch") and not alone:
    import torch

MNIST, CIFAR = (1, (32,), (28, 28)), (3, (32, 64, 64), (32, 32))  # channels, filters of each convolution, picture size
TARGETS = {"mnist step": 0.65, "cifar step": 1.0, "rnn step": 0.6, "inference": 0.5, "memory": 0.5}
BUSY = 10  # per cent of all cores


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
        """Run one training step, the batch in one piece; return the loss."""
        loss, dlogits = cross_entropy(self.model.forward(self.x, training=True), self.labels, validate=False)
        self.model.backward(dlogits)
        self.optimizer.step()
        return float(loss)

    def shared_step(self, workers=None):
        """Run one training step, the batch in slices, with one worker a core; return the loss."""
        loss, _ = DataParallel(self.model, workers).gradients(self.x, self.labels, validate=False)
        self.optimizer.step()
        return float(loss)

    def infer(self):
        """Predict the whole batch, and let BLAS use the cores."""
        self.model.predict(self.x)

    def shared_infer(self, workers):
        """Predict the whole batch with workers."""
        self.model.predict(self.x, workers=workers)


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

    def shared_step(self, workers=None):
        """Run the same step with the batch in slices, and one worker a core; return the loss."""
        loss, _ = DataParallel(self.model, workers).gradients(self.x, self.labels, validate=False)
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


def contender(side: str, network, batch: int, action="step", pool_first=False, workers=None) -> tuple:
    """Return one side's work as a function without arguments, and the loss with which its training begins.

    side: "nnlib", "nnlib with workers" or "PyTorch". network: as MNIST above, or "rnn".
    action: "step" (train on a batch) or "infer" (predict `batch` pictures).
    """
    if network == "rnn":
        who = OurRNN()
    else:
        who = Ours(network, 64 if action == "infer" else batch, pool_first)
    if side == "PyTorch":
        who = TheirRNN(who) if network == "rnn" else Theirs(network, who)
    loss = who.step()
    if action == "infer":
        channels, _, size = network
        x = np.random.default_rng(2).random((batch, *size, channels), np.float32)
        who.x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(who.x.device) if torch else to_device(x)
    if side == "nnlib with workers":
        return lambda: getattr(who, f"shared_{action}")(workers or cores()), loss
    return getattr(who, action), loss


def serve(spec: dict) -> None:
    """Be a contender: print the first loss; then, for each number on stdin, that many seconds as JSON."""
    work, loss = contender(**spec)
    print(loss, flush=True)
    for line in sys.stdin:
        print(json.dumps(clock(work, int(line))), flush=True)


def clock(work, times: int) -> list[float]:
    """Return the seconds of each of `times` calls, after one that is not counted."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def contest(specs: list[dict], rounds: int, burst: int) -> list[float]:
    """Return the median seconds of each contender: `rounds` times a pause and a burst, in turns.

    The pause is for the other's threads, which go on spinning for some 30 ms after their last work. All must begin with
    the same loss: then they are the same network.
    """
    command = [sys.executable, "-m", "benchmarks.bench", "contender"]
    seconds = [[] for _ in specs]
    with contextlib.ExitStack() as stack:
        contenders = []
        for spec in specs:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            contenders.append(stack.enter_context(subprocess.Popen([*command, json.dumps(spec)], **pipes)))
        losses = [answer(process) for process in contenders]
        if not np.allclose(losses, losses[0], rtol=1e-3):
            raise RuntimeError(f"these are not the same networks: their first losses are {losses}")
        for _ in range(rounds):
            for process, times in zip(contenders, seconds, strict=True):
                time.sleep(0.1)
                process.stdin.write(f"{burst}\n")
                process.stdin.flush()
                times += answer(process)
    return [float(np.median(times)) for times in seconds]


def answer(process):
    """Return what a contender says next."""
    if not (line := process.stdout.readline()):
        raise RuntimeError("a contender ended before its time: its own error stands above")
    return json.loads(line)


def sides(network, batch: int, **options) -> list[dict]:
    """Return the contenders for a network: nnlib, nnlib with workers and, where it is installed, PyTorch."""
    names = ["nnlib", "nnlib with workers"] + (["PyTorch"] if torch else [])
    return [{"side": side, "network": network, "batch": batch} | options for side in names]


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
    return 2e-9 * 1536**3 / np.median(clock(lambda: float((a @ a)[0, 0]), 15))


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
        contender.shared_step() if side == "nnlib" else contender.step()
    contender.x = images[:10_000] if side == "nnlib" else images[:10_000].float() / 255
    contender.shared_infer(cores()) if side == "nnlib" else contender.infer()
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


def ratio(ours: float, theirs: list[float]) -> str:
    """Return ours over theirs as a cell of a table."""
    return f"{ours / theirs[0]:.2f}" if theirs else "–"


def milliseconds(seconds: list[float]) -> str:
    """Return the first of seconds, if there is one, as a cell of a table."""
    return f"{1000 * seconds[0]:.1f}" if seconds else "–"


def speed_table() -> None:
    """Print training steps and inference, with GFLOP/s against the machine's own matrix product."""
    best, shared = sgemm(), f"{cores()} workers"
    heading(
        "", "PyTorch, ms", "nnlib, ms", "ratio", f"{shared}, ms", "ratio", "target", f"of sgemm ({best:.0f} GFLOP/s)"
    )
    rnn = 2e-9 * 128 * (28 * (2 * 28 * 128 + 3 * 128 * 128) + 3 * 1280)  # nobody asks for the input's gradient
    mnist, cifar = gigaflops(MNIST, 64, training=True), gigaflops(CIFAR, 128, training=True)
    for name, specs, work, target, rounds, burst in (
        ("MNIST CNN, training step, batch 64", sides(MNIST, 64), mnist, "mnist step", 8, 6),
        ("the same, pool before ReLU", sides(MNIST, 64, pool_first=True), mnist, "mnist step", 8, 6),
        ("CIFAR CNN, training step, batch 128", sides(CIFAR, 128), cifar, "cifar step", 5, 4),
        ("RNN, 28 steps, 128 units, training step, batch 128", sides("rnn", 128), rnn, "rnn step", 8, 8),
        ("MNIST CNN, predicting 10,000", predicting(MNIST), gigaflops(MNIST, 10_000, False), "inference", 4, 1),
        ("CIFAR CNN, predicting 10,000", predicting(CIFAR), gigaflops(CIFAR, 10_000, False), "inference", 2, 1),
    ):
        whole, many, *theirs = contest(specs, rounds, burst)
        cells = [milliseconds(theirs), milliseconds([whole]), ratio(whole, theirs)]
        cells += [milliseconds([many]), ratio(many, theirs), f"≤ {TARGETS[target]}"]
        row(name, *cells, f"{work / min(whole, many) / best:.0%}")


def predicting(network) -> list[dict]:
    """Return the contenders in predicting 10,000 pictures."""
    return sides(network, 10_000, action="infer")


def memory_table() -> None:
    """Print the peak memory of training on MNIST and predicting 10,000 pictures, with workers."""
    heading("Training on MNIST, batch 64, and predicting 10,000", "nnlib", "PyTorch", "ratio", "target")
    (before, peak), *theirs = [peak_memory(side) for side in (["nnlib", "PyTorch"] if torch else ["nnlib"])]
    for name, ours, others in (
        ("peak of the process, MB", peak, [p for _, p in theirs]),
        ("of it, above libraries, weights and data, MB", peak - before, [p - b for b, p in theirs]),
    ):
        row(name, f"{ours:.0f}", f"{others[0]:.0f}" if others else "–", ratio(ours, others), f"≤ {TARGETS['memory']}")


def scaling_table() -> None:
    """Print the time per picture over batch sizes, per pixel over picture sizes, and per step over workers."""
    heading("MNIST CNN, training step", "PyTorch", "nnlib", "ratio", f"{cores()} workers", "ratio")
    for batch in (16, 64, 256, 512):
        scaled(f"batch {batch}, 28 by 28, µs a picture", sides(MNIST, batch), 1e6 / batch)
    for side in (28, 56, 112):
        network = (1, (32,), (side, side))
        scaled(f"batch 64, {side} by {side}, ns a pixel", sides(network, 64), 1e9 / 64 / side**2)
    heading("CIFAR CNN, training step, batch 128", "ms", "times as fast as one worker")
    hands = sorted({2**i for i in range(8) if 2**i < cores()} | {cores()})
    many = {"side": "nnlib with workers", "network": CIFAR, "batch": 128}
    seconds = contest([many | {"workers": workers} for workers in hands], rounds=4, burst=3)
    for workers, time_taken in zip(hands, seconds, strict=True):
        row(f"{workers} worker{'s' * (workers > 1)}", f"{1000 * time_taken:.1f}", f"{seconds[0] / time_taken:.2f}")


def scaled(name: str, specs: list[dict], factor: float) -> None:
    """Print a row of seconds times factor."""
    whole, many, *theirs = contest(specs, rounds=4, burst=3)
    cells = [f"{factor * theirs[0]:.0f}" if theirs else "–", f"{factor * whole:.0f}", ratio(whole, theirs)]
    row(name, *cells, f"{factor * many:.0f}", ratio(many, theirs))


def machine() -> str:
    """Return what the numbers depend on: processor, vector width, kernels, versions, date."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
        name = f"{facts.get('model name', name).strip()} (family {facts.get('cpu family', '?').strip()})"
    features = np._core._multiarray_umath.__cpu_features__
    vectors = next((words for key, words in VECTORS.items() if features.get(key)), "no AVX2")
    kernels = ", ".join(f"{library['internal_api']} {library.get('architecture', '')}" for library in blas())
    theirs = f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})" if torch else "no PyTorch"
    where = os.environ.get("NNLIB_DEVICE", "cpu")
    lines = [
        f"{datetime.date.today()}: {name}, {cores()} cores, {vectors}; {where}, float32",
        f"NumPy {np.__version__} ({kernels.strip()} kernels), {theirs}, each with {cores()} threads",
    ]
    if held := [f"{key}={os.environ[key]}" for key in HOLDING if os.environ.get(key)]:
        lines.append(f"Held back by the environment: {', '.join(held)}")
    return "\n".join(lines)


VECTORS = {"X86_V4": "AVX-512", "AVX512_SKX": "AVX-512", "X86_V3": "AVX2", "AVX2": "AVX2", "ASIMD": "NEON"}
HOLDING = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


def blas() -> list[dict]:
    """Return what is known of the libraries that compute NumPy's products."""
    return [library for library in BLAS.info() if library["user_api"] == "blas"]


def neighbours() -> str | None:
    """Return a sentence on who keeps this machine busy, or None if it is idle."""
    running = list(psutil.process_iter(["pid", "name"]))
    for process in running:
        with contextlib.suppress(psutil.Error):
            process.cpu_percent()  # begins to count
    if (load := psutil.cpu_percent(interval=2)) <= BUSY:
        return None
    shares = []
    for process in running:
        with contextlib.suppress(psutil.Error):
            shares.append((process.cpu_percent(), f"{process.info['name']} ({process.info['pid']})"))
    names = ", ".join(name for _, name in sorted(shares, reverse=True)[:3])
    return f"This machine is busy: {load:.0f} % of its cores, first of all with {names}"


def main() -> None:
    """Print all tables."""
    if torch:
        torch.set_num_threads(cores())
    match sys.argv[1:]:
        case ["memory", side]:
            return measure_memory(side)
        case ["contender", spec]:
            return serve(json.loads(spec))
    if busy := neighbours():
        if "--busy" not in sys.argv:
            sys.exit(
                f"{busy}. Ratios measured now would not be true: wait, or see them all the same with make bench BUSY=1"
            )
        print(f"{busy}: the numbers below are not to be quoted.\n")
    print(machine())
    if not torch:
        print("PyTorch is not installed, so nnlib runs alone: make setup-torch")
    speed_table()
    where = os.environ.get("NNLIB_DEVICE", "cpu")
    if where == "cpu" and importlib.util.find_spec("resource"):  # not on Windows
        memory_table()
    scaling_table()
    if "--busy" not in sys.argv and (busy := neighbours()):
        print(f"\n{busy}, now at the end: it may have been so before, measure again.")
    if where == "cpu" and importlib.util.find_spec("cupy"):
        print(flush=True)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bench", *sys.argv[1:]], env=os.environ | {"NNLIB_DEVICE": "cuda"}
        )


if __name__ == "__main__":
    main()
