"""What the README says is what the notebooks say."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def outputs(name: str) -> str:
    """All that the committed notebook printed."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    streams = [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "stream"]
    return "".join("".join(stream["text"]) for stream in streams)


# the row of the results table -> (notebook, what the notebook prints around the number)
RESULTS = {
    "MLP (784 → 512 → 10)": ("01_mlp", r"^test accuracy ([\d.]+)%"),
    "CNN (32 filters 3 × 3, pool, 128)": ("03_cnn_im2col", r"^one convolution: test accuracy ([\d.]+)%"),
    "CNN (two convolutions, Adam)": ("03_cnn_im2col", r"^two convolutions: test accuracy ([\d.]+)%"),
    "RNN (128 tanh units, row by row)": ("04_rnn_bptt", r"^reading row by row: test accuracy ([\d.]+)%"),
    "CNN with Adam, train/validation curves": ("07_optimizers", r"^CNN with Adam: test accuracy ([\d.]+)%"),
    "CNN (three convolutions)": ("05_cifar10", r"^CNN: test accuracy ([\d.]+)%"),
    "RNN (a photograph row by row)": ("05_cifar10", r"^RNN: test accuracy ([\d.]+)%"),
    "NumPy beside PyTorch (one convolution, 128)": ("08_numpy_vs_pytorch", r"^nnlib: test accuracy ([\d.]+)%"),
}


@pytest.mark.parametrize("row", RESULTS)
def test_results_are_those_of_the_notebooks(row):
    name, pattern = RESULTS[row]
    line = next(line for line in README.splitlines() if line.startswith(f"| {row} |"))
    stated = re.search(r"\*\*([\d.]+) %\*\*", line).group(1)
    measured = re.search(pattern, outputs(name), re.MULTILINE).group(1)
    assert stated == measured, f"README says {stated} %, {name} prints {measured} %: update the row '{row}'"


def test_every_row_of_the_results_table_is_checked():
    rows = [line.split("|")[1].strip() for line in README.splitlines() if re.search(r"\*\*[\d.]+ %\*\*", line)]
    assert sorted(rows) == sorted(RESULTS)


def test_every_notebook_has_its_line():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", README)) == notebooks


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/instructors.md"])
def test_every_link_and_command_exists(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}, which does not exist"
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page} says `make {target}`; the Makefile has none"
