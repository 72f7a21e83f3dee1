"""The activations on a GPU: one pass each way, x alone is kept. See activation.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i8, kernel, width
from tinygrad_lm.ops import activation


def in_one_pass(op):
    """Register an implementation of an operation of ops/activation.py: its two functions in activation.cu."""

    @op.on("cuda", "float32", "bfloat16")
    def function(x):
        if not covered(x):
            return NotImplemented
        x, xp = contiguous(x), array_module(x)
        y = xp.empty_like(x)
        through("forward", x, y)

        def backward(dy):
            dx = xp.empty_like(x)
            through("backward", contiguous(dy), x, dx)
            return (dx,)

        return y, backward

    def through(way, *arrays):
        n, W = arrays[0].size, width(arrays[0].size, *arrays)
        kernel("activation", f"activation_{way}", arrays[0], W, F=op.name)(*for_each(n, W), *arrays, i8(n))

    function.__name__ = f"{op.name}_on_gpu"


for op in (activation.relu, activation.relu_squared, activation.silu, activation.gelu, activation.gelu_tanh):
    in_one_pass(op)
