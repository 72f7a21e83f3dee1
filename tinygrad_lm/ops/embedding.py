"""Embedding: rows of a table, by token id. As on the page, for ids of any shape."""

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import DtypeError, ShapeError, TokenError


@op
def embedding(w, ids):
    """y = w[ids]        dw[v] = Σ dy over ids = v

    (V, C), integers of any shape S -> (*S, C)

    The same as the product of one-hot rows with w, without the multiplications by zero.
    """
    if w.ndim != 2:
        raise ShapeError(f"the table needs two axes, found shape {w.shape}")
    check_ids(ids, len(w))
    xp, shape = array_module(w), w.shape

    def backward(dy):
        dw = xp.zeros(shape, dy.dtype)
        xp.add.at(dw, ids, dy)  # a token that occurs twice adds both its gradients
        return dw, None

    return w[ids], backward


def check_ids(ids, size):
    """Token ids must be integers in [0, size): NumPy would take a negative one from the table's end without a word.

    Reading them would synchronise a GPU, so there they are not checked; token files are, when they are read.
    """
    if ids.dtype.kind not in "iu":
        raise DtypeError(f"token ids must be integers, found {ids.dtype}")
    if isinstance(ids, np.ndarray) and ids.size and not (ids.min() >= 0 and ids.max() < size):
        wrong = ids[(ids < 0) | (ids >= size)]
        raise TokenError(f"token id {wrong.flat[0]} is outside the vocabulary of {size} ({wrong.size} such ids)")
