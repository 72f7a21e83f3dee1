"""Random graphs out of the registry, whole: whatever the operations are joined to, the chain rule must hold."""

import numpy as np
import watching
from hypothesis import event, given, settings

from tinygrad_lm import Tensor, gradcheck
from tinygrad_lm.testing.random_graphs import programs, run_program

many = settings(max_examples=3 * settings.default.max_examples)


@many
@given(programs())
def test_random_graphs_are_differentiated_to_twelve_digits(program):
    leaves, steps = program
    f, unused = lambda *xs: run_program(steps, *xs), range(len(leaves))
    gradcheck(f, *leaves, method="complex", allow_unused=unused, verbose=False)


@given(programs())
def test_random_graphs_repeat_bit_for_bit_and_add_up(program):
    """Each operation's node is visited once, the younger first; and a leaf adds up what two walks bring."""
    leaves, steps = program
    tensors = [Tensor(x, requires_grad=True) for x in leaves]

    def walk():
        orders, result = [], run_program(steps, *tensors)
        with watching.steps(lambda node, dy, dxs: orders.append(node.order)):
            result.backward(np.ones(result.shape))
        assert orders == sorted(set(orders), reverse=True)
        event(f"{len(orders) // 20 * 20}+ nodes")
        return [None if t.grad is None else t.grad.copy() for t in tensors]

    first = walk()
    both = walk()
    for t in tensors:
        t.zero_grad()
    again = walk()
    for one, two, same in zip(first, both, again, strict=True):
        if one is not None:
            np.testing.assert_allclose(two, 2 * one, rtol=1e-12, atol=1e-12)
            assert np.array_equal(one, same)
