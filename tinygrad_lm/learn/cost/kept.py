"""What an operation keeps for its gradient function, and the shape of its value, where it is not executed."""

from contextlib import contextmanager
from functools import partial

import numpy as np

from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.replaceable import Replaceable
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.kernels.numpy import cross_entropy as classifier
from tinygrad_lm.learn.cost.flops import VIEWS
from tinygrad_lm.ops.rotary import angles


def blank(shape, dtype):
    """An array with a shape and next to no memory: all its entries are one and the same zero."""
    return np.ndarray(shape, dtype, np.zeros(1, dtype), strides=(0,) * len(shape))


def root(x):
    """The array that owns x's memory: two views of one array keep it alive once."""
    return x.base if isinstance(x.base, np.ndarray) else x


# By operation, from its inputs, result and options: what the definition in ops/ keeps. Kernels keep less. Of the head
# with its loss it is what the CPU's kernel keeps, because the definition would keep all logits of a large vocabulary.
KEPT = {
    "add": lambda i, y, o: [],
    "multiply": lambda i, y, o: i,
    "divide": lambda i, y, o: [i[1], y],
    "tanh": lambda i, y, o: [y],
    "linear": lambda i, y, o: i,
    "embedding": lambda i, y, o: [i[1]],
    "relu": lambda i, y, o: [blank(y.shape, bool)],
    "relu_squared": lambda i, y, o: [blank(y.shape, y.dtype)],
    "silu": lambda i, y, o: [y, blank(y.shape, y.dtype)],
    "gelu": lambda i, y, o: [*i, blank(y.shape, y.dtype)],
    "gelu_tanh": lambda i, y, o: [*i, blank(y.shape, y.dtype)],
    "layer_norm": lambda i, y, o: [blank(y.shape, y.dtype), blank((*y.shape[:-1], 1), y.dtype), *i[1:2]],
    "rms_norm": lambda i, y, o: [
        blank(y.shape, y.dtype) if len(i) > 1 else y,
        blank((*y.shape[:-1], 1), y.dtype),
        *i[1:],
    ],
    "rotary": lambda i, y, o: angles(
        np, y.shape[1], y.shape[3], o.get("base", 1e4), o.get("start", 0), o.get("scaling", ()), y.dtype
    ),
    "dropout": lambda i, y, o: [blank(y.shape, bool)],
    "attention": lambda i, y, o: attention(y, *i, **o),
    "cross_entropy": lambda i, y, o: cross_entropy(*i),
    "linear_cross_entropy": lambda i, y, o: linear_cross_entropy(*i),
} | {name: lambda i, y, o: [] for name in VIEWS}


def attention(y, q, k, v, p=0.0, **others):
    """q, k, v, the weights P of every query for every key, the result y; and the mask of dropout.

    Where rows of several heads or times change places, there is a copy: of q, and of y.
    """
    (B, T, H, _), (_, S, G, _) = q.shape, k.shape
    P = [blank((B, H, T, S), dtype) for dtype in ([q.dtype, bool] if p else [q.dtype])]
    copy = blank(q.shape, q.dtype)
    return [q if T == 1 or H == G else copy, k, v, *P, y if T == 1 or H == 1 else blank(q.shape, q.dtype)]


def cross_entropy(logits, targets):
    """exp(x − max) and its sum; which positions count, their targets and numbers."""
    n = targets.size
    wide = blank((n, logits.shape[-1]), logits.dtype)
    return [wide, blank((n, 1), logits.dtype), blank((n,), bool), *(blank((n,), np.int64) for _ in range(2))]


def linear_cross_entropy(x, w, targets):
    """Of few logits what linear and cross_entropy keep; of many dx and dw, and no logits."""
    if targets.size > classifier.rows_at_a_time(w, classifier.CHUNK):
        return [blank(x.shape, x.dtype), blank(w.shape, w.dtype)]
    return [x, w, *cross_entropy(blank((*targets.shape, w.shape[1]), x.dtype), targets)]


@contextmanager
def shapes_alone():
    """Within the block an operation on float32 arrays of a CPU, in any thread, gives an array of the right shape and no
    content, and has no gradient function; what only makes views runs as it is.
    """
    before = {op: op.implementations for op in Op.registry.values()}, Replaceable.enabled
    try:
        for op in before[0]:
            op.implementations = {} if op.name in VIEWS else {("cpu", "float32"): partial(shape_alone, op.name)}
        Replaceable.enabled = True
        yield
    finally:
        Replaceable.enabled = before[1]
        for op, implementations in before[0].items():
            op.implementations = implementations


def shape_alone(name, *inputs, **options):
    """An implementation of an operation: a blank array, and no gradient function."""
    if name not in KEPT:
        raise ConfigError("no shape is known for its value; a step with it must be executed")
    shapes = [x.shape for x in inputs]
    if name == "linear":
        shape = (*shapes[0][:-1], shapes[1][1])
    elif name == "embedding":
        shape = (*shapes[1], shapes[0][1])
    elif name == "attention":
        shape = shapes[0]
    elif name in ("cross_entropy", "linear_cross_entropy"):
        shape = ()
    else:
        shape = np.broadcast_shapes(*shapes)
    return blank(shape, inputs[0].dtype), None
