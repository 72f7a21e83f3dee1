"""More tokens for a model that is there: rows that are added to its embedding and to its head."""

from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_lm.backend import random, to_device
from tinygrad_lm.errors import check_ranges
from tinygrad_lm.nn.layers import Embedding, Linear


def grow(model: Any, vocab_size: int, known: int, seed: int = 0) -> Any:
    """Give a GPT `vocab_size` tokens, at least as many as it has, in place. Returns the model.

    known: how many of its rows belong to tokens; published models have some more, which no token has trained. The
    others are drawn from a normal distribution with the mean and the standard deviation of the known rows, channel by
    channel, so that the new tokens begin as an average token does (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"). They depend on the seed alone.
    """
    config, device = model.config, model.flat.device
    check_ranges("grow", {
        "vocab_size": (vocab_size, f"at least the model's {config.vocab_size}", vocab_size >= config.vocab_size),
        "known": (known, f"from 1 to the model's {config.vocab_size}", 1 <= known <= config.vocab_size),
    })  # fmt: skip

    def grown(table, name):
        """The known rows of a table (V, C), and drawn ones after them."""
        rows = to_device(table, "cpu")[:known]
        noise = random(seed, f"grow/{name}").standard_normal((vocab_size - known, rows.shape[1]))
        drawn = rows.mean(0, np.float64) + rows.std(0, np.float64) * noise
        return to_device(np.concatenate([rows, drawn.astype(rows.dtype)]), device)

    put(model, "wte", Embedding(vocab_size, config.n_embd), grown(model.wte.weight.data, "wte"))
    if model.lm_head is not None:
        head = Linear(config.n_embd, vocab_size, bias=False)
        put(model, "lm_head", head, grown(model.lm_head.weight.data.T, "lm_head").T)
    model.config = replace(config, vocab_size=vocab_size)
    return model.lay_out()


def put(model, name, module, weight):
    """Put a module with the given weight in place of another."""
    module.name, module.ready, module.weight.data = name, True, weight
    setattr(model, name, module)
