"""The real thing: training with every layer on a GPU. Skipped where CuPy or a GPU is missing."""

import numpy as np
import pytest

import nnlib

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the strict stand-in of test_backend.py stands for it")


@pytest.fixture
def gpu(monkeypatch):
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no GPU here: {error}")
    monkeypatch.setenv("NNLIB_DEVICE", "cuda")


def picture_layers(rng, p):
    layers = [nnlib.Conv2d(2, 4, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.AvgPool2d(3, 2, 1)]
    layers += [nnlib.Flatten(), nnlib.Linear(36, 16, rng=rng), nnlib.Tanh()]
    layers += [nnlib.Dropout(p, rng=rng)] if p else []  # on the GPU it draws other numbers
    return [*layers, nnlib.Linear(16, 8, rng=rng), nnlib.ReLU(), nnlib.Linear(8, 3, rng=rng)]


def sequence_layers(rng, p):
    layers = [nnlib.RNN(6, 16, rng=rng, return_sequences=True), nnlib.GRU(16, 8, rng=rng)]
    return [*layers, *([nnlib.Dropout(p, rng=rng)] if p else []), nnlib.Linear(8, 3, rng=rng)]


NETWORKS = pytest.mark.parametrize(
    "layers, shape", [(picture_layers, (64, 6, 6, 2)), (sequence_layers, (64, 6, 6))], ids=["pictures", "sequences"]
)


def train(layers, shape, p=0.0, **options):
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 3, 64)
    model = nnlib.Sequential(layers(rng, p))
    options = {"optimizer": nnlib.Adam(model), "epochs": 3, "batch_size": 16, "rng": rng, "clip_norm": 1.0} | options
    return nnlib.fit(model, (images, labels), (images, labels), progress=False, **options)


@NETWORKS
def test_a_short_training_agrees_with_the_processor(gpu, monkeypatch, layers, shape):
    there = train(layers, shape)
    monkeypatch.setenv("NNLIB_DEVICE", "cpu")
    here = train(layers, shape)
    np.testing.assert_allclose(there.train_loss, here.train_loss, rtol=1e-4)
    np.testing.assert_allclose(there.validation_loss, here.validation_loss, rtol=1e-4)


@NETWORKS
def test_random_numbers_of_the_gpu_follow_from_the_seed(gpu, layers, shape):
    """Up to the order of the sums, which a GPU does not promise."""
    first, second = (train(layers, shape, p=0.2, augment=nnlib.random_shift).train_loss for _ in range(2))
    np.testing.assert_allclose(first, second, rtol=1e-4)


@NETWORKS
@pytest.mark.parametrize("slices", [None, 3])
def test_slices_add_up_on_the_gpu_too(gpu, layers, shape, slices):
    rng = np.random.default_rng(1)
    model, x = nnlib.Sequential(layers(rng, 0.0)), cupy.asarray(rng.random(shape, np.float32))
    labels = cupy.asarray(rng.integers(0, 3, len(x)))
    loss, dlogits = nnlib.cross_entropy(model.forward(x, training=True), labels)
    model.backward(dlogits)
    whole = {name: grad.get() for name, grad in model.named_gradients()}
    sliced, _ = nnlib.DataParallel(model, workers=4, slices=slices).gradients(x, labels)
    assert float(sliced) == pytest.approx(float(loss), rel=1e-4)
    for name, grad in model.named_gradients():
        np.testing.assert_allclose(grad.get(), whole[name], rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(model.predict(x, 10, workers=4), model.predict(x), rtol=1e-3, atol=1e-5)


def test_dropout_and_augmentation_keep_their_promises(gpu):
    x = cupy.ones((400, 100), np.float32)
    layer = nnlib.Dropout(0.25, rng=np.random.default_rng(0))
    first, second = layer.forward(x, training=True).get(), layer.forward(x, training=True).get()
    assert first.dtype == np.float32 and set(np.unique(first)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.02 and not np.array_equal(first, second)
    dots = np.zeros((500, 9, 7, 1), np.uint8)
    dots[:, 4, 3] = 1
    moved = nnlib.random_shift(cupy.asarray(dots), np.random.default_rng(0)).get()
    _, y, x, _ = np.nonzero(moved)
    assert len(y) == 500 and len(set(zip(y, x, strict=True))) == 25
    dots[:, 4, 4] = 2
    flipped = nnlib.random_flip(cupy.asarray(dots), np.random.default_rng(0)).get()
    assert 190 < (flipped[:, 4, 2] == 2).sum() < 310
