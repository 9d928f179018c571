"""Every notebook's exercises, worked through: slow, so a stage of its own in `make test` (pytest -m editions).

One process executes the students' edition on the sample up to its first exercise. From there it goes on twice: with the
stubs as they are, where every check must fail and nothing else may, and with the solutions pasted into them, where
nothing may. Each solution and each stub is also graded as if a student had handed it in.
"""

import json
import os
import sys

import pytest

from tests.tools.small_course import beside
from tools.instructor import grade, sandbox, student
from tools.shared import notebooks
from tools.shared.notebooks import ROOT, tags

SOURCES = notebooks.select(ROOT / "notebooks")


def rehearse(source):
    """Print a JSON object: what failed before the first exercise, with stubs from there on, and with solutions."""
    tell = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    exercises = {exercise.stub.id: exercise for exercise in student.exercises(notebooks.read_source(source))}
    cells = [cell for cell, _ in notebooks.code_cells(student.edition(source))]
    begun = next(index for index, cell in enumerate(cells) if "exercise" in tags(cell))
    space = {"__name__": "__main__"}
    found = {"before": run(cells[:begun], space), "solutions": {}}
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, json.dumps(run(cells[begun:], space)).encode())
        os._exit(0)
    os.close(writer)
    for cell in cells[begun:]:
        if exercise := exercises.get(cell.id):
            cell.source = "\n\n\n".join(cell.source for cell in exercise.solutions)
        found["solutions"] |= run([cell], space)
    found["stubs"] = json.loads(os.read(reader, 1 << 20))
    print(json.dumps(found), file=tell)


def run(cells, space):
    """Execute cells; return {id: what was raised} for those that fail, as a student who goes on would see it."""
    failed = {}
    for cell in cells:
        try:
            exec(compile(cell.source, cell.id, "exec"), space)
        except Exception as error:
            if "raises-exception" not in tags(cell):
                failed[cell.id] = f"{type(error).__name__}: {error}"[:300]
    return failed


@pytest.mark.editions
@pytest.mark.skipif(not hasattr(os, "fork"), reason="one run for both needs fork (not on Windows)")
@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_the_stubs_fail_at_the_checks_alone_and_the_solutions_nowhere(source, tmp_path):
    found = beside("tests.tools.instructor.test_editions", source, tmp_path)
    checks = [cell.id for cell in student.edition(source).cells if "check" in tags(cell)]
    assert not found["before"]
    assert list(found["stubs"]) == checks
    assert all("not written yet" in words for words in found["stubs"].values()), found["stubs"]
    assert not found["solutions"]


@pytest.mark.editions
@pytest.mark.skipif(sandbox.missing() is not None, reason=f"no submission can be shut in: {sandbox.missing()}")
@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_the_grader_passes_the_solutions_and_fails_the_stubs(source):
    course = grade.Course(source)
    try:
        for number, exercise in enumerate(course.exercises, 1):
            solution = course.attempt(number, [cell.source for cell in exercise.solutions], 300, 2 << 30)
            assert solution["verdict"] == "passed", f"{exercise.heading}: {solution}"
            stub = course.attempt(number, [exercise.stub.source], 300, 2 << 30)
            assert stub["verdict"] == "failed" and "not written yet" in stub["message"], f"{exercise.heading}: {stub}"
            print(f"{exercise.heading}: {solution['seconds']:.2f} s")
    finally:
        course.close()


if __name__ == "__main__":
    from pathlib import Path

    rehearse(Path(sys.argv[1]))
