import numpy as np
import pytest

import nnlib
from nnlib import backend
from nnlib.backend import get_array_module, to_device, to_float, to_numpy
from nnlib.training import fit
from tests.nnlib import strict_device


@pytest.fixture
def device(monkeypatch):
    """Everything that the library puts on a device lands on the strict stand-in."""
    monkeypatch.setitem(backend.DEVICES, "strict", "strict_device")
    monkeypatch.setenv("NNLIB_DEVICE", "strict")


def test_the_array_decides_the_library():
    assert get_array_module(np.zeros(3)) is np
    assert get_array_module(np.float32(3)) is np
    assert get_array_module(strict_device.asarray(np.zeros(3))) is strict_device
    with pytest.raises(TypeError, match=r"got a list: convert it with np\.asarray"):
        get_array_module([1, 2])


def test_to_device_and_back(device):
    x = np.arange(3.0)
    there = to_device(x)
    assert isinstance(there, strict_device.ndarray) and to_device(there) is there
    assert np.array_equal(to_numpy(there), x) and to_numpy(x) is x


def test_unknown_device_and_missing_cupy(monkeypatch):
    monkeypatch.setenv("NNLIB_DEVICE", "tpu")
    with pytest.raises(ValueError, match=r"NNLIB_DEVICE is 'tpu'; expected one of cpu, cuda"):
        to_device(np.zeros(1))
    monkeypatch.setitem(backend.DEVICES, "cuda", "no_such_library")
    monkeypatch.setenv("NNLIB_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match=r"needs no_such_library: pip install"):
        to_device(np.zeros(1))


def test_to_float():
    scaled = to_float(np.array([0, 51, 255], np.uint8))
    assert scaled.dtype == np.float32 and np.array_equal(scaled, np.array([0, 0.2, 1], np.float32))
    x = np.zeros(2)
    assert to_float(x) is x
    with pytest.raises(ValueError, match="expected uint8 images or floats, got int64"):
        to_float(np.array([1, 2]))


def test_the_stand_in_is_strict():
    x, y = strict_device.asarray(np.ones(3)), np.ones(3)
    for crossing in (lambda: np.asarray(x), lambda: x + y, lambda: y * x, lambda: np.concatenate([x, x])):
        with pytest.raises(TypeError):
            crossing()
    with pytest.raises(TypeError):
        x[:] = y


def layers_for_pictures(rng):
    """Every kind of layer that nnlib has, in one network on (N, 6, 6, 2) pictures."""
    layers = [nnlib.Conv2d(2, 4, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.AvgPool2d(3, 2, 1)]
    layers += [nnlib.Flatten(), nnlib.Linear(36, 8, rng=rng), nnlib.Tanh(), nnlib.Dropout(0.3, rng=rng)]
    layers += [nnlib.Linear(8, 6, rng=rng), nnlib.ReLU(), nnlib.Linear(6, 3, rng=rng)]
    return layers


def layers_for_sequences(rng):
    """The recurrent layers, on (N, 6, 6): pictures read row by row."""
    layers = [nnlib.RNN(6, 5, rng=rng, return_sequences=True), nnlib.GRU(5, 4, rng=rng, return_sequences=True)]
    return [*layers, nnlib.RNN(4, 4, rng=rng), nnlib.Linear(4, 3, rng=rng)]


@pytest.mark.parametrize("layers, shape", [(layers_for_pictures, (20, 6, 6, 2)), (layers_for_sequences, (20, 6, 6))])
@pytest.mark.parametrize("optimizer", [nnlib.Adam, lambda model: nnlib.SGD(model, 0.1, 0.9, 1e-4)])
def test_training_never_leaves_the_device_and_gives_the_same_weights(
    device, monkeypatch, optimizer, layers, shape, tmp_path
):
    def train():
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = rng.integers(0, 3, 20)
        model = nnlib.Sequential(layers(rng))
        history = fit(
            model,
            (images, labels),
            (images[:5], labels[:5]),
            optimizer=optimizer(model),
            epochs=2,
            batch_size=8,
            rng=rng,
            clip_norm=1.0,
            schedule=nnlib.warmup_cosine(),
            augment=nnlib.random_shift,
            progress=False,
        )
        model.save(tmp_path / "weights.npz")
        model.load(tmp_path / "weights.npz")
        return history, model, model.predict(images)

    there, model, predictions = train()
    assert all(isinstance(param, strict_device.ndarray) for _, param in model.named_parameters())
    assert isinstance(predictions, np.ndarray)
    monkeypatch.setenv("NNLIB_DEVICE", "cpu")
    here, _, predictions_here = train()
    assert here.train_loss == there.train_loss and here.validation_loss == there.validation_loss
    assert np.array_equal(predictions, predictions_here)


def test_every_layer_runs_on_the_device(device, rng):
    tested = {type(layer) for layer in layers_for_pictures(rng) + layers_for_sequences(rng)}
    exported = {v for v in vars(nnlib).values() if isinstance(v, type) and issubclass(v, nnlib.Layer)}
    assert exported - {nnlib.Layer} <= tested, "add the new layer to layers_for_pictures or layers_for_sequences"
