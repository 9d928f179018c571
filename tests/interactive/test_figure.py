"""The Python side of interactive figures: what goes in, what comes out, the same bytes each time; readable colours."""

import base64
import functools
import io
import itertools
import json
import re
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from nnlib import interactive
from nnlib.interactive import figure as module

ALT = "Two small pictures: go through them."
WEB = Path(module.__file__).parent / "web"
CSS = (WEB / "look.css").read_text("utf-8")


def drawing(width=4.0):
    figure, axes = plt.subplots(figsize=(width, 3))
    axes.plot([1, 3, 2])
    return figure


@functools.cache
def picture():
    return interactive.png(drawing())


def small(**changes):
    given = {"name": "player", "data": {"labels": ["a"]}, "png": picture(), "alt": ALT, "height": 300}
    return interactive.Figure(**(given | changes))


# ----------------------------------------------------------------------------------------------------------- the faces


def test_three_faces():
    faces, metadata = small()._repr_mimebundle_()
    assert set(faces) == {"text/html", "image/png", "text/plain"}
    assert faces["text/plain"] == ALT == repr(small()) and metadata == {"image/png": {"alt": ALT}}
    assert base64.b64decode(faces["image/png"], validate=True) == small().png
    assert faces["image/png"] in faces["text/html"] and f'alt="{ALT}"' in faces["text/html"]


def test_the_same_bytes_each_time():
    def faces():
        frames = [drawing(), drawing()]
        return interactive.player(frames, ["one", "two"], alt=ALT)._repr_mimebundle_()

    assert faces() == faces()
    assert small().page() == small().page()
    key = re.compile(r'data-key="(\w+)"')
    assert key.search(small().fragment())[1] != key.search(small(data={"labels": ["b"]}).fragment())[1]


def test_a_page_is_whole_and_asks_for_nothing():
    page = small(scripts=("net",)).page("A <title>")
    assert page.startswith("<!doctype html>") and "<title>A &lt;title&gt;</title>" in page
    assert "<h1>A &lt;title&gt;</h1>" in page and "<h1>" not in small().page()
    assert 'name="viewport"' in page and f'name="description" content="{ALT}"' in page
    code = [(WEB / f"{name}.js").read_text("utf-8") for name in ("common", "net", "player")]
    assert sorted(page.index(text) for text in code) == [page.index(text) for text in code]  # in this order


def test_no_file_of_the_web_asks_for_anything_or_ends_its_own_script():
    for file in [*WEB.glob("*.js"), *WEB.glob("*.css")]:
        text = file.read_text("utf-8")
        found = re.findall(
            r"https?://(?!www\.w3\.org)|\burl\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|</script|<!--", text
        )
        assert not found, f"{file.name}: {found}"


def test_an_installed_nnlib_has_the_files_of_the_web_too():
    parts = tomllib.loads((WEB.parents[2] / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "nnlib.interactive" in parts["packages"]
    packed = {file for pattern in parts["package-data"]["nnlib.interactive"] for file in WEB.parent.glob(pattern)}
    assert packed == {file for file in WEB.rglob("*") if file.is_file()} and WEB / "common.js" in packed


def test_whatever_stands_in_the_data_stays_in_the_data():
    bad = '</script><script>alert("1")</script><!-- <script> \u2028 & "'
    figure = small(data={"labels": [bad]}, alt=f"A picture {bad}")
    assert figure.data == {"labels": [bad]}
    page = figure.page()
    assert page.count("</script") == 2 and "<!--" not in page
    assert figure.fragment().count("</script") == 1 and "<!--" not in figure.fragment()


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"name": "no_such"}, "no script 'no_such'"),
        ({"name": "../web/player"}, "no script"),
        ({"scripts": ("net", "nix")}, "no script 'nix'"),
        ({"scripts": "net"}, r"scripts is a tuple of names, such as \('net',\)"),
        ({"png": b"GIF89a"}, "bytes of a PNG"),
        ({"png": "abc"}, "bytes of a PNG"),
        ({"alt": "  "}, "needs alternative text"),
        ({"alt": None}, "needs alternative text"),
        ({"height": 0}, "whole number of pixels"),
        ({"height": 2.5}, "whole number of pixels"),
        ({"height": True}, "whole number of pixels"),
        ({"data": {"x": float("nan")}}, "finite numbers only"),
        ({"data": {"x": np.float32("inf")}}, "finite numbers only"),
        ({"data": {"x": np.zeros(3)}}, "ndarray is none of its types: use encode"),
        ({"data": {"x": {1, 2}}}, "set is none of its types"),
        ({"data": {(1, 2): 3}}, "can't be written as JSON"),
    ],
)
def test_wrong_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        small(**changes)


def test_numbers_of_numpy_are_numbers():
    data = {"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.float32(0.1)}
    assert small(data=data).data == {"a": 0.5, "b": 3, "c": True, "d": float(np.float32(0.1))}


# -------------------------------------------------------------------------------------------------- arrays and pictures


@pytest.mark.parametrize("dtype", module.DTYPES)
def test_an_array_is_handed_over_to_the_last_bit(dtype, rng):
    array = (100 * rng.random((2, 3, 4))).astype(dtype)[:, ::-1]  # not in the order of memory
    big = array.astype(array.dtype.newbyteorder(">"))
    for given in (array, big):
        coded = json.loads(json.dumps(interactive.encode(given)))
        values = np.frombuffer(base64.b64decode(coded["base64"]), np.dtype(coded["dtype"]).newbyteorder("<"))
        assert coded["dtype"] == dtype and np.array_equal(values.reshape(coded["shape"]), array)


def test_arrays_without_a_counterpart():
    assert interactive.encode(np.array([True, False]))["dtype"] == "uint8"
    assert interactive.encode([1, -2])["dtype"] == "int32" and interactive.encode(np.zeros((0, 2)))["shape"] == [0, 2]
    for wrong in (np.array([2**31]), np.array([-(2**31) - 1])):
        with pytest.raises(ValueError, match="within"):
            interactive.encode(wrong)
    for wrong in (np.zeros(2, complex), np.array(["a"]), np.array([None])):
        with pytest.raises(ValueError, match="encode takes arrays of"):
            interactive.encode(wrong)


def test_a_drawing_becomes_a_small_picture_of_the_same_size_on_paper():
    before, figure = plt.get_fignums(), drawing()
    content = interactive.png(figure)
    assert plt.get_fignums() == before, "not closed"
    picture = Image.open(io.BytesIO(content))
    assert picture.size == (320, 240) and all(round(dpi) == 80 for dpi in picture.info["dpi"])
    assert not {"Software", "Creation Time", "date"} & set(picture.info)
    plain = io.BytesIO()
    (figure := drawing()).savefig(plain, dpi=80)
    plt.close(figure)
    assert len(content) < 0.6 * len(plain.getvalue())
    difference = np.abs(np.asarray(picture.convert("RGB"), int) - np.asarray(Image.open(plain).convert("RGB"), int))
    assert difference.mean() < 1


# ----------------------------------------------------------------------------------------------------------- the player


def test_frames_of_arrays_are_the_arrays(rng):
    frames = rng.random((3, 5, 4, 3))
    shown = interactive.player(frames, "abc", alt=ALT, start=1).data
    assert shown["labels"] == ["a", "b", "c"] and shown["start"] == 1 and shown["pixelated"]
    for frame, address in zip(frames, shown["frames"], strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
        assert np.abs(np.asarray(picture) / 255 - frame).max() <= 0.5 / 255 + 1e-9
    assert interactive.player(frames, "abc", alt=ALT).data["start"] == 2
    grey = interactive.player(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), ["a"], alt=ALT)
    still = np.asarray(Image.open(io.BytesIO(grey.png)))
    assert still.shape == (560, 560) and np.array_equal(still[::280, ::280], [[0, 1], [2, 3]])


@pytest.mark.parametrize("start", [0, 1, -1])
def test_its_picture_on_paper_is_the_first_that_is_shown(start):
    figures = [drawing(), drawing(), drawing()]
    for k, figure in enumerate(figures):
        figure.axes[0].set_title(f"frame {k}")
    shown = interactive.player(figures, "abc", alt=ALT, start=start)
    pictures = [base64.b64decode(address.partition(",")[2]) for address in shown.data["frames"]]
    assert len(set(pictures)) == 3 and pictures[shown.data["start"]] == shown.png == pictures[start]
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "frames, labels, more, words",
    [
        ([], [], {}, "one at least"),
        (np.zeros((2, 3, 3)), ["a"], {}, "got 2 and 1"),
        (np.zeros((2, 3)), "ab", {}, r"an array \(N, H, W\)"),
        (np.zeros((2, 3, 3, 4)), "ab", {}, r"got \(2, 3, 3, 4\)"),
        (np.zeros((2, 0, 3)), "ab", {}, r"got \(2, 0, 3\)"),
        (np.full((2, 3, 3), 1.5), "ab", {}, "floats in 0..1"),
        (np.full((2, 3, 3), np.nan), "ab", {}, "floats in 0..1"),
        (np.zeros((2, 3, 3), int), "ab", {}, "got int64"),
        (np.zeros((2, 3, 3)), "ab", {"start": 2}, "one of 2 frames, got 2"),
        (np.zeros((2, 3, 3)), "ab", {"alt": ""}, "alternative text"),
    ],
)
def test_wrong_frames_are_named(frames, labels, more, words):
    with pytest.raises(ValueError, match=words):
        interactive.player(frames, labels, **({"alt": ALT} | more))


def test_figures_of_different_sizes_are_refused():
    figures = [drawing(4), drawing(5)]
    with pytest.raises(ValueError, match="one size"):
        interactive.player(figures, "ab", alt=ALT)
    plt.close("all")


# ---------------------------------------------------------------------------------------------------------- the colours

# How the colour-blind see: Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "no long cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no middle cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def look(theme):
    """The variables of one theme in look.css: name -> colours."""
    block = re.search(rf"^{re.escape(theme)} \{{(.*?)^\}}", CSS, re.MULTILINE | re.DOTALL)[1]
    return {name: text.split() for name, text in re.findall(r"--([\w-]+): (#.+?);", block)}


def linear(colour):
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG 2: from 1 to 21."""
    darker, lighter = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb):
    xyz = TO_XYZ @ rgb / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [":root", ':root[data-theme="dark"]'])
def test_text_can_be_read_and_series_be_told_apart_by_everybody(theme):
    colours = look(theme)
    assert len(colours["series"]) == 8
    for ground, name in itertools.product(("surface", "control"), ("text", "muted", "accent", "warm", "cool")):
        assert contrast(colours[name][0], colours[ground][0]) >= 4.5, f"{name} on {ground}"
    for colour in colours["series"]:
        assert contrast(colour, colours["surface"][0]) >= 3, colour
    for eye, matrix in EYES.items():
        seen = [lab(np.clip(np.array(matrix) @ linear(colour), 0, 1)) for colour in colours["series"]]
        nearest = min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2))
        assert nearest >= 13, f"to an eye with {eye}, two of the series differ by {nearest:.1f} only"
