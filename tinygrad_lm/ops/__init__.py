"""All operations, and the operators of Tensor.

Each file holds rules: a function that computes a value and hands back the way to its gradient. Read matmul.py first,
then softmax.py, cross_entropy.py and attention.py.
"""

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.ops.activation import gelu, gelu_tanh, relu, relu_squared, silu
from tinygrad_lm.ops.attention import attention
from tinygrad_lm.ops.checkpoint import checkpoint
from tinygrad_lm.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_lm.ops.dropout import dropout
from tinygrad_lm.ops.elementwise import (
    add,
    divide,
    exp,
    log,
    maximum,
    multiply,
    negate,
    power,
    sigmoid,
    sqrt,
    subtract,
    tanh,
    to,
    where,
)
from tinygrad_lm.ops.embedding import embedding
from tinygrad_lm.ops.matmul import linear, matmul
from tinygrad_lm.ops.normalize import layer_norm, rms_norm
from tinygrad_lm.ops.reduce import logsumexp, max, mean, sum
from tinygrad_lm.ops.rotary import rotary
from tinygrad_lm.ops.shape import broadcast_to, concat, getitem, reshape, stack, swapaxes, transpose
from tinygrad_lm.ops.softmax import log_softmax, softmax

__all__ = [
    "add", "attention", "broadcast_to", "checkpoint", "concat", "cross_entropy", "divide", "dropout", "embedding",
    "exp", "gelu", "gelu_tanh", "getitem", "layer_norm", "linear", "linear_cross_entropy", "log", "log_softmax",
    "logsumexp", "matmul", "max", "maximum", "mean", "multiply", "negate", "power", "relu", "relu_squared", "reshape",
    "rms_norm", "rotary", "sigmoid", "silu", "softmax", "sqrt", "stack", "subtract", "sum", "swapaxes", "tanh", "to",
    "transpose", "where",
]  # fmt: skip


def _arrays(index):
    """Tensors within an index as plain arrays."""
    if isinstance(index, tuple):
        return tuple(_arrays(part) for part in index)
    return index.data if isinstance(index, Tensor) else index


def _unpacked(sizes):
    """x.reshape(2, 3) and x.reshape((2, 3)) alike."""
    return sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes


METHODS = {
    "__add__": lambda a, b: add(a, b),
    "__radd__": lambda a, b: add(b, a),
    "__sub__": lambda a, b: subtract(a, b),
    "__rsub__": lambda a, b: subtract(b, a),
    "__mul__": lambda a, b: multiply(a, b),
    "__rmul__": lambda a, b: multiply(b, a),
    "__truediv__": lambda a, b: divide(a, b),
    "__rtruediv__": lambda a, b: divide(b, a),
    "__pow__": lambda a, b: power(a, b),
    "__rpow__": lambda a, b: power(b, a),
    "__matmul__": lambda a, b: matmul(a, b),
    "__rmatmul__": lambda a, b: matmul(b, a),
    "__neg__": lambda x: negate(x),
    "__getitem__": lambda x, index: getitem(x, index=_arrays(index)),
    "exp": lambda x: exp(x),
    "log": lambda x: log(x),
    "sqrt": lambda x: sqrt(x),
    "tanh": lambda x: tanh(x),
    "sigmoid": lambda x: sigmoid(x),
    "relu": lambda x: relu(x),
    "sum": lambda x, axis=None, keepdims=False: sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: mean(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis=None, keepdims=False: max(x, axis=axis, keepdims=keepdims),
    "softmax": lambda x, axis=-1: softmax(x, axis=axis),
    "reshape": lambda x, *shape: reshape(x, shape=_unpacked(shape)),
    "transpose": lambda x, *axes: transpose(x, axes=_unpacked(axes) if axes else None),
    "swapaxes": lambda x, axis1, axis2: swapaxes(x, axis1=axis1, axis2=axis2),
    "T": property(lambda x: transpose(x)),
    "to": lambda x, device=None, dtype=None: to(x, device=device, dtype=dtype),
}
for name, method in METHODS.items():
    setattr(Tensor, name, method)
