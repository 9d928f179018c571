"""Check every exercise of every submitted notebook with the course's checks; write one table, students × exercises.

    python -m tools.instructor.grade FOLDER [01_mlp ...] [--scheduler tcp://HOST:8786]     make grade SUBMISSIONS=FOLDER

FOLDER holds a folder for each student, with their notebooks somewhere in it, or files like jane_01_mlp.ipynb.

The one idea: what is graded is the answer, in the course's own notebook. The course's cells are executed once, on the
committed sample of the data; each answer then meets them in processes of its own (seal.py, and docs/grading.md).
"""

import contextlib
import csv
import functools
import hashlib
import html
import io
import json
import math
import os
import platform
import re
import stat
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from multiprocessing import Pipe
from multiprocessing.connection import Client
from pathlib import Path

from tqdm import tqdm

from tools.instructor import messages, sandbox, student
from tools.shared import kernels, notebooks, pinned

LARGEST = 100 << 20  # bytes of a submitted notebook: its outputs may be large
MOST_CODE = 1 << 20  # characters of its cells
NO_FILE = {"l": "it is a link, and links are not followed", "d": "it is a folder", "p": "it is a pipe"}
KEPT = ("passed", "failed", "missing")  # verdicts that another run would not change
# What the processes of a course find in their environment: no tokens, no folder of data.
ENVIRONMENT = re.compile(
    "PATH|TMPDIR|LD_LIBRARY_PATH|LANG|LC_.*|NNLIB_DATA|NNLIB_OFFLINE|NPY_.*|OPENBLAS_.*|OMP_.*|MPL.*|TQDM_.*"
)


def read_submission(path: Path) -> list[tuple[str, set]]:
    """Return (source, tags) of each code cell of a file that anybody may have written. Runs nothing, follows no link.

    Raises ValueError, OSError or RecursionError where that is no notebook with code in it.
    """
    if (kind := stat.filemode(path.lstat().st_mode)[0]) != "-":
        raise ValueError(NO_FILE.get(kind, "it is no file"))
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MB")
    if not (content := path.read_bytes().decode("utf-8-sig").strip()):
        raise ValueError("it is empty")
    notebook, found = json.loads(content), []
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError("it has no list of cells")
    for cell in notebook["cells"]:
        with contextlib.suppress(TypeError, AttributeError):  # no cell, whatever it is
            source = "".join(cell.get("source", "")).replace("\r\n", "\n").strip()
            if cell.get("cell_type") == "code" and source:
                found.append((source, set(cell.get("metadata", {}).get("tags") or ())))
    if not found:
        raise ValueError("it has no cell with code in it")
    if sum(len(source) for source, _ in found) > MOST_CODE:
        raise ValueError(f"its cells hold more than {MOST_CODE >> 20} MB of code")
    return found


def find_submissions(folder: Path, courses: dict[str, set[str]]) -> dict[tuple[str, str], tuple[list[str], str]]:
    """Return (student, notebook) -> (code cells of their own, what is wrong with the file). Prints what is not taken.

    courses: name of each notebook -> the sources of its cells without the exercises.
    """
    found = {}
    places = [path.relative_to(folder) for path in folder.rglob("*.ipynb")]
    places.sort(key=lambda place: (place.parent, place.stem not in courses, place))  # the very name comes first
    for place in places:
        if any(part.startswith((".", "__")) for part in place.parts):
            continue
        notebook = next((course for course in courses if course in place.stem), None)
        who = place.parts[0] if len(place.parts) > 1 else re.sub(rf"[_\W]*{notebook}[_\W]*", "", place.stem) or "?"
        key = messages.printable(who), notebook
        if notebook is None or key in found:
            why = f"there is another {notebook} already" if notebook else "its name is that of no notebook"
            print(messages.printable(f"{place}: not taken, {why}"))
            continue
        try:
            cells = read_submission(folder / place)
        except (ValueError, OSError, RecursionError) as error:
            found[key] = [], f"no readable notebook: {getattr(error, 'strerror', None) or messages.said(error)}"
            continue
        common = Counter({course: sum(source in known for source, _ in cells) for course, known in courses.items()})
        (other, most), own = common.most_common(1)[0], courses[notebook]
        fault = f"{place.name} holds another notebook, {other}" if most > common[notebook] else ""
        found[key] = [cell for cell, tags in cells if not tags & {"solution", "check"} and cell not in own], fault
    return found


class Course:
    """One notebook of the course, executed, in processes that wait for answers (seal.py). RuntimeError if it fails."""

    def __init__(self, source: Path):
        notebook = notebooks.read_source(source)
        self.exercises = student.exercises(notebook)
        self.line, theirs = Pipe()
        command = [sys.executable, "-W", "ignore", "-m", "tools.instructor.seal", str(theirs.fileno())]
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        arithmetic = {"OPENBLAS_NUM_THREADS": "1"} if pinned.obstacle() else pinned.PINNED
        with kernels.clean_room(arithmetic, NNLIB_DATA="sample", MPLBACKEND="agg", OMP_NUM_THREADS="1") as env:
            env = {name: value for name, value in env.items() if ENVIRONMENT.fullmatch(name)}
            self.process = subprocess.Popen(  # in a session without a terminal: Ctrl-C is for the grader alone
                command, cwd=notebooks.ROOT, env=env, pass_fds=[theirs.fileno()], start_new_session=True, **silent
            )
            theirs.close()
            try:
                for order in [*orders(notebook), {}]:
                    self.line.send_bytes(json.dumps(order).encode())
                number, said = json.loads(self.line.recv_bytes())
            except (OSError, EOFError):
                number, said = 1, "the process that executes it has died"
        self.folder = said
        if number:
            self.close()
            raise RuntimeError(f"Its cell [{number}] raised an error: {said}")

    def attempt(self, number: int, cells: list[str], seconds: int, memory: int) -> dict:
        """Return the verdict on `cells` as an answer to exercise `number`.

        The check does not see what an answer changes in its arguments, unless the exercise asks for changes in place.
        Who passes so, and has changed something, must pass once more with changes seen, as in the notebook.
        """
        exercise = self.exercises[number - 1]
        for in_place in [True] if exercise.in_place else [False, True]:
            try:
                with Client(f"{self.folder}/{number}.sock") as line:
                    line.send_bytes(json.dumps([exercise.names, cells, in_place, seconds, memory]).encode())
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
        self.line.close()
        self.process.wait()


def orders(notebook) -> list[dict]:
    """Return what the process of a notebook is told: cells above the last exercise, and where to listen for answers.

    Of exercises, solutions and checks it is told nothing.
    """
    told, stubs = [], [exercise.stub.id for exercise in student.exercises(notebook)]
    for number, (cell, _) in enumerate(notebooks.code_cells(notebook), 1):
        tags = set(notebooks.tags(cell))
        if cell.id in stubs:
            told.append({"exercise": stubs.index(cell.id) + 1})
        elif not tags & {"exercise", "solution", "check"}:
            told.append({"cell": number, "source": cell.source, "may_raise": "raises-exception" in tags})
        if stubs[-1] == cell.id:
            break
    return told


_courses: dict[str, Course] = {}
_starting = threading.Lock()


def attempt(source: str, version: str, memory: int, number: int, cells: list[str], seconds: int) -> dict:
    """Check one answer here: on this machine, or on that of a Dask worker. The course is started when first needed."""
    path = notebooks.ROOT / source
    with _starting:
        if source not in _courses:
            if course_version(path) != version:
                raise RuntimeError(f"{platform.node()} has another version of the course, or of Python or NumPy")
            if why := sandbox.missing():
                raise RuntimeError(f"{platform.node()} can't shut a submission in: {why}")
            _courses[source] = Course(path)
    return _courses[source].attempt(number, cells, seconds, memory)


def forget_courses() -> None:
    """End the courses that `attempt` has started."""
    with _starting:
        while _courses:
            _courses.popitem()[1].close()


def executor(options):
    """Return (what runs tasks, on this machine or on the Dask cluster asked for; what ends the courses there)."""
    if not options.scheduler:
        return ThreadPoolExecutor(2 * os.cpu_count()), forget_courses  # threads that wait for processes
    try:
        from distributed import Client as Cluster
    except ImportError:
        sys.exit("--scheduler needs Dask: make setup-grade (or pip install -e '.[dask]').")
    cluster = Cluster(options.scheduler)
    return cluster.get_executor(pure=False), lambda: cluster.run(forget_courses, on_error="ignore")


def depends_on(source: Path) -> list[Path]:
    """Return the files that a verdict on an answer to this notebook depends on."""
    patterns = ("constraints.txt", "nnlib/**/*.py", "tools/**/*.py", "data/samples/*")
    return [source, *sorted(path for pattern in patterns for path in notebooks.ROOT.glob(pattern))]


def course_version(source: Path) -> str:
    """Return a hash of all that a verdict depends on, but for the answer and its limits."""
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in depends_on(source)]
    return key_of(files, platform.python_version(), metadata.version("numpy"), pinned.obstacle())


def key_of(*parts) -> str:
    """Return the key of a verdict: a hash of everything that it depends on."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def kept_verdicts(journal: Path) -> dict[str, dict]:
    """Return key -> verdict from earlier runs: one JSON object a line."""
    known = {}
    for line in journal.read_text("utf-8", errors="replace").splitlines() if journal.exists() else ():
        with contextlib.suppress(ValueError):  # the line that an interruption cut short
            known |= json.loads(line)
    return known


def keep(journal: Path, key: str, verdict: dict) -> None:
    """Write a verdict down, unless another run might find another (time-outs, crashes)."""
    if verdict["verdict"] in KEPT:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({key: verdict})}")  # the line feed first: the line before may be cut short


def grade(source: Path, submissions: dict[str, tuple[list[str], str]], journal: Path, options, tasks):
    """Yield (student, exercise number, verdict in a line) for one notebook, asking only for what is not known yet."""
    exercises = student.exercises(notebooks.read_source(source))
    version, memory = course_version(source), options.memory << 20
    submit = functools.partial(tasks.submit, attempt, os.path.relpath(source, notebooks.ROOT), version, memory)
    known, todo = kept_verdicts(journal), {}
    for who, (cells, fault) in submissions.items():
        for number in range(1, len(exercises) + 1):
            key = key_of(version, source.stem, number, cells, options.time, memory)
            if fault:
                yield who, number, f"missing: {fault}"
            elif key in known:
                yield who, number, in_a_line(known[key])
            else:  # two who answer alike are judged once
                todo.setdefault(key, (number, cells, []))[2].append(who)
    limits, obstacle = rehearse(exercises, options.time, submit) if todo else ([], "")
    if obstacle:
        print(f"Nobody was graded in {source.stem}. {obstacle}")
        for number, _, students in todo.values():
            yield from ((who, number, f"not graded: {obstacle}") for who in students)
        return
    running = {submit(number, cells, limits[number - 1]): key for key, (number, cells, _) in todo.items()}
    try:
        for task in tqdm(as_completed(running), source.stem, len(running), unit="answer"):
            verdict, (number, _, students) = result_of(task), todo[running[task]]
            keep(journal, running[task], verdict)
            yield from ((who, number, in_a_line(verdict)) for who in students)
    finally:
        for task in running:
            task.cancel()


def rehearse(exercises, limit: int | None, submit) -> tuple[list[int], str]:
    """Have the course's own solutions judged. Returns the seconds that an answer to each may take, or what is wrong."""
    answers = [[cell.source for cell in exercise.solutions] for exercise in exercises]
    tasks = [submit(number, cells, limit or 300) for number, cells in enumerate(answers, 1)]
    verdicts = [result_of(task) for task in tasks]
    for exercise, verdict in zip(exercises, verdicts, strict=True):
        if verdict["verdict"] != "passed":
            return [], f"{exercise.heading}: the course's own solution {in_a_line(verdict)}"
    return [limit or math.ceil(3 + 10 * verdict["seconds"]) for verdict in verdicts], ""


def result_of(task) -> dict:
    """Return a task's verdict: "not graded" if the machine that it was given to could not bring it to an end."""
    try:
        return task.result()
    except Exception as error:
        return {"verdict": "not graded", "message": messages.said(error), "seconds": 0}


def in_a_line(verdict: dict) -> str:
    """Return a verdict as one line."""
    return ": ".join(filter(None, (verdict["verdict"], " ".join(verdict["message"].split()))))


STYLE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Grades</title><style>
table { border-collapse: collapse; }
td { border: 1px solid #bbb; padding: .3em; vertical-align: top; max-width: 22em; overflow-wrap: anywhere; }
.passed { background: #dff2df; } .failed { background: #fbe3e0; } .timed, .crashed { background: #fdeecb; }
</style><h1>Grades</h1>
"""


def write_tables(folder: Path, rows: list[list[str]]) -> None:
    """Write rows of texts, the headings first, as grades.csv and grades.html."""
    table = csv.writer(text := io.StringIO())
    for row in rows:  # a spreadsheet would take a name like =SUM(A1) for a formula
        table.writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in row])
    page = f"{STYLE}<table>\n"
    for row in rows:
        cells = [f'<td class="{cell.partition(":")[0]}">{cell}' for cell in map(html.escape, row)]
        page += f"<tr>{''.join(cells)}\n"
    notebooks.replace(folder / "grades.csv", text.getvalue().encode())
    notebooks.replace(folder / "grades.html", page.encode())


def main() -> int:
    """Grade a folder of submissions."""
    options = notebooks.arguments(
        __doc__,
        "submissions",
        into={"type": Path, "default": notebooks.ROOT / "grades", "metavar": "FOLDER", "help": "grades/"},
        time={"type": int, "help": "processor seconds an answer may take (3, and 10 × the solution's)"},
        memory={"type": int, "default": 2048, "help": "MB that an answer may take (2048)"},
        scheduler={"metavar": "ADDRESS", "help": "tcp://HOST:PORT of a Dask scheduler"},
    )
    if not options.scheduler and (why := sandbox.missing()):
        sys.exit(f"Nothing was graded. A submission can't be shut in here: {why}.")
    for place in (options.submissions, options.into, options.notebooks, notebooks.ROOT / "tests"):
        if open_to_all := [path for path in sandbox.READABLE if place.resolve().is_relative_to(path)]:
            sys.exit(f"Nothing was graded. Any answer could read {place}: it lies in {open_to_all[0]}.")
    courses = {}
    for source in notebooks.select(options.notebooks):
        cells = [cell for cell, _ in notebooks.code_cells(notebooks.read_source(source))]
        cells = [cell for cell in cells if not {"exercise", "solution"} & set(notebooks.tags(cell))]
        courses[source.stem] = {cell.source.strip() for cell in cells}
    submissions = find_submissions(options.submissions, courses)
    handed_in = {notebook for _, notebook in submissions}
    wanted = [source.resolve() for source in notebooks.select(options.notebooks, options.names or handed_in)]
    if not handed_in & {source.stem for source in wanted}:
        sys.exit(f"There is no submission in {options.submissions}.")
    folders = [messages.printable(path.name) for path in options.submissions.iterdir() if path.is_dir()]
    students = {who for who, _ in submissions} | {name for name in folders if not name.startswith((".", "__"))}
    columns = {
        (source.stem, number): f"{source.stem}: {exercise.heading}"
        for source in wanted
        for number, exercise in enumerate(student.exercises(notebooks.read_source(source)), 1)
    }
    verdicts = {}
    tasks, forget = executor(options)
    try:
        for source in wanted:
            mine = {who: submission for (who, name), submission in submissions.items() if name == source.stem}
            for who, number, verdict in grade(source, mine, options.into / "verdicts.jsonl", options, tasks):
                verdicts[who, source.stem, number] = verdict
            forget()
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here.")
    finally:
        tasks.shutdown()
        forget()
    rows = [["student", "passed", *columns.values()]]
    for who in sorted(students, key=lambda who: (who.casefold(), who)):
        row = []  # every student, every exercise
        for name, number in columns:
            absent = "not graded: interrupted" if (who, name) in submissions else "missing: no notebook was handed in"
            row.append(verdicts.get((who, name, number), absent))
        rows.append([who, str(row.count("passed")), *row])
    write_tables(options.into, rows)
    counts = Counter(verdict.partition(":")[0] for row in rows[1:] for verdict in row[2:])
    print(", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())))
    size, into = f"every student ({len(students)}) and every exercise ({len(columns)})", options.into.resolve()
    print(f"The table has {size}: {notebooks.short_path(into)}/grades.html and grades.csv.")
    return int("not graded" in counts)


if __name__ == "__main__":
    sys.exit(main())
