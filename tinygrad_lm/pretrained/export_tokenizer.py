"""A tokenizer in the files that transformers' AutoTokenizer loads."""

import json
from pathlib import Path

from tinygrad_lm.data.gpt2_tokenizer import END, GPT2Tokenizer, byte_letters
from tinygrad_lm.data.json_tokenizer import JsonTokenizer
from tinygrad_lm.data.tokenizer import ByteTokenizer

KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def tokenizer_files(tokenizer):
    """{file name: content}. A text gives the same ids there."""
    if isinstance(tokenizer, JsonTokenizer):
        paths = [Path(tokenizer.folder, name) for name in KEPT]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}
    if isinstance(tokenizer, GPT2Tokenizer):
        contents = {
            name: path.read_bytes() for name, path in zip(("vocab.json", "merges.txt"), tokenizer.files, strict=True)
        }
        ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END) if tokenizer.eot else {}
        return contents | {"tokenizer_config.json": as_json({"tokenizer_class": "GPT2Tokenizer"} | ends)}
    if isinstance(tokenizer, ByteTokenizer):
        letters = byte_letters()
        vocabulary = {letters[b]: b for b in range(256)}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        model = {"type": "BPE", "vocab": vocabulary, "merges": []}
        parts = {"pre_tokenizer": level, "decoder": level, "model": model}
    else:  # a character a token
        vocabulary = {c: i for i, c in enumerate(tokenizer.characters)}
        split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": ""}  # none: what is unknown is an error
        parts = {"pre_tokenizer": split, "decoder": {"type": "Fuse"}, "model": model}
    head = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None}
    return {
        "tokenizer.json": as_json(head | parts),
        "tokenizer_config.json": as_json({"tokenizer_class": "PreTrainedTokenizerFast"}),
    }


def as_json(content):
    return json.dumps(content, indent=1, ensure_ascii=False).encode()
