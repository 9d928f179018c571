"""Convolution and pooling: PyTorch as the oracle, the loops of `nnlib.reference`, adjointness, ties, bad input."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nnlib
from nnlib import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    check_layer,
    col2im,
    im2col,
    reference,
)
from nnlib import conv as conv_module

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
geometries = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        "kernel": pairs,
        "stride": pairs,
        "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "seed": st.integers(0, 99),
    }
)


def fits(g):
    return all(g["shape"][1 + i] + 2 * g["padding"][i] >= g["kernel"][i] for i in (0, 1))


def pool_fits(g):
    return fits(g) and all(2 * g["padding"][i] <= g["kernel"][i] for i in (0, 1))


@pytest.fixture(params=["one chunk", "a chunk for each picture"])
def chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(conv_module, "CHUNK_BYTES", {"numpy": 1})


def make_conv(g, c_out, dtype=np.float64):
    rng = np.random.default_rng(g["seed"])
    layer = Conv2d(g["shape"][3], c_out, g["kernel"], stride=g["stride"], padding=g["padding"], rng=rng, dtype=dtype)
    layer.params["b"][:] = rng.normal(size=c_out)
    return layer, rng.normal(size=g["shape"]).astype(dtype), rng


# --------------------------------------------------------------------------------------------------------- the oracles


def torch_twin(module, x, dout):
    """Run a PyTorch module, channels first, on x and dout, channels last. Returns y, dx, and the module's gradients."""
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch: pip install torch==2.13.0 (the CPU build)")
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    y = module(x)
    y.backward(torch.from_numpy(dout.transpose(0, 3, 1, 2).copy()))
    return y.detach().numpy().transpose(0, 2, 3, 1), x.grad.numpy().transpose(0, 2, 3, 1)


@settings(max_examples=60)
@given(g=geometries, c_out=st.integers(1, 4))
def test_conv2d_equals_pytorch(g, c_out):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch: pip install torch==2.13.0 (the CPU build)")
    assume(fits(g))
    layer, x, rng = make_conv(g, c_out)
    y = layer.forward(x, training=True)
    dout = rng.normal(size=y.shape)
    dx = layer.backward(dout)
    twin = torch.nn.Conv2d(x.shape[3], c_out, g["kernel"], g["stride"], g["padding"], dtype=torch.float64)
    with torch.no_grad():
        twin.weight.copy_(torch.from_numpy(layer.params["W"].transpose(3, 2, 0, 1).copy()))
        twin.bias.copy_(torch.from_numpy(layer.params["b"]))
    y_torch, dx_torch = torch_twin(twin, x, dout)
    np.testing.assert_allclose(y, y_torch, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dx, dx_torch, rtol=1e-10, atol=1e-12)
    dW_torch = twin.weight.grad.numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(layer.grads["W"], dW_torch, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(layer.grads["b"], twin.bias.grad.numpy(), rtol=1e-10, atol=1e-11)


@settings(max_examples=60)
@given(g=geometries, kind=st.sampled_from(["MaxPool2d", "AvgPool2d"]), ties=st.booleans())
def test_pools_equal_pytorch(g, kind, ties):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch: pip install torch==2.13.0 (the CPU build)")
    assume(pool_fits(g))
    rng = np.random.default_rng(g["seed"])
    x = rng.integers(-1, 2, g["shape"]).astype(np.float64) if ties else rng.normal(size=g["shape"]) - 2
    layer = getattr(nnlib, kind)(g["kernel"], g["stride"], g["padding"])
    y = layer.forward(x, training=True)
    dout = rng.normal(size=y.shape)
    y_torch, dx_torch = torch_twin(getattr(torch.nn, kind)(g["kernel"], g["stride"], g["padding"]), x, dout)
    np.testing.assert_allclose(y, y_torch, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.backward(dout), dx_torch, rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(g=geometries, c_out=st.integers(1, 3))
def test_layers_equal_the_loops(g, c_out):
    assume(fits(g))
    layer, x, rng = make_conv(g, c_out)
    W, how = layer.params["W"], (g["stride"], g["padding"])
    y = layer.forward(x, training=True)
    np.testing.assert_allclose(y, reference.conv2d(x, W, layer.params["b"], *how), rtol=1e-12, atol=1e-12)
    dout = rng.normal(size=y.shape)
    gradients = layer.backward(dout), layer.grads["W"], layer.grads["b"]
    for ours, loops in zip(gradients, reference.conv2d_backward(dout, x, W, *how), strict=True):
        np.testing.assert_allclose(ours, loops, rtol=1e-11, atol=1e-12)
    rows = im2col(x, g["kernel"], *how)
    assert np.array_equal(rows, reference.im2col(x, g["kernel"], *how))
    pictures = col2im(rows, x.shape, g["kernel"], *how)
    np.testing.assert_allclose(pictures, reference.col2im(rows, x.shape, g["kernel"], *how), rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(g=geometries, kind=st.sampled_from(["max", "avg"]), ties=st.booleans())
def test_pools_equal_the_loops(g, kind, ties):
    assume(pool_fits(g))
    rng = np.random.default_rng(g["seed"])
    x = rng.integers(-1, 2, g["shape"]).astype(np.float64) if ties else rng.normal(size=g["shape"]) - 2
    layer = {"max": MaxPool2d, "avg": AvgPool2d}[kind](g["kernel"], g["stride"], g["padding"])
    how = g["kernel"], g["stride"], g["padding"]
    y = layer.forward(x, training=True)
    np.testing.assert_allclose(y, getattr(reference, f"{kind}_pool2d")(x, *how), rtol=1e-12, atol=1e-12)
    dout = rng.normal(size=y.shape)
    dx = getattr(reference, f"{kind}_pool2d_backward")(dout, x, *how)
    np.testing.assert_allclose(layer.backward(dout), dx, rtol=1e-12, atol=1e-12)


@given(g=geometries)
def test_col2im_is_the_adjoint_of_im2col(g):
    assume(fits(g))
    rng, how = np.random.default_rng(g["seed"]), (g["kernel"], g["stride"], g["padding"])
    x = rng.normal(size=g["shape"])
    rows = im2col(x, *how)
    c = rng.normal(size=rows.shape)
    assert (rows * c).sum() == pytest.approx((x * col2im(c, x.shape, *how)).sum(), rel=1e-10, abs=1e-10)


GEOMETRIES = [  # shape, kernel, stride, padding
    ((2, 5, 4, 2), (3, 2), (1, 2), (1, 0)),
    ((1, 6, 7, 1), 3, 2, 1),
    ((3, 4, 4, 3), 2, 2, 0),
    ((2, 3, 5, 2), (1, 3), (2, 1), (0, 1)),
]


@pytest.mark.parametrize("shape, kernel, stride, padding", GEOMETRIES)
def test_gradients_are_those_of_the_function(shape, kernel, stride, padding, rng, chunks):
    x = rng.normal(size=shape)
    layer = Conv2d(shape[3], 3, kernel, stride=stride, padding=padding, rng=rng, dtype=np.float64)
    check_layer(layer, x, rng)
    check_layer(MaxPool2d(kernel, stride, 0), x, rng)
    check_layer(AvgPool2d(kernel, stride, 0), x, rng)
    check_layer(MaxPool2d((4, 3), stride, (2, 1)), x, rng)


def test_chunks_do_not_change_the_result(rng, monkeypatch):
    x = rng.normal(size=(7, 6, 5, 2))
    layer = Conv2d(2, 4, 3, padding=1, rng=rng, dtype=np.float64)
    results = []
    for limit in (1, 3 * 30 * 18 * 8, 1 << 30):  # one picture, three (and a last chunk of one), all seven
        monkeypatch.setattr(conv_module, "CHUNK_BYTES", {"numpy": limit})
        y = layer.forward(x, training=True)
        results.append([y, layer.backward(np.cos(y)), *layer.grads.values()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------------- what is exact


def test_known_numbers():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    assert im2col(x, (2, 3)).tolist() == [
        [0, 1, 2, 4, 5, 6],
        [1, 2, 3, 5, 6, 7],
        [4, 5, 6, 8, 9, 10],
        [5, 6, 7, 9, 10, 11],
    ]
    assert col2im(np.ones((4, 6)), x.shape, (2, 3))[0, :, :, 0].tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]
    pooled = MaxPool2d(2).forward(x)
    assert pooled[0, :, :, 0].tolist() == [[5, 7]]  # the third row is in no window
    assert AvgPool2d(2).forward(x)[0, :, :, 0].tolist() == [[2.5, 4.5]]
    padded = AvgPool2d(2, padding=1).forward(x)
    assert padded[0, 0, 0, 0] == 0 and padded[0, 0, 1, 0] == (1 + 2) / 4, "the zeros of the padding count"
    assert MaxPool2d(2, padding=1).forward(x - 100.0)[0, 0, 0, 0] == -100, "padding must never win"


def test_pool_strides_default_to_the_kernel_size():
    for pool in (MaxPool2d((2, 3)), AvgPool2d((2, 3))):
        assert pool.stride == (2, 3) and pool.forward(np.zeros((1, 4, 6, 1))).shape == (1, 2, 2, 1)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_first_of_tied_maxima_gets_the_gradient(place):
    x = np.zeros((1, 2, 2, 1))
    order = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for later in order[order.index(place) :]:
        x[0, later[0], later[1], 0] = 1.0
    pool = MaxPool2d(2)
    pool.forward(x, training=True)
    dx = pool.backward(np.full((1, 1, 1, 1), 3.0))
    assert dx[0, *place, 0] == 3.0 and dx.sum() == 3.0


def test_overlapping_windows_add_up():
    x = np.zeros((1, 5, 5, 1))
    x[0, 2, 2, 0] = 1.0  # the winner of all nine windows
    for size, count in ((3, 9), ((3, 1), 3), (1, 1)):
        pool = MaxPool2d(size, stride=1)
        dout = (pool.forward(x, training=True) == 1).astype(np.float64)
        assert pool.backward(dout)[0, 2, 2, 0] == count
    average = AvgPool2d(3, stride=1)
    assert average.backward(np.ones_like(average.forward(x, training=True)))[0, 2, 2, 0] == pytest.approx(1)


def test_a_large_window_counts_its_places(rng):
    x = rng.normal(size=(1, 20, 20, 1))  # 400 places: more than a byte can count
    pool = MaxPool2d(20)
    pool.forward(x, training=True)
    assert pool.backward(np.ones((1, 1, 1, 1))).argmax() == x.argmax()


def test_pooling_and_relu_commute(rng):
    z = rng.normal(size=(2, 6, 6, 3))
    assert np.array_equal(ReLU().forward(MaxPool2d(2).forward(z)), MaxPool2d(2).forward(ReLU().forward(z)))


def layers(rng, dtype):
    return [
        Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 0), rng=rng, dtype=dtype),
        Conv2d(2, 3, 1, rng=rng, dtype=dtype),
        MaxPool2d(2),
        MaxPool2d(3, 2, 1),
        AvgPool2d(2),
        AvgPool2d(3, 2, 1),
    ]


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay_and_nothing_is_changed_in_place(index, dtype, rng, chunks):
    layer = layers(rng, dtype)[index]
    x = rng.normal(size=(3, 6, 5, 2)).astype(dtype)
    x_before, params_before = x.copy(), {name: param.copy() for name, param in layer.params.items()}
    y = layer.forward(x, training=True)
    y_before, dout = y.copy(), np.ones_like(y)
    dx = layer.backward(dout)
    assert y.dtype == dx.dtype == dtype and dx.shape == x.shape
    assert all(grad.dtype == dtype and grad.shape == layer.params[name].shape for name, grad in layer.grads.items())
    assert set(layer.grads) == set(layer.params)
    assert np.array_equal(x, x_before) and np.array_equal(y, y_before) and (dout == 1).all()
    assert all(np.array_equal(layer.params[name], params_before[name]) for name in layer.params)
    assert not np.shares_memory(y, x) and not np.shares_memory(dx, dout)


def test_read_only_and_strided_arrays_are_welcome(rng, chunks):
    x = rng.normal(size=(3, 6, 5, 2))
    view = np.asfortranarray(x)[:, ::-1]
    view.flags.writeable = False
    for ours, plain in zip(
        layers(np.random.default_rng(1), float), layers(np.random.default_rng(1), float), strict=True
    ):
        y, y_plain = ours.forward(view, training=True), plain.forward(x[:, ::-1].copy(), training=True)
        np.testing.assert_allclose(y, y_plain, rtol=1e-12, atol=1e-12)
        dout = np.cos(y)
        np.testing.assert_allclose(ours.backward(np.asfortranarray(dout)), plain.backward(dout), rtol=1e-12, atol=1e-12)


def test_the_first_layer_need_not_find_dx(rng):
    layer, x = Conv2d(2, 3, 3, rng=rng), rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    dout = np.ones_like(layer.forward(x, training=True))
    layer.backward(dout)
    grads = layer.grads
    assert layer.backward(dout, input_grad=False) is None
    assert all(np.array_equal(grads[name], layer.grads[name]) for name in grads)


def test_the_same_run_twice_gives_the_same_bits(rng):
    x = rng.normal(size=(96, 16, 16, 8)).astype(np.float32)
    layer = Conv2d(8, 16, 3, padding=1, rng=rng)
    runs = []
    for _ in range(3):
        y = layer.forward(x, training=True)
        runs.append([y, layer.backward(np.cos(y)), *layer.grads.values()])
    assert all(np.array_equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


# ------------------------------------------------------------------------------------------------------------- errors


def conv3(**options):
    return Conv2d(3, 4, 3, rng=np.random.default_rng(0), **options)


BAD_INPUT = {
    "channels first": (
        lambda: conv3().forward(np.zeros((64, 3, 32, 32), np.float32)),
        r"Conv2d expects \(N, H, W, 3\) images, got \(64, 3, 32, 32\): channels come last",
    ),
    "one picture": (lambda: conv3().forward(np.zeros((9, 9, 3))), r"got \(9, 9, 3\): one picture is x\[None\]"),
    "no channel axis": (
        lambda: Conv2d(1, 4, 3, rng=np.random.default_rng(0)).forward(np.zeros((5, 9, 9))),
        r"expects \(N, H, W, 1\) images, got \(5, 9, 9\): grey pictures are x\[\.\.\., None\]",
    ),
    "flat": (lambda: conv3().forward(np.zeros((5, 243))), r"expects \(N, H, W, 3\) images, got \(5, 243\)$"),
    "other channels": (lambda: conv3().forward(np.zeros((5, 9, 9, 4))), r"got \(5, 9, 9, 4\)$"),
    "integers": (lambda: conv3().forward(np.zeros((5, 9, 9, 3), np.uint8)), "expects floats, got uint8: scale"),
    "large kernel": (
        lambda: conv3().forward(np.zeros((5, 9, 2, 3))),
        "Conv2d: the kernel, 3 by 3, is larger than the padded picture, 9 by 2",
    ),
    "empty batch": (lambda: conv3().forward(np.zeros((0, 9, 9, 3))), r"at least one.* \(0, 9, 9, 3\)"),
    "pool of an empty batch": (lambda: MaxPool2d(2).forward(np.zeros((0, 9, 9, 3))), "MaxPool2d expects"),
    "pool of a small picture": (lambda: AvgPool2d(4).forward(np.zeros((1, 3, 9, 1))), "AvgPool2d: the kernel, 4 by 4"),
    "pool of integers": (lambda: MaxPool2d(2).forward(np.zeros((1, 4, 4, 1), int)), "MaxPool2d expects floats"),
    "pool of rows": (lambda: MaxPool2d(2).forward(np.zeros((5, 16))), r"MaxPool2d expects .*\(5, 16\)"),
    "pool of one picture": (lambda: AvgPool2d(2).forward(np.zeros((5, 5, 3))), r"AvgPool2d expects .*\(5, 5, 3\)"),
    "stride 0": (lambda: conv3(stride=0), "stride must be an int of at least 1"),
    "stride of three": (lambda: conv3(stride=(1, 1, 1)), r"stride must be .* got \(1, 1, 1\)"),
    "stride 1.5": (lambda: MaxPool2d(2, 1.5), r"stride must be .* got 1\.5"),
    "padding -1": (lambda: conv3(padding=-1), "padding must be an int of at least 0"),
    "padding 'same'": (lambda: conv3(padding="same"), "padding must be .* got 'same'"),
    "padding of a pool": (lambda: MaxPool2d(2, padding=2), "at most half its kernel_size"),
    "kernel 0": (lambda: AvgPool2d((2, 0)), r"kernel_size must be .* got \(2, 0\)"),
    "kernel None": (lambda: MaxPool2d(None), "kernel_size must be .* got None"),
    "no channels": (lambda: Conv2d(0, 4, 3, rng=np.random.default_rng(0)), "at least 1 channel on each side"),
    "im2col of rows": (lambda: im2col(np.zeros((3, 3)), 2), r"im2col expects .*\(3, 3\)"),
    "im2col, large kernel": (lambda: im2col(np.zeros((1, 3, 3, 1)), (2, 4)), "im2col: the kernel, 2 by 4"),
    "col2im of other rows": (
        lambda: col2im(np.zeros((4, 9)), (1, 3, 3, 1), 2),
        r"col2im expects rows of shape \(4, 4\), got \(4, 9\)",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_errors_say_what_to_do(case):
    action, words = BAD_INPUT[case]
    with pytest.raises(ValueError, match=words):
        action()


def test_backward_needs_a_training_forward(rng):
    for layer in layers(rng, np.float32):
        with pytest.raises(RuntimeError, match=r"backward needs forward\(x, training=True\)"):
            layer.backward(np.zeros((1, 1, 1, 1), np.float32))
        x = np.zeros((1, 6, 6, 2), np.float32)
        layer.forward(x, training=True)
        y = layer.forward(x)
        with pytest.raises(RuntimeError, match="just before it"):
            layer.backward(y)


# ------------------------------------------------------------------------------------------------------ memory, a model


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_prediction_needs_no_rows_of_the_whole_set(rng):
    layer = Conv2d(16, 4, 5, padding=2, rng=rng)
    x = rng.random((256, 16, 16, 16), np.float32)
    rows, output = 25 * x.nbytes, x.nbytes // 4  # 105 MB and 1 MB
    assert peak_bytes(lambda: layer.forward(x)) < output + 12e6 < rows / 8
    dout = np.ones_like(layer.forward(x, training=True))
    assert peak_bytes(lambda: layer.backward(dout)) < x.nbytes + 24e6 < rows / 3
    model = Sequential([layer, ReLU(), MaxPool2d(2), Flatten(), Linear(256, 10, rng=rng)])
    small, large = (peak_bytes(lambda n=n: model.predict(x[:n], batch_size=16)) for n in (16, 256))
    assert large < 1.1 * small + 1e5, "memory must not grow with the set"


def test_a_convolutional_network_learns_a_handful_of_pictures(rng):
    images = rng.random((20, 8, 8, 2)).astype(np.float32)
    labels = np.arange(20) % 4
    model = Sequential(
        [
            Conv2d(2, 8, 3, padding=1, rng=rng),
            ReLU(),
            MaxPool2d(3, 2, 1),
            Conv2d(8, 8, (3, 1), stride=(2, 1), rng=rng),
            ReLU(),
            AvgPool2d((1, 2)),
            Flatten(),
            Linear(16, 4, rng=rng),
        ]
    )
    optimizer = nnlib.Adam(model, lr=0.02)
    first = nnlib.cross_entropy(model.forward(images), labels)[0]
    for _ in range(150):
        loss, dlogits = nnlib.cross_entropy(model.forward(images, training=True), labels)
        model.backward(dlogits)
        optimizer.step()
    assert 0.7 < first / np.log(4) < 3 and loss < 0.02, "20 pictures must be learnt by heart"
