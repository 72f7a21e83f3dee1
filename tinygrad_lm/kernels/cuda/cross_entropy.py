"""The loss of a language model on a GPU, alone and with the last layer. See cross_entropy.cu.

Targets are not checked here, because reading them would synchronise: one outside the vocabulary gives NaN.
"""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.cuda.compile import SHARED, contiguous, covered, f4, i4, kernel, width
from tinygrad_lm.kernels.cuda.cublaslt import multiply
from tinygrad_lm.kernels.cuda.elementwise import scaled
from tinygrad_lm.kernels.cuda.embedding import narrowed
from tinygrad_lm.ops.cross_entropy import (
    check_targets,
    cross_entropy,
    linear_cross_entropy,
    linear_log_probability,
    log_probability,
)
from tinygrad_lm.ops.embedding import check_ids

THREADS = 512  # of a block that has a row of logits, at most
LOGITS = 4096 * 50304  # at a time: 400 MB in bfloat16 for GPT-2's vocabulary. Each chunk adds to all of dw, in float32


@log_probability.on("cuda", "float32", "bfloat16")
def log_probability_on_gpu(logits, targets, *, ignore_index=-100):
    """An implementation of `log_probability` of ops/cross_entropy.py, y and dy in float32. Kept: two numbers a row."""
    check_targets(logits, targets)
    if not covered(logits):
        return NotImplemented
    nll, _, gradient = losses(logits, targets, ignore_index)
    return (0 - nll).reshape(targets.shape), lambda dy: (gradient(contiguous(-dy.reshape(-1)), i4(1)), None)


@cross_entropy.on("cuda", "float32", "bfloat16")
def cross_entropy_on_gpu(logits, targets, *, ignore_index=-100):
    """An implementation of `cross_entropy` of ops/cross_entropy.py, as log_probability_on_gpu."""
    check_targets(logits, targets)
    if not covered(logits):
        return NotImplemented
    nll, t, gradient = losses(logits, targets, ignore_index)
    share = share_of_counted(t, i4(ignore_index))
    return mean(nll, share), lambda dy: (gradient(dy * share, i4(0)), None)


def losses(logits, targets, ignore_index):
    """−log P[target] and the targets, a row each; and a function of (share, step) that gives the logits' gradient."""
    check_ids(targets, logits.shape[-1])
    xp, x, V = array_module(logits), contiguous(logits), logits.shape[-1]
    t = narrowed(targets)
    N, W, V_, ignored = t.size, width(V, x), i4(V), i4(ignore_index)
    nll, largest, total = (xp.empty(N, f4) for _ in range(3))
    of_row = threads(V, W)
    kernel("cross_entropy", "losses", x, W, KEPT=0)(N, of_row, x, t, nll, largest, total, V_, ignored)

    def gradient(share, step):
        dx = xp.empty_like(x)
        launch = kernel("cross_entropy", "losses_backward", x, W, KEPT=0)
        launch(N, of_row, share, step, x, t, largest, total, dx, V_, ignored)
        return dx

    return nll, t, gradient


@linear_cross_entropy.on("cuda", "float32", "bfloat16")
def linear_cross_entropy_on_gpu(x, w, targets, *, ignore_index=-100):
    """An implementation of `linear_cross_entropy` of ops/cross_entropy.py, with LOGITS logits at a time at most.

    As in numpy/cross_entropy.py: dx and dw are computed with the loss, for dy = 1, and kept, if anything is recorded;
    otherwise there is no gradient function. y and dy are float32, and so is dw, the dtype that it is added up in.
    """
    if (found := inputs(x, w, targets)) is None:
        return NotImplemented
    (rows, t), ignored, shape = found, i4(ignore_index), x.shape
    share = share_of_counted(t, ignored)
    if not thread.recording:
        return mean(losses_of_chunks(rows, w, t, ignored), share), None
    nll, dx, dw = gradients_of_chunks(rows, w, t, share, ignored)
    return mean(nll, share), lambda dy: (lambda: scaled(dx, dy).reshape(shape), lambda: scaled(dw, dy), None)


@linear_log_probability.on("cuda", "float32", "bfloat16")
def linear_log_probability_on_gpu(x, w, targets, *, ignore_index=-100):
    """An implementation of `linear_log_probability` of ops/cross_entropy.py, with LOGITS logits at a time at most.

    As in numpy/cross_entropy.py: the backward pass computes them once more. y, dy and dw are float32.
    """
    if (found := inputs(x, w, targets)) is None:
        return NotImplemented
    (rows, t), ignored, shape = found, i4(ignore_index), x.shape

    def backward(dy):
        _, dx, dw = gradients_of_chunks(rows, w, t, contiguous(-dy.reshape(-1)), ignored)
        return dx.reshape(shape), dw, None

    return (0 - losses_of_chunks(rows, w, t, ignored)).reshape(targets.shape), backward


def inputs(x, w, targets):
    """x and the targets row by row, or None if the kernels do not cover these arrays."""
    check_targets(x, targets, "x")
    if not covered(x, w) or w.ndim != 2 or x.shape[-1] != len(w):
        return None
    check_ids(targets, w.shape[1])
    return contiguous(x.reshape(-1, len(w))), narrowed(targets)


def losses_of_chunks(rows, w, targets, ignored):
    """−log P[target] of each row."""
    V = w.shape[1]
    nll, largest, total = (array_module(rows).empty(len(rows), f4) for _ in range(3))
    for here, z in chunks(rows, w):
        W = width(V, z)
        launch = kernel("cross_entropy", "losses", rows, W, KEPT=0)
        launch(len(z), threads(V, W), z, targets[here], nll[here], largest, total, i4(V), ignored)
    return nll


def gradients_of_chunks(rows, w, targets, share, ignored):
    """−log P[target] of each row, and dx and dw of Σ share · it. share: one number, or one a row."""
    xp, (C, V), step = array_module(rows), w.shape, i4(share.ndim)
    nll, dx = xp.empty(len(rows), f4), xp.empty(rows.shape, rows.dtype)
    columns = w.T.flags.c_contiguous  # as in a transposed embedding; dw is made to lie as w does
    dw = xp.empty((V, C) if columns else (C, V), f4)
    for here, z in chunks(rows, w):
        W, size = width(V, z), z[0].nbytes
        shared = size if size <= SHARED else 0  # of a row, which is then read once
        launch = kernel("cross_entropy", "losses_and_gradients", rows, W, shared, KEPT=int(shared > 0))
        part = share[here] if share.ndim else share
        launch(len(z), threads(V, W), part, step, z, targets[here], nll[here], i4(V), ignored)  # z becomes dz
        multiply(z, w.T, out=dx[here])
        a, b = (z.T, rows[here]) if columns else (rows[here].T, z)
        multiply(a, b, out=dw, plus=dw if here.start else None)
    return nll, dx, dw.T if columns else dw


def chunks(rows, w):
    """Slices of rows, and their logits, all in one buffer: LOGITS at most, but at least a row's."""
    N, V = len(rows), w.shape[1]
    some = min(N, max(1, LOGITS // V))
    buffer = array_module(rows).empty((some, V), rows.dtype)
    for start in range(0, N, some):
        here = slice(start, min(start + some, N))
        z = buffer[: here.stop - start]
        multiply(rows[here], w, out=z)
        yield here, z


def threads(V, width):
    """Of a block that has a row of V logits: whole warps."""
    return min(THREADS, -(-V // (32 * width)) * 32)


def share_of_counted(targets, ignored):
    """1/N for the N positions that count, a 0-d array."""
    share = array_module(targets).empty((), f4)
    kernel("cross_entropy", "share_of_counted", share, KEPT=0)(1, THREADS, targets, share, i4(targets.size), ignored)
    return share


def mean(nll, share):
    """The mean of the losses, a 0-d array."""
    y = array_module(nll).empty((), f4)
    kernel("cross_entropy", "mean_loss", nll, KEPT=0)(1, THREADS, nll, share, y, i4(nll.size))
    return y
