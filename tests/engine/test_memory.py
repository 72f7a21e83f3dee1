"""What lives how long: arrays die by reference count as soon as the last rule that mentions them is done."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from slow import slow_but
from watching import steps

from tinygrad_lm import Tensor, no_grad, ops
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.testing.drawing import arrays, broadcastable


@pytest.fixture(autouse=True, scope="module")
def others_left_alone():
    """What other tests have imported is not looked through again and again."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def without_collector():
    """Whatever dies here dies by reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


def chain(x, length):
    """x through many operations, with a weak reference to each value that one of them keeps for its way back."""
    kept = []
    for _ in range(length):
        x = ops.tanh(x)
        kept.append(weakref.ref(x.data))
    return x, kept


@pytest.mark.slow
def test_a_chain_of_100_000_operations_is_walked_and_freed():
    """A recursive walk would end at Python's limit of 1,000, a recursive deallocation in the C stack's overflow."""
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    del y
    y = x
    for _ in range(100_000):
        y = y + 1.0
    last = weakref.ref(y.node)
    del y  # never walked
    assert last() is None


def test_what_a_rule_keeps_lives_until_its_node_has_been_walked():
    y, kept = chain(leaf(0.5, 1), 10)
    loss = y.sum()
    del y
    assert all(array() is not None for array in kept)
    alive = []
    with steps(lambda node, dy, dxs: alive.append(sum(array() is not None for array in kept))):
        loss.backward()
    # At the sum all ten are alive; when tanh number k is visited, those after it are gone.
    assert alive == [10, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert all(array() is None for array in kept)


def test_a_graph_that_is_dropped_is_freed_at_once():
    y, kept = chain(leaf(0.5), 10)
    node = weakref.ref(y.node)
    del y
    assert node() is None
    assert all(array() is None for array in kept)


def test_without_recording_nothing_is_kept():
    with no_grad():
        y, kept = chain(leaf(0.5), 10)
    assert [array() is not None for array in kept] == [False] * 9 + [True]
    assert y.node is None


def test_values_that_no_rule_mentions_are_not_kept():
    """A sum needs the shape of what it added, not the numbers; the node knows the shape."""
    x = leaf(1, 2)
    y = x + 1.0
    value = weakref.ref(y.data)
    y = y.sum()
    assert value() is None
    y.backward()
    assert np.array_equal(x.grad, [1, 1])


def test_gradients_on_the_way_are_freed():
    x = leaf(1, 2)
    y = ops.exp(x)
    middle = y.node
    grads = []
    with steps(lambda node, dy, dxs: grads.append(weakref.ref(dxs[0]))):
        (y * 2 + y).sum().backward()
    assert middle.grad is None
    assert middle.parents == ()
    assert middle.backward is None
    assert all(g() is None for g in grads)


def test_a_walk_through_a_checkpoint_frees_the_inside():
    kept = []

    def block(x):
        y, inside = chain(x, 5)
        kept.extend(inside)
        return y

    x = leaf(0.5)
    ops.recompute(x, function=block).backward()
    assert len(kept) == 10
    assert all(array() is None for array in kept)


# ---- unbroadcast, which decides what shape a gradient has when it gets there


@given(case=broadcastable(2).flatmap(lambda drawn: arrays(drawn[1]).map(lambda dy: (drawn[0][0], dy))))
def test_unbroadcast_is_the_transpose_of_broadcasting(case):
    shape, dy = case
    dx = unbroadcast(dy, shape)
    assert dx.shape == shape
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose((x * dx).sum(), (np.broadcast_to(x, dy.shape) * dy).sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arrived", "shape"), [((2, 3), (3, 2)), ((3,), (2, 3)), ((2, 3), (2,)), ((1, 3), (2, 3)), ((), (1,)), ((4,), (2,))]
)
def test_any_other_mismatch_is_an_error(arrived, shape):
    with pytest.raises(ShapeError, match="arrived at a value of shape"):
        unbroadcast(np.zeros(arrived), shape)


KEEP_NO_INPUT = {
    "max": ops.max,
    "relu": ops.relu,
    "sum": ops.sum,
    "mean": ops.mean,
    "logsumexp": ops.logsumexp,
    "softmax": ops.softmax,
    "maximum": lambda x: ops.maximum(x, 0.0),
    "dropout": lambda x: ops.dropout(x, p=0.5, key=(0, "a", 0, 0)),
    "getitem": lambda x: x[0],
}


@pytest.mark.parametrize("name", slow_but(KEEP_NO_INPUT, "max", "sum"))
def test_a_gradient_that_does_not_need_its_input_does_not_keep_it(name):
    """One that asks x for its shape, and only for that, would keep all of x."""
    x = -leaf(1, -2, 3)
    values = weakref.ref(x.data)
    y = KEEP_NO_INPUT[name](x)
    del x
    assert y.requires_grad
    assert values() is None
