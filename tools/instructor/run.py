"""Execute every notebook from its source, on the best data there is, into results/; the committed pairs stay untouched.

python -m tools.instructor.run [01_mlp ...]     make run          make run DATA=sample          make run JOBS=1
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import nbformat

from tools.shared import kernels, notebooks, pinned


async def run_one(source: Path, notebook: nbformat.NotebookNode, results: Path, data: dict, env: dict, room) -> dict:
    """Execute one notebook into `results`, when there is room, and return its row of the table."""
    failure = None
    try:
        async with room:
            start = time.monotonic()
            await kernels.execute(notebook, source, data, env)
    except kernels.NotebookFailed as failed:
        failure = failed
    notebook.metadata["nnlib"]["environment"] = pinned.arithmetic_in_words(pinned.obstacle())
    notebooks.write(notebook, results / f"{source.stem}.ipynb")
    executed = [cell for cell, _ in notebooks.code_cells(notebook) if cell.execution_count is not None]
    row = {
        "notebook": source.stem,
        "seconds": time.monotonic() - start,
        "cells run": len(executed),
        "claims held": sum(len(notebooks.claims(cell.outputs)) for cell in executed),
        "result": "FAILED" if failure else "passed",
    }
    print(f"{source.stem} {row['result']} after {row['seconds']:.1f} s", flush=True)
    if failure:
        print(f"\n{failure}\n", flush=True)
    elif moved := moved_lines(notebook, source.with_suffix(".ipynb"), data):
        print("\n    ".join([f"{source.stem}: outputs that are not the stored ones:", *moved[:10]]), flush=True)
    return row


def moved_lines(notebook: nbformat.NotebookNode, path: Path, data: dict) -> list[str]:
    """Return in words where the outputs leave those stored at `path`, if the two come from the same source and data."""
    stored = nbformat.read(path, as_version=4) if path.exists() else nbformat.v4.new_notebook()
    old, new = notebooks.code_cells(stored), notebooks.code_cells(notebook)
    if [cell.source for cell, _ in old] != [cell.source for cell, _ in new] or not notebooks.same_data(stored, data):
        return []
    return [
        f"cell [{number}]: {line}"
        for number, ((before, _), (now, _)) in enumerate(zip(old, new, strict=True), 1)
        if "nbval-ignore-output" not in notebooks.tags(now) and not notebooks.is_left_out(now)
        for line in kernels.differing_lines(before.outputs, now.outputs)
    ]


async def run_all(selected: dict, at_a_time: int, *more) -> list[dict]:
    """Run the notebooks side by side, each in a kernel of its own. more: the other arguments of `run_one`."""
    room = asyncio.Semaphore(at_a_time)
    return await asyncio.gather(*(run_one(*item, *more, room) for item in selected.items()))


def main() -> int:
    """Run the notebooks named on the command line, or all; a failing one does not stop the others."""
    options = notebooks.arguments(
        __doc__,
        results={"type": Path, "default": notebooks.ROOT / "results", "help": "where they go (results/)"},
        jobs={"type": int, "default": 2, "help": "notebooks at a time (2); clocks in them are honest with 1"},
    )
    if options.jobs < 1:
        sys.exit(f"--jobs (make run JOBS=...) is how many notebooks run at a time, 1 or more, not {options.jobs}.")
    selected, data = notebooks.read_selected(options)
    if why := pinned.obstacle():
        print(f"The last digits may differ from the stored ones: {why}.")
    for line in notebooks.what_is_left_out(selected):
        print(line)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended as by Ctrl-C: no kernel stays behind
    start = time.monotonic()
    with kernels.clean_room({} if why else pinned.PINNED) as env:
        try:
            rows = asyncio.run(run_all(selected, options.jobs, options.results, data, env))
        except KeyboardInterrupt:
            print("\nInterrupted: what was still running has been ended.")
            return 130
    beside = f", {options.jobs} at a time: clocks in them were read beside a neighbour" if options.jobs > 1 else ""
    used = "; ".join(f"{dataset['title']}, {dataset['source']}" for dataset in data.values())
    print(f"\n{notebooks.table(rows)}\n\nIn {time.monotonic() - start:.0f} s{beside}. Data: {used or 'none used'}.")
    print(f"The executed notebooks are in {notebooks.short_path(options.results)}/.")
    return int(any(row["result"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
