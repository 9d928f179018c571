"""Interactive figures in Chromium: alive from a file, by mouse, finger and keyboard, in light and dark, on a phone."""

import re
from pathlib import Path

import numpy as np
import pytest

from nnlib import interactive
from nnlib.interactive import figure as module
from tests.interactive.browser import overflow, watch
from tests.interactive.test_figure import contrast

pytestmark = pytest.mark.browser
ALT = "Three small pictures: go through them."
PLAYER = (Path(module.__file__).parent / "web" / "player.js").read_text("utf-8")


def player(labels=("one", "two", "three"), **more):
    frames = np.linspace(0, 1, len(labels))[:, None, None] * np.ones((4, 6))
    return interactive.player(frames, labels, alt=ALT, **more)


def scripted(script, data=None):
    """A page with another script in the place of the player's."""
    page = interactive.Figure("player", data, png=player().png, alt=ALT, height=300).page()
    assert PLAYER in page
    return page.replace(PLAYER, script)


def around(*figures, head="<title>Around</title>"):
    """A page like that of a notebook or a site: figures stand in it."""
    fragments = "\n".join(figure.fragment() for figure in figures)
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>Around</h1>{fragments}</body></html>'


def rgb(colour):
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


# ----------------------------------------------------------------------------------------------------------- the player


def test_a_player_is_stepped_through_by_mouse_and_keyboard(opened):
    page = opened(player())
    shown, picture = page.locator("output"), page.locator("img")
    assert shown.text_content() == "three" and picture.get_attribute("alt") == ALT
    first = picture.get_attribute("src")
    previous, following = (page.get_by_role("button", name=name) for name in ("previous", "next"))
    previous.click()
    assert shown.text_content() == "two" and picture.get_attribute("src") != first
    page.get_by_role("slider", name="step").focus()
    for key, label in (("ArrowLeft", "one"), ("ArrowLeft", "one"), ("End", "three"), ("ArrowDown", "two")):
        page.keyboard.press(key)
        assert shown.text_content() == label == page.get_by_role("slider").get_attribute("aria-valuetext")
    following.focus()
    for label in ("three", "three"):  # at the end the button keeps the focus
        page.keyboard.press("Enter")
        assert shown.text_content() == label and following.evaluate("it => it === document.activeElement")
    assert following.get_attribute("aria-disabled") == "true" and previous.get_attribute("aria-disabled") == "false"


def test_its_frames_are_the_arrays(opened, rng):
    frames = rng.integers(0, 256, (2, 3, 5), dtype=np.uint8)
    page = opened(interactive.player(frames, "ab", alt=ALT, start=0))
    read = """async image => {
        await image.decode();
        const ctx = Object.assign(document.createElement("canvas"), {width: 5, height: 3}).getContext("2d");
        ctx.drawImage(image, 0, 0, 5, 3);
        return [...ctx.getImageData(0, 0, 5, 3).data].filter((_, i) => i % 4 === 0);
    }"""
    assert page.locator("img").evaluate(read) == frames[0].ravel().tolist()
    page.get_by_role("button", name="next").click()
    assert page.locator("img").evaluate(read) == frames[1].ravel().tolist()


@pytest.mark.parametrize("count", [3, 40])
def test_play_shows_the_rest_and_ends_within_five_seconds(opened, count):
    page = opened(player([str(k) for k in range(count)], start=0))
    page.clock.install()
    page.evaluate(
        "seen = []; new MutationObserver(() => seen.push(performance.now())).observe("
        "document.querySelector('output'), {childList: true})"
    )
    play = page.get_by_role("button", name="Play")
    play.click()
    assert page.get_by_role("button", name="Stop").count() == 1
    page.clock.run_for(5000)
    assert play.count() == 1 and page.locator("output").text_content() == str(count - 1)
    seen = page.evaluate("seen")
    assert min(count, 9) - 1 <= len(seen) < 50
    page.clock.run_for(20_000)
    assert len(page.evaluate("seen")) == len(seen), "it moves on"
    play.click()  # once more, from the beginning; then a hand on the slider stops it
    page.clock.run_for(600)
    assert page.locator("output").text_content() not in ("0", str(count - 1))
    page.get_by_role("slider").press("Home")
    page.clock.run_for(5000)
    assert page.locator("output").text_content() == "0"


def test_play_ends_in_time_on_a_busy_machine_too(opened):
    page = opened(player([str(k) for k in range(40)], start=0))
    page.evaluate(
        "slow = setInterval(() => { const end = performance.now() + 200; while (performance.now() < end); }, 10)"
    )
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Play").wait_for(timeout=6000)
    assert page.locator("output").text_content() == "39"


def test_nothing_plays_for_readers_who_ask_for_reduced_motion(opened):
    page = opened(player(), still=True)
    assert page.get_by_role("button").count() == 2 and page.get_by_role("button", name="Play").count() == 0
    assert page.get_by_role("slider").count() == 1
    assert opened(player(["only"])).get_by_role("button", name="Play").count() == 0  # nothing to play


def test_a_player_shows_nothing_before_it_is_there(opened):
    script = """
nn.figure((root) => {
  window.shown = [];
  const show = (i) => shown.push([i, steps.value]);
  const steps = nn.player({ labels: ["a", "b", "c"], label: "step", value: 1, show });
  nn.add(root, steps);
});
"""
    page = opened(scripted(script))
    assert page.evaluate("shown") == [] and page.locator("output").text_content() == "b"
    for _ in range(2):
        page.get_by_role("button", name="next").press("Enter")
    assert page.evaluate("shown") == [[2, 2], [2, 2]]  # at the end it stays


# ------------------------------------------------------------------------------------------------- the look


CONTROLS = """
nn.figure((root) => {
  const hear = (name) => (value) => { window.heard = [name, value]; };
  nn.add(root, nn.element("p", {}, "A text, ", nn.element("small", {}, "a small one, "), nn.output("loss", "0.31")));
  nn.add(root, nn.row(
    nn.slider({ label: "rate with a long name", min: 0, max: 1, step: 0.05, value: 0.5, oninput: hear("slider") }),
    nn.button("again", () => hear("button")(1)),
    nn.toggle("noise", true, hear("toggle")),
    nn.choice("kernel", ["edges", "blur"], hear("choice")),
  ));
  window.made = nn.canvas(600, 200, "A canvas");
  nn.add(root, made, nn.row(nn.column("left"), nn.column("right")));
});
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_controls_can_be_read_in_light_and_dark(opened, dark):
    page = opened(scripted(CONTROLS), dark=dark)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert contrast(rgb(ground), "#000000" if dark else "#ffffff") < 1.5
    for tag in ("p", "small", "output", "label", "button", "select"):
        colour, own = page.locator(tag).first.evaluate(
            "it => [getComputedStyle(it).color, getComputedStyle(it).backgroundColor]"
        )
        assert contrast(rgb(colour), rgb(ground if own == "rgba(0, 0, 0, 0)" else own)) >= 4.5, tag
    assert page.evaluate("nn.colours().surface") == rgb(ground) and page.evaluate("nn.colours().series.length") == 8


def test_controls_are_heard_and_told(opened):
    page = opened(scripted(CONTROLS))
    slider = page.get_by_role("slider", name="rate with a long name")
    slider.press("ArrowRight")
    assert page.evaluate("heard") == ["slider", 0.55] and slider.get_attribute("aria-valuetext") == "0.55"
    for act, heard in (
        (lambda: page.get_by_role("button", name="again").press("Enter"), ["button", 1]),
        (lambda: page.get_by_role("checkbox", name="noise").press("Space"), ["toggle", False]),
        (lambda: page.get_by_role("combobox", name="kernel").select_option("blur"), ["choice", "blur"]),
    ):
        act()
        assert page.evaluate("heard") == heard
    assert page.locator("output[data-name=loss]").text_content() == "0.31"


def test_a_phone_is_wide_enough(opened):
    for shown in (player(["a rather long label, " * 3] * 2), scripted(CONTROLS)):
        page = opened(shown, width=360, touch=True)
        assert overflow(page) == 0
        for element in page.locator("button, select, input").all():
            box = element.bounding_box()
            target = element.evaluate("it => it.closest('label')?.getBoundingClientRect().height ?? 0")
            assert max(box["height"], target) >= 32 and box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('p'), {style: 'width: 400px', innerText: 'x'}))"
    )
    assert overflow(page) > 0


def test_a_slider_keeps_its_length_while_its_number_grows(opened):
    pages = [opened(player(["1", "1000000", "10000"], start=0), width=width) for width in (720, 360)]
    pages.append(opened(scripted(CONTROLS.replace("max: 1, step: 0.05", "max: 10000, step: 5")), width=360))
    for page in pages:
        slider = page.get_by_role("slider")
        before = slider.bounding_box()
        for key in ("ArrowRight", "End"):
            slider.press(key)
            assert slider.bounding_box() == before and overflow(page) == 0
        shown = page.locator(".slider output")
        assert shown.text_content() == "10000" and shown.bounding_box()["height"] < 30  # on one line


def test_the_focus_can_be_seen(opened):
    page = opened(scripted(CONTROLS))
    page.keyboard.press("Tab")
    outline = page.evaluate(
        "const {outlineStyle, outlineWidth, outlineColor} = getComputedStyle(document.activeElement);"
        "[outlineStyle, outlineWidth, outlineColor]"
    )
    assert outline[:2] == ["solid", "3px"]
    assert contrast(rgb(outline[2]), rgb(page.evaluate("getComputedStyle(document.body).backgroundColor"))) >= 3


# ------------------------------------------------------------------------------------------------- arrays and canvases


@pytest.mark.parametrize("dtype", module.DTYPES)
def test_arrays_arrive_to_the_last_bit(opened, rng, dtype):
    array = (200 * rng.random((5, 3)) - 100 * (dtype[0] != "u")).astype(dtype)
    if dtype.startswith("float"):
        limits = np.finfo(dtype)
        array[0] = limits.max, -limits.smallest_subnormal, limits.tiny
        array[1] = np.inf, -np.inf, -0.0
    page = opened(scripted("nn.figure((root, data) => { window.got = nn.array(data); });", interactive.encode(array)))
    got = page.evaluate("[...got].map((value) => Object.is(value, -0) ? '-0.0' : String(value))")
    assert page.evaluate("got.shape") == [5, 3]
    assert np.array_equal([float(text) for text in got], array.ravel().astype(float))
    assert not dtype.startswith("float") or got[5] == "-0.0"


def test_pixels_are_drawn_where_and_as_they_should_be(opened):
    page = opened(
        scripted("""
nn.figure((root) => {
  const shaped = (values, ...shape) => Object.assign(values, { shape });
  window.canvas = nn.canvas(300, 200, "Pixels");
  nn.add(root, canvas);
  nn.pixels(canvas, shaped(Float32Array.of(0, 1, 2, NaN), 2, 2), { x: 100, y: 50, width: 20, height: 20 });
  nn.pixels(canvas, shaped(Float32Array.of(-2, 0, 1), 1, 3), { width: 30, height: 10, map: "diverging" });
  nn.pixels(canvas, shaped(Uint8Array.of(9, 200, 30), 1, 1, 3), { x: 50, width: 10, height: 10 });
  nn.pixels(canvas, shaped(Float32Array.of(1, 0, 0.2), 1, 1, 3), { x: 60, width: 10, height: 10 });
  nn.pixels(canvas, shaped(Int8Array.of(5, 5), 1, 2), { x: 70, width: 20, height: 10, low: 0, high: 10 });
});
""")
    )
    places = [(109, 59), (110, 50), (100, 60), (119, 69), (1, 1), (15, 1), (29, 1), (31, 5), (55, 5), (65, 5), (75, 5)]
    drawn = page.evaluate("canvas.ctx.getImageData(0, 0, 2 * 300, 2 * 200).data.join()")  # two pixels a unit
    drawn = np.array(drawn.split(","), int).reshape(400, 600, 4)
    at = {(x, y): drawn[2 * y, 2 * x].tolist() for x, y in places}
    grey, opaque = lambda value: [value, value, value, 255], 255
    assert (at[109, 59], at[110, 50], at[100, 60]) == (grey(0), grey(128), grey(255))
    assert at[119, 69] == [0, 0, 0, 0] == at[31, 5]
    assert at[1, 1] == [0x05, 0x30, 0x61, opaque] and at[15, 1] == grey(0xF7)
    assert at[29, 1] == [0xD6, 0x60, 0x4D, opaque], "half as far up as down: the middle of the reds"
    assert at[55, 5] == [9, 200, 30, opaque] and at[65, 5] == [255, 0, 51, opaque] and at[75, 5] == grey(128)


def test_a_canvas_is_dragged_on_by_mouse_finger_and_arrow_keys(opened):
    script = """
nn.figure((root) => {
  const canvas = nn.canvas(600, 300, "A ground to walk on with the arrow keys");
  window.points = [];
  nn.drag(canvas, { onpoint: ({ x, y }) => points.push([x, y]), onarrow: (dx, dy) => points.push([dx, dy]) });
  nn.add(root, canvas);
});
"""
    page = opened(scripted(script), width=360)
    ground = page.get_by_label("A ground to walk on")
    box = ground.bounding_box()
    assert box["width"] < 360 and abs(box["width"] / box["height"] - 2) < 0.02
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate("points") == []
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 5, box["y"])  # beyond its edge, it is still held
    page.mouse.up()
    page.mouse.move(box["x"], box["y"])
    points = page.evaluate("points")
    assert np.allclose(points[0], [300, 150], atol=2) and points[-1][0] > 600 and abs(points[-1][1]) < 2
    assert len(points) == 2
    page.evaluate("points.length = 0")
    ground.focus()
    for key in ("ArrowLeft", "ArrowUp", "a", "Control+ArrowLeft", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("points") == [[-1, 0], [0, -1], [0, 1], [1, 0]]
    phone = opened(scripted(script), width=360, touch=True)
    phone.get_by_label("A ground to walk on").tap()
    assert np.allclose(phone.evaluate("points"), [[300, 150]], atol=2)


# ------------------------------------------------------------------------------------------- in a notebook, on a site


# As a notebook in a browser does it: all elements first, then their scripts.
INSERT = """html => {
    document.body.innerHTML = html;
    for (const old of document.querySelectorAll("script")) {
        old.replaceWith(Object.assign(document.createElement("script"), {textContent: old.textContent}));
    }
}"""


@pytest.mark.parametrize("inserted", [False, True])
def test_figures_on_one_page_do_not_meet(opened, inserted):
    figures = player(), player("ab"), player("ab")
    page = opened(around() if inserted else around(*figures))
    if inserted:
        page.evaluate(INSERT, "".join(figure.fragment() for figure in figures))
    frames = page.locator(".nn-figure iframe")
    assert frames.count() == 3 and page.locator("img").count() == 0
    shown = [frames.nth(k).content_frame.locator("output") for k in range(3)]
    assert [one.text_content() for one in shown] == ["three", "b", "b"]
    frames.nth(1).content_frame.get_by_role("button", name="previous").click()
    assert [one.text_content() for one in shown] == ["three", "a", "b"]
    assert frames.nth(0).get_attribute("title") == ALT
    assert page.evaluate("typeof nn") == "undefined", "a figure leaves something on the page around it"


def test_a_frame_is_as_high_as_its_figure_and_hears_no_stranger(opened):
    page = opened(around(player(), player("ab")))
    first, second = (page.locator("iframe").nth(k) for k in (0, 1))
    first.content_frame.get_by_role("slider").wait_for()
    page.wait_for_timeout(200)

    def height(frame):
        inside = frame.content_frame.locator("body").evaluate("it => Math.ceil(it.getBoundingClientRect().height)")
        assert frame.evaluate("it => it.clientHeight") == inside
        return inside

    assert height(first) > 100
    before = height(second)
    first.content_frame.locator("main").evaluate(
        "it => it.append(Object.assign(document.createElement('p'), {style: 'height: 500px'}))"
    )
    page.wait_for_timeout(200)
    assert height(first) > 600 and height(second) == before
    page.evaluate("for (const message of [{nnHeight: 5}, null, 'x']) postMessage(message, '*')")
    page.set_viewport_size({"width": 360, "height": 900})
    page.wait_for_timeout(200)
    assert height(first) > 600 and overflow(page) == 0


@pytest.mark.parametrize("where, name", [("documentElement", "theme"), ("body", "jpThemeLight")])
def test_a_figure_follows_the_theme_of_the_page_around_it(opened, where, name):
    values = {"light": "light", "dark": "dark"} if name == "theme" else {"light": "true", "dark": "false"}
    page = opened(
        around(player()).replace(
            "<body>", f"<body><script>document.{where}.dataset.{name} = '{values['light']}'</script>"
        ),
        dark=True,
    )
    inside = page.locator("iframe").content_frame
    assert inside.locator("html").get_attribute("data-theme") == "light"  # though the system is dark
    page.evaluate(f"document.{where}.dataset.{name} = '{values['dark']}'")
    inside.locator("html[data-theme=dark]").wait_for()
    page.evaluate(f"document.{where}.dataset.{name} = '{values['light']}'")
    inside.locator("html[data-theme=light]").wait_for()


def test_where_no_page_says_a_theme_the_system_does_and_drawings_are_drawn_again(opened):
    draws = "nn.figure(() => nn.draw(() => { (window.drawn ??= []).push(nn.colours().surface); }));"
    alone = opened(scripted(draws), dark=True)
    framed = opened(around(player()), dark=True)
    inside = framed.locator("iframe").content_frame.locator("html")
    assert inside.get_attribute("data-theme") == "dark" and len(alone.evaluate("drawn")) == 1
    for page in (alone, framed):
        page.emulate_media(color_scheme="light")
    framed.locator("iframe").content_frame.locator("html[data-theme=light]").wait_for()
    assert len(set(alone.evaluate("drawn"))) == len(alone.evaluate("drawn")) == 2


def test_where_no_script_runs_the_picture_stays_with_its_description(chromium, tmp_path):
    (tmp_path / "page.html").write_text(around(player()), "utf-8")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    picture = page.get_by_role("img", name=ALT)
    assert picture.bounding_box()["width"] > 300 and page.locator("iframe").count() == 0
    context.close()


# ------------------------------------------------------------------------------------------------- what may go wrong


def test_whatever_stands_in_the_data_is_only_shown(opened):
    bad = "</script><script>document.title='taken'</script><!-- <script> \u2028 & \""
    for page in (opened(player([bad, "b"], start=0)), opened(around(player([bad, "b"], start=0)))):
        inside = page.frames[-1]
        inside.locator("output").wait_for()
        assert inside.locator("output").text_content() == bad and inside.title() == ALT and page.title() != "taken"


def test_an_error_in_a_figure_is_shown_and_heard(chromium, tmp_path):
    context, faults = chromium.new_context(), []
    file = tmp_path / "page.html"
    watch(context, faults, file.as_uri())
    page = context.new_page()
    file.write_text(scripted("nn.figure(() => { throw new Error('no such layer'); });"), "utf-8")
    page.goto(file.as_uri())
    assert page.get_by_text("This figure could not be drawn: no such layer").count() == 1
    assert [fault for fault in faults if "no such layer" in fault]
    faults.clear()
    file.write_text(
        scripted("nn.figure(() => { console.warn('slow'); fetch('http://127.0.0.1:9/x').catch(() => 0); });"), "utf-8"
    )
    page.goto(file.as_uri())
    page.wait_for_timeout(200)
    assert "warning: slow" in faults and "a request outside: http://127.0.0.1:9/x" in faults
    context.close()
