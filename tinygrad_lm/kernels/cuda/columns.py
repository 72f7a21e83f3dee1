"""Sums over the rows of a matrix on a GPU, the same in every run: gradients of biases. See columns.cu."""

import weakref

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import f4, i4, kernel, width

BLOCKS = 528  # that read a tall matrix: 132 multiprocessors with 32 warps each
AT_ONCE = 1024  # rows of which a block adds up all
SHORTEST = 32  # rows of a strip of a tall matrix
summed: dict = {}  # address: an array that a kernel added up while it wrote it, held weakly, and the sums that it left


def remember(x, parts):
    """Say that the rows of parts, float32 (n, C), add up to x's as a matrix (…, C). x must not change any more.

    Forgotten when x is freed, before anything else can lie at its address: a step must leave no memory taken, or the
    next one, which a graph records, finds too little in its pool.
    """
    address = x.data.ptr
    summed[address] = weakref.ref(x, lambda _: summed.pop(address, None)), parts


def column_sums(x, plus=None, out=None):
    """Σ over the rows of a matrix (+ plus) in float32; plus and out: (C,), contiguous, perhaps one array."""
    known, parts = summed.get(x.data.ptr, (lambda: None, None))
    if known() is not None and known().size == x.size and parts.shape[1] == x.shape[1]:
        x = parts
    (N, C), xp = x.shape, array_module(x)
    if N > AT_ONCE:
        W = width(C, x)
        across = -(-C // (32 * W))
        rows = max(SHORTEST, -(-N // max(1, BLOCKS // across)))
        parts = xp.empty((-(-N // rows), C), f4)
        launch(x, None, parts, W, (across, len(parts)), rows, warps=8)
        x = parts
    y = xp.empty(C, f4) if out is None else out
    launch(x, plus, y, 1, (-(-C // 32), 1), len(x), warps=32)
    return y


def launch(x, plus, y, width, blocks, rows, warps):
    sizes = map(i4, (*x.shape, rows))
    kernel("columns", "column_sums", x, width, WARPS=warps)(blocks, 32 * warps, x, plus, y, *sizes)
