"""The digit pad: drawings made as MNIST was made, in Python and in the browser; pages to send; digits drawn by hand."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnlib
from nnlib.interactive import belief_pad, centre_digit, digit_pad, draw_ink, pad, save_page
from tests.interactive.browser import overflow

# ------------------------------------------------------------------------------------------------- digits by hand


def arc(cx, cy, rx, ry, begin, end):
    """Points of an ellipse; degrees, 0 is right and 90 is below."""
    angle = np.radians(np.linspace(begin, end, 20))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def path(*parts):
    return np.concatenate([np.reshape(part, (-1, 2)) for part in parts]).astype(float)


DIGITS = [  # in a square of 100, y downwards
    [arc(50, 50, 30, 45, -100, 262)],
    [path((52, 5, 50, 50, 48, 95))],
    [path(arc(48, 28, 27, 24, -170, 50), (58, 58, 35, 78, 18, 93, 50, 90, 85, 92))],
    [path(arc(45, 28, 26, 22, -150, 85), arc(45, 72, 30, 23, -85, 150))],
    [path((30, 8, 24, 30, 20, 52, 45, 52, 80, 50)), path((66, 8, 62, 50, 58, 95))],
    [path((75, 8, 50, 8, 30, 10, 28, 28, 25, 45), arc(46, 66, 30, 27, -120, 140))],
    [path((65, 5, 45, 22, 30, 45), arc(48, 70, 23, 24, -180, 180))],
    [path((15, 12, 45, 10, 82, 8, 65, 40, 50, 65, 42, 95))],
    [path(arc(50, 28, 21, 20, -60, -270)), path(arc(50, 71, 25, 23, -90, 200), (40, 48, 58, 36, 64, 20))],
    [path(arc(48, 30, 22, 23, -20, -370), (68, 50, 64, 75, 58, 96))],
]


def by_hand(digit, rng):
    """The strokes of a digit on the sheet of 280: slanted, wobbly, of any size in any place."""
    size, slant = rng.uniform(70, 220), rng.uniform(-0.15, 0.15)
    place = rng.uniform(0.55 * size, 280 - 0.55 * size, 2)
    strokes = []
    for line in DIGITS[digit]:
        length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
        at = np.linspace(0, length[-1], int(length[-1] / 5))
        x, y = (np.interp(at, length, values) / 100 - 0.5 for values in line.T)
        shake = 0.006 * rng.normal(size=(len(at), 2)) + 0.015 * np.sin(np.c_[at / 30, at / 40] + rng.uniform(0, 6, 2))
        points = (np.stack([x - slant * y, y], axis=1) + shake) * size + place
        strokes.append(np.clip(points, 0, 280).round(2))
    return strokes


# ------------------------------------------------------------------------------------------------- what is made of ink


@given(st.integers(5, 120), st.integers(5, 120), st.integers(0, 60), st.integers(0, 60))
def test_ink_is_scaled_into_20_pixels_and_stands_in_the_middle(height, width, top, left):
    ink = np.zeros((200, 190), np.uint8)
    ink[top : top + height, left : left + width] = 255
    picture = centre_digit(ink) / 255
    long = max(height, width)
    assert picture.sum() == pytest.approx(400 * height * width / long**2, rel=0.02)
    assert np.ptp(np.flatnonzero(picture.sum(axis=1 if height == long else 0))) + 1 == 20
    assert (abs(centre(picture) - 14.5) < 0.51).all()


def centre(picture):
    middles = np.arange(len(picture)) + 0.5
    return np.array([picture.sum(axis=1) @ middles, picture.sum(axis=0) @ middles]) / picture.sum()


def test_the_centre_of_mass_stands_in_the_middle_but_no_ink_falls_off():
    hook = np.zeros((80, 80))
    hook[:, :16] = hook[64:, :40] = 1
    assert (abs(centre(centre_digit(hook)) - 14.5) < 0.51).all()
    for heavy in long_arms():
        picture = centre_digit(heavy) / 255
        assert picture[:, [0, -1]].any() and picture.sum() * 4**2 == pytest.approx(heavy.sum(), rel=0.01)


def long_arms():
    """A stem with a long thin arm, which would reach beyond the right edge; and beyond the left one."""
    heavy = np.zeros((80, 80))
    heavy[:, :8] = heavy[40] = 1
    return heavy, heavy[:, ::-1]


def test_mnist_s_own_pictures_stay_as_they_are():
    images = nnlib.load_dataset("mnist").test_images[..., 0]
    np.testing.assert_array_equal([centre_digit(image) for image in images[:1000]], images[:1000])


def test_floats_and_bytes_of_ink_are_equal_and_an_empty_sheet_is_empty(rng):
    ink = rng.integers(0, 256, (30, 40), np.uint8)
    assert np.abs(centre_digit(ink).astype(int) - centre_digit(ink / 255)).max() <= 1
    assert centre_digit(np.zeros((30, 40))).tolist() == np.zeros((28, 28)).tolist()
    assert centre_digit(ink, (20, 32)).shape == (20, 32)
    with pytest.raises(ValueError, match=r"expects ink of shape \(rows, columns\), got \(28, 28, 1\)"):
        centre_digit(np.zeros((28, 28, 1)))


@given(st.integers(0, 9), st.integers(0, 99), st.floats(0.3, 1.2), st.floats(-40, 40))
def test_where_a_digit_stands_and_how_large_it_is_does_not_matter(digit, seed, scale, shift):
    strokes = by_hand(digit, np.random.default_rng(seed))
    picture = centre_digit(draw_ink(strokes)).astype(int)
    moved = centre_digit(draw_ink([stroke * scale + (shift, -shift) for stroke in strokes]))
    assert np.abs(picture - moved).max() <= 1


def test_the_pen_is_as_thick_as_mnist_s(rng):
    drawn = [centre_digit(draw_ink(by_hand(digit, rng))).mean() for digit in range(10) for _ in range(3)]
    images = nnlib.load_dataset("mnist").train_images
    assert np.mean(drawn) == pytest.approx(images.mean(), rel=0.1)
    dot = draw_ink([[(100, 100)]])
    assert dot.sum() == pytest.approx(np.pi * (pad.PEN * 4 / 2) ** 2, rel=0.02)  # a disc of the pen's size


# ------------------------------------------------------------------------------------------------- figures and pages


def network(rng, *layers):
    return nnlib.Sequential([*layers, nnlib.Linear(784, 10, rng=rng)])


def test_a_pad_takes_pictures_in_three_shapes(rng):
    with_channel = nnlib.Sequential(
        [nnlib.Conv2d(1, 2, 5, stride=4, rng=rng), nnlib.Flatten(), nnlib.Linear(72, 10, rng=rng)]
    )
    rows = nnlib.Sequential([nnlib.GRU(28, 4, rng=rng), nnlib.Linear(4, 10, rng=rng)])
    found = [digit_pad(model).data["input_shape"] for model in (with_channel, rows, network(rng))]
    assert found == [[1, 28, 28, 1], [1, 28, 28], [1, 784]]


def test_a_pad_is_made_twice_with_equal_bytes_and_says_what_it_shows(rng):
    model = network(rng, nnlib.Flatten())
    examples = rng.integers(0, 256, (2, 28, 28, 1), np.uint8)
    first, second = digit_pad(model, examples=examples), digit_pad(model, examples=examples)
    assert first.png == second.png and first.page() == second.page() and len(first.png) < 30_000
    answer = model.predict(centre_digit(draw_ink(pad.THREE))[None] / np.float32(255)).argmax()
    assert first.alt.endswith(f"The one shown is read as {answer}.")
    assert first.data["examples"]["shape"] == [2, 28, 28]
    letters = digit_pad(model, labels="abcdefghij", examples=examples)
    assert letters.alt.endswith(f"is read as {'abcdefghij'[model.predict(examples[:1]).argmax()]}.")


def test_what_does_not_fit_a_pad_is_refused(rng):
    model = network(rng, nnlib.Flatten())
    small = nnlib.Sequential([nnlib.Linear(100, 10, rng=rng)])
    with pytest.raises(ValueError, match=r"28 x 28 neither as \(N, 28, 28, 1\) nor .*: Linear expects \(N, 100\)"):
        digit_pad(small)
    assert digit_pad(small, image_shape=(10, 10)).data["input_shape"] == [1, 100]
    with pytest.raises(
        ValueError, match=r"answers \(1, 10\) to one picture, expected \(1, 3\): a logit for each label"
    ):
        digit_pad(model, labels="abc")
    with pytest.raises(ValueError, match="labels are different names"):
        digit_pad(model, labels="0000000000")
    for shape in ((28,), (28, 2), (28.0, 28)):
        with pytest.raises(ValueError, match="image_shape is"):
            digit_pad(model, image_shape=shape)
    for examples in (np.zeros((1, 28, 28)), np.zeros((28, 28), np.uint8), np.zeros((21, 28, 28), np.uint8)):
        with pytest.raises(ValueError, match=r"examples are 1 to 20 uint8 pictures \(n, 28, 28\)"):
            digit_pad(model, examples=examples)
    model.layers[1].params["W"][0, 0] = np.nan
    with pytest.raises(ValueError, match="W of layer 1, Linear, is not finite"):
        digit_pad(model)


class Rows(nnlib.Layer):
    """As in notebook 04: (N, 28, 28, 1) to (N, 28, 28), which the browser need not do."""

    def forward(self, x, training=False):
        return x[..., 0]


def test_what_does_not_fit_a_belief_pad_is_refused(rng):
    rest = [nnlib.Linear(4, 10, rng=rng)]

    def model(first):
        return nnlib.Sequential([first, *rest])

    for first, said in (
        (Rows(), r"Rows\(\) \(without its first layer it is nnlib.Sequential\(model.layers\[1:\]\)\)"),
        (nnlib.RNN(14, 4, rng=rng), r"RNN\(14, ..., return_sequences=False\)"),
        (nnlib.GRU(28, 4, rng=rng, return_sequences=True), r"GRU\(28, ..., return_sequences=True\)"),
    ):
        with pytest.raises(ValueError, match=f"RNN.28, ....*from its last state; this one begins with {said}"):
            belief_pad(model(first))
    with pytest.raises(ValueError, match="a logit for each label"):
        belief_pad(model(nnlib.RNN(28, 4, rng=rng)), labels="ab")


def test_a_page_is_one_light_file_that_asks_for_nothing(rng, tmp_path):
    sizes = {}
    for name, layers in {
        "MLP": [nnlib.Flatten(), nnlib.Linear(784, 512, rng=rng), nnlib.ReLU(), nnlib.Linear(512, 10, rng=rng)],
        "CNN": [
            nnlib.Conv2d(1, 32, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.Flatten(),
            nnlib.Linear(6272, 128, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(128, 10, rng=rng),
        ],
    }.items():
        save_page(nnlib.Sequential(layers), tmp_path / name, title="Mine <3", note="It reads 97 % of them.")
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["MLP"] < 1e6 and sizes["CNN"] < 2e6
    page = (tmp_path / "MLP").read_text("utf-8")
    assert "<title>Mine &lt;3</title>" in page and "It reads 97 % of them. Draw a digit" in page
    assert 'name="viewport"' in page and 'name="description"' in page
    assert not any(word in page for word in ("http:", "https:", "src=", "href=", "url(", "import("))
    assert set(os.listdir(tmp_path)) == set(sizes)  # nothing unfinished beside them


def test_a_page_is_not_written_over_nor_half_written(rng, tmp_path, monkeypatch):
    model, file = network(rng), tmp_path / "mine.html"
    file.write_text("precious")
    with pytest.raises(FileExistsError, match=r"mine.html exists already: .*overwrite=True"):
        save_page(model, file)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere: make it first"):
        save_page(model, tmp_path / "nowhere" / "mine.html")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        save_page(model, tmp_path, overwrite=True)
    broken = network(rng)
    broken.layers[0].params["b"][0] = np.inf
    with pytest.raises(ValueError, match="b of layer 0, Linear, is not finite"):
        save_page(broken, file, overwrite=True)

    def full(source, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(PermissionError, match=r"mine.html can't be written: Permission denied"):
            save_page(model, file, overwrite=True)
    assert file.read_text() == "precious" and os.listdir(tmp_path) == ["mine.html"]
    save_page(model, file, overwrite=True)
    assert "<!doctype html>" in file.read_text("utf-8") and os.listdir(tmp_path) == ["mine.html"]


# ------------------------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="session")
def reader():
    """Notebook 03's network of two convolutions, trained for some seconds."""
    data, rng = nnlib.load_dataset("mnist"), np.random.default_rng(0)
    count = 8_000  # the sample has 4,000
    images, labels = data.train_images[:count], data.train_labels[:count]
    model = nnlib.Sequential(
        [
            nnlib.Conv2d(1, 16, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Conv2d(16, 32, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Linear(1568, 128, rng=rng),
            nnlib.ReLU(),
            nnlib.Linear(128, 10, rng=rng),
        ]
    )
    nnlib.fit(
        model,
        (images, labels),
        (data.test_images[:500], data.test_labels[:500]),
        optimizer=nnlib.Adam(model, lr=2e-3),
        schedule=nnlib.warmup_cosine(0.1),
        augment=nnlib.random_shift,
        epochs=3,
        batch_size=64,
        rng=rng,
        progress=False,
    )
    return model


def draw(page, strokes):
    """Draw by mouse on the sheet; the page is wide enough to show it at its own size."""
    box = page.get_by_role("application").bounding_box()
    assert box["width"] == pytest.approx(280, abs=3)
    for stroke in strokes:
        at = stroke * (box["width"] / 280) + (box["x"], box["y"])
        page.mouse.move(*at[0])
        page.mouse.down()
        for point in at[1:]:
            page.mouse.move(*point)
        page.mouse.up()
    settle(page)


def settle(page):
    """Wait until the figure has drawn what the hand did."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(page):
    """The answer, and the probabilities that stand on the page (None where none does)."""
    numbers = [text.removesuffix(" %") for text in page.locator("output[data-name^=probability]").all_text_contents()]
    return page.locator("output[data-name=answer]").text_content(), [float(n) / 100 if n else None for n in numbers]


def probabilities(model, picture):
    logits = model.predict(np.reshape(picture, (1, 28, 28, 1) if len(model.layers) > 5 else (1, 28, 28)))[0]
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.mark.browser
def test_the_browser_makes_the_same_picture_of_a_drawing(opened, rng):
    page = opened(digit_pad(network(rng)))
    drawings = [by_hand(digit, rng) for digit in range(10)]
    drawings += [[np.array([(50, 60)])], [np.array([(20, 40), (200, 40)])], [rng.uniform(0, 280, (30, 2))]]
    program = """strokes => {
        const ink = Pad.drawInk(strokes);
        return [Array.from(ink), Array.from(Pad.centreDigit(ink, [28, 28]))];
    }"""
    for strokes in drawings:
        ink, picture = page.evaluate(program, [stroke.tolist() for stroke in strokes])
        np.testing.assert_allclose(ink, draw_ink(strokes).ravel(), atol=1e-9)
        assert np.abs(picture - centre_digit(draw_ink(strokes)).ravel().astype(int)).max() <= 1
    program = "([ink, shape, to]) => { ink.shape = shape; return Array.from(Pad.centreDigit(ink, to)); }"
    inks = [rng.random(shape) * (rng.random(shape) < 0.2) for shape in ((30, 90), (90, 30), (7, 5))]
    for ink in (*inks, *long_arms()):
        for to in ((28, 28), (20, 31)):
            picture = page.evaluate(program, [ink.ravel().tolist(), ink.shape, to])
            assert np.abs(picture - centre_digit(ink, to).ravel().astype(int)).max() <= 1


@pytest.mark.browser
def test_ten_digits_drawn_by_hand_are_read(opened, reader, rng):
    page = opened(digit_pad(reader))
    right = 0
    for digit in range(10):
        strokes = by_hand(digit, rng)
        page.get_by_role("button", name="Clear").click()
        settle(page)
        assert shown(page) == ("draw a digit", [None] * 10)
        draw(page, strokes)
        answer, numbers = shown(page)
        np.testing.assert_allclose(numbers, probabilities(reader, centre_digit(draw_ink(strokes))), atol=0.02)
        assert answer.startswith(f"{np.argmax(numbers)}, ")
        right += answer.startswith(f"{digit}, ")
    assert right >= 9


@pytest.mark.browser
def test_an_example_is_loaded_by_its_button_and_gives_nnlib_s_numbers(opened, reader):
    images = nnlib.load_dataset("mnist").test_images[[5, 77]]
    page = opened(digit_pad(reader, examples=images))
    assert shown(page) == ("draw a digit", [None] * 10)
    for k, image in enumerate(images):
        page.get_by_role("button", name=f"example {k + 1}").click()
        settle(page)
        np.testing.assert_allclose(shown(page)[1], probabilities(reader, image), atol=0.003)
    strokes = by_hand(4, np.random.default_rng(2))
    draw(page, strokes)  # instead of the example, not over it
    np.testing.assert_allclose(shown(page)[1], probabilities(reader, centre_digit(draw_ink(strokes))), atol=0.02)


@pytest.mark.browser
def test_a_digit_is_drawn_by_keyboard(opened, rng):
    model = network(rng, nnlib.Flatten())  # untrained, it is sure of nothing: its answers tell small differences
    page = opened(digit_pad(model))
    page.get_by_role("application").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")  # the pen is up
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.keyboard.down("ArrowLeft")  # two arrows at once: a slanted line
    for _ in range(9):
        page.keyboard.down("ArrowDown")
    page.keyboard.up("ArrowDown")
    page.keyboard.up("ArrowLeft")
    page.keyboard.press("Space")
    settle(page)
    along, down = [(10 * i, 0) for i in range(9)], [(70 - 10 * i, 10 * i) for i in range(10)]
    strokes = [np.array(along + down) + np.array((90, 70))]
    expected = probabilities(model, centre_digit(draw_ink(strokes)))
    np.testing.assert_allclose(shown(page)[1], expected, atol=0.002)
    page.keyboard.press("ArrowDown")  # the pen is up again
    settle(page)
    np.testing.assert_allclose(shown(page)[1], expected, atol=0.002)
    page.keyboard.press("c")
    settle(page)
    assert shown(page) == ("draw a digit", [None] * 10)


@pytest.mark.browser
def test_a_saved_page_works_on_a_phone_by_finger(opened, reader, tmp_path):
    save_page(reader, tmp_path / "mine.html", title="My network", note="It reads 97 % of the test digits.")
    page = opened((tmp_path / "mine.html").read_text("utf-8"), width=360, height=740, dark=True, touch=True)
    assert page.get_by_role("heading").text_content() == "My network" and overflow(page) == 0
    assert "97 %" in page.locator("main p").first.text_content()
    box = page.get_by_role("application").bounding_box()
    fingers = page.context.new_cdp_session(page)
    strokes = by_hand(3, np.random.default_rng(1))
    for stroke in strokes:
        for kind, points in (("touchStart", stroke[:1]), ("touchMove", stroke[1:]), ("touchEnd", [None])):
            for point in points:
                at = [] if point is None else [{"x": box["x"] + point[0], "y": box["y"] + point[1]}]
                fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    settle(page)
    assert page.evaluate("scrollY") == 0  # the finger draws, the page stays
    answer, numbers = shown(page)
    assert answer.startswith("3, ") and overflow(page) == 0
    np.testing.assert_allclose(numbers, probabilities(reader, centre_digit(draw_ink(strokes))), atol=0.05)


@pytest.mark.browser
@pytest.mark.parametrize("cell", [nnlib.RNN, nnlib.GRU])
def test_the_belief_after_each_row_is_nnlib_s(opened, rng, cell):
    first = cell(28, 12, rng=rng)
    model = nnlib.Sequential([first, nnlib.Tanh(), nnlib.Linear(12, 10, rng=rng)])
    image = nnlib.load_dataset("mnist").test_images[3, :, :, 0]
    page = opened(belief_pad(model, examples=image[None]), width=360)
    assert shown(page) == ("draw a digit", [None] * 10)
    page.get_by_role("button", name="example 1").click()
    settle(page)
    assert overflow(page) == 0
    rows = page.get_by_role("slider", name="rows read")
    for way in ("stop and ask", "leave the rest blank"):
        page.get_by_role("combobox").select_option(way)
        rows.focus()
        page.keyboard.press("End")
        for t in range(28, 0, -1):
            picture = image[:t] if way == "stop and ask" else np.concatenate([image[:t], 0 * image[t:]])
            logits = model.predict(picture[None])[0]
            expected = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(shown(page)[1], expected, atol=0.002, err_msg=f"{way}, {t} rows")
            page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Clear").click()
    settle(page)
    assert shown(page) == ("draw a digit", [None] * 10)
