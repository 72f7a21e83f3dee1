"""Conversations, and a small tokenizer of each kind to say them with."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st
from small_gpt import shaken, tiny

from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.run import RunFolder

LETTERS = "".join(map(chr, range(32, 127))) + "\né🦢"
TOKENIZERS = ("char", "byte", "bpe", "gpt2", "json")


def turns(*texts, system=None):
    """Messages: the user's, the assistant's, the user's, … texts."""
    messages = [{"role": role, "content": text} for text, role in zip(texts, ["user", "assistant"] * 9)]  # noqa: B905
    return messages if system is None else [{"role": "system", "content": system}, *messages]


CONVERSATIONS = [
    turns("Hello", "Hi there."),
    turns("2 + 2?", "4", "And 3 + 3?", "6"),
    turns("Who are you?", "A small model.", system="You answer briefly."),
]


def conversations(words=()):
    """Conversations of drawn texts, of which the words are parts."""
    parts = st.one_of(st.text(LETTERS, max_size=3), st.sampled_from(words) if words else st.nothing())
    text = st.lists(parts, max_size=4).map("".join)
    pairs = st.integers(1, 3).flatmap(lambda n: st.lists(text, min_size=2 * n, max_size=2 * n))
    return st.builds(lambda texts, system: turns(*texts, system=system), pairs, st.none() | text)


@cache
def tokenizer_named(name):
    """A small tokenizer of a kind, that can express LETTERS."""
    if name == "char":
        return CharTokenizer("".join(sorted(LETTERS)))
    if name == "byte":
        return ByteTokenizer()
    if name == "bpe":
        return BPETokenizer([*ALPHABET, b"th", b"the"])
    if name == "gpt2":
        if not os.environ.get("TIKTOKEN_CACHE_DIR"):
            pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
        return GPT2Tokenizer()
    return json_tokenizer(tempfile.mkdtemp())


# How Llama 3 and Qwen split a text into words.
WORDS = "|".join([
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])  # fmt: skip


def make_base(folder, tokenizer, **changes):
    """A run with a small model of one checkpoint, whose weights are as first drawn. Returns the model."""
    sizes = {"vocab_size": tokenizer.vocab_size, "block_size": 48, "n_embd": 16}
    config = tiny("modern-tiny", **sizes | changes)
    facts = {"dtype": "float32", "start": 0, "title": "", "shares": 1, "levels": {}, "floors": {}}
    run = RunFolder.create(folder, config, TrainConfig(1, 1), tokenizer, **facts)
    model = shaken(config, dtype="float32")
    run.write_checkpoint({"model": model.flat.arrays()}, 1)
    return model


def json_tokenizer(folder, special=("<|endoftext|>", "<s>"), extra=(), words=WORDS, settings=None):
    """The JsonTokenizer of a new tokenizer.json: bytes, a few merges and special tokens.

    extra: added tokens that are not special; words: the pattern of its words, None: spaces are ▁, as SentencePiece's
    settings: the content of tokenizer_config.json
    """
    pytest.importorskip("tokenizers")
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if words is None:
        library = Tokenizer(models.BPE(unk_token="<unk>"))
        library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        library.decoder = decoders.Metaspace(prepend_scheme="first")
        special, alphabet = [*special, "<unk>"], [*LETTERS, "▁"]
    else:
        library = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(words), "isolated")
        library.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + len(alphabet) + 40,
        special_tokens=list(special),
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    library.train_from_iterator(["the assistant and the user, the user's \n\n\n end_of_text | im_end|> "] * 3, trainer)
    library.add_tokens([AddedToken(text, special=False, normalized=False) for text in extra])
    library.save(os.path.join(folder, "tokenizer.json"))
    if settings is not None:
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | settings
        Path(folder, "tokenizer_config.json").write_text(json.dumps(settings))
    return JsonTokenizer(folder)
