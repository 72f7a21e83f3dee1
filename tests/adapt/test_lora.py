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
from tinygrad_lm.optim import AdamW
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


@pytest.mark.slow
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
    assert found.dtype == "bfloat16"
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


# ---- functions that change a model


def test_names_in_a_checkpoint():
    """Those of the plain model, and two more for each Linear layer of a block."""
    plain, model = GPT(tiny("modern", n_layer=1)), lora(GPT(tiny("modern", n_layer=1)), rank=2)
    layers = [f"h.0.attn.c_{c}" for c in ("q", "k", "v", "proj")] + ["h.0.mlp.c_fc", "h.0.mlp.c_proj"]
    adapters = {f"{layer}.{part}" for layer in layers for part in ("lora_a", "lora_b")}
    assert set(model.flat.arrays()) == set(plain.flat.arrays()) | adapters
    assert set(model.flat.trained) == adapters
    assert [m.name for _, m in model.named_modules()] == [m.name for _, m in plain.named_modules()]
    for layer in layers:
        n_in, n_out = plain.flat[f"{layer}.weight"].shape
        assert model.flat[f"{layer}.lora_a"].shape == (n_in, 2)
        assert model.flat[f"{layer}.lora_b"].shape == (2, n_out)


def test_first_adapters_depend_on_seed_and_name_alone():
    make = lambda seed, **options: lora(GPT(tiny("gpt2", **options), 9), 2, seed).flat
    a, deeper, other = make(1), make(1, n_layer=3, vocab_size=9), make(2)
    for name in a.trained:
        assert np.array_equal(a[name].data, deeper[name].data), name
        assert np.array_equal(a[name].data, other[name].data) == name.endswith("lora_b"), name
        assert abs(a[name].data).max() == 0 if name.endswith("lora_b") else a[name].data.std() > 0
    assert not np.array_equal(a["h.0.attn.c_q.lora_a"].data, a["h.0.attn.c_k.lora_a"].data)


def test_adapters_are_given_in_place_and_taken_out_in_place():
    """Weights stay where they are in the model, in value and in what they are part of; optimizers are made after it."""
    model = shaken(tiny("gpt2"))
    weights, blocks = {name: p.data.copy() for name, p in model.flat.items()}, list(model.h)
    parameters = dict(model.flat)
    old = AdamW(model.parameters())
    assert lora(model, rank=2) is model
    assert all(a is b for a, b in zip(model.h, blocks, strict=True))
    with pytest.raises(ConfigError, match="some of its parameters were frozen, exchanged or moved"):
        old.step()
    for name, before in weights.items():
        assert model.flat[name] is parameters[name]
        assert np.array_equal(model.flat[name].data, before), name
    x, y = random_tokens(model.config, 2, 5)
    optimizer = AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        differentiate(model, x, y)
        optimizer.step()
    for name, before in weights.items():
        assert np.array_equal(model.flat[name].data, before), name
    expected = model(x).data
    merge(model)
    agree(model(x).data, expected, "logits")
    assert list(model.flat) == list(weights)
    moved = {name for name, before in weights.items() if not np.array_equal(model.flat[name].data, before)}
    assert moved == {name for name in weights if name.startswith("h.") and weights[name].ndim == 2}
    merge(model)
    agree(model(x).data, expected, "logits")


def test_freezing_again_adds_to_what_is_frozen():
    model = freeze(freeze(shaken(tiny("gpt2")), "wte.*"), "h.0.*", "wpe.*")
    assert not [name for name in model.flat.trained if name.startswith(("wte.", "wpe.", "h.0."))]
    assert {name for name in model.flat if name not in model.flat.trained} == {
        name for name in model.flat if name.startswith(("wte.", "wpe.", "h.0."))
    }
    assert list(model.flat)[: len(model.flat.trained)] == model.flat.trained
    assert model.flat.grad.size == sum(model.flat[name].size for name in model.flat.trained)
    before = list(model.flat.trained)
    assert freeze(model) is model
    assert model.flat.trained == before


def test_gradients_survive_a_change_of_the_model():
    """Of what is still trained: freezing after a backward pass keeps them in their places."""
    model = shaken(tiny("gpt2"))
    x, y = random_tokens(model.config, 2, 5)
    differentiate(model, x, y)
    gradients = {name: p.grad.copy() for name, p in model.flat.items()}
    freeze(model, "wte.*", "*.attn.*")
    for name in model.flat.trained:
        assert np.array_equal(model.flat[name].grad, gradients[name]), name
        assert np.shares_memory(model.flat[name].grad, model.flat.grad)


def test_recomputed_blocks_keep_their_inputs_alone():
    """Of one block's operations the graph has one node, and an observer sees them twice."""
    model = shaken(tiny("gpt2"))
    x, y = random_tokens(model.config, 2, 5)
    loss = cross_entropy(model(x), y)
    ops_before = [node.op.name for node in ancestors(loss.node) if node.op]
    assert ops_before.count("attention") == 2
    recomputed(*model.h)
    loss = cross_entropy(model(x), y)
    ops_after = [node.op.name for node in ancestors(loss.node) if node.op]
    assert ops_after.count("attention") == 0
    assert ops_after.count("recompute") == 2
    recomputed(model.h[0])  # twice is as once
    expected = differentiate(shaken(tiny("gpt2")), x, y)
    found = differentiate(model, x, y)
    assert found[0] == expected[0]
    assert np.array_equal(found[1], expected[1])


def test_a_recomputed_module_takes_what_its_forward_takes():
    model = shaken(tiny("modern", dropout=0.3))
    x, context = Tensor(np.ones((1, 5, 8)), requires_grad=True), Context(key=(1, 2, 0))
    expected = model.h[0](x, context=context).data
    recomputed(model.h[0])
    assert np.array_equal(model.h[0](x, context=context).data, expected)
