"""The valley and its map: every number against nnlib.SGD itself, in Python and under a scripted hand in a browser."""

import base64

import numpy as np
import pytest

import nnlib
from nnlib import interactive
from nnlib.interactive.valley import MOST, NEAR, arrivals
from tests.interactive.browser import overflow

CURVATURES, START = np.array([1.0, 100.0]), (-9.0, 1.0)


class Valley:
    """What nnlib's optimizers need of a model: one parameter and its gradient."""

    def __init__(self, start):
        self.p = np.array(start, float)

    def named_parameters(self):
        yield "p", self.p

    def named_gradients(self):
        yield "p", CURVATURES * self.p


def descend(lr, beta, start=START, steps=MOST):
    """The distance from the minimum before the first of nnlib.SGD's steps, and after each."""
    model = Valley(start)
    optimizer, distances = nnlib.SGD(model, lr, momentum=beta), [np.linalg.norm(model.p)]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            optimizer.step()
            distances.append(np.linalg.norm(model.p))
    return np.array(distances)


def steps_to_arrive(distances):
    """How the figure words it: the first step after which it is always near."""
    if not distances[-1] <= distances[0]:
        return "never: it flies off"
    far = np.flatnonzero(distances > NEAR)
    first = int(far[-1]) + 1 if len(far) else 0
    return str(first) if first <= MOST else f"more than {MOST}"


@pytest.fixture(scope="module")
def figure():
    return interactive.valley(CURVATURES, START)


@pytest.fixture(scope="module")
def counts(figure):
    """The map, as (beta, lr)."""
    encoded = figure.data["counts"]
    return np.frombuffer(base64.b64decode(encoded["base64"]), encoded["dtype"]).reshape(encoded["shape"])


def test_the_map_holds_what_sgd_does(figure, counts, rng):
    lrs, betas = figure.data["lrs"], figure.data["betas"]
    places = [(37, 0), (41, 0), (15, 90), (83, 99), (0, 0), *rng.integers((84, 100), size=(15, 2)).tolist()]
    for i, j in places:
        count = counts[j, i]
        words = "never: it flies off" if count == 0 else f"more than {MOST}" if count > MOST else str(count)
        assert words == steps_to_arrive(descend(lrs[i], betas[j])), (lrs[i], betas[j])


def test_the_border_is_where_theory_has_it(figure, counts):
    lrs, betas = np.array(figure.data["lrs"]), np.array(figure.data["betas"])[:, None]
    border = 2 * (1 + betas) / CURVATURES.max()
    clear = np.abs(lrs - border) > lrs[0]  # further away than one cell of the map
    assert np.array_equal((counts == 0)[clear], (lrs > border + np.zeros_like(lrs))[clear])
    assert (counts == 0).mean() > 0.15 and clear.mean() > 0.9


def test_momentum_is_about_as_much_faster_as_theory_says(counts):
    """The root of the ratio of the curvatures, here 10."""
    plain, best = counts[0][counts[0] > 0].min(), counts[counts > 0].min()
    assert 8 < plain / best < 12


def test_arrivals_take_numbers_and_arrays():
    assert arrivals(CURVATURES, START, 0.019, 0.0) == 355
    assert arrivals(CURVATURES, START, np.array([0.019, 0.021]), np.zeros((3, 1))).tolist() == [[355, 0]] * 3


def test_equal_arguments_give_equal_bytes(figure):
    assert interactive.valley(CURVATURES, START).fragment() == figure.fragment()
    assert len(figure.fragment()) < 150_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"curvatures": (1.0,)}, "curvatures is two finite numbers"),
        ({"curvatures": (1.0, 0.0)}, "curvatures are above 0"),
        ({"curvatures": (1.0, np.nan)}, "curvatures is two finite numbers"),
        ({"start": (-9.0, np.inf)}, "start is two finite numbers"),
        ({"start": []}, "start is two finite numbers"),
        ({"start": (-9.0, 0.0)}, "away from both axes"),
        ({"lr": 0.05}, "the map ends at lr 0.042 and beta 0.99, got lr 0.05"),
        ({"lr": 0.0}, "got lr 0.0"),
        ({"lr": np.nan}, "got lr nan"),
        ({"beta": 1.0}, "got lr 0.008 and beta 1.0"),
        ({"steps": 0}, "steps is a whole number from 1 to 300"),
        ({"steps": 60.0}, "steps is a whole number from 1 to 300"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(ValueError, match=words):
        interactive.valley(**arguments)


# ----------------------------------------------------------------------------------------------------- in a browser

OUTPUTS = "all => Object.fromEntries(all.map((output) => [output.dataset.name, output.textContent]))"


def read(page):
    """The numbers that stand on the page, and what nnlib.SGD makes of the settings that stand there."""
    said = page.locator("output").evaluate_all(OUTPUTS)
    start = tuple(float(text) for text in said["start"].strip("()").split(", "))
    lr, beta, drawn = (float(said[name]) for name in ("learning rate", "β", "steps drawn"))
    paths = {"plain": descend(lr, 0.0, start), "momentum": descend(lr, beta, start)}
    return said, {kind: (steps_to_arrive(path), path[int(drawn)]) for kind, path in paths.items()}


def check(page):
    said, expected = read(page)
    for kind, (steps, distance) in expected.items():
        assert said[f"{kind}: steps"] == steps, (kind, said)
        if distance < 1e6:
            assert float(said[f"{kind}: distance"]) == pytest.approx(distance, rel=6e-4), (kind, said)
        else:
            assert said[f"{kind}: distance"] == "over a million"
    return said


def place(figure, i, j):
    """The middle of a cell of the map, in the units of its canvas."""
    return 34 + (i + 0.5) * 246 / len(figure.data["lrs"]), 238 - (j + 0.5) * 230 / len(figure.data["betas"])


@pytest.mark.browser
def test_both_walks_are_those_of_sgd(opened, figure):
    page = opened(figure)
    said = check(page)
    assert (said["learning rate"], said["β"], said["steps drawn"]) == ("0.008", "0.90", "60")
    rate, beta, drawn = page.get_by_role("slider").all()
    for slider, key, times in ((rate, "ArrowRight", 30), (beta, "ArrowLeft", 20), (drawn, "End", 1), (rate, "End", 1)):
        slider.focus()
        for _ in range(times):
            page.keyboard.press(key)
        said = check(page)
    assert said["plain: steps"] == "never: it flies off" and said["plain: distance"] == "over a million"


@pytest.mark.browser
def test_the_start_is_dragged_and_moved_by_keys(opened, figure):
    page = opened(figure)
    valley = page.get_by_role("application", name="The valley")
    box = valley.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75, steps=4)
    page.mouse.up()
    first, second = (float(text) for text in check(page)["start"].strip("()").split(", "))
    assert first == pytest.approx(5, abs=0.1) and second == pytest.approx(-0.8, abs=0.03)  # right of it, and below
    valley.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert check(page)["start"] == f"({first + 0.25:.2f}, {second + 0.08:.2f})"
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert check(page)["start"] == "(0.00, 0.00)" and check(page)["momentum: steps"] == "0"


@pytest.mark.browser
def test_a_click_on_the_map_sets_both_sliders(opened, figure, counts):
    page = opened(figure)
    chart = page.get_by_role("application", name="The map")
    for i, j in ((37, 0), (15, 90), (65, 70), (9, 40)):
        x, y = place(figure, i, j)
        chart.click(position={"x": x, "y": y})
        said = check(page)
        assert float(said["learning rate"]) == pytest.approx(figure.data["lrs"][i]) and said["β"] == f"{j / 100:.2f}"
        assert said["momentum: steps"] == str(counts[j, i])  # the walk and the map agree
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    said = check(page)
    assert float(said["learning rate"]) == pytest.approx(figure.data["lrs"][8]) and said["β"] == "0.41"
    chart.click(position={"x": 1, "y": 1})  # beside the map: its corner
    assert check(page)["β"] == "0.99"


@pytest.mark.browser
def test_the_map_is_drawn_the_right_way_up(opened, figure, counts):
    page = opened(figure)
    places = [place(figure, *at) for at in ((60, 5), (60, 70), (60, 95), (2, 5))]  # (lr, beta)
    read = """(canvas, places) => {
        const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const first = ([x, y]) => 4 * (Math.floor(2 * y) * width + Math.floor(2 * x)); // twice as dense as its units
        return places.map((place) => [...data.slice(first(place), first(place) + 3)]);
    }"""
    flies, quick, slow, slowest = page.get_by_role("application", name="The map").evaluate(read, places)
    assert counts[5, 60] == 0 < counts[70, 60] < counts[95, 60] < counts[5, 2]
    assert flies == [243, 245, 247]  # the bare ground
    assert sum(quick) > sum(slow) > sum(slowest)  # the fewer steps, the brighter


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_is_wide_enough(opened, figure, dark):
    page = opened(figure, width=360, dark=dark, touch=True)
    page.get_by_role("application", name="The map").tap(position={"x": 100, "y": 60})
    check(page)
    assert overflow(page) == 0
