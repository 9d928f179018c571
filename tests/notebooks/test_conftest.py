"""The net is tight: one digit, one claim, one cell of a pair, and `pytest --nbval` fails at that place, in words."""

import html
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from tests.tools.small_course import LOOSE, STEADY, WAITS, edit, environment, pinnable, plain_pytest, tool, write
from tools.shared import notebooks, pinned

TWINS = """
# %% tags=["torch"]
try:
    import torch
except ImportError:
    torch = None
print("PyTorch is here" if torch else "PyTorch is not installed")

# %%
print("always")

# %% tags=["torch"]
from nnlib.claims import claim

if torch:
    print("twice two is", 2 * 2)
    claim("PyTorch has a name", torch.__name__, equals="torch")
"""
FIGURE = """
# %%
import numpy as np

from nnlib import interactive

interactive.player(np.eye(4)[:2, None], ["before", "after"], alt="A white pixel that moves to the right.")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def built(tmp_path_factory, home):
    """A folder whose notebooks/ holds two notebooks, built."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "notebooks").mkdir()
    write(folder / "notebooks", "01_steady", STEADY)
    write(folder / "notebooks", "02_loose", LOOSE)
    if pinned.obstacle():  # then nothing is built, and what make run leaves has to do
        result = tool(
            "instructor.run", "--notebooks", folder / "notebooks", "--results", folder / "notebooks", home=home
        )
    else:
        result = tool("author.build", "--notebooks", folder / "notebooks", home=home)
    assert result.returncode == 0, result.stdout
    return folder


def text_of(cell, old, new):
    assert old in cell.source
    cell.source = cell.source.replace(old, new)


def digit(_, cells):
    cells[0].outputs[0].text = cells[0].outputs[0].text.replace("0.5000", "0.5001")


def bound(_, cells):
    text_of(cells[1], "at_least=0.4", "at_least=0.6")


def never_run(_, cells):
    cells[4].execution_count, cells[4].outputs = None, []


def silent_error(_, cells):
    cells[5].source = "double(1)"


def lost_claim(_, cells):
    cells[1].metadata["tags"] = ["nbval-ignore-output"]
    text_of(cells[1], "claim(", "str(")
    text_of(cells[1], ", value, at_least=0.4", "")


def warning(_, cells):
    text_of(cells[4], "double(value)", "import warnings\nwarnings.warn('old', stacklevel=1)\ndouble(value)")


def killed(_, cells):
    text_of(cells[3], "def double", "import os\nos.kill(os.getpid(), 9)\ndef double")


def bar(_, cells):
    cells[3].source += "\nimport tqdm\nfor _ in tqdm.tqdm(range(3)):\n    pass"


DAMAGES = {
    f"{number:02}_{change.__name__}": change
    for number, change in enumerate((digit, bound, never_run, silent_error, lost_claim, warning, killed), 3)
}


@pytest.fixture(scope="module")
def damaged(built, tmp_path_factory):
    """A copy of that folder, with notebooks in which one thing each has been changed after the build."""
    folder = tmp_path_factory.mktemp("damaged") / "course"
    shutil.copytree(built, folder)
    inside = folder / "notebooks"
    for name, change in (DAMAGES | {"12_bar": bar}).items():
        shutil.copy(inside / "01_steady.ipynb", inside / f"{name}.ipynb")
        edit(inside / f"{name}.ipynb", change)
    source = shutil.copy(inside / "01_steady.py", inside / "13_pair.py")
    shutil.copy(inside / "01_steady.ipynb", inside / "13_pair.ipynb")
    source.write_text(source.read_text("utf-8").replace("# ## What it means", "# ## What it meant"), "utf-8")
    return folder


def row(said, name):
    """The table's row of one notebook: tier, (seconds), compared, claims held, executed only, result."""
    return next(
        line.split() for line in said.splitlines() if re.match(rf"{name} .*(passed|FAILED|not finished)$", line)
    )[1:]


def told(said, name):
    """What is said about the first failure of a notebook."""
    return re.search(rf"^{name}, cell .*?(?=\n___|\n---|\n===)", said, re.MULTILINE | re.DOTALL).group()


@pytest.fixture(scope="module")
def a_run(damaged, home):
    return plain_pytest(damaged, "--nbval", "notebooks/", home=home)


@pinnable
def test_the_plain_command_finds_every_damage_and_nothing_else(a_run, damaged):
    said = a_run.stdout
    assert a_run.returncode == 1
    assert "notebooks: compared with the digits of NumPy" in said
    assert row(said, "01_steady")[2:] == ["6", "1", "0", "passed"]
    assert row(said, "02_loose")[2:] == ["0", "1", "1", "passed"]  # another process number: executed only
    assert row(said, "12_bar")[-1] == "passed"  # a progress bar is silent in these kernels

    assert told(said, "03_digit").startswith(
        '03_digit, cell [1], under "A tiny course", gives another output than the stored one'
    )
    assert "stored: value 0.5001" in told(said, "03_digit") and "now:    value 0.5000" in told(said, "03_digit")
    assert "make build NOTEBOOK=03_digit" in told(said, "03_digit")
    assert row(said, "03_digit")[2:] == ["5", "1", "0", "1", "FAILED"]  # the cells after it are run

    assert told(said, "04_bound").startswith('04_bound, cell [2], under "What it means", raised an error')
    assert "Measured: 0.5; expected: at least 0.6" in told(said, "04_bound")
    assert row(said, "04_bound")[2:] == ["1", "0", "0", "1", "FAILED"]  # the cells after it are not

    for name, number, words in (
        ("05_never_run", 5, "has never been run"),
        ("06_silent_error", 6, "raised nothing"),
        ("07_lost_claim", 2, "now:    none"),
        ("08_warning", 5, "wrote to stderr (a warning?)"),
        ("09_killed", 4, "ended Python itself"),
    ):
        assert told(said, name).startswith(f'{name}, cell [{number}], under "What it means"'), name
        assert words in told(said, name), name
        assert row(said, name)[-2:] == ["1", "FAILED"], name

    assert row(said, "13_pair")[-2:] == ["1", "FAILED"]
    assert "-# ## What it means" in said or "-## What it means" in said
    assert "The two halves of 13_pair are not the same notebook" in said
    assert re.search(r"^=+ 8 failed, \d+ passed, \d+ skipped in .* =+$", said.rstrip().splitlines()[-1])


@pinnable
def test_the_page_of_a_run_tells_the_same(a_run, damaged):
    page = html.unescape((damaged / "reports" / "run.html").read_text("utf-8"))
    assert re.search(r"03_digit +compared", page) and "stored: value 0.5001" in page
    assert "01_steady: 1 claims held; data: none" in page and "the value is at least 0.4" in page
    assert "Processor" in page and "Haswell kernels, threads: 1" in page and "numpy=" in page
    assert not re.search(r"""src=["']https?:|<link """, page)  # one file, to be sent


@pinnable
def test_two_at_a_time_tell_the_same(damaged, home):
    chosen = [f"notebooks/{name}.ipynb" for name in ("03_digit", "09_killed")]
    said = plain_pytest(damaged, "--nbval", "-n", "2", "--dist", "loadfile", *chosen, home=home).stdout
    assert row(said, "03_digit")[2:] == ["5", "1", "0", "1", "FAILED"]
    assert "stored: value 0.5001" in told(said, "03_digit") and "ended Python itself" in told(said, "09_killed")


def test_the_claims_tier_ignores_digits_but_not_a_false_claim(damaged, home):
    chosen = [f"notebooks/{name}.ipynb" for name in ("03_digit", "04_bound", "06_silent_error")]
    result = plain_pytest(damaged, "--nbval-lax", *chosen, home=home, NNLIB_SEED="1")
    said = result.stdout
    assert result.returncode == 1
    assert "notebooks: claims only, no digits compared: this run is for the claims, in other arithmetic" in said
    assert "Claims only, no digits compared, for 03_digit, 04_bound, 06_silent_error: " in said
    assert row(said, "03_digit")[0] == "claims" and row(said, "03_digit")[2:] == ["0", "1", "6", "passed"]
    assert row(said, "04_bound")[-1] == "FAILED" and "raised nothing" in told(said, "06_silent_error")
    assert "No failures, but not the stored outputs: 1 cells of 03_digit" in said
    assert "stored: value 0.5001" in html.unescape((damaged / "reports" / "run.html").read_text("utf-8"))


def test_one_cell_alone_is_left_out_and_says_why(built, home):
    result = plain_pytest(built, "--nbval", "notebooks/01_steady.ipynb::In [2]", "-rs", home=home)
    assert "it needs the cells before it: run the whole notebook" in result.stdout and "1 skipped" in result.stdout
    first = plain_pytest(built, "--nbval", "notebooks/01_steady.ipynb::In [1]", home=home).stdout
    assert row(first, "01_steady")[-2:] == ["not", "finished"]


def test_a_data_set_that_cannot_be_loaded_is_told_once(tmp_path, home):
    (tmp_path / "notebooks").mkdir()
    body = '\n# %%\nfrom nnlib.datasets import load_dataset\n\nload_dataset("mnist")\n\n# %%\nprint("more")\n'
    source = write(tmp_path / "notebooks", "01_data", body)
    notebooks.write(notebooks.read_source(source), source.with_suffix(".ipynb"))
    said = plain_pytest(tmp_path, "--nbval", "-rs", "notebooks", home=home, NNLIB_DATA="smaple").stdout
    assert "The data set mnist can't be used. NNLIB_DATA=smaple is not known" in told(said, "01_data")
    assert "1 failed" in said or "1 error" in said
    assert "an earlier cell of this notebook could not be run" in said and "AttributeError" not in said


def test_a_cell_that_takes_too_long_and_a_damaged_notebook_say_so(tmp_path, home):
    (tmp_path / "notebooks").mkdir()
    source = write(
        tmp_path / "notebooks", "01_waits", WAITS.replace("# %%\nimport", '# %% tags=["raises-exception"]\nimport')
    )
    stored = notebooks.read_source(source)
    for cell in stored.cells:
        cell.update(execution_count=1) if cell.cell_type == "code" else None
    notebooks.write(stored, source.with_suffix(".ipynb"))
    slow = plain_pytest(tmp_path, "--nbval", "--nbval-cell-timeout=1", "notebooks", home=home).stdout
    assert "was stopped after 1 seconds" in told(slow, "01_waits")
    (tmp_path / "notebooks" / "02_damaged.ipynb").write_text("{}")
    damaged = plain_pytest(tmp_path, "--nbval", "notebooks", home=home).stdout
    assert "02_damaged.ipynb can't be read as a notebook" in damaged


def test_the_kernels_import_this_checkout_and_stay_together(tmp_path, home):
    (tmp_path / "notebooks").mkdir()
    source = write(tmp_path / "notebooks", "01_where", "\n# %%\nimport nnlib\n\n# %%\nprint(nnlib.__file__)\n")
    stored = notebooks.read_source(source)
    for cell in stored.cells:
        cell.execution_count = 1
    here = notebooks.ROOT / "nnlib" / "__init__.py"
    stored.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{here}\n")]
    notebooks.write(stored, source.with_suffix(".ipynb"))
    decoy = tmp_path / "another checkout" / "nnlib"  # as an environment that another clone was installed into
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").touch()
    settings = {"home": home, "PYTHONPATH": str(decoy.parent)}
    said = plain_pytest(tmp_path, "--nbval", "-n", "2", "notebooks", **settings).stdout  # no --dist loadfile
    ran = row(said, "01_where")  # on a machine that can't be pinned the two cells are executed only
    assert (ran[2:5] if ran[0] == "compared" else ran[4:1:-1]) == ["2", "0", "0"] and ran[-1] == "passed", said
    assert str(decoy) not in said


def test_another_seed_or_other_data_leaves_the_claims(built, home, tmp_path):
    said = plain_pytest(built, "--nbval", "notebooks/01_steady.ipynb", home=home, NNLIB_SEED="1").stdout
    assert row(said, "01_steady")[0] == "claims"
    (tmp_path / "notebooks").mkdir()
    source = write(
        tmp_path / "notebooks", "01_data", '\n# %%\nfrom nnlib.datasets import load_dataset\n\nload_dataset("mnist")\n'
    )
    stored = notebooks.read_source(source)
    stored.cells[0].execution_count = 1
    stored.metadata["nnlib"] = {"datasets": {"mnist": {"fingerprint": "another"}}}
    notebooks.write(stored, source.with_suffix(".ipynb"))
    result = plain_pytest(tmp_path, "--nbval", "notebooks", home=home, NNLIB_DATA="sample")
    assert result.returncode == 0, result.stdout
    assert "for 01_data: the data here is not that of the stored outputs (here: MNIST, sample)." in result.stdout
    assert row(result.stdout, "01_data")[0] == "claims"


@pinnable
def test_without_pytorch_its_cells_are_left_out_and_no_others(tmp_path, home):
    inside, there, hidden = (tmp_path / name for name in ("notebooks", "there", "hidden"))
    for folder in (inside, there, hidden):
        folder.mkdir()
    write(inside, "01_twins", TWINS)
    (there / "torch.py").touch()
    (hidden / "sitecustomize.py").write_text('import sys\n\nsys.modules["torch"] = None\n')  # import torch: ImportError
    there, hidden = {"PYTHONPATH": str(there)}, {"PYTHONPATH": str(hidden)}
    left_out = "PyTorch is not installed: 2 cells of 01_twins are left out (make setup-torch)."

    refused = tool("author.build", "--notebooks", inside, home=home, **hidden)
    assert refused.returncode == 1 and f"Nothing was built: {left_out}" in refused.stdout.splitlines()
    assert tool("author.build", "--notebooks", inside, home=home, **there).returncode == 0

    def digit(_, cells):
        cells[2].outputs[0].text = cells[2].outputs[0].text.replace("4", "5")

    def no_tag(_, cells):
        cells[2].metadata["tags"] = []

    def no_tag_and_a_clock(_, cells):
        cells[2].metadata["tags"] = ["nbval-ignore-output"]

    def no_guard(_, cells):
        text_of(cells[2], "if torch:", "if True:")

    for number, change in enumerate((digit, no_tag, no_tag_and_a_clock, no_guard), 2):
        shutil.copy(inside / "01_twins.ipynb", inside / f"0{number}_{change.__name__}.ipynb")
        edit(inside / f"0{number}_{change.__name__}.ipynb", change)

    both = [f"notebooks/{name}.ipynb" for name in ("01_twins", "02_digit")]
    both = plain_pytest(tmp_path, "--nbval", *both, home=home, **there).stdout
    assert "PyTorch is not installed" not in both and row(both, "01_twins")[2:] == ["3", "1", "0", "passed"]
    assert "stored: twice two is 5" in told(both, "02_digit")
    alone = plain_pytest(tmp_path, "--nbval", "notebooks", home=home, **hidden).stdout
    assert left_out in alone.splitlines() and row(alone, "01_twins")[2:] == ["1", "0", "0", "passed"]
    assert row(alone, "02_digit")[-1] == "passed"  # in a cell that is left out nothing is compared
    assert "stored: twice two is 4" in told(alone, "03_no_tag")
    assert "stored: PyTorch has a name" in told(alone, "04_no_tag_and_a_clock")
    assert "has no attribute '__name__'" in told(alone, "05_no_guard")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_the_kernels_and_leaves_the_page(tmp_path, home):
    (tmp_path / "notebooks").mkdir()
    source = write(tmp_path / "notebooks", "01_waits", WAITS)
    stored = notebooks.read_source(source)
    for cell in stored.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
    notebooks.write(stored, source.with_suffix(".ipynb"))
    plain_pytest(tmp_path, "--collect-only", "notebooks", home=home)  # puts conftest.py there
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and their children
    command = [sys.executable, "-m", "pytest", "--nbval", "notebooks"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(home), stdout=subprocess.PIPE, text=True) as running:
        kernels = []
        deadline = time.monotonic() + 60
        while not kernels and time.monotonic() < deadline:
            time.sleep(0.5)
            family = psutil.Process(running.pid).children(recursive=True)
            kernels = [process for process in family if "ipykernel_launcher" in " ".join(process.cmdline())]
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        said = running.stdout.read()
    assert running.returncode == pytest.ExitCode.INTERRUPTED, said
    _, alive = psutil.wait_procs(kernels, timeout=10)
    assert kernels and not alive
    assert (tmp_path / "reports" / "run.html").exists()


def test_the_stored_notebooks_hold_the_course_data():
    """Each says from which data it was computed: without that nothing would ever be compared."""
    for path in sorted((notebooks.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        assert set(notebook.metadata["nnlib"]["datasets"]) == set(notebooks.datasets_used(notebook)), path.name


@pinnable
def test_the_data_of_an_interactive_figure_are_compared_and_not_its_program(tmp_path, home):
    inside = tmp_path / "notebooks"
    inside.mkdir()
    write(inside, "01_figure", FIGURE)
    assert tool("author.build", "--notebooks", inside, home=home).returncode == 0

    def program(_, cells):
        shown = cells[0].outputs[0].data
        shown["text/html"] = shown["text/html"].replace("Stop", "Halt")

    def data(_, cells):
        shown = cells[0].outputs[0].data
        shown["text/html"] = shown["text/html"].replace("before", "behind")

    for number, change in enumerate((program, data), 2):
        shutil.copy(inside / "01_figure.ipynb", inside / f"0{number}_{change.__name__}.ipynb")
        edit(inside / f"0{number}_{change.__name__}.ipynb", change)
        assert (inside / f"0{number}_{change.__name__}.ipynb").read_bytes() != (inside / "01_figure.ipynb").read_bytes()
    said = plain_pytest(tmp_path, "--nbval", "notebooks", home=home).stdout
    assert row(said, "01_figure")[2:] == row(said, "02_program")[2:] == ["1", "0", "0", "passed"]
    assert row(said, "03_data")[-1] == "FAILED" and re.search('stored: +"behind"', told(said, "03_data")), said
