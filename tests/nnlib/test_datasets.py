"""What `load_dataset` promises: the right source, said aloud; nothing broken is ever used or left behind.

The "official" files of these tests are small and made up, and a web server of this process serves them: small_data.py.
"""

import errno
import gzip
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from nnlib import datasets, mirrors
from nnlib.data_files import MANIFEST
from nnlib.datasets import load_dataset
from tests.nnlib.small_data import (
    ARCHIVE,
    BATCHES,
    IDX,
    IMAGES,
    IN_FOLDER,
    LABELS,
    OFFICIAL_ARCHIVE,
    OFFICIAL_CIFAR,
    OFFICIAL_IDX,
    OTHER_IDX,
    REPOSITORY,
    TEST_IMAGES,
    TEST_LABELS,
    cifar_set,
    fill,
    idx,
    idx_set,
    left_behind,
    point_mirrors_at,
    serve,
    serve_archive,
    sha256,
    tar_gz,
)

pytestmark = pytest.mark.usefixtures("house")
FETCHED = sorted(f"mnist/{file}.gz" for file in IDX)
UNPACKED = sorted(f"cifar-10-batches-bin/{file}" for file in (*BATCHES, MANIFEST))
OFFICIAL_LINE = "MNIST: 50 training and 20 test images (official files, checksums verified)"


def is_this(dataset, files):
    return dataset.test_images.tobytes() == files[TEST_IMAGES][16:]


# ------------------------------------------------------------------------------------------------------- local folders


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_idx_files_are_read_as_published(house, load, compress):
    fill(house, compress=compress)
    dataset, line = load("mnist")
    assert line == OFFICIAL_LINE and dataset.class_names == tuple("0123456789")
    assert (dataset.name, dataset.title, dataset.source) == ("mnist", "MNIST", "official")
    for images, labels, files in (
        (dataset.train_images, dataset.train_labels, IDX[:2]),
        (dataset.test_images, dataset.test_labels, IDX[2:]),
    ):
        assert images.shape == (len(labels), 28, 28, 1) and (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.tobytes() == OFFICIAL_IDX[files[0]][16:] and labels.tolist() == list(OFFICIAL_IDX[files[1]][8:])
    dataset.train_images[0] = dataset.train_labels[0] = 0  # the arrays are the caller's own


def test_cifar_planes_become_channels(house, load):
    fill(house, "cifar10", OFFICIAL_CIFAR)
    dataset, line = load("cifar10")
    assert line == "CIFAR-10: 50 training and 10 test images (local copy, not the official files)"
    for images, labels, files in (
        (dataset.train_images, dataset.train_labels, BATCHES[:5]),
        (dataset.test_images, dataset.test_labels, BATCHES[5:]),
    ):
        assert images.shape == (len(labels), 32, 32, 3) and images.flags.c_contiguous
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert labels.tolist() == [label for file in files for label in OFFICIAL_CIFAR[file][::3073]]
        red, green, blue = np.moveaxis(images, -1, 0)
        assert (red == 10 * labels[:, None, None]).all(), "a picture has another's label"
        assert (green == np.arange(32)).all() and (blue == np.arange(32)[:, None]).all(), "rows and columns exchanged"


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
    fill(argument)
    assert is_this(load("mnist", data_dir=argument)[0], OFFICIAL_IDX)
    assert is_this(load("mnist", data_dir=str(argument))[0], OFFICIAL_IDX)
    assert not mirror.requests and not mirror.heads, "local files are enough"


@pytest.mark.parametrize("file", IDX)
def test_official_means_every_file(house, load, file):
    fill(house, files=OFFICIAL_IDX | {file: OTHER_IDX[file]})
    dataset, line = load("mnist")
    assert dataset.source == "local copy (not the official files)"
    assert line == "MNIST: 50 training and 20 test images (local copy, not the official files)"


class Explosive:
    """Whoever unpickles it has lost."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


WHOLE, BATCH = gzip.compress(OFFICIAL_IDX[IMAGES]), OFFICIAL_CIFAR["data_batch_2.bin"]
DAMAGE = {  # file, content, what is said of it
    "cut off gzip": (IMAGES, WHOLE[:-2000], "a whole gzip file"),
    "spoilt gzip": (IMAGES, b"\x1f\x8b" + b"nonsense" * 100, "a whole gzip file"),
    "spoilt deflate stream": (IMAGES, gzip.compress(b"")[:10] + b"\xff" * 99, "a whole gzip file"),
    "flipped bytes in gzip": (IMAGES, WHOLE[:3000] + b"\0\1\2\3" + WHOLE[3004:], "a whole gzip file"),
    "web page": (IMAGES, b"\n<!DOCTYPE html><html>Not Found</html>", "a web page"),
    "empty file": (IMAGES, b"", "0 bytes that begin with nothing"),
    "pickle": (LABELS, pickle.dumps(Explosive()), "a Python pickle, which is never opened"),
    "wrong magic number": (IMAGES, b"\0\0\x0b" + OFFICIAL_IDX[IMAGES][3:], "begin with 00 00 0b 03"),
    "labels for images": (IMAGES, OFFICIAL_IDX[LABELS], "header says (50,)"),
    "other number of labels": (LABELS, idx(np.zeros(49, np.uint8)), "header says (49,)"),
    "other image size": (IMAGES, idx(np.zeros((50, 32, 32), np.uint8)), "header says (50, 32, 32)"),
    "pixels missing": (IMAGES, OFFICIAL_IDX[IMAGES][:-1], "39,215 bytes in all"),
    "bytes left over": (LABELS, OFFICIAL_IDX[LABELS] + b"\0", "59 bytes in all"),
    "label above 9": (LABELS, OFFICIAL_IDX[LABELS][:-1] + b"\x0a", "the label 10"),
    "header only": (IMAGES, b"\0\0\x08\x03", "4 bytes that begin with 00 00 08 03"),
    "cifar: one byte short": (BATCHES[1], BATCH[:-1], "30,729 bytes"),
    "cifar: one byte too long": (BATCHES[1], BATCH + b"\0", "30,731 bytes"),
    "cifar: empty file": (BATCHES[1], b"", "0 bytes that begin with nothing"),
    "cifar: web page": (BATCHES[1], b"\r\n\n <!DOCTYPE html><title>404</title>", "web page"),
    "cifar: label above 9": (BATCHES[1], b"\x0a" + BATCH[1:], "the label 10"),
    "cifar: last label above 9": (BATCHES[5], BATCH[:-3073] + b"\xff" + BATCH[-3072:], "the label 255"),
    "cifar: planes shifted by one byte": (BATCHES[5], BATCH[1:] + b"\0", "the label"),
    "cifar: cut off gzip": (BATCHES[5], gzip.compress(BATCH)[:-20], "a whole gzip file"),
    "cifar: the archive itself": (BATCHES[1], OFFICIAL_ARCHIVE, "bytes that begin with"),
    "cifar: a pickle": (BATCHES[1], pickle.dumps(Explosive()), "a Python pickle, which is never opened"),
}


@pytest.mark.parametrize("file, content, said", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_an_error_that_helps(house, mirror, file, content, said):
    """Never the next source instead: the user would not learn that a file is broken."""
    serve(mirror)
    serve_archive(mirror)
    name, files, suffix = ("mnist", OFFICIAL_IDX, ".gz") if file in IDX else ("cifar10", OFFICIAL_CIFAR, "")
    path = fill(house, name, files) / f"{file}{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Delete it and run `make data`") as error:
        load_dataset(name)
    message = str(error.value)
    assert str(path) in message and "expected" in message and said in message, message
    assert not mirror.requests


PYTHON_ARCHIVE = tar_gz({"cifar-10-batches-py/data_batch_1": pickle.dumps(Explosive())})
PICKLES = {  # where, what, what is said of it
    "batches": (
        "cifar-10-batches-py/data_batch_1",
        pickle.dumps(Explosive()),
        "its Python version: pickles, never opened",
    ),
    "beside ours": ("cifar-10-batches-bin/data_batch_1", pickle.dumps(Explosive()), "its Python version: pickles"),
    "archive": ("cifar-10-python.tar.gz", PYTHON_ARCHIVE, "expected CIFAR-10's binary version, got its Python version"),
    "archive beside ours": ("cifar-10-batches-bin/cifar-10-python.tar.gz", PYTHON_ARCHIVE, "its Python version"),
}


@pytest.mark.parametrize("place, content, said", PICKLES.values(), ids=PICKLES)
def test_pickles_are_refused_unopened(house, load, place, content, said):
    (house / place).parent.mkdir(exist_ok=True)
    (house / place).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        load_dataset("cifar10")
    assert str(house / place) in str(error.value) and "make data" in str(error.value)
    assert load("mnist", download=False)[0].source == "sample", "CIFAR's pickles are no business of MNIST's"
    fill(house, "cifar10", OFFICIAL_CIFAR)
    assert load("cifar10")[0].test_images.shape == (10, 32, 32, 3), "beside the right files they do not matter"


def test_an_incomplete_folder_is_named(house, load):
    (fill(house) / f"{TEST_LABELS}.gz").unlink()
    dataset, line = load("mnist", download=False)
    assert dataset.source == "sample" and "a local mnist/ lacks t10k-labels-idx1-ubyte, and download=False" in line


# ------------------------------------------------------------------------------------------------------------- mirrors


def test_download_lands_in_the_data_folder(house, mirror, load):
    serve(mirror)
    umask = os.umask(0o022)
    try:
        dataset, line = load("mnist")
    finally:
        os.umask(umask)
    assert dataset.source == "official" and is_this(dataset, OFFICIAL_IDX) and line == OFFICIAL_LINE
    assert left_behind(house) == FETCHED
    assert mirror.requests == [f"/a/mnist/{file}.gz" for file in IDX]
    if os.name != "nt":  # Windows has no such permissions
        assert {path.stat().st_mode & 0o777 for path in (house / "mnist").iterdir()} == {0o644}, "others may read it"
    again, same_line = load("mnist")
    assert len(mirror.requests) == 4, "the second time nothing is fetched"
    assert again.fingerprint() == dataset.fingerprint() and same_line == line, "the line is the same from run to run"


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_download_lands_in_the_users_folder(house, tmp_path, mirror, load, monkeypatch, by):
    serve(mirror)
    own, mistyped = tmp_path / "own", tmp_path / "onw" / "data"
    for folder in (mistyped, own):
        options = {"data_dir": folder} if by == "argument" else {}
        if by == "variable":
            monkeypatch.setenv("NNLIB_DATA_DIR", str(folder))
        if folder is mistyped:
            with pytest.raises(FileNotFoundError, match=r"onw.data is not there, and neither is .*onw: .* mistyped"):
                load_dataset("mnist", **options)
            assert not mistyped.parent.exists() and mirror.requests == []
    assert load("mnist", **options)[0].source == "official"
    assert left_behind(own) == FETCHED and left_behind(house) == []


@pytest.mark.parametrize("was_there", [True, False])
def test_a_download_that_fails_leaves_no_empty_folder(house, tmp_path, mirror, load, was_there):
    own = tmp_path / "own"
    if was_there:
        own.mkdir()
    for options in ({}, {"data_dir": own}):
        assert "no mirror served" in load("mnist", **options)[1]
    assert own.exists() == was_there and not (own / "mnist").exists() and not (house / "mnist").exists()


def test_only_what_is_missing_is_fetched(house, mirror, load):
    serve(mirror)
    (fill(house) / f"{TEST_IMAGES}.gz").unlink()
    assert load("mnist")[0].source == "official"
    assert mirror.requests == [f"/a/mnist/{TEST_IMAGES}.gz"]


def test_what_a_mirror_may_do_to_the_packing(mirror, load):
    """Recompressed, or not compressed at all: the content counts."""
    serve(mirror)
    mirror.routes[f"/a/mnist/{IMAGES}.gz"] = gzip.compress(OFFICIAL_IDX[IMAGES], 9, mtime=1)
    mirror.routes[f"/a/mnist/{LABELS}.gz"] = OFFICIAL_IDX[LABELS]
    assert load("mnist")[0].source == load("mnist")[0].source == "official"


def break_off(handler):
    """Promise all, send a half, hang up."""
    content = gzip.compress(OFFICIAL_IDX[IMAGES], 1)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


BROKEN = {
    "wrong content": (gzip.compress(OTHER_IDX[IMAGES]), "wrong checksum"),
    "web page": (b"<html>Sign in to the hotel's network</html>", "wrong checksum"),
    "cut off, without saying so": (WHOLE[:-9], "a damaged file"),
    "breaks off": (break_off, "the connection broke off"),
    "hangs up": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "the connection broke off"),
    "not there": (404, "HTTP 404"),
    "server error": (503, "HTTP 503"),
}


@pytest.mark.parametrize("answer, reason", BROKEN.values(), ids=BROKEN)
def test_a_broken_mirror(house, mirror, load, answer, reason):
    """First both mirrors break at the third file, then the first one at its first file, while the other is whole."""
    for letter in "ab":
        serve(mirror, letter=letter)
        mirror.routes[f"/{letter}/mnist/{TEST_IMAGES}.gz"] = answer
    dataset, line = load("mnist")
    assert dataset.source == "sample"
    assert f"no mirror served {TEST_IMAGES}.gz whole (127.0.0.1:{mirror.server_port}: {reason})" in line
    assert left_behind(house) == [], "half a data set was left"
    with pytest.raises(
        FileNotFoundError, match=r"no mirror served.*`make data`.*NNLIB_DATA_DIR.*mnist/ with train-images"
    ):
        load_dataset("mnist", sample=False)
    serve(mirror, letter="b")
    mirror.routes[f"/a/mnist/{IMAGES}.gz"] = answer
    mirror.requests.clear()
    dataset, line = load("mnist")
    assert dataset.source == "official" and is_this(dataset, OFFICIAL_IDX) and line == OFFICIAL_LINE
    assert mirror.requests == [f"/a/mnist/{IMAGES}.gz", *(f"/b/mnist/{file}.gz" for file in IDX)], (
        "the good one is kept"
    )
    assert left_behind(house) == FETCHED


def test_a_mirror_gets_a_second_chance(mirror, load):
    serve(mirror)
    path, answers = f"/a/mnist/{IMAGES}.gz", iter([503])
    whole = mirror.routes[path]
    mirror.routes[path] = lambda handler: next(answers, whole)
    assert load("mnist")[0].source == "official"


def test_progress_is_shown_unless_it_is_switched_off(house, mirror, monkeypatch, capfd):
    serve(mirror)
    serve(mirror, "fashion_mnist")
    for shown in (None, "", "0"):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        if shown is not None:
            monkeypatch.setenv("TQDM_DISABLE", shown)
        load_dataset("mnist")
        err = capfd.readouterr().err
        assert f"{IMAGES}.gz" in err and "100%" in err
        shutil.rmtree(house / "mnist")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    load_dataset("fashion_mnist")
    assert capfd.readouterr().err == ""


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def spied(function, asked):
    def spy(*arguments, **options):
        asked.append(arguments)
        return function(*arguments, **options)

    return spy


def test_no_network_is_found_out_once(house, load, monkeypatch):
    urls, asked = [f"http://127.0.0.1:{closed_port()}" for _ in range(2)], []
    point_mirrors_at(monkeypatch, *urls)
    monkeypatch.setattr(mirrors.requests, "head", spied(mirrors.requests.head, asked))
    monkeypatch.setattr(mirrors.pooch.HTTPDownloader, "__call__", spied(None, asked))
    for name in ("mnist", "fashion_mnist", "cifar10", "mnist"):
        dataset, line = load(name)
        assert dataset.source == "sample" and "(no local files, and no network was found; restart Python to" in line
        assert len(asked) == len(set(urls)), "each host is tried once, by a probe alone"
    assert left_behind(house) == []
    fill(house)
    assert load("mnist")[0].source == "official", "local files are still found"


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
    point_mirrors_at(monkeypatch, f"http://127.0.0.1:{closed_port()}", f"{mirror.url}/a")
    assert load("mnist")[0].source == "official"


def test_an_error_page_is_an_answer(mirror, load):
    """The mirror's host answers 404 to everything: there is a network, and that is not the reason given."""
    line = load("mnist")[1]
    assert mirror.heads == 1 and "no network" not in line and "HTTP 404" in line


def test_offline_and_download_false_ask_nobody(house, mirror, load, monkeypatch):
    serve(mirror)
    assert "(no local files, and download=False)" in load("mnist", download=False)[1]
    monkeypatch.setenv("NNLIB_OFFLINE", "1")
    dataset, line = load("mnist")
    assert dataset.source == "sample" and "(no local files, and NNLIB_OFFLINE is set)" in line
    with pytest.raises(FileNotFoundError, match=r"NNLIB_OFFLINE is set.*make data.*NNLIB_DATA_DIR"):
        load_dataset("mnist", sample=False)
    fill(house, "fashion_mnist")
    assert load("fashion_mnist", sample=False)[0].source == "official", "local files are used offline"
    assert mirror.heads == 0 and mirror.requests == []
    monkeypatch.setenv("NNLIB_OFFLINE", "0")
    assert load("mnist")[0].source == "official"


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
    assert left_behind(house) == FETCHED
    shutil.rmtree(house / "mnist")
    (house / "mnist").write_text("in the way too")
    mirror.requests.clear()
    dataset, line = load("mnist", data_dir=tmp_path / "file")
    assert dataset.source == "sample" and re.search(r"no data folder can be written to \(.+\)", line)
    assert mirror.requests == []


def test_a_read_only_folder_is_read(house, tmp_path, mirror, load, monkeypatch):
    """What the folder has is used; what it lacks is fetched into the repository's data/."""
    shared, make = tmp_path / "shared", Path.mkdir
    fill(shared)
    serve(mirror, "fashion_mnist")
    monkeypatch.setenv("NNLIB_DATA_DIR", str(shared))

    def read_only(path, *arguments, **options):
        if path.is_relative_to(shared):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert load("mnist")[0].source == load("fashion_mnist")[0].source == "official"
    assert left_behind(house) == sorted(f"fashion-mnist/{file}.gz" for file in IDX)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def breaks_at(count, original, failure, first=lambda *arguments: None):
    """A stand-in for a method that works `count` times, then does `first` and fails."""
    calls = iter(range(100))

    def method(*arguments, **options):
        if next(calls) == count:
            first(*arguments)
            raise failure
        return original(*arguments, **options)

    return method


@pytest.mark.parametrize("failure", [FULL, KeyboardInterrupt()], ids=["full disk", "stop button"])
@pytest.mark.parametrize("count", [0, 2])
def test_a_download_that_cannot_be_written_leaves_nothing(house, mirror, load, count, failure):
    serve(mirror)
    get = mirrors.pooch.HTTPDownloader

    def a_few_bytes(downloader, url, path, pooch):
        Path(path).write_bytes(b"a few bytes")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(get, "__call__", breaks_at(count, get.__call__, failure, a_few_bytes))
        if failure is FULL:
            dataset, line = load("mnist")
            assert dataset.source == "sample"
            assert f"(no local files, and the download could not be written ({FULL.strerror}))" in line
        else:
            with pytest.raises(KeyboardInterrupt):
                load_dataset("mnist")
    assert left_behind(house) == [], "a half-written file was left"
    assert len(mirror.requests) == count, "another mirror cannot mend the disk"
    assert load("mnist")[0].source == "official", "the next attempt works"


# ------------------------------------------------------------------------------------------------- the CIFAR-10 archive


def test_the_archive_is_verified_unpacked_and_removed(house, mirror, load):
    """Files of somebody's own are there, one is missing: afterwards all six are the archive's."""
    serve_archive(mirror)
    (fill(house, "cifar10", cifar_set(9)) / "test_batch.bin").unlink()
    dataset, line = load("cifar10")
    assert line == "CIFAR-10: 50 training and 10 test images (official files, checksums verified)"
    assert dataset.train_labels[:10].tolist() == list(OFFICIAL_CIFAR["data_batch_1.bin"][::3073])
    assert left_behind(house) == UNPACKED
    again, same_line = load("cifar10")
    assert again.source == "official" and same_line == line and again.fingerprint() == dataset.fingerprint()
    assert len(mirror.requests) == 1


def test_what_is_no_longer_from_the_archive_is_a_local_copy(house, mirror, load):
    serve_archive(mirror)
    load("cifar10")
    folder = house / "cifar-10-batches-bin"
    manifest, batch = folder / MANIFEST, folder / "data_batch_4.bin"
    text, content = manifest.read_text(), batch.read_bytes()
    batch.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    assert load("cifar10")[0].source == "local copy (not the official files)", "one bit has changed"
    manifest.write_text("".join(f"{sha256((folder / file).read_bytes())}  {file}\n" for file in BATCHES))
    assert load("cifar10")[0].source != "official", "anyone may run sha256sum: the archive's own line is missing"
    batch.write_bytes(content)
    manifest.write_text(text)
    assert load("cifar10")[0].source == "official"
    manifest.write_bytes(b"\xff\xfe\x00")
    assert load("cifar10")[0].source != "official"
    manifest.unlink()
    assert load("cifar10")[0].source != "official"


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


FIRST = "cifar-10-batches-bin/data_batch_1.bin"


@pytest.mark.parametrize("official", [True, False])
def test_an_archive_that_lacks_what_it_should_hold_is_not_unpacked(house, mirror, load, monkeypatch, official):
    """An official one with a link in the place of a batch; and another's, from every mirror."""
    content = tar_gz(IN_FOLDER | {FIRST: link(FIRST, "/etc/passwd")})
    serve_archive(mirror, monkeypatch if official else None, content)
    mirror.routes[f"/b/cifar10/{ARCHIVE}"] = content
    dataset, line = load("cifar10")
    reason = f"{ARCHIVE} lacks data_batch_1.bin" if official else "wrong checksum"
    assert dataset.source == "sample" and reason in line and left_behind(house) == []


EVIL = {
    "parent": {"../../escaped.bin": b"evil"},
    "parent within": {"cifar-10-batches-bin/../../escaped.bin": b"evil"},
    "absolute": {"/escaped.bin": b"evil"},
    "unexpected name": {"cifar-10-batches-bin/escaped.bin": b"evil"},
    "link": {"cifar-10-batches-bin": link("cifar-10-batches-bin", "..")},
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_unexpected_members_are_never_written(house, tmp_path, mirror, load, monkeypatch, evil):
    serve_archive(mirror, monkeypatch, tar_gz(evil | IN_FOLDER))
    before = left_behind(tmp_path)
    assert load("cifar10")[0].source == "official"
    assert set(left_behind(tmp_path)) - set(before) == {f"data/{file}" for file in UNPACKED}


@pytest.mark.parametrize("count", range(7))
def test_an_interrupted_unpacking_is_done_again(mirror, load, count):
    """Whichever of the seven renames is the last to succeed, the next attempt ends with official files."""
    serve_archive(mirror)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", breaks_at(count, Path.replace, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            load_dataset("cifar10")
    assert load("cifar10")[0].source == "official"


def test_a_disk_that_is_full_when_the_archive_is_unpacked(house, mirror, load):
    serve_archive(mirror)
    write = Path.write_bytes
    with pytest.MonkeyPatch.context() as patch:
        half = lambda path, content: write(path, content[:100])  # noqa: E731
        patch.setattr(Path, "write_bytes", breaks_at(2, write, FULL, half))
        dataset, line = load("cifar10")
    assert dataset.source == "sample" and FULL.strerror in line and left_behind(house) == []
    assert load("cifar10")[0].source == "official"


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


def test_fingerprint_sees_every_array_and_no_file_name(dataset):
    before = dataset.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert replace(dataset, source="sample", title="other").fingerprint() == before
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(dataset, field).copy()
        array.flat[-1] ^= 1
        assert replace(dataset, **{field: array}).fingerprint() != before, field
    assert replace(dataset, train_images=dataset.train_images.reshape(50, 14, 56, 1)).fingerprint() != before


def test_a_dataset_is_short_to_print_and_cannot_be_changed(dataset):
    line = "Dataset(MNIST, official: 50 training and 20 test images of 28x28x1, 10 classes)"
    assert str(dataset) == repr(dataset) == line
    with pytest.raises(FrozenInstanceError):
        dataset.source = "official"


@pytest.mark.parametrize("name", ["MNIST", "cifar-10", "", None, 3])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=r"unknown data set .* 'mnist', 'fashion_mnist', 'cifar10'"):
        load_dataset(name)


# ------------------------------------------------------------------------------------------ real data, the command line


def test_main_tells_what_could_not_be_had(house, mirror, capfd):
    serve(mirror)
    serve_archive(mirror)
    assert datasets.main([]) == 1
    out, err = capfd.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["MNIST", "CIFAR-10"]
    assert err.startswith("Fashion-MNIST is not here in full: ") and "Traceback" not in err
    assert datasets.main(["mnist", "cifar10"]) == 0
    assert datasets.main(["fashion_mnist"]) == datasets.main(["nonsense"]) == 1
    assert "unknown data set 'nonsense'" in capfd.readouterr().err
    (house / "mnist" / f"{IMAGES}.gz").write_bytes(b"<html>")
    assert datasets.main(["mnist"]) == 1
    assert "a web page" in capfd.readouterr().err
    serve(mirror, "fashion_mnist")
    (house / "mnist" / f"{IMAGES}.gz").unlink()
    assert datasets.main([]) == 0


def test_the_module_can_be_run():
    command = [sys.executable, "-m", "nnlib.datasets", "mnist", "cifar10"]
    environment = os.environ | {"NNLIB_DATA": "sample"}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert "MNIST is not here in full: NNLIB_DATA=sample asks for it" in done.stderr and "Traceback" not in done.stderr
