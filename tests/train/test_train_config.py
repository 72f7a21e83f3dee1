"""How a run is planned: when it evaluates, what trains which parameters, and what makes no sense."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import shaken, tiny

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.train.config import RECIPES, TrainConfig, make_optimizers


@given(steps=st.integers(1, 300), every=st.integers(0, 50))
def test_evaluations_are_regular_and_one_is_at_the_end(steps, every):
    config = TrainConfig(steps, 1, eval_every=every)
    when, every = [step for step in range(1, steps + 1) if config.evaluates(step)], every or max(1, round(steps / 5))
    assert when[-1] == steps
    assert when[:-1] == [every * (i + 1) for i in range(len(when) - 1)]
    assert all(every / 2 <= b - a <= 1.5 * every for a, b in pairwise(when))


@pytest.mark.parametrize("preset", RECIPES)
def test_every_recipe_trains_every_parameter_once(preset):
    model = shaken(tiny(preset))
    optimizers = make_optimizers(model.parameters, TrainConfig(10, **RECIPES[preset]))
    before = model.parameters.data.copy()
    model.parameters.grad[...] = np.random.default_rng(0).standard_normal(before.size)
    assert sum(optimizer.m.size for optimizer in optimizers) == before.size
    for optimizer in optimizers:
        optimizer.step()
    assert (model.parameters.data != before).all()


def test_a_training_configuration_names_all_its_problems():
    with pytest.raises(ConfigError) as caught:
        TrainConfig(0, -1, lr=math.nan, clip=-1.0, schedule="none", epochs=-1, seed=2**64)
    for name in ("steps", "batch_size", "lr", "clip", "schedule", "epochs", "seed"):
        assert f"{name} must be" in str(caught.value)


def test_the_linear_schedule_falls_from_the_first_step_to_the_last():
    config = TrainConfig(10, 1, schedule="linear", warmup=0)
    np.testing.assert_allclose([config.rate(step) for step in range(10)], np.arange(10, 0, -1) / 10)
