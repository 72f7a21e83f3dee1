"""Laws that an operation's gradient must obey, whatever the numbers. A broken one says more than a wrong entry.

Each comes from something that changes the inputs and leaves the value, or changes it in a known way: the derivative
along such a change is known before anything is computed.
"""

import numpy as np

from tinygrad_lm.learn.puzzles.compare import frozen, gradients, names, value_and_way_back
from tinygrad_lm.learn.puzzles.examples import cotangent
from tinygrad_lm.learn.puzzles.words import short


def first(grads):
    return next(iter(grads.values()))


def in_all(grads):
    return sum(dx.sum() for dx in grads.values())


# Each side is a function of inputs x, value y, cotangent dy, gradients d and options, for the operations named.
# (operations, what the law says, left side, right side, tolerance)
LAWS = [
    (
        ("softmax", "log_softmax"),
        "A constant added to x changes nothing in y, so the entries of dx must sum to 0 along its axis",
        lambda x, y, dy, d, o: first(d).sum(o["axis"]),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("cross_entropy",),
        "A constant added to a row of logits changes nothing in the loss, so each row of dlogits must sum to 0",
        lambda x, y, dy, d, o: first(d).sum(-1),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("layer_norm",),
        "A constant added to a row of x changes nothing in y, so each row of dx must sum to 0",
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
        "A vector added to all values is added to y (unless weights are dropped), so dv must sum to what dy sums to",
        lambda x, y, dy, d, o: d["dv"].sum() if not o.get("p") else 0.0,
        lambda x, y, dy, d, o: dy.sum() if not o.get("p") else 0.0,
        1e-8,
    ),
    (
        ("subtract",),
        "A constant added to a and to b changes nothing in y, so da and db together must sum to 0",
        lambda x, y, dy, d, o: in_all(d),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("divide",),
        "a and b times the same constant change nothing in y, so Σ a da + Σ b db must be 0",
        lambda x, y, dy, d, o: (x[0] * d["da"]).sum() + (x[1] * d["db"]).sum(),
        lambda x, y, dy, d, o: 0.0,
        1e-8,
    ),
    (
        ("mean", "max", "maximum", "where", "logsumexp", "getitem", "concat", "transpose", "embedding"),
        "A constant added to all inputs is added to all of y, so the gradients must sum to what dy sums to",
        lambda x, y, dy, d, o: in_all(d),
        lambda x, y, dy, d, o: dy.sum(),
        1e-8,
    ),
    (
        ("multiply", "matmul", "linear", "sum", "dropout", "rotary", "relu"),
        "y grows in proportion to its first input (bias aside), so Σ x dx there must be what Σ y dy is",
        lambda x, y, dy, d, o: (x[0] * first(d)).sum(),
        lambda x, y, dy, d, o: ((y - (x[2] if len(x) == 3 else 0)) * dy).sum(),
        1e-8,
    ),
    (
        ("multiply", "matmul", "linear"),
        "y grows in proportion to its second input (bias aside), so Σ x dx there must be what Σ y dy is",
        lambda x, y, dy, d, o: (x[1] * list(d.values())[1]).sum(),
        lambda x, y, dy, d, o: ((y - (x[2] if len(x) == 3 else 0)) * dy).sum(),
        1e-8,
    ),
]


def broken_laws(rule, operation, example):
    """A sentence for each law that the rule's gradients break on this example."""
    inputs = [frozen(x, "float64") for x in example.inputs]
    y, backward = value_and_way_back(rule, inputs, example.options)
    dy = frozen(cotangent(y.shape), "float64")
    of = lambda dy: gradients(backward, dy, inputs, names(rule, inputs))
    d, sentences = of(dy), []
    opposite = of(-dy)
    if any(not np.allclose(opposite[what], -d[what], rtol=1e-8, atol=1e-8) for what in d):
        sentences.append(
            "The gradient of −y must be minus that of y: with −dy for dy each entry must change its sign alone."
        )
    for operations, sentence, left, right, tolerance in LAWS:
        if operation in operations:
            found = np.atleast_1d(left(inputs, y, dy, d, example.options))
            expected = np.broadcast_to(right(inputs, y, dy, d, example.options), found.shape)
            off = ~(abs(found - expected) <= tolerance * max(1.0, abs(expected).max(initial=0)))
            if off.any():
                sentences.append(f"{sentence}. Here {short(found[off][0])}, not {short(expected[off][0])}.")
    return sentences
