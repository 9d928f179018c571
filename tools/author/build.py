"""Execute notebooks/NN_name.py into notebooks/NN_name.ipynb, whose outputs are committed and compared ever after.

    python -m tools.author.build [01_mlp ...]          make build NOTEBOOK=01_mlp
    python -m tools.author.build --figures [01_mlp]    nothing is executed: today's program for the interactive figures

Built on the full data and under the pinned arithmetic only: these outputs are what every later run must reproduce.
"""

import asyncio
import sys
import time
from pathlib import Path

import nbformat

from tools.shared import figures, kernels, notebooks, pinned


def refusal(data: dict[str, dict[str, str]], selected: dict) -> str | None:
    """Say why outputs of the notebooks `selected`, made here and now, must not be committed, or return None."""
    if why := pinned.obstacle():
        return why
    if samples := [dataset["title"] for dataset in data.values() if dataset["source"] == "sample"]:
        return f"only a sample is here of {', '.join(samples)} (make data fetches the full data)"
    if lines := notebooks.what_is_left_out(selected):
        return " ".join(lines).rstrip(".")
    return notebooks.other_settings()


def renew_figures(path: Path) -> None:
    """Give the interactive figures stored in a notebook today's program: what they show stays, pictures too."""
    from nnlib import interactive

    notebook = nbformat.read(path, as_version=4)
    for output in (output for cell, _ in notebooks.code_cells(notebook) for output in cell.outputs):
        if parts := figures.parts(output.get("data", {}).get("text/html", "")):
            output.data["text/html"] = interactive.Figure(**parts).fragment()
    notebooks.write(notebook, path)


def main() -> int:
    """Build the notebooks named on the command line, or all."""
    figures = {"action": "store_true", "help": "only give stored interactive figures today's program"}
    options = notebooks.arguments(__doc__, figures=figures)
    if options.figures:
        for path in notebooks.select(options.notebooks, options.names, ".ipynb"):
            renew_figures(path)
        return 0
    selected, data = notebooks.read_selected(options)
    if why := refusal(data, selected):
        print(f"Nothing was built: {why}.")
        return 1
    failures = 0
    with kernels.clean_room(pinned.PINNED) as env:
        for source, notebook in selected.items():
            start, target = time.monotonic(), source.with_suffix(".ipynb")
            try:
                asyncio.run(kernels.execute(notebook, source, data, env))
            except kernels.NotebookFailed as failure:
                failures += 1
                print(f"{failure}\n{notebooks.short_path(target)} was left as it was.", flush=True)
            else:
                notebooks.write(notebook, target)
                print(f"{notebooks.short_path(target)} built in {time.monotonic() - start:.1f} s", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
