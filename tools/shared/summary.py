"""What a run of the notebooks tells at its end: the table of tiers, the remarks, and both on pytest-html's page.

The one idea: a cell notes what became of it in its report's `user_properties`, which reach the process that tells it
from the workers of xdist too.
"""

import html
from collections import Counter, defaultdict
from pathlib import PurePosixPath

import pytest

from tools.shared import machine, notebooks

try:
    from pytest_metadata.plugin import metadata_key
except ImportError:  # it comes with pytest-html, without which there is no page
    metadata_key = None


class Summary:
    """A pytest plugin that counts the reports of the notebooks' cells. settings: the arithmetic of their kernels."""

    def __init__(self, config, settings: dict[str, str]):
        self.config, self.settings = config, settings
        self.counts = defaultdict(Counter)  # of each notebook: seconds, failed, compared, executed only, ...
        self.claims = defaultdict(list)
        self.facts = defaultdict(dict)  # of each notebook: tier, why, data

    def pytest_runtest_logreport(self, report):
        """Count one phase of one cell."""
        path, _, _ = report.nodeid.partition("::")
        if not path.endswith(".ipynb"):
            return
        name, noted = PurePosixPath(path).stem, dict(report.user_properties)
        self.counts[name].update(
            seconds=report.duration, failed=int(report.failed), told=int("kind" in noted and report.when == "call")
        )
        self.facts[name].update({fact: noted[fact] for fact in ("tier", "why", "data", "cells") if fact in noted})
        if report.when == "call":
            self.counts[name]["moved"] += noted.get("moved", 0)
            if report.passed and "kind" in noted:
                self.counts[name][noted["kind"]] += 1
                self.claims[name] += noted["claims"]

    def rows(self) -> list[dict]:
        """Return the table of tiers, a row for each notebook."""
        return [
            {
                "notebook": name,
                "tier": self.facts[name].get("tier", ""),
                "seconds": float(counts["seconds"]),
                "compared": counts["compared"],
                "claims held": len(self.claims[name]),
                "executed only": counts["executed only"],
                "result": self.result(name),
            }
            for name, counts in sorted(self.counts.items())
        ]

    def result(self, name: str) -> str:
        """Return how a notebook ended; it is not finished if cells were interrupted or deselected."""
        if failed := self.counts[name]["failed"]:
            return f"{failed} FAILED"
        return "passed" if self.counts[name]["told"] == self.facts[name].get("cells", 0) else "not finished"

    def remarks(self) -> list[str]:
        """Return why notebooks were not compared, what was left out, and where claims held although digits moved."""
        reasons = defaultdict(list)
        for name, facts in sorted(self.facts.items()):
            reasons[facts.get("why", "")].append(name)
        remarks = [f"Claims only, no digits compared, for {', '.join(reasons[why])}: {why}." for why in reasons if why]
        for name, counts in sorted(self.counts.items()):
            if counts["left out"]:
                remarks.append(notebooks.torch_is_missing(name, counts["left out"]))
            if counts["moved"]:
                remarks.append(
                    f"No failures, but not the stored outputs: {counts['moved']} cells of {name} (see the report)."
                )
        return remarks

    def pytest_terminal_summary(self, terminalreporter):
        """Print the table and the remarks."""
        if self.counts:
            terminalreporter.write_sep("=", "notebooks")
            for line in (notebooks.table(self.rows()), *self.remarks()):
                terminalreporter.write_line(line)

    def pytest_sessionstart(self):
        """Tell the page what there is to know about this machine."""
        if metadata_key in self.config.stash and not hasattr(
            self.config, "workerinput"
        ):  # a worker of xdist has no page
            self.config.stash[metadata_key].update(machine.facts(self.settings))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report):
        """Name the page."""
        report.title = "Neural networks from scratch: a run of the notebooks"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix):
        """Put the table, the remarks and the claims above the list of cells."""
        if self.counts:
            prefix.append(f"<pre>{html.escape(notebooks.table(self.rows()))}</pre>")
            prefix += [f"<p>{html.escape(remark)}</p>" for remark in self.remarks()]
        for name, claims in sorted(self.claims.items()):
            told = f"{name}: {len(claims)} claims held; data: {self.facts[name].get('data') or 'none'}"
            items = "".join(f"<li>{html.escape(claim)}</li>" for claim in claims)
            prefix.append(f"<details><summary>{html.escape(told)}</summary><ul>{items}</ul></details>")
