"""The activations on a GPU: one pass each way, x alone is kept. See activation.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.columns import remember
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.ops import activation

LANES, ROWS = 64, 8  # of a block of the backward pass, as in activation.cu
BLOCKS = 264  # that are on the way at the same time: 132 multiprocessors with 2 each
SHORTEST = 32  # packets of a row whose columns are worth adding up


def in_one_pass(op):
    """Register an implementation of an operation of ops/activation.py: its two functions in activation.cu."""

    @op.on("cuda", "float32", "bfloat16")
    def function(x):
        if not covered(x):
            return NotImplemented
        x = contiguous(x)
        y, W = array_module(x).empty_like(x), width(x.size, x)
        kernel("activation", "activation_forward", x, W, F=op.name)(*for_each(x.size, W), x, y, i8(x.size))
        return y, lambda dy: (gradient(op, contiguous(dy), x),)

    function.__name__ = f"{op.name}_on_gpu"


def gradient(op, dy, x):
    """dx, whose sums over rows are remembered where rows are long: the gradient of a bias that was added to x."""
    n, C, xp = x.size, x.shape[-1] if x.ndim else 1, array_module(x)
    dx, W, parts = xp.empty_like(x), width(C, x), None
    added = W > 1 and SHORTEST * W <= C <= n // ROWS
    if not added:
        W = width(n, x)
        C = LANES * W
    across = -(-C // (LANES * W))
    strips = min(-(-n // (ROWS * C)), max(1, BLOCKS // across))
    if added:
        remember(dx, parts := xp.empty((strips, C), f4))
    back = kernel("activation", "activation_backward", x, W, F=op.name)
    back((across, strips), LANES * ROWS, dy, x, dx, parts, i8(n), i4(C))
    return dx


for op in (activation.relu, activation.relu_squared, activation.silu, activation.gelu, activation.gelu_tanh):
    in_one_pass(op)
