"""What the tools share: find the notebooks and the data they use, execute one, and print the run table.

The one idea: a notebook is executed by this very Python in a clean room. The user's IPython profile, kernels and
matplotlib settings stay outside, and the data is looked for once, here, so that no kernel ever waits for a network.
"""

import argparse
import asyncio
import base64
import contextlib
import importlib.util
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

import jupytext
import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm
from traitlets import default

from tools.shared import pinned

ROOT = pinned.ROOT
CACHE = ROOT / ".cache"
CELL_TIMEOUT = 900  # seconds
CLAIM = "claim holds: "
WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDED = re.compile(r"\s*The\s+folded\s+cell\b.*?(?=\n\n|\Z)", re.DOTALL)  # the sentences on solutions end a paragraph


class NotebookFailed(Exception):
    """Says in words which cell of a notebook failed, where, and how (see `describe`)."""

    def __init__(self, *failure):
        super().__init__(describe(*failure))


# -------------------------------------------------------------------------------------------------- finding and reading


def arguments(doc: str, **more: dict) -> argparse.Namespace:
    """Read the command line: names of notebooks (all of them by default), --notebooks FOLDER, and `more` options."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a Windows console may not know every character of a heading
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="01_mlp, or 01_mlp.py; none: all of them")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", metavar="FOLDER", help="where they are")
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def find(folder: Path, names: list[str] = (), suffix: str = ".py") -> list[Path]:
    """Return the notebooks (NN_name) of `folder`, sorted; exit with a message if there are none, or not this one."""
    paths = sorted(path for path in folder.glob(f"*{suffix}") if re.match(r"\d\d_", path.name))
    wanted = [Path(name).stem for name in names]
    if unknown := sorted(set(wanted) - {path.stem for path in paths}):
        sys.exit(f"No notebook {', '.join(unknown)} in {shown(folder)}: there is {', '.join(p.stem for p in paths)}.")
    if not paths:
        sys.exit(f"There is no notebook NN_name{suffix} in {shown(folder)}.")
    return [path for path in paths if not wanted or path.stem in wanted]


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read NN_name.py as a notebook without outputs, its cells called NN-000, NN-001 and so on.

    JupyterLab shows solutions, and code that only draws, folded.
    """
    notebook = jupytext.reads(path.read_text("utf-8"), fmt="py:percent")
    notebook.metadata.pop("jupytext", None)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{path.name[:2]}-{index:03}"
        if cell.cell_type == "code" and {"solution", "figure"} & set(tags(cell)):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook, and the figure of its cell tagged `cover` as images/NN_name.png, which its first page shows.

    An interruption leaves the old ones whole.
    """
    files = {path: (nbformat.writes(notebook).rstrip("\n") + "\n").encode()}
    for cell, _ in code_cells(notebook):
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        if "cover" in tags(cell) and pictures:
            files[path.parent / "images" / f"{path.stem}.png"] = base64.b64decode(pictures[-1])
    for target, content in files.items():
        replace(target, content)


def replace(path: Path, content: bytes) -> None:
    """Write a file under another name first and rename it: an interruption leaves the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(content)
    half.replace(path)


def shown(path: Path) -> str:
    """Return the path as a reader wants it: from the repository's root if it lies there."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: nbformat.NotebookNode) -> list[tuple[nbformat.NotebookNode, str]]:
    """Return (cell, the heading it stands under) for each code cell; the n-th is In [n] once all have been run."""
    heading, found = "the top", []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip():
            found.append((cell, heading))
        elif cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            heading = (re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE) or [heading])[-1]
    return found


def printed(outputs: list, stream: str = "stdout") -> str:
    """Return what a cell printed to one stream."""
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)


def claims(outputs: list) -> list[str]:
    """Return the claims that a cell found to hold, one sentence each."""
    return [line.removeprefix(CLAIM) for line in printed(outputs).splitlines() if line.startswith(CLAIM)]


def datasets_used(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the names that a notebook's code hands to load_dataset."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return sorted(set(re.findall(r"""\bload_dataset\(\s*["'](\w+)["']""", source)))


def is_left_out(cell: nbformat.NotebookNode) -> bool:
    """Say whether this machine must leave a cell out: it is tagged torch, and PyTorch is not installed."""
    return "torch" in tags(cell) and importlib.util.find_spec("torch") is None


def what_is_left_out(named: dict[str, nbformat.NotebookNode]) -> list[str]:
    """Return one line for each of these notebooks (by name) that has cells which are left out."""
    counts = {name: sum(is_left_out(cell) for cell, _ in code_cells(notebook)) for name, notebook in named.items()}
    return [torch_is_missing(name, count) for name, count in counts.items() if count]


def torch_is_missing(name: str, count: int) -> str:
    """Say that so many cells of a notebook are left out, and what helps."""
    return f"PyTorch is not installed: {count} cells of {name} are left out (make setup-torch)."


def last_lines(text: str) -> str:
    """Return the end of a traceback, without terminal colours."""
    return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()[-25:])


# ------------------------------------------------------------------------------------------------------------- the data


def resolve(notebooks: list[nbformat.NotebookNode]) -> dict[str, dict[str, str]]:
    """Load every data set that these notebooks use, once. Returns name -> {title, source, fingerprint}.

    Prints the line in which load_dataset says what it took. That a mirror is out of reach is found out here.
    """
    from nnlib.datasets import load_dataset

    data = {}
    for name in sorted({name for notebook in notebooks for name in datasets_used(notebook)}):
        try:
            dataset = load_dataset(name)
        except (OSError, ValueError) as error:  # a damaged local file: the message says which, and what to do
            sys.exit(f"The data set {name} can't be used. {error}")
        data[name] = {"title": dataset.title, "source": dataset.source, "fingerprint": dataset.fingerprint()}
    return data


def same_data(stored: nbformat.NotebookNode, data: dict) -> bool:
    """Say whether the data sets that the stored outputs were computed from are the ones that are here."""
    built_from = stored.metadata.get("nnlib", {}).get("datasets", {})
    here = {name: data[name]["fingerprint"] for name in datasets_used(stored)}
    return here == {name: dataset["fingerprint"] for name, dataset in built_from.items()}


def other_data(stored: nbformat.NotebookNode, data: dict) -> str:
    """Say in words that the data here is not that of the stored outputs."""
    here = "; ".join(f"{data[name]['title']}, {data[name]['source']}" for name in datasets_used(stored))
    return f"the data here is not that of the stored outputs (here: {here or 'none'})"


def other_settings() -> str | None:
    """Say which of a notebook's own settings differs from that of the stored outputs, or return None."""
    for name, usual in (("NNLIB_SEED", "0"), ("NNLIB_DEVICE", "cpu")):
        if os.environ.get(name, usual) != usual:
            return f"{name} is {os.environ[name]} here, and was {usual} for the stored outputs"
    return None


# -------------------------------------------------------------------------------------------------------------- outputs


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
                    texts[f"result ({kind})"].append(f"{text}\n")
    return {kind: "".join(parts).split("\n") for kind, parts in texts.items()}


# ------------------------------------------------------------------------------------------------------------ execution


@contextlib.contextmanager
def clean_room(arithmetic: dict[str, str], **settings: str):
    """Yield the environment variables for kernels: `arithmetic`, `settings`, and nothing of the user's own set-up."""
    env = pinned.environment(arithmetic)
    for name in ("MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONWARNINGS"):
        env.pop(name, None)
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
                "NNLIB_OFFLINE": "1",  # `resolve` has looked already
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


async def execute(notebook: nbformat.NotebookNode, name: str, folder: Path, env: dict[str, str]) -> None:
    """Run every cell of the notebook in `folder` and keep the outputs in it; raise NotebookFailed at the first fault.

    A message on stderr is a fault (a warning is never what a reader should see, and it carries paths), and so is a cell
    tagged raises-exception that raises nothing. When this is cancelled, the kernel is ended.
    """
    cells, begun = code_cells(notebook), 0

    def fail(number, what, detail=""):
        cell, heading = cells[max(number, 1) - 1]
        raise NotebookFailed(name, number, heading, what, cell.source, detail) from None

    with tqdm(total=len(cells), desc=name, unit="cell", leave=False, disable=None) as bar:

        def before(cell, cell_index):
            nonlocal begun
            bar.set_postfix_str(cells[begun][1], refresh=False)
            bar.update()
            begun += 1

        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_manager_class=Kernel,
            resources={"metadata": {"path": str(folder)}},
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
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}


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


def describe(name: str, number: int, heading: str, what: str, source: str, detail: str = "", todo: str = "") -> str:
    """Return a failure as a person wants to read it: which cell, where, what it says, what went wrong, what to do."""
    shown_source = [f"    | {line}".rstrip() for line in source.strip().split("\n")]
    advice = [textwrap.indent(part, "    ") for part in (detail, todo) if part]
    return "\n".join([f'{name}, cell [{number}], under "{heading}", {what}:', *shown_source, *advice])


# ------------------------------------------------------------------------------------------------------------ reporting


def table(rows: list[dict]) -> str:
    """Return rows (dicts with the same keys) as an aligned table; numbers to the right."""
    cells = [list(rows[0]), *([f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(value, str) for value in rows[0].values()]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
