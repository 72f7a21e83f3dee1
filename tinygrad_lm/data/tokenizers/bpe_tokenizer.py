"""A trained BPE tokenizer: tokens that bpe.py learnt, or any others in tiktoken's format; tiktoken encodes.

It is a file NAME.tiktoken (ranks.py). The special tokens follow the ranks; by default <|endoftext|> alone. Other
special tokens, or another pattern than GPT-2's, are in NAME.tiktoken.json beside it:

    {"special": ["<|endoftext|>", "<|user|>"], "pattern": "..."}
"""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from tinygrad_lm.data.corpus import cache_folder
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, PATTERN, encode_with_tiktoken
from tinygrad_lm.data.tokenizers.ranks import read_ranks, write_ranks
from tinygrad_lm.data.tokenizers.vocabulary import Ids, Tokenizer, utf8
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import replace

SUFFIX = ".tiktoken"
DEFAULTS: dict[str, Any] = {"special": [END], "pattern": PATTERN}


class BPETokenizer(Tokenizer):
    """tokens: [bytes of each token] in the order of their ranks; special: the texts of the tokens that follow."""

    name = "bpe"

    def __init__(
        self, tokens: Sequence[bytes], special: Sequence[str] = (END,), pattern: str = PATTERN,
        path: str | Path = f"bpe{SUFFIX}",
    ):  # fmt: skip
        self.tokens, self.special, self.pattern, self.path = tokens, list(special), pattern, Path(path)
        ranks = {token: rank for rank, token in enumerate(tokens)}
        ends = {text: len(tokens) + i for i, text in enumerate(self.special)}
        super().__init__([*tokens, *map(utf8, ends)])
        self.eot = ends.get(END)
        if len(ends) != len(self.special) or "" in ends:
            raise ConfigError(f"bpe tokenizer: special tokens must differ and not be empty, found {self.special}")
        try:
            import tiktoken

            self._bpe = tiktoken.Encoding(self.path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens=ends)
        except ImportError as error:
            raise DataError(f"bpe tokenizer: {error}; pip install tiktoken") from None
        except ValueError as error:
            raise ConfigError(f"bpe tokenizer: the pattern {pattern!r} is not a regular expression: {error}") from None

    @property
    def fingerprint(self) -> str:
        """The vocabulary's fingerprint; another pattern than GPT-2's changes it, because it changes a text's ids."""
        vocabulary = super().fingerprint
        return vocabulary if self.pattern == PATTERN else sha256((vocabulary + self.pattern).encode()).hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a tokenizer file. Raises DataError if it is missing or damaged."""
        settings = settings_path(path)
        try:
            found = json.loads(settings.read_bytes()) if settings.exists() else {}
            if not isinstance(found, dict) or not found.keys() <= DEFAULTS.keys():
                raise ConfigError(f"expected an object of {' and '.join(DEFAULTS)}, found {found!r:.100}")
            found = DEFAULTS | found
            if not isinstance(found["special"], list) or not all(isinstance(t, str) for t in found["special"]):
                raise ConfigError(f"special: expected a list of texts, found {found['special']!r:.100}")
            if not isinstance(found["pattern"], str):
                raise ConfigError(f"pattern: expected a text, found {found['pattern']!r:.100}")
            return cls(read_ranks(path), **found, path=path)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            raise DataError(f"tokenizer {settings} is damaged: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the tokenizer. Raises ConfigError, and changes nothing, if the file exists."""
        self.path = claim_path(path)
        try:
            files = reversed(self.contents().items())  # the ranks last: once they exist, the tokenizer is complete
            for name, content in files:
                replace(self.path.with_name(name), content)
        except OSError as error:
            raise ConfigError(f"tokenizer {path}: cannot be written: {error.strerror}; choose another place") from error

    def encode(self, text: str, special: bool = False) -> Ids:
        """(number of tokens,) int32. Raises TokenError for a text that tiktoken cannot split."""
        return encode_with_tiktoken(self._bpe, text, special)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"folder": os.path.abspath(self.path.parent), "file": self.path.name}

    def contents(self) -> dict[str, bytes]:
        files = {self.path.name: write_ranks(self.tokens)}
        settings = {"special": self.special, "pattern": self.pattern}
        if unusual := {key: value for key, value in settings.items() if value != DEFAULTS[key]}:
            files[settings_path(self.path).name] = json.dumps(unusual, indent=1).encode()
        return files


def tokenizer_path(name):
    """The path of the tokenizer `name`: `name` itself if it ends in .tiktoken, else a file in the user's cache."""
    if name.endswith(SUFFIX):
        return Path(name)
    return cache_folder() / "tokenizers" / f"{name}{SUFFIX}"


def settings_path(path):
    """The path of the settings file beside the ranks at `path`."""
    return Path(f"{path}.json")


def claim_path(path):
    """Create the path's folder and return the path. Raises ConfigError if a tokenizer exists there."""
    for there in filter(os.path.exists, (path, settings_path(path))):
        raise ConfigError(
            f"tokenizer {there} exists, and text encoded with it could no longer be decoded; choose another name, or "
            "remove it first"
        )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"tokenizer {path}: cannot be written: {error.strerror}; choose another place") from error
    return Path(path)
