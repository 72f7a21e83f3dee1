"""Matrix products on a GPU, through cuBLASLt. See cublaslt.py."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.adding import Adding
from tinygrad_lm.kernels.cuda.columns import column_sums
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4
from tinygrad_lm.kernels.cuda.cublaslt import multiply
from tinygrad_lm.ops.matmul import linear, matmul
from tinygrad_lm.optim.muon import product


@product.on("cuda", "float32")
def product_on_gpu(a, b):
    """An implementation of `product` of optim/muon.py."""
    return multiply(a, b) if covered(a, b) else NotImplemented


@matmul.on("cuda", "float32", "bfloat16")
def matmul_on_gpu(a, b):
    """An implementation of `matmul` of ops/matmul.py, for equal leading axes."""
    if a.ndim < 2 or a.shape[-1:] != b.shape[-2:-1] or a.shape[:-2] != b.shape[:-2] or not covered(a, b):
        return NotImplemented

    def backward(dy):
        da = lambda plus, out: multiply(dy, b.swapaxes(-1, -2), plus=plus, out=out)
        db = lambda plus, out: multiply(a.swapaxes(-1, -2), dy, plus=plus, out=out)
        return Adding(da, a.dtype), Adding(db, b.dtype)

    return multiply(a, b), backward


@linear.on("cuda", "float32", "bfloat16")
def linear_on_gpu(x, w, b=None):
    """An implementation of `linear` of ops/matmul.py.

    The bias is added within the product. The gradients of w and b are float32, the dtype that they are added up in, so
    those of a float32 weight need no further pass.
    """
    fits = w.ndim == 2 and x.shape[-1:] == w.shape[:1] and (b is None or b.shape == w.shape[1:])
    if not fits or not covered(x, w, b):
        return NotImplemented
    rows, shape = x.reshape(-1, len(w)), x.shape
    y = multiply(rows, w, bias=b).reshape(*shape[:-1], w.shape[1])
    return y, gradients_on_gpu(rows, w, b, shape)


def gradients_on_gpu(rows, w, b, shape):
    """dy -> dx of this shape, dw and db, where rows are those of x."""

    def backward(dy):
        dy = dy.reshape(len(rows), w.shape[1])

        def dx(plus, out):
            plus, out = (x if x is None else x.reshape(rows.shape) for x in (plus, out))
            return multiply(dy, w.T, plus=plus, out=out).reshape(shape)

        def dw(plus, out):
            out = array_module(dy).empty(w.shape, f4) if out is None else out
            return multiply(rows.T, dy, plus=plus, out=out)

        def db(plus, out):
            return column_sums(contiguous(dy), plus, out)

        dx, dw, db = Adding(dx, dy.dtype), Adding(dw, f4), Adding(db, f4)
        return (dx, dw) if b is None else (dx, dw, db)

    return backward
