"""The course's site in a real browser, as a visitor meets it: every page, wide and narrow, light and dark.

`make test-lab` runs this, pytest alone does not (hence its name). The site is built from the stored notebooks, and once
more with the address of a repository; in one of them stand two interactive figures more, so that there always are some.
Screenshots of the front page are kept in reports/.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html import unescape
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from nnlib import Flatten, Linear, Sequential, interactive
from tests.interactive.browser import overflow, watch
from tools.shared import notebooks

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="left out: axe is not installed")
building = pytest.importorskip("tools.site.build", reason="left out: Sphinx is not installed (make site)")

pytestmark = pytest.mark.browser
HEAVIEST, SLOWEST = 6e6, 2000  # bytes, milliseconds
WIDE, NARROW = {"width": 1300, "height": 900}, {"width": 360, "height": 780}
REPOSITORY = "https://github.com/somebody/a-course"
ALIVE = """figure => {
    const page = figure.querySelector("iframe")?.contentDocument;
    return Boolean(page?.querySelector("#figure")?.childElementCount && page.querySelector("canvas, svg, input, img"));
}"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The stored notebooks; at the end of 03 stand a digit pad and a player more."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    shutil.copytree(notebooks.ROOT / "notebooks", folder, ignore=shutil.ignore_patterns("*.py", "*.npz", ".*"))
    path = folder / "03_cnn_im2col.ipynb"
    notebook = nbformat.read(path, as_version=4)
    model = Sequential([Flatten(), Linear(784, 10, rng=np.random.default_rng(0))])
    player = interactive.player(np.eye(4)[:, None], list("abcd"), alt="A white pixel that moves to the right.")
    for figure in (interactive.digit_pad(model), player):
        faces, metadata = figure._repr_mimebundle_()
        output = nbformat.v4.new_output("execute_result", faces, metadata=metadata, execution_count=99)
        notebook.cells.append(nbformat.v4.new_code_cell("secret_of_this_figure()", outputs=[output]))
        notebook.cells[-1].metadata["tags"] = ["figure"]
    nbformat.write(notebook, path)
    return notebooks.select(folder, suffix=".ipynb")


def build(stored, to, repository=""):
    """Build the site of these notebooks, as `make site` does."""
    command = [sys.executable, "-m", "tools.site.build", "--notebooks", stored[0].parent, "--to", to]
    done = subprocess.run(command, cwd=notebooks.ROOT, env=os.environ | {"SITE_REPOSITORY": repository})
    assert done.returncode == 0
    return to


@pytest.fixture(scope="module")
def folder(stored, tmp_path_factory):
    """The site, built."""
    return build(stored, tmp_path_factory.mktemp("built") / "site")


@pytest.fixture(scope="module")
def pages(folder):
    """The names of all its pages."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    found = [name for name in found if not name.startswith("_static/")]
    assert {"index.html", "start.html", "docs/symbols.html", "reference/nnlib.layers.html", "404.html"} <= set(found)
    return found


@pytest.fixture(scope="module")
def address(folder):
    """Serve the site on this machine, and return its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # as servers in the world, it keeps a connection

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def visit(chromium, address):
    """Return a function that opens a page; what goes wrong on any of them fails the test at its end."""
    contexts, faults = [], []

    def open_page(name="index.html", size=WIDE, dark=False, page=None):
        if page is None:
            contexts.append(chromium.new_context(viewport=size, color_scheme="dark" if dark else "light"))
            watch(contexts[-1], faults, address)
            page = contexts[-1].new_page()
            page.set_default_timeout(20_000)
        page.goto(address + name)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


def figures(path):
    """The interactive figures that a stored notebook holds."""
    outputs = [output for cell, _ in notebooks.code_cells(nbformat.read(path, as_version=4)) for output in cell.outputs]
    return [page for output in outputs if "nn-figure" in (page := output.get("data", {}).get("text/html", ""))]


def wait_for_figures(page):
    """Wait until every interactive figure of a page is alive, and return how many there are."""
    found = page.locator(".nn-figure")
    for number in range(found.count()):
        page.wait_for_function(ALIVE, arg=found.nth(number).element_handle())
    return found.count()


# ----------------------------------------------------------------------------------------------------------- each page


def test_every_page_opens_whole_light_and_fast(visit, pages, stored, address):
    """Pictures are there and described, figures alive, formulas drawn; no error in the console, no request outside."""
    page, measured = visit(), {}
    alive = {f"notebooks/{path.stem}.html": len(figures(path)) for path in stored} | {"index.html": 1}
    for name in pages:
        visit(name, page=page)
        page.wait_for_load_state("load")
        assert wait_for_figures(page) == alive.get(name, 0), name
        broken = page.evaluate("[...document.images].filter(i => !(i.naturalWidth && i.alt)).map(i => i.src)")
        assert not broken, f"{name}: pictures that are missing or not described: {broken}"
        flat = page.evaluate("""[...document.querySelectorAll("math")].filter(
            formula => formula.checkVisibility() && !formula.getBoundingClientRect().height).length""")
        assert not flat, f"{name}: a formula is not drawn"
        raw = page.evaluate("""() => {
            const article = document.querySelector("main").cloneNode(true);
            article.querySelectorAll("code, pre, math, script").forEach(part => part.remove());
            return article.textContent.match(/.{0,40}(\\$\\$|\\\\frac|\\\\sum).{0,40}/);
        }""")
        assert not raw, f"{name}: a formula stands as TeX: {raw[0]}"
        measured[name] = weigh(page)
        if measured[name].milliseconds > SLOWEST:  # once more: something else may have had the processor
            measured[name].milliseconds = weigh(visit(name, page=page)).milliseconds
    assert len(pages) > 35 and sum(alive.values()) >= 3
    slow = {name: cost.milliseconds for name, cost in measured.items() if cost.milliseconds > SLOWEST}
    heavy = {name: cost.bytes for name, cost in measured.items() if cost.bytes > HEAVIEST}
    most = max(measured, key=lambda name: measured[name].bytes)
    print(f"\n{len(pages)} pages; the heaviest, {most}: {measured[most].bytes / 1e6:.1f} MB")
    print(f"the slowest: {max(cost.milliseconds for cost in measured.values()):.0f} ms")
    assert not slow and not heavy


def weigh(page):
    """What a page cost: milliseconds until it was loaded, bytes of it and of all that it brought along."""
    cost = page.evaluate("""() => {
        const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
        return [all[0].loadEventEnd, all.reduce((sum, entry) => sum + entry.encodedBodySize, 0)];
    }""")
    assert all(cost)
    return SimpleNamespace(milliseconds=cost[0], bytes=cost[1])


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_every_page_without_moving_it_sideways(visit, pages, dark):
    page = visit(size=NARROW, dark=dark)
    wide = {}
    for name in pages[:: 4 if dark else 1]:
        visit(name, page=page)
        wait_for_figures(page)
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        wide[name] = overflow(page)
    assert not {name: pixels for name, pixels in wide.items() if pixels > 0}


def test_the_front_page_shows_the_course(visit, stored):
    """A digit is drawn and read; each notebook has its card; its picture is kept for who wants to look."""
    for mode, (size, dark) in {"wide": (WIDE, False), "narrow-dark": (NARROW, True)}.items():
        page = visit(size=size, dark=dark)
        wait_for_figures(page)
        page.screenshot(path=notebooks.ROOT / "reports" / f"site-{mode}.png", full_page=True)
        cards = page.locator(".story a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert cards == [f"notebooks/{path.stem}.html" for path in stored]
    frame = page.frame_locator(".nn-figure iframe")
    before = frame.locator("#figure").inner_text()
    sheet = frame.locator("canvas").first
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    for step in range(20):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (0.2 + 0.03 * step))
        page.mouse.down()
    page.mouse.up()
    page.wait_for_function(
        "([text, box]) => box.contentDocument.body.innerText !== text",
        arg=[before, page.locator(".nn-figure iframe").element_handle()],
    )


# -------------------------------------------------------------------------------------------------------------- search


@pytest.mark.parametrize(
    ("name", "size"),
    [("index.html", WIDE), ("index.html", NARROW), ("docs/symbols.html", WIDE), ("docs/symbols.html", NARROW)],
)
def test_search_is_offered_once_and_finds(visit, name, size):
    page = visit(name, size=size)
    offered = page.locator("button.search-button__button:visible, input[type=search]:visible")
    assert offered.count() == 1
    offered.click()
    page.keyboard.type("im2col")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"search\.html\?q=im2col"))
    found = page.locator("#search-results li a")
    found.first.wait_for()
    assert found.count() >= 4
    found.first.click()
    page.wait_for_url(re.compile(r"(notebooks|reference|docs)/"))
    assert "im2col" in page.locator("article").inner_text()


# ---------------------------------------------------------------------------------------------------------- light, dark


def test_dark_mode_switches_and_stays(visit):
    page = visit("notebooks/03_cnn_im2col.html")
    wait_for_figures(page)
    brightness = "e => getComputedStyle(e).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    body, picture = page.locator("body"), page.locator("div.cell_output img").first
    assert body.evaluate(brightness) > 200
    page.locator("button.theme-switch-button:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]").click()
    assert body.evaluate(brightness) < 60 and picture.evaluate(brightness) > 200  # plots are drawn on white
    page.wait_for_function(
        "frame => getComputedStyle(frame.contentDocument.documentElement).backgroundColor.match(/\\d+/)[0] < 60",
        arg=page.locator(".nn-figure iframe").first.element_handle(),
    )
    around = page.locator("div.text_html:has(.nn-figure)").first
    assert around.evaluate("e => getComputedStyle(e).backgroundColor") == "rgba(0, 0, 0, 0)"  # no light frame
    visit("docs/symbols.html", page=page)
    assert body.evaluate(brightness) < 60


@pytest.mark.parametrize(
    ("name", "dark"),
    [(name, dark) for name in ("index", "reference/nnlib.training") for dark in (False, True)]
    + [("notebooks/03_cnn_im2col", False)],
)
def test_axe_finds_nothing_serious(visit, name, dark):
    page = visit(f"{name}.html", dark=dark)
    wait_for_figures(page)
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        f"{fault['impact']}: {fault['help']}\n    {node['html'][:200]}\n    {node.get('failureSummary', '')}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
    assert not serious, "\n".join(serious)


# ------------------------------------------------------------------------------------------------ what a notebook holds


def test_answers_and_code_that_only_draws_are_folded_and_nothing_is_lost(visit, stored):
    page = visit()
    for path in stored:
        cells = nbformat.read(path, as_version=4).cells
        visit(f"notebooks/{path.stem}.html", page=page)
        folds = page.locator("article details")
        kinds = [
            "solution" if "solution" in (tags := notebooks.tags(c)) else "figure" * ("figure" in tags) for c in cells
        ]
        said = [" ".join(text.split()) for text in folds.locator("> summary").all_text_contents()]
        counts = [sum(text.startswith(words) for text in said) for words in ("Solution", "Code of this figure")]
        assert counts == [kinds.count("solution"), kinds.count("figure")]
        assert not page.locator("article details[open]").count()
        code = page.locator("div.cell_input").all_text_contents()
        assert len(code) == sum(cell.cell_type == "code" for cell in cells)
        described = page.locator("article img").evaluate_all("pictures => pictures.map(picture => picture.alt)")
        framed = page.locator(".nn-figure iframe").evaluate_all("frames => frames.map(frame => frame.title)")
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        alts = [alt for output in outputs if (alt := output.get("metadata", {}).get("image/png", {}).get("alt"))]
        assert sorted(described + framed) == sorted([*alts, building.cover_of(nbformat.read(path, as_version=4))])


# ------------------------------------------------------------------------------------------- where the repository lives


LEADS = re.compile(r'(?:href|content)="(https?://[^"]*(?:github|colab|mybinder)[^"]*)"')


def test_without_a_repository_no_page_says_where_it_is(folder, pages):
    for name in pages:
        text = (folder / name).read_text("utf-8")
        assert not re.search("colab|binder|canonical|og:url|og:image|SITE_REPO.*blob", text.partition("<main")[0]), name
        if name.startswith("notebooks/"):
            assert "%pip" not in text, name
            assert not LEADS.search(text), name


def test_with_a_repository_every_page_leads_to_it(stored, pages, tmp_path):
    site = build(stored, tmp_path / "site", REPOSITORY + "/")
    home = "https://somebody.github.io/a-course/"
    for name in pages:
        text = (site / name).read_text("utf-8")
        head = {
            key: unescape(value)
            for key, value in re.findall(r'<meta (?:property|name)="([\w:]+)" content="(.*?)"', text)
        }
        assert f'<link rel="canonical" href="{home}{name}"' in text and head["og:url"] == home + name
        assert (site / head["og:image"].removeprefix(home)).is_file() and head["og:image"].startswith(home)
        assert head["og:title"] and len(head["description"]) > 5 and head["twitter:card"] == "summary_large_image"
        if name.startswith("notebooks/"):
            path = name.replace(".html", ".ipynb")
            for lead in (
                f"https://colab.research.google.com/github/somebody/a-course/blob/main/{path}",
                f"https://mybinder.org/v2/gh/somebody/a-course/main?urlpath=lab/tree/{path}",
                f"{REPOSITORY}/blob/main/{path}",
            ):
                assert lead in LEADS.findall(text), (name, lead)
            assert f"<code>%pip install -q git+{REPOSITORY}</code>" in text, "nnlib is not installed in Colab"
            assert (notebooks.ROOT / path).is_file() and json.loads((site / "_downloads" / path).read_text("utf-8"))
        for lead in LEADS.findall(text):
            if lead.startswith(REPOSITORY + "/blob/main/"):
                assert (notebooks.ROOT / lead.removeprefix(REPOSITORY + "/blob/main/")).exists(), (name, lead)


@pytest.mark.parametrize(
    "address", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a", "https://github.com/a/b/c"]
)
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ValueError, match=re.escape(f"SITE_REPOSITORY is {address!r}")):
        building.Repository(address)
