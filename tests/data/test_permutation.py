"""A computed permutation: one to one for every n, and as random as a shuffle."""

from math import factorial, isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.mixture.permutation import ROUNDS, permute

seeds = st.integers(0, 2**32 - 1)


def keys_of(seed, size=1):
    return np.random.default_rng(seed).integers(2**64, size=(ROUNDS, size), dtype=np.uint64)


def permutation(n, seed):
    """The whole permutation, (n,)."""
    return permute(np.arange(n, dtype=np.uint64), np.full(n, n, np.uint64), np.repeat(keys_of(seed), n, axis=1))


def permutations(n, times):
    """Permutations for several keys, (times, n)."""
    keys = np.repeat(keys_of(n, times), n, axis=1)
    y = permute(np.tile(np.arange(n, dtype=np.uint64), times), np.full(n * times, n, np.uint64), keys)
    return y.reshape(times, n).astype(int)


@given(n=st.integers(1, 3000), seed=seeds)
def test_it_is_one_to_one(n, seed):
    assert np.array_equal(np.sort(permutation(n, seed)), np.arange(n))


def inverse(y, n, keys):
    """The inverse permutation, with Python's integers: the same rounds backwards."""

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    a = isqrt(n) + 1
    a += a % 2
    while True:
        left, right = y % a, y // a
        for even, odd in zip(keys[-2::-2], keys[::-2], strict=True):
            right = (right - mixed(left ^ odd)) % a
            left = (left - mixed(right ^ even)) % a
        y = right * a + left
        if y < n:
            return y


@given(n=st.integers(1, 2**53 - 1), seed=seeds, data=st.data())
def test_there_is_a_way_back_in_any_domain(n, seed, data):
    """So no two elements have the same image."""
    x = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9)), np.uint64)
    y = permute(x, np.full(len(x), n, np.uint64), np.repeat(keys_of(seed), len(x), axis=1))
    assert y.max() < n
    assert [inverse(place, n, keys_of(seed)[:, 0].tolist()) for place in y.tolist()] == x.tolist()


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=9), seed=seeds)
def test_each_element_has_its_own_n_and_keys(sizes, seed):
    n, keys = np.array(sizes, np.uint64), keys_of(seed, len(sizes))
    x = np.array([size // 2 for size in sizes], np.uint64)
    alone = [permute(x[i : i + 1], n[i : i + 1], keys[:, i : i + 1])[0] for i in range(len(sizes))]
    assert permute(x, n, keys).tolist() == alone
    assert x.tolist() == [size // 2 for size in sizes]


@pytest.mark.parametrize("n", [7, 16, 37, 100])
def test_it_is_as_random_as_a_shuffle(n):
    """Over 20,000 keys, the images of elements, of pairs of neighbours, and their distances: χ² within five standard
    deviations, √(2 × degrees of freedom)."""
    times = 20_000
    y = permutations(n, times)
    places = np.stack([np.bincount(column, minlength=n) for column in y.T])
    pairs = np.bincount(y[:, 0] * n + y[:, 1], minlength=n * n).reshape(n, n)[~np.eye(n, dtype=bool)]
    distances = np.bincount((y[:, 1] - y[:, 0]) % n, minlength=n)[1:]
    for counts, freedom in ((places, (n - 1) ** 2), (pairs, pairs.size - 1), (distances, n - 2)):
        chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_of_few_things_all_orders_are_equally_likely(n):
    """χ² of the orders over 100,000 keys, as above."""
    times = 100_000
    counts = np.unique(permutations(n, times) @ n ** np.arange(n), return_counts=True)[1]
    assert len(counts) == factorial(n)
    mean, freedom = times / factorial(n), factorial(n) - 1
    assert abs(((counts - mean) ** 2 / mean).sum() - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [8, 24, 80])
def test_as_many_orders_are_odd_as_even(n):
    """By the number of pairs out of order; over 20,000 keys, within five standard deviations."""
    times = 20_000
    y = permutations(n, times)
    inversions = sum((y[:, i, None] > y[:, i + 1 :]).sum(axis=1) for i in range(n - 1))
    assert abs((inversions % 2).sum() - times / 2) < 5 * np.sqrt(times / 4)


def test_a_long_one_has_no_trace_of_its_order():
    """For 100,000 elements: no correlation of image with place, nor of successive steps, in any eighth of them; and as
    many steps rise as fall. Each bound is five standard deviations."""
    n = 100_000
    y = permutation(n, 1).astype(float)
    for part in (y, *np.split(y, 8)):
        m = len(part)
        assert abs(np.corrcoef(np.arange(m), part)[0, 1]) < 5 / np.sqrt(m)
        assert abs(np.corrcoef(part[:-1], part[1:])[0, 1]) < 5 / np.sqrt(m)
        assert abs((np.diff(part) > 0).mean() - 0.5) < 5 * np.sqrt(1 / 12 / m)
        low = (part < n / 2).sum()
        assert abs(low - m / 2) < 5 * np.sqrt(m / 4)
