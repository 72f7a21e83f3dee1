"""Text to token ids and back.

A vocabulary is a list of byte strings, and a token id is a place in it. The three tokenizers differ in what they list
(the characters of a text, all bytes, GPT-2's word pieces) and in how they cut a text up; the way back is the same.
"""

import codecs
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from tinygrad_lm.data.corpus import fetch
from tinygrad_lm.errors import ConfigError, DataError, TokenError


class Tokenizer:
    """What all tokenizers share: from ids to text. Each adds its `name`, its vocabulary and `encode`."""

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

    def decode(self, ids):
        """The text that the ids spell; U+FFFD stands for bytes that are not UTF-8. TokenError for an id of no token."""
        return b"".join(self._pieces(ids)).decode("utf-8", "replace")

    def stream(self, ids):
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


class CharTokenizer(Tokenizer):
    """One token for each character of a text, in the order of their code points."""

    name = "char"

    def __init__(self, characters):
        if not characters:
            raise TokenError("char tokenizer: an empty text has no characters to make a vocabulary of")
        super().__init__([c.encode() for c in characters])
        self.characters = characters  # sorted, none of them twice
        self._codes = _code_points(characters)

    @classmethod
    def from_text(cls, text):
        _utf8(text)  # refuses what is no text, and knows where it stands
        return cls("".join(sorted(set(text))))

    def encode(self, text):
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
                f"  hint       : leave them out, or train with tokenizer byte, which can express any text"
            )
        return ids

    def to_dict(self):
        return super().to_dict() | {"characters": self.characters}


class ByteTokenizer(Tokenizer):
    """One token for each byte of the text's UTF-8."""

    name = "byte"

    def __init__(self):
        super().__init__([bytes([b]) for b in range(256)])

    def encode(self, text):
        """(number of bytes,) int32."""
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int32)


class GPT2Tokenizer(Tokenizer):
    """The 50,257 tokens of GPT-2 (Radford et al. 2019), cut by tiktoken. Raises DataError where they cannot be had."""

    name = "gpt2"

    def __init__(self):
        self._bpe = _load_gpt2()
        super().__init__([self._bpe.decode_single_token_bytes(i) for i in range(self._bpe.n_vocab)])

    def encode(self, text):
        """(number of tokens,) int32. <|endoftext|> in the text is ordinary text, for a text cannot end itself."""
        _utf8(text)
        return np.array(self._bpe.encode_ordinary(text), np.int32)


def make_tokenizer(name, text):
    """The tokenizer of this name: char (with the characters of `text`), byte or gpt2; ConfigError for others."""
    if name == "char":
        return CharTokenizer.from_text(text)
    if name == "byte":
        return ByteTokenizer()
    if name == "gpt2":
        return GPT2Tokenizer()
    raise ConfigError(f"tokenizer {name!r} is unknown; expected char, byte or gpt2")


def from_dict(d):
    """The tokenizer that `to_dict` described. Raises ConfigError if it would give ids another meaning than then."""
    tokenizer = make_tokenizer(d.get("name"), d.get("characters", ""))
    if tokenizer.fingerprint != d.get("fingerprint"):
        raise ConfigError(
            f"{tokenizer.name} tokenizer: expected the vocabulary with sha256 {d.get('fingerprint')}, found "
            f"{tokenizer.fingerprint}; ids would mean other tokens than in training, so take the original description"
        )
    return tokenizer


def _utf8(text):
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenError(
            f"the text has half a surrogate pair, {text[error.start]!r}, at position {error.start:,}, which UTF-8 "
            f"cannot express; it comes from input that was not UTF-8: decode that as what it is"
        ) from None


def _code_points(text):
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _some(characters):
    """The characters in a message: how many, and the first of them."""
    count = f"{len(characters)} character{'s' if len(characters) > 1 else ''}"
    return f"{count}: {characters[:70]!r}{' and more' if len(characters) > 70 else ''}"


def _load_gpt2():
    """tiktoken's GPT-2, from files that are sure to be there: left to itself it waits for a dead server for ever."""
    url = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    files = {
        "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    }
    stored = {name: hashlib.sha1((url + name).encode()).hexdigest() for name in files}  # as tiktoken's cache does
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    try:
        import tiktoken

        for name, sha256 in files.items():
            fetch(url + name, Path(folder or Path(tempfile.gettempdir(), "data-gym-cache"), stored[name]), sha256)
        return tiktoken.get_encoding("gpt2")
    except (ImportError, OSError, ValueError) as error:
        raise DataError(
            f"gpt2 tokenizer: {error}\n"
            f"  files : vocab.bpe and encoder.json of {url}\n"
            f"  hint  : use tokenizer char or byte; or pip install tiktoken, put the files into a folder as "
            f"{stored['vocab.bpe']} and {stored['encoder.json']}, and set TIKTOKEN_CACHE_DIR to it"
        ) from error
