"""The matrix of patches: its rows and its counts are those of nnlib's im2col and col2im."""

import re

import numpy as np
import pytest

from nnlib import interactive, reference
from tests.interactive.browser import overflow

H, W = 5, 6
IMAGE = np.arange(1, H * W + 1, dtype=np.float32).reshape(H, W)


def counts(geometry, written=None):
    """How often col2im finds each pixel in the first `written` rows, (H, W); and the matrix' shape."""
    ones = np.ones_like(reference.im2col(IMAGE[None, :, :, None], *geometry))
    ones[len(ones) if written is None else written :] = 0
    return reference.col2im(ones, (1, H, W, 1), *geometry)[0, :, :, 0], ones.shape


def said(page, name):
    return page.locator(f'output[data-name="{name}"]').text_content()


def is_true(page, geometry, row, column):
    """What the figure says of this pixel equals what col2im counts, in the whole matrix and so far."""
    position = int(page.get_by_role("slider").input_value())
    everywhere, shape = counts(geometry)
    so_far, _ = counts(geometry, position + 1)
    assert said(page, "pixel") == f"row {row}, column {column}"
    assert said(page, "matrix") == f"{shape[0]} rows of {shape[1]}"
    assert (said(page, "copies"), said(page, "copies so far")) == (
        f"{everywhere[row, column]:.0f}",
        f"{so_far[row, column]:.0f}",
    )


@pytest.mark.browser
def test_each_pixel_has_as_many_copies_as_col2im_counts(opened):
    page = opened(interactive.patch_matrix(IMAGE, (3, 2), 1, 1))
    slider, picture = page.get_by_role("slider"), page.get_by_role("application")
    for stride, padding, position in ((1, 1, 17), (2, 1, 4), (3, 2, 5), (1, 0, 14)):
        page.get_by_label("stride").select_option(str(stride))
        page.get_by_label("padding").select_option(str(padding))
        slider.fill(str(position))
        geometry = (3, 2), stride, padding
        box = picture.bounding_box()
        side = int(300 / (W + 2 * padding))  # of a pixel on the screen; the picture is wider than high
        for row, column in ((0, 0), (2, 3), (4, 5)):
            page.mouse.move(
                box["x"] + (column + padding + 0.5) * side, box["y"] + (row + padding + 0.5) * side
            )  # pointing is enough
            is_true(page, geometry, row, column)
        page.mouse.move(box["x"] + 2, box["y"] + 2)  # the corner: in the padding the next pixel is meant
        picture.focus()
        for key, row, column in (("ArrowUp", 0, 0), ("ArrowDown", 1, 0), ("ArrowRight", 1, 1), ("ArrowLeft", 1, 0)):
            page.keyboard.press(key)
            is_true(page, geometry, row, column)


@pytest.mark.browser
def test_the_window_stands_where_its_row_begins(opened):
    page = opened(interactive.patch_matrix(IMAGE, (3, 3), 2, 1), width=360, dark=True)
    corners = [(top, left) for top in range(-1, H - 1, 2) for left in range(-1, W - 1, 2)]
    page.get_by_role("slider").focus()
    for number, (top, left) in enumerate(corners):
        assert said(page, "position") == str(number) and said(page, "window") == f"row {top}, column {left}"
        page.keyboard.press("ArrowRight")
    assert said(page, "position") == str(len(corners) - 1)  # no further
    assert overflow(page) == 0


@pytest.mark.browser
def test_what_is_drawn_is_the_matrix(opened):
    page = opened(interactive.patch_matrix(IMAGE, (3, 3), 1, 0))
    slider = page.get_by_role("slider")
    rows = reference.im2col(IMAGE[None, :, :, None], (3, 3))
    slider.fill(str(len(rows) - 1))
    page.get_by_role("application").focus()
    drawn = """([rows, places]) => {
      const canvas = document.querySelector('canvas[aria-label^="The matrix"]');
      const [width, height] = [canvas.width / places, Math.min(30 * canvas.width / 340, canvas.height / rows)];
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return Array.from({length: rows * places}, (_, i) => {
        const [x, y] = [(i % places + 0.5) * width, (Math.floor(i / places) + 0.5) * height].map(Math.floor);
        return [...data.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 3)];
      });
    }"""
    colours = np.array(page.evaluate(drawn, list(rows.shape))).reshape(*rows.shape, 3)
    copies = rows == IMAGE[H // 2, W // 2]
    assert (np.ptp(colours[~copies], axis=-1) == 0).all() and (np.ptp(colours[copies], axis=-1) > 50).all()
    np.testing.assert_allclose(colours[~copies][:, 0], 255 * rows[~copies] / IMAGE.max(), atol=1)


def test_it_is_deterministic_and_small():
    figure, again = (interactive.patch_matrix(IMAGE, (3, 3), 1, 1) for _ in range(2))
    assert figure.fragment() == again.fragment() and len(figure.fragment()) < 100_000
    assert re.search("hover|point", figure.alt)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((IMAGE[:, :, None],), "one picture"),
        ((np.zeros((0, 3)),), "one picture"),
        ((np.zeros((28, 28)),), "at most 16 by 16"),
        ((IMAGE.astype(str),), "of numbers"),
        ((np.where(IMAGE == 3, np.nan, IMAGE),), "finite"),
        ((IMAGE, 3), "kernel_size is a pair"),
        ((IMAGE, (3, 3, 3)), "kernel_size is a pair"),
        ((IMAGE, (6, 3)), "does not fit"),
        ((IMAGE, (0, 3)), "does not fit"),
        ((IMAGE, (3, 3), 0), "stride is 1, 2 or 3"),
        ((IMAGE, (3, 3), 1, -1), "padding is 0, 1 or 2"),
        ((IMAGE, (3, 3), 1, 0.5), "padding is 0, 1 or 2"),
    ],
)
def test_bad_input_is_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        interactive.patch_matrix(*arguments)
