"""Grading: a folder of hostile submissions, made here, none of which harms another, the grader, or gets a pass.

The course of these tests is tiny; tests/test_editions.py puts the real notebooks' exercises through the same machinery.
"""

import contextlib
import csv
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest

from tools.instructor import grade, messages, sandbox, seal, student
from tools.shared import notebooks
from tools.shared.notebooks import ROOT

held = pytest.mark.skipif(sandbox.missing() is not None, reason=f"no submission can be shut in: {sandbox.missing()}")

COURSE = """\
# %% [markdown]
# # Tiny

# %%
import numpy as np
from nnlib import checks

base = 2

# %% [markdown]
# ### 1 · Twice

# %% tags=["exercise"]
def twice(x):
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def twice(x):
    return base * x


# %% tags=["check"]
assert twice(4) == 8, f"twice(4) is 8, not <{twice(4)}>"

# %% [markdown]
# ### 2 · ReLU

# %% tags=["exercise"]
def relu(x):
    raise NotImplementedError("not written yet")


def relu_backward(dout, x):
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def relu(x):
    return np.maximum(x, 0)


def relu_backward(dout, x):
    return dout * (x > 0)


# %% tags=["check"]
checks.relu(relu, relu_backward)

# %% [markdown]
# ### 3 · Sums, and who is in the way

# %% tags=["exercise"]
def total(function, values):
    "Return the sum of function(value); add 1 to every value, in place."
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def total(function, values):
    if not len(values):
        raise ValueError("nothing to add up")
    result = sum(function(value) for value in values)
    values += 1
    return result


# %% tags=["check"]
values = np.arange(4.0)
assert total(lambda value: value**2, values) == 14, "the sum of the squares of 0, 1, 2, 3 is 14"
assert values[0] == 1, "add 1 to every value, in place"
try:
    total(abs, np.zeros(0))
except ValueError:
    pass
else:
    raise AssertionError("no values: raise ValueError")
"""
TWICE, RELU, TOTAL = (
    "def twice(x):\n    return base * x",
    "def relu(x):\n    return np.maximum(x, 0)\ndef relu_backward(dout, x):\n    return dout * (x > 0)",
    "def total(function, values):\n    if not len(values):\n        raise ValueError\n"
    "    values += 1\n    return sum(function(value - 1) for value in values)",
)
GOOD = [TWICE, RELU, TOTAL]
OVERWRITE = """\
import builtins, sys, nnlib
import nnlib.checks, nnlib.gradcheck
for module in (nnlib, nnlib.checks, nnlib.gradcheck, np):
    for name in [*vars(module)]:
        if not name.startswith("__"):
            setattr(module, name, lambda *a, **k: None)
sys.modules["nnlib.checks"] = sys.modules["nnlib"] = None
builtins.AssertionError = builtins.isinstance = builtins.len = lambda *a: True
"""
LIAR = """\
class Liar(float):
    shape = (4, 5)
    dtype = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __array__(self, *a, **k): return self
    def __getattr__(self, name): return lambda *a, **k: True
class Same(np.ndarray):
    def __eq__(self, other): return np.ones(1, bool)
    def __array_function__(self, *a, **k): return True
    def __array_ufunc__(self, *a, **k): return np.zeros(())
class Pretends:
    __class__ = np.ndarray
    def __eq__(self, other): return True
    __hash__ = None
"""
# What a cheat looks for, wherever Python keeps something: the solution, and the words of the check.
SPY = """\
import ctypes, gc, glob, io, os, sys
def loot():
    found, frame = [], sys._getframe()
    while frame:
        found += [repr(frame.f_locals), repr(frame.f_globals)]
        frame = frame.f_back
    for thing in gc.get_objects():
        try:
            found.append(repr(thing) if not isinstance(thing, dict) else repr([*thing.values()]))
        except BaseException:
            pass
    found += [repr(vars(module)) for module in [*sys.modules.values()] if module]
    found += [repr(os.environ), repr(sys.argv)]
    pids = ["self", *os.listdir("/proc")] if os.access("/proc", os.X_OK) and readable("/proc") else ["self"]
    pids += [str(os.getppid()), *map(str, range(os.getpid() - 30, os.getpid() + 30))]
    files = [f"/proc/{pid}/{name}" for pid in pids for name in ("mem", "maps", "environ", "cmdline", "fd/3")]
    for root in (HOME, ROOT + "/notebooks", ROOT + "/tests", ROOT + "/tools", COURSE, os.getcwd()):
        files += [root, *glob.glob(root + "/**", recursive=True)]
        files += [os.path.join(root, name) for name in ("01_tiny.py", "01_tiny.ipynb", "01_mlp.py", "neighbour")]
        try:
            found.append("DIRECTORY" + repr(os.listdir(root)))
        except OSError:
            pass
    for path in files:
        try:
            found.append("FILE " + path + open(path, "rb", 0).read(1 << 20).decode("latin-1"))
        except (OSError, ValueError):
            pass
    libc = ctypes.CDLL(None)
    libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)
    return "\\n".join(found)
def readable(path):
    try:
        return bool(os.listdir(path))
    except OSError:
        return False
def twice(x):
    text = loot()
    for backwards in ("x * esab", "8 si )4(eciwt", "RUOBHGIEN", "/ ELIF", "[YROTCERID"):
        secret = "".join(reversed(backwards))
        if secret in text:
            raise AssertionError("FOUND " + secret + text[text.find(secret) - 40:][:400])
    return 2 * x
"""
# The attack that once passed every exercise: the frames above, and the course's own solutions in one of them.
FRAMES = """\
import sys
frame = sys._getframe()
while frame is not None:
    for thing in [*frame.f_locals.values()]:
        if hasattr(thing, "solutions"):
            for cell in thing.solutions:
                exec(cell.source, globals())
    frame = frame.f_back
"""
FORGERY = """\
import gc, json, os
for number in range(3, 64):
    for message in (json.dumps(["passed", "", False]).encode(), b"\\0\\0\\0\\x02[]", b"\\xff" * 8):
        try:
            os.write(number, message)
        except OSError:
            pass
"""
DELETE = """\
import os, shutil, subprocess, sys
for path in (VICTIM, os.path.dirname(VICTIM), "verdicts.jsonl", "1.sock", "."):
    shutil.rmtree(path, ignore_errors=True)
    for harm in (os.unlink, lambda p: os.truncate(p, 0), lambda p: open(p, "w").close(), lambda p: os.chmod(p, 0),
                 lambda p: os.rename(p, p + "x"), lambda p: os.close(os.open(p, os.O_RDONLY | os.O_TRUNC)),
                 lambda p: os.utime(p), lambda p: os.symlink(p, p + "x"), lambda p: os.mkdir(p + "y")):
        try:
            harm(path)
        except OSError:
            pass
"""
KILLER = """\
import ctypes, fcntl, os, resource, signal
def attempts():
    for pid in (-1, 0, os.getppid(), -os.getpgrp(), *range(os.getpid() - 20, os.getpid() + 20)):
        yield lambda: os.kill(pid, signal.SIGKILL)
        yield lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)
        yield lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
        for descriptor in range(64):
            yield lambda: fcntl.fcntl(descriptor, fcntl.F_SETOWN, pid)
            yield lambda: fcntl.fcntl(descriptor, 10, signal.SIGKILL)  # F_SETSIG
            yield lambda: fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC)
            yield lambda: fcntl.ioctl(descriptor, 0x5452, b"\\1\\0\\0\\0")  # FIOASYNC
for attempt in attempts():
    try:
        attempt()
    except (OSError, ValueError):
        pass
"""
BOMB = """\
import os, threading
for _ in range(40):  # it would be an endless loop, did the first one not fail
    os.fork()
"""
THREADS = """\
import threading, time
threading.stack_size(32768)
def twice(x):
    while True:
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
"""
NETWORK = "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)\n"
CHATTER = "import os, sys\nfor _ in range(1000):\n    os.write(1, b'x' * (1 << 20))\n    print('x' * 1000)\n"
SLOW = "import time\ntime.sleep(0.3)\n"
STOP = "def total(function, values): raise StopIteration"
ENDS_PYTHON = "crashed: the answer ended Python itself"

# student -> (answers to the three exercises, the beginning of the three verdicts)
CLASS = {
    "good": (GOOD, ["passed"] * 3),
    "nothing": (
        [None] * 3,
        ["failed: not written yet", "failed: forward(x) is not written yet", "failed: not written yet"],
    ),
    "wrong": (
        [
            "def twice(x): return '<script>alert(1)</script>'",
            RELU.replace("x > 0", "x >= 0"),
            TOTAL.replace("+= 1", "+= 2"),
        ],
        ["failed: twice(4) is 8, not <<script>", "failed: backward: dx is wrong: at x = 0", "failed: the sum of"],
    ),
    "loop": (["def twice(x):\n    while True: pass", RELU, f"while True: pass\n{TOTAL}"], ["timed", "passed", "timed"]),
    "sleep": ([TWICE, "import time\ndef relu(x): time.sleep(1e6)\nrelu_backward = 0", TOTAL], ["pas", "timed", "pas"]),
    "memory": (
        ["def twice(x): return np.ones(50 << 27)", f"b = bytearray(50 << 30)\n{RELU}", TOTAL],
        ["failed: MemoryError: Unable to allocate 50", "failed: MemoryError", "passed"],
    ),
    "exit": (
        [
            "import os\ndef twice(x): os._exit(0)",
            f"import os\nos._exit(0)\n{RELU}",
            "import sys\ndef total(function, values): sys.exit()",
        ],
        [ENDS_PYTHON] * 3,
    ),
    "segfault": (
        [
            "import ctypes\ndef twice(x): ctypes.string_at(0)",
            RELU,
            "import sys\nsys.setrecursionlimit(10**6)\ndef total(f, v): return [total] + total(f, v)",
        ],
        [f"{ENDS_PYTHON} (SIGSEGV)", "passed", ("failed", "crashed", "timed")],
    ),
    "recursion": (
        [TWICE, "def relu(x): return relu(x)\nrelu_backward = relu", TOTAL],
        ["pas", "failed: forward", "pas"],
    ),
    "deleted": (["", RELU, TOTAL], ["missing: no cell defines twice", "passed", "passed"]),
    "half": (
        [TWICE, "def relu(x):\n    return np.maximum(x, 0)", "def total(function, values) return 1"],
        ["passed", "failed: NameError: your notebook does not define relu_backward", "failed: SyntaxError"],
    ),
    "overwrites": (
        [f"def twice(x): return 0\n{OVERWRITE}", f"def relu(x): return x\nrelu_backward = relu\n{OVERWRITE}", TOTAL],
        ["failed: ", "failed: ", "passed"],
    ),
    "liar": (
        [
            f"{LIAR}def twice(x): return Liar(3)",
            f"{LIAR}def relu(x): return x.view(Same) * 0\nrelu_backward = relu",
            "class Odd:\n    def __call__(self, *a): return self\n    def __eq__(self, o): return True\ntotal = Odd()",
        ],
        ["failed: ", "failed: ", "failed: TypeError: a plain value or an array is expected"],
    ),
    "pretender": (
        [
            f"{LIAR}def twice(x): return Pretends()",
            "def relu(x): return relu\nrelu_backward = relu",
            STOP,
        ],
        ["failed: TypeError", "failed", "failed: RuntimeError: StopIteration"],
    ),
    "zeroes": (  # what the check compares with must not be what the answer has left of it
        [
            "def twice(x): return 0",
            "def relu(x):\n    x *= 0\n    return x\ndef relu_backward(dout, x):\n    dout *= 0\n    return dout",
            TOTAL,
        ],
        ["failed: twice", "failed: ", "passed"],
    ),
    "in place": (  # right, but changes an argument: the same words as in the notebook
        [
            TWICE,
            "def relu(x):\n    x[x < 0] = 0\n    return x\ndef relu_backward(dout, x): return dout * (x > 0)",
            TOTAL,
        ],
        ["passed", "failed: forward changes its argument x in place", "passed"],
    ),
    "spy": ([SPY, RELU, TOTAL], ["passed"] * 3),
    "frames": (
        [f"{FRAMES}def twice(x): return globals().get('nothing', 0)", FRAMES + "relu = relu_backward = abs", FRAMES],
        ["failed: twice", "failed", "missing: no cell defines total"],
    ),
    "forger": (
        [
            f"{FORGERY}def twice(x): return 0",
            f"{RELU}\n{FORGERY}",
            "def total(function, values): raise AssertionError('passed')",
        ],
        [("failed", "crashed"), ("failed", "crashed"), "failed: passed"],
    ),
    "deleter": ([DELETE + TWICE, RELU, TOTAL], ["passed"] * 3),
    "killer": ([KILLER + TWICE, RELU, KILLER + TOTAL], ["passed"] * 3),
    "bomb": (
        [BOMB + TWICE, RELU, f"import subprocess\nsubprocess.run(['true'])\n{TOTAL}"],
        ["failed: PermissionError", "passed", "failed: PermissionError"],
    ),
    "renamed": (  # what ps would show of the process, no text at all
        ["import ctypes\nctypes.CDLL(None).prctl(15, b'\\xff) R 1', 0, 0, 0)\n" + SLOW + TWICE, RELU, TOTAL],
        ["passed"] * 3,
    ),
    "threads": (
        [THREADS, RELU, f"from concurrent.futures import ThreadPoolExecutor as P\nP(4).submit(print, 1)\n{TOTAL}"],
        ["crashed: the answer starts more than 32 threads", "passed", "passed"],
    ),
    "network": ([TWICE, NETWORK + RELU, TOTAL], ["passed", "failed: PermissionError", "passed"]),
    "chatter": ([CHATTER + TWICE, RELU, TOTAL], ["passed"] * 3),
    "helper": (
        [
            *("from functools import partial", "%time 3\nfactor = 2", "def helper(x): return factor * x"),
            *("twice = partial(helper)", RELU, TOTAL),
        ],
        ["passed"] * 3,
    ),
    "out of order": (
        [
            *("def twice(x): return late * x", "relu = made\ndef relu_backward(dout, x): return dout * (x > 0)"),
            *(TOTAL, "def made(x): return np.maximum(x, 0)"),
        ],
        [
            "failed: NameError: name 'late' is not defined: no cell above defines it",
            "failed: NameError: name 'made'",
            "pas",
        ],
    ),
    "again": (
        [TWICE, RELU, TOTAL, "def twice(x): return 3 * x"],
        ["failed: twice(4) is 8, not <12> (2 cells define twice, and the last one counts)", "passed", "passed"],
    ),
    "kinds": (  # results that are as good as a plain value in the notebook
        [
            "def twice(x): return np.float32(2 * x)",
            RELU.replace("np.maximum(x, 0)", "np.ma.masked_array(np.maximum(x, 0))"),
            TOTAL,
        ],
        ["passed"] * 3,
    ),
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    (folder / "01_tiny.py").write_text(COURSE, "utf-8", newline="\n")
    return folder


def hand_in(path, course, answers):
    """Write the students' notebook with these answers in place of the stubs (None: the stub as it is)."""
    notebook = notebooks.read_source(course / "01_tiny.py")
    notebook.cells = [cell for cell in notebook.cells if "solution" not in notebooks.tags(cell)]
    stubs = [cell for cell in notebook.cells if "exercise" in notebooks.tags(cell)]
    if len(answers) == len(stubs):
        for stub, answer in zip(stubs, answers, strict=True):
            stub.source = stub.source if answer is None else answer
    else:  # this student has removed the stubs and has cells of their own
        own = [nbformat.v4.new_code_cell(answer, id=f"own{number}") for number, answer in enumerate(answers)]
        notebook.cells = [cell for cell in notebook.cells if cell not in stubs] + own
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook), "utf-8")


def command(course, folder, into, *names):
    limits = ["--time", "1", "--memory", "256"]
    return ["tools.instructor.grade", *map(str, (folder, *names, "--notebooks", course, "--into", into)), *limits]


def run(*arguments, expected=0):
    """Run the command; return what it says."""
    said, argv = io.TextIOWrapper(io.BytesIO(), "utf-8"), sys.argv
    sys.argv = command(*arguments)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            assert grade.main() == expected
    finally:
        sys.argv = argv
    said.seek(0)
    return said.read()


def read(into):
    with (into / "grades.csv").open(encoding="utf-8", newline="") as table:
        return {row[0]: row[1:] for row in csv.reader(table)}


def tree(folder):
    """Every file below a folder, with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def processes(mark):
    """The command lines on this machine with `mark` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.read_bytes()] if mark.encode() in path.read_bytes() else []
    return found


def odd_files(course, folder):
    """Hand in what can't be graded. Returns student -> the beginning of what the table must say."""
    content = (folder / "good" / "01_tiny.ipynb").read_bytes()
    notebook = json.loads(content)
    text = json.dumps(notebook)
    files = {
        "=SUM(A1)": (b'{"cells": [', "Expecting value"),
        "deep": (b"[" * 100_000, "maximum recursion depth"),
        "list": (b"[1, 2]", "it has no list of cells"),
        "odd": (
            b'{"cells": [1, null, {"source": [2]}], "metadata": 3}',
            "it has no cell with code in it",
        ),
        "empty": (b"", "it is empty"),
        "latin": (
            text.replace("Twice", "Zwei \xfcber").encode("latin-1"),
            "'utf-8' codec can't decode byte",
        ),
        "no cells": (b'{"cells": []}', "it has no cell with code in it"),
        "code": (
            json.dumps({"cells": [{"cell_type": "code", "source": "x" * (2 << 20)}]}).encode(),
            "its cells",
        ),
        "other": (
            text.replace("twice", "second").replace("relu", "another").replace("total", "last").encode(),
            "01_tiny.ipynb holds another notebook, 02_other",
        ),
    }
    for name, (content, _) in files.items():
        (folder / name).mkdir()
        (folder / name / "01_tiny.ipynb").write_bytes(content)
    (folder / "folder" / "01_tiny.ipynb").mkdir(parents=True)
    (folder / "link").mkdir()
    (folder / "link" / "01_tiny.ipynb").symlink_to(folder / "good" / "01_tiny.ipynb")
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / "01_tiny.ipynb")
    (folder / "nobody").mkdir()
    said = {name: words for name, (_, words) in files.items()}
    said |= {kind: f"it is a {kind}" for kind in ("folder", "link", "pipe")}
    named = {"other": said.pop("other"), "nobody": "no notebook was handed in"}
    return {name: f"no readable notebook: {words}" for name, words in said.items()} | named


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """The class, graded once: (what was said, the rows of the table, the folder, what is said of the odd files)."""
    home = tmp_path_factory.mktemp("class")
    folder = home / "submissions"
    victim = folder / "a file of the instructor.txt"
    for name, (answers, _) in CLASS.items():
        paths = {"VICTIM": victim, "HOME": home, "ROOT": ROOT, "COURSE": course}
        own = "".join(f"{key} = {str(path)!r}\n" for key, path in paths.items())
        hand_in(
            folder / name / "01_tiny.ipynb", course, [own + a if a in (SPY, DELETE + TWICE) else a for a in answers]
        )
    (folder / "good" / "neighbour").write_text("NEIGHBOUR")
    good = (folder / "good" / "01_tiny.ipynb").read_text("utf-8")
    notebook = json.loads(good)
    for cell in notebook["cells"]:
        cell["source"] = [line.replace("\n", "\r\n") for line in "".join(cell["source"]).splitlines(True)]
    text = "x" * (50 << 20)
    notebook["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    (folder / "windows").mkdir()
    (folder / "windows" / "01_tiny.ipynb").write_bytes(json.dumps(notebook, indent=1).replace("\n", "\r\n").encode())
    victim.write_text("precious")
    odd = odd_files(course, folder)
    other = COURSE.replace("twice", "second").replace("relu", "another").replace("total", "last")
    (course / "02_other.py").write_text(other, "utf-8", newline="\n")
    before, temporary = tree(home) | tree(course), home / "tmp"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        said = run(course, folder, home / "grades", "01_tiny")
    (course / "02_other.py").unlink()
    assert {**tree(folder), **tree(course)}.items() <= before.items() and victim.read_text() == "precious"
    assert not [*temporary.iterdir()] and not processes(str(temporary))
    return said, read(home / "grades"), home, odd


@held
@pytest.mark.parametrize("name", CLASS)
def test_each_gets_the_verdicts_of_their_own_answers(graded, name):
    rows = graded[1]
    found = rows[name][1:]
    for verdict, expected in zip(found, CLASS[name][1], strict=True):
        assert verdict.startswith(expected), found
    assert rows[name][0] == str(sum(verdict == "passed" for verdict in found))


@held
def test_what_is_no_notebook_is_missing_and_says_why_each_in_its_own_words(graded):
    _, rows, _, odd = graded
    for name, words in odd.items():
        row = rows["'=SUM(A1)" if name == "=SUM(A1)" else name]
        assert row[0] == "0" and all(verdict.startswith(f"missing: {words}") for verdict in row[1:]), (name, row)
    assert len(set(odd.values())) == len(odd) - 1  # "odd" and "no cells" are the same fault


@held
def test_windows_line_ends_and_large_outputs_are_no_fault(graded):
    assert graded[1]["windows"] == ["3", "passed", "passed", "passed"]


@held
def test_the_page_shows_what_students_wrote_and_does_not_run_it(graded):
    said, rows, home, odd = graded
    page = (home / "grades" / "grades.html").read_text("utf-8")
    students = len(CLASS) + len(odd) + 1
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert len(rows) == 1 + students and page.count("<tr>") == 1 + students
    assert page.count('class="timed out"') >= 3
    last = said.splitlines()[-1]
    assert last.startswith(f"The table has every student ({students}) and every exercise (3): ")


@held
def test_an_interrupted_run_goes_on_where_it_stopped(course, tmp_path):
    for number in range(6):
        answers = [f"# {number}\n{TWICE}", RELU, f"while {number == 5}: pass\n{TOTAL}"]
        hand_in(tmp_path / "in" / f"s{number}" / "01_tiny.ipynb", course, answers)
    out, journal = tmp_path / "out", tmp_path / "out" / "verdicts.jsonl"
    start = [sys.executable, "-m", *command(course, tmp_path / "in", out)]
    first = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    first.kill()  # not even a chance to tidy up
    first.communicate()
    kept = journal.read_text("utf-8").splitlines()[:5]
    journal.write_text("\n".join([*kept, '{"key": "cut sh']), "utf-8")
    run(course, tmp_path / "in", out)
    lines = journal.read_text("utf-8").splitlines()
    assert lines[:5] == kept and len(lines) == 5 + 1 + 13
    rows = read(out)
    assert all(rows[f"s{number}"] == ["3", "passed", "passed", "passed"] for number in range(5))
    assert rows["s5"] == ["2", "passed", "passed", "timed out: not done after 1 seconds"]
    run(course, tmp_path / "in", out)
    assert journal.read_text("utf-8").splitlines() == lines and read(out) == rows  # nothing was left to do but s5


@held
def test_ctrl_c_keeps_what_is_done_and_writes_the_table(course, tmp_path, monkeypatch):
    for name, answer in (("first", TWICE), ("second", f"# another\n{TWICE}")):
        hand_in(tmp_path / "in" / name / "01_tiny.ipynb", course, [answer, RELU, TOTAL])
    completed, out = grade.as_completed, tmp_path / "out"

    def interrupted(tasks):
        for number, task in enumerate(completed(tasks)):
            if number == 2:
                raise KeyboardInterrupt
            yield task

    monkeypatch.setattr(grade, "as_completed", interrupted)
    said = run(course, tmp_path / "in", out, expected=1)
    assert "Interrupted. The same command goes on from here." in said
    assert said.splitlines()[-1].startswith("The table has every student (2) and every exercise (3)")
    verdicts = [verdict for row in [*read(out).values()][1:] for verdict in row[1:]]
    assert sorted(verdicts) == ["not graded: interrupted"] * 4 + ["passed"] * 2
    monkeypatch.undo()
    kept = (out / "verdicts.jsonl").read_text("utf-8")
    run(course, tmp_path / "in", out)
    after = (out / "verdicts.jsonl").read_text("utf-8")
    assert after.startswith(kept) and len(after.splitlines()) == len(kept.splitlines()) + 4


@held
def test_whoever_looks_after_an_answer_may_die_and_costs_that_answer_alone(course, tmp_path, monkeypatch):
    hand_in(tmp_path / "in" / "ada" / "01_tiny.ipynb", course, ["import time\ntime.sleep(0.5)\n" + TWICE, RELU, TOTAL])
    out = tmp_path / "out"
    real = grade.Course.attempt

    def killing(self, number, cells, *limits):
        if number == 1 and "sleep" in cells[0]:
            killer = threading.Timer(
                0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in grandchildren(self.process.pid)]
            )
            killer.start()
        return real(self, number, cells, *limits)

    def grandchildren(pid):
        return [child.pid for listener in psutil.Process(pid).children()[:1] for child in listener.children()]

    monkeypatch.setattr(grade.Course, "attempt", killing)
    run(course, tmp_path / "in", out)
    assert read(out)["ada"] == ["2", "crashed: the process that looked after this answer died", "passed", "passed"]


@held
def test_a_course_whose_own_solution_fails_grades_nobody_and_says_so_in_the_table(tmp_path, course):
    hand_in(tmp_path / "in" / "jane" / "01_tiny.ipynb", course, GOOD)
    for damage, words in (
        ("return base", "1 · Twice: the course's own solution failed: twice(4) is 8, not <2>"),
        ("return base * x\n\n\n# %%\nbase / 0", "raised an error"),
    ):
        (tmp_path / "01_tiny.py").write_text(COURSE.replace("return base * x", damage), "utf-8")
        said = run(tmp_path, tmp_path / "in", tmp_path / "out", expected=1)
        assert "Nobody was graded in 01_tiny. " in said and words in said
        assert all(verdict.startswith("not graded: ") for verdict in read(tmp_path / "out")["jane"][1:])


@pytest.mark.parametrize("source", notebooks.select(ROOT / "notebooks"), ids=lambda source: source.stem)
def test_the_process_of_a_notebook_is_told_of_no_exercise_no_solution_and_no_check(source):
    notebook = notebooks.read_source(source)
    exercises = student.exercises(notebook)
    orders = grade.orders(notebook)
    text = json.dumps(orders)
    for cell in notebook.cells:
        if {"exercise", "solution", "check"} & {*notebooks.tags(cell)}:
            assert json.dumps(cell.source)[1:-1] not in text
    assert [order["exercise"] for order in orders if "exercise" in order] == [*range(1, len(exercises) + 1)]
    assert "exercise" in orders[-1]  # and of nothing below
    cells = [cell.source for cell, _ in notebooks.code_cells(notebook)]
    for order in orders:
        assert "exercise" in order or cells[order["cell"] - 1] == order["source"]


def test_submissions_that_every_answer_could_read_are_refused(tmp_path, course, monkeypatch):
    monkeypatch.setattr(sandbox, "READABLE", [tmp_path])
    monkeypatch.setattr(sandbox, "missing", lambda: None)
    with pytest.raises(SystemExit, match="Any answer could read"):
        run(course, tmp_path, tmp_path / "out")


# ---------------------------------------------------------------------------------------------------- kept verdicts


def test_a_verdict_depends_on_every_file_that_takes_part(tmp_path, monkeypatch):
    """What is imported or opened from the repository while an answer is graded is on the list; each change counts."""
    listed = {path.resolve() for path in grade.depends_on(ROOT / "notebooks" / "01_mlp.py")}
    program = f"""
import json, sys
seen = set()
sys.addaudithook(lambda event, args: seen.add(str(args[0])) if event == "open" else None)
from tools.instructor import grade, seal, messages, sandbox
import nnlib, nnlib.plots
from nnlib import load_dataset
load_dataset("mnist"), load_dataset("fashion_mnist")
grade.Course, grade.pinned.obstacle()
seen |= {{str(getattr(module, "__file__", None)) for module in sys.modules.values()}}
print(json.dumps([path for path in seen if path.startswith({str(ROOT)!r})]))
"""
    env = os.environ | {"NNLIB_DATA": "sample"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opened = {Path(path).resolve() for path in json.loads(done.stdout.splitlines()[-1])}
    opened = {path for path in opened if path.is_file() and not {".venv", "__pycache__", ".cache"} & {*path.parts}}
    assert len(opened) > 20 and opened <= listed, opened - listed

    copies = {path: tmp_path / f"{number}" for number, path in enumerate(sorted(listed))}
    for path, copy in copies.items():
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(grade, "depends_on", lambda source: [*copies.values()])
    versions = [grade.course_version(ROOT)]
    for copy in copies.values():
        copy.write_bytes(copy.read_bytes() + b"\n")
        versions.append(grade.course_version(ROOT))
    for place, name in ((grade.platform, "python_version"), (grade.metadata, "version"), (grade.pinned, "obstacle")):
        monkeypatch.setattr(place, name, lambda *_: "another")
        versions.append(grade.course_version(ROOT))
    assert len(versions) == len(set(versions)) == len(listed) + 4


def test_the_version_of_a_course_is_the_same_by_whatever_path_it_is_found(tmp_path, monkeypatch):
    (tmp_path / "one" / "tools").mkdir(parents=True)
    (tmp_path / "one" / "tools" / "tool.py").write_text("a tool")
    source = tmp_path / "two.py"  # after the course's folder in the alphabet, and before what lies in it as ../two.py
    source.write_text("a notebook")
    monkeypatch.setattr(grade.notebooks, "ROOT", tmp_path / "one")
    assert grade.course_version(source) == grade.course_version(tmp_path / "one" / ".." / "two.py")


def test_only_verdicts_that_another_run_would_not_change_are_kept(tmp_path):
    for kind in ("passed", "failed", "missing", "timed out", "crashed", "not graded"):
        grade.keep(tmp_path / "v.jsonl", kind, {"verdict": kind, "message": "", "seconds": 1})
    assert [*grade.kept_verdicts(tmp_path / "v.jsonl")] == ["passed", "failed", "missing"]


# ------------------------------------------------------------------------------------------------- finding submissions


def test_students_and_notebooks_are_told_by_folder_and_name(tmp_path, capsys):
    def put(path, source="1"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}], "metadata": 3}))

    put("Ann/01_tiny.ipynb", "the very name")
    put("Ann/01_tiny-Copy1.ipynb")
    put("Ann/.ipynb_checkpoints/01_tiny-checkpoint.ipynb")
    put("Bob/deeper/my 01_tiny.ipynb")
    put("cleo_01_tiny.ipynb")
    put("Dan/shopping list.ipynb")
    put("Eve/01_tiny.ipynb", "other = 2")
    try:
        (tmp_path / "Fay").mkdir()
        (tmp_path / "Fay" / "01_tiny.ipynb").symlink_to(tmp_path / "Ann" / "01_tiny.ipynb")
    except OSError:
        pytest.skip("no symbolic links here (Windows)")
    found = grade.find_submissions(tmp_path, {"01_tiny": set(), "02_other": {"other = 2"}})
    assert {who: bool(fault) for (who, _), (_, fault) in found.items()} == {
        **{"Ann": False, "Bob": False, "cleo": False, "Eve": True, "Fay": True}
    }
    assert found["Ann", "01_tiny"] == (["the very name"], "")
    assert "holds another notebook, 02_other" in found["Eve", "01_tiny"][1]
    remarks = capsys.readouterr().out.splitlines()
    assert len(remarks) == 2 and any("Copy1" in remark for remark in remarks)


def test_a_huge_file_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "LARGEST", 10)
    (tmp_path / "01_tiny.ipynb").write_text(" " * 11)
    with pytest.raises(ValueError, match="larger"):
        grade.read_submission(tmp_path / "01_tiny.ipynb")


def test_an_answer_is_its_cells_and_what_they_need():
    cells = [
        "import math",
        "def helper(x):\n    return math.sin(x)",
        "slow = [0 for _ in range(10**9)]",
        "def f(x):\n    y = helper(x)\n    return y",
        "y = slow",
        "def f(x):\n    return -helper(x)",
    ]
    assert seal.select_cells(cells, ["f"]) == [cells[0], cells[1], cells[3], cells[5]]
    assert seal.select_cells(cells, ["g"]) == seal.select_cells([], ["g"]) == []
    assert seal.select_cells(["def g(x) return 1", "x = 1"], ["g"]) == ["def g(x) return 1"]
    assert seal.select_cells(["class g:\n    z = h", "h = 1", "z = 2"], ["g"]) == ["class g:\n    z = h", "h = 1"]
    assert seal.without_magics("%timeit x\nif True:\n    !ls\ny = 7 \\\n  % 3") != ""
    assert seal.without_magics("y = (7\n% 3)") == "y = (7\n% 3)"


# -------------------------------------------------------------------------------------------------------- the messages


class Wire:
    """Two ends of a line in one process: the student's functions answer as soon as they are asked."""

    def __init__(self, *functions, in_place=False):
        self.check = messages.Peer(self, (), in_place)
        self.student = messages.Peer(self, functions, in_place)
        self.sent = []

    def send_bytes(self, content):
        self.sent.append(content)

    def recv_bytes(self, most):
        content = self.sent.pop()
        if b"call" in content[:40]:
            reader = messages.Reader(io.BytesIO(content))
            reader.peer = self.student
            self.student.answer(*reader.load()[1:])
            content = self.sent.pop()
        return content


def call(function, *arguments, in_place=False):
    return Wire(function, in_place=in_place).check.call(0, arguments, {})


def test_a_message_brings_values_and_nothing_else():
    deep = {"a": [1, 2.5, None, ..., True, "é"], 3: (np.float32(2), np.arange(6).reshape(2, 3)), "c": {2, b"x"}}
    deep["a"].remove(...)
    came = call(lambda: deep)
    assert came["a"] == deep["a"] and came["c"] == deep["c"] and came["a"][3] is True
    assert type(came[3][0]) is np.float32 and np.array_equal(came[3][1], deep[3][1]) and came[3][1].dtype == int
    space = {"np": np}
    exec(LIAR, space)
    for value in (
        space["Liar"](3),
        np.ones(3).view(space["Same"]),
        {"a": 1}.keys(),
        range(3),
        iter([1]),
        5 > np.ones(1),
    ):
        kind = type(call(lambda value=value: value))
        assert kind in messages.AS_IT_IS | {np.ndarray}, kind
    for value in (object(), space["Pretends"](), np.array([object()]), ...):
        with pytest.raises(TypeError, match="array"):
            call(lambda value=value: value)


def test_a_forged_message_is_an_error():
    peer = messages.Peer(None)

    def read(content):
        reader = messages.Reader(io.BytesIO(content))
        reader.peer = peer
        return reader.load()

    with pytest.raises(pickle.UnpicklingError, match="has no place"):
        read(pickle.dumps(os.system))

    class Forger(pickle.Pickler):
        def persistent_id(self, value):
            return value[1:] if isinstance(value, tuple) and value[:1] == ("forged",) else None

    for spelled in (
        *(("array", "O", (1,), b"x" * 8, True, False), ("array", "i4,f8", (1,), b"x" * 12, True, False), ("what",), ()),
        *(
            ("array", "<f8", (9,), b"x" * 8, True, False),
            ("generator", {"bit_generator": "os"}),
            ("plain",),
        ),
    ):
        Forger(content := io.BytesIO()).dump(("forged", *spelled))
        with pytest.raises((pickle.UnpicklingError, ValueError, TypeError, IndexError, KeyError)):
            read(content.getvalue())
    for kind in ("StopIteration", "SystemExit", "open", "UnicodeDecodeError", "__import__"):
        assert type(messages.exception(kind, "x")) is RuntimeError
    assert type(messages.exception("ValueError", "x")) is ValueError


def test_changes_come_home_only_where_the_exercise_asks_for_them():
    def spoil(x, items, table):
        x[...] = 0
        items.append(7)
        table["new"] = table.pop("old") + 1
        return 1

    for in_place in (False, True):
        x, items, table = np.ones(3), [1, np.ones(2)], {"old": np.zeros(2)}
        assert call(spoil, x, items, table, in_place=in_place) == 1
        assert (x[0], len(items), [*table]) == ((0, 3, ["new"]) if in_place else (1, 2, ["old"]))
    wire = Wire(spoil, np.sum)
    wire.check.call(1, (np.ones(3),), {})
    assert not wire.check.changed
    wire.check.call(0, (np.ones(3), [], {"old": 1}), {})
    assert wire.check.changed  # noted, so that the answer can be tried as in the notebook


def test_a_generator_moves_on_along_its_own_sequence_only():
    ours, twin = np.random.default_rng(3), np.random.default_rng(3)
    assert np.array_equal(call(lambda rng: rng.random(5), ours), twin.random(5))
    assert ours.random() == twin.random()

    def stop(rng):
        state = rng.bit_generator.state
        rng.bit_generator.state = state | {"state": {"state": 0, "inc": 0}}  # nothing but zeros from here on

    call(stop, ours)
    assert ours.random() == twin.random()


def test_a_function_may_be_returned_called_and_compared_with_nothing():
    made = call(lambda: lambda x: x + 1)
    assert made.__name__ == "<lambda>"
    for misuse in (lambda: made == 1, lambda: made != 1, lambda: bool(made), lambda: np.array_equal(made, 1)):
        with pytest.raises(TypeError, match="not the function"):
            misuse()


# --------------------------------------------------------------------------------------------------------- the sandbox


@held
@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ("system_calls", ["a second process", "a signal", "a signal by way of a file", "the network", "a pair of"]),
        ("_open_only_readable_files", ["a file that it may not read"]),
    ],
)
def test_the_probe_finds_what_does_not_hold(tmp_path, part, gone):
    program = f"""
from tools.instructor import sandbox
class Nothing:
    load = staticmethod(lambda: None)
sandbox.{part} = lambda *_: Nothing
sandbox.probe()
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert all(words in done.stdout for words in gone), done.stdout + done.stderr


def test_elsewhere_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(sandbox.sys, "platform", "beos")
    assert "only Linux" in sandbox.missing.__wrapped__()
    monkeypatch.undo()

    def absent():
        raise RuntimeError("Unable to find libseccomp")

    if sys.platform == "linux":
        monkeypatch.setattr(sandbox, "system_calls", absent)
        assert "apt install libseccomp2" in sandbox.missing.__wrapped__()
