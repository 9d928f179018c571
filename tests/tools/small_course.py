"""Small notebooks to build, damage and run, and the commands that a person would type on them."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tools.shared import kernels, notebooks, pinned

HEADER = (
    "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: Python 3 (ipykernel)\n#     language: python\n"
    "#     name: python3\n# ---\n\n"
)
STEADY = """
# %% [markdown]
# # A tiny course
#
# ```
# # no heading: a comment in an example
# ```

# %%
value = 0.5
print(f"value {value:.4f}")
print("user settings seen:", "intruder" in globals())

# %% [markdown]
# ## What it means

# %%
from nnlib.claims import claim

claim("the value is at least 0.4", value, at_least=0.4)

# %% tags=["exercise"]
def double(x):
    raise NotImplementedError("not written yet")


# %% tags=["solution"]
def double(x):
    return 2 * x


# %% tags=["check"]
double(value)

# %% tags=["raises-exception"]
double(None)
"""
LOOSE = """
# %% [markdown]
# # Clocks

# %% tags=["nbval-ignore-output"]
import os

from nnlib.claims import claim

print("process", os.getpid())
claim("this process has a number", os.getpid(), at_least=0)
"""
WAITS = "\n# %% [markdown]\n# ## A long wait\n\n# %%\nimport time\n\ntime.sleep(600)\n"

pinnable = pytest.mark.skipif(pinned.obstacle() is not None, reason=f"no digits compared here: {pinned.obstacle()}")


def write(folder, name, body):
    path = folder / f"{name}.py"
    path.write_text(HEADER + body.lstrip("\n"), encoding="utf-8", newline="\n")
    return path


def edit(path, change):
    """Load a stored notebook, let `change` alter it (and its code cells), write it back."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook, [cell for cell, _ in notebooks.code_cells(notebook)])
    notebooks.write(notebook, path)


def environment(home, **settings):
    """The environment of a user with an IPython profile, a kernel and matplotlib settings of their own."""
    startup = home / "ipython" / "profile_default" / "startup"
    kernel = home / "jupyter" / "kernels" / "python3"
    for folder in (startup, kernel):
        folder.mkdir(parents=True, exist_ok=True)
    (startup / "00.py").write_text("intruder = True\n")
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["no-such-python"], "display_name": "x", "language": "x"}))
    theirs = {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "MPLBACKEND": "nonsense",
        "NNLIB_OFFLINE": "1",
    }
    ours = ("NNLIB_", "PYTEST_", "TQDM_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | theirs | settings


def run(command, cwd, env):
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    return subprocess.run([sys.executable, "-m", *map(str, command)], cwd=cwd, env=env, **said)


def tool(name, *arguments, home, **settings):
    """Run `python -m tools.NAME ...`."""
    return run((f"tools.{name}", *arguments), notebooks.ROOT, environment(home, **settings))


def beside(module, source, folder):
    """Run `python -m module source` on the sample, as a kernel would; return the JSON object that it prints."""
    arithmetic = {} if pinned.obstacle() else pinned.PINNED
    with kernels.clean_room(arithmetic, NNLIB_DATA="sample", MPLBACKEND="agg") as env:
        command = [sys.executable, "-W", "ignore", "-m", module, str(source)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def plain_pytest(folder, *arguments, home, **settings):
    """Run `pytest ...` in a folder that has the course's conftest.py in its notebooks/."""
    shutil.copy(notebooks.ROOT / "notebooks" / "conftest.py", folder / "notebooks")
    (folder / "pyproject.toml").write_text(
        f"[tool.pytest.ini_options]\npythonpath = [{json.dumps(str(notebooks.ROOT))}]\n"
    )
    return run(("pytest", *arguments), folder, environment(home, **settings))
