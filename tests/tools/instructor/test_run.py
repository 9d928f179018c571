"""`make run` executes every notebook from its source, tells which failed and what moved, and leaves the pairs alone."""

import re
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from tests.tools.small_course import LOOSE, STEADY, WAITS, edit, environment, pinnable, tool, write
from tools.shared import notebooks


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def row(said, name):
    return next(line.split() for line in said.splitlines() if re.match(rf"{name} +\d.*(passed|FAILED)$", line))


def test_it_goes_on_after_a_failure_and_leaves_the_pair_alone(tmp_path, home):
    write(tmp_path, "01_fails", '\n# %% [markdown]\n# ## Deep inside\n\n# %%\nprint("here")\n1 / 0\n')
    write(tmp_path, "02_warns", '\n# %%\nimport warnings\n\nwarnings.warn("old", stacklevel=1)\n')
    write(tmp_path, "03_loose", LOOSE)
    result = tool("instructor.run", "--notebooks", tmp_path, "--results", tmp_path / "results", home=home)
    said = result.stdout
    assert result.returncode == 1
    assert '01_fails, cell [1], under "Deep inside", raised an error' in said
    assert "| 1 / 0" in said and "ZeroDivisionError: division by zero" in said
    assert re.search(r"02_warns, cell \[1\], .* wrote to stderr", said)
    assert row(said, "03_loose")[2:] == ["1", "1", "passed"] and row(said, "01_fails")[-1] == "FAILED"
    assert not list(tmp_path.glob("*.ipynb")) and len(list((tmp_path / "results").glob("*.ipynb"))) == 3
    known = nbformat.read(tmp_path / "results" / "03_loose.ipynb", as_version=4).metadata["nnlib"]  # for its report
    assert known["datasets"] == {} and re.match(r"NumPy \d+\.\S+ in the pinned|NumPy .*, not in", known["environment"])


@pinnable
def test_it_tells_where_an_output_is_not_the_stored_one(tmp_path, home):
    write(tmp_path, "01_steady", STEADY)
    assert tool("author.build", "--notebooks", tmp_path, home=home).returncode == 0
    same = tool("instructor.run", "--notebooks", tmp_path, "--results", tmp_path / "results", home=home)
    assert "not the stored" not in same.stdout and same.returncode == 0

    def digit(_, cells):
        cells[0].outputs[0].text = cells[0].outputs[0].text.replace("0.5000", "0.5001")

    edit(tmp_path / "01_steady.ipynb", digit)
    moved = tool("instructor.run", "--notebooks", tmp_path, "--results", tmp_path / "results", home=home)
    assert moved.returncode == 0 and "01_steady: outputs that are not the stored ones:" in moved.stdout
    assert "stored: value 0.5001" in moved.stdout and "now:    value 0.5000" in moved.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_all_its_kernels(how, tmp_path, home):
    for name in ("01_slow", "02_slow", "03_never"):
        write(tmp_path, name, WAITS)
    command = [sys.executable, "-m", "tools.instructor.run", "--notebooks", tmp_path, "--results", tmp_path / "results"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and their children
    with subprocess.Popen(
        command, cwd=notebooks.ROOT, env=environment(home), stdout=subprocess.PIPE, encoding="utf-8"
    ) as running:
        kernels, deadline = [], time.monotonic() + 60
        while len(kernels) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            family = psutil.Process(running.pid).children(recursive=True)
            kernels = [process for process in family if "ipykernel_launcher" in " ".join(process.cmdline())]
        time.sleep(2)
        running.send_signal(how)
        said = running.stdout.read()
    assert running.returncode == 130 and "Interrupted: what was still running has been ended." in said
    _, alive = psutil.wait_procs(kernels, timeout=10)
    assert len(kernels) == 2 and not alive


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_how_many_at_a_time_must_be_a_number(jobs, home):
    result = tool("instructor.run", f"--jobs={jobs}", home=home)
    assert result.returncode != 0 and "--jobs" in result.stdout
