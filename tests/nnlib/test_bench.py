import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (2, (3,), (6, 8))  # channels, filters, size


def test_the_benchmark_can_be_imported_where_there_is_no_module_resource():
    """Windows has none. (With these arguments the benchmark does without PyTorch.)"""
    program = "import sys, psutil; sys.modules['resource'] = None; import benchmarks.bench"
    command = [sys.executable, "-c", program, "memory", "nnlib"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_contenders_begin_with_the_same_loss_and_take_turns():
    specs = bench.sides(SMALL, 40, pool_first=True)
    assert len(specs) == (3 if importlib.util.find_spec("torch") else 2)
    seconds = bench.contest(specs, rounds=2, burst=3)
    assert len(seconds) == len(specs) and min(seconds) > 0


def test_other_networks_are_no_contest():
    with pytest.raises(RuntimeError, match="these are not the same networks: their first losses are"):
        bench.contest(bench.sides(SMALL, 40)[:1] + bench.sides(SMALL, 41)[:1], rounds=1, burst=1)


def test_a_contender_that_ends_is_told():
    with pytest.raises(RuntimeError, match="a contender ended before its time"):
        bench.contest([{"side": "nnlib", "network": SMALL, "batch": 0}], rounds=1, burst=1)


@pytest.mark.parametrize("network", [SMALL, "rnn"])
@pytest.mark.parametrize("side", ["nnlib", "nnlib with workers", "PyTorch"])
def test_each_call_of_a_contender_is_one_step(network, side):
    """As many steps of Adam as calls, and a loss that falls: what is timed is training."""
    if side == "PyTorch":
        pytest.importorskip("torch")
    work, first = bench.contender(side, network, 32)
    assert len(bench.clock(work, 19)) == 19  # and one call before
    assert float(work()) < first


def test_a_busy_machine_gets_no_ratios(monkeypatch):
    monkeypatch.setattr(bench.psutil, "cpu_percent", lambda interval=None: 60.0)
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit, match=r"This machine is busy: 60 % of its cores.*make bench BUSY=1"):
        bench.main()
    monkeypatch.setattr(bench.psutil, "cpu_percent", lambda interval=None: 3.0)
    assert bench.neighbours() is None


def test_what_holds_a_processor_back_is_named(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert "OPENBLAS_CORETYPE" not in bench.machine()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert bench.machine().split("\n")[-1].startswith("Held back by the environment: OPENBLAS_CORETYPE=Haswell")
