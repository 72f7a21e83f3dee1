"""Export a tokenizer as the files that transformers' AutoTokenizer loads."""

import json
from pathlib import Path

from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, GPT2Tokenizer, byte_letters
from tinygrad_lm.data.tokenizers.json_tokenizer import TEMPLATE, JsonTokenizer
from tinygrad_lm.data.tokenizers.ranks import halves
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer

KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", TEMPLATE)


def tokenizer_files(tokenizer):
    """{file name: content}. The exported tokenizer gives every text the same ids."""
    if isinstance(tokenizer, JsonTokenizer):
        paths = [Path(tokenizer.folder, name) for name in KEPT]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}
    if isinstance(tokenizer, GPT2Tokenizer):
        contents = {
            name: path.read_bytes() for name, path in zip(("vocab.json", "merges.txt"), tokenizer.files, strict=True)
        }
        ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END) if tokenizer.eot else {}
        return contents | {"tokenizer_config.json": json_bytes({"tokenizer_class": "GPT2Tokenizer"} | ends)}
    config, added = {"tokenizer_class": "PreTrainedTokenizerFast"}, []
    if isinstance(tokenizer, BPETokenizer):
        parts = byte_pairs(tokenizer.tokens, tokenizer.pattern)
        text = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added = [{"id": len(tokenizer.tokens) + i, "content": end} | text for i, end in enumerate(tokenizer.special)]
        config |= {"bos_token": END, "eos_token": END} if tokenizer.eot is not None else {}
    elif isinstance(tokenizer, ByteTokenizer):
        parts = byte_pairs(tokenizer.vocabulary, r"[\s\S]+")
    else:  # one token per character
        vocabulary = {c: i for i, c in enumerate(tokenizer.characters)}
        split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
        model = {
            "type": "WordLevel",
            "vocab": vocabulary,
            "unk_token": "",
        }  # no such token: unknown characters are errors
        parts = {"pre_tokenizer": split, "decoder": {"type": "Fuse"}, "model": model}
    head = {"version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None}
    return {"tokenizer.json": json_bytes(head | parts), "tokenizer_config.json": json_bytes(config)}


def byte_pairs(tokens, pattern):
    """The parts of a tokenizer.json that split a text as tiktoken does."""
    letters, ranks = byte_letters(), {token: rank for rank, token in enumerate(tokens)}
    spell = lambda token: "".join(letters[b] for b in token)
    merges = [[spell(half) for half in halves(token, ranks)] for token in tokens if len(token) > 1]
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, level]},
        "decoder": level,
        "model": {"type": "BPE", "vocab": {spell(token): i for i, token in enumerate(tokens)}, "merges": merges},
    }


def json_bytes(content):
    return json.dumps(content, indent=1, ensure_ascii=False).encode()
