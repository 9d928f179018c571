"""What a page of the site gets beside its text: description, preview picture, buttons; and docstrings that read well.

Its one idea: where the repository lives is one setting. With it, pages lead to their source, to Colab and to Binder,
and know their own address; without it, no page says anything of the kind.
"""

import base64
import hashlib
import inspect
import json
import re
from html import escape, unescape
from pathlib import Path

from docutils import nodes

from tools.shared.notebooks import ROOT

DESCRIPTION = 200  # characters that a preview shows


class Repository:
    """The address of the repository, https://github.com/owner/name; "" if it has none yet: then this is false.

    Raises ValueError for any other address.
    """

    def __init__(self, address: str):
        found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", address)
        if address and not found:
            raise ValueError(f"SITE_REPOSITORY is {address!r}; it has the form https://github.com/owner/name.")
        self.owner, self.name = found.groups() if found else ("", "")
        self.address = f"https://github.com/{self.owner}/{self.name}" if found else ""
        self.site = f"https://{self.owner.lower()}.github.io/{self.name}/" if found else ""

    def __bool__(self) -> bool:
        return bool(self.address)

    def source(self, path: str) -> str:
        """Return where a file of the repository can be read."""
        return f"{self.address}/blob/main/{path}"

    def colab(self, path: str) -> str:
        """Return the address that opens a notebook in Colab."""
        return f"https://colab.research.google.com/github/{self.owner}/{self.name}/blob/main/{path}"

    def binder(self, path: str) -> str:
        """Return the address that opens a notebook in Binder, which installs what environment.yml asks for."""
        return f"https://mybinder.org/v2/gh/{self.owner}/{self.name}/main?urlpath=lab/tree/{path}"


def describe(doctree) -> str:
    """Return the first words of a page's text."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 40:
            return text if len(text) <= DESCRIPTION else text[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
    return ""


def add_metadata(app, pagename, templatename, context, doctree):
    """Put description, preview and canonical address into the page's head."""
    repository, course = app.config.site_repository, app.config.html_title
    title = re.sub("<.*?>", "", context.get("title", "")) or course
    description = (context.get("meta") or {}).get("description") or (describe(doctree) if doctree else title)
    facts = {"og:type": "website", "og:site_name": course, "og:title": unescape(title), "og:description": description}
    if repository:
        name = pagename.split("/")[-1] if pagename.startswith("notebooks/") else "01_mlp"
        facts |= {"og:url": f"{repository.site}{pagename}.html", "og:image": f"{repository.site}_images/{name}.png"}
    tags = [f'<meta property="{name}" content="{escape(text)}" />' for name, text in facts.items()]
    tags.append(f'<meta name="description" content="{escape(description)}" />')
    tags.append(f'<meta name="twitter:card" content="{"summary_large_image" if repository else "summary"}" />')
    if repository:
        tags.append(f'<link rel="canonical" href="{repository.site}{pagename}.html" />')
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def source_of(pagename: str) -> str:
    """Return the file of the repository that a page is made of; "" where there is no such file."""
    if pagename.startswith("reference/nnlib"):
        path = pagename.removeprefix("reference/").replace(".", "/")
        return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"
    made = {"index": "README.md", "start": "README.md", "results": "README.md", "reference/index": "nnlib/__init__.py"}
    found = [made.get(pagename, ""), f"{pagename}.ipynb", f"{pagename}.md"]
    return next((path for path in found if path and (ROOT / path).is_file()), "")


def add_buttons(app, pagename, templatename, context, doctree):
    """Offer the notebook itself and, where the repository is known, its source, Colab and Binder."""
    repository, buttons = app.config.site_repository, context["header_buttons"]
    path = f"{pagename}.ipynb" if pagename.startswith("notebooks/") else None
    links = []
    if path and repository:
        links.append(("Open in Colab", repository.colab(path), "_static/images/logo_colab.png"))
        links.append(("Open in Binder", repository.binder(path), "_static/images/logo_binder.svg"))
        install = f"In Colab, run this in a first cell: <code>%pip install -q git+{repository.address}</code>"
        context["body"] = context["body"].replace("</h1>", f'</h1>\n<p class="in-colab">{install}</p>', 1)
    if path:
        links.append(("Download the notebook", context["pathto"](f"_downloads/{path}", 1), "fas fa-download"))
    if repository and (source := source_of(pagename)):
        links.append(("Source on GitHub", repository.source(source), "fab fa-github"))
    for text, url, icon in links:
        label = re.sub(r"\W+", "-", text.lower())
        buttons.append({"type": "link", "url": url, "tooltip": text, "icon": icon, "label": label})


def describe_pictures(app, doctree, docname):
    """Give each stored picture its alternative text, which myst-nb forgets (it names a picture by its hash)."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        alts = {}
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    content = base64.b64decode("".join(output["data"]["image/png"]))
                    alts[hashlib.sha256(content).hexdigest()] = output["metadata"].get("image/png", {}).get("alt", "")
        for picture in doctree.findall(nodes.image):
            picture["alt"] = alts.get(Path(picture["uri"]).stem, picture.get("alt", ""))


def name_folds(app, pagename, templatename, context, doctree):
    """Give the folds of the sidebar, which have only a picture, a name."""
    inner = context["generate_toctree_html"]

    def generate(*arguments, **options):
        return str(inner(*arguments, **options)).replace("<summary>", '<summary aria-label="More pages">')

    context["generate_toctree_html"] = generate


# ---------------------------------------------------------------------------------------------------------- docstrings


def read_docstring(app, what, name, obj, options, lines):
    """Make our docstrings, which are plain text, safe to be read as reStructuredText; arguments stand out as code."""
    text = "\n".join(lines)
    try:
        arguments = [name for name in inspect.signature(obj).parameters if len(name) > 1 or name.isalpha()]
    except (TypeError, ValueError):
        arguments = []
    parts = re.split(r"(``.+?``|`[^`]+`|https?://\S+?(?=[;,.)]*(?:\s|$)))", text)
    for number in range(0, len(parts), 2):
        part = re.sub(r"([\\*|_])", r"\\\1", parts[number])
        if arguments:
            words = "|".join(re.escape(name).replace("_", r"\\_") for name in arguments)
            part = re.sub(rf"(?<![\w.`])((?:{words})(?:, (?:{words}))*): ", code_names, part)
        parts[number] = part
    lines[:] = "".join(parts).split("\n")


def code_names(found: re.Match) -> str:
    """Return names before a colon as code."""
    names = found[1].replace("\\", "").split(", ")
    return ", ".join(f"``{name}``" for name in names) + ": "


def shorten_signature(app, what, name, obj, options, signature, returns):
    """Leave out what a dataclass puts for a default that is made anew each time."""
    return signature and signature.replace("=<factory>", ""), returns


def setup(app):
    """Register all this."""
    app.add_config_value("site_repository", Repository(""), "", [Repository])
    app.connect("html-page-context", add_metadata, priority=900)
    app.connect("html-page-context", add_buttons, priority=901)
    app.connect("html-page-context", name_folds, priority=902)
    app.connect("doctree-resolved", describe_pictures)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", shorten_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
