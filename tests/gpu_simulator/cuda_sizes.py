"""Larger cases for the CUDA kernels, by the name of their rule: they must not fit one packet, warp, block or strip."""

import numpy as np
from hypothesis import strategies as st

from tinygrad_lm.testing.case import Case

lengths = st.sampled_from([1, 2, 7, 8, 31, 32, 33, 64, 127, 128, 256, 260, 264])
rows = st.sampled_from([1, 2, 3, 5, 8, 21])


@st.composite
def numbers(draw, *shape):
    """Normal numbers; a row now and then far from 0, as the deviations must not suffer from that."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.standard_normal(shape) + draw(st.sampled_from([0.0, 0.0, 3.0]))


@st.composite
def flat(draw):
    """Any number of entries, of one axis or two."""
    shape = (draw(rows), draw(lengths)) if draw(st.booleans()) else (9 * draw(lengths),)
    return Case((draw(numbers(*shape)),))


@st.composite
def pair(draw):
    """Two arrays of one shape."""
    shape = draw(flat()).inputs[0].shape
    return Case((draw(numbers(*shape)), draw(numbers(*shape))))


@st.composite
def normalization(draw, weights):
    N, C = draw(rows), draw(lengths)
    C = max(C, 7)  # of one number alone nothing is left
    given = draw(st.integers(0, weights))
    return Case((draw(numbers(N, C)), *(draw(numbers(C)) for _ in range(given))), {"eps": 1e-3})


@st.composite
def dropout(draw):
    p, seed = draw(st.sampled_from([0.1, 0.5])), draw(st.integers(0, 9))
    return Case(draw(flat()).inputs, {"p": p, "key": (seed, "test", 1, draw(st.integers(0, 9)))})


@st.composite
def rotary(draw):
    B, T, H, half = (
        draw(st.integers(1, 3)),
        draw(rows),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 3, 4, 8, 16, 32])),
    )
    return Case((draw(numbers(B, T, H, 2 * half)),), {"start": draw(st.integers(0, 99))})


@st.composite
def embedding(draw):
    """Few tokens with many positions each, and many that do not occur."""
    V, C, N = draw(st.sampled_from([1, 3, 40, 200])), draw(lengths), draw(st.sampled_from([1, 9, 33, 100, 700]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Case((draw(numbers(V, C)), rng.integers(0, V, (N,)) // draw(st.sampled_from([1, 2]))))


@st.composite
def log_probability(draw):
    N, V = draw(rows), draw(lengths) + draw(st.sampled_from([0, 264]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.integers(0, V, N)
    if draw(st.booleans()):
        targets[rng.random(N) < 0.5] = -100
    return Case((10 * draw(numbers(N, V)), targets))


@st.composite
def linear_log_probability(draw):
    """The weight as it comes or seen from the side, as a tied head has it; small logits, for bfloat16 rounds them."""
    logits, targets = (case := draw(log_probability())).inputs
    C, rng = draw(st.sampled_from([1, 7, 16, 40])), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, w = rng.standard_normal((len(targets), C)), rng.standard_normal((logits.shape[1], C)).T / (2 * C**0.5)
    return Case((x, w if draw(st.booleans()) else w.copy("C"), targets), case.options)


@st.composite
def attention(draw):
    """Tiles that are full and not, queries fewer than keys, key heads shared and not, documents, dropout."""
    B, G, R = (draw(st.integers(1, 2)) for _ in range(3))
    D = draw(st.sampled_from([16, 64, 80, 128]))
    p = draw(st.sampled_from([0.0, 0.0, 0.3]))
    S = draw(st.sampled_from([8, 64, 72, 136, 200] if p else [1, 15, 64, 65, 130]))
    T = draw(st.sampled_from([T for T in (1, 16, 63, 64, 100, 130) if T <= S]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, k, v = (rng.standard_normal((B, n, heads, D)) for n, heads in ((T, G * R), (S, G), (S, G)))
    causal = draw(st.booleans())
    starts = draw(st.sampled_from([None, documents, anywhere] + [alone] * (not p)))
    options = {"causal": causal, "document_starts": starts and starts(rng, B, T, S, causal)}
    return Case((q, k, v), options | ({"p": p, "key": (3, "test", S, T)} if p else {}))


def documents(rng, B, T, S, causal):
    """The first key of each query's document: a few that lie one after the other."""
    first = np.maximum.accumulate(np.where(rng.random((B, S)) < 3 / S, np.arange(S), 0), axis=1)
    return first[:, S - T :] if causal else np.sort(rng.integers(0, S, (B, T)))


def alone(rng, B, T, S, causal):
    """Each query sees its last key alone, and has dq = 0, which takes an exact y; but for eight that see all."""
    starts = np.tile(np.arange(S - T, S) if causal else np.full(T, S - 1), (B, 1))
    middle = T * 3 // 5 // 8 * 8
    starts[:, middle : middle + 8] = 0
    return starts


def anywhere(rng, B, T, S, causal):
    """In no order."""
    last = np.arange(S - T, S) if causal else np.full(T, S - 1)
    return rng.integers(0, last + 1, (B, T)).astype(np.int32)


@st.composite
def linear(draw):
    """With and without a bias; the weight as it comes or seen from the side, as a tied head has it."""
    N, i, o = draw(rows) * draw(rows), draw(st.sampled_from([1, 3, 16, 65])), draw(lengths)
    x, w, b = draw(numbers(1, N, i)), draw(numbers(o, i)).T, draw(numbers(o))
    w = w if draw(st.booleans()) else w.copy("C")
    return Case((x, w, b) if draw(st.booleans()) else (x, w))


@st.composite
def matmul(draw):
    """One product or several; the operands as they come or seen from the side."""
    n, k, m = draw(rows), draw(lengths), draw(st.sampled_from([1, 3, 8, 33]))
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    a, b = draw(numbers(*leading, k, n)).swapaxes(-1, -2), draw(numbers(*leading, m, k)).swapaxes(-1, -2)
    return Case(tuple(x if draw(st.booleans()) else x.copy("C") for x in (a, b)))


LARGER = dict.fromkeys(("relu", "relu_squared", "silu", "gelu", "gelu_tanh"), flat())
LARGER |= {"add": pair(), "multiply": pair()}
LARGER |= {"layer_norm": normalization(2), "rms_norm": normalization(1)}
LARGER |= {"dropout": dropout(), "rotary": rotary(), "embedding": embedding()}
LARGER |= {"attention": attention(), "linear": linear(), "matmul": matmul()}
LARGER |= dict.fromkeys(("log_probability", "cross_entropy"), log_probability())
LARGER |= dict.fromkeys(("linear_log_probability", "linear_cross_entropy"), linear_log_probability())
