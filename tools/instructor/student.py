"""Write the students' edition of each notebook: no solutions, no outputs of what follows from them, live stubs.

    python -m tools.instructor.student [01_mlp ...]                       make student NOTEBOOK=01_mlp
    python -m tools.instructor.student --format nbgrader [01_mlp ...]     make student FORMAT=nbgrader

The one idea: the tags `exercise`, `solution` and `check` in the one source say everything. An edition holds the
source's cells and ids, so the same source gives the same bytes. A file that was changed since it was written here is
never overwritten: `.editions.json` beside the editions remembers the SHA-256 of all that was ever written.
"""

import hashlib
import json
import re
import symtable
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

from tools.shared import notebooks, pairs
from tools.shared.notebooks import tags

STUB = 'raise NotImplementedError("not written yet")'
STUB_LINE = re.compile(rf"^( *){re.escape(STUB)}$", re.MULTILINE)
NBGRADER_REGION = rf"\1### BEGIN SOLUTION\n\1{STUB}\n\1### END SOLUTION"  # nbgrader puts a stub in its place
NBGRADER_CONFIG = f"""\
# Made by `make student FORMAT=nbgrader`. In this folder: nbgrader generate_assignment 01_mlp, and so on.
c = get_config()
c.ClearSolutions.code_stub = {{"python": {STUB!r}}}  # the course's own stub
c.ExecutePreprocessor.timeout = 300  # seconds for one cell; training on the full data takes longer than on the sample
"""


@dataclass
class Exercise:
    """One exercise of a notebook: its three kinds of cells, and the names that its stub asks for."""

    heading: str
    names: list[str]
    stub: nbformat.NotebookNode
    solutions: list[nbformat.NotebookNode]
    check: nbformat.NotebookNode

    @property
    def in_place(self) -> bool:
        """Whether the stub asks for changes "in place": then a check sees what an answer does to its arguments."""
        return "in place" in self.stub.source


def defined(source: str) -> list[str]:
    """Return the names that a cell binds at its top level by def, class or assignment."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned()]


def exercises(notebook: nbformat.NotebookNode) -> list[Exercise]:
    """Return a course notebook's exercises, in order: each is a stub, its solutions, and the check that ends it."""
    found, stub, solutions = [], None, []
    for cell, heading in notebooks.code_cells(notebook):
        if "exercise" in tags(cell):
            stub, solutions = cell, []
        elif "solution" in tags(cell):
            solutions.append(cell)
        elif "check" in tags(cell):
            found.append(Exercise(heading, defined(stub.source), stub, solutions, cell))
    return found


def edition(source: Path, form: str = "plain") -> nbformat.NotebookNode:
    """Return the students' edition of one source as a notebook, with the stored outputs up to the first exercise.

    form: "plain", or "nbgrader": then the cells say in nbgrader's metadata (its schema 3) what they are.
    """
    if difference := pairs.difference(source):
        sys.exit(difference)
    notebook = notebooks.read_source(source)
    stored = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for cell, old in zip(notebook.cells, stored.cells, strict=True):  # the pair agrees, cell by cell
        if "exercise" in tags(cell):
            break
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
    if form == "nbgrader":
        for exercise in exercises(notebook):
            name = exercise.names[0]
            exercise.stub.source = STUB_LINE.sub(NBGRADER_REGION, exercise.stub.source)
            exercise.stub.metadata["nbgrader"] = _nbgrader(name, solution=True, locked=False)
            exercise.check.metadata["nbgrader"] = _nbgrader(f"check-{name}", grade=True, points=1)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = notebooks.FOLDED.sub("", cell.source)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata["nnlib"] = {"edition": "student", "notebook": source.stem}
    return notebook


def _nbgrader(grade_id, grade=False, solution=False, locked=True, **points):
    kind = {"grade_id": grade_id, "grade": grade, "solution": solution, "locked": locked, "task": False}
    return {**kind, "cell_type": "code", "schema_version": 3, **points}


def files(source: Path, form: str) -> dict[str, bytes]:
    """Return what one notebook contributes to the folder of the editions: relative path -> content."""
    notebook = edition(source, form)
    folder = f"nbgrader/source/{source.stem}/" if form == "nbgrader" else ""
    found = {f"{folder}{source.stem}.ipynb": (nbformat.writes(notebook).rstrip("\n") + "\n").encode()}
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for picture in sorted(set(re.findall(r"!\[[^]]*\]\((images/[\w.-]+)\)", text))):
        found[f"{folder}{picture}"] = (source.parent / picture).read_bytes()
    if form == "nbgrader":
        found["nbgrader/nbgrader_config.py"] = NBGRADER_CONFIG.encode()
    return found


def write(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Write files into `folder`, but none over one that somebody else has written or changed.

    Returns relative path -> "written", "up to date" or "left as it was". The record has a file's hash before the disk
    has the file, so an interruption in between makes nobody's file ours and none of ours somebody's.
    """
    record, done = folder / ".editions.json", {}
    ours = set(re.findall("[0-9a-f]{64}", record.read_text("utf-8", "replace"))) if record.is_file() else set()
    for name, content in contents.items():
        path, new = folder / name, hashlib.sha256(content).hexdigest()
        old = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if old != new and (path.is_symlink() or (path.exists() and old not in ours)):
            done[name] = "left as it was"
            continue
        if new not in ours:
            ours.add(new)
            notebooks.replace(record, json.dumps(sorted(ours), indent=1).encode())
        if old != new:
            notebooks.replace(path, content)
        done[name] = "up to date" if old == new else "written"
    return done


def main() -> int:
    """Write the editions of the notebooks named on the command line, or all."""
    options = notebooks.arguments(
        __doc__,
        format={"choices": ["plain", "nbgrader"], "default": "plain", "help": "nbgrader: the folder it works in"},
        into={"type": Path, "default": notebooks.ROOT / "student", "metavar": "FOLDER", "help": "student/"},
    )
    contents = {}
    for source in notebooks.select(options.notebooks, options.names):
        contents |= files(source, options.format)
    done = write(options.into, contents)
    for name, what in done.items():
        print(f"{notebooks.short_path(options.into / name)}: {what}")
    if "left as it was" in done.values():
        print("What was left as it was has been changed since it was made. Move it away, and you get a fresh one.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
