"""Two trainings that should be one, loss beside loss, and how far apart they are after each step.

Its one idea: a difference is best believed where one sees it, in the digits themselves. Those that agree are many at
the first step, and from then on rounding eats them from the right.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from .figure import Figure, encode, png


def gap(pairs: Mapping[str, Mapping[str, np.ndarray]], *, bound: float = 1e-4) -> Figure:
    """Step through pairs of trainings, with both losses in all their digits, and the difference on a logarithmic axis.

    pairs: {"float32: nnlib and PyTorch": {"nnlib": losses, "PyTorch": losses}, ...}, the first being shown first; the
    losses (N,) of N >= 2 steps in nats, floats. bound: from which difference on two trainings are called apart.

    On paper: all differences, and the digits at the first, a middle and the last step. Raises ValueError for no pairs,
    for what is no pair, for losses of other shapes, and for those that are not finite.
    """
    if not (bound > 0 and np.isfinite(bound)):
        raise ValueError(f"bound is a difference above 0, got {bound}")
    runs = _checked(pairs)
    data = {
        "pairs": [
            {"name": name, "names": list(pair), "losses": [encode(x) for x in pair.values()], "digits": _digits(pair)}
            for name, pair in runs.items()
        ],
        "bound": bound,
    }
    alt = (
        "Left, the losses of two trainings at each step, one line upon the other; right, their difference on a "
        "logarithmic axis. Above, both losses at a step with all their digits, those that differ underlined. Move the "
        "slider over the steps, and choose what to compare: " + "; ".join(runs) + "."
    )
    return Figure("gap", data, png=png(_still(runs, bound)), alt=alt, height=520)


def shared_digits(first: float, second: float, digits: int) -> tuple[str, str, int]:
    """Write two numbers with so many significant digits. Returns both texts, and how many first characters agree."""
    texts = f"{first:#.{digits}g}", f"{second:#.{digits}g}"
    different = [a != b for a, b in zip(*texts, strict=False)]
    return *texts, different.index(True) if any(different) else min(map(len, texts))


def _checked(pairs):
    """Return the pairs with float64 arrays; raise ValueError for what are none."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise ValueError(f"pairs is a dict with one pair of trainings at least, got {pairs!r}")
    runs = {}
    for name, pair in pairs.items():
        if not isinstance(pair, Mapping) or len(pair) != 2:
            raise ValueError(f"{name!r} is no pair: expected two names with their losses, got {pair!r}")
        runs[name] = {side: np.asarray(losses, np.float64) for side, losses in pair.items()}
        shapes = [losses.shape for losses in runs[name].values()]
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] < 2:
            raise ValueError(f"a pair's losses both have shape (N,), N >= 2; those of {name!r} have {shapes}")
        if not all(np.isfinite(losses).all() for losses in runs[name].values()):
            raise ValueError(f"losses are finite numbers: some of {name!r} are not")
    return runs


def _digits(pair):
    """Return with how many digits a number of this kind is told from its neighbours: 9 in float32, 17 in float64."""
    return 9 if all(np.array_equal(losses, losses.astype(np.float32)) for losses in pair.values()) else 17


def _still(runs, bound):
    """Draw the differences of all pairs, and some of their losses with all digits."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=[4, 5])
    lines = []
    for (name, pair), marker in zip(runs.items(), "ox.^sv" * len(runs), strict=False):
        first, second = pair.values()
        N, gaps = len(first), np.abs(first - second)
        left.semilogy(np.arange(1, N + 1), np.where(gaps > 0, gaps, np.nan), marker, markersize=3, label=name)
        lines.append((name, "", "", 0))
        for step in sorted({1, (N + 1) // 2, N}):
            lines.append((f"{step:6}", *shared_digits(first[step - 1], second[step - 1], _digits(pair))))
    left.axhline(bound, color="grey", linestyle=":")
    left.set(title="How far apart the losses are", xlabel="step", ylabel="difference (nats)")
    left.legend(fontsize=8)
    right.axis("off")
    right.set(title="Step, and both losses: bold where they differ", ylim=(len(lines), -0.5))
    for row, (label, *texts, same) in enumerate(lines):
        right.text(0, row, label, va="center", fontsize=9, family="monospace" if any(texts) else None)
        for x, text in zip((0.13, 0.56), texts, strict=True):
            for part, weight, colour in ((text[:same], "normal", "0.35"), (" " * same + text[same:], "bold", "C3")):
                right.text(x, row, part, va="center", fontsize=9, family="monospace", weight=weight, color=colour)
    return figure
