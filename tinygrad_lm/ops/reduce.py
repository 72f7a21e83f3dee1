"""Reductions over one axis, several, or all of them (axis=None). The page has none but within its operations."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op


def spread(y, axis, shape, keepdims):
    """A reduction's result as a view of the shape that went in: each entry once for all that it was computed from.

    A 0-d array has an axis 0 for NumPy's reductions, and an axis −1, over one entry.
    """
    xp = array_module(y)
    if axis is not None and not keepdims and shape:
        y = xp.expand_dims(y, axis if isinstance(axis, tuple) else (axis,))
    return xp.broadcast_to(y, shape)


@op
def sum(x, *, axis=None, keepdims=False):
    """y = Σ x        dx = dy, spread over the entries of the sum

    x: any shape
    """
    shape = x.shape
    return x.sum(axis, keepdims=keepdims), lambda dy: (spread(dy, axis, shape, keepdims),)


@op
def mean(x, *, axis=None, keepdims=False):
    """y = Σ x / n        dx = dy / n, spread over the entries of the mean

    x: any shape
    """
    shape = x.shape
    y = x.mean(axis, keepdims=keepdims) if shape else x.sum(axis) / 1
    share = (y.size or 1) / (x.size or 1)  # 1/n
    return y, lambda dy: (spread(dy * share, axis, shape, keepdims),)


@op
def max(x, *, axis=None, keepdims=False):
    """y = max x        dx = dy [x = y] / (number of entries that equal y)

    x: any shape with an entry to every maximum
    """
    xp = array_module(x)
    y = x.max(axis, keepdims=True)
    equal = (x == y) | xp.isnan(x.real)
    n = equal.sum(axis, keepdims=True).astype(x.real.dtype)
    return y if keepdims else x.max(axis), lambda dy: (xp.where(equal, spread(dy, axis, equal.shape, keepdims) / n, 0),)


@op
def logsumexp(x, *, axis=None, keepdims=False):
    """y = log Σ exp x        dx = dy exp(x − y)

    x: any shape with an entry to every sum
    """
    xp = array_module(x)
    shift = x.real.max(axis, keepdims=True)
    shift = xp.where(xp.isfinite(shift), shift, xp.zeros_like(shift))  # it cancels; it prevents overflow
    e = xp.exp(x - shift)
    total = e.sum(axis, keepdims=True)
    y = xp.log(total) + shift

    def backward(dy):
        return (spread(dy, axis, e.shape, keepdims) * (e / total),)  # exp(x − y), without the rounding of a large y

    return y if keepdims or not e.ndim else y.squeeze(axis), backward
