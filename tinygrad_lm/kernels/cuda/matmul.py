"""Matrix products on a GPU: the rules of ops/matmul.py through cuBLASLt. See cuda/cublaslt.py."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.columns import column_sums
from tinygrad_lm.kernels.cuda.compile import contiguous, covered
from tinygrad_lm.kernels.cuda.cublaslt import multiply
from tinygrad_lm.ops.matmul import linear, matmul
from tinygrad_lm.optim.muon import product


@product.on("cuda", "float32", "bfloat16")
def product_on_gpu(a, b):
    """The definition of optim/muon.py."""
    return multiply(a, b) if covered(a, b) else NotImplemented


@matmul.on("cuda", "float32", "bfloat16")
def matmul_on_gpu(a, b):
    """The rule, but where leading axes are broadcast."""
    if a.ndim < 2 or a.shape[-1:] != b.shape[-2:-1] or a.shape[:-2] != b.shape[:-2] or not covered(a, b):
        return NotImplemented

    def backward(dy):
        da = lambda: multiply(dy, b.swapaxes(-1, -2))
        db = lambda: multiply(a.swapaxes(-1, -2), dy)
        return da, db

    return multiply(a, b), backward


@linear.on("cuda", "float32", "bfloat16")
def linear_on_gpu(x, w, b=None):
    """The rule; the bias is added, and its gradient summed, within the products."""
    fits = w.ndim == 2 and x.shape[-1:] == w.shape[:1] and (b is None or b.shape == w.shape[1:])
    if not fits or not covered(x, w, b):
        return NotImplemented
    rows, shape = x.reshape(-1, len(w)), x.shape
    y = multiply(rows, w, bias=b).reshape(*shape[:-1], w.shape[1])
    return y, linear_backward(rows, w, b, shape)


def linear_backward(rows, w, b, shape):
    """dy -> dx of this shape, dw and db, where rows are those of x."""

    def backward(dy):
        dy, sums = dy.reshape(len(rows), w.shape[1]), None

        def dx():
            return multiply(dy, w.T).reshape(shape)

        def dw():
            nonlocal sums
            if b is not None:
                sums = array_module(b).empty(b.shape, b.dtype)
            return multiply(rows.T, dy, bias_gradient=sums)

        def db():
            return column_sums(contiguous(dy), b.dtype) if sums is None else sums  # none where w is frozen

        return (dx, dw) if b is None else (dx, dw, db)

    return backward
