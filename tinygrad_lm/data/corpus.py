"""Where training text comes from: a file, the cache, a download, or the built-in play."""

import hashlib
import os
import sys
import tempfile
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tinygrad_lm.data.synthetic.play import entropy_per_character, play
from tinygrad_lm.errors import DataError

# Tiny Shakespeare: 40,000 lines of the plays, 1,115,394 characters, put together for char-rnn (Karpathy 2015).
FILE = "tinyshakespeare.txt"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class Corpus:
    """A text to train on. `floor` is the exact entropy of its source in nats per character, None where nobody knows."""

    name: str
    text: str
    floor: float | None


def load_corpus(path=None):
    """The text of the file `path`; the built-in play for "built-in"; tiny Shakespeare if nothing is asked for.

    Tiny Shakespeare is looked for in $TINYGRAD_LM_DATA, then in the user's cache, then downloaded into the cache. Where
    it cannot be had, one printed line says why, and the play stands in for it.
    Raises DataError for a file that is not UTF-8 text, or that $TINYGRAD_LM_DATA passes off as tiny Shakespeare.
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
                f"{found:.12}; fetch it anew from {URL}, or name it with --data to train on it as it is"
            )
        return corpus

    file = cache_folder() / FILE
    try:
        fetch(URL, file, SHA256)
    except DataError as error:
        print(f"offline, so this trains on the built-in play; --data FILE gives it a text of yours ({error})")
        return load_corpus("built-in")
    return Corpus("tiny Shakespeare", read_text(file), floor=None)


def split(tokens):
    """The first 90 % to train on, the last 10 % to validate on."""
    cut = int(0.9 * len(tokens))
    return tokens[:cut], tokens[cut:]


def read_text(path):
    """The characters of a UTF-8 file, line ends as they are. Raises DataError, with the way out, if there are none."""
    if os.path.isdir(path):
        raise DataError(f"data file {path}: expected a text file, found a folder; name a file in it")
    try:
        text = Path(path).read_bytes().decode()
    except FileNotFoundError:
        raise DataError(f"data file {path}: no such file, seen from the folder {os.getcwd()}; check the path") from None
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path}: expected UTF-8 text, found byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start:,} of {len(error.object):,} ({error.reason}); "
            f"convert it, for instance with: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt"
        ) from None
    if not text:
        raise DataError(f"data file {path}: expected text, found an empty file; give it some, or name another")
    return text


def cache_folder():
    """Where this user's system keeps what can be downloaded again; it need not exist yet."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "tinygrad_lm")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinygrad_lm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinygrad_lm")


def fetch(url, path, sha256, timeout=10):
    """Makes sure that the file `path` has the contents with this sha256, and downloads it from `url` if it has not.

    `timeout` is the longest silence of the server in seconds. A download becomes `path` at once and only when it is
    complete, right and on the disk; otherwise DataError is raised, and `path` is what it was.
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
    """The contents of url go into a file, as far as they come; returns their sha256."""
    from tqdm import tqdm  # here, because nothing else needs it: the package itself asks for NumPy alone

    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=timeout) as response, open(path, "wb") as file:
        with tqdm(total=response.length, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None) as bar:
            while block := response.read(1 << 16):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
