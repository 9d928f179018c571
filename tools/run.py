"""Execute every notebook from scratch, on the best data there is, into results/; the committed pairs stay untouched.

python -m tools.run [01_mlp ...]            make run            make run DATA=sample
"""

import sys
from pathlib import Path

from tools import notebooks, pinned


def main() -> int:
    """Run the notebooks named on the command line, or all; a failing one does not stop those after it."""
    options = notebooks.arguments(__doc__, results={"type": Path, "default": notebooks.ROOT / "results"})
    sources = notebooks.find(options.notebooks, options.names)
    named = {source.stem: notebooks.read_source(source) for source in sources}
    data = notebooks.resolve(list(named.values()))
    if why := pinned.obstacle():
        print(f"The last digits may differ from the stored ones: {why}.")
    notebooks.say_what_is_left_out(named)
    rows, failures = [], []
    with notebooks.clean_room({} if why else pinned.PINNED) as env:
        for source in sources:
            notebook, result, progress = notebooks.read_source(source), "passed", notebooks.Progress(source.stem)
            try:
                notebooks.execute(notebook, source.stem, source.parent, env, progress)
            except notebooks.NotebookFailed as failure:
                failures.append(str(failure))
                result = "FAILED"
            seconds = progress.close()
            notebooks.write(notebook, options.results / f"{source.stem}.ipynb")
            print(f"{source.stem} {result} after {seconds:.1f} s", flush=True)
            cells = [cell for cell, _ in notebooks.code_cells(notebook)]
            rows.append(
                {
                    "notebook": source.stem,
                    "seconds": seconds,
                    "cells run": sum(cell.execution_count is not None for cell in cells),
                    "claims held": sum(len(notebooks.claims(cell.outputs)) for cell in cells),
                    "result": result,
                }
            )
    for failure in failures:
        print(f"\n{failure}")
    print(f"\n{notebooks.table(rows)}\n")
    used = "; ".join(f"{dataset['title']}, {dataset['source']}" for dataset in data.values())
    print(f"Data: {used or 'none used'}. The executed notebooks are in {notebooks.shown(options.results)}/.")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
