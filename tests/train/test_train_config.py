"""How a run is planned: when it evaluates, what trains which parameters, and what makes no sense."""

import math
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import shaken, tiny

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.module import freeze
from tinygrad_lm.train.config import RECIPES, TrainConfig, build_model, make_optimizers
from tinygrad_lm.train.pace import Steps


@given(steps=st.integers(1, 300), every=st.integers(0, 50))
def test_evaluations_are_regular_and_one_is_at_the_end(steps, every):
    pace = Steps(TrainConfig(steps, 1, eval_every=every))
    when, every = [step for step in range(1, steps + 1) if pace.evaluates(step)], every or max(1, round(steps / 5))
    assert when[-1] == steps
    assert when[:-1] == [every * (i + 1) for i in range(len(when) - 1)]
    assert all(every / 2 <= b - a <= 1.5 * every for a, b in pairwise(when))


@pytest.mark.parametrize("preset", RECIPES)
def test_every_recipe_trains_every_parameter_once(preset):
    model = shaken(tiny(preset))
    optimizers = make_optimizers(model, TrainConfig(10, **RECIPES[preset]))
    before = model.flat.data.copy()
    model.flat.grad[...] = np.random.default_rng(0).standard_normal(before.size)
    assert sum(optimizer.m.size for optimizer in optimizers) == before.size
    for optimizer in optimizers:
        optimizer.step()
    assert (model.flat.data != before).all()


def test_a_training_configuration_names_all_its_problems():
    with pytest.raises(ConfigError) as caught:
        TrainConfig(0, -1, lr=math.nan, clip=-1.0, schedule="none", epochs=-1, seed=2**64)
    for name in ("steps", "batch_size", "lr", "clip", "schedule", "epochs", "seed"):
        assert f"{name} must be" in str(caught.value)


@pytest.mark.parametrize("name", ["lr", "muon_lr", "embedding_lr", "weight_decay", "clip"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_setting_without_end_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"configuration: {name} must be [^;]*, found {value}$"):
        TrainConfig(1, 1, **{name: value})


def test_the_linear_schedule_falls_from_the_first_step_to_the_last():
    config = TrainConfig(10, 1, schedule="linear", warmup=0)
    np.testing.assert_allclose([config.rate_factor(step) for step in range(10)], np.arange(10, 0, -1) / 10)


def test_the_constant_schedule_is():
    config = TrainConfig(10, 1, schedule="constant", warmup=0)
    assert [config.rate_factor(step) for step in range(10)] == [1.0] * 10


def test_with_everything_frozen_there_is_nothing_to_train():
    model = freeze(GPT(tiny("gpt2")), "*")
    with pytest.raises(ConfigError, match=f"all {len(model.flat)} parameters are frozen"):
        make_optimizers(model, TrainConfig(10, 1))


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize("frozen", [("wte.*",), ("h.1.*", "ln_f*"), ("h.0.*", "wpe.*", "wte.*"), ("*.mlp.*",)])
@pytest.mark.parametrize("lora", [0, 2])
def test_optimizers_move_what_is_trained_as_ever_and_the_rest_not_at_all(lora, frozen, preset):
    """Weight decay, momenta and all: after a step with the same gradients, bit for bit."""
    config = replace(TrainConfig(10, **RECIPES[preset]), weight_decay=0.3)
    whole = shaken(tiny(preset, tied=True), rank=lora)
    frozen = [pattern for pattern in frozen if any(fnmatchcase(name, pattern) for name in whole.flat)]
    model = build_model(whole.config, replace(config, lora=lora, frozen=frozen), np.float64, "cpu", None)
    model.flat.load({name: p.data for name, p in whole.flat.items()})
    before = {name: p.data.copy() for name, p in whole.flat.items()}
    rng = np.random.default_rng(0)
    for name in whole.flat.trained:
        whole.flat[name].grad[...] = rng.standard_normal(whole.flat[name].shape)
        if name in model.flat.trained:
            model.flat[name].grad[...] = whole.flat[name].grad
    for each in (whole, model):
        for optimizer in make_optimizers(each, config):
            optimizer.step()
    for name, p in model.flat.items():
        moved = name in model.flat.trained
        assert moved == (not any(fnmatchcase(name, pattern) for pattern in frozen) and (not lora or ".lora_" in name))
        assert np.array_equal(p.data, whole.flat[name].data if moved else before[name]), name
        assert moved == (p.data != before[name]).any(), name
