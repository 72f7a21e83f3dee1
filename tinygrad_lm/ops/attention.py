"""Attention: a weighted mean of the values a position may see. The page's, and shared key heads, documents, dropout."""

import math

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ConfigError, DtypeError, ShapeError
from tinygrad_lm.ops.dropout import keep

# B batch, T queries, S keys, G key heads, R queries a key head (H = G R heads), D head size


@op
def attention(q, k, v, *, causal=True, document_starts=None, p=0.0, key=None):
    """y = P v,  P = softmax(q kᵀ/√D)        dv = Pᵀ dy, dZ = P (dP − Σ P dP),  dP = dy vᵀ, dq = dZ k/√D, dk = dZᵀ q/√D

    (B, T, H, D), (B, S, G, D), (B, S, G, D) -> (B, T, H, D) with H a multiple of G

    Vaswani et al. 2017, equation 1. Causal: the queries are the last T of the S positions, and none sees a later key:
    its weight is exactly 0, and so is its gradient. document_starts: integers (B, T), for each query the first key that
    it sees, to keep it within its document; the keys before are masked as future ones are (Grattafiori et al. 2024,
    "Llama 3", section 3.2). G < H: each key head serves H/G neighbouring query heads (Ainslie et al. 2023, "GQA").
    p, key: dropout of the weights P, as in `dropout`.
    """
    B, T, H, D = check_inputs(q, k, v, causal, document_starts)
    S, G = k.shape[1:3]
    R = H // G
    xp, scale = array_module(q), 1 / math.sqrt(D)

    # One matrix a key head: its R query heads stand below each other.
    def rows(x):
        return x.reshape(B, T, G, R, D).transpose(0, 2, 3, 1, 4).reshape(B, G, R * T, D)

    def unrows(x):
        return x.reshape(B, G, R, T, D).transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)

    q, k, v = rows(q), k.swapaxes(1, 2), v.swapaxes(1, 2)
    z = q @ k.swapaxes(-1, -2)
    z *= scale
    if causal:
        future = xp.arange(S) > xp.arange(S - T, S)[:, None]
        z = xp.where(xp.tile(future, (R, 1)), -xp.inf, z)
    if document_starts is not None:
        before = xp.arange(S) < xp.asarray(document_starts)[:, None, :, None]
        z = xp.where(xp.tile(before, (R, 1)), -xp.inf, z)
    P = xp.exp(z - z.real.max(-1, keepdims=True))
    P /= P.sum(-1, keepdims=True)
    m = keep(P, p, key) if p else None

    def dropped(x):
        return x if m is None else xp.where(m, x / (1 - p), 0)

    y = dropped(P) @ v

    def backward(dy):
        dy = rows(dy)
        dv = dropped(P).swapaxes(-1, -2) @ dy
        dP = dropped(dy @ v.swapaxes(-1, -2))
        # Σ P dP over the keys is Σ y dy over D entries, S/D times fewer (Dao et al. 2022, FlashAttention, appendix B).
        dz = P * (dP - (y * dy).sum(-1, keepdims=True)) * scale
        return unrows(dz @ k), (dz.swapaxes(-1, -2) @ q).swapaxes(1, 2), dv.swapaxes(1, 2)

    return unrows(y), backward


def check_inputs(q, k, v, causal, document_starts):
    """Return q's shape, if k, v and document_starts fit it."""
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape:
        raise ShapeError("q, k and v need four axes each, and k and v the same shape")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or not q.shape[3]:
        raise ShapeError("the batch or the head size of q and k differs, or the head size is 0")
    if k.shape[2] == 0 or q.shape[2] % k.shape[2]:
        raise ShapeError(f"{q.shape[2]} query heads cannot share {k.shape[2]} key heads evenly")
    if causal and q.shape[1] > k.shape[1]:
        raise ShapeError(f"{q.shape[1]} causal queries need as many keys, found {k.shape[1]}")
    if document_starts is not None:
        check_starts(document_starts, *q.shape[:2], k.shape[1], causal)
    return q.shape


def check_starts(starts, B, T, S, causal):
    """Each query must see a key: its own, or without causality the last. On a GPU a look would synchronise."""
    if starts.shape != (B, T):
        raise ShapeError(f"document_starts has shape {starts.shape}; expected (B, T) = {B, T}, one for each query")
    if starts.dtype.kind not in "iu":
        raise DtypeError(f"document_starts must be integers, found {starts.dtype}")
    if isinstance(starts, np.ndarray):
        last = np.arange(S - T, S) if causal else np.full(T, S - 1)
        if (wrong := (starts < 0) | (starts > last)).any():
            b, t = np.argwhere(wrong)[0]
            raise ConfigError(
                f"document_starts[{b}, {t}] = {starts[b, t]} is outside 0 to {last[t]}, the last key that this query "
                f"sees ({wrong.sum()} such entries)"
            )
