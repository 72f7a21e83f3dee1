"""All operations. The page has seven.

Each file holds rules: a function that computes a value and hands back the way to its gradient. Read matmul.py first,
then softmax.py, cross_entropy.py and attention.py.
"""

from importlib import import_module
from pkgutil import iter_modules

from tinygrad_lm.engine.op import Op
from tinygrad_lm.ops.activation import gelu, gelu_tanh, relu, relu_squared, sigmoid, silu, tanh
from tinygrad_lm.ops.attention import attention
from tinygrad_lm.ops.cross_entropy import cross_entropy, linear_cross_entropy, linear_log_probability, log_probability
from tinygrad_lm.ops.dropout import dropout
from tinygrad_lm.ops.elementwise import add, divide, exp, log, maximum, multiply, negate, power, sqrt, subtract, where
from tinygrad_lm.ops.embedding import embedding
from tinygrad_lm.ops.matmul import linear, matmul
from tinygrad_lm.ops.normalize import layer_norm, rms_norm
from tinygrad_lm.ops.recompute import recompute
from tinygrad_lm.ops.reduce import logsumexp, max, mean, sum
from tinygrad_lm.ops.rotary import rotary
from tinygrad_lm.ops.shape import broadcast_to, concat, getitem, reshape, stack, swapaxes, to, transpose
from tinygrad_lm.ops.softmax import log_softmax, softmax

__all__ = [
    "add", "attention", "broadcast_to", "concat", "cross_entropy", "divide", "dropout", "embedding", "exp", "gelu",
    "gelu_tanh", "getitem", "layer_norm", "linear", "linear_cross_entropy", "linear_log_probability", "log",
    "log_probability", "log_softmax", "logsumexp", "matmul", "max", "maximum", "mean", "multiply", "negate", "power",
    "recompute", "relu", "relu_squared", "reshape", "rms_norm", "rotary", "sigmoid", "silu", "softmax", "sqrt", "stack",
    "subtract", "sum", "swapaxes", "tanh", "to", "transpose", "where",
]  # fmt: skip
for _file in iter_modules(__path__):  # a new file in this folder needs no line above; that is for editors
    import_module(f"{__name__}.{_file.name}")
globals().update(Op.registry)
__all__ += sorted(Op.registry.keys() - {*__all__})
