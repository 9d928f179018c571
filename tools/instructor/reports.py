"""Render executed notebooks as PDF (A4) into reports/; all together as course.pdf.

    python -m tools.instructor.reports [01_mlp | my.ipynb | results ...]        make reports NOTEBOOK=...
    python -m tools.instructor.reports --students ...                     without solutions, into reports/students/

The one idea: pandoc reads the text of a notebook once, into trees that still know their cell. The trees are checked and
written as Typst, which makes the PDF; reports.typ says how it looks. What a page can't show (TeX that does not convert,
a character in no font) is an error that names the cell, never a gap. (`make site` is the course in a browser.)
"""

import ast
import base64
import hashlib
import json
import mimetypes
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pylopdf_fonts_zh_cn
import pypandoc
import typst
from pandocfilters import CodeBlock, Div, Image, Math, Para, RawBlock, RawInline, Str, stringify, walk

from tools.shared import notebooks, pinned

COURSE = "Neural networks from scratch"
CLOSING = ("symbols.md", "bibliography.md")  # of docs/: the last chapters of course.pdf
HERE = Path(__file__).parent
PANDOC = Path(pypandoc.__file__).parent / "files" / "pandoc"  # the one in the package, whatever else is installed
FONTS = typst.Fonts(include_system_fonts=False, font_paths=[Path(pylopdf_fonts_zh_cn.__file__).parent])
MARKDOWN = "gfm-tex_math_gfm-emoji+tex_math_dollars"  # as JupyterLab reads it, and footnotes
MARK = "CELL-{}-BEGINS-HERE"
PICTURES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/svg+xml": ".svg"}
OUTPUTS = (*PICTURES, "text/html", "text/markdown", "text/latex", "text/plain")  # the best first
CODE_LINES = 64  # on a page
TOP, BOTTOM = 175, 710  # points: what lies above the first begins its page; what lies below the second has filled it


class ReportFailed(Exception):
    """Says in words why there is no report: which notebook, which cell, and what is wrong with it."""


@dataclass
class Cell:
    """A cell: its prompt (In [7]; none for text), its place in words, and what it shows, as pandoc's blocks."""

    node: nbformat.NotebookNode
    prompt: str
    place: str
    blocks: list = field(default_factory=list)

    def has(self, tag: str) -> bool:
        """Say whether the cell is tagged so."""
        return tag in notebooks.tags(self.node)

    def fail(self, what: str):
        """Raise the error that names this cell."""
        raise ReportFailed(f"{self.place}: {what}")


@dataclass
class Report:
    """A notebook on its way to the page."""

    name: str  # of its files, and of its chapter
    title: str
    facts: dict[str, str]  # on its first page
    cells: list[Cell]
    floating: list[int] = field(default_factory=list)  # the numbers of the figures that do (see `let_float`)


def read(path: Path, work: Path, students: bool = False) -> Report:
    """Read a notebook or a page of Markdown and check that paper can show all of it; its pictures go into `work`.

    students: leave out what is tagged `solution`, and what the checks printed, which is what the solutions answered.
    """
    try:
        if path.suffix == ".md":
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text("utf-8"))])
        else:
            notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever the damage leads to
        raise ReportFailed(f"{notebooks.short_path(path)} can't be read: {error}") from None
    facts = describe(notebook) if path.suffix == ".ipynb" else {}
    cells, title, last = [], "", "at the top"
    for node in notebook.cells:
        if not node.source.strip() or (students and "solution" in notebooks.tags(node)):
            continue
        if students and "check" in notebooks.tags(node):
            node.outputs = []
        if node.cell_type == "code":
            prompt = f"In [{node.execution_count or ' '}]"
            last = f"after {prompt}"
            cells.append(Cell(node, prompt, f"{path.stem}, {prompt}"))
        else:
            cells.append(Cell(node, "", f"{path.stem}, the text {last}"))
            if not title and (heading := re.search(r"^# +(.+)$", node.source, re.MULTILINE)):
                title, node.source = heading[1], node.source.replace(heading[0], "", 1)
    read_cells(cells, work)
    report = Report(re.sub(r"[^\w.-]+", "_", path.stem), title or path.stem, facts, cells)
    check(report, path.parent, work)
    return report


def describe(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return the facts of the first page, as far as the notebook knows them."""
    data = environment = "not recorded"
    if known := notebook.metadata.get("nnlib"):  # written by tools.author.build and tools.instructor.run
        used = known["datasets"].values()
        data = "; ".join(f"{a['title']}, {a['source']} (SHA-256 {a['fingerprint'][:12]}…)" for a in used) or "none used"
        environment = known.get("environment") or pinned.arithmetic_in_words(None)  # a build knows no other
    code = [node for node, _ in notebooks.code_cells(notebook)]
    run = sum(node.execution_count is not None for node in code)
    results = f"{run} of {len(code)} cells run, claims held: {sum(len(notebooks.claims(n.outputs)) for n in code)}"
    return {"Data": data, "Environment": environment, "Results": results}


def read_cells(cells: list[Cell], work: Path) -> None:
    """Find what each cell shows. All Markdown is read in one go: a footnote may stand in another cell."""
    parts = []  # (cell, the blocks to be filled, Markdown)
    for cell in cells:
        if cell.node.cell_type == "markdown":
            parts.append((cell, cell.blocks, notebooks.FOLDED.sub("", cell.node.source)))
        elif cell.node.cell_type == "raw":
            cell.blocks.append(CodeBlock(["", ["printed"], []], cell.node.source))
        for output in cell.node.get("outputs", []):
            kind, content = content_of(output, cell)
            if kind in PICTURES:
                alt = output.metadata.get(kind, {}).get("alt") or f"(a figure without a description, by {cell.prompt})"
                target = [save_picture(kind, content, cell, work), ""]
                cell.blocks.append(Para([Image(["", [], []], [Str(alt)], target)]))
            elif kind == "text/html":
                cell.blocks.append(Div(["", ["output"], []], from_html(content, cell)))
            elif kind in ("text/markdown", "text/latex"):
                blocks, tex = [], f"$$\n{content.strip().strip('$')}\n$$"
                cell.blocks.append(Div(["", ["output"], []], blocks))
                parts.append((cell, blocks, tex if kind == "text/latex" else content))
            elif text := as_printed(content):
                cell.blocks.append(CodeBlock(["", [kind], []], text))
    text = "\n\n".join(f"{MARK.format(number)}\n\n{markdown}" for number, (_, _, markdown) in enumerate(parts))
    begun = 0
    for block in blocks_of(text, MARKDOWN):
        if block == Para([Str(MARK.format(begun))]):
            cell, blocks, _ = parts[begun]
            begun += 1
        else:
            blocks.append(block)
    if begun < len(parts):
        cell.fail("a ``` or <!-- in it is never closed, and would swallow the text that follows")
    for cell, blocks, markdown in parts:
        if any(kind.startswith("Raw") and not raw[1].lstrip().startswith("<!--") for kind, raw in elements(blocks)):
            html = pandoc(markdown, f"{MARKDOWN}-task_lists", "html", "--mathjax", "--syntax-highlighting=none")
            blocks[:] = from_html(html, cell)


def content_of(output: nbformat.NotebookNode, cell: Cell) -> tuple[str, str]:
    """Return the best (kind, content) of an output that a page can show; text is of the kind `printed` or `error`."""
    if output.output_type == "stream":
        return "error" if output.name == "stderr" else "printed", output.text
    if output.output_type == "error":
        return "error", "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    offered = dict(output.data)
    if "application/vnd.jupyter.widget-view+json" in offered:
        cell.fail("it shows a widget, which no page can (from tqdm import tqdm, not tqdm.auto)")
    if "<table" not in offered.get("text/html", "<table") and len(offered) > 1:
        del offered["text/html"]  # the repr of some object: its plain text will do
    for kind in OUTPUTS:
        if kind in offered:
            return "printed" if kind == "text/plain" else kind, offered[kind]
    cell.fail(f"an output is of a type that no page can show: {', '.join(offered)}")


def as_printed(text: str) -> str:
    """Return what a terminal would show of a text, without its colours; of a progress bar, what is left in the end."""
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\x1b\].*?(\x07|\x1b\\)", "", text)
    text = re.sub(r"[^\n]*\r(?!\n)", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text.expandtabs()).strip("\n").rstrip()


def from_html(text: str, cell: Cell) -> list:
    """Read HTML, a table of pandas for instance."""
    if lost := re.search(r"<(script|iframe|video|audio|canvas|svg|object|embed|form|input|button)\b", text, re.I):
        cell.fail(f"no page can show its <{lost[1]}>")
    return blocks_of(text, "html+tex_math_single_backslash")


def check(report: Report, folder: Path, work: Path) -> None:
    """Fail where something would be lost; bring headings, links and pictures into the form that pages need."""
    targets, level = set(), 1

    def checked(kind, content, cell, _):
        nonlocal level
        if kind.startswith("Raw"):
            return []  # a comment: other HTML has been read
        if kind == "Str" and re.search(r"\\(begin|end)\{", content):
            cell.fail(f"{content} is not between $$ and $$, and would be printed as it stands")
        if kind == "Header":
            level = content[0] = min(content[0], level + 1)  # no level is left out
            content[1][0] = f"{report.name}--{content[1][0]}"  # in course.pdf two notebooks may have the same heading
            targets.add(content[1][0])
        elif kind == "Link" and content[2][0].startswith("#"):
            content[2][0] = f"#{report.name}--{unquote(content[2][0][1:]).lower()}"
        elif kind == "Image" and not (work / content[2][0]).is_file():
            content[2][0] = find_picture(content[2][0], cell, folder, work)
            content[1] = content[1] or [Str("(a picture without a description)")]

    for cell in report.cells:
        cell.blocks = walk(cell.blocks, checked, cell, {})
    for cell in report.cells:
        for link in (content[2][0] for kind, content in elements(cell.blocks) if kind == "Link"):
            if link.startswith("#") and link[1:] not in targets:
                cell.fail(f"its link to #{link.split('--', 1)[1]} leads nowhere")


def find_picture(target: str, cell: Cell, folder: Path, work: Path) -> str:
    """Copy the picture that a text shows into `work`, and return its name there."""
    for kind, data in cell.node.get("attachments", {}).get(unquote(target.removeprefix("attachment:")), {}).items():
        return save_picture(kind, data, cell, work)
    path = folder / unquote(target)
    if not path.is_file():
        cell.fail(f"there is no picture {target} beside the notebook")
    return save_picture(mimetypes.guess_type(path.name)[0], path.read_bytes(), cell, work)


def save_picture(kind: str, data: str | bytes, cell: Cell, work: Path) -> str:
    """Write a picture (bytes, base64, or the text of an SVG) into `work`; return its name there."""
    if kind not in PICTURES:
        cell.fail(f"a picture is of a type that no page can show: {kind}")
    if isinstance(data, str):
        data = data.encode() if "<svg" in data else base64.b64decode(data)
    name = hashlib.sha256(data).hexdigest()[:20] + PICTURES[kind]
    (work / name).write_bytes(data)
    return name


def pandoc(text: str, source: str, target: str, *options: str) -> str:
    """Convert a text; what pandoc warns of is an error."""
    command = [PANDOC, "-f", source, "-t", target, "--wrap=none", "--columns=9999", "--fail-if-warnings"]
    done = subprocess.run([*command, *options], input=text.encode(), capture_output=True)
    if done.returncode:
        raise ReportFailed(f"pandoc says: {done.stderr.decode().strip()}")
    return done.stdout.decode()


def blocks_of(text: str, source: str) -> list[dict]:
    """Read a text as pandoc's blocks."""
    return json.loads(pandoc(text, source, "json"))["blocks"]


def elements(tree: list) -> list[tuple]:
    """Return (kind, content) of every element of a tree."""
    found = []
    walk(tree, lambda kind, content, *_: found.append((kind, content)), "", {})
    return found


def written(report: Report, blocks: list) -> str:
    """Let pandoc write blocks as Typst. Of TeX that it can't convert, say in which cell it stands."""
    try:
        tree = {"pandoc-api-version": [1, 23], "meta": {}, "blocks": blocks}
        return pandoc(json.dumps(tree), "json", "typst", "--syntax-highlighting=idiomatic")
    except ReportFailed as failure:
        for cell in report.cells:
            for tex in (content[1] for kind, content in elements(cell.blocks) if kind == "Math"):
                if "".join(f"TeX math {tex}, rendering".split()) in "".join(str(failure).split()):
                    cell.fail(f"its TeX does not convert: {tex}\n{failure}")
        raise


def quoted(text: str) -> str:
    """Return a text as a Typst string on one line; a word too long for a line gets places where it may break."""
    text = re.sub(r"\S{40,}", lambda found: re.sub(r"(?<=[(\[{,.=/])(?=\w)", "\u200b", found[0]), text)
    text = re.sub(r"[^\s\u200b]{40,}", lambda found: "\u200b".join(re.findall(".{1,10}", found[0])), text)
    return json.dumps(text, ensure_ascii=False)


def pieces(source: str) -> list[str]:
    """Cut code where a page may break: between statements of the top level; one longer than a page at blank lines."""
    lines = source.rstrip("\n").split("\n")
    blank = [not line.strip() for line in lines] + [False]
    try:
        ends = [node.end_lineno for node in ast.parse(source).body]
    except SyntaxError:  # a magic of IPython's
        ends = []
    cuts = [0]
    for end in ends:
        end = next(n for n in range(end, len(blank)) if not blank[n])  # blank lines go with what is before them
        if end - cuts[-1] >= (4 if blank[end - 1] else 6) and len(lines) - end >= 4:
            cuts.append(end)
    for start, end in pairwise([*cuts, len(lines)]):
        if end - start > CODE_LINES:
            cuts += [n + 1 for n in range(start + 4, end - 4) if blank[n]]
    return ["\n".join(lines[start:end]) for start, end in pairwise([*sorted(cuts), len(lines)])]


def typst_cell(cell: Cell) -> list[dict]:
    """Return a cell as pandoc's blocks for Typst; what is not Markdown is one line, a call into reports.typ."""
    if not cell.prompt:
        return walk(cell.blocks, typst_element, "typst", {})
    calls = []
    if not cell.has("figure"):
        code = ", ".join(f'raw({quoted(piece)}, lang: "python", block: true)' for piece in pieces(cell.node.source))
        calls.append(f"#code-cell({quoted(cell.prompt)}, {json.dumps(bool(cell.blocks))}, {code})")
    for block in cell.blocks:
        sticky = json.dumps(block is not cell.blocks[-1])  # what a cell prints stays with the figure that follows
        match block:
            case {"t": "CodeBlock", "c": [[_, [kind], _], text]}:
                calls.append(f"#printed({quoted(kind)}, {sticky}, raw({quoted(text)}, block: true))")
            case {"t": "Para", "c": [{"t": "Image", "c": [_, alt, [file, _]]}]}:
                calls.append(f"#figure-of({quoted(file)}, {quoted(stringify(alt))}, prompt: {quoted(cell.prompt)})")
            case {"t": "Div", "c": [_, blocks]}:
                calls += ["#output[", *walk(blocks, typst_element, "typst", {}), "]"]
    return [RawBlock("typst", call) if isinstance(call, str) else call for call in calls]


def typst_element(kind: str, content: list, *_) -> dict | list | None:
    """Put into Typst what pandoc would leave out: the descriptions of formulas and pictures."""
    if kind == "Math":
        tex = content[1].replace("&", r"&\quad ") if r"\begin{cases}" in content[1] else content[1]  # room in Typst
        return in_call(f"#formula({quoted(content[1])})", [Math(content[0], tex)])
    if kind == "Image":
        return RawInline("typst", f"#figure-of({quoted(content[2][0])}, {quoted(stringify(content[1]))})")


def in_call(call: str, inlines: list) -> list[dict]:
    """Return inline elements as the content that a Typst function is called with."""
    return [RawInline("typst", f"{call}["), *inlines, RawInline("typst", "]")]


def write_typst(report: Report, work: Path) -> None:
    """Write NAME.body.typ, and NAME.solutions.typ for the appendix, into `work`."""
    heading, body, solutions = None, [], []
    for number, cell in enumerate(report.cells):
        headings = [content[2] for kind, content in elements(cell.blocks) if kind == "Header"]
        if cell.has("solution") and heading:  # the first of this exercise
            label = quoted(f"{report.name}--solution-{number}")
            body.append(RawBlock("typst", f"#to-solution({label})"))
            solutions.append(Para(in_call(f"#exercise({label})", walk(heading, typst_element, "typst", {}))))
        heading = None if cell.has("solution") else [heading, *headings][-1]
        part = solutions if cell.has("solution") else body
        part += [RawBlock("typst", f"//{MARK.format(number)}"), *typst_cell(cell)]
    for part, blocks in (("body", body), ("solutions", solutions)):
        lines = written(report, blocks).split("\n")
        lines = [line if line.startswith(("#code-cell(", "#printed(")) else renamed(line) for line in lines]
        (work / f"{report.name}.{part}.typ").write_text("\n".join(['#import "reports.typ": *', *lines]), "utf-8")


def renamed(line: str) -> str:
    r"""Give symbols that pandoc calls by old names those of today, and \; and \! the widths that it rounds away."""
    line = line.replace("#h(0em)", "thick").replace("#h(-1em)", "#h(-1em / 6)")
    return re.sub(r"\b(dot|times|minus|dash)\.circle\b", r"\1.o", line).replace('delim: "||"', 'delim: "|"')


def bind(name: str, title: str, reports: list[Report], work: Path) -> None:
    """Write NAME.typ: a chapter for each notebook, the appendix with their solutions, the pages that close the book."""
    chapters, appendix, closing = [], [], []
    for report in reports:
        facts = json.dumps(json.dumps(report.facts))
        chapter = f"#chapter({quoted(report.name)}, {quoted(report.title)}, json(bytes({facts})))\n"
        (chapters if report.facts else closing).append(f'{chapter}#include "{report.name}.body.typ"')
        if any(cell.has("solution") for cell in report.cells):
            heading = f"Solutions: {report.title}" if name == "course" else "Solutions"
            heading = f"#solutions({quoted(report.name)}, {quoted(heading)})\n"
            appendix.append(f'{heading}#include "{report.name}.solutions.typ"')
    if name == "course":
        chapters.insert(0, "#cover()")
        appendix[:0] = ['#chapter("solutions", "Solutions", (:))'] * bool(appendix)
    head = f'#import "reports.typ": *\n#show: look.with({quoted(COURSE)}, {quoted(title)})'
    (work / f"{name}.typ").write_text("\n".join([head, *chapters, *appendix, *closing]), "utf-8")


def compiler(name: str, work: Path, floating: list[int]) -> typst.Compiler:
    """Return a compiler of NAME.typ, in which the figures with these numbers float."""
    inputs = {"floating": json.dumps(floating)}
    return typst.Compiler(work / f"{name}.typ", root=work, font_paths=FONTS, sys_inputs=inputs)


def let_float(name: str, work: Path) -> list[int]:
    """Let figures that do not fit where they stand float to the next page, if the text after them fills the gap.

    It is tried with one after the other that begins a page, from the first on: the pages after it change with it.
    Returns their numbers.
    """

    def lay_out(numbers):
        places, begins = {}, None
        for spot in json.loads(compiler(name, work, numbers).query("<spot>", field="value")):
            if spot["kind"] == "sticky":
                begins = begins or spot  # a figure begins where the code does that stays with it
            else:
                places[spot["kind"], spot["number"]] = (begins or spot) if spot["kind"] == "figure" else spot
                begins = None
        return places

    try:
        floating, places = [], lay_out([])
    except RuntimeError:  # `compile_pdf` will say what is wrong, and where
        return []
    for number in sorted(number for kind, number in places if kind == "figure"):
        place = places["figure", number]
        forced = any(place["page"] < places["float", before]["page"] for before in floating)  # figures keep their order
        if forced or (place["page"] > 1 and place["y"] < TOP):
            attempt = lay_out([*floating, number])
            origin = attempt["origin", number]
            gap = origin["y"] < BOTTOM or origin["page"] < place["page"] - 1
            if forced or (gap and origin["page"] < attempt["float", number]["page"]):
                floating, places = [*floating, number], attempt
    return floating


def compile_pdf(name: str, reports: list[Report], work: Path, floating: list[int]) -> bytes:
    """Compile NAME.typ as PDF/UA-1: a standard that allows neither a missing glyph nor a figure without description."""
    try:
        pdf, faults = compiler(name, work, floating).compile_with_warnings(format="pdf", pdf_standards=["ua-1"])
    except typst.TypstError as error:
        faults = [error]
    for fault in faults:  # the first: in words that name the cell
        what, place = fault.message, name
        if glyph := re.search(r'the text `"(.+?)"` could not be displayed', what):
            what = f"no font of the PDF has the character {glyph[1]} (U+{ord(glyph[1][0]):04X})"
        if found := re.search(r"┌─ .*?([^\\/\n]+)\.(body|solutions)\.typ:(\d+):", fault.diagnostic):
            before = (work / f"{found[1]}.{found[2]}.typ").read_text("utf-8").split("\n")[: int(found[3])]
            number = re.findall(MARK.format(r"(\d+)"), "\n".join(before))[-1]
            place = next(report.cells for report in reports if report.name == found[1])[int(number)].place
        raise ReportFailed(f"{place}: {what}")
    return pdf


def render(path: Path, work: Path, folder: Path, students: bool = False) -> Report:
    """Render one notebook into `folder`."""
    report = read(path, work, students)
    write_typst(report, work)
    bind(report.name, report.title, [report], work)
    report.floating = let_float(report.name, work)
    pdf = compile_pdf(report.name, [report], work, report.floating)
    notebooks.replace(folder / f"{report.name}.pdf", pdf)
    return report


def render_course(reports: list[Report], work: Path, folder: Path) -> None:
    """Bind notebooks that have been rendered into course.pdf: a chapter each, the solutions, the closing chapters."""
    floating, figures = [], 0
    for report in reports:
        body = elements([cell.blocks for cell in report.cells if not cell.has("solution")])
        own = sum(kind == "Image" for kind, _ in body)
        floating += [figures + number for number in report.floating if number <= own]  # the pages come out the same
        figures += own
    closing = [read(notebooks.ROOT / "docs" / name, work) for name in CLOSING]
    for page in closing:
        write_typst(page, work)
    bind("course", COURSE, [*reports, *closing], work)
    notebooks.replace(folder / "course.pdf", compile_pdf("course", [*reports, *closing], work, floating))


def main() -> int:
    """Render the notebooks named on the command line, or all; one that can't be does not stop those after it."""
    options = notebooks.arguments(
        __doc__,
        students={"action": "store_true", "help": "leave out the solutions"},
        to={"type": Path, "default": notebooks.ROOT / "reports", "metavar": "FOLDER", "help": "reports/"},
    )
    paths, reports, failures = [], [], []
    for name in options.names or [options.notebooks]:
        path = Path(name).expanduser().resolve()
        folder, wanted = (path, []) if path.is_dir() else (options.notebooks, [name])
        is_file = path.suffix == ".ipynb" and path.is_file()
        paths += [path] if is_file else notebooks.select(folder, wanted, ".ipynb")
    folder = options.to / ("students" * options.students)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        (work / "reports.typ").write_bytes((HERE / "reports.typ").read_bytes())
        for path in [*paths, "course"]:
            try:
                if path != "course":
                    reports.append(render(path, work, folder, options.students))
                    print(f"{notebooks.short_path(folder / reports[-1].name)}.pdf", flush=True)
                elif not failures and all(Path(name).is_dir() for name in options.names):
                    render_course(reports, work, folder)
                    print(notebooks.short_path(folder / "course.pdf"))
            except ReportFailed as failure:
                failures.append(failure)
    for failure in failures:
        print(f"\nNo report. {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
