"""Weights in half precision on a GPU, rounded all at once before a step instead of one by one where they are used."""

from contextlib import contextmanager

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.precision import in_dtype
from tinygrad_lm.kernels.cuda.compile import for_each, i8, kernel, width

rounded: list = []  # of the blocks that are open: a flat array of float32, and the same numbers in bfloat16


@contextmanager
def rounded_once(flat, dtype):
    """Within the block what lies in this flat float32 array is rounded to bfloat16 already, and must not change. For
    another dtype it is as any array."""
    if dtype.name != "bfloat16":
        yield
        return
    half = array_module(flat).empty(flat.shape, dtype)
    W = width(flat.size, flat, half)
    kernel("rounding", "rounding", half, W)(*for_each(flat.size, W), flat, half, i8(flat.size))
    rounded.append((flat, half))
    try:
        yield
    finally:
        rounded.pop()


@in_dtype.on("cuda", "float32")
def looked_up(x, dtype):
    """An implementation of `in_dtype` of engine/precision.py, for weights of an open block, also transposed ones."""
    for flat, half in rounded:
        start = (x.data.ptr - flat.data.ptr) // flat.dtype.itemsize
        if dtype == half.dtype and 0 <= start <= flat.size - x.size:
            if x.flags.c_contiguous:
                return half[start : start + x.size].reshape(x.shape)
            if x.T.flags.c_contiguous:
                return half[start : start + x.size].reshape(x.T.shape).T
    return NotImplemented
