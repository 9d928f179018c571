"""Formulas as MathML, made while the site is built: browsers draw them without a script.

The one idea: pandoc converts them, as for the PDFs, so a formula that comes out on paper comes out here, and one that
can't be converted is a warning, which ends the build.
"""

import json
from itertools import pairwise
from pathlib import Path
from subprocess import run
from xml.etree import ElementTree

import pypandoc
from docutils import nodes
from sphinx.util import logging

PANDOC = Path(pypandoc.__file__).parent / "files" / "pandoc"
ElementTree.register_namespace("", "http://www.w3.org/1998/Math/MathML")
LONG = 30  # characters of TeX
INLINE, DISPLAY = {"t": "InlineMath"}, {"t": "DisplayMath"}
MATHML = "{http://www.w3.org/1998/Math/MathML}"


def convert(formulas: list[tuple[str, bool]]) -> tuple[list[str], str]:
    """Convert (TeX, whether it stands on a line of its own) to MathML. Returns them, and what pandoc warned of."""
    blocks = [{"t": "Plain", "c": [{"t": "Math", "c": [DISPLAY if own else INLINE, tex]}]} for tex, own in formulas]
    tree = json.dumps({"pandoc-api-version": [1, 23], "meta": {}, "blocks": blocks})
    command = [PANDOC, "-f", "json", "-t", "html5", "--mathml", "--wrap=none"]
    done = run(command, input=tree.encode(), capture_output=True, check=True)
    made = [part + "</math>" for part in done.stdout.decode().split("</math>")[:-1]]
    return [spaced(mathml.strip()) for mathml in made], done.stderr.decode().strip()


def spaced(mathml: str) -> str:
    """Put the small space between a function and its argument that TeX has there: log x, but log(x)."""
    root = ElementTree.fromstring(mathml)
    for row in [*root.iter(f"{MATHML}mrow"), *root.iter(f"{MATHML}mtd")]:
        for child, following in reversed(list(pairwise(row))):
            inner = child[0] if child.tag != f"{MATHML}mrow" and len(child) else child  # max with a letter below
            is_function = len(inner) and inner[-1].text == "\u2061"
            is_fenced = any(node.get("form") == "prefix" for node in (following, *following[:1]))
            if is_function and not is_fenced:
                row.insert(list(row).index(following), ElementTree.Element(f"{MATHML}mspace", width="0.167em"))
    return ElementTree.tostring(root, "unicode", short_empty_elements=False)


def convert_page(app, doctree, docname):
    """Convert every formula of a page in one go."""
    found = list(doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block)))
    if not found:
        return
    made, warning = convert([(node.astext(), isinstance(node, nodes.math_block)) for node in found])
    if warning or len(made) != len(found):
        logging.getLogger(__name__).warning("a formula does not convert: %s", warning, location=docname)
        return
    for node, mathml in zip(found, made, strict=True):
        node["mathml"] = mathml


def visit_inline(writer, node):
    """Write a formula in a line; a long one may scroll where a phone is too narrow, since browsers don't break it."""
    is_long = len(node.astext()) > LONG
    writer.body.append(f'<span class="long-formula">{node["mathml"]}</span>' if is_long else node["mathml"])
    raise nodes.SkipNode


def visit_block(writer, node):
    """Write a formula on a line of its own; a wide one scrolls by itself."""
    writer.body.append(f'<div class="formula">{node["mathml"]}</div>')
    raise nodes.SkipNode


def setup(app):
    """Register the renderer `mathml`, which conf.py chooses."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("doctree-resolved", convert_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
