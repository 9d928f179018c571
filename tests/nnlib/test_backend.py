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


def test_the_stand_in_has_what_cupy_has_and_no_more():
    x = strict_device.asarray(np.ones((3, 2), np.float32))
    for missing, words in (
        (lambda: strict_device.permute_dims_not_there(x), "no attribute 'permute_dims_not_there'"),
        (lambda: strict_device.mean(x, where=x > 0), "CuPy's mean takes no where="),
        (lambda: x.mean(where=x > 0), r"CuPy's ndarray\.mean takes no where="),
        (lambda: strict_device.maximum(x, 0, where=x > 0), "CuPy's maximum takes no where="),
        (lambda: x.byteswap_not_there(), "no attribute byteswap_not_there"),
        (lambda: strict_device.random.PCG64(1), "no attribute 'random.PCG64'"),
        (lambda: np.spacing(x), "CuPy has no spacing"),
        (lambda: np.add.reduce(x), r"np\.add\.reduce was called on a device array"),
    ):
        with pytest.raises((AttributeError, TypeError), match=words):
            missing()
    assert strict_device.lib.stride_tricks.as_strided(x, (2,), (4,)).shape == (2,)
    assert (x.mean(axis=0, keepdims=True) + strict_device.sum(x, axis=0)).shape == (1, 2)


WAITS = {
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool(x[0] > 3),
    "index": lambda x: "abcdef"[x.astype(int)[0]],
    "str": lambda x: str(x),
    "repr": lambda x: repr(x),
    "format": lambda x: f"{x[0]}",
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "to_numpy": to_numpy,
    "iteration": lambda x: [item for item in x],
    "unpacking": lambda x: (lambda first, second: first)(*x),
    "a mask": lambda x: x[x > 3],
    "places": lambda x: strict_device.where(x > 3),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_the_stand_in_counts_waits(wait):
    x = strict_device.asarray(np.array([3.0, 4.0]))
    with strict_device.counted() as counts:
        wait(x)
    assert len(counts.waits) == 1 and "test_backend.py" in counts.waits[0] and counts.copies == []


def test_the_stand_in_counts_nothing_else_but_copies():
    x = strict_device.asarray(np.array([3.0, 4.0]))
    with strict_device.counted() as counts:
        strict_device.where(x > 3, x * 2, 0) @ x, x.sum(axis=0), x.astype(np.float32)[:1], x.shape, len(x)
        x[:1] += 1
        strict_device.asarray(x)
    assert counts.waits == counts.copies == []
    with strict_device.counted() as counts:
        strict_device.asarray(np.zeros(3))
    assert len(counts.copies) == 1 and counts.waits == []


# ------------------------------------------------------------------------------------------------ nnlib on the stand-in


def layers_for_pictures(rng, p=0.3):
    """Every kind of layer that nnlib has, in one network on (N, 6, 6, 2) pictures."""
    layers = [nnlib.Conv2d(2, 4, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.AvgPool2d(3, 2, 1)]
    layers += [nnlib.Flatten(), nnlib.Linear(36, 8, rng=rng), nnlib.Tanh(), nnlib.Dropout(p, rng=rng)]
    layers += [nnlib.Linear(8, 6, rng=rng), nnlib.ReLU(), nnlib.Linear(6, 3, rng=rng)]
    return layers


def layers_for_sequences(rng, p=0.3):
    """The recurrent layers, on (N, 6, 6): pictures read row by row."""
    layers = [nnlib.RNN(6, 5, rng=rng, return_sequences=True), nnlib.GRU(5, 4, rng=rng, return_sequences=True)]
    return [*layers, nnlib.Dropout(p, rng=rng), nnlib.RNN(4, 4, rng=rng), nnlib.Linear(4, 3, rng=rng)]


NETWORKS = pytest.mark.parametrize(
    "layers, shape", [(layers_for_pictures, (20, 6, 6, 2)), (layers_for_sequences, (20, 6, 6))]
)


def prepared(layers, shape, seed=1, **options):
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 3, shape[0])
    return nnlib.Sequential(layers(rng, **options)), images, labels, rng


def train(layers, shape, optimizer=nnlib.Adam, seed=1, p=0.3, augment=nnlib.random_shift, epochs=2, **options):
    model, images, labels, rng = prepared(layers, shape, seed, p=p)
    options = {"schedule": nnlib.warmup_cosine(), "augment": augment, "clip_norm": 1.0, "progress": False} | options
    data = (images, labels), (images[:5], labels[:5])
    history = fit(model, *data, optimizer=optimizer(model), epochs=epochs, batch_size=8, rng=rng, **options)
    return history, model, model.predict(images)


@NETWORKS
@pytest.mark.parametrize("optimizer", [nnlib.Adam, lambda model: nnlib.SGD(model, 0.1, 0.9, 1e-4)])
def test_training_never_leaves_the_device_and_gives_the_same_weights(
    device, monkeypatch, optimizer, layers, shape, tmp_path
):
    """Without random numbers, which a device draws in its own way."""

    def without_dropout(rng, p):
        return [layer for layer in layers(rng) if not isinstance(layer, nnlib.Dropout)]

    there, model, predictions = train(without_dropout, shape, optimizer, augment=None)
    assert all(isinstance(param, strict_device.ndarray) for _, param in model.named_parameters())
    assert isinstance(predictions, np.ndarray)
    model.save(tmp_path / "weights.npz")
    model.load(tmp_path / "weights.npz")
    monkeypatch.setenv("NNLIB_DEVICE", "cpu")
    here, _, predictions_here = train(without_dropout, shape, optimizer, augment=None)
    assert here.train_loss == there.train_loss and here.validation_loss == there.validation_loss
    assert np.array_equal(predictions, predictions_here)


@NETWORKS
def test_random_numbers_of_the_device_follow_from_the_seed(device, layers, shape, tmp_path, monkeypatch):
    first, second, other = (train(layers, shape, seed=seed)[0].train_loss for seed in (1, 1, 2))
    assert first == second != other
    path, save, stops = tmp_path / "run.npz", nnlib.checkpoints.Checkpoint.save, iter([False, True])

    def save_and_stop(*args):
        save(*args)
        if next(stops):
            raise KeyboardInterrupt

    whole, _, predictions = train(layers, shape, epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(nnlib.checkpoints.Checkpoint, "save", save_and_stop)
        assert len(train(layers, shape, epochs=4, checkpoint=path)[0].seconds) == 2
    resumed, _, again = train(layers, shape, epochs=4, checkpoint=path)
    assert resumed.train_loss == whole.train_loss and np.array_equal(predictions, again), (
        "the generators were not saved"
    )


def test_dropout_and_augmentation_on_the_device_do_what_they_do_here(device):
    x = to_device(np.ones((200, 100), np.float32))
    layer = nnlib.Dropout(0.3, rng=np.random.default_rng(0))
    first, second = (to_numpy(layer.forward(x, training=True)) for _ in range(2))
    assert first.dtype == np.float32 and set(np.unique(first)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert abs((first == 0).mean() - 0.3) < 0.02 and not np.array_equal(first, second)
    dots = np.zeros((400, 7, 7, 1), np.uint8)
    dots[:, 3, 3] = 1
    moved = to_numpy(nnlib.random_shift(to_device(dots), np.random.default_rng(0)))
    _, y, x, _ = np.nonzero(moved)
    assert len(set(zip(y, x, strict=True))) == 25 and len(y) == 400
    dots[:, 3, 4] = 2
    flipped = to_numpy(nnlib.random_flip(to_device(dots), np.random.default_rng(0)))
    assert 150 < (flipped[:, 3, 2] == 2).sum() < 250


# ------------------------------------------------------------------------------------------------ how often a GPU waits


@NETWORKS
@pytest.mark.parametrize("optimizer", [nnlib.Adam, lambda model: nnlib.SGD(model, 0.1, 0.9, 1e-4)])
def test_a_training_step_makes_nobody_wait(device, layers, shape, optimizer):
    model, images, labels, rng = prepared(layers, shape)
    images, labels, optimizer = to_device(images), to_device(labels), optimizer(model)
    rows = to_device(rng.permutation(20))[:8]
    with strict_device.counted() as counts:
        batch = nnlib.random_shift(images[rows], rng)
        batch = nnlib.random_flip(batch, rng) if batch.ndim == 4 else batch
        loss, dlogits = nnlib.cross_entropy(model.forward(batch, training=True), labels[rows], validate=False)
        model.backward(dlogits)
        nnlib.clip_grad_norm(model, 1.0)
        optimizer.step()
    assert counts.waits == [] and counts.copies == []
    assert np.isfinite(float(loss))


CHECKS = 6  # copied once by fit: of two sets the images, the labels, and an image to try the model on


@NETWORKS
@pytest.mark.parametrize("workers", [None, 3])
def test_fit_waits_once_an_epoch(device, layers, shape, workers):
    """To bring the losses home, of training and validation in one transfer."""
    for epochs in (1, 5):
        model, images, labels, rng = prepared(layers, shape)
        options = {"optimizer": nnlib.Adam(model), "epochs": epochs, "batch_size": 3, "rng": rng, "progress": False}
        options |= {
            "augment": nnlib.random_shift,
            "clip_norm": 1.0,
            "schedule": nnlib.warmup_cosine(),
            "workers": workers,
        }
        with strict_device.counted() as counts:
            fit(model, (images, labels), (images, labels), **options)
        assert len(counts.waits) == epochs, counts.waits
        assert len(counts.copies) == epochs + CHECKS, counts.copies  # in each epoch, the order of its samples


def test_data_that_are_on_the_device_are_checked_there(device):
    """Of each set the least and the largest label and, of floats, their sum: six results, once."""
    model, images, labels, rng = prepared(layers_for_pictures, (20, 6, 6, 2))
    data = to_device(images.astype(np.float32)), to_device(labels)
    with strict_device.counted() as counts:
        fit(model, data, data, optimizer=nnlib.Adam(model), epochs=3, batch_size=8, rng=rng, progress=False)
    assert len(counts.waits) == 3 + 6, counts.waits


def test_prediction_and_evaluation_wait_once_however_many_batches(device):
    model, images, labels, _ = prepared(layers_for_pictures, (20, 6, 6, 2))
    for batch_size in (1, 20):
        with strict_device.counted() as counts:
            model.predict(images, batch_size, workers=3)
        assert len(counts.waits) == 1, counts.waits
        with strict_device.counted() as counts:
            nnlib.evaluate(model, images, labels, batch_size)
        assert len(counts.waits) == 1, counts.waits


@NETWORKS
def test_on_the_device_slices_are_what_they_are_here(device, layers, shape, monkeypatch):
    gradients = []
    for where in ("strict", "cpu"):
        monkeypatch.setenv("NNLIB_DEVICE", where)
        model, images, labels, _ = prepared(layers, shape, p=0.0)  # dropout would draw other numbers there
        parallel = nnlib.DataParallel(model, workers=3, slices=4)
        parallel.gradients(to_device(images), to_device(labels))
        gradients.append([to_numpy(grad).tobytes() for _, grad in model.named_gradients()])
    assert gradients[0] == gradients[1]


def test_every_layer_runs_on_the_device(device, rng):
    tested = {type(layer) for layer in layers_for_pictures(rng) + layers_for_sequences(rng)}
    exported = {v for v in vars(nnlib).values() if isinstance(v, type) and issubclass(v, nnlib.Layer)}
    assert exported - {nnlib.Layer} <= tested, "add the new layer to layers_for_pictures or layers_for_sequences"
