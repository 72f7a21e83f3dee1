"""The ledger of a walk is what the engine did, bit for bit, and watching changes nothing."""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import Tensor, no_grad, ops
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.engine.observe import observers
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, GraphError, ShapeError
from tinygrad_lm.learn.ledger.paths import paths
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.learn.saved import captured
from tinygrad_lm.testing.random_graphs import programs, run_program

few = settings(max_examples=settings.default.max_examples // 2)


def leaf(*values, name=""):
    return Tensor(np.array(values, float), requires_grad=True, name=name)


def same(a, b):
    """Equal to the bit, signs of zeros and all."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def add_up(ledger):
    """Check every running sum, and return {leaf's number: what was there + all contributions in order}."""
    sums = {one.number: one.before.array if one.before else None for one in ledger.leaves}
    for step in ledger.steps:
        begins = step.number not in sums  # the loss itself, or the result of what was recomputed
        assert begins or same(sums.pop(step.number), step.incoming.array)
        for input in step.inputs:
            if input.contribution is None:
                continue
            before = sums.get(input.number)
            assert (before is None) == (input.before is None)
            assert before is None or same(before, input.before.array)
            dx = input.contribution.array
            sums[input.number] = dx if before is None else np.asarray(before + dx)
            assert same(sums[input.number], input.after.array)
    assert sums.keys() <= {one.number for one in ledger.leaves}  # all else was walked
    return sums


def check(ledger):
    """What holds of every ledger: sums, numbers, memory that is there before a step as it was after the last."""
    sums = add_up(ledger)
    for one in ledger.leaves:
        assert (one.grad is None) == (sums[one.number] is None)
        assert one.grad is None or same(sums[one.number], one.grad.array)
    numbers = [one.number for one in (*ledger.steps, *ledger.leaves)]
    assert len(set(numbers)) == len(numbers)
    assert ledger.of == len(ledger.steps)
    for step in ledger.steps:
        assert ledger[step.number] is step
        assert all(input.number is None or input.number < step.number for input in step.inputs)
        assert step.held_before >= step.held_after >= 0
    assert not ledger.steps or ledger.steps[-1].held_after == 0
    if not any(step.inside for step in ledger.steps):
        assert all(step.held_after == then.held_before for step, then in pairwise(ledger.steps))


@few
@given(programs())
def test_contributions_add_up_to_the_gradients_bit_for_bit(program):
    leaves, steps = program
    plain = [Tensor(x, requires_grad=True) for x in leaves]
    watched = [Tensor(x, requires_grad=True) for x in leaves]
    run_program(steps, *plain).sum().backward()
    ledger = trace(lambda: run_program(steps, *watched).sum(), local=64)
    check(ledger)
    for one, other in zip(plain, watched, strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or same(one.grad, other.grad)
    found = sorted(one.grad.array.tobytes() for one in ledger.leaves if one.grad and one.inside is None)
    assert found == sorted(t.grad.tobytes() for t in watched if t.grad is not None)


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gpt_is_traced_to_every_parameter(preset, recompute, dtype):
    model = shaken(tiny(preset), dtype=dtype)
    recomputed(*model.h if recompute else ())
    x, y = random_tokens(model.config, 2, 4)
    ops.cross_entropy(model(x), y).backward()
    plain = model.flat.grad.copy()
    model.flat.zero_grad()
    ledger = trace(lambda: ops.cross_entropy(model(x), y))
    assert same(model.flat.grad, plain)
    check(ledger)
    for name, p in model.flat.items():
        one = ledger.leaf(name)
        assert same(one.grad.array, p.grad)
        assert same(one.value.array, p.data)
        assert one.inside is None
        assert len(ledger.uses(one.number)) >= 1
    assert {step.inside is not None for step in ledger.steps} == {False} | {recompute}
    others = [one for one in ledger.leaves if one.name not in model.flat]
    assert [ledger[one.inside].op for one in others] == ["recompute"] * 2 * recompute
    attention = ledger.where(op="attention").steps
    assert [step.label for step in attention] == ["h.1.attn:y", "h.0.attn:y"]
    assert all(ledger[step.inside].op == "recompute" for step in attention if step.inside)
    assert [line.place.split(":")[0] for line in attention[0].callers[-2:]] == [
        "tinygrad_lm/models/gpt.py",
        "tinygrad_lm/adapt/recomputed.py" if recompute else "test_trace.py",
    ]
    assert {step.module for step in ledger.where("h.0*").steps} >= {"h.0", "h.0.attn", "h.0.mlp.c_proj"}
    depths = [step.depth for step in ledger.steps]
    assert depths[:2] == [0, 1]
    assert ledger.of > depths[-1] > 4  # along the residual stream


def test_a_gradient_that_was_there_is_where_the_sum_begins():
    x = leaf(1, 2)
    (x * 5).sum().backward()
    ledger = trace((x * x).sum())
    check(ledger)
    one = ledger.leaves[0]
    assert (one.before.array.tolist(), one.grad.array.tolist()) == ([5, 5], [7, 9])


def test_a_fan_out_is_seen_to_add():
    ledger = trace(lambda x: x * x + 3 * x, 2.0)
    both = [(i.name, float(i.contribution.array), i.before and float(i.before.array), float(i.after.array))
            for _, i in ledger.uses(ledger.leaf("x").number)]  # fmt: skip
    assert both == [("b", 3, None, 3), ("a", 2, 3, 5), ("b", 2, 5, 7)]


def test_a_step_tells_all_about_itself():
    def f(x, w):
        h = ops.softmax(x * w, axis=0)
        return h[1:].sum()

    x, w = np.array([1.0, 2.0, 3.0]), np.array([0.5])
    ledger = trace(f, x, w)
    line = f.__code__.co_firstlineno + 1
    total, item, softmax, multiply = ledger.steps
    assert [(s.op, s.name, s.depth) for s in ledger.steps] == [
        ("sum", "loss", 0), ("getitem", "", 1), ("softmax", "h", 2), ("multiply", "", 3)
    ]  # fmt: skip
    assert ledger.root == total.number == 6
    for step, number in ((softmax, line), (multiply, line), (item, line + 1), (total, line + 1)):
        assert (step.source.file, step.source.number) == (__file__, number)
        assert step.source.place == f"test_trace.py:{number}"
        assert step.callers == (step.source,)
    assert softmax.source.text == "h = ops.softmax(x * w, axis=0)"
    assert (softmax.forward, softmax.backward) == ("y = exp x / Σ exp x", "dx = y (dy − Σ y dy)")
    assert (softmax.options, total.options) == ({"axis": "0"}, {})
    assert item.options == {"index": "slice(1, None, None)"}
    assert {name: x.shape for name, x in softmax.saved.items()} == {"y": (3,)}
    assert softmax.constants == {"axis": "0"}
    y = np.exp(x / 2) / np.exp(x / 2).sum()
    np.testing.assert_allclose(softmax.value.array, y, rtol=1e-14)
    np.testing.assert_allclose(softmax.inputs[0].local, np.diag(y) - np.outer(y, y), rtol=0, atol=1e-15)
    assert softmax.incoming.array.tolist() == [0, 1, 1]
    assert [(i.name, i.number, i.shape) for i in multiply.inputs] == [("a", 1, (3,)), ("b", 2, (1,))]
    assert multiply.inputs[1].local.tolist() == [[1.0], [2.0], [3.0]]  # summed over what broadcasting copied
    assert (softmax.dtype, softmax.shape) == ("float64", (3,))
    assert (softmax.held_before, softmax.held_after) == (24, 0)  # multiply keeps the leaves alone
    assert [one.name for one in ledger.leaves] == ["x", "w"]


def test_a_weight_that_two_recomputations_share_gets_both_gradients():
    x, w = leaf(1, 2), leaf(3, 4, name="w")

    def f():
        h = ops.recompute(x, function=lambda h: h * w)
        return ops.recompute(h, function=lambda h: ops.recompute(h, function=lambda h: ops.tanh(h) * w)).sum()

    ledger = trace(f)
    check(ledger)
    one = ledger.leaf("w")
    assert same(one.grad.array, w.grad)
    uses = [step for step, _ in ledger.uses(one.number)]
    assert [step.op for step in uses] == ["multiply", "multiply"]
    around = [ledger[ledger[uses[0].inside].inside], ledger[uses[1].inside]]  # the first is within two of them
    assert [(step.op, step.depth, step.inside) for step in around] == [("recompute", 1, None), ("recompute", 2, None)]
    assert [step.depth for step in uses] == [1, 2]


def test_values_are_called_as_where_they_were_made():
    model = shaken(tiny("gpt2", n_layer=1))
    x, y = random_tokens(model.config, 2, 4)
    labels = {step.label for step in trace(lambda: ops.cross_entropy(model(x), y)).steps}
    assert {"loss", "ln_f", "h.0:x", "h.0.ln_1", "h.0.attn:q", "h.0.attn.c_q", "h.0.mlp.c_fc"} <= labels


def test_memory_falls_as_the_walk_goes_back():
    kept = np.ones(10)
    x = leaf(*range(10))

    def f():
        a = ops.tanh(x)  # keeps its value, 80 bytes
        b = ops.exp(a * kept)  # the product keeps both factors, the exponential its value
        return (b + ops.relu(b)).sum()  # relu keeps 10 booleans

    ledger = trace(f)
    assert [(s.op, s.held_before, s.held_after) for s in ledger.steps] == [
        ("sum", 250, 250), ("add", 250, 250), ("relu", 250, 240), ("exp", 240, 160), ("multiply", 160, 80),
        ("tanh", 80, 0)
    ]  # fmt: skip


def test_all_that_a_gradient_function_holds_is_found():
    y, z, w = np.ones(3), np.ones(4), np.ones(5)
    parts = {"w": w}

    def backward(dy, y=y, *, z=z):
        return (backward(dy / 2) if dy > 1 else parts["w"] * dy,)

    found = captured(backward)
    assert {name: x.size for name, x in found.items()} == {"y": 3, "z": 4, "parts['w']": 5}


def test_an_infinite_slope_says_nothing_of_other_entries():
    with np.errstate(divide="ignore", invalid="ignore"):
        ledger = trace(lambda x: ops.log(x * 1).sum(), np.array([0.0, 2.0]))
    assert ledger.steps[1].inputs[0].local.tolist() == [[np.inf, 0], [0, 0.5]]
    assert len(paths(ledger, "x", 0)) == 1


def test_a_step_without_a_gradient_frees_what_it_kept(monkeypatch):
    monkeypatch.setattr(Op, "registry", {})

    @Op
    def second(a, b):
        """y = b        db = dy, none for a

        any
        """
        return b * 1, lambda dy: (None, dy)

    x = leaf(1, 2)
    for younger in (False, True):

        def f(younger=younger):
            b = ops.tanh(x) if younger else None
            a = ops.exp(x)
            return second(a, b if younger else ops.tanh(x)).sum()

        ledger = trace(f)
        assert [step.op for step in ledger.steps] == ["sum", "second", "tanh"]
        assert ledger.steps[1].held_before == 32
        assert ledger.steps[1].inputs[0].contribution is None
        check(ledger)


def test_a_graph_that_is_there_is_traced_without_lines():
    x = leaf(1, 2, name="x")
    h = ops.exp(x)
    ledger = trace((h * 3).sum(), names={"h": h})
    check(ledger)
    assert [step.label for step in ledger.steps] == ["loss", "", "h"]
    assert all(s.source is None and s.value is None and s.callers == () for s in ledger.steps)
    assert np.array_equal(ledger.leaf("x").grad.array, x.grad)
    assert str(trace(lambda: (x * 3).sum(), names={"three": x}, keep=0)).endswith("▏")
    alone = trace(leaf(2))
    assert (alone.steps, alone.leaves[0].grad.array.tolist()) == ([], [1])


def test_large_arrays_are_kept_as_statistics():
    x = leaf(*np.linspace(-1, 3, 33))
    ledger = trace(lambda: (x * x).sum(), keep=32, local=32)
    step = ledger.steps[-1]
    seen = step.value
    assert seen.array is None
    assert step.incoming.histogram == (33, *[0] * 15)
    assert (seen.low, seen.high, seen.size, sum(seen.histogram)) == (0, 9, 33, 33)
    np.testing.assert_allclose([seen.norm, seen.mean], [np.linalg.norm(x.data**2), (x.data**2).mean()])
    assert step.inputs[0].local is None
    whole = trace(lambda: (x * x).sum(), keep=33, local=33)
    assert whole.steps[0].inputs[0].local.shape == (33,)
    assert same(whole.steps[-1].value.array, x.data**2)
    wild = trace(lambda: ops.sum(x * np.array([np.inf, np.nan, *[1.0] * 31])), keep=8).steps[-1].value
    assert (wild.wild, wild.high, sum(wild.histogram)) == (2, 3, 31)


def test_snapshots_are_copies():
    x = leaf(1, 2)
    ledger = trace(lambda: (x * 2).sum())
    x.data[:] = x.grad[:] = 7
    assert ledger.leaves[0].value.array.tolist() == [1, 2]
    assert ledger.leaves[0].grad.array.tolist() == [2, 2]


def test_nothing_stays_behind():
    """Neither a hook nor memory, nor after an error on the way."""
    call, backward = Op.__call__, Tensor.backward
    x = leaf(1, 2)
    kept = []

    def f():
        h = ops.tanh(x)
        kept.append(weakref.ref(h.data))
        return h.sum()

    def stumbles():
        ops.tanh(x)
        raise ZeroDivisionError

    gc.disable()
    try:
        ledger = trace(f)
        assert kept[0]() is None
    finally:
        gc.enable()
    assert ledger.of == 2
    for wrong, error in ((stumbles, ZeroDivisionError), (lambda: ops.tanh(x), ShapeError)):
        with pytest.raises(error):
            trace(wrong)
        assert Op.__call__ is call
        assert Tensor.backward is backward
        assert observers == []


def test_a_wrong_start_is_refused():
    x = leaf(1, 2)
    with pytest.raises(ShapeError, match="starts from a scalar"):
        trace(lambda: x * 2)
    with no_grad(), pytest.raises(GraphError, match="nothing was recorded"):
        trace(lambda: (x * 2).sum())
    with pytest.raises(GraphError, match=r"returned a float(.|\n)*rule"):
        trace(lambda: 2.0)
    for integers in (2, np.array(2), True):
        with pytest.raises(GraphError, match=r"integers have no derivative(.|\n)*hint : pass floats"):
            trace(lambda x: ops.sum(x * 2), integers)
    with no_grad(), pytest.raises(GraphError, match="nothing was recorded") as error:
        trace(lambda x: (x * 2).sum(), 1.0)
    assert "integers" not in str(error.value)
    with pytest.raises(ConfigError, match=r"not \{tensor: name\}"):
        trace(lambda: (x * x).sum(), names={x: "x"})
    with pytest.raises(ConfigError, match="expected a function or a tensor, found a float"):
        trace(2.0)
    loss = (x * x).sum()
    with pytest.raises(ConfigError, match="no function that takes them"):
        trace(loss, x)
    trace(loss)
    with pytest.raises(GraphError, match="already walked and freed"):
        trace(loss)
    assert x.grad.tolist() == [2, 4]
    ledger = trace(lambda: (x * x).sum())
    with pytest.raises(ConfigError, match=r"no leaf is named 'w'\n  found : x"):
        ledger.leaf("w")
    with pytest.raises(ConfigError, match="number 9"):
        ledger[9]
