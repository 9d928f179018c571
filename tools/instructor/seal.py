"""Check one answer with the course's own check, where the student's code finds, reaches and misleads nobody.

    python -m tools.instructor.seal

executes the cells that come in on stdin, and where it is told to, leaves a copy of itself behind (fork), which listens
in a temporary folder, 1.sock, 2.sock ... So an answer finds all that stands above its exercise, trained and ready.

The one idea: whoever runs an answer comes from a line of processes that were never told more than the student was: here
come neither solutions nor checks, and no cell from below the exercise. Each answer runs in a process of its own; only
when that is on its way does the one who looks after it read the check, and starts a second process for it. The two
talk in messages, see messages.py, and both are shut in, see sandbox.py.
"""

import ast
import contextlib
import gc
import json
import os
import re
import select
import signal
import socket
import symtable
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tools.instructor import sandbox
from tools.instructor.messages import Gone, Peer, said

MOST_THREADS = 32
PATIENCE = 10  # an answer may take so many times its limit of processor time by the clock: machines are busy


# ----------------------------------------------------------------------------------------------- the student's process


def names_of(cell: str) -> tuple[set[str], set[str]]:
    """Return (the names that a cell binds, the names it uses) at its top level, as far as they can be told."""
    try:
        tables = [symtable.symtable(cell, "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {a or b for a, b in re.findall(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", cell, re.MULTILINE)}, set()
    symbols = tables[0].get_symbols()
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    used = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    while tables:
        for table in tables.pop().get_children():
            tables.append(table)
            used |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return bound, used


def select_cells(cells: list[str], names: list[str]) -> list[str]:
    """Return those cells that an answer consists of: they bind `names`, or something that such a cell uses."""
    bound, used = zip(*map(names_of, cells), strict=True) if cells else ((), ())
    chosen, wanted = set(), set(names)
    while more := {index for index, here in enumerate(bound) if wanted & here} - chosen:
        chosen |= more
        wanted |= {name for index in more for name in used[index]}
    return [cells[index] for index in sorted(chosen)]


def without_magics(cell: str) -> str:
    """Return a cell's Python: lines for IPython (%timeit, !ls) become `pass`."""
    try:
        ast.parse(cell)
        return cell
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.sub(r"^(\s*)[%!].*$", r"\1pass", cell, flags=re.MULTILINE)


def define(namespace: dict, names: list[str], cells: list[str]) -> dict:
    """Run the cells of an answer; return {name: what it is now}, or {} if no cell defines any of `names`."""
    for name in names:
        namespace.pop(name, None)  # the course may have had something of that name
    chosen = select_cells([without_magics(cell) for cell in cells], names)
    for cell in chosen:
        exec(compile(cell, "your cell", "exec"), namespace)
    if absent := [name for name in names if chosen and name not in namespace]:
        raise NameError(f"your notebook does not define {absent[0]}")
    return {name: namespace[name] for name in names if chosen}


# ------------------------------------------------------------------------------------------------- the check's process


def judge(peer: Peer, namespace: dict, names: list[str], check: str) -> tuple[str, str]:
    """Run the check on the student's functions. Returns (verdict, message)."""
    try:
        if not (answered := peer.call(0, (), {})):
            return "missing", f"no cell defines {' or '.join(names)}"
        namespace.update((name, answered[name]) for name in names)
        exec(compile(check, "the check", "exec"), namespace)
    except Gone:
        return "crashed", "the answer ended Python itself"
    except NotImplementedError as error:
        return "failed", said(error) or "not written yet"
    except AssertionError as error:
        advice = getattr(sys.modules.get("nnlib.checks"), "SEE", "") or "\0"  # for whom has the arrays before them
        return "failed", said(error).replace(advice, "").strip() or "the check's assertion does not hold"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {said(error)}"
    return "passed", ""


# ------------------------------------------------------------------------------------------------------ one answer


def attempt(connection: Connection, namespace: dict) -> dict:
    """Take an answer, then the check that it is for; run both, each in a new process. Returns what came of it.

    Returns {"verdict", "message", "seconds" (of processor time), "changed" (see messages.Peer)}.
    """
    request = json.loads(connection.recv_bytes())
    names, seconds, limits = request["names"], request["seconds"], (request["memory"], request["seconds"])
    in_place = request["in_place"]
    theirs, ours = socket.socketpair()
    reader, writer = os.pipe()

    def answer():
        functions = [lambda: define(namespace, names, request["cells"])]
        peer = Peer(Connection(theirs.fileno()), functions, in_place)
        while True:
            peer.answer(*peer.receive()[1:])

    def check():
        peer = Peer(Connection(ours.fileno()), (), in_place)
        verdict = judge(peer, namespace, names, source)
        os.write(writer, json.dumps([*verdict, peer.changed]).encode())

    processes = [fork(answer, *limits, [theirs.fileno()])]
    source = connection.recv_bytes().decode()  # nobody who runs an answer comes from here on
    processes.append(fork(check, *limits, [ours.fileno(), writer]))
    for end in (theirs, ours):
        end.close()
    os.close(writer)
    stopped, ended, used = watch(processes, reader, seconds), [], 0.0
    told = b"" if stopped else os.read(reader, 1 << 16)
    for process in processes:
        os.kill(process, signal.SIGKILL)
        _, status, usage = os.wait4(process, 0)
        ended.append(os.WTERMSIG(status))
        used = max(used, usage.ru_utime + usage.ru_stime)
    verdict, message, changed = json.loads(told) if told else ("crashed", "the check did not come to an end", False)
    if stopped:
        verdict, message = stopped
    elif verdict != "passed" and (used > seconds - 0.1 or signal.SIGXCPU in ended):
        verdict, message = "timed out", f"not done after {seconds} seconds"
    elif verdict == "crashed" and ended[0] not in (0, signal.SIGKILL):
        message = f"the answer ended Python itself ({signal.Signals(ended[0]).name})"
    return {"verdict": verdict, "message": message, "seconds": round(used, 3), "changed": changed}


def fork(work, memory: int, seconds: int, keep: list[int]) -> int:
    """Do `work` in a new process that is shut in, and return its number."""
    if process := os.fork():
        return process
    with contextlib.suppress(BaseException):
        sandbox.confine(memory, seconds, keep)
        work()
    os._exit(0)


def watch(processes: list[int], reader: int, seconds: int) -> tuple[str, str] | None:
    """Wait until there is something to read. Returns why the processes must be stopped before, as a verdict, or None.

    Who sleeps uses no processor time: `seconds` of it are enough. Who waits for a busy machine is given time.
    """
    begun, idle, ticks = time.monotonic(), 0.0, 0
    while not select.select([reader], [], [], 0.1)[0]:
        stats = [Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split() for process in processes]
        before, ticks = ticks, sum(int(stat[11]) + int(stat[12]) for stat in stats)
        idle += 0.1 * (ticks == before and not {stat[0] for stat in stats} & {b"R", b"D"})
        if max(int(stat[17]) for stat in stats) > MOST_THREADS:
            return "crashed", f"the answer starts more than {MOST_THREADS} threads"
        if idle >= seconds or time.monotonic() - begun > PATIENCE * seconds:
            return "timed out", f"not done after {seconds} seconds"
    return None


# ------------------------------------------------------------------------------------- the course, waiting for answers


def listen(path: str, namespace: dict) -> None:
    """Fork a process that takes answers at `path` as long as this one lives; another one looks after each.

    It listens before the fork: who asks early waits, and is not turned away.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(256)
        gc.collect()
        gc.freeze()  # the pages that the processes share stay shared
        if os.fork():
            return
        with contextlib.suppress(BaseException):
            sandbox.die_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who look after an answer
            while True:
                line, _ = server.accept()
                with (
                    line,
                    contextlib.suppress(OSError),
                ):  # too many processes: this answer has crashed, not the next one
                    if not os.fork():
                        look_after(Connection(line.detach()), namespace)
        os._exit(1)


def look_after(connection: Connection, namespace: dict) -> None:
    """Be the process of one answer: report what came of it, and end."""
    with contextlib.suppress(BaseException):
        sandbox.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.send_bytes(json.dumps(attempt(connection, namespace)).encode())
    os._exit(0)


def main(folder: str) -> None:
    """Execute cells as they come in, and listen where told to. Say in the end where, or which cell failed, and stay."""
    orders, replies = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    sandbox.silence()  # what the notebook prints is not asked for here
    sandbox.system_calls()
    os.chdir(folder)
    namespace, reply = {"__name__": "__main__"}, [0, folder]
    while order := json.loads(orders.recv_bytes()):
        if "exercise" in order:
            listen(f"{order['exercise']}.sock", namespace)
            continue
        try:
            exec(compile(order["source"], f"cell {order['cell']}", "exec"), namespace)
        except Exception as error:
            if not order["may_raise"]:
                reply = [order["cell"], f"{type(error).__name__}: {error}"]
                break
    replies.send_bytes(json.dumps(reply).encode())
    while not reply[0]:
        orders.recv_bytes()  # until nobody is there any more


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="course-") as place, contextlib.suppress(EOFError):
        main(place)
