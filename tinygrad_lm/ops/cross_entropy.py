"""Cross-entropy: how wrong the predictions are. The loss of a language model."""

from tinygrad_lm.backend import array_module, wide
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.ops.embedding import check_ids


@op
def cross_entropy(logits, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(logits)        dlogits = dy (P − [target]) / N

    (..., V), integers (...) -> one number, in nats

    The mean is over the N positions whose target is not ignore_index; over none it is 0. Where from: −log P_t =
    log Σ exp x_j − x_t, whose derivative by x_j is P_j − [j = t]: what the model gave, less what it should have given.
    Only exp(x − max) is kept; P is never written out. The loss of half precision logits is float32, as its dy is: in
    two or three digits one step of training would not be seen.
    """
    check_targets(logits, targets)
    xp, shape, dtype = array_module(logits), logits.shape, logits.dtype
    x = logits.reshape(targets.size, shape[-1]).astype(wide(dtype), copy=False)
    targets = targets.reshape(-1)
    counted = targets != ignore_index
    target = xp.where(counted, targets, 0)
    check_ids(target, shape[-1])
    row = xp.arange(len(target))
    N = xp.maximum(counted.sum(), 1)

    shift = x.real.max(-1, keepdims=True)
    e = xp.exp(x - shift)
    total = e.sum(-1, keepdims=True)
    nll = xp.log(total[:, 0]) - (x[row, target] - shift[:, 0])
    y = xp.where(counted, nll, 0).sum() / N

    def backward(dy):
        share = (dy * counted / N).astype(e.dtype)  # each counted position's part of the mean
        dx = e * (share[:, None] / total)
        dx[row, target] -= share
        return dx.reshape(shape).astype(dtype, copy=False), None

    return y.astype(x.dtype, copy=False), backward


def check_targets(logits, targets):
    """There is one target a position."""
    if logits.shape[:-1] != targets.shape or not logits.ndim:
        raise ShapeError("each position needs one target: targets.shape must be logits.shape[:-1]")
