"""What the pages in docs/ say of the notebooks, of nnlib and of each other is true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")) + sorted((ROOT / "nnlib").rglob("*.py"))
NOTEBOOKS = {path.name[:2]: path for path in SOURCES if path.parent.name == "notebooks"}
PLANNED = {"09", "10", "11", "12"}  # a page may name these before they are here
GREEK = "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon"
GREEK = {*GREEK.split(), "phi", "varphi", "chi", "psi", "omega", "ell"}
NOT_YET = {"01": {"L"}, "03": {"Y"}, "07": {"B", "F"}}  # letters of the first edition that are still to go


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


# ------------------------------------------------------------------------------------------------------------- links


def anchors(text: str) -> set[str]:
    """What GitHub lets one link to in a page: its headings, in small letters, with hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, page: Path) -> list[str]:
    """The targets in a page that are no file of the repository, or no heading in it."""
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        content = text if path == page else path.read_text("utf-8") if path.suffix == ".md" and path.is_file() else ""
        if not (path == page or path.exists()) or (anchor and anchor not in anchors(content)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert not broken_links(page.read_text("utf-8"), page)


@pytest.mark.parametrize(
    "target", ["nowhere.md", "symbols.md#no-such-heading", "#no-such-heading", "../notebooks/99.py"]
)
def test_a_broken_link_is_found(target):
    text = f"# A page\n\n[here](#a-page) [there](symbols.md#symbols) [away](https://example.org) [lost]({target})"
    assert broken_links(text, ROOT / "docs" / "page.md") == [target]


# ------------------------------------------------------------------------------------------------------ bibliography


def cited_ids(text: str) -> set[str]:
    """arXiv numbers, as `arXiv:1412.6980`, `arXiv 1412.6980` or a link."""
    return set(re.findall(r"arxiv(?:\.org/(?:abs|pdf)/|[:\s]\s*)(\d{4}\.\d{4,5})", text, re.IGNORECASE))


def cited_works(text: str) -> set[tuple[str, str]]:
    """(first author, year), as in `He et al. 2015`, `Kingma and Ba 2015`, `(Elman 1990; ...)`."""
    name, year = r"([A-Z][\w-]+)", r"[, ]+\(?((?:19|20)\d\d)\b"
    together = re.findall(rf"\b{name} (?:et al\.|(?:and|&) [A-Z][\w-]+){year}", text)
    return set(together) | set(re.findall(rf"[(;:] ?(?:\w+: )?{name} ((?:19|20)\d\d)[.;)]", text))


def entries(text: str) -> list[str]:
    """The works of a bibliography, each on one line."""
    return [" ".join(entry.split()) for entry in re.findall(r"^\* (.+?)(?=^\* |^#|\Z)", text, re.MULTILINE | re.DOTALL)]


def not_listed(text: str, bibliography: str) -> list[str]:
    """What a text cites and the bibliography does not list."""
    works = entries(bibliography)
    missing = [number for number in cited_ids(text) if not any(f"arxiv.org/abs/{number}>" in work for work in works)]
    for author, year in cited_works(text):
        if not any(re.search(rf"\b{author}\b", work.split("*")[0]) and year in work for work in works):
            missing.append(f"{author} {year}")
    return sorted(missing)


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "data" / "README.md"], ids=lambda path: path.name)
def test_whatever_is_cited_is_in_the_bibliography(path):
    assert not not_listed(path.read_text("utf-8"), read("bibliography.md"))


def test_the_citations_of_nnlib_are_seen():
    text = "".join(path.read_text("utf-8") for path in SOURCES)
    assert {"1412.6980", "1406.1078", "1312.6120"} <= cited_ids(text)
    assert {("Elman", "1990"), ("Werbos", "1990"), ("Kingma", "2015"), ("He", "2015")} <= cited_works(text)


@pytest.mark.parametrize("citation", ["arXiv:2301.00001", "<https://arxiv.org/abs/2301.00001>", "arXiv 2301.00001"])
def test_a_number_that_is_not_listed_is_found(citation):
    text = f"as in {citation}; and as in https://arxiv.org/abs/1412.6980."
    assert not_listed(text, read("bibliography.md")) == ["2301.00001"]


@pytest.mark.parametrize(
    "citation", ["Nobody et al. 2017", "Nobody and Else (2017)", "(Nobody 2017)", "(by: Nobody 2017)"]
)
def test_a_work_that_is_not_listed_is_found(citation):
    assert not_listed(f"As in {citation}.", read("bibliography.md")) == ["Nobody 2017"]


@pytest.mark.parametrize("entry", entries(read("bibliography.md")), ids=lambda entry: entry.split(":")[0].strip("★ "))
def test_every_work_has_a_title_a_year_a_link_a_reason_and_a_notebook(entry):
    assert re.match(r"(?:★ )?[^*]+: \*.+?\*", entry), "authors: *title*"
    assert re.search(r"\b(19|20)\d\d\b", entry), "a year"
    links = re.findall(r"<(https://\S+)>", entry)
    assert len(links) == 1, "one link"
    reason = entry.partition(f"<{links[0]}> – ")[2]
    used_in = re.search(r"[.!?] ((?:\d\d, )*\d\d|All notebooks)\.$", reason)
    assert used_in, "after the link: – why to read it. 01, 02."
    numbers = re.findall(r"\d\d", used_in[1])
    assert set(numbers) <= set(NOTEBOOKS) | PLANNED and numbers == sorted(numbers)


def test_no_work_is_listed_twice():
    links = re.findall(r"<(https://\S+)>", read("bibliography.md"))
    assert len(links) == len(set(links)) > 40


# ----------------------------------------------------------------------------------------------------------- symbols


def rows(page: str) -> list[list[str]]:
    """The table of symbols: symbol, meaning, shape, names in code, notebook."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if not re.match(r"\| (:?-|symbol)", line)
    ]


def formulas(source: str) -> str:
    """All TeX in the Markdown of a notebook's source."""
    text = "\n".join(line[1:] for line in source.splitlines() if line.startswith("#"))
    return " ".join(re.findall(r"\$\$?(.+?)\$\$?", text, re.DOTALL))


def is_used(row: list[str], source: str) -> bool:
    """Tell whether the code of a notebook has one of the names, or its formulas one of the symbols."""
    symbols, names = re.findall(r"\$(.+?)\$", row[0]), re.findall(r"`(.+?)`", row[3])
    code = "\n".join(line for line in source.splitlines() if not line.startswith("#"))
    tex = [rf"(?<![A-Za-z\\]){re.escape(symbol)}(?![A-Za-z])" for symbol in symbols]
    return any(re.search(rf"\b{re.escape(name)}\b", code) for name in names) or any(
        re.search(pattern, formulas(source)) for pattern in tex
    )


@pytest.mark.parametrize("row", rows(read("symbols.md")), ids=lambda row: row[0])
def test_every_symbol_is_used_where_the_table_says(row):
    symbols, meaning, _, names, number = row
    assert re.fullmatch(r"\$[^$]+\$(, \$[^$]+\$)*", symbols) and meaning and names, "a row has all that it needs"
    if number in PLANNED - set(NOTEBOOKS):
        pytest.skip(f"notebook {number} is not here yet")
    assert is_used(row, NOTEBOOKS[number].read_text("utf-8")), (
        f"{NOTEBOOKS[number].name} uses neither {symbols} nor {names}"
    )


def test_no_symbol_has_two_rows():
    symbols = [symbol for row in rows(read("symbols.md")) for symbol in re.findall(r"\$(.+?)\$", row[0])]
    assert len(symbols) == len(set(symbols)) > 40


def letters(tex: str) -> set[str]:
    """The letters of a formula, Latin and Greek, without its words (`\\text{loss}`, `\\max`)."""
    tex = re.sub(r"\\(?:text|operatorname|begin|end)\{[^}]*\}", " ", tex)
    commands = set(re.findall(r"\\([A-Za-z]+)", tex))
    return (commands & GREEK) | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", tex)))


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_every_letter_of_a_formula_is_in_the_table(number):
    known = letters(" ".join(row[0] for row in rows(read("symbols.md")))) | {"d", "e"}  # derivatives, Euler's number
    strange = letters(formulas(NOTEBOOKS[number].read_text("utf-8"))) - known - NOT_YET.get(number, set())
    assert not strange, f"{NOTEBOOKS[number].name}: take a symbol of docs/symbols.md for {sorted(strange)}, or a word"


def test_letters_are_seen_and_words_are_not():
    assert letters(r"\frac{\text{loss}(w)}{2\epsilon} \le \max_j W_{fk}^\top \hat{x}") == set("wjWfkx") | {"epsilon"}


def test_a_symbol_that_nobody_uses_is_found():
    row = [r"$\xi$, $w$", "made up", "", "`xi`", "01"]
    prose = "# %% [markdown]\n# A wise word on $x$, $\\Xi_2$, $wx$ and xi.\n# %%\nxi_2 = my_xi = 3\n"
    assert not is_used(row, prose)
    assert is_used(row, prose + "# %% [markdown]\n# And now\n# $$y = 2 \\xi_2$$\n")
    assert is_used(row, prose + "# %%\ndef f(xi):\n    return xi\n")


def test_the_symbols_convert_without_a_warning():
    pypandoc = pytest.importorskip("pypandoc", reason="make setup installs pandoc")
    for target in ("typst", "html"):
        options = ["--fail-if-warnings", *(["--mathml"] if target == "html" else [])]
        pypandoc.convert_text(read("symbols.md"), target, format="gfm+tex_math_dollars", extra_args=options)


# --------------------------------------------------------------------------------------------- decisions, changelog


def test_every_decision_says_why_what_it_costs_and_what_would_change_it():
    for section in read("decisions.md").split("\n## ")[1:]:
        parts = re.findall(r"^\* \*\*(.+?):\*\* \S", section, re.MULTILINE)
        assert parts == ["Why", "What it costs", "What would change our mind"], section.splitlines()[0]


def test_the_changelog_is_newest_first_and_knows_this_version():
    headings = re.findall(r"^## (.+)$", read("changelog.md"), re.MULTILINE)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    assert any(f"({version})" in heading for heading in headings)
    assert all("(unreleased)" not in heading for heading in headings[1:]), "what is unreleased stands on top"
    dates = [re.search(r"\d{4}-\d\d-\d\d$", heading)[0] for heading in headings if "(unreleased)" not in heading]
    assert dates == sorted(dates, reverse=True)
