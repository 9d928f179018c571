"""Render executed notebooks as PDF (A4) and as HTML that needs no network, into reports/; all together as course.pdf.

    python -m tools.reports [01_mlp | my.ipynb | results ...]        make reports NOTEBOOK=...

The one idea: pandoc reads all the text of a notebook once, into a tree in which every element still knows its cell.
That tree is checked, and then written twice: as Typst, which makes the PDF, and as HTML. Whatever a page can't show
(TeX that does not convert, a character in no font, an unknown output) is an error that names the cell, never a gap.
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

from tools import notebooks

COURSE = "Neural networks from scratch"
HERE = Path(__file__).parent
MARKDOWN = "gfm-tex_math_gfm-emoji+tex_math_dollars"  # as JupyterLab reads it, and footnotes
MARK = "CELL-%d-BEGINS-HERE"
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
class Cell:
    """A cell, its place in words, and its text as pandoc blocks: texts[None] is its own, texts[2] that of output 2."""

    node: nbformat.NotebookNode
    prompt: str  # In [7]; empty for text
    place: str
    texts: dict = field(default_factory=dict)

    def fail(self, what: str):
        """Raise the error that names this cell."""
        raise ReportFailed(f"{self.place}: {what}")


@dataclass
class Report:
    """A notebook on its way to the page."""

    path: Path
    cells: list[Cell]
    title: str
    facts: list[tuple[str, str]]  # data, environment, results
    claims: list[str]
    chinese: str | None  # the font of its Chinese text, where it has any

    @property
    def name(self) -> str:
        """The name of its files, and of its chapter in course.pdf."""
        return word(self.path.stem)


def word(text: str) -> str:
    """Return a text as one word, fit for a file name and a label."""
    return re.sub(r"[^\w.-]+", "_", text)


# ------------------------------------------------------------------------------------------------- reading the notebook


def read(path: Path, work: Path) -> Report:
    """Read a notebook and check that a page can show all of it; its pictures are put into the folder `work`."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:  # what nbformat raises for no notebook
        raise ReportFailed(f"{notebooks.shown(path)} can't be read as a notebook: {error}") from None
    cells = locate(notebook, path.stem)
    read_texts(cells)
    title = take_title(cells) or path.stem
    check_texts(cells, word(path.stem), path.parent, work)
    claims = [claim for cell in cells for claim in notebooks.claims(cell.node.get("outputs", []))]
    return Report(path, cells, title, describe(notebook, cells, len(claims)), claims, chinese_font(cells, work))


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


def read_texts(cells: list[Cell]) -> None:
    """Read the Markdown, LaTeX and HTML of all cells: in one go, so that a footnote may stand in another cell."""
    parts = []  # (cell, None or the number of the output, Markdown)
    for cell in cells:
        if cell.node.cell_type == "markdown":
            parts.append((cell, None, cell.node.source))
        for number, output in enumerate(cell.node.get("outputs", [])):
            kind = kind_of(output, cell)
            if kind == "text/html":
                cell.texts[number] = from_html(output.data[kind], cell)
            elif kind == "text/markdown":
                parts.append((cell, number, output.data[kind]))
            elif kind == "text/latex":
                parts.append((cell, number, f"$$\n{output.data[kind].strip().strip('$')}\n$$"))
    text = "\n\n".join(f"{MARK % number}\n\n{part}" for number, (_, _, part) in enumerate(parts))
    begun = 0
    for block in pandoc(text, MARKDOWN):
        if block == {"t": "Para", "c": [{"t": "Str", "c": MARK % begun}]}:
            cell, number, _ = parts[begun]
            cell.texts[number] = blocks = []
            begun += 1
        else:
            blocks.append(block)
    if begun < len(parts):
        cell.fail("a ``` or <!-- in it is never closed, and would swallow the text that follows")
    for cell, number, part in parts:
        if any(is_html(element) for element in elements(cell.texts[number])):
            cell.texts[number] = from_html(pandoc(part, MARKDOWN, "html", "--mathjax")[0], cell)


def kind_of(output: nbformat.NotebookNode, cell: Cell) -> str:
    """Choose how to show an output: the best picture or text that it offers."""
    if output.output_type in ("stream", "error"):
        return output.output_type
    offered = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in offered:
        cell.fail("it shows a widget, which no page can (from tqdm import tqdm, not tqdm.auto)")
    for kind in OUTPUTS:
        if kind in offered and not (kind == "text/html" and "<table" not in offered[kind] and "text/plain" in offered):
            return kind
    cell.fail(f"an output is of a type that no page can show: {', '.join(offered) or output.output_type}")


def from_html(text: str, cell: Cell) -> list:
    """Read HTML, a table of pandas for instance."""
    if lost := re.search(r"<(script|iframe|video|audio|canvas|svg|object|embed|form|input|button)\b", text, re.I):
        cell.fail(f"no page can show its <{lost.group(1)}>")
    return pandoc(text, "html+tex_math_single_backslash")


def is_html(element: dict) -> bool:
    """Say whether an element is HTML within Markdown, comments aside."""
    return element["t"] in ("RawInline", "RawBlock") and not element["c"][1].lstrip().startswith("<!--")


def take_title(cells: list[Cell]) -> str | None:
    """Take the first heading of level 1 out of the text, and return it."""
    for cell in cells:
        for block in cell.texts.get(None, []):
            if block["t"] == "Header" and block["c"][0] == 1:
                cell.texts[None].remove(block)
                return plain(block["c"][2])
    return None


def describe(notebook: nbformat.NotebookNode, cells: list[Cell], claims: int) -> list[tuple[str, str]]:
    """Return the facts of the title page, as far as the notebook knows them."""
    known = notebook.metadata.get("nnlib")  # written by tools.build and tools.run, not by JupyterLab
    data, environment = "not recorded", "not recorded"
    if known:
        used = known.get("datasets", {}).values()
        data = "; ".join(f"{a['title']}, {a['source']} (SHA-256 {a['fingerprint'][:12]}…)" for a in used) or "none used"
        environment = known.get("environment") or notebooks.pinned_environment()
    code = [cell for cell in cells if cell.prompt]
    run = sum(cell.node.execution_count is not None for cell in code)
    results = [f"{run} of {len(code)} cells run", f"{claims} claim{'s'[: claims != 1]} held"]
    for cell in code:
        expected = "raises-exception" in notebooks.tags(cell.node)
        if not expected and any(output.output_type == "error" for output in cell.node.outputs):
            results.append(f"an error in {cell.prompt}")
    return [("Data", data), ("Environment", environment), ("Results", ", ".join(results))]


# --------------------------------------------------------------------------------------------------- checking the text


def check_texts(cells: list[Cell], name: str, folder: Path, work: Path) -> None:
    """Fail where something would be lost; bring headings, links, pictures and tables into the form that pages need."""
    targets, level = set(), 1

    def checked(element, cell):
        nonlocal level
        kind, content = element["t"], element.get("c")
        if kind in ("RawInline", "RawBlock"):
            return []  # a comment
        if kind == "Str" and re.search(r"\\(begin|end)\{", content):
            cell.fail(f"{content} is not between $$ and $$, and would be printed as it stands")
        if kind == "Header":
            level = content[0] = min(content[0], level + 1)  # no level is left out
            content[1][0] = f"{name}--{content[1][0]}"
            targets.add(content[1][0])
        elif kind == "Link" and content[2][0].startswith("#"):
            content[2][0] = f"#{name}--{unquote(content[2][0][1:]).lower()}"
        elif kind == "Image":
            content[2][0] = find_picture(content[2][0], cell, folder, work)
            content[1] = content[1] or [{"t": "Str", "c": "(a picture without a description)"}]
        elif kind == "Table":
            for column in content[2]:
                column[1] = {"t": "ColWidthDefault"}
        return element

    for cell in cells:
        for key, blocks in cell.texts.items():
            cell.texts[key] = change(blocks, lambda element, cell=cell: checked(element, cell))
    for cell in cells:
        for element in elements(list(cell.texts.values())):
            if element["t"] == "Link":
                target = element["c"][2][0]
                if target.startswith("#") and target[1:] not in targets:
                    cell.fail(f"its link to #{target.split('--', 1)[1]} leads nowhere")


def find_picture(target: str, cell: Cell, folder: Path, work: Path) -> str:
    """Copy the picture that a text shows into `work`, and return its name there."""
    if re.match(r"(https?:)?//", target):
        cell.fail(f"the picture {target} is on the network; save it beside the notebook")
    if target.startswith("attachment:"):
        found = cell.node.get("attachments", {}).get(unquote(target.removeprefix("attachment:")), {})
        for kind, data in found.items():
            return save_picture(kind, data, cell, work)
    elif match := re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", target, re.DOTALL):
        return save_picture(*match.groups(), cell, work)
    elif (path := folder / unquote(target)).is_file():
        suffix = path.suffix.lower().lstrip(".").replace("jpeg", "jpg")
        kinds = [kind for kind, known in PICTURES.items() if known == suffix]
        return save_picture(kinds[0] if kinds else f"*.{suffix}", path.read_bytes(), cell, work)
    cell.fail(f"there is no picture {target}")


def save_picture(kind: str, data: str | bytes, cell: Cell, work: Path) -> str:
    """Write a picture (bytes, base64, or SVG) into `work`, named after its content; return the name."""
    if kind not in PICTURES:
        cell.fail(f"a picture is of a type that no page can show: {kind}")
    if isinstance(data, str):
        data = data.encode() if kind == "image/svg+xml" and "<svg" in data else base64.b64decode(data)
    name = f"{hashlib.sha256(data).hexdigest()[:20]}.{PICTURES[kind]}"
    (work / name).write_bytes(data)
    return name


def chinese_font(cells: list[Cell], work: Path) -> str | None:
    """Return the font family for the notebook's Chinese text, its file in work/fonts; None if there is no such text."""
    for cell in cells:
        if found := CHINESE.search(json.dumps([cell.node.source, cell.node.get("outputs", [])], ensure_ascii=False)):
            break
    else:
        return None
    package = importlib.util.find_spec("pylopdf_fonts_zh_cn")
    folders = list(package.submodule_search_locations) if package else []
    there = {font.family: font for font in reversed(typst.Fonts(font_paths=folders).fonts())}
    for family in CHINESE_FONTS:
        if family in there:
            (work / "fonts").mkdir(exist_ok=True)
            shutil.copy(there[family].path, work / "fonts")
            return family
    cell.fail(
        f"{found.group()} needs a font with Chinese characters, {CHINESE_FONTS[0]} for instance, and none is here\n"
        f"    (pip install pylopdf-fonts-zh-cn; on Debian and Ubuntu: apt install fonts-noto-cjk)"
    )


# ------------------------------------------------------------------------------------------------------ pandoc's tree


def pandoc(text: str, source: str, target: str = "json", *options: str) -> list:
    """Convert a text; return its blocks, or [text, what could not be converted] for a target other than the tree."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [pypandoc.get_pandoc_path(), "-f", source, "-t", target, "--wrap=none", "--quiet", f"--log={log}"]
        done = subprocess.run([*command, *options], input=text.encode(), capture_output=True)
        if done.returncode:
            raise ReportFailed(f"pandoc could not convert {source} to {target}: {done.stderr.decode().strip()}")
        if target == "json":
            return json.loads(done.stdout)["blocks"]
        return [done.stdout.decode(), json.loads(log.read_text("utf-8"))]


def elements(node):
    """Yield every element of a tree."""
    if isinstance(node, dict):
        yield node
        node = node.get("c")
    if isinstance(node, list):
        for part in node:
            yield from elements(part)


def change(node, how):
    """Rebuild a tree from its leaves: an element becomes how(element), or the elements of that if it is a list."""
    if isinstance(node, list):
        parts = [(part, change(part, how)) for part in node]
        return [new for part, made in parts for new in (made if isinstance(part, dict) and type(made) is list else [made])]
    if isinstance(node, dict):
        return how({**node, "c": change(node["c"], how)} if "c" in node else node)
    return node


def plain(inlines: list) -> str:
    """Return inline elements as plain text."""
    words = {"Str": lambda c: c, "Code": lambda c: c[1], "Math": lambda c: c[1]}
    spaces = ("Space", "SoftBreak", "LineBreak")
    return "".join(
        " " if e["t"] in spaces else words[e["t"]](e["c"]) for e in elements(inlines) if e["t"] in (*words, *spaces)
    )


# -------------------------------------------------------------------------------------------------------- printed text


def printed_lines(text: str) -> list[list[tuple[str, bool, str]]]:
    """Return what a terminal would show of a text: its lines, each a list of (colour, bold, text)."""
    lines, colour, bold = [], "", False
    for line in re.sub(r"\x1b\].*?(\x07|\x1b\\)", "", text).expandtabs().removesuffix("\n").split("\n"):
        line = [part for part in line.split("\r") if part][-1:]  # a carriage return: what follows covers the line
        pieces = []
        for code, end, words in re.findall(r"(?:\x1b\[([\d;]*)([A-Za-z]))?([^\x1b]*)", "".join(line)):
            if end == "m":
                colour, bold = restyle([int(number or 0) for number in code.split(";")], colour, bold)
            if words := re.sub(r"[\x00-\x1f\x7f]", "", words):
                pieces.append((colour, bold, words))
        lines.append(pieces)
    return lines


def restyle(codes: list[int], colour: str, bold: bool) -> tuple[str, bool]:
    """Follow one colour command of a terminal (ECMA-48, SGR); of 256 colours, take the nearest of eight."""
    while codes:
        code = codes.pop(0)
        if code in (38, 48):
            kind, *numbers = codes[:5] if codes[:1] == [2] else codes[:2]
            del codes[: 1 + len(numbers) if kind == 5 else 4]
            if code == 38 and kind == 5 and numbers:
                n = numbers[0]
                cube = (n - 16) // 36, (n - 16) // 6 % 6, (n - 16) % 6
                grey = n >= 232
                colour = "" if grey else COLOURS[n % 8 if n < 16 else sum((c > 1) << i for i, c in enumerate(cube))]
        elif code in (0, 1, 22):
            colour, bold = colour if code else "", code == 1
        elif code == 39:
            colour = ""
        elif 30 <= code <= 37 or 90 <= code <= 97:
            colour = COLOURS[code % 10]
    return colour, bold


# ----------------------------------------------------------------------------------------------------- writing: the PDF


def quoted(text: str) -> str:
    """Return a text as a Typst string on one line; words too long for a line get places where they may break."""
    text = re.sub(r"\S{40,}", lambda word: "\u200b".join(re.findall(".{1,20}", word.group())), text)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def raw(text: str, format: str = "typst", kind: str = "RawBlock") -> dict:
    """Return text in the target's own language as a pandoc element."""
    return {"t": kind, "c": [format, text]}


def typst_of(element: dict) -> dict | list:
    """Say in Typst what pandoc's Typst would lose: descriptions of pictures and formulas, links between notebooks."""
    kind, content = element["t"], element.get("c")
    if kind == "Math":
        return [raw(f"#formula({quoted(content[1])})[", kind="RawInline"), element, raw("]", kind="RawInline")]
    if kind == "Image":
        return raw(f"#figure-of({quoted(content[2][0])}, {quoted(plain(content[1]))})", kind="RawInline")
    if kind == "Link" and (name := other_notebook(content[2][0])):
        return [raw(f"#to-notebook({quoted(name)})[", kind="RawInline"), *content[1], raw("]", kind="RawInline")]
    return element


def other_notebook(target: str) -> str | None:
    """Return the name of the notebook that a link leads to, or None."""
    match = re.fullmatch(r"(?:\./)?([^/:]+)\.ipynb(#.*)?", unquote(target))
    return word(match.group(1)) if match else None


def typst_cell(cell: Cell, work: Path) -> list:
    """Return a cell as pandoc blocks for Typst; whatever is not Markdown is one line of it."""
    if not cell.prompt:
        if None in cell.texts:
            return change(cell.texts[None], typst_of)
        return [raw(f"#printed(80, false, {printed_typst(cell.node.source)})")]  # a raw cell
    outputs = cell.node.outputs
    code = f'raw({quoted(cell.node.source)}, lang: "python", block: true)'
    sticky = "true" if outputs else "false"
    blocks = [raw(f"#code-cell({quoted(cell.prompt)}, {quoted(label_of(cell))}, {sticky}, {code})")]
    for number, output in enumerate(outputs):
        kind = kind_of(output, cell)
        if kind in PICTURES:
            name = save_picture(kind, output.data[kind], cell, work)
            blocks.append(raw(f"#figure-of({quoted(name)}, {quoted(alt_of(output, kind, cell))})"))
        elif number in cell.texts:
            blocks += [raw("#output["), *change(cell.texts[number], typst_of), raw("]")]
        elif text := text_of(output, kind).strip("\n"):
            widest = max(sum(len(words) for _, _, words in line) for line in printed_lines(text)) or 1
            is_error = "true" if is_error_of(output) else "false"
            blocks.append(raw(f"#printed({widest}, {is_error}, {printed_typst(text)})"))
    return blocks


def printed_typst(text: str) -> str:
    """Return printed text as arguments for `printed`: for each line its plain text and its coloured pieces."""
    arguments = []
    for line in printed_lines(text):
        pieces = [
            f"ink({quoted(colour)}, {str(bold).lower()}, raw({quoted(words)}))" if colour or bold else f"raw({quoted(words)})"
            for colour, bold, words in line
        ]
        arguments.append(f"({quoted(''.join(words for _, _, words in line))}, {{ {'; '.join(pieces)} }})")
    return ", ".join(arguments)


def label_of(cell: Cell) -> str:
    """Return what stands above a code cell."""
    return "Solution" if "solution" in notebooks.tags(cell.node) else ""


def alt_of(output: nbformat.NotebookNode, kind: str, cell: Cell) -> str:
    """Return the description of a figure."""
    return output.metadata.get(kind, {}).get("alt") or f"(a figure without a description, drawn by {cell.prompt})"


def is_error_of(output: nbformat.NotebookNode) -> bool:
    """Say whether an output is a traceback, or text on stderr."""
    return output.output_type == "error" or output.get("name") == "stderr"


def text_of(output: nbformat.NotebookNode, kind: str) -> str:
    """Return what an output prints."""
    if kind == "error":
        return "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    return output.text if kind == "stream" else output.data[kind]


def write_typst(report: Report, work: Path) -> None:
    """Write NAME.json (the title page), NAME.body.typ (the text) and NAME.typ (both) into `work`."""
    blocks = []
    for number, cell in enumerate(report.cells):
        blocks += [raw(f"//{MARK % number}"), *typst_cell(cell, work)]
    body = write_tree(report, blocks, "typst", "--syntax-highlighting=idiomatic")
    ours = ("#code-cell(", "#printed(")
    body = "\n".join(line if line.startswith(ours) else renamed(line) for line in body.split("\n"))
    (work / f"{report.name}.body.typ").write_text(f'#import "reports.typ": *\n{body}', "utf-8")
    save_info(report.name, report.title, report.facts, report.claims, report.chinese, work)
    text = f'#import "reports.typ": *\n#show: report.with(json("{report.name}.json"))\n#include "{report.name}.body.typ"\n'
    (work / f"{report.name}.typ").write_text(text, "utf-8")


def save_info(name: str, title: str, facts: list, claims: list, chinese: str | None, work: Path) -> None:
    """Write NAME.json, what a title page says."""
    info = {"course": COURSE, "name": name, "title": title, "facts": facts, "claims": claims, "chinese": chinese}
    (work / f"{name}.json").write_text(json.dumps(info), "utf-8")


def renamed(line: str) -> str:
    """Give symbols that pandoc still calls by their old names those that Typst has for them now."""
    return re.sub(r"\b(dot|times|minus|dash)\.circle\b", r"\1.o", line).replace('delim: "||"', 'delim: "|"')


def write_tree(report: Report, blocks: list, target: str, *options: str, meta: dict | None = None) -> str:
    """Let pandoc write a tree; TeX that it can't convert is an error."""
    tree = {"pandoc-api-version": [1, 23], "meta": meta or {}, "blocks": blocks}
    text, log = pandoc(json.dumps(tree), "json", target, *options)
    for entry in log:
        what, tex = entry.get("message", entry.get("pretty", "")), entry.get("contents", "")
        for cell in report.cells:
            if any(element["t"] == "Math" and element["c"][1] == tex for element in elements(list(cell.texts.values()))):
                cell.fail(f"its TeX does not convert: {tex}\n{what}")
        if entry["verbosity"] != "INFO":
            raise ReportFailed(f"{report.path.stem}: pandoc warns: {entry.get('pretty') or entry}")
    return text


def compile_pdf(name: str, reports: list[Report], work: Path) -> bytes:
    """Compile NAME.typ as PDF/UA-1, a standard that allows neither a missing glyph nor a picture without description."""
    fonts = [work / "fonts"] if (work / "fonts").exists() else []
    options = {"root": work, "font_paths": fonts, "ignore_system_fonts": True, "pdf_standards": ["ua-1"]}
    try:
        pdf, warnings = typst.compile_with_warnings(work / f"{name}.typ", **options)
    except typst.TypstError as error:
        raise ReportFailed(explain(error, name, reports, work)) from None
    if warnings:
        raise ReportFailed(explain(warnings[0], name, reports, work))
    return pdf


def explain(error: typst.TypstError, name: str, reports: list[Report], work: Path) -> str:
    """Return an error of Typst in words that name the cell."""
    what, place = error.message, name
    if glyph := re.search(r'the text `"(.+?)"` could not be displayed', what):
        codes = " ".join(f"U+{ord(character):04X}" for character in glyph.group(1))
        what = f"no font of the PDF has the character {glyph.group(1)} ({codes})"
    mark = MARK.replace("%d", r"(\d+)")
    for file, line in re.findall(r"┌─ .*?([^\\/\n]+)\.body\.typ:(\d+):", error.diagnostic)[:1]:
        before = (work / f"{file}.body.typ").read_text("utf-8").split("\n")[: int(line)]
        marks = re.findall(f"^//{mark}$", "\n".join(before), re.MULTILINE)
        cells = next(report.cells for report in reports if report.name == file)
        place = cells[int(marks[-1])].place
    return f"{place}: {what}"


# ---------------------------------------------------------------------------------------------------- writing: the HTML


def html_of(element: dict, work: Path) -> dict:
    """Put pictures into the page, and let links to notebooks lead to their reports."""
    kind, content = element["t"], element.get("c")
    if kind == "Image":
        content[2][0] = data_uri(content[2][0], work)
    elif kind == "Link" and (name := other_notebook(content[2][0])):
        content[2][0] = f"{name}.html"
    return element


def data_uri(name: str, work: Path) -> str:
    """Return a picture of `work` as a data URI."""
    kind = next(kind for kind, suffix in PICTURES.items() if name.endswith(f".{suffix}"))
    return f"data:{kind};base64,{base64.b64encode((work / name).read_bytes()).decode()}"


def html_cell(cell: Cell, work: Path) -> list:
    """Return a cell as pandoc blocks for HTML."""
    if not cell.prompt:
        blocks = cell.texts.get(None, [{"t": "CodeBlock", "c": [["", [], []], cell.node.source]}])
        return change(blocks, lambda element: html_of(element, work))
    label = f'<p class="label">{label_of(cell)}</p>' if label_of(cell) else ""
    blocks = [raw(f'<div class="cell">{label}<div class="prompt">{cell.prompt}</div>', "html")]
    blocks.append({"t": "CodeBlock", "c": [["", ["python"], []], cell.node.source]})
    for number, output in enumerate(cell.node.outputs):
        kind = kind_of(output, cell)
        if kind in PICTURES:
            source = data_uri(save_picture(kind, output.data[kind], cell, work), work)
            alt = html.escape(alt_of(output, kind, cell))
            blocks.append(raw(f'<div class="picture"><img src="{source}" alt="{alt}"></div>', "html"))
        elif number in cell.texts:
            shown = change(cell.texts[number], lambda element: html_of(element, work))
            blocks += [raw('<div class="output">', "html"), *shown, raw("</div>", "html")]
        elif text := text_of(output, kind).strip("\n"):
            error = " error" if is_error_of(output) else ""
            blocks.append(raw(f'<div class="output{error}"><pre>{printed_html(text)}</pre></div>', "html"))
    return [*blocks, raw("</div>", "html")]


def printed_html(text: str) -> str:
    """Return printed text as HTML."""
    lines = []
    for line in printed_lines(text):
        styled = ""
        for colour, bold, words in line:
            classes = " ".join([f"ink-{colour}"] * bool(colour) + ["ink-bold"] * bold)
            styled += f'<span class="{classes}">{html.escape(words)}</span>' if classes else html.escape(words)
        lines.append(styled)
    return "\n".join(lines)


def write_html(report: Report, work: Path) -> bytes:
    """Return the report as one HTML file that needs nothing else: MathML, pictures within, no script."""

    def words(text):
        return {"t": "MetaString", "c": text}

    facts = [{"name": words(name), "value": words(value)} for name, value in report.facts]
    facts[-1]["items"] = {"t": "MetaList", "c": [words(claim) for claim in report.claims]}
    meta = {
        "pagetitle": words(report.title),
        "course": words(COURSE),
        "facts": {"t": "MetaList", "c": [{"t": "MetaMap", "c": fact} for fact in facts]},
    }
    blocks = [block for cell in report.cells for block in html_cell(cell, work)]
    options = ("--mathml", "--standalone", f"--template={HERE / 'reports.html'}", "--toc", "--toc-depth=3")
    return write_tree(report, blocks, "html5", *options, meta=meta).encode()


# ------------------------------------------------------------------------------------------------------ all of the work


def render(path: Path, work: Path, folder: Path) -> Report:
    """Render one notebook into `folder`: both files, or neither."""
    report = read(path, work)
    write_typst(report, work)
    save({f"{report.name}.html": write_html(report, work), f"{report.name}.pdf": compile_pdf(report.name, [report], work)}, folder)
    return report


def render_course(reports: list[Report], work: Path, folder: Path) -> None:
    """Bind the notebooks into course.pdf, a chapter each."""
    facts = [(report.name[:2], report.title) for report in reports]
    chinese = next((report.chinese for report in reports if report.chinese), None)
    facts = [("Notebooks", str(len(reports))), ("Results", f"{sum(len(r.claims) for r in reports)} claims held")]
    save_info("course", COURSE, facts, [], chinese, work)
    chapters = [f'#chapter(json("{r.name}.json"))\n#include "{r.name}.body.typ"' for r in reports]
    text = "\n".join(['#import "reports.typ": *', '#show: course.with(json("course.json"))', *chapters])
    (work / "course.typ").write_text(text, "utf-8")
    save({"course.pdf": compile_pdf("course", reports, work)}, folder)


def save(files: dict[str, bytes], folder: Path) -> None:
    """Write files whole: under another name first, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        half = folder / f".{name}.half"
        half.write_bytes(content)
        half.replace(folder / name)


def main() -> int:
    """Render the notebooks named on the command line, or all; one that can't be does not stop those after it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="01_mlp, a path to any .ipynb, or a folder of them")
    parser.add_argument("--to", type=Path, default=notebooks.ROOT / "reports", metavar="FOLDER", help="reports/")
    options = parser.parse_args()
    paths, whole = [], False
    for name in options.names or [notebooks.ROOT / "notebooks"]:
        if Path(name).is_dir():
            paths += notebooks.find(Path(name).resolve(), suffix=".ipynb")
            whole = True
        elif Path(name).suffix == ".ipynb" and Path(name).exists():
            paths.append(Path(name).resolve())
        else:
            paths += notebooks.find(notebooks.ROOT / "notebooks", [name], ".ipynb")
    reports, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        shutil.copy(HERE / "reports.typ", work)
        for path in paths:
            start = time.monotonic()
            try:
                reports.append(render(path, work, options.to))
                shown = notebooks.shown(options.to / reports[-1].name)
                print(f"{shown}.pdf and .html in {time.monotonic() - start:.1f} s", flush=True)
            except ReportFailed as failure:
                failures.append(failure)
                print(f"{path.stem} FAILED", flush=True)
        if whole and not failures:
            start = time.monotonic()
            render_course(reports, work, options.to)
            print(f"{notebooks.shown(options.to / 'course.pdf')} in {time.monotonic() - start:.1f} s")
    for failure in failures:
        print(f"\nNo report: {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
