"""The plane that folds: a straight boundary without ReLU, a bent one with it, and the browser's numbers are nnlib's."""

import base64

import numpy as np
import pytest

import nnlib
from nnlib import interactive
from nnlib.interactive.folding_plane import EPOCHS, _learn, two_arms
from tests.interactive.browser import overflow

NAMES = ("without ReLU", "with ReLU")


@pytest.fixture(scope="module")
def figure():
    return interactive.folding_plane()


def learnt(hidden, relu, seed=7):
    points, labels = two_arms(np.random.default_rng(seed))
    return _learn(points, labels, hidden, relu, seed), points, labels


def probability(model, x, y):
    low, high = model.predict(np.array([[x, y]], np.float32))[0].astype(float)
    return 1 / (1 + np.exp(low - high))


def read(page, what):
    return [page.locator(f'output[data-name="{what} {name}"]').text_content() for name in NAMES]


def test_only_with_relu_does_the_boundary_part_the_arms(figure):
    scores = {}
    for hidden in (2, 4, 16):
        for relu in (False, True):
            snapshots, points, labels = learnt(hidden, relu)
            assert len(snapshots) == len(EPOCHS)
            scores[hidden, relu] = nnlib.accuracy(labels, snapshots[-1].predict(points).argmax(axis=1))
    assert all(scores[hidden, False] < 0.85 for hidden in (2, 4, 16)) and scores[2, True] < 0.9
    assert scores[4, True] > 0.95 and scores[16, True] > 0.95
    assert (
        f"{scores[4, False]:.1%} of the points are right" in figure.alt
        and f"crease: {scores[4, True]:.1%}" in figure.alt
    )


def test_equal_arguments_give_equal_bytes_and_disturb_no_generator(figure):
    np.random.seed(1)  # noqa: NPY002 (the generator that everybody shares)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = interactive.folding_plane()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert again.fragment() == figure.fragment()
    assert len(figure.page()) < 200_000 and len(figure.png) < 60_000


def test_points_of_ones_own(figure):
    points = np.array([[0, 0], [1, 1], [1, 0], [0, 1]], np.float64)
    mine = interactive.folding_plane(points, np.array([0, 0, 1, 1]), hidden=[3]).data
    assert mine["hidden"] == [3] and mine["points"]["dtype"] == "float32"
    assert mine["points"]["base64"] == base64.b64encode(points.astype("<f4").tobytes()).decode()


GOOD, LABELS = np.zeros((4, 2)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "named", "complaint"),
    [
        ((np.zeros((4, 3)), LABELS), {}, r"points are .* \(N, 2\), got float64 \(4, 3\)"),
        ((np.zeros((0, 2)), LABELS[:0]), {}, r"got float64 \(0, 2\)"),
        ((GOOD.astype(int), LABELS), {}, "got int64"),
        ((GOOD + np.nan, LABELS), {}, "finite"),
        ((GOOD, LABELS[:3]), {}, r"labels are one for each of 4 points, got \(3,\)"),
        ((GOOD, LABELS + 1), {}, r"labels must lie in 0..1"),
        ((GOOD, LABELS * 1.0), {}, "expected integers"),
        ((GOOD, LABELS * 0), {}, "both classes"),
        ((GOOD,), {}, "labels are one for each"),
        ((), {"hidden": []}, "one to four numbers of units"),
        ((), {"hidden": [0]}, "each 1 to 64"),
        ((), {"hidden": [2.5]}, "each 1 to 64"),
    ],
)
def test_wrong_arguments_are_told(arguments, named, complaint):
    with pytest.raises(ValueError, match=complaint):
        interactive.folding_plane(*arguments, **named)


@pytest.mark.browser
def test_every_epoch_shows_the_accuracy_that_nnlib_computes(opened, figure):
    page = opened(figure)
    slider = page.get_by_role("slider")
    for hidden in (4, 16):
        page.get_by_label("hidden units").select_option(str(hidden))
        runs = [learnt(hidden, relu)[0] for relu in (False, True)]
        _, points, labels = learnt(hidden, False)
        slider.focus()
        page.keyboard.press("Home")
        for place, epoch in enumerate(EPOCHS):
            scores = [nnlib.accuracy(labels, run[place].predict(points).argmax(axis=1)) for run in runs]
            assert page.locator('output[data-name="epoch"]').text_content() == str(epoch)
            shown = [float(text.removesuffix(" %")) for text in read(page, "accuracy")]
            assert shown == pytest.approx([100 * score for score in scores], abs=0.0501)  # one point is 0.4 %
            page.keyboard.press("ArrowRight")


@pytest.mark.browser
def test_the_cross_asks_both_networks(opened, figure):
    page = opened(figure)
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    models = [learnt(4, relu)[0][-1] for relu in (False, True)]
    limit = figure.data["limit"]
    planes = page.locator("canvas")
    box = planes.nth(1).bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    x, y = 0.2, -0.2  # y points upwards: where the one above it, (0.2, 0.2), is of another class
    assert abs(probability(models[1], x, y) - probability(models[1], x, -y)) > 0.5
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    scale = box["width"] / 2 / limit
    page.mouse.move(middle[0] + scale * x, middle[1] - scale * y, steps=4)
    page.mouse.up()
    near = [float(text) for text in read(page, "probability")]
    assert near == pytest.approx([probability(model, x, y) for model in models], abs=0.02)  # a pixel of the mouse's
    planes.nth(0).focus()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")  # to the rim, and no further
    for _ in range(60):
        page.keyboard.press("ArrowDown")
    for key in ["ArrowRight"] * 20 + ["ArrowUp"] * 14:
        page.keyboard.press(key)
    x, y = -limit + 20 * 0.05, -limit + 14 * 0.05
    there = [float(text) for text in read(page, "probability")]
    assert there == pytest.approx([probability(model, x, y) for model in models], abs=6e-5)


@pytest.mark.browser
def test_on_a_phone_the_two_planes_stand_side_by_side(opened, figure):
    page = opened(figure, width=360, dark=True, still=True, touch=True)
    assert overflow(page) == 0 and page.get_by_role("button", name="Play").count() == 0
    left, right = (page.locator("canvas").nth(k).bounding_box() for k in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
    page.touchscreen.tap(right["x"] + 5, right["y"] + 5)
    limit = figure.data["limit"]
    model = learnt(4, True)[0][0]
    x = (2 * 5 / right["width"] - 1) * limit
    assert float(read(page, "probability")[1]) == pytest.approx(probability(model, x, -x), abs=0.02)
