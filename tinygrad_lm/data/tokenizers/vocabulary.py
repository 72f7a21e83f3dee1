"""The base class of tokenizers: a vocabulary is a list of byte strings, and a token id is an index into it."""

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_lm.errors import TokenError

Ids = NDArray[np.int32]


class Tokenizer:
    """Base class: decodes ids. A subclass adds `name`, a vocabulary and `encode`.

    eot: the id that ends a document; bos: the id that every prompt starts with; None if there is none
    """

    name = ""
    eot: int | None = None
    bos: int | None = None

    def __init__(self, vocabulary: list[bytes]):
        self.vocabulary = vocabulary  # list of bytes

    @property
    def ends(self) -> frozenset[int]:
        """All ids that end a text, `eot` among them."""
        return frozenset() if self.eot is None else frozenset({self.eot})

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary in hex: equal exactly when the same ids mean the same bytes."""
        lengths = np.array([len(piece) for piece in self.vocabulary], "<u4")
        return hashlib.sha256(lengths.tobytes() + b"".join(self.vocabulary)).hexdigest()

    def encode(self, text: str, special: bool = False) -> Ids:
        """The ids of a text, int32 (number of tokens,).

        A special token in a text, such as <|endoftext|>, is ordinary text, so that no text can end itself; with
        special=True it is the token.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no encode")

    def decode(self, ids: Iterable[int], before: Iterable[int] = ()) -> str:
        """The text that the ids spell; invalid UTF-8 becomes U+FFFD. Raises TokenError for an invalid id.

        before: the preceding ids; in some tokenizers they decide whether a space comes first
        """
        return b"".join(self._pieces(ids)).decode("utf-8", "replace")

    def stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """Decode incrementally: yield text as soon as its characters are complete."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self._pieces(ids):
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def _pieces(self, ids):
        for i in ids:
            if not 0 <= i < self.vocab_size:  # a negative index would silently count from the end
                raise TokenError(f"{self.name} tokenizer: id {i} is outside its vocabulary, 0 to {self.vocab_size - 1}")
            yield self.vocabulary[i]

    def to_dict(self) -> dict[str, Any]:
        """What `tokenizer_from_dict` needs to restore it, JSON-able."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def contents(self) -> dict[str, bytes]:
        """{file name: bytes} of its files; a folder with these restores the tokenizer."""
        return {}


def utf8(text: str) -> bytes:
    """The text as bytes. Raises TokenError for half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenError(
            f"the text has half a surrogate pair, {text[error.start]!r}, at position {error.start:,}, which UTF-8 "
            "cannot express; the input was probably not UTF-8: decode it with its own encoding"
        ) from None
