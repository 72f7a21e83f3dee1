"""Modules: names, and the one array that all parameters are slices of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import differentiate, random_tokens, shaken, tiny

from tinygrad_lm import nn
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.nn.layers import Dropout, Linear
from tinygrad_lm.nn.module import Module

SHAPES = {
    "wte.weight": (7, 8),
    "wpe.weight": (5, 8),
    "h.0.attn.c_q.weight": (8, 8),
    "h.0.attn.c_k.weight": (8, 4),
    "h.0.attn.c_v.weight": (8, 4),
    "h.0.attn.c_proj.weight": (8, 8),
    "h.0.mlp.c_fc.weight": (8, 32),
    "h.0.mlp.c_proj.weight": (32, 8),
    "h.0.ln_1.weight": (8,),
    "h.0.ln_1.bias": (8,),
    "h.0.attn.c_q.bias": (8,),
    "h.0.attn.c_k.bias": (4,),
    "h.0.attn.c_v.bias": (4,),
    "h.0.attn.c_proj.bias": (8,),
    "h.0.ln_2.weight": (8,),
    "h.0.ln_2.bias": (8,),
    "h.0.mlp.c_fc.bias": (32,),
    "h.0.mlp.c_proj.bias": (8,),
    "ln_f.weight": (8,),
    "ln_f.bias": (8,),
}


def small(**options):
    return GPT(tiny("gpt2", n_layer=1, n_kv_head=1), **options)


def test_names_and_shapes():
    """Matrices first, then vectors, each in the order of their making."""
    model = small()
    assert {name: p.shape for name, p in model.flat.items()} == SHAPES
    assert list(model.flat) == list(SHAPES)
    assert dict(model.named_modules())["h.0.attn.c_q"] is model.h[0].attn.c_q
    assert model.h[0].attn.name == "h.0.attn"
    assert "parameter h.0.mlp.c_fc.bias" in model.h[0].mlp.c_fc.bias.describe()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_parameters_and_gradients_are_views_of_flat_arrays(dtype):
    flat = small(dtype=np.dtype(dtype)).flat
    assert flat.data.shape == flat.grad.shape == (sum(p.size for p in flat.values()),)
    assert flat.data.dtype == flat.grad.dtype == dtype
    flat.data[...] = np.arange(flat.data.size)
    flat.grad[...] = -flat.data
    start = 0
    for name, p in flat.items():
        expected = np.arange(start, start + p.size).reshape(p.shape)
        assert np.array_equal(p.data, expected), name
        assert np.array_equal(p.grad, -expected), name
        assert p.data.flags.c_contiguous
        assert p.data.dtype == dtype
        start += p.size
    assert start == flat.data.size  # every entry belongs to a parameter


def test_gradients_add_up_in_the_flat_array_until_zeroed():
    model = shaken(tiny("gpt2"))
    x, y = random_tokens(model.config, B=2, T=5)
    _, once = differentiate(model, x, y)
    assert once.any()
    flat = model.flat.grad
    model(x).sum().backward()
    assert not np.array_equal(flat, once)
    model.flat.zero_grad()
    assert not flat.any()
    assert model.wte.weight.grad.base is flat
    differentiate(model, x, y)
    assert np.array_equal(flat, once)


@given(names=st.sets(st.sampled_from(list(SHAPES))))
def test_runs_are_few_and_cover_the_named_parameters(names):
    flat = small().flat
    runs, covered = flat.runs([flat.slices[name] for name in names]), np.zeros(flat.data.size, int)
    for run in runs:
        covered[run] += 1
    for name, here in flat.slices.items():
        assert (covered[here] == (name in names)).all(), name
    flags = [name in names for name in flat]
    assert len(runs) == sum(now and not before for before, now in zip([False, *flags], flags, strict=False))


# ---- load


def arrays_of(model):
    return {name: p.data.copy() for name, p in model.flat.items()}


def test_load():
    model, other = small(seed=1), small(seed=2)
    model.flat.load({name: x.astype(np.float64) for name, x in arrays_of(other).items()})
    assert np.array_equal(model.flat.data, other.flat.data)
    assert model.wte.weight.dtype == np.float32


def test_load_lists_all_that_does_not_fit_and_copies_nothing():
    model = small(seed=1)
    before, arrays = model.flat.data.copy(), arrays_of(small(seed=2))
    del arrays["ln_f.bias"]
    arrays["ln_f.gain"] = np.zeros(8, np.float32)
    arrays["wte.weight"] = arrays["wte.weight"].T
    with pytest.raises(CheckpointError) as caught:
        model.flat.load(arrays)
    assert str(caught.value).split("\n  ") == [
        "weights do not fit the model:",
        "ln_f.bias is missing",
        "ln_f.gain is not a parameter of this model",
        "wte.weight has shape (8, 7), expected (7, 8)",
    ]
    assert np.array_equal(model.flat.data, before)


# ---- modules of one's own


class Pair(Module):
    def __init__(self):
        self.layers = [Linear(2, 3), Linear(3, 1, bias=False)]
        self.sizes = [2, 3]
        self.again = Dropout(0.5)


def test_lists_of_modules_are_numbered_and_other_lists_left_alone():
    pair = Pair().initialize(seed=3)
    assert list(pair.flat) == ["layers.0.weight", "layers.1.weight", "layers.0.bias"]
    assert [name for name, _ in pair.named_modules()] == ["", "layers.0", "layers.1", "again"]


def test_dropout_noise_depends_on_its_counters_and_its_place():
    a, b = Pair().initialize(), Pair().initialize()
    b.again.name = "elsewhere"
    x = np.ones((10, 10))
    noisy = lambda pair, *key: pair.again(x, Context(key=key)).data
    assert np.array_equal(noisy(a, 1, 2, 0), noisy(Pair().initialize(), 1, 2, 0))
    for other in (noisy(a, 1, 3, 0), noisy(a, 2, 2, 0), noisy(a, 1, 2, 1), noisy(b, 1, 2, 0)):
        assert not np.array_equal(noisy(a, 1, 2, 0), other)
    with no_grad():
        assert a.again(x) is x  # outside training


def test_a_parameter_s_gradient_is_cleared_in_its_place():
    """One that let go of its place in the flat array would never be trained again, in silence."""
    model = small()
    x, y = random_tokens(model.config, B=2, T=5)
    differentiate(model, x, y)
    expected = model.flat.grad.copy()
    model.wte.weight.zero_grad()
    assert not model.wte.weight.grad.any()
    assert not model.flat.grad[model.flat.slices["wte.weight"]].any()
    assert np.array_equal(differentiate(model, x, y)[1], expected)


def test_a_model_shows_its_names_shapes_and_counts():
    class Net(nn.Module):
        def __init__(self):
            self.ln_1 = nn.LayerNorm(2)
            self.h = [nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3, bias=False)]

    net = nn.freeze(Net(), "h.2.*")
    assert repr(net).split("\n") == [
        "Net: 22 parameters",
        "  ln_1.weight                (2,)",
        "  ln_1.bias                  (2,)",
        "  h.*.weight                 (2, 2) × 2",
        "  h.*.bias                   (2,) × 2",
        "  h.*.weight                 (2, 3) frozen",
    ]
    assert repr(nn.Dropout(0.5)) == "Dropout: 0 parameters"


def test_a_parameter_has_the_methods_of_a_tensor():
    """What it is initialised with has another name than any of them."""
    p = nn.Linear(2, 3, std=1.0).initialize(seed=0).weight
    assert p.mean().item() == p.data.mean()
    assert p.initial == (0.0, 1.0)
