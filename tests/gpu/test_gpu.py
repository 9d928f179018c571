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


def test_a_short_training_agrees_with_the_processor(gpu, monkeypatch):
    def train():
        rng = np.random.default_rng(1)
        images, labels = rng.integers(0, 256, (64, 6, 6, 2), dtype=np.uint8), rng.integers(0, 3, 64)
        layers = [nnlib.Conv2d(2, 4, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.AvgPool2d(3, 2, 1)]
        layers += [nnlib.Flatten(), nnlib.Linear(36, 16, rng=rng), nnlib.Tanh(), nnlib.Dropout(0.2, rng=rng)]
        layers += [nnlib.Linear(16, 8, rng=rng), nnlib.ReLU(), nnlib.Linear(8, 3, rng=rng)]
        model = nnlib.Sequential(layers)
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
