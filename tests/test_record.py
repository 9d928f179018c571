"""The page of a run tells what happened, wherever it ended, and nothing that a notebook prints can change the page."""

import re
import signal
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import nbformat
import psutil
import pytest
from test_tools import write

from tools import record
from tools.instructor import run
from tools.shared import notebooks

NASTY = (
    "</pre><script>alert('x')</script><img src=https://example.org/x onerror=alert(1)> & \"{{ 7 * 7 }}\" \x1b[31m\udcff"
)


class Page(HTMLParser):
    """What a browser would see: the elements, and the text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.attributes, self.text = Counter(), [], ""
        self.feed(path.read_text("utf-8"))
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.text += " "
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def a_run(monkeypatch, tmp_path):
    """A run of four notebooks that ended in all the ways there are, every text of it as nasty as can be."""
    monkeypatch.setenv("NNLIB_JOBS", "2")
    data = {"mnist": {"title": f"MNIST {NASTY}", "source": "sample", "fingerprint": "0123456789abcdefg"}}
    made = record.Run("make test", tmp_path / "notebooks", {}, data)
    fine = record.Record(
        "01_fine", "passed", 61.23, 50.0, "compared", Counter(compared=40), [f"a is b {NASTY}"], data=["mnist"]
    )
    bad = record.Record("02_bad", "passed", 5.0, 5.0, "compared")
    bad.fail(
        number=7, heading=f"The chain rule {NASTY}", what="raised an error", source=f"1 / 0  # {NASTY}", detail=NASTY
    )
    lines = [("printed text (stdout), line 1", NASTY, f"now {NASTY}")]
    bad.drift = [{"number": 3, "heading": NASTY, "lines": lines, "more": 2}]
    rest = [
        record.Record("03_half", "interrupted", 3.0, remark=f"it was in {NASTY}"),
        record.Record("04_last", "not begun"),
    ]
    made.records, made.notes = [fine, bad, *rest], [f"Note {NASTY}"]
    return made


def test_the_page_tells_all_and_escapes_all(a_run, tmp_path):
    record.write_page(a_run)
    path = tmp_path / "reports" / "run.html"
    page = Page(path)
    visible = NASTY.replace("\x1b", "\ufffd").replace("\udcff", "\ufffd")
    assert page.text.count(visible) == 10
    assert page.elements["script"] == page.elements["img"] == page.elements["link"] == page.elements["iframe"] == 0
    assert not [value for name, value in page.attributes if name in ("src", "onerror") or "//" in (value or "")]
    assert "url(" not in path.read_text("utf-8") and "@import" not in path.read_text("utf-8")
    assert "make test: FAILED" in page.text and "2 notebooks at a time: clocks" in page.text
    assert "02_bad, cell [7], under “The chain rule" in page.text and "and 2 more lines of this cell" in page.text
    for row in (
        "01_fine passed 61.2 50.0 40 0 1 none",
        "02_bad FAILED 5.0 5.0 0 0 0 1 cell",
        "03_half interrupted 3.0 0.0 0 0 0 it was",
    ):
        assert row in page.text
    assert "04_last not begun 0.0 0.0 0 0 0 none" not in page.text  # nothing is known of it
    for fact in ("processor", "OpenBLAS", "numpy 2.", "Python 3.", "0123456789abcdef 01_fine", "the course"):
        assert fact in page.text
    assert not list(path.parent.glob(".*"))


def test_an_interrupted_run_says_so_and_a_passed_one_too(a_run):
    a_run.interrupted = True
    record.write_page(a_run)
    assert "make test: interrupted" in Page(a_run.page).text and a_run.exit_code == 130
    a_run.interrupted, a_run.records = False, a_run.records[:1]
    record.write_page(a_run)
    text = Page(a_run.page).text
    assert "make test: passed" in text and "one notebook after the other" in text and "What failed" not in text
    assert a_run.exit_code == 0


def test_a_page_that_cannot_be_made_leaves_the_old_one(a_run):
    record.write_page(a_run)
    before = a_run.page.read_bytes()
    del a_run.notes  # the template misses something
    with pytest.raises(Exception, match="notes"):
        record.write_page(a_run)
    assert a_run.page.read_bytes() == before


def test_drift_is_every_line_that_moved_in_a_cell_that_is_compared():
    def out(text):
        return [nbformat.v4.new_output("stream", name="stdout", text=text)]

    cell = nbformat.v4.new_code_cell("print()", outputs=out("a\nb\nc\n"))
    assert record.drift_of(4, "Here", cell, out("a\nb\nc\n")) is None
    found = record.drift_of(4, "Here", cell, out("a\nB\nC\n"))
    where = "printed text (stdout), line"
    assert found["lines"] == [(f"{where} 2", "b", "B"), (f"{where} 3", "c", "C")] and found["more"] == 0
    many = record.drift_of(4, "Here", cell, out("\n".join(map(str, range(50)))))
    assert len(many["lines"]) == record.LINES and many["more"] == 50 - record.LINES
    cell.metadata["tags"] = ["nbval-ignore-output"]
    assert record.drift_of(4, "Here", cell, out("a clock")) is None


def test_a_run_is_compared_only_with_outputs_of_the_same_source_and_data(tmp_path):
    source = write(tmp_path, "01_a", '\n# %%\nload_dataset("mnist")\n')
    fresh, stored, here = notebooks.read_source(source), notebooks.read_source(source), {"mnist": {"fingerprint": "aa"}}
    here["mnist"] |= {"title": "MNIST", "source": "sample"}
    path = source.with_suffix(".ipynb")
    assert run.comparable(fresh, path, here) == ([], "it has not been built yet")
    for fingerprint, words in (
        ("aa", ""),
        ("bb", "the data here is not that of the stored outputs (here: MNIST, sample)"),
    ):
        stored.metadata["nnlib"] = {"datasets": {"mnist": {"fingerprint": fingerprint}}}
        notebooks.write(stored, path)
        cells, why = run.comparable(fresh, path, here)
        assert why == words and len(cells) == (not words)
    stored.cells[0].source += "  # edited"
    notebooks.write(stored, path)
    assert run.comparable(fresh, path, here)[1] == "the stored outputs are those of another source"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_kills_all_its_kernels_and_writes_its_page(how, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write(folder, "01_quick", '\n# %%\nprint("done")\n')
    for name in ("02_slow", "03_slow", "04_never"):
        write(folder, name, "\n# %% [markdown]\n# ## A long wait\n\n# %%\nimport time\n\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "tools.instructor.run", "--notebooks", folder, "--results", tmp_path / "results"]
    env = notebooks.pinned.environment({}) | {"NNLIB_JOBS": "2", "NNLIB_OFFLINE": "1"}
    said, family = "", []
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and so their children
    with subprocess.Popen(command, cwd=notebooks.ROOT, env=env, stdout=subprocess.PIPE, encoding="utf-8") as tool:
        for line in tool.stdout:
            said += line
            if said.count("A long wait") == 2:
                family = psutil.Process(tool.pid).children(recursive=True)
                tool.send_signal(how)
                break
        said += tool.stdout.read()
    assert tool.returncode == 130
    assert len(family) >= 4  # two workers, two kernels
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    results = re.findall(r"^(0\d)_\w+ +\d+\.\d .* (passed|interrupted|not begun)$", said, re.MULTILINE)
    assert results == [("01", "passed"), ("02", "interrupted"), ("03", "interrupted"), ("04", "not begun")], said
    assert "Interrupted: what was still running has been ended." in said
    text = Page(tmp_path / "reports" / "run.html").text
    assert "make run: interrupted" in text and "it was in cell 1 of 1, under “A long wait”" in text
    assert "04_never not begun" in text
