"""The mirrors: how an official data set comes onto this machine.

The one idea: everything is made and verified in a scratch folder, then renamed, so that whatever goes wrong half-way
(the network, the disk, the stop button) leaves nothing behind.
"""

import contextlib
import functools
import os
import queue
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from .data_files import MANIFEST, OFFICIAL, Official, find_file, manifest_of, read_content, sha256

PROBE_SECONDS = 3
PAUSE_SECONDS = 1  # before the mirrors are asked a second time


class Unavailable(Exception):
    """Why the full data set is not to be had."""


def download(official: Official, homes: list[Path]) -> Path:
    """Fetch what is missing into the first data folder that can be written to; return where the files are.

    homes: a data folder that the user named, if any, then our own. Raises Unavailable with the reason, and
    FileNotFoundError where the user's folder would have to be made in one that is not there: its name may be mistyped.
    """
    hosts = {urlsplit(url).netloc: url for each in OFFICIAL.values() for url in each.mirrors}
    if not _network_is_there(tuple(hosts.values())):
        raise Unavailable("no network was found; restart Python to look again")
    for home in homes:
        folder = home / official.folder
        if home != homes[-1] and not os.path.exists(home.parent):
            raise FileNotFoundError(
                f"the data folder {home} is not there, and neither is {home.parent}: is NNLIB_DATA_DIR (or data_dir)"
                " mistyped? If not, make the folder first"
            )
        with _removed_if_empty(home), _removed_if_empty(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                scratch = tempfile.TemporaryDirectory(prefix=".download-", dir=folder)
            except OSError as error:
                problem = error.strerror
                continue
            with scratch as temporary:
                _download_into(folder, official, Path(temporary))
            return folder
    raise Unavailable(f"no data folder can be written to ({problem})")


@contextlib.contextmanager
def _removed_if_empty(folder: Path):
    """Remove the folder at the end if it was not there before and nothing came into it."""
    was_there = os.path.exists(folder)
    try:
        yield
    finally:
        if not was_there:
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()


def _download_into(folder: Path, official: Official, temporary: Path) -> None:
    """Fetch what the folder lacks into a temporary one, and move it over once all of it is verified."""
    mirrors = list(official.mirrors)
    try:
        for remote, checksum in official.checksums.items():
            if remote not in official.files:
                _unpack(_fetch(mirrors, remote, checksum, temporary), official)
            elif not find_file(folder, remote):
                _fetch(mirrors, f"{remote}.gz", checksum, temporary)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name != MANIFEST):  # the manifest goes first
            path.replace(folder / path.name)
    except OSError as error:
        raise Unavailable(f"the download could not be written ({error.strerror})") from None


@functools.cache  # without a network it takes seconds, and every data set would wait for it again
def _network_is_there(urls: tuple[str, ...]) -> bool:
    """Ask all of these hosts at once: any answer, even an error page, means that there is a network."""
    answers = queue.SimpleQueue()
    for url in urls:  # daemon threads: a name server that never answers must not hold up the exit
        threading.Thread(target=lambda url=url: answers.put(_answers(url)), daemon=True).start()
    deadline = time.monotonic() + PROBE_SECONDS
    try:
        return any(answers.get(timeout=max(0, deadline - time.monotonic())) for _ in urls)
    except queue.Empty:
        return False


def _answers(url):
    try:
        requests.head(url, timeout=PROBE_SECONDS)
        return True
    except requests.RequestException as error:
        return isinstance(error, requests.exceptions.SSLError)  # somebody answered, though not to be trusted


def _fetch(mirrors, remote, checksum, folder):
    """Download one file from the first mirror that serves it whole; that mirror is asked first for the next file."""
    path, failures = folder / remote, {}
    for attempt in range(2):
        time.sleep(PAUSE_SECONDS * attempt)
        for mirror in mirrors:
            # total=1: pooch asks a bar for its truth before it sets the total, and without a total it has none
            hidden = os.environ.get("TQDM_DISABLE", "") not in ("", "0")
            with tqdm(total=1, desc=remote, unit="B", unit_scale=True, disable=hidden) as bar:
                get = pooch.HTTPDownloader(bar, 2**16, timeout=(5, 30), headers={"Accept-Encoding": "identity"})
                try:
                    get(mirror + remote, path, None)
                    if sha256(path.read_bytes() if remote.endswith(".tar.gz") else read_content(path)) == checksum:
                        mirrors.sort(key=lambda other: other != mirror)
                        return path
                    problem = "wrong checksum"
                except requests.HTTPError as error:
                    problem = f"HTTP {error.response.status_code}"
                except requests.RequestException:
                    problem = "the connection broke off"
                except ValueError:
                    problem = "a damaged file"
            failures[urlsplit(mirror).netloc] = problem
    reasons = "; ".join(f"{host}: {problem}" for host, problem in failures.items())
    raise Unavailable(f"no mirror served {remote} whole ({reasons})")


def _unpack(archive, official):
    """Write the expected members, and only those, under names of our own; then the manifest that vouches for them."""
    members = {f"{official.folder}/{file}": file for file in official.files}
    hashes = dict.fromkeys(official.files)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isfile() and (file := members.get(member.name)):
                content = tar.extractfile(member).read()
                archive.with_name(file).write_bytes(content)
                hashes[file] = sha256(content)
    if None in hashes.values():
        raise Unavailable(f"{archive.name} lacks {', '.join(file for file in hashes if not hashes[file])}")
    archive.with_name(MANIFEST).write_text(manifest_of(official, hashes), encoding="utf-8", newline="\n")
    archive.unlink()
