"""The logits to pull at: whatever stands on the sliders, the numbers are those of nnlib.cross_entropy."""

import numpy as np
import pytest

import nnlib
from nnlib import interactive
from tests.interactive.browser import overflow

LOGITS = np.array([2.0, 1.0, 0.0])


@pytest.fixture
def figure():
    return interactive.softmax_explorer(LOGITS, label=1)


def expected(logits, label):
    loss, gradient = nnlib.cross_entropy(np.array([logits], float), np.array([label]))
    return float(loss), gradient[0] + np.eye(len(logits))[label], gradient[0]


def shown(page, name):
    return float(page.locator(f'output[data-name="{name}"]').text_content().replace("−", "-"))


def agree(page, logits, label, temperature=1.0, names=("class 0", "class 1", "class 2")):
    loss, probabilities, gradient = expected(np.asarray(logits) / temperature, label)
    assert shown(page, "loss") == pytest.approx(loss, abs=6e-5)
    assert [shown(page, f"probability of {name}") for name in names] == pytest.approx(probabilities, abs=6e-5)
    assert [shown(page, f"gradient of {name}") for name in names] == pytest.approx(gradient / temperature, abs=6e-5)


def press(page, label, key, times=1):
    page.get_by_label(label, exact=True).focus()
    for _ in range(times):
        page.keyboard.press(key)


def test_equal_arguments_give_equal_bytes(figure):
    assert interactive.softmax_explorer(LOGITS.astype(np.float32), 1).fragment() == figure.fragment()
    assert f"{expected(LOGITS, 1)[0]:.4f}" in figure.alt and len(figure.png) < 60_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([[1.0, 2.0]], 0), r"\(K,\), got float64 \(1, 2\)"),
        (([1.0], 0), r"2 to 10 numbers"),
        (([], 0), r"got float64 \(0,\)"),
        (([0.0] * 11, 0), r"2 to 10 numbers"),
        ((["a", "b"], 0), "numbers"),
        (([1.0, np.nan], 0), "within -10..10"),
        (([1.0, 10.5], 0), "within -10..10"),
        (([1.0, 2.0], 2), "0..1, got 2"),
        (([1.0, 2.0], -1), "0..1, got -1"),
        (([1.0, 2.0], 0.0), "0..1, got 0.0"),
        (([1.0, 2.0], True), "got True"),
    ],
)
def test_wrong_arguments_are_told(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        interactive.softmax_explorer(*arguments)


@pytest.mark.parametrize("names", [["one"], ["one", "one"], ["one", "two", "three"]])
def test_a_name_for_each_class(names):
    with pytest.raises(ValueError, match="class_names are 2 different texts"):
        interactive.softmax_explorer([1.0, 2.0], class_names=names)


@pytest.mark.browser
def test_the_numbers_are_those_of_cross_entropy(opened, figure):
    page = opened(figure)
    agree(page, [2, 1, 0], 1)
    press(page, "class 2", "ArrowRight", 13)
    agree(page, [2, 1, 1.3], 1)
    page.get_by_label("true class").select_option("class 2")
    agree(page, [2, 1, 1.3], 2)
    press(page, "class 0", "End")
    press(page, "class 2", "Home")
    agree(page, [10, 1, -10], 2)
    press(page, "divide all by: τ", "ArrowRight", 10)
    agree(page, [10, 1, -10], 2, temperature=2.0)
    slider = page.get_by_label("class 1", exact=True).bounding_box()
    page.mouse.click(slider["x"] + slider["width"] / 4, slider["y"] + slider["height"] / 2)
    clicked = shown(page, "class 1")
    assert clicked == pytest.approx(-5, abs=0.5)
    agree(page, [10, clicked, -10], 2, temperature=2.0)


@pytest.mark.browser
def test_the_same_number_added_to_all_changes_nothing_but_breaks_the_formula_as_written(opened, figure):
    page = opened(figure)
    written = page.locator('output[data-name="loss as written"]')
    assert shown(page, "loss as written") == shown(page, "loss")
    for key, total in (("End", "Infinity"), ("Home", "0.00e+0")):
        press(page, "add to all: c", key)
        agree(page, [2, 1, 0], 1)
        assert written.text_content() == "NaN"
        assert page.locator('output[data-name="sum as written"]').text_content() == total


@pytest.mark.browser
def test_downhill_is_against_the_gradient(opened, figure):
    page = opened(figure, width=360, dark=True, touch=True)
    assert overflow(page) == 0
    logits = LOGITS
    for _ in range(7):
        page.get_by_role("button", name="One step downhill").tap()
        logits = logits - expected(logits, 1)[2]
        agree(page, logits, 1)
        assert [shown(page, f"class {k}") for k in range(3)] == pytest.approx(logits, abs=0.0051)
    press(page, "divide all by: τ", "ArrowRight", 3)
    press(page, "add to all: c", "Home")
    page.get_by_label("true class").select_option("class 0")
    page.get_by_role("button", name="Start again").tap()
    agree(page, LOGITS, 1)
    assert shown(page, "loss as written") == shown(page, "loss")


@pytest.mark.browser
def test_ten_named_classes_fit_a_phone(opened):
    names = [f"digit {k}" for k in range(10)]
    logits = np.linspace(-3, 3, 10)
    page = opened(interactive.softmax_explorer(logits, 9, class_names=names), width=360)
    assert overflow(page) == 0
    agree(page, logits, 9, names=names)
