"""More tokens for a model: what it knew it still does, and the new rows are drawn as an average token's."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import configs, differentiate, random_tokens, shaken, tiny

from tinygrad_lm.adapt.grow import grow
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.testing.checks import agree


@pytest.mark.slow
@settings(max_examples=30)
@given(drawn=configs(), more=st.integers(0, 3), lacking=st.integers(0, 3), rank=st.integers(0, 1))
def test_what_was_known_is_predicted_as_before(drawn, more, lacking, rank):
    """Tied or not, with adapters or without: the logits of known tokens, and a backward pass through the new ones."""
    config, T = drawn
    known, V = max(1, config.vocab_size - lacking), config.vocab_size + more
    before = shaken(config, rank=rank)
    model = grow(copy.deepcopy(before), V, known)
    assert model.config.vocab_size == V
    assert model.flat.keys() == before.flat.keys()
    x = np.random.default_rng(0).integers(0, known, (2, T))
    agree(model(x).data[..., :known], before(x).data[..., :known], "logits")
    assert model(x).shape == (2, T, V)
    differentiate(model, *random_tokens(model.config, 2, T))
    assert (model.lm_head is None) == config.tied


@pytest.mark.parametrize("name", ["gpt2", "modern-tiny"])
def test_new_rows_are_drawn_from_the_known_ones(name):
    config = tiny(name, vocab_size=300, n_embd=64)
    model = shaken(config)
    tables = {"wte": model.wte.weight.data.copy()}
    if model.lm_head is not None:
        tables["lm_head"] = model.lm_head.weight.data.T.copy()
    grow(model, 4000, 200)
    now = {"wte": model.wte.weight.data, "lm_head": model.lm_head and model.lm_head.weight.data.T}
    for table, before in tables.items():
        new = now[table][200:]
        assert (now[table][:200] == before[:200]).all()
        agree(new.mean(0), before[:200].mean(0), "mean of each channel", 5 * before.std() / len(new) ** 0.5)
        agree(new.std(0), before[:200].std(0), "standard deviation of each channel", 5 * before.std() / 2**0.5 / 60)
    if len(tables) == 2:
        assert abs(np.corrcoef(now["wte"][200:].ravel(), now["lm_head"][200:].ravel())[0, 1]) < 0.01


def test_the_draw_is_the_seed_s():
    grown = [grow(shaken(tiny("gpt2")), 9, 7, seed).wte.weight.data for seed in (0, 0, 1)]
    assert (grown[0] == grown[1]).all()
    assert (grown[0][7:] != grown[2][7:]).all()


def test_sizes_that_make_no_sense():
    with pytest.raises(
        ConfigError, match=r"vocab_size must be at least the model's 7, found 6; known must be from 1 to"
    ):
        grow(shaken(tiny("gpt2")), 6, 8)
