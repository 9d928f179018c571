"""Check one answer of one student with the course's own check, where the student's code can't reach it.

The one idea: two processes. One, shut in, runs the student's code; the other runs the check, and gets at the student's
functions only by messages: "call it with these arrays", "this came out". Whatever the student's code overwrites, it
overwrites in its own process. Messages are plain values and arrays, never objects that run code when they are read.

    python -m tools.instructor.seal NOTEBOOK.py FOLDER

executes the course's notebook once, without any student, and at each exercise leaves a copy of the process behind
(fork), which listens in FOLDER/1.sock, 2.sock ... So an answer finds everything that stands above its exercise, trained
and ready, and needs no more time than its own.
"""

import ast
import builtins
import contextlib
import gc
import io
import json
import os
import pickle
import re
import select
import signal
import socket
import socketserver
import symtable
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tools.instructor import sandbox, student
from tools.shared import notebooks

LONGEST_MESSAGE = 1 << 30  # bytes between the two processes
LONGEST_WORDS = 600  # characters of a message in the table
READABLE = [Path(path) for path in (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache")]
READABLE += [notebooks.ROOT / "nnlib", notebooks.ROOT / "data" / "samples"]


# ------------------------------------------------------------------------------------------ messages between the two


class Gone(BaseException):
    """The other process is not there any more. No `except Exception` of a check can take this for an answer."""


class Plain(pickle.Unpickler):
    """Reads the containers and numbers that `Peer.pack` makes, and refuses everything that would import or call."""

    def find_class(self, module, name):  # noqa: D102
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a message")


class Remote:
    """A function of the other process; where the exercise asks for a class, an object too, with its attributes."""

    def __init__(self, peer, number, name):
        self.__dict__.update(_peer=peer, _number=number, __name__=name)

    def __call__(self, *arguments, **named):  # noqa: D102
        return self._peer.call(self._number, arguments, named)

    def __getattr__(self, name):
        if name.startswith("__") or not self._peer.objects:
            raise AttributeError(f"{self.__name__} has no attribute {name}")
        return self._peer.ask("attribute", self._number, name)

    def __repr__(self):
        return f"<the student's {self.__name__}>"


class Peer:
    """One end of the line. Values are copied to the other end; functions stay where they are, and are called.

    `start` and `names` make it the student's end: what to do first, and where the check may look up a name. At the
    check's end nothing can be asked for but calls of functions that the check has handed over.
    objects: whether the check may receive objects that are no plain values; their methods could tell it anything.
    """

    def __init__(self, connection: Connection, *, start=None, names: dict | None = None, objects: bool = False):
        self.connection, self.start, self.names, self.objects = connection, start, names, objects
        self.things, self.numbers = [], {}  # what the other end may call

    # values: as trees of tuples

    def pack(self, value):
        """Return `value` as a tree that Plain can read; a Remote goes home, what is no plain value stays here."""
        kinds = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
        if value is None or value is ...:
            return ("none",) if value is None else ("ellipsis",)
        for kind in (bool, int, float, str, bytes):
            if isinstance(value, kind) and not isinstance(value, np.generic):
                return ("value", kind(value))
        if isinstance(value, complex) and not isinstance(value, np.generic):
            return ("complex", value.real, value.imag)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSUmM":
            array = np.asarray(value)
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return (kind, array.dtype.str, array.shape, array.tobytes(), bool(array.flags.writeable))
        for kind, name in kinds.items():
            if isinstance(value, kind):
                return (name, [self.pack(item) for item in value])
        if isinstance(value, dict):
            return ("dict", [(self.pack(key), self.pack(item)) for key, item in value.items()])
        if isinstance(value, Remote) and value._peer is self:
            return ("yours", value._number)
        if isinstance(value, np.random.Generator):
            return ("generator", self.pack(value.bit_generator.state))
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.things)
            self.things.append(value)  # kept, so its id stays its own
        name = getattr(value, "__name__", type(value).__name__)
        return ("mine", self.numbers[id(value)], str(name)[:100], callable(value))

    def unpack(self, tree):
        """Return the value that the other end has packed. Raises ValueError for what is no such tree."""
        kind, *rest = tree
        match kind:
            case "none" | "ellipsis":
                return None if kind == "none" else ...
            case "value":
                return rest[0]
            case "complex":
                return complex(*rest)
            case "array" | "scalar":
                array = np.frombuffer(rest[2], np.dtype(rest[0])).reshape(rest[1]).copy()
                array.flags.writeable = rest[3]
                return array if kind == "array" else array[()]
            case "list" | "tuple" | "set" | "frozenset":
                return getattr(builtins, kind)(self.unpack(item) for item in rest[0])
            case "dict":
                return {self.unpack(key): self.unpack(value) for key, value in rest[0]}
            case "mine":
                if not rest[2] and not self.objects and self.names is None:
                    raise TypeError(f"a plain value or an array is expected, not {rest[1]}")
                return Remote(self, *rest[:2])
            case "yours":
                return self.things[rest[0]]
            case "generator":
                generator = np.random.default_rng()
                generator.bit_generator.state = self.unpack(rest[0])
                return generator
        raise ValueError(f"a message of an unknown kind: {kind!r}")

    # questions and answers

    def ask(self, *question):
        """Send a question and return the answer; meanwhile answer what the other end asks. Raises its exception."""
        self._send(question)
        while True:
            message = self._receive()
            if message[0] == "answer":
                return self.unpack(message[1])
            if message[0] == "changed":  # what a call did to its arguments
                return self.unpack(message[1]), self.unpack(message[2])
            if message[0] == "error":
                raise _exception(*message[1:])
            self._answer(message)

    def call(self, number, arguments, named):
        """Call thing `number` of the other end; what it changes in place is changed here too."""
        result, after = self.ask("call", number, self.pack((arguments, named)))
        if after is not None:
            _update(list(arguments), list(after[0]))
            _update(named, after[1])
        return result

    def serve(self):
        """Answer questions until the other end is gone."""
        while True:
            self._answer(self._receive())

    def _answer(self, question):
        try:
            match question:
                case "call", number, packed:
                    arguments, named = self.unpack(packed)
                    result = self.things[number](*arguments, **named)
                    after = self.pack((arguments, named))
                    reply = ("changed", self.pack(result), ("none",) if after == packed else after)
                case ("start",) if self.start:
                    reply = ("answer", self.pack(self.start()))
                case "open", name if self.names is not None:
                    if name not in self.names:
                        raise NameError(f"your notebook does not define {name}")
                    reply = ("answer", self.pack(self.names[name]))
                case "attribute", number, name if self.names is not None:
                    reply = ("answer", self.pack(getattr(self.things[number], name)))
                case _:
                    raise ValueError("a question of an unknown kind")
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
            words = _words(error) if type(error).__name__ == kinds[0] else f"{type(error).__name__}: {_words(error)}"
            reply = ("error", kinds[0], words)
        self._send(reply)

    def _send(self, message):
        try:
            self.connection.send_bytes(pickle.dumps(message))
        except OSError:
            raise Gone from None

    def _receive(self):
        try:
            return Plain(io.BytesIO(self.connection.recv_bytes(LONGEST_MESSAGE))).load()
        except (OSError, EOFError):
            raise Gone from None


def _exception(name, words):
    """Return an exception of the built-in class `name`, so that a check can tell a ValueError from a TypeError."""
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):
            return kind(str(words))
    return RuntimeError(str(words))


def _update(old, new):
    """Bring `old` to the state of `new`, its copy from the other end, in place."""
    if isinstance(old, np.random.Generator) and isinstance(new, np.random.Generator):
        old.bit_generator.state = new.bit_generator.state
    elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        if old.flags.writeable and old.shape == new.shape and old.dtype == new.dtype:
            old[...] = new
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        for before, after in zip(old, new, strict=False):
            _update(before, after)
        if isinstance(old, list):
            kept = [a if isinstance(a, np.ndarray | dict | list) else b for a, b in zip(old, new, strict=False)]
            old[:] = kept + new[len(kept) :]
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in [*old]:
            if key not in new:
                del old[key]
        for key, value in new.items():
            same = isinstance(old.get(key), np.ndarray) and isinstance(value, np.ndarray)
            if same and old[key].shape == value.shape and old[key].dtype == value.dtype:
                _update(old[key], value)
            else:
                old[key] = value


def _words(error):
    """Return what an exception says, short and without what would steer a terminal."""
    try:
        text = str(error)
    except Exception:
        text = "(its message can't be shown)"
    text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[: 4 * LONGEST_WORDS])
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]} ..."


# ---------------------------------------------------------------------------------------------------- one answer


def select_cells(cells: list[str], names: list[str]) -> list[str] | None:
    """Return those cells that an answer consists of: they bind `names`, or something that such a cell uses.

    None if no cell binds one of `names`. A cell that does not parse belongs to the answer if it seems to define a name.
    """
    bound, used = [], []
    for cell in cells:
        try:
            tables = [symtable.symtable(cell, "cell", "exec")]
        except (SyntaxError, ValueError):
            bound.append(set(re.findall(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", cell, re.MULTILINE)))
            bound[-1] = {name for pair in bound[-1] for name in pair}
            used.append(set())
            continue
        symbols = tables[0].get_symbols()
        bound.append({symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()})
        used.append({symbol.get_name() for symbol in symbols if symbol.is_referenced()})
        while tables:
            for table in tables.pop().get_children():
                tables.append(table)
                used[-1] |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    wanted, chosen = set(names), set()
    if not any(wanted & bound_here for bound_here in bound):
        return None
    while more := {index for index, bound_here in enumerate(bound) if wanted & bound_here} - chosen:
        chosen |= more
        wanted |= {name for index in more for name in used[index]}
    return [cells[index] for index in sorted(chosen)]


def without_magics(cell: str) -> str:
    """Return a cell's Python: lines for IPython (%timeit, !ls) become `pass`."""
    try:
        ast.parse(cell)
        return cell
    except (SyntaxError, ValueError):
        return re.sub(r"^(\s*)[%!].*$", r"\1pass", cell, flags=re.MULTILINE)


def answer_questions(connection: Connection, namespace: dict, names: list[str], cells: list[str]) -> None:
    """Be the student's process: run the cells of the answer, then let the check call what they define."""

    def start():
        for name in names:
            namespace.pop(name, None)  # the course may have had something of that name
        chosen = select_cells([without_magics(cell) for cell in cells], names)
        for cell in chosen or ():
            exec(compile(cell, "your cell", "exec"), namespace)
        return chosen is not None

    Peer(connection, start=start, names=namespace, objects=True).serve()


def judge(connection: Connection, namespace: dict, exercise: student.Exercise) -> tuple[str, str]:
    """Be the check's process: run the check on the student's functions, return (verdict, message)."""
    try:
        asks_for_a_class = re.search(r"^class ", exercise.stub.source, re.MULTILINE)
        peer = Peer(connection, objects=bool(asks_for_a_class))
        if not peer.ask("start"):
            return "missing", f"no cell defines {' or '.join(exercise.names)}"
        for name in exercise.names:
            namespace[name] = peer.ask("open", name)
        exec(compile(exercise.check.source, "the check", "exec"), namespace)
    except Gone:
        return "crashed", "the answer ended Python itself"
    except NotImplementedError as error:
        return "failed", _words(error) or "not written yet"
    except AssertionError as error:
        advice = getattr(sys.modules.get("nnlib.checks"), "SEE", "") or "\0"  # for whom has the arrays before them
        return "failed", _words(error).replace(advice, "").strip() or "the check's assertion does not hold"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {_words(error)}"
    return "passed", ""


def attempt(namespace: dict, exercise: student.Exercise, cells: list[str], seconds: int, memory: int) -> dict:
    """Check one answer in two new processes, and end both. Returns {"verdict", "message", "seconds"}."""
    begun = time.monotonic()
    theirs, ours = socket.socketpair()
    reader, writer = os.pipe()
    processes = []
    for end, keep in ((theirs, []), (ours, [writer])):  # first the student's process, then the check's
        processes.append(os.fork())
        if not processes[-1]:
            with contextlib.suppress(BaseException):
                sandbox.confine(memory, seconds, READABLE, [end.fileno(), *keep])
                if end is theirs:
                    answer_questions(Connection(end.fileno()), namespace, exercise.names, cells)
                else:
                    verdict = judge(Connection(end.fileno()), namespace, exercise)
                    os.write(writer, json.dumps(verdict).encode())
            os._exit(0)
    theirs.close()
    ours.close()
    os.close(writer)
    with open(reader, "rb") as line:
        idle = 0.0  # who sleeps uses no processor time; on a busy machine, who does not sleep is given time
        while idle < seconds and not select.select([line], [], [], 0.2)[0]:
            idle += 0.2 * (not {_state(process) for process in processes} & {"R", "D"})
        told = line.read() if idle < seconds else b""
    for process in processes:
        os.kill(process, signal.SIGKILL)
    ended = [os.waitpid(process, 0)[1] for process in processes]
    ended = [os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0 for status in ended]
    verdict, message = json.loads(told) if told else ("crashed", "the check did not come to an end")
    if idle >= seconds or (verdict != "passed" and signal.SIGXCPU in ended):
        verdict, message = "timed out", f"not done after {seconds} seconds"
    elif verdict == "crashed" and ended[0] not in (0, signal.SIGKILL):
        message = f"the answer ended Python itself ({signal.Signals(ended[0]).name})"
    return {"verdict": verdict, "message": message, "seconds": round(time.monotonic() - begun, 3)}


def _state(process):
    """Return the kernel's letter for what a process does: R runs or would if it could, S sleeps."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


# ------------------------------------------------------------------------------------- the course, waiting for answers


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Listens at one exercise; a process of its own looks after each answer."""

    request_queue_size = 100


def listen(path: Path, namespace: dict, exercise: student.Exercise) -> None:
    """Fork a server that answers requests (one JSON object a connection) with verdicts, as long as this process lives.

    It listens before the fork: who asks early waits, and is not turned away.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            request = json.loads(self.rfile.readline())
            self.wfile.write(json.dumps(attempt(namespace, exercise, **request)).encode())

    with Server(str(path), Handler) as server:
        gc.collect()
        gc.freeze()  # the pages that both processes share stay shared
        if not os.fork():
            sandbox.die_with_parent()
            server.serve_forever()


def main(source: Path, folder: Path) -> None:
    """Execute the course's notebook; at each exercise, fork a server. Say "ready" or what failed; end with stdin."""
    tell = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what the notebook prints is not asked for here
    os.dup2(null, 2)
    notebook = notebooks.read_source(source)
    exercises = student.exercises(notebook)
    waiting = {exercise.stub.id: number for number, exercise in enumerate(exercises, 1)}
    namespace = {"__name__": "__main__"}
    cells = notebooks.code_cells(notebook)
    last = max(index for index, (cell, _) in enumerate(cells) if "check" in student.tags(cell))
    os.chdir(folder)
    for number, (cell, heading) in enumerate(cells[: last + 1], 1):
        if cell.id in waiting:
            listen(folder / f"{waiting[cell.id]}.sock", namespace, exercises[waiting[cell.id] - 1])
        try:
            exec(compile(cell.source, f"cell {number}", "exec"), namespace)
        except Exception as error:
            if "raises-exception" not in student.tags(cell):
                what = f"{type(error).__name__}: {error}"
                print(notebooks.describe(source.stem, number, heading, "raised an error", cell.source, what), file=tell)
                return
    print("ready", file=tell, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
