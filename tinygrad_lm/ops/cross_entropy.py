"""Cross-entropy: how wrong predictions are. The page's, with ignored targets, and fused with the last layer."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.ops.embedding import check_ids
from tinygrad_lm.ops.matmul import linear


@op
def cross_entropy(logits, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(logits)        dlogits = dy (P − [target]) / N

    (..., V), integers (...) -> one number, in nats

    The mean is over the N positions whose target is not ignore_index; over none it is 0. Where from: −log P_t =
    log Σ exp x_j − x_t, whose derivative by x_j is P_j − [j = t]: what the model gave, less what it should have given.
    Only exp(x − max) is kept; P is never written out.
    """
    check_targets(logits, targets)
    xp, shape = array_module(logits), logits.shape
    x = logits.reshape(targets.size, shape[-1])
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
        share = xp.where(counted, dy / N, 0).astype(e.dtype)  # each counted position's part of the mean
        dx = xp.where(counted[:, None], e * (share[:, None] / total), 0)
        dx[row, target] -= share
        return dx.reshape(shape), None

    return y.astype(x.dtype, copy=False), backward


@op
def linear_cross_entropy(x, w, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(x w)        dx = dz wᵀ,  dw = xᵀ dz,  dz = dy (P − [target]) / N

    (..., C), (C, V), integers (...) -> one number, in nats

    A language model's last layer and its loss, cross_entropy(linear(x, w), targets), as one operation: the logits x w,
    its largest array by far, are an intermediate value, which an implementation need not hold as a whole (Hsu et al.
    2024, "Liger kernel: Efficient Triton kernels for LLM training").
    """
    check_targets(x, targets, "x")
    logits, through_linear = linear.rule(x, w)
    y, through_loss = cross_entropy.rule(logits, targets, ignore_index=ignore_index)

    def backward(dy):
        dz, _ = through_loss(dy)
        return *through_linear(dz), None

    return y, backward


def check_targets(x, targets, name="logits"):
    """There is one target a position."""
    if x.shape[:-1] != targets.shape or not x.ndim:
        raise ShapeError(f"each position needs one target: targets.shape must be {name}.shape[:-1]")
