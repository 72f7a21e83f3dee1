"""Dropout's noise belongs to the rows of a batch: a row has the same however the batch is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import Tensor, kernels, nn, no_grad, ops
from tinygrad_lm.adapt import recomputed
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models import GPT
from tinygrad_lm.testing.checks import agree

KEY = (1, "a stream", 2)
cuts = st.sets(st.integers(1, 5))
dtypes = st.sampled_from(["float32", "float64", "bfloat16"])


def pieces(n, cut):
    """Slices of n rows, cut before the given ones."""
    edges = [0, *sorted(i for i in cut if i < n), n]
    return [slice(*edge) for edge in pairwise(edges)]


def with_and_without_kernels(check):
    """Run it on the implementations that are switched on, and on the definitions."""
    check()
    with kernels.disabled():
        check()


@given(cut=cuts, shape=st.sampled_from([(6,), (6, 3), (6, 2, 5)]), first=st.integers(0, 9), dtype=dtypes)
def test_rows_keep_their_noise_however_a_batch_is_cut(cut, shape, first, dtype):
    x = Tensor(np.ones(shape, np.float32)).to(dtype=dtype).data

    def check():
        whole = ops.dropout(x, p=0.5, key=(*KEY, first)).data
        for here in pieces(6, cut):
            assert np.array_equal(ops.dropout(x[here], p=0.5, key=(*KEY, first + here.start)).data, whole[here])

    with_and_without_kernels(check)


def test_each_row_step_seed_and_stream_has_noise_of_its_own():
    x, p = np.ones((50, 40), np.float32), 0.4
    masks = [
        ops.dropout(x, p=p, key=key).data != 0
        for key in ((1, "a", 2, 0), (1, "a", 2, 50), (1, "a", 3, 0), (2, "a", 2, 0), (1, "b", 2, 0))
    ]
    rows = np.concatenate(masks)
    assert len(np.unique(rows, axis=0)) == len(rows) == 250
    assert abs(rows.mean() - 0.6) < 5 * np.sqrt(0.24 / rows.size)
    products = (rows - 0.6) @ (rows - 0.6).T / 0.24  # of rows that have nothing to do with each other
    others = products[~np.eye(len(rows), dtype=bool)]
    assert abs(others.mean()) < 0.1
    assert abs(others.std() / np.sqrt(40) - 1) < 0.05


def test_a_key_may_be_one_array():
    """As where a captured graph of a GPU counts the steps."""
    x = np.ones((4, 3), np.float32)
    for numbers in ([2, 3], [2]):
        expected = ops.dropout(x, p=0.5, key=(1, "a stream", *numbers)).data
        assert np.array_equal(ops.dropout(x, p=0.5, key=(1, "a stream", np.array(numbers))).data, expected)


@given(cut=cuts, first=st.integers(0, 9), groups=st.sampled_from([1, 2]), dtype=st.sampled_from(["float32", "float64"]))
def test_attention_drops_by_row_too(cut, first, groups, dtype):
    rng = np.random.default_rng(0)
    q = rng.standard_normal((6, 5, 2, 4)).astype(dtype)
    k, v = rng.standard_normal((2, 6, 5, groups, 4)).astype(dtype)
    dy = rng.standard_normal(q.shape).astype(dtype)

    def computed(here, row):
        leaves = [Tensor(x[here], requires_grad=True) for x in (q, k, v)]
        y = ops.attention(*leaves, p=0.5, key=(*KEY, row))
        y.backward(dy[here])
        return y.data, *(x.grad for x in leaves)

    def check():
        whole = computed(slice(None), first)
        for here in pieces(6, cut):
            for part, all_rows in zip(computed(here, first + here.start), whole, strict=True):
                np.testing.assert_allclose(part, all_rows[here], rtol=1e-5, atol=1e-6)

    with_and_without_kernels(check)
    assert not np.allclose(computed(slice(None), first)[0], computed(slice(None), first + 1)[0])


def test_a_model_s_attention_drops_weights_and_what_comes_of_them():
    model = shaken(tiny("gpt2", dropout=0.3))
    attn, x = model.h[1].attn, np.random.default_rng(0).standard_normal((3, 5, 8))
    q, k, v = (layer(Tensor(x)).reshape(3, 5, 2, 4) for layer in (attn.c_q, attn.c_k, attn.c_v))
    options = {"p": 0.3, "key": (7, "dropout/h.1.attn.dropout", 3, 4)}
    of_weights = {"p": 0.3, "key": (7, "dropout/h.1.attn.dropout_of_weights", 3, 4)}  # noise of another place
    y = attn.c_proj(ops.attention(q, k, v, **of_weights).reshape(3, 5, 8))
    found = attn(Tensor(x), nn.Context(key=(7, 3, 4)))
    agree(found.data, ops.dropout(y, **options).data, "attention with dropout")


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_s_rows_are_the_same_in_every_part_of_a_batch(preset, recompute):
    """Logits and gradients of six rows at once, and of any cut into parts with their rows' numbers."""
    model = shaken(tiny(preset, dropout=0.3))
    if recompute:
        recomputed(*model.h)
    x, y = random_tokens(model.config, B=6, T=5)
    whole = model(x, nn.Context(key=(7, 3, 0)))
    ops.cross_entropy(whole, y).backward()
    gradient = model.flat.grad.copy()
    for cut in ({2}, {1, 2, 5}, {3, 4}):
        model.flat.zero_grad()
        for here in pieces(6, cut):
            logits = model(x[here], nn.Context(key=(7, 3, here.start)))
            agree(logits.data, whole.data[here], "logits")
            (ops.cross_entropy(logits, y[here]) * (len(x[here]) / 6)).backward()
        agree(model.flat.grad, gradient, "gradient")
    assert not np.allclose(model(x[2:], nn.Context(key=(7, 3, 0))).data, whole.data[2:])


# ---- without a key


class Drops(nn.Module):
    def __init__(self):
        self.inner = {"drop": nn.Dropout(0.5)}

    def forward(self, x, context=nn.context.NONE):
        return self.inner["drop"](x, context)


@pytest.mark.parametrize("use", [
    lambda context: Drops().initialize()(Tensor(np.ones(3), requires_grad=True), *context),
    lambda context: Drops().initialize()(np.ones(3), *context),
    lambda context: GPT(tiny("gpt2", dropout=0.1))(np.zeros((1, 2), int), *context),
    lambda context: GPT(tiny("modern", dropout=0.1)).loss(np.zeros((1, 2), int), np.zeros((1, 2), int), *context),
])  # fmt: skip
@pytest.mark.parametrize("context", [(), (nn.Context(),), (nn.Context(document_starts=np.zeros((1, 2), int)),)])
def test_dropout_while_recording_needs_a_key(use, context):
    with pytest.raises(ConfigError) as caught:
        use(context)
    assert "it needs an initialised model and a key" in str(caught.value)
    assert "model(x, nn.Context(key=(seed, step, 0))) trains" in str(caught.value)
    assert "dropout inner.drop" in str(caught.value) or "dropout dropout" in str(caught.value)
    with no_grad():
        use(context)
    use((nn.Context(key=(0, 0, 0)),))


def test_attention_without_a_key_is_refused_too():
    """Where nothing before it drops."""
    model = GPT(tiny("modern", dropout=0.1))
    model.dropout.p = 0.0
    with pytest.raises(ConfigError, match=r"dropout h\.0\.attn\.dropout_of_weights: "):
        model(np.zeros((1, 2), int))


def test_within_no_grad_nothing_is_dropped_unless_there_is_a_key():
    drop, x = nn.Dropout(0.5).initialize(), np.ones((20, 20), np.float32)
    with no_grad():
        assert drop(x) is x
        assert (drop(x, nn.Context(key=(0, 0, 0))).data == 0).any()
    assert nn.Dropout(0.0)(x) is x  # which never drops, and needs no key


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_probabilities_that_are_none(p):
    with pytest.raises(ConfigError, match="p must be at least 0 and below 1, found"):
        ops.dropout(np.ones(3), p=p, key=(*KEY, 0))
