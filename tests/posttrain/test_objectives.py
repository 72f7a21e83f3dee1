"""The objectives of post-training on batches: cut in any way, padded, alone or with others.

What they are, and what they climb, is held by the oracles (test_oracles_*.py).
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_but
from small_gpt import Given, shaken, tiny

from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import Context
from tinygrad_lm.posttrain.objectives import bradley_terry, dpo, policy_gradient, ppo
from tinygrad_lm.posttrain.reward import scored, whole_answers
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.objective import IGNORED
from tinygrad_lm.train.shares import Shares

FAMILIES = pytest.mark.parametrize("preset", slow_but(["gpt2", "modern"], "modern"))
ROWS = 4
OBJECTIVES = {
    "bradley_terry": bradley_terry,
    "dpo": partial(dpo, beta=0.7),
    "policy_gradient": partial(policy_gradient, clip=0.1),
    "ppo": partial(ppo, clip=0.1, value_weight=0.3),
}


def a_model(preset, **changes):
    """A ScoredGPT in float64 with weights and a head that say something."""
    model = scored(shaken(tiny(preset, **changes)))
    model.score.weight.data = np.random.default_rng(1).standard_normal(model.score.weight.shape)
    return model


def answers(rng, shape, T, V):
    """Tokens and targets (*shape, T) of answers of drawn lengths after prompts of drawn lengths."""
    tokens = rng.integers(0, V, (*shape, T))
    first, count = rng.integers(0, T - 1, (*shape, 1)), rng.integers(1, T, (*shape, 1))
    place = np.arange(T)
    drawn = (place >= first) & (place < first + count)
    return tokens, np.where(drawn, rng.integers(0, V, (*shape, T)), IGNORED)


def batch_for(name, rng, T=4, V=7):
    """A batch for an objective, of ROWS rows."""
    if name in ("bradley_terry", "dpo"):
        tokens, targets = answers(rng, (ROWS, 2), T, V)
        return (
            whole_answers(tokens, targets) if name == "bradley_terry" else (tokens, targets, rng.normal(size=(ROWS, 2)))
        )
    tokens, targets = answers(rng, (ROWS,), T, V)
    mask = targets != IGNORED
    numbers = rng.normal(size=(2, ROWS, T)) * mask
    numbers[1] -= 2 * mask  # old log-probabilities: what they would be, roughly
    returns = np.where(mask, rng.normal(size=(ROWS, T)), np.nan)
    return tokens, targets, *numbers, *(returns,) * (name == "ppo")


@FAMILIES
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@settings(max_examples=10)  # of each of 16: the lengths are what is drawn
@given(cut=st.sampled_from([(1, 2, 1), (1, 4, 2), (2, 2, 1), (4, 1, 1)]), seed=st.integers(0, 999))
def test_however_a_batch_is_cut_its_gradient_is_the_same(preset, name, dropout, cut, seed):
    """Micro-batches, shares and threads: one mean over all rows, whatever their lengths."""
    model, objective = a_model(preset, dropout=dropout), OBJECTIVES[name]
    batch = batch_for(name, np.random.default_rng(seed))
    loss, count = objective(model, batch, Context(key=(0, 3, 0)))
    loss.backward()
    right = model.flat.grad.copy()
    assert count == ROWS
    parts, shares, threads = cut
    parted = Given(lambda step, part: tuple(np.split(x, parts)[part] for x in batch))
    model.flat.zero_grad()
    with workers(threads):
        config = TrainConfig(10, ROWS // parts, accumulate=parts)
        found, count = Shares(model, parted, config, objective, shares, threads)(3)
    assert count == ROWS
    agree(found, loss.item(), "loss", 1e-12)
    agree(model.flat.grad / count, right, "gradient", 1e-12)


@FAMILIES
@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_what_pads_a_batch_changes_nothing(preset, name, seed):
    """Bitwise: the tokens behind an answer may be any."""
    model, objective = a_model(preset), OBJECTIVES[name]
    rng = np.random.default_rng(seed)
    batch = batch_for(name, rng)
    if name == "bradley_terry":
        padding = np.arange(batch[0].shape[-1]) > batch[1][..., None]
    else:
        padding = np.cumsum((batch[1] != IGNORED)[..., ::-1], axis=-1)[..., ::-1] == 0
    other = np.where(padding, rng.integers(0, 7, batch[0].shape), batch[0]), *batch[1:]
    found = []
    for tokens in (batch, other):
        model.flat.zero_grad()
        loss, _ = objective(model, tokens, Context())
        loss.backward()
        found.append((loss.item(), model.flat.grad.tobytes()))
    assert found[0] == found[1]


@FAMILIES
@given(seed=st.integers(0, 999))
def test_an_answer_is_worth_the_same_in_any_company(preset, seed):
    """Log-probabilities and rewards of a row alone, without padding, are those that it has in a batch; learned
    positions, too."""
    model = a_model(preset)
    tokens, targets = answers(np.random.default_rng(seed), (ROWS,), 4, 7)
    whole, ends = whole_answers(tokens, targets)
    with no_grad():
        logp, rewards = model.log_probability(tokens, targets).data, model.reward(whole, ends).data
        for i, end in enumerate(ends):
            alone = slice(i, i + 1), slice(0, end)
            agree(model.log_probability(tokens[alone], targets[alone]).data[0], logp[i, :end], "log P", 1e-12)
            agree(model.reward(whole[i : i + 1, : end + 1], ends[i : i + 1]).data[0], rewards[i], "reward", 1e-12)


def test_a_reward_model_reads_the_whole_answer():
    """Its last token, too, which a language model's inputs lack."""
    tokens, targets = np.array([[5, 6, 1, 0]]), np.array([[IGNORED, 1, 2, IGNORED]])
    whole, ends = whole_answers(tokens, targets)
    assert whole.tolist() == [[5, 6, 1, 2]]
    assert ends.tolist() == [3]


def test_a_new_head_changes_nothing_else():
    """Scores begin at 0, and the language model is the one that it was."""
    base = shaken(tiny("modern"))
    model, tokens = scored(base), np.array([[1, 2, 3]])
    with no_grad():
        assert model(tokens).data.tobytes() == base(tokens).data.tobytes()
        assert model.reward(tokens, np.array([2])).data.tolist() == [0.0]
