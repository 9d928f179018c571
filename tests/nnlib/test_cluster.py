"""A cluster's gradients: the bits of DataParallel, whatever happens to its workers; what cannot go on says why."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnlib
from tests.nnlib.test_parallel import bits, dense, pictures, problem, sequences

distributed = pytest.importorskip("distributed", reason="Dask is not here: pip install -e '.[dask]'")
from nnlib import cluster  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("cluster")]  # warnings: Dask's own
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local():
    """A cluster of two processes on this machine, whose Dask says nothing."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, silence_logs=logging.CRITICAL) as local:
        yield local


@pytest.fixture
def client(local):
    local.scale(2)
    with distributed.Client(local, direct_to_workers=True) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def answer(model, parallel, x, labels):
    return [parallel.gradients(x, labels) for _ in range(2)], bits(model)  # the second with gradients of a step before


@given(
    network=st.sampled_from([pictures, sequences, dense]),
    count=st.integers(1, 70),
    slices=st.integers(1, 12) | st.none(),
    seed=st.integers(0, 1000),
    dropout=st.sampled_from([0.0, 0.4]),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cluster_gives_the_bits_of_threads_and_of_one_worker(client, network, count, slices, seed, dropout):
    answers = []
    for make in (
        lambda model: cluster.ClusterParallel(model, client, slices),
        lambda model: nnlib.DataParallel(model, 1, slices),
        lambda model: nnlib.DataParallel(model, 3, slices),
    ):
        model, x, labels = problem(network, count, seed, dropout)  # dropout's generator begins anew too
        answers.append(answer(model, make(model), x, labels))
    assert answers[0] == answers[1] == answers[2]


def test_layers_of_the_notebooks_own_and_bytes_travel_too(client):
    class Halve(nnlib.Layer):  # known to no worker
        def __init__(self):
            super().__init__()
            self.by = np.float32(0.5)

        def forward(self, x, training=False):
            return x * self.by

        def backward(self, dout, input_grad=True):
            return dout * self.by

    answers = []
    for make in (
        lambda model: cluster.ClusterParallel(model, client, 3),
        lambda model: nnlib.DataParallel(model, 2, 3),
    ):
        model, x, labels = problem(pictures, 20, 1)
        model = nnlib.Sequential([Halve(), *model.layers])
        model.forward(x, training=True)  # memories of the model's own, which nobody needs
        answers.append(answer(model, make(model), (np.abs(x) * 50).astype(np.uint8), labels))
    assert answers[0] == answers[1]


def test_only_the_weights_are_heavy():
    model, x, labels = problem(dense, 40, 0)
    nnlib.DataParallel(model).gradients(x, labels)  # gradients of the step before, and a memory
    model.forward(x, training=True)
    twin = model.twin()
    assert len(cluster._pack(twin)) < 2000 < 80 * 300
    again = cluster._unpack(cluster._pack(twin), [param for _, param in model.named_parameters()])
    for (name, param), (other, its) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other and its is param


@pytest.mark.filterwarnings("error::UserWarning")
def test_weights_and_batches_larger_than_dask_likes(client):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 400_000)).astype(np.float32), rng.integers(0, 9, 8)  # 13 MB
    models = [nnlib.Sequential([nnlib.Linear(400_000, 9, rng=np.random.default_rng(1))]) for _ in range(2)]  # 14 MB
    parallel = [cluster.ClusterParallel(models[0], client, 2), nnlib.DataParallel(models[1], 2, 2)]
    assert answer(models[0], parallel[0], x, labels) == answer(models[1], parallel[1], x, labels)


@pytest.mark.parametrize("error", [(lambda x, y: (x[:0], y[:0]), r"expected samples \(N, ...\)"),
                                   (lambda x, y: (x, y + 3), r"labels must lie in 0\.\.2"),
                                   (lambda x, y: (x[:, :9], y), "Linear expects")])  # fmt: skip
def test_an_error_arrives_as_it_is_and_leaves_no_trace(client, error):
    model, x, labels = problem(dense, 40, 0)
    parallel = cluster.ClusterParallel(model, client)
    parallel.gradients(x, labels)
    before, (change, words) = bits(model), error
    with pytest.raises(ValueError, match=words):
        parallel.gradients(*change(x, labels))
    assert bits(model) == before
    parallel.gradients(x, labels)


def fit(make, epochs=2, checkpoint=None, seed=4, **options):
    model, x, labels = problem(pictures, 120, seed, dropout=0.3)
    options = {"optimizer": nnlib.Adam(model), "batch_size": 30, "rng": np.random.default_rng(0)} | options
    options |= {"parallel": make(model), "epochs": epochs, "checkpoint": checkpoint, "progress": False}
    history = nnlib.fit(model, (x, labels), (x[:20], labels[:20]), **options)
    losses = history.train_loss, history.validation_loss, history.train_accuracy
    return losses, {name: weights.tobytes() for name, weights in model.copy_weights().items()}


def test_fit_takes_either(client):
    threads = fit(lambda model: nnlib.DataParallel(model, 2))
    assert fit(lambda model: cluster.ClusterParallel(model, client)) == threads
    model, x, labels = problem(pictures, 120, 4, dropout=0.3)
    options = {"optimizer": nnlib.Adam(model), "batch_size": 30, "rng": np.random.default_rng(0), "progress": False}
    history = nnlib.fit(model, (x, labels), (x[:20], labels[:20]), epochs=2, workers=3, **options)
    assert (history.train_loss, history.validation_loss, history.train_accuracy) == threads[0]
    with pytest.raises(ValueError, match="workers or parallel, not both"):
        fit(lambda model: nnlib.DataParallel(model), workers=2)
    with pytest.raises(ValueError, match="parallel belongs to another model: make a DataParallel of this one"):
        fit(lambda _: nnlib.DataParallel(problem(dense, 1, 0)[0]))


def test_a_checkpoint_goes_from_threads_to_a_cluster_but_not_to_other_slices(client, tmp_path, monkeypatch):
    whole, path, save = fit(lambda model: nnlib.DataParallel(model), epochs=3), tmp_path / "run.npz", None
    save = nnlib.checkpoints.Checkpoint.save

    def save_and_stop(checkpoint, history, best):
        save(checkpoint, history, best)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nnlib.checkpoints.Checkpoint, "save", save_and_stop)
        fit(lambda model: nnlib.DataParallel(model), epochs=3, checkpoint=path)
    with pytest.raises(ValueError, match="workers: some before, some, with 3 slices now"):
        fit(lambda model: cluster.ClusterParallel(model, client, 3), epochs=3, checkpoint=path)
    assert fit(lambda model: cluster.ClusterParallel(model, client), epochs=3, checkpoint=path) == whole


class Eventful:
    """A ClusterParallel to which something happens while some of its steps are computed."""

    def __init__(self, parallel, events):
        self.parallel, self.events, self.step = parallel, events, 0
        self.model, self.slices, self.workers = parallel.model, parallel.slices, parallel.workers

    def gradients(self, *arguments, **options):
        timers = [threading.Timer(delay, event) for delay, event in self.events.get(self.step, ())]
        for timer in timers:
            timer.start()
        self.step += 1
        try:
            return self.parallel.gradients(*arguments, **options)
        finally:
            for timer in timers:
                timer.join()


def test_workers_die_at_drawn_moments_and_join_late_and_no_bit_moves(local, client):
    quiet, draw, killed = fit(lambda model: nnlib.DataParallel(model, 1), epochs=4), np.random.default_rng(5), []

    def kill():
        alive = [worker.pid for worker in local.workers.values() if worker.pid]  # a nanny that has a process now
        killed.append(int(draw.choice(alive)) if alive else 0)
        if alive:
            os.kill(killed[-1], signal.SIGKILL)

    events = {int(step): [(float(draw.uniform(0, 0.02)), kill)] for step in draw.choice(16, 10, replace=False)}
    events[3] = [*events.get(3, []), (0.0, lambda: local.scale(3))]  # one more comes in time
    assert fit(lambda model: Eventful(cluster.ClusterParallel(model, client), events), epochs=4) == quiet
    assert len(killed) == 10 and np.count_nonzero(killed) >= 5


def test_workers_of_another_version_are_refused_by_name(client, monkeypatch):
    model, x, labels = problem(dense, 40, 0)
    parallel = cluster.ClusterParallel(model, client)
    monkeypatch.setattr(cluster, "version", lambda: "nnlib 01234567")
    with pytest.raises(RuntimeError, match=r"here is nnlib 01234567; tcp://[\d.:]+ has nnlib \w{8}, NumPy"):
        cluster.ClusterParallel(model, client)
    with pytest.raises(RuntimeError, match=r"here is nnlib 01234567; tcp://[\d.:]+ has nnlib"):  # one that joins late
        parallel.gradients(x, labels)
    monkeypatch.undo()
    parallel.gradients(x, labels)


def test_a_cluster_without_workers_and_dask_without_dask(monkeypatch):
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        distributed.Client(empty) as client,
        pytest.raises(RuntimeError, match="no workers yet: start some"),
    ):
        cluster.ClusterParallel(problem(dense, 1, 0)[0], client)
    code = "import sys; sys.modules['distributed'] = None\nimport nnlib\nimport nnlib.cluster"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stderr
    assert said.splitlines()[-1].startswith("ImportError: nnlib.cluster needs Dask: pip install -e '.[dask]'")


# ------------------------------------------------------------------------------------------- started by hand, as README


class ByHand:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.processes = folder, []

    def start(self, *command, path=ROOT):
        env = os.environ | {"PYTHONPATH": str(path), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dask", *command]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen(command, env=env, cwd=self.folder, **silent))

    def scheduler(self):
        host, port = self.address.removeprefix("tcp://").split(":")
        self.start("scheduler", "--host", host, "--port", port, "--no-dashboard")

    def worker(self, path=ROOT):
        self.start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", path=path)

    def end(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes = []


@pytest.fixture
def by_hand(tmp_path):
    by_hand = ByHand(tmp_path)
    yield by_hand
    by_hand.end()


def test_a_scheduler_that_goes_away_and_a_worker_of_another_nnlib(by_hand, tmp_path):
    quiet, path = fit(lambda model: nnlib.DataParallel(model, 1), epochs=3), tmp_path / "run.npz"
    for start in (by_hand.scheduler, by_hand.worker, by_hand.worker):
        start()
    with distributed.Client(by_hand.address, timeout=10) as client:
        client.wait_for_workers(2, timeout=30)
        with pytest.raises(ConnectionError, match="the scheduler is gone"):
            gone = {6: [(0.0, by_hand.processes[0].kill)]}  # in the second epoch
            fit(lambda model: Eventful(cluster.ClusterParallel(model, client), gone), epochs=3, checkpoint=path)
    by_hand.end()
    for start in (by_hand.scheduler, by_hand.worker):
        start()
    with distributed.Client(by_hand.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=30)
        assert fit(lambda model: cluster.ClusterParallel(model, client), epochs=3, checkpoint=path) == quiet
        shutil.copytree(ROOT / "nnlib", tmp_path / "other" / "nnlib")
        with open(tmp_path / "other" / "nnlib" / "losses.py", "a") as file:
            file.write("# another nnlib\n")
        model, x, labels = problem(dense, 40, 0)
        parallel = cluster.ClusterParallel(model, client, 4)
        parallel.gradients(x, labels)
        by_hand.worker(path=tmp_path / "other")  # it joins late
        with pytest.raises(RuntimeError, match=r"here is nnlib \w{8}.*; tcp://\S+ has nnlib \w{8}"):
            end = time.monotonic() + 30
            while time.monotonic() < end:
                parallel.gradients(x, labels)
