"""Load training text from a file, the cache, a download, or the built-in play."""

import hashlib
import os
import sys
import tempfile
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np

from tinygrad_lm.data.synthetic.play import entropy_per_character, play
from tinygrad_lm.errors import DataError
from tinygrad_lm.programs import progress_bar

# Tiny Shakespeare: 40,000 lines of the plays, 1,115,394 characters, put together for char-rnn (Karpathy 2015).
FILE = "tinyshakespeare.txt"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class Corpus:
    """A text to train on. floor: the exact entropy of its source in nats per character; None if unknown"""

    name: str
    text: str
    floor: float | None


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Load the file `path`; the built-in play for "built-in"; tiny Shakespeare for None.

    Tiny Shakespeare comes from $TINYGRAD_LM_DATA, else from the user's cache, else from a download into the cache. If
    all fail, one line says why, and the built-in play is used instead.
    Raises DataError for a file that is not UTF-8 text, and for a wrong tiny Shakespeare in $TINYGRAD_LM_DATA.
    """
    if path == "built-in":
        return Corpus("built-in play", play(), entropy_per_character())
    if path is not None:
        return Corpus(Path(path).name, read_text(path), floor=None)

    folder = os.environ.get("TINYGRAD_LM_DATA")
    if folder and os.path.exists(file := Path(folder, FILE)):
        corpus = Corpus("tiny Shakespeare", read_text(file), floor=None)
        if (found := hashlib.sha256(corpus.text.encode()).hexdigest()) != SHA256:
            raise DataError(
                f"data file {file}, from TINYGRAD_LM_DATA: expected tiny Shakespeare, sha256 {SHA256:.12}, found "
                f"{found:.12}; download it again from {URL}, or use --data to train on this file as it is"
            )
        return corpus

    file = cache_folder() / FILE
    try:
        fetch(URL, file, SHA256)
    except DataError as error:
        print(f"offline: using the built-in play; --data FILE uses your own text ({error})")
        return load_corpus("built-in")
    return Corpus("tiny Shakespeare", read_text(file), floor=None)


def split(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first 90 % for training, the last 10 % for validation)"""
    cut = int(0.9 * len(tokens))
    return tokens[:cut], tokens[cut:]


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, line ends unchanged. Raises DataError if it cannot be read or is empty."""
    if os.path.isdir(path):
        raise DataError(f"data file {path}: expected a text file, found a folder; name a file in it")
    try:
        text = Path(path).read_bytes().decode()
    except FileNotFoundError:
        raise DataError(f"data file {path}: no such file (current folder: {os.getcwd()}); check the path") from None
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path}: expected UTF-8 text, found byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start:,} of {len(error.object):,} ({error.reason}); "
            f"convert it, for instance with: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt"
        ) from None
    if not text:
        raise DataError(f"data file {path}: expected text, found an empty file; choose another")
    return text


def cache_folder() -> Path:
    """The user's cache folder on this system; it may not exist yet."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "tinygrad_lm")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinygrad_lm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinygrad_lm")


def fetch(url, path, sha256, timeout=10):
    """Download `url` to `path` unless the file already has this sha256.

    timeout: the longest silence of the server, in seconds. `path` is replaced only when the download is complete, has
    the right checksum and is on disk; otherwise DataError is raised and `path` is unchanged.
    """
    path = Path(path)
    state = "missing"
    with suppress(OSError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return
        state = "damaged"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            partial = Path(folder, path.name)
            found = _download(url, partial, timeout)
            if found != sha256:
                raise DataError(f"expected sha256 {sha256:.12}, found {found:.12}")
            os.replace(partial, path)
    except (OSError, HTTPException) as error:
        raise DataError(f"{path} is {state}, and the download of {url} failed: {error}") from error


def _download(url, path, timeout):
    """Download url to a file and return the sha256 of what arrived."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=timeout) as response, open(path, "wb") as file:
        with progress_bar(total=response.length, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
            while block := response.read(1 << 16):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
