"""Export a tokenizer as the files that transformers' AutoTokenizer loads."""

import json

from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, GPT2Tokenizer, byte_letters
from tinygrad_lm.data.tokenizers.json_tokenizer import TEMPLATE, JsonTokenizer
from tinygrad_lm.data.tokenizers.ranks import halves
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer

KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", TEMPLATE)


def tokenizer_files(tokenizer):
    """{file name: content}. The exported tokenizer gives every text the same ids."""
    if isinstance(tokenizer, JsonTokenizer):
        return {name: tokenizer.files[name] for name in KEPT if name in tokenizer.files}
    if isinstance(tokenizer, GPT2Tokenizer):
        contents = {
            name: path.read_bytes() for name, path in zip(("vocab.json", "merges.txt"), tokenizer.files, strict=True)
        }
        ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END) if tokenizer.eot else {}
        return contents | {"tokenizer_config.json": json_bytes({"tokenizer_class": "GPT2Tokenizer"} | ends)}
    config, added = {"tokenizer_class": "PreTrainedTokenizerFast"}, []
    if isinstance(tokenizer, BPETokenizer):
        parts = byte_pairs(tokenizer.tokens, tokenizer.pattern)
        added = [added_token(len(tokenizer.tokens) + i, end) for i, end in enumerate(tokenizer.special)]
        config |= {"bos_token": END, "eos_token": END} if tokenizer.eot is not None else {}
    elif isinstance(tokenizer, ByteTokenizer):
        parts = byte_pairs(tokenizer.vocabulary, r"[\s\S]+")
    else:  # one token per character
        vocabulary = {c: i for i, c in enumerate(tokenizer.characters)}
        model = {
            "type": "WordLevel",
            "vocab": vocabulary,
            "unk_token": "",
        }  # no such token: unknown characters are errors
        parts = {"pre_tokenizer": split(r"[\s\S]"), "decoder": {"type": "Fuse"}, "model": model}
    head = {"version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None}
    return {"tokenizer.json": json_bytes(head | parts), "tokenizer_config.json": json_bytes(config)}


def byte_pairs(tokens, pattern):
    """The parts of a tokenizer.json that split a text as tiktoken does."""
    letters, ranks = byte_letters(), {token: rank for rank, token in enumerate(tokens)}
    spell = lambda token: "".join(letters[b] for b in token)
    merges = [[spell(half) for half in halves(token, ranks)] for token in tokens if len(token) > 1]
    return byte_level([split(pattern)], {spell(token): i for i, token in enumerate(tokens)}, merges)


def byte_level(splits, vocabulary, merges, **others):
    """The parts of a tokenizer.json for byte pair encoding within the words that `splits` make.

    vocabulary: {token: id}; merges: [(left, right)]; bytes are written as `byte_letters`; others: of the model
    """
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, level]},
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges} | others,
    }


def split(pattern):
    """Cut a text where the pattern begins and ends."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def added_token(id, content, special=True):
    """A token that is looked for in a text before it is split."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, "special": special} | plain


def json_bytes(content):
    return json.dumps(content, indent=1, ensure_ascii=False).encode()
