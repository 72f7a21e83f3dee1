"""AdamW's update in one pass on a GPU, and the gradient's norm without a synchronisation. See adamw.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.nn.module import Parameters
from tinygrad_lm.optim import adamw

BLOCKS, THREADS = 1024, 512  # of squared_norm; constants, so that every GPU adds in the same order


def update_in_one_pass(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """The definition in optim/adamw.py, for float32 weights and moments.

    lr and the corrections may be float32 arrays of no axes: the kernel reads them where they are.
    """
    if w.dtype != f4 or not w.size:
        return adamw.update(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay)
    W, xp = width(w.size, w, g, m, v), array_module(w)
    numbers = [x if hasattr(x, "shape") else xp.full((), x, f4) for x in (lr, correction1, correction2)]
    rates = decay, beta1, 1 - beta1, beta2, 1 - beta2, eps
    kernel("adamw", "adamw", g, W)(*for_each(w.size, W), w, g, m, v, i8(w.size), *numbers, *map(f4, rates))


def squared_norm(g):
    """Σ g² of a flat array, as an array of no axes on its device; of float32 and half precision in float32."""
    if not covered(g):
        return (g * g).sum()
    W, xp = width(g.size, g), array_module(g)
    blocks = max(1, min(BLOCKS, -(-g.size // (W * THREADS))))
    of_block, y = xp.empty(blocks, f4), xp.empty((), f4)
    kernel("adamw", "squares", g, W)(blocks, THREADS, g, of_block, i8(g.size))
    kernel("adamw", "total", g, W)(1, THREADS, of_block, y, i4(blocks))
    return y


adamw.AdamW.kernels["cuda"] = update_in_one_pass
Parameters.kernels["cuda"] = squared_norm
