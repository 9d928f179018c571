"""What the site is made of: notebooks with folds, links that lead somewhere, formulas, docstrings.

The site itself is tested in a browser: tests/site.py.
"""

import re
from pathlib import Path

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.shared.notebooks import ROOT

building = pytest.importorskip("tools.site.build", reason="the site is not tested: make site installs what it takes")
mathematics = pytest.importorskip("tools.site.mathematics", reason="the site is not tested: it takes pandoc")
pages = pytest.importorskip("tools.site.pages")


def cell(kind, source, *tags, **more):
    made = (new_code_cell if kind == "code" else new_markdown_cell)(source, **more)
    made.metadata = {"tags": list(tags), "secret": 1}
    return made


def test_a_notebook_is_folded_and_nothing_else_of_its_metadata_stays():
    faces = {"text/html": "<div class='nn-figure'></div>", "image/png": "AAAA", "text/plain": "a figure"}
    output = new_output("display_data", faces)
    cells = [
        cell("markdown", "# One\n\n![a picture\nof two lines](images/x.png)"),
        cell("code", "draw()", "figure", outputs=[output]),
        cell("markdown", "It is ````four````.", "solution"),
        cell("code", "answer = 42", "solution"),
        cell("code", "check()", "check"),
    ]
    text, figure, words, code, check = building.prepare(new_notebook(cells=cells)).cells
    assert "![a picture of two lines](images/x.png)" in text.source
    assert figure.metadata["tags"] == ["hide-input"] and "image/png" not in figure.outputs[0].data
    assert words.source.startswith("`````{dropdown} Solution\n") and words.source.endswith("\n`````")
    assert code.metadata["tags"] == ["hide-cell"] and code.metadata["mystnb"]["code_prompt_show"] == "Solution"
    assert check.metadata == text.metadata == {}


def test_the_digit_pad_is_found_among_other_figures():
    def shown(name):
        page = f'<div class="nn-figure" data-figure="{name}"></div>'
        return new_code_cell("show()", outputs=[new_output("display_data", {"text/html": page})])

    assert building.digit_pad(new_notebook(cells=[shown("player")])) is None
    assert 'data-figure="digit_pad"' in building.digit_pad(new_notebook(cells=[shown("player"), shown("digit_pad")]))


def test_links_lead_to_pages_or_to_the_repository_or_become_text():
    text = "[a](symbols.md#two) [b](../LICENSE) [c](https://example.org) ![d](x.svg) [e](#here)"
    known = {Path("docs/symbols.md")}
    alone = building.link(text, Path("docs/a.md"), known, building.Repository(""))
    assert alone == text.replace("[b](../LICENSE)", "b")
    led = building.link(text, Path("docs/a.md"), known, building.Repository("https://github.com/o/n.git"))
    assert led == text.replace("../LICENSE", "https://github.com/o/n/blob/main/LICENSE")


@pytest.mark.parametrize("address", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ValueError, match=re.escape(f"SITE_REPOSITORY is {address!r}")):
        pages.Repository(address)


def test_formulas_become_mathml_and_what_can_not_is_told():
    made, warning = mathematics.convert([(r"\log p < \log(x)", False), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True)])
    assert len(made) == 2 and not warning and "<mtable" in made[1] and 'display="block"' in made[1]
    assert made[0].count("<mspace") == 1  # log p, but log(x)
    assert "\\nonsense" in mathematics.convert([(r"\nonsense{x}", False)])[1]


def test_docstrings_are_safe_and_their_arguments_stand_out():
    def function(x, input_grad, *rest):
        pass

    lines = ["x: (N, *), as *it* is. input_grad: see `x_|y|`. max: no argument; x_t Wx_ https://e.org/a_b_"]
    pages.read_docstring(None, "function", "f", function, {}, lines)
    assert lines == [
        r"``x``: (N, \*), as \*it\* is. ``input_grad``: see `x_|y|`. max: no argument; x\_t Wx\_ https://e.org/a_b_"
    ]


def test_every_story_of_the_readme_is_found():
    stories = building.stories((ROOT / "README.md").read_text("utf-8"))
    assert set(stories) == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}


def test_the_workflow_that_publishes_may_little_and_ends():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert [job.get("permissions") for job in workflow["jobs"].values()] == [
        None,
        {"pages": "write", "id-token": "write"},
    ]
    assert all(job["timeout-minutes"] <= 15 for job in workflow["jobs"].values())
