"""Steps of a policy gradient: what is drawn, from which weights, and what it is judged by."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from small_gpt import shaken, tiny

from tinygrad_lm.data.synthetic.sums import sums
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.prompts import prompt_of
from tinygrad_lm.posttrain.policy.method import METHODS, Method, in_iterations
from tinygrad_lm.posttrain.policy.policy import PolicySteps
from tinygrad_lm.posttrain.policy.rollouts import as_batch
from tinygrad_lm.posttrain.policy.success import failure, verified
from tinygrad_lm.posttrain.reward import scored
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.objective import IGNORED
from tinygrad_lm.train.pace import Steps

CHAT = Chat(CharTokenizer("+0123456789="))
PROMPTS = [prompt_of(conversation) for conversation in sums(6)]


def a_model(**changes):
    sizes = {"vocab_size": CHAT.vocab_size, "block_size": 20, "n_embd": 16}
    return shaken(tiny("modern", **sizes | changes))


def steps_of(model, method=None, reference=None, judge=verified, shares=2, **changes):
    config = TrainConfig(**{"steps": 8, "batch_size": 8} | changes)
    method = method or Method(limit=5, group=4)
    return PolicySteps(model, reference or model, CHAT, PROMPTS, judge, method, config, shares)


def test_at_the_beginning_there_is_no_divergence():
    """Not 1e-16: policy and reference are computed alike."""
    model = a_model()
    steps = steps_of(model, reference=deepcopy(model))
    steps(0)
    figures = steps.figures(0, 0.5)
    assert figures["kl"] == figures["kl3"] == 0
    assert figures["surrogate"] == 0.5
    assert list(figures)[:2] == ["reward", "kl"]  # what the progress bar shows: not the surrogate


def test_samples_are_a_function_of_weights_seed_and_step():
    """Not of what was drawn before, nor of how many threads draw."""
    model = a_model()
    once = [steps_of(model)(step) for step in range(3)]
    with workers(2):
        again = [steps_of(model)(step) for step in (2, 1, 0)][::-1]
    for found, right in zip(again, once, strict=True):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, right, strict=True))
    assert len({batch[1].tobytes() for batch in once}) == 3
    other = steps_of(model, seed=1)(0)
    assert other[1].tobytes() != once[0][1].tobytes()


def test_dropout_is_for_the_step_alone():
    """Neither what is drawn nor its log-probabilities know of it."""
    model = a_model()
    dropping = a_model(dropout=0.5)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(steps_of(model)(0), steps_of(dropping)(0), strict=True))


def test_answers_are_drawn_once_in_an_iteration():
    model = a_model()
    steps = steps_of(model, Method(limit=5, group=4, passes=2))
    first = steps(0)
    model.flat.data *= 1.1
    assert steps(1) is first
    assert steps(2)[1].tobytes() != first[1].tobytes()


def test_every_prompt_has_its_turn():
    """An epoch has each prompt once, in another order than the next."""
    steps = steps_of(a_model())
    epochs = [[steps.prompt(6 * epoch + i).messages[0]["content"] for i in range(6)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(prompt.messages[0]["content"] for prompt in PROMPTS)
    assert len(set(map(tuple, epochs))) > 1
    assert steps.used(3) == {"prompts": {"epochs": 1.0}}


def test_a_group_has_one_prompt():
    tokens, targets, *_ = steps_of(a_model())(0)
    before = [
        row[: (row_targets != IGNORED).argmax() + 1].tolist() for row, row_targets in zip(tokens, targets, strict=True)
    ]
    assert (
        before[0] == before[1] == before[2] == before[3] == CHAT.prompt(steps_of(a_model()).prompt(0).messages).tolist()
    )
    assert before[4] == before[7] != before[0]


def test_an_answer_that_does_not_end_has_failed():
    """The right digits do not help where the end is missing, though the text is the same."""
    right = CHAT.answer(PROMPTS[0].answer)
    answers = as_batch(CHAT, [PROMPTS[0]] * 3, [right, right[:-1], CHAT.answer("99")])
    assert answers.texts[:2] == [PROMPTS[0].answer] * 2
    assert answers.ended.tolist() == [True, False, True]
    assert verified(answers).tolist() == [1.0, 0.0, 0.0]


def test_the_end_is_learnt():
    """The last target of an answer that ended is the end; and the first is predicted at the prompt's last token."""
    answers = as_batch(CHAT, PROMPTS[:2], [CHAT.answer("12"), CHAT.answer("345")])
    for prompt, tokens, targets, n in zip(PROMPTS, answers.tokens, answers.targets, (3, 4), strict=False):
        ids = CHAT.prompt(prompt.messages)
        learnt = np.flatnonzero(targets != IGNORED)
        assert learnt.tolist() == list(range(len(ids) - 1, len(ids) - 1 + n))
        assert tokens[: len(ids)].tolist() == ids.tolist()
        assert targets[learnt[-1]] == CHAT.end


@pytest.mark.slow
def test_the_probability_of_success_is_exact():
    """It is that of the one right answer, and the mean of many draws."""
    model = a_model(n_embd=16)
    model.flat.data *= 0.1  # all tokens about as likely, so that right answers are drawn at times
    prompts = [prompt._replace(answer="1") for prompt in PROMPTS[:2]]
    wrong, by_task = failure(model, CHAT, prompts, 5)
    steps = PolicySteps(model, model, CHAT, prompts, verified, Method(limit=2, group=2000), TrainConfig(1, 4000), 1)
    steps(0)
    assert by_task == {"sum": wrong}
    p, figures = 1 - wrong, steps.figures(0, 0.0)
    assert abs(figures["reward"] - p) < 5 * (p * (1 - p) / 4000) ** 0.5


def test_where_nothing_differs_nothing_is_learnt():
    """A group of equal rewards: all advantages 0, and it is counted."""
    for name in ("rloo", "dr-grpo", "grpo"):
        steps = steps_of(a_model(), Method(**METHODS[name] | {"limit": 5, "group": 4}), judge=lambda a: np.ones(8))
        _, _, advantages, _ = steps(0)
        assert not advantages.any()
        assert steps.figures(0, 0.0)["silent"] == 1


def test_values_come_with_a_value_head():
    model = scored(a_model())
    steps = steps_of(model, Method(**METHODS["ppo"] | {"limit": 5}), reference=a_model())
    _, targets, advantages, _, returns = steps(0)
    assert np.array_equal(np.isnan(returns), targets == IGNORED)
    agree(returns[targets != IGNORED], advantages[targets != IGNORED], "returns where all values are 0", 1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "batch_size must be a multiple of the group's 4 answers, found 6"),
        ({"method": Method(limit=50)}, "the longest prompt has 10 tokens, which leaves no room for answers of 50"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        steps_of(a_model(), **changes)


def test_settings_are_checked_together():
    with pytest.raises(ConfigError) as caught:
        Method(advantage="best", length="short", beta=-1, group=0, limit=0, passes=0, clip=1.5, lam=2, value_weight=-1)
    for name in ("advantage", "length", "beta", "group", "limit", "passes", "clip", "lam", "value_weight"):
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="group must be at least 2"):
        Method(group=1)


def test_a_run_ends_between_iterations():
    config = in_iterations(TrainConfig(101, 8, eval_every=7), 4)
    assert config == replace(config, steps=100, eval_every=8)
    assert all(step % 4 == 0 for step in range(1, 101) if Steps(config).evaluates(step))
