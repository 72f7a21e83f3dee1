"""Find the bug: reductions, shapes, matrix products, tables. See bugs.py."""

import math

import numpy as np

from tinygrad_lm.learn.puzzles.bugs import bug_of, value
from tinygrad_lm.ops.reduce import spread

# ---- reductions


@bug_of("sum", "Take a square matrix summed along its rows. Which dy should reach the entries of row 0?")
def sum_spread_without_its_axis(x, *, axis=None, keepdims=False):
    """Unless the axis is put back, a row is copied where a column belongs, wherever that happens to fit."""
    return x.sum(axis, keepdims=keepdims), lambda dy: (np.broadcast_to(dy, x.shape),)


@bug_of("mean", "By what is a mean of n numbers divided? Which n is it here?")
def mean_divided_by_the_size_of_the_result(x, *, axis=None, keepdims=False):
    """dy.size is how many means there are, not of how many numbers each is made."""
    shape = x.shape
    return x.mean(axis, keepdims=keepdims), lambda dy: (spread(dy / max(dy.size, 1), axis, shape, keepdims),)


@bug_of("max", "All is well while one entry is the greatest. And if there are two?")
def max_without_sharing_among_ties(x, *, axis=None, keepdims=False):
    """Each of the greatest gets all of dy; the gradient of a constant row is then as large as the row is long."""
    y = x.max(axis, keepdims=True)
    return value("max", x, axis=axis, keepdims=keepdims), lambda dy: (spread(dy, axis, x.shape, keepdims) * (x == y),)


@bug_of("logsumexp", "In which of the sums is an entry of row 0?")
def logsumexp_over_everything(x, *, axis=None, keepdims=False):
    """The softmax of the whole array, where that of each row belongs."""
    p = value("softmax", x, axis=tuple(range(x.ndim)))
    return value("logsumexp", x, axis=axis, keepdims=keepdims), lambda dy: (spread(dy, axis, x.shape, keepdims) * p,)


# ---- shapes


@bug_of("transpose", "Two axes cannot show it. Take three, and follow one entry forth and back.")
def transpose_by_the_same_axes(x, *, axes=None):
    """Right for two axes: a swap is its own inverse. A cycle of three is not."""
    return x.transpose(axes), lambda dy: (dy.transpose(axes),)


@bug_of("getitem", "What if an index is in the list twice?")
def getitem_assigned_not_added(x, *, index):
    """`dx[index] = dy`: of an entry that was taken twice only the last gradient stays."""
    shape = x.shape

    def backward(dy):
        dx = np.zeros(shape, dy.dtype)
        dx[index] = dy
        return (dx,)

    return x[index], backward


@bug_of("concat", "What if the pieces are not equally long?")
def concat_split_evenly(*xs, axis=0):
    """Pieces of one length, as if all inputs had it."""
    ends = np.cumsum([xs[0].shape[axis]] * len(xs))[:-1]
    return np.concatenate(xs, axis), lambda dy: tuple(np.split(dy, ends, axis))


# ---- matrix products


@bug_of("matmul", "The shapes fit. Are the entries where they belong?")
def matmul_reshaped_not_transposed(a, b):
    """(n, k) becomes (k, n) either way; but a reshape keeps the entries in their order, and a transpose moves them."""
    flipped = lambda x: x.reshape(*x.shape[:-2], x.shape[-1], x.shape[-2])
    return a @ b, lambda dy: (dy @ flipped(b), flipped(a) @ dy)


@bug_of("linear", "The sizes fit. Which index of dw is the input's, which the output's?")
def linear_with_its_weight_gradient_transposed(x, w, b=None):
    """dyᵀ x is (o, i), and is right where weights are stored as (out, in)."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = x @ w if b is None else x @ w + b

    def backward(dy):
        dy = dy.reshape(len(rows), w.shape[1])
        dx, dw = (dy @ w.T).reshape(x.shape), (dy.T @ rows).reshape(w.shape)
        return (dx, dw) if b is None else (dx, dw, dy.sum(0))

    return y, backward


@bug_of("linear", "If b grows by 1, how far does Σ dy y move, with two examples in the batch?")
def linear_with_its_bias_gradient_averaged(x, w, b=None):
    """The mean over the batch belongs to the loss, once."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = x @ w if b is None else x @ w + b

    def backward(dy):
        dy = dy.reshape(len(rows), w.shape[1])
        dx, dw = (dy @ w.T).reshape(x.shape), rows.T @ dy
        return (dx, dw) if b is None else (dx, dw, dy.mean(0))

    return y, backward


@bug_of("embedding", "What if a token is in the text twice?")
def embedding_with_rows_overwritten(w, ids):
    """NumPy reads all rows, adds, and writes all back: of a token that occurs twice only the last gradient stays."""

    def backward(dy):
        dw = np.zeros(w.shape, dy.dtype)
        dw[ids] += dy
        return dw, None

    return w[ids], backward
