"""The base class of tokenizers: a vocabulary is a list of byte strings, and a token id is an index into it."""

import codecs
import hashlib

import numpy as np

from tinygrad_lm.errors import TokenError


class Tokenizer:
    """Base class: decodes ids. A subclass adds `name`, a vocabulary and `encode`.

    eot: the id that ends a document; bos: the id that every prompt starts with; None if there is none

    encode(text, special=False) gives int32 (number of tokens,). A special token in a text, such as <|endoftext|>, is
    ordinary text, so that no text can end itself; with special=True it is the token.
    """

    eot = bos = None

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary  # list of bytes

    @property
    def ends(self):
        """All ids that end a text, `eot` among them."""
        return frozenset({self.eot} - {None})

    @property
    def vocab_size(self):
        return len(self.vocabulary)

    @property
    def fingerprint(self):
        """sha256 of the vocabulary in hex: equal exactly when the same ids mean the same bytes."""
        lengths = np.array([len(piece) for piece in self.vocabulary], "<u4")
        return hashlib.sha256(lengths.tobytes() + b"".join(self.vocabulary)).hexdigest()

    def decode(self, ids, before=()):
        """The text that the ids spell; invalid UTF-8 becomes U+FFFD. Raises TokenError for an invalid id.

        before: the preceding ids; in some tokenizers they decide whether a space comes first
        """
        return b"".join(self._pieces(ids)).decode("utf-8", "replace")

    def stream(self, ids, before=()):
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

    def to_dict(self):
        """What `tokenizer_from_dict` needs to restore it, JSON-able."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def contents(self):
        """{file name: bytes} of its files; a folder with these restores the tokenizer."""
        return {}


def utf8(text):
    """The text as bytes. Raises TokenError for half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenError(
            f"the text has half a surrogate pair, {text[error.start]!r}, at position {error.start:,}, which UTF-8 "
            "cannot express; the input was probably not UTF-8: decode it with its own encoding"
        ) from None
