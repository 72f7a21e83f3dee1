"""Encode text to token ids and decode them: tokenizers of characters and bytes, and the choice of one by name.

The others are GPT-2's (gpt2_tokenizer.py), trained ones (bpe_tokenizer.py) and those of a tokenizer.json
(json_tokenizer.py). All but the last share one decoder (vocabulary.py).
"""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinygrad_lm.data.tokenizers.bpe_tokenizer import SUFFIX, BPETokenizer, tokenizer_path
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer
from tinygrad_lm.data.tokenizers.vocabulary import Ids, Tokenizer, utf8
from tinygrad_lm.errors import ConfigError, TokenError


class CharTokenizer(Tokenizer):
    """One token for each character of a text, in the order of their code points."""

    name = "char"

    def __init__(self, characters: str):
        if not characters:
            raise TokenError("char tokenizer: expected a text with characters, found an empty one")
        super().__init__([c.encode() for c in characters])
        self.characters = characters  # sorted, unique
        self._codes = _code_points(characters)

    @classmethod
    def from_text(cls, text: str) -> Self:
        utf8(text)  # raises TokenError with the place of invalid text
        return cls("".join(sorted(set(text))))

    def encode(self, text: str, special: bool = False) -> Ids:
        """(len(text),) int32. Raises TokenError for a character that the vocabulary lacks."""
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes).astype(np.int32)
        unknown = self._codes[np.minimum(ids, self.vocab_size - 1)] != codes
        if unknown.any():
            at = int(unknown.argmax())
            lacking = "".join(sorted(set(text) - set(self.characters)))
            raise TokenError(
                f"char tokenizer: the vocabulary lacks {_some(lacking)}; "
                f"the first, {text[at]!r}, is at position {at:,}\n"
                f"  vocabulary : {_some(self.characters)}\n"
                f"  hint       : remove them, or train with tokenizer byte, which can express any text"
            )
        return ids

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"characters": self.characters}


class ByteTokenizer(Tokenizer):
    """One token for each byte of the text's UTF-8."""

    name = "byte"

    def __init__(self):
        super().__init__([bytes([b]) for b in range(256)])

    def encode(self, text: str, special: bool = False) -> Ids:
        """(number of bytes,) int32."""
        return np.frombuffer(utf8(text), np.uint8).astype(np.int32)


def make_tokenizer(name: str | Path, text: str) -> Tokenizer:
    """Make a tokenizer: char (with the characters of `text`), byte, gpt2, the name or path of a trained one, or the
    path of a published tokenizer.json or of its folder.

    Raises ConfigError for other names.
    """
    if name == "char":
        return CharTokenizer.from_text(text)
    if name == "byte":
        return ByteTokenizer()
    if name == "gpt2":
        return GPT2Tokenizer()
    path = tokenizer_path(str(name))
    if path.is_file() or str(name).endswith(SUFFIX):
        return BPETokenizer.load(path)
    published = Path(str(name))
    folder = published.parent if published.name == "tokenizer.json" else published
    if (folder / "tokenizer.json").is_file():
        return JsonTokenizer(folder)
    raise ConfigError(
        f"tokenizer {name!r} is unknown; expected char, byte or gpt2, the path of a file *{SUFFIX} or tokenizer.json, "
        f"the folder of the latter, or the name of a tokenizer in {path.parent}"
    )


def tokenizer_from_dict(d: dict[str, Any], where: str | Path = "") -> Tokenizer:
    """Restore the tokenizer that `to_dict` described. Raises ConfigError if its vocabulary has changed.

    where: the folder that the description's path is relative to
    """
    folder = os.path.join(where, d["folder"]) if d.get("folder") else None
    if d.get("name") == "tokenizer.json":
        tokenizer: Tokenizer = JsonTokenizer(folder or where)
    elif d.get("name") == "gpt2":
        tokenizer = GPT2Tokenizer(folder)
    elif d.get("name") == "bpe":
        tokenizer = BPETokenizer.load(os.path.join(folder or where, d.get("file", "")))
    else:
        tokenizer = make_tokenizer(d.get("name", ""), d.get("characters", ""))
    if tokenizer.fingerprint != d.get("fingerprint"):
        raise ConfigError(
            f"{tokenizer.name} tokenizer: expected the vocabulary with sha256 {d.get('fingerprint')!s:.12}, "
            f"found {tokenizer.fingerprint:.12}; the same ids would mean other tokens; use the "
            "original files"
        )
    return tokenizer


def _code_points(text):
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _some(characters):
    """How many characters, and the first of them, for a message."""
    count = f"{len(characters)} character{'s' if len(characters) > 1 else ''}"
    return f"{count}: {characters[:70]!r}{' and more' if len(characters) > 70 else ''}"
