"""AdamW's update in one pass over weights, gradient and moments."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.optim import adamw


@adamw.update.on("cpu", "float32")
def adamw_in_one_pass(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """The definition of optim/adamw.py."""
    if not w.size == g.size == m.size == v.size:
        return NotImplemented  # NumPy says what is wrong
    rates = f4(lr / correction1), f4(1 - lr * decay)
    rates += f4(beta1), f4(1 - beta1), f4(beta2), f4(1 - beta2), f4(1 / correction2), f4(eps)
    update(w.size, LEAST, w, g, m, v, *rates)


@shared
def update(start, stop, w, g, m, v, lr, keep, beta1, rest1, beta2, rest2, scale, eps):
    """rest: 1 − β. keep: what weight decay leaves of a weight. scale: of v."""
    w, g, m, v = w[start:stop], g[start:stop], m[start:stop], v[start:stop]
    for i in range(w.size):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        w[i] = keep * w[i] - lr * m[i] / (np.sqrt(v[i] * scale) + eps)
