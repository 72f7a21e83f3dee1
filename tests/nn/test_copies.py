"""Copies of models and optimizers, by copy.deepcopy and by pickle: they train, and what they were made of stays."""

import copy
import pickle

import numpy as np
import pytest

from tinygrad_lm import kernels, nn, optim
from tinygrad_lm.adapt import lora, recomputed
from tinygrad_lm.models import GPT, GPTConfig

COPIES = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
every_copy = pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
x, y = np.array([[1, 2, 3, 4], [4, 0, 2, 1]]), np.array([[2, 3, 4, 5], [0, 2, 1, 9]])


def plain(**options):
    return GPT(GPTConfig(11, 4, n_layer=2, n_head=2, n_embd=8), seed=1, **options)


def with_adapters():
    model = lora(plain(), rank=2)
    for name, p in model.flat.items():
        if name.endswith("lora_b"):
            p.data[...] = np.random.default_rng(0).standard_normal(p.shape)
    return model


def with_frozen_parts():
    return nn.freeze(plain(), "wte.*", "h.0.*")


def with_recomputed_blocks():
    model = plain()
    recomputed(*model.h)
    return model


def of_all_kinds():
    config = GPTConfig(
        11, 4, n_layer=2, n_head=2, n_embd=8, norm="rms", gain=True, position="rotary", activation="silu", gated=True,
        qk_norm=True, tied=False, dropout=0.2,
    )  # fmt: skip
    model = nn.freeze(lora(GPT(config, seed=1), rank=2), "h.0.mlp.*")
    recomputed(*model.h)
    return model


MODELS = [plain, lambda: plain(dtype="float64"), lambda: plain(dtype="bfloat16"), with_adapters, with_frozen_parts,
          with_recomputed_blocks, of_all_kinds]  # fmt: skip
IDS = ["plain", "float64", "bfloat16", "adapters", "frozen", "recomputed", "all"]
every_model = pytest.mark.parametrize("make", MODELS, ids=IDS)
CONTEXT = nn.Context(key=(0, 1, 0))


def state_of(model):
    return model.flat.data.copy(), model.flat.grad.copy()


def train(model, optimizer, steps=2):
    """Returns the losses."""
    losses = []
    for _ in range(steps):
        loss = model.loss(x, y, CONTEXT)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@every_copy
@every_model
def test_a_copy_is_the_same_and_apart(make, copied):
    model = make()
    model.loss(x, y, CONTEXT).backward()
    twin = copied(model)
    assert type(twin) is GPT
    assert twin.config == model.config
    assert twin.dtype == model.dtype
    assert list(twin.flat) == list(model.flat)
    assert twin.flat.trained == model.flat.trained
    assert [module.name for _, module in twin.named_modules()] == [module.name for _, module in model.named_modules()]
    for name, p in twin.flat.items():
        original = model.flat[name]
        assert p is not original
        assert (p.initial, p.requires_grad) == (original.initial, original.requires_grad)
        assert p.describe() == original.describe()
        assert np.array_equal(p.data, original.data), name
        assert np.shares_memory(p.data, twin.flat.data)
        assert not np.shares_memory(p.data, model.flat.data)
        if p.requires_grad:
            assert np.array_equal(p.grad, original.grad), name
            assert np.shares_memory(p.grad, twin.flat.grad)
    assert np.array_equal(twin(x, CONTEXT).data, model(x, CONTEXT).data)


@every_copy
@every_model
def test_a_trained_copy_moves_and_its_original_does_not(make, copied):
    model = make()
    untouched, expected = state_of(model), train(other := make(), optim.AdamW(other.parameters(), lr=0.1))
    twin = copied(model)
    assert train(twin, optim.AdamW(twin.parameters(), lr=0.1)) == expected
    assert np.array_equal(twin.flat.data, other.flat.data)
    assert not np.array_equal(twin.flat.data, model.flat.data)
    for before, now in zip(untouched, state_of(model), strict=True):
        assert np.array_equal(before, now)
    assert train(model, optim.AdamW(model.parameters(), lr=0.1)) == expected  # which is not in the copy's way
    assert np.array_equal(twin.flat.data, other.flat.data)


@every_copy
@every_model
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["model first", "optimizer first"])
def test_a_copy_of_a_model_with_its_optimizer_goes_on(make, copied, order):
    """As the pair itself would have: moments and the count of steps are copied, too."""
    model = make()
    matrices = [p for name, p in model.flat.items() if name in model.flat.trained and p.ndim == 2]
    pairs = model, optim.AdamW(model.parameters(), lr=0.1), optim.Muon(matrices, lr=0.1)
    for optimizer in pairs[1:]:
        train(model, optimizer, steps=2)
    twin, adamw, muon = copied(pairs[order])[order]
    before = state_of(model)
    for optimizer, its_own in ((adamw, pairs[1]), (muon, pairs[2])):
        assert optimizer.flat is twin.flat
        assert {id(p) for p in optimizer.parameters} <= {id(p) for p in twin.parameters()}
        losses = train(twin, optimizer)
        assert np.array_equal(model.flat.data, before[0])
        assert train(model, its_own) == losses
        assert np.array_equal(model.flat.data, twin.flat.data)
        before = state_of(model)


@every_copy
def test_a_copied_block_joins_the_model(copied):
    model = plain()
    model.h.append(copied(model.h[0]))
    model.lay_out()
    names = [name for name in model.flat if name.startswith("h.2.")]
    assert len(names) == sum(name.startswith("h.0.") for name in model.flat) > 0
    for name in names:
        assert np.array_equal(model.flat[name].data, model.flat[name.replace("h.2.", "h.0.")].data)
        assert model.flat[name].describe().endswith(f"parameter {name}")
    before = model.flat.arrays()
    before = {name: values.copy() for name, values in before.items()}
    train(model, optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0))
    for name in names:
        if not name.endswith("c_k.bias"):  # whose gradient is 0
            assert not np.array_equal(before[name], model.flat[name].data), name
    assert not np.array_equal(model.flat["h.0.mlp.c_fc.weight"].data, model.flat["h.2.mlp.c_fc.weight"].data)


@every_copy
def test_a_block_that_is_copied_alone_computes_alone(copied):
    model = plain()
    features = model.wte(x)
    expected = model.h[1](features).data
    block = copied(model.h[1])
    model.h[1].mlp.c_fc.weight.data[...] = 0.0
    assert np.array_equal(block(features).data, expected)
    block.lay_out()
    assert "mlp.c_fc.weight" in block.flat
    assert np.array_equal(block(features).data, expected)


@every_copy
def test_a_copy_before_there_are_values(copied):
    linear = copied(nn.Linear(2, 3, std=1.0)).initialize(seed=5)
    assert np.array_equal(linear.weight.data, nn.Linear(2, 3, std=1.0).initialize(seed=5).weight.data)


@every_copy
def test_the_copy_of_an_average_is_laid_out(copied):
    """An exponential moving average of the weights, as people keep it: each step on the flat arrays."""
    model = plain()
    average, optimizer = copied(model), optim.AdamW(model.parameters(), lr=0.1)
    expected = model.flat.data.copy()
    for _ in range(3):
        train(model, optimizer, 1)
        average.flat.data[...] = 0.9 * average.flat.data + 0.1 * model.flat.data
        expected = 0.9 * expected + 0.1 * model.flat.data
    np.testing.assert_allclose(average.flat.arrays()["wte.weight"].ravel(), expected[: 11 * 8], rtol=1e-6)
    twin = plain()
    twin.flat.data[...] = average.flat.data
    assert np.array_equal(average(x).data, twin(x).data)


@every_copy
def test_an_optimizer_copied_without_its_model_is_refused(copied):
    model = plain()
    optimizer = copied(optim.AdamW(model.parameters()))
    model.loss(x, y).backward()
    with pytest.raises(optim.optimizer.ConfigError, match="some of its parameters were frozen, exchanged or moved"):
        optimizer.step()


@every_copy
def test_a_copy_trains_without_kernels_too(copied):
    with kernels.disabled():
        model = copied(plain())
        before = model.flat.data.copy()
        train(model, optim.AdamW(model.parameters()))
        assert not np.array_equal(model.flat.data, before)
