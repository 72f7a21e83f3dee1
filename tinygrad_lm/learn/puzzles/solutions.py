"""The exercises' solutions. `exercise NAME` writes them without the gradient, so read this file afterwards.

Each is a rule in plain NumPy, as one would write it first; ops/ has the same rules for all dtypes and devices.
"""

import math

import numpy as np

# ---- one input


def gelu_tanh(x):
    """y = x (1 + t)/2,  t = tanh u,  u = √(2/π) (x + 0.044715 x³)        dx = dy ((1 + t) + x (1 − t²) u′)/2

    x: any shape. GPT-2's nonlinearity. The gradient needs x and t.
    """
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))

    def backward(dy):
        slope = c * (1 + 3 * 0.044715 * x**2)
        return (dy * ((1 + t) + x * (1 - t**2) * slope) / 2,)

    return x * (1 + t) / 2, backward


def softmax(x, *, axis=-1):
    """y = exp x / Σ exp x        dx = y (dy − Σ y dy)

    x: any shape; the sum is along `axis`. The gradient needs y alone.
    """
    e = np.exp(x - x.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)

    def backward(dy):
        return (y * (dy - (y * dy).sum(axis, keepdims=True)),)

    return y, backward


# ---- several


def matmul(a, b):
    """y = a b        da = dy bᵀ,  db = aᵀ dy

    (..., n, k) @ (..., k, m) -> (..., n, m). The gradient needs a and b. Leading axes broadcast; a gradient may have
    the shape that its input was broadcast to, the engine sums it back.
    """

    def backward(dy):
        return dy @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dy

    return a @ b, backward


def rms_norm(x, w, *, eps=1e-6):
    """y = x̂ w,  x̂ = x/ρ        dx = (g − x̂ mean(g x̂))/ρ with g = dy w,  dw = Σ dy x̂

    x: (..., C), w: (C,); ρ = √(mean x² + eps) is over the C channels. The gradient needs x̂, 1/ρ and w. A gradient may
    have the shape that its input was broadcast to, the engine sums it back.
    """
    inverse = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    xhat = x * inverse

    def backward(dy):
        g = dy * w
        return inverse * (g - xhat * (g * xhat).mean(-1, keepdims=True)), dy * xhat

    return xhat * w, backward


def layer_norm(x, w, b, *, eps=1e-5):
    """y = x̂ w + b,  x̂ = (x − μ)/σ        dx = (g − mean g − x̂ mean(g x̂))/σ with g = dy w,  dw = Σ dy x̂,  db = Σ dy

    x: (..., C), w and b: (C,); μ and σ = √(mean (x − μ)² + eps) are over the C channels. The gradient needs x̂, 1/σ
    and w. A gradient may have the shape that its input was broadcast to, the engine sums it back.
    """
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    xhat = centred * inverse

    def backward(dy):
        g = dy * w
        dx = inverse * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
        return dx, dy * xhat, dy

    return xhat * w + b, backward


def cross_entropy(logits, targets, *, ignore_index=-100):
    """y = mean −log P[target],  P = softmax(logits)        dlogits = dy (P − [target]) / N

    logits: (..., V), targets: integers (...); y is one number. The mean is over the N positions whose target is not
    ignore_index. The gradient needs P, targets, counted and N. Targets are integers and have no gradient: None.
    """
    e = np.exp(logits - logits.max(-1, keepdims=True))
    P = e / e.sum(-1, keepdims=True)
    counted = targets != ignore_index
    N = max(int(counted.sum()), 1)
    target = np.where(counted, targets, 0)[..., None]
    y = -(np.log(np.take_along_axis(P, target, -1)[..., 0]) * counted).sum() / N

    def backward(dy):
        hot = target == np.arange(P.shape[-1])
        return dy * (P - hot) * counted[..., None] / N, None

    return y, backward


def attention(q, k, v, *, causal=True):
    """y = P v,  P = softmax(q kᵀ/√D)        dv = Pᵀ dy, dZ = P (dP − Σ P dP),  dP = dy vᵀ, dq = dZ k/√D, dk = dZᵀ q/√D

    q: (B, T, H, D), k and v: (B, S, G, D), y: (B, T, H, D). Causal: the queries are the last T of the S positions, and
    no query sees a later key. G < H: each key head serves H/G neighbouring query heads, so it is used H/G times. The
    gradient needs Q, K, V, each (B, H, T or S, D), and P, (B, H, T, S).
    """
    (T, H, D), (S, G) = q.shape[1:], k.shape[1:3]
    Q, K, V = (np.repeat(x.swapaxes(1, 2), H // x.shape[2], 1) for x in (q, k, v))
    z = Q @ K.swapaxes(-1, -2) / math.sqrt(D)
    if causal:
        z = np.where(np.arange(S) <= np.arange(S - T, S)[:, None], z, -np.inf)
    e = np.exp(z - z.max(-1, keepdims=True))
    P = e / e.sum(-1, keepdims=True)

    def backward(dy):
        dy = dy.swapaxes(1, 2)
        dP = dy @ V.swapaxes(-1, -2)
        dz = P * (dP - (P * dP).sum(-1, keepdims=True)) / math.sqrt(D)
        dQ, dK, dV = dz @ K, dz.swapaxes(-1, -2) @ Q, P.swapaxes(-1, -2) @ dy
        shared = lambda dx: dx.reshape(dx.shape[0], G, H // G, S, D).sum(2).swapaxes(1, 2)
        return dQ.swapaxes(1, 2), shared(dK), shared(dV)

    return (P @ V).swapaxes(1, 2), backward


EXERCISES = {
    rule.__name__: rule for rule in (gelu_tanh, softmax, matmul, rms_norm, layer_norm, cross_entropy, attention)
}
