"""A valley of two weights, and two ways down: gradient descent without momentum, and with it.

Its one idea: what is true of every setting at once is a map. One pair of learning rate and beta is one walk; all pairs,
each coloured by how long its walk takes, show where the border lies that theory promises, and where the fast ones are.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from .figure import Figure, encode, png

MOST = 1000  # steps of a walk
NEAR = 0.01  # from the minimum: as close as this, and for good, counts as arrived
LONGEST = 300  # steps that can be drawn


def valley(curvatures=(1.0, 100.0), start=(-9.0, 1.0), *, lr: float = 0.008, beta: float = 0.9, steps=60) -> Figure:
    """Walk down a valley, with momentum and without, from any start, at any point of the map of (lr, beta).

    curvatures: two numbers c above 0; the height of the valley is (c1 * p1**2 + c2 * p2**2) / 2.
    start: (p1, p2), where both walks begin, and all those of the map. lr, beta: the first setting, above 0 and at most
    4.2 / max(c), and in 0..0.99; the nearest point of the map is taken. steps: so many are drawn at first, 1 to 300.

    On paper: three settings, and where they lie on the map. Raises ValueError for arguments outside these bounds.
    """
    curvatures, start = _two_numbers("curvatures", curvatures), _two_numbers("start", start)
    if not (curvatures > 0).all():
        raise ValueError(f"curvatures are above 0: a valley without a floor has no minimum, got {curvatures.tolist()}")
    if not (np.abs(start) > NEAR).all():
        raise ValueError(f"start lies more than {NEAR} away from both axes of the valley, got {start.tolist()}")
    lrs, betas = np.arange(1, 85) * 5 / (100 * curvatures.max()), np.arange(100) / 100
    if not (0 < lr <= lrs[-1] and 0 <= beta <= betas[-1]):
        raise ValueError(f"the map ends at lr {lrs[-1]:.3g} and beta {betas[-1]}, got lr {lr} and beta {beta}")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= LONGEST:
        raise ValueError(f"steps is a whole number from 1 to {LONGEST}, got {steps!r}")
    counts = arrivals(curvatures, start, lrs, betas[:, None])
    data = {
        "curvatures": curvatures.tolist(),
        "start": start.tolist(),
        "view": (np.abs(start) * [10 / 9, 1.6]).tolist(),  # half of its width, half of its height
        "lrs": lrs.tolist(),
        "betas": betas.tolist(),
        "counts": encode(counts),
        "most": MOST,
        "near": NEAR,
        "lr": int(np.abs(lrs - lr).argmin()),
        "beta": int(np.abs(betas - beta).argmin()),
        "steps": steps,
        "longest": LONGEST,
    }
    alt = (
        "A narrow valley from above: two paths from one start, plain gradient descent and momentum. Beside it, a map "
        "of all learning rates and betas, coloured by the number of steps to the minimum. Move the sliders, drag the "
        "start, or go about on the map."
    )
    still = png(_still(curvatures, start, lrs, betas, counts, steps))
    return Figure("valley", data, png=still, alt=alt, height=560)


def walk(curvatures, start, lr, beta, steps: int):
    """Yield where SGD with momentum is before its first step and after each of `steps`: (..., 2), float64.

    curvatures, start: (2,). lr, beta: numbers, or arrays that broadcast to (...): then all are walked at once.
    """
    lr, beta = (values[..., None] for values in np.broadcast_arrays(lr, beta))
    p = np.full((*lr.shape[:-1], 2), start, float)
    velocity = np.zeros_like(p)
    yield p
    for _ in range(steps):
        with np.errstate(over="ignore", invalid="ignore"):  # some fly off to infinity: that is what we want to see
            velocity = beta * velocity + curvatures * p
            p = p - lr * velocity
        yield p


def arrivals(curvatures, start, lr, beta) -> np.ndarray:
    """Return the step from which a walk stays NEAR the minimum, as uint16; 0: it flies off; MOST + 1: not there yet.

    The arguments are those of `walk`, with a start that is not near; lr and beta broadcast to the shape of the result.
    """
    last = np.zeros(np.broadcast_shapes(np.shape(lr), np.shape(beta)), np.uint16)
    for step, p in enumerate(walk(curvatures, start, lr, beta, MOST)):
        with np.errstate(over="ignore"):
            squared = (p**2).sum(axis=-1)
        last = np.where(squared <= NEAR**2, last, np.uint16(step))  # the last step on which it was far, or no number
    return np.where(squared <= np.sum(np.square(start)), last + np.uint16(1), np.uint16(0))


def _two_numbers(name, values):
    values = np.asarray(values, float)
    if values.shape != (2,) or not np.isfinite(values).all():
        raise ValueError(f"{name} is two finite numbers, got {values.tolist()}")
    return values


def _still(curvatures, start, lrs, betas, counts, steps):
    """Draw three walks, plain, swinging and fast, and the map with their places."""
    fast = np.unravel_index(np.where(counts > 0, counts, MOST + 1).argmin(), counts.shape)
    top = 1 / curvatures.max()
    settings = [(1.9 * top, 0.0), (0.8 * top, 0.9), (lrs[fast[1]], betas[fast[0]])]
    figure, axes = plt.subplot_mosaic([["1", "map"], ["2", "map"], ["3", "map"]], figsize=(10, 5), width_ratios=[5, 4])
    x, y = (np.linspace(-edge, edge, 201) for edge in np.abs(start) * [10 / 9, 1.6])
    heights = (curvatures[0] * x**2 + curvatures[1] * y[:, None] ** 2) / 2
    levels = heights.max() * 4.0 ** np.arange(-7, 1)
    for number, (lr, beta) in enumerate(settings, 1):
        strip = axes[str(number)]
        strip.contour(x, y, heights, levels=levels, colors="0.75", linewidths=0.8)
        strip.plot(
            *np.transpose(list(walk(curvatures, start, lr, beta, steps))), ".-", color="C3", linewidth=1, markersize=4
        )
        strip.plot(0, 0, "*", color="gold", markersize=13, markeredgecolor="black")
        count = int(arrivals(curvatures, start, lr, beta))
        strip.set_title(f"{number}: lr {lr:.3g}, beta {beta:g}: there after {count} steps, {steps} drawn", fontsize=10)
        strip.set(xlim=x[[0, -1]], ylim=y[[0, -1]], ylabel="p2")
        strip.grid(False)
    axes["3"].set_xlabel("p1, along the floor")
    chart = axes["map"]
    chart.set_facecolor("0.8")
    drawn = np.ma.masked_equal(counts, 0)
    mesh = chart.pcolormesh(lrs, betas, drawn, cmap="viridis_r", norm=LogNorm(drawn.min(), MOST), rasterized=True)
    chart.plot(2 * (1 + betas) * top, betas, "--", color="C3", linewidth=2)
    for number, (lr, beta) in enumerate(settings, 1):
        chart.text(lr, beta, str(number), ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white"})
    chart.set(xlabel="learning rate", ylabel="beta", ylim=(-0.04, 1), title="Steps to the minimum; grey: flies off")
    chart.text(2.7 * top, 0.12, " theory's border:\n lr = 2 (1 + beta) / max c", va="center", fontsize=9)
    chart.grid(False)
    figure.colorbar(mesh, ax=chart, label="steps")
    return figure
