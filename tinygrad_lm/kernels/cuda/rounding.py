"""Arrays in half precision on a GPU: weights are rounded all at once before a step instead of where they are used."""

from contextlib import contextmanager

from tinygrad_lm.backend import array_module, dtype_of
from tinygrad_lm.engine.precision import in_dtype
from tinygrad_lm.kernels.cuda.compile import contiguous, for_each, i8, kernel, width
from tinygrad_lm.ops.shape import to

rounded: list = []  # of the blocks that are open: a flat array of float32, and the same numbers in bfloat16


@contextmanager
def rounded_once(flat, dtype):
    """Within the block what lies in this flat float32 array is rounded to bfloat16 already, and must not change. For
    another dtype it is as any array."""
    if dtype.name != "bfloat16":
        yield
        return
    half = converted(flat, dtype)
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


@to.on("cuda", "float32")
def to_half_on_gpu(x, *, device=None, dtype=None):
    """An implementation of `to` of ops/shape.py, from float32 to bfloat16; its gradient goes the other way."""
    name = None if dtype is None else dtype_of(dtype).name
    if device not in (None, "cuda") or name != "bfloat16" or not x.size:
        return NotImplemented
    return converted(contiguous(x), dtype_of(dtype)), lambda dy: (converted(contiguous(dy), x.dtype),)


def converted(x, dtype):
    """x, float32 or bfloat16, in the other of them."""
    y = array_module(x).empty(x.shape, dtype)
    half, name = (x, "widening") if dtype.itemsize == 4 else (y, "rounding")
    W = width(x.size, x, y)
    kernel("rounding", name, half, W)(*for_each(x.size, W), x, y, i8(x.size))
    return y
