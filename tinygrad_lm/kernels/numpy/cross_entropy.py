"""A language model's classifier in chunks: the logits of some rows at a time, never those of all."""

import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.ops.cross_entropy import (
    check_targets,
    cross_entropy,
    linear_cross_entropy,
    linear_log_probability,
    log_probability,
)
from tinygrad_lm.ops.matmul import linear

CHUNK = 2**26  # bytes of logits where gradients are computed. Each chunk goes through all of w, which costs time
ALONE = 4  # times as many where they are not: 4 % of the loss' time, measured with GPT-2's vocabulary
PIECE = 1024  # columns of dw that a chunk's product is added to at once, while it is in the cache


@linear_cross_entropy.on("cpu", "float32", "float64")
def linear_cross_entropy_in_chunks(x, w, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py. Of many logits dx and dw are kept in their place.

    Both are computed with the loss, while the logits are there, for dy = 1: dy is one number, so it comes in as a
    factor. Where nothing is recorded only the loss is computed, and there is no gradient function.
    """
    return loss_in_chunks(Products, x, w, targets, ignore_index)


@linear_log_probability.on("cpu", "float32", "float64")
def linear_log_probability_in_chunks(x, w, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py. Of many logits only x and w are kept.

    dy has an entry a row and comes afterwards, so the backward pass computes the logits of each chunk once more. Chunks
    are the same whether anything is recorded or not, and so are the bits of a row's value.
    """
    return log_probability_in_chunks(Products, x, w, targets, ignore_index)


class Products:
    """The products of some rows with w, and of their gradients."""

    def __init__(self, w):
        self.w = w

    def logits(self, rows):
        return linear.run(rows, self.w)[0]

    def gradients(self, rows, dz, dx, dw):
        """Write dx of the rows, and add to dw."""
        np.matmul(dz, self.w.T, out=dx)
        add_product(dw, rows, dz)


def loss_in_chunks(kind, x, w, targets, ignore_index):
    """Value and gradient function of linear_cross_entropy. kind: of the products, such as Products."""
    check_targets(x, targets, "x")
    chunk = rows_at_a_time(w, CHUNK if thread.recording else ALONE * CHUNK)
    if targets.size <= chunk:
        return at_once(cross_entropy, x, w, targets, ignore_index)
    shape, rows, targets = x.shape, x.reshape(targets.size, x.shape[-1]), targets.reshape(-1)
    products = kind(w)
    if thread.recording:
        dx, dw = np.empty(rows.shape, x.dtype), np.zeros_like(w)
    counted = targets != ignore_index
    y, N = 0.0, max(1, np.count_nonzero(counted))

    for here in parts(rows, chunk):
        logits = products.logits(rows[here])
        mean, back = cross_entropy.run(logits, targets[here], ignore_index=ignore_index)
        share = float(np.count_nonzero(counted[here]) / N)
        y = y + mean * share
        if thread.recording:
            dz, _ = back(share)
            products.gradients(rows[here], dz, dx[here], dw)
            del dz
        del logits, back  # they go before the next ones come
    if not thread.recording:
        return y, None
    return y, lambda dy: (lambda: (dx * dy).reshape(shape), lambda: dw * dy, None)


def log_probability_in_chunks(kind, x, w, targets, ignore_index):
    """Value and gradient function of linear_log_probability. kind: of the products, such as Products."""
    check_targets(x, targets, "x")
    chunk = rows_at_a_time(w, CHUNK)
    if targets.size <= chunk:
        return at_once(log_probability, x, w, targets, ignore_index)
    shape, rows, targets = x.shape, x.reshape(targets.size, x.shape[-1]), targets.reshape(-1)
    y, products = np.empty(len(rows), x.dtype), kind(w)

    def of_chunk(here):
        logits = products.logits(rows[here])
        return log_probability.run(logits, targets[here], ignore_index=ignore_index)

    for here in parts(rows, chunk):
        y[here] = of_chunk(here)[0]

    def backward(dy):
        dy, dx, dw = dy.reshape(-1), np.empty(rows.shape, x.dtype), np.zeros_like(w)
        for here in parts(rows, chunk):
            dz, _ = of_chunk(here)[1](dy[here])
            products.gradients(rows[here], dz, dx[here], dw)
            del dz
        return dx.reshape(shape), dw, None

    return y.reshape(shape[:-1]), backward


def rows_at_a_time(w, size):
    """How many positions' logits take so many bytes at most; one is the least."""
    return max(1, size // max(1, w.shape[-1] * w.itemsize))


def parts(rows, chunk):
    """Slices of so many rows, one after the other."""
    return [slice(start, start + chunk) for start in range(0, len(rows), chunk)]


def add_product(dw, rows, dz):
    """dw += rowsᵀ dz, in the order in which dw lies: it may be the gradient of a transposed embedding."""
    columns = dw.flags.f_contiguous
    for start in range(0, dw.shape[1], PIECE):
        here = slice(start, start + PIECE)
        dw[:, here] += (dz[:, here].T @ rows).T if columns else rows.T @ dz[:, here]


def at_once(function, x, w, targets, ignore_index):
    """The definition, with the implementations of its two parts: linear, and a function of the logits."""
    logits, through_product = linear.run(x, w)
    y, through_function = function.run(logits, targets, ignore_index=ignore_index)

    def backward(dy):
        dz, _ = through_function(dy)
        return *through_product(dz), None

    return y, backward
