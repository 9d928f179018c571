"""A figure that one can touch: what the course's interactive figures have in common on the Python side.

Its one idea: a figure is one output with three faces. In a browser it is a frame that holds its whole page (style,
data, script) and asks nothing of anybody; on paper it is a picture; to a reader who sees neither, a sentence or two.
"""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from importlib import resources

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

from .. import plots  # noqa: F401  (the look of every picture on paper)

PNG = b"\x89PNG\r\n\x1a\n"  # every PNG file begins so
DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "uint16", "int32")  # those that nn.array reads
WEB = resources.files(__package__) / "web"


class Figure:
    """An interactive figure, to be the last expression of a cell: Jupyter shows the best of its faces.

    name: its script is web/NAME.js, which calls `nn.figure` (see web/common.js).
    data: what the script gets: dicts, lists, strings, finite numbers, True, False, None; arrays through `encode`.
    png: bytes, the picture for paper. alt: what is seen there and what can be done, in a sentence or two.
    height: of the frame in pixels, about 720 wide: a first guess, until the frame tells its own.
    scripts: further files of web/, to be read before its own: ("net",).

    Equal arguments give equal bytes. Raises ValueError for data that JSON can't hold, an unknown script, a picture that
    is no PNG, or without a description.
    """

    def __init__(self, name: str, data, *, png: bytes, alt: str, height: int, scripts: Sequence[str] = ()):
        if isinstance(scripts, str):
            raise ValueError(f"scripts is a tuple of names, such as ({scripts!r},), got {scripts!r}")
        self.name, self.scripts = name, tuple(scripts)
        for script in (*self.scripts, name):
            if not re.fullmatch(r"\w+", script) or not (WEB / f"{script}.js").is_file():
                raise ValueError(f"there is no script {script!r} in nnlib/interactive/web")
        if not isinstance(png, bytes) or not png.startswith(PNG):
            raise ValueError("png holds the bytes of a PNG picture: make them with nnlib.interactive.png(figure)")
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError("a figure needs alternative text: say in a sentence what it shows and what can be done")
        if isinstance(height, bool) or not isinstance(height, int) or height <= 0:
            raise ValueError(f"height is a whole number of pixels, got {height!r}")
        self.png, self.alt, self.height = png, alt, height
        try:
            self._json = json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain)
        except ValueError as error:  # also a circular one
            raise ValueError(f"the data of {name} can't be written as JSON: {error} (finite numbers only)") from None
        except TypeError as error:
            raise ValueError(f"the data of {name} can't be written as JSON: {error}") from None

    @property
    def data(self):
        """The data as the script gets it."""
        return json.loads(self._json)

    def page(self, title: str | None = None) -> str:
        """Return one whole HTML document that asks for nothing from anywhere; a title stands above the figure."""
        code = "\n".join(_web(f"{script}.js") for script in ("common", *self.scripts, self.name))
        heading = f"<h1>{html.escape(title)}</h1>\n" if title else ""
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="{html.escape(self.alt)}">
<title>{html.escape(title or self.alt)}</title>
<style>
{_web("look.css")}</style>
</head>
<body>
{heading}<main id="figure" class="figure" data-figure="{self.name}"></main>
<script type="application/json" id="data">{_inside_script(self._json)}</script>
<script>
{code}</script>
</body>
</html>
"""

    def fragment(self) -> str:
        """Return the HTML that a notebook stores: the picture, and a script that puts a frame with `page` in its place.

        Where no script runs, in a notebook that is not trusted for instance, the picture stays, and its description.
        `tools.shared.figures` reads such a fragment.
        """
        picture = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        page = self.page()
        key = hashlib.sha256(page.encode()).hexdigest()[:12]
        facts = f'data-figure="{self.name}" data-scripts="{" ".join(self.scripts)}" data-height="{self.height}"'
        return f"""<div class="nn-figure" {facts} data-key="{key}">
<img alt="{html.escape(self.alt)}" src="{picture}" style="max-width: 100%">
</div>
<script>
({_web("frame.js").rstrip().removesuffix(";")})("{key}", {_inside_script(json.dumps(page))});
</script>
"""

    def _repr_mimebundle_(self, include=None, exclude=None):
        """Hand Jupyter the three faces."""
        picture = base64.b64encode(self.png).decode()
        faces = {"text/html": self.fragment(), "image/png": picture, "text/plain": self.alt}
        return faces, {"image/png": {"alt": self.alt}}

    def __repr__(self):
        return self.alt


def encode(array) -> dict:
    """Return an array as {"dtype", "shape", "base64"}, which `nn.array` makes an array of again.

    array: float16, float32, float64, uint8, int8, int16, uint16, int32, of any shape; int64 becomes int32, bool uint8.
    Raises ValueError for other types, and for integers beyond int32.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype == np.int64:
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError(f"encode holds integers within ±2**31, got {array.min()} to {array.max()}")
        array = array.astype(np.int32)
    if array.dtype.name not in DTYPES:
        raise ValueError(f"encode takes arrays of {', '.join(DTYPES)}, got {array.dtype}")
    little = array.astype(array.dtype.newbyteorder("<"), order="C")
    content = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": content}


def png(figure: matplotlib.figure.Figure, dpi: int = 80, colours: int = 128) -> bytes:
    """Return a matplotlib figure as PNG bytes, and close it.

    dpi: pixels an inch. colours: so many different ones are kept, which makes a drawing three times smaller.
    Equal figures give equal bytes: neither the time nor a version is written into them.
    """
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()


def _web(name):
    """Read one file of web/."""
    return (WEB / name).read_text("utf-8")


def _inside_script(text):
    """Write JSON so that nothing in it can end the <script> around it."""
    return text.replace("<", r"\u003c")


def _plain(value):
    """Make a number of NumPy's one of Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is none of its types" + ": use encode" * isinstance(value, np.ndarray))
