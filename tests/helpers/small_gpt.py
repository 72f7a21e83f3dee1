"""Small transformers for the tests: one of each preset, and any other that the configuration allows."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tinygrad_lm.adapt.lora import lora
from tinygrad_lm.data.loader import BatchStream
from tinygrad_lm.models.config import CHOICES, PRESETS, GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.module import freeze
from tinygrad_lm.ops import cross_entropy

SIZES = {"vocab_size": 7, "block_size": 5, "n_layer": 2, "n_head": 2, "n_kv_head": 0, "n_embd": 8, "dropout": 0.0}


def tiny(name, **changes):
    """A preset with its choices kept and its sizes small."""
    return replace(PRESETS[name], **SIZES | changes)


@st.composite
def configs(draw):
    """Any combination of choices, any sizes that fit each other, and a context T <= block_size for it."""
    choice = {name: draw(st.sampled_from(allowed)) for name, allowed in CHOICES.items()}
    switch = {name: draw(st.booleans()) for name in ("bias", "qk_norm", "tied", "zero_init", "gain", "gated")}
    G, R, D = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    D = 2 * D if choice["position"] == "rotary" else D
    sizes = {"n_layer": draw(st.integers(1, 3)), "n_head": G * R, "n_kv_head": G, "n_embd": G * R * D}
    if draw(st.booleans()):
        sizes |= {"n_embd": draw(st.integers(1, 9)), "n_head_embd": D, "n_hidden": draw(st.integers(1, 9))}
    V, block_size = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    numbers = {
        "softcap": draw(st.sampled_from([0.0, 3.0])),
        "norm_eps": draw(st.sampled_from([0.0, 1e-3])),
        "rope_base": draw(st.sampled_from([10000.0, 5e5])),
        "rope_scaling": draw(st.sampled_from([(), (8.0, 1.0, 4.0, 6), (8.0, 1.0, 4.0, 60)])),
    }
    config = GPTConfig(V, block_size, **sizes, **choice, **switch, **numbers)
    return config, draw(st.integers(1, block_size))


def shaken(config, seed=0, dtype=np.float64, rank=0, frozen=()):
    """A model with random numbers added to its first weights, so that none of them is zero.

    rank: of its adapters, if it is to have some; frozen: patterns of names.
    """
    model = GPT(config, seed, dtype)
    if rank:
        lora(model, rank, seed)
    weights = model.flat.data
    weights += 0.3 * np.random.default_rng(seed).standard_normal(len(weights))
    for name, p in model.flat.items():
        p.data *= 0.1 if "lora" in name else 1.0  # their product is scaled up by 32 / rank
    return freeze(model, *frozen)


class Given(BatchStream):
    """The batches that a function of (step, part) gives."""

    def __init__(self, batch):
        self.batch = batch

    def __call__(self, step, part=0):
        return self.batch(step, part)


def random_tokens(config, B, T, seed=0):
    """Inputs and targets, (B, T) each."""
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (B, T + 1))
    return tokens[:, :-1], tokens[:, 1:]


def differentiate(model, x, y, context=NONE):
    """The loss, a float, and all gradients as one flat array."""
    model.flat.zero_grad()
    loss = cross_entropy(model(x, context), y)
    loss.backward()
    return loss.item(), model.flat.grad.copy()
