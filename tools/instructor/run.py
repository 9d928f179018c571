"""Execute every notebook from scratch, on the best data there is, into results/; the committed pairs stay untouched.

python -m tools.instructor.run [01_mlp ...]      make run      make run DATA=sample
"""

import sys
import time
from pathlib import Path

import nbformat

from tools import record
from tools.shared import notebooks, pinned


def run_one(source: Path, results: Path, data: dict, environment: str, env: dict[str, str], tell) -> record.Record:
    """Execute one notebook into `results`; note where it leaves its stored half, if the two can be compared."""
    notebook, found, start = notebooks.read_source(source), record.Record(source.stem), time.monotonic()
    try:
        notebooks.execute(notebook, source.stem, source.parent, env, tell)
    except notebooks.NotebookFailed as failed:
        found.fail(**failed.failure)
    found.seconds, found.processor = time.monotonic() - start, record.processor_seconds()
    found.data = notebooks.datasets_used(notebook)
    notebook.metadata["nnlib"] = {"datasets": {name: data[name] for name in found.data}, "environment": environment}
    notebooks.write(notebook, results / f"{source.stem}.ipynb")
    cells = [(cell, heading) for cell, heading in notebooks.code_cells(notebook) if cell.execution_count is not None]
    found.counts["run"] = len(cells)
    found.claims = [claim for cell, _ in cells for claim in notebooks.claims(cell.outputs)]
    stored, found.remark = comparable(notebook, source.with_suffix(".ipynb"), data)
    for number, ((cell, heading), before) in enumerate(zip(cells, stored, strict=False), 1):
        if drift := record.drift_of(number, heading, before, cell.outputs):
            found.drift.append(drift)
    return found


def comparable(notebook: nbformat.NotebookNode, path: Path, data: dict) -> tuple[list[nbformat.NotebookNode], str]:
    """Return (the stored notebook's code cells, ""), or ([], why there is nothing to compare with)."""
    if not path.exists():
        return [], "it has not been built yet"
    stored = nbformat.read(path, as_version=4)
    cells, ours = ([cell for cell, _ in notebooks.code_cells(half)] for half in (stored, notebook))
    if [cell.source for cell in cells] != [cell.source for cell in ours]:
        return [], "the stored outputs are those of another source"
    if not record.same_data(stored, data):
        return [], record.other_data(stored, data)
    return cells, ""


def columns(found: record.Record) -> dict:
    """Return a notebook's row of the run table."""
    return {
        "notebook": found.notebook,
        "seconds": found.seconds,
        "cells run": found.counts["run"],
        "claims held": len(found.claims),
        "result": found.result,
    }


def main() -> int:
    """Run the notebooks named on the command line, or all; a failing one does not stop the others."""
    options = notebooks.arguments(__doc__, results={"type": Path, "default": notebooks.ROOT / "results"})
    sources = notebooks.find(options.notebooks, options.names)
    named = {source.stem: notebooks.read_source(source) for source in sources}
    data = notebooks.resolve(list(named.values()))
    why = pinned.obstacle()
    with notebooks.clean_room({} if why else pinned.PINNED) as env:
        run = record.Run("make run", options.notebooks, env, data)
        if why:
            run.note(f"The last digits may differ from the stored ones: {why}.")
        for line in notebooks.what_is_left_out(named):
            run.note(line)
        run.gather(run_one, {source.stem: (source, options.results, data, pinned.words(why)) for source in sources})
        used = "; ".join(f"{dataset['title']}, {dataset['source']}" for dataset in data.values())
        run.tell(columns)
    print(f"Data: {used or 'none used'}. The executed notebooks are in {notebooks.shown(options.results)}/.")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
