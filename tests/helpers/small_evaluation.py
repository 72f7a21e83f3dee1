"""Models, tokenizers and files for the tests of evaluation."""

import json
from types import SimpleNamespace

import numpy as np
from small_gpt import shaken, tiny

from tinygrad_lm import Tensor
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.evaluate.evaluator import Evaluator


class EndedTokenizer(ByteTokenizer):
    """Bytes, and a 257th token that ends a text."""

    eot = 256

    def __init__(self):
        super().__init__()
        self.vocabulary = [*self.vocabulary, b"<|endoftext|>"]


class Told:
    """A model that says what a function of the tokens (B, T) says: logits (B, T, V). It counts the windows it reads."""

    def __init__(self, logits, vocab_size=257, block_size=64):
        self.config = SimpleNamespace(vocab_size=vocab_size, block_size=block_size)
        self.flat = SimpleNamespace(device="cpu")
        self.function, self.shapes = logits, []

    def __call__(self, tokens):
        return self.logits(self.features(tokens))

    def features(self, tokens):
        assert 0 < tokens.shape[1] <= self.config.block_size
        self.shapes.append(tokens.shape)
        return Tensor.of(self.function(tokens))

    def logits(self, x):
        return x


def uniform(vocab_size=257, block_size=64, dtype=np.float64):
    """Every token is as likely as any other."""
    return Told(lambda tokens: np.zeros((*tokens.shape, vocab_size), dtype), vocab_size, block_size)


def fond_of(text, vocab_size=257, block_size=4096):
    """Likely are the bytes of the text, the later ones a little more."""
    scores = np.zeros(vocab_size)
    for i, byte in enumerate(text.encode()):
        scores[byte] = 20 + i / 1000
    return Told(lambda tokens: np.broadcast_to(scores, (*tokens.shape, vocab_size)), vocab_size, block_size)


def byte_gpt(block_size=48, seed=0, **changes):
    """A small transformer over EndedTokenizer's tokens, in float64."""
    return shaken(tiny("gpt2", vocab_size=257, block_size=block_size, n_layer=1, **changes), seed)


def ended(model, **settings):
    return Evaluator(model, EndedTokenizer(), **settings)


def json_file(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def values(results):
    """{metric: value}"""
    return {result.metric: result.value for result in results}
