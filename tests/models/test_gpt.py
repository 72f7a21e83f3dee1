"""The whole network: every entry of its gradient, and what must hold of it besides."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import configs, differentiate, random_tokens, shaken, tiny

from tinygrad_lm import Tensor, no_grad, ops
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.errors import ConfigError, DtypeError, ShapeError, TokenError
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.kernels.numpy import cross_entropy as numpy_classifier
from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import NONE, Context
from tinygrad_lm.nn.layers import Embedding
from tinygrad_lm.nn.module import Module, freeze
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.testing.drawing import seeds
from tinygrad_lm.testing.gradcheck import richardson

every_preset = pytest.mark.parametrize("preset", PRESETS)
NOISY = Context(key=(1, 2, 3))  # seed, step and row: what dropout is a function of


def loss_at(model, x, y, context=NONE):
    """(place, step) -> the loss when that entry of the flat array of weights has moved by so much."""
    weights = model.flat.data

    def loss(i, step):
        before = weights[i]
        weights[i] += step
        with no_grad():
            value = cross_entropy(model(x, context), y).data[()]
        weights[i] = before
        return value

    return loss


# ---- every entry of the gradient


@pytest.mark.slow  # test_any_configuration is quick
@every_preset
def test_every_parameter_entry_by_complex_step(preset):
    """All weights are complex numbers here, one of them with an imaginary part of 1e-30. Dropout is on."""
    config = tiny(preset, dropout=0.2)
    x, y = random_tokens(config, B=2, T=5)
    _, gradient = differentiate(shaken(config), x, y, NOISY)
    loss = loss_at(shaken(config, dtype=np.complex128), x, y, NOISY)
    agree(gradient, np.array([loss(i, 1e-30j).imag / 1e-30 for i in range(gradient.size)]), preset)


@given(drawn=configs(), seed=st.integers(0, 2**32 - 1))
def test_any_configuration_by_complex_step(drawn, seed):
    """Along a random direction of all weights at once, and at ten random entries."""
    (config, T), rng = drawn, np.random.default_rng(seed)
    x, y = random_tokens(config, 2, T, seed)
    _, gradient = differentiate(shaken(config, seed), x, y)
    model, direction = shaken(config, seed, np.complex128), rng.standard_normal(gradient.size)
    loss = loss_at(model, x, y)
    for i in rng.integers(0, gradient.size, 10):
        agree(gradient[i], loss(i, 1e-30j).imag / 1e-30, f"gradient by weight {i}")
    model.flat.data[: direction.size] += 1e-30j * direction
    found = loss(0, 0.0).imag / 1e-30
    assert abs(gradient @ direction - found) <= 1e-12 * max(1.0, abs(gradient * direction).sum())


@pytest.mark.slow
def test_every_parameter_entry_by_richardson():
    """A second judge that needs real numbers only."""
    model = shaken(tiny("gpt2", n_layer=1, n_embd=4))
    x, y = random_tokens(model.config, B=2, T=5)
    _, gradient = differentiate(model, x, y)
    loss, weights = loss_at(model, x, y), model.flat.data
    agree(gradient, np.array([richardson(loss, i, weights[i])[0] for i in range(gradient.size)]), "gradient", 1e-10)


# ---- one gradient, several ways to it


@every_preset
def test_recomputed_blocks_give_the_same_bit_for_bit(preset):
    config = tiny(preset, dropout=0.3)
    x, y = random_tokens(config, B=2, T=5)
    loss, gradient = differentiate(shaken(config), x, y, NOISY)
    model = shaken(config)
    recomputed(*model.h)
    again, recomputed_gradient = differentiate(model, x, y, NOISY)
    assert loss == again
    assert np.array_equal(gradient, recomputed_gradient)


def test_dropout_is_on_in_training_only():
    model = shaken(tiny("gpt2", dropout=0.5))
    x, _ = random_tokens(model.config, B=2, T=5)
    plain = shaken(tiny("gpt2"))(x).data
    with no_grad():
        assert np.array_equal(model(x).data, plain)
    keys = ((1, 2, 3), (1, 2, 3), (1, 2, 5), (1, 3, 3), (2, 2, 3))
    noisy = [model(x, Context(key=key)).data for key in keys]
    assert np.array_equal(noisy[0], noisy[1])
    for other in (plain, *noisy[2:]):
        assert not np.array_equal(noisy[0], other)


# ---- causality


@given(drawn=configs(), chunk=st.sampled_from([1, 100, 10**6]), frozen=st.booleans())
def test_the_loss_is_the_cross_entropy_of_the_logits(drawn, chunk, frozen):
    """And so is its gradient, in however many chunks both are computed; with a head to be trained or frozen."""
    config, T = drawn
    x, y = random_tokens(config, B=2, T=T)
    model = shaken(replace(config, dropout=0.3), frozen=["wte.*" if config.tied else "lm_head.*"] if frozen else ())
    context, found = replace(NOISY, document_starts=np.zeros_like(x) + np.arange(T) // 2 * 2), []
    for loss in (lambda: model.loss(x, y, context), lambda: cross_entropy(model(x, context), y)):
        model.flat.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numpy_classifier, "CHUNK", chunk)
            (value := loss()).backward()
            with no_grad():
                agree(loss().data, value.data, "loss where nothing is recorded")
        found.append((value.data, model.flat.grad.copy()))
    for mine, right in zip(*found, strict=True):
        agree(mine, right, "loss or gradient")


@settings(max_examples=settings.default.max_examples // 2)
@given(drawn=configs(), chunk=st.sampled_from([1, 100, 10**6]), frozen=st.booleans(), seed=seeds)
def test_log_probabilities_are_less_the_cross_entropy_of_each_position(drawn, chunk, frozen, seed):
    """And so are their gradients, for any dy; 0 at ignored targets. The same bits where nothing is recorded."""
    config, T = drawn
    x, y = random_tokens(config, B=2, T=T)
    rng = np.random.default_rng(seed)
    y, dy = np.where(rng.random(y.shape) < 0.3, -100, y), rng.standard_normal(y.shape)
    model = shaken(config, frozen=["wte.*" if config.tied else "lm_head.*"] if frozen else ())

    def of_each():
        logits = model(x)
        return ops.stack(*[-cross_entropy(logits[b, t], y[b, t]) for b, t in np.ndindex(y.shape)]).reshape(y.shape)

    found = []
    for logp in (lambda: model.log_probability(x, y), of_each):
        model.flat.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numpy_classifier, "CHUNK", chunk)
            (value := logp()).backward(dy)
            with no_grad():
                assert logp().data.tobytes() == value.data.tobytes()
        found.append((value.data, model.flat.grad.copy()))
    for mine, right in zip(*found, strict=True):
        agree(mine, right, "log-probabilities or gradient")
    assert not found[0][0][y == -100].any()


def test_a_frozen_head_has_no_gradient_computed():
    x, y = random_tokens(config := tiny("gpt2"), B=2, T=5)
    for frozen in ((), ("wte.*",)):
        model = freeze(GPT(config), *frozen)
        for name, method in (("cross_entropy", model.loss), ("log_probability", model.log_probability)):
            names = {node.op.name for node in ancestors(method(x, y).node) if node.op}
            assert (f"linear_{name}" in names) == (not frozen)


@pytest.mark.slow
@given(drawn=configs())
def test_the_future_has_no_gradient_and_no_effect(drawn):
    """The gradient of the logits at t by the embedding at s > t is zero, not nearly: bitwise."""
    config, T = drawn
    model = shaken(config)
    x, other = (random_tokens(config, B=1, T=T, seed=seed)[0] for seed in (0, 1))
    rows = Tensor(model.wte.weight.data[x], requires_grad=True)
    look_up = Embedding.forward
    for t in range(T):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Embedding, "forward", lambda self, ids: rows if self is model.wte else look_up(self, ids))
            logits = model(x)
        dy = np.zeros(logits.shape)
        dy[:, t] = np.random.default_rng(t).standard_normal(config.vocab_size)
        rows.zero_grad()
        logits.backward(dy)
        assert not rows.grad[:, t + 1 :].any()
        mixed = np.where(np.arange(T) > t, other, x)
        assert np.array_equal(model(mixed).data[:, : t + 1], logits.data[:, : t + 1])


@given(drawn=configs(), data=st.data(), recompute=st.booleans())
def test_packed_documents_are_as_alone(drawn, data, recompute):
    """With rotary positions loss and gradient of a window of documents are the sums of what each gives alone."""
    config = replace(drawn[0], position="rotary") if drawn[0].head_size % 2 == 0 else tiny("modern")
    config = replace(config, block_size=9)
    lengths = data.draw(st.lists(st.lists(st.integers(1, 3), min_size=3, max_size=3), min_size=1, max_size=2))
    x, y = random_tokens(config, B=len(lengths), T=9)
    ends = np.cumsum(lengths, 1)
    width = int(ends[:, -1].min())
    starts = np.array([np.repeat(end - n, n)[:width] for end, n in zip(ends, lengths, strict=True)])
    x, y = x[:, :width], y[:, :width]
    model = shaken(config)
    if recompute:
        recomputed(*model.h)
    packed = cross_entropy(model(x, Context(document_starts=starts)), y)
    packed.backward()
    found, alone = model.flat.grad.copy(), 0.0
    model.flat.zero_grad()
    for b in range(len(x)):
        for start in np.unique(starts[b]):
            here = slice(start, start + (starts[b] == start).sum())
            loss = cross_entropy(model(x[b : b + 1, here]), y[b : b + 1, here]) * (y[b, here].size / y.size)
            loss.backward()
            alone += loss.item()
    agree(packed.data, np.array(alone), "loss")
    agree(found, model.flat.grad, "gradient")


@every_preset
def test_a_cache_of_documents_is_that_of_the_whole_window(preset):
    """Two steps with a cache, each with its part of the starts, give the logits of one."""
    model = shaken(tiny(preset))
    x, _ = random_tokens(model.config, B=2, T=5)
    starts = np.array([[0, 0, 2, 2, 2], [0, 1, 1, 1, 4]])
    expected = model(x, Context(document_starts=starts)).data
    assert not np.allclose(model(x).data, expected)
    context = Context(cache=tuple(Cache(5) for _ in x))
    with no_grad():
        found = [
            model(x[:, part], replace(context, document_starts=starts[:, part])).data
            for part in (slice(0, 3), slice(3, 5))
        ]
    agree(np.concatenate(found, 1), expected, "logits")


@every_preset
def test_another_document_has_no_effect(preset):
    """With learned positions too: bitwise."""
    model = shaken(tiny(preset))
    x, _ = random_tokens(model.config, B=2, T=5)
    starts, changed = np.array([[0, 0, 2, 2, 2], [0, 1, 1, 3, 3]]), x.copy()
    changed[0, :2] = (x[0, :2] + 1) % 7
    changed[1, :3] = (x[1, :3] + 1) % 7
    y, other = model(x, Context(document_starts=starts)).data, model(changed, Context(document_starts=starts)).data
    assert np.array_equal(y[0, 2:], other[0, 2:])
    assert np.array_equal(y[1, 3:], other[1, 3:])
    assert not (y[0, :2] == other[0, :2]).all(-1).any()


@every_preset
def test_the_past_has_an_effect(preset):
    """So that the test above cannot pass by a network that looks nowhere."""
    model = shaken(tiny(preset))
    x, _ = random_tokens(model.config, B=1, T=5)
    for s in range(5):
        changed = x.copy()
        changed[0, s] = (x[0, s] + 1) % 7
        assert (model(changed).data[:, s:] != model(x).data[:, s:]).any(-1).all()


# ---- before training


@every_preset
def test_an_untrained_model_knows_nothing(preset):
    """Its loss is ln V: to the last digit if its head is zero, and about that if its logits are small."""
    config = tiny(preset, n_embd=32, vocab_size=50)
    x, y = random_tokens(config, B=40, T=5)
    loss, _ = differentiate(GPT(config, dtype=np.float64), x, y)
    assert abs(loss - math.log(50)) <= (1e-15 if config.zero_init else 0.05)


def test_first_weights_depend_on_seed_and_name_alone():
    small, large = GPT(tiny("gpt2", n_layer=1)), GPT(tiny("gpt2", n_layer=3, tied=False))
    for name, p in small.flat.items():
        if not name.endswith("c_proj.weight"):  # whose size depends on the number of layers
            assert np.array_equal(p.data, large.flat[name].data), name
    double = GPT(tiny("gpt2", n_layer=1), dtype=np.float64)
    assert np.array_equal(small.flat.data, double.flat.data.astype(np.float32))
    assert not np.array_equal(small.flat.data, GPT(tiny("gpt2", n_layer=1), seed=1).flat.data)
    q, k = (small.flat[f"h.0.attn.c_{c}.weight"].data for c in "qk")
    assert not np.array_equal(q, k)


def test_first_weights_are_as_wide_as_gpt2s():
    """0.02 for all matrices, less by √(2 layers) for what adds to the residual stream; gains 1, biases 0."""
    model = GPT(tiny("gpt2", n_embd=128, n_layer=8))
    for name, p in model.flat.items():
        if p.ndim == 2:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert abs(p.data.std() / expected - 1) < 5 / math.sqrt(2 * p.size), name  # five standard deviations
        else:
            assert (p.data == (1.0 if name.endswith("weight") else 0.0)).all(), name


def test_zero_init_makes_blocks_the_identity():
    model = GPT(tiny("modern"))
    zero = {name for name, p in model.flat.items() if not p.data.any()}
    assert zero == {"lm_head.weight"} | {f"h.{i}.{part}.c_proj.weight" for i in (0, 1) for part in ("attn", "mlp")}


@pytest.mark.parametrize(
    ("preset", "count"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_gpt2_has_as_many_parameters_as_published(preset, count, monkeypatch):
    monkeypatch.setattr(Module, "initialize", lambda *_: None)  # memory that nobody writes to is not taken
    assert sum(p.size for _, p in GPT(PRESETS[preset]).named_parameters()) == count


# ---- mistakes


@pytest.mark.parametrize("shape", [(), (3,), (1, 6), (1, 0), (2, 2, 2)])
def test_tokens_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError, match=r"GPT: tokens of shape .*\n.*1 <= T <= block_size = 5"):
        GPT(tiny("gpt2"))(np.zeros(shape, int))


@pytest.mark.parametrize("wrong", [7, -1, 2**40])
def test_tokens_outside_the_vocabulary(wrong):
    with pytest.raises(TokenError, match=f"token id {wrong} is outside the vocabulary of 7"):
        GPT(tiny("gpt2"))(np.array([[0, wrong, 1]]))


def test_tokens_that_are_no_integers():
    with pytest.raises(DtypeError, match="must be integers, found float64"):
        GPT(tiny("gpt2"))(np.zeros((1, 3)))


def test_a_configuration_names_all_its_problems():
    with pytest.raises(ConfigError) as caught:
        GPTConfig(vocab_size=0, n_layer=-1, norm="batch", position="none", activation="sin", dropout=1.0)
    for problem in ("vocab_size must be positive, found 0", "n_layer must be", "norm must be one of layer, rms, found"):
        assert problem in str(caught.value)
    for name in ("position", "activation", "dropout"):
        assert f"{name} must be" in str(caught.value)
    with pytest.raises(
        ConfigError,
        match="n_embd must be a multiple of n_head 3, found 10; n_head must be a multiple of n_kv_head 2, found 3",
    ):
        GPTConfig(n_embd=10, n_head=3, n_kv_head=2)
    with pytest.raises(ConfigError, match="head size must be even for rotary positions, found 3"):
        GPTConfig(n_embd=9, n_head=3, position="rotary")


@given(name=st.sampled_from(["vocab_size", "block_size", "n_layer", "n_head", "n_embd"]), value=st.integers(-3, 0))
def test_sizes_are_positive(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be positive, found {value}"):
        GPTConfig(**{name: value})


def test_ids_are_arrays_lists_or_tensors():
    model = GPT(tiny("gpt2"))
    expected = model(np.array([[1, 2]]))
    for tokens in ([[1, 2]], ((1, 2),), Tensor([[1, 2]])):
        assert np.array_equal(model(tokens).data, expected.data)
        assert model.loss(tokens, [[2, 3]]).item() == model.loss(np.array([[1, 2]]), np.array([[2, 3]])).item()
    with pytest.raises(ShapeError, match=r"tokens of shape \(2,\)(.|\n)*\[tokens\] is a batch"):
        model([1, 2])
