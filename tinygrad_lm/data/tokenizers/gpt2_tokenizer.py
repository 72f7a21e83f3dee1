"""GPT-2's tokenizer: byte pair encoding with a published list of merges."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lm.data.corpus import fetch
from tinygrad_lm.data.tokenizers.vocabulary import Ids, Tokenizer, utf8
from tinygrad_lm.errors import DataError, TokenError

URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
NAMES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))  # OpenAI's, Hugging Face's
END = "<|endoftext|>"
# Splits a text into words before merging (Radford et al. 2019, section 2.2; the expression is from their encoder.py).
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class GPT2Tokenizer(Tokenizer):
    """The 50,257 tokens of GPT-2 (Radford et al. 2019); tiktoken encodes. Raises DataError if they are unavailable.

    folder: a folder with the two files of such a vocabulary, under OpenAI's or Hugging Face's names. Without a folder,
    or if it lacks them, GPT-2's own come from tiktoken's cache, or are downloaded into it.
    """

    name = "gpt2"

    def __init__(self, folder: str | Path | None = None):
        self.files = files_in(folder)
        self.folder = folder if self.files else None
        try:
            import tiktoken

            self.files = self.files or download_vocabulary()
            pieces, ends = read_vocabulary(*self.files)
            ranks = {piece: i for i, piece in enumerate(pieces)}
            self._bpe = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=ends)
        except (ImportError, OSError, ValueError) as error:
            raise DataError(
                f"gpt2 tokenizer: {error}\n"
                f"  files : vocab.bpe and encoder.json of {URL}\n"
                f"  hint  : use tokenizer char or byte; or pip install tiktoken, put the files into a folder as "
                f"{cache_name('vocab.bpe')} and {cache_name('encoder.json')}, and set TIKTOKEN_CACHE_DIR to it"
            ) from error
        super().__init__([*pieces, *(end.encode() for end in ends)])
        self.eot = ends.get(END)

    def encode(self, text: str, special: bool = False) -> Ids:
        """(number of tokens,) int32. Raises TokenError for a text that tiktoken cannot split."""
        return encode_with_tiktoken(self._bpe, text, special)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | ({"folder": os.path.abspath(self.folder)} if self.folder else {})

    def contents(self) -> dict[str, bytes]:
        return {name: Path(path).read_bytes() for name, path in zip(NAMES[0], self.files, strict=True)}


def encode_with_tiktoken(bpe, text, special):
    """(number of tokens,) int32, with special tokens if they are `special`, else as ordinary text.

    Raises TokenError for half a surrogate pair, and where the regular expression needs more stack than there is: at
    about a million spaces or line ends in a row.
    """
    utf8(text)
    try:
        ids = bpe.encode_to_numpy(text, allowed_special="all" if special else set(), disallowed_special=())
    except ValueError as error:
        run = max(re.finditer(r"\s+", text), key=lambda found: len(found[0]), default=re.match("", text))
        raise TokenError(
            f"the text has {len(run[0]):,} white-space characters in a row at position {run.start():,}, too many for "
            f"the tokenizer's regular expression; shorten them ({error})"
        ) from None
    return ids.astype(np.int32)


def files_in(folder):
    """The paths [vocabulary, merges] in a folder; None if it has no such pair."""
    for names in NAMES if folder is not None else ():
        paths = [Path(folder, name) for name in names]
        if all(path.is_file() for path in paths):
            return paths
    return None


def read_vocabulary(vocabulary, merges):
    """([the bytes of each token], {special token: id}) of the two files. Raises DataError if they do not fit.

    vocabulary: JSON, {token: id}; merges: a line of two tokens for each merge, in order. Bytes are written as
    `byte_letters`.
    """
    letters = byte_letters()
    bytes_of = {c: b for b, c in letters.items()}
    try:
        lines = Path(merges).read_bytes().decode().split("\n")[1:]  # the first line is the version
        merged = ["".join(line.split()) for line in lines if line.strip()]
        ids = json.loads(Path(vocabulary).read_bytes())
        tokens = [*letters.values(), *merged]
        pieces = [bytes(bytes_of[c] for c in token) for token in tokens]
        wrong = next((token for i, token in enumerate(tokens) if ids.pop(token, None) != i), None)
        special = dict(sorted(ids.items(), key=lambda item: item[1]))
        if wrong is not None or list(special.values()) != list(range(len(tokens), len(tokens) + len(special))):
            raise DataError(f"expected the ids of 256 bytes, then of the merges, found others ({wrong!r})")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{vocabulary} and {merges} are not a vocabulary like GPT-2's: {error}") from error
    return pieces, special


def byte_letters():
    """{byte: character} in the order of the ids: how GPT-2's files write bytes. Printable bytes are themselves."""
    printable = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def cache_name(name):
    """The name of a file in tiktoken's cache."""
    return hashlib.sha1((URL + name).encode()).hexdigest()


def download_vocabulary():
    """The paths of GPT-2's files, downloaded if missing; tiktoken's own download has no timeout."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(folder or Path(tempfile.gettempdir(), "data-gym-cache"))
    for name, sha256 in SHA256.items():
        fetch(URL + name, folder / cache_name(name), sha256)
    return [folder / cache_name(name) for name in NAMES[0]]
