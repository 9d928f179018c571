"""Run the committed notebooks again with nbval and compare: every stored digit where that can be, every claim always.

    python -m tools.verify [01_mlp ...]              the second half of `make test`
    python -m tools.verify --claims [--seed 1]       make claims: the claims alone, in another arithmetic

A notebook is in the *compared* tier if this machine can run the pinned arithmetic and has the very data of the stored
outputs; otherwise in the *claims* tier, where every cell must run and every claim hold. One line says why.
Cells tagged `torch` do nothing where PyTorch is not installed: they alone are left out then, and a line says so.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path
from queue import Empty
from time import monotonic

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbFile, NbCellError

from tools import notebooks, pinned

COMPARED, CLAIMS = "compared", "claims"


def choose_tier(stored: nbformat.NotebookNode, data: dict, why_not: str | None) -> tuple[str, str]:
    """Return (tier, why nothing is compared) for a stored notebook, given the data that is here now (see `resolve`)."""
    if why_not:
        return CLAIMS, why_not
    if not same_data(stored, data):
        here = "; ".join(f"{data[name]['title']}, {data[name]['source']}" for name in notebooks.datasets_used(stored))
        return CLAIMS, f"the data here is not that of the stored outputs (here: {here or 'none'})"
    return COMPARED, ""


def same_data(stored: nbformat.NotebookNode, data: dict) -> bool:
    """Say whether the data sets that the stored outputs were computed from are the ones that are here."""
    built_from = stored.metadata.get("nnlib", {}).get("datasets", {})
    here = {name: data[name]["fingerprint"] for name in notebooks.datasets_used(stored)}
    return here == {name: dataset["fingerprint"] for name, dataset in built_from.items()}


def difference(stored: list, fresh: list) -> str | None:
    """Say in words where a cell's fresh outputs leave the stored ones, or return None."""
    before, now = _texts(stored), _texts(fresh)
    for kind in [*before, *(kind for kind in now if kind not in before)]:
        old, new = before.get(kind, []), now.get(kind, [])
        for place in range(max(len(old), len(new))):
            old_lines, new_lines = (text[place].split("\n") if place < len(text) else [] for text in (old, new))
            for line in range(max(len(old_lines), len(new_lines))):
                pair = [lines[line] if line < len(lines) else None for lines in (old_lines, new_lines)]
                if pair[0] != pair[1]:
                    was, is_now = ("nothing" if text is None else text or "an empty line" for text in pair)
                    return f"{kind}, line {line + 1}\n  stored: {was}\n  now:    {is_now}"
    return None


def _texts(outputs):
    """Collect what nbval compares: kind -> list of texts (pictures are looked at, not compared)."""
    texts = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream":
            texts[f"printed text ({output.name})"].append(output.text)
        elif output.output_type == "error":
            texts["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for kind, text in output.data.items():
                if kind not in ("image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"):
                    texts[f"result ({kind})"].append(text if isinstance(text, str) else repr(text))
    return texts


class Unrun(Exception):
    """A compared cell that has no stored execution."""


class Fault(Exception):
    """A cell ran, and did something that it must not."""

    def __init__(self, what, detail):
        super().__init__(what)
        self.what, self.detail = what, detail


class Report:
    """The pytest plugin around nbval: gives each notebook its tier, words the failures, counts for the run table."""

    def __init__(self, tiers: dict[Path, str], same: dict[Path, bool]):
        self.tiers, self.same = tiers, same  # by path: the tier, and whether the data is that of the stored outputs
        self.rows, self.failures, self.more, self.broken = {}, {}, defaultdict(list), set()

    def pytest_collectstart(self, collector):
        """Tell nbval whether to compare this notebook's outputs."""
        if isinstance(collector, IPyNbFile):
            collector.compare_outputs = self.tiers[collector.path] == COMPARED
            self.rows[collector.path] = {
                "notebook": collector.path.stem,
                "tier": self.tiers[collector.path],
                "seconds": 0.0,
                "compared": 0,
                "claims held": 0,
                "executed only": 0,
                "result": "passed",
            }

    def pytest_collection_modifyitems(self, items):
        """Leave out empty cells, and give each cell its number (that of In [n]) and its heading."""
        places = {}
        for item in list(items):
            if not item.cell.source.strip():
                items.remove(item)
                continue
            if item.path not in places:
                places[item.path] = iter(notebooks.code_cells(item.parent.nb))
            _, item.heading = next(places[item.path])
            item.left_out = "torch" in notebooks.tags(item.cell) and notebooks.left_out(item.parent.nb) > 0
            if item.left_out:
                item.options["check"] = False
            item.number = sum(other.path == item.path for other in items[: items.index(item)]) + 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        """Skip the rest of a notebook in which a cell could not be run: what follows would only echo it."""
        if item.path in self.broken:
            pytest.skip("an earlier cell of this notebook failed")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Run the cell, then check what nbval does not."""
        item.parent.kernel.await_reply = lambda msg_id, timeout=None: _await_reply(item.parent.kernel, msg_id, timeout)
        if item.options["check"] and item.cell.execution_count is None:
            raise Unrun
        result = yield
        if item.options["check"] or "raises-exception" in notebooks.tags(item.cell):
            if fault := notebooks.fault_of(item.cell, item.test_outputs):
                raise Fault(*fault)
        if self.same[item.path] and not item.left_out:
            stored, fresh = notebooks.claims(item.cell.outputs), notebooks.claims(item.test_outputs)
            if stored != fresh:
                old, new = ("; ".join(claims) or "none" for claims in (stored, fresh))
                raise Fault("makes other claims than the stored ones", f"stored: {old}\nnow:    {new}")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Count what the cell did; put its failure into words."""
        report = yield
        row = self.rows[item.path]
        row["seconds"] += call.duration
        if report.failed:
            row["result"] = "FAILED"
            what, detail, todo, goes_on = self._explain(item, call.excinfo)
            if not goes_on:
                self.broken.add(item.path)
            if item.path in self.failures:
                self.more[item.path].append(item.number)
            else:
                self.failures[item.path] = notebooks.describe(
                    item.path.stem, item.number, item.heading, what, item.cell.source, detail, todo
                )
        elif call.when == "call" and report.passed:
            row["compared" if item.options["check"] else "executed only"] += 1
            row["claims held"] += len(notebooks.claims(item.test_outputs))
        return report

    def _explain(self, item, excinfo):
        """Return what happened, its detail, what to do, and whether the cells after it are worth running."""
        error, name = excinfo.value, item.path.stem
        rebuild = f"make build NOTEBOOK={name}"
        if isinstance(error, Unrun):
            todo = f"Without a stored output there is nothing to compare it with. Build the notebook: {rebuild}"
            return "has never been run (no execution count)", "", todo, False
        if isinstance(error, Fault):
            return error.what, error.detail, "", True
        if isinstance(error, NbCellError) and str(error) == "Cell outputs differ":
            # nbval compares; this only words it. Should the wording find nothing, nbval's own words are shown.
            detail = difference(item.cell.outputs, item.test_outputs) or notebooks.last_lines(error.inner_traceback)
            todo = (
                "If nothing was meant to move this, find what did. If your change was meant to, store the new output:\n"
                f"  {rebuild}    (then look at it, and commit the pair)"
            )
            return "gives another output than the stored one", detail, todo, True
        if isinstance(error, NbCellError):
            what = "raised an error" if error.inner_traceback else "could not be run"
            return what, notebooks.last_lines(error.inner_traceback or str(error)), "", False
        return "could not be run", f"{type(error).__name__}: {error}", "", False

    def pytest_terminal_summary(self, terminalreporter):
        """Print the first failure of each notebook, then the run table."""
        terminalreporter.ensure_newline()
        for path, text in self.failures.items():
            terminalreporter.line(f"\n{text}")
            if others := self.more[path]:
                terminalreporter.line(f"    Later cells that failed too: {', '.join(f'[{n}]' for n in others)}")
        if self.rows:
            terminalreporter.line(f"\n{notebooks.table(list(self.rows.values()))}\n")


def _await_reply(kernel, msg_id, timeout):
    """Wait for a cell as nbval does, but notice within two seconds when the kernel has died."""
    end = monotonic() + timeout
    while monotonic() < end:
        try:
            return RunningKernel.await_reply(kernel, msg_id, timeout=min(2, max(0.1, end - monotonic())))
        except Empty:
            if not kernel.is_alive():
                raise RuntimeError("the cell ended Python itself (is there enough memory?)") from None
    raise Empty


def validate(tiers: dict[Path, str], same: dict[Path, bool], env: dict[str, str], more: list[str] = ()) -> int:
    """Run nbval over these notebooks, one after the other, their kernels in `env`; return pytest's exit code."""
    options = "--nbval --nbval-current-env --no-header --tb=no -rN -o addopts= -p no:cacheprovider -p no:warnings"
    options = [*options.split(), f"--nbval-cell-timeout={notebooks.CELL_TIMEOUT}", *more]
    options += [f"--rootdir={next(iter(tiers)).parent}", *map(str, tiers)]
    mine = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        return int(pytest.main(options, plugins=[Report(tiers, same)]))
    finally:
        os.environ.clear()
        os.environ.update(mine)


def main() -> int:
    """Verify the notebooks named on the command line, or all."""
    options = notebooks.arguments(
        __doc__,
        claims={"action": "store_true", "help": "the claims only, in another arithmetic and with another seed"},
        seed={"default": "1", "help": "NNLIB_SEED for --claims (1)"},
        junitxml={"help": "also write the counts here"},
    )
    paths = [path.resolve() for path in notebooks.find(options.notebooks, options.names, ".ipynb")]
    stored = {path: nbformat.read(path, as_version=4) for path in paths}
    data = notebooks.resolve(list(stored.values()))
    if options.claims:
        arithmetic, settings = pinned.other_arithmetic(), {"NNLIB_SEED": options.seed}
        why = f"this run is for the claims: NNLIB_SEED={options.seed} and other arithmetic ({_words(arithmetic)})"
    else:
        why = pinned.obstacle() or _other_settings()
        arithmetic, settings = {} if pinned.obstacle() else pinned.PINNED, {}
    chosen = {path: choose_tier(notebook, data, why) for path, notebook in stored.items()}
    for reason in dict.fromkeys(reason for tier, reason in chosen.values() if tier == CLAIMS):
        names = ", ".join(path.stem for path, (_, because) in chosen.items() if because == reason)
        print(f"Claims only, no digits compared, for {names}: {reason}.", flush=True)
    notebooks.say_what_is_left_out({path.stem: notebook for path, notebook in stored.items()})
    tiers = {path: tier for path, (tier, _) in chosen.items()}
    same = {path: same_data(notebook, data) for path, notebook in stored.items()}
    more = [f"--junitxml={options.junitxml}"] if options.junitxml else []
    with notebooks.clean_room(arithmetic, **settings) as env:
        return validate(tiers, same, env, more)


def _other_settings():
    """Say which of a notebook's own settings differs from that of the stored outputs, or return None."""
    for name, usual in (("NNLIB_SEED", "0"), ("NNLIB_DEVICE", "cpu")):
        if os.environ.get(name, usual) != usual:
            return f"{name} is {os.environ[name]} here, and was {usual} for the stored outputs"
    return None


def _words(arithmetic):
    return ", ".join(f"{name}={value}" for name, value in arithmetic.items())


if __name__ == "__main__":
    sys.exit(main())
