"""Compare each notebooks/NN_name.py with its .ipynb, cell by cell: kind, tags, text. Says what mends a difference.

python -m tools.shared.pairs [01_mlp ...]
"""

import difflib
import sys
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
        folded = " folded" if hidden else ""
        lines += [
            f"# %% [{cell.cell_type}] {' '.join(notebooks.tags(cell))}{folded}".rstrip(),
            *cell.source.split("\n"),
        ]
    return lines


def difference(source: Path) -> str | None:
    """Return what differs between a source and its .ipynb as a unified diff with advice, or None if nothing does."""
    stored = source.with_suffix(".ipynb")
    mend = f"make build NOTEBOOK={source.stem}"
    if not stored.exists():
        return f"{notebooks.short_path(source)} has no .ipynb beside it yet:\n    {mend}"
    halves = [outline(nbformat.read(stored, as_version=4)), outline(notebooks.read_source(source))]
    names = [notebooks.short_path(stored), notebooks.short_path(source)]
    diff = "\n".join(difflib.unified_diff(*halves, *names, lineterm=""))
    if not diff:
        return None
    return (
        f"{diff}\n\nThe two halves of {source.stem} are not the same notebook. The .py is the source; if it is right:\n"
        f"    {mend}\nIf the .ipynb is right (edited without jupytext), first bring its cells over, then build:\n"
        f"    python -m jupytext --to py:percent {names[0]}"
    )


def orphans(folder: Path) -> list[Path]:
    """Return each .ipynb without a .py."""
    return [path for path in sorted(folder.glob("*.ipynb")) if not path.with_suffix(".py").exists()]


def main() -> int:
    """Print every difference; 1 if there is any."""
    options = notebooks.arguments(__doc__)
    sources = notebooks.select(options.notebooks, options.names)
    found = [text for source in sources if (text := difference(source))]
    found += [f"{notebooks.short_path(path)} has no .py beside it." for path in orphans(options.notebooks)]
    print("\n\n".join(found) or f"{len(sources)} notebook pair(s) agree.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
