"""Answers and their scores on several ranks: each computes its part, and all have the bits of one process."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import thread_ranks
from small_gpt import shaken, tiny
from thread_ranks import together

from tinygrad_lm.data.synthetic.sums import sums
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.posttrain import reward
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.prompts import prompt_of
from tinygrad_lm.posttrain.policy import rollouts, success
from tinygrad_lm.posttrain.policy.rollouts import as_batch, draw_answers
from tinygrad_lm.posttrain.policy.success import loss_of_reward
from tinygrad_lm.posttrain.reward import judge, scored

CHAT = Chat(CharTokenizer("+0123456789="))
PROMPTS = [prompt_of(conversation) for conversation in ([*sums(6)] * 2)[:10]]
LIMIT = 5
ROWS = 4  # answers that are computed together: the last piece is smaller


@pytest.fixture
def models(monkeypatch):
    """(a policy, a reward model); threads of `together` are ranks."""
    monkeypatch.setattr("tinygrad_lm.distributed.dealing.world", lambda: thread_ranks.here.rank)
    monkeypatch.setattr(reward, "ROWS", ROWS)
    monkeypatch.setattr(success, "ROWS", ROWS)
    sizes = {"vocab_size": CHAT.vocab_size, "block_size": 20, "n_embd": 16}
    policy = shaken(tiny("modern", **sizes))
    model = scored(policy)
    model.score.weight.data = np.random.default_rng(0).standard_normal(model.score.weight.shape)
    return policy, model


@pytest.fixture
def drawn(monkeypatch):
    """How many answers each rank draws, by its number."""
    counts = Counter()

    def counted(model, chat, prompts, *others, draw_answers=draw_answers):
        counts[thread_ranks.here.rank.rank] += len(prompts)
        return draw_answers(model, chat, prompts, *others)

    monkeypatch.setattr(rollouts, "draw_answers", counted)
    return counts


def test_scores_are_those_of_one_process(models, monkeypatch):
    policy, model = models
    answers = as_batch(CHAT, PROMPTS, draw_answers(policy, CHAT, PROMPTS, LIMIT, 0, range(10)))
    judged = Counter()

    def counted(tokens, ends, reward=model.reward):
        judged[thread_ranks.here.rank.rank] += len(tokens)
        return reward(tokens, ends)

    monkeypatch.setattr(model, "reward", counted)
    (expected,) = together(1, lambda rank: judge(model, answers))
    for i in range(10):  # and each is what its answer gets alone, but for rounding
        alone = as_batch(CHAT, PROMPTS[i : i + 1], [answers.targets[i][answers.targets[i] >= 0].tolist()])
        np.testing.assert_allclose(together(1, lambda rank, alone=alone: judge(model, alone))[0], expected[i])
    judged.clear()
    for found in together(2, lambda rank: judge(model, answers)):
        assert found.tobytes() == expected.tobytes()
    assert judged == {0: 4 + 2, 1: 4}


def test_held_out_prompts_are_dealt_out(models, drawn):
    policy, model = models
    measure = lambda rank: loss_of_reward(partial(judge, model), policy, CHAT, PROMPTS, LIMIT)
    (expected,) = together(1, measure)
    answers = as_batch(CHAT, PROMPTS, draw_answers(policy, CHAT, PROMPTS, LIMIT, 0, range(10)))  # but for rounding
    assert -expected[0] == pytest.approx(together(1, lambda rank: judge(model, answers))[0].mean())
    drawn.clear()
    assert together(2, measure) == [expected] * 2
    assert drawn == {0: 4 + 2, 1: 4}
