"""A build stores what every later run must reproduce, from the full data and in the pinned arithmetic alone."""

import nbformat
import pytest

from tests.tools.small_course import LOOSE, STEADY, pinnable, tool, write
from tools.author import build
from tools.shared import notebooks, pinned


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def built(tmp_path_factory, home):
    """A folder with two notebooks, built."""
    folder = tmp_path_factory.mktemp("notebooks")
    write(folder, "01_steady", STEADY)
    write(folder, "02_loose", LOOSE)
    result = tool("author.build", "--notebooks", folder, home=home)
    assert result.returncode == 0, result.stdout
    return folder


@pinnable
def test_a_second_build_gives_the_same_bytes(built, home):
    before = (built / "01_steady.ipynb").read_bytes()
    assert tool("author.build", "01_steady", "--notebooks", built, home=home).returncode == 0
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


def test_a_failing_build_leaves_the_stored_half_as_it_was(tmp_path, home):
    source = write(tmp_path, "01_fails", "\n# %% [markdown]\n# ## Deep inside\n\n# %%\n1 / 0\n")
    source.with_suffix(".ipynb").write_text("the old one")
    result = tool("author.build", "--notebooks", tmp_path, home=home)
    if pinned.obstacle() is None:
        assert '01_fails, cell [1], under "Deep inside", raised an error' in result.stdout
    assert result.returncode == 1 and source.with_suffix(".ipynb").read_text() == "the old one"


def test_samples_are_never_built_from(tmp_path, home):
    source = write(tmp_path, "01_data", '\n# %%\nfrom nnlib.datasets import load_dataset\n\nload_dataset("mnist")\n')
    refused = tool("author.build", "--notebooks", tmp_path, home=home, NNLIB_DATA="sample")
    assert refused.returncode == 1 and "Nothing was built: " in refused.stdout
    assert not source.with_suffix(".ipynb").exists()


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
