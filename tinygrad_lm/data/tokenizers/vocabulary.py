"""What all tokenizers share: a vocabulary is a list of byte strings, and a token id is a place in it."""

import codecs
import hashlib

import numpy as np

from tinygrad_lm.errors import TokenError


class Tokenizer:
    """What all tokenizers share: from ids to text. Each adds its `name`, its vocabulary and `encode`.

    eot: the id that ends a document; bos: the one that every prompt starts with; None where there is none.
    """

    eot = bos = None

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary  # list of bytes

    @property
    def vocab_size(self):
        return len(self.vocabulary)

    @property
    def fingerprint(self):
        """sha256 of the vocabulary in hex: equal exactly when the same ids mean the same bytes."""
        lengths = np.array([len(piece) for piece in self.vocabulary], "<u4")
        return hashlib.sha256(lengths.tobytes() + b"".join(self.vocabulary)).hexdigest()

    def decode(self, ids, before=()):
        """The text that the ids spell; U+FFFD stands for bytes that are not UTF-8. TokenError for an id of no token.

        before: the ids in front of them, which decide in some tokenizers whether there is a space between.
        """
        return b"".join(self._pieces(ids)).decode("utf-8", "replace")

    def stream(self, ids, before=()):
        """decode, bit by bit: yields text as soon as its characters are complete, and never half a character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self._pieces(ids):
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def _pieces(self, ids):
        for i in ids:
            if not 0 <= i < self.vocab_size:  # a negative index would count from the end, in silence
                raise TokenError(f"{self.name} tokenizer: id {i} is outside its vocabulary, 0 to {self.vocab_size - 1}")
            yield self.vocabulary[i]

    def to_dict(self):
        """What `from_dict` needs to build it again, fit for JSON."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def contents(self):
        """{file name: bytes} of the files that it is made from; a folder with these makes it again."""
        return {}


def utf8(text):
    """The text as bytes. Raises TokenError for half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenError(
            f"the text has half a surrogate pair, {text[error.start]!r}, at position {error.start:,}, which UTF-8 "
            f"cannot express; it comes from input that was not UTF-8: decode that as what it is"
        ) from None
