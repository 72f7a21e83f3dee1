"""Laws that an operation's gradient must obey, whatever the numbers. A broken law says more than a wrong entry.

Each comes from a change of the inputs that leaves the value alone, or changes it in a known way: the derivative along
such a change is known before anything is computed.
"""

import numpy as np

from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn.puzzles.compare import call_rule, gradients, read_only
from tinygrad_lm.learn.puzzles.examples import cotangent, short


def first(grads):
    return next(iter(grads.values()))


def in_all(grads):
    return sum(dx.sum() for dx in grads.values())


# Each side is a function of inputs x, value y, cotangent dy, gradients d and options, for the operations named.
# (operations, what the law says, left side, right side, tolerance)
LAWS = [
    (
        ("softmax", "log_softmax"),
        "A constant added to x does not change y, so the entries of dx must sum to 0 along its axis",
        lambda x, y, dy, d, o: first(d).sum(o["axis"]),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("log_probability", "cross_entropy"),
        "A constant added to a row of logits does not change y, so each row of dlogits must sum to 0",
        lambda x, y, dy, d, o: first(d).sum(-1),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("layer_norm",),
        "A constant added to a row of x does not change y, so each row of dx must sum to 0",
        lambda x, y, dy, d, o: first(d).sum(-1),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("layer_norm", "rms_norm"),
        "A row of x times a constant changes y only through eps, so Σ x dx must be nearly 0 in each row",
        lambda x, y, dy, d, o: (x[0] * first(d)).sum(-1),
        lambda x, y, dy, d, o: 0.0,
        1e-3,
    ),
    (
        ("attention",),
        "A vector added to all keys changes no weight (softmax is blind to it), so dk must sum to 0 over the keys",
        lambda x, y, dy, d, o: d["dk"].sum(1),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("attention",),
        "A vector added to all values is added to y (unless weights are dropped), so dv must have the same sum as dy",
        lambda x, y, dy, d, o: d["dv"].sum() if not o.get("p") else 0.0,
        lambda x, y, dy, d, o: dy.sum() if not o.get("p") else 0.0,
        1e-8,
    ),
    (
        ("subtract",),
        "A constant added to a and to b does not change y, so da and db together must sum to 0",
        lambda x, y, dy, d, o: in_all(d),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("divide",),
        "a and b times the same constant do not change y, so Σ a da + Σ b db must be 0",
        lambda x, y, dy, d, o: (x[0] * d["da"]).sum() + (x[1] * d["db"]).sum(),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("mean", "max", "maximum", "where", "logsumexp", "getitem", "concat", "transpose", "embedding"),
        "A constant added to all inputs is added to all of y, so the gradients must have the same sum as dy",
        lambda x, y, dy, d, o: in_all(d),
        lambda x, y, dy, d, o: dy.sum(),
        1e-8,
    ),
    (
        ("multiply", "matmul", "linear", "sum", "dropout", "rotary", "relu"),
        "y is proportional to its first input (apart from a bias), so Σ x dx over that input must equal Σ y dy",
        lambda x, y, dy, d, o: (x[0] * first(d)).sum(),
        lambda x, y, dy, d, o: ((y - (x[2] if len(x) == 3 else 0)) * dy).sum(),
        1e-8,
    ),
    (
        ("multiply", "matmul", "linear"),
        "y is proportional to its second input (apart from a bias), so Σ x dx over that input must equal Σ y dy",
        lambda x, y, dy, d, o: (x[1] * list(d.values())[1]).sum(),
        lambda x, y, dy, d, o: ((y - (x[2] if len(x) == 3 else 0)) * dy).sum(),
        1e-8,
    ),
]


def broken_laws(rule, operation, example):
    """A sentence for each law that the rule's gradients break on this example, with the two sides' numbers."""
    inputs = [read_only(x, "float64") for x in example.inputs]
    names = Op.registry[operation].input_names(len(inputs))
    y, backward = call_rule(rule, inputs, example.options)
    dy = read_only(cotangent(y.shape), "float64")
    d, opposite = (gradients(backward, sign * dy, inputs, names) for sign in (1, -1))
    sentences = []
    if any(not np.allclose(opposite[what], -d[what], rtol=1e-8, atol=1e-8) for what in d):
        sentences.append(
            "The gradient of −y must be minus that of y: with −dy instead of dy every entry must change its sign only."
        )
    for operations, sentence, left, right, tolerance in LAWS:
        if operation in operations:
            found = np.atleast_1d(left(inputs, y, dy, d, example.options))
            expected = np.broadcast_to(right(inputs, y, dy, d, example.options), found.shape)
            off = ~(abs(found - expected) <= tolerance * max(1.0, abs(expected).max(initial=0)))
            if off.any():
                sentences.append(f"{sentence}. Here {short(found[off][0])}, not {short(expected[off][0])}.")
    return sentences
