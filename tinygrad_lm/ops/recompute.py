"""Recomputation: memory for time. The page keeps everything."""

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.observe import no_grad, thread, within
from tinygrad_lm.engine.op import op
from tinygrad_lm.engine.tensor import Tensor


@op
def recompute(*xs, function):
    """y = f(x₀, x₁, …)        dxᵢ = dy ∂f/∂xᵢ, through a second evaluation of f

    xs: whatever `function` takes

    `function` maps tensors to a tensor. Its intermediate values are not kept but computed again in the backward pass:
    one more forward pass, and only its inputs stay in memory (Chen et al. 2016, "Training deep nets with sublinear
    memory cost"). Parameters that it uses get their gradients as always. It is recorded if an input
    requires a gradient, and must compute the same twice; dropout does, being a function of its key.
    """
    with no_grad():
        y = function(*map(Tensor.of, xs)).data
    rounding = thread.products

    def backward(dy):
        with within(recording=True, products=rounding):
            inputs = [Tensor(x, requires_grad=is_floating(x.dtype)) for x in xs]
            function(*inputs).backward(dy)
        return tuple(x.grad for x in inputs)

    return y, backward
