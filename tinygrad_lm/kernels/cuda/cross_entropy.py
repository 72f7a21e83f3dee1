"""The loss of a language model on a GPU, alone and with the last layer. See cross_entropy.cu.

Targets are not checked here, because reading them would synchronise: one outside the vocabulary gives NaN.
"""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, i4, kernel, width
from tinygrad_lm.kernels.cuda.cublaslt import multiply
from tinygrad_lm.ops.cross_entropy import (
    check_targets,
    cross_entropy,
    linear_cross_entropy,
    linear_log_probability,
    log_probability,
)
from tinygrad_lm.ops.embedding import check_ids

THREADS = 512  # of a block that has a row of logits
ROWS = 4096  # of logits at a time: 400 MB in bfloat16 for GPT-2's vocabulary. Each chunk adds to all of dw, in float32


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
    y, share = mean(logits, nll, t, i4(ignore_index))
    return y, lambda dy: (gradient(dy * share, i4(0)), None)


def losses(logits, targets, ignore_index):
    """−log P[target] and the targets, a row each; and a function of (share, step) that gives the logits' gradient."""
    check_ids(targets, logits.shape[-1])
    xp, x, V = array_module(logits), contiguous(logits), logits.shape[-1]
    t = contiguous(targets.reshape(-1).astype(i4))
    N, W, V_, ignored = t.size, width(V, x), i4(V), i4(ignore_index)
    nll, largest, total = (xp.empty(N, f4) for _ in range(3))
    kernel("cross_entropy", "losses", x, W)(N, THREADS, x, t, nll, largest, total, V_, ignored)

    def gradient(share, step):
        dx = xp.empty_like(x)
        launch = kernel("cross_entropy", "losses_backward", x, W)
        launch(N, THREADS, share, step, x, t, largest, total, dx, V_, ignored)
        return dx

    return nll, t, gradient


@linear_cross_entropy.on("cuda", "float32", "bfloat16")
def linear_cross_entropy_on_gpu(x, w, targets, *, ignore_index=-100):
    """An implementation of `linear_cross_entropy` of ops/cross_entropy.py, with the logits of ROWS positions at a time.

    As in numpy/cross_entropy.py: dx and dw are computed with the loss, for dy = 1, and kept, if anything is recorded;
    otherwise there is no gradient function. y and dy are float32, and so is dw, the dtype that it is added up in.
    """
    if (found := inputs(x, w, targets)) is None:
        return NotImplemented
    xp, (rows, t), ignored, shape = array_module(x), found, i4(ignore_index), x.shape
    if not thread.recording:
        return mean(x, losses_of_chunks(rows, w, t, ignored), t, ignored)[0], None
    share = (1 / xp.maximum((t != ignored).sum(), 1)).astype(f4)
    nll, dx, dw = gradients_of_chunks(rows, w, t, share, ignored)
    y, _ = mean(x, nll, t, ignored)

    def backward(dy):
        return lambda: xp.multiply(dx, dy, dtype=f4).reshape(shape), lambda: times(dw, dy), None

    return y, backward


@linear_log_probability.on("cuda", "float32", "bfloat16")
def linear_log_probability_on_gpu(x, w, targets, *, ignore_index=-100):
    """An implementation of `linear_log_probability` of ops/cross_entropy.py, with the logits of ROWS rows at a time.

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
    return contiguous(x.reshape(-1, len(w))), contiguous(targets.reshape(-1).astype(i4))


def losses_of_chunks(rows, w, targets, ignored):
    """−log P[target] of each row."""
    xp, V = array_module(rows), w.shape[1]
    nll, largest, total = xp.empty(len(rows), f4), *(xp.empty(min(len(rows), ROWS), f4) for _ in range(2))
    for here, z in chunks(rows, w):
        launch = kernel("cross_entropy", "losses", rows, width(V, z))
        launch(len(z), THREADS, z, targets[here], nll[here], largest, total, i4(V), ignored)
    return nll


def gradients_of_chunks(rows, w, targets, share, ignored):
    """−log P[target] of each row, and dx and dw of Σ share · it. share: one number, or one a row."""
    xp, (C, V), step = array_module(rows), w.shape, i4(share.ndim)
    nll, dx = xp.empty(len(rows), f4), xp.empty(rows.shape, rows.dtype)
    columns = w.T.flags.c_contiguous  # as in a transposed embedding; dw is made to lie as w does
    dw = xp.empty((V, C) if columns else (C, V), f4)
    for here, z in chunks(rows, w):
        launch = kernel("cross_entropy", "losses_and_gradients", rows, width(V, z))
        part = share[here] if share.ndim else share
        launch(len(z), THREADS, part, step, z, targets[here], nll[here], i4(V), ignored)  # z becomes dz
        multiply(z, w.T, out=dx[here])
        a, b = (z.T, rows[here]) if columns else (rows[here].T, z)
        multiply(a, b, out=dw, plus=dw if here.start else None)
    return nll, dx, dw.T if columns else dw


def chunks(rows, w):
    """Slices of ROWS rows at most, and their logits, all in one buffer."""
    buffer = array_module(rows).empty((min(len(rows), ROWS), w.shape[1]), rows.dtype)
    for start in range(0, len(rows), ROWS):
        here = slice(start, min(start + ROWS, len(rows)))
        z = buffer[: here.stop - start]
        multiply(rows[here], w, out=z)
        yield here, z


def times(dw, dy):
    """dw dy, as dw lies: a transposed result would be written by rows."""
    return (dw.T * dy).T if dw.T.flags.c_contiguous else dw * dy


def mean(x, nll, targets, ignored):
    """The mean of the losses over the N counted positions, and 1/N: 0-d arrays."""
    y, share = (array_module(x).empty((), f4) for _ in range(2))
    kernel("cross_entropy", "mean_loss", x)(1, THREADS, nll, targets, y, share, i4(nll.size), ignored)
    return y, share
