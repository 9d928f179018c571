"""Every committed pair is whole: its halves agree, each cell has been run, each exercise has its solution and check."""

import re

import nbformat
import pytest

from nnlib import interactive
from tools.shared import figures, notebooks, pairs

FOLDER = notebooks.ROOT / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
every_notebook = pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])


def stored_cells(source):
    if not source.with_suffix(".ipynb").exists():
        pytest.fail(f"not built yet: make build NOTEBOOK={source.stem}", pytrace=False)
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    return list(enumerate((cell for cell, _ in notebooks.code_cells(notebook)), 1))


def test_there_are_notebooks():
    assert SOURCES, "notebooks/ holds no NN_name.py"
    assert not pairs.orphans(FOLDER)


@every_notebook
def test_the_two_halves_agree(source):
    if difference := pairs.difference(source):
        pytest.fail(difference, pytrace=False)


@every_notebook
def test_every_cell_has_been_run_in_order(source):
    wrong = [number for number, cell in stored_cells(source) if cell.execution_count != number]
    assert not wrong, f"cells {wrong} were not run in order from the top: make build NOTEBOOK={source.stem}"


@every_notebook
def test_nothing_is_stored_that_a_reader_should_not_see(source):
    for number, cell in stored_cells(source):
        assert not notebooks.printed(cell.outputs, "stderr"), f"cell [{number}] stores a message on stderr"
        raised = [output.ename for output in cell.outputs if output.output_type == "error"]
        expected = "raises-exception" in notebooks.tags(cell)
        assert bool(raised) == expected, f"cell [{number}]: raised {raised}, tagged raises-exception: {expected}"


@every_notebook
def test_every_figure_has_alternative_text(source):
    outputs = [(number, output) for number, cell in stored_cells(source) for output in cell.outputs]
    figures = [(number, output) for number, output in outputs if "image/png" in output.get("data", {})]
    assert figures, "a notebook without a single figure"
    for number, figure in figures:
        alt = figure.metadata.get("image/png", {}).get("alt", "")
        assert len(alt.split()) >= 4, f"cell [{number}]: a figure described as {alt!r}; use plots.show(figure, alt=...)"
    for number, output in outputs:
        drawn = set(output.get("data", {})) & {"image/svg+xml", "image/jpeg", "application/pdf"}
        assert not drawn, f"cell [{number}] draws in {drawn}: plots.show draws PNG with alternative text"


@every_notebook
def test_interactive_figures_are_light_and_hold_the_program_of_today(source):
    for number, cell in stored_cells(source):
        for data in (output.get("data", {}) for output in cell.outputs):
            if parts := figures.parts(data.get("text/html", "")):
                figure = interactive.Figure(**parts)
                renew = f"python -m tools.author.build --figures {source.stem}"
                assert figure.fragment() == data["text/html"], f"cell [{number}] holds an older program: {renew}"
                weight = len(figure.png) / 1000
                assert weight <= 60, f"cell [{number}]: its picture weighs {weight:.0f} kB, and may weigh 60"
    weight = source.with_suffix(".ipynb").stat().st_size / 1e6
    assert weight <= 4, f"the notebook weighs {weight:.1f} MB, and may weigh 4"


@every_notebook
def test_every_picture_in_the_text_has_alternative_text(source):
    text = source.read_text("utf-8")
    for alt in re.findall(r"!\[([^\]]*)\]\(", text):
        assert len(alt.split()) >= 4, f"a picture in the text is described as {alt!r}"
    assert "<img" not in text, "write pictures as ![description](file)"


@every_notebook
def test_only_known_tags_are_used(source):
    known = {"figure", "cover", "exercise", "solution", "check", "raises-exception", "torch", "nbval-ignore-output"}
    for number, cell in stored_cells(source):
        assert set(notebooks.tags(cell)) <= known, f"cell [{number}] has a tag that no tool knows"
        assert "NBVAL_" not in cell.source, f"cell [{number}]: use tags, which students don't see"


@every_notebook
def test_code_that_only_draws_is_folded_and_says_nothing_that_counts(source):
    for number, cell in stored_cells(source):
        if "figure" in notebooks.tags(cell):
            assert cell.metadata["jupyter"]["source_hidden"], f"cell [{number}] is not folded"
            printed = notebooks.printed(cell.outputs)
            assert not printed, f"cell [{number}] is tagged figure, out of sight, and prints {printed[:80]!r}"


@every_notebook
def test_each_exercise_has_a_solution_and_a_check(source):
    kinds = [set(notebooks.tags(cell)) & {"exercise", "solution", "check"} for _, cell in stored_cells(source)]
    for number, kind in enumerate(kinds, 1):
        if kind == {"exercise"}:
            assert kinds[number : number + 2] == [{"solution"}, {"check"}], f"the exercise in cell [{number}]"
    assert kinds.count({"solution"}) == kinds.count({"exercise"}), "a solution without an exercise"
