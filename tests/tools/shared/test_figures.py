"""Of an interactive figure that is stored, what it shows is compared, to the last digit; its program is renewed."""

import json

import nbformat
import numpy as np
import pytest

from nnlib import interactive
from tools.author import build
from tools.shared import figures, kernels

ALT = 'A picture of 3 < 4, "touched" & seen.'


def figure(pixel=0, label="the first"):
    frames = np.zeros((2, 3, 3), np.uint8)
    frames[0, 0, 0] = pixel
    return interactive.player(frames, [label, "the second"], alt=ALT)


def stored(text):
    return [nbformat.v4.new_output("execute_result", {"text/html": text, "text/plain": ALT}, execution_count=1)]


def test_a_stored_figure_can_be_made_anew():
    text = figure().fragment()
    assert interactive.Figure(**figures.parts(text)).fragment() == text
    assert figures.parts("<table>") is None and figures.compared("<table>") == "<table>"


def test_what_it_shows_is_compared_and_neither_its_program_nor_its_pictures():
    text = figure().fragment()
    program = text.replace("Stop", "Halt")
    assert program != text and figures.compared(program) == figures.compared(text)
    assert figures.compared(figure(pixel=9).fragment()) == figures.compared(text) != text
    assert next(kernels.differing_lines(stored(text), stored(program)), None) is None
    other = next(kernels.differing_lines(stored(text), stored(figure(label="the other").fragment())))
    assert other.startswith("result (text/html)") and 'stored:    "the first"' in other and "the other" in other


def test_an_array_that_changes_by_one_digit_is_seen():
    def shown(values):
        png, data = figure().png, {"x": interactive.encode(np.asarray(values, np.float32))}
        return figures.compared(interactive.Figure("player", data, png=png, alt=ALT, height=9).fragment())

    assert shown(np.arange(999)) == shown(np.arange(999)) != shown(np.r_[np.arange(998), 999])
    assert len(shown(np.arange(999))) < 500  # a difference is shown to a person


@pytest.mark.parametrize("old, new", [("data-height", "data-h"), ("base64,", "base64,A"), (");\n</script>", "\n")])
def test_a_damaged_figure_says_so(old, new):
    damaged = figure().fragment().replace(old, new)
    with pytest.raises(ValueError, match="damaged: run its cell again"):
        figures.parts(damaged)
    assert "damaged" in figures.compared(damaged)


def test_a_build_of_the_figures_alone_renews_the_program_and_nothing_else(tmp_path):
    older, text = figure().fragment().replace("Stop", "Halt"), figure().fragment()
    cell = nbformat.v4.new_code_cell("figure()", id="a", execution_count=1, outputs=stored(older))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "01_figure.ipynb")
    before = json.loads((tmp_path / "01_figure.ipynb").read_text("utf-8"))
    build.renew_figures(tmp_path / "01_figure.ipynb")
    after = json.loads((tmp_path / "01_figure.ipynb").read_text("utf-8"))
    assert "".join(after["cells"][0]["outputs"][0]["data"].pop("text/html")) == text
    assert "".join(before["cells"][0]["outputs"][0]["data"].pop("text/html")) == older
    assert after == before
