import matplotlib.pyplot as plt
import numpy as np
import pytest

from nnlib import History, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def history(epochs=3):
    falling = [1.0 / (epoch + 1) for epoch in range(epochs)]
    lists = {name: falling for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")}
    return History(**lists, lr=falling, seconds=falling, best_epoch=epochs - 1 if epochs else None)


def images(count=3, channels=1):
    return np.full((count, 4, 5, channels), 7, np.uint8)


FIGURES = {
    "learning curves": lambda: plots.learning_curves(history()),
    "one epoch": lambda: plots.learning_curves(history(1)),
    "no epoch": lambda: plots.learning_curves(history(0)),
    "confusion": lambda: plots.confusion_heatmap(np.arange(9).reshape(3, 3), ["a", "b", "c"]),
    "no errors": lambda: plots.confusion_heatmap(np.diag([3, 0]), ["a", "b"]),
    "grey images": lambda: plots.image_grid(images(), ["x"] * 3, "Images"),
    "colour images": lambda: plots.image_grid(images(9, 3), ["two\nlines"] * 9, "Images"),
    "weights": lambda: plots.weight_grid(np.ones((2, 3, 5)), ["x"] * 2, "Weights"),
    "flow": lambda: plots.flow_diagram(["a", "b", "c"], ["f", "g"], ["df", "dg"], "Flow"),
    "one weight image": lambda: plots.weight_grid(np.ones((1, 1, 1)), ["x"], "Weights"),
    "constant weights": lambda: plots.weight_grid(np.zeros((1, 3, 3)), ["x"], "Weights"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_title_and_names_the_axes_that_it_shows(name):
    figure = FIGURES[name]()
    figure.canvas.draw()  # nothing warns, nothing overlaps so much that the layout fails
    titles = [figure.get_suptitle()] + [axes.get_title() for axes in figure.axes]
    assert any(titles)
    for axes in figure.axes:
        assert not axes.axison or axes.get_ylabel() or axes.get_xlabel()


def test_the_confusion_heatmap_writes_every_count():
    figure = plots.confusion_heatmap(np.array([[90, 1], [2, 80]]), ["cat", "dog"])
    assert {text.get_text() for text in figure.axes[0].texts} == {"90", "1", "2", "80"}
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted class", "true class")


def test_a_mosaic_of_grey_filters_keeps_every_weight_and_leaves_gaps_between_neighbours():
    weights = np.arange(5 * 2 * 3).reshape(5, 2, 3) - 7.0  # five, not square
    sheet = plots.mosaic(weights, columns=3)
    assert sheet.shape == (2 * 2 + 1, 3 * 3 + 2)
    for k, (top, left) in enumerate([(0, 0), (0, 4), (0, 8), (3, 0), (3, 4)]):
        assert np.array_equal(sheet[top : top + 2, left : left + 3], weights[k])
    assert np.isnan(sheet[2]).all() and np.isnan(sheet[:, [3, 7]]).all()  # the gaps
    assert np.isnan(sheet[3:, 8:]).all()  # there is no sixth
    assert np.isfinite(sheet).sum() == weights.size


def test_a_mosaic_of_colour_filters_scales_each_by_itself_around_mid_grey():
    weights = np.zeros((2, 2, 1, 3))
    weights[0, :, 0, 0], weights[1, 0, 0, 2] = [0.5, -0.25], -8.0
    sheet = plots.mosaic(weights, columns=2)
    assert np.array_equal(sheet[:, 0], [[1.0, 0.5, 0.5], [0.25, 0.5, 0.5]])
    assert np.array_equal(sheet[:, 1], np.ones((2, 3)))  # the gap is white
    assert np.array_equal(sheet[:, 2], [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_filter_is_one_colour(value):
    with np.errstate(all="raise"):
        assert np.all(plots.mosaic(np.full((1, 3, 2, 3), value), 4) == 0.5 + 0.5 * np.sign(value))
        assert np.array_equal(plots.mosaic(np.full((1, 3, 2), value), 4), np.full((3, 2), value))
    assert np.array_equal(plots.mosaic(np.full((1, 1, 1), value), 1), [[value]])


def test_a_mosaic_changes_no_weight():
    weights = np.ones((2, 3, 3, 3), np.float32)
    plots.mosaic(weights, 2)
    assert np.array_equal(weights, np.ones((2, 3, 3, 3)))


def test_show_needs_alternative_text_and_closes_the_figure():
    figure = FIGURES["weights"]()
    with pytest.raises(ValueError, match="needs alternative text"):
        plots.show(figure, alt=" ")
    plots.show(figure, alt="Two weight images.")
    assert not plt.fignum_exists(figure.number)


def test_bad_input():
    with pytest.raises(ValueError, match=r"got \(3, 1, 4, 5\) and 3"):
        plots.image_grid(images().transpose(0, 3, 1, 2), ["x"] * 3, "channels first")
    with pytest.raises(ValueError, match=r"N captions, got \(3, 4, 5, 1\) and 2"):
        plots.image_grid(images(), ["x"] * 2, "Images")
    with pytest.raises(ValueError, match=r"expected weights \(N, H, W\)"):
        plots.weight_grid(np.ones((3, 5)), ["x"] * 3, "Weights")
    for shape, columns in (((3, 5), 1), ((2, 3, 3, 4), 1), ((0, 3, 3), 1), ((2, 3, 3), 0)):
        with pytest.raises(ValueError, match=r"expected weights \(N, H, W\) or \(N, H, W, 3\)"):
            plots.mosaic(np.ones(shape), columns)
    with pytest.raises(ValueError, match="one arrow text fewer than boxes, got 2, 1, 2"):
        plots.flow_diagram(["a", "b"], ["x"], ["y", "z"], "Flow")
