"""Batches of a mixture: the requested shares, every token once per epoch, the same batches for any number of ranks."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.mixture.mixture_batches import MixtureBatches, alternation
from tinygrad_lm.errors import ConfigError, DataError


class Row:
    """Tokens that are their places, with the interface of Shards."""

    def __init__(self, first, length):
        self.tokens = np.arange(first, first + length)

    def __len__(self):
        return len(self.tokens)

    def read(self, start, count):
        assert 0 <= start <= start + count <= len(self.tokens)
        return self.tokens[start : start + count]


FIRST = 10_000  # of the tokens of source k: k × FIRST


def mixture(weights, lengths, batch_size=4, block_size=3, seed=0, accumulate=1, **options):
    rows = {f"s{k}": (w, Row(k * FIRST, n)) for k, (w, n) in enumerate(zip(weights, lengths, strict=True))}
    return MixtureBatches(rows, batch_size, block_size, seed, accumulate, **options)


@st.composite
def weightings(draw, most=6, largest=60):
    counts = draw(st.lists(st.integers(1, largest), min_size=1, max_size=most))
    return [Fraction(count, sum(counts)) for count in counts]


# ---- shares


@given(weights=weightings(largest=1000))
def test_among_any_first_windows_shares_are_within_the_bound(weights):
    """Over two periods, each prefix."""
    turns, _ = alternation(weights)
    order = np.concatenate([turns, turns])
    n = np.arange(1, len(order) + 1)
    for k, w in enumerate(weights):
        counts = np.cumsum(order == k)
        error = abs(counts * w.denominator - n * w.numerator)  # in units of 1 / denominator: integers, exact
        assert 2 * error.max() <= w.denominator * (1 + (len(weights) - 2) * w)
        assert counts[len(turns) - 1] == len(turns) * w


def test_the_bound_is_reached():
    """With equal weights all sources are due at once, and the last waits for the others."""
    weights = [Fraction(1, 5)] * 5
    turns, before = alternation(weights)
    assert turns.tolist() == [0, 1, 2, 3, 4]
    assert before.tolist() == [0] * 5
    assert max(abs(int((turns[:n] == k).sum()) - n / 5) for n in range(6) for k in range(5)) == pytest.approx(0.8)
    assert (1 + 3 / 5) / 2 == 0.8


@given(weights=weightings())
def test_windows_stand_where_they_would_if_spread_evenly(weights):
    """Against exact fractions, sorted by Python."""
    turns, before = alternation(weights)
    D = len(turns)
    assert min(D * w % 1 == 0 for w in weights)
    places = [(Fraction(2 * m + 1, 2 * int(D * w)), k, m) for k, w in enumerate(weights) for m in range(int(D * w))]
    assert list(zip(turns, before, strict=True)) == [(k, m) for _, k, m in sorted(places)]


@given(weights=weightings(4, 12), data=st.data())
def test_what_was_used_is_what_the_batches_hold(weights, data):
    lengths = data.draw(st.lists(st.integers(4, 60), min_size=len(weights), max_size=len(weights)))
    stream = mixture(weights, lengths, data.draw(st.integers(1, 7)), accumulate=data.draw(st.integers(1, 3)))
    steps = data.draw(st.integers(1, 12))
    batches = [stream(step, part)[0] for step in range(steps) for part in range(stream.accumulate)]
    rows = np.concatenate(batches)[:, 0] // FIRST
    assert stream.tokens_a_step == stream.batch_size * stream.accumulate * 3
    assert stream.tokens_a_step * steps == sum(batch.size for batch in batches)
    used = stream.used(steps)
    assert list(used) == [f"s{k}" for k in range(len(weights))]
    for k, (found, w) in enumerate(zip(used.values(), weights, strict=True)):
        share = (rows == k).mean()
        assert found["requested"] == float(w)
        assert found["realised"] == pytest.approx(share, abs=1e-15)
        assert found["error"] == pytest.approx(share - float(w), abs=1e-15)
        assert found["epochs"] == pytest.approx((rows == k).sum() * 3 / lengths[k])
        assert abs(found["error"]) * len(rows) <= (1 + (len(weights) - 2) * w) / 2 + 1e-9
    assert stream.used(0) == {}


def test_steps_that_pass_no_source_too_often():
    stream = mixture([Fraction(1, 4), Fraction(3, 4)], [300, 1000], batch_size=4, block_size=5)  # 5 and 15 a step
    assert stream.steps_within(2) == 2 * 300 // 5
    stream = mixture([Fraction(1, 4), Fraction(3, 4)], [300, 500], batch_size=4, block_size=5)
    assert stream.steps_within(2) == 2 * 500 // 15
    assert mixture([Fraction(1)], [6], batch_size=9, block_size=5).steps_within(1) == 1


# ---- epochs


@given(weights=weightings(3, 4), data=st.data(), seed=st.integers(0, 2**64 - 1))
def test_no_token_is_a_target_again_before_the_others_of_its_source(weights, data, seed):
    """In each epoch of each source every token at most once; less than two windows are left out, at the ends."""
    lengths = data.draw(st.lists(st.integers(6, 60), min_size=len(weights), max_size=len(weights)))
    stream = mixture(weights, lengths, batch_size=3, block_size=5, seed=seed)
    targets = np.concatenate([stream(step)[1] for step in range(data.draw(st.integers(1, 40)))])
    for k, length in enumerate(lengths):
        mine = targets[targets[:, 0] // FIRST == k]
        count = max(1, (length - 1) // 5 - 1)  # windows an epoch
        for start in range(0, len(mine) - count + 1, count):
            seen = np.sort(mine[start : start + count].ravel()) % FIRST
            assert np.array_equal(seen, np.arange(seen[0], seen[0] + 5 * count))
            assert length - 1 - len(seen) < 10


@pytest.mark.slow
def test_epochs_begin_at_all_places_and_in_all_orders():
    """Two windows of four in a text of 16, from eight places on: each in 1/16 of 4,800 epochs."""
    stream = mixture([Fraction(1)], [16], batch_size=2, block_size=4)
    _, count = np.unique([stream(epoch)[0][:, 0] for epoch in range(4800)], axis=0, return_counts=True)
    assert len(count) == 16
    assert ((count - 300) ** 2 / 300).sum() < 15 + 5 * np.sqrt(2 * 15)


def test_sources_of_the_same_length_have_orders_of_their_own():
    """The order depends on the name: adding another source does not change it."""
    rows = {f"s{k}": Row(k * FIRST, 400) for k in range(3)}

    def starts(names, name):
        shares = {n: (Fraction(1, len(names)), rows[n]) for n in names}
        x = MixtureBatches(shares, batch_size=50 * len(names), block_size=3)(0)[0]
        return [start for start in x[:, 0] if start // FIRST == int(name[1])]

    assert not np.array_equal(np.array(starts(["s0", "s1"], "s0")), np.array(starts(["s0", "s1"], "s1")) - FIRST)
    assert starts(["s0", "s1"], "s1") == starts(["s2", "s0", "s1"], "s1")


# ---- a pure function, the same whatever the world


@given(weights=weightings(3), seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**40), data=st.data())
def test_a_batch_is_windows_with_the_token_after(weights, seed, step, data):
    lengths = data.draw(st.lists(st.integers(4, 99), min_size=len(weights), max_size=len(weights)))
    x, y = mixture(weights, lengths, 5, seed=seed)(step)
    assert x.shape == y.shape == (5, 3)
    assert (x.dtype, y.dtype) == (np.int32, np.int32)
    assert np.array_equal(x + 1, y)
    assert (np.diff(y) == 1).all()
    assert (y[:, -1] % FIRST < np.array(lengths)[x[:, 0] // FIRST]).all()


@given(world=st.integers(1, 6), each=st.integers(1, 4), seed=st.integers(0, 99), step=st.integers(0, 99))
def test_any_number_of_processes_share_the_same_batch(world, each, seed, step):
    weights, lengths = [Fraction(2, 5), Fraction(3, 5)], [50, 90]
    shared = {"batch_size": world * each, "seed": seed, "accumulate": 2}
    whole = mixture(weights, lengths, **shared)
    parts = [mixture(weights, lengths, rank=rank, world=world, **shared) for rank in range(world)]
    for i in range(2):
        assert np.array_equal(np.concatenate([stream(step, 1)[i] for stream in parts]), whole(step, 1)[i])
    assert all(part(step)[0].shape == (each, 3) for part in parts)
    assert all(part.tokens_a_step == whole.tokens_a_step for part in parts)
    assert all(part.used(7) == whole.used(7) for part in parts)


@given(calls=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=20))
def test_no_order_of_calls_and_no_thread_changes_a_batch(calls):
    arguments = [[Fraction(1, 3), Fraction(2, 3)], [40, 70]]
    stream = mixture(*arguments, accumulate=2)
    alone = [mixture(*arguments, accumulate=2)(*call)[0] for call in calls]
    with ThreadPoolExecutor(4) as pool:
        for found in (map(stream, *zip(*calls, strict=True)), pool.map(stream, *zip(*calls, strict=True))):
            assert all(np.array_equal(x, expected) for (x, _), expected in zip(found, alone, strict=True))


def test_a_batch_depends_on_seed_step_and_part():
    arguments = [[Fraction(1, 3), Fraction(2, 3)], [400, 700]]
    first = mixture(*arguments, accumulate=2)(5, 1)[0]
    for seed, step, part in ((0, 5, 0), (0, 6, 1), (1, 5, 1)):
        assert not np.array_equal(mixture(*arguments, seed=seed, accumulate=2)(step, part)[0], first)


def test_the_beginning_has_something_of_each_source():
    stream = mixture([Fraction(1, 4), Fraction(3, 4)], [50, 20])
    assert stream.beginning(1).tolist() == [0]
    assert stream.beginning(8).tolist() == [0, 1, 2, *range(FIRST, FIRST + 5)]
    assert len(stream.beginning(10**9)) == 70


# ---- mistakes


def test_mistakes():
    half = Fraction(1, 2)
    for rank, world, batch_size in ((-1, 2, 4), (2, 2, 4), (0, 0, 4), (0, 3, 4)):
        with pytest.raises(ConfigError, match=f"rank {rank}, world size {world}, batches of {batch_size}"):
            mixture([half, half], [9, 9], batch_size, rank=rank, world=world)
    with pytest.raises(DataError) as caught:
        mixture([half, half, half], [3, 4, 0])
    message = str(caught.value)
    assert "source 's0': a text of 3 tokens is too short" in message
    assert "s1': a" not in message
    assert "source 's2': a text of 0 tokens is too short" in message
    assert "the weights add up to 3/2" in message
    with pytest.raises(DataError, match="common denominator 1,000,003"):
        mixture([Fraction(1, 1_000_003), Fraction(1_000_002, 1_000_003)], [9, 9])
    with pytest.raises(DataError, match="must be above 0"):
        mixture([Fraction(3, 2), Fraction(-1, 2)], [9, 9])


def test_a_period_as_long_as_allowed():
    """A million windows, exactly: neighbours that are 2e-12 apart are in the right order."""
    turns, before = alternation([Fraction(499_999, 10**6), Fraction(500_001, 10**6)])
    q = np.bincount(turns)
    assert q.tolist() == [499_999, 500_001]
    left, right = (2 * before[:-1] + 1) * q[turns][1:], (2 * before[1:] + 1) * q[turns][:-1]
    assert (left <= right).all()
    assert (turns[:-1] < turns[1:])[left == right].all()
