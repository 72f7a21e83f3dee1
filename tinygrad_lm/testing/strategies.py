"""Which inputs fit the operations that need more than case.py's strategies: the table of all is in cases.py.

Read a strategy as the operation's description: which shapes fit, which numbers, which options. How shapes, numbers and
layouts are drawn is in drawing.py.

Dimensions: B batch, T queries, S keys, H heads, G key heads, R queries a key head, D head size, C channels,
V vocabulary; n, k, m any.
"""

from itertools import permutations

import numpy as np
from hypothesis import strategies as st

from tinygrad_lm import ops
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.drawing import arrays, axes, booleans, broadcastable, shapes, sides, solid


@st.composite
def where(draw):
    """A condition and two values that all broadcast."""
    (c, a, b), _ = draw(broadcastable(3))
    return Case((draw(arrays(c, booleans)), draw(arrays(a)), draw(arrays(b))))


@st.composite
def to(draw):
    """Here only what keeps the numbers; other devices and dtypes in test_laws.py and test_strict_array.py."""
    return Case((draw(arrays(shapes)),), {"device": draw(st.sampled_from([None, "cpu"]))})


@st.composite
def sum(draw):
    """Over nothing a sum is 0, so no axis needs an entry."""
    shape = draw(shapes)
    return Case((draw(arrays(shape)),), {"axis": draw(axes(len(shape))), "keepdims": draw(st.booleans())})


@st.composite
def reshape(draw):
    """To any shape of equal size; one axis may be -1."""
    shape = draw(shapes)
    size = int(np.prod(shape, dtype=int))
    targets = [(size,), shape[::-1], (1, *shape), (*shape[:1], -1 if size else int(np.prod(shape[1:], dtype=int)))]
    return Case((draw(arrays(shape)),), {"shape": draw(st.sampled_from(targets if shape else [(), (1,), (1, -1), -1]))})


@st.composite
def transpose(draw):
    """By a permutation, each axis counted from either end, or reversed if None."""
    shape = draw(shapes)
    n = len(shape)
    orders = st.sampled_from(list(permutations(range(n))))  # st.permutations seldom draws a cycle of three
    permutation = orders.flatmap(lambda order: st.tuples(*[st.sampled_from([i, i - n]) for i in order]))
    return Case((draw(arrays(shape)),), {"axes": draw(st.none() | permutation)})


@st.composite
def swapaxes(draw):
    shape = draw(shapes.filter(len))
    axis = st.integers(-len(shape), len(shape) - 1)
    return Case((draw(arrays(shape)),), {"axis1": draw(axis), "axis2": draw(axis)})


@st.composite
def broadcast_to(draw):
    (shape, _), target = draw(broadcastable(2))
    return Case((draw(arrays(shape)),), {"shape": target})


@st.composite
def concat(draw):
    """Shapes equal but for the axis."""
    shape = draw(shapes.filter(len))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    lengths = draw(st.lists(sides, min_size=1, max_size=3))
    place = axis % len(shape)
    xs = [draw(arrays((*shape[:place], n, *shape[place + 1 :]))) for n in lengths]
    return Case(tuple(xs), {"axis": axis})


@st.composite
def stack(draw):
    shape = draw(shapes)
    xs = [draw(arrays(shape)) for _ in range(draw(st.integers(1, 3)))]
    return Case(tuple(xs), {"axis": draw(st.integers(-len(shape) - 1, len(shape)))})


@st.composite
def getitem(draw):
    """NumPy's indices: integers, slices, None, ..., and arrays or lists of integers or booleans, in any mixture.

    Arrays may name a place more than once, and by both its names, as 2 and -1 in an axis of 3.
    """
    shape = draw(shapes.filter(len))
    together = draw(solid)  # the arrays of one index need one length
    cut = draw(st.integers(0, len(shape)))
    parts = [draw(index_part(n, together)) for n in shape]
    index = parts[:cut]
    if draw(st.booleans()):
        index += [Ellipsis, *parts[draw(st.integers(cut, len(shape))) :]]
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), None)
    choices = [st.just(tuple(index)), st.integers(1, len(shape)).flatmap(lambda n: arrays(shape[:n], booleans))]
    if len(index) == 1 and not isinstance(index[0], tuple):
        choices.append(st.just(index[0]))
    return Case((draw(arrays(shape)),), {"index": draw(st.one_of(choices))})


def index_part(n, length):
    """What may stand for one axis of n entries."""
    bound = st.none() | st.integers(-n - 1, n + 1)
    part = st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1, -2]))
    if n:
        ids = st.lists(st.integers(-n, n - 1), min_size=length, max_size=length)
        part |= st.integers(-n, n - 1) | ids | ids.map(tuple) | ids.map(np.array)
    return part


@st.composite
def matmul(draw):
    """(..., n, k) @ (..., k, m), leading axes broadcast."""
    n, k, m = draw(st.tuples(sides, sides, sides) | solid.map(lambda n: (n, n, n)))
    (a, b), _ = draw(broadcastable(2))
    return Case((draw(arrays((*a[-1:], n, k))), draw(arrays((*b[-2:], k, m)))))


@st.composite
def linear(draw):
    """(..., i), (i, o), and perhaps a bias (o,)."""
    i, o = draw(sides), draw(sides)
    x, w, b = draw(arrays((*draw(shapes)[:2], i))), draw(arrays((i, o))), draw(arrays((o,)))
    return Case((x, w, b) if draw(st.booleans()) else (x, w))


@st.composite
def normalization(draw, numbers, weights, eps):
    """(..., C) with at least one channel, perhaps with weights (C,)."""
    C = draw(solid)
    x = draw(arrays((*draw(shapes)[:2], C), numbers))
    return Case((x, *(draw(arrays((C,))) for _ in range(draw(st.integers(0, weights))))), {"eps": draw(eps)})


keys = st.tuples(st.integers(0, 9), st.just("test"), st.integers(0, 9), st.integers(0, 9))  # seed, stream, step, row


@st.composite
def dropout(draw):
    return Case((draw(arrays(shapes)),), {"p": draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])), "key": draw(keys)})


@st.composite
def embedding(draw):
    """A table (V, C), and token ids of any shape and integer dtype, repeated or not."""
    V, C = draw(solid), draw(sides)
    dtype = draw(st.sampled_from(["int64", "int32", "uint16", "uint8"]))
    return Case((draw(arrays((V, C))), draw(arrays(shapes, lambda rng, shape: rng.integers(0, V, shape, dtype)))))


@st.composite
def rotary(draw):
    """(B, T, H, D) with D even; positions from `start`; frequencies as they are, or all, some or none of them lower."""
    B, T, H, D = (draw(st.sampled_from(some)) for some in ([1, 2, 0], [1, 2, 3, 4, 0], [1, 2], [2, 4]))
    x = draw(arrays((B, T, H, D)))
    base, start = draw(st.sampled_from([10.0, 10000.0])), draw(st.integers(0, 50))
    scaling = draw(st.sampled_from([(), *((8.0, 1.0, 4.0, length) for length in (4, 20, 1000))]))
    return Case((x,), {"base": base, "start": start, "scaling": scaling})


@st.composite
def attention(draw):
    """(B, T, H, D), (B, S, G, D) twice; H a multiple of G; T at most S if causal; any T and S if not."""
    B, G, R, D = draw(st.sampled_from([1, 2, 0])), draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(solid)
    S, causal, p = draw(solid), draw(st.booleans()), draw(st.sampled_from([0.0, 0.0, 0.3]))
    T = draw(st.integers(0, S if causal else 4))
    q, k, v = draw(arrays((B, T, G * R, D))), draw(arrays((B, S, G, D))), draw(arrays((B, S, G, D)))
    last = np.arange(S - T, S) if causal else np.full(T, S - 1)
    starts = draw(st.none() | arrays((B, T), lambda rng, shape: rng.integers(0, last + 1, shape)))
    return Case((q, k, v), {"causal": causal, "document_starts": starts, "p": p, "key": draw(keys) if p else None})


@st.composite
def log_probability(draw, square=None):
    """Logits (..., V), and targets (...) below V or equal to ignore_index; `square` of as many classes, or any."""
    V, shape = (square, (square,)) if square else (draw(solid), draw(shapes)[:2])
    ignored = draw(st.sampled_from([-100, 0]))
    ids = lambda rng, shape: np.where(rng.random(shape) < 0.3, ignored, rng.integers(0, V, shape))
    return Case((draw(arrays((*shape, V))), draw(arrays(shape, ids))), {"ignore_index": ignored})


@st.composite
def linear_log_probability(draw):
    """(..., C), a matrix (C, V), and targets (...) below V or equal to ignore_index."""
    square = draw(st.none() | solid)  # only where all are can the two gradients be exchanged
    logits, targets = (case := draw(log_probability(square))).inputs
    x, w = draw(arrays((*targets.shape, C := square or draw(sides)))), draw(arrays((C, logits.shape[-1])))
    return Case((x, w, targets), case.options)


@st.composite
def recompute(draw):
    """Any function of tensors that computes the same twice, dropout included."""
    n = draw(st.integers(1, 3))
    a, b = draw(arrays((2, n))), draw(arrays((n, 2)))
    functions = {
        "one input": ((a,), lambda x: ops.tanh(x) * x),
        "used twice": ((a, b), lambda x, y: (x @ y) @ (x @ y)),
        "unused": ((a, b), lambda x, y: ops.exp(y)),
        "dropout": ((a,), lambda x: ops.dropout(ops.sigmoid(x), p=0.5, key=(1, "test", 2, 0))),
        "nested": ((a,), lambda x: ops.recompute(ops.recompute(x, function=ops.exp), function=ops.tanh)),
    }
    inputs, function = functions[draw(st.sampled_from(sorted(functions)))]
    return Case(inputs, {"function": function})
