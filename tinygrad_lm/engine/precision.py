"""Half precision, a policy at dispatch: rules know nothing of it.

- An operation without an implementation for bfloat16 or float16 runs its rule in float32; its value, and
  the gradients of what came in half precision, are rounded once.
- One with an implementation gets all its floating inputs in half precision: float32 ones, weights for the most part,
  are rounded where they are used, and their gradients are float32 again. So weights are stored, trained and saved in
  float32 (half precision would swallow most updates: Micikevicius et al. 2018, "Mixed precision training", 3.1).
- A reduction to one number stays float32: in two or three digits one step of training would not be seen in a loss.
  So does a log-probability, for its differences are what counts.
- What only moves entries runs as it is.
- Where a CPU multiplies half precision faster, a model computes in float32 and its products round what they multiply
  (nn/context.py), for nothing else would be faster in half precision.

The page computes in float32 alone.
"""

from tinygrad_lm.backend import FLOAT32, device_of, is_floating, wide
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.replaceable import replaceable

MOVES = {"broadcast_to", "concat", "recompute", "reshape", "stack", "swapaxes", "to", "transpose"}
PRECISE = {"log_probability", "linear_log_probability"}


def run_in_half(op, *arrays, **options):
    """Value and gradient function of an operation of which some inputs are in half precision."""
    if op.name in MOVES:
        return op.rule(*arrays, **options)
    half = next(x.dtype for x in arrays if is_half(x.dtype))
    kinds = [(x.shape, x.dtype) for x in arrays]
    if faster := op.implementation(device_of(arrays[0]), half):
        found = faster(*(in_dtype(x, half) if x.dtype == FLOAT32 else x for x in arrays), **options)
        if found is not NotImplemented:
            y, backward = found
            return y, lambda dy: rounded(backward(dy), kinds)
    y, backward = op.rule(*(x.astype(wide(x.dtype), copy=False) for x in arrays), **options)
    if op.name not in PRECISE and (y.ndim or not any(shape for shape, _ in kinds)):
        y = in_dtype(y, half)
    return y, lambda dy: rounded(backward(dy.astype(wide(dy.dtype), copy=False)), kinds)


def rounded(dxs, kinds):
    """The gradients in the dtypes of their inputs, each, if wanted, added up over broadcast axes and then rounded."""

    def finished(dx, shape, dtype):
        whole = hasattr(dx, "plus") and dx.dtype == dtype
        return dx if whole else lambda: in_dtype(unbroadcast(dx() if callable(dx) else dx, shape), dtype)

    return tuple(dx if dx is None else finished(dx, *kind) for dx, kind in zip(dxs, kinds, strict=True))


@replaceable
def in_dtype(x, dtype):
    """x in half precision or float32, if it is in one of them; another dtype is a mistake, which is not hidden."""
    return x.astype(dtype, copy=False) if wide(x.dtype) == FLOAT32 else x


def is_half(dtype):
    """Whether this is bfloat16 or float16."""
    return dtype.itemsize == 2 and is_floating(dtype)
