"""Execute a notebook, and say in words what came of it: faults, outputs that are not the stored ones.

The one idea: a kernel is this very Python in a clean room. The user's IPython profile, kernels and matplotlib settings
stay outside, and no kernel ever waits for a network.
"""

import asyncio
import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm
from traitlets import default

from tools.shared import pinned
from tools.shared.figures import compared
from tools.shared.notebooks import CACHE, code_cells, datasets_used, printed, tags

CELL_TIMEOUT = 2000  # seconds, as nbval has it
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookFailed(Exception):
    """Says in words which cell of a notebook failed, where, and how (see `describe`)."""

    def __init__(self, *failure):
        super().__init__(describe(*failure))


@contextlib.contextmanager
def clean_room(arithmetic: dict[str, str], **settings: str):
    """Yield the environment variables for kernels: `arithmetic`, `settings`, and nothing of the user's own set-up.

    The nnlib that they import is that of this checkout, whichever is installed.
    """
    env = pinned.environment(arithmetic)
    for name in ("MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE"):
        env.pop(name, None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(pinned.ROOT), env.get("PYTHONPATH")]))
    if "NNLIB_DATA_DIR" in env:
        env["NNLIB_DATA_DIR"] = os.path.abspath(Path(env["NNLIB_DATA_DIR"]).expanduser())
    env["MPLCONFIGDIR"] = str(CACHE / "matplotlib")
    if not list((CACHE / "matplotlib").glob("fontlist-*.json")):  # matplotlib reports its first search for fonts
        (CACHE / "matplotlib").mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=env, capture_output=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        yield (
            env
            | {
                "IPYTHONDIR": profile,
                "NNLIB_OFFLINE": "1",  # the data has been looked for already
                "TQDM_DISABLE": "1",
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            }
            | settings
        )


class ThisPython(KernelSpecManager):
    """The one kernel is the Python that runs this, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name):  # noqa: D102
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class Kernel(AsyncKernelManager):
    """A kernel manager that starts `ThisPython`."""

    @default("kernel_spec_manager")
    def _this_python(self):
        return ThisPython()


async def execute(notebook: nbformat.NotebookNode, source: Path, data: dict, env: dict[str, str]) -> None:
    """Run every cell of a notebook in its source's folder; keep in it the outputs, and which data sets it used.

    Raises NotebookFailed at the first fault (see `fault_of`; a warning is never what a reader should see, and it
    carries paths). When this is cancelled, the kernel is ended.
    """
    cells, begun = code_cells(notebook), 0
    notebook.metadata["nnlib"] = {"datasets": {name: data[name] for name in datasets_used(notebook)}}

    def fail(number, what, detail=""):
        cell, heading = cells[max(number, 1) - 1]
        raise NotebookFailed(source.stem, number, heading, what, cell.source, detail) from None

    with tqdm(total=len(cells), desc=source.stem, unit="cell", leave=False, disable=None) as bar:

        def before(cell, cell_index):
            nonlocal begun
            bar.set_postfix_str(cells[begun][1], refresh=False)
            bar.update()
            begun += 1

        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_manager_class=Kernel,
            resources={"metadata": {"path": str(source.parent)}},
            record_timing=False,
            coalesce_streams=True,
            on_cell_execute=before,
        )
        asyncio.get_running_loop().add_signal_handler = _leave_signals_alone
        try:
            await client.async_execute(env=env, stderr=subprocess.DEVNULL)  # stderr: the kernel's log, not a cell's
        except CellExecutionError:
            outputs = cells[begun - 1][0].outputs
            trace = [output.traceback for output in outputs if output.output_type == "error"][-1]
            fail(begun, "raised an error", last_lines("\n".join(trace)))
        except CellTimeoutError:
            fail(begun, f"was stopped after {CELL_TIMEOUT} seconds")
        except DeadKernelError:
            fail(begun, "ended Python itself (is there enough memory?)")
    for number, (cell, _) in enumerate(cells, 1):
        if fault := fault_of(cell, cell.outputs):
            fail(number, *fault)
        for output in cell.outputs:
            if output.output_type == "error":
                output.traceback = [_without_folders(line) for line in output.traceback]
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}


def _without_folders(line):
    """Write a path in a traceback from the repository's root, not from where it lies on this machine."""
    root = f"{pinned.ROOT}{os.sep}"
    return line.replace(root, "").replace(root.replace(str(Path.home()), "~", 1), "")


def _leave_signals_alone(*_):
    """Refuse nbclient's handlers, each of which would end one kernel: asyncio cancels all that runs, which ends all."""
    raise RuntimeError


def fault_of(cell: nbformat.NotebookNode, outputs: list) -> tuple[str, str] | None:
    """Return (what is wrong, detail) with a cell that ran through, or None."""
    if noise := printed(outputs, "stderr"):
        return "wrote to stderr (a warning?)", noise.rstrip()
    if any(WIDGET in output.get("data", {}) for output in outputs):
        return "shows a widget, which no stored page can (from tqdm import tqdm, not tqdm.auto)", ""
    if "raises-exception" in tags(cell) and not any(output.output_type == "error" for output in outputs):
        return "is tagged raises-exception, and raised nothing", ""
    return None


# ------------------------------------------------------------------------------------------------------------- in words


def describe(name: str, number: int, heading: str, what: str, source: str, detail: str = "", todo: str = "") -> str:
    """Return a failure as a person wants to read it: which cell, where, what it says, what went wrong, what to do."""
    shown_source = [f"    | {line}".rstrip() for line in source.strip().split("\n")]
    advice = [textwrap.indent(part, "    ") for part in (detail, todo) if part]
    return "\n".join([f'{name}, cell [{number}], under "{heading}", {what}:', *shown_source, *advice])


def last_lines(text: str) -> str:
    """Return the end of a traceback, without terminal colours."""
    return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()[-25:])


def differing_lines(stored: list, fresh: list) -> Iterator[str]:
    """Yield in words each line in which a cell's fresh outputs leave the stored ones."""
    before, now = _texts(stored), _texts(fresh)
    for kind in [*before, *(kind for kind in now if kind not in before)]:
        for number, (was, is_now) in enumerate(itertools.zip_longest(before.get(kind, []), now.get(kind, [])), 1):
            if was != is_now:
                old, new = ("nothing" if line is None else line or "an empty line" for line in (was, is_now))
                yield f"{kind}, line {number}\n  stored: {old}\n  now:    {new}"


def _texts(outputs):
    """Collect what nbval compares: kind -> lines (pictures are looked at, not compared)."""
    texts = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream":
            texts[f"printed text ({output.name})"].append(output.text)
        elif output.output_type == "error":
            texts["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for kind, text in output.data.items():
                if kind not in ("image/png", "image/jpeg", WIDGET):
                    texts[f"result ({kind})"].append(f"{compared(text) if kind == 'text/html' else text}\n")
    return {kind: "".join(parts).split("\n") for kind, parts in texts.items()}
