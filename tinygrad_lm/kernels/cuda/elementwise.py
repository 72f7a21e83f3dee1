"""Sums and products of two arrays of one shape on a GPU. See elementwise.cu. Most that broadcasts is left to CuPy."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine import graph
from tinygrad_lm.kernels.cuda.columns import column_sums
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i8, kernel, width
from tinygrad_lm.ops.elementwise import add, multiply
from tinygrad_lm.optim.clipping import scale

LONG = 4096, 65535  # entries of b, at least, where it is added to parts of a; of these, at most


@graph.add.on("cuda", "float32", "bfloat16")
def total(a, b, out=None):
    """An implementation of `add` of engine/graph.py: the sum of two gradients."""
    if callable(b) or a.shape != b.shape or not covered(a, b):
        return NotImplemented
    if out is not None and contiguous(out) is not out:
        return NotImplemented
    return added(contiguous(a), contiguous(b), array_module(a).empty_like(a) if out is None else out)


@add.on("cuda", "float32", "bfloat16")
def add_on_gpu(a, b):
    """An implementation of `add` of ops/elementwise.py, also for a long b that is added to each of a's parts."""
    if not covered(a, b) or (a.shape != b.shape and not has_parts_like(a, b)):
        return NotImplemented
    y = added(contiguous(a), contiguous(b), array_module(a).empty_like(a))
    summed = lambda dy: column_sums(contiguous(dy).reshape(-1, b.size)).reshape(b.shape)
    return y, lambda dy: (dy, dy if a.shape == b.shape else lambda: summed(dy))


def has_parts_like(a, b):
    """Whether a is several arrays of b's shape one after the other, but for leading axes of 1."""
    axes = b.ndim - next((i for i, size in enumerate(b.shape) if size > 1), b.ndim)
    return (
        b.ndim <= a.ndim
        and a.shape[a.ndim - axes :] == b.shape[b.ndim - axes :]
        and b.size >= LONG[0]
        and a.size <= LONG[1] * b.size
    )


def added(a, b, y):
    """a + b, written to y."""
    W = width(b.size, a, b, y)
    blocks, threads = for_each(b.size, W)
    kernel("elementwise", "add", a, W)((blocks, a.size // b.size), threads, a, b, y, i8(b.size))
    return y


@multiply.on("cuda", "float32", "bfloat16")
def multiply_on_gpu(a, b):
    """An implementation of `multiply` of ops/elementwise.py. Backward gives both gradients in one pass."""
    if a.shape != b.shape or not covered(a, b):
        return NotImplemented
    a, b = contiguous(a), contiguous(b)
    new = lambda n: [array_module(a).empty_like(a) for _ in range(n)]
    (y,) = by_entries("multiply", new(1), a, b)
    return y, lambda dy: by_entries("multiply_backward", new(2), contiguous(dy), a, b)


@scale.on("cuda", "float32")
def scale_on_gpu(x, factor):
    """An implementation of `scale` of optim/clipping.py, for a factor on the device."""
    if not covered(x) or contiguous(x) is not x or not hasattr(factor, "shape"):
        return NotImplemented
    return scaled(x, factor, x)


def scaled(x, factor, out=None):
    """x times one number on the device, in float32; as x lies."""
    if not x.flags.c_contiguous and x.T.flags.c_contiguous:
        return scaled(x.T, factor).T
    x, n = contiguous(x), x.size
    y, W = array_module(x).empty_like(x) if out is None else out, width(n, x)
    kernel("elementwise", "scale", x, W)(*for_each(n, W), x, factor, y, i8(n))
    return y


def by_entries(name, results, *arrays):
    """Run a kernel of elementwise.cu, which goes through arrays of one shape. Returns the results, which it writes."""
    n, W = arrays[0].size, width(arrays[0].size, *arrays, *results)
    kernel("elementwise", name, arrays[0], W)(*for_each(n, W), *arrays, *results, i8(n))
    return results
