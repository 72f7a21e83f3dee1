"""A language model's classifier in chunks (numpy/cross_entropy.py) with products of bfloat16 numbers."""

import numpy as np

from tinygrad_lm.kernels.bfloat16.tiles import DTYPES, aligned, both, columns, product, rows
from tinygrad_lm.kernels.numpy.cross_entropy import log_probability_in_chunks, loss_in_chunks
from tinygrad_lm.ops.cross_entropy import linear_cross_entropy, linear_log_probability


@linear_cross_entropy.on("cpu", *DTYPES)
def linear_cross_entropy_in_bfloat16(x, w, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py."""
    return loss_in_chunks(RoundedProducts, x, w, targets, ignore_index)


@linear_log_probability.on("cpu", *DTYPES)
def linear_log_probability_in_bfloat16(x, w, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py."""
    return log_probability_in_chunks(RoundedProducts, x, w, targets, ignore_index)


class RoundedProducts:
    """As numpy/cross_entropy.py's Products. w is rounded once for all chunks and each way, 4 bytes an entry in all."""

    def __init__(self, w):
        self.w, self.right, self.left = w, columns(w), None

    def logits(self, some):
        return product(rows(np.ascontiguousarray(some)), self.right, aligned((len(some), self.w.shape[1])))

    def gradients(self, some, dz, dx, dw):
        """Write dx of the rows, and add to dw, in the order in which dw lies."""
        if self.left is None:
            self.left = columns(self.w.T)
        some, lies_across = np.ascontiguousarray(some), not dw.flags.c_contiguous
        dz_rows, dz_others = both(dz, lies_across)
        product(dz_rows, self.left, dx)
        if lies_across:
            product(dz_others, columns(some), dw.T, add=True)
        else:
            product(rows(some.T), dz_others, dw, add=True)
