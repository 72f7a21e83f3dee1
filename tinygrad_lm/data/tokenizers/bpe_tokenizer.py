"""A tokenizer of one's own: the tokens that bpe.py learnt, or any others in tiktoken's format, cut by tiktoken.

It is a file NAME.tiktoken (ranks.py). After the ranks come the special tokens: <|endoftext|>, if nothing else is said.
If something else is, or words are cut by another pattern than GPT-2's, NAME.tiktoken.json beside it says so:

    {"special": ["<|endoftext|>", "<|user|>"], "pattern": "..."}
"""

import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np

from tinygrad_lm.data.corpus import cache_folder
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, PATTERN
from tinygrad_lm.data.tokenizers.ranks import read_ranks, write_ranks
from tinygrad_lm.data.tokenizers.vocabulary import Tokenizer, utf8
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import replace

SUFFIX = ".tiktoken"
DEFAULTS = {"special": [END], "pattern": PATTERN}


class BPETokenizer(Tokenizer):
    """tokens: [the bytes of each], in the order of their ranks; special: the texts of those that follow.

    A special token in a text is ordinary text, for a text cannot end itself.
    """

    name = "bpe"

    def __init__(self, tokens, special=(END,), pattern=PATTERN, path=f"bpe{SUFFIX}"):
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
            raise ConfigError(f"bpe tokenizer: the pattern {pattern!r} is no regular expression: {error}") from None

    @property
    def fingerprint(self):
        """That of the vocabulary; another pattern than GPT-2's changes it, for then a text has other ids."""
        vocabulary = super().fingerprint
        return vocabulary if self.pattern == PATTERN else sha256((vocabulary + self.pattern).encode()).hexdigest()

    @classmethod
    def load(cls, path):
        """Raises DataError if a file is missing or damaged."""
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

    def save(self, path):
        """Write it. Raises ConfigError, and changes nothing, if there is one already."""
        self.path = claim_path(path)
        try:
            for name, content in reversed(self.contents().items()):  # the ranks last: when they are there, all is
                replace(self.path.with_name(name), content)
        except OSError as error:
            raise ConfigError(f"tokenizer {path}: cannot be written: {error.strerror}; choose another place") from error

    def encode(self, text):
        """(number of tokens,) int32."""
        utf8(text)  # refuses what is no text
        return self._bpe.encode_to_numpy(text, disallowed_special=()).astype(np.int32)

    def to_dict(self):
        return super().to_dict() | {"folder": os.path.abspath(self.path.parent), "file": self.path.name}

    def contents(self):
        files = {self.path.name: write_ranks(self.tokens)}
        settings = {"special": self.special, "pattern": self.pattern}
        if unusual := {key: value for key, value in settings.items() if value != DEFAULTS[key]}:
            files[settings_path(self.path).name] = json.dumps(unusual, indent=1).encode()
        return files


def tokenizer_path(name):
    """The path of the tokenizer NAME: in the user's cache, unless it is the path NAME.tiktoken itself."""
    if name.endswith(SUFFIX):
        return Path(name)
    return cache_folder() / "tokenizers" / f"{name}{SUFFIX}"


def settings_path(path):
    """The path of the settings that go with the ranks at `path`."""
    return Path(f"{path}.json")


def claim_path(path):
    """The path, in a folder that is there. Raises ConfigError where a tokenizer is already."""
    for there in filter(os.path.exists, (path, settings_path(path))):
        raise ConfigError(
            f"tokenizer {there} exists; what was encoded with it would become unreadable, so give another name, or "
            "remove it first"
        )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"tokenizer {path}: cannot be written: {error.strerror}; choose another place") from error
    return Path(path)
