"""AdamW's update in one pass on a GPU, and a sum of squares without a synchronisation. See adamw.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.optim import adamw
from tinygrad_lm.optim.clipping import sum_of_squares

BLOCKS, THREADS = 1024, 512  # of sum_of_squares; constants, so that every GPU adds in the same order


@adamw.update.on("cuda", "float32")
def adamw_in_one_pass(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """The definition of optim/adamw.py.

    lr and the corrections may be float32 0-d arrays: the kernel reads them where they are.
    """
    if not w.size:
        return NotImplemented
    W, xp = width(w.size, w, g, m, v), array_module(w)
    numbers = [x if hasattr(x, "shape") else xp.full((), x, f4) for x in (lr, correction1, correction2)]
    rates = decay, beta1, 1 - beta1, beta2, 1 - beta2, eps
    kernel("adamw", "adamw", g, W)(*for_each(w.size, W), w, g, m, v, i8(w.size), *numbers, *map(f4, rates))


@sum_of_squares.on("cuda", "float32", "bfloat16")
def sum_of_squares_on_gpu(g):
    """Σ g² of a flat array, as an 0-d array on its device; of float32 and half precision in float32."""
    if not covered(g):
        return NotImplemented
    W, xp = width(g.size, g), array_module(g)
    blocks = max(1, min(BLOCKS, -(-g.size // (W * THREADS))))
    of_block, y = xp.empty(blocks, f4), xp.empty((), f4)
    kernel("adamw", "squares", g, W)(blocks, THREADS, g, of_block, i8(g.size))
    kernel("adamw", "total", g, W)(1, THREADS, of_block, y, i4(blocks))
    return y
