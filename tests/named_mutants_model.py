"""Find the bug, continued: the operations that a transformer adds. See named_mutants.py."""

import math

import numpy as np
from named_mutants import mutant_of, value

from tinygrad_lm.backend import random
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.ops.attention import check_heads
from tinygrad_lm.ops.rotary import angles, turn

# ---- softmax and what is made of it


@mutant_of("softmax")
def softmax_with_only_the_diagonal(x, *, axis=-1):
    """y_i (1 − y_i) is ∂y_i/∂x_i; but each x_j is also in the sum below every other fraction."""
    y = value("softmax", x, axis=axis)
    return y, lambda dy: (dy * y * (1 - y),)


@mutant_of("softmax")
def softmax_with_the_cotangent_outside_its_sum(x, *, axis=-1):
    """y (dy − dy Σ y): passes where dy is the same everywhere, as under `.sum()`."""
    y = value("softmax", x, axis=axis)
    return y, lambda dy: (y * (dy - dy * y.sum(axis, keepdims=True)),)


@mutant_of("log_softmax")
def log_softmax_without_the_sum(x, *, axis=-1):
    """dy − P dy, for dy − P Σ dy."""
    y = value("log_softmax", x, axis=axis)
    return y, lambda dy: (dy - np.exp(y) * dy,)


@mutant_of("cross_entropy")
def cross_entropy_divided_by_n_twice(logits, targets, *, ignore_index=-100):
    """The mean's 1/N is in dy already, one thinks of `loss / N`, and writes it once more."""
    y, right = Op.registry["cross_entropy"].rule(logits, targets, ignore_index=ignore_index)
    N = max(int((targets != ignore_index).sum()), 1)
    return y, lambda dy: (right(dy)[0] / N, None)


@mutant_of("cross_entropy")
def cross_entropy_divided_by_all_positions(logits, targets, *, ignore_index=-100):
    """The mean of the value is over the counted positions, that of the gradient over all."""
    y, right = Op.registry["cross_entropy"].rule(logits, targets, ignore_index=ignore_index)
    share = int((targets != ignore_index).sum()) / max(targets.size, 1)
    return y, lambda dy: (right(dy)[0] * share, None)


@mutant_of("cross_entropy")
def cross_entropy_that_ignores_nothing_on_the_way_back(logits, targets, *, ignore_index=-100):
    """An ignored position adds nothing to the loss; its logits must get nothing either."""
    y, right = Op.registry["cross_entropy"].rule(logits, targets, ignore_index=ignore_index)
    P, N = value("softmax", logits), max(int((targets != ignore_index).sum()), 1)
    ignored = (targets == ignore_index)[..., None]
    return y, lambda dy: (np.where(ignored, dy * P / N, right(dy)[0]), None)


# ---- normalisation


@mutant_of("layer_norm")
def layer_norm_without_the_mean_terms(x, w=None, b=None, *, eps=1e-5):
    """μ and σ taken for constants: they depend on x as well."""
    inverse = 1 / np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + eps)
    y, right = Op.registry["layer_norm"].rule(*(p for p in (x, w, b) if p is not None), eps=eps)
    return y, lambda dy: (dy * (1 if w is None else w) * inverse, *right(dy)[1:])


@mutant_of("layer_norm")
def layer_norm_that_forgets_that_sigma_moves(x, w=None, b=None, *, eps=1e-5):
    """Of the two means only the one that μ brings."""
    inverse = 1 / np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + eps)
    y, right = Op.registry["layer_norm"].rule(*(p for p in (x, w, b) if p is not None), eps=eps)

    def backward(dy):
        g = dy if w is None else dy * w
        return inverse * (g - g.mean(-1, keepdims=True)), *right(dy)[1:]

    return y, backward


@mutant_of("layer_norm")
def layer_norm_with_the_unbiased_variance(x, w=None, b=None, *, eps=1e-5):
    """C − 1 below the sum of squares, as statistics books have it. Value and gradient fit each other."""
    C = x.shape[-1]
    factor = math.sqrt((C - 1) / C) if C > 1 else 1.0
    y, right = Op.registry["layer_norm"].rule(x, eps=eps)
    y = y * factor * (1 if w is None else w) + (0 if b is None else b)

    def backward(dy):
        dw = dy * value("layer_norm", x, eps=eps) * factor
        dx = right(dy * factor * (1 if w is None else w))[0]
        return (dx, dw, dy)[: 1 + (w is not None) + (b is not None)]

    return y, backward


@mutant_of("rms_norm")
def rms_norm_without_the_projection(x, w=None, *, eps=1e-6):
    """dy w/ρ: what x̂ cannot change must be taken out."""
    inverse = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    y, right = Op.registry["rms_norm"].rule(*(p for p in (x, w) if p is not None), eps=eps)
    return y, lambda dy: (dy * (1 if w is None else w) * inverse, *right(dy)[1:])


# ---- positions, noise, recomputation


@mutant_of("rotary")
def rotary_turned_the_wrong_way(x, *, base=10000.0, start=0):
    """Forth by t, and back by t again."""
    cos, sin = angles(np, x.shape[1], x.shape[-1], base, start, x.real.dtype)
    return turn(x, cos, sin), lambda dy: (turn(dy, cos, sin),)


@mutant_of("rotary")
def rotary_that_starts_at_zero_on_the_way_back(x, *, base=10000.0, start=0):
    """Right in training; wrong as soon as there is a cache of keys."""
    cos, sin = angles(np, x.shape[1], x.shape[-1], base, 0, x.real.dtype)
    return value("rotary", x, base=base, start=start), lambda dy: (turn(dy, cos, -sin),)


@mutant_of("dropout")
def dropout_without_the_scale_on_the_way_back(x, *, p, key):
    m = random(*key).random(x.shape, "float32") >= p
    return x * m / (1 - p), lambda dy: (dy * m,)


@mutant_of("dropout")
def dropout_with_a_fresh_mask_on_the_way_back(x, *, p, key):
    """Drawn again, it is another mask; it must be the one that was used."""
    fresh = random(key[0] + 1, *key[1:]).random(x.shape, "float32") >= p
    return value("dropout", x, p=p, key=key), lambda dy: (dy * fresh / (1 - p),)


@mutant_of("checkpoint")
def checkpoint_that_forgets_its_cotangent(*xs, function):
    """The second evaluation is walked from 1, as a loss is, and not from what arrived."""

    def backward(dy):
        inputs = [Tensor(x, requires_grad=True) for x in xs]
        y = function(*inputs)
        y.backward(np.ones(y.shape, y.dtype))
        return tuple(x.grad for x in inputs)

    return value("checkpoint", *xs, function=function), backward


# ---- attention

RIGHT = {"mask": "before", "future": 0, "scale": True, "sum": True, "dropout": True, "heads": "sum"}


def attention_with(q, k, v, causal=True, p=0.0, key=None, **wrong):
    """Attention with all key heads repeated, spelled out step by step, and one of its steps done wrong."""
    how = RIGHT | wrong
    B, T, H, D = check_heads(q, k, v, causal)
    S, G = k.shape[1:3]
    heads = lambda x: x.transpose(0, 2, 1, 3)
    Q, K, V = heads(q), heads(np.repeat(k, H // G, 2)), heads(np.repeat(v, H // G, 2))
    scale = 1 / math.sqrt(D)
    seen = np.arange(S) <= np.arange(S - T, S)[:, None] + how["future"] if causal else np.ones((T, S), bool)
    z = Q @ K.swapaxes(-1, -2) * scale
    if how["mask"] == "before":
        z = np.where(seen, z, -np.inf)
    P = value("softmax", z)
    if how["mask"] == "after":
        P = P * seen
    m = (random(*key).random(P.shape, "float32") >= p if p else np.ones(P.shape)).astype(q.real.dtype) / (1 - p)
    y = (P * m) @ V

    def backward(dy):
        dy = heads(dy)
        dP = dy @ V.swapaxes(-1, -2) * (m if how["dropout"] else 1)
        dz = P * (dP - (dP * P).sum(-1, keepdims=True)) if how["sum"] else P * (1 - P) * dP
        dz = dz * scale if how["scale"] else dz
        together = lambda dx: getattr(heads(dx).reshape(B, S, G, H // G, D), how["heads"])(3)
        return heads(dz @ K), together(dz.swapaxes(-1, -2) @ Q), together((P * m).swapaxes(-1, -2) @ dy)

    return heads(y), backward


def attention_mutant(name, **wrong):
    rule = lambda q, k, v, **options: attention_with(q, k, v, **options, **wrong)
    rule.__name__ = "attention_" + name
    mutant_of("attention")(rule)


attention_mutant("with_the_mask_after_the_softmax", mask="after")
attention_mutant("that_sees_one_key_too_many", future=1)
attention_mutant("without_its_scale_on_the_way_back", scale=False)
attention_mutant("with_only_the_softmax_diagonal", sum=False)
attention_mutant("without_dropout_on_the_way_back", dropout=False)
attention_mutant("with_shared_heads_averaged", heads="mean")
