"""Sums over the rows of a matrix on a GPU, the same in every run: gradients of biases. See columns.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import REALS, f4, i4, kernel, width

BLOCKS = 528  # that read a tall matrix: 132 multiprocessors with 32 warps each
AT_ONCE = 1024  # rows of which a block adds up all
SHORTEST = 32  # rows of a strip of a tall matrix


def column_sums(x, dtype):
    """Σ over the rows of a matrix, added up in float32, as an array of this dtype."""
    (N, C), xp = x.shape, array_module(x)
    if N > AT_ONCE:
        W = width(C, x)
        across = -(-C // (32 * W))
        rows = max(SHORTEST, -(-N // max(1, BLOCKS // across)))
        y = xp.empty((-(-N // rows), C), f4)
        launched(x, y, W, (across, len(y)), rows, warps=8)
        x, N = y, len(y)
    y = xp.empty(C, dtype)
    launched(x, y, 1, (-(-C // 32), 1), N, warps=32)
    return y


def launched(x, y, width, blocks, rows, warps):
    constants = {"FROM": REALS[x.dtype.name], "WARPS": warps}
    kernel("columns", "column_sums", y, width, **constants)(blocks, 32 * warps, x, y, *map(i4, (*x.shape, rows)))
