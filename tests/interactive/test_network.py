"""Networks in the browser: what is written, what is refused, and net.js against nnlib, layer by layer."""

import base64
from importlib import resources

import numpy as np
import pytest

import nnlib
from nnlib.interactive import network_json
from nnlib.interactive.network import SETTINGS

# ------------------------------------------------------------------------------------------------- what is written


def mlp(rng, hidden=512):
    layers = [nnlib.Flatten(), nnlib.Linear(784, hidden, rng=rng), nnlib.ReLU(), nnlib.Linear(hidden, 10, rng=rng)]
    return nnlib.Sequential(layers)


def decoded(entry):
    """The array that an entry of network_json stands for, read here by other means."""
    array = np.frombuffer(base64.b64decode(entry["base64"]), np.dtype(entry["dtype"]).newbyteorder("<"))
    array = array.reshape(entry["shape"]).astype(np.float32)
    return array * decoded(entry["scales"]) if "scales" in entry else array


def rounded(model, dtype):
    """Give the model the weights that it has in the browser; return what network_json wrote."""
    written = network_json(model, dtype=dtype)
    for layer, entry in zip(model.layers, written["layers"], strict=True):
        for key, param in layer.params.items():
            param[...] = decoded(entry[key])
    return written


def test_layers_settings_and_weights_are_written_in_order(rng):
    model = nnlib.Sequential(
        [
            nnlib.Conv2d(1, 3, (2, 3), stride=(1, 2), padding=1, rng=rng),
            nnlib.MaxPool2d(3, 2, 1),
            nnlib.Dropout(0.5, rng=rng),
            nnlib.GRU(4, 5, rng=rng, return_sequences=True),
        ]
    )
    conv, pool, dropout, gru = network_json(model, dtype="float32")["layers"]
    assert (conv["type"], conv["stride"], conv["padding"]) == ("Conv2d", (1, 2), (1, 1))
    assert pool == {"type": "MaxPool2d", "kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    assert dropout == {"type": "Dropout"} and gru["return_sequences"] is True
    for layer, entry in ((model.layers[0], conv), (model.layers[3], gru)):
        for key, param in layer.params.items():
            np.testing.assert_array_equal(decoded(entry[key]), param)


def test_rounding_costs_at_most_half_a_step(rng):
    model = mlp(rng, 20)
    W, b = model.layers[1].params["W"], model.layers[1].params["b"]
    W[:, 3], b[...] = 0, rng.normal(size=20)  # a unit without weights must not divide by zero
    before = W.copy()
    entry = network_json(model, dtype="int8")["layers"][1]
    step = np.abs(W).max(axis=0) / 127
    assert entry["W"]["dtype"] == "int8" and (np.abs(decoded(entry["W"]) - W) <= 0.501 * step).all()
    np.testing.assert_array_equal(decoded(entry["b"]), b)
    half = decoded(network_json(model)["layers"][1]["W"])
    assert network_json(model)["layers"][1]["W"]["dtype"] == "float16"
    np.testing.assert_allclose(half, W, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(W, before)


@pytest.mark.parametrize("hidden, largest, expected", [(300, 1, "float16"), (512, 1, "int8"), (300, 1e5, "float32")])
def test_a_dtype_that_suits_a_page_is_chosen(rng, hidden, largest, expected):
    model = mlp(rng, hidden)
    model.layers[1].params["W"][5, 5] = largest
    assert network_json(model, dtype=None)["layers"][1]["W"]["dtype"] == expected


class Doubled(nnlib.Linear):
    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


def test_an_unknown_layer_is_named_with_its_place(rng):
    model = nnlib.Sequential([nnlib.Flatten(), Doubled(4, 2, rng=rng)])
    with pytest.raises(ValueError, match=r"layer 1, Doubled, .*which knows Linear, ReLU, .*GRU"):
        network_json(model)


@pytest.mark.parametrize("value, dtype", [(np.nan, "float32"), (-np.inf, "int8"), (1e39, "float32"), (np.nan, None)])
@pytest.mark.parametrize("key", ["W", "b"])
def test_weights_that_are_not_finite_are_refused(rng, key, value, dtype):
    model = nnlib.Sequential([nnlib.ReLU(), nnlib.Linear(3, 2, rng=rng, dtype=np.float64)])
    model.layers[1].params[key].flat[1] = value
    with pytest.raises(ValueError, match=f"{key} of layer 1, Linear, is not finite"):
        network_json(model, dtype=dtype)


def test_what_does_not_fit_is_refused(rng):
    model = mlp(rng, 3)
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'float16', 'int8', got 'int4'"):
        network_json(model, dtype="int4")
    with pytest.raises(ValueError, match=r"expected a model, nnlib.Sequential.*got Linear"):
        network_json(model.layers[1])
    model.layers[1].params["W"][0, 0] = -70_000
    with pytest.raises(ValueError, match="up to 70,000, beyond float16's 65,504: take dtype='float32'"):
        network_json(model)


# ------------------------------------------------------------------------------------------------- net.js itself

LAYERS = [name.__name__ for name in SETTINGS]


def drawn(name, rng):
    """A model of this one layer in an awkward geometry, with weights and biases of size 1, and an input for it."""
    N, T, D, H, C = (int(size) for size in rng.integers(1, 6, 5))
    kernel, stride, padding = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(0, 3, 2)
    if name != "Conv2d":
        padding = np.minimum(padding, kernel // 2)
    shape = np.maximum(kernel - 2 * padding, 1) + rng.integers(0, 6, 2)
    window = {"stride": tuple(map(int, stride)), "padding": tuple(map(int, padding))}
    kernel, pictures = tuple(map(int, kernel)), (N, *map(int, shape), C)
    make, x_shape = {
        "Linear": (lambda: nnlib.Linear(D, H, rng=rng), (N, D)),
        "ReLU": (nnlib.ReLU, (N, T, D)),
        "Tanh": (nnlib.Tanh, (N, T, D)),
        "Flatten": (nnlib.Flatten, pictures),
        "Dropout": (lambda: nnlib.Dropout(0.5, rng=rng), (N, D)),
        "Conv2d": (lambda: nnlib.Conv2d(C, H, kernel, **window, rng=rng), pictures),
        "MaxPool2d": (lambda: nnlib.MaxPool2d(kernel, **window), pictures),
        "AvgPool2d": (lambda: nnlib.AvgPool2d(kernel, **window), pictures),
        "RNN": (lambda: nnlib.RNN(D, H, rng=rng, return_sequences=T % 2 == 0), (N, T, D)),
        "GRU": (lambda: nnlib.GRU(D, H, rng=rng, return_sequences=T % 2 == 0), (N, T, D)),
    }[name]
    model = nnlib.Sequential([make()])
    for _, param in model.named_parameters():
        param[...] = rng.normal(size=param.shape)
    return model, rng.normal(size=x_shape).astype(np.float32)


@pytest.fixture
def run(opened):
    """Return a function that runs networks in the browser: [(json, x), ...] -> [every layer's output, ...]."""
    web = resources.files("nnlib.interactive") / "web"
    code = "\n".join((web / name).read_text("utf-8") for name in ("common.js", "net.js"))
    page = opened(f"<!doctype html><html lang='en'><title>net.js</title><body><script>{code}</script></body></html>")

    def run(cases):
        program = """cases => cases.map(([json, x, shape]) =>
            Net.load(json).trace(Float32Array.from(x), shape).map(({data, shape}) => [Array.from(data), shape]))"""
        traces = page.evaluate(program, [[json, x.ravel().tolist(), list(x.shape)] for json, x in cases])
        return [[np.array(data).reshape(shape) for data, shape in trace] for trace in traces]

    run.page = page
    return run


def compare(trace, model, x, tolerance=1e-5):
    for layer, output in zip(model.layers, trace, strict=True):
        x = layer.forward(x)
        assert output.shape == x.shape
        np.testing.assert_allclose(output, x, rtol=tolerance, atol=tolerance)


@pytest.mark.browser
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_every_layer_is_nnlib_s(run, rng, name, dtype):
    cases = [drawn(name, rng) for _ in range(60)]
    written = [rounded(model, dtype) for model, _ in cases]
    traces = run([(json, x) for json, (_, x) in zip(written, cases, strict=True)])
    for trace, (model, x) in zip(traces, cases, strict=True):
        compare(trace, model, x)


@pytest.mark.browser
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_whole_networks_are_nnlib_s_layer_by_layer(run, rng, dtype):
    convolutions = [
        nnlib.Conv2d(1, 16, 3, padding=1, rng=rng),
        nnlib.MaxPool2d(2),
        nnlib.ReLU(),
        nnlib.Conv2d(16, 32, 3, padding=1, rng=rng),
        nnlib.MaxPool2d(2),
        nnlib.ReLU(),
    ]
    rest = [nnlib.Flatten(), nnlib.Linear(1568, 128, rng=rng), nnlib.ReLU(), nnlib.Linear(128, 10, rng=rng)]
    cases = [
        (nnlib.Sequential(convolutions + rest), rng.random((2, 28, 28, 1), np.float32)),
        (mlp(rng), rng.random((3, 28, 28), np.float32)),
        (nnlib.Sequential([nnlib.RNN(28, 128, rng=rng), nnlib.Linear(128, 10, rng=rng)]), rng.random((2, 28, 28))),
    ]
    cases = [(model, x.astype(np.float32)) for model, x in cases]
    written = [rounded(model, dtype) for model, _ in cases]
    traces = run([(json, x) for json, (_, x) in zip(written, cases, strict=True)])
    for trace, (model, x) in zip(traces, cases, strict=True):
        compare(trace, model, x)


@pytest.mark.browser
def test_softmax_of_large_logits_is_finite(run):
    shares = run.page.evaluate("Array.from(Net.softmax([1e4, 1e4 - 1, -1e4]))")
    expected = np.exp([0, -1]) / np.exp([0, -1]).sum()
    np.testing.assert_allclose(shares, [*expected, 0], atol=1e-6)


@pytest.mark.browser
def test_what_does_not_fit_is_refused_in_the_browser_too(run, rng):
    said = """([json, shape]) => {
        try { Net.load(json).forward(new Float32Array(64), shape); } catch (error) { return error.message; }
    }"""
    assert run.page.evaluate(said, [{"layers": [{"type": "Cube"}]}, [1]]) == "net.js does not know the layer Cube"
    linear = network_json(nnlib.Sequential([nnlib.Linear(3, 2, rng=rng)]))
    assert run.page.evaluate(said, [linear, [16, 4]]) == "Linear expects (N, 3), got (16, 4)"
    conv = network_json(nnlib.Sequential([nnlib.Conv2d(1, 2, 9, rng=rng)]))
    assert run.page.evaluate(said, [conv, [1, 8, 8, 1]]) == "a kernel of 9 by 9 is larger than the padded picture"
