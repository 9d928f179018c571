"""Compare a notebooks/NN_name.py with its .ipynb, cell by cell: kind, tags, text. Says what mends a difference."""

import difflib
from pathlib import Path

import nbformat

from tools.shared import notebooks


def outline(notebook: nbformat.NotebookNode) -> list[str]:
    """Return everything that the two halves of a pair must agree on, as lines.

    Whether a text is folded is not of it: to run one in JupyterLab unfolds it.
    """
    lines = []
    for cell in notebook.cells:
        hidden = cell.cell_type == "code" and cell.metadata.get("jupyter", {}).get("source_hidden")
        kind = [f"[{cell.cell_type}]", *notebooks.tags(cell), *["folded"] * bool(hidden)]
        lines += [f"# %% {' '.join(kind)}", *cell.source.split("\n")]
    return lines


def difference(source: Path) -> str | None:
    """Return what differs between a source and its .ipynb as a unified diff with advice, or None if nothing does."""
    stored, mend = source.with_suffix(".ipynb"), f"    make build NOTEBOOK={source.stem}"
    if not stored.exists():
        return f"{notebooks.short_path(source)} has no .ipynb beside it yet:\n{mend}"
    halves = [outline(nbformat.read(stored, as_version=4)), outline(notebooks.read_source(source))]
    names = [notebooks.short_path(stored), notebooks.short_path(source)]
    if not (diff := "\n".join(difflib.unified_diff(*halves, *names, lineterm=""))):
        return None
    return (
        f"{diff}\n\nThe two halves of {source.stem} are not the same notebook. The .py is the source; if it is right:\n"
        f"{mend}\nIf the .ipynb is right (edited without jupytext), first bring its cells over, then build:\n"
        f"    python -m jupytext --to py:percent {names[0]}"
    )


def orphans(folder: Path) -> list[Path]:
    """Return each .ipynb without a .py."""
    return [path for path in sorted(folder.glob("*.ipynb")) if not path.with_suffix(".py").exists()]
