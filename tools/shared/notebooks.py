"""Notebooks as files: select them, read and write them, know their cells, their tags and the data they use."""

import argparse
import base64
import importlib.util
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat

from tools.shared import pinned

ROOT = pinned.ROOT
CACHE = ROOT / ".cache"
CLAIM = "claim holds: "
FOLDED = re.compile(r"\s*The\s+folded\s+cell\b.*?(?=\n\n|\Z)", re.DOTALL)  # the sentences on solutions end a paragraph


# -------------------------------------------------------------------------------------------------- finding and reading


def arguments(doc: str, *folders: str, **more: dict) -> argparse.Namespace:
    """Read the command line: `folders`, names of notebooks (none: all), --notebooks FOLDER, and `more` options."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a Windows console may not know every character of a heading
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in folders:
        parser.add_argument(name, type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="01_mlp, or 01_mlp.py; none: all of them")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", metavar="FOLDER", help="where they are")
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def select(folder: Path, names: list[str] = (), suffix: str = ".py") -> list[Path]:
    """Return the notebooks (NN_name) of `folder`, sorted; exit with a message if there are none, or not this one."""
    paths = sorted(path for path in folder.glob(f"*{suffix}") if re.match(r"\d\d_", path.name))
    wanted = [Path(name).stem for name in names]
    if unknown := sorted(set(wanted) - {path.stem for path in paths}):
        sys.exit(f"No notebook {', '.join(unknown)} in {short_path(folder)}, only {', '.join(p.stem for p in paths)}.")
    if not paths:
        sys.exit(f"There is no notebook NN_name{suffix} in {short_path(folder)}.")
    return [path for path in paths if not wanted or path.stem in wanted]


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read NN_name.py as a notebook without outputs, its cells called NN-000, NN-001 and so on.

    JupyterLab shows solutions, and code that only draws, folded.
    """
    notebook = jupytext.reads(path.read_text("utf-8"), fmt="py:percent")
    notebook.metadata.pop("jupytext", None)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{path.name[:2]}-{index:03}"
        if cell.cell_type == "code" and {"solution", "figure"} & set(tags(cell)):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook, and the figure of its cell tagged `cover` as images/NN_name.png, which its first page shows.

    An interruption leaves the old ones whole.
    """
    files = {path: (nbformat.writes(notebook).rstrip("\n") + "\n").encode()}
    for cell, _ in code_cells(notebook):
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        if "cover" in tags(cell) and pictures:
            files[path.parent / "images" / f"{path.stem}.png"] = base64.b64decode(pictures[-1])
    for target, content in files.items():
        replace(target, content)


def replace(path: Path, content: bytes) -> None:
    """Write a file under another name first and rename it: an interruption leaves the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(content)
    half.replace(path)


def short_path(path: Path) -> str:
    """Return the path as a reader wants it: from the repository's root if it lies there."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: nbformat.NotebookNode) -> list[tuple[nbformat.NotebookNode, str]]:
    """Return (cell, the heading it stands under) for each code cell; the n-th is In [n] once all have been run."""
    heading, found = "the top", []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip():
            found.append((cell, heading))
        elif cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            heading = (re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE) or [heading])[-1]
    return found


def printed(outputs: list, stream: str = "stdout") -> str:
    """Return what a cell printed to one stream."""
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)


def claims(outputs: list) -> list[str]:
    """Return the claims that a cell found to hold, one sentence each."""
    return [line.removeprefix(CLAIM) for line in printed(outputs).splitlines() if line.startswith(CLAIM)]


def datasets_used(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the names that a notebook's code hands to load_dataset."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return sorted(set(re.findall(r"""\bload_dataset\(\s*["'](\w+)["']""", source)))


def is_left_out(cell: nbformat.NotebookNode) -> bool:
    """Say whether this machine must leave a cell out: it is tagged torch, and PyTorch is not installed."""
    return "torch" in tags(cell) and importlib.util.find_spec("torch") is None


def what_is_left_out(selected: dict[Path, nbformat.NotebookNode]) -> list[str]:
    """Return one line for each of these notebooks (by path) that has cells which are left out."""
    counts = {path.stem: sum(is_left_out(cell) for cell, _ in code_cells(book)) for path, book in selected.items()}
    return [torch_is_missing(name, count) for name, count in counts.items() if count]


def torch_is_missing(name: str, count: int) -> str:
    """Say that so many cells of a notebook are left out, and what helps."""
    return f"PyTorch is not installed: {count} cells of {name} are left out (make setup-torch)."


# ------------------------------------------------------------------------------------------------------------- the data


def read_selected(options: argparse.Namespace) -> tuple[dict[Path, nbformat.NotebookNode], dict]:
    """Return the sources that `options` (see `arguments`) ask for, by path, and the data that they use."""
    selected = {source: read_source(source) for source in select(options.notebooks, options.names)}
    try:
        return selected, load_data(list(selected.values()))
    except DataUnusable as error:
        sys.exit(str(error))


class DataUnusable(Exception):
    """Says in words which data set can't be loaded, and why."""


def load_data(notebooks: list[nbformat.NotebookNode]) -> dict[str, dict[str, str]]:
    """Load every data set that these notebooks use, once. Returns name -> {title, source, fingerprint}.

    Prints the line in which load_dataset says what it took. That a mirror is out of reach is found out here.
    """
    from nnlib.datasets import load_dataset

    data = {}
    for name in sorted({name for notebook in notebooks for name in datasets_used(notebook)}):
        try:
            dataset = load_dataset(name)
        except (OSError, ValueError) as error:  # a damaged local file: the message says which, and what to do
            raise DataUnusable(f"The data set {name} can't be used. {error}") from None
        data[name] = {"title": dataset.title, "source": dataset.source, "fingerprint": dataset.fingerprint()}
    return data


def same_data(stored: nbformat.NotebookNode, data: dict) -> bool:
    """Say whether the data sets that the stored outputs were computed from are the ones that are here."""
    built_from = stored.metadata.get("nnlib", {}).get("datasets", {})
    here = {name: data[name]["fingerprint"] for name in datasets_used(stored)}
    return here == {name: dataset["fingerprint"] for name, dataset in built_from.items()}


def other_data(stored: nbformat.NotebookNode, data: dict) -> str:
    """Say in words that the data here is not that of the stored outputs."""
    here = "; ".join(f"{data[name]['title']}, {data[name]['source']}" for name in datasets_used(stored))
    return f"the data here is not that of the stored outputs (here: {here or 'none'})"


def other_settings() -> str | None:
    """Say which of a notebook's own settings differs from that of the stored outputs, or return None."""
    for name, usual in (("NNLIB_SEED", "0"), ("NNLIB_DEVICE", "cpu")):
        if os.environ.get(name, usual) != usual:
            return f"{name} is {os.environ[name]} here, and was {usual} for the stored outputs"
    return None


def table(rows: list[dict]) -> str:
    """Return rows (dicts with the same keys) as an aligned table; numbers to the right."""
    cells = [list(rows[0]), *([f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(value, str) for value in rows[0].values()]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
