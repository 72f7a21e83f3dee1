"""The formulas that the ledger prints are true: each is written out a second time, as code, and compared.

A row of FORMULAS is an operation's formula, part by part: what it defines, the text after the equals sign as it stands
in the rule's docstring, and the same as Python. So neither the text nor the rule can change alone.
"""

import inspect
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm import ops
from tinygrad_lm.backend import random
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import signed

erf = np.vectorize(math.erf, otypes=[float])
DOMAIN = {"condition", "ids", "targets"}  # what has no derivative
PLAIN = str.maketrans({"ᵀ": "", "ᵢ": "", "₀": "", "ᵇ": " b"})


def sums(x, axis=None):
    return x.sum(axis, keepdims=True)


def mean(x):
    return x.mean(-1, keepdims=True)


def kept(x, p, key):
    """Each row has the noise of its place in the batch."""
    *key, row = key
    rows = x.reshape(x.shape or (1,))
    noise = [random(*key, row + b).random(rows.shape[1:], "float32") for b in range(len(rows))]
    return np.array(noise).reshape(x.shape) >= p


def T(x):
    return x.swapaxes(-1, -2)


# Without a text: a symbol that the formula uses and its docstring's prose explains.
FORMULAS = {
    "add": (["y", "a + b", lambda a, b: a + b], ["da", "dy", lambda dy: dy], ["db", "dy", lambda dy: dy]),
    "subtract": (["y", "a − b", lambda a, b: a - b], ["da", "dy", lambda dy: dy], ["db", "−dy", lambda dy: -dy]),
    "multiply": (
        ["y", "a b", lambda a, b: a * b],
        ["da", "dy b", lambda dy, b: dy * b],
        ["db", "dy a", lambda dy, a: dy * a],
    ),
    "divide": (
        ["y", "a / b", lambda a, b: a / b],
        ["da", "dy / b", lambda dy, b: dy / b],
        ["db", "−dy y / b", lambda dy, y, b: -dy * y / b],
    ),
    "power": (
        ["y", "aᵇ", lambda a, b: a**b],
        ["da", "dy b aᵇ⁻¹", lambda dy, a, b: dy * b * a ** (b - 1)],
        ["db", "dy y log a", lambda dy, y, a: dy * y * np.log(a)],
    ),
    "negate": (["y", "−x", lambda x: -x], ["dx", "−dy", lambda dy: -dy]),
    "exp": (["y", "exp x", lambda x: np.exp(x)], ["dx", "dy y", lambda dy, y: dy * y]),
    "log": (["y", "log x", lambda x: np.log(x)], ["dx", "dy / x", lambda dy, x: dy / x]),
    "sqrt": (["y", "√x", lambda x: np.sqrt(x)], ["dx", "dy / 2y", lambda dy, y: dy / (2 * y)]),
    "tanh": (["y", "tanh x", lambda x: np.tanh(x)], ["dx", "dy (1 − y²)", lambda dy, y: dy * (1 - y**2)]),
    "sigmoid": (
        ["y", "1 / (1 + exp −x)", lambda x: 1 / (1 + np.exp(-x))],
        ["dx", "dy y (1 − y)", lambda dy, y: dy * y * (1 - y)],
    ),
    "maximum": (
        ["y", "max(a, b)", lambda a, b: np.maximum(a, b)],
        ["da", "dy [a > b]", lambda dy, a, b: dy * (a > b)],
        ["db", "dy [b > a]", lambda dy, a, b: dy * (b > a)],
        ["half to each where a", "b", None],  # a tie is no case here; test_edges.py has it
    ),
    "where": (
        ["y", "a where condition, else b", lambda condition, a, b: np.where(condition, a, b)],
        ["da", "dy [condition]", lambda dy, condition: dy * condition],
        ["db", "dy [not condition]", lambda dy, condition: dy * ~condition],
    ),
    "relu": (["y", "max(x, 0)", lambda x: np.maximum(x, 0)], ["dx", "dy [x > 0]", lambda dy, x: dy * (x > 0)]),
    "relu_squared": (
        ["y", "max(x, 0)²", lambda x: np.maximum(x, 0) ** 2],
        ["dx", "2 dy max(x, 0)", lambda dy, x: 2 * dy * np.maximum(x, 0)],
    ),
    "silu": (
        ["σ", None, lambda x: 1 / (1 + np.exp(-x))],
        ["y", "x σ(x)", lambda x, σ: x * σ],
        ["dx", "dy (σ + y (1 − σ))", lambda dy, y, σ: dy * (σ + y * (1 - σ))],
    ),
    "gelu": (
        ["Φ", None, lambda x: (1 + erf(x / math.sqrt(2))) / 2],
        ["φ", None, lambda x: np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)],
        ["y", "x Φ(x)", lambda x, Φ: x * Φ],
        ["dx", "dy (Φ + x φ)", lambda dy, x, Φ, φ: dy * (Φ + x * φ)],
    ),
    "gelu_tanh": (
        ["y", "x (1 + t)/2", lambda x, t: x * (1 + t) / 2],
        ["t", "tanh u", lambda u: np.tanh(u)],
        ["u", "√(2/π) (x + 0.044715 x³)", lambda x: math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)],
        ["du", None, lambda x: math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)],  # u′
        ["dx", "dy ((1 + t) + x (1 − t²) u′)/2", lambda dy, t, x, du: dy * ((1 + t) + x * (1 - t**2) * du) / 2],
    ),
    "dropout": (
        ["m", None, lambda x, p, key: kept(x, p, key)],
        ["y", "x m / (1 − p)", lambda x, m, p: x * m / (1 - p)],
        ["dx", "dy m / (1 − p)", lambda dy, m, p: dy * m / (1 - p)],
    ),
    "softmax": (
        ["y", "exp x / Σ exp x", lambda x, axis: np.exp(x) / sums(np.exp(x), axis)],
        ["dx", "y (dy − Σ y dy)", lambda y, dy, axis: y * (dy - sums(y * dy, axis))],
    ),
    "log_softmax": (
        ["y", "x − log Σ exp x", lambda x, axis: x - np.log(sums(np.exp(x), axis))],
        ["dx", "dy − exp(y) Σ dy", lambda dy, y, axis: dy - np.exp(y) * sums(dy, axis)],
    ),
    "matmul": (
        ["y", "a b", lambda a, b: a @ b],
        ["da", "dy bᵀ", lambda dy, b: dy @ T(b)],
        ["db", "aᵀ dy", lambda dy, a: T(a) @ dy],
    ),
    "linear": (
        ["y", "x w + b", lambda x, w, b: x @ w + b],
        ["dx", "dy wᵀ", lambda dy, w: dy @ T(w)],
        ["dw", "xᵀ dy", lambda x, dy: np.tensordot(x, dy, (range(x.ndim - 1),) * 2)],
        ["db", "Σ dy", lambda dy: dy.sum(tuple(range(dy.ndim - 1)))],
    ),
    "layer_norm": (
        ["y", "x̂ w + b", lambda n, w, b: n * w + b],
        ["x̂", "(x − μ)/σ", None],
        ["μ", None, lambda x: mean(x)],
        ["σ", None, lambda x, μ, eps: np.sqrt(mean((x - μ) ** 2) + eps)],
        ["n", None, lambda x, μ, σ: (x - μ) / σ],  # x̂
        ["dx", "(g − mean g − x̂ mean(g x̂))/σ with g = dy w", lambda g, n, σ: (g - mean(g) - n * mean(g * n)) / σ],
        ["g", None, lambda dy, w: dy * w],
        ["dw", "Σ dy x̂", lambda dy, n: dy * n],
        ["db", "Σ dy", lambda dy: dy],
    ),
    "rms_norm": (
        ["y", "x̂ w", lambda n, w: n * w],
        ["x̂", "x/ρ", None],
        ["ρ", None, lambda x, eps: np.sqrt(mean(x**2) + eps)],
        ["n", None, lambda x, ρ: x / ρ],  # x̂
        ["dx", "(g − x̂ mean(g x̂))/ρ with g = dy w", lambda g, n, ρ: (g - n * mean(g * n)) / ρ],
        ["g", None, lambda dy, w: dy * w],
        ["dw", "Σ dy x̂", lambda dy, n: dy * n],
    ),
}


def written(parts):
    """The formula as it must stand in the docstring."""
    texts = [(name, f"{name} = {text}") for name, text, _ in parts if text]
    first = next(i for i, (name, _) in enumerate(texts) if name.startswith("d"))
    return "        ".join(",  ".join(text for _, text in half) for half in (texts[:first], texts[first:]))


def evaluate(parts, known):
    """{name: value} of all parts, each when what it needs is there."""
    waiting, known = {name: f for name, _, f in parts if f}, dict(known)
    while waiting:
        ready = [name for name, f in waiting.items() if known.keys() >= inspect.signature(f).parameters.keys()]
        assert ready, f"{waiting.keys()} need what is not there"
        for name in ready:
            f = waiting.pop(name)
            known[name] = f(**{key: known[key] for key in inspect.signature(f).parameters})
    return known


@pytest.mark.parametrize("name", FORMULAS)
@given(data=st.data())
def test_a_formula_says_what_its_rule_computes(name, data):
    op, case = Op.registry[name], data.draw(CASES[name])
    names = op.input_names(len(case.inputs))
    y, backward = op.rule(*case.inputs, **case.options)
    dy = signed(np.random.default_rng(0), np.shape(y))
    inputs = dict(zip(names, case.inputs, strict=False))
    absent = {"w": np.ones(1), "b": np.zeros(1)}  # what a weight or bias that is not given counts as
    known = evaluate(FORMULAS[name], absent | inputs | case.options | {"dy": dy})
    np.testing.assert_allclose(known["y"], y, rtol=1e-12, atol=1e-12)
    for (input, x), dx in zip(inputs.items(), backward(dy), strict=True):
        if input not in DOMAIN:
            dx = dx() if callable(dx) else dx
            expected = known[f"d{input}"]
            if expected.shape != x.shape:  # the engine sums over what was broadcast
                expected = unbroadcast(
                    np.broadcast_to(expected, np.broadcast_shapes(expected.shape, dx.shape)), x.shape
                )
            np.testing.assert_allclose(unbroadcast(dx, x.shape), expected, rtol=1e-10, atol=1e-10, err_msg=f"d{input}")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_stands_in_its_docstring_word_for_word(name):
    assert Op.registry[name].formula == written(FORMULAS[name])


@pytest.mark.parametrize("name", sorted(ops.__all__))
def test_every_operation_states_both_ways_and_names_its_inputs(name):
    op = Op.registry[name]
    forward, backward = halves(op)
    assert forward.startswith("y = ")
    assert backward.startswith("d")
    assert "   " not in forward + backward
    for p in inspect.signature(op.rule).parameters.values():
        if p.kind is p.KEYWORD_ONLY or p.name in DOMAIN:
            continue
        own = "x" if p.kind is p.VAR_POSITIONAL else p.name
        assert re.search(rf"\b{own}\b", forward.translate(PLAIN)), f"{own} in {forward}"
        assert re.search(rf"\bd{own}\b", backward.translate(PLAIN)), f"d{own} in {backward}"
