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
    with pytest.raises(ValueError, match="one arrow text fewer than boxes, got 2, 1, 2"):
        plots.flow_diagram(["a", "b"], ["x"], ["y", "z"], "Flow")
