"""Dropout on a CPU with Numba: the mask, the value and the gradient of the definition, bit for bit."""

import tracemalloc
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts_by_threads import parts_by_threads

from tinygrad_lm import kernels, no_grad, ops
from tinygrad_lm.backend import random
from tinygrad_lm.ops.dropout import keep
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.drawing import seeds, signed

pytest.importorskip("numba")
together, philox, dropout, attention = (
    import_module(f"tinygrad_lm.kernels.numba.{name}") for name in ("together", "philox", "dropout", "attention")
)
blocks = import_module("tinygrad_lm.kernels.numpy.attention")

KEY = 7, "a stream", 2, 3
words = st.sampled_from([0, 1, 5, 2**32 - 1, 2**40 + 3, 2**63 + 2**62])
shapes = st.one_of(
    st.sampled_from([(), (0,), (1,), (0, 3), (3, 0), (2, 0, 5), (70,), (1, 515), (1, 512), (3, 5000), (2, 8, 9, 7)]),
    st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
)
sizes_of_parts = st.sampled_from([(1, 1), (300, 20), (2**12, 2**10)])  # entries, counters


@contextmanager
def parts(entries, counters):
    """Within the block loops have parts of at least so many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dropout, "LEAST", entries)
        patch.setattr(philox, "LEAST", counters)
        patch.setattr(together, "PARTS", 100)
        yield


def keys_of(first, step, row, form):
    """Each way to give a counter: of one, two and three integers, as integers and as an array."""
    counter = {1: [row], 2: [step, row], 3: [first, step, row]}[form % 3 + 1]
    return (KEY[0], KEY[1], np.array(counter, np.uint64)) if form > 2 else (*KEY[:2], *counter)


@given(data=st.data())
def test_the_bits_of_the_definition(data):
    """Of the mask, the value and the gradient, whatever the numbers are."""
    shape, (entries, counters) = data.draw(shapes), data.draw(sizes_of_parts)
    key = keys_of(*(data.draw(words) for _ in "fsr"), data.draw(st.integers(0, 5)))
    p = data.draw(st.sampled_from([0, 0.0, 1e-9, 0.1, 0.5, 0.7, 0.999, 1 - 1e-9]) | st.floats(0, 1, exclude_max=True))
    p = data.draw(st.sampled_from([float, np.float32, np.float64]))(p) if p < 0.9999 else p
    rng = np.random.default_rng(data.draw(seeds))
    special = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], "f4"), shape)
    x, dy = (np.where(rng.random(shape) < 0.1, special, signed(rng, shape)).astype("f4") for _ in "xy")
    with parts(entries, counters):
        found, (y, backward) = keep(x, p, key), ops.dropout.run(x, p=p, key=key)
        dx = backward(dy)[0]
    with kernels.disabled(), np.errstate(over="ignore"):
        assert_same(found, keep(x, p, key))
        right, back = ops.dropout.rule(x, p=p, key=key)
        assert_same(y, right)
        assert_same(dx, back(dy)[0])


def assert_same(found, expected):
    """The same shape, dtype and bits."""
    expected = np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("number", [0, 1, 2, 5, 7, 8, 517, 1000])
@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_the_last_bit_of_a_random_number_decides(number, kind):
    """A number that is p is kept; with the next p, as with float64's, which NumPy does not round, it is dropped."""
    u = random(*KEY[:3], 4).random(1001, "float32")[number]
    for p in (kind(u), kind(np.nextafter(u, np.float32(1))), kind(np.nextafter(np.float64(u), 1))):
        with kernels.disabled():
            expected = keep(np.zeros((2, 1001), "f4"), p, KEY)
        assert np.array_equal(keep(np.zeros((2, 1001), "f4"), p, KEY), expected)
        assert expected[1, number] == (u >= p)


@pytest.mark.parametrize("order", ["rows", "columns", "negative", "broadcast", "read-only"])
def test_any_layout(order):
    x = signed(np.random.default_rng(0), (6, 4, 10)).astype("f4")
    layouts = {
        "rows": x[::2],
        "columns": x.T,
        "negative": x[::-1, ::-1],
        "broadcast": np.broadcast_to(x[0], (9, 4, 10)),
    }
    x = layouts.get(order, x)
    x.flags.writeable = order != "read-only" and x.flags.writeable
    y, backward = dropout.dropout_in_one_pass(x, p=0.3, key=KEY)
    right, back = ops.dropout.rule(x, p=0.3, key=KEY)
    assert np.array_equal(y, right)
    assert np.array_equal(backward(x)[0], back(x)[0])


@pytest.mark.parametrize("threads", [1, 5])
def test_any_number_of_threads_gives_the_bits_of_the_definition(threads):
    x = signed(np.random.default_rng(0), (3, 20, 501)).astype("f4")
    with kernels.disabled():
        right, back = ops.dropout.rule(x, p=0.3, key=KEY)
        expected = back(x)[0]
    with parts(1000, 200), parts_by_threads(threads):
        y, backward = dropout.dropout_in_one_pass(x, p=0.3, key=KEY)
        assert_same(y, right)
        assert_same(backward(x)[0], expected)


WRONG = [
    (-0.1, KEY), (1.0, KEY), (float("nan"), KEY), (0.5, None), (0.5, (1, "a")), (0.5, (-1, "a", 2)), (0.5, (1, 2, 3)),
    (0.5, (1, "a", -1)), (0.5, (1, "a", 2**64 - 1)), (0.5, (1, "a", 1, 2, 3, 4)),
    (0.5, (1, "a", np.zeros((1, 2), int))),
]  # fmt: skip


@pytest.mark.parametrize(("p", "key"), WRONG)
@pytest.mark.parametrize("name", ["keep", "dropout", "attention"])
def test_what_the_definition_refuses_is_refused_alike(name, p, key):
    """2⁶⁴ − 1 is a row, but there is no next one."""
    x = np.zeros((2, 3, 1, 2), "f4")
    compute = {
        "keep": keep,
        "dropout": ops.dropout.run,
        "attention": lambda x, **options: ops.attention.run(x, x, x, **options),
    }[name]
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)) as caught:
        compute(x, p=p, key=key)
    with kernels.disabled(), pytest.raises(caught.type) as expected:
        compute(x, p=p, key=key)
    assert str(caught.value) == str(expected.value)


def test_a_bit_an_entry_is_kept():
    x = np.ones((4, 2**16), "f4")
    ops.dropout.run(x, p=0.5, key=KEY)  # what is compiled or imported is not counted
    tracemalloc.start()
    backward = ops.dropout.run(x, p=0.5, key=KEY)[1]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert x.size / 8 <= held < x.size / 7
    assert backward(x)[0].any()


@pytest.mark.parametrize("T", [1, 5, 70])
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("options", ["causal", "all", "documents"])
def test_attention_drops_the_weights_that_the_definition_drops(T, R, options, monkeypatch):
    """Rows that begin anywhere in a byte; blocks of other queries, keys and sequences than the first."""
    monkeypatch.setattr(blocks, "CACHE", 2000)
    rng = np.random.default_rng(T + R)
    B, G, D, S = 3, 2, 8, T + 7 * (options != "documents")
    q, k, v = (signed(rng, (B, n, h, D)).astype("f4") for n, h in ((T, R * G), (S, G), (S, G)))
    keywords = {"causal": options != "all", "p": 0.3, "key": KEY}
    if options == "documents":
        keywords["document_starts"] = (np.arange(T) // 13 * 13)[None].repeat(B, 0)
    found, backward = attention.attention_in_one_pass(q, k, v, **keywords)
    with no_grad():
        assert np.array_equal(attention.attention_in_one_pass(q, k, v, **keywords)[0], found)
    dy = signed(rng, found.shape).astype("f4")
    with kernels.disabled():
        y, back = ops.attention.rule(*(x.astype("f8") for x in (q, k, v)), **keywords)
        expected = [y, *back(dy.astype("f8"))]
    for a, b in zip((found, *backward(dy)), expected, strict=True):
        checks.agree(a, b, "value or gradient", 2e-6)
