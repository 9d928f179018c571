import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnlib
from nnlib import CheckFailed, Dropout, Flatten, Linear, ReLU, Sequential, Tanh, check_layer, numerical_gradient
from nnlib.initializers import glorot_normal, he_normal, normal, orthogonal

sizes = st.integers(1, 6)


@given(n=sizes, d=sizes, m=sizes, seed=st.integers(0, 99))
def test_linear_gradients(n, d, m, seed):
    rng = np.random.default_rng(seed)
    layer = Linear(d, m, rng=rng, dtype=np.float64)
    layer.params["b"][:] = rng.normal(size=m)
    assert check_layer(layer, rng.normal(size=(n, d)), rng) < 1e-6


@given(shape=st.lists(sizes, min_size=1, max_size=4), layer=st.sampled_from([ReLU(), Tanh(), Flatten()]))
def test_parameter_free_gradients(shape, layer):
    rng = np.random.default_rng(len(shape))
    x = rng.normal(size=shape)
    x += np.sign(x) * 0.01  # a numerical gradient cannot straddle the corner of ReLU
    assert check_layer(layer, x, rng) < 1e-6


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_dropout_gradients(p, rng):
    assert check_layer(Dropout(p, rng=rng), rng.normal(size=(4, 5)), np.random.default_rng(1)) < 1e-6


def test_relu_passes_nothing_at_zero():
    layer = ReLU()
    layer.forward(np.array([[-1.0, 0.0, -0.0, 2.0]]), training=True)
    assert np.array_equal(layer.backward(np.array([[5.0, 5.0, 5.0, -5.0]])), [[0, 0, 0, -5]])


def test_dropout_keeps_the_mean_and_does_nothing_at_prediction(rng):
    layer, x = Dropout(0.25, rng=rng), np.ones((200, 200), np.float32)
    y = layer.forward(x, training=True)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs(y.mean() - 1) < 0.01 and abs((y == 0).mean() - 0.25) < 0.01
    assert np.array_equal(layer.backward(x), y)
    assert layer.forward(x) is x


@pytest.mark.parametrize("layer", [Linear(4, 3, rng=np.random.default_rng(0)), ReLU(), Tanh(), Flatten()])
def test_nothing_is_changed_in_place_and_dtypes_stay(layer, rng):
    x = rng.normal(size=(5, 4)).astype(np.float32)
    x_before = x.copy()
    y = layer.forward(x, training=True)
    dout = rng.normal(size=y.shape).astype(np.float32)
    dout_before = dout.copy()
    dx = layer.backward(dout)
    assert np.array_equal(x, x_before) and np.array_equal(dout, dout_before)
    assert y.dtype == dx.dtype == np.float32 and dx.shape == x.shape
    assert all(layer.grads[key].dtype == np.float32 for key in layer.params)


@pytest.mark.parametrize("layer", [Linear(4, 3, rng=np.random.default_rng(0)), ReLU(), Tanh(), Flatten()])
def test_backward_needs_a_training_forward_just_before(layer):
    x = np.ones((2, 4), np.float32)
    with pytest.raises(RuntimeError, match=r"backward needs forward\(x, training=True\)"):
        type(layer).backward(layer, x)
    layer.forward(x, training=True)
    layer.forward(x)  # a prediction in between: what was kept belongs to another x
    with pytest.raises(RuntimeError, match="just before it"):
        layer.backward(np.ones((2, 3), np.float32) if layer.params else x)


LAYERS = {
    "Linear": (lambda rng: nnlib.Linear(5, 3, rng=rng), (2, 5)),
    "ReLU": (lambda rng: nnlib.ReLU(), (2, 5)),
    "Tanh": (lambda rng: nnlib.Tanh(), (2, 5)),
    "Flatten": (lambda rng: nnlib.Flatten(), (2, 6, 6, 3)),
    "Dropout": (lambda rng: nnlib.Dropout(0.5, rng=rng), (2, 5)),
    "Conv2d": (lambda rng: nnlib.Conv2d(3, 4, 3, stride=2, rng=rng), (2, 6, 6, 3)),
    "MaxPool2d": (lambda rng: nnlib.MaxPool2d(2), (2, 6, 6, 3)),
    "AvgPool2d": (lambda rng: nnlib.AvgPool2d(3, 2, 1), (2, 6, 6, 3)),
    "RNN": (lambda rng: nnlib.RNN(5, 4, rng=rng), (2, 3, 5)),
    "GRU": (lambda rng: nnlib.GRU(5, 4, rng=rng, return_sequences=True), (2, 3, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_of_another_shape_is_refused(name, rng):
    """Most of these would be broadcast without a word: to a dx of the right shape, and wrong."""
    make, shape = LAYERS[name]
    layer, x = make(rng), rng.normal(size=shape).astype(np.float32)
    y = layer.forward(x, training=True)
    others = {(), (1,) * y.ndim, (1, *y.shape[1:]), (*y.shape[:-1], 1), y.shape[1:], (1, *y.shape)} - {y.shape}
    for other in others:
        with pytest.raises(ValueError, match=re.escape(f"{name}.backward expects dout {y.shape}, got {other}")):
            layer.backward(np.ones(other, np.float32), input_grad=False)
    assert layer.grads == {} and layer.backward(np.ones_like(y)).shape == x.shape


def test_every_layer_is_in_the_list():
    exported = {name for name, v in vars(nnlib).items() if isinstance(v, type) and issubclass(v, nnlib.Layer)}
    assert exported - {"Layer"} <= set(LAYERS), "add the new layer to LAYERS"


def test_linear_errors(rng):
    layer = Linear(784, 10, rng=rng)
    with pytest.raises(ValueError, match=r"expects \(N, 784\), got \(2, 28, 28, 1\): put Flatten\(\) before"):
        layer.forward(np.zeros((2, 28, 28, 1), np.float32))
    with pytest.raises(ValueError, match=r"expects \(N, 784\), got \(2, 10\)"):
        layer.forward(np.zeros((2, 10), np.float32))
    with pytest.raises(ValueError, match="expects floats, got uint8"):
        layer.forward(np.zeros((2, 784), np.uint8))
    with pytest.raises(ValueError, match="at least 1 feature"):
        Linear(0, 3, rng=rng)
    for p in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="0 <= p < 1"):
            Dropout(p, rng=rng)


def test_the_first_layer_is_not_asked_for_its_input_gradient(rng):
    model = Sequential([Flatten(), Linear(4, 3, rng=rng), ReLU(), Linear(3, 2, rng=rng)])
    x = rng.normal(size=(5, 2, 2, 1)).astype(np.float32)
    asked = []
    original = model.layers[1].backward
    model.layers[1].backward = lambda dout, input_grad=True: asked.append(input_grad) or original(dout, input_grad)
    dout = np.ones_like(model.forward(x, training=True))
    assert model.backward(dout) is None
    dx = model.backward(dout, input_grad=True)
    assert asked == [False, True] and dx.shape == x.shape


def test_the_input_gradient_of_a_whole_model(rng):
    layers = [Linear(4, 3, rng=rng, dtype=np.float64), Tanh(), Linear(3, 2, rng=rng, dtype=np.float64)]
    model, x = Sequential(layers), rng.normal(size=(3, 4))
    dout = rng.normal(size=model.forward(x, training=True).shape)
    dx = model.backward(dout, input_grad=True)
    np.testing.assert_allclose(dx, numerical_gradient(lambda x: (model.forward(x) * dout).sum(), x), atol=1e-8)


@pytest.mark.parametrize(
    "init, variance", [(he_normal, 2 / 300), (glorot_normal, 2 / (300 + 500)), (normal(0.01), 1e-4)]
)
def test_initializers_have_the_spread_they_promise(init, variance, rng):
    W = init((300, 500), rng)
    assert W.shape == (300, 500) and abs(W.mean()) < 1e-3 and abs(W.var() / variance - 1) < 0.02


def test_initializers_count_the_receptive_field(rng):
    assert abs(he_normal((3, 5, 20, 400), rng).var() / (2 / 300) - 1) < 0.02
    assert abs(glorot_normal((3, 5, 20, 40), rng).var() / (2 / (15 * 60)) - 1) < 0.05


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4), (3, 2, 1, 5)])
def test_orthogonal(shape, rng):
    singular_values = np.linalg.svd(orthogonal(shape, rng).reshape(-1, shape[-1]), compute_uv=False)
    np.testing.assert_allclose(singular_values, 1, atol=1e-12)
    with pytest.raises(ValueError, match="standard deviation of at least 0"):
        normal(-1.0)


class BrokenTanh(Tanh):
    """A backward that forgets the square."""

    def backward(self, dout, input_grad=True):
        return dout * (1 - self.recall())


class BrokenLinear(Linear):
    """A last layer without the gradient of its bias."""

    def backward(self, dout, input_grad=True):
        dx = super().backward(dout, input_grad)
        self.grads["b"] = np.zeros_like(self.grads["b"])
        return dx


class BrokenInPlace(ReLU):
    """Changes the upstream gradient."""

    def backward(self, dout, input_grad=True):
        dout *= self.recall()
        return dout


def test_check_layer_bites(rng):
    x = rng.normal(size=(3, 4))
    with pytest.raises(CheckFailed, match="BrokenTanh: the gradient for x is off") as failure:
        check_layer(BrokenTanh(), x, rng)
    assert failure.value.inputs["numerical"].shape == x.shape
    with pytest.raises(CheckFailed, match="the gradient for b is off"):
        check_layer(BrokenLinear(4, 2, rng=rng, dtype=np.float64), x, rng)
    with pytest.raises(CheckFailed, match="changed dout in place"):
        check_layer(BrokenInPlace(), x, rng)


def test_numerical_gradient_is_exact_for_a_square_and_restores_x(rng):
    x = rng.normal(size=(2, 3))
    before = x.copy()
    np.testing.assert_allclose(numerical_gradient(lambda x: (x**2).sum(), x), 2 * x, atol=1e-9)
    assert np.array_equal(x, before)
    with pytest.raises(ValueError, match="expects a float64 array, got float32"):
        numerical_gradient(lambda x: x.sum(), x.astype(np.float32))
