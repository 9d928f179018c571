"""Run the committed notebooks again with nbval and compare: every stored digit where that can be, every claim always.

    python -m tools.verify [01_mlp ...]              the third stage of `make test`
    python -m tools.verify --claims [--seed 1]       make claims: the claims alone, in another arithmetic

A notebook is in the *compared* tier if this machine can run the pinned arithmetic and has the very data of the stored
outputs; otherwise in the *claims* tier, where every cell must run and every claim hold. One line says why.
Cells tagged `torch` do nothing where PyTorch is not installed: they alone are left out then, and a line says so.
"""

import json
import os
import sys
from pathlib import Path
from queue import Empty
from time import monotonic

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbFile, NbCellError

from tools.record import Record, Run, difference, drift_of, other_data, processor_seconds, same_data
from tools.shared import notebooks, pinned

COMPARED, CLAIMS = "compared", "claims"


def choose_tier(stored: nbformat.NotebookNode, data: dict, why_not: str | None) -> tuple[str, str]:
    """Return (tier, why nothing is compared) for a stored notebook, given the data that is here now (see `resolve`)."""
    if why_not:
        return CLAIMS, why_not
    if not same_data(stored, data):
        return CLAIMS, other_data(stored, data)
    return COMPARED, ""


class Unrun(Exception):
    """A compared cell that has no stored execution."""


class Fault(Exception):
    """A cell ran, and did something that it must not."""

    def __init__(self, what, detail):
        super().__init__(what)
        self.what, self.detail = what, detail


class Report:
    """The pytest plugin around nbval, for one notebook: gives it its tier, words the failures, counts."""

    def __init__(self, found: Record, same: bool, tell):
        self.found, self.same, self.tell = found, same, tell  # same: is the data that of the stored outputs?
        self.broken = False

    def pytest_collectstart(self, collector):
        """Tell nbval whether to compare this notebook's outputs."""
        if isinstance(collector, IPyNbFile):
            collector.compare_outputs = self.found.tier == COMPARED

    def pytest_collection_modifyitems(self, items):
        """Leave out empty cells, and give each cell its number (that of In [n]) and its heading."""
        items[:] = [item for item in items if item.cell.source.strip()]
        for number, item in enumerate(items, 1):
            item.number, item.total = number, len(items)
            _, item.heading = notebooks.code_cells(item.parent.nb)[number - 1]
            item.left_out = notebooks.is_left_out(item.cell)
            item.options["check"] &= not item.left_out

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        """Skip the rest of a notebook in which a cell could not be run: what follows would only echo it."""
        if self.broken:
            pytest.skip("an earlier cell of this notebook failed")
        self.tell(item.number, item.total, item.heading)

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
        if self.same and not item.left_out:
            stored, fresh = notebooks.claims(item.cell.outputs), notebooks.claims(item.test_outputs)
            if stored != fresh:
                old, new = ("; ".join(claims) or "none" for claims in (stored, fresh))
                raise Fault("makes other claims than the stored ones", f"stored: {old}\nnow:    {new}")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Count what the cell did; put its failure into words."""
        report = yield
        found = self.found
        found.seconds += call.duration
        if report.failed:
            found.counts["failed"] += 1
            what, detail, todo, goes_on = self._explain(item, call.excinfo)
            found.fail(
                number=item.number, heading=item.heading, what=what, source=item.cell.source, detail=detail, todo=todo
            )
            self.broken = self.broken or not goes_on
        elif report.skipped:
            found.counts["skipped"] += 1
        elif call.when == "call":
            found.counts["passed"] += 1
            found.counts["compared" if item.options["check"] else "executed only"] += 1
            found.claims += notebooks.claims(item.test_outputs)
        if call.when == "call" and self.same and not self.broken:
            if drift := drift_of(item.number, item.heading, item.cell, item.test_outputs):
                found.drift.append(drift)
        return report

    def _explain(self, item, excinfo):
        """Return what happened, its detail, what to do, and whether the cells after it are worth running."""
        error, name = excinfo.value, self.found.notebook
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


def verify_one(path: Path, tier: str, remark: str, names: list[str], env: dict[str, str], tell) -> Record:
    """Run nbval over one notebook, its kernel in `env`. This process is there for it alone."""
    found = Record(path.stem, tier=tier, remark=remark, data=names)
    options = "--nbval --nbval-current-env --no-header --tb=short -rN -o addopts= -p no:cacheprovider -p no:warnings"
    options = [*options.split(), f"--nbval-cell-timeout={notebooks.CELL_TIMEOUT}", f"--rootdir={path.parent}"]
    os.environ.clear()
    os.environ.update(env)
    code = pytest.main([*options, str(path)], plugins=[Report(found, not remark, tell)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"nbval could not run this notebook: pytest ended with {code!r}")
    found.processor = processor_seconds()
    return found


def columns(found: Record) -> dict:
    """Return a notebook's row of the run table."""
    return {
        "notebook": found.notebook,
        "tier": found.tier,
        "seconds": found.seconds,
        "compared": found.counts["compared"],
        "claims held": len(found.claims),
        "executed only": found.counts["executed only"],
        "result": found.result,
    }


def main() -> int:
    """Verify the notebooks named on the command line, or all."""
    options = notebooks.arguments(
        __doc__,
        claims={"action": "store_true", "help": "the claims only, in another arithmetic and with another seed"},
        seed={"default": "1", "help": "NNLIB_SEED for --claims (1)"},
        counts={"type": Path, "help": "also write here how many cells passed, failed and were skipped (JSON)"},
        note={"action": "append", "default": [], "help": "a line for the run report"},
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
    with notebooks.clean_room(arithmetic, **settings) as env:
        run = Run("make claims" if options.claims else "make test, the notebooks", options.notebooks, env, data)
        run.notes += options.note
        for reason in dict.fromkeys(reason for tier, reason in chosen.values() if tier == CLAIMS):
            names = ", ".join(path.stem for path, (_, because) in chosen.items() if because == reason)
            run.note(f"Claims only, no digits compared, for {names}: {reason}.")
        for line in notebooks.what_is_left_out({path.stem: notebook for path, notebook in stored.items()}):
            run.note(line)
        tasks = {}
        for path, notebook in stored.items():
            remark = "" if same_data(notebook, data) else other_data(notebook, data)
            tasks[path.stem] = (path, chosen[path][0], remark, notebooks.datasets_used(notebook))
        run.gather(verify_one, tasks)
        run.tell(columns)
    total = {kind: sum(found.counts[kind] for found in run.records) for kind in ("failed", "passed", "skipped")}
    if options.counts:
        notebooks.replace(options.counts, json.dumps(total).encode())
    words = ", ".join(f"{count} {kind}" for kind, count in total.items() if count or kind == "passed")
    print(f"==== {words} in {run.elapsed:.1f} s ====")
    return run.exit_code


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
