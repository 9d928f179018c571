"""The window that moves: its products, their sum and the output are those of a convolution of nnlib's."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nnlib import interactive, reference
from nnlib.interactive.moving_window import PRESETS, slide
from tests.interactive.browser import overflow

EDGES = np.array(PRESETS["vertical edges"])
MINE = np.array([[0.5, -2, 3], [1, 0, -1.25], [4, 0.1, -7]])  # nothing in it is symmetric


@pytest.fixture
def image():  # higher than wide, and no two pixels alike
    return np.random.default_rng(3).permutation(28 * 20).reshape(28, 20).astype(np.float32) / (28 * 20)


def convolved(image, kernel):
    x, W = image[None, :, :, None].astype(float), np.asarray(kernel, float)[:, :, None, None]
    return reference.conv2d(x, W, np.zeros(1), 1, 0)[0, :, :, 0]


def shown(page, name):
    return float(page.locator(f'output[data-name="{name}"]').text_content().replace("−", "-"))


def place(page):
    words = page.locator('output[data-name="place"]').text_content().replace(",", "").split()
    return int(words[1]), int(words[3])


def agree(page, image, kernel, row, column):
    assert place(page) == (row, column)
    names = [f"row {i + 1}, column {j + 1}" for i in range(3) for j in range(3)]
    patch = image[row : row + 3, column : column + 3].astype(float)
    assert [shown(page, f"pixel {name}") for name in names] == pytest.approx(patch.ravel(), abs=6e-4)
    products = (patch * kernel).ravel()
    assert [shown(page, f"product {name}") for name in names] == pytest.approx(products, abs=6e-4)
    assert shown(page, "sum") == pytest.approx(convolved(image, kernel)[row, column], abs=6e-4)


def type_in(page, kernel):
    for (i, j), weight in np.ndenumerate(kernel):
        page.get_by_label(f"weight row {i + 1}, column {j + 1}").fill(str(weight))


def output_colours(page, shape):
    """Return what the middle of each output pixel looks like: (Ho, Wo, 3)."""
    address = page.locator("canvas").nth(1).evaluate("canvas => canvas.toDataURL()")
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"), int)
    rows, columns = (
        np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, picture.shape, strict=False)
    )
    return picture[rows][:, columns]


def test_slide_is_a_convolution(image):
    assert np.allclose(slide(image, MINE), convolved(image, MINE), atol=1e-12)


def test_equal_arguments_give_equal_bytes(image):
    figure = interactive.moving_window(image, EDGES)
    assert interactive.moving_window(image.astype(np.float64), EDGES.astype(float)).fragment() == figure.fragment()
    row, column = figure.data["at"]
    output = convolved(image, EDGES)
    assert abs(output[row, column]) == pytest.approx(np.abs(output).max())
    assert f"{output[row, column]:.3f}" in figure.alt and len(figure.png) < 60_000 and len(figure.page()) < 60_000


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": np.zeros((5, 5, 1))}, r"one grey picture \(H, W\), .* got \(5, 5, 1\)"),
        ({"image": np.zeros((2, 5))}, "3 to 64 pixels"),
        ({"image": np.zeros((0, 0))}, r"got \(0, 0\)"),
        ({"image": np.zeros((65, 5))}, "3 to 64 pixels"),
        ({"image": np.zeros((5, 5), np.uint8)}, "uint8: scale it"),
        ({"image": np.full((5, 5), np.nan)}, "or NaN"),
        ({"image": np.full((5, 5), 1.5)}, "0..1"),
        ({"kernel": np.zeros((3, 2))}, r"kernel is \(3, 3\) numbers, got float64 \(3, 2\)"),
        ({"kernel": np.full((3, 3), np.inf)}, "-99 to 99"),
        ({"kernel": np.full((3, 3), "a")}, "numbers"),
        ({"presets": {"odd": np.zeros((2, 2))}}, "preset 'odd' is"),
        ({"at": (3, 0)}, r"within \(3, 3\), got \(3, 0\)"),
        ({"at": (0, -1)}, r"got \(0, -1\)"),
    ],
)
def test_wrong_arguments_are_told(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        interactive.moving_window(**{"image": np.zeros((5, 5)), "kernel": EDGES} | change)


@pytest.mark.browser
def test_every_sum_is_that_of_a_convolution(opened, image):
    page = opened(interactive.moving_window(image, MINE, at=(4, 7)))
    agree(page, image, MINE, 4, 7)
    page.locator("canvas").nth(0).focus()
    for key in ["ArrowRight"] * 3 + ["ArrowDown"] * 2:
        page.keyboard.press(key)
    agree(page, image, MINE, 6, 10)
    for key in ["ArrowRight"] * 30 + ["ArrowDown"] * 30:
        page.keyboard.press(key)
    agree(page, image, MINE, 25, 17)  # the last one, and no further
    for canvas, (rows, columns), reach in ((0, (28, 20), 1.5), (1, (26, 18), 0.5)):
        box = page.locator("canvas").nth(canvas).bounding_box()
        page.mouse.move(box["x"] + 3, box["y"] + 3)
        page.mouse.down()
        x = box["x"] + (5 + reach) / columns * box["width"]
        y = box["y"] + (12 + reach) / rows * box["height"]
        page.mouse.move(x, y, steps=5)
        page.mouse.up()
        agree(page, image, MINE, 12, 5)


@pytest.mark.browser
def test_the_kernel_can_be_changed(opened, image):
    page = opened(interactive.moving_window(image, EDGES, at=(9, 2)), width=360, dark=True)
    assert overflow(page) == 0
    choice = page.get_by_label("kernel", exact=True)
    assert choice.input_value() == "vertical edges"
    type_in(page, MINE)
    agree(page, image, MINE, 9, 2)
    assert choice.input_value() == "my own"
    for name, kernel in PRESETS.items():
        choice.select_option(name)
        agree(page, image, np.array(kernel), 9, 2)  # blur: of 1/9, not of the 0.111 that is shown
    weight = page.get_by_label("weight row 2, column 3")
    choice.select_option("vertical edges")
    for text, value in (("", 0), ("1000", 99), ("-1e5", -99), ("2.5", 2.5)):
        weight.fill(text)
        weight.blur()
        changed = EDGES.astype(float)
        changed[1, 2] = value
        agree(page, image, changed, 9, 2)
        assert float(weight.input_value()) == value
    page.locator("canvas").nth(0).focus()
    page.keyboard.press("ArrowUp")
    agree(page, image, changed, 8, 2)


@pytest.mark.browser
def test_the_output_fills_with_what_a_convolution_makes(opened, image):
    blur = np.array(PRESETS["blur"])
    page = opened(interactive.moving_window(image, blur, at=(10, 3)), still=True)
    right = np.round(255 * convolved(image, blur))[..., None].repeat(3, axis=2)
    order = np.arange(26 * 18).reshape(26, 18)
    page.locator("canvas").nth(1).focus()
    page.keyboard.press("ArrowLeft")  # out of the way: the frame covers the pixel at which the window stands
    page.keyboard.press("ArrowUp")
    colours, inside = output_colours(page, (26, 18)), order <= order[10, 3]
    covered = np.zeros((26, 18), bool)
    covered[8:11, 1:4] = True
    assert np.abs(colours - right)[inside & ~covered].max() <= 1
    empty = colours[~inside]
    assert (empty == empty[0]).all()
    page.get_by_role("button", name="Slide over all").click()
    covered[:] = False
    covered[24:, 16:] = True
    assert np.abs(output_colours(page, (26, 18)) - right)[~covered].max() <= 1
    page.get_by_role("button", name="Empty the output").click()
    assert (output_colours(page, (26, 18))[~covered] == empty[0]).all()


@pytest.mark.browser
def test_edges_are_red_and_blue(opened):
    image = np.zeros((8, 12), np.float32)
    image[:, 4:8] = 1
    page = opened(interactive.moving_window(image, EDGES, at=(5, 9)), still=True)
    red, _, blue = np.moveaxis(output_colours(page, (6, 10))[0], -1, 0)
    assert np.array_equal(np.sign(np.where(abs(red - blue) > 20, red - blue, 0)), [0, 0, 1, 1, 0, 0, -1, -1, 0, 0])


@pytest.mark.browser
def test_it_slides_on_its_own_for_less_than_five_seconds(opened, image):
    page = opened(interactive.moving_window(image, MINE))
    page.clock.install()
    page.get_by_role("button", name="Slide over all").click()
    page.clock.run_for(1000)
    assert 0 < place(page)[0] < 25
    page.clock.run_for(3990)
    agree(page, image, MINE, 25, 17)
