"""The pinned arithmetic: the settings under which the stored digits come out equal, whatever the processor offers.

    python -m tools.shared.pinned COMMAND...    runs COMMAND under them (or says why it can't, and runs it all the same)

The one idea: a matrix product is a sum, and the order of a sum decides its last digits. OpenBLAS chooses that order
by processor and by number of threads, NumPy by the vector instructions it finds; here both choices are made once.
One thread, because OpenBLAS's threads wait for each other: on two cores, one of them busy with something else, a step
of training that takes 15 ms was measured to take 1,500. So the digits need no certain number of cores either.
"""

import functools
import json
import os
import platform
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PINNED = {
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}

# Asks NumPy and its OpenBLAS what they really use. The symbols are those of the OpenBLAS inside NumPy's wheels.
PROBE = """
import ctypes, json
import numpy
import numpy._core._multiarray_umath as umath
found = dict(numpy=numpy.__version__, features=[name for name, there in umath.__cpu_features__.items() if there])
try:
    blas = ctypes.CDLL(umath.__file__)
    blas.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
    found.update(core=blas.scipy_openblas_get_corename64_().decode(), threads=blas.scipy_openblas_get_num_threads64_())
except (OSError, AttributeError):
    pass
print(json.dumps(found))
"""


def environment(arithmetic: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with `arithmetic` in the place of every such setting that it has."""
    ours = (*PINNED, "NPY_ENABLE_CPU_FEATURES")
    return {name: value for name, value in os.environ.items() if name not in ours} | arithmetic


def probe(arithmetic: dict[str, str]) -> dict | None:
    """Start NumPy under `arithmetic` and return what it found there, or None if it could not even start."""
    command = [sys.executable, "-c", PROBE]
    answer = subprocess.run(command, env=environment(arithmetic), capture_output=True, text=True)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


@functools.cache
def obstacle() -> str | None:
    """Say why the pinned arithmetic can't run here, or return None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the stored digits are those of Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    return judge(probe(PINNED), _pinned_numpy())


def judge(found: dict | None, numpy_version: str) -> str | None:
    """Say what in `found` (see `probe`) is not the pinned arithmetic, or return None."""
    if found is None:
        return "NumPy does not start under the pinned settings"
    if found["numpy"] != numpy_version:
        return f"NumPy is {found['numpy']} here, and the stored digits are those of {numpy_version} (make setup)"
    if "X86_V3" not in found["features"]:
        return "this processor lacks AVX2 or FMA, which the pinned kernels need"
    if found.get("core") != PINNED["OPENBLAS_CORETYPE"]:
        return f"NumPy here does not compute with its own OpenBLAS's {PINNED['OPENBLAS_CORETYPE']} kernels"
    if found["threads"] != int(PINNED["OPENBLAS_NUM_THREADS"]):
        return f"the stored digits are those of one OpenBLAS thread, and {found['threads']} are at work here"
    return None


def arithmetic_in_words(why_not: str | None) -> str:
    """Say in which arithmetic the outputs of a notebook were computed; why_not: why it was not the pinned one."""
    if why_not:
        return f"NumPy {metadata.version('numpy')}, not in the pinned arithmetic: {why_not}"
    return f"NumPy {_pinned_numpy()} in the pinned arithmetic (kernels: {PINNED['OPENBLAS_CORETYPE']}, one BLAS thread)"


@functools.cache
def other_arithmetic() -> dict[str, str]:
    """Return settings far from the pinned ones, which every claim must survive too: the kernels of other processors."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return {"OPENBLAS_NUM_THREADS": "1"}
    features = (probe({}) or {"features": []})["features"]
    return {
        "OPENBLAS_CORETYPE": "SkylakeX" if "X86_V4" in features else "Sandybridge",
        "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3",
    }


def in_words(settings: dict[str, str]) -> str:
    """Return settings as one line."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _pinned_numpy():
    return re.search(r"^numpy==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE).group(1)


def main(command: list[str]) -> int:
    """Run `command` under the pinned arithmetic where that is possible."""
    if not command:
        sys.exit(__doc__)
    if why := obstacle():
        print(f"The last digits may differ from the stored ones: {why}.", flush=True)
    child = subprocess.Popen(command, env=environment({} if why else PINNED))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command; we wait until it has ended
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
