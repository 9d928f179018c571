"""All that `make test` checks, in four stages: style, unit tests, notebooks, exercises. One failure fails it all.

python -m tools.test
"""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools import parallel
from tools.shared import pinned
from tools.shared.notebooks import CACHE, ROOT


def run(title: str, *command: str) -> bool:
    """Run `python -m command` in the repository's root, under a headline; return whether it succeeded."""
    print(f"\n--- {title}: python -m {' '.join(command)}", flush=True)
    env = pinned.environment({"OPENBLAS_NUM_THREADS": "1"})  # see tools/pinned.py; on small arrays nothing is lost
    child = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=env)
    try:
        return child.wait() == 0
    except KeyboardInterrupt:
        child.wait()  # it has been interrupted as well, and writes its report
        raise


def counts(report: Path) -> dict[str, int]:
    """Read how many tests passed, failed and were skipped from pytest's JUnit report (none: one failure)."""
    if not report.exists():
        return {"passed": 0, "failed": 1, "skipped": 0}
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def main() -> int:
    """Run all stages, whatever the earlier ones find, and close with one line."""
    unit, cells, editions = CACHE / "unit.xml", CACHE / "cells.json", CACHE / "editions.xml"
    CACHE.mkdir(exist_ok=True)
    for old in (unit, cells, editions):
        old.unlink(missing_ok=True)
    at_a_time = ("-n", str(parallel.jobs()), "--dist", "worksteal")
    verdicts = {
        "style": all([run("style", "ruff", "check", "."), run("format", "ruff", "format", "--check", ".")]),
        "unit tests": run("unit tests", "pytest", *at_a_time, f"--junitxml={unit}"),
    }
    tallies = [counts(unit)]
    said = f"Before them: {stages(verdicts)} ({words(tallies)})."
    verdicts["notebooks"] = run("notebooks", "tools.verify", f"--counts={cells}", f"--note={said}")
    tallies.append(json.loads(cells.read_text()) if cells.exists() else {"passed": 0, "failed": 1, "skipped": 0})
    options = ("-q", "-m", "editions", "tests/test_editions.py", *at_a_time)
    verdicts["exercises"] = run("exercises", "pytest", *options, f"--junitxml={editions}")
    tallies.append(counts(editions))
    print(f"\n==== {words(tallies)}: {stages(verdicts)} ====")
    return int(not all(verdicts.values()))


def words(tallies: list[dict[str, int]]) -> str:
    """Put the sum of these counts into words."""
    return ", ".join(f"{sum(tally[kind] for tally in tallies)} {kind}" for kind in ("passed", "failed", "skipped"))


def stages(verdicts: dict[str, bool]) -> str:
    """Put which stages passed into words."""
    return ", ".join(f"{name} {'passed' if passed else 'FAILED'}" for name, passed in verdicts.items())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
