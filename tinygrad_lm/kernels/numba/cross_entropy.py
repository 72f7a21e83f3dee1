"""The loss in one pass each way over the logits."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled, exp, f4
from tinygrad_lm.ops.cross_entropy import check_targets, cross_entropy
from tinygrad_lm.ops.embedding import check_ids

f8 = np.float64


@cross_entropy.on("cpu", "float32")
def cross_entropy_by_rows(logits, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py. The logits are kept and two numbers a row, and no other array of their size."""
    check_targets(logits, targets)
    x = np.ascontiguousarray(logits).reshape(targets.size, logits.shape[-1])
    t = targets.reshape(-1)
    check_ids(t[t != ignore_index], x.shape[1])
    largest, total = np.empty(len(x), f4), np.empty(len(x), f4)
    N = max(1, np.count_nonzero(t != ignore_index))
    y = f4(losses(x, t, ignore_index, largest, total) / N)

    def backward(dy):
        dx = np.empty_like(x)
        losses_backward(f4(dy / N), x, t, ignore_index, largest, total, dx)
        return dx.reshape(logits.shape), None

    return y, backward


@compiled
def losses(x, targets, ignore_index, largest, total):
    """Σ −log P[target]; largest = max x and total = Σ exp(x − largest) of each row."""
    loss = 0.0
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        s = f4(0)
        for j in range(x.shape[1]):
            s += exp(x[i, j] - top)
        largest[i], total[i] = top, s
        if targets[i] != ignore_index:
            loss += np.log(f8(s)) - (f8(x[i, targets[i]]) - f8(top))  # in float64: nothing cancels, in whatever order
    return loss


@compiled
def losses_backward(share, x, targets, ignore_index, largest, total, dx):
    """dx = share (P − [target]); 0 where the target is ignored."""
    for i in range(x.shape[0]):
        if targets[i] == ignore_index:
            dx[i] = f4(0)
            continue
        for j in range(x.shape[1]):
            dx[i, j] = exp(x[i, j] - largest[i]) * (share / total[i])
        dx[i, targets[i]] -= share
