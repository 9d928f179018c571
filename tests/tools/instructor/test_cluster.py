"""Grading on a Dask cluster: the same table as on one machine, even when a worker dies in the middle."""

import os
import signal
import sys
import threading
import time

import pytest

from tests.tools.instructor import test_grade as single
from tools.instructor import grade, sandbox

distributed = pytest.importorskip("distributed", reason="Dask is not here: make setup-grade")
pytestmark = [
    pytest.mark.skipif(sandbox.missing() is not None, reason=f"no submission can be shut in: {sandbox.missing()}"),
    pytest.mark.filterwarnings("default"),  # Dask's own
]
course = single.course


def test_a_worker_that_dies_costs_nobody_a_verdict(course, tmp_path, monkeypatch):
    for number in range(8):
        answers = [
            f"# {number}\n{single.TWICE}",
            single.RELU,
            f"import time\ntime.sleep(0.2 * {number})\n{single.TOTAL}",
        ]
        single.hand_in(tmp_path / "in" / f"s{number}" / "01_tiny.ipynb", course, answers)
    single.hand_in(tmp_path / "in" / "exit" / "01_tiny.ipynb", course, single.CLASS["exit"][0])
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        victim = next(iter(client.run(os.getpid).values()))
        journal = tmp_path / "out" / "verdicts.jsonl"

        def kill():
            while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
                time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        arguments = single.command(course, tmp_path / "in", tmp_path / "out")
        monkeypatch.setattr(sys, "argv", [*arguments, "--time", "5", "--scheduler", cluster.scheduler_address])
        assert grade.main() == 0
        killer.join()
        assert victim not in client.run(os.getpid).values()
    rows = single.read(tmp_path / "out")
    assert rows.pop("exit")[0] == "0" and rows.pop("student")
    assert len(rows) == 8 and all(row == ["3", "passed", "passed", "passed"] for row in rows.values())
