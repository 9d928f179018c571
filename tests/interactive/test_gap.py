"""Two trainings side by side: every digit on the page is one of the trainings', and so is every difference."""

import base64

import numpy as np
import pytest

from nnlib import interactive
from nnlib.interactive.gap import shared_digits
from tests.interactive.browser import overflow


def trainings(N, dtype, seed=0):
    """Two falling losses whose difference grows from nothing."""
    rng = np.random.default_rng(seed)
    losses = (2.3 * np.exp(-np.arange(N) / N) + 0.1 * rng.random(N)).astype(dtype)
    noise = rng.normal(size=N) * np.geomspace(np.finfo(dtype).eps / 100, 1e-2, N)
    return losses, (losses + noise).astype(dtype)


SHORT, LONG = trainings(30, np.float64), trainings(80, np.float32)
PAIRS = {
    "float32, long": {"nnlib": LONG[0], "turned": LONG[1]},
    "float64, short": {"nnlib": SHORT[0], "PyTorch": SHORT[1]},
    "equal": {"one": SHORT[0], "the same": SHORT[0]},
}


@pytest.fixture(scope="module")
def figure():
    return interactive.gap(PAIRS)


def test_the_losses_travel_whole(figure):
    for pair, (name, sides) in zip(figure.data["pairs"], PAIRS.items(), strict=True):
        assert (pair["name"], pair["names"]) == (name, list(sides))
        for sent, losses in zip(pair["losses"], sides.values(), strict=True):
            assert np.array_equal(np.frombuffer(base64.b64decode(sent["base64"]), sent["dtype"]), losses)
    assert [pair["digits"] for pair in figure.data["pairs"]] == [9, 17, 17]


def test_losses_are_taken_as_lists_and_float32_is_known_by_its_values():
    pairs = {"x": {name: [float(loss) for loss in losses] for name, losses in PAIRS["float32, long"].items()}}
    assert interactive.gap(pairs).data["pairs"][0]["digits"] == 9


@pytest.mark.parametrize(
    ("a", "b", "digits", "same"),
    [(1.25, 1.25, 9, 10), (0.5, 0.25, 3, 2), (1.23456789, 1.23456779, 9, 8), (12.0, 1.2, 4, 1)],
)
def test_shared_digits(a, b, digits, same):
    first, second, agree = shared_digits(a, b, digits)
    assert (float(first), float(second), agree) == (a, b, same)


def test_equal_arguments_give_equal_bytes(figure):
    assert interactive.gap(PAIRS).fragment() == figure.fragment()


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ({}, "one pair of trainings at least"),
        ([1.0, 2.0], "one pair of trainings at least"),
        ({"x": {"a": [1.0, 2.0]}}, "'x' is no pair"),
        ({"x": [[1.0, 2.0], [1.0, 2.0]]}, "'x' is no pair"),
        ({"x": {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}}, "those of 'x' have"),
        ({"x": {"a": [1.0], "b": [1.0]}}, "N >= 2"),
        ({"x": {"a": [[1.0, 2.0]], "b": [[1.0, 2.0]]}}, "N >= 2"),
        ({"x": {"a": [1.0, np.nan], "b": [1.0, 2.0]}}, "some of 'x' are not"),
    ],
)
def test_bad_pairs(pairs, words):
    with pytest.raises(ValueError, match=words):
        interactive.gap(pairs)


@pytest.mark.parametrize("bound", [0, -1.0, np.nan, np.inf])
def test_bad_bound(bound):
    with pytest.raises(ValueError, match="bound is a difference above 0"):
        interactive.gap(PAIRS, bound=bound)


# ----------------------------------------------------------------------------------------------------- in a browser

OUTPUTS = "all => Object.fromEntries(all.map((output) => [output.dataset.name, output.textContent]))"


def check(page, name, step):
    """Hold what stands on the page against the losses at this step, counted from 1."""
    said = page.locator("output").evaluate_all(OUTPUTS)
    assert said["step"] == str(step)
    for which, losses in zip(("first loss", "second loss"), PAIRS[name].values(), strict=True):
        assert losses.dtype.type(said[which]) == losses[step - 1]  # to the last bit
    a, b = (losses.astype(np.float64) for losses in PAIRS[name].values())
    assert float(said["difference"]) == float(f"{abs(a - b)[step - 1]:.2e}")
    apart = np.abs(a - b) > 1e-4
    assert said["parted"] == (f"first at step {apart.argmax() + 1}" if apart.any() else "at no step")
    first, second, same = shared_digits(a[step - 1], b[step - 1], 9 if "float32" in name else 17)
    assert page.locator("u").all_text_contents() == [first[same:], second[same:]]
    assert page.locator("table th").all_text_contents()[:2] == list(PAIRS[name])


@pytest.mark.browser
def test_every_step_of_every_pair_shows_its_digits(opened, figure):
    page = opened(figure)
    for name, pair in PAIRS.items():
        page.get_by_label("compare").select_option(name)
        check(page, name, 10)
        page.get_by_role("slider").focus()
        for key, step in (("Home", 1), ("ArrowRight", 2), ("End", len(next(iter(pair.values()))))):
            page.keyboard.press(key)
            check(page, name, step)
    assert page.locator("[data-name=difference]").text_content() == "0"


@pytest.mark.browser
@pytest.mark.parametrize("curve", ["The losses", "Their difference"])
def test_a_click_on_a_curve_chooses_the_step(opened, figure, curve):
    page = opened(figure, still=True)
    canvas = page.get_by_role("application", name=curve)
    canvas.click(position={"x": 44 + 284 * 59 / 79, "y": 90})
    check(page, "float32, long", 60)
    page.keyboard.press("ArrowLeft")
    check(page, "float32, long", 59)
    canvas.click(position={"x": 3, "y": 90})  # left of the first step
    check(page, "float32, long", 1)
    page.keyboard.press("ArrowLeft")
    check(page, "float32, long", 1)


@pytest.mark.browser
def test_a_larger_difference_is_drawn_higher(opened, figure):
    page = opened(figure)
    gaps = np.abs(LONG[0].astype(float) - LONG[1])
    places = np.flatnonzero(gaps)[[0, 10, 20, 30, -2]]
    find = """(canvas, columns) => { // the middle row of each column's point, which is known by its colour
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const rows = Array.from({ length: height }, (_, y) => y);
        const middle = (found) => found.reduce((sum, y) => sum + y, 0) / found.length;
        const at = (x, y) => 4 * (y * width + Math.round(2 * x)); // twice as dense as its units
        return columns.map((x) => middle(rows.filter((y) => data[at(x, y)] > 150 && data[at(x, y) + 2] < 60)));
    }"""
    columns = (44 + 284 * places / 79).tolist()
    heights = page.get_by_role("application", name="Their difference").evaluate(find, columns)
    powers = np.log10(gaps[places])
    assert np.ptp(powers) > 3
    slope, above = np.polyfit(powers, heights, 1)
    assert slope < -5 and slope * powers + above == pytest.approx(heights, abs=1.5)  # pixels: the axis is logarithmic


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_is_wide_enough(opened, figure, dark):
    page = opened(figure, width=360, dark=dark, touch=True)
    page.get_by_label("compare").select_option("float64, short")
    page.get_by_role("button", name="next").tap()
    check(page, "float64, short", 11)
    assert overflow(page) == 0
