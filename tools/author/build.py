"""Execute notebooks/NN_name.py into notebooks/NN_name.ipynb, whose outputs are committed and compared ever after.

    python -m tools.author.build [01_mlp ...]          make build NOTEBOOK=01_mlp

Built on the full data and under the pinned arithmetic only: these outputs are what every later run must reproduce.
"""

import os
import sys
from pathlib import Path

from tools.shared import notebooks, pinned


def build(source: Path, data: dict[str, dict[str, str]], env: dict[str, str], progress=None) -> Path:
    """Execute one source and write the .ipynb beside it, with the data sets it used and their fingerprints."""
    notebook = notebooks.read_source(source)
    notebooks.execute(notebook, source.stem, source.parent, env, progress)
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
    for name, usual in (("NNLIB_SEED", "0"), ("NNLIB_DEVICE", "cpu")):
        if os.environ.get(name, usual) != usual:
            return f"{name} is set to {os.environ[name]}, the stored outputs are those of {name}={usual}"
    return None


def main() -> int:
    """Build the notebooks named on the command line, or all."""
    options = notebooks.arguments(__doc__)
    sources = notebooks.find(options.notebooks, options.names)
    named = {source.stem: notebooks.read_source(source) for source in sources}
    data = notebooks.resolve(list(named.values()))
    if why := refusal(data, named):
        print(f"Nothing was built: {why}.")
        return 1
    failed = 0
    with notebooks.clean_room(pinned.PINNED) as env:
        for source in sources:
            progress = notebooks.Progress(source.stem)
            try:
                target = build(source, data, env, progress)
                print(f"{notebooks.shown(target)} built in {progress.close():.1f} s")
            except notebooks.NotebookFailed as failure:
                progress.close()
                print(f"{failure}\n{notebooks.shown(source.with_suffix('.ipynb'))} was left as it was.")
                failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
