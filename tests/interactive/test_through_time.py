"""Back through time: what the browser computes, step by step, is what nnlib and its loops compute."""

import numpy as np
import pytest

import nnlib
from nnlib import interactive, reference
from tests.interactive.browser import overflow

T, D, H = 6, 4, 5


class Halved(nnlib.Layer):
    """A layer before the RNN that changes what it reads."""

    def forward(self, x, training=False):
        return x / 2

    def backward(self, dout, input_grad=True):
        return dout / 2


def network(scale, seed=0, before=(), **kwargs):
    rng = np.random.default_rng(seed)
    rnn = nnlib.RNN(D, H, rng=rng, init=nnlib.normal(scale), **kwargs)
    rnn.params["b"][...] = rng.normal(size=H)
    return nnlib.Sequential([*before, rnn, nnlib.Linear(H, 3, rng=rng), nnlib.Tanh(), nnlib.Linear(3, 3, rng=rng)])


@pytest.fixture
def x(rng):
    return rng.normal(size=(1, T, D)).astype(np.float32)


@pytest.fixture
def models():
    return {"small": network(0.01), "large": network(2.0, before=[Halved()])}


def expected(model, rows, label):
    """What nnlib and the loops of nnlib.reference find: by step, the norms of (what reaches it, the share, the sum)."""
    rnn, *after = (layer for layer in model.layers if not isinstance(layer, Halved))
    states, h0 = rnn.forward(rows, training=True), np.zeros((1, H))
    logits = nnlib.Sequential(after).forward(states, training=True)
    dh = nnlib.Sequential(after).backward(nnlib.cross_entropy(logits, np.array([label]))[1], input_grad=True)
    Wx, Wh, b = (rnn.params[name].astype(float) for name in ("Wx", "Wh", "b"))
    h = reference.rnn(rows.astype(float), h0, Wx, Wh, b)
    found, before, reaches = [], 0, dh
    for t in reversed(range(T)):  # the sequence from step t alone: its dWh is the sum of the shares so far
        start, douts = (h[:, t - 1] if t else h0), np.zeros((1, T - t, H))
        douts[:, -1] = dh
        _, earlier, _, so_far, _ = reference.rnn_backward(douts, rows[:, t:].astype(float), start, h[:, t:], Wx, Wh)
        found.append([np.linalg.norm(array) for array in (reaches, so_far - before, so_far)])
        before, reaches = so_far, earlier
    rnn.backward(dh.astype(np.float32), input_grad=False)
    np.testing.assert_allclose(before, rnn.grads["Wh"], rtol=1e-4, atol=1e-6)
    return found, np.linalg.norm(rnn.grads["Wh"]), before


def said(page, name):
    return page.locator(f'output[data-name="{name}"]').text_content()


@pytest.mark.browser
def test_every_step_of_the_way_back_has_nnlibs_numbers(opened, models, x):
    page = opened(interactive.backward_steps(models, x, 2), width=360, dark=True)
    assert overflow(page) == 0
    slider = page.get_by_role("slider")
    for name, rows in (("small", x), ("large", x / 2)):
        page.get_by_label("network").select_option(name)
        slider.fill("0")
        found, norm, _ = expected(models[name], rows, 2)
        for step, numbers in zip(range(T, 0, -1), found, strict=True):
            assert said(page, "back to step") == said(page, "step") == str(step)
            shown = [float(said(page, what)) for what in ("gradient that reaches it", "share", "sum so far")]
            np.testing.assert_allclose(shown, numbers, rtol=1e-3)
            assert float(said(page, "dWh")) == pytest.approx(norm, rel=1e-3)
            slider.focus()
            page.keyboard.press("ArrowRight")
        assert said(page, "sum so far") == said(page, "dWh") and said(page, "still missing") == "0.0 %"
        assert said(page, "share") == "0.000"  # the first state comes after h_0 = 0


@pytest.mark.browser
def test_the_pictures_are_those_of_the_gradient(opened, models, x):
    page = opened(interactive.backward_steps(models, x, 2))
    page.get_by_label("network").select_option("large")
    page.get_by_role("slider").fill(str(T - 1))
    _, norm, dWh = expected(models["large"], x / 2, 2)
    colours = page.evaluate(
        """H => {
          const canvas = document.querySelector('canvas[aria-label^="The sum"]');
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const middle = (k) => Math.floor((k + 0.5) * canvas.width / H);
          return Array.from({length: H * H}, (_, k) => {
            const place = 4 * (middle(Math.floor(k / H)) * canvas.width + middle(k % H));
            return data[place] - data[place + 2];  // red minus blue
          });
        }""",
        H,
    )
    colours, clear = np.reshape(colours, (H, H)), abs(dWh) > 0.1 * norm / H
    assert clear.sum() > H and (np.sign(colours) == np.sign(dWh))[clear].all()


def test_the_models_stay_as_they_are_and_the_bytes_too(models, x):
    before = {name: model.copy_weights() for name, model in models.items()}
    figure, again = (interactive.backward_steps(models, x, 2) for _ in range(2))
    assert figure.fragment() == again.fragment()
    for name, model in models.items():
        assert not list(model.named_gradients())
        for key, weight in model.copy_weights().items():
            np.testing.assert_array_equal(weight, before[name][key])


def test_bad_input_is_refused_in_words(models, x):
    def refused(words, models, x=x, label=2):
        with pytest.raises(ValueError, match=words):
            interactive.backward_steps(models, x, label)

    spoilt = network(0.1)
    spoilt.layers[0].params["Wh"][0, 0] = np.nan
    rng = np.random.default_rng(0)
    refused("a dict of models", {})
    refused("a dict of models", [network(0.1)])
    refused("'no RNN' must be", {"no RNN": nnlib.Sequential([nnlib.ReLU()])})
    refused("'layer' must be", {"layer": models["small"].layers[0]})
    refused("last state", {"all": network(0.1, return_sequences=True)})
    refused("NaN or infinity", {"spoilt": spoilt})
    refused("NaN or infinity", models, np.full_like(x, np.inf))
    refused("one input", models, np.repeat(x, 2, axis=0))
    refused("one input", models, x[0, 0, 0])
    refused("expects sequences", models, x[:, :, :2])
    refused("at least one step", models, x[:, :0])
    refused("uint8 images or floats", models, x.astype(int))
    refused("is zero", models, x[:, :1])  # with one step only, h_0 = 0 is all that comes before
    refused("at most 112 steps", models, np.repeat(x, 20, axis=1))
    refused("labels", models, label=3)
    refused("labels", models, label=1.0)
    wide = nnlib.Sequential([nnlib.RNN(D, 300, rng=rng), nnlib.Linear(300, 3, rng=rng)])
    refused("90,000 weights, more than 80,000", {"wide": wide})
