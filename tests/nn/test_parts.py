"""Modules of one's own: what they may hold, and that nothing in them stays untrained in silence."""

import copy

import numpy as np
import pytest

from tinygrad_lm import Tensor, kernels, nn, ops, optim
from tinygrad_lm.errors import ConfigError, ShapeError
from tinygrad_lm.models import GPT, GPTConfig


class Nested(nn.Module):
    """A tree of containers, with parameters at every height, and things that are neither."""

    def __init__(self):
        self.blocks = [nn.Linear(2, 3), [nn.Linear(3, 3, bias=False), (nn.RMSNorm(3, gain=True), "no module", None)]]
        self.heads = {"small": nn.Linear(3, 1), "others": {"scale": nn.Parameter(1, mean=2.0), 7: [nn.Parameter(3)]}}
        self.sizes = [2, 3, {"four": 4}]
        self.nothing = None
        self.activation = ops.tanh

    def forward(self, x):
        first, (second, (norm, *_)) = self.blocks
        x = norm(second(self.activation(first(x)))) + self.heads["others"][7][0]
        return self.heads["small"](x) * self.heads["others"]["scale"]


NAMES = [
    "blocks.0.weight", "blocks.0.bias", "blocks.1.0.weight", "blocks.1.1.0.weight", "heads.small.weight",
    "heads.small.bias", "heads.others.scale", "heads.others.7.0",
]  # fmt: skip


class Tied(nn.Module):
    """One weight in two layers, the usual way to tie them."""

    def __init__(self):
        self.a, self.b = nn.Linear(4, 4, bias=False, std=1.0), nn.Linear(4, 4, bias=False, std=1.0)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(ops.tanh(self.a(x)))


def small():
    return GPT(GPTConfig(11, 4, n_layer=2, n_head=2, n_embd=8))


def learn(model, optimizer, *inputs):
    """One step on the mean square of the output. Returns how far the output has moved."""
    before = model(*inputs)
    (before * before).mean().backward()
    optimizer.step()
    return abs(model(*inputs).data - before.data).max()


X = np.array([[1, 2, 3, 4]])


# ---- what a module may hold


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)


def test_lists_tuples_and_dicts_nest():
    model = Nested().initialize(seed=1)
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert set(model.flat) == set(NAMES)
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.flat.values()}
    assert [module.name for _, module in model.named_modules()] == [
        "", "blocks.0", "blocks.1.0", "blocks.1.1.0", "heads.small",
    ]  # fmt: skip
    before = {name: p.data.copy() for name, p in model.flat.items()}
    assert learn(model, optim.AdamW(model.parameters()), np.ones((5, 2), np.float32)) > 0
    for name, p in model.flat.items():
        assert not np.array_equal(p.data, before[name]), name


def test_modules_run_within_their_names():
    model = Nested().initialize()
    with pytest.raises(ShapeError, match=r"^linear in blocks\.0:"):
        model(np.ones((5, 3), np.float32))


def test_a_shared_parameter_counts_once():
    model = Tied().initialize(seed=3)
    assert list(model.flat) == ["a.weight"]
    assert [p.size for p in model.parameters()] == [model.flat.data.size] == [16]
    x = np.random.default_rng(0).standard_normal((2, 4)).astype("float32")
    (model(x) * 1.0).sum().backward()
    W = Tensor(model.a.weight.data.copy(), requires_grad=True)
    (ops.tanh(Tensor(x) @ W) @ W).sum().backward()
    np.testing.assert_allclose(model.flat.grad.reshape(4, 4), W.grad, rtol=1e-5)  # of both of its uses
    before = model.a.weight.data.copy()
    optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0).step()
    np.testing.assert_allclose(model.a.weight.data, before - 0.1 * np.sign(W.grad), rtol=1e-4)  # trained once
    twin = Tied().initialize(seed=4)
    twin.flat.load(model.flat.arrays())
    assert np.array_equal(twin(x).data, model(x).data)
    assert copy.deepcopy(model).b.weight is not model.b.weight
    for tied in (model, copy.deepcopy(model)):
        assert tied.b.weight is tied.a.weight


# ---- what has no values yet


class Loose(nn.Module):
    """Parameters in a list of its own, and none as an attribute."""

    def __init__(self):
        self.weights = [nn.Parameter(2, 2, std=1.0)]

    def forward(self, x):
        return x @ self.weights[0]


@pytest.mark.parametrize(
    ("make", "x", "named"),
    [
        (lambda: nn.Linear(2, 2), np.ones((1, 2), np.float32), "Linear : its parameters weight, bias have no values"),
        (Nested, np.ones((1, 2), np.float32), "Nested : its parameters blocks.0.weight, "),
        (Loose, np.ones((1, 2), np.float32), "Loose : its parameters weights.0 have no values"),
        (lambda: nn.Embedding(3, 2), np.array([0]), "Embedding : its parameters weight have no values"),
        (lambda: nn.LayerNorm(2), np.ones((1, 2), np.float32), "LayerNorm : its parameters weight, bias have"),
    ],
)
def test_parameters_that_were_never_initialised_are_refused(make, x, named):
    module = make()
    with pytest.raises(ConfigError) as caught:
        module(x)
    assert named in str(caught.value)
    assert "initialize(seed=0) on the whole model" in str(caught.value)
    with pytest.raises(ConfigError, match="belong to no initialised module"):
        optim.AdamW(module.parameters())
    module.initialize()(x)


def test_a_part_that_was_added_and_not_initialised_is_refused_when_it_is_called():
    model = small()
    model.head = nn.Linear(8, 3)
    with pytest.raises(ConfigError, match="have no values yet"):
        model.head(model.features(X))


def test_modules_without_parameters_need_no_values():
    assert nn.RMSNorm(2)(np.ones((1, 2), np.float32)).shape == (1, 2)
    for module in (nn.Dropout(0.5).initialize(), copy.deepcopy(nn.Dropout(0.5).initialize())):
        x = Tensor(np.ones((2, 2), np.float32))
        assert module(x, nn.Context(key=(0, 0, 0))).shape == (2, 2)
    with pytest.raises(ConfigError, match=r"dropout : .* needs an initialised model and a key"):
        nn.Dropout(0.5)(x, nn.Context(key=(0, 0, 0)))  # all that have no name would drop the same


# ---- parameters exchanged, added, removed, moved


def exchange(model):
    model.wte.weight = nn.Parameter(11, 8, std=1.0)


def add(model):
    model.head = nn.Linear(8, 3, std=1.0).initialize()


def add_to_a_list(model):
    model.h.append(copy.deepcopy(model.h[0]))


def add_to_a_dict(model):
    model.extra["bias"] = nn.Parameter(8)


def remove(model):
    model.h.pop()


def remove_one(model):
    model.ln_f.bias = None


def swap(model):
    model.h.reverse()


def initialise_a_part(model):
    model.h[1].attn.initialize(seed=5)


def freeze_a_part(model):
    nn.freeze(model.h[0], "*")


def copy_without_its_parts(model):
    model.twin = [copy.copy(model)]
    del model.twin


CHANGES = [
    exchange, add, add_to_a_list, add_to_a_dict, remove, remove_one, swap, initialise_a_part, freeze_a_part,
    copy_without_its_parts,
]  # fmt: skip
TOLD = {
    exchange: "wte.weight", add: "head.weight", add_to_a_list: "h.2.", add_to_a_dict: "extra.bias", remove: "h.1.",
    remove_one: "ln_f.bias", swap: "h.0.", initialise_a_part: "h.1.attn.", freeze_a_part: "h.0.",
    copy_without_its_parts: "wte.weight",
}  # fmt: skip


def changeable():
    model = small()
    model.extra = {}
    return model.lay_out()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("looked", [False, True])
def test_what_is_no_longer_as_it_was_laid_out_is_neither_trained_nor_saved(change, looked):
    """Also where an earlier look found everything in its place."""
    model = changeable()
    optimizer = optim.AdamW(model.parameters())
    if looked:
        optimizer.step()
        model.flat.arrays()
    change(model)
    before, flat = model.flat.data.copy(), model.flat
    for use in ("step", "save", "step"):
        with pytest.raises(ConfigError) as caught:
            optimizer.step() if use == "step" else model.flat.arrays()
        assert "exchanged" in str(caught.value)
        if use == "save" or change is not copy_without_its_parts:
            assert TOLD[change] in str(caught.value)
            assert "model.lay_out()" in str(caught.value)
    assert model.flat is flat
    assert np.array_equal(model.flat.data, before)


def test_a_part_without_values_is_not_laid_out():
    """It would be trained from zeros, whatever its std says."""
    model = changeable()
    model.head = nn.Linear(8, 3, std=1.0)
    with pytest.raises(ConfigError, match=r"weight, bias have no values yet(.|\n)*then model\.lay_out\(\)"):
        model.lay_out()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_laid_out_again_all_is_trained_and_saved(change):
    model = changeable()
    model(X).sum().backward()
    change(model)
    named = dict(model.named_parameters())
    values = {name: p.data.copy() for name, p in named.items()}
    gradients = {name: None if p.grad is None else p.grad.copy() for name, p in named.items()}
    assert model.lay_out() is model
    assert set(model.flat) == set(named)
    for name, p in model.flat.items():
        assert p is named[name]
        assert np.shares_memory(p.data, model.flat.data)
        assert np.array_equal(p.data, values[name])
        if p.requires_grad:
            assert np.shares_memory(p.grad, model.flat.grad)
            assert np.array_equal(p.grad, gradients[name]) or not (gradients[name] is not None or p.grad.any())
    assert model.flat.arrays().keys() == named.keys()
    for name in model.flat.trained:
        named[name].grad[...] = 1.0
    optim.AdamW(model.parameters(), weight_decay=0.0).step()
    for name, p in named.items():
        assert np.array_equal(p.data, values[name]) != p.requires_grad, name


def test_an_optimizer_of_parameters_that_were_frozen_since_is_refused():
    model = small()
    optimizers = [optim.AdamW(model.parameters()), optim.AdamW([model.wte.weight])]
    optimizers.append(optim.Muon([model.h[0].mlp.c_fc.weight]))
    nn.freeze(model, "wte.*", "*.mlp.*")
    for optimizer in optimizers:
        with pytest.raises(ConfigError, match=r"(AdamW|Muon): some of its parameters were frozen, exchanged or moved"):
            optimizer.step()


def test_an_optimizer_of_a_parameter_that_was_taken_out_is_refused():
    """Also after the model was laid out again, where the name is another parameter's."""
    model = small()
    optimizers = [optim.AdamW([model.wte.weight]), optim.AdamW([model.wpe.weight, model.wte.weight])]
    exchange(model)
    model.lay_out()
    for optimizer in optimizers:
        with pytest.raises(ConfigError, match="some of its parameters were frozen, exchanged"):
            optimizer.step()


def test_a_shallow_copy_takes_the_parameters_with_it():
    """Of a model without deeper names, too, in which nothing was assigned."""
    model = Tied().initialize()
    optimizer = optim.AdamW(model.parameters())
    optimizer.step()
    twin = copy.copy(model)
    with pytest.raises(ConfigError, match=r"exchanged or removed after the model was initialised: a\.weight"):
        model.flat.arrays()
    assert twin.flat.arrays().keys() == model.lay_out().flat.arrays().keys()


def test_a_store_outlives_its_model():
    """The weights of a model that is needed for nothing else."""
    flat = small().flat
    assert set(flat.arrays()) == set(flat)
    flat.check()


# ---- new values


def test_assigned_values_are_copied_into_their_place():
    model = small()
    p, rows = model.wte.weight, np.arange(88.0).reshape(11, 8)
    view = p.data
    p.data = rows
    assert p.data is view
    assert np.array_equal(p.data, rows)
    assert p.data.dtype == np.float32
    assert np.array_equal(model.flat.data[model.flat.slices["wte.weight"]], rows.ravel())
    p.data = p.data * 2
    p.data *= 2
    p.data -= 1
    assert np.array_equal(model.flat.arrays()["wte.weight"], 4 * rows - 1)
    assert p.data is view
    rows[...] = 0.0
    assert p.data[1, 1] == 35.0
    optimizer = optim.AdamW(model.parameters())
    assert learn(model, optimizer, X) > 0
    assert not np.array_equal(view, 4 * np.arange(88.0).reshape(11, 8) - 1)


@pytest.mark.parametrize("shape", [(8, 11), (88,), (1, 8), (8,), ()])
def test_values_of_another_shape_are_refused(shape):
    p = small().wte.weight
    before = p.data.copy()
    with pytest.raises(ShapeError, match=r"data has shape .*, expected \(11, 8\)"):
        p.data = np.ones(shape)
    assert np.array_equal(p.data, before)


@pytest.mark.parametrize("with_kernels", [True, False])
def test_new_values_are_what_is_trained(with_kernels):
    """A table of embeddings from elsewhere, and one step."""
    kernels.enable()
    model = small()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    table = np.random.default_rng(0).standard_normal((11, 8)).astype("float32")
    model.wte.weight.data = table
    model(X).sum().backward()
    g = model.wte.weight.grad.copy()
    if with_kernels:
        optimizer.step()
    else:
        with kernels.disabled():
            optimizer.step()
    moved = model.flat.arrays()["wte.weight"] - table
    assert (abs(moved[g != 0] + 0.1 * np.sign(g[g != 0])) < 1e-3).all()
    assert g.any()
