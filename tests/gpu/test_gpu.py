"""The real thing: a training step of every layer on a GPU. Skipped where CuPy or a GPU is missing."""

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


def picture_layers(rng):
    layers = [nnlib.Conv2d(2, 4, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.AvgPool2d(3, 2, 1)]
    layers += [nnlib.Flatten(), nnlib.Linear(36, 16, rng=rng), nnlib.Tanh(), nnlib.Dropout(0.2, rng=rng)]
    return [*layers, nnlib.Linear(16, 8, rng=rng), nnlib.ReLU(), nnlib.Linear(8, 3, rng=rng)]


def sequence_layers(rng):
    layers = [nnlib.RNN(6, 16, rng=rng, return_sequences=True), nnlib.GRU(16, 8, rng=rng)]
    return [*layers, nnlib.Linear(8, 3, rng=rng)]


@pytest.mark.parametrize("layers, shape", [(picture_layers, (64, 6, 6, 2)), (sequence_layers, (64, 6, 6))])
def test_a_short_training_agrees_with_the_processor(gpu, monkeypatch, layers, shape):
    def train():
        rng = np.random.default_rng(1)
        images, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 3, 64)
        model = nnlib.Sequential(layers(rng))
        optimizer = nnlib.Adam(model)
        data = (images, labels)
        return nnlib.fit(
            model, data, data, optimizer=optimizer, epochs=3, batch_size=16, rng=rng, clip_norm=1.0, progress=False
        )

    there = train()
    monkeypatch.setenv("NNLIB_DEVICE", "cpu")
    here = train()
    np.testing.assert_allclose(there.train_loss, here.train_loss, rtol=1e-4)
    np.testing.assert_allclose(there.validation_loss, here.validation_loss, rtol=1e-4)
