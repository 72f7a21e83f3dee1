"""Dropout on a GPU: the definition's random numbers, drawn where they are used. See cuda/dropout.cu."""

from tinygrad_lm.backend import array_module, philox
from tinygrad_lm.kernels.cuda_compile import contiguous, covered, f4, for_each, i8, kernel, width
from tinygrad_lm.ops.dropout import check_probability, dropout

NUMBERS = 8  # that a thread draws


@dropout.kernel("cuda")
def dropout_on_gpu(x, *, p, key):
    """The rule of ops/dropout.py, with its mask bit for bit. Nothing is kept: the way back draws the mask again."""
    check_probability(p)
    if not covered(x):
        return dropout.rule(x, p=p, key=key)
    numbers, (_, *counter) = philox(*key)

    def masked(x):
        x = contiguous(x)
        y = array_module(x).empty_like(x)
        W = width(x.size, x)
        run = kernel("dropout", "dropout", x, W)
        run(*for_each(x.size, NUMBERS), x, y, i8(x.size), f4(p), f4(1 / (1 - p)), *numbers, *counter)
        return y

    return masked(x), lambda dy: (masked(dy),)
