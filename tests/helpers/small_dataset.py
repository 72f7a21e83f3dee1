"""A dataset small enough for a test, in the layout of tinygrad_lm/data/mixture/dataset.py."""

import hashlib
import json
import random

import numpy as np
from small_run import WORDS

from tinygrad_lm.data.shards import shard_header, token_dtype
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.files import seal

CHARACTERS = CharTokenizer("".join(sorted(set("".join(WORDS) + "0123456789+=\n"))))


def cats(seed, k=300):
    return "".join(random.Random(seed).choices(WORDS, k=k))


def sums(seed, k=150):
    rng = random.Random(seed)
    pairs = [(rng.randrange(5), rng.randrange(5)) for _ in range(k)]
    return "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)


def write_dataset(folder, sources, tokenizer=CHARACTERS):
    """Write a dataset. sources: {name: {"weight": "3/5", "train": [tokens of each shard], "val": […], "floor": …}}."""
    folder.mkdir(parents=True)
    manifest = {"tokenizer": tokenizer.to_dict() | {"folder": "tokenizer"}, "mixture": {}, "sources": {}}
    (folder / "tokenizer").mkdir()
    for name, content in tokenizer.contents().items():
        (folder / "tokenizer" / name).write_bytes(content)
    for name, source in sources.items():
        (folder / name).mkdir()
        entry = {"weight": source["weight"], "floor": {"train": None, "val": source.get("floor")}}
        for kind in ("train", "val"):
            shards = [
                write_shard(folder, f"{name}/{kind}_{i:06d}.bin", tokens, tokenizer.vocab_size)
                for i, tokens in enumerate(source.get(kind, []))
            ]
            tokens = sum(shard["tokens"] for shard in shards)
            entry[kind] = {"documents": 1, "tokens": tokens, "bytes": tokens, "shards": shards}
        manifest["sources"][name] = entry
    write_manifest(folder, manifest)
    return folder


def write_shard(folder, file, tokens, vocab_size):
    dtype = token_dtype(vocab_size)
    content = shard_header(len(tokens), dtype) + np.asarray(tokens).astype(dtype).tobytes()
    (folder / file).write_bytes(content)
    return {"file": file, "tokens": len(tokens), "sha256": hashlib.sha256(content).hexdigest()}


def write_manifest(folder, manifest):
    manifest = {key: value for key, value in manifest.items() if key != "seal"}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"seal": seal(manifest)}, indent=1))


def two_sources(folder, shift=0):
    """A dataset of cats and sums, 2/3 to 1/3; the sums have a floor. shift: chooses other texts"""
    encode = CHARACTERS.encode
    train = [encode(cats(shift, 200)), encode(cats(shift + 1, 100))]
    return write_dataset(
        folder,
        {
            "cats": {"weight": "2/3", "train": train, "val": [encode(cats(2, 60))]},
            "sums": {"weight": "1/3", "train": [encode(sums(3))], "val": [encode(sums(4, 30))], "floor": 0.9},
        },
    )


def with_end_of_text(folder):
    """A tokenizer of bytes with an end-of-text token, 256."""
    folder.mkdir()
    tokens = [*byte_letters().values(), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return GPT2Tokenizer(folder)
