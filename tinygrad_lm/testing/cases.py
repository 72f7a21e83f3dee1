"""How each operation is proven: one entry, with its name, what inputs it accepts and its value computed another way.

A new operation is its file in ops/ and an entry here. What else an entry may say is in proof.py; how inputs are drawn
in drawing.py, case.py and strategies.py; the longer references are in references.py.
"""

import math
import statistics

import numpy as np
from hypothesis import strategies as st

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.testing import references, strategies
from tinygrad_lm.testing.case import along, binary, reduction, unary
from tinygrad_lm.testing.checks import ties
from tinygrad_lm.testing.drawing import even, odd, positive, separated, signed, varied
from tinygrad_lm.testing.proof import Proof
from tinygrad_lm.testing.references import each, fold, sigmoid

ONE_COTANGENT = {"cotangent averaged"}  # of one number the mean is the number

PROOFS = {
    # elementwise.py
    "add": Proof(binary(), each(lambda a, b: a + b), equivalent={"gradients swapped"}),  # both are dy
    "subtract": Proof(binary(), each(lambda a, b: a - b)),
    "multiply": Proof(binary(), each(lambda a, b: a * b)),
    "divide": Proof(binary(), each(lambda a, b: a / b)),
    "power": Proof(binary(positive, signed), each(math.pow)),
    "maximum": Proof(binary(even, odd), each(max), checks={"ties": ties}),
    "where": Proof(strategies.where(), each(lambda c, a, b: a if c else b)),
    "negate": Proof(unary(), each(lambda x: -x)),
    "exp": Proof(unary(), each(math.exp)),
    "log": Proof(unary(positive), each(math.log)),
    "sqrt": Proof(unary(positive), each(math.sqrt)),
    # activation.py
    "tanh": Proof(unary(), each(math.tanh)),
    "sigmoid": Proof(unary(), sigmoid),
    "relu": Proof(unary(), each(lambda x: x if x > 0 else 0.0)),
    "relu_squared": Proof(unary(), each(lambda x: x**2 if x > 0 else 0.0)),
    "silu": Proof(unary(), lambda x: x * sigmoid(x)),
    "gelu": Proof(unary(), each(lambda x: x * statistics.NormalDist().cdf(x))),
    "gelu_tanh": Proof(unary(), lambda x: x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))),
    # reduce.py, softmax.py
    "sum": Proof(strategies.sum(), fold(math.fsum)),
    "mean": Proof(reduction(), fold(statistics.fmean)),
    "max": Proof(reduction(separated), fold(max), checks={"ties": ties}),
    "logsumexp": Proof(reduction(), references.log_sum_exp),
    "softmax": Proof(along(), lambda x, axis: np.exp(references.log_softmax(x, axis))),
    "log_softmax": Proof(along(), references.log_softmax),
    # shape.py
    "reshape": Proof(strategies.reshape(), lambda x, shape: np.array(x.ravel().tolist()).reshape(shape)),
    "transpose": Proof(strategies.transpose(), references.transpose),
    "swapaxes": Proof(strategies.swapaxes(), references.swapaxes),
    "broadcast_to": Proof(strategies.broadcast_to(), lambda x, shape: x + np.zeros(shape)),
    "getitem": Proof(strategies.getitem(), lambda x, index: x.ravel()[np.arange(x.size).reshape(x.shape)[index]]),
    "concat": Proof(strategies.concat(), references.concat),
    "stack": Proof(strategies.stack(), lambda *xs, axis: np.concatenate([np.expand_dims(x, axis) for x in xs], axis)),
    "to": Proof(strategies.to(), lambda x, device: x),
    # matmul.py, normalize.py
    "matmul": Proof(strategies.matmul(), lambda a, b: np.einsum("...ik,...kj->...ij", a, b)),
    "linear": Proof(strategies.linear(), lambda x, w, b=0: np.einsum("...i,io->...o", x, w) + b),
    "layer_norm": Proof(
        strategies.normalization(varied, 2, st.sampled_from([1e-5, 0.1])),
        references.layer_norm,
        roundings=80,  # x less its mean loses digits that the condition, a first-order measure, does not see
    ),
    "rms_norm": Proof(strategies.normalization(signed, 1, st.sampled_from([1e-6, 0.1])), references.rms_norm),
    # one file each
    "dropout": Proof(strategies.dropout(), references.dropout),
    "embedding": Proof(strategies.embedding(), lambda w, ids: np.eye(len(w))[ids] @ w),
    "rotary": Proof(strategies.rotary(), references.rotary),
    "attention": Proof(strategies.attention(), references.attention),
    "log_probability": Proof(strategies.log_probability(), references.log_probability),
    "linear_log_probability": Proof(
        strategies.linear_log_probability(), references.after_linear(references.log_probability)
    ),
    "cross_entropy": Proof(strategies.log_probability(), references.cross_entropy, equivalent=ONE_COTANGENT),
    "linear_cross_entropy": Proof(
        strategies.linear_log_probability(),
        references.after_linear(references.cross_entropy),
        equivalent=ONE_COTANGENT,
    ),
    "recompute": Proof(strategies.recompute(), lambda *xs, function: function(*map(Tensor, xs)).data),
}

CASES = {name: proof.strategy for name, proof in PROOFS.items()}
