"""Examples of every operation that has a puzzle, smallest first, in numbers that one can compute with by hand.

B batch, T queries, S keys, H heads, G key heads, D head size, C channels, V vocabulary
"""

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.engine.op import Op

# Thirteen, so that rows of no other length repeat; none is 0, where relu has no derivative.
NUMBERS = (2, 3, -1, 0.5, -2, 1.5, -3, 1, 4, -0.5, 2.5, -1.5, -4)
POSITIVE = (2, 0.5, 3, 1.5, 4, 2.5, 0.2, 5, 1.2, 3.5, 0.8, 4.5, 0.4)


@dataclass
class Example:
    """Inputs of one call, floating ones in float64, and its options."""

    inputs: tuple
    options: dict = field(default_factory=dict)

    @property
    def size(self):
        """The number of numbers that a reader has to look at."""
        return sum(x.size for x in self.inputs)


def numbers(shape, start=0, of=NUMBERS):
    """An array of this shape, filled with the numbers from `start` on, over and over."""
    size = int(np.prod(shape, dtype=int))
    return np.array([of[(start + i) % len(of)] for i in range(size)], float).reshape(shape)


def cotangent(shape):
    """dy: of both signs, and not all the same. Under a sum dy is 1 everywhere, and many mistakes go unnoticed."""
    return numbers(shape, 4)


# ---- in words


def short(number):
    return f"{number + 0.0:.6g}"  # + 0.0 turns −0 into 0


def as_text(x):
    """An array, a number or an option, in as many digits as are needed to compute with it."""
    if not isinstance(x, (np.ndarray, np.generic)):
        return getattr(x, "name", None) or repr(x)
    text = np.array2string(np.asarray(x), separator=", ", formatter={"float_kind": short}, max_line_width=90)
    return "\n".join(line for line in text.splitlines() if line.strip())


def listed(operation, example, **more):
    """A line for each input, each option, and everything else that is given by name."""
    names = Op.registry[operation].input_names(len(example.inputs))
    inputs = dict(zip(names, example.inputs, strict=True))
    named = {name: as_text(x) for name, x in (inputs | example.options | more).items()}
    width = max(map(len, named))
    return "\n".join(
        f"  {name:<{width}} = " + text.replace("\n", "\n" + " " * (width + 5)) for name, text in named.items()
    )


# ---- examples of each operation


def example(*shapes, of=NUMBERS, **options):
    """One Example: each input continues with the numbers where the one before it stopped."""
    starts = np.cumsum([0] + [int(np.prod(shape, dtype=int)) for shape in shapes])
    return Example(tuple(numbers(s, start, of) for s, start in zip(shapes, starts, strict=False)), options)


def unary(of=NUMBERS):
    return [example(shape, of=of) for shape in [(1,), (2,), (3,), (2, 2), (), (2, 3), (13,)]]


def binary(of=NUMBERS):
    pairs = [((1,), (1,)), ((2,), (2,)), ((2,), (1,)), ((), (2,)), ((2, 3), (3,)), ((2, 1), (1, 3))]
    return [example(a, b, of=of) for a, b in pairs]


def reductions():
    shapes = [(1,), (2,), (1, 2), (2, 1), (2, 2), (2, 3), (2, 1, 3)]
    return [example(s, axis=axis, keepdims=k) for s in shapes for axis in (None, 0, -1) for k in (False, True)]


def along():
    return [
        example(s, axis=axis)
        for s in [(1,), (2,), (3,), (2, 2), (2, 3), (2, 3, 2)]
        for axis in range(-1, -len(s) - 1, -1)
    ]


def channels(weights, least):
    """With fewer than `least` channels the normalised row is always the same, and only eps moves it."""
    leading = [(), (2,), (2, 2)]
    return [
        example((*some, C), *[(C,)] * n) for some in leading for C in range(least, 5) for n in range(weights + 1)
    ]  # fmt: skip


def rotary():
    return [example((B, T, H, D), start=t) for B, T, H, D, t in product((1, 2), (1, 2), (1, 2), (2, 4), (0, 1))]


def dropout():
    return [example((n,), p=0.5, key=(0, "example", step)) for n in (1, 2, 3, 8) for step in (0, 1)]


def tables():
    ids = [[0], [0, 0], [1, 0, 1], [[0, 1], [2, 0]]]
    return [Example((numbers((V, C)), np.array(i))) for V, C in [(1, 1), (2, 1), (3, 2)] for i in ids if np.max(i) < V]


def taken():
    short, longer = [np.array([0]), np.array([0, 0])], [np.array([1, 0, 1]), slice(1, None), (..., 0)]
    of_two = [example(shape, index=index) for shape in [(2,), (2, 2)] for index in short + longer]
    return [example((1,), index=index) for index in short] + of_two


def attention():
    sizes = [
        (B, T, S, H, G, D) for B, T, S, H, G, D in product((1, 2), (1, 2, 3), (1, 2, 3), (1, 2), (1, 2), (1, 2, 3))
    ]
    plain = [example((B, T, H, D), (B, S, G, D), (B, S, G, D), causal=causal) for B, T, S, H, G, D in sizes
             for causal in (True, False) if T <= S and G <= H and B * T * S * H * D <= 24]  # fmt: skip
    noisy = [Example(e.inputs, e.options | {"p": 0.5, "key": (0, "example", step)}) for e in plain for step in (0, 1)
             if e.size <= 6]  # fmt: skip
    # Two key heads for four query heads: which neighbours share one, and that their gradients are added up.
    grouped = [example((1, T, 4, 1), (1, T, 2, 1), (1, T, 2, 1), causal=True) for T in (1, 2)]
    return plain + noisy + grouped


def predictions():
    """Targets are 0, 1, … modulo the number of classes; the last position is ignored if `ignored`."""
    for shape, ignored in product([(1, 1), (1, 2), (2,), (2, 2), (2, 3), (3, 3), (2, 2, 3)], (False, True)):
        targets = np.arange(int(np.prod(shape[:-1]))).reshape(shape[:-1]) % shape[-1]
        if ignored and targets.ndim:
            targets[(-1,) * targets.ndim] = -100
        yield Example((numbers(shape), targets))


def smallest_first(examples):
    return sorted(examples, key=lambda one: one.size)


TIE, BRANCH = np.array([2.0, 2.0]), np.array([True])
PAIRS = [((1, 1), (1, 1)), ((1, 2), (2, 1)), ((2, 1), (1, 2)), ((1, 2), (2, 2)), ((2, 2), (2, 1)), ((2, 3), (3, 4)),
         ((2, 2, 3), (3, 2)), ((2, 1, 2), (2, 2, 3))]  # fmt: skip
LAYERS = [
    ((1, 1), (1, 1), (1,)),
    ((2, 1), (1, 1), (1,)),
    ((1, 2), (2, 2)),
    ((2, 3), (3, 2), (2,)),
    ((2, 2, 3), (3, 2), (2,)),
]

EXAMPLES = {
    **{name: smallest_first(binary()) for name in ("add", "subtract", "multiply", "divide")},
    **{name: smallest_first(unary()) for name in ("tanh", "sigmoid", "relu", "silu", "gelu", "gelu_tanh")},
    **{name: smallest_first(unary(POSITIVE)) for name in ("sqrt", "log")},
    **{name: smallest_first(reductions()) for name in ("sum", "mean", "logsumexp")},
    **{name: smallest_first(along()) for name in ("softmax", "log_softmax")},
    "power": smallest_first(binary(POSITIVE)),
    "maximum": smallest_first([*binary(), Example((TIE[:1], TIE[:1]))]),
    "max": smallest_first([*reductions(), Example((TIE,))]),
    "where": smallest_first([Example((BRANCH, *e.inputs)) for e in binary()]),
    "transpose": smallest_first(
        example(s, axes=(1, 2, 0)) for s in [(1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (2, 3, 2)]
    ),
    "getitem": smallest_first(taken()),
    "concat": smallest_first(example(*[(n,) for n in lengths]) for lengths in product((1, 2), repeat=3)),
    "matmul": smallest_first(example(a, b) for a, b in PAIRS),
    "linear": smallest_first(example(*shapes) for shapes in LAYERS),
    "embedding": smallest_first(tables()),
    **{name: smallest_first(predictions()) for name in ("log_probability", "cross_entropy")},
    "layer_norm": smallest_first(channels(2, least=3)),
    "rms_norm": smallest_first(channels(1, least=2)),
    "rotary": smallest_first(rotary()),
    "dropout": smallest_first(dropout()),
    "recompute": smallest_first([example(s, function=ops.tanh) for s in [(1,), (2,)]]),
    "attention": smallest_first(attention()),
}
