"""Find the bug: attention, spelled out with a copy of each key head for every query head it serves. See bugs.py."""

import math

import numpy as np

from tinygrad_lm.learn.puzzles.bugs import bug_of, value
from tinygrad_lm.ops.dropout import keep

# B batch, T queries, S keys, H heads, G key heads, D head size


def copied(x, H):
    """(B, S, G, D) -> (B, H, S, D), each head H/G times."""
    return np.repeat(x.swapaxes(1, 2), H // x.shape[2], 1)


def gathered(dx, G):
    """The way back of `copied`: the sum of the copies' gradients."""
    B, H, S, D = dx.shape
    return dx.reshape(B, G, H // G, S, D).sum(2).swapaxes(1, 2)


def seen(T, S, causal, starts):
    """(..., T, S): which of the S keys each query may see; the queries are the last T positions."""
    visible = np.arange(S) <= np.arange(S - T, S)[:, None] if causal else np.ones((T, S), bool)
    return visible if starts is None else visible & (np.arange(S) >= starts[:, None, :, None])


def noise(P, p, key):
    """Dropout's mask, divided by 1 − p; all ones without dropout."""
    m = keep(np, P.shape, p, key) / (1 - p) if p else np.ones(P.shape)
    return m.astype(P.real.dtype)


@bug_of("attention", "What is the sum of each row of P, when some keys are hidden?")
def attention_with_the_mask_after_the_softmax(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """The hidden weights are 0 either way; but the others must be divided by the sum of those that are seen."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    P = value("softmax", q @ k.swapaxes(-1, -2) * scale) * seen(T, S, causal, starts)
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2) * m
        dz = P * (dP - (dP * P).sum(-1, keepdims=True)) * scale
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G), gathered(dv, G)

    return ((P * m) @ v).swapaxes(1, 2), backward


@bug_of("attention", "Value and gradient fit each other. But change the last key and value: which outputs may move?")
def attention_that_sees_one_key_too_many(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """Off by one in the mask, and it is trained to copy the next token. Value and gradient fit each other."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    visible = seen(T, S, False, starts) & (np.arange(S) <= np.arange(T)[:, None] + S - T + 1 if causal else True)
    P = value("softmax", np.where(visible, q @ k.swapaxes(-1, -2) * scale, -np.inf))
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2) * m
        dz = P * (dP - (dP * P).sum(-1, keepdims=True)) * scale
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G), gathered(dv, G)

    return ((P * m) @ v).swapaxes(1, 2), backward


@bug_of("attention", "Try D = 1, where all is well. What depends on D?")
def attention_without_its_scale_on_the_way_back(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """z = q kᵀ/√D: what passes z on its way back is divided by √D, too."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    P = value("softmax", np.where(seen(T, S, causal, starts), q @ k.swapaxes(-1, -2) * scale, -np.inf))
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2) * m
        dz = P * (dP - (dP * P).sum(-1, keepdims=True))
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G), gathered(dv, G)

    return ((P * m) @ v).swapaxes(1, 2), backward


@bug_of("attention", "In how many of the weights in a row of P does one score appear?")
def attention_with_only_the_softmax_diagonal(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """P (1 − P) dP, as if each weight depended on its own score alone."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    P = value("softmax", np.where(seen(T, S, causal, starts), q @ k.swapaxes(-1, -2) * scale, -np.inf))
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2) * m
        dz = P * (1 - P) * dP * scale
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G), gathered(dv, G)

    return ((P * m) @ v).swapaxes(1, 2), backward


@bug_of("attention", "y = (P m) v. How far does y move with a weight that was dropped?")
def attention_without_dropout_on_the_way_back(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """dv remembers the mask, dP does not."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    P = value("softmax", np.where(seen(T, S, causal, starts), q @ k.swapaxes(-1, -2) * scale, -np.inf))
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2)
        dz = P * (dP - (dP * P).sum(-1, keepdims=True)) * scale
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G), gathered(dv, G)

    return ((P * m) @ v).swapaxes(1, 2), backward


@bug_of("attention", "All is well with as many key heads as query heads. What if two share one?")
def attention_with_shared_heads_averaged(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """The mean over the query heads that share a key head, where the chain rule takes the sum."""
    T, S, H, G, scale = q.shape[1], k.shape[1], q.shape[2], k.shape[2], 1 / math.sqrt(q.shape[-1])
    q, k, v = copied(q, H), copied(k, H), copied(v, H)
    P = value("softmax", np.where(seen(T, S, causal, starts), q @ k.swapaxes(-1, -2) * scale, -np.inf))
    m = noise(P, p, key)

    def backward(dy):
        dy = copied(dy, H)
        dP = dy @ v.swapaxes(-1, -2) * m
        dz = P * (dP - (dP * P).sum(-1, keepdims=True)) * scale
        dq, dk, dv = dz @ k, dz.swapaxes(-1, -2) @ q, (P * m).swapaxes(-1, -2) @ dy
        return dq.swapaxes(1, 2), gathered(dk, G) / (H // G), gathered(dv, G) / (H // G)

    return ((P * m) @ v).swapaxes(1, 2), backward
