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


async def run_one(source: Path, results: Path, data: dict, environment: str, env: dict[str, str]) -> dict:
    """Execute one notebook into `results` and return its row of the table."""
    notebook, start, failure = notebooks.read_source(source), time.monotonic(), None
    try:
        await kernels.execute(notebook, source.stem, source.parent, env)
    except kernels.NotebookFailed as failed:
        failure = failed
    used = {name: data[name] for name in notebooks.datasets_used(notebook)}
    notebook.metadata["nnlib"] = {"datasets": used, "environment": environment}
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


async def run_all(tasks: list[tuple], at_a_time: int) -> list[dict]:
    """Run the tasks (the arguments of `run_one`) side by side, each in a kernel of its own."""
    room = asyncio.Semaphore(at_a_time)

    async def one(task):
        async with room:
            return await run_one(*task)

    return await asyncio.gather(*map(one, tasks))


def main() -> int:
    """Run the notebooks named on the command line, or all; a failing one does not stop the others."""
    options = notebooks.arguments(
        __doc__,
        results={"type": Path, "default": notebooks.ROOT / "results", "help": "where they go (results/)"},
        jobs={"type": int, "default": 2, "help": "notebooks at a time (2); clocks in them are honest with 1"},
    )
    if options.jobs < 1:
        sys.exit(f"--jobs (make run JOBS=...) is how many notebooks run at a time, 1 or more, not {options.jobs}.")
    sources = notebooks.select(options.notebooks, options.names)
    named = {source.stem: notebooks.read_source(source) for source in sources}
    data, why = notebooks.load_data(list(named.values())), pinned.obstacle()
    if why:
        print(f"The last digits may differ from the stored ones: {why}.")
    print("\n".join(notebooks.what_is_left_out(named)), end="")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended as by Ctrl-C: no kernel stays behind
    start = time.monotonic()
    with kernels.clean_room({} if why else pinned.PINNED) as env:
        tasks = [(source, options.results, data, pinned.arithmetic_in_words(why), env) for source in sources]
        try:
            rows = asyncio.run(run_all(tasks, options.jobs))
        except KeyboardInterrupt:
            print("\nInterrupted: what was still running has been ended.")
            return 130
    print(f"\n{notebooks.table(rows)}\n")
    beside = f", {options.jobs} at a time: clocks in them were read beside a neighbour" if options.jobs > 1 else ""
    used = "; ".join(f"{dataset['title']}, {dataset['source']}" for dataset in data.values())
    print(f"In {time.monotonic() - start:.0f} s{beside}. Data: {used or 'none used'}.")
    print(f"The executed notebooks are in {notebooks.short_path(options.results)}/.")
    return int(any(row["result"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
