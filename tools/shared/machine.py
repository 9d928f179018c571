"""What there is to know about where a run took place: processor, BLAS, settings, commit, versions."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from tools.shared import pinned


def facts(arithmetic: dict[str, str]) -> dict[str, str]:
    """Return rows of a table, for kernels under the settings `arithmetic` (see tools.shared.pinned)."""
    found = pinned.probe(arithmetic) or {}
    course = {name: os.environ[name] for name in sorted(os.environ) if name.startswith("NNLIB_")}
    kernels = f"OpenBLAS, {found['core']} kernels, threads: {found['threads']}" if "core" in found else "another BLAS"
    installed = sorted({(package.name, package.version) for package in metadata.distributions() if package.name})
    return {
        "Processor": f"{processor()}, {os.cpu_count()} cores",
        "BLAS": kernels,
        "Arithmetic": pinned.in_words(arithmetic) or "as NumPy finds it",
        "Settings": pinned.in_words(course) or "none",
        "The course": revision(),
        "Versions": ", ".join("=".join(package) for package in installed),
    }


def processor() -> str:
    """Return the processor's name, as well as this system tells it."""
    linux = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", linux.read_text(), re.MULTILINE) if linux.exists() else None
    return named.group(1) if named else platform.processor() or platform.machine()


def revision() -> str:
    """Return the commit of this checkout, and whether anything in it has been changed since."""
    git = ["git", "-C", str(pinned.ROOT), "describe", "--always", "--dirty= and changes"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
