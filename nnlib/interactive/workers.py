"""Many workers, two figures: what a step costs with so many of them, and how a ring adds up their gradients.

Their one idea: to compute is divided by the number of workers, to talk is not; all that matters is who sends how much.
"""

import matplotlib.pyplot as plt
import numpy as np

from .figure import Figure, png

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1000)  # workers
SCHEMES = ("server", "ring")


def talking(scheme: str, workers, size: float, bandwidth: float, latency: float):
    """Return the seconds in which so many workers add up their gradients and have the sum back.

    scheme: "server": all the others send to one of them, and it sends the sum to all; "ring": see `ring`.
    workers: a whole number, or an array of them. size: bytes of a gradient. bandwidth: of each worker's line, in bytes
    a second, either way. latency: seconds before a message begins to arrive.
    """
    workers = np.asarray(workers)
    if scheme == "server":
        return 2 * np.where(workers > 1, latency + (workers - 1) * size / bandwidth, 0.0)
    return 2 * (workers - 1) * (latency + size / workers / bandwidth)


def scaling(parameters: int, seconds: float, *, workers: int = 16, gigabits: float = 10.0, latency=1e-4) -> Figure:
    """Draw the speed-up against the number of workers, by a server and in a ring; each setting has a slider.

    parameters: of the network, float32. seconds: one worker's time for the whole batch, which the others share out.
    workers: one of 1, 2, 3, 4, 6, 8, 12 ... 1000. gigabits: a second, of each line, 0.1 to 100. latency: seconds of a
    message, 1e-6 to 0.01. Sliders have steps: the nearest is taken.
    On paper: the curves for 1, 10 and 100 Gbit/s. Raises ValueError for values outside of these bounds.
    """
    bounds = {"parameters": (parameters, 1e3, 1e9), "seconds": (seconds, 1e-3, 100)}
    bounds |= {"gigabits": (gigabits, 0.1, 100), "latency": (latency, 1e-6, 0.01)}
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            raise ValueError(f"{name} lies between {least:g} and {most:g}, got {value}")
    if workers not in COUNTS:
        raise ValueError(f"workers is one of {', '.join(map(str, COUNTS))}, got {workers}")
    data = {"counts": COUNTS, "workers": COUNTS.index(workers)}
    data |= {name: round(10 * np.log10(value)) for name, (value, _, _) in bounds.items()}  # in tenths of a power of ten
    alt = (
        "Speed-up against the number of workers, from 1 to 1000, both axes logarithmic: a server's curve rises and "
        "soon falls again, a ring's goes on longer, and both stay below the line of perfect sharing. Sliders change "
        "the workers, the line, the latency, the network and one worker's time."
    )
    still = png(_still_scaling(parameters, seconds, latency))
    return Figure("scaling", data, png=still, alt=alt, height=520)


def _still_scaling(parameters, seconds, latency):
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
    for panel, gigabits in zip(axes, (1, 10, 100), strict=True):
        panel.loglog(COUNTS, COUNTS, ":", color="grey", label="perfect sharing")
        for scheme, style in zip(SCHEMES, ("s-", "o-"), strict=True):
            talk = talking(scheme, COUNTS, 4 * parameters, gigabits * 1e9 / 8, latency)
            panel.loglog(COUNTS, seconds / (seconds / np.array(COUNTS) + talk), style, markersize=4, label=scheme)
        panel.set(title=f"{gigabits} Gbit/s", xlabel="workers", ylim=(0.5, 200))
    axes[0].set_ylabel("speed-up")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{parameters:,} parameters, {1000 * seconds:g} ms for one worker", fontsize=11)
    return figure


def ring_steps(workers: int) -> list[dict]:
    """Return what a ring of workers does, step by step: 2 (workers - 1) of them after the beginning.

    Each gradient is cut into as many chunks as there are workers. "sends": [[from, chunk], ...], each to the next
    worker; "holds"[worker][chunk]: the workers whose gradients are in the sum that it holds.
    In the first half a chunk is added to the receiver's own, in the second it takes its place.
    """
    holds = [[[worker] for _ in range(workers)] for worker in range(workers)]
    steps = [{"sends": [], "holds": holds}]
    for step in range(2 * (workers - 1)):
        adding = step < workers - 1
        first = -step if adding else workers - step  # worker 0 sends this chunk, each other one the next
        sends = [[worker, (worker + first) % workers] for worker in range(workers)]
        before, holds = holds, [list(chunks) for chunks in holds]
        for worker, chunk in sends:
            to, coming = (worker + 1) % workers, before[worker][chunk]
            holds[to][chunk] = sorted({*before[to][chunk], *coming}) if adding else coming
        steps.append({"sends": sends, "holds": holds})
    return steps


def ring(workers: int = 4) -> Figure:
    """Draw a ring of workers that adds up their gradients, chunk by chunk, to be stepped through; 2 to 6 workers.

    On paper: the beginning, the middle and the end. Raises ValueError for another number of workers.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or not 2 <= workers <= 6:
        raise ValueError(f"workers is a whole number from 2 to 6, got {workers!r}")
    data = {"rings": {str(count): ring_steps(count) for count in range(2, 7)}, "workers": workers}
    alt = (
        "Workers side by side, each with its gradient cut into chunks; bars in a chunk say whose gradients are in its "
        "sum. Chunks move to the next worker step by step, until everybody has all sums. Step with the slider, and "
        "choose the number of workers."
    )
    return Figure("ring", data, png=png(_still_ring(workers)), alt=alt, height=430)


def _still_ring(workers):
    steps = ring_steps(workers)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
    for panel, step, when in zip(
        axes, (0, workers - 1, 2 * workers - 2), ("At first", "Half-way", "At last"), strict=True
    ):
        for worker, chunks in enumerate(steps[step]["holds"]):
            for chunk, those in enumerate(chunks):
                full = len(those) == workers
                box = plt.Rectangle((worker + 0.04, chunk + 0.06), 0.92, 0.88, fc="0.85" if full else "white", ec="0.4")
                panel.add_patch(box)
                for who in those:
                    panel.bar(
                        worker + 0.12 + (who + 0.5) * 0.76 / workers, 0.6, 0.5 / workers, chunk + 0.2, color=f"C{who}"
                    )
        panel.set(title=f"{when}: step {step}", xlim=(0, workers), ylim=(workers, 0))
        panel.set(xticks=np.arange(workers) + 0.5, xticklabels=range(1, workers + 1), xlabel="worker")
        panel.set(yticks=np.arange(workers) + 0.5, yticklabels=range(1, workers + 1))
        panel.grid(False)
    axes[0].set_ylabel("chunk of the gradient")
    return figure
