"""The two ends of a language model on a GPU: rows of the embedding, and the loss.

See cuda/embedding.cu and cuda/cross_entropy.cu. Ids are not looked at here, which would cost a synchronisation: one
outside its table gives NaN.
"""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda_compile import contiguous, covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.ops.cross_entropy import check_targets, cross_entropy
from tinygrad_lm.ops.embedding import check_ids, embedding

THREADS = 512  # of a block that has a row of logits


@embedding.kernel("cuda")
def embedding_on_gpu(w, ids):
    """The rule of ops/embedding.py. The way back adds in the order of the positions, the same in every run."""
    if not covered(w) or not ids.size:
        return embedding.rule(w, ids)
    check_ids(ids, len(w))
    xp, w, (V, C) = array_module(w), contiguous(w), w.shape
    flat = contiguous(ids.reshape(-1).astype(i4))
    N, W = flat.size, width(C, w)
    y = xp.empty((*ids.shape, C), w.dtype)
    run = kernel("embedding", "embedding_forward", w, W, GROUPS=1)
    run(*for_each(N * C, W), w, flat, y, i8(N * C), i4(C), i4(V))

    def backward(dy):
        places = flat.astype(i8) * N + xp.arange(N)  # by id, then by position
        order = xp.argsort(places)
        starts = xp.searchsorted(flat[order], xp.arange(V + 1, dtype=i4)).astype(i4)
        groups = min(32, max(1, N // V // 4))
        dw = xp.empty((V, C), w.dtype)
        run = kernel("embedding", "embedding_backward", w, W, GROUPS=1 << groups.bit_length() - 1)
        run((V, -(-C // (32 * W))), 32 << groups.bit_length() - 1, contiguous(dy), order.astype(i4), starts, dw, i4(C))
        return dw, None

    return y, backward


@cross_entropy.kernel("cuda")
def cross_entropy_on_gpu(logits, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py, y and dy in float32. The logits are kept and two numbers a row."""
    check_targets(logits, targets)
    if not covered(logits):
        return cross_entropy.rule(logits, targets, ignore_index=ignore_index)
    check_ids(targets, logits.shape[-1])
    xp, x, V = array_module(logits), contiguous(logits), logits.shape[-1]
    t = contiguous(targets.reshape(-1).astype(i4))
    N, W, V_, ignored = t.size, width(V, x), i4(V), i4(ignore_index)
    nll, largest, total = (xp.empty(N, f4) for _ in range(3))
    y, share = xp.empty((), f4), xp.empty((), f4)
    kernel("cross_entropy", "losses", x, W)(N, THREADS, x, t, nll, largest, total, V_, ignored)
    kernel("cross_entropy", "mean_loss", x, W)(1, THREADS, nll, t, y, share, i4(N), ignored)

    def backward(dy):
        dx = xp.empty_like(x)
        run = kernel("cross_entropy", "losses_backward", x, W)
        run(N, THREADS, contiguous(dy), x, t, share, largest, total, dx, V_, ignored)
        return dx, None

    return y, backward
