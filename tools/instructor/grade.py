"""Check every exercise of every submitted notebook with the course's checks; write one table, students × exercises.

    python -m tools.instructor.grade FOLDER [01_mlp ...]                          make grade SUBMISSIONS=FOLDER
    python -m tools.instructor.grade FOLDER --scheduler tcp://HOST:8786 [...]     on a Dask cluster

FOLDER holds a folder for each student, with their notebooks somewhere in it, or files like jane_01_mlp.ipynb.

The one idea: what is graded is the answer, in the course's own notebook. The course's cells are executed once, on the
committed sample of the data; each answer then meets them in two processes of its own (tools/seal.py, tools/sandbox.py).
Each verdict is written down as it falls (grades/verdicts.jsonl), so an interrupted run goes on where it stopped.
"""

import argparse
import contextlib
import csv
import hashlib
import html
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tools.instructor import sandbox, student
from tools.shared import notebooks, pinned

LARGEST = 20 << 20  # bytes of a submitted notebook
MISSING = {"verdict": "missing", "message": "no notebook was handed in", "seconds": 0.0}


# ----------------------------------------------------------------------------------------------------- submissions


@dataclass
class Submission:
    """One student's notebook: the code cells that are not the course's own, or why they can't be read."""

    student: str
    notebook: str
    path: Path
    cells: list[str] = field(default_factory=list)
    fault: str = ""


def read_submission(path: Path) -> tuple[dict, str]:
    """Return (the notebook's JSON, "") or ({}, what is wrong with the file). Runs nothing, follows no link."""
    if path.is_symlink() or not path.is_file():
        return {}, "the file is a link, or no file at all"
    if path.stat().st_size > LARGEST:
        return {}, f"the file is larger than {LARGEST >> 20} MB"
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        if not isinstance(content["cells"], list):
            raise TypeError
    except (ValueError, RecursionError) as error:
        return {}, f"the file is no notebook: {str(error)[:100]}"
    except (KeyError, TypeError, OSError):
        return {}, "the file is no notebook: it has no list of cells"
    return content, ""


def own_cells(content: dict, course: set[str]) -> list[str]:
    """Return a submission's code cells, but for those of the `course` (which run already), checks and solutions."""
    own = []
    for cell in content["cells"]:
        with contextlib.suppress(TypeError, AttributeError):  # what is no cell is no answer
            source = cell.get("source", "")
            source = (source if isinstance(source, str) else "".join(source)).strip()
            tags = set(cell.get("metadata", {}).get("tags") or ())
            if cell.get("cell_type") == "code" and source and source not in course:
                own += [] if tags & {"solution", "check"} else [source]
    return own


def find_submissions(folder: Path, courses: dict[str, set[str]]) -> tuple[list[Submission], list[str]]:
    """Return the submissions below `folder`, one a student and notebook, and remarks on files that are not taken.

    courses: name of each notebook -> the sources of its cells without the exercises. The notebook is told by what the
    students' edition notes in its metadata, or by the file's name; the student by the folder, or by the file's name.
    """
    found, remarks = {}, []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(files, key=lambda name: (Path(name).stem not in courses, name)):  # the very name comes first
            path = Path(root, name)
            if path.suffix != ".ipynb" or name.startswith("."):
                continue
            shown = path.relative_to(folder)
            content, fault = read_submission(path)
            notes = content.get("metadata", {})
            notes = notes.get("nnlib", {}) if isinstance(notes, dict) else {}
            noted = notes.get("notebook") if isinstance(notes, dict) else None
            named = next((course for course in courses if course in path.stem), None)
            notebook = noted if isinstance(noted, str) and noted in courses else named
            if notebook is None:
                remarks.append(f"{shown}: no notebook of this course")
                continue
            who = shown.parts[0] if len(shown.parts) > 1 else re.sub(rf"[_\W]*{notebook}[_\W]*", "", path.stem) or "?"
            who = "".join(letter if letter.isprintable() else "?" for letter in who)
            if (who, notebook) in found:
                remarks.append(f"{shown}: not taken, {found[who, notebook].path.relative_to(folder)} is there already")
                continue
            cells = [] if fault else own_cells(content, courses[notebook])
            found[who, notebook] = Submission(who, notebook, path, cells, fault)
    return list(found.values()), remarks


# ------------------------------------------------------------------------------------------- the course, ready to grade


class CannotGrade(Exception):
    """Says in words why this machine, or this notebook of the course, can grade nobody."""


class Course:
    """One notebook of the course, executed, in processes that wait for answers (see tools/seal.py)."""

    def __init__(self, source: Path):
        self.source = source
        self.folder = tempfile.TemporaryDirectory(prefix="course-")
        arithmetic = {} if pinned.obstacle() else pinned.PINNED
        with notebooks.clean_room(arithmetic, NNLIB_DATA="sample", MPLBACKEND="agg") as env:
            env.pop("NNLIB_DATA_DIR", None)
            command = [sys.executable, "-m", "tools.instructor.seal", str(source), self.folder.name]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
            self.process = subprocess.Popen(  # in a session without a terminal: Ctrl-C is for the grader alone
                command, cwd=notebooks.ROOT, env=env, start_new_session=True, **pipes
            )
            said = self.process.stdout.readline()
            if said != "ready\n":
                rest = self.process.stdout.read()
                self.close()
                raise CannotGrade(f"{said}{rest}" or f"{source.stem} could not be executed")

    def attempt(self, number: int, cells: list[str], seconds: int, memory: int) -> dict:
        """Return the verdict on `cells` as an answer to exercise `number`."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f"{self.folder.name}/{number}.sock")
            line.sendall(json.dumps({"cells": cells, "seconds": seconds, "memory": memory}).encode() + b"\n")
            with line.makefile() as answer:
                return json.loads(answer.read())

    def close(self) -> None:
        """End the processes."""
        self.process.communicate()
        self.folder.cleanup()


_courses: dict[str, Course] = {}
_starting = threading.Lock()


def attempt(source: str, version: str, number: int, cells: list[str], seconds: int, memory: int) -> dict:
    """Check one answer here: on this machine, or on that of a Dask worker. The course is started when first needed."""
    path = notebooks.ROOT / source if not os.path.isabs(source) else Path(source)
    with _starting:
        if source not in _courses:
            if (here := course_version(path)) != version:
                raise CannotGrade(f"{socket.gethostname()} has another version of the course ({here[:8]})")
            if why := sandbox.missing():
                raise CannotGrade(f"{socket.gethostname()} can't shut a submission in: {why}")
            _courses[source] = Course(path)
    return _courses[source].attempt(number, cells, seconds, memory)


def forget_courses() -> None:
    """End the courses that `attempt` has started."""
    with _starting:
        while _courses:
            _courses.popitem()[1].close()


def course_version(source: Path) -> str:
    """Return a SHA-256 of all that a verdict depends on but the answer: the notebook, nnlib, and these tools."""
    files = [source, *sorted((notebooks.ROOT / "nnlib").glob("*.py")), *map(Path, (sandbox.__file__, student.__file__))]
    files.append(notebooks.ROOT / "tools" / "seal.py")
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


# ------------------------------------------------------------------------------------------------------ the whole run


@contextlib.contextmanager
def workers(options):
    """Yield (submit(task...) -> future, as_completed, tidy) for this machine or for the Dask cluster asked for."""
    if not options.scheduler:
        pool = ThreadPoolExecutor(options.jobs)  # threads that wait for processes
        try:
            yield lambda *task: pool.submit(attempt, *task), as_completed, forget_courses
        finally:
            pool.shutdown(cancel_futures=True)
            forget_courses()
        return
    try:
        from distributed import Client
        from distributed import as_completed as as_completed_there
    except ImportError:
        sys.exit("--scheduler needs Dask: make setup-grade (or pip install -e '.[dask]').")
    with Client(options.scheduler) as client:

        def tidy():
            with contextlib.suppress(Exception):  # a worker that has died has nothing to forget
                client.run(forget_courses)

        try:
            yield lambda *task: client.submit(attempt, *task, pure=False), as_completed_there, tidy
        finally:
            tidy()


class Verdicts:
    """All verdicts so far, on disk as they fall: one JSON object a line, under a key that says what was judged."""

    def __init__(self, path: Path):
        self.path, self.known = path, {}
        if path.exists():
            for line in path.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # the line that an interruption cut short
                    entry = json.loads(line)
                    self.known[entry["key"]] = {name: entry[name] for name in ("verdict", "message", "seconds")}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, key: str, verdict: dict) -> None:
        """Keep a verdict, here and on disk."""
        self.known[key] = verdict
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * bool(file.tell() and not self._ends_well()) + json.dumps({"key": key, **verdict}) + "\n")

    def _ends_well(self):
        with self.path.open("rb") as file:
            file.seek(-1, io.SEEK_END)
            return file.read() == b"\n"


def key_of(*parts) -> str:
    """Return the key of a verdict: a hash of everything that it depends on."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def grade(source: Path, submissions: list[Submission], verdicts: Verdicts, options, submit, completed) -> dict:
    """Return (student, exercise number) -> verdict for one notebook, asking only for what is not known yet."""
    exercises = student.exercises(notebooks.read_source(source))
    version = course_version(source)
    name = source.relative_to(notebooks.ROOT).as_posix() if source.is_relative_to(notebooks.ROOT) else str(source)
    memory = options.memory << 20
    keys, todo = {}, {}
    for one in submissions:
        for number in range(1, len(exercises) + 1):
            key = keys[one.student, number] = key_of(version, source.stem, number, one.cells, options.time, memory)
            if one.fault:
                verdicts.known[key] = MISSING | {"message": one.fault}
            elif key not in verdicts.known:
                todo[key] = (number, one.cells)
    if todo:
        seconds = _rehearse(exercises, name, version, options, memory, submit)
        tasks = {submit(name, version, n, cells, seconds[n], memory): key for key, (n, cells) in todo.items()}
        begun, shown = time.monotonic(), 0.0
        for done, task in enumerate(completed(tasks), 1):
            verdicts.add(tasks[task], task.result())
            if time.monotonic() - shown > 2 or done == len(tasks):
                shown = time.monotonic()
                print(f"{source.stem}: {done} of {len(tasks)} answers, {shown - begun:.0f} s", flush=True)
    return {place: verdicts.known[key] for place, key in keys.items()}


def _rehearse(exercises, name, version, options, memory, submit):
    """Have the course's own stubs and solutions judged first. Returns number -> seconds that an answer may take."""
    patient = options.time or 300
    solved, stubs = (
        {
            number: submit(name, version, number, cells, patient, memory)
            for number, cells in enumerate(([cell.source for cell in kind(exercise)] for exercise in exercises), 1)
        }
        for kind in (lambda exercise: exercise.solutions, lambda exercise: [exercise.stub])
    )
    for number, exercise in enumerate(exercises, 1):
        for right, verdict in (("passed", solved[number].result()), ("failed", stubs[number].result())):
            if verdict["verdict"] != right:
                which = "solution" if right == "passed" else "stub"
                words = f"{verdict['verdict']}: {verdict['message']}"
                raise CannotGrade(f"{name}, {exercise.heading}: the course's own {which} {words}")
    return {number: options.time or 10 + 10 * int(1 + task.result()["seconds"]) for number, task in solved.items()}


# ---------------------------------------------------------------------------------------------------------- the tables


def word(verdict: dict) -> str:
    """Return a verdict as one line."""
    return ": ".join(filter(None, (verdict["verdict"], " ".join(verdict["message"].split()))))


def write_tables(folder: Path, columns: list[tuple[str, str]], rows: dict[str, list[dict]], note: str) -> None:
    """Write grades.csv and grades.html. columns: (notebook, exercise); rows: student -> a verdict for each column."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["student", "passed", *(f"{notebook}: {exercise}" for notebook, exercise in columns)])
    cells = []
    for who, verdicts in rows.items():
        passed = sum(verdict["verdict"] == "passed" for verdict in verdicts)
        safe = f"'{who}" if who[0] in "=+-@" else who  # a spreadsheet would take it for a formula
        table.writerow([safe, passed, *map(word, verdicts)])
        cells.append(f"<tr><th>{html.escape(who)}</th><td>{passed} of {len(columns)}</td>")
        for verdict in verdicts:
            kind = verdict["verdict"].replace(" ", "-")
            message = html.escape(verdict["message"])
            cells.append(f'<td class="{kind}"><b>{verdict["verdict"]}</b><br><small>{message}</small></td>')
        cells.append("</tr>\n")
    heads = "".join(f"<th>{html.escape(notebook)}<br>{html.escape(name)}</th>" for notebook, name in columns)
    page = PAGE.format(heads=heads, rows="".join(cells), note=html.escape(note))
    for name, content in (("grades.csv", text.getvalue()), ("grades.html", page)):
        half = folder / f".{name}.half"
        half.write_bytes(content.encode("utf-8"))
        half.replace(folder / name)


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Grades</title><style>
body {{ font: 15px sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #bbb; padding: .3em .5em; text-align: left; vertical-align: top; max-width: 22em; }}
td {{ overflow-wrap: anywhere; }}
thead th {{ position: sticky; top: 0; background: #fff; }}
small {{ white-space: pre-wrap; }}
.passed {{ background: #dff2df; }} .failed {{ background: #fbe3e0; }} .missing {{ background: #eee; }}
.timed-out, .crashed {{ background: #fdeecb; }}
</style></head><body><h1>Grades</h1><p>{note}</p>
<table><thead><tr><th>student</th><th>passed</th>{heads}</tr></thead><tbody>
{rows}</tbody></table></body></html>
"""


def main() -> int:
    """Grade a folder of submissions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="none: all that anybody handed in")
    parser.add_argument("--notebooks", type=Path, default=notebooks.ROOT / "notebooks", metavar="FOLDER")
    parser.add_argument("--into", type=Path, default=notebooks.ROOT / "grades", metavar="FOLDER", help="grades/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="answers at once on this machine (its cores)")
    parser.add_argument("--time", type=int, help="processor seconds an answer may take (10, and 10 × the solution's)")
    parser.add_argument("--memory", type=int, default=2048, help="MB that an answer may take (2048)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="tcp://HOST:PORT of a Dask scheduler")
    options = parser.parse_args()
    if not options.submissions.is_dir():
        sys.exit(f"There is no folder {options.submissions}.")
    if not options.scheduler and (why := sandbox.missing()):
        sys.exit(f"Nothing was graded. A submission can't be shut in here: {why}.")
    sources = {source.stem: source.resolve() for source in notebooks.find(options.notebooks, options.names)}
    courses = {}
    for name, source in sources.items():
        cells = [cell for cell, _ in notebooks.code_cells(notebooks.read_source(source))]
        courses[name] = {c.source.strip() for c in cells if not {"exercise", "solution"} & set(student.tags(c))}
    submissions, remarks = find_submissions(options.submissions, courses)
    for remark in remarks:
        print(remark)
    if not submissions:
        sys.exit(f"There is no submission in {options.submissions}.")
    wanted = [name for name in sources if options.names or any(one.notebook == name for one in submissions)]
    students = sorted({one.student for one in submissions}, key=lambda who: (who.casefold(), who))
    verdicts = Verdicts(options.into / "verdicts.jsonl")
    columns, rows = [], {who: [] for who in students}
    try:
        with workers(options) as (submit, completed, tidy):
            for name in wanted:
                mine = [one for one in submissions if one.notebook == name]
                found = grade(sources[name], mine, verdicts, options, submit, completed)
                exercises = student.exercises(notebooks.read_source(sources[name]))
                columns += [(name, exercise.heading) for exercise in exercises]
                for who in students:
                    rows[who] += [found.get((who, number), MISSING) for number in range(1, len(exercises) + 1)]
                tidy()
    except CannotGrade as failure:
        sys.exit(f"Nothing was graded. {failure}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on from here.")
    note = f"{len(students)} students, {len(columns)} exercises. Each answer ran without network, files or processes."
    write_tables(options.into, columns, rows, note)
    counts = {}
    for verdict in (verdict for verdicts_of in rows.values() for verdict in verdicts_of):
        counts[verdict["verdict"]] = counts.get(verdict["verdict"], 0) + 1
    print(f"{note}\n{', '.join(f'{number} {kind}' for kind, number in sorted(counts.items()))}")
    print(f"The table is in {notebooks.shown(options.into.resolve())}/grades.html and grades.csv.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
