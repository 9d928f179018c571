"""Interactive figures in stored outputs: what they show, without the program that shows it.

The one idea: what a figure shows is data, and data are compared like any output; how it is shown may be improved later.
"""

import base64
import hashlib
import html
import json
import re


def parts(text: str) -> dict | None:
    """Return the arguments that make the figure in an output's text/html anew: nnlib.interactive.Figure(**parts(text)).

    Returns None if the text is no interactive figure. Raises ValueError if it is a damaged one.
    """
    if not text.startswith('<div class="nn-figure"'):
        return None
    facts = dict(re.findall(r'([\w-]+)="([^"]*)"', text.partition("</div>")[0]))
    try:
        page = json.loads(re.search(r'^.*\)\("\w{12}", (".*")\);$', text, re.MULTILINE)[1])
        return {
            "name": facts["data-figure"],
            "data": json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]),
            "png": base64.b64decode(facts["src"].partition(",")[2]),
            "alt": html.unescape(facts["alt"]),
            "height": int(facts["data-height"]),
            "scripts": facts["data-scripts"].split(),
        }
    except (KeyError, TypeError, ValueError):
        raise ValueError("a stored interactive figure is damaged: run its cell again") from None


def compared(text: str) -> str:
    """Return what of an output's text is compared: of an interactive figure its data, a value a line.

    Its pictures are looked at, as others are: they may differ in a byte from one version of a drawing library to the
    next. Of an array, or another long text, the beginning of its SHA-256 stands there.
    """
    try:
        figure = parts(text)
    except ValueError as error:
        return str(error)
    if not figure:
        return text
    shown = {key: _brief(figure[key]) for key in ("name", "alt", "data")}
    return json.dumps(shown, indent=1, ensure_ascii=False)


def _brief(data):
    if isinstance(data, dict):
        return {key: _brief(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_brief(value) for value in data]
    if isinstance(data, str) and data.startswith("data:image/"):
        return "a picture"
    if isinstance(data, str) and len(data) > 200:
        return f"{len(data)} characters, SHA-256 {hashlib.sha256(data.encode()).hexdigest()[:12]}"
    return data
