"""AdamW's update in one pass on a GPU, and a sum of squares without a synchronisation. See adamw.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.optim import adamw
from tinygrad_lm.optim.clipping import sum_of_squares

BLOCKS, THREADS = 1024, 512  # of the sum of squares; constants, so that every GPU adds in the same order


@adamw.update.on("cuda", "float32")
def adamw_on_gpu(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """An implementation of `update` of optim/adamw.py.

    lr and the corrections may be 0-d arrays of float32: the kernel reads them where they are.
    """
    if not (covered(w, g, m, v) and w.size == g.size == m.size == v.size):
        return NotImplemented
    W, xp = width(w.size, w, g, m, v), array_module(w)
    numbers = [x if hasattr(x, "shape") else xp.full((), x, f4) for x in (lr, correction1, correction2)]
    rates = decay, beta1, 1 - beta1, beta2, 1 - beta2, eps
    return kernel("adamw", "adamw", w, W)(*for_each(w.size, W), w, g, m, v, i8(w.size), *numbers, *map(f4, rates))


@sum_of_squares.on("cuda", "float32")
def sum_of_squares_on_gpu(x):
    """An implementation of `sum_of_squares` of optim/clipping.py."""
    if not covered(x):
        return NotImplemented
    W, xp = width(x.size, x), array_module(x)
    blocks = max(1, min(BLOCKS, -(-x.size // (W * THREADS))))
    of_block, y = xp.empty(blocks, "f8"), xp.empty((), "f8")
    kernel("adamw", "squares", x, W)(blocks, THREADS, x, of_block, i8(x.size))
    kernel("adamw", "total", x, W)(1, THREADS, of_block, y, i4(blocks))
    return y
