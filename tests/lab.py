"""The course in a real JupyterLab: notebook 01 opened in Chromium, run on the sample, edited, saved; its .py follows.

`make test-lab` runs this. pytest alone does not (hence the name of this file): it needs Chromium, and a minute.
Screenshots of each step are kept in reports/, also of the step that failed.
"""

import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import sync_playwright

from tools.shared import notebooks, pairs

NAME = "01_mlp"
SECONDS = 600  # for each step: a busy machine is no failure
NO_NEWS = '{"fetchNews": "false", "checkForUpdates": false}'


def chromium():
    """The browser to use: CHROMIUM, or the one that is installed."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else ["chromium", "chromium-browser", "google-chrome"]
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        pytest.fail(f"no {' or '.join(names)} here: install Chromium, or name it: make test-lab CHROMIUM=...", False)
    return found[0]


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as `make lab` starts it, on a copy of the notebooks: (its folder, the address of notebook 01)."""
    folder = tmp_path / "notebooks"
    shutil.copytree(notebooks.ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.npz"))
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(NO_NEWS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = re.search(r"^lab:.*\n\t@(.+)$", (notebooks.ROOT / "Makefile").read_text("utf-8"), re.MULTILINE).group(1)
    command = shlex.split(recipe.replace("$(PY)", shlex.quote(sys.executable)))
    command += ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command += ["--allow-root"]
    token = secrets.token_hex(16)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NNLIB_", "JUPYTER", "MPL"))}
    env |= {"JUPYTER_TOKEN": token, "PYTHONPATH": str(notebooks.ROOT), "NNLIB_DATA": "sample", "NNLIB_OFFLINE": "1"}
    theirs = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    env |= {name: str(tmp_path / name.lower()) for name in theirs} | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")
    }
    log = tmp_path / "jupyterlab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/status?token={token}"), server, log)
        yield folder, f"http://127.0.0.1:{port}/lab/tree/{NAME}.ipynb?token={token}"
    finally:
        for process in (*psutil.Process(server.pid).children(recursive=True), server):
            process.kill()
        server.wait()


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until(true, server=None, log=None):
    end = time.monotonic() + SECONDS
    while not true():
        ended = server and server.poll() is not None
        if ended or time.monotonic() > end:
            pytest.fail(f"waited for {SECONDS} s in vain{':' + log.read_text()[-3000:] if log else ''}", False)
        time.sleep(0.1)


@pytest.fixture
def page():
    """A window of Chromium."""
    root = hasattr(os, "getuid") and os.getuid() == 0  # Chromium's sandbox refuses to work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"] * root)
        window = browser.new_page(viewport={"width": 1300, "height": 1000})
        window.set_default_timeout(1000 * SECONDS)
        yield window
        browser.close()


def test_notebook_01_is_run_edited_and_saved_in_jupyterlab_and_its_source_follows(lab, page):
    folder, address = lab
    source, stored = folder / f"{NAME}.py", folder / f"{NAME}.ipynb"
    before = source.read_text("utf-8")
    reports = notebooks.ROOT / "reports"
    reports.mkdir(exist_ok=True)
    for old in reports.glob("jupyterlab-*.png"):
        old.unlink()

    def look(step):
        page.screenshot(path=reports / f"jupyterlab-{step}.png")

    def save(until):
        page.keyboard.press("Escape")
        page.keyboard.press("Control+s")
        page.locator(".lm-TabBar-tab.jp-mod-dirty").wait_for(state="detached")
        wait_until(until)
        assert pairs.difference(source) is None

    try:
        page.goto(address)
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
        page.locator(".jp-Toolbar-kernelName", has_text="Python 3").wait_for()
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for()
        look("1-opened")

        # nothing of what is stored may be mistaken for what is run now
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name="Restart Kernel and Clear Outputs of All Cells…").click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.wait_for_function("!document.querySelector('.jp-OutputArea-output')")
        idle.wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for()
        idle.wait_for()
        look("2-all-cells-run")

        save(lambda: executed(stored))
        cells = [cell for cell, _ in notebooks.code_cells(nbformat.read(stored, as_version=4))]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        errors = [out.ename for c in cells for out in c.outputs if out.output_type == "error"]
        assert len(errors) == sum("raises-exception" in notebooks.tags(cell) for cell in cells), errors
        assert sum(len(notebooks.claims(cell.outputs)) for cell in cells) >= 3
        assert source.read_text("utf-8") == before  # running a notebook is no change of it

        page.locator(".jp-Notebook").press("Control+Home")
        first = cells[0].source.splitlines()[-1]
        editor = page.locator(".jp-CodeCell .cm-content").first
        editor.click()
        page.keyboard.press("Control+End")
        page.keyboard.type("\nwritten_in_the_browser = True")
        look("3-edited")
        save(lambda: source.read_text("utf-8") != before)
        assert source.read_text("utf-8") == before.replace(first, f"{first}\nwritten_in_the_browser = True", 1)
        look("4-saved")
    except BaseException:
        look("failed")
        raise


def executed(path: Path) -> bool:
    """Say whether every code cell of this notebook has been run (it may be half written)."""
    try:
        cells = notebooks.code_cells(nbformat.read(path, as_version=4))
    except Exception:
        return False
    return all(cell.execution_count for cell, _ in cells)
