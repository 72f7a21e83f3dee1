"""Adapters and frozen parameters: what they compute, and what is not computed for them."""

from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import configs, differentiate, random_tokens, shaken, tiny

from tinygrad_lm import Tensor, ops
from tinygrad_lm.adapt.inherit import inherit
from tinygrad_lm.adapt.lora import LoRALinear, lora, merge
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.nn.layers import Linear
from tinygrad_lm.nn.module import freeze
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree

LOWER = ("wte.*", "wpe.*", "h.0.*")


def frozen_copy(model, frozen, rank=0):
    """The same weights, some of them frozen besides those that adapters freeze."""
    twin = GPT(model.config, None, model.flat.data.dtype)
    if rank:
        lora(twin, rank)
    twin.flat.load({name: p.data for name, p in model.flat.items()})
    return freeze(twin, *frozen)


# ---- adapters


@given(n_in=st.integers(1, 5), n_out=st.integers(1, 5), rank=st.integers(1, 6), bias=st.booleans())
def test_an_adapter_by_its_equation_and_by_complex_step(n_in, n_out, rank, bias):
    """y = x w + b + 32/r x A B; every entry of the gradients of A, B and x."""
    rng = np.random.default_rng(0)
    layer = LoRALinear(Linear(n_in, n_out, bias), rank).initialize(0, np.complex128)
    values = {name: rng.standard_normal(p.shape) for name, p in layer.flat.items()}
    x, dy = rng.standard_normal((2, 3, n_in)), rng.standard_normal((2, 3, n_out))

    def y(**changes):
        v = {"x": x, "bias": 0.0} | values | changes
        return v["x"] @ (v["weight"] + 32 / rank * v["lora_a"] @ v["lora_b"]) + v["bias"]

    layer.flat.load(values)
    start = Tensor(x + 0j, requires_grad=True)
    result = layer(start)
    agree(result.data.real, y(), "value")
    result.backward(dy + 0j)
    for name, found in {"x": start.grad, "lora_a": layer.lora_a.grad, "lora_b": layer.lora_b.grad}.items():
        value = x if name == "x" else values[name]
        expected = np.empty(value.shape)
        for place in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[place] += 1e-30j
            expected[place] = (dy * y(**{name: moved}).imag).sum() / 1e-30
        agree(found.real, expected, f"gradient of {name}")


@given(drawn=configs(), rank=st.integers(0, 3), seed=st.integers(0, 99))
def test_merged_it_computes_the_same_with_no_adapter(drawn, rank, seed):
    config, T = drawn
    model, (x, _) = shaken(config, seed, rank=rank), random_tokens(config, 2, T, seed)
    assert bool(rank) == any("lora" in name for name in model.flat)
    expected = model(x).data
    assert merge(model) is model
    assert model.config == config
    assert list(model.flat) == list(GPT(config).flat)
    agree(model(x).data, expected, "logits")


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_with_new_adapters_a_model_computes_what_it_did(preset):
    """Bit for bit: B is zero. A is not, else neither would ever learn."""
    base = shaken(tiny(preset))
    model = lora(inherit(GPT(tiny(preset), 3, np.float64), base), rank=2, seed=3)
    x, y = random_tokens(base.config, 2, 5)
    assert np.array_equal(model(x).data, base(x).data)
    _, gradient = differentiate(model, x, y)
    assert model.h[0].attn.c_q.lora_b.grad.any()
    assert gradient.size == sum(p.size for name, p in model.flat.items() if ".lora_" in name)
    assert sorted(model.flat.trained) == sorted(name for name in model.flat if ".lora_" in name)


def test_other_adapters_than_those_that_were_there():
    """What the first have learned goes into the weights; the new ones start at zero."""
    base = shaken(tiny("gpt2"), rank=1)
    x, _ = random_tokens(base.config, 2, 5)
    expected = base(x).data
    merge(base)
    for rank in (0, 1, 3):
        model = inherit(GPT(tiny("gpt2"), 3, np.float64), base)
        if rank:
            lora(model, rank, seed=3)
        agree(model(x).data, expected, f"logits with rank {rank}")
        assert not rank or not model.h[1].mlp.c_fc.lora_b.data.any()


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_a_shorter_context_keeps_the_first_positions(preset):
    base = shaken(tiny(preset))
    model = inherit(GPT(tiny(preset, block_size=3), 3, np.float64), base)
    x, _ = random_tokens(base.config, 2, 3)
    assert np.array_equal(model(x).data, base(x).data)


def test_adapters_of_half_precision_are_folded_in_unrounded():
    single, half = (lora(GPT(tiny("gpt2"), dtype=dtype), 2) for dtype in ("float32", "bfloat16"))
    rng = np.random.default_rng(0)
    single.flat.data[...] = half.flat.data[...] = rng.standard_normal(single.flat.data.shape)
    expected, found = merge(single), merge(half)
    assert found.dtype == found(np.zeros((1, 2), int)).dtype == "bfloat16"
    assert found.flat.data.dtype == np.float32
    assert np.array_equal(found.flat.data, expected.flat.data)


def test_weights_that_cannot_be_inherited():
    base = shaken(tiny("gpt2"))
    with pytest.raises(ConfigError, match="block_size 6 is longer than the 5 positions"):
        inherit(GPT(tiny("gpt2", block_size=6)), base)
    with pytest.raises(CheckpointError, match=r"lm_head.weight is missing"):
        inherit(GPT(tiny("gpt2", tied=False)), base)


# ---- frozen parameters


@given(drawn=configs(), data=st.data())
def test_freezing_some_changes_no_gradient_of_the_others(drawn, data):
    """Bit for bit, whichever are frozen; those have no gradient, and no memory for one. Recomputed blocks, too."""
    config, T = drawn
    model, (x, y) = shaken(config), random_tokens(config, 2, T)
    differentiate(model, x, y)
    frozen = data.draw(st.sets(st.sampled_from(list(model.flat)), max_size=len(model.flat) - 1))
    for recompute in (False, True):
        twin = frozen_copy(model, frozen)
        if recompute:
            recomputed(*twin.h)
        _, gradient = differentiate(twin, x, y)
        assert set(twin.flat.trained) == set(twin.flat) - frozen
        assert gradient.size == sum(p.size for name, p in twin.flat.items() if name not in frozen)
        for name, p in twin.flat.items():
            if name in frozen:
                assert p.grad is None
            else:
                assert np.array_equal(p.grad, model.flat[name].grad), name


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_recomputed_adapters_learn_in_every_block(preset):
    """The first block's input needs no gradient, but what is inside does."""
    config, context = tiny(preset, dropout=0.3), Context(key=(1, 2, 0))
    x, y = random_tokens(config, 2, 5)
    _, gradient = differentiate(shaken(config, rank=2), x, y, context)
    model = shaken(config, rank=2)
    recomputed(*model.h)
    _, again = differentiate(model, x, y, context)
    assert gradient[model.flat.slices["h.0.attn.c_q.lora_b"]].any()
    assert np.array_equal(gradient, again)


def watched(monkeypatch, op):
    """A set that gets (address of an input, its place) for each gradient that the engine asks a rule's way back for."""
    asked = set()

    def rule(*inputs, **options):
        y, backward = unwatched(*inputs, **options)

        def ask(i, dx):
            asked.add((id(inputs[i]), i))
            return dx() if callable(dx) else dx

        return y, lambda dy: tuple(lambda i=i, dx=dx: ask(i, dx) for i, dx in enumerate(backward(dy)))

    unwatched = op.rule
    monkeypatch.setattr(op, "rule", rule)
    monkeypatch.setattr(op, "definition", rule)
    monkeypatch.setattr(op, "implementations", {})
    return asked


@pytest.mark.parametrize("frozen", [(), ("h.*.attn.*",), ("*.weight",), LOWER, ("ln_f.*", "h.1.mlp.c_proj.*")])
@pytest.mark.parametrize("rank", [0, 2])
def test_no_product_is_computed_for_a_frozen_matrix(rank, frozen, monkeypatch):
    """A linear layer's gradients are products that it offers to compute; only those that are wanted are asked for."""
    model = frozen_copy(shaken(tiny("gpt2", tied=False), rank=rank), frozen, rank)
    x, y = random_tokens(model.config, 2, 5)
    asked = watched(monkeypatch, ops.linear)
    differentiate(model, x, y)
    names = {id(p.data): name for name, p in model.flat.items() if p.ndim == 2}
    products = {names[address] for address, i in asked if i == 1}
    assert products == {name for name in model.flat.trained if model.flat[name].ndim == 2} - {
        "wte.weight",
        "wpe.weight",
    }


def test_below_all_that_is_trained_nothing_is_recorded():
    model = frozen_copy(shaken(tiny("gpt2", n_layer=3)), (*LOWER, "h.1.attn.*", "h.1.ln_1.*"))
    x, y = random_tokens(model.config, 2, 5)
    h = model.wte(x) + model.wpe(np.arange(5)[None])
    assert h.node is None
    h = model.h[0](h)
    assert h.node is None
    assert (h + model.h[1].attn(model.h[1].ln_1(h))).node is None
    assert model.h[1](h).node is not None
    nodes = ancestors(cross_entropy(model(x), y).node)
    assert [node.op.name for node in nodes if node.op].count("attention") == 1
    assert {node.name for node in nodes if node.op is None} == set(model.flat.trained)


def test_a_frozen_model_computes_the_same_and_records_nothing():
    model = shaken(tiny("modern"))
    x, _ = random_tokens(model.config, 2, 5)
    frozen = frozen_copy(model, ("*",))
    assert frozen(x).node is None
    assert frozen.flat.grad.size == 0
    assert np.array_equal(frozen(x).data, model(x).data)


def test_adapters_can_be_frozen_by_name_as_any_other():
    model = freeze(lora(GPT(tiny("gpt2")), 2), "h.0.*", "*.lora_a")
    assert model.flat.trained
    assert all(fnmatchcase(name, "h.1.*.lora_b") for name in model.flat.trained)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_pattern_that_fits_no_name(rank):
    model = shaken(tiny("gpt2"), rank=rank)
    trained = list(model.flat.trained)
    with pytest.raises(ConfigError) as caught:
        freeze(model, "wte.*", "h.2.*", "wqe")
    assert str(caught.value).split("\n")[0] == "freeze: no parameter is named 'h.2.*' or 'wqe'"
    assert "wte.weight, wpe.weight, h.0." in str(caught.value)
    assert "'h.[0-2].*'" in str(caught.value)
    assert model.flat.trained == trained  # not even wte
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(trained)
