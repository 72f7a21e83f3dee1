"""What optimizers are given: they leave frozen parameters alone, and refuse what they cannot train."""

import re

import numpy as np
import pytest

from tinygrad_lm import Tensor, kernels, nn, optim
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models import GPT, GPTConfig

x = np.arange(8)[None]
EVERY = [optim.AdamW, optim.Muon]
every_optimizer = pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)


@pytest.fixture(autouse=True, params=[True, False], ids=["kernels", "definitions"])
def with_kernels_and_without(request):
    kernels.enable()
    if request.param:
        yield
        return
    with kernels.disabled():
        yield


def large(*frozen, **options):
    """Its table is longer than all other parameters together."""
    return nn.freeze(GPT(GPTConfig(1000, 8, n_layer=1, n_head=2, n_embd=64, **options)), *frozen)


def test_frozen_parameters_are_left_alone():
    model = large("wte.*")
    before = {name: p.data.copy() for name, p in model.flat.items()}
    optimizers = [optim.AdamW(model.parameters(), lr=1e-3), optim.Muon([p for p in model.parameters() if p.ndim == 2])]
    for optimizer in optimizers:
        assert all(p is not model.wte.weight for p in optimizer.parameters)
        for _ in range(2):
            model.loss(x, x).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, p in model.flat.items():
        assert np.isfinite(p.data).all()
        assert np.array_equal(p.data, before[name]) == (name == "wte.weight"), name


def test_only_those_that_were_given_are_trained():
    model = large()
    before = {name: p.data.copy() for name, p in model.flat.items()}
    given = [model.ln_f.weight, model.h[0].mlp.c_fc.weight, model.h[0].attn.c_q.bias, model.ln_f.weight]  # one twice
    model.loss(x, x).backward()
    optim.AdamW(iter(given)).step()
    names = {"ln_f.weight", "h.0.mlp.c_fc.weight", "h.0.attn.c_q.bias"}
    assert {name for name, p in model.flat.items() if not np.array_equal(p.data, before[name])} == names
    expected = large()
    optimizer = optim.AdamW([expected.flat[name] for name in sorted(names)])
    expected.loss(x, x).backward()
    optimizer.step()
    assert np.array_equal(model.flat.data, expected.flat.data)  # in any order, and each once


@every_optimizer
def test_the_order_in_which_they_are_given_does_not_matter(make):
    models, states = (large(), large()), []
    given = [[p for p in model.parameters() if p.ndim == 2] for model in models]
    for model, parameters in zip(models, (given[0], given[1][::-1]), strict=True):
        optimizer = make(parameters)
        for _ in range(3):
            model.loss(x, x).backward()
            optimizer.step()
            optimizer.zero_grad()
        states.append(optimizer.state())
    assert np.array_equal(models[0].flat.data, models[1].flat.data)
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name])  # so either can resume the other


def generator():
    yield from ()


ONE, OTHER = large(), large()
UNPLACED = nn.Linear(2, 2)


@every_optimizer
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wte.weight", "expected parameters, found a str; model.parameters()"),
        (ONE.flat, "expected parameters, found a FlatParameters; model.parameters()"),
        ({"w": ONE.wte.weight}, "expected parameters, found a dict; model.parameters()"),
        (ONE, "expected parameters, found a GPT; model.parameters()"),
        (None, "expected parameters, found a NoneType; model.parameters()"),
        ([], "no parameters were given, so there is nothing to train"),
        (generator(), "no parameters were given, so there is nothing to train"),
        (large("*").parameters(), "parameters belong to no initialised module"),  # a model that is no more
        (UNPLACED.parameters(), "2 of 2 parameters belong to no initialised module"),
        ([ONE.wte.weight, nn.Parameter(2, 3)], "1 of 2 parameters belong to no initialised module"),
        ([Tensor(np.ones((2, 2)), requires_grad=True)], "1 of 1 parameters belong to no initialised module"),
        ([ONE.wte.weight, ONE.wte.weight.data], "1 of 2 parameters belong to no initialised module"),
        ([ONE], "1 of 1 parameters belong to no initialised module"),
        (["wte.weight", "typo"], "2 of 2 parameters belong to no initialised module that still exists:\n  'wte"),
        ([*ONE.h[0].mlp.c_fc.parameters()[:1], OTHER.wte.weight], "the parameters are of several models"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_when_the_optimizer_is_made(make, given, message):
    with pytest.raises(ConfigError, match=f"^{make.__name__}: .*{re.escape(message)}"):
        make(given)


@every_optimizer
def test_frozen_parameters_alone_are_refused(make):
    model = large("*")
    for given in (model.parameters(), [model.wte.weight]):
        with pytest.raises(ConfigError, match=rf"^{make.__name__}: all {len(given)} parameters are frozen"):
            make(given)


def test_vectors_are_not_for_muon():
    model = large()
    with pytest.raises(ConfigError) as caught:
        optim.Muon([model.wte.weight, model.ln_f.weight, model.h[0].attn.c_q.bias])
    assert str(caught.value) == (
        "Muon: it trains matrices, found ln_f.weight (64,), h.0.attn.c_q.bias (64,)\n  hint : give these to AdamW"
    )
    nn.freeze(model, "*.bias", "ln_f.*", "h.0.ln_*")
    optim.Muon(model.parameters())  # the vectors are all frozen, and left out


@every_optimizer
def test_zero_grad_clears_all_gradients_of_the_model(make):
    model = large()
    optimizer = make([model.h[0].mlp.c_fc.weight])
    model.loss(x, x).backward()
    once, view = model.flat.grad.copy(), model.wte.weight.grad
    optimizer.zero_grad()
    assert not model.flat.grad.any()
    assert model.wte.weight.grad is view
    model.loss(x, x).backward()
    assert once.any()
    assert np.array_equal(model.flat.grad, once)


def test_kernels_trust_no_sizes():
    """Arrays of different lengths are an error of NumPy's, not a write out of bounds."""
    w, g = np.ones(100, np.float32), np.ones(10, np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        optim.adamw.update(w, g, w.copy(), w.copy(), 0.1, 0.9, 0.99, 0.1, 0.01, 1e-8, 0.0)
