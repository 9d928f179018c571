"""Build the course as a site, into site/: the stored notebooks, the pages of docs/, and a reference of nnlib.

    python -m tools.site.build [--to FOLDER]        make site
    SITE_REPOSITORY=https://github.com/owner/name   where the course lives: pages then link to it, Colab and Binder

The one idea: nothing is written twice and nothing is computed. The pages are the repository's own files, laid out in a
scratch folder as they lie here, with what a browser needs added: folds, links, titles. Sphinx does the rest (conf.py).
"""

import importlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx

from tools.shared import notebooks
from tools.site.pages import Repository

HERE = Path(__file__).parent
PAGES = (  # files of the repository that become pages as they are
    *("docs/instructors.md docs/grading.md docs/architecture.md docs/decisions.md docs/symbols.md").split(),
    *("docs/bibliography.md docs/changelog.md CONTRIBUTING.md data/README.md benchmarks/README.md").split(),
)
START = ("Two commands", "For students", "For instructors", "The data", "On a GPU", "Cite, and licence")  # of README
DRAW = "**Draw a digit.** The network of [notebook 3](notebooks/03_cnn_im2col.ipynb) reads it, here in your browser."
NOT_IN_THE_REFERENCE = {"nnlib.mirrors", "nnlib.data_files", "nnlib.checkpoints"}  # what no reader calls


class Unbuildable(Exception):
    """Says in words why there is no site."""


# ----------------------------------------------------------------------------------------------------------- notebooks


def prepare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Fold solutions and code that only draws; take out what a page does not show."""
    for cell in notebook.cells:
        tags = notebooks.tags(cell)
        cell.metadata = {}
        if cell.cell_type == "markdown":  # a description may not run over two lines
            cell.source = re.sub(r"!\[[^\]]+\]", lambda found: " ".join(found[0].split()), cell.source)
        if "solution" in tags and cell.cell_type == "markdown":
            fence = "`" * max(4, 1 + max(map(len, re.findall("`+", cell.source)), default=0))
            cell.source = f"{fence}{{dropdown}} Solution\n:class-container: solution\n\n{cell.source}\n{fence}"
        elif "solution" in tags:
            fold(cell, "hide-cell", "Solution")
        elif "figure" in tags:
            fold(cell, "hide-input", "Code of this figure")
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data.pop("image/png", None)  # the face for paper
    return notebook


def fold(cell: nbformat.NotebookNode, tag: str, words: str) -> None:
    """Let myst-nb fold a cell, under these words."""
    cell.metadata = {"tags": [tag], "mystnb": {"code_prompt_show": words, "code_prompt_hide": words}}


def digit_pad(notebook: nbformat.NotebookNode) -> str | None:
    """Return the HTML of the notebook's digit pad as it is stored, or None if it has none."""
    for cell, _ in notebooks.code_cells(notebook):
        for output in cell.outputs:
            page = output.get("data", {}).get("text/html", "")
            if 'data-figure="digit_pad"' in page:
                return page
    return None


# -------------------------------------------------------------------------------------------------------------- pages


def sections(readme: str) -> dict[str, str]:
    """Return the sections of the README (##) by their headings; what comes first is under ""."""
    heading, found = "", {}
    for line in readme.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        else:
            found[heading] = f"{found.get(heading, '')}{line}\n"
    return found


def stories(readme: str) -> dict[str, str]:
    """Return each notebook's story by its name (NN_name), from the README's table."""
    return dict(re.findall(r"^\| \[\w+\]\(notebooks/(\w+)\.ipynb\) \| (.+?) \|$", readme, re.MULTILINE))


def link(text: str, page: Path, known: set[Path], repository: Repository) -> str:
    """Lead links to files that are no pages to the repository, or make them plain text where none is known."""

    def led(found):
        words, target = found[1], found[2]
        path = Path(os.path.normpath(page.parent / target.partition("#")[0]))
        if path in known or found[0].startswith("!"):
            return found[0]
        return f"[{words}]({repository.source(path.as_posix())})" if repository else words

    return re.sub(r"!?\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)", led, text)


def card(name: str, title: str, story: str, alt: str) -> str:
    """Return a notebook's card on the front page."""
    number, _, subject = title.partition(" · ")
    options = {"link": f"notebooks/{name}", "link-type": "doc", "img-top": f"notebooks/images/{name}.png"}
    options |= {"img-alt": alt, "class-card": "story"}
    lines = [f":{option}: {value}" for option, value in options.items()]
    return "\n".join([f"::::{{grid-item-card}} {number} · {subject}", *lines, "", story, "::::", ""])


def title_of(notebook: nbformat.NotebookNode) -> str:
    """Return the heading of a notebook's first cell."""
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]


def cover_of(notebook: nbformat.NotebookNode) -> str:
    """Return the alternative text of the cover that a notebook's first cell shows."""
    return " ".join(re.search(r"!\[([^\]]+)\]\(images/", notebook.cells[0].source)[1].split())


def modules() -> list[str]:
    """Return the modules of the reference: nnlib file by file, in the order of its own reading list."""
    first = ["layers", "losses", "model", "optim", "training"]
    paths = [*(notebooks.ROOT / "nnlib").glob("[a-z]*.py"), *(notebooks.ROOT / "nnlib").glob("*/__init__.py")]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in paths}
    ordered = [*first, *sorted(names - set(first))]
    return [name for name in (f"nnlib.{name}" for name in ordered) if name not in NOT_IN_THE_REFERENCE]


def write_sources(folder: Path, paths: list[Path], repository: Repository) -> None:
    """Lay out everything that Sphinx reads. paths: the notebooks."""
    readme = (notebooks.ROOT / "README.md").read_text("utf-8")
    texts, about = sections(readme), stories(readme)
    known = {Path("notebooks") / path.name for path in paths} | {Path(page) for page in PAGES}
    cards, pad = [], None
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if path.stem not in about:
            raise Unbuildable(
                f"README.md has no line on {path.stem} in its table, from which the site takes its story."
            )
        pad = pad or (path.stem.startswith("03_") and digit_pad(notebook))
        cards.append(card(path.stem, title_of(notebook), about[path.stem], cover_of(notebook)))
        notebook.metadata["description"] = about[path.stem]
        notebooks.write(prepare(notebook), folder / "notebooks" / path.name)
    shutil.copytree(paths[0].parent / "images", folder / "notebooks" / "images", dirs_exist_ok=True)
    for svg in (notebooks.ROOT / "docs").glob("*.svg"):
        (folder / "docs").mkdir(exist_ok=True)
        shutil.copy(svg, folder / "docs")
    pages = {page: (notebooks.ROOT / page).read_text("utf-8") for page in PAGES}
    pages["start.md"] = "# How to start\n\n" + "".join(f"## {name}\n{texts[name]}" for name in START)
    results = texts["What you will build"].partition("\n| |")  # what stands before it is on the front page
    pages["results.md"] = "# Results\n\n| |" + results[2].replace("\n### ", "\n## ")
    pages |= reference()
    known |= {Path(name) for name in pages}
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(link(text, Path(name), known, repository), "utf-8")
    said = r"^# .+?\n\n(.+?\.)\n(.+?)\n\n(!\[.+?\]\(.+?\))"  # a sentence, the rest of the paragraph, a picture
    lead, more, picture = re.search(said, texts[""], re.DOTALL).groups()
    parts = {
        "LEAD": lead,
        "MORE": more,
        "HERO": f"{DRAW}\n\n````{{raw}} html\n{pad}\n````" if pad else picture,
        "CARDS": "\n".join(cards),
        "NOTEBOOKS": "\n".join(f"notebooks/{path.stem}" for path in paths),
    }
    front = (HERE / "templates" / "index.md").read_text("utf-8")
    (folder / "index.md").write_text(re.sub("|".join(parts), lambda found: parts[found[0]], front), "utf-8")
    shutil.copy(HERE / "templates" / "404.md", folder)


def reference() -> dict[str, str]:
    """Return the pages of the reference by their names: the first, then one for each module."""
    form = "# {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n{1}```\n"
    lines = [f"* [{name}]({name}.md): {importlib.import_module(name).__doc__.splitlines()[0]}" for name in modules()]
    listed = "\n".join(["", *lines, "", "```{toctree}", ":hidden:", "", *modules(), "```", ""])
    first = form.format("nnlib", "   :no-members:\n") + listed
    return {"reference/index.md": first} | {f"reference/{name}.md": form.format(name, "") for name in modules()}


# --------------------------------------------------------------------------------------------------------------- build


def build(to: Path, paths: list[Path], repository: Repository) -> None:
    """Build the site of these notebooks into `to`, which an interruption or a failure leaves as it was."""
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "source", Path(name) / "site"
        source.mkdir()
        write_sources(source, paths, repository)
        os.environ["SITE_REPOSITORY"] = repository.address
        options = ["-W", "--keep-going", "-q", "-j", "auto", "-c", str(HERE), "-d", str(Path(name) / "doctrees")]
        if sphinx([*options, str(source), str(made)]):
            raise Unbuildable("Sphinx warned, and a warning is an error: see above.")
        for path in paths:
            notebooks.replace(made / "_downloads" / "notebooks" / path.name, path.read_bytes())
        leave_out_icons(made)
        shutil.rmtree(to, ignore_errors=True)
        shutil.move(made, to)


def leave_out_icons(site: Path) -> None:
    """Keep only those of the theme's 2,000 icons that a page or a script names: each page weighs 1.5 MB less."""
    script = site / "_static" / "scripts" / "fontawesome.js"
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".js") and path != script]
    text = "".join(path.read_text("utf-8") for path in files)
    named = set(re.findall(r"\bfa-([a-z][\w-]+)", text))

    def kept(found):
        names = {found[1], *re.findall(r"[\w-]+", found[2])}
        return found[0] if names & named else ""

    icon = r"""(?<=[{,])"?([\w-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?"""
    script.write_text(re.sub(icon, kept, script.read_text("utf-8")), "utf-8")


def main() -> int:
    """Build the site that the command line asks for."""
    options = notebooks.arguments(
        __doc__, to={"type": Path, "default": notebooks.ROOT / "site", "metavar": "FOLDER", "help": "site/"}
    )
    try:
        paths = notebooks.select(options.notebooks, suffix=".ipynb")
        build(options.to, paths, Repository(os.environ.get("SITE_REPOSITORY", "")))
    except (Unbuildable, ValueError) as error:
        print(f"No site. {error}")
        return 1
    print(f"{notebooks.short_path(options.to / 'index.html')}: open it, or serve the folder (python -m http.server).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
