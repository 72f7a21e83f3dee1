"""Rows of the embedding on a GPU, and the sorting of their gradients. See embedding.cu.

Ids are not checked here, because reading them would synchronise: one outside the table gives NaN.
"""

import functools

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.adding import Adding
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i4, i8, kernel, width
from tinygrad_lm.ops.embedding import check_ids, embedding

IDS = 256  # whose positions a block counts
STRIPS = 256, 512, 1024  # positions that a block ranks
TABLE = 2**24  # counts, 64 MB: a longer strip where it would be more


@embedding.on("cuda", "float32", "bfloat16")
def embedding_on_gpu(w, ids):
    """An implementation of `embedding` of ops/embedding.py, which adds in the order of the positions."""
    if not covered(w) or not ids.size or w.ndim != 2:
        return NotImplemented
    check_ids(ids, len(w))
    xp, w, (V, C) = array_module(w), contiguous(w), w.shape
    flat = narrowed(ids)
    N, W = flat.size, width(C, w)
    y = xp.empty((*ids.shape, C), w.dtype)
    launch = kernel("embedding", "embedding_forward", w, W, GROUPS=1)
    launch(*for_each(N * C, W), w, flat, y, i8(N * C), i4(C), i4(V))

    def backward(dy):
        groups = 1 << min(32, max(8, N // V // 4)).bit_length() - 1

        def dw(plus, out):
            out = xp.empty((V, C), w.dtype) if out is None else out
            W = width(C, dy, out, *([] if plus is None else [plus]))
            of = functools.partial(kernel, "embedding", like=w, width=W, GROUPS=groups)
            arrays = contiguous(dy), *by_id(flat, V, of), plus, out
            of("embedding_backward")((V, -(-C // (32 * W))), 32 * groups, *arrays, i4(C))
            return out

        return Adding(dw, w.dtype), None

    return y, backward


def narrowed(ids):
    """Ids row by row as the kernels read them, 32 bits each: what does not fit stays outside of every vocabulary."""
    xp, most = array_module(ids), 2**31 - 1
    if ids.dtype.itemsize > 4:
        ids = xp.maximum(xp.minimum(ids, most), -most) if ids.dtype.kind == "i" else xp.minimum(ids, most)
    return contiguous(ids.reshape(-1).astype(i4))


def by_id(ids, V, of):
    """The positions of ids (N,), those with the smallest id first, and for each id where its own begin, (V + 1,).

    Equal ids stay in the order of their positions, and ids outside the vocabulary have no place. A library's sort
    would wait for the device, which no captured step may. of: name -> kernel.
    """
    xp, N = array_module(ids), ids.size
    strip = next((n for n in STRIPS if -(-N // n) * V <= TABLE), STRIPS[-1])
    strips, n, v = -(-N // strip), i4(N), i4(V)
    ranks, order, starts = (xp.empty(size, i4) for size in (N, N, V + 1))
    table = xp.zeros((strips, V), i4)
    of("ranks_in_strips")(strips, strip, ids, ranks, table, n, v)
    blocks = -(-V // IDS)
    of_block = xp.empty(blocks, i4)
    of("counts_before")(blocks, IDS, table, starts, of_block, i4(strips), v)
    of("starts_from_totals")(blocks, 2 * IDS, starts, of_block, v)
    of("positions_by_id")(strips, strip, ids, ranks, table, starts, order, n, v)
    return order, starts
