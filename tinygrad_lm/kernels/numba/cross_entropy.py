"""Log-probabilities and their mean, the loss, in one pass each way over the logits."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import exp, f4
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.cross_entropy import check_targets, cross_entropy, log_probability, mean_loss
from tinygrad_lm.ops.embedding import check_ids

f8 = np.float64


@log_probability.on("cpu", "float32")
def log_probability_by_rows(logits, targets, *, ignore_index=-100):
    """The rule of ops/cross_entropy.py. The logits are kept and two numbers a row, and no other array of their size."""
    y, backward = by_rows(logits, targets, ignore_index)
    return y.astype(f4), backward


@cross_entropy.on("cpu", "float32")
def cross_entropy_by_rows(logits, targets, *, ignore_index=-100):
    """As log_probability_by_rows, added up in float64."""
    logp, through_logp = by_rows(logits, targets, ignore_index)
    y, backward = mean_loss(logp, through_logp, targets != ignore_index)
    return f4(y), backward


def by_rows(logits, targets, ignore_index):
    """log P[target] in float64, and its gradient function."""
    check_targets(logits, targets)
    x = np.ascontiguousarray(logits).reshape(targets.size, logits.shape[-1])
    t = targets.reshape(-1)
    check_ids(t[t != ignore_index], x.shape[1])
    y, largest, total = np.empty(len(x), f8), np.empty(len(x), f4), np.empty(len(x), f4)
    least = max(1, LEAST // x.shape[1])
    log_probabilities(len(x), least, x, t, ignore_index, largest, total, y)

    def backward(dy):
        dx = np.empty_like(x)
        dy = np.array(dy, f4).reshape(-1)
        log_probabilities_backward(len(x), least, dy, x, t, ignore_index, largest, total, dx)
        return dx.reshape(logits.shape), None

    return y.reshape(targets.shape), backward


@shared
def log_probabilities(start, stop, x, targets, ignore_index, largest, total, y):
    """y = log P[target], 0 if it is ignored; largest = max x and total = Σ exp(x − largest) of each row."""
    for i in range(start, stop):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        s = f4(0)
        for j in range(x.shape[1]):
            s += exp(x[i, j] - top)
        largest[i], total[i], y[i] = top, s, 0
        if targets[i] != ignore_index:
            y[i] = f8(x[i, targets[i]]) - f8(top) - np.log(f8(s))  # in float64: nothing cancels, in whatever order


@shared
def log_probabilities_backward(start, stop, dy, x, targets, ignore_index, largest, total, dx):
    """dx = dy ([target] − P); 0 where the target is ignored."""
    for i in range(start, stop):
        if targets[i] == ignore_index:
            dx[i] = f4(0)
            continue
        for j in range(x.shape[1]):
            dx[i, j] = exp(x[i, j] - largest[i]) * (-dy[i] / total[i])
        dx[i, targets[i]] += dy[i]
