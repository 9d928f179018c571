"""The students' edition: nothing of a solution in it, the same bytes twice, and never a changed file overwritten."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.instructor import student
from tools.shared import notebooks
from tools.shared.notebooks import ROOT, tags

SOURCES = notebooks.select(ROOT / "notebooks")
every_notebook = pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])

TINY = """\
# %% [markdown]
# # Tiny
#
# ![A picture](images/01_tiny.png)

# %%
base = 2
print(base)

# %% [markdown]
# ## Exercises
#
# Write it over the stub.
# The folded cell between the two is a solution: open it late. (Or never.)
#
# ### 1 · Twice

# %% tags=["exercise"]
def twice(x):
    raise NotImplementedError("not written yet")


def thrice(x):
    raise NotImplementedError("not written yet")


# %% [markdown] tags=["solution"]
# Why it is so.

# %% tags=["solution"]
def twice(x):
    return base * x


def thrice(x):
    return 3 * x


# %% tags=["check"]
assert twice(4) == 8, "twice(4) is 8"
assert thrice(4) == 12, "thrice(4) is 12"

# %%
print(base)
"""


@pytest.fixture
def course(tmp_path):
    """A folder with one notebook and its executed half."""
    folder = tmp_path / "notebooks"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "01_tiny.png").write_bytes(b"a picture")
    (folder / "01_tiny.py").write_text(TINY, "utf-8", newline="\n")
    store(folder / "01_tiny.py")
    return folder


def store(source):
    """Write the .ipynb of a source, every cell with an output."""
    notebook = notebooks.read_source(source)
    for number, (cell, _) in enumerate(notebooks.code_cells(notebook), 1):
        cell.execution_count = number
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {number}\n")]
    notebooks.write(notebook, source.with_suffix(".ipynb"))


@pytest.fixture
def make(course, monkeypatch, capsys):
    """Run the command on `course`; return what it says, and the folder of the editions."""

    def call(*arguments):
        into = course.parent / "student"
        command = ["student", "--notebooks", course, "--into", into, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        assert student.main() == 0
        return capsys.readouterr().out, into

    return call


def test_an_edition_has_the_stub_and_the_check_but_no_solution_and_no_later_output(course):
    made = student.edition(course / "01_tiny.py")
    assert [tags(cell) for cell in made.cells if tags(cell)] == [["exercise"], ["check"]]
    text = "\n".join(cell.source for cell in made.cells)
    assert "Write it over the stub." in text and "### 1 · Twice" in text and text.count(student.STUB) == 2
    for secret in ("base * x", "Why it is so", "folded", "Or never"):
        assert secret not in text
    outputs = [notebooks.printed(cell.outputs) for cell, _ in notebooks.code_cells(made)]
    assert outputs == ["output 1\n", "", "", ""]
    assert [cell.execution_count for cell, _ in notebooks.code_cells(made)] == [1, None, None, None]


@every_notebook
def test_no_edition_gives_a_solution_away(source):
    course = notebooks.read_source(source)
    solutions = [cell.source for cell in course.cells if "solution" in tags(cell)]
    assert len(solutions) >= len(student.exercises(course)) > 0
    for form in ("plain", "nbgrader"):
        made = student.edition(source, form)
        nbformat.validate(made)
        sources = {cell.source for cell in made.cells}
        assert not sources & set(solutions)
        ids = {cell.id: cell.source for cell in course.cells}
        assert all(cell.id in ids for cell in made.cells), "a student's cell keeps the id of the course's"
        for cell in made.cells:
            assert "folded" not in cell.source.lower(), f"no cell is folded in the edition: {cell.source[:300]}"
        codes = [cell for cell, _ in notebooks.code_cells(made)]
        begun = next(index for index, cell in enumerate(codes) if "exercise" in tags(cell))
        assert all(cell.execution_count for cell in codes[:begun])
        assert not any(cell.outputs or cell.execution_count for cell in codes[begun:])
        names = [exercise.names[0] for exercise in student.exercises(course)]
        assert len(names) == len(set(names)), "exercises are told apart by the first name that they define"


@every_notebook
def test_an_edition_is_made_of_the_same_bytes_each_time(source):
    assert student.files(source, "plain") == student.files(source, "plain")


def test_the_command_writes_once_and_then_finds_all_up_to_date(make):
    said, into = make()
    assert "01_tiny.ipynb: written" in said and "images/01_tiny.png: written" in said
    first = {path: path.read_bytes() for path in into.rglob("*") if path.is_file()}
    said, _ = make()
    assert "written" not in said and said.count("up to date") == 2
    assert {path: path.read_bytes() for path in into.rglob("*") if path.is_file()} == first


def test_an_unchanged_file_follows_the_source_and_a_changed_one_never_does(course, make):
    _, into = make()
    mine = into / "01_tiny.ipynb"
    rename = TINY.replace("# # Tiny", "# # Tiny, second edition")
    (course / "01_tiny.py").write_text(rename, "utf-8", newline="\n")
    store(course / "01_tiny.py")
    said, _ = make()
    assert "01_tiny.ipynb: written" in said and b"second edition" in mine.read_bytes()

    work = mine.read_text("utf-8").replace(r"raise NotImplementedError(\"not written yet\")", "return 2 * x", 1)
    mine.write_text(work, "utf-8")  # the student writes ...
    (course / "01_tiny.py").write_text(TINY, "utf-8", newline="\n")
    store(course / "01_tiny.py")  # ... and the course moves on
    said, _ = make()
    assert "01_tiny.ipynb: left as it was" in said and "Move it away" in said
    assert mine.read_text("utf-8") == work

    mine.rename(into / "my work.ipynb")
    said, _ = make()
    assert "01_tiny.ipynb: written" in said and (into / "my work.ipynb").read_text("utf-8") == work


@pytest.mark.parametrize("record", [None, "", "[1]", '{"01_tiny.ipynb": 5}', '{"01_tiny.ipynb": ['])
def test_without_a_readable_record_every_other_file_is_somebodys(tmp_path, record):
    (tmp_path / "01_tiny.ipynb").write_bytes(b"whose is it?")
    if record is not None:
        (tmp_path / ".editions.json").write_text(record)
    assert student.write(tmp_path, {"01_tiny.ipynb": b"new"}) == {"01_tiny.ipynb": "left as it was"}
    assert (tmp_path / "01_tiny.ipynb").read_bytes() == b"whose is it?"


def test_an_interruption_between_record_and_file_is_survived(tmp_path, monkeypatch):
    student.write(tmp_path, {"a.ipynb": b"one"})
    replace = notebooks.replace

    def interrupted(path, content):
        if path.name == "a.ipynb":
            path.with_name(f".{path.name}.half").write_bytes(content[:1])
            raise KeyboardInterrupt
        replace(path, content)

    monkeypatch.setattr(notebooks, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        student.write(tmp_path, {"a.ipynb": b"two"})
    assert (tmp_path / "a.ipynb").read_bytes() == b"one"  # half written beside it, not into it
    monkeypatch.undo()
    assert student.write(tmp_path, {"a.ipynb": b"two"}) == {"a.ipynb": "written"}
    assert student.write(tmp_path, {"a.ipynb": b"three"}) == {"a.ipynb": "written"}


def test_folders_and_links_in_the_way_are_left_alone(tmp_path):
    (tmp_path / "a.ipynb").mkdir()
    assert student.write(tmp_path, {"a.ipynb": b"x"}) == {"a.ipynb": "left as it was"}
    elsewhere = tmp_path / "elsewhere"
    try:
        (tmp_path / "b.ipynb").symlink_to(elsewhere)
    except OSError:
        pytest.skip("no symbolic links here (Windows)")
    assert student.write(tmp_path, {"b.ipynb": b"x"}) == {"b.ipynb": "left as it was"}
    assert not elsewhere.exists()


def test_a_pair_that_differs_makes_no_edition(course):
    (course / "01_tiny.py").write_text(TINY.replace("base = 2", "base = 3"), "utf-8", newline="\n")
    with pytest.raises(SystemExit, match="not the same notebook"):
        student.edition(course / "01_tiny.py")


def test_an_exercise_is_a_stub_its_solutions_and_its_check(course):
    def read(text):
        (course / "01_tiny.py").write_text(text, "utf-8", newline="\n")
        return notebooks.read_source(course / "01_tiny.py")

    (whole,) = student.exercises(read(TINY))
    assert (whole.names, whole.heading) == (["twice", "thrice"], "1 · Twice")
    assert len(whole.solutions) == 1 and whole.check.source.startswith("assert twice")
    assert not whole.in_place
    (asks,) = student.exercises(
        read(TINY.replace("def twice(x):\n    raise", "def twice(x):  # in place\n    raise", 1))
    )
    assert asks.in_place


def test_names_are_found_wherever_a_cell_binds_them():
    assert student.defined("def f(): a = 1\nclass C: pass\nx, (y, *z) = 1, (2, 3)\nw: int = 4\nprint(v)") == [
        *("f", "C", "x", "y", "z", "w")
    ]


# ------------------------------------------------------------------------------------------------------------- nbgrader


def test_the_nbgrader_edition_says_what_each_cell_is(make):
    _, into = make("--format", "nbgrader")
    made = nbformat.read(into / "nbgrader" / "source" / "01_tiny" / "01_tiny.ipynb", as_version=4)
    stub, check = (cell for cell in made.cells if "nbgrader" in cell.metadata)
    assert stub.metadata.nbgrader["solution"] and not stub.metadata.nbgrader["grade"]
    assert check.metadata.nbgrader["grade"] and check.metadata.nbgrader["locked"] and check.metadata.nbgrader["points"]
    assert stub.source.count("BEGIN SOLUTION") == stub.source.count("END SOLUTION") == 2
    assert (into / "nbgrader" / "source" / "01_tiny" / "images" / "01_tiny.png").exists()
    assert "get_config()" in (into / "nbgrader" / "nbgrader_config.py").read_text("utf-8")


def nbgrader(folder, *command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls `alembic` by its name
    command = [sys.executable, "-m", "nbgrader", *command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.editions
def test_nbgrader_accepts_the_edition_and_grades_it(course, make):
    pytest.importorskip("nbgrader", reason="nbgrader is not here: make setup-grade")
    _, into = make("--format", "nbgrader")
    folder = into / "nbgrader"
    nbgrader(folder, "generate_assignment", "01_tiny", "--create")
    released = nbformat.read(folder / "release" / "01_tiny" / "01_tiny.ipynb", as_version=4)
    plain = student.edition(course / "01_tiny.py")
    assert [cell.source for cell in released.cells] == [cell.source for cell in plain.cells]  # the very same stubs

    (exercise,) = student.exercises(notebooks.read_source(course / "01_tiny.py"))
    right = exercise.solutions[0].source
    answers = {"good": right, "none": None, "wrong": right.replace("3 * x", "4 * x")}
    for name, answer in answers.items():
        handed_in = nbformat.from_dict(released.copy())
        for cell in handed_in.cells:
            if "exercise" in tags(cell) and answer:
                cell.source = answer
            if "check" in tags(cell) and name == "wrong":
                cell.source = "pass  # the student's own opinion"
        target = folder / "submitted" / name / "01_tiny" / "01_tiny.ipynb"
        target.parent.mkdir(parents=True)
        shutil.copytree(folder / "release" / "01_tiny" / "images", target.parent / "images")
        nbformat.write(handed_in, target)
    nbgrader(folder, "autograde", "01_tiny", "--create")
    nbgrader(folder, "export")
    with (folder / "grades.csv").open(newline="") as table:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(table)}
    assert scores == {"good": 1.0, "none": 0.0, "wrong": 0.0}
