"""Find the bug: softmax and what is made of it, normalisation, positions, noise, recomputation. See bugs.py."""

import numpy as np

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.learn.puzzles.bugs import bug_of, value
from tinygrad_lm.ops.dropout import keep
from tinygrad_lm.ops.rotary import angles, turn

# ---- softmax and what is made of it


@bug_of("softmax", "In how many of the yᵢ does xⱼ appear?")
def softmax_with_only_the_diagonal(x, *, axis=-1):
    """y_i (1 − y_i) is ∂y_i/∂x_i; but each x_j is also in the sum below every other fraction."""
    e = np.exp(x - x.real.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    return y, lambda dy: (dy * y * (1 - y),)


@bug_of("softmax", "What is Σ y, always? What is then left of the gradient?")
def softmax_with_the_cotangent_outside_its_sum(x, *, axis=-1):
    """y (dy − dy Σ y): passes where dy is the same everywhere, as under `.sum()`."""
    e = np.exp(x - x.real.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    return y, lambda dy: (y * (dy - dy * y.sum(axis, keepdims=True)),)


@bug_of("log_softmax", "In how many of the yᵢ does xⱼ appear?")
def log_softmax_without_the_sum(x, *, axis=-1):
    """dy − P dy, for dy − P Σ dy."""
    shifted = x - x.real.max(axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return y, lambda dy: (dy - np.exp(y) * dy,)


@bug_of("cross_entropy", "How does the gradient change when the batch is doubled by a copy of itself? How must it?")
def cross_entropy_divided_by_n_twice(logits, targets, *, ignore_index=-100):
    """The mean's 1/N is there already; one thinks of `loss / N`, and writes it once more."""
    y = value("cross_entropy", logits, targets, ignore_index=ignore_index)
    counted = (targets != ignore_index)[..., None]
    N = max(int(counted.sum()), 1)

    def backward(dy):
        each = dy / N * counted
        return each * (value("softmax", logits) - one_hot(targets, logits)) / N, None

    return y, backward


@bug_of("cross_entropy", "Of how many positions is the value the mean, if one is ignored?")
def cross_entropy_divided_by_all_positions(logits, targets, *, ignore_index=-100):
    """The mean of the value is over the counted positions, that of the gradient over all."""
    y = value("cross_entropy", logits, targets, ignore_index=ignore_index)
    counted = (targets != ignore_index)[..., None]

    def backward(dy):
        each = dy / max(targets.size, 1) * counted
        return each * (value("softmax", logits) - one_hot(targets, logits)), None

    return y, backward


@bug_of("cross_entropy", "How far does the loss move when the logits of an ignored position move?")
def cross_entropy_that_ignores_nothing_on_the_way_back(logits, targets, *, ignore_index=-100):
    """An ignored position adds nothing to the loss; its logits must get nothing either."""
    y = value("cross_entropy", logits, targets, ignore_index=ignore_index)
    N = max(int((targets != ignore_index).sum()), 1)
    return y, lambda dy: (dy / N * (value("softmax", logits) - one_hot(targets, logits)), None)


def one_hot(targets, logits):
    """1 where a logit is the target's, 0 elsewhere."""
    return (targets[..., None] == np.arange(logits.shape[-1])).astype(logits.dtype)


# ---- normalisation


@bug_of("layer_norm", "Two things in x̂ = (x − μ)/σ besides x itself depend on x. Do they here?")
def layer_norm_without_the_mean_terms(x, w=None, b=None, *, eps=1e-5):
    """μ and σ taken for constants: they depend on x as well."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    y, affine_backward = affine(centred * inverse, w, b)

    def backward(dy):
        g, *others = affine_backward(dy)
        return g * inverse, *others

    return y, backward


@bug_of("layer_norm", "Double x: y stays. So along which direction must dx be 0?")
def layer_norm_that_forgets_that_sigma_moves(x, w=None, b=None, *, eps=1e-5):
    """Of the two means only the one that μ brings."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    y, affine_backward = affine(centred * inverse, w, b)

    def backward(dy):
        g, *others = affine_backward(dy)
        return inverse * (g - g.mean(-1, keepdims=True)), *others

    return y, backward


@bug_of("layer_norm", "Value and gradient fit each other. But what is mean y², without a weight? What must it be?")
def layer_norm_with_the_unbiased_variance(x, w=None, b=None, *, eps=1e-5):
    """C − 1 below the sum of squares, as statistics books have it. Value and gradient fit each other."""
    n = max(x.shape[-1] - 1, 1)
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).sum(-1, keepdims=True) / n + eps)
    xhat = centred * inverse
    y, affine_backward = affine(xhat, w, b)

    def backward(dy):
        g, *others = affine_backward(dy)
        return inverse * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).sum(-1, keepdims=True) / n), *others

    return y, backward


@bug_of("rms_norm", "Double x: y stays. So along which direction must dx be 0?")
def rms_norm_without_the_projection(x, w=None, *, eps=1e-6):
    """dy w/ρ: what x̂ cannot change must be taken out."""
    inverse = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    y, affine_backward = affine(x * inverse, w)

    def backward(dy):
        g, *others = affine_backward(dy)
        return g * inverse, *others

    return y, backward


def affine(xhat, w=None, b=None):
    """x̂ w + b and its way back: dy -> dx̂, and dw and db if there are w and b."""
    y = xhat if w is None else xhat * w

    def backward(dy):
        return (dy if w is None else dy * w, dy * xhat, dy)[: 1 + (w is not None) + (b is not None)]

    return y if b is None else y + b, backward


# ---- positions, noise, recomputation


@bug_of("rotary", "Turn dy forth and then back by this rule: do you get dy again?")
def rotary_turned_the_wrong_way(x, *, base=10000.0, start=0, scaling=()):
    """Forth by t, and back by t again."""
    cos, sin = angles(np, x.shape[1], x.shape[-1], base, start, scaling, x.real.dtype)
    return turn(x, cos, sin), lambda dy: (turn(dy, cos, sin),)


@bug_of("rotary", "Which positions does the way forth use? And the way back?")
def rotary_that_starts_at_zero_on_the_way_back(x, *, base=10000.0, start=0, scaling=()):
    """Right in training; wrong as soon as there is a cache of keys."""
    cos, sin = angles(np, x.shape[1], x.shape[-1], base, 0, scaling, x.real.dtype)
    return value("rotary", x, base=base, start=start, scaling=scaling), lambda dy: (turn(dy, cos, -sin),)


@bug_of("dropout", "How far does y move when a kept entry of x moves by 1?")
def dropout_without_the_scale_on_the_way_back(x, *, p, key):
    """The mask is remembered, the 1 / (1 − p) beside it is not."""
    m = keep(np, x.shape, p, key)
    return x * m / (1 - p), lambda dy: (dy * m,)


@bug_of("dropout", "Which entries of x were dropped? Do just these get no gradient?")
def dropout_with_a_fresh_mask_on_the_way_back(x, *, p, key):
    """Drawn again, with the step counted up meanwhile, it is another mask; it must be the one that was used."""
    mask = lambda step: keep(np, x.shape, p, (*key[:2], step))
    return x * mask(key[2]) / (1 - p), lambda dy: (dy * mask(key[2] + 1) / (1 - p),)


@bug_of("checkpoint", "Does the gradient double when dy doubles?")
def checkpoint_that_forgets_its_cotangent(*xs, function):
    """The second evaluation is walked from 1, as a loss is, and not from what arrived."""

    def backward(dy):
        inputs = [Tensor(x, requires_grad=True) for x in xs]
        y = function(*inputs)
        y.backward(np.ones(y.shape, y.dtype))
        return tuple(x.grad for x in inputs)

    return value("checkpoint", *xs, function=function), backward
