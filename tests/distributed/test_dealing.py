"""Work that is dealt out comes back in its order, on any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thread_ranks import together

from tinygrad_lm.distributed.dealing import dealt


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@given(lengths=st.lists(st.integers(0, 4), max_size=9))
def test_every_piece_is_computed_once_and_comes_back_in_its_place(size, lengths):
    pieces, done = list(enumerate(lengths)), []

    def function(piece):
        done.append(piece)
        number, length = piece
        return np.full(length, number) / 3

    expected = [np.full(length, number) / 3 for number, length in pieces]
    for found in together(size, lambda rank: dealt(function, pieces, rank)):
        assert [x.tolist() for x in found] == [x.tolist() for x in expected]
    assert sorted(done) == pieces


def test_alone_it_is_a_map():
    assert [x.tolist() for x in dealt(lambda x: (x, x + 0.5), iter(range(3)))] == [[0, 0.5], [1, 1.5], [2, 2.5]]
