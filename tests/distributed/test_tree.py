"""The sum over ranks is that of a binary tree, bit by bit, and sends as little as can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thread_ranks import together

SIZES = pytest.mark.parametrize("size", [1, 2, 4, 8])


def values(size, n, seed=0):
    """An array of n numbers of very different sizes for each rank."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(n) * 10.0 ** rng.integers(-4, 5, n)).astype(np.float32) for _ in range(size)]


def tree(arrays):
    """The definition."""
    while len(arrays) > 1:
        arrays = [a + b for a, b in zip(arrays[::2], arrays[1::2], strict=True)]
    return arrays[0]


def added(arrays):
    """What each rank has in the end, and how many bytes it has sent."""
    mine = [x.copy() for x in arrays]

    def add(rank):
        rank.add_up(mine[rank.rank])
        return mine[rank.rank], rank.sent

    return together(len(arrays), add)


@SIZES
@given(n=st.integers(0, 40), seed=st.integers(0, 99))
def test_all_ranks_have_the_sum_of_the_tree(size, n, seed):
    arrays = values(size, n, seed)
    for found, _ in added(arrays):
        assert found.tobytes() == tree(arrays).tobytes()


def test_the_order_can_be_seen():
    """In another order many of these sums have other bits: the test above would notice."""
    arrays = values(8, 1000)
    in_turn = arrays[0] + 0
    for x in arrays[1:]:
        in_turn += x
    assert (in_turn != tree(arrays)).mean() > 0.1


@SIZES
def test_each_rank_sends_no_more_than_it_must(size):
    n = 1024
    for _, sent in added(values(size, n)):
        assert sent == 2 * (size - 1) * n // size * 4
