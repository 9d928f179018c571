"""The net is tight: one digit, one claim, one cell of a pair, and the tools fail at that place, in words."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest

from tools import verify
from tools.author import build
from tools.shared import notebooks, pairs, pinned

HEADER = (
    "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: Python 3 (ipykernel)\n#     language: python\n"
    "#     name: python3\n# ---\n\n"
)
STEADY = """
# %% [markdown]
# # A tiny course
#
# ```
# # no heading: a comment in an example
# ```

# %%
value = 0.5
print(f"value {value:.4f}")
print("user settings seen:", "intruder" in globals())

# %% [markdown]
# ## What it means

# %%
from nnlib.claims import claim

claim("the value is at least 0.4", value, at_least=0.4)

# %% tags=["exercise"]
def double(x):
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def double(x):
    return 2 * x


# %% tags=["check"]
double(value)

# %% tags=["raises-exception"]
double(None)
"""
LOOSE = """
# %% [markdown]
# # Clocks

# %% tags=["nbval-ignore-output"]
import os

from nnlib.claims import claim

print("process", os.getpid())
claim("this process has a number", os.getpid(), at_least=0)
"""
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

pinnable = pytest.mark.skipif(pinned.obstacle() is not None, reason=f"no digits compared here: {pinned.obstacle()}")


def write(folder, name, body):
    path = folder / f"{name}.py"
    path.write_text(HEADER + body.lstrip("\n"), encoding="utf-8", newline="\n")
    return path


def edit(path, change):
    """Load a stored notebook, let `change` alter it, write it back."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook, [cell for cell, _ in notebooks.code_cells(notebook)])
    notebooks.write(notebook, path)


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """Run `python -m tools.NAME` as a user with settings of their own, none of which may matter."""
    home = tmp_path_factory.mktemp("home")
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("intruder = True\n")
    kernel = home / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["no-such-python"], "display_name": "x", "language": "x"}))
    theirs = {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "MPLBACKEND": "nonsense",
    }

    def call(name, *arguments, **settings):
        env = {key: value for key, value in os.environ.items() if not key.startswith("NNLIB_")}
        command = [sys.executable, "-m", f"tools.{name}", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=notebooks.ROOT,
            env=env | theirs | {"NNLIB_OFFLINE": "1"} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    return call


@pytest.fixture(scope="module")
def built(tmp_path_factory, tool):
    """A folder with two notebooks, built."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(notebooks.ROOT / "notebooks" / "jupytext.toml", folder)
    write(folder, "01_steady", STEADY)
    write(folder, "02_loose", LOOSE)
    result = tool("build", "--notebooks", folder)
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture(scope="module")
def damaged(built, tmp_path_factory):
    """A copy of that folder, with notebooks in which one thing each has been changed after the build."""
    folder = tmp_path_factory.mktemp("damaged") / "notebooks"
    shutil.copytree(built, folder)

    def variant(name, change):
        shutil.copy(folder / "01_steady.ipynb", folder / f"{name}.ipynb")
        edit(folder / f"{name}.ipynb", change)

    def digit(_, cells):
        cells[0].outputs[0].text = cells[0].outputs[0].text.replace("0.5000", "0.5001")

    def bound(_, cells):
        cells[1].source = cells[1].source.replace("at_least=0.4", "at_least=0.6")

    def never_run(_, cells):
        cells[4].execution_count, cells[4].outputs = None, []

    def silent_error(_, cells):
        cells[5].source = "double(1)"

    def lost_claim(_, cells):
        cells[1].metadata["tags"] = ["nbval-ignore-output"]
        cells[1].source = cells[1].source.replace("claim(", "str(").replace(", value, at_least=0.4", "")

    for name, change in {
        "03_digit": digit,
        "04_bound": bound,
        "05_never_run": never_run,
        "06_silent_error": silent_error,
        "07_lost_claim": lost_claim,
    }.items():
        variant(name, change)
    return folder


def row(output, name):
    """The run table's row of one notebook."""
    return next(line.split() for line in output.splitlines() if re.match(rf"{name} .*(passed|FAILED)$", line))


def block(output, name):
    """What is said about one failing notebook."""
    return re.search(rf"^{name}, cell .*?(?=\n\n(\d\d_|notebook  ))", output, re.MULTILINE | re.DOTALL).group()


# -------------------------------------------------------------------------------------------------------- the whole net


@pinnable
def test_a_second_build_gives_the_same_bytes(built, tool):
    before = (built / "01_steady.ipynb").read_bytes()
    assert tool("build", "01_steady", "--notebooks", built).returncode == 0
    assert (built / "01_steady.ipynb").read_bytes() == before


@pinnable
def test_a_built_notebook_is_complete(built):
    notebook = nbformat.read(built / "01_steady.ipynb", as_version=4)
    cells = [cell for cell, _ in notebooks.code_cells(notebook)]
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5, 6]
    assert [cell.id for cell in notebook.cells] == [f"01-{index:03}" for index in range(8)]
    assert cells[0].outputs[0].text == "value 0.5000\nuser settings seen: False\n"
    assert cells[3].metadata["jupyter"]["source_hidden"] and "jupyter" not in cells[2].metadata
    assert "version" not in notebook.metadata.language_info
    assert notebook.metadata["nnlib"] == {"datasets": {}}
    assert not list(built.glob(".*"))


@pinnable
def test_verify_finds_every_damage_and_nothing_else(damaged, tool):
    result = tool("verify", "--notebooks", damaged)
    output = result.stdout
    assert result.returncode == 1
    assert row(output, "01_steady")[3:] == ["6", "1", "0", "passed"]
    assert row(output, "02_loose")[3:] == ["0", "1", "1", "passed"]  # another process number: executed only

    digit = block(output, "03_digit")
    assert digit.startswith('03_digit, cell [1], under "A tiny course", gives another output than the stored one')
    assert "stored: value 0.5001" in digit and "now:    value 0.5000" in digit
    assert "make build NOTEBOOK=03_digit" in digit
    assert row(output, "03_digit")[3:] == ["5", "1", "0", "FAILED"]

    bound = block(output, "04_bound")
    assert bound.startswith('04_bound, cell [2], under "What it means", raised an error')
    assert "Measured: 0.5; expected: at least 0.6" in bound
    assert row(output, "04_bound")[3:] == ["1", "0", "0", "FAILED"]  # the cells after it are not run

    assert "cell [5]" in block(output, "05_never_run") and "has never been run" in block(output, "05_never_run")
    assert "raised nothing" in block(output, "06_silent_error") or "stored: " in block(output, "06_silent_error")
    assert "stored: the value is at least 0.4" in block(output, "07_lost_claim")
    assert "now:    none" in block(output, "07_lost_claim")
    assert re.search(r"^=+ 5 failed, \d+ passed, \d+ skipped in .* =+$", output.rstrip().splitlines()[-1])

    page = (damaged.parent / "reports" / "run.html").read_text("utf-8")
    assert "<title>make test, the notebooks: FAILED</title>" in page
    assert re.findall(r"<b>(0\d_\w+)</b>, cell \[(\d)\], under <b>“(.+)”</b>", page) == [
        ("03_digit", "1", "A tiny course"),
        ("04_bound", "2", "What it means"),
        ("05_never_run", "5", "What it means"),
        ("06_silent_error", "6", "What it means"),
        ("07_lost_claim", "2", "What it means"),
    ]
    assert re.findall(r'href="#drift-(\w+)">', page) == ["03_digit", "06_silent_error"]
    assert re.search(r'<td class="line">value 0.5001</td>\s*<td class="line">value 0.5000</td>', page)


def test_the_claims_tier_ignores_digits_but_not_a_false_claim(damaged, tool):
    names = ("03_digit", "04_bound", "06_silent_error")
    result = tool("verify", "--claims", *names, "--notebooks", damaged)
    assert result.returncode == 1
    assert result.stdout.startswith("Claims only, no digits compared, for 03_digit, 04_bound, 06_silent_error: ")
    assert "NNLIB_SEED=1" in result.stdout.splitlines()[0]
    assert row(result.stdout, "03_digit")[3:] == ["0", "1", "6", "passed"]
    assert row(result.stdout, "04_bound")[-1] == "FAILED"
    assert "raised nothing" in block(result.stdout, "06_silent_error")


def test_run_goes_on_after_a_failure_and_leaves_the_pair_alone(tmp_path, tool):
    write(tmp_path, "01_fails", '\n# %% [markdown]\n# ## Deep inside\n\n# %%\nprint("here")\n1 / 0\n')
    write(tmp_path, "02_warns", '\n# %%\nimport warnings\n\nwarnings.warn("old", stacklevel=1)\n')
    write(tmp_path, "03_loose", LOOSE)
    result = tool("run", "--notebooks", tmp_path, "--results", tmp_path / "results")
    assert result.returncode == 1
    assert "01_fails  cell 1/1  Deep inside" in result.stdout
    failed = block(result.stdout, "01_fails")
    assert failed.startswith('01_fails, cell [1], under "Deep inside", raised an error')
    assert "| 1 / 0" in failed and "ZeroDivisionError: division by zero" in failed
    assert "wrote to stderr" in block(result.stdout, "02_warns")
    assert row(result.stdout, "03_loose")[2:] == ["1", "1", "passed"]
    assert "results" in result.stdout.splitlines()[-1]
    assert not list(tmp_path.glob("*.ipynb")) and len(list((tmp_path / "results").glob("*.ipynb"))) == 3
    page = (tmp_path.parent / "reports" / "run.html").read_text("utf-8")
    assert "cell [1], under <b>“Deep inside”</b>, raised an error" in page and "it has not been built yet" in page
    known = nbformat.read(tmp_path / "results" / "03_loose.ipynb", as_version=4).metadata["nnlib"]  # for its report
    assert known["datasets"] == {} and re.match(r"NumPy \d+\.\S+ in the pinned|NumPy .*, not in", known["environment"])


def test_run_tells_where_an_output_is_not_the_stored_one(damaged, tmp_path, tool):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(damaged / "01_steady.py", folder / "03_digit.py")
    shutil.copy(damaged / "03_digit.ipynb", folder)
    write(folder, "04_fine", LOOSE)
    shutil.copy(damaged / "02_loose.ipynb", folder / "04_fine.ipynb")
    result = tool("run", "--notebooks", folder, "--results", tmp_path / "results", NNLIB_JOBS="2")
    assert result.returncode == 0
    assert "Not all outputs are the stored ones, in 03_digit; the report shows where." in result.stdout
    assert "2 notebooks at a time: clocks inside a notebook were read beside a neighbour" in result.stdout
    page = (tmp_path / "reports" / "run.html").read_text("utf-8")
    assert re.findall(r'href="#drift-(\w+)">', page) == ["03_digit"]
    assert page.count('<td class="line">value 0.5001</td>') == 1


def test_samples_are_never_built_from_and_only_their_claims_are_verified(tmp_path, tool):
    source = write(tmp_path, "01_data", '\n# %%\nfrom nnlib.datasets import load_dataset\n\nload_dataset("mnist")\n')
    refused = tool("build", "--notebooks", tmp_path, NNLIB_DATA="sample")
    assert refused.returncode == 1 and "Nothing was built: " in refused.stdout
    assert not source.with_suffix(".ipynb").exists()
    notebooks.write(notebooks.read_source(source), source.with_suffix(".ipynb"))
    result = tool("verify", "--notebooks", tmp_path, NNLIB_DATA="sample")
    assert result.returncode == 0, result.stdout
    assert "Claims only, no digits compared, for 01_data" in result.stdout
    assert row(result.stdout, "01_data")[1] == "claims"


# -------------------------------------------------------------------------------------------------------------- PyTorch


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A folder with a notebook that needs PyTorch, and the settings that put a stand-in for it there, or hide it."""
    folder, there, hidden = (tmp_path_factory.mktemp(name) for name in ("twins", "there", "hidden"))
    write(folder, "01_twins", TWINS)
    (there / "torch.py").touch()
    (hidden / "sitecustomize.py").write_text('import sys\n\nsys.modules["torch"] = None\n')  # import torch: ImportError
    return folder, {"PYTHONPATH": str(there)}, {"PYTHONPATH": str(hidden)}


LEFT_OUT = "PyTorch is not installed: 2 cells of 01_twins are left out (make setup-torch)."


@pinnable
def test_without_pytorch_its_cells_are_left_out_and_no_others(twins, tool):
    folder, there, hidden = twins
    stored = folder / "01_twins.ipynb"
    refused = tool("build", "--notebooks", folder, **hidden)
    assert refused.returncode == 1 and not stored.exists()
    assert f"Nothing was built: {LEFT_OUT}" in refused.stdout.splitlines()
    assert tool("build", "--notebooks", folder, **there).returncode == 0

    def digit(_, cells):
        cells[2].outputs[0].text = cells[2].outputs[0].text.replace("4", "5")

    def no_tag(_, cells):
        cells[2].metadata["tags"] = []

    def no_tag_and_a_clock(_, cells):
        cells[2].metadata["tags"] = ["nbval-ignore-output"]

    def no_guard(_, cells):
        cells[2].source = cells[2].source.replace("if torch:", "if True:")

    def other_digit(_, cells):
        cells[1].outputs[0].text = "never"

    for number, change in enumerate((digit, no_tag, no_tag_and_a_clock, no_guard, other_digit), 2):
        shutil.copy(stored, folder / f"0{number}_{change.__name__}.ipynb")
        edit(folder / f"0{number}_{change.__name__}.ipynb", change)

    both = tool("verify", "01_twins", "02_digit", "--notebooks", folder, **there).stdout
    assert "PyTorch is not installed" not in both
    assert row(both, "01_twins")[3:] == ["3", "1", "0", "passed"]
    assert "stored: twice two is 5" in block(both, "02_digit")
    alone = tool("verify", "--notebooks", folder, **hidden).stdout
    assert LEFT_OUT in alone.splitlines()
    assert row(alone, "01_twins")[3:] == ["1", "0", "2", "passed"]
    assert row(alone, "02_digit")[-1] == "passed"  # in a cell that is left out nothing is compared
    assert "stored: twice two is 4" in block(alone, "03_no_tag")
    assert "stored: PyTorch has a name" in block(alone, "04_no_tag_and_a_clock")
    assert "has no attribute '__name__'" in block(alone, "05_no_guard")
    assert "stored: never" in block(alone, "06_other_digit")
    claims = tool("verify", "--claims", "01_twins", "--notebooks", folder, **hidden)
    assert claims.returncode == 0 and LEFT_OUT in claims.stdout.splitlines()


def test_a_run_without_pytorch_says_what_it_leaves_out(twins, tool, tmp_path):
    folder, there, hidden = twins
    for settings, lines in ((hidden, 1), (there, 0)):
        result = tool("run", "01_twins", "--notebooks", folder, "--results", tmp_path, **settings)
        assert result.returncode == 0 and result.stdout.splitlines().count(LEFT_OUT) == lines


# ---------------------------------------------------------------------------------------------------------------- pairs


def test_a_pair_that_differs_is_shown_with_the_command_that_mends_it(tmp_path):
    source = write(tmp_path, "01_steady", STEADY)
    assert "make build NOTEBOOK=01_steady" in pairs.difference(source)  # no .ipynb yet
    stored = source.with_suffix(".ipynb")
    notebooks.write(notebooks.read_source(source), stored)
    assert pairs.difference(source) is None and pairs.orphans(tmp_path) == []

    def changes():
        yield "-value = 0.7", lambda _, cells: cells[0].update(source=cells[0].source.replace("0.5", "0.7"))
        yield "+# %% [code] exercise", lambda _, cells: cells[2].metadata.pop("tags")
        yield "-# %% [code] solution\n", lambda _, cells: cells[3].metadata.pop("jupyter")
        yield "+double(value)", lambda notebook, cells: notebook.cells.remove(cells[4])
        yield "-# %% [raw]", lambda notebook, _: notebook.cells[0].update(cell_type="raw")

    for line, change in changes():
        notebooks.write(notebooks.read_source(source), stored)
        edit(stored, change)
        said = pairs.difference(source)
        assert line in said and "make build NOTEBOOK=01_steady" in said
    source.unlink()
    assert pairs.orphans(tmp_path) == [stored]


def test_saving_in_jupyterlab_leaves_the_source_as_it_was(tmp_path):
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from jupytext.async_contentsmanager import build_async_jupytext_contents_manager_class

    shutil.copy(notebooks.ROOT / "notebooks" / "jupytext.toml", tmp_path)
    source = write(tmp_path, "01_steady", STEADY)
    notebooks.write(notebooks.read_source(source), source.with_suffix(".ipynb"))
    manager = build_async_jupytext_contents_manager_class(AsyncLargeFileManager)(root_dir=str(tmp_path))

    async def save_again(change):
        model = await manager.get("01_steady.ipynb")
        change(model["content"]["cells"])
        await manager.save(model, "01_steady.ipynb")

    text = source.read_text("utf-8")
    asyncio.run(save_again(lambda cells: None))
    assert source.read_text("utf-8") == text
    asyncio.run(save_again(lambda cells: cells[1].update(source='print("changed")')))
    assert source.read_text("utf-8") == text.replace(
        re.search(r"value = 0\.5\n.*?\n\n", text, re.DOTALL).group(), 'print("changed")\n\n'
    )
    assert pairs.difference(source) is None


# ----------------------------------------------------------------------------------------------------- small judgements


def stored_notebook(fingerprint):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('data = load_dataset("mnist")')])
    notebook.metadata["nnlib"] = {"datasets": {"mnist": {"fingerprint": fingerprint}}}
    return notebook


def test_digits_are_compared_only_where_they_can_agree():
    here = {"mnist": {"title": "MNIST", "source": "sample", "fingerprint": "aa"}}
    assert verify.choose_tier(stored_notebook("aa"), here, None) == ("compared", "")
    assert verify.choose_tier(stored_notebook("aa"), here, "no AVX2") == ("claims", "no AVX2")
    tier, why = verify.choose_tier(stored_notebook("bb"), here, None)
    assert tier == "claims" and "MNIST, sample" in why
    unused = stored_notebook("aa")
    unused.cells = []  # the source no longer loads what the outputs were made from
    assert verify.choose_tier(unused, here, None)[0] == "claims"


def test_a_processor_that_cannot_be_pinned_is_told_why():
    fine = {"features": ["X86_V3"], "numpy": "2", "core": "Haswell", "threads": 1}
    assert pinned.judge(fine, "2") is None
    assert "AVX2" in pinned.judge(None, "2") and "AVX2" in pinned.judge(fine | {"features": []}, "2")
    assert "NumPy is 2 here" in pinned.judge(fine, "3")
    assert "Haswell" in pinned.judge(fine | {"core": "Zen"}, "2")
    assert "one OpenBLAS thread" in pinned.judge(fine | {"threads": 2}, "2")
    assert "OpenBLAS" in pinned.judge({"features": ["X86_V3"], "numpy": "2"}, "2")


def test_outputs_made_with_another_seed_are_not_built(monkeypatch):
    monkeypatch.setattr(pinned, "obstacle", lambda: None)
    monkeypatch.delenv("NNLIB_DEVICE", raising=False)
    monkeypatch.delenv("NNLIB_SEED", raising=False)
    full, sample = ({"mnist": {"title": "MNIST", "source": source}} for source in ("official", "sample"))
    assert build.refusal(full, {}) is None
    assert "sample" in build.refusal(sample, {})
    monkeypatch.setenv("NNLIB_SEED", "1")
    assert "NNLIB_SEED" in build.refusal(full, {})
    monkeypatch.setattr(pinned, "obstacle", lambda: "one core only")
    assert build.refusal(full, {}) == "one core only"


def test_a_difference_is_worded():
    def out(*texts):
        return [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]

    result = nbformat.v4.new_output("execute_result", {"text/plain": "1", "image/png": "abc"})
    other = nbformat.v4.new_output("execute_result", {"text/plain": "2", "image/png": "xyz"})
    assert verify.difference(out("a\nb"), out("a\nb")) is None
    assert verify.difference(out("a\nb"), out("a\nc")).endswith("line 2\n  stored: b\n  now:    c")
    assert verify.difference(out("a"), []).endswith("stored: a\n  now:    nothing")
    assert verify.difference([], out("a")).endswith("stored: nothing\n  now:    a")
    assert "text/plain" in verify.difference([result], [other])
    other.data["text/plain"] = "1"
    assert verify.difference([result], [other]) is None  # a picture is not compared


def test_the_data_sets_of_a_notebook_are_found_in_its_code():
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(text)) for text in ('a = load_dataset("mnist")', "x = 1")]
    cells += [nbformat.v4.new_code_cell("b = datasets.load_dataset(\n    'cifar10', data_dir=None)")]
    cells += [nbformat.v4.new_markdown_cell('`load_dataset("fashion_mnist")` would be another')]
    assert notebooks.datasets_used(nbformat.v4.new_notebook(cells=cells)) == ["cifar10", "mnist"]


def test_the_table_is_aligned():
    rows = [
        {"notebook": "01_mlp", "seconds": 1.25, "cells": 7},
        {"notebook": "02_cnn_loops", "seconds": 10.0, "cells": 12},
    ]
    assert notebooks.table(rows).splitlines() == [
        "notebook      seconds  cells",
        "------------  -------  -----",
        "01_mlp            1.2      7",
        "02_cnn_loops     10.0     12",
    ]


def test_unknown_and_missing_notebooks_are_named(tmp_path):
    with pytest.raises(SystemExit, match="no notebook"):
        notebooks.find(tmp_path)
    write(tmp_path, "01_steady", STEADY)
    assert notebooks.find(tmp_path, ["01_steady.py"]) == notebooks.find(tmp_path, [str(Path("notebooks/01_steady"))])
    with pytest.raises(SystemExit, match=r"No notebook 02_other .* there is 01_steady"):
        notebooks.find(tmp_path, ["02_other"])
