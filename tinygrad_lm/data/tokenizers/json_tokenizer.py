"""A tokenizer described by a tokenizer.json, through the library `tokenizers` (the extra `weights`)."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lm.data.tokenizers.vocabulary import Ids, Tokenizer, utf8
from tinygrad_lm.errors import DataError, TokenError

TEMPLATE = "chat_template.jinja"
NAMES: tuple[str, ...] = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")
NAMES += ("generation_config.json", "added_tokens.json", TEMPLATE)


class JsonTokenizer(Tokenizer):
    """The tokenizer.json of a model. Raises DataError if it is missing or damaged.

    folder: where the model is; files: {file name: content}, by default those of the folder
    ends: the end token of tokenizer_config.json, and those of config.json and generation_config.json; eot: the first of
    them; bos: the token that the tokenizer puts before a text
    """

    name = "tokenizer.json"

    def __init__(self, folder: str | Path, files: dict[str, bytes] | None = None):
        self.folder, path = folder, Path(folder, "tokenizer.json")
        try:
            import tokenizers

            self.files = read_files(folder) if files is None else files
            if (content := self.files.get(path.name)) is None:
                raise DataError("No such file")
            self._library = tokenizers.Tokenizer.from_str(content.decode())
            ends = self._end_ids()
        except ImportError as error:
            raise DataError(f"{path}: {error}; pip install 'tinygrad-lm[weights]'") from None
        except Exception as error:  # the library raises no other type
            raise DataError(f"{path}: expected the description of a tokenizer, found: {error}") from error
        self.eot, self._ends = next(iter(ends), None), frozenset(ends)
        self._library.encode_special_tokens = True  # special tokens in a text are ordinary text
        self._library.no_truncation()
        self._library.no_padding()
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._size = 1 + max(self._library.get_vocab(with_added_tokens=True).values())
        with suppress(Exception):  # a small vocabulary may lack "a"; such tokenizers have no bos
            text = self._library.encode("a", add_special_tokens=True)
            self.bos = text.ids[0] if text.special_tokens_mask[0] else None

    def _end_ids(self):
        """The ids that end a text, the tokenizer's own first. A chat model often has several."""
        settings = json_object(self.files, "special_tokens_map.json") | json_object(self.files, "tokenizer_config.json")
        own, found = settings.get("eos_token"), []
        for name in ("config.json", "generation_config.json"):
            found += end_ids(json_object(self.files, name))
        if wrong := [i for i in found if type(i) is not int or i < 0]:
            raise ValueError(f"eos_token_id must be ids, found {wrong[0]!r}")
        if own:
            found = [self._library.token_to_id(own["content"] if isinstance(own, dict) else own), *found]
        return [i for i in dict.fromkeys(found) if i is not None]

    @property
    def ends(self) -> frozenset[int]:
        return self._ends

    @property
    def vocab_size(self) -> int:
        return self._size

    @property
    def fingerprint(self) -> str:
        """sha256 of the file in hex."""
        return self._sha256

    @cached_property
    def _with_special(self):
        """The library's tokenizer that finds special tokens in a text."""
        library = type(self._library).from_str(self._library.to_str())
        library.encode_special_tokens = False
        return library

    def encode(self, text: str, special: bool = False) -> Ids:
        """(number of tokens,) int32. No special tokens are added."""
        utf8(text)
        try:
            ids = (self._with_special if special else self._library).encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises no other type
            raise TokenError(f"{self.name} tokenizer: the vocabulary cannot express this text: {error}") from None
        return np.array(ids, np.int32)

    def decode(self, ids: Iterable[int], before: Iterable[int] = ()) -> str:
        before = list(self._known(before))[-16:]  # context that may decide about a space
        return self._text([*before, *self._known(ids)])[len(self._text(before)) :]

    def _text(self, ids):
        return self._library.decode(ids, skip_special_tokens=False)

    def stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """Decode incrementally: yield text as soon as its characters are complete.

        The text of a token may depend on the one before it (the space before a text's first word is dropped), so it is
        decoded together with that. Text that ends in U+FFFD may be half a character, and a byte's token may turn out to
        be invalid UTF-8: these wait for the next token.
        """
        done, waiting = list(before), []
        for i in self._known(ids):
            waiting.append(i)
            text = self.decode(waiting, done)
            if not text.endswith("�") and not re.fullmatch("<0x[0-9A-F]{2}>", self._library.id_to_token(i) or ""):
                if text:
                    yield text
                done, waiting = waiting, []
        if waiting and (text := self.decode(waiting, done)):
            yield text

    def _known(self, ids):
        for i in ids:
            if not 0 <= i < self._size:
                raise TokenError(f"{self.name} tokenizer: id {i} is outside its vocabulary, 0 to {self._size - 1}")
            yield int(i)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"folder": os.path.abspath(self.folder)}

    def contents(self) -> dict[str, bytes]:
        return self.files


def read_files(folder):
    """{file name: content} of those files in a folder that describe a tokenizer and how it is used."""
    paths = [Path(folder, name) for name in NAMES]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def json_object(files, name):
    """The object in a JSON file; {} if there is no file."""
    return json.loads(files[name]) if name in files else {}


def end_ids(config):
    """The ids of eos_token_id, which is one, a list or null."""
    ids = config.get("eos_token_id")
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


def chat_template(files, folder):
    """The source of the chat template among the files of a folder, None if there is none. Raises DataError.

    It is a file, or a field of tokenizer_config.json: a text, or a list of named ones, of which "default" is meant.
    """
    try:
        if TEMPLATE in files:
            return files[TEMPLATE].decode()
        template = json_object(files, "tokenizer_config.json").get("chat_template")
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}["default"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: its chat template cannot be read: {type(error).__name__}: {error}") from error
    return template
