"""Products of few rows in bfloat16, and the attention of one query: what their rules say."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm import ops
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.testing.drawing import seeds
from tinygrad_lm.unchanged import Unchanged

pytest.importorskip("numba")
linear = import_module("tinygrad_lm.kernels.bfloat16.linear")
few_rows = import_module("tinygrad_lm.kernels.bfloat16.few_rows")
tiles = import_module("tinygrad_lm.kernels.bfloat16.tiles")
attention = import_module("tinygrad_lm.kernels.numba.attention").attention_in_one_pass
bfloat16_only = pytest.mark.skipif(not tiles.DTYPES, reason="the processor has no AVX512-BF16")
WAYS = [False, True] if tiles.AMX else [False]


def rounded(x):
    """x with the precision of bfloat16."""
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)


def drawn(seed, M, K, N, turned):
    """x (M, K) and w (K, N), row by row or column by column, of bfloat16's precision."""
    rng = np.random.default_rng(seed)
    x, w = (rounded(rng.standard_normal(shape, "f4")) for shape in ((M, K), (N, K) if turned else (K, N)))
    return x, w.T if turned else w


@bfloat16_only
@pytest.mark.parametrize("amx", WAYS)
@given(
    seeds,
    st.integers(1, 15),
    st.sampled_from([1, 31, 32, 40, 64, 100]),
    st.sampled_from([1, 17, 32, 33, 200]),
    st.booleans(),
)
def test_it_is_the_rule(amx, seed, M, K, N, turned):
    """For numbers of bfloat16's precision products are exact, sums in another order: to 2e-6 of Σ |x w|."""
    x, w = drawn(seed, M, K, N, turned)
    b = np.float32(np.arange(N))
    with pytest.MonkeyPatch.context() as patch, Unchanged(w.base if turned else w):
        patch.setattr(few_rows, "AMX", amx)
        for bias in ([], [b]):
            y, backward = linear.linear_in_bfloat16(x[None], w, *bias)
            expected, backward_of_rule = ops.linear.rule(*(z.astype("f8") for z in (x[None], w, *bias)))
            assert y.dtype == np.float32
            assert y.flags.c_contiguous
            assert y.shape == expected.shape
            assert (abs(y - expected) <= 2e-6 * (abs(x) @ abs(w) + (b if bias else 0))).all()
        dx, dw, db = backward(np.ones_like(y))
        for found, wanted in zip((dx(), dw(), db), backward_of_rule(np.ones(y.shape)), strict=True):
            np.testing.assert_allclose(found, wanted() if callable(wanted) else wanted, rtol=1e-4, atol=1e-4)


@bfloat16_only
@pytest.mark.parametrize("amx", WAYS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_row_and_column(amx, bad, monkeypatch):
    monkeypatch.setattr(few_rows, "AMX", amx)
    for M in range(1, 16):
        x, w = drawn(M, M, 40, 50, False)
        x[M - 1, 39] = bad
        w[0, 20] = bad
        with Unchanged(w):
            y, _ = linear.linear_in_bfloat16(x, w)
        with np.errstate(invalid="ignore"):
            assert (np.isfinite(y) == np.isfinite(x @ w)).all(), M


@bfloat16_only
def test_it_stands_aside_where_w_may_change_and_where_shapes_do_not_fit():
    x, w = drawn(0, 3, 40, 50, False)
    assert linear.linear_in_bfloat16(x, w) is NotImplemented
    with Unchanged(w):
        for arguments in ((x[:, :39], w), (x, w[0]), (x, w, w[0, :3]), (x[:0], w)):
            assert linear.linear_in_bfloat16(*arguments) is NotImplemented


@bfloat16_only
def test_many_rows_use_the_same_rounded_weights(monkeypatch):
    """w is cut once for few rows and for many, with the same bits as where it may change."""
    (x, w), calls = drawn(0, 20, 40, 50, False), []
    columns = lambda w, *new: calls.append(w) or tiles.columns(w, *new)
    monkeypatch.setattr(linear, "columns", columns)
    expected = linear.linear_in_bfloat16(x, w)[0]
    assert len(calls) == 1
    with Unchanged(w):
        for rows in (20, 3, 20, 1):
            y = linear.linear_in_bfloat16(x[:rows], w)[0]
            np.testing.assert_allclose(y, expected[:rows], atol=1e-5)
    assert len(calls) == 2


@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 9) | st.integers(30, 70),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
    st.sampled_from([1, 3, 16, 20]),
    st.booleans(),
)
def test_the_attention_of_one_query_is_the_rule(seed, B, S, heads, D, documents):
    """Keys and values are views of a cache, in which rows are longer than what is used."""
    rng, (H, G) = np.random.default_rng(seed), heads
    q = rng.standard_normal((B, 1, H, D), "f4")
    k, v = rng.standard_normal((2, B, S + 2, G, D), "f4")[:, :, :S]
    starts = rng.integers(0, S, (B, 1)) if documents else None
    expected = ops.attention.rule(*(x.astype("f8") for x in (q, k, v)), document_starts=starts)[0]
    before = q.copy(), k.copy(), v.copy()
    with no_grad():
        y, backward = attention(q, k, v, document_starts=starts)
        fortran, _ = attention(np.asfortranarray(q), np.asfortranarray(k), np.asfortranarray(v), document_starts=starts)
    assert backward is None
    np.testing.assert_allclose(y, expected, atol=2e-6)
    np.testing.assert_array_equal(fortran, y)
    np.testing.assert_allclose(attention(q, k, v, document_starts=starts)[0], y, atol=2e-6)  # recorded, it is another
    for x, same in zip((q, k, v), before, strict=True):
        np.testing.assert_array_equal(x, same)


def test_the_attention_of_one_query_hands_on_what_is_not_a_number():
    q, k, v = np.ones((1, 1, 1, 4), "f4"), *np.ones((2, 1, 6, 1, 4), "f4")
    with no_grad():
        assert (attention(q, k, v)[0] == 1).all()
        k[0, 3] = np.nan
        assert np.isnan(attention(q, k, v)[0]).all()
        assert (attention(q, k, v, document_starts=np.array([[4]]))[0] == 1).all()
