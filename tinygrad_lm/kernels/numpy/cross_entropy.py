"""A language model's classifier in chunks: the logits of some rows at a time, never those of all."""

import numpy as np

from tinygrad_lm.backend import wide
from tinygrad_lm.engine.graph import mode
from tinygrad_lm.ops.cross_entropy import check_targets, cross_entropy, linear_cross_entropy
from tinygrad_lm.ops.matmul import linear

CHUNK = 2**26  # bytes of logits where gradients are computed. Each chunk goes through all of w, which costs time
ALONE = 4  # times as many where they are not: 4 % of the loss' time, measured with GPT-2's vocabulary
PIECE = 1024  # columns of dw that a chunk's product is added to at once, while it is in the cache


@linear_cross_entropy.kernel("cpu")
def linear_cross_entropy_in_chunks(x, w, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py. Of many logits dx and dw are kept in their stead.

    Both are computed with the loss, while the logits are there, for dy = 1: dy is one number, so it comes in as a
    factor. Where nothing is recorded only the loss is computed, and there is no way back.
    """
    product, loss = (op.kernels.get("cpu", op.rule) for op in (linear, cross_entropy))
    check_targets(x, targets, "x")
    chunk = rows_at_a_time(w)
    if targets.size <= chunk or x.dtype != wide(x.dtype):
        return at_once(product, loss, x, w, targets, ignore_index)
    shape, rows, targets = x.shape, x.reshape(targets.size, x.shape[-1]), targets.reshape(-1)
    if mode.recording:
        dx, dw = np.empty(rows.shape, x.dtype), np.zeros_like(w)
    counted = targets != ignore_index
    y, N = 0.0, max(1, np.count_nonzero(counted))

    for start in range(0, len(rows), chunk):
        here = slice(start, start + chunk)
        logits, _ = product(rows[here], w)
        mean, back = loss(logits, targets[here], ignore_index=ignore_index)
        share = float(np.count_nonzero(counted[here]) / N)
        y = y + mean * share
        if mode.recording:
            dz, _ = back(share)
            np.matmul(dz, w.T, out=dx[here])
            add_product(dw, rows[here], dz)
            del dz
        del logits, back  # they go before the next ones come
    if not mode.recording:
        return y, None
    return y, lambda dy: (lambda: (dx * dy).reshape(shape), lambda: dw * dy, None)


def rows_at_a_time(w):
    """How many positions' logits are held at most."""
    return max(1, CHUNK * (1 if mode.recording else ALONE) // max(1, w.shape[-1] * w.itemsize))


def add_product(dw, rows, dz):
    """dw += rowsᵀ dz, in the order in which dw lies: it may be the gradient of a transposed embedding."""
    columns = dw.flags.f_contiguous
    for start in range(0, dw.shape[1], PIECE):
        here = slice(start, start + PIECE)
        dw[:, here] += (dz[:, here].T @ rows).T if columns else rows.T @ dz[:, here]


def at_once(product, loss, x, w, targets, ignore_index):
    """As the definition does it, but with the kernels of its two parts."""
    logits, through_product = product(x, w)
    y, through_loss = loss(logits, targets, ignore_index=ignore_index)

    def backward(dy):
        dz, _ = through_loss(dy)
        return *through_product(dz), None

    return y, backward
