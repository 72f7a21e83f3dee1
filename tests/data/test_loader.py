"""Windows of a text: nothing left out, nothing twice, every target the next token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.loader import Batches, document_starts, windows
from tinygrad_lm.errors import DataError


@given(n=st.integers(2, 60), block_size=st.integers(1, 12), batch_size=st.integers(1, 7))
def test_windows_hold_every_token_but_the_first_once_as_a_target(n, block_size, batch_size):
    tokens = np.arange(100, 100 + n)  # each token is its place
    pairs = list(windows(tokens, block_size, batch_size))
    assert np.array_equal(np.concatenate([y.ravel() for _, y in pairs]), tokens[1:])
    for x, y in pairs:
        assert np.array_equal(x + 1, y)
        assert x.shape[0] <= batch_size
        assert x.shape[1] <= block_size
        assert x.size
    assert all(x.shape[1] == block_size for x, _ in pairs[:-1])


@given(n=st.integers(2, 40), data=st.data(), seed=st.integers(0, 2**32 - 1), step=st.integers(0, 2**40))
def test_batches_are_windows_of_the_text(n, data, seed, step):
    tokens = np.arange(100, 100 + n).astype(data.draw(st.sampled_from(["uint8", "uint16", "int64"])))
    block_size, batch_size = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, 9))
    x, y = Batches(tokens, batch_size, block_size, seed)(step)
    assert x.shape == y.shape == (batch_size, block_size)
    assert np.array_equal(x + 1, y)
    assert (np.diff(y) == 1).all()
    assert x.min() >= 100
    assert y.max() < 100 + n


def test_a_batch_depends_on_seed_step_and_part_alone():
    tokens = np.arange(1000)
    batches = Batches(tokens, 8, 16, seed=3)
    first = batches(5, 1)[0]
    batches(6)
    assert np.array_equal(batches(5, 1)[0], first)
    assert np.array_equal(Batches(tokens, 8, 16, seed=3)(5, 1)[0], first)
    for other in (batches(5, 0), batches(6, 1), Batches(tokens, 8, 16, seed=4)(5, 1)):
        assert not np.array_equal(other[0], first)


@given(
    n=st.integers(2, 90),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 2**30),
    batch_size=st.integers(1, 5),
    accumulate=st.integers(1, 3),
)
def test_an_epoch_shows_no_target_twice_and_nearly_all(n, data, seed, epoch, batch_size, accumulate):
    """With any batch size; less than two windows are left out, at the ends."""
    T = data.draw(st.integers(1, n - 1))
    batches = Batches(np.arange(n), batch_size, T, seed, accumulate)
    count = max(1, (n - 1) // T - 1)
    seen = []
    for i in range(epoch * count, (epoch + 1) * count):
        batch, row = divmod(i, batch_size)
        step, part = divmod(batch, accumulate)
        seen.append(batches(step, part)[1][row])
    seen = np.sort(np.concatenate(seen))
    assert np.array_equal(seen, np.arange(seen[0], seen[0] + count * T))
    assert n - 1 - len(seen) < 2 * T


def test_epochs_begin_at_all_places_and_in_all_orders():
    """Two windows of four in a text of 16, from eight places on: each in 1/16 of 4,800 epochs."""
    batches = Batches(np.arange(16), 2, 4)
    starts = [tuple(batches.start(2 * epoch + i) for i in range(2)) for epoch in range(4800)]
    _, count = np.unique(starts, axis=0, return_counts=True)
    assert len(count) == 16
    assert ((count - 300) ** 2 / 300).sum() < 15 + 5 * np.sqrt(2 * 15)


@pytest.mark.parametrize("n", [0, 1, 4, 5])
def test_a_text_must_be_longer_than_a_context(n):
    with pytest.raises(DataError, match=f"a text of {n} tokens is too short"):
        Batches(np.zeros(n, int), 2, 5)
    Batches(np.zeros(6, int), 2, 5)(0)


def test_windows_of_no_tokens():
    for n in (0, 1):
        with pytest.raises(DataError, match="too short"):
            list(windows(np.zeros(n, int), 5, 2))


@given(
    tokens=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=3), eot=st.integers(0, 3)
)
def test_a_document_starts_at_its_end_of_text(tokens, eot):
    T = min(map(len, tokens))
    x = np.array([row[:T] for row in tokens], "uint16")
    found = document_starts(x, eot)
    assert found.shape == x.shape
    assert found.dtype.kind == "i"
    for row, starts in zip(x.tolist(), found.tolist(), strict=True):
        for t, start in enumerate(starts):
            assert start == max((s for s in range(t + 1) if row[s] == eot), default=0)
    assert np.array_equal(document_starts(x[0], eot), found[0])
