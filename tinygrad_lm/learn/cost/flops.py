"""The number of floating-point operations of each operation, counted from shapes alone.

Two kinds are counted separately. Matrix products: a multiplication and an addition count 2, as usual; the papers'
6N + 12LCT counts these. Entrywise operations: +, ×, /, √, exp, tanh, erf, max and comparisons count 1 each, as written
in the definitions in ops/; a fused kernel may need fewer, and their time goes into memory traffic, not arithmetic.
"""

import math

# name: operations per entry forward, then per entry for the gradient of each input in turn. An entry is one of the
# result, in REDUCING operations one of the input.
ENTRYWISE = {
    "add": (1, 0, 0),  # dy is the gradient
    "subtract": (1, 0, 1),
    "multiply": (1, 1, 1),
    "divide": (1, 1, 3),
    "power": (1, 4, 3),  # dy b aᵇ⁻¹; dy y log a
    "negate": (1, 1),
    "exp": (1, 1),
    "log": (1, 1),
    "sqrt": (1, 2),
    "tanh": (1, 3),  # dy (1 − y²)
    "sigmoid": (4, 3),
    "maximum": (1, 2, 2),
    "where": (0, 0, 1, 1),
    "to": (0, 0),
    "relu": (1, 1),
    "relu_squared": (2, 2),
    "silu": (5, 4),
    "gelu": (5, 8),  # erf counts 1
    "gelu_tanh": (9, 12),
    "softmax": (5, 4),  # max, −, exp, Σ, /
    "log_softmax": (5, 4),
    "layer_norm": (5, 7, 3, 1),  # Σ, −, square, Σ, ×; one more each for gain and bias
    "rms_norm": (3, 5, 3),
    "embedding": (0, 1),  # no multiplication with one-hot rows, only additions of rows
    "rotary": (3, 3),  # four products and two sums per pair
    "dropout": (2, 2),
    "log_probability": (4, 1),  # max, −, exp, Σ; e · share
    "cross_entropy": (4, 1),
    "sum": (1, 0),
    "mean": (1, 1),
    "max": (2, 1),
    "logsumexp": (4, 2),
}
REDUCING = {"sum", "mean", "max", "logsumexp", "log_probability", "cross_entropy"}
# Operations that only move entries or rename them: no arithmetic.
MOVING = {"broadcast_to", "concat", "getitem", "reshape", "stack", "swapaxes", "transpose"}
VIEWS = {"broadcast_to", "reshape", "swapaxes", "transpose"}  # these do not even move a byte
CLASSIFIERS = {f"linear_{name}": name for name in ("log_probability", "cross_entropy")}  # with the last layer
PRODUCTS = {"linear", "matmul", "attention"} | CLASSIFIERS.keys()
INSIDE = {"recompute"}  # the operations that its function calls are counted themselves


def visible(T, S, causal):
    """The number of pairs of a query and a key that it sees: T S, or with a causal mask half of the T × T square."""
    return T * (S - T) + T * (T + 1) // 2 if causal else T * S


def products(name, shapes, wanted, causal=True):
    """(forward, backward) FLOPs of an operation's matrix products.

    shapes: the inputs' shapes; wanted: for each input, whether its gradient is computed. Forward 2 n i o; backward the
    same for each of dx and dw, so a trained layer's backward pass costs twice its forward pass.
    """
    if name == "linear" or name in CLASSIFIERS:
        x, w = shapes[:2]
        one = 2 * math.prod(x) * w[1]
        return one, one * sum(wanted[:2])
    if name == "matmul":
        a, b = shapes
        one = 2 * math.prod(max(a[:-2], b[:-2], key=math.prod)) * a[-2] * a[-1] * b[-1]
        return one, one * sum(wanted)
    if name == "attention":  # q kᵀ and P v; then dP = dy vᵀ, dq = dZ k, dk = dZᵀ q, dv = Pᵀ dy
        (B, T, H, D), (_, S, *_), _ = shapes
        one = 2 * B * H * D * visible(T, S, causal)
        q, k, v = wanted
        return 2 * one, one * (q + k + v + (q or k))
    return 0, 0


def entrywise(name, shapes, y, wanted, causal=True):
    """(forward, backward) entrywise operations."""
    if name in MOVING or name in INSIDE or name == "matmul":
        return 0, 0
    size = math.prod(y)
    if name == "linear":  # its bias; db is a sum
        return (size, size * wanted[2]) if len(shapes) == 3 else (0, 0)
    if name == "attention":  # scale, max, −, exp, Σ, /; then P (dP − Σ y dy) scale
        (B, T, H, _), (_, S, *_), _ = shapes
        pairs = B * H * visible(T, S, causal)
        return 6 * pairs, (3 * pairs + 2 * size) * any(wanted[:2])
    if name in CLASSIFIERS:
        forward, backward = ENTRYWISE[CLASSIFIERS[name]]
        logits = math.prod(shapes[2]) * shapes[1][1]
        return forward * logits, backward * logits * any(wanted)
    size = math.prod(shapes[0]) if name in REDUCING else size
    forward, *backward = ENTRYWISE.get(name, (1,) * (1 + len(shapes)))  # one not in the table: 1, and 1 a gradient
    forward += (len(shapes) - 1) * (name in ("layer_norm", "rms_norm"))
    spread = 0 if name in ("embedding", "layer_norm", "rms_norm") or name in REDUCING else 1
    each = [
        want * (cost + spread * (shape != y)) for want, cost, shape in zip(wanted, backward, shapes, strict=False)
    ]  # copying's derivative is adding
    return forward * size, sum(each) * size
