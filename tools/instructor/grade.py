"""Check every exercise of every submitted notebook with the course's checks; write one table, students × exercises.

    python -m tools.instructor.grade FOLDER [01_mlp ...]                          make grade SUBMISSIONS=FOLDER
    python -m tools.instructor.grade FOLDER --scheduler tcp://HOST:8786 [...]     on a Dask cluster

FOLDER holds a folder for each student, with their notebooks somewhere in it, or files like jane_01_mlp.ipynb.

The one idea: what is graded is the answer, in the course's own notebook. The course's cells are executed once, on the
committed sample of the data; each answer then meets them in processes of its own (seal.py, and docs/grading.md).
Each verdict is written down as it falls (grades/verdicts.jsonl), so an interrupted run goes on where it stopped.
"""

import argparse
import contextlib
import csv
import hashlib
import html
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing.connection import Client, Connection
from pathlib import Path

from tqdm import tqdm

from tools.instructor import messages, sandbox, seal, student
from tools.shared import kernels, notebooks, pairs, pinned

LARGEST = 100 << 20  # bytes of a submitted notebook: its outputs may be large
MOST_CODE = 1 << 20  # characters of its cells
KEPT = ("passed", "failed", "missing")  # verdicts that another run would not change
MISSING = {"verdict": "missing", "message": "no notebook was handed in"}
NOT_GRADED = {"verdict": "not graded", "message": "interrupted"}
ENVIRONMENT = re.compile(
    "(PATH|TMPDIR|LD_LIBRARY_PATH|LANG|LC_.*|NNLIB_.*|NPY_.*|OPENBLAS_.*|MPL.*|TQDM_.*)"
)  # no tokens


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
    if path.is_symlink():
        return {}, "this is a link, and links are not followed"
    if not path.is_file():
        return {}, "this is a folder, not a file" if path.is_dir() else "this is no regular file"
    try:
        if path.stat().st_size > LARGEST:
            return {}, f"the file is larger than {LARGEST >> 20} MB"
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text)
        cells = content["cells"]
        if not isinstance(cells, list):
            raise TypeError
    except UnicodeDecodeError as error:
        return {}, f"the file is not in UTF-8: byte {error.start} is none of a text"
    except (ValueError, RecursionError) as error:
        return {}, f"the file is no notebook: {messages.said(error)[:100]}" if text.strip() else "the file is empty"
    except (KeyError, TypeError):
        return {}, "the file is no notebook: it has no list of cells"
    except OSError as error:
        return {}, f"the file can't be read: {error.strerror}"
    sources = [source for source, _ in code_cells(content)]
    if not sources:
        return {}, "the notebook has no cell with code in it"
    if sum(map(len, sources)) > MOST_CODE:
        return {}, f"its cells hold more than {MOST_CODE >> 20} MB of code"
    return content, ""


def code_cells(content: dict) -> list[tuple[str, set]]:
    """Return (source, tags) of each code cell of a notebook that anybody may have written."""
    cells = []
    for cell in content.get("cells", ()):
        with contextlib.suppress(TypeError, AttributeError):
            source = cell.get("source", "")
            source = (source if isinstance(source, str) else "".join(source)).replace("\r\n", "\n").strip()
            if cell.get("cell_type") == "code" and source:
                cells.append((source, set(cell.get("metadata", {}).get("tags") or ())))
    return cells


def find_submissions(folder: Path, courses: dict[str, set[str]]) -> tuple[list[Submission], list[str]]:
    """Return the submissions below `folder`, one a student and notebook, and remarks on files that are not taken.

    courses: name of each notebook -> the sources of its cells without the exercises. The notebook is told by what the
    students' edition notes in its metadata, by its cells, or by the file's name; the student by the folder, or by the
    file's name.
    """
    taken, elsewhere, remarks = {}, {}, []
    places = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix == ".ipynb" or path.is_symlink()]
    for place in sorted(
        places, key=lambda place: (place.parent, place.stem not in courses, place)
    ):  # the very name first
        if any(part.startswith((".", "__")) for part in place.parts):
            continue
        content, fault = read_submission(folder / place)
        named = next((course for course in courses if course in place.stem), None)
        notebook = held(content, courses, named)
        who = place.parts[0] if len(place.parts) > 1 else re.sub(rf"[_\W]*{named}[_\W]*", "", place.stem) or "?"
        who = messages.printable(who)
        if named and notebook != named:
            words = f"{place.name} holds another notebook, {notebook}"
            elsewhere[who, named] = Submission(who, named, place, fault=words)
        if notebook is None:
            remarks.append(f"{place}: {fault or 'no notebook of this course'}")
        elif (who, notebook) in taken:
            remarks.append(f"{place}: not taken, {taken[who, notebook].path} is there already")
        else:
            own = [cell for cell, tags in code_cells(content) if not tags & {"solution", "check"}]
            own = [cell for cell in own if cell not in courses[notebook]]
            taken[who, notebook] = Submission(who, notebook, place, own, fault)
    return list((elsewhere | taken).values()), [messages.printable(remark) for remark in remarks]


def held(content: dict, courses: dict[str, set[str]], named: str | None) -> str | None:
    """Return the notebook of the course that a file holds; `named` is the one that its name promises."""
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        if content["metadata"]["nnlib"]["notebook"] in courses:
            return content["metadata"]["nnlib"]["notebook"]
    sources = {source for source, _ in code_cells(content)}
    common = {course: len(sources & cells) for course, cells in courses.items()}
    best = max(common, key=common.get)
    return best if common[best] and not common.get(named) else named


# ------------------------------------------------------------------------------------------- the course, ready to grade


class CannotGrade(Exception):
    """Says in words why this machine, or this notebook of the course, can grade nobody."""


class Course:
    """One notebook of the course, executed, in processes that wait for answers (see seal.py)."""

    def __init__(self, source: Path):
        self.notebook = notebooks.read_source(source)
        self.exercises = student.exercises(self.notebook)
        arithmetic = {"OPENBLAS_NUM_THREADS": "1"} if pinned.obstacle() else pinned.PINNED
        settings = {"NNLIB_DATA": "sample", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
        with kernels.clean_room(arithmetic, **settings) as env:
            env = {name: env[name] for name in env if name in settings or ENVIRONMENT.fullmatch(name)}
            env.pop("NNLIB_DATA_DIR", None)
            command = [sys.executable, "-W", "ignore", "-m", "tools.instructor.seal"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(  # in a session without a terminal: Ctrl-C is for the grader alone
                command, cwd=notebooks.ROOT, env=env, start_new_session=True, **pipes
            )
            try:
                number, said = self.execute()
            except (OSError, EOFError):
                number, said = 1, "the process that executes it has died"
        self.folder = said
        if number:
            self.close()
            cell, heading = notebooks.code_cells(self.notebook)[number - 1]
            raise CannotGrade(kernels.describe(source.stem, number, heading, "raised an error", cell.source, said))

    def execute(self) -> list:
        """Have `orders` executed. Returns [0, where answers are taken] or [number of a cell, its error]."""
        with Connection(os.dup(self.process.stdin.fileno()), readable=False) as line:
            with contextlib.suppress(BrokenPipeError):  # it has met an error, and says which
                for order in [*orders(self.notebook), {}]:
                    line.send_bytes(json.dumps(order).encode())
        with Connection(os.dup(self.process.stdout.fileno()), writable=False) as line:
            return json.loads(line.recv_bytes())

    def attempt(self, number: int, cells: list[str], seconds: int, memory: int) -> dict:
        """Return the verdict on `cells` as an answer to exercise `number`.

        The check does not see what an answer changes in its arguments, unless the exercise asks for changes in place.
        Who passes so, and has changed something, must pass once more with changes seen, as in the notebook.
        """
        exercise = self.exercises[number - 1]
        asked = {"names": exercise.names, "cells": cells, "seconds": seconds, "memory": memory}
        for in_place in (False, True)[exercise.in_place :]:
            try:
                with Client(f"{self.folder}/{number}.sock") as line:
                    line.send_bytes(json.dumps(asked | {"in_place": in_place}).encode())
                    line.send_bytes(exercise.check.source.encode())
                    verdict = json.loads(line.recv_bytes())
            except (OSError, EOFError):
                return {"verdict": "crashed", "message": "the process that looked after this answer died", "seconds": 0}
            if not (verdict["verdict"] == "passed" and verdict.pop("changed")):
                break
        for name in exercise.names if verdict["verdict"] != "passed" else ():
            if (count := sum(bool(re.search(rf"^(def|class) {name}\b", cell, re.MULTILINE)) for cell in cells)) > 1:
                verdict["message"] += f" ({count} cells define {name}, and the last one counts)"
        return verdict

    def close(self) -> None:
        """End the processes; they leave nothing behind."""
        self.process.communicate()


def orders(notebook) -> list[dict]:
    """Return what the process of a notebook is told: cells above the last exercise, and where to listen for answers.

    Of exercises, solutions and checks it is told nothing.
    """
    told, stubs = [], [exercise.stub.id for exercise in student.exercises(notebook)]
    for number, (cell, _) in enumerate(notebooks.code_cells(notebook), 1):
        tags = set(student.tags(cell))
        if cell.id in stubs:
            told.append({"exercise": stubs.index(cell.id) + 1})
        elif not tags & {"exercise", "solution", "check"} and not notebooks.is_left_out(cell):
            told.append({"cell": number, "source": cell.source, "may_raise": "raises-exception" in tags})
        if stubs[-1] == cell.id:
            break
    return told


_courses: dict[str, Course] = {}
_starting = threading.Lock()


def attempt(source: str, version: str, number: int, cells: list[str], seconds: int, memory: int) -> dict:
    """Check one answer here: on this machine, or on that of a Dask worker. The course is started when first needed."""
    path = notebooks.ROOT / source  # or the source itself, if it is absolute
    with _starting:
        if source not in _courses:
            if course_version(path) != version:
                raise CannotGrade(f"{platform.node()} has another version of the course, or of Python or NumPy")
            if why := sandbox.missing():
                raise CannotGrade(f"{platform.node()} can't shut a submission in: {why}")
            _courses[source] = Course(path)
    return _courses[source].attempt(number, cells, seconds, memory)


def forget_courses() -> None:
    """End the courses that `attempt` has started."""
    with _starting:
        while _courses:
            _courses.popitem()[1].close()


def depends_on(source: Path) -> list[Path]:
    """Return the files that a verdict on an answer to this notebook depends on."""
    root, parts = (
        notebooks.ROOT,
        (sys.modules[__name__], messages, sandbox, seal, student, kernels, notebooks, pairs, pinned),
    )
    files = {
        source,
        root / "constraints.txt",
        *(Path(part.__file__) for part in parts),
        *root.glob("tools/**/__init__.py"),
    }
    return sorted(files | {*root.glob("nnlib/**/*.py"), *root.glob("data/samples/*")})


def course_version(source: Path) -> str:
    """Return a hash of all that a verdict depends on, but for the answer and its limits."""
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in depends_on(source)]
    return key_of(files, platform.python_version(), metadata.version("numpy"), pinned.obstacle())


def key_of(*parts) -> str:
    """Return the key of a verdict: a hash of everything that it depends on."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------ the whole run


def executor(options):
    """Return (what runs tasks, on this machine or on the Dask cluster asked for; what ends the courses there)."""
    if not options.scheduler:
        return ThreadPoolExecutor(options.jobs), forget_courses  # threads that wait for processes
    try:
        from distributed import Client as Cluster
    except ImportError:
        sys.exit("--scheduler needs Dask: make setup-grade (or pip install -e '.[dask]').")
    cluster = Cluster(options.scheduler)
    return cluster.get_executor(pure=False), lambda: cluster.run(forget_courses, on_error="ignore")


class Verdicts:
    """All verdicts so far, on disk as they fall: one JSON object a line, under a key that says what was judged."""

    def __init__(self, path: Path):
        self.path, self.known = path, {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # the line that an interruption cut short
                self.known |= json.loads(line)

    def add(self, key: str, verdict: dict) -> None:
        """Remember a verdict; on disk too, unless another run might find another (time-outs, crashes)."""
        self.known[key] = verdict
        if verdict["verdict"] in KEPT:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps({key: verdict})}")  # the line feed first: the line before may be cut short


def grade(source: Path, submissions: list[Submission], verdicts: Verdicts, options, tasks):
    """Yield ((student, exercise number), verdict) for one notebook, asking only for what is not known yet."""
    exercises = student.exercises(notebooks.read_source(source))
    version, memory, todo = course_version(source), options.memory << 20, {}

    def submit(number, cells, seconds):
        return tasks.submit(
            attempt, str(Path(os.path.relpath(source, notebooks.ROOT))), version, number, cells, seconds, memory
        )

    for one in submissions:
        for number in range(1, len(exercises) + 1):
            key = key_of(version, source.stem, number, one.cells, options.time, memory)
            if one.fault:
                yield (one.student, number), MISSING | {"message": one.fault}
            elif key in verdicts.known:
                yield (one.student, number), verdicts.known[key]
            else:  # two who answer alike are judged once
                todo.setdefault(key, (number, one.cells, []))[2].append(one.student)
    if not todo:
        return
    seconds = rehearse(exercises, options.time, submit)
    running = {submit(number, cells, seconds[number]): key for key, (number, cells, _) in todo.items()}
    try:
        for task in tqdm(as_completed(running), source.stem, len(running), unit="answer"):
            verdicts.add(running[task], result_of(task))
            number, _, students = todo[running[task]]
            yield from (((who, number), verdicts.known[running[task]]) for who in students)
    finally:
        for task in running:
            task.cancel()


def result_of(task) -> dict:
    """Return a task's verdict: "crashed" if the machine that it was given to could not bring it to an end."""
    try:
        return task.result()
    except CannotGrade:
        raise
    except Exception as error:
        return {"verdict": "crashed", "message": f"not brought to an end: {messages.said(error)}", "seconds": 0}


def rehearse(exercises, limit: int | None, submit) -> dict[int, int]:
    """Have the course's own stubs and solutions judged first. Returns number -> seconds that an answer may take."""
    asked = []
    for number, exercise in enumerate(exercises, 1):
        for which, right, cells in (("solution", "passed", exercise.solutions), ("stub", "failed", [exercise.stub])):
            asked.append((exercise, which, right, submit(number, [cell.source for cell in cells], limit or 300)))
    seconds = []
    for exercise, which, right, task in asked:
        if (verdict := result_of(task))["verdict"] != right:
            raise CannotGrade(f"{exercise.heading}: the course's own {which} {in_a_line(verdict)}")
        seconds += [limit or math.ceil(3 + 10 * verdict["seconds"])] * (which == "solution")
    return dict(enumerate(seconds, 1))


# ---------------------------------------------------------------------------------------------------------- the tables


def in_a_line(verdict: dict) -> str:
    """Return a verdict as one line."""
    return ": ".join(filter(None, (verdict["verdict"], " ".join(verdict["message"].split()))))


def write_tables(folder: Path, columns: list[str], rows: dict[str, list[dict]], note: str) -> None:
    """Write grades.csv and grades.html. columns: exercises; rows: student -> a verdict for each column."""
    table = csv.writer(text := io.StringIO())
    table.writerow(["student", "passed", *columns])
    lines = [f"<tr><th>student<th>passed{''.join(f'<th>{html.escape(column)}' for column in columns)}"]
    for who, verdicts in rows.items():
        passed = sum(verdict["verdict"] == "passed" for verdict in verdicts)
        safe = f"'{who}" if who[0] in "=+-@" else who  # a spreadsheet would take it for a formula
        table.writerow([safe, passed, *map(in_a_line, verdicts)])
        lines.append(f"<tr><th>{html.escape(who)}<td>{passed} of {len(columns)}")
        for kind, message in ((verdict["verdict"], html.escape(verdict["message"])) for verdict in verdicts):
            lines[-1] += f'<td class="{kind.replace(" ", "-")}"><b>{kind}</b><br><small>{message}</small>'
    page = f"{STYLE}<h1>Grades</h1><p>{html.escape(note)}</p><table>\n{chr(10).join(lines)}\n</table>\n"
    notebooks.replace(folder / "grades.csv", text.getvalue().encode())
    notebooks.replace(folder / "grades.html", page.encode())


STYLE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Grades</title><style>
body { font: 15px sans-serif; margin: 2em; }
table { border-collapse: collapse; }
th, td { border: 1px solid #bbb; padding: .3em .5em; text-align: left; vertical-align: top; max-width: 22em; }
td { overflow-wrap: anywhere; }
tr:first-child th { position: sticky; top: 0; background: #fff; }
small { white-space: pre-wrap; }
.passed { background: #dff2df; } .failed { background: #fbe3e0; } .missing, .not-graded { background: #eee; }
.timed-out, .crashed { background: #fdeecb; }
</style>
"""


def main() -> int:
    """Grade a folder of submissions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="none: all that anybody handed in")
    parser.add_argument("--notebooks", type=Path, default=notebooks.ROOT / "notebooks", metavar="FOLDER")
    parser.add_argument("--into", type=Path, default=notebooks.ROOT / "grades", metavar="FOLDER", help="grades/")
    parser.add_argument("--jobs", type=int, default=2 * os.cpu_count(), help="answers at once here (2 for each core)")
    parser.add_argument("--time", type=int, help="processor seconds an answer may take (3, and 10 × the solution's)")
    parser.add_argument("--memory", type=int, default=2048, help="MB that an answer may take (2048)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="tcp://HOST:PORT of a Dask scheduler")
    options = parser.parse_args()
    if not options.submissions.is_dir():
        sys.exit(f"There is no folder {options.submissions}.")
    if not options.scheduler and (why := sandbox.missing()):
        sys.exit(f"Nothing was graded. A submission can't be shut in here: {why}.")
    for place in (options.submissions, options.into, options.notebooks, notebooks.ROOT / "tests"):
        if open_to_all := [path for path in sandbox.READABLE if place.resolve().is_relative_to(path)]:
            sys.exit(f"Nothing was graded. Any answer could read {place}: it lies in {open_to_all[0]}.")
    wanted = [source.stem for source in notebooks.select(options.notebooks, options.names)]
    sources = {source.stem: source.resolve() for source in notebooks.select(options.notebooks)}
    courses, headings = {}, {}
    for name, source in sources.items():
        notebook = notebooks.read_source(source)
        cells = [cell for cell, _ in notebooks.code_cells(notebook)]
        courses[name] = {c.source.strip() for c in cells if not {"exercise", "solution"} & set(student.tags(c))}
        headings[name] = [exercise.heading for exercise in student.exercises(notebook)]
    submissions, remarks = find_submissions(options.submissions, courses)
    submissions = [one for one in submissions if one.notebook in wanted]
    print(*remarks, sep="\n", end="\n" * bool(remarks))
    if not submissions:
        sys.exit(f"There is no submission in {options.submissions}.")
    wanted = [name for name in wanted if options.names or any(one.notebook == name for one in submissions)]
    folders = [messages.printable(path.name) for path in options.submissions.iterdir() if path.is_dir()]
    students = {one.student for one in submissions} | {name for name in folders if not name.startswith((".", "__"))}
    handed_in = {(one.student, one.notebook) for one in submissions}
    columns = [(name, number) for name in wanted for number in range(1, len(headings[name]) + 1)]
    rows = {  # every student, every exercise: what is not found out stays as it is here
        who: {place: NOT_GRADED if (who, place[0]) in handed_in else MISSING for place in columns}
        for who in sorted(students, key=lambda who: (who.casefold(), who))
    }
    verdicts, failures = Verdicts(options.into / "verdicts.jsonl"), []
    tasks, forget = executor(options)
    try:
        for name in wanted:
            mine = [one for one in submissions if one.notebook == name]
            try:
                for (who, number), verdict in grade(sources[name], mine, verdicts, options, tasks):
                    rows[who][name, number] = verdict
            except CannotGrade as failure:
                failures.append(f"Nobody was graded in {name}. {failure}")
                for row in rows.values():
                    row |= {
                        place: row[place] | {"message": str(failure)}
                        for place in row
                        if place[0] == name and row[place] is NOT_GRADED
                    }
            forget()
    except KeyboardInterrupt:
        failures.append("Interrupted. The same command goes on from here.")
    finally:
        tasks.shutdown()
        forget()
    table = {who: list(verdicts_of.values()) for who, verdicts_of in rows.items()}
    note = f"{len(table)} students, {len(columns)} exercises. Each answer ran without network, files or processes."
    write_tables(options.into, [f"{name}: {headings[name][number - 1]}" for name, number in columns], table, note)
    counts = Counter(verdict["verdict"] for verdicts_of in table.values() for verdict in verdicts_of)
    print(*failures, note, ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())), sep="\n")
    print(
        f"The table has every student ({len(table)}) and every exercise ({len(columns)}): "
        f"{notebooks.short_path(options.into.resolve())}/grades.html and grades.csv."
    )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
