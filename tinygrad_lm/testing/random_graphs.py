"""Random graphs out of the registry: programs that Hypothesis draws, and that tensors run through."""

import numpy as np
from hypothesis import strategies as st

from tinygrad_lm import ops
from tinygrad_lm.testing.drawing import seeds, signed

# Steps from one or two values to a new one. All values broadcast to (n, n), so any step can follow any other; and no
# step enlarges its values without bound, so thirty of them stay in range.
ONE = {
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "gelu": ops.gelu,
    "gelu_tanh": ops.gelu_tanh,
    "negate": ops.negate,
    "exp": lambda x: ops.exp(ops.tanh(x)),
    "log": lambda x: ops.log(1 + ops.exp(ops.tanh(x))),
    "sqrt": lambda x: ops.sqrt(1 + x * ops.sigmoid(x) * ops.sigmoid(x) + ops.exp(-ops.tanh(x))),
    "softmax": ops.softmax,
    "log_softmax": lambda x: ops.tanh(ops.log_softmax(x)),
    "logsumexp": lambda x: ops.tanh(ops.logsumexp(x, axis=-1, keepdims=True)) if x.ndim else x,
    "layer_norm": lambda x: ops.layer_norm(x, eps=1.0) if x.ndim else x,
    "rms_norm": lambda x: ops.rms_norm(x, eps=1.0) if x.ndim else x,
    "sum": lambda x: ops.sum(x, axis=0, keepdims=True) * 0.3 if x.ndim else x,
    "mean": lambda x: ops.mean(x),
    "transpose": lambda x: x.T,
    "reshape": lambda x: x.reshape(-1).reshape(x.shape),
    "getitem": lambda x: x[::-1] if x.ndim else x,
    "repeat": lambda x: x[[0] * len(x)] if x.ndim else x,
    "stack": lambda x: ops.stack(x, x * 0.5, axis=0).sum(0) * 0.5,
    "dropout": lambda x: ops.dropout(x, p=0.2, key=(1, "graph", 0, 0)),
    "recompute": lambda x: ops.recompute(x, function=lambda x: ops.tanh(x) * x * 0.5),
}
TWO = {
    "add": lambda a, b: (a + b) * 0.5,
    "subtract": lambda a, b: (a - b) * 0.5,
    "multiply": lambda a, b: a * ops.tanh(b),
    "divide": lambda a, b: a / (1 + ops.sigmoid(b)),
    "power": lambda a, b: ops.power(ops.sigmoid(a) + 0.5, ops.tanh(b)),
    "matmul": lambda a, b: ops.tanh(a @ b) if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] else a * 0.5 + b * 0.5,
    "where": lambda a, b: ops.where(np.array(True), a, b) * 0.5 + b * 0.5,
    "concat": lambda a, b: ops.concat(a, b, axis=-1)[..., : a.shape[-1]] if a.ndim and a.shape == b.shape else b,
}


@st.composite
def programs(draw):
    """Leaves, and 3 to 30 steps, each a name and the values it takes: any that are there, often the same again."""
    n = draw(st.integers(1, 3))
    shapes = draw(st.lists(st.sampled_from([(n, n), (n,), (1, n), (n, 1), ()]), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(seeds))
    steps = []
    for count in range(len(shapes), len(shapes) + draw(st.integers(3, 30))):
        name = draw(st.sampled_from([*ONE, *TWO]))
        back = st.integers(0, min(count, 6) - 1)  # mostly recent values: deep graphs, with long bypasses through leaves
        steps.append((name, count - 1 - draw(back), draw(st.integers(0, count - 1))))
    return [signed(rng, shape) for shape in shapes], steps


def run_program(steps, *leaves):
    """The mean of all values that no step took, so that every node has a way to the result."""
    values, taken = list(leaves), set()
    for name, i, j in steps:
        values.append(ONE[name](values[i]) if name in ONE else TWO[name](values[i], values[j]))
        taken |= {i} if name in ONE else {i, j}
    loose = [value for i, value in enumerate(values) if i not in taken]
    result = loose[0]
    for value in loose[1:]:
        result = result + value
    return result
