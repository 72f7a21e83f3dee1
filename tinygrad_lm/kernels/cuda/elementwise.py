"""Sums and products of two arrays of one shape on a GPU. See elementwise.cu. What broadcasts is left to CuPy."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine import graph
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i8, kernel, width
from tinygrad_lm.ops.elementwise import add, multiply


@graph.add.on("cuda", "float32", "bfloat16")
def total(a, b):
    """An implementation of `add` of engine/graph.py: the sum of two gradients."""
    if a.shape != b.shape or not covered(a, b):
        return NotImplemented
    (y,) = by_entries("add", 1, contiguous(a), contiguous(b))
    return y


@add.on("cuda", "float32", "bfloat16")
def add_on_gpu(a, b):
    """An implementation of `add` of ops/elementwise.py."""
    y = total(a, b)
    return NotImplemented if y is NotImplemented else (y, lambda dy: (dy, dy))


@multiply.on("cuda", "float32", "bfloat16")
def multiply_on_gpu(a, b):
    """An implementation of `multiply` of ops/elementwise.py. Backward gives both gradients in one pass."""
    if a.shape != b.shape or not covered(a, b):
        return NotImplemented
    a, b = contiguous(a), contiguous(b)
    (y,) = by_entries("multiply", 1, a, b)
    return y, lambda dy: by_entries("multiply_backward", 2, contiguous(dy), a, b)


def by_entries(name, count, *arrays):
    """`count` new arrays from a kernel of elementwise.cu that goes through arrays of one shape."""
    n, W = arrays[0].size, width(arrays[0].size, *arrays)
    results = tuple(array_module(arrays[0]).empty_like(arrays[0]) for _ in range(count))
    kernel("elementwise", name, arrays[0], W)(*for_each(n, W), *arrays, *results, i8(n))
    return results
