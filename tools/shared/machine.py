"""What there is to know about where a run took place: processor, BLAS, settings, commit, versions."""

import os
import platform
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from tools.shared import pinned


def facts(arithmetic: dict[str, str]) -> dict[str, str]:
    """Return rows of a table, for kernels under the settings `arithmetic` (see tools.shared.pinned)."""
    found = pinned.probe(arithmetic) or {}
    threads = f"{found.get('threads')} thread{'s' * (found.get('threads') != 1)}"
    blas = f"OpenBLAS, {found['core']} kernels, {threads}" if "core" in found else "not the OpenBLAS of NumPy's wheels"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    course = {name: os.environ[name] for name in sorted(os.environ) if name.startswith("NNLIB_")}
    return {
        "Processor": f"{processor()}, {cores} cores",
        "BLAS": blas,
        "Arithmetic": pinned.in_words(arithmetic) or "as NumPy finds it",
        "Settings": pinned.in_words(course) or "none",
        "The course": revision(),
        "Versions": pinned.in_words(versions()),
    }


def processor() -> str:
    """Return the processor's name, as well as this system tells it."""
    if Path("/proc/cpuinfo").exists():
        if name := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return name.group(1)
    return platform.processor() or platform.machine()


def revision() -> str:
    """Return the commit of this checkout, and whether anything in it has been changed since."""
    git = ["git", "-C", str(pinned.ROOT)]
    try:
        commit = subprocess.run([*git, "log", "-1", "--format=%h, %cs"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    files = len(changed.stdout.splitlines())
    return f"commit {commit.stdout.strip()}" + (f", and {files} changed or new files" if files else "")


def versions() -> dict[str, str]:
    """Return name -> version of every package that pyproject.toml names and that is installed."""
    project = tomllib.loads((pinned.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    installed = {}
    for name in sorted({re.match(r"[\w.-]+", line).group() for line in lines}):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
