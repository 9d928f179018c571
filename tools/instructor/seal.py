"""Check one answer with the course's own check, where the student's code finds, reaches and misleads nobody.

`python -m tools.instructor.seal NUMBER` executes the cells that come in on the open socket NUMBER, and where it is told
to, leaves a copy of itself behind (fork), which listens in a temporary folder, 1.sock, 2.sock ...

The one idea: whoever runs an answer comes from a line of processes that were never told more than the student was: no
solutions, no checks, no cell from below the exercise. Only when an answer is on its way does the process that looks
after it read the check, and start a second process for it. The two talk in messages.py, shut in by sandbox.py.
"""

import ast
import contextlib
import gc
import json
import os
import re
import signal
import socket
import symtable
import sys
import tempfile
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from tools.instructor import sandbox
from tools.instructor.messages import Gone, Peer, said

MOST_THREADS = 32
PATIENCE = 10  # an answer may take so many times its limit of processor time by the clock: machines are busy


def names_of(cell: str) -> tuple[set[str], set[str]]:
    """Return (the names that a cell binds, the names it uses) at its top level, as far as they can be told."""
    try:
        tables = [symtable.symtable(cell, "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {a or b for a, b in re.findall(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", cell, re.MULTILINE)}, set()
    for table in tables:
        tables += table.get_children()  # and so on, down to the innermost function
    own, symbols = tables[0].get_symbols(), [symbol for table in tables for symbol in table.get_symbols()]
    bound = {symbol.get_name() for symbol in own if symbol.is_assigned() or symbol.is_imported()}
    return bound, {symbol.get_name() for symbol in symbols if symbol.is_global() and symbol.is_referenced()}


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


def attempt(connection: Connection, namespace: dict) -> dict:
    """Take an answer, then the check that it is for; run both, each in a new process. Returns what came of it.

    Returns {"verdict", "message", "seconds" (of processor time), "changed" (see messages.Peer)}.
    """
    names, cells, in_place, seconds, memory = json.loads(connection.recv_bytes())
    theirs, ours = Pipe()
    reader, writer = Pipe(duplex=False)

    def answer():
        sandbox.confine(memory, seconds, [theirs.fileno()])
        peer = Peer(theirs, [lambda: define(namespace, names, cells)], in_place)
        while True:
            peer.answer(*peer.receive()[1:])

    def check():
        sandbox.confine(memory, seconds, [ours.fileno(), writer.fileno()])
        peer = Peer(ours, (), in_place)
        verdict = judge(peer, namespace, names, source)
        writer.send_bytes(json.dumps([*verdict, peer.changed]).encode())

    processes = [fork(answer)]
    source = connection.recv_bytes().decode()  # nobody who runs an answer comes from here on
    processes.append(fork(check))
    for end in (theirs, ours, writer):
        end.close()
    stopped, ended, used = watch(processes, reader, seconds), [], 0.0
    for process in processes:
        os.kill(process, signal.SIGKILL)
        _, status, usage = os.wait4(process, 0)
        ended.append(os.WTERMSIG(status))
        used = max(used, usage.ru_utime + usage.ru_stime)
    try:
        verdict, message, changed = json.loads(reader.recv_bytes())
    except EOFError:
        verdict, message, changed = "crashed", "the check did not come to an end", False
    if stopped:
        verdict, message = stopped
    elif verdict != "passed" and (used > seconds - 0.1 or signal.SIGXCPU in ended):
        verdict, message = "timed out", f"not done after {seconds} seconds"
    elif verdict == "crashed" and ended[0] not in (0, signal.SIGKILL):
        message = f"the answer ended Python itself ({signal.Signals(ended[0]).name})"
    return {"verdict": verdict, "message": message, "seconds": round(used, 3), "changed": changed}


def fork(work, *arguments) -> int:
    """Do `work` in a new process, which ends with this one, and return its number."""
    if process := os.fork():
        return process
    with contextlib.suppress(BaseException):
        sandbox.die_with_parent()
        work(*arguments)
    os._exit(0)


def watch(processes: list[int], reader: Connection, seconds: int) -> tuple[str, str] | None:
    """Wait until there is something to read. Returns why the processes must be stopped before, as a verdict, or None.

    Who sleeps uses no processor time: `seconds` of it are enough. Who waits for a busy machine is given time.
    """
    begun, idle, ticks = time.monotonic(), 0.0, 0
    while not reader.poll(0.1):
        stats = [Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split() for process in processes]
        before, ticks = ticks, sum(int(stat[11]) + int(stat[12]) for stat in stats)
        idle += 0.1 * (ticks == before and not {stat[0] for stat in stats} & {b"R", b"D"})
        if max(int(stat[17]) for stat in stats) > MOST_THREADS:
            return "crashed", f"the answer starts more than {MOST_THREADS} threads"
        if idle >= seconds or time.monotonic() - begun > PATIENCE * seconds:
            return "timed out", f"not done after {seconds} seconds"
    return None


def listen(path: str, namespace: dict) -> None:
    """Leave a process behind that takes answers at `path`; who asks before it has begun waits."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(256)
        gc.collect()
        gc.freeze()  # the pages that the processes share stay shared
        fork(take_answers, server, namespace)


def take_answers(server: socket.socket, namespace: dict) -> None:
    """Let a process of its own look after each answer."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        line, _ = server.accept()
        with line, contextlib.suppress(OSError):  # too many processes: this answer has crashed, not the next one
            fork(look_after, line, namespace)


def look_after(line: socket.socket, namespace: dict) -> None:
    """Report what came of one answer."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection = Connection(line.detach())
    connection.send_bytes(json.dumps(attempt(connection, namespace)).encode())


def main(line: Connection, folder: str) -> None:
    """Execute cells as they come in, and listen where told to. Say in the end where, or which cell failed, and stay."""
    sandbox.system_calls()
    os.chdir(folder)
    namespace, reply = {"__name__": "__main__"}, [0, folder]
    while order := json.loads(line.recv_bytes()):
        if "exercise" in order:
            listen(f"{order['exercise']}.sock", namespace)
            continue
        try:
            exec(compile(order["source"], f"cell {order['cell']}", "exec"), namespace)
        except Exception as error:
            if not order["may_raise"]:
                reply = [order["cell"], f"{type(error).__name__}: {error}"]
                break
    line.send_bytes(json.dumps(reply).encode())
    while True:
        line.recv_bytes()  # until nobody is there any more


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="course-") as place, contextlib.suppress(EOFError, ConnectionResetError):
        main(Connection(int(sys.argv[1])), place)
