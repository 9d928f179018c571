"""Many workers: the ring's sums are complete and counted, the clock is that of the formulas, in the browser too."""

import numpy as np
import pytest

from nnlib import interactive
from nnlib.interactive.workers import COUNTS, ring_steps, talking
from tests.interactive.browser import overflow

OUTPUTS = "all => Object.fromEntries(all.map((output) => [output.dataset.name, output.textContent]))"


@pytest.mark.parametrize("workers", range(2, 9))
def test_a_ring_of_numbers_adds_up_whatever_they_are(workers):
    numbers = np.random.default_rng(workers).normal(size=(workers, workers))  # (worker, chunk)
    held, steps = numbers.copy(), ring_steps(workers)
    assert len(steps) == 2 * (workers - 1) + 1
    for count, step in enumerate(steps[1:]):
        assert sorted(sender for sender, _ in step["sends"]) == list(range(workers))  # each sends one chunk
        before = held.copy()
        for sender, chunk in step["sends"]:
            to = (sender + 1) % workers
            held[to, chunk] = before[sender, chunk] + (before[to, chunk] if count < workers - 1 else 0)
        for worker, chunks in enumerate(step["holds"]):
            for chunk, those in enumerate(chunks):
                assert held[worker, chunk] == pytest.approx(numbers[those, chunk].sum())
    np.testing.assert_allclose(held, np.tile(numbers.sum(axis=0), (workers, 1)))


def test_who_talks_how_long():
    assert talking("server", 1, 1e6, 1e6, 0.1) == talking("ring", 1, 1e6, 1e6, 0.1) == 0
    assert talking("server", 5, 1e6, 1e6, 0.1) == pytest.approx(2 * (0.1 + 4))
    assert talking("ring", 5, 1e6, 1e6, 0.1) == pytest.approx(8 * (0.1 + 0.2))
    assert talking("ring", 1000, 1e6, 1e6, 0) == pytest.approx(2, rel=0.01)  # whatever the number of workers


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: interactive.ring(1), "from 2 to 6"),
        (lambda: interactive.ring(7), "from 2 to 6"),
        (lambda: interactive.ring(2.0), "from 2 to 6"),
        (lambda: interactive.scaling(10, 0.1), "parameters lies between 1000 and 1e"),
        (lambda: interactive.scaling(10_000, 0), "seconds lies between"),
        (lambda: interactive.scaling(10_000, float("nan")), "seconds lies between"),
        (lambda: interactive.scaling(10_000, 0.1, workers=5), "workers is one of 1, 2"),
        (lambda: interactive.scaling(10_000, 0.1, gigabits=0.01), "gigabits lies between 0.1 and 100"),
        (lambda: interactive.scaling(10_000, 0.1, latency=1), "latency lies between"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_equal_arguments_give_equal_bytes():
    assert interactive.ring(4).fragment() == interactive.ring(4).fragment()
    assert interactive.scaling(250_000, 0.1).fragment() == interactive.scaling(250_000, 0.1).fragment()


# ----------------------------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("workers", [2, 4, 6])
def test_the_ring_is_stepped_through(opened, workers):
    page = opened(interactive.ring(4), still=True)
    page.get_by_label("workers").select_option(str(workers))
    page.get_by_role("slider").focus()
    for step, state in enumerate(ring_steps(workers)):
        said = page.locator("output").evaluate_all(OUTPUTS)
        done = sum(len(those) == workers for chunks in state["holds"] for those in chunks)
        assert said["sums complete"] == f"{done} of {workers**2}"
        assert said["sent by each"].startswith(f"{step} / {workers} = {step / workers:.2f}")
        page.keyboard.press("ArrowRight")
    assert done == workers**2


def expected(scheme, workers, tenths):
    """(milliseconds of computing, of talking, speed-up, workers at best, their speed-up)"""
    gigabits, latency, parameters, seconds = 10.0 ** (np.array(tenths) / 10)
    talk = talking(scheme, np.array(COUNTS), 4 * parameters, gigabits * 1e9 / 8, latency)
    speed = seconds / (seconds / np.array(COUNTS) + talk)
    place = COUNTS.index(workers)
    return [1000 * seconds / workers, 1000 * talk[place], speed[place], COUNTS[speed.argmax()], speed.max()]


@pytest.mark.browser
def test_the_clock_is_that_of_the_formulas(opened):
    page = opened(interactive.scaling(254_362, 0.1, workers=16, gigabits=10), width=720)
    rng = np.random.default_rng(0)
    place, tenths = COUNTS.index(16), [10, -40, 54, -10]
    for _ in range(8):
        said = page.locator("output").evaluate_all(OUTPUTS)
        for scheme in ("server", "ring"):
            best = said[f"{scheme}: best"].split()
            numbers = [said["compute"].split()[0], said[f"{scheme}: talk"].split()[0], said[f"{scheme}: speed-up"]]
            numbers += [best[2], best[0]]
            assert [float(n) for n in numbers] == pytest.approx(expected(scheme, COUNTS[place], tenths), rel=1e-3)
        place = int(rng.integers(len(COUNTS)))
        tenths = [int(rng.integers(low, high + 1)) for low, high in ((-10, 20), (-60, -20), (30, 90), (-30, 20))]
        for slider, value in zip(page.get_by_role("slider").all(), [place, *tenths], strict=True):
            slider.fill(str(value))
    page.get_by_role("application").click(position={"x": 46 + 620 / 3, "y": 50})  # a tenth of the way to 1000: 10
    assert page.get_by_role("slider").first.input_value() in (str(COUNTS.index(8)), str(COUNTS.index(12)))
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("slider").first.input_value() in (str(COUNTS.index(12)), str(COUNTS.index(16)))


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("make", [lambda: interactive.ring(6), lambda: interactive.scaling(250_000, 0.1)])
def test_a_phone_is_wide_enough(opened, make, dark):
    page = opened(make(), width=360, dark=dark, touch=True)
    assert overflow(page) == 0
