"""Matrix products on a GPU: cublasLtMatmul of NVIDIA's cuBLASLt.

CuPy's own products raise an error while a CUDA graph is captured; this one takes its stream and workspace as arguments.

cuBLASLt counts along columns. A matrix in memory row by row is its transpose column by column, so for C = A B it is
asked for Cᵀ = Bᵀ Aᵀ: our b is its first matrix, a its second, our columns are its rows, and nothing is copied.
"""

import threading
from typing import Any, NamedTuple

from tinygrad_lm.backend import array_module
from tinygrad_lm.errors import DtypeError, ShapeError
from tinygrad_lm.kernels.cuda.compile import contiguous, f4
from tinygrad_lm.kernels.cuda.cublaslt_plan import BIAS, DEFAULT, TYPES, Kind, planned, workspace

one_at_a_time = threading.Lock()  # a plan holds the address of the bias of the call under way


def multiply(a, b, *, out=None, plus=None, bias=None):
    """y = a b (+ plus) (+ bias), of arrays on a GPU in float32 or bfloat16, added up in float32.

    (..., n, k) @ (..., k, m) -> (..., n, m), leading axes equal

    Transposed views are read as they lie; what lies neither row by row nor column by column is copied first.
    out   y itself, contiguous, of their dtype or float32
    plus  what is added, contiguous, of y's shape and dtype; it may be `out`, which then grows by the product
    bias  (m,), of y's dtype; of two axes only

    NVIDIA promises the same bits in every run on the same kind of GPU. What has run once can be captured in a graph.
    Raises ShapeError, DtypeError; DeviceError where cuBLASLt is missing, fails, or has no algorithm for these arrays.
    """
    check_inputs(a, b)
    xp, shape = array_module(a), (*a.shape[:-1], b.shape[-1])
    y = xp.empty(shape, a.dtype) if out is None else out
    check_output(a, y, shape, plus)
    check_bias(a, y, bias)
    if not (a.size and b.size):  # cuBLASLt takes no empty matrices
        return empty_product(y, plus, bias)
    (n, k), m = a.shape[-2:], b.shape[-1]
    a, b, vector, epilogue = as_matrices(a), as_matrices(b), None, DEFAULT
    if bias is not None:
        vector, epilogue = contiguous(bias), BIAS
    kind = Kind(n, k, m, y.size // (n * m), a[1:], b[1:], a.array.dtype.name, y.dtype.name, epilogue)
    before = y if plus is None else plus
    pointers = tuple(0 if x is None else x.data.ptr for x in (b.array, a.array, before, y, vector))
    device, stream = xp.cuda.Device().id, xp.cuda.get_current_stream().ptr
    plan = planned(device, kind, tuple(min(pointer & -pointer, 256) for pointer in pointers))
    with one_at_a_time:
        plan.run(xp, y, pointers, plus is not None, workspace(xp, device, stream).data.ptr, stream)
    return y


class Matrices(NamedTuple):
    """An array and how it lies: by columns or rows, entries from one such line to the next, and to the next matrix."""

    array: Any
    by_columns: bool
    line: int
    step: int


def as_matrices(x):
    """x, or a copy where it has no lines of neighbours that a leading dimension separates."""
    x = x if x.ndim <= 3 else x.reshape(-1, *x.shape[-2:])
    rows, columns = x.shape[-2:]
    *step, down, right = (stride // x.dtype.itemsize for stride in x.strides)
    step = step[0] if step and len(x) > 1 else 0
    if step >= 0 and (columns == 1 or right == 1) and (rows == 1 or down >= columns):
        return Matrices(x, False, columns if rows == 1 else down, step)
    if step >= 0 and (rows == 1 or down == 1) and right >= rows:
        return Matrices(x, True, right, step)
    return as_matrices(x.copy())


def check_inputs(a, b):
    if min(a.ndim, b.ndim) < 2 or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"multiply: {a.shape} @ {b.shape}; expected (..., n, k) @ (..., k, m) with equal leading axes\n"
            "  hint : x.reshape(-1, k) makes one matrix of all positions"
        )
    if a.dtype != b.dtype or a.dtype.name not in TYPES:
        raise DtypeError(
            f"multiply: {a.dtype} @ {b.dtype}; expected float32 or bfloat16, the same for both\n  hint : x.astype(...)"
        )


def check_output(a, y, shape, plus):
    for name, x in (("out", y), ("plus", plus)):
        if x is not None and (x.shape != shape or not x.flags.c_contiguous):
            raise ShapeError(f"multiply: {name} has shape {x.shape}; expected {shape}, contiguous")
    if y.dtype not in (a.dtype, f4):
        raise DtypeError(f"multiply: {a.dtype} to {y.dtype}; expected {a.dtype} or float32")
    if plus is not None and plus.dtype != y.dtype:
        raise DtypeError(f"multiply: plus is {plus.dtype}; expected y's dtype, {y.dtype}")


def check_bias(a, y, bias):
    if bias is None:
        return
    if a.ndim > 2 or bias.shape != y.shape[1:]:
        raise ShapeError(f"multiply: bias is {bias.shape}, y {y.shape}; expected y of two axes and {y.shape[-1:]}")
    if bias.dtype != y.dtype:
        raise DtypeError(f"multiply: bias is {bias.dtype}; expected y's dtype, {y.dtype}")


def empty_product(y, plus, bias):
    """What is left where a or b has no entries: sums of nothing."""
    y[...] = 0 if plus is None else plus
    if bias is not None:
        y += bias
    return y
