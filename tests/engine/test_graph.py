"""The walk back: what arrives where, when it is freed, and what is refused."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from watching import steps

from tinygrad_lm import Tensor, no_grad, ops
from tinygrad_lm.engine import graph
from tinygrad_lm.engine.graph import Node
from tinygrad_lm.engine.observe import within
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.replaceable import Replaceable
from tinygrad_lm.errors import GraphError, ShapeError


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


@pytest.fixture
def op(monkeypatch):
    """@op for a test's own rules: it leaves no trace in the registry."""
    monkeypatch.setattr(Op, "registry", {})
    return Op


# ---- the chain rule on graphs


def test_a_value_used_twice_gets_both_gradients():
    x = leaf(2, 3)
    (x * x + x).sum().backward()
    assert np.array_equal(x.grad, 2 * x.data + 1)


class Added:
    """A gradient that can be added in the pass that computes it, and notes what it was asked for."""

    def __init__(self, x, asked):
        self.x, self.asked, self.dtype = x, asked, x.dtype

    def __call__(self):
        self.asked.append("alone")
        return self.x

    def plus(self, total, out=None):
        self.asked.append("in place" if out is total else "added" if out is None else "elsewhere")
        return np.add(total, self.x, out=out)


def test_a_gradient_may_add_itself_to_what_is_there(op):
    """In place at a leaf; elsewhere not, for others may hold what is there. Observers see the gradient itself."""
    asked = []

    @op
    def doubled(x):
        return 2 * x, lambda dy: (Added(2 * dy, asked),)

    x = leaf(1, 2)
    y = x * 1
    (y.sum() + doubled(y).sum() + doubled(y).sum()).backward()
    assert asked == ["alone", "added"]
    assert np.array_equal(x.grad, [5, 5])
    held = x.grad
    doubled(x).sum().backward()
    assert asked[2:] == ["in place"]
    assert x.grad is held
    with steps(lambda node, dy, dxs: [dx.shape for dx in dxs]):
        doubled(x).sum().backward()
    assert asked[3:] == ["alone"]
    assert np.array_equal(x.grad, [9, 9])


def test_diamonds_on_diamonds_count_every_path():
    x = leaf(1)
    y = x
    for _ in range(50):
        y = y + y  # 2⁵⁰ paths from y to x, each node visited once
    visits = []
    with steps(lambda node, dy, dxs: visits.append(node)):
        y.backward()
    assert x.grad == 2.0**50
    assert len(visits) == 50


def test_an_old_value_used_again_late_waits_for_all_its_uses():
    x = leaf(3)
    a = x * 2
    b = ops.exp(a * 0)
    for _ in range(5):
        b = b * 1 + a * 0
    (a * b).sum().backward()  # a is used first and last
    assert x.grad == 2


def test_branches_that_do_not_reach_the_loss_get_nothing():
    x, y = leaf(1), leaf(1)
    _ = ops.exp(x)
    (y * 3).backward()
    assert x.grad is None
    assert y.grad == 3


def test_gradients_add_up_over_calls_until_zero_grad():
    x = leaf(1, 2)
    for k in (1, 2, 3):
        (x * x).sum().backward()
        assert np.array_equal(x.grad, k * 2 * x.data)
    x.zero_grad()
    assert x.grad is None
    (x * 5).sum().backward()
    assert np.array_equal(x.grad, [5, 5])
    (x * 5).detach().zero_grad()  # of what records nothing: nothing happens


def test_a_leaf_adds_into_the_array_that_lies_under_its_gradient():
    flat = np.zeros(5)
    x = leaf(1, 2)
    x.node.grad = flat[1:3]
    for _ in range(2):
        (x * 3).sum().backward()
    assert np.array_equal(flat, [0, 6, 6, 0, 0])


# ---- seeds


def test_a_leaf_is_a_graph_of_its_own():
    x = leaf(2)
    x.backward()
    assert x.grad == 1


@pytest.mark.parametrize("dy", [np.array([1.0, -2.0]), [1, -2], [1.0, -2.0], Tensor([1.0, -2.0]), np.float32([1, -2])])
def test_dy_may_be_written_in_many_ways(dy):
    for dtype in ("float64", "float32"):
        x = Tensor(np.ones(2, dtype), requires_grad=True)
        (x * 3).backward(dy)
        assert np.array_equal(x.grad, [3, -6])
        assert x.grad.dtype == dtype


def test_a_wrong_start_is_refused():
    x = leaf(1, 2)
    with pytest.raises(ShapeError, match=r"starts from a scalar; this tensor has shape \(2,\)(.|\n)*hint"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"dy has shape \(3,\), the tensor \(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(GraphError, match=r"nothing was recorded(.|\n)*outside no_grad"):
        Tensor([1.0]).backward()
    assert x.grad is None


def test_the_seed_and_dy_are_nobodys_to_change(op):
    a, b, seed = leaf(1, 2), leaf(3, 4), np.array([1.0, 1.0])
    (a + b).backward(seed)  # add returns dy itself, twice
    grads = [a.grad, b.grad, seed]
    for i, g in enumerate(grads):
        assert not any(np.shares_memory(g, other) for other in grads[:i])
    (a * 7).sum().backward()
    assert np.array_equal(b.grad, [1, 1])
    assert np.array_equal(seed, [1, 1])

    shared = np.array([1.0, 1.0])
    keeps = op(lambda_rule(lambda x: (x.copy(), lambda dy: (shared,))))
    c = leaf(0, 0)
    y = c * 1
    (keeps(y) + keeps(y) + keeps(c)).sum().backward()
    assert np.array_equal(shared, [1, 1])
    assert np.array_equal(c.grad, [3, 3])


def lambda_rule(function):
    """A rule out of a lambda: with a docstring, of which Op reads the first two lines."""
    function.__doc__ = "y = f(x)        dx = ...\n\nany"
    return function


# ---- once


def test_a_second_walk_is_refused_and_says_where():
    x = leaf(1)
    y = ops.exp(x)
    y.backward()
    with pytest.raises(GraphError, match=r"at exp\) was already walked and freed(.|\n)*hint"):
        y.backward()
    shared = ops.exp(x)
    a, b = shared * 2, shared * 3
    a.backward()
    with pytest.raises(GraphError, match="at exp"):
        b.backward()
    assert x.grad == np.e + 2 * np.e  # a refused walk added nothing,
    assert b.node.grad is None  # and left nothing behind


def test_an_error_on_the_way_back_comes_out_and_spoils_nothing_later(op):
    broken = op(lambda_rule(lambda x: (x * 1, lambda dy: (np.ones((2, 2)),))))
    x = leaf(1, 2, 3)
    with pytest.raises(ShapeError, match=r"of shape \(2, 2\) arrived at a value of shape \(3,\)"):
        broken(x).sum().backward()
    (x * 2).sum().backward()
    assert np.array_equal(x.grad, [2, 2, 2])


def test_a_rule_must_return_one_gradient_per_input(op):
    short = op(lambda_rule(lambda a, b: (a + b, lambda dy: (dy,))))
    with pytest.raises(ValueError, match="shorter"):
        short(leaf(1), leaf(2)).backward()


# ---- what is recorded


def test_no_grad_records_nothing():
    x = leaf(1)
    with no_grad():
        assert not ops.exp(x).requires_grad
        with within(recording=True):
            assert ops.exp(x).requires_grad
        assert not ops.exp(x).requires_grad
    assert ops.exp(x).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert ops.exp(x).requires_grad
    assert not ops.exp(Tensor([1.0])).requires_grad
    assert not ops.exp(x.detach()).requires_grad


def test_each_thread_records_for_itself():
    barrier, results = threading.Barrier(2, timeout=60), {}

    def silent():
        x = leaf(1)
        with no_grad():
            barrier.wait()
            results["silent"] = ops.exp(x).requires_grad
            barrier.wait()

    def recorder():
        x = leaf(1, 2)
        barrier.wait()  # the other is within no_grad now
        for _ in range(200):
            x.zero_grad()
            ops.tanh(x * x).sum().backward()
        results["recorder"] = x.grad
        barrier.wait()

    threads = [threading.Thread(target=f) for f in (silent, recorder)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["silent"] is False
    np.testing.assert_allclose(results["recorder"], 2 * np.array([1, 2]) / np.cosh([1, 4]) ** 2, rtol=1e-12)


def test_a_gradient_that_nobody_wants_is_not_computed(op):
    computed = []

    def rule(a, b):
        """y = a b        da = dy b,  db = dy a, each computed when it is asked for

        any
        """

        def later(name, value):
            return lambda: computed.append(name) or value

        return a * b, lambda dy: (later("a", dy * b), later("b", dy * a))

    product, x, y = op(rule), leaf(2), leaf(3)
    product(x, y.detach()).backward()
    assert (computed, x.grad) == (["a"], 3)
    product(x.detach(), y).backward()
    assert (computed, y.grad) == (["a", "b"], 2)


def test_an_implementation_runs_on_its_device_and_dtype_where_they_are_switched_on(op, monkeypatch):
    double = op(lambda_rule(lambda x: (x * 2, lambda dy: (dy * 2,))))
    used = []

    def registered(device, *dtypes):
        @double.on(device, *dtypes)
        def implementation(x):
            used.append(device)
            return (x + x, lambda dy: (dy + dy,)) if x.size else NotImplemented

    registered("cuda", "float64")
    registered("cpu", "float32")
    monkeypatch.setattr(Replaceable, "enabled", True)
    double(leaf(1))
    assert used == []
    registered("cpu", "float32", "float64")
    x = leaf(1)
    double(x).backward()
    assert used == ["cpu"]
    assert x.grad == 2
    assert double.rule(x.data)[0] == 2
    monkeypatch.setattr(Replaceable, "enabled", False)
    double(x)
    assert used == ["cpu"]  # the definition stays what it was
    monkeypatch.setattr(Replaceable, "enabled", True)
    assert double(leaf()).shape == (0,)  # what is not covered is defined
    assert used == ["cpu", "cpu"]


def test_importing_the_package_switches_no_implementation_on():
    program = """
from tinygrad_lm import models, ops, optim
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.replaceable import Replaceable
print(Replaceable.enabled, any(op.implementations for op in Op.registry.values()))
"""
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]


def test_what_is_replaceable_is_copied_and_pickled_as_itself():
    for function in (ops.softmax, graph.add):
        assert copy.deepcopy(function) is function
        assert pickle.loads(pickle.dumps(function)) is function


def test_an_observer_sees_each_operation_with_its_gradients_youngest_first():
    x, w = leaf(1, 2), leaf(3, 4)
    y = ops.exp(x)
    z = (y * w).sum()
    seen = []

    def visit(node, dy, dxs):
        assert node.backward is not None  # not cleared yet
        seen.append((node.op.name, dy.tolist(), [dx.tolist() for dx in dxs], [p.shape for p in node.parents]))

    with steps(visit):
        z.backward()
    e = np.exp(x.data)
    assert seen == [
        ("sum", 1, [[1, 1]], [(2,)]),
        ("multiply", [1, 1], [[3, 4], e.tolist()], [(2,), (2,)]),
        ("exp", [3, 4], [(w.data * e).tolist()], [(2,)]),
    ]


def test_a_node_is_younger_than_its_parents_and_says_what_it_is():
    x = leaf(1)
    y = ops.exp(x)
    assert y.node.order > x.node.order
    assert repr(x.node) == "Node(leaf, shape=(1,))"
    assert repr(y.node) == "Node(exp, shape=(1,))"
    assert repr(Tensor([1.0], requires_grad=True, name="wte").node) == "Node(wte, shape=(1,))"
    assert Node.__slots__
    assert not hasattr(y.node, "__dict__")


def test_a_gradient_has_the_dtype_of_its_value():
    """Of a rule that computes its gradient in float64, too; in the middle of a graph and at a leaf."""

    @Op
    def double(x):
        """y = 2 x        dx = 2 dy"""
        return 2 * x, lambda dy: (2 * dy.astype("float64"),)

    try:
        x = Tensor(np.ones(3, "float32"), requires_grad=True)
        double(double(x)).sum().backward()
    finally:
        del Op.registry["double"]
    assert x.grad.dtype == "float32"
    assert x.grad.tolist() == [4, 4, 4]
