"""All cores on one piece of work: every part is computed once, whoever comes to help and whenever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("numba")
together = import_module("tinygrad_lm.kernels.numba.together")
memory = import_module("tinygrad_lm.kernels.numba.memory")
compiled = import_module("tinygrad_lm.kernels.numba.compile").compiled


@together.Part
def note(work, part):
    """counts[part] += number, slowly."""
    counts = memory.integers(work[0], work[2])
    for _ in range(work[3]):
        memory.pause()
    counts[part] += work[1]


@compiled
def count_parts(counts, number, slowness, part, mailbox):
    work = np.empty(4, np.int64)
    work[0], work[1], work[2], work[3] = counts.ctypes.data, number, counts.size, slowness
    return together.lead(mailbox, part, work, counts.size)


@pytest.fixture
def partners(monkeypatch):
    """Three partners, on however many cores."""
    monkeypatch.setattr(together, "cores", lambda: 4)
    return together.Partners()


def test_each_part_is_computed_once(partners):
    for number in range(1, 300):
        counts = np.zeros(number % 40, np.int64)
        partners.work(count_parts, counts, number, number % 7, note.address)
        assert (counts == number).all()


@compiled
def lead_many(counts, pieces, slowness, part, mailbox):
    """How many parts were not there when their piece was said to be done."""
    missed = 0
    for number in range(1, pieces + 1):
        count_parts(counts, 1, slowness, part, mailbox)
        for count in counts:
            missed += count != number
    return missed


def test_nothing_is_missed_or_done_twice_in_many_pieces(partners):
    """One after the other, as fast as can be: partners come late, and early for the next piece."""
    missed = []
    for slowness in (0, 1, 20):
        count = lambda *arguments: missed.append(lead_many(*arguments)) or 0
        partners.work(count, np.zeros(9, np.int64), 3000, slowness, note.address)
    assert missed == [0, 0, 0]


def test_a_part_is_taken_only_of_the_piece_that_was_seen():
    """exchange writes if nobody was faster."""
    number = np.array([5])

    @compiled
    def swap(number, expected, value):
        return memory.exchange(number.ctypes.data, expected, value)

    assert swap(number, 5, 4)
    assert not swap(number, 5, 3)
    assert number[0] == 4


def test_partners_do_help(partners):
    """A leader that offers work and leaves it alone finds it done."""
    counts, work = np.zeros(5, np.int64), np.empty(4, np.int64)
    work[:] = counts.ctypes.data, 1, 5, 0
    partners.mailbox[[together.FUNCTION, together.ARGUMENTS, together.PARTS]] = note.address, work.ctypes.data, 5
    partners.mailbox[together.NEXT] = (1 << 32) + 5
    while partners.mailbox[together.DONE] < 5:
        partners.wake()
    assert (counts == 1).all()


def test_without_work_they_sleep_and_are_woken_again(partners):
    for _ in range(2):
        counts = np.zeros(9, np.int64)
        partners.work(count_parts, counts, 1, 0, note.address)
        assert (counts == 1).all()
        assert len(partners.wanted) == 3
        while any(wanted.is_set() for wanted in partners.wanted):
            pass


def test_one_core_has_no_partner(monkeypatch):
    monkeypatch.setattr(together, "cores", lambda: 1)
    partners, before, counts = together.Partners(), threading.active_count(), np.zeros(9, np.int64)
    partners.work(count_parts, counts, 2, 0, note.address)
    assert (counts == 2).all()
    assert (partners.wanted, threading.active_count()) == ([], before)


def test_several_threads_at_once(partners):
    def use(number):
        counts = np.zeros(30, np.int64)
        partners.work(count_parts, counts, number, 3, note.address)
        return (counts == number).all()

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(use, range(1, 200)))
    assert not partners.one_at_a_time.locked()


def test_partners_whose_cores_others_want_are_left_alone_for_a_while(partners, monkeypatch):
    """Where a part came late, or another thread is served; the clock is ours."""
    now, woken = [100.0], []
    monkeypatch.setattr(together.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(partners, "wake", lambda: woken.append(now[0]))
    piece = lambda waited: partners.work(lambda mailbox: waited)
    piece(together.LATE)
    piece(together.LATE + 1)
    assert woken == [100.0, 100.0]
    now[0] += together.REST / 2
    piece(together.LATE + 1)  # alone, so it does not count
    now[0] += together.REST
    piece(0)
    assert woken[2:] == [now[0]]
    with partners.one_at_a_time:
        piece(0)
    piece(0)
    assert len(woken) == 3
    now[0] += 2 * together.REST
    piece(0)
    assert len(woken) == 4
    assert not partners.one_at_a_time.locked()
