"""The activations on a GPU: one pass each way, x alone is kept. See activation.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, for_each, i8, kernel, width
from tinygrad_lm.ops import activation


def in_one_pass(op):
    """The contract of a rule for f and f′ of activation.cu."""

    @op.on("cuda", "float32", "bfloat16")
    def function(x):
        if not covered(x):
            return NotImplemented
        x, xp = contiguous(x), array_module(x)
        y = xp.empty_like(x)
        run("forward", x, y)

        def backward(dy):
            dx = xp.empty_like(x)
            run("backward", contiguous(dy), x, dx)
            return (dx,)

        return y, backward

    def run(way, *arrays):
        n, W = arrays[0].size, width(arrays[0].size, *arrays)
        kernel("activation", f"activation_{way}", arrays[0], W, F=op.name)(*for_each(n, W), *arrays, i8(n))

    function.__name__ = f"{op.name}_on_gpu"
    return function


for op in (activation.relu, activation.relu_squared, activation.silu, activation.gelu, activation.gelu_tanh):
    in_one_pass(op)
