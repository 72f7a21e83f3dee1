"""What is derived from memory that does not change is made once, and never stale."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinygrad_lm.unchanged import Unchanged, derived


class Made:
    """A copy of an array, and how many there have been."""

    number = 0

    def __init__(self, x):
        Made.number += 1
        threading.Event().wait(0.01)  # others may come meanwhile
        self.copy = x.copy()


def test_it_is_made_once_for_each_array_and_reading_of_it():
    memory = np.arange(12.0)
    weights, before = Unchanged(memory), Made.number
    for _ in range(3):
        with weights:
            for x in (memory[:6].reshape(2, 3), memory[:6].reshape(3, 2).T, memory[6:].reshape(2, 3), memory[:4]):
                assert (derived(Made, x).copy == x).all()
            assert derived(lambda x: "another", memory[:4]) == "another"
    assert Made.number == before + 4


def test_nothing_is_kept_outside_of_a_block_or_of_the_memory():
    memory = np.zeros(12)
    part = memory[2:10]
    with Unchanged(part):
        assert derived(Made, part) is not None
        for x in (memory, memory[1:4], memory[9:11], memory[:2], memory[10:], np.zeros(8)):
            assert derived(Made, x) is None
    assert derived(Made, part) is None


def test_what_changed_between_two_promises_is_seen():
    memory = np.zeros(3)
    for i in range(3):
        memory[:] = i
        with Unchanged(memory):
            assert (derived(Made, memory).copy == i).all()


def test_an_outer_block_serves_an_inner_one_and_other_memory_is_apart():
    one, two = np.zeros(3), np.ones(3)
    outer = Unchanged(one)
    with outer:
        found = derived(Made, one)
        with Unchanged(two), Unchanged(one) as _:
            assert derived(Made, one) is found
            assert (derived(Made, two).copy == 1).all()
        assert derived(Made, two) is None
        assert derived(Made, one) is found


@pytest.mark.slow
def test_it_is_dropped_with_the_promise_even_by_an_abandoned_generator():
    memory = np.zeros(3)

    def use():
        weights = Unchanged(memory)
        while True:
            with weights:
                made = weakref.ref(derived(Made, memory))
            yield made

    source = use()
    made = next(source)
    assert made() is next(source)() is not None
    assert derived(Made, memory) is None  # while the generator waits, its promise is at no work
    del source
    gc.collect()
    assert made() is None


def test_a_block_is_its_threads_own_and_several_threads_share_what_one_makes():
    memory, weights, before, meet = np.zeros(3), Unchanged(np.zeros(3)), Made.number, threading.Barrier(4)
    with Unchanged(memory), ThreadPoolExecutor(1) as pool:
        assert pool.submit(derived, Made, memory).result() is None

    def use(_):
        with weights:
            meet.wait()
            return derived(Made, weights.memory)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(map(id, pool.map(use, range(4))))) == 1
    assert Made.number == before + 1
