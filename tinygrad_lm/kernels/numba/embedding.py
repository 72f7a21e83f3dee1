"""Rows of the embedding, and the sums of their gradients."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.embedding import check_ids, embedding

COLUMNS = 64  # that a core adds up at a time


@embedding.on("cpu", "float32")
def embedding_by_rows(w, ids):
    """The rule of ops/embedding.py."""
    if w.ndim != 2:
        return NotImplemented
    check_ids(ids, len(w))
    shape = w.shape

    def backward(dy):
        dw = np.zeros(shape, f4)
        add_rows(shape[1], COLUMNS, np.ascontiguousarray(dy).reshape(ids.size, shape[1]), ids.reshape(-1), dw)
        return dw, None

    return w[ids], backward


@shared
def add_rows(start, stop, dy, ids, dw):
    """The columns from start to stop: each sum is in the order of the ids."""
    for i in range(len(ids)):
        total, row = dw[ids[i], start:stop], dy[i, start:stop]
        for j in range(row.size):
            total[j] += row[j]
