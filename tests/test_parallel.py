"""Several notebooks at a time: all of them end, one bad one harms no other, an interruption leaves nothing behind."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from tools import parallel


def double(number, tell):
    tell(number, "half way")
    print("chatter that nobody needs")
    time.sleep(0.2)
    return 2 * number


def misbehave(how, tell):
    print("last words")
    if how == "raise":
        raise RuntimeError("a fault of the tool")
    if how == "exit":
        sys.stdout.flush()
        os._exit(7)
    return how


def start_a_child(tell):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    tell(os.getpid(), child.pid)
    child.wait()


def test_each_ends_once_in_the_order_given_and_no_more_than_allowed_run_at_a_time():
    names = [f"n{number}" for number in range(5)]
    running, most, ended, told = set(), 0, {}, []
    for name, kind, what in parallel.each(double, {name: (int(name[1:]),) for name in names}, 2):
        if kind == "began":
            running.add(name)
        elif kind == "at":
            told.append((name, *what))
        else:
            assert kind == "ended"
            running.remove(name)
            ended[name] = what
        most = max(most, len(running))
    assert most == 2 and not running
    assert ended == {"n0": 0, "n1": 2, "n2": 4, "n3": 6, "n4": 8}
    assert sorted(told) == [(name, number, "half way") for number, name in enumerate(names)]


def test_one_that_dies_says_its_last_words_and_harms_no_other():
    tasks = {"fine": ("fine",), "raises": ("raise",), "exits": ("exit",), "also": ("also",)}
    got = {name: (kind, what) for name, kind, what in parallel.each(misbehave, tasks, 3) if kind != "began"}
    assert got["fine"] == ("ended", "fine") and got["also"] == ("ended", "also")
    for name, words in (("raises", "RuntimeError: a fault of the tool"), ("exits", "exit code 7")):
        kind, what = got[name]
        assert kind == "died" and what.startswith("last words") and words in what


def test_what_still_runs_is_killed_with_all_that_it_started():
    events = parallel.each(start_a_child, {"a": (), "b": (), "never begun": ()}, 2)
    pids = []
    for _, kind, what in events:
        if kind == "at":
            pids += what
        if len(pids) == 4:
            break
    assert all(psutil.pid_exists(pid) for pid in pids)
    events.close()  # what an interruption does too
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_how_many_run_at_a_time(monkeypatch):
    monkeypatch.delenv("NNLIB_JOBS", raising=False)
    assert parallel.jobs() in (1, 2)
    monkeypatch.setenv("NNLIB_JOBS", "5")
    assert parallel.jobs() == 5
    for nonsense in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv("NNLIB_JOBS", nonsense)
        with pytest.raises(SystemExit, match="how many notebooks"):
            parallel.jobs()
