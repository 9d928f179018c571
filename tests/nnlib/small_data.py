"""A small world for the tests of data sets: made-up files that count as the official ones, a data folder, a web server.

The fixtures `house`, `mirror`, `load` and `real` are made known by conftest.py.
"""

import gzip
import hashlib
import io
import shutil
import struct
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nnlib import datasets, mirrors
from nnlib.data_files import OFFICIAL
from nnlib.datasets import load_dataset

REPOSITORY = Path(__file__).parents[2]
ARCHIVE = "cifar-10-binary.tar.gz"
IDX = IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = OFFICIAL["mnist"].files
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
IN_FOLDER = {f"cifar-10-batches-bin/{file}": content for file, content in OFFICIAL_CIFAR.items()}
OFFICIAL_ARCHIVE = tar_gz({"cifar-10-batches-bin/readme.html": b"<html>"} | IN_FOLDER)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository's data folder of our own, no mirrors, no variables set, and small official files."""
    for name in ("NNLIB_DATA", "NNLIB_DATA_DIR", "NNLIB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
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
    for name in ("mnist", "fashion_mnist"):
        change(monkeypatch, name, sizes=(50, 20), mirrors=(), checksums=checksums)
    change(monkeypatch, "cifar10", sizes=(50, 10), mirrors=(), checksums={ARCHIVE: sha256(OFFICIAL_ARCHIVE)})
    return home


def change(monkeypatch, name, **facts):
    monkeypatch.setitem(OFFICIAL, name, replace(OFFICIAL[name], **facts))


def point_mirrors_at(monkeypatch, *urls):
    for name in OFFICIAL:
        change(monkeypatch, name, mirrors=tuple(f"{url}/{name}/" for url in urls))


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
    point_mirrors_at(monkeypatch, f"{server.url}/a", f"{server.url}/b")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def serve(mirror, name="mnist", letter="a"):
    for file, content in OFFICIAL_IDX.items():
        mirror.routes[f"/{letter}/{name}/{file}.gz"] = gzip.compress(content, 1)


def serve_archive(mirror, monkeypatch=None, content=OFFICIAL_ARCHIVE):
    mirror.routes[f"/a/cifar10/{ARCHIVE}"] = content
    if monkeypatch:  # this archive is the official one
        change(monkeypatch, "cifar10", checksums={ARCHIVE: sha256(content)})


def fill(home, name="mnist", files=OFFICIAL_IDX, compress=True):
    folder = home / OFFICIAL[name].folder
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        if compress and not file.endswith(".bin"):
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / file).write_bytes(content)
    return folder


def left_behind(home):
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file() and "samples" not in path.parts]
    return sorted(path.as_posix() for path in files)


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


@pytest.fixture
def real(monkeypatch, load):
    """A real data set of this machine, from NNLIB_DATA_DIR, data/ or Debian's package; skipped where there is none."""
    monkeypatch.undo()  # the real tables and folders again, and the caller's variables
    monkeypatch.setenv("NNLIB_OFFLINE", "1")
    monkeypatch.delenv("NNLIB_DATA", raising=False)

    def real(name, official=True):
        try:
            dataset, _ = load(name, sample=False)
        except FileNotFoundError:
            pytest.skip(f"no {name} on this machine: run `make data`, or set NNLIB_DATA_DIR")
        if official and dataset.source != "official":
            pytest.skip(f"the local {name} is not the official one")
        return dataset

    return real
