"""Several notebooks at a time, each in a process of its own; what they report arrives here, one event after the other.

The one idea: a notebook computes with one BLAS thread (see tools/pinned.py), so that two cores carry two notebooks, and
no digit notices. Only clocks do: what a notebook measures then is measured beside a neighbour. NNLIB_JOBS=1 avoids it.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


def jobs() -> int:
    """Return how many notebooks run at a time: NNLIB_JOBS (make JOBS=4), or else the cores, at most two.

    Two and not more, unless asked for: each may need a gigabyte or two of memory.
    """
    asked = os.environ.get("NNLIB_JOBS", "")
    if asked and (not asked.isdecimal() or asked == "0"):
        sys.exit(f"NNLIB_JOBS (make JOBS=...) is how many notebooks run at a time, 1 or more, and not {asked!r}.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked else min(2, cores)


def each(function: Callable, tasks: dict[str, tuple], at_a_time: int) -> Iterator[tuple[str, str, object]]:
    """Call function(*arguments, tell) for each name: arguments in `tasks`, in their order, `at_a_time` at once.

    Yields (name, "began", None), then (name, "at", arguments) for each tell(*arguments), then (name, "ended", what the
    function returned), or (name, "died", its last words) if there is no such thing. When this is closed or interrupted,
    all that still runs is killed.
    """
    method = "forkserver" if sys.platform == "linux" else "spawn"  # both are clean; the first imports only once
    context, waiting, running = multiprocessing.get_context(method), list(tasks), {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    name = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    log = Path(folder) / f"{name}.log"
                    process = context.Process(target=_work, args=(function, tasks[name], theirs, log), name=name)
                    running[ours] = process, log
                    with _ctrl_c_ignored():  # Ctrl-C reaches every process of a terminal; only this one acts on it
                        process.start()
                    theirs.close()
                    yield name, "began", None
                for pipe in multiprocessing.connection.wait(list(running)):
                    process, log = running[pipe]
                    try:
                        kind, what = pipe.recv()
                    except (EOFError, OSError):
                        process.join()
                        kind, what = "died", f"{_read(log)}\n(it ended with exit code {process.exitcode})".lstrip()
                    if kind != "at":
                        process.join()
                        del running[pipe]
                    yield process.name, kind, what
        finally:
            for process, _ in running.values():
                kill(process.pid)
                process.join()


def kill(pid: int) -> None:
    """Kill a process and all that it started (a kernel is its child), the parent first, so that it starts no more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family[1:], timeout=5)


def _work(function, arguments, pipe, log):
    """Do one task in its own process, all that is printed there kept in `log`."""
    with open(log, "w", encoding="utf-8", errors="replace") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        pipe.send(("ended", function(*arguments, lambda *place: pipe.send(("at", place)))))
    except Exception:
        sys.stdout.flush()
        pipe.send(("died", f"{_read(log)}\n{traceback.format_exc()}".lstrip()))


@contextlib.contextmanager
def _ctrl_c_ignored():
    """Ignore Ctrl-C in a process started meanwhile, and in this one for these milliseconds."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read(log):
    return log.read_text("utf-8", errors="replace").strip() if log.exists() else ""
