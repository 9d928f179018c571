"""Execute notebooks/NN_name.py into notebooks/NN_name.ipynb, whose outputs are committed and compared ever after.

    python -m tools.author.build [01_mlp ...]          make build NOTEBOOK=01_mlp

Built on the full data and under the pinned arithmetic only: these outputs are what every later run must reproduce.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from tools.shared import kernels, notebooks, pinned


def build(source: Path, data: dict[str, dict[str, str]], env: dict[str, str]) -> Path:
    """Execute one source and write the .ipynb beside it, with the data sets it used and their fingerprints."""
    notebook = notebooks.read_source(source)
    asyncio.run(kernels.execute(notebook, source.stem, source.parent, env))
    _forget_folders(notebook)
    used = {name: data[name] for name in notebooks.datasets_used(notebook)}
    notebook.metadata["nnlib"] = {"datasets": used}
    target = source.with_suffix(".ipynb")
    notebooks.write(notebook, target)
    return target


def _forget_folders(notebook):
    """Write the paths in stored tracebacks from the repository's root, not from where it lies on this machine."""
    root, home = f"{notebooks.ROOT}{os.sep}", str(Path.home())
    for cell, _ in notebooks.code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                output.traceback = [
                    line.replace(root, "").replace(root.replace(home, "~", 1), "") for line in output.traceback
                ]


def refusal(data: dict[str, dict[str, str]], named: dict) -> str | None:
    """Say why outputs of the notebooks `named` (by name) made here and now must not be committed, or return None."""
    if why := pinned.obstacle():
        return why
    if samples := [dataset["title"] for dataset in data.values() if dataset["source"] == "sample"]:
        return f"only a sample is here of {', '.join(samples)} (make data fetches the full data)"
    if lines := notebooks.what_is_left_out(named):
        return " ".join(lines).rstrip(".")
    return notebooks.other_settings()


def main() -> int:
    """Build the notebooks named on the command line, or all."""
    options = notebooks.arguments(__doc__)
    sources = notebooks.select(options.notebooks, options.names)
    named = {source.stem: notebooks.read_source(source) for source in sources}
    data = notebooks.load_data(list(named.values()))
    if why := refusal(data, named):
        print(f"Nothing was built: {why}.")
        return 1
    failed = 0
    with kernels.clean_room(pinned.PINNED) as env:
        for source in sources:
            start = time.monotonic()
            try:
                target = build(source, data, env)
                print(f"{notebooks.short_path(target)} built in {time.monotonic() - start:.1f} s", flush=True)
            except kernels.NotebookFailed as failure:
                print(
                    f"{failure}\n{notebooks.short_path(source.with_suffix('.ipynb'))} was left as it was.", flush=True
                )
                failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
