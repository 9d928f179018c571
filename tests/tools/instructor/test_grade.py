"""Grading: a folder of hostile submissions, made here, none of which harms another, the grader, or gets a pass.

The course of these tests is tiny; tests/test_editions.py puts the real notebooks' exercises through the same machinery.
"""

import contextlib
import csv
import io
import json
import os
import pickle
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest

from tools.instructor import grade, sandbox, seal, student
from tools.shared import notebooks
from tools.shared.notebooks import ROOT

held = pytest.mark.skipif(sandbox.missing() is not None, reason=f"no submission can be shut in: {sandbox.missing()}")
forks = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")

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
builtins.AssertionError = builtins.isinstance = lambda *a: True
"""
LIAR = """\
class Liar(float):
    shape = (4, 5)
    dtype = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __array__(self, *a, **k): return self
    def __getattr__(self, name): return lambda *a, **k: True
"""
FORGERY = """\
import gc, json, os
for number in range(3, 64):
    try:
        os.write(number, json.dumps(["passed", ""]).encode())
    except OSError:
        pass
"""
DELETE = """\
import os, shutil, subprocess, sys
for path in (VICTIM, os.path.dirname(VICTIM), "verdicts.jsonl", "."):
    shutil.rmtree(path, ignore_errors=True)
    for harm in (os.unlink, lambda p: os.truncate(p, 0), lambda p: open(p, "w").close(), lambda p: os.chmod(p, 0),
                 lambda p: os.rename(p, p + "x"), lambda p: os.close(os.open(p, os.O_RDONLY | os.O_TRUNC))):
        try:
            harm(path)
        except OSError:
            pass
"""
KILLER = """\
import os, signal
for pid in (-1, 0, os.getppid(), *range(os.getpid() - 20, os.getpid() + 20)):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""
BOMB = """\
import os, threading
for _ in range(40):  # it would be an endless loop, did the first one not fail
    os.fork()
"""
NETWORK = "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)\n"
CHATTER = "import os, sys\nfor _ in range(1000):\n    os.write(1, b'x' * (1 << 20))\n"

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
        ["crashed: the answer ended Python itself"] * 3,
    ),
    "segfault": (
        ["import ctypes\ndef twice(x): ctypes.string_at(0)", RELU, TOTAL],
        ["crashed: the answer ended Python itself (SIGSEGV)", "passed", "passed"],
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
            f"{LIAR}def relu(x): return Liar(3)\nrelu_backward = relu",
            "class Odd:\n    def __call__(self, *a): return self\n    def __eq__(self, o): return True\ntotal = Odd()",
        ],
        ["failed: twice(4) is 8", "failed: forward: y has shape ()", "failed: the sum of the squares"],
    ),
    "forger": (
        [
            f"{FORGERY}def twice(x): return 0",
            f"{RELU}\n{FORGERY}",
            "def total(function, values): raise AssertionError('passed')",
        ],
        ["crashed", "crashed", "failed: passed"],
    ),
    "deleter": ([DELETE + TWICE, RELU, TOTAL], ["passed"] * 3),
    "killer": ([KILLER + TWICE, RELU, TOTAL], ["passed"] * 3),
    "bomb": (
        [BOMB + TWICE, RELU, f"import subprocess\nsubprocess.run(['true'])\n{TOTAL}"],
        ["failed: PermissionError", "passed", "failed: PermissionError"],
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


def command(course, folder, into):
    limits = ["--time", "1", "--memory", "256", "--jobs", "4"]
    return ["tools.instructor.grade", *map(str, (folder, "--notebooks", course, "--into", into)), *limits]


def run(*arguments):
    """Run the command; return what it says."""
    said, argv = io.StringIO(), sys.argv
    sys.argv = command(*arguments)
    try:
        with contextlib.redirect_stdout(said):
            assert grade.main() == 0
    finally:
        sys.argv = argv
    return said.getvalue()


def read(into):
    with (into / "grades.csv").open(encoding="utf-8", newline="") as table:
        return {row[0]: row[1:] for row in csv.reader(table)}


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """The class, graded once: (what was said, the rows of the table, the folder)."""
    home = tmp_path_factory.mktemp("class")
    victim = home / "submissions" / "a file of the instructor.txt"
    for name, (answers, _) in CLASS.items():
        if name == "deleter":
            answers = [f"VICTIM = {str(victim)!r}\n{answer}" for answer in answers]
        hand_in(home / "submissions" / name / "01_tiny.ipynb", course, answers)
    victim.write_text("precious")
    (home / "submissions" / "=SUM(A1)").mkdir()
    (home / "submissions" / "=SUM(A1)" / "01_tiny.ipynb").write_text('{"cells": [')
    (home / "submissions" / "deep").mkdir()
    (home / "submissions" / "deep" / "01_tiny.ipynb").write_text("[" * 100_000)
    (home / "submissions" / "odd").mkdir()
    (home / "submissions" / "odd" / "01_tiny.ipynb").write_text('{"cells": [1, null, {"source": [2]}], "metadata": 3}')
    said = run(course, home / "submissions", home / "grades")
    assert victim.read_text() == "precious"
    return said, read(home / "grades"), home


@held
@pytest.mark.parametrize("name", CLASS)
def test_each_gets_the_verdicts_of_their_own_answers(graded, name):
    _, rows, _ = graded
    found = rows[name][1:]
    for verdict, expected in zip(found, CLASS[name][1], strict=True):
        assert verdict.startswith(expected), found
    assert rows[name][0] == str(sum(verdict == "passed" for verdict in found))


@held
def test_what_is_no_notebook_is_missing_and_says_why(graded):
    _, rows, _ = graded
    assert all(verdict.startswith("missing: the file is no notebook: ") for verdict in rows["'=SUM(A1)"][1:])
    assert all(verdict.startswith("missing: the file is no notebook: ") for verdict in rows["deep"][1:])
    assert [verdict.split(":")[0] for verdict in rows["odd"][1:]] == ["missing"] * 3


@held
def test_the_page_shows_what_students_wrote_and_does_not_run_it(graded):
    said, rows, home = graded
    page = (home / "grades" / "grades.html").read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert len(rows) == 1 + len(CLASS) + 3 and "22 students, 3 exercises" in said
    assert page.count('class="timed-out"') == 3 and page.count('class="crashed"') == 6


@held
def test_an_interrupted_run_goes_on_where_it_stopped(course, tmp_path):
    for number in range(6):
        answers = [f"# {number}\n{TWICE}", RELU, f"while {number}: pass\n{TOTAL}"]
        hand_in(tmp_path / "in" / f"s{number}" / "01_tiny.ipynb", course, answers)
    out, journal = tmp_path / "out", tmp_path / "out" / "verdicts.jsonl"
    start = [sys.executable, "-m", *command(course, tmp_path / "in", out)]
    first = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    first.kill()  # not even a chance to tidy up
    first.communicate()
    kept = journal.read_text("utf-8").splitlines()[:4]
    journal.write_text("\n".join([*kept, '{"key": "cut sh']), "utf-8")
    assert "of 14 answers" in run(course, tmp_path / "in", out)  # 18 in all
    lines = journal.read_text("utf-8").splitlines()
    assert lines[:4] == kept and len(lines) == 4 + 1 + 14
    rows = read(out)
    assert rows["s0"] == ["3", "passed", "passed", "passed"]
    assert all(rows[f"s{number}"] == ["2", "passed", "passed", rows["s1"][3]] for number in range(1, 6))
    assert rows["s1"][3].startswith("timed out")
    assert "answers" not in run(course, tmp_path / "in", out) and read(out) == rows  # nothing is left to do


@held
def test_a_course_whose_own_solution_fails_grades_nobody(tmp_path, course):
    (tmp_path / "01_tiny.py").write_text(COURSE.replace("return base * x", "return base"), "utf-8")
    hand_in(tmp_path / "in" / "jane" / "01_tiny.ipynb", course, GOOD)
    with pytest.raises(SystemExit) as end:
        run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "grades.csv").exists()
    assert 'under "1 · Twice", raised an error' in str(end.value) and "twice(4) is 8, not <2>" in str(end.value)


# ------------------------------------------------------------------------------------------------- finding submissions


def test_students_and_notebooks_are_told_by_folder_name_or_metadata(course, tmp_path):
    def put(path, note=None):
        metadata = {"nnlib": {"notebook": note}} if note else {}
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps({"cells": [], "metadata": metadata}))

    put("Ann/01_tiny.ipynb")
    put("Ann/01_tiny-Copy1.ipynb")
    put("Ann/.ipynb_checkpoints/01_tiny-checkpoint.ipynb")
    put("Bob/deeper/my work.ipynb", "01_tiny")
    put("cleo_01_tiny.ipynb")
    put("Dan/shopping list.ipynb")
    put("Eve/01_tiny.ipynb", ["not", "a", "name"])
    try:
        (tmp_path / "Fay").mkdir()
        (tmp_path / "Fay" / "01_tiny.ipynb").symlink_to(tmp_path / "Ann" / "01_tiny.ipynb")
    except OSError:
        pytest.skip("no symbolic links here (Windows)")
    found, remarks = grade.find_submissions(tmp_path, {"01_tiny": set()})
    assert sorted((one.student, bool(one.fault)) for one in found) == [
        *[("Ann", False), ("Bob", False), ("Eve", False), ("Fay", True), ("cleo", False)]
    ]
    assert [one.path.name for one in found if one.student == "Ann"] == ["01_tiny.ipynb"]
    assert len(remarks) == 2 and any("Copy1" in remark for remark in remarks)


def test_a_huge_file_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "LARGEST", 10)
    (tmp_path / "01_tiny.ipynb").write_text(" " * 11)
    assert "larger" in grade.read_submission(tmp_path / "01_tiny.ipynb")[1]


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
    assert seal.select_cells(cells, ["g"]) is None
    assert seal.select_cells(["def g(x) return 1", "x = 1"], ["g"]) == ["def g(x) return 1"]
    assert seal.select_cells(["class g:\n    z = h", "h = 1", "z = 2"], ["g"]) == ["class g:\n    z = h", "h = 1"]
    assert seal.without_magics("%timeit x\nif True:\n    !ls\ny = 7 \\\n  % 3") != ""
    assert seal.without_magics("y = (7\n% 3)") == "y = (7\n% 3)"


# ------------------------------------------------------------------------------------------------------------ the seal


def test_a_message_brings_values_and_nothing_else():
    sender, receiver = seal.Peer(None, names={}), seal.Peer(None)
    deep = {"a": [1, 2.5, None, ..., True, "é"], 3: (np.float32(2), np.arange(6).reshape(2, 3)), "c": {1 + 2j, b"x"}}
    came = receiver.unpack(seal.Plain(io.BytesIO(pickle.dumps(sender.pack(deep)))).load())
    assert came["a"] == deep["a"] and came["c"] == deep["c"] and came["a"][4] is True
    assert type(came[3][0]) is np.float32 and np.array_equal(came[3][1], deep[3][1]) and came[3][1].dtype == int
    with pytest.raises(pickle.UnpicklingError, match="has no place"):
        seal.Plain(io.BytesIO(pickle.dumps(os.system))).load()
    for tree in (("pickle", pickle.dumps(print)), ("array", "O", (1,), b"x" * 8, True), ("what",)):
        with pytest.raises((ValueError, TypeError)):
            receiver.unpack(tree)
    with pytest.raises(TypeError, match="a plain value or an array is expected, not object"):
        receiver.unpack(sender.pack(object()))


def test_a_generator_comes_along_with_its_state_and_brings_it_home():
    at_check, at_student = seal.Peer(None), seal.Peer(None, names={})
    ours, twin = np.random.default_rng(3), np.random.default_rng(3)
    message = at_check.pack([ours])
    (theirs,) = at_student.unpack(seal.Plain(io.BytesIO(pickle.dumps(message))).load())
    assert np.array_equal(theirs.random(5), twin.random(5))
    seal._update([ours], at_check.unpack(at_student.pack([theirs])))
    assert ours.random() == twin.random()
    for state in ({"bit_generator": "PCG64"}, {"bit_generator": "os", "state": 1}, 7):
        with pytest.raises((ValueError, TypeError, KeyError)):
            at_check.unpack(("generator", at_student.pack(state)))


def test_the_check_answers_calls_of_what_it_handed_over_and_no_other_question():
    def handed_over():
        return 7

    check = seal.Peer(None)
    assert check.pack(handed_over)[0] == "mine"
    replies = []
    check._send = replies.append
    check._answer(("call", 0, check.pack(((), {}))))
    assert replies.pop() == ("changed", ("value", 7), ("none",))
    for question in (("attribute", 0, "__globals__"), ("open", "x"), ("start",), ("call", 5, check.pack(((), {}))), ()):
        check._answer(question)
        assert replies.pop()[0] == "error"


@held
@forks
def test_a_class_can_be_asked_for(course):
    text = """
# %%
import numpy as np

# %% [markdown]
# ### 1 · A layer

# %% tags=["exercise"]
class Scale:
    def forward(self, x):
        raise NotImplementedError("not written yet")


# %% tags=["check"]
layer = Scale(3)
assert np.array_equal(layer.forward(np.ones(2)), [3, 3]) and layer.params["k"] == 3
"""
    (course / "02_class.py").write_text(text, "utf-8")
    notebook = notebooks.read_source(course / "02_class.py")
    (course / "02_class.py").unlink()
    (exercise,) = student.exercises(notebook)
    answer = "class Scale:\n    def __init__(self, k): self.params = {'k': k}\n    def forward(self, x): return 3 * x"
    space = {"np": np}
    assert seal.attempt(dict(space), exercise, [answer], 5, 1 << 28)["verdict"] == "passed"
    wrong = answer.replace("3 * x", "2 * x")
    assert seal.attempt(dict(space), exercise, [wrong], 5, 1 << 28)["verdict"] == "failed"


# --------------------------------------------------------------------------------------------------------- the sandbox


@held
@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ("_forbid_calls", ["a second process", "a program", "a signal", "the network"]),
        ("_forbid_files", ["a new file", "a file that it may not read"]),
    ],
)
@forks
def test_the_probe_finds_what_does_not_hold(monkeypatch, tmp_path, part, gone):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, part, lambda *_: None)
    found = sandbox.probe()
    assert all(words in found for words in gone if words != "a program"), found


def test_elsewhere_the_probe_says_where_it_works(monkeypatch):
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "toaster")
    assert "Linux on x86-64 or arm64" in sandbox.missing.__wrapped__()
