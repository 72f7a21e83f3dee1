"""Sums of two arrays of one shape on a GPU. See add.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.graph import Node
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i8, kernel, width
from tinygrad_lm.ops.elementwise import add


@add.kernel("cuda")
def add_on_gpu(a, b):
    """The rule of ops/elementwise.py."""
    return total(a, b), lambda dy: (dy, dy)


def total(a, b):
    """a + b; what broadcasts is left to CuPy."""
    if a.shape != b.shape or not covered(a, b):
        return a + b
    a, b = contiguous(a), contiguous(b)
    y, W = array_module(a).empty_like(a), width(a.size, a, b)
    kernel("add", "add", a, W)(*for_each(a.size, W), a, b, y, i8(a.size))
    return y


Node.kernels["cuda"] = total
