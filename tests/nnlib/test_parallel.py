"""Many workers: the gradient of the undivided batch, the same bits for any number of hands, no trace of an error."""

import _thread
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnlib
from nnlib.checkpoints import Checkpoint
from nnlib.parallel import BLAS, SumInOrder, share_out


def pictures(rng, dropout):
    layers = [nnlib.Conv2d(2, 5, 3, padding=1, rng=rng), nnlib.MaxPool2d(2, stride=1), nnlib.ReLU()]
    layers += [nnlib.Conv2d(5, 4, (2, 3), stride=2, rng=rng), nnlib.AvgPool2d(2, 1, 1), nnlib.Flatten()]
    features = nnlib.Sequential(layers).forward(np.zeros((1, 9, 8, 2), np.float32)).shape[1]
    layers += [nnlib.Dropout(dropout, rng=rng), nnlib.Linear(features, 7, rng=rng), nnlib.Tanh()]
    return nnlib.Sequential([*layers, nnlib.Linear(7, 3, rng=rng)]), (9, 8, 2)


def sequences(rng, dropout):
    layers = [nnlib.RNN(4, 6, rng=rng, return_sequences=True), nnlib.Dropout(dropout, rng=rng)]
    return nnlib.Sequential([*layers, nnlib.GRU(6, 5, rng=rng), nnlib.Linear(5, 3, rng=rng)]), (7, 4)


def dense(rng, dropout):
    layers = [nnlib.Dropout(dropout, rng=rng), nnlib.Linear(300, 80, rng=rng), nnlib.ReLU()]
    return nnlib.Sequential([*layers, nnlib.Dropout(dropout, rng=rng), nnlib.Linear(80, 3, rng=rng)]), (300,)


def problem(network, count, seed, dropout=0.0):
    rng = np.random.default_rng(seed)
    model, shape = network(rng, dropout)
    return model, rng.standard_normal((count, *shape)).astype(np.float32), rng.integers(0, 3, count)


def bits(model) -> dict[str, bytes]:
    return {name: grad.tobytes() for name, grad in model.named_gradients()}


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in BLAS.info() if library["user_api"] == "blas"]


def workers_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "nnlib-worker"]


@given(
    network=st.sampled_from([pictures, sequences, dense]),
    count=st.integers(1, 70),
    slices=st.integers(1, 80) | st.none(),
    seed=st.integers(0, 1000),
    dropout=st.sampled_from([0.0, 0.4]),
)
@settings(max_examples=60, deadline=None)
def test_workers_change_no_bit(network, count, slices, seed, dropout):
    results = []
    for workers in (1, 2, 3):
        model, x, labels = problem(network, count, seed, dropout)  # dropout's generator begins anew too
        answer = [nnlib.DataParallel(model, workers, slices).gradients(x, labels) for _ in range(2)]
        results.append((answer, bits(model), model.predict(x, 16, workers).tobytes()))
    assert results[0] == results[1] == results[2]


@given(
    network=st.sampled_from([pictures, sequences, dense]),
    count=st.integers(1, 70),
    slices=st.integers(1, 80) | st.none(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_the_undivided_batch(network, count, slices, seed):
    model, x, labels = problem(network, count, seed)
    logits = model.forward(x, training=True)
    expected, dlogits = nnlib.cross_entropy(logits, labels)
    model.backward(dlogits)
    whole = dict(model.named_gradients())
    loss, right = nnlib.DataParallel(model, 2, slices).gradients(x, labels)
    assert loss == pytest.approx(expected, abs=1e-5) and right == (logits.argmax(axis=1) == labels).sum()
    for name, grad in model.named_gradients():
        np.testing.assert_allclose(grad, whole[name], atol=1e-5, err_msg=name)


def test_dropout_draws_for_each_slice_anew_and_for_each_batch():
    model, _, _ = problem(dense, 1, 0, dropout=0.5)
    x, labels = np.ones((64, 300), np.float32), np.zeros(64, int)
    seen = []
    forward = nnlib.Dropout.forward

    def spy(layer, x, training=False):
        y = forward(layer, x, training)
        if x.shape[1] == 300:
            seen.append((y == 0).tobytes())
        return y

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnlib.Dropout, "forward", spy)
        for _ in range(2):
            nnlib.DataParallel(model, 1, slices=4).gradients(x, labels)
    assert len(seen) == len(set(seen)) == 8


def test_the_batch_may_be_of_bytes_and_smaller_than_its_slices():
    model, x, labels = problem(pictures, 3, 1)
    images = (np.abs(x) * 50).astype(np.uint8)
    loss, right = nnlib.DataParallel(model, slices=9).gradients(images, labels)
    assert np.isfinite(loss) and 0 <= right <= 3


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("error", [ZeroDivisionError("in slice two"), KeyboardInterrupt("the stop button")])
def test_an_error_in_one_worker_arrives_and_leaves_no_trace(workers, error):
    model, x, labels = problem(dense, 64, 0)
    nnlib.DataParallel(model, workers, slices=4).gradients(x, labels)
    before, threads, begun = bits(model), blas_threads(), []

    class Breaks(nnlib.ReLU):
        def forward(self, x, training=False):
            begun.append(len(begun))
            if len(begun) == 2:
                raise error
            return super().forward(x, training)

    model.layers[2] = Breaks()
    with pytest.raises(type(error), match=str(error)):
        nnlib.DataParallel(model, workers, slices=16).gradients(x, labels)
    assert bits(model) == before, "the gradients of before are gone"
    assert blas_threads() == threads and not workers_alive()
    assert len(begun) <= 1 + workers, "slices were begun after the error"


def test_the_stop_button_while_threads_are_at_work():
    threads, begun = blas_threads(), []

    def work(seconds):
        begun.append(seconds)
        if len(begun) == 2:
            _thread.interrupt_main()
        time.sleep(seconds)

    with pytest.raises(KeyboardInterrupt):
        share_out(work, [(0.2,)] * 20, workers=2)
    assert len(begun) <= 4 and blas_threads() == threads and not workers_alive()


def test_blas_has_one_thread_while_the_workers_run():
    with BLAS.limit(limits=2, user_api="blas"):
        outside = blas_threads()
        inside = share_out(lambda i: blas_threads(), [(i,) for i in range(4)], workers=2)
        assert blas_threads() == outside
    assert all(threads == [1] * len(outside) for threads in inside)


def test_there_are_as_many_threads_as_workers_and_no_more_than_slices():
    together = threading.Barrier(3, timeout=5)
    names = share_out(lambda i: (together.wait(), threading.get_ident())[1], [(i,) for i in range(3)], workers=3)
    assert len(set(names)) == 3
    alive = share_out(lambda i: len(workers_alive()), [(0,)], workers=8)
    assert alive == [1] and share_out(None, [], workers=2) == []


@pytest.mark.parametrize(
    "count, sizes", [(1, [1]), (31, [31]), (32, [16] * 2), (50, [16, 17, 17]), (128, [32] * 4), (130, [26] * 5)]
)
def test_slices_by_default(count, sizes, monkeypatch):
    model, x, labels = problem(dense, count, 0)
    seen, forward = [], nnlib.Sequential.forward

    def spy(model, x, training):
        seen.append(len(x))
        return forward(model, x, training)

    monkeypatch.setattr(nnlib.Sequential, "forward", spy)
    nnlib.DataParallel(model, 1).gradients(x, labels)
    assert seen == sizes


def test_the_workers_that_were_asked_for_are_the_ones_that_work(monkeypatch):
    """No result could tell: it is the same for any number of them."""
    asked, share = [], nnlib.parallel.share_out

    def spy(function, tasks, workers):
        asked.append(workers)
        return share(function, tasks, workers)

    monkeypatch.setattr(nnlib.parallel, "share_out", spy)
    monkeypatch.setattr(nnlib.parallel, "cores", lambda: 5)
    model, x, labels = problem(dense, 64, 0)
    nnlib.DataParallel(model).gradients(x, labels)
    nnlib.DataParallel(model, 2).gradients(x, labels)
    model.predict(x, workers=3)
    nnlib.evaluate(model, x, labels, workers=4)
    assert asked == [5, 2, 3, 4]
    model.predict(x)
    fit(3, epochs=1)
    assert asked == [5, 2, 3, 4, 3, 3, 3, 3], "three batches and the validation set"


def test_results_come_in_the_order_of_the_tasks():
    results = share_out(lambda i: (time.sleep(0.002 * (7 - i)), i)[1], [(i,) for i in range(7)], workers=3)
    assert results == list(range(7))


def test_a_sum_is_taken_in_the_order_of_places_whatever_arrives_first():
    rng = np.random.default_rng(0)
    lists = [[rng.standard_normal(50).astype(np.float32) * 10.0**i for i in range(3)] for _ in range(6)]
    sums = []
    for order in (range(6), reversed(range(6)), (3, 0, 5, 1, 4, 2)):
        total = SumInOrder()
        for place in order:
            total.add(place, [array.copy() for array in lists[place]])
        sums.append([array.tobytes() for array in total.arrays])
    assert sums[0] == sums[1] == sums[2]


def test_prediction_with_workers_is_prediction():
    model, x, _ = problem(pictures, 150, 3)
    for batch_size in (1, 7, 512):
        np.testing.assert_allclose(model.predict(x, batch_size, workers=2), model.predict(x, batch_size), atol=1e-6)
    labels = model.predict(x).argmax(axis=1)
    assert nnlib.evaluate(model, x, labels, workers=2)[1] == 1.0


def fit(workers, epochs=2, checkpoint=None, **options):
    model, x, labels = problem(pictures, 120, 4, dropout=0.3)
    options = {"optimizer": nnlib.Adam(model), "batch_size": 50, "rng": np.random.default_rng(0)} | options
    options |= {"clip_norm": 1.0, "augment": lambda x, rng: x + rng.normal(0, 0.1, x.shape).astype(x.dtype)}
    options |= {"epochs": epochs, "workers": workers, "checkpoint": checkpoint, "progress": False}
    history = nnlib.fit(model, (x, labels), (x[:20], labels[:20]), **options)
    return history, {name: weights.tobytes() for name, weights in model.copy_weights().items()}


def test_fit_ends_with_the_same_weights_for_any_number_of_workers():
    (one, weights), (three, same) = fit(1), fit(3)
    assert weights == same and one.train_loss == three.train_loss and one.validation_loss == three.validation_loss
    assert one.train_accuracy == three.train_accuracy
    whole, others = fit(None)
    assert others != weights, "with workers dropout draws for each slice: these should not be the same numbers"
    assert whole.train_loss[0] == pytest.approx(one.train_loss[0], rel=0.3)


def test_without_dropout_fit_with_workers_follows_fit_without():
    histories = []
    for workers in (None, 2):
        model, x, labels = problem(sequences, 100, 5)
        options = {"optimizer": nnlib.SGD(model, 0.1), "epochs": 2, "batch_size": 40, "rng": np.random.default_rng(0)}
        histories.append(nnlib.fit(model, (x, labels), (x, labels), workers=workers, progress=False, **options))
    for values in ("train_loss", "validation_loss", "train_accuracy"):
        np.testing.assert_allclose(getattr(histories[0], values), getattr(histories[1], values), atol=1e-5)


def test_a_checkpoint_goes_on_with_another_number_of_workers_but_not_without(tmp_path, monkeypatch):
    (whole, weights), path, save = fit(2, epochs=3), tmp_path / "run.npz", Checkpoint.save

    def save_and_stop(checkpoint, history, best):
        save(checkpoint, history, best)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_and_stop)
    fit(3, epochs=3, checkpoint=path)
    with pytest.raises(ValueError, match="workers: some before, none now"):
        fit(None, epochs=3, checkpoint=path)
    monkeypatch.undo()
    history, again = fit(1, epochs=3, checkpoint=path)
    assert again == weights and history.train_loss == whole.train_loss


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"workers": 1.5}, {"slices": -1}, {"slices": "2"}])
def test_what_is_no_number_of_workers_or_slices(arguments):
    model, x, _ = problem(dense, 4, 0)
    with pytest.raises(ValueError, match=f"integer of at least 1, or None, got {next(iter(arguments))}="):
        nnlib.DataParallel(model, **arguments)
    if "workers" in arguments:
        with pytest.raises(ValueError, match="at least 1, or None, got workers="):
            model.predict(x, **arguments)
        with pytest.raises(ValueError, match="at least 1, or None, got workers="):
            fit(**arguments)


def test_data_that_do_not_fit():
    model, x, labels = problem(dense, 4, 0)
    parallel = nnlib.DataParallel(model, 2, 2)
    for bad_x, bad_labels in ((x[:0], labels[:0]), (x, labels[:3]), (x, labels[:, None])):
        with pytest.raises(ValueError, match=r"expected samples \(N, ...\) and labels \(N,\)"):
            parallel.gradients(bad_x, bad_labels)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        parallel.gradients(x, labels + 3)
    with pytest.raises(ValueError, match="Linear expects"):
        parallel.gradients(x[:, :9], labels)
