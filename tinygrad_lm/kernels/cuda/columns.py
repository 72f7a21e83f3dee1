"""Sums over the rows of a matrix on a GPU, the same in every run: gradients of biases. See columns.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import REALS, f4, i4, kernel

ROWS = 256  # that are added up at once


def column_sums(x, dtype):
    """Σ over the rows of a matrix, added up in float32, as an array of this dtype."""
    (N, C), xp = x.shape, array_module(x)
    strips = -(-N // ROWS)
    y = xp.empty((strips, C), f4 if strips > 1 else dtype)
    launch = kernel("columns", "column_sums", y, ROWS=ROWS, FROM=REALS[x.dtype.name])
    launch((-(-C // 32), strips), 256, x, y, i4(N), i4(C))
    return column_sums(y, dtype) if strips > 1 else y[0]
