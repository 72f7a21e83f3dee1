"""The loss of a language model on a GPU, alone and with the last layer. See cross_entropy.cu.

Targets are not checked here, because reading them would synchronise: one outside the vocabulary gives NaN.
"""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, i4, kernel, width
from tinygrad_lm.kernels.cuda.cublaslt import multiply
from tinygrad_lm.ops.cross_entropy import check_targets, cross_entropy, linear_cross_entropy
from tinygrad_lm.ops.embedding import check_ids

THREADS = 512  # of a block that has a row of logits
ROWS = 4096  # of logits at a time: 400 MB in bfloat16 for GPT-2's vocabulary. Each chunk adds to all of dw, in float32


@cross_entropy.on("cuda", "float32", "bfloat16")
def cross_entropy_on_gpu(logits, targets, *, ignore_index=-100):
    """An implementation of `cross_entropy` of ops/cross_entropy.py, y and dy in float32. Two numbers a row are kept."""
    check_targets(logits, targets)
    if not covered(logits):
        return NotImplemented
    check_ids(targets, logits.shape[-1])
    xp, x, V = array_module(logits), contiguous(logits), logits.shape[-1]
    t = contiguous(targets.reshape(-1).astype(i4))
    N, W, V_, ignored = t.size, width(V, x), i4(V), i4(ignore_index)
    nll, largest, total = (xp.empty(N, f4) for _ in range(3))
    kernel("cross_entropy", "losses", x, W)(N, THREADS, x, t, nll, largest, total, V_, ignored)
    y, share = mean(x, nll, t, ignored)

    def backward(dy):
        dx = xp.empty_like(x)
        launch = kernel("cross_entropy", "losses_backward", x, W)
        launch(N, THREADS, contiguous(dy), x, t, share, largest, total, dx, V_, ignored)
        return dx, None

    return y, backward


@linear_cross_entropy.on("cuda", "float32", "bfloat16")
def linear_cross_entropy_on_gpu(x, w, targets, *, ignore_index=-100):
    """An implementation of `linear_cross_entropy` of ops/cross_entropy.py, with the logits of ROWS positions at a time.

    As in numpy/cross_entropy.py: dx and dw are computed with the loss, for dy = 1, and kept, if anything is recorded;
    otherwise there is no gradient function. y and dy are float32, and so is dw, the dtype that it is added up in.
    """
    check_targets(x, targets, "x")
    if not covered(x, w) or w.ndim != 2 or x.shape[-1] != len(w):
        return NotImplemented
    check_ids(targets, w.shape[1])
    xp, shape, (C, V), recording = array_module(x), x.shape, w.shape, thread.recording
    rows, t = contiguous(x.reshape(-1, C)), contiguous(targets.reshape(-1).astype(i4))
    N, V_, ignored = t.size, i4(V), i4(ignore_index)
    buffer = xp.empty((min(N, ROWS), V), x.dtype)
    nll, largest, total = xp.empty(N, f4), *(xp.empty(len(buffer), f4) for _ in range(2))
    columns = w.T.flags.c_contiguous  # as in a transposed embedding; dw is made to lie as w does
    if recording:
        share = (1 / xp.maximum((t != ignored).sum(), 1)).astype(f4)
        dx, dw = xp.empty(rows.shape, x.dtype), xp.empty((V, C) if columns else (C, V), f4)
    launch = kernel("cross_entropy", "losses_and_gradients" if recording else "losses", x, width(V, buffer))

    for start in range(0, N, ROWS):
        here = slice(start, min(start + ROWS, N))
        z, some = buffer[: here.stop - start], rows[here]
        multiply(some, w, out=z)
        if not recording:
            launch(len(z), THREADS, z, t[here], nll[here], largest, total, V_, ignored)
            continue
        launch(len(z), THREADS, z, t[here], share, nll[here], V_, ignored)  # z becomes dz
        multiply(z, w.T, out=dx[here])
        a, b = (z.T, some) if columns else (some.T, z)
        multiply(a, b, out=dw, accumulate=start > 0)

    y, _ = mean(x, nll, t, ignored)
    if not recording:
        return y, None

    def backward(dy):
        of_x = lambda: xp.multiply(dx, dy, dtype=f4).reshape(shape)
        of_w = lambda: dw * dy  # as dw lies: a transposed result would be written by rows
        return of_x, (lambda: of_w().T) if columns else of_w, None

    return y, backward


def mean(x, nll, targets, ignored):
    """The mean of the losses over the N counted positions, and 1/N: 0-d arrays."""
    y, share = (array_module(x).empty((), f4) for _ in range(2))
    kernel("cross_entropy", "mean_loss", x)(1, THREADS, nll, targets, y, share, i4(nll.size), ignored)
    return y, share
