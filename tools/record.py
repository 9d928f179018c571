"""What a run leaves behind: one Record a notebook, gathered from all of them, and reports/run.html made of it.

The one idea: the page tells what the machine found, not what it was hoped to find. It is written when the run failed
or was interrupted too, and it shows every line that is not the stored one, whether or not that counts as a failure.
"""

import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import jinja2
import nbformat
import psutil

from tools import parallel
from tools.shared import notebooks, pinned

LINES = 10  # of a cell that differs, so many are shown


@dataclasses.dataclass
class Record:
    """All that is told about one notebook."""

    notebook: str
    result: str = "passed"  # or FAILED, interrupted, not begun
    seconds: float = 0.0
    processor: float = 0.0  # of them, the processor's: less, where it had to wait for others
    tier: str = ""  # compared or claims; nothing after `make run`, where each cell is only executed
    counts: Counter = dataclasses.field(default_factory=Counter)  # cells: run, compared, executed only, failed, ...
    claims: list[str] = dataclasses.field(default_factory=list)  # those that held
    failures: list[dict] = dataclasses.field(default_factory=list)  # what notebooks.describe is told
    drift: list[dict] = dataclasses.field(default_factory=list)  # see drift_of; one for each cell that differs
    remark: str = ""  # instead of the drift: why there is none to tell
    data: list[str] = dataclasses.field(default_factory=list)  # the names of the data sets it used

    def fail(self, **failure) -> None:
        """Add a failure (see notebooks.describe)."""
        self.result = "FAILED"
        self.failures.append({"name": self.notebook, "detail": "", "todo": ""} | failure)


# ---------------------------------------------------------------------------------------------------------------- drift


def differing_lines(stored: list, fresh: list) -> Iterator[tuple[str, str, str]]:
    """Yield (where, stored line, line now) for each line in which a cell's fresh outputs leave the stored ones."""
    before, now = _texts(stored), _texts(fresh)
    for kind in [*before, *(kind for kind in now if kind not in before)]:
        old, new = before.get(kind, []), now.get(kind, [])
        for place in range(max(len(old), len(new))):
            old_lines, new_lines = (text[place].split("\n") if place < len(text) else [] for text in (old, new))
            for line in range(max(len(old_lines), len(new_lines))):
                pair = [lines[line] if line < len(lines) else None for lines in (old_lines, new_lines)]
                if pair[0] != pair[1]:
                    was, is_now = ("nothing" if text is None else text or "an empty line" for text in pair)
                    yield f"{kind}, line {line + 1}", was, is_now


def difference(stored: list, fresh: list) -> str | None:
    """Say in words where a cell's fresh outputs first leave the stored ones, or return None."""
    for where, was, is_now in differing_lines(stored, fresh):
        return f"{where}\n  stored: {was}\n  now:    {is_now}"
    return None


def drift_of(number: int, heading: str, cell: nbformat.NotebookNode, fresh: list) -> dict | None:
    """Return what differs in a cell that is meant to repeat itself, for the page, or None."""
    if "nbval-ignore-output" in notebooks.tags(cell) or notebooks.is_left_out(cell):
        return None
    lines = list(differing_lines(cell.outputs, fresh))
    shown = {"number": number, "heading": heading, "lines": lines[:LINES], "more": len(lines[LINES:])}
    return shown if lines else None


def same_data(stored: nbformat.NotebookNode, data: dict) -> bool:
    """Say whether the data sets that the stored outputs were computed from are the ones that are here."""
    built_from = stored.metadata.get("nnlib", {}).get("datasets", {})
    here = {name: data[name]["fingerprint"] for name in notebooks.datasets_used(stored)}
    return here == {name: dataset["fingerprint"] for name, dataset in built_from.items()}


def other_data(stored: nbformat.NotebookNode, data: dict) -> str:
    """Say in words that the data here is not that of the stored outputs."""
    here = "; ".join(f"{data[name]['title']}, {data[name]['source']}" for name in notebooks.datasets_used(stored))
    return f"the data here is not that of the stored outputs (here: {here or 'none'})"


def _texts(outputs):
    """Collect what nbval compares: kind -> list of texts (pictures are looked at, not compared)."""
    texts = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream":
            texts[f"printed text ({output.name})"].append(output.text)
        elif output.output_type == "error":
            texts["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for kind, text in output.data.items():
                if kind not in ("image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"):
                    texts[f"result ({kind})"].append(text if isinstance(text, str) else repr(text))
    return texts


# ------------------------------------------------------------------------------------------------------------ gathering


class Run:
    """One run of several notebooks: its records in the order of their names, and what is true of all of them."""

    def __init__(self, title: str, folder: Path, env: dict[str, str], data: dict[str, dict]):
        self.title, self.env, self.data = title, env, data
        self.page = folder.resolve().parent / "reports" / "run.html"
        self.clock = self.page.with_name("seconds.json")  # of each notebook's last run: the longest begins first
        self.jobs, self.begun, self.elapsed = parallel.jobs(), time.time(), 0.0
        self.records: list[Record] = []
        self.notes: list[str] = []
        self.interrupted = False

    def note(self, text: str) -> None:
        """Print a line that belongs on the page too."""
        print(text, flush=True)
        self.notes.append(text)

    def gather(self, function: Callable[..., Record], tasks: dict[str, tuple]) -> None:
        """Call function(*arguments, env, tell) -> Record for each notebook, several at a time, the longest first.

        An interruption (Ctrl-C, SIGTERM) ends all of them, and is kept in `interrupted`.
        """
        last = json.loads(self.clock.read_text()) if self.clock.exists() else {}
        order = sorted(tasks, key=lambda name: -last.get(name, float("inf")))
        profile = Path(self.env["IPYTHONDIR"])  # one for each kernel: they keep a data base there
        ready = {name: (*tasks[name], self.env | {"IPYTHONDIR": str(profile / name)}) for name in order}
        records = {name: Record(name, "not begun") for name in tasks}
        status, starts, start = Status(), {}, time.monotonic()
        on_term = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for name, kind, what in parallel.each(function, ready, self.jobs):
                if kind == "began":
                    starts[name] = time.monotonic()
                    records[name] = Record(name, "interrupted")  # unless a better one comes
                elif kind == "at":
                    status.show(name, *what)
                    records[name].seconds = time.monotonic() - starts[name]
                    records[name].remark = "it was in cell {} of {}, under “{}”".format(*what)
                else:
                    records[name] = what if kind == "ended" else _died(name, what, time.monotonic() - starts[name])
                    status.close(name)
                    print(f"{name} {records[name].result} after {records[name].seconds:.1f} s", flush=True)
        except KeyboardInterrupt:
            self.interrupted = True
            status.close()
            print("Interrupted: what was still running has been ended.", flush=True)
        finally:
            signal.signal(signal.SIGTERM, on_term)
        self.records, self.elapsed = list(records.values()), time.monotonic() - start
        known = last | {record.notebook: record.seconds for record in self.records if record.result == "passed"}
        notebooks.replace(self.clock, json.dumps(known).encode())

    def tell(self, columns: Callable[[Record], dict]) -> None:
        """Print every notebook's first failure and the run table, and write the page."""
        for record in self.records:
            if record.failures:
                print(f"\n{notebooks.describe(**record.failures[0])}")
            if others := [f"[{failure['number']}]" for failure in record.failures[1:]]:
                print(f"    Later cells that failed too: {', '.join(others)}")
        print(f"\n{notebooks.table([columns(record) for record in self.records])}\n")
        if self.jobs > 1 and len(self.records) > 1:
            print(f"In {self.elapsed:.0f} s, {self.jobs} notebooks at a time: {BESIDE}")
        write_page(self)
        if drifted := [record.notebook for record in self.records if record.drift and record.result == "passed"]:
            print(f"Not all outputs are the stored ones, in {', '.join(drifted)}; the report shows where.")
        print(f"The report of this run is {notebooks.shown(self.page)}.")

    @property
    def exit_code(self) -> int:
        """0, 1 if a notebook failed, 130 after an interruption (as shells have it)."""
        return 130 if self.interrupted else int(self.failed)

    @property
    def failed(self) -> bool:
        """Say whether any notebook failed."""
        return any(record.result == "FAILED" for record in self.records)


BESIDE = "clocks inside a notebook were read beside a neighbour (JOBS=1: alone)."


def _died(name, last_words, seconds):
    """Make the record of a notebook whose process ended without one."""
    record = Record(name, seconds=seconds)
    detail = notebooks.last_lines(last_words)
    record.fail(
        number=0, heading="the top", what="could not be run", source="(no cell: the tool failed)", detail=detail
    )
    return record


class Status:
    """Where the running notebooks are: one line on a terminal, rewritten; elsewhere a line for each heading."""

    def __init__(self):
        self.places, self.headings = {}, {}

    def show(self, name: str, number: int, total: int, heading: str) -> None:
        """Show the cell that a notebook begins now."""
        self.places[name] = f"{name}  cell {number}/{total}"
        if sys.stdout.isatty():
            line = f"{'   '.join(self.places.values())}  {heading}"
            print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif heading != self.headings.get(name):
            print(f"{self.places[name]}  {heading}", flush=True)
        self.headings[name] = heading

    def close(self, name: str | None = None) -> None:
        """Clear the line, and forget a notebook that has ended."""
        self.places.pop(name, None)
        if sys.stdout.isatty():
            print("\r\x1b[K", end="")


# ------------------------------------------------------------------------------------------------------------- the page


def write_page(run: Run) -> None:
    """Write reports/run.html: one file that needs no other. Everything in it is escaped by the template's engine."""
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("run_page.html")
    verdict = "interrupted" if run.interrupted else "FAILED" if run.failed else "passed"
    page = template.render(
        run=run,
        verdict=verdict,
        begun=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.begun)),
        longest=max([record.seconds for record in run.records], default=0) or 1,
        compared=any(record.tier for record in run.records),
        beside=BESIDE,
        machine=machine(run.env),
    )
    notebooks.replace(run.page, re.sub(r"[^\t\n\x20-\ud7ff\ue000-\U0010ffff]", "\ufffd", page).encode())


def machine(env: dict[str, str]) -> dict[str, str]:
    """Return what there is to know about where a run took place, as rows of a table."""
    arithmetic = {name: env[name] for name in (*pinned.PINNED, "NPY_ENABLE_CPU_FEATURES") if name in env}
    found = pinned.probe(arithmetic) or {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": f"{processor()}, {cores} cores; {psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        "system": f"{platform.platform()}; Python {platform.python_version()}",
        "BLAS": f"OpenBLAS, {found['core']} kernels, {found['threads']} thread" + "s" * (found["threads"] != 1)
        if "core" in found
        else "not the OpenBLAS of NumPy's wheels",
        "arithmetic": ", ".join(f"{name}={value}" for name, value in arithmetic.items()) or "as NumPy finds it",
        "settings": ", ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name[:6] == "NNLIB_")
        or "none",
        "the course": revision(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def processor_seconds() -> float:
    """Return what the kernels of this process have used of the processor, once they have ended (0 on Windows)."""
    return os.times().children_user + os.times().children_system


def processor() -> str:
    """Return the processor's name, as well as this system tells it."""
    if Path("/proc/cpuinfo").exists():
        if name := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return name.group(1)
    return platform.processor() or platform.machine()


def revision() -> str:
    """Return the commit of this checkout, and whether anything in it has been changed since."""
    git = ["git", "-C", str(notebooks.ROOT)]
    try:
        commit = subprocess.run([*git, "log", "-1", "--format=%h, %cs"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    files = len(changed.stdout.splitlines())
    return f"commit {commit.stdout.strip()}" + (f", and {files} changed or new files" if files else "")


def versions() -> dict[str, str]:
    """Return name -> version of every package that pyproject.toml names and that is installed."""
    project = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    installed = {}
    for name in sorted({re.match(r"[\w.-]+", line).group() for line in lines}):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
