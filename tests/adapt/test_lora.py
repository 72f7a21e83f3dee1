"""Adapters and frozen parameters: what they compute, and what is not computed for them."""

from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import configs, differentiate, random_tokens, shaken, tiny

from tinygrad_lm import Tensor, ops
from tinygrad_lm.adapt.inherit import inherit, merge
from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.layers import Linear
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree

LOWER = ("wte.*", "wpe.*", "h.0.*")


def frozen_copy(model, frozen):
    """The same weights, some of them frozen."""
    twin = GPT(model.config, None, model.parameters.data.dtype, frozen=frozen)
    twin.parameters.load({name: p.data for name, p in model.parameters.items()})
    return twin


# ---- adapters


@given(n_in=st.integers(1, 5), n_out=st.integers(1, 5), rank=st.integers(1, 6), bias=st.booleans())
def test_an_adapter_by_its_equation_and_by_complex_step(n_in, n_out, rank, bias):
    """y = x w + b + 32/r x A B; every entry of the gradients of A, B and x."""
    rng = np.random.default_rng(0)
    layer = Linear(n_in, n_out, bias, lora=rank).initialize(0, np.complex128)
    values = {name: rng.standard_normal(p.shape) for name, p in layer.parameters.items()}
    x, dy = rng.standard_normal((2, 3, n_in)), rng.standard_normal((2, 3, n_out))

    def y(**changes):
        v = {"x": x, "bias": 0.0} | values | changes
        return v["x"] @ (v["weight"] + 32 / rank * v["lora_a"] @ v["lora_b"]) + v["bias"]

    layer.parameters.load(values)
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


@given(drawn=configs(), seed=st.integers(0, 99))
def test_merged_it_computes_the_same_with_no_adapter(drawn, seed):
    config, T = drawn
    model, (x, _) = shaken(config, seed), random_tokens(config, 2, T, seed)
    plain = merge(model)
    assert plain.config == replace(config, lora=0)
    assert not [name for name in plain.parameters if "lora" in name]
    agree(plain(x).data, model(x).data, "logits")
    assert (plain is model) == (config.lora == 0)


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_with_new_adapters_a_model_computes_what_it_did(preset):
    """Bit for bit: B is zero. A is not, else neither would ever learn."""
    base = shaken(tiny(preset))
    model = inherit(GPT(tiny(preset, lora=2), 3, np.float64), base)
    x, y = random_tokens(base.config, 2, 5)
    assert np.array_equal(model(x).data, base(x).data)
    _, gradient = differentiate(model, x, y)
    assert model.h[0].attn.c_q.lora_b.grad.any()
    assert gradient.size == sum(p.size for name, p in model.parameters.items() if ".lora_" in name)
    assert sorted(model.parameters.trained) == sorted(name for name in model.parameters if ".lora_" in name)


def test_other_adapters_than_those_that_were_there():
    """What the first have learned goes into the weights; the new ones start at zero."""
    base = shaken(tiny("gpt2", lora=1))
    x, _ = random_tokens(base.config, 2, 5)
    for rank in (0, 1, 3):
        model = inherit(GPT(tiny("gpt2", lora=rank), 3, np.float64), base)
        agree(model(x).data, base(x).data, f"logits with rank {rank}")
        assert not rank or not model.h[1].mlp.c_fc.lora_b.data.any()


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_a_shorter_context_keeps_the_first_positions(preset):
    base = shaken(tiny(preset))
    model = inherit(GPT(tiny(preset, block_size=3), 3, np.float64), base)
    x, _ = random_tokens(base.config, 2, 3)
    assert np.array_equal(model(x).data, base(x).data)


def test_adapters_of_half_precision_are_folded_in_from_their_masters():
    config = tiny("gpt2", lora=2)
    single, half = (GPT(config, dtype=dtype) for dtype in ("float32", "bfloat16"))
    rng = np.random.default_rng(0)
    for name, w in single.parameters.masters().items():
        w[...] = half.parameters.masters()[name][...] = rng.standard_normal(w.shape)
    half.parameters.round()
    expected, found = (merge(model).parameters for model in (single, half))
    assert found.data.dtype.name == "bfloat16"
    assert np.array_equal(found.master, expected.master)


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
    model, (x, y) = shaken(replace(config, lora=0)), random_tokens(config, 2, T)
    differentiate(model, x, y)
    frozen = data.draw(st.sets(st.sampled_from(list(model.parameters)), max_size=len(model.parameters) - 1))
    for recompute in (False, True):
        model.config = replace(model.config, recompute=recompute)
        twin = frozen_copy(model, frozen)
        _, gradient = differentiate(twin, x, y)
        assert set(twin.parameters.trained) == set(twin.parameters) - frozen
        assert gradient.size == sum(p.size for name, p in twin.parameters.items() if name not in frozen)
        for name, p in twin.parameters.items():
            if name in frozen:
                assert p.grad is None
            else:
                assert np.array_equal(p.grad, model.parameters[name].grad), name


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_recomputed_adapters_learn_in_every_block(preset):
    """The first block's input needs no gradient, but what is inside does."""
    config = tiny(preset, lora=2, dropout=0.3)
    x, y = random_tokens(config, 2, 5)
    _, gradient = differentiate(shaken(config), x, y, (1, 2))
    _, recomputed = differentiate(shaken(replace(config, recompute=True)), x, y, (1, 2))
    assert np.array_equal(gradient, recomputed)


def watched(monkeypatch, op):
    """A set that gets (address of an input, its place) for each gradient that the engine asks a rule's way back for."""
    asked = set()

    def rule(*inputs, **options):
        y, backward = unwatched(*inputs, **options)

        def ask(i, dx):
            asked.add((id(inputs[i]), i))
            return dx() if callable(dx) else dx

        return y, lambda dy: tuple(lambda i=i, dx=dx: ask(i, dx) for i, dx in enumerate(backward(dy)))

    unwatched = op.kernels.get("cpu", op.rule)
    monkeypatch.setitem(op.kernels, "cpu", rule)
    return asked


@pytest.mark.parametrize("frozen", [(), ("h.*.attn.*",), ("*.weight",), LOWER, ("ln_f.*", "h.1.mlp.c_proj.*")])
@pytest.mark.parametrize("lora", [0, 2])
def test_no_product_is_computed_for_a_frozen_matrix(lora, frozen, monkeypatch):
    """A linear layer's gradients are products that it offers to compute; only those that are wanted are asked for."""
    model = frozen_copy(shaken(tiny("gpt2", tied=False, lora=lora)), frozen)
    x, y = random_tokens(model.config, 2, 5)
    asked = watched(monkeypatch, ops.linear)
    differentiate(model, x, y)
    names = {id(p.data): name for name, p in model.parameters.items() if p.ndim == 2}
    products = {names[address] for address, i in asked if i == 1}
    assert products == {name for name in model.parameters.trained if model.parameters[name].ndim == 2} - {
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
    assert {node.name for node in nodes if node.op is None} == set(model.parameters.trained)


def test_a_frozen_model_computes_the_same_and_records_nothing():
    model = shaken(tiny("modern"))
    x, _ = random_tokens(model.config, 2, 5)
    frozen = frozen_copy(model, ("*",))
    assert frozen(x).node is None
    assert frozen.parameters.grad.size == 0
    assert np.array_equal(frozen(x).data, model(x).data)


def test_adapters_can_be_frozen_by_name_as_any_other():
    model = GPT(tiny("gpt2", lora=2), frozen=("h.0.*", "*.lora_a"))
    assert model.parameters.trained
    assert all(fnmatchcase(name, "h.1.*.lora_b") for name in model.parameters.trained)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_pattern_that_fits_no_name(lora):
    with pytest.raises(ConfigError) as caught:
        GPT(tiny("gpt2", lora=lora), frozen=("wte.*", "h.2.*", "wqe"))
    assert str(caught.value).split("\n")[0] == (
        "GPT: no parameter is named 'h.2.*' or 'wqe', so nothing is frozen by that"
    )
    assert "wte.weight, wpe.weight, h.0." in str(caught.value)
    assert "'h.[0-1].*'" in str(caught.value)
