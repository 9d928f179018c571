"""Render executed notebooks as PDF (A4) and as HTML that needs no network, into reports/; all together as course.pdf.

    python -m tools.instructor.reports [01_mlp | my.ipynb | results ...]        make reports NOTEBOOK=...

The one idea: pandoc reads the text of a notebook once, into trees that still know their cell. The trees are checked,
and then written twice: as Typst, which makes the PDF, and as HTML. What a page can't show (TeX that does not convert,
a character in no font, an unknown output) is an error that names the cell, never a gap.
reports.typ and reports.html, beside this file, say how the pages look.
"""

import argparse
import base64
import hashlib
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pypandoc
import typst

from tools.shared import notebooks, pinned

COURSE = "Neural networks from scratch"
HERE = Path(__file__).parent
PANDOC = Path(pypandoc.__file__).parent / "files" / "pandoc"  # the one in the package, whatever else is installed
MARKDOWN = "gfm-tex_math_gfm-emoji+tex_math_dollars"  # as JupyterLab reads it, and footnotes
MARK = "CELL-{}-BEGINS-HERE"
PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/svg+xml": "svg"}
OUTPUTS = (*PICTURES, "text/html", "text/markdown", "text/latex", "text/plain")  # the best first
CHINESE = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei"),
    *("Noto Serif CJK SC", "Noto Serif SC", "Songti SC", "SimSun", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
)
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")  # in the order of terminals


class ReportFailed(Exception):
    """Says in words why there is no report: which notebook, which cell, and what is wrong with it."""


@dataclass
class Picture:
    """A picture: the name of its file in the working folder, and its description."""

    file: str
    alt: str


@dataclass
class Printed:
    """Text as a terminal shows it; an error is a traceback, or was written to stderr."""

    text: str
    is_error: bool


@dataclass
class Cell:
    """A cell: its prompt (In [7]; none for text), its place in words, and what it shows.

    shown: a Picture or a Printed for each output; a list of pandoc's blocks for what is Markdown, HTML or LaTeX.
    """

    node: nbformat.NotebookNode
    prompt: str
    place: str
    shown: list = field(default_factory=list)

    @property
    def texts(self) -> list[list]:
        """Those that are pandoc's blocks."""
        return [shown for shown in self.shown if isinstance(shown, list)]

    def fail(self, what: str):
        """Raise the error that names this cell."""
        raise ReportFailed(f"{self.place}: {what}")


@dataclass
class Report:
    """A notebook on its way to the page. `info` is what its title page says, `name` that of its files and chapter."""

    name: str
    cells: list[Cell]
    info: dict


# ------------------------------------------------------------------------------------------------- reading the notebook


def read(path: Path, work: Path) -> Report:
    """Read a notebook and check that a page can show all of it; its pictures are put into the folder `work`."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever the damage leads to
        raise ReportFailed(f"{notebooks.shown(path)} can't be read as a notebook: {error}") from None
    name, cells = word(path.stem), locate(notebook, path.stem)
    read_texts(cells, work)
    title = take_title(cells) or path.stem
    check_texts(cells, name, path.parent, work)
    claims = [claim for cell in cells for claim in notebooks.claims(cell.node.get("outputs", []))]
    facts = describe(notebook, cells, claims)
    info = {"course": COURSE, "name": name, "title": title, "facts": facts, "claims": claims}
    return Report(name, cells, info | {"chinese": chinese_font(cells, work)})


def word(text: str) -> str:
    """Return a text as one word, fit for a file name and a label."""
    return re.sub(r"[^\w.-]+", "_", text)


def locate(notebook: nbformat.NotebookNode, name: str) -> list[Cell]:
    """Return the cells that are not empty, each with the words by which an error names it."""
    cells, before, heading = [], "at the top", "the top"
    for node in notebook.cells:
        if not node.source.strip():
            continue
        if node.cell_type == "code":
            prompt = f"In [{node.execution_count or ' '}]"
            before = f"after {prompt}"
            cells.append(Cell(node, prompt, f'{name}, {prompt}, under "{heading}"'))
        else:
            text = re.sub(r"```.*?```", "", node.source, flags=re.DOTALL)
            headings = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE) or [heading]
            cells.append(Cell(node, "", f'{name}, the text {before}, under "{headings[0]}"'))
            heading = headings[-1]
    return cells


def _prints(block, is_error: bool) -> bool:
    return isinstance(block, Printed) and block.is_error == is_error


def read_texts(cells: list[Cell], work: Path) -> None:
    """Find what each cell shows. All Markdown is read in one go: a footnote may stand in another cell."""
    parts = []  # (cell, blocks to be filled, Markdown)

    def later(cell, markdown):
        cell.shown.append([])
        parts.append((cell, cell.shown[-1], markdown))

    for cell in cells:
        if cell.node.cell_type == "markdown":
            later(cell, cell.node.source)
        elif cell.node.cell_type == "raw":
            cell.shown.append(Printed(cell.node.source, is_error=False))
        for output in cell.node.get("outputs", []):
            kind, content = content_of(output, cell)
            is_error = kind == "error" or output.get("name") == "stderr"
            if kind in PICTURES:
                alt = output.metadata.get(kind, {}).get("alt") or f"(a figure without a description, by {cell.prompt})"
                cell.shown.append(Picture(save_picture(kind, content, cell, work), alt))
            elif kind == "text/html":
                cell.shown.append(from_html(content, cell))
            elif kind == "text/markdown":
                later(cell, content)
            elif kind == "text/latex":
                later(cell, f"$$\n{content.strip().strip('$')}\n$$")
            elif kind == "stream" and cell.shown and _prints(cell.shown[-1], is_error):
                cell.shown[-1].text += content
            else:
                cell.shown.append(Printed(content, is_error))
        cell.shown = [shown for shown in cell.shown if not is_wiped_out(shown)]
    text = "\n\n".join(f"{MARK.format(number)}\n\n{markdown}" for number, (_, _, markdown) in enumerate(parts))
    begun = 0
    for block in blocks_of(text, MARKDOWN):
        if block == {"t": "Para", "c": [{"t": "Str", "c": MARK.format(begun)}]}:
            cell, blocks, _ = parts[begun]
            begun += 1
        else:
            blocks.append(block)
    if begun < len(parts):
        cell.fail("a ``` or <!-- in it is never closed, and would swallow the text that follows")
    for cell, blocks, markdown in parts:
        if any(element["t"] in ("RawInline", "RawBlock") and not is_comment(element) for element in elements(blocks)):
            plainer = ("--mathjax", "--syntax-highlighting=none")
            blocks[:] = from_html(pandoc(markdown, f"{MARKDOWN}-task_lists", "html", *plainer)[0], cell)


def is_wiped_out(shown) -> bool:
    """Say whether this is what a progress bar leaves behind: written to stderr, then covered with blanks."""
    lines = printed_lines(shown.text) if _prints(shown, is_error=True) else None
    return lines is not None and not any(words.strip() for line in lines for _, _, words in line)


def content_of(output: nbformat.NotebookNode, cell: Cell) -> tuple[str, str]:
    """Return the best (kind, content) of an output that a page can show."""
    if output.output_type == "stream":
        return "stream", output.text
    if output.output_type == "error":
        return "error", "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    offered = dict(output.get("data", {}))
    if "application/vnd.jupyter.widget-view+json" in offered:
        cell.fail("it shows a widget, which no page can (from tqdm import tqdm, not tqdm.auto)")
    if "<table" not in offered.get("text/html", "<table") and len(offered) > 1:
        del offered["text/html"]  # the repr of some object: its plain text will do
    for kind in OUTPUTS:
        if kind in offered:
            return kind, offered[kind]
    cell.fail(f"an output is of a type that no page can show: {', '.join(offered) or output.output_type}")


def from_html(text: str, cell: Cell) -> list:
    """Read HTML, a table of pandas for instance."""
    if lost := re.search(r"<(script|iframe|video|audio|canvas|svg|object|embed|form|input|button)\b", text, re.I):
        cell.fail(f"no page can show its <{lost.group(1)}>")
    return blocks_of(text, "html+tex_math_single_backslash")


def take_title(cells: list[Cell]) -> str | None:
    """Take the first heading of level 1 out of the text, and return it."""
    for blocks in (blocks for cell in cells if not cell.prompt for blocks in cell.texts):
        for block in blocks:
            if block["t"] == "Header" and block["c"][0] == 1:
                blocks.remove(block)
                return plain(block["c"][2])
    return None


def describe(notebook: nbformat.NotebookNode, cells: list[Cell], claims: list[str]) -> list[tuple[str, str]]:
    """Return the facts of the title page, as far as the notebook knows them."""
    data = environment = "not recorded"
    if known := notebook.metadata.get("nnlib"):  # written by tools.author.build and tools.instructor.run
        used = known["datasets"].values()
        data = "; ".join(f"{a['title']}, {a['source']} (SHA-256 {a['fingerprint'][:12]}…)" for a in used) or "none used"
        environment = known.get("environment") or pinned.words(None)  # a build knows no other
    code = [cell for cell in cells if cell.prompt]
    run = sum(cell.node.execution_count is not None for cell in code)
    results = [f"{run} of {len(code)} cells run", f"claims held: {len(claims)}"]
    for cell in code:
        expected = "raises-exception" in notebooks.tags(cell.node)
        if not expected and any(output.output_type == "error" for output in cell.node.outputs):
            results.insert(0, f"stopped by an error in {cell.prompt}")
    return [("Data", data), ("Environment", environment), ("Results", ", ".join(results))]


# --------------------------------------------------------------------------------------------------- checking the text


def check_texts(cells: list[Cell], name: str, folder: Path, work: Path) -> None:
    """Fail where something would be lost; bring headings, links, pictures and tables into the form that pages need."""
    targets, level = set(), 1

    def checked(element, cell):
        nonlocal level
        kind, content = element["t"], element.get("c")
        if kind in ("RawInline", "RawBlock"):
            return []  # a comment: other HTML has been read
        if kind == "Str" and re.search(r"\\(begin|end)\{", content):
            cell.fail(f"{content} is not between $$ and $$, and would be printed as it stands")
        if kind == "Header":
            level = content[0] = min(content[0], level + 1)  # no level is left out
            content[1][0] = f"{name}--{content[1][0]}"  # in course.pdf two notebooks may have the same heading
            targets.add(content[1][0])
        elif kind == "Link" and content[2][0].startswith("#"):
            content[2][0] = f"#{name}--{unquote(content[2][0][1:]).lower()}"
        elif kind == "Image":
            content[2][0] = find_picture(content[2][0], cell, folder, work)
            content[1] = content[1] or [{"t": "Str", "c": "(a picture without a description)"}]
        elif kind == "Table":
            for column in content[2]:
                if column[0]["t"] == "AlignDefault":
                    column[0] = {"t": "AlignLeft"}
                column[1] = {"t": "ColWidthDefault"}  # both writers know better than pandoc, which counts characters
        return element

    for cell in cells:
        for blocks in cell.texts:
            blocks[:] = change(blocks, lambda element, cell=cell: checked(element, cell))
    for cell in cells:
        for link in (element["c"][2][0] for element in elements(cell.texts) if element["t"] == "Link"):
            if link.startswith("#") and link[1:] not in targets:
                cell.fail(f"its link to #{link.split('--', 1)[1]} leads nowhere")


def find_picture(target: str, cell: Cell, folder: Path, work: Path) -> str:
    """Copy the picture that a text shows into `work`, and return its name there."""
    if re.match(r"(https?:)?//", target):
        cell.fail(f"the picture {target} is on the network; save it beside the notebook")
    attached = cell.node.get("attachments", {}).get(unquote(target.removeprefix("attachment:")), {})
    if inline := re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", target, re.DOTALL):
        attached = {inline.group(1): inline.group(2)}
    for kind, data in attached.items():
        return save_picture(kind, data, cell, work)
    path = folder / unquote(target)
    if not path.is_file():
        cell.fail(f"there is no picture {target}")
    suffix = path.suffix.lower().lstrip(".").replace("jpeg", "jpg")
    kind = next((kind for kind, known in PICTURES.items() if known == suffix), suffix)
    return save_picture(kind, path.read_bytes(), cell, work)


def save_picture(kind: str, data: str | bytes, cell: Cell, work: Path) -> str:
    """Write a picture (bytes, base64, or the text of an SVG) into `work`; return its name there."""
    if kind not in PICTURES:
        cell.fail(f"a picture is of a type that no page can show: {kind}")
    if isinstance(data, str):
        data = data.encode() if "<svg" in data else base64.b64decode(data)
    name = f"{hashlib.sha256(data).hexdigest()[:20]}.{PICTURES[kind]}"
    (work / name).write_bytes(data)
    return name


def chinese_font(cells: list[Cell], work: Path) -> str | None:
    """Return the family of a font for the notebook's Chinese text, its file in work/fonts; None if there is none."""
    for cell in cells:
        if found := CHINESE.search(json.dumps([cell.node.source, cell.node.get("outputs", [])], ensure_ascii=False)):
            break
    else:
        return None
    package = importlib.util.find_spec("pylopdf_fonts_zh_cn")
    there = typst.Fonts(font_paths=list(package.submodule_search_locations) if package else []).fonts()
    for family in CHINESE_FONTS:
        if files := sorted(font.path for font in there if font.family == family):
            (work / "fonts").mkdir(exist_ok=True)
            for file in files:
                shutil.copy(file, work / "fonts")
            return family
    cell.fail(
        f"{found.group()} needs a font with Chinese characters, {CHINESE_FONTS[0]} for instance, and none is here\n"
        "    (pip install pylopdf-fonts-zh-cn; or, on Debian and Ubuntu, apt install fonts-noto-cjk)"
    )


# ------------------------------------------------------------------------------------------------------- pandoc's trees


def pandoc(text: str, source: str, target: str, *options: str) -> tuple[str, list[dict]]:
    """Convert a text; return it with pandoc's log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [PANDOC, "-f", source, "-t", target, "--wrap=none", "--quiet", f"--log={log}"]
        done = subprocess.run([*command, *options], input=text.encode(), capture_output=True)
        if done.returncode:
            raise ReportFailed(f"pandoc could not write {target}: {done.stderr.decode().strip()}")
        return done.stdout.decode(), json.loads(log.read_text("utf-8"))


def blocks_of(text: str, source: str) -> list[dict]:
    """Read a text as pandoc's blocks."""
    return json.loads(pandoc(text, source, "json")[0])["blocks"]


def elements(tree):
    """Yield every element of a tree."""
    if isinstance(tree, dict) and "t" in tree:
        yield tree
        tree = tree.get("c")
    if isinstance(tree, list):
        for branch in tree:
            yield from elements(branch)


def change(tree, how):
    """Rebuild a tree from its leaves: each element becomes how(element), or the elements of that if it is a list."""
    if isinstance(tree, list):
        changed = []
        for branch in tree:
            new = change(branch, how)
            changed += new if isinstance(branch, dict) and isinstance(new, list) else [new]
        return changed
    if isinstance(tree, dict) and "t" in tree:
        return how(tree | {"c": change(tree["c"], how)} if "c" in tree else tree)
    return tree


def is_comment(element: dict) -> bool:
    """Say whether a raw element is an HTML comment."""
    return element["c"][1].lstrip().startswith("<!--")


def plain(inlines: list) -> str:
    """Return inline elements as plain text."""
    words = ""
    for element in elements(inlines):
        if element["t"] in ("Space", "SoftBreak", "LineBreak"):
            words += " "
        elif element["t"] in ("Str", "Code", "Math"):
            words += element["c"] if element["t"] == "Str" else element["c"][1]
    return words


def raw(text: str, language: str, kind: str = "RawBlock") -> dict:
    """Return text in the target's own language as a pandoc element."""
    return {"t": kind, "c": [language, text]}


def write_tree(report: Report, blocks: list, target: str, *options: str, meta: dict | None = None) -> str:
    """Let pandoc write a tree. TeX that it can't convert is an error."""
    tree = {"pandoc-api-version": [1, 23], "meta": meta or {}, "blocks": blocks}
    text, log = pandoc(json.dumps(tree), "json", target, *options)
    for entry in log:
        if entry["type"] == "CouldNotConvertTeXMath":
            tex = {"t": "Math", "c": entry["contents"]}
            for cell in report.cells:
                if any(e["t"] == "Math" and e["c"][1] == tex["c"] for e in elements(cell.texts)):
                    cell.fail(f"its TeX does not convert: {entry['contents']}\n{entry['message']}")
        if entry["verbosity"] != "INFO":
            raise ReportFailed(f"{report.name}: pandoc says: {entry['pretty']}")
    return text


# -------------------------------------------------------------------------------------------------------- printed text


def printed_lines(text: str) -> list[list[tuple[str, bool, str]]]:
    """Return the lines that a terminal would show of a text, each as a list of (colour, bold, words)."""
    lines, colour, bold = [], "", False
    text = re.sub(r"\x1b\].*?(\x07|\x1b\\)", "", text)  # the address of a link, the title of a window
    for line in text.expandtabs().strip("\n").split("\n"):
        covered = [part for part in line.split("\r") if part]  # what follows a carriage return covers what was there
        pieces = []
        for codes, end, words in re.findall(r"(?:\x1b\[([\d;]*)([A-Za-z]))?([^\x1b]*)", "".join(covered[-1:])):
            if end == "m":
                colour, bold = restyle([int(code or 0) for code in codes.split(";")], colour, bold)
            if words := re.sub(r"[\x00-\x1f\x7f]", "", words):
                pieces.append((colour, bold, words))
        lines.append(pieces)
    return lines


def restyle(codes: list[int], colour: str, bold: bool) -> tuple[str, bool]:
    """Follow a terminal's colour command (ECMA-48, SGR); of 256 colours it takes the nearest of eight."""
    while codes:
        code, *codes = codes
        if code in (0, 1, 22):
            colour, bold = colour if code else "", code == 1
        elif code == 39:
            colour = ""
        elif 30 <= code <= 37 or 90 <= code <= 97:
            colour = COLOURS[code % 10]
        elif code in (38, 48) and codes[:1] == [5]:
            if code == 38:
                colour = nearest(codes[1])
            codes = codes[2:]
        elif code in (38, 48):
            codes = codes[4:]
    return colour, bold


def nearest(number: int) -> str:
    """Return the nearest of the eight colours to one of the 256: 16 of old, a cube of 6 × 6 × 6, and greys."""
    if number < 16:
        return COLOURS[number % 8]
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return COLOURS[(red > 1) + 2 * (green > 1) + 4 * (blue > 1)] if number < 232 else ""


# ----------------------------------------------------------------------------------------------------- writing: the PDF


def quoted(text: str) -> str:
    """Return a text as a Typst string on one line; a word too long for a line gets places where it may break."""
    text = re.sub(r"\S{40,}", lambda found: re.sub(r"(?<=[(\[{,.=/])(?=\w)", "\u200b", found.group()), text)
    text = re.sub(r"[^\s\u200b]{40,}", lambda found: "\u200b".join(re.findall(".{1,10}", found.group())), text)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def typst_of(element: dict) -> dict | list:
    """Put into Typst what pandoc would leave out: descriptions of pictures and formulas, links between notebooks."""
    kind, content = element["t"], element.get("c")
    if kind == "Math":
        before = f"#formula({quoted(content[1])})["
        if r"\begin{cases}" in content[1]:  # Typst leaves no room between the columns
            element = {"t": "Math", "c": [content[0], content[1].replace("&", r"&\quad ")]}
    elif kind == "Link" and (name := notebook_of(content[2][0])):
        before, element = f"#to-notebook({quoted(name)})[", content[1]
    elif kind == "Image":
        return raw(f"#figure-of({quoted(content[2][0])}, {quoted(plain(content[1]))})", "typst", "RawInline")
    else:
        return element
    inner = element if isinstance(element, list) else [element]
    return [raw(before, "typst", "RawInline"), *inner, raw("]", "typst", "RawInline")]


def notebook_of(target: str) -> str | None:
    """Return the name of the notebook beside this one that a link leads to, or None."""
    match = re.fullmatch(r"(?:\./)?([^/:]+)\.ipynb(#.*)?", unquote(target))
    return word(match.group(1)) if match else None


def typst_cell(cell: Cell) -> list[dict]:
    """Return a cell as pandoc's blocks for Typst; what is not Markdown is one line, a call into reports.typ."""
    blocks = []
    if cell.prompt:
        label = "Solution" if "solution" in notebooks.tags(cell.node) else ""
        sticky = "true" if cell.shown else "false"
        code = f'raw({quoted(cell.node.source)}, lang: "python", block: true)'
        blocks.append(raw(f"#code-cell({quoted(cell.prompt)}, {quoted(label)}, {sticky}, {code})", "typst"))
    for shown in cell.shown:
        match shown:
            case Picture(file, alt):
                blocks.append(raw(f"#figure-of({quoted(file)}, {quoted(alt)})", "typst"))
            case Printed(text, is_error):
                sticky = shown is not cell.shown[-1]  # what a cell prints stays with the figure that follows
                how = f"{str(is_error).lower()}, {str(sticky).lower()}"
                blocks.append(raw(f"#printed({how}, {typst_lines(text)})", "typst"))
            case texts if cell.prompt:
                blocks += [raw("#output[", "typst"), *change(texts, typst_of), raw("]", "typst")]
            case texts:
                blocks += change(texts, typst_of)
    return blocks


def typst_lines(text: str) -> str:
    """Return printed text as arguments of `printed`: for each line its plain text, and the same in colour."""
    lines = []
    for line in printed_lines(text):
        pieces = [f"ink({quoted(colour)}, {str(bold).lower()}, raw({quoted(words)}))" for colour, bold, words in line]
        lines.append(f"({quoted(''.join(words for _, _, words in line))}, {{ {'; '.join(pieces)} }})")
    return ", ".join(lines)


def write_typst(report: Report, work: Path) -> None:
    """Write NAME.json (the title page), NAME.body.typ (the text) and NAME.typ (both) into `work`."""
    blocks = []
    for number, cell in enumerate(report.cells):
        blocks += [raw(f"//{MARK.format(number)}", "typst"), *typst_cell(cell)]
    body = write_tree(report, blocks, "typst", "--syntax-highlighting=idiomatic").split("\n")
    body = [line if line.startswith(("#code-cell(", "#printed(")) else renamed(line) for line in body]
    (work / f"{report.name}.body.typ").write_text("\n".join(['#import "reports.typ": *', *body]), "utf-8")
    write_main(report.name, "report", report.info, [f'#include "{report.name}.body.typ"'], work)


def write_main(name: str, look: str, info: dict, body: list[str], work: Path) -> None:
    """Write NAME.json, what the title page says, and NAME.typ, which puts it before the body."""
    (work / f"{name}.json").write_text(json.dumps(info), "utf-8")
    head = ['#import "reports.typ": *', f'#show: {look}.with(json("{name}.json"))']
    (work / f"{name}.typ").write_text("\n".join([*head, *body]), "utf-8")


def renamed(line: str) -> str:
    """Give symbols that pandoc still calls by old names those that Typst has for them now."""
    return re.sub(r"\b(dot|times|minus|dash)\.circle\b", r"\1.o", line).replace('delim: "||"', 'delim: "|"')


def compile_pdf(name: str, reports: list[Report], work: Path) -> bytes:
    """Compile NAME.typ as PDF/UA-1: a standard that allows neither a missing glyph nor a figure without description."""
    fonts = [work / "fonts"] if (work / "fonts").exists() else []
    options = {"root": work, "font_paths": fonts, "ignore_system_fonts": True, "pdf_standards": ["ua-1"]}
    try:
        pdf, warnings = typst.compile_with_warnings(work / f"{name}.typ", **options)
    except typst.TypstError as error:
        raise ReportFailed(explain(error, name, reports, work)) from None
    if warnings:
        raise ReportFailed(explain(warnings[0], name, reports, work))
    return pdf


def explain(error: typst.TypstError | typst.TypstWarning, name: str, reports: list[Report], work: Path) -> str:
    """Return what Typst says in words that name the cell."""
    what, place = error.message, name
    if glyph := re.search(r'the text `"(.+?)"` could not be displayed', what):
        codes = " ".join(f"U+{ord(character):04X}" for character in glyph.group(1))
        what = f"no font of the PDF has the character {glyph.group(1)} ({codes})"
    mark = re.escape(MARK).replace(r"\{\}", r"(\d+)")
    for file, line in re.findall(r"┌─ .*?([^\\/\n]+)\.body\.typ:(\d+):", error.diagnostic)[:1]:
        before = (work / f"{file}.body.typ").read_text("utf-8").split("\n")[: int(line)]
        cells = next(report.cells for report in reports if report.name == file)
        place = cells[int(re.findall(mark, "\n".join(before))[-1])].place
    return f"{place}: {what}"


# ---------------------------------------------------------------------------------------------------- writing: the HTML


def html_of(element: dict, work: Path) -> dict:
    """Put pictures into the page, and let links to notebooks lead to their reports."""
    kind, content = element["t"], element.get("c")
    if kind == "Image":
        content[2][0] = data_uri(content[2][0], work)
    elif kind == "Link" and (name := notebook_of(content[2][0])):
        content[2][0] = f"{name}.html"
    return element


def data_uri(file: str, work: Path) -> str:
    """Return a picture of `work` as an address that holds all of it."""
    kind = next(kind for kind, suffix in PICTURES.items() if file.endswith(f".{suffix}"))
    return f"data:{kind};base64,{base64.b64encode((work / file).read_bytes()).decode()}"


def html_cell(cell: Cell, work: Path) -> list[dict]:
    """Return a cell as pandoc's blocks for HTML."""
    blocks = []
    if cell.prompt:
        label = '<p class="label">Solution</p>' if "solution" in notebooks.tags(cell.node) else ""
        blocks.append(raw(f'<div class="cell">{label}<div class="prompt">{cell.prompt}</div>', "html"))
        blocks.append({"t": "CodeBlock", "c": [["", ["python"], []], cell.node.source]})
    for shown in cell.shown:
        match shown:
            case Picture(file, alt):
                image = f'<img src="{data_uri(file, work)}" alt="{html.escape(alt)}">'
                blocks.append(raw(f'<div class="picture">{image}</div>', "html"))
            case Printed(text, is_error):
                kind = "output error" if is_error else "output"
                blocks.append(raw(f'<div class="{kind}"><pre>{html_lines(text)}</pre></div>', "html"))
            case texts:
                blocks.append(raw('<div class="output">' if cell.prompt else "<div>", "html"))
                blocks += change(texts, lambda element: html_of(element, work))
                blocks.append(raw("</div>", "html"))
    return [*blocks, raw("</div>", "html")] if cell.prompt else blocks


def html_lines(text: str) -> str:
    """Return printed text as HTML, in its colours."""
    lines = []
    for line in printed_lines(text):
        lines.append("")
        for colour, bold, words in line:
            style = " ".join([f"ink-{colour}"] * bool(colour) + ["ink-bold"] * bold)
            lines[-1] += f'<span class="{style}">{html.escape(words)}</span>' if style else html.escape(words)
    return "\n".join(lines)


def write_html(report: Report, work: Path) -> bytes:
    """Return the report as one HTML file that needs no other: mathematics as MathML, pictures within, no script."""

    def words(text):
        return {"t": "MetaString", "c": text}

    def many(items):
        return {"t": "MetaList", "c": items}

    facts = [{"name": words(name), "value": words(value)} for name, value in report.info["facts"]]
    facts[-1]["items"] = many([words(claim) for claim in report.info["claims"]])
    meta = {"facts": many([{"t": "MetaMap", "c": fact} for fact in facts])}
    meta |= {"pagetitle": words(report.info["title"]), "course": words(COURSE)}
    blocks = [block for cell in report.cells for block in html_cell(cell, work)]
    options = ("--mathml", "--standalone", f"--template={HERE / 'reports.html'}", "--toc", "--toc-depth=3")
    return write_tree(report, blocks, "html5", *options, meta=meta).encode()


# ------------------------------------------------------------------------------------------------------ all of the work


def render(path: Path, work: Path, folder: Path) -> Report:
    """Render one notebook into `folder`: both files, or neither."""
    report = read(path, work)
    page = write_html(report, work)
    write_typst(report, work)
    pdf = compile_pdf(report.name, [report], work)
    save({f"{report.name}.html": page, f"{report.name}.pdf": pdf}, folder)
    return report


def render_course(reports: list[Report], work: Path, folder: Path) -> None:
    """Bind notebooks that have been rendered into course.pdf, a chapter each."""
    claims = sum(len(report.info["claims"]) for report in reports)
    environments = dict.fromkeys(dict(report.info["facts"])["Environment"] for report in reports)
    facts = [("Notebooks", str(len(reports))), ("Environment", "; ".join(environments))]
    info = {
        "course": COURSE,
        "title": COURSE,
        "facts": [*facts, ("Results", f"claims held: {claims}")],
        "claims": [],
        "chinese": next((report.info["chinese"] for report in reports if report.info["chinese"]), None),
    }
    chapters = [f'#chapter(json("{r.name}.json"))\n#include "{r.name}.body.typ"' for r in reports]
    write_main("course", "course", info, chapters, work)
    save({"course.pdf": compile_pdf("course", reports, work)}, folder)


def save(files: dict[str, bytes], folder: Path) -> None:
    """Write files under other names first, then rename them: an interruption leaves the old ones whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f".{name}.half").write_bytes(content)
    for name in files:
        (folder / f".{name}.half").replace(folder / name)


def find(names: list[str]) -> tuple[list[Path], bool]:
    """Return the notebooks that are meant by names, paths and folders, and whether they are to be bound together."""
    paths, whole = [], not names
    for name in names or [notebooks.ROOT / "notebooks"]:
        path = Path(name).expanduser().resolve()
        if path.is_dir():
            paths += notebooks.find(path, suffix=".ipynb")
            whole = True
        elif path.suffix == ".ipynb" and path.is_file():
            paths.append(path)
        else:
            paths += notebooks.find(notebooks.ROOT / "notebooks", [name], ".ipynb")
    return paths, whole


def main() -> int:
    """Render the notebooks named on the command line, or all; one that can't be does not stop those after it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a Windows console may not know every character of a heading
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="01_mlp, any .ipynb, or a folder of notebooks")
    parser.add_argument("--to", type=Path, default=notebooks.ROOT / "reports", metavar="FOLDER", help="reports/")
    options = parser.parse_args()
    paths, whole = find(options.names)
    reports, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        shutil.copy(HERE / "reports.typ", work)
        for path in paths:
            start = time.monotonic()
            try:
                reports.append(render(path, work, options.to))
                name = notebooks.shown(options.to / reports[-1].name)
                print(f"{name}.pdf and .html in {time.monotonic() - start:.1f} s", flush=True)
            except ReportFailed as failure:
                failures.append(failure)
        if whole and not failures:
            start = time.monotonic()
            render_course(reports, work, options.to)
            print(f"{notebooks.shown(options.to / 'course.pdf')} in {time.monotonic() - start:.1f} s")
    for failure in failures:
        print(f"\nNo report. {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
