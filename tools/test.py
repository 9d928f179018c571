"""All that `make test` checks, in four stages: style, unit tests, notebooks, exercises. One failure fails it all.

python -m tools.test
"""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools import pinned
from tools.notebooks import CACHE, ROOT


def run(title: str, *command: str) -> bool:
    """Run `python -m command` in the repository's root, under a headline; return whether it succeeded."""
    print(f"\n--- {title}: python -m {' '.join(command)}", flush=True)
    env = pinned.environment({"OPENBLAS_NUM_THREADS": "1"})  # see tools/pinned.py; on small arrays nothing is lost
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=env).returncode == 0


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
    unit, nbval, editions = (CACHE / f"{name}.xml" for name in ("unit", "notebooks", "editions"))
    CACHE.mkdir(exist_ok=True)
    for old in (unit, nbval, editions):
        old.unlink(missing_ok=True)
    verdicts = {
        "style": all([run("style", "ruff", "check", "."), run("format", "ruff", "format", "--check", ".")]),
        "unit tests": run("unit tests", "pytest", f"--junitxml={unit}"),
        "notebooks": run("notebooks", "tools.verify", f"--junitxml={nbval}"),
        "exercises": run(
            "exercises", "pytest", "-q", "-m", "editions", "tests/test_editions.py", f"--junitxml={editions}"
        ),
    }
    tallies = [counts(unit), counts(nbval), counts(editions)]
    total = ", ".join(f"{sum(tally[kind] for tally in tallies)} {kind}" for kind in ("passed", "failed", "skipped"))
    stages = ", ".join(f"{name} {'passed' if passed else 'FAILED'}" for name, passed in verdicts.items())
    print(f"\n==== {total}: {stages} ====")
    return int(not all(verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
