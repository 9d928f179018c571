import functools
import json

import numpy as np
import pytest

import nnlib.training
from nnlib import (
    SGD,
    Adam,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
    evaluate,
    fit,
    random_shift,
    warmup_cosine,
)
from nnlib.losses import cross_entropy
from nnlib.model import load_arrays, save_arrays


def blobs(count, rng, noise=30.0):
    """Three kinds of 3x3 pictures that differ in which row is bright."""
    labels = rng.integers(0, 3, count)
    images = rng.normal(60, noise, (count, 3, 3, 1))
    images[np.arange(count), labels] += 120
    return images.clip(0, 255).astype(np.uint8), labels


def network(rng, p=0.0):
    layers = [Flatten(), Linear(9, 12, rng=rng), ReLU(), Dropout(p, rng=rng), Linear(12, 3, rng=rng)]
    return Sequential(layers)


def run(
    seed=0,
    epochs=6,
    count=103,
    p=0.3,
    optimizer=Adam,
    generator=np.random.PCG64,
    own_generator=False,
    **options,
):
    rng = np.random.Generator(generator(seed))
    data_rng = np.random.default_rng(seed)
    train, validation = blobs(count, data_rng), blobs(40, data_rng)
    model = network(rng, p)
    if own_generator:
        model.layers[3].rng = np.random.Generator(generator(seed))
    options = {"batch_size": 16, "schedule": warmup_cosine(), "progress": False} | options
    history = fit(model, train, validation, optimizer=optimizer(model, lr=0.02), epochs=epochs, rng=rng, **options)
    return model, history, train, validation


def test_it_learns():
    model, history, _, validation = run(epochs=15)
    assert history.validation_accuracy[history.best_epoch] > 0.95
    assert evaluate(model, *validation)[1] > 0.95
    assert len({len(values) for values in vars(history).values() if isinstance(values, list)}) == 1


def test_same_seed_same_weights_and_the_global_random_state_is_not_read():
    first, _, _, _ = run()
    np.random.seed(5)  # noqa: NPY002 - to show that it does not matter
    second, _, _, _ = run()
    third, _, _, _ = run(seed=1)
    pairs = list(zip(first.named_parameters(), second.named_parameters(), third.named_parameters(), strict=True))
    assert all(np.array_equal(a, b) for (_, a), (_, b), _ in pairs)
    assert not all(np.array_equal(a, c) for (_, a), _, (_, c) in pairs)


def test_every_sample_is_seen_once_an_epoch_with_its_own_label(monkeypatch):
    """The image of sample i is the number i, so that a batch shows which samples it holds."""
    images = np.arange(10, dtype=np.float64).reshape(10, 1, 1, 1)
    labels = np.arange(10) % 3
    rng = np.random.default_rng(0)
    model = Sequential([Flatten(), Linear(1, 3, rng=rng)])
    batches = []
    original = model.forward

    def spy(x, training=False):
        if training:
            batches.append(x.ravel().astype(int))
        return original(x, training)

    def spy_loss(logits, batch_labels, validate=True):
        if len(batch_labels) < len(images):  # not the validation data
            assert np.array_equal(batch_labels, batches[-1] % 3)
        return cross_entropy(logits, batch_labels, validate=validate)

    model.forward = spy
    monkeypatch.setattr(nnlib.training, "cross_entropy", spy_loss)
    fit(model, (images, labels), (images, labels), optimizer=SGD(model, 0.001), epochs=2, batch_size=4, rng=rng)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(10)) and not np.array_equal(first, second)


def test_means_are_weighted_by_batch_size(rng):
    images, labels = blobs(21, rng)
    model = network(rng)
    loss, accuracy = evaluate(model, images, labels, batch_size=4)  # the last batch has one sample
    logits = model.predict(images).astype(np.float64)
    assert loss == pytest.approx(cross_entropy(logits, labels)[0], rel=1e-6)
    assert accuracy == (logits.argmax(axis=1) == labels).mean()

    frozen = SGD(model, lr=1e-30)  # weights that stay: the epoch's mean must be the mean over all samples
    history = fit(model, (images, labels), (images, labels), optimizer=frozen, epochs=1, batch_size=20, rng=rng)
    assert history.train_loss[0] == pytest.approx(loss, rel=1e-5)
    assert history.train_accuracy[0] == accuracy


def test_the_best_weights_are_a_copy_and_early_stopping_counts_patience():
    rng = np.random.default_rng(3)
    train, validation = blobs(60, rng), blobs(60, rng)
    validation = (validation[0], rng.permutation(validation[1]))  # labels of noise: learning makes it worse
    model = network(rng)
    history = fit(
        model,
        train,
        validation,
        optimizer=Adam(model, 0.01),
        epochs=50,
        batch_size=8,
        rng=rng,
        patience=4,
        progress=False,
    )
    assert len(history.train_loss) == history.best_epoch + 1 + 4 < 50
    assert history.validation_loss[history.best_epoch] == min(history.validation_loss)
    loss, accuracy = evaluate(model, *validation)
    assert loss == history.validation_loss[history.best_epoch] != history.validation_loss[-1]
    assert accuracy == history.validation_accuracy[history.best_epoch]


def run_stopped_in_epoch_4(**options):
    """The stop button in the fourth batch of the fourth epoch (an epoch has 7)."""
    original, count = nnlib.training.cross_entropy, 0

    def stop_button(logits, labels, validate=True):
        nonlocal count
        count += len(labels) <= 16  # a training batch
        if count == 7 * 3 + 4:
            raise KeyboardInterrupt
        return original(logits, labels, validate=validate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnlib.training, "cross_entropy", stop_button)
        return run(**options)


def same_weights(first, second):
    pairs = zip(first.named_parameters(), second.named_parameters(), strict=True)
    return all(np.array_equal(a, b) for (_, a), (_, b) in pairs)


SETTINGS = {
    "plain": {},
    "everything": {"clip_norm": 0.5, "augment": lambda images, rng: random_shift(images, rng, pixels=1)},
    "nothing": {"schedule": None},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("optimizer", [Adam, lambda model, lr: SGD(model, lr, momentum=0.9)])
def test_a_run_that_stops_and_resumes_ends_with_the_same_weights(optimizer, settings, tmp_path):
    options = {"optimizer": optimizer, **settings}
    whole, whole_history, _, _ = run(**options)
    options["checkpoint"] = tmp_path / "run.npz"
    _, stopped_history, _, _ = run_stopped_in_epoch_4(**options)
    assert len(stopped_history.seconds) == 3
    resumed, history, _, _ = run(**options)
    assert same_weights(whole, resumed)
    assert history.train_loss == whole_history.train_loss and history.best_epoch == whole_history.best_epoch
    again, history, _, _ = run(**options)  # finished already: nothing left to do
    assert len(history.seconds) == 6 and same_weights(whole, again)


def halved(but_at=None):
    return lambda step, total: 0.25 if step == but_at else 0.5


def shift_by(pixels):
    return lambda images, rng: random_shift(images, rng, pixels=pixels)


MADE = r"one that makes uint8 \S+ 3, 3, 1\) with checksum \w+ and uint8 .* of the first pictures"
CHANGED = {  # the first run's settings, what changes, and what is said of it
    "more epochs": ({}, {"epochs": 9}, r"epochs: 6 before, 9 now\. Put"),
    "fewer epochs": ({"schedule": None}, {"epochs": 4}, "epochs: 6 before, 4 now"),
    "clipping": ({}, {"clip_norm": 1}, "clip_norm: None before, 1.0 now"),
    "no clipping": ({"clip_norm": 2.5}, {"clip_norm": None}, "clip_norm: 2.5 before, None now"),
    "no schedule": ({}, {"schedule": None}, "schedule: one of factors 0.2, .* before, none now"),
    "a schedule": ({"schedule": None}, {"schedule": halved()}, "schedule: none before, one of factors 0.5, 0.5, 0.5 "),
    "warm-up": ({}, {"schedule": warmup_cosine(0.3)}, r"factors 0\.2, .* before, one of factors 0\.0769"),
    "one step": ({"schedule": halved()}, {"schedule": halved(3)}, r"factors 0\.5, .* before, one of factors 0\.5, "),
    "augmentation": ({}, {"augment": random_shift}, rf"augment: none before, {MADE} now"),
    "no augmentation": ({"augment": random_shift}, {"augment": None}, rf"augment: {MADE} before, none now"),
    "a closure": ({"augment": shift_by(2)}, {"augment": shift_by(3)}, rf"augment: {MADE} before, {MADE} now"),
    "a partial": (
        {"augment": functools.partial(random_shift, pixels=1)},
        {"augment": functools.partial(random_shift, pixels=2)},
        rf"augment: {MADE} before, {MADE} now",
    ),
    "epochs and schedule": ({}, {"epochs": 9, "schedule": None}, r"epochs: 6 before, 9 now\. Put"),
    "batches": ({}, {"batch_size": 8}, r"batch_size: 16 before, 8 now\. Put it back to go on, .* delete the file"),
    "optimizer": (
        {},
        {"optimizer": lambda model, lr: SGD(model, lr, momentum=0.5)},
        r"optimizer: Adam\(betas=\(0\.9, 0\.999\), eps=1e-08, lr=0\.02\) before, SGD\(lr=0\.02, momentum=0\.5",
    ),
    "betas in lists": (
        {"optimizer": lambda model, lr: Adam(model, lr, betas=[0.9, 0.99])},
        {"optimizer": lambda model, lr: Adam(model, lr, betas=[0.1, 0.2])},
        r"optimizer: Adam\(betas=\[0\.9, 0\.99\], .* before, Adam\(betas=\[0\.1, 0\.2\]",
    ),
    "a NumPy scalar": (
        {"optimizer": lambda model, lr: SGD(model, np.float32(0.02))},
        {"optimizer": lambda model, lr: SGD(model, np.float32(0.03))},
        r"optimizer: SGD\(lr=np\.float32\(0\.02\), .* before, SGD\(lr=np\.float32\(0\.03",
    ),
    "dropout": ({}, {"p": 0.1}, r"layer 3: Dropout\(p=0\.3\) before, Dropout\(p=0\.1\) now"),
    "another generator": (
        {},
        {"generator": np.random.MT19937},
        r"random generators: PCG64 no\. 1, PCG64 no\. 1 before, MT19937 no\. 1, MT19937 no\. 1 now",
    ),
    "a generator of its own": ({}, {"own_generator": True}, r"before, PCG64 no\. 1, PCG64 no\. 2 now"),
    "data": ({}, {"seed": 1}, "training images: uint8 .* with checksum .*; training labels: .*; validation images"),
    "number of samples": ({}, {"count": 99}, r"training images: uint8 \(103, 3, 3, 1\) .* before, uint8 \(99, 3"),
}


@pytest.mark.parametrize("first, second, said", CHANGED.values(), ids=CHANGED)
def test_a_changed_run_is_refused_in_its_own_words(first, second, said, tmp_path):
    path = tmp_path / "run.npz"
    run_stopped_in_epoch_4(checkpoint=path, **first)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"^run\.npz belongs to another run: .*{said}"):
        run(checkpoint=path, **first | second)
    assert path.read_bytes() == before
    resumed, _, _, _ = run(checkpoint=path, **first)
    assert same_weights(resumed, run(**first)[0])


def test_what_does_the_same_is_the_same(tmp_path):
    """A function that was defined again, or got another name, is no reason to refuse."""
    path = tmp_path / "run.npz"
    run_stopped_in_epoch_4(checkpoint=path, schedule=halved(), augment=shift_by(2))
    same = {"schedule": lambda step, total: 0.5, "augment": random_shift, "patience": 50}
    assert len(run(checkpoint=path, **same)[1].seconds) == 6


def test_other_validation_data_are_another_run(tmp_path):
    rng = np.random.default_rng(0)
    train, validation, model = blobs(60, rng), blobs(20, rng), network(rng)
    options = {"optimizer": SGD(model, 0.1), "epochs": 2, "batch_size": 16, "rng": rng, "progress": False}
    fit(model, train, validation, checkpoint=tmp_path / "run.npz", **options)
    with pytest.raises(
        ValueError, match=r"another run: validation labels: int64 \(20,\) with checksum \w+ before, \S+ \(20,\) with"
    ):
        fit(model, train, (validation[0], 2 - validation[1]), checkpoint=tmp_path / "run.npz", **options)
    with pytest.raises(ValueError, match=r"images: uint8 \(20, 3, 3, 1\) .* before, float32 \(20, 3, 3, 1\)"):
        validation_floats = (validation[0].astype(np.float32), validation[1])
        fit(model, train, validation_floats, checkpoint=tmp_path / "run.npz", **options)
    other_integers = [(images, labels.astype(np.int32)) for images, labels in (train, validation)]
    assert len(fit(model, *other_integers, checkpoint=tmp_path / "run.npz", **options).seconds) == 2


def convolutions(rng, middle=None, **options):
    """A small picture network; `middle` is its second layer, `options` are those of its convolution or its pool."""
    conv = {"kernel_size": 3, "stride": 1, "padding": 1} | options.get("conv", {})
    pool = MaxPool2d(**{"kernel_size": 3, "stride": 2, "padding": 1} | options.get("pool", {}))
    layers = [Conv2d(1, 4, rng=rng, **conv), middle or ReLU(), options.get("third", pool)]
    return Sequential([*layers, Flatten(), Linear(16, 3, rng=rng, dtype=options.get("dtype", np.float32))])


NETWORKS = {  # what differs from the first network, though all its weights have the same shapes; what is said of it
    "activation": ({"middle": Tanh()}, r"layer 1: ReLU\(\) before, Tanh\(\) now\. Put"),
    "stride and padding": (
        {"conv": {"stride": 2, "padding": 2}},
        r"layer 0: Conv2d\(W float32 \S+ .*padding=\(1, 1\), .* before, .*padding=\(2, 2\), stride=\(2, 2\)\) now",
    ),
    "pool size": ({"pool": {"kernel_size": 2}}, r"layer 2: MaxPool2d\(kernel_size=\(3, 3\), .* before, .*=\(2, 2\), "),
    "kind of pool": (
        {"third": AvgPool2d(3, 2, 1)},
        r"layer 2: MaxPool2d.* before, AvgPool2d\(kernel_size=\(3, 3\)",
    ),
    "precision": ({"dtype": np.float64}, r"layer 4: Linear\(W float32 \(16, 3\), .* before, Linear\(W float64"),
}


@pytest.mark.parametrize("changed, said", NETWORKS.values(), ids=NETWORKS)
def test_another_network_is_refused_before_anything_changes(changed, said, tmp_path):
    path, data = tmp_path / "run.npz", blobs(40, np.random.default_rng(0))

    def train(model, rng):
        options = {"epochs": 2, "batch_size": 16, "progress": False, "checkpoint": path}
        return fit(model, data, data, optimizer=SGD(model, 0.1), rng=rng, **options)

    rng = np.random.default_rng(1)
    train(convolutions(rng), rng)
    rng = np.random.default_rng(1)
    model = convolutions(rng, **changed)
    before, state = model.copy_weights(), rng.bit_generator.state
    with pytest.raises(ValueError, match=rf"another run: {said}"):
        train(model, rng)
    assert all(np.array_equal(param, before[name]) for name, param in model.named_parameters())
    assert rng.bit_generator.state == state


def test_more_and_fewer_layers_are_another_network(tmp_path):
    data = blobs(40, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    layers = [Flatten(), Linear(9, 3, rng=rng)]
    options = {"epochs": 1, "batch_size": 16, "progress": False, "rng": rng, "checkpoint": tmp_path / "run.npz"}
    model = Sequential(layers)
    fit(model, data, data, optimizer=SGD(model, 0.1), **options)
    model = Sequential([*layers, Tanh()])
    with pytest.raises(ValueError, match=r"layer 2: none before, Tanh\(\) now\. Put"):
        fit(model, data, data, optimizer=SGD(model, 0.1), **options)


GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.MT19937, np.random.SFC64]


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
@pytest.mark.parametrize("own_generator", [True, False])
def test_every_generator_is_saved_and_resumed(generator, own_generator, tmp_path):
    options = {"generator": generator, "own_generator": own_generator, "augment": shift_by(1)}
    options["optimizer"] = lambda model, lr: Adam(model, np.float32(lr))  # JSON knows no float32 either
    whole, whole_history, _, _ = run(**options)
    options["checkpoint"] = tmp_path / "run.npz"
    _, stopped_history, _, _ = run_stopped_in_epoch_4(**options)
    resumed, history, _, _ = run(**options)
    assert len(stopped_history.seconds) == 3 and same_weights(whole, resumed)
    assert history.lr == whole_history.lr and history.train_loss == whole_history.train_loss


def test_another_generator_is_refused_before_anything_changes(tmp_path):
    path, data = tmp_path / "run.npz", blobs(40, np.random.default_rng(0))
    options = {"epochs": 2, "batch_size": 16, "progress": False, "checkpoint": path}
    model = network(np.random.default_rng(1))
    fit(model, data, data, optimizer=Adam(model), rng=np.random.default_rng(1), **options)
    model = network(np.random.default_rng(1))
    optimizer, before = Adam(model), model.copy_weights()
    with pytest.raises(ValueError, match=r"random generators: PCG64 no\. 1, .* before, Philox no\. 1, PCG64"):
        fit(model, data, data, optimizer=optimizer, rng=np.random.Generator(np.random.Philox(1)), **options)
    assert all(np.array_equal(param, before[name]) for name, param in model.named_parameters())
    assert optimizer.steps == 0 and optimizer.state == {}


def test_an_augmentation_in_place_leaves_the_callers_pictures_alone(tmp_path):
    def darken(images, rng):
        images //= 2
        return images

    rng = np.random.default_rng(0)
    (images, labels), model = blobs(40, rng), network(rng)
    before = images.copy()
    options = {"epochs": 1, "batch_size": 16, "rng": rng, "progress": False, "checkpoint": tmp_path / "run.npz"}
    fit(model, (images, labels), (images, labels), optimizer=SGD(model, 0.1), augment=darken, **options)
    assert np.array_equal(images, before)


def test_files_that_are_no_checkpoint_of_this_version(tmp_path):
    path = tmp_path / "run.npz"
    model, _, _, _ = run(epochs=1, checkpoint=path)
    arrays = load_arrays(path)
    facts = json.loads(str(arrays["facts"]))
    del facts["format"], facts["run"]["schedule"]  # as the first version wrote it
    save_arrays(path, arrays | {"facts": np.array(json.dumps(facts))})
    with pytest.raises(ValueError, match=r"run\.npz is a checkpoint of another version of nnlib.* delete the file"):
        run(epochs=1, checkpoint=path)
    model.save(path)
    with pytest.raises(ValueError, match="is no checkpoint of fit"):
        run(epochs=1, checkpoint=path)
    with pytest.raises(FileNotFoundError, match=r"the folder of checkpoint=.* does not exist"):
        run(epochs=1, checkpoint=tmp_path / "nowhere" / "run.npz")


def test_without_a_checkpoint_nothing_is_described(monkeypatch):
    """A checksum of all data takes time, and a schedule is asked for each step once."""
    monkeypatch.setattr(nnlib.training, "describe", lambda *facts: pytest.fail("described for no file"))
    run(epochs=1)


def test_the_stop_button_leaves_the_best_weights_and_a_history(monkeypatch, capsys):
    original, count = nnlib.training._measure, 0

    def pressed(*args):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(nnlib.training, "_measure", pressed)
    model, history, _, validation = run(epochs=20, progress=True)
    monkeypatch.undo()
    assert len(history.train_loss) == len(history.validation_loss) == 3
    assert evaluate(model, *validation)[0] == min(history.validation_loss)
    assert "stopped by hand in epoch 4" in capsys.readouterr().out


def test_a_loss_that_is_no_longer_finite_says_when_and_what_to_look_at():
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as failure:
        run(optimizer=lambda model, lr: SGD(model, 1e20), schedule=None, p=0.0)
    assert "in epoch 1, batch " in str(failure.value) and "learning rate 10 times smaller" in str(failure.value)


def test_the_learning_rate_follows_the_schedule_and_comes_back():
    rng = np.random.default_rng(0)
    train, model = blobs(64, rng), network(rng)
    optimizer = SGD(model, 0.4)
    seen = []

    def schedule(step, total):
        seen.append((step, total))
        return 0.5

    history = fit(model, train, train, optimizer=optimizer, epochs=2, batch_size=16, rng=rng, schedule=schedule)
    assert seen == [(step, 8) for step in range(8)]
    assert history.lr == [0.2, 0.2] and optimizer.lr == 0.4


def test_rows_are_printed_once_an_epoch_and_are_the_same_every_time(capsys):
    run(epochs=2, progress=True)
    first = capsys.readouterr()
    run(epochs=2, progress=True)
    assert capsys.readouterr().out == first.out and first.err == ""
    lines = first.out.splitlines()
    assert lines[0].startswith("epoch   train loss") and len(lines) == 4
    run(epochs=2, progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("setting, shown", [(None, True), ("", True), ("0", True), ("1", False)])
def test_the_bar_is_hidden_by_the_rule_of_the_downloads(setting, shown, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if setting is not None:
        monkeypatch.setenv("TQDM_DISABLE", setting)
    run(epochs=1, progress=True)
    assert ("batch/s" in capsys.readouterr().err) == shown


def test_augmentation_touches_training_batches_alone(rng):
    train, validation, seen = blobs(20, rng), blobs(8, rng), []
    model = network(rng)
    before = model.copy_weights()

    def black(images, generator):
        seen.append(len(images))
        assert generator is rng
        return images * 0

    options = {"optimizer": SGD(model, 0.1), "epochs": 1, "batch_size": 16, "rng": rng, "progress": False}
    history = fit(model, train, validation, augment=black, **options)
    assert seen == [16, 4]
    assert np.array_equal(model.layers[1].params["W"], before["1.W"])  # black pictures teach it nothing
    assert history.validation_loss[0] == evaluate(model, *validation)[0]


def test_clipping_is_applied():
    rng = np.random.default_rng(0)
    train, model = blobs(64, rng), network(rng)
    before = model.copy_weights()
    fit(
        model, train, train, optimizer=SGD(model, 1.0), epochs=1, batch_size=64, rng=rng, clip_norm=1e-3, progress=False
    )
    change = np.sqrt(sum(((param - before[name]) ** 2).sum() for name, param in model.named_parameters()))
    assert change == pytest.approx(1e-3, rel=1e-2)


def test_bad_input():
    rng = np.random.default_rng(0)
    images, labels = blobs(20, rng)
    model = network(rng)

    def attempt(train=(images, labels), validation=(images, labels), **options):
        fit(
            model,
            train,
            validation,
            **{"optimizer": SGD(model, 0.1), "epochs": 1, "batch_size": 4, "rng": rng} | options,
        )

    with pytest.raises(
        ValueError, match=r"training images \(N, \.\.\.\) and labels \(N,\), got \(20, 3, 3, 1\) and \(19,\)"
    ):
        attempt(train=(images, labels[1:]))
    with pytest.raises(ValueError, match="validation images"):
        attempt(validation=(images[:0], labels[:0]))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, got values from 0 to 3"):
        attempt(train=(images, np.where(labels == 2, 3, labels)))
    with pytest.raises(ValueError, match="expected integers, got float64"):
        attempt(train=(images, labels.astype(float)))
    poisoned = images.astype(np.float32)
    poisoned[3, 1, 1, 0] = np.nan
    with pytest.raises(ValueError, match="the training images contain NaN or infinite pixels"):
        attempt(train=(poisoned, labels))
    with pytest.raises(ValueError, match="expected uint8 images or floats, got int64"):
        attempt(train=(images.astype(int), labels))
    with pytest.raises(ValueError, match="batch_size=0"):
        attempt(batch_size=0)
    with pytest.raises(ValueError, match=r"an integer of at least 1, got epochs=2\.0"):
        attempt(epochs=2.0)
    with pytest.raises(ValueError, match="the optimizer belongs to another model"):
        attempt(optimizer=SGD(network(rng), 0.1))
    attempt(train=(images.astype(np.float16), list(labels)))  # neither is wrong: halves sum beyond their range, a list
    with pytest.raises(ValueError, match=r"Linear expects \(N, 9\), got \(1, 16\)"):
        attempt(train=(np.zeros((20, 4, 4, 1), np.uint8), labels))
