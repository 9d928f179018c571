"""The course in a real JupyterLab: notebook 01 opened in Chromium, run on the sample, edited, saved; its .py follows.

An interactive figure lives there: after a run, opened again, in the dark. `make test-lab` runs this. pytest alone does
not (hence the name of this file): it needs Chromium, and a minute. Screenshots of each step are kept in reports/, also
of the step that failed.
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

from tools.shared import notebooks, pairs

pytestmark = pytest.mark.browser
NAME = "01_mlp"
SECONDS = 600  # for each step: a busy machine is no failure
FIGURE = """
from nnlib import interactive
import numpy as np

interactive.player(np.eye(4)[:, None], list("abcd"), alt="A white pixel that moves to the right.")
"""
NO_NEWS = '{"fetchNews": "false", "checkForUpdates": false}'


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as `make lab` starts it, on a copy of the notebooks: (its folder, name -> address of a notebook)."""
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
        yield folder, f"http://127.0.0.1:{port}/lab/tree/{{}}.ipynb?token={token}&reset".format
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
def page(chromium):
    """A window of Chromium."""
    window = chromium.new_page(viewport={"width": 1300, "height": 1000})
    window.set_default_timeout(1000 * SECONDS)
    yield window
    window.close()


@pytest.fixture
def look(page):
    """Return a function that keeps a screenshot of a step."""
    reports = notebooks.ROOT / "reports"
    reports.mkdir(exist_ok=True)
    return lambda step: page.screenshot(path=reports / f"jupyterlab-{step}.png")


def menu(page, name, *items):
    """Choose an item of a menu, or of a menu within it."""
    page.get_by_role("menuitem", name=name, exact=True).click()
    for item in items:
        page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()


def test_notebook_01_is_run_edited_and_saved_in_jupyterlab_and_its_source_follows(lab, page, look):
    folder, address = lab
    source, stored = folder / f"{NAME}.py", folder / f"{NAME}.ipynb"
    before = source.read_text("utf-8")

    def save(until):
        page.keyboard.press("Escape")
        page.keyboard.press("Control+s")
        page.locator(".lm-TabBar-tab.jp-mod-dirty").wait_for(state="detached")
        wait_until(until)
        assert pairs.difference(source) is None

    try:
        page.goto(address(NAME))
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
        page.locator(".jp-Toolbar-kernelName", has_text="Python 3").wait_for()
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for()
        look("1-opened")

        # nothing of what is stored may be mistaken for what is run now
        menu(page, "Kernel", "Restart Kernel and Clear Outputs of All Cells…")
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.wait_for_function("!document.querySelector('.jp-OutputArea-output')")
        idle.wait_for()
        menu(page, "Run", "Run All Cells")
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


def test_an_interactive_figure_lives_in_jupyterlab(lab, page, look):
    folder, address = lab
    new = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIGURE.strip())])
    new.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }  # none is asked for
    nbformat.write(new, folder / "own.ipynb")
    figure = page.locator(".nn-figure")
    inside = figure.frame_locator("iframe")
    shown, slider = inside.locator("output"), inside.get_by_role("slider")

    def is_alive():
        slider.wait_for()
        assert shown.text_content() == "d"
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
        assert shown.text_content() == "a"
        page.keyboard.press("ArrowRight")  # which JupyterLab keeps to itself where there is no frame
        assert shown.text_content() == "b"

    try:
        page.goto(address("own"))
        page.locator(".jp-Toolbar-kernelName", has_text="Python 3").wait_for()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        menu(page, "Run", "Run All Cells")
        is_alive()
        look("5-figure")
        assert figure.locator("img").count() == 0
        assert figure.locator("iframe").bounding_box()["height"] - slider.bounding_box()["y"] < 300, "its own height"
        menu(page, "Settings", "Theme", "JupyterLab Dark")
        inside.locator("html[data-theme=dark]").wait_for()
        look("6-figure-dark")
        menu(page, "Settings", "Theme", "JupyterLab Light")
        inside.locator("html[data-theme=light]").wait_for()
        menu(page, "File", "Save Notebook")
        wait_until(lambda: executed(folder / "own.ipynb"))

        page.goto("about:blank")
        page.goto(address("own"))  # opened again, and not run
        is_alive()

        theirs = nbformat.read(folder / "own.ipynb", as_version=4)
        theirs.cells[0].source += "  # made elsewhere: not trusted here"
        nbformat.write(theirs, folder / "theirs.ipynb")
        page.goto(address("theirs"))
        picture = figure.locator("img")
        picture.wait_for()
        look("7-figure-not-trusted")
        assert picture.get_attribute("alt") == "A white pixel that moves to the right."
        assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
        assert figure.locator("iframe").count() == 0
    except BaseException:
        look("failed")
        raise
