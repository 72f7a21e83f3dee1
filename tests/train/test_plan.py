"""What a run by minutes is planned to be, from what a step and an evaluation take."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import small_run
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import plan
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.trainer import Trainer


@given(
    seconds=st.floats(1.0, 1e4), step=st.floats(1e-3, 30), target=st.floats(1e-6, 1e-2), every=st.sampled_from([0, 7]),
    sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=3), most=st.sampled_from([3, math.inf]),
)  # fmt: skip
def test_evaluations_on_the_way_take_a_tenth_of_the_time_at_most(seconds, step, target, every, sizes, most):
    config = plan.planned(TrainConfig(1, 1, eval_every=every), seconds, step, target, sizes, most)
    measured = sum(min(size, config.curve_tokens) for size in sizes)
    evaluations = config.steps / every if every else 5
    if config.curve_tokens > 1:
        assert evaluations * measured * target <= 0.1 * config.seconds + 1e-6
    assert 1 <= config.steps <= most
    seconds -= plan.OTHERS
    assert config.seconds == max(seconds, step)
    assert config.ending == pytest.approx(sum(sizes) * target / step)
    if 1 < config.steps < most:
        assert (config.steps + config.ending) * step + evaluations * measured * target <= seconds + 1e-6
        if config.curve_tokens > 1:
            assert (config.steps + 1 + config.ending) * step >= 0.9 * seconds - 1e-6


def test_no_more_steps_are_timed_than_time_allows(monkeypatch):
    """At least one, at most six."""
    batches = Batches(np.arange(400) % 7, 2, 5)
    trainer = Trainer(GPT(small_run.GPTConfig(7, 5, **small_run.MODEL)), batches, TrainConfig(10, 2))
    made = []
    monkeypatch.setattr(trainer, "steps", lambda first, count: made.append(first))
    monkeypatch.setattr(plan, "seconds_of", lambda function, *arguments: (function(*arguments), 2.0)[1])
    texts = {"text": (1, np.arange(400) % 7)}
    for longest, expected in ((0.1, [1]), (5.0, [1, 2, 3]), (99.0, [1, 2, 3, 4, 5, 6])):
        made.clear()
        assert plan.speed(trainer, texts, longest) == (2.0, 2.0 / (5 * 2 * trainer.threads))
        assert made == expected


def test_the_time_to_plan_is_part_of_the_time_and_the_time_to_compile_is_not(monkeypatch):
    """A minute, of which at most a fiftieth is to be measured; that takes 2 seconds, and the first step 100."""
    now, longest = [0.0], []

    def take(seconds):
        now[0] += seconds

    monkeypatch.setattr(plan, "world", lambda: SimpleNamespace(clock=lambda: now[0]))
    monkeypatch.setattr(plan, "speed", lambda *given: take(2) or longest.append(given[-1]) or (0.5, 1e-4))
    trainer = SimpleNamespace(config=TrainConfig(10, 2), threads=1, ahead=1, steps=lambda first, count: take(100))
    config = plan.within(1, trainer, {"text": (1, np.arange(400))})
    assert config.seconds == 60 - 2 - plan.OTHERS
    assert longest == [pytest.approx(60 / 50)]
