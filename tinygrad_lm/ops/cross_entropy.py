"""Cross-entropy: how wrong predictions are. The page's, with ignored targets, one by one, and with the last layer."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.ops.embedding import check_ids
from tinygrad_lm.ops.matmul import linear


@op
def log_probability(logits, targets, *, ignore_index=-100):
    """y = log P[target],  P = softmax(logits)        dlogits = dy ([target] − P)

    (..., V), integers (...) -> (...), in nats

    Where the target is ignore_index, y and its gradient are 0. Where from: log P_t = x_t − log Σ exp x_j, whose
    derivative by x_j is [j = t] − P_j: what the model should have given, less what it gave. Only exp(x − max) is kept;
    P is never written out.
    """
    check_targets(logits, targets)
    xp, shape = array_module(logits), logits.shape
    x = logits.reshape(targets.size, shape[-1])
    target = targets.reshape(-1)
    counted = target != ignore_index
    target = xp.where(counted, target, target.dtype.type(0))  # which leaves booleans what they are
    check_ids(target, shape[-1])
    row = xp.arange(len(target))

    shift = x.real.max(-1, keepdims=True)
    e = xp.exp(x - shift)
    total = e.sum(-1, keepdims=True)
    y = xp.where(counted, x[row, target] - shift[:, 0] - xp.log(total[:, 0]), 0)

    def backward(dy):
        dy = xp.where(counted, dy.reshape(-1), 0)
        dx = xp.where(counted[:, None], e * (-dy[:, None] / total), 0)
        dx[row, target] += dy
        return dx.reshape(shape), None

    return y.reshape(shape[:-1]), backward


@op
def linear_log_probability(x, w, targets, *, ignore_index=-100):
    """y = log P[target],  P = softmax(x w)        dx = dz wᵀ,  dw = xᵀ dz,  dz = dy ([target] − P)

    (..., C), (C, V), integers (...) -> (...), in nats

    A language model's last layer and log_probability(linear(x, w), targets) as one operation: the logits x w, its
    largest array by far, are an intermediate value, which an implementation need not hold as a whole (Hsu et al. 2024,
    "Liger kernel: Efficient Triton kernels for LLM training").
    """
    check_targets(x, targets, "x")
    logits, through_linear = linear.rule(x, w)
    y, through_softmax = log_probability.rule(logits, targets, ignore_index=ignore_index)

    def backward(dy):
        dz, _ = through_softmax(dy)
        return *through_linear(dz), None

    return y, backward


@op
def cross_entropy(logits, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(logits)        dlogits = dy (P − [target]) / N

    (..., V), integers (...) -> one number, in nats

    The mean is over the N positions whose target is not ignore_index; over none it is 0.
    """
    logp, backward = log_probability.rule(logits, targets, ignore_index=ignore_index)
    return mean_loss(logp, backward, targets != ignore_index)


@op
def linear_cross_entropy(x, w, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(x w)        dx = dz wᵀ,  dw = xᵀ dz,  dz = dy (P − [target]) / N

    (..., C), (C, V), integers (...) -> one number, in nats

    cross_entropy(linear(x, w), targets) as one operation, as linear_log_probability is.
    """
    logp, backward = linear_log_probability.rule(x, w, targets, ignore_index=ignore_index)
    return mean_loss(logp, backward, targets != ignore_index)


def mean_loss(logp, through_logp, counted):
    """y = Σ −logp / N  over the N counted positions, and its gradient function; logp is 0 at the others."""
    xp, shape, dtype = array_module(logp), logp.shape, logp.dtype
    N = xp.maximum(counted.sum(), 1)

    def backward(dy):
        return through_logp(xp.broadcast_to((-dy / N).astype(dtype), shape))

    y = (0 - logp.sum()) / N  # over none it is 0, not −0
    return y.astype(dtype, copy=False), backward


def check_targets(x, targets, name="logits"):
    """There is one target a position."""
    if x.shape[:-1] != targets.shape or not x.ndim:
        raise ShapeError(f"each position needs one target: targets.shape must be {name}.shape[:-1]")
