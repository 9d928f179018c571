"""What `pytest --nbval` does with these notebooks: it compares every digit, if it can.

    pytest --nbval notebooks/                       all (or one: notebooks/01_mlp.ipynb)
    pytest --nbval -n 2 --dist loadfile notebooks/  two at a time
    pytest --nbval-lax notebooks/                   the claims alone, in other arithmetic

The one idea: nbval runs a cell and compares it with what is stored; this page adds what the
course promises on top. The kernels compute in the pinned arithmetic. A notebook is
*compared* if this machine can do that and has the very data of the stored outputs.
Otherwise its *claims* are checked: each cell must run, each claim hold. One line says why.
"""

import os
from collections import defaultdict
from contextlib import ExitStack
from queue import Empty
from time import monotonic
from unittest import mock

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from tools.shared import figures, kernels, notebooks, pairs, pinned
from tools.shared.summary import Summary

COMPARED, CLAIMS = "compared", "claims"
REBUILD = "make build NOTEBOOK={}    (then look at it, and commit the pair)"


class Fault(Exception):
    """A cell did what it must not. goes_on: whether those after it are worth running."""

    def __init__(self, what: str, detail: str = "", todo: str = "", goes_on: bool = True):
        super().__init__(what)
        self.what, self.detail, self.todo, self.goes_on = what, detail, todo, goes_on


class Notebook(IPyNbFile):
    """A stored notebook: first its pair, then each of its cells, in a kernel of its own."""

    begun = 0  # so many of its cells
    broken = False

    def collect(self):
        """Yield the pair, if the source is here, and the code cells: In [1], In [2] ..."""
        try:
            self.nb = nbformat.read(self.path, as_version=4)
        except Exception as error:  # nbformat raises whatever the damage leads to
            raise self.CollectError(
                f"{self.name} can't be read as a notebook: {error}"
            ) from None
        if self.path.with_suffix(".py").exists():
            yield Pair.from_parent(self, name="the pair")
        for number, (cell, heading) in enumerate(notebooks.code_cells(self.nb), 1):
            must_raise = "raises-exception" in notebooks.tags(cell)
            known = {
                "cell_num": number,
                "cell": cell,
                "options": defaultdict(bool, check_exception=must_raise),
            }
            item = Cell.from_parent(self, name=f"In [{number}]", **known)
            item.heading = heading
            yield item

    def setup(self):
        """Wait: the first cell starts the kernel, and the pair needs none."""

    def start(self):
        """Choose the tier, and start the kernel in its arithmetic and surroundings."""
        data = notebooks.load_data([self.nb])
        self.same_data = notebooks.same_data(self.nb, data)
        why = why_claims_only(self.config)
        if not why and not self.same_data:
            why = notebooks.other_data(self.nb, data)
        self.tier = CLAIMS if why else COMPARED
        sources = [f"{dataset['title']}, {dataset['source']}" for dataset in data.values()]
        cells = len(notebooks.code_cells(self.nb))
        self.facts = {
            "tier": self.tier,
            "why": why,
            "data": "; ".join(sources),
            "cells": cells,
        }
        with ExitStack() as stack:
            env = stack.enter_context(kernels.clean_room(arithmetic(self.config)))
            with mock.patch.dict(os.environ, env, clear=True):
                super().setup()
            self.room = stack.pop_all()
        self.kernel.await_reply = self.await_reply

    def await_reply(self, msg_id, timeout):
        """Wait for a cell as nbval does, but notice soon when the kernel has died."""
        end = monotonic() + timeout
        while monotonic() < end:
            try:
                return RunningKernel.await_reply(self.kernel, msg_id, timeout=1)
            except Empty:
                if not self.kernel.is_alive():
                    what = "ended Python itself (is there enough memory?)"
                    raise Fault(what, goes_on=False) from None
        raise Empty

    def teardown(self):
        """End the kernel, and remove what it was given."""
        super().teardown()
        if hasattr(self, "room"):
            self.room.close()


class Pair(pytest.Item):
    """The two halves of a notebook, NN_name.py and NN_name.ipynb, are the same notebook."""

    def runtest(self):
        """Compare them, cell by cell."""
        if difference := pairs.difference(self.path.with_suffix(".py")):
            raise Fault(difference)

    def repr_failure(self, excinfo):
        """Show what differs, and what mends it."""
        fault = excinfo.value
        return fault.what if isinstance(fault, Fault) else super().repr_failure(excinfo)

    def reportinfo(self):
        """Say where this is, for pytest."""
        return self.path, 0, f"{self.path.stem}: the pair"


class Cell(IPyNbCell):
    """A code cell: nbval runs and compares it; the rest is checked here."""

    def setup(self):
        """Leave out a cell that would only fail for want of those before it."""
        if self.parent.broken:
            pytest.skip("an earlier cell of this notebook could not be run")
        if self.cell_num != self.parent.begun + 1:
            pytest.skip("it needs the cells before it: run the whole notebook")
        self.parent.begun += 1

    def choose(self):
        """Decide whether the outputs are compared, and note it for the summary."""
        tags = notebooks.tags(self.cell)
        self.left_out = notebooks.is_left_out(self.cell)  # it runs, and does nothing
        self.repeats = not self.left_out and "nbval-ignore-output" not in tags
        self.options["check"] = self.repeats and self.parent.tier == COMPARED
        kind = COMPARED if self.options["check"] else "executed only"
        self.user_properties += self.parent.facts.items()
        self.user_properties.append(("kind", "left out" if self.left_out else kind))

    def runtest(self):
        """Run the cell. Whatever is wrong with it is raised as a Fault, in words."""
        if self.cell_num == 1:
            self.parent.start()
        self.choose()
        stored = notebooks.claims(self.cell.outputs)  # nbval puts streams together in place
        if never_run := self.cell.execution_count is None:
            self.cell.outputs = []
        try:
            super().runtest()
        except NbCellError as error:
            self.explain(error)
        if self.parent.timed_out:
            self.explain(None)
        if never_run:
            todo = f"There is nothing to compare it with. Build the notebook:\n  {REBUILD}"
            raise Fault(
                "has never been run (no execution count)", todo=todo.format(self.path.stem)
            )
        now = notebooks.claims(self.test_outputs)
        self.user_properties.append(("claims", now))
        if fault := kernels.fault_of(self.cell, self.test_outputs):
            raise Fault(*fault)
        if self.parent.same_data and not self.left_out and stored != now:
            old, new = ("; ".join(claims) or "none" for claims in (stored, now))
            raise Fault(
                "makes other claims than the stored", f"stored: {old}\nnow:    {new}"
            )
        if self.parent.same_data and self.repeats and self.parent.tier == CLAIMS:
            lines = kernels.differing_lines(self.cell.outputs, self.test_outputs)
            if moved := "\n".join(lines):
                self.user_properties.append(("moved", 1))
                self.add_report_section(
                    "call", "no failure, but not the stored output", moved
                )

    def sanitize(self, text):
        """Leave of an interactive figure what it shows: its program is not compared."""
        text = super().sanitize(text)
        return figures.compared(text) if isinstance(text, str) else text

    def explain(self, error: NbCellError | None):
        """Put what nbval found into words: the first line that differs, or the error."""
        if self.parent.timed_out:
            seconds = self.config.option.nbval_cell_timeout
            raise Fault(f"was stopped after {seconds:g} seconds", goes_on=False) from None
        said = kernels.last_lines(error.inner_traceback or str(error))
        if str(error) != "Cell outputs differ":
            what = "raised an error" if error.inner_traceback else "could not be run"
            raise Fault(what, said, goes_on=False) from None
        if fault := kernels.fault_of(self.cell, self.test_outputs):
            raise Fault(*fault) from None
        first = next(kernels.differing_lines(self.cell.outputs, self.test_outputs), said)
        todo = "If nothing was meant to move it, find what did. If your change was:\n"
        todo += f"  {REBUILD.format(self.path.stem)}"
        raise Fault("gives another output than the stored one", first, todo) from None

    def repr_failure(self, excinfo):
        """Say which cell failed, under which heading, how, and what to do."""
        fault = excinfo.value
        if not isinstance(fault, Fault):
            fault = Fault("could not be run", excinfo.exconly(), goes_on=False)
        self.parent.broken |= not fault.goes_on
        told = (fault.what, self.cell.source, fault.detail, fault.todo)
        return kernels.describe(self.path.stem, self.cell_num, self.heading, *told)

    def reportinfo(self):
        """Say where this is, for pytest."""
        return self.path, 0, f"{self.path.stem} [{self.cell_num}] {self.heading}"


def why_claims_only(config) -> str:
    """Say why this run compares no digits, whatever the data; an empty text if it can."""
    if config.option.nbval_lax:
        settings = pinned.in_words(pinned.other_arithmetic())
        return f"this run is for the claims, in other arithmetic ({settings})"
    return pinned.obstacle() or notebooks.other_settings() or ""


def arithmetic(config) -> dict[str, str]:
    """Return the settings of NumPy and its BLAS for the kernels of this run."""
    if config.option.nbval_lax:
        return pinned.other_arithmetic()
    return {} if pinned.obstacle() else pinned.PINNED


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Let nbval find the notebooks, and give them the manners of this course."""
    found = yield
    if any(isinstance(collector, IPyNbFile) for collector in found):
        return [Notebook.from_parent(parent, path=file_path)]
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Run the cells in this very Python, and leave a page of the run in reports/."""
    option = config.option
    if not checks_notebooks(config):
        return
    if option.nbval_kernel_name or option.current_env:
        raise pytest.UsageError(
            "The notebooks run in this very Python: no kernel to choose."
        )
    option.nbval_current_env = True
    if getattr(option, "dist", "no") not in ("no", "loadscope"):
        option.dist = "loadfile"  # the cells of a notebook stay together
    if hasattr(option, "htmlpath") and not option.htmlpath and not option.collectonly:
        option.htmlpath = str(config.rootpath / "reports" / "run.html")
        option.self_contained_html = True
    config.pluginmanager.register(Summary(config, arithmetic(config)), "summary")


def checks_notebooks(config) -> bool:
    """Say whether this run was asked for the notebooks (`pytest` alone is not)."""
    return getattr(config.option, "nbval", False) or getattr(
        config.option, "nbval_lax", False
    )


def pytest_report_header(config):
    """Say before anything runs what is compared, and if nothing is, why."""
    if not checks_notebooks(config):
        return None
    if why := why_claims_only(config):
        return f"notebooks: claims only, no digits compared: {why}"
    return f"notebooks: compared with the digits of {pinned.arithmetic_in_words(None)}"
