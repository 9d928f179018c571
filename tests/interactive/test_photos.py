"""The photo lab, the step and the occluder: under a scripted hand, the numbers are nnlib's with the rounded weights."""

import base64

import numpy as np
import pytest

import nnlib
from nnlib import interactive
from nnlib.interactive.network import softmax
from nnlib.interactive.photos import change_photo, for_browser
from nnlib.interactive.questions import FILLS, hide
from tests.interactive.browser import overflow

NAMES = ["cat", "dog", "frog", "ship"]
LABELS = np.array([2, 0, 3])
# which of the 9 x 9 cells of a map are filled
FILLED = """canvas => {
  const cool = getComputedStyle(document.documentElement).getPropertyValue("--cool").trim();
  const hex = (rgb) => "#" + rgb.map((part) => part.toString(16).padStart(2, "0")).join("");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const at = (i) => Math.round(((i + 0.2) * width) / 9);
  const pixel = (x, y) => [...data.slice(4 * (at(y) * width + at(x)), 4 * (at(y) * width + at(x)) + 3)];
  return Array.from({ length: 9 }, (_, y) => Array.from({ length: 9 }, (_, x) => hex(pixel(x, y)) === cool));
}"""


class Scaled(nnlib.Layer):
    """A layer as the notebooks write it: (x - mean) / std of each colour."""

    def __init__(self):
        super().__init__()
        self.mean, self.std = np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.25, 0.3])

    def forward(self, x, training=False):
        return (x - self.mean) / self.std

    def backward(self, dout, input_grad=True):
        return dout / self.std


class Rows(nnlib.Layer):
    def forward(self, x, training=False):
        return x.reshape(len(x), x.shape[1], -1)


class Squared(nnlib.Layer):
    def forward(self, x, training=False):
        return x**2


class Turned(nnlib.Layer):
    def forward(self, x, training=False):
        return x[:, ::-1]


def cnn(rng):
    return nnlib.Sequential(
        [
            Scaled(),
            nnlib.Conv2d(3, 6, 3, padding=1, rng=rng),
            nnlib.MaxPool2d(2),
            nnlib.ReLU(),
            nnlib.Flatten(),
            nnlib.Dropout(0.5, rng=rng),
            nnlib.Linear(6 * 6 * 6, 4, rng=rng),
        ]
    )


def rnn(rng):
    return nnlib.Sequential([Scaled(), Rows(), nnlib.RNN(36, 8, rng=rng), nnlib.Linear(8, 4, rng=rng)])


@pytest.fixture
def images(rng):
    """Three pictures of 12 x 12 with soft colours, and so with something that a shift moves."""
    coarse = rng.integers(0, 256, (3, 4, 4, 3))
    return coarse.repeat(3, axis=1).repeat(3, axis=2).astype(np.uint8)


@pytest.fixture
def models(rng):
    return {"CNN": cnn(rng), "RNN": rnn(rng)}


def value(page, name):
    """A probability with all its digits; the text beside it has one behind the point."""
    output = page.locator(f'output[data-name="{name}"]')
    number = float(output.get_attribute("data-value"))
    assert output.text_content() == f"{100 * number:.1f} %"
    return number


def text(page, name):
    return page.locator(f'output[data-name="{name}"]').text_content()


def press(page, control, *keys):
    control.focus()
    for key in keys:
        page.keyboard.press(key)


def test_a_photo_moves_as_its_pixels_do(images):
    image = images[0]
    moved = change_photo(image, right=2, down=-3)
    assert np.array_equal(moved[:9, 2:], image[3:, :10])
    assert not moved[9:].any() and not moved[:, :2].any()
    assert np.array_equal(change_photo(image, mirror=True, right=1)[:, 1:], image[:, :0:-1])
    assert np.array_equal(change_photo(image), image) and not change_photo(image, right=12).any()


def test_the_noise_is_as_strong_as_it_says_and_nothing_wraps_around():
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert change_photo(grey, noise=20).std() == pytest.approx(20, rel=0.05)
    assert change_photo(grey, brightness=2).min() == 255 and change_photo(grey, brightness=0.5).max() == 64
    quiet, loud = (change_photo(grey, noise=level).astype(int) - 128 for level in (10, 100))
    assert (quiet * loud >= 0).all() and (np.abs(loud) >= np.abs(quiet)).all()


def test_the_copy_for_the_browser_leaves_the_model_alone(images, models):
    before = models["CNN"].copy_weights()
    _, rounded = for_browser(models["CNN"], images, NAMES, "int8")
    assert all(np.array_equal(before[name], param) for name, param in models["CNN"].named_parameters())
    gap = np.abs(rounded.predict(images) - models["CNN"].predict(images)).max()
    assert 0 < gap < 0.1


def test_equal_arguments_give_equal_bytes(images, models):
    def fragments():
        yield interactive.photo_lab(models, images, LABELS, NAMES).fragment()
        yield interactive.step_size(models["CNN"], images, LABELS, NAMES).fragment()
        yield interactive.occluder(models["CNN"], images, LABELS, NAMES, size=4).fragment()

    assert list(fragments()) == list(fragments())


def test_a_step_against_the_answer_makes_the_loss_grow(images, models):
    figure = interactive.step_size(models["CNN"], images, LABELS, NAMES, most=4)
    _, rounded = for_browser(models["CNN"], images, NAMES, "float16")
    chances = np.frombuffer(base64.b64decode(figure.data["chances"]["base64"]), np.float32)
    chances = chances.reshape(figure.data["chances"]["shape"])  # (pictures, directions, steps)
    assert chances[:, :, 0] == pytest.approx(softmax(rounded.predict(images))[range(3), LABELS][:, None].repeat(2, 1))
    assert (chances[:, 0, 1] < chances[:, 0, 0]).all() and (chances[:, 0, -1] < chances[:, 1, -1]).all()
    assert figure.data["levels"][-1] == 4


GOOD = np.zeros((3, 12, 12, 3), np.uint8)
WRONG = [
    ({"models": {}}, "one to three models"),
    ({"models": [1]}, "one to three models"),
    ({"images": GOOD[0]}, r"uint8 pictures \(n, H, W, 1 or 3\), got uint8 \(12, 12, 3\)"),
    ({"images": GOOD[:0]}, r"got uint8 \(0, 12, 12, 3\)"),
    ({"images": GOOD / np.nan}, "got float64"),
    ({"images": GOOD[..., :2]}, r"\(3, 12, 12, 2\)"),
    ({"images": GOOD.repeat(5, axis=0)}, "up to 12 pictures"),
    ({"images": GOOD[:, :10]}, "expects"),
    ({"labels": [0, 1]}, r"expected 3 labels, whole numbers, got int64 \(2,\)"),
    ({"labels": [0.0, 1.0, 2.0]}, "got float64"),
    ({"labels": [0, 1, 4]}, "labels are 0 to 3, got 0 to 4"),
    ({"labels": [-1, 1, 3]}, "got -1 to 3"),
    ({"class_names": ["cat"] * 4}, "different names"),
    ({"class_names": [*NAMES, "bird"]}, r"answers \(1, 4\) to one picture"),
    ({"models": {"a": "a model"}}, "expected a model"),
]


@pytest.mark.parametrize(("change", "complaint"), WRONG)
def test_bad_input_is_told(models, images, change, complaint):
    arguments = {"models": models, "images": images, "labels": LABELS, "class_names": NAMES} | change
    with pytest.raises(ValueError, match=complaint):
        interactive.photo_lab(**arguments)


@pytest.mark.parametrize("size", [0, 12, 2.5, -1])
def test_a_square_must_fit(models, images, size):
    with pytest.raises(ValueError, match="1 to 11"):
        interactive.occluder(models["CNN"], images, LABELS, NAMES, size=size)


@pytest.mark.parametrize("most", [0, -1, 256, np.nan])
def test_a_step_has_a_size(models, images, most):
    with pytest.raises(ValueError, match="at most 255 levels"):
        interactive.step_size(models["CNN"], images, LABELS, NAMES, most=most)


@pytest.mark.parametrize("layer", [Squared, Turned])
def test_layers_of_ones_own_may_only_scale_and_reshape(images, rng, layer):
    model = nnlib.Sequential([layer(), nnlib.Flatten(), nnlib.Linear(432, 4, rng=rng)])
    with pytest.raises(ValueError, match=f"{layer.__name__} does something else"):
        interactive.step_size(model, images, LABELS, NAMES)


def test_what_the_browser_cannot_run_is_named(images, rng):
    late = nnlib.Sequential([nnlib.Flatten(), nnlib.Linear(432, 4, rng=rng), Squared()])
    with pytest.raises(ValueError, match="Squared"):
        interactive.occluder(late, images, LABELS, NAMES)
    with pytest.raises(ValueError, match="no layer that the network in the browser knows"):
        interactive.occluder(nnlib.Sequential([Squared()]), images, LABELS, NAMES)
    late.layers = late.layers[:2]
    late.layers[1].params["W"][0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        interactive.occluder(late, images, LABELS, NAMES)


def test_one_picture_will_do_for_the_occluder(images, models):
    alone = interactive.occluder(models["CNN"], images[1], 0, NAMES, size=3)
    assert alone.data["images"]["shape"] == [1, 12, 12, 3] and "class cat" in alone.alt


@pytest.mark.browser
def test_every_change_of_a_photo_is_answered_as_nnlib_would(opened, images, models):
    page = opened(interactive.photo_lab(models, images, LABELS, NAMES), width=360, height=1400)
    rounded = {name: for_browser(model, images, NAMES, "int8")[1] for name, model in models.items()}

    def agree(k, **setting):
        for name, model in rounded.items():
            expected = softmax(model.predict(change_photo(images[k], **setting)[None]))[0]
            got = [value(page, f"{name}: {label}") for label in NAMES]
            assert got == pytest.approx(expected, abs=1e-5), setting
            best = int(expected.argmax())
            assert text(page, f"{name} says") == f"{NAMES[best]} {'✓' if best == LABELS[k] else '✗'}"

    agree(0)
    press(page, page.get_by_label("to the right"), "ArrowRight", "ArrowRight", "ArrowRight")
    agree(0, right=3)
    press(page, page.get_by_label("down", exact=True), "ArrowLeft")
    page.get_by_label("mirror").check()
    agree(0, right=3, down=-1, mirror=True)
    page.get_by_label("noise").fill("35")
    page.get_by_label("brightness").fill("1.3")
    agree(0, right=3, down=-1, mirror=True, noise=35, brightness=1.3)
    page.get_by_label("Photograph", exact=True).select_option("2: cat")
    agree(1, right=3, down=-1, mirror=True, noise=35, brightness=1.3)
    page.get_by_role("button", name="As it was taken").click()
    agree(1)
    picture = page.get_by_role("application")
    box = picture.bounding_box()
    pixel = box["width"] / 12
    page.mouse.move(box["x"] + 5.2 * pixel, box["y"] + 4.7 * pixel)
    page.mouse.down()
    agree(1)  # to take hold of it moves nothing
    page.mouse.move(box["x"] + 3.2 * pixel, box["y"] + 8.7 * pixel, steps=4)
    page.mouse.up()
    agree(1, right=-2, down=4)
    press(page, picture, "ArrowRight", "ArrowUp", "ArrowUp")
    agree(1, right=-1, down=2)
    assert overflow(page) == 0


@pytest.mark.browser
def test_every_shift_is_counted(opened, images, models):
    page = opened(interactive.photo_lab(models, images, LABELS, NAMES))
    page.get_by_label("noise").fill("20")
    page.get_by_label("to the right").fill("2")
    page.get_by_role("button", name="Try every shift").click()
    shifted = [change_photo(images[0], right=x, down=y, noise=20) for y in range(-4, 5) for x in range(-4, 5)]
    page.wait_for_function("document.body.textContent.split('of 81 shifts').length === 3")
    hits = {}
    for name, model in models.items():
        rounded = for_browser(model, images, NAMES, "int8")[1]
        hits[name] = rounded.predict(np.array(shifted)).argmax(axis=1) == LABELS[0]
        assert text(page, f"{name} is right at") == f"{hits[name].sum()} of 81 shifts"
        map_of = page.get_by_role("img", name=f"{name}: the shifts")
        assert np.array_equal(map_of.evaluate(FILLED), hits[name].reshape(9, 9))
    assert any(not np.array_equal(hit.reshape(9, 9), hit.reshape(9, 9).T) for hit in hits.values())
    page.get_by_label("mirror").check()
    assert text(page, "CNN is right at") == "not tried yet"


@pytest.mark.browser
def test_a_step_is_answered_as_nnlib_would(opened, images, models):
    figure = interactive.step_size(models["CNN"], images, LABELS, NAMES, most=64)
    page = opened(figure, width=360, dark=True)
    _, model = for_browser(models["CNN"], images, NAMES, "float16")
    logits = model.forward(images, training=True)
    _, dlogits = nnlib.cross_entropy(logits, LABELS)
    ways = np.sign(model.backward(dlogits, input_grad=True)), np.random.default_rng(0).choice([-1, 1], images.shape)

    def probabilities(k, way, levels):
        changed = images[k] / np.float32(255) + np.float32(levels / 255) * ways[way][k].astype(np.float32)
        return softmax(model.predict(changed.clip(0, 1)[None].astype(np.float32)))[0]

    def agree(k, way, levels):
        got = [value(page, f"network: {name}") for name in NAMES]
        assert got == pytest.approx(probabilities(k, way, levels), abs=1e-5)

    slider = page.get_by_label("step", exact=True)
    agree(0, 0, 0)
    press(page, slider, *["ArrowRight"] * 5)
    agree(0, 0, 5)
    page.get_by_label("Direction", exact=True).select_option("at random")
    agree(0, 1, 5)
    changed = set()
    for k, name in enumerate(("1: frog", "2: cat", "3: ship")):
        page.get_by_label("Picture", exact=True).select_option(name)
        for way, words in enumerate(("against the right answer", "at random")):
            page.get_by_label("Direction", exact=True).select_option(words)
            answers = [probabilities(k, way, levels).argmax() for levels in range(65)]
            first = next((levels for levels in range(65) if answers[levels] != answers[0]), None)
            changed.add(first is None)
            assert text(page, "the answer changes at") == (
                f"± {first} levels" if first else "no step up to ± 64 levels"
            )
            if first:
                slider.fill(str(first - 1))
                before = text(page, "network says")[:-2]
                press(page, slider, "ArrowRight")
                assert before == NAMES[answers[0]] and text(page, "network says")[:-2] == NAMES[answers[first]]
                agree(k, way, first)
    assert False in changed and overflow(page) == 0


@pytest.mark.browser
def test_a_hidden_place_is_answered_as_nnlib_would(opened, images, models):
    size = 4
    page = opened(interactive.occluder(models["CNN"], images, LABELS, NAMES, size=size), width=360)
    _, model = for_browser(models["CNN"], images, NAMES, "float16")
    picture = page.get_by_role("application")

    def rise(k, row, column, fill):
        pictures = [hide(images[k], row, column, size, FILLS[fill]), hide(images[k], 0, 0, 0)]
        loss = -np.log(softmax(model.predict(np.array(pictures)).astype(float))[:, LABELS[k]])
        return loss[0] - loss[1]

    def agree(k, row, column, fill="grey"):
        expected = softmax(model.predict(hide(images[k], row, column, size, FILLS[fill])[None]))[0]
        assert value(page, "probability") == pytest.approx(expected[LABELS[k]], abs=1e-5)
        assert text(page, "answer") == NAMES[expected.argmax()]
        assert float(text(page, "rise").replace("−", "-")) == pytest.approx(rise(k, row, column, fill), abs=6e-4)

    agree(0, 4, 4)
    press(page, picture, "ArrowLeft", "ArrowUp", "ArrowUp")
    agree(0, 2, 3)
    box = picture.bounding_box()
    pixel = box["width"] / 12
    page.mouse.move(box["x"] + 9.1 * pixel, box["y"] + 3.2 * pixel)  # the square's middle
    page.mouse.down()
    agree(0, 1, 7)
    page.mouse.move(box["x"] + 11.9 * pixel, box["y"] + 6 * pixel, steps=3)
    agree(0, 4, 8)  # it stays in the picture
    page.mouse.up()
    page.get_by_label("Picture", exact=True).select_option("3: ship")
    for fill in FILLS:
        page.get_by_label("Hidden by").select_option(fill)
        agree(2, 4, 8, fill)
    assert text(page, "worst").endswith("at row 4, column 8")  # another picture, another fill: a new map
    page.get_by_role("button", name="Fill in the map").click()
    page.get_by_role("button", name="Fill in the map", disabled=False).wait_for()
    places = {(row, column): rise(2, row, column, "white") for row in range(0, 9, 2) for column in range(0, 9, 2)}
    row, column = max(places, key=places.get)
    assert text(page, "worst") == f"{places[row, column]:+.3f} nats at row {row}, column {column}".replace("-", "−")
    assert overflow(page) == 0


@pytest.mark.browser
def test_a_finger_drags_the_square(opened, images, models):
    page = opened(interactive.occluder(models["CNN"], images, LABELS, NAMES, size=4), width=360, touch=True)
    box = page.get_by_role("application").bounding_box()
    page.touchscreen.tap(box["x"] + 3, box["y"] + 3)
    expected = softmax(for_browser(models["CNN"], images, NAMES, "float16")[1].predict(hide(images[0], 0, 0, 4)[None]))
    assert value(page, "probability") == pytest.approx(expected[0, LABELS[0]], abs=1e-5)


@pytest.mark.browser
def test_grey_pictures_are_answered_too(opened, images, rng):
    grey = images[..., :1]
    layers = [nnlib.Flatten(), nnlib.Linear(144, 6, rng=rng), nnlib.Tanh(), nnlib.Linear(6, 4, rng=rng)]
    model = nnlib.Sequential(layers)
    page = opened(interactive.photo_lab({"only": model}, grey, LABELS, NAMES, dtype="float32"))
    page.get_by_label("noise").fill("35")
    expected = softmax(model.predict(change_photo(grey[0], noise=35)[None]))[0]
    assert [value(page, f"only: {name}") for name in NAMES] == pytest.approx(expected, abs=1e-5)
