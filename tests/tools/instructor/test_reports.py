"""The reports: nothing is clipped, nothing is lost, every fault names its cell; and each check is shown to bite."""

import base64
import importlib
import io
import re
import shutil
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools.shared import notebooks

needed = "the reports are not tested: it takes pandoc, typst and pypdf, which make setup installs"
pypdf = pytest.importorskip("pypdf", reason=needed)
typst = pytest.importorskip("typst", reason=needed)
pytest.importorskip("pypandoc", reason=needed)
reports = importlib.import_module("tools.instructor.reports")

LONG = "x" * 300
ALT = "A curve that falls, then flattens."
TRACEBACK = [
    "\x1b[31m---------------------------------------------------------------------------\x1b[39m",
    "\x1b[31mZeroDivisionError\x1b[39m                         Traceback (most recent call last)",
    "\x1b[36mCell\x1b[39m \x1b[32mIn[3]\x1b[39m\n\x1b[32m----> 1\x1b[39m \x1b[38;5;28;01mreturn\x1b[39;00m 1/0",
    "\x1b[31mZeroDivisionError\x1b[39m: division by zero",
]
HEAD, ROW = ("".join(f"<{tag}>{n}.12345</{tag}>" for n in range(25)) for tag in ("th", "td"))
TABLE = f"<div><style scoped>td {{ color: red; }}</style><table><tr>{HEAD}</tr><tr>{ROW}</tr></table></div>"


def png(width=300, height=150):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), (200, 80, 0), np.uint8)).save(file, "png", dpi=(100, 100))
    return base64.b64encode(file.getvalue()).decode()


def figure(alt=ALT, **size):
    return new_output("display_data", {"image/png": png(**size)}, metadata={"image/png": {"alt": alt}})


def said(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def notebook(*cells, path=None, metadata=None):
    """A notebook of these cells (text, or (code, output, ...)), the code run in order; written to `path` if given."""
    made, count = [], 0
    for cell in cells:
        if isinstance(cell, str):
            made.append(new_markdown_cell(cell))
        else:
            count += 1
            code, *outputs = cell
            made.append(new_code_cell(code, outputs=outputs, execution_count=count))
    node = new_notebook(cells=made, metadata=metadata or {})
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(node, path)
    return node


def workshop(folder, old="", new=""):
    """A working folder as reports.main makes it; in its reports.typ, `old` is replaced by `new`: the planted bug."""
    folder.mkdir(parents=True, exist_ok=True)
    look = (reports.HERE / "reports.typ").read_text("utf-8")
    assert old in look
    (folder / "reports.typ").write_text(look.replace(old, new) if old else look, "utf-8")
    return folder


def prepared(path, work):
    """The report on a notebook, its Typst in `work`."""
    report = reports.read(path, work)
    reports.write_typst(report, work)
    reports.bind(report.name, report.title, [report], work)
    return report


def pages(pdf):
    return pypdf.PdfReader(pdf).pages


def squeezed(text):
    """A text without spaces and without the places where a long word may break."""
    return re.sub(r"[\s\u200b\u200c]", "", text)


EVERYTHING = [
    "# All that can be on a page\n\nText[^1] and $x^2$, to [the tables](#Tables), to [another](02_other.ipynb).\n\n"
    "[^1]: The words of the footnote.",
    (
        "import numpy as np\n" + f"s = '{LONG}'  # {'a comment that is long ' * 10}\nclaim(…)",
        said("claim holds: it is so\n"),
    ),
    "### Tables\n\n| left | right |\n|---|--:|\n| one | $\\odot$ |\n\n<b>bold</b> <!-- a comment --> H<sub>2</sub>O",
    ("frame", new_output("execute_result", {"text/html": TABLE, "text/plain": "plain"}, execution_count=2)),
    ("fail()", new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=TRACEBACK)),
    ("print(...)", said(" ".join(map(str, range(200))) + "\n" + LONG), said("careful\n", "stderr")),
    ("plot()", figure(width=2000)),
    "$$" + "+".join(f"x_{{{i}}}" for i in range(60)) + "$$\n\n$$\\begin{cases} 1 & x > 0 \\\\ 0 & x < 0 \\end{cases}$$",
]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The folder with a report on a notebook in which everything occurs."""
    folder = tmp_path_factory.mktemp("everything")
    data = {"mnist": {"title": "MNIST", "source": "official", "fingerprint": "7886a375bc3e6c"}}
    environment = "NumPy 9.9 on the moon"
    node = notebook(*EVERYTHING, metadata={"nnlib": {"datasets": data, "environment": environment}})
    nbformat.write(node, folder / "01_everything.ipynb")
    reports.render(folder / "01_everything.ipynb", workshop(folder / "work"), folder / "reports")
    return folder


@pytest.fixture(scope="module")
def text(everything):
    return [page.extract_text() for page in pages(everything / "reports" / "01_everything.pdf")]


# --------------------------------------------------------------------------------------------------- what is on a page


def test_what_a_progress_bar_leaves_behind_is_no_output(tmp_path):
    bar = said("\r 50%|#####     | 1/2\r100%|##########| 2/2\r                    \r", "stderr")
    path = tmp_path / "01_bar.ipynb"
    notebook("# Bar", ("fit()", said("epoch 1\n"), bar), ("quiet()", bar), path=path)
    cells = reports.read(path, workshop(tmp_path / "work")).cells
    assert [[block["c"][1] for block in cell.blocks] for cell in cells if cell.prompt] == [["epoch 1"], []]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The committed notebooks, each rendered and all bound together: (work, reports, the folder with the PDFs)."""
    folder, rendered = tmp_path_factory.mktemp("course"), []
    work = workshop(folder / "work")
    for path in notebooks.select(notebooks.ROOT / "notebooks", suffix=".ipynb"):
        rendered.append(reports.render(path, work, folder))
    reports.render_course(rendered, work, folder)
    return work, rendered, folder


@pytest.mark.editions
def test_the_course_renders(course):
    """Every committed notebook, bound together: no fault in any cell; then the solutions, symbols and bibliography."""
    _, rendered, folder = course
    pdf = pypdf.PdfReader(folder / "course.pdf")
    outline = [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    titles = [report.title for report in rendered]
    assert outline[: len(titles) + 1] == [*titles, "Solutions"] and len(outline) == len(titles) + 3
    last = "".join(page.extract_text() for page in pdf.pages[-12:])
    assert all(word in last for word in ("symbol", "Rumelhart"))


def test_the_first_page_says_what_and_from_where(text):
    first = re.sub(r"\s+", " ", text[0])
    for words in (reports.COURSE, "All that can be on a page", "MNIST, official (SHA-256 7886a375bc3e…)"):
        assert words in first
    assert "NumPy 9.9 on the moon" in first and "it is so" not in first.partition("Contents")[0]
    assert "5 of 5 cells run, claims held: 1" in first
    assert re.search(r"Contents.*Tables.* 2", first)


def test_pages_are_a4_and_numbered(everything, text):
    for number, page in enumerate(pages(everything / "reports" / "01_everything.pdf"), 1):
        assert [round(float(length)) for length in page.mediabox[2:]] == [595, 842]
        assert f"{number} / {len(text)}" in text[number - 1]


def test_nothing_is_left_out_of_the_pdf(text):
    whole = squeezed("".join(text))
    assert whole.count(LONG) == 2  # once in the code, once printed
    for words in (
        "a comment that is long " * 10,
        " ".join(map(str, range(200))),
        "The words of the footnote.",
        "careful",
    ):
        assert squeezed(words) in whole
    assert "24.12345" in whole and "plain" not in whole  # the table, in place of its plain text
    assert "In[5]" in whole and "boldH2O" in whole


def drawn(folder, name, floating=(), ppi=72):
    """Each page as an array of greys."""
    pictures = reports.compiler(name, folder, list(floating)).compile(format="png", ppi=ppi)
    for picture in [pictures] if isinstance(pictures, bytes) else pictures:
        yield np.asarray(Image.open(io.BytesIO(picture)).convert("L"))


def ink(folder, name):
    """The pages on which something is printed in the margins, prompts aside."""
    marked = []
    for number, gray in enumerate(drawn(folder, name), 1):
        left, right = round(25 / 25.4 * 72), round(192 / 25.4 * 72)
        if gray[:, right + 3 :].min() < 250 or gray[:, : left - 52].min() < 250:
            marked.append(number)
    return marked


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (
            "par(hanging-indent: (calc.min(indent, 40) + 4) * column * 1em, line.body)",
            "block(width: 900pt, line.body)",
        ),
        ("show table: fitted; ", ""),
        ("show math.equation.where(block: true): fitted", ""),
        ("calc.min(0.74, size.width / natural.width, ", "calc.min(0.74, "),
    ],
)
def test_nothing_is_clipped_or_in_the_margin(everything, tmp_path, old, new):
    for file in (everything / "work").iterdir():
        shutil.copy(file, tmp_path)
    workshop(tmp_path, old, new)
    assert bool(ink(tmp_path, "01_everything")) == bool(old)


def test_a_long_word_needs_places_to_break(tmp_path):
    path = tmp_path / "a.ipynb"
    notebook((f"s = '{LONG}'",), path=path)
    work = workshop(tmp_path / "work")
    prepared(path, work)
    assert not ink(work, "a")
    body = work / "a.body.typ"
    body.write_text(body.read_text("utf-8").replace("\u200b", ""), "utf-8")
    assert ink(work, "a")


@pytest.mark.parametrize("bug", [False, True])
def test_code_stays_with_its_figure(tmp_path, bug):
    cells = []
    for number in range(9):  # wherever on the page they come to lie; each figure another, for pypdf counts them
        code = "\n".join(f"line = {i}" for i in range(5 + 6 * number)) + f"\nlast_{number} = 1"
        printed = [said("printed\n")] * (number % 2)
        cells += ["filler " * 60 * (number % 5), (code, *printed, figure(height=200 + number))]
    path = tmp_path / "a.ipynb"
    notebook(*cells, path=path)
    old, new = ("sticky: last and sticky", "sticky: false") if bug else ("", "")
    work = workshop(tmp_path / "work", old, new)
    report = prepared(path, work)
    pdf = reports.compile_pdf("a", [report], work, floating=[])
    apart = []
    for number, page in enumerate(pages(io.BytesIO(pdf))):
        codes, figures = len(re.findall(r"last_\d+ = 1", page.extract_text())), len(page.images)
        apart += [number] * (codes != figures)
    assert bool(apart) == bug


def exercises(folder, **tags):
    """A notebook with two exercises and a figure; its report's text, page by page."""
    cells = [
        "# Title\n\nThe folded cell\nis a solution.",
        ("draw(secret=1)", figure()),
        "## Exercises\n\n### 1 · Halve\n\nHalve it. The folded cell below\nhas my way.\n\nMore text.",
        ("def half(x): ...",),
        "Half of six is three.",
        ("def half(x):\n    return x / 2", said("a solution printed this\n")),
        ("check(half)", said("half of 6 is 3\n")),
        "### 2 · Double\n\nDouble it.",
        ("def double(x): ...",),
        ("def double(x):\n    return x * 2",),
        "## The end",
    ]
    node = notebook(*cells)
    for number, tag in {
        1: "figure",
        3: "exercise",
        4: "solution",
        5: "solution",
        6: "check",
        8: "exercise",
        9: "solution",
    }.items():
        node.cells[number].metadata["tags"] = [tag]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(node, folder / "01_exercises.ipynb")
    return folder / "01_exercises.ipynb"


def test_solutions_stand_in_an_appendix_and_lead_to_their_exercise(tmp_path):
    path = exercises(tmp_path)
    reports.render(path, workshop(tmp_path / "work"), tmp_path)
    text = " ".join(page.extract_text() for page in pages(tmp_path / "01_exercises.pdf"))
    text = re.sub(r"\s+", " ", text)
    before, appendix = text.rsplit("Solutions", 1)
    secrets = ("Half of six is three", "return x / 2", "a solution printed this", "return x * 2")
    assert not any(secret in before for secret in secrets) and "half of 6 is 3" in before
    assert [appendix.index(words) for words in ("1 · Halve", *secrets[:3], "2 · Double", secrets[3])] == sorted(
        appendix.index(words) for words in ("1 · Halve", *secrets[:3], "2 · Double", secrets[3])
    )
    assert before.count("Solution: page") == 2 and appendix.count("The exercise: page") == 2
    assert "secret" not in text and "folded" not in text


def test_the_students_get_no_solutions(tmp_path, monkeypatch):
    path = exercises(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reports", str(path), "--students", "--to", str(tmp_path / "to")])
    assert reports.main() == 0
    text = " ".join(page.extract_text() for page in pages(tmp_path / "to" / "students" / "01_exercises.pdf"))
    text = re.sub(r"\s+", " ", text)
    for words in (
        "Half of six",
        "x / 2",
        "a solution printed",
        "x * 2",
        "Solution",
        "half of 6 is 3",
        "folded",
        "my way",
    ):
        assert words not in text
    assert "More text." in text and "def double(x): ..." in text and "check(half)" in text


def alts(pdf):
    """The alternative texts of a PDF."""

    def below(node):
        node = node.get_object()
        if "/Alt" in node:
            yield str(node["/Alt"])
        children = node.get("/K", [])
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child.get_object() if hasattr(child, "get_object") else child, dict):
                yield from below(child)

    return list(below(pypdf.PdfReader(pdf).trailer["/Root"]["/StructTreeRoot"]))


def test_the_descriptions_are_there(everything):
    found = alts(everything / "reports" / "01_everything.pdf")
    assert ALT in found and "x^2" in found


def test_a_figure_without_a_description_is_refused_by_the_standard(tmp_path):
    notebook(("plot()", figure()), path=tmp_path / "a.ipynb")
    with pytest.raises(reports.ReportFailed, match="missing alt text"):
        work = workshop(tmp_path / "work", "image(path, alt: alt,", "image(path,")
        reports.render(tmp_path / "a.ipynb", work, tmp_path)


def test_no_colour_command_is_printed(text):
    assert "ZeroDivisionError: division by zero" in "".join(text)
    assert "[39m" not in "".join(text)


def test_terminals_are_understood():
    assert reports.as_printed("10 %\r 50 %\r100 %\n") == "100 %"
    assert reports.as_printed("a\r\nb\x08") == "a\nb"
    assert reports.as_printed("\x1b[1;31mred\nstill\x1b[0m not\x1b[2K") == "red\nstill not"
    assert reports.as_printed("\x1b]8;;http://x\x07link\x1b]8;;\x07") == "link"


def test_links_lead_to_the_chapter_where_there_is_one(tmp_path):
    work, made = workshop(tmp_path / "work"), []
    for name in ("01_one", "02_two"):
        notebook(
            f"# {name}\n\n[other](02_two.ipynb)\n\n## Predict first\n\n[here](#predict-first)",
            path=tmp_path / f"{name}.ipynb",
        )
        made.append(reports.render(tmp_path / f"{name}.ipynb", work, tmp_path))
    reports.render_course(made, work, tmp_path)

    def links(name, first=3):
        annotations = [note.get_object() for page in pages(tmp_path / name)[:first] for note in page.get("/Annots", [])]
        files = [note["/A"]["/URI"] for note in annotations if "/URI" in note.get("/A", {})]
        return files, len(annotations) - len(files)

    assert links("01_one.pdf") == (["02_two.pdf"], 2)  # the entry of the table of contents, and [here]
    assert links("course.pdf") == (
        [],
        4 + 2 * 3,
    )  # the contents of the course; of each chapter, its one heading's; ours


# ------------------------------------------------------------------------------------------------------- full pages


def fullness(work, name, floating):
    """How far down each page its last ink stands, from 0 to 1; the first page and the last are not counted."""
    filled = []
    for gray in drawn(work, name, floating, ppi=36):
        top, bottom = (round(millimetres / 25.4 * 36) for millimetres in (23, 275.5))
        rows = np.flatnonzero((gray[top:bottom] < 235).any(axis=1))
        filled.append((rows[-1] + 1) / (bottom - top) if len(rows) else 0.0)
    return np.array(filled[1:-1])


@pytest.mark.editions
def test_the_pages_of_the_course_are_full(course):
    work, rendered, _ = course
    for report in rendered:
        filled = fullness(work, report.name, report.floating)
        print(f"{report.name}: {len(filled) + 2} pages, {filled.mean():.0%} full, {(filled < 0.6).sum()} below 60 %")
        assert filled.mean() > 0.75, f"{report.name}: {np.round(filled, 2)}"


def figures_in_text(path, heights, before=200, after=200):
    """A notebook of figures, by their heights in pixels, with text around each of them."""
    cells = ["# Figures"]
    for number, height in enumerate(heights):
        cells += [f"Text {number}. " + "filler " * before, (f"draw({number})", figure(width=600, height=height))]
        cells += [f"After {number}. " + "filler " * after]
    notebook(*cells, path=path)


def test_figures_float_where_they_would_leave_a_gap(tmp_path):
    figures_in_text(tmp_path / "a.ipynb", range(1000, 1007))
    work = workshop(tmp_path / "work")
    report = reports.render(tmp_path / "a.ipynb", work, tmp_path)
    assert fullness(work, "a", report.floating).mean() > 0.9 > 0.8 > fullness(work, "a", []).mean()
    words = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages(tmp_path / "a.pdf")))
    assert re.findall(r"Text (\d)", words) == re.findall(r"After (\d)", words) == list("0123456")
    told = re.findall(r"The figure is at the top of page (\d+)", words)
    floats = [image.image.height - 999 for page in told for image in pages(tmp_path / "a.pdf")[int(page) - 1].images]
    assert len(told) == len(report.floating) >= 3 and set(floats) >= set(report.floating)  # and they are there


@pytest.mark.parametrize("bug", [False, True])
def test_figures_keep_their_order(tmp_path, monkeypatch, bug):
    heights = [number + (1000 if number % 2 == 0 else 150) for number in range(10)]
    figures_in_text(tmp_path / "a.ipynb", heights, before=150, after=5)
    work = workshop(tmp_path / "work")
    report = prepared(tmp_path / "a.ipynb", work)
    floating = reports.let_float("a", work)
    if bug:  # the small ones stay where they stand
        floating = [number for number in floating if heights[number - 1] > 500]
    pdf = io.BytesIO(reports.compile_pdf("a", [report], work, floating))
    assert floating and ([image.image.height for page in pages(pdf) for image in page.images] == heights) != bug


@pytest.mark.parametrize("bug", [False, True])
def test_no_function_is_broken(tmp_path, bug):
    cells = []
    for number in range(12):
        functions = [
            "\n".join(f"    line_{i} = {i}" if i else f"def first_{number}_{k}():" for i in range(9 + 5 * k + number))
            + f"\n    last_{number}_{k} = 1\n\n"
            for k in range(3)
        ]
        cells += ["filler " * 50 * (number % 4), ("\n".join(functions).rstrip(),)]
    notebook(*cells, path=tmp_path / "a.ipynb")
    old, new = ("breakable: height > 64", "breakable: true") if bug else ("", "")
    work = workshop(tmp_path / "work", old, new)
    pdf = reports.compile_pdf("a", [prepared(tmp_path / "a.ipynb", work)], work, floating=[])
    broken = 0
    for page in pages(io.BytesIO(pdf)):
        text = page.extract_text()
        broken += set(re.findall(r"first_(\w+)\(", text)) != set(re.findall(r"last_(\w+) =", text))
    assert bool(broken) == bug


def test_code_is_cut_between_statements():
    function = "\n".join(["@decorated", "def f():", *[f"    x{i} = {i}" for i in range(9)]])
    assert reports.pieces("a = 1\nb = 2") == ["a = 1\nb = 2"]
    assert reports.pieces(f"import a\n\n\n# of f\n{function}\n\n\nf()") == [
        f"import a\n\n\n# of f\n{function}\n\n\nf()"
    ]
    assert reports.pieces(f"{function}\n\n\n# of f\n{function}") == [f"{function}\n\n", f"# of f\n{function}"]
    long = "\n".join(["class C:", *["    def f(self):\n" + "        1\n" * 20 for _ in range(4)]])
    assert len(reports.pieces(long)) > 2 and all(piece.count("def") <= 1 for piece in reports.pieces(long))
    assert "\n".join(reports.pieces(long)) == long.rstrip("\n")
    assert reports.pieces("%timeit f()\n" + "!ls\n" * 3) == ["%timeit f()\n!ls\n!ls\n!ls"]


@pytest.mark.parametrize("bug", [False, True])
def test_92_columns_fit_on_a_line(tmp_path, bug):
    line = "    # " + "0123456789" * 8 + "abcdef"
    assert len(line) == 92
    notebook((f"def f():\n{line}\n    return 1",), path=tmp_path / "a.ipynb")
    old, new = ("code-size = 7.5pt", "code-size = 8.8pt") if bug else ("", "")
    reports.render(tmp_path / "a.ipynb", workshop(tmp_path / "work", old, new), tmp_path)
    lines = pages(tmp_path / "a.pdf")[0].extract_text().replace("\u200b", "").split("\n")
    assert (line.strip() in [found.strip() for found in lines]) != bug


def test_what_only_draws_is_out_of_sight(tmp_path, monkeypatch):
    """Its code is left out, its picture stays, with its description; an interactive figure gives its picture."""
    interactive = {
        "image/png": png(),
        "text/html": "<div><table></table><script>alive()</script></div>",
        "text/plain": "plain",
    }
    output = new_output("display_data", interactive, metadata={"image/png": {"alt": ALT}})
    node = notebook("# Title", ("secret = draw()", output, said("The widest is 7.\n")), ("open_code()",))
    node.cells[1].metadata["tags"] = ["figure"]
    nbformat.write(node, tmp_path / "a.ipynb")
    for bug in (False, True):
        if bug:
            monkeypatch.setattr(reports.Cell, "has", lambda cell, tag: False)
        reports.render(tmp_path / "a.ipynb", workshop(tmp_path / "work"), tmp_path)
        text = pages(tmp_path / "a.pdf")[0].extract_text()
        assert ("secret" in text) == bug
        assert "The widest is 7." in text and "open_code" in text and "alive" not in text and "plain" not in text
        assert len(pages(tmp_path / "a.pdf")[0].images) == 1 and ALT in alts(tmp_path / "a.pdf")


def test_spaces_in_formulas_survive(tmp_path, monkeypatch):
    tex = {r"\,": "thin", r"\:": "med", r"\ ": "med", "~": "med", r"\;": "thick", r"\!": "#h(-1em / 6)"}
    tex |= {r"\quad ": "quad", r"\qquad ": "#h(2em)"}

    def lost(name):
        notebook(*(f"$a{space}b$" for space in tex), path=tmp_path / f"{name}.ipynb")
        work = workshop(tmp_path / "work")
        reports.render(tmp_path / f"{name}.ipynb", work, tmp_path)
        body = (work / f"{name}.body.typ").read_text("utf-8")
        return [space for space, width in tex.items() if f"$a {width} b$" not in body]

    assert lost("a") == []
    monkeypatch.setattr(reports, "renamed", lambda line: line)
    assert lost("b") == [r"\;", r"\!"]


# ----------------------------------------------------------------------------------------------- every fault, its cell

TEXT, CODE = "a, the text after In [1]", "a, In [2]"


def data(kind, content="?"):
    return new_output("display_data", {kind: content})


@pytest.mark.parametrize(
    ("cell", "place", "words"),
    [
        ("$$\\dW{x}$$", TEXT, r"TeX does not convert: \\dW"),
        ("\\begin{align} x \\end{align}", TEXT, r"not between \$\$"),
        ("a smile 😀", TEXT, r"no font .* 😀 \(U\+1F600\)"),
        (("s = '😀'",), CODE, r"U\+1F600"),
        (("1", said("one 😀\n")), CODE, r"U\+1F600"),
        ("![far](https://example.org/x.png)", TEXT, "there is no picture https://"),
        ("![lost](lost.png)", TEXT, "there is no picture lost.png"),
        ("![film](film.avi)", TEXT, "a type that no page can show: video/"),
        ("[there](#nowhere)", TEXT, "#nowhere leads nowhere"),
        ("```\nopen", TEXT, "never closed"),
        ("<!-- open", TEXT, "never closed"),
        ("a <script>1</script>", TEXT, "<script>"),
        (("1", data("application/vnd.plotly.v1+json", {})), CODE, "no page can show: application/vnd.plotly"),
        (("1", data("application/vnd.jupyter.widget-view+json", {})), CODE, "widget"),
        (("1", data("text/html", "<table><tr><td><video></video></table>")), CODE, "<video>"),
        (("1", data("text/latex", "$\\nonsense{x}$")), CODE, r"\\nonsense"),
    ],
)
def test_a_fault_names_its_cell(tmp_path, cell, place, words):
    cells = [
        "# One\n\nfine $x$",
        ("1",),
        "## Two" if isinstance(cell, tuple) else f"## Two\n\n{cell}",
        cell,
        "fine",
        ("2",),
    ]
    notebook(*(cells if isinstance(cell, tuple) else [*cells[:3], *cells[4:]]), path=tmp_path / "a.ipynb")
    (tmp_path / "film.avi").touch()
    with pytest.raises(reports.ReportFailed, match=words) as failure:
        reports.render(tmp_path / "a.ipynb", workshop(tmp_path / "work"), tmp_path)
    assert str(failure.value).startswith(f"{place}: ")
    assert not list(tmp_path.glob("a.p*"))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.ipynb").write_text('{"cells": [')
    with pytest.raises(reports.ReportFailed, match=r"a\.ipynb can't be read: "):
        reports.render(tmp_path / "a.ipynb", tmp_path, tmp_path)


def test_a_closing_chapter_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "CLOSING", ("lost.md",))
    with pytest.raises(reports.ReportFailed, match=r"docs/lost\.md can't be read: .*No such file"):
        reports.render_course([], tmp_path, tmp_path)


def test_symbols_that_typst_has_renamed(tmp_path, monkeypatch):
    tex = r"\odot \otimes \ominus \oplus \bigodot \bigotimes \cap \sqcap \bigcap \cup \circleddash"
    notebook(f"$$ {tex} \\begin{{vmatrix}} 1 & 2 \\end{{vmatrix}} $$", path=tmp_path / "a.ipynb")
    reports.render(tmp_path / "a.ipynb", workshop(tmp_path / "work"), tmp_path)
    monkeypatch.setattr(reports, "renamed", lambda line: line)
    with pytest.raises(reports.ReportFailed, match="unknown symbol modifier"):
        reports.render(tmp_path / "a.ipynb", tmp_path / "work", tmp_path)


def test_chinese_text(tmp_path):
    notebook(
        "# 神经网络\n\n**中文** $\\text{中}$", ("print('你好')  # 注释", said("你好\n")), path=tmp_path / "网络 1.ipynb"
    )
    reports.render(tmp_path / "网络 1.ipynb", workshop(tmp_path / "work"), tmp_path)
    found = "".join(page.extract_text() for page in pages(tmp_path / "网络_1.pdf"))
    assert all(words in found for words in ("神经网络", "中文", "你好", "注释"))


# ----------------------------------------------------------------------------------------------- files, whole and equal


def test_a_second_run_gives_the_same_bytes(everything, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    reports.render(everything / "01_everything.ipynb", workshop(tmp_path / "elsewhere"), tmp_path)
    name = "01_everything.pdf"
    assert (tmp_path / name).read_bytes() == (everything / "reports" / name).read_bytes()


def test_a_failure_leaves_the_old_report_whole(tmp_path, monkeypatch):
    path, work = tmp_path / "a.ipynb", workshop(tmp_path / "work")
    notebook("# One", path=path)
    reports.render(path, work, tmp_path / "reports")
    old = {file.name: file.read_bytes() for file in (tmp_path / "reports").iterdir()}
    assert sorted(old) == ["a.pdf"]
    notebook("# Two 😀", path=path)
    with pytest.raises(reports.ReportFailed):
        reports.render(path, work, tmp_path / "reports")
    notebook("# Three", path=path)
    monkeypatch.setattr("pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        reports.render(path, work, tmp_path / "reports")
    assert {name: (tmp_path / "reports" / name).read_bytes() for name in old} == old


def test_the_command(tmp_path, monkeypatch, capsys):
    """A folder is bound together; a fault in one notebook is told, and the others are rendered all the same."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reports", *map(str, arguments), "--to", str(tmp_path / "to")])
        monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
        monkeypatch.setattr(sys.stderr, "reconfigure", lambda **_: None, raising=False)
        status = reports.main()
        made = {file.name for file in (tmp_path / "to").glob("*")}
        shutil.rmtree(tmp_path / "to", ignore_errors=True)
        return status, made, capsys.readouterr().out

    results = tmp_path / "results"
    notebook("# One", ("1",), path=results / "01_one.ipynb")
    notebook("# Two", ("2",), path=results / "02_two.ipynb")
    assert call(results)[:2] == (0, {"01_one.pdf", "02_two.pdf", "course.pdf"})
    assert call(results / "02_two.ipynb")[:2] == (0, {"02_two.pdf"})
    notebook("# One\n\n$\\dW{x}$", path=results / "01_one.ipynb")
    status, made, out = call(results)
    assert (status, made) == (1, {"02_two.pdf"})
    assert "No report. 01_one, the text at the top: its TeX does not convert" in out
    with pytest.raises(SystemExit, match="No notebook 99_none"):
        call("99_none")
