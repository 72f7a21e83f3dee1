"""The chain rule written out: over all paths the products of local derivatives add up to the gradient."""

import math

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import ops
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.ledger.paths import above, count, paths
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.testing.random_graphs import programs, run_program

LIMIT = 2000


def agree(found, gradient):
    """To rounding of the largest among the products, for they may cancel."""
    products = [path.product for path in found]
    scale = max(map(abs, products), default=0)
    assert abs(math.fsum(products) - gradient) <= 1e-12 * max(scale, abs(gradient))


@given(program=programs(), data=st.data())
def test_path_products_add_up_to_the_gradient_of_an_entry(program, data):
    leaves, steps = program
    steps = [("tanh" if name == "recompute" else name, i, j) for name, i, j in steps[: data.draw(st.integers(1, 12))]]
    ledger = trace(lambda *xs: run_program(steps, *xs).sum(), *leaves)
    for one in ledger.leaves:
        entry = data.draw(st.sampled_from(list(np.ndindex(one.shape))))
        total = count(ledger, above(ledger, one))[one.number][entry]
        event(f"{10 ** len(str(total)):,} paths at most")
        if total > LIMIT:
            with pytest.raises(ConfigError, match=f"{total:,} paths lead from {one.number}(.|\n)*hint"):
                paths(ledger, one.number, entry, limit=LIMIT)
        else:
            found = paths(ledger, one.number, entry, limit=total)
            assert len(found) == total
            with pytest.raises(ConfigError, match=f"the limit is {total - 1:,}"):
                paths(ledger, one.number, entry, limit=total - 1)
            agree(found, one.grad.array[entry])
            ways = {tuple((hop.step.number, hop.input.name, hop.entry) for hop in path.hops) for path in found}
            assert len(ways) == total
            assert {way[-1][0] for way in ways} <= {ledger.root}


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_every_parameter_of_the_smallest_gpt_gets_its_gradient_along_paths(preset):
    model = shaken(tiny(preset, n_layer=1, n_head=1, n_embd=2, vocab_size=3, n_hidden=2))
    x, y = random_tokens(model.config, 1, 2)
    ledger = trace(lambda: ops.cross_entropy(model(x), y))
    for name, p in model.flat.items():
        entry = tuple(n - 1 for n in p.shape)
        agree(paths(ledger, name, entry, limit=30_000), p.grad[entry])


def test_two_ways_through_a_diamond_are_told_apart():
    def f(x):
        h = ops.exp(x)
        return (h * ops.tanh(h)).sum()

    x = np.array([0.5, -1.0])
    ledger = trace(f, x)
    other, one = paths(ledger, "x", 1)
    assert [str(hop) for hop in one.hops] == ["#2 exp[1]", "#4 multiply[1] by a", "#5 sum"]
    assert [str(hop) for hop in other.hops] == ["#2 exp[1]", "#3 tanh[1]", "#4 multiply[1] by b", "#5 sum"]
    h = np.exp(-1)
    np.testing.assert_allclose([hop.derivative for hop in one.hops], [h, np.tanh(h), 1], rtol=1e-15)
    np.testing.assert_allclose(other.product, h * (1 - np.tanh(h) ** 2) * h, rtol=1e-14)
    assert (
        str(one)
        == f"x[1] → #2 exp[1] → #4 multiply[1] by a → #5 sum\n    {h:.6g} · {np.tanh(h):.6g} · 1 = {one.product:.6g}"
    )
    assert [str(path) for path in paths(ledger, "x", -1)] == [str(other), str(one)]
    alone = trace(lambda x: x, 2.0)
    assert [(path.hops, path.product) for path in paths(alone, 1)] == [([], 1)]


def test_what_is_no_path_is_left_out():
    found = paths(trace(lambda x: ops.relu(x).sum(), np.array([1.0, -1.0])), "x", 1)
    assert found == []
    ledger = trace(lambda x, y: (x[0] * y).sum(), np.ones(2), np.array(3.0))
    assert paths(ledger, "x", 1) == []
    assert [path.product for path in paths(ledger, "x", 0)] == [3]


def test_what_cannot_be_listed_is_refused_with_the_way_out():
    def doubling(x):
        for _ in range(100):
            x = x + x
        return x

    ledger = trace(doubling, 1.0)
    with pytest.raises(ConfigError, match=f"paths: {2**100:,} paths lead from x to the loss, the limit is 1,000"):
        paths(ledger, "x")
    ledger = trace(lambda x, w: (x @ w).sum(), np.ones((3, 3)), np.ones((3, 3)), local=80)
    with pytest.raises(ConfigError, match=r"#3 matmul has no local derivative by a \(81(.|\n)*local=81"):
        paths(ledger, "x", (0, 0))
    for wrong in ((), (1,), (3, 0), (0, -4)):
        with pytest.raises(ConfigError, match=r"has shape \(3, 3\), so .* is not an entry"):
            paths(ledger, "x", wrong)
    with pytest.raises(ConfigError, match="no leaf is named 'b'"):
        paths(ledger, "b", (0, 0))
    with pytest.raises(ConfigError, match=r"only a part(.|\n)*hint"):
        paths(ledger.where(op="sum"), "x", (0, 0))

    def inside(w):
        return ops.recompute(w * 2, function=lambda h: ops.tanh(h) * w)

    with pytest.raises(ConfigError, match=r"through a recomputation(.|\n)*hint"):
        paths(trace(inside, 1.0), "w")
    with pytest.raises(ConfigError, match=r"through a recomputation(.|\n)*hint"):
        paths(trace(lambda x, w: ops.recompute(x, function=lambda h: h * w), 1.0, 2.0), "w")
    with pytest.raises(ConfigError, match=r"through a recomputation(.|\n)*hint"):
        paths(trace(lambda w: ops.recompute(w, function=ops.tanh), 1.0), "w")
