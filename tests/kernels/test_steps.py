"""Pieces of work that are written down and done by one call: what they are when they are asked for one by one."""

import gc
import sys
import weakref
from importlib import import_module

import numpy as np
import pytest

from tinygrad_lm.engine.observe import within

pytest.importorskip("numba")
together = import_module("tinygrad_lm.kernels.numba.together")
steps = import_module("tinygrad_lm.kernels.numba.steps")
memory = import_module("tinygrad_lm.kernels.numba.memory")


@together.shared
def reverse(start, stop, x, y, number, counts, slowness):
    """y = x backwards, plus a number: each part needs what another one wrote in the piece before."""
    for i in range(start, stop):
        for _ in range(slowness):
            memory.pause()
        y[i] = x[x.size - 1 - i] + number
        counts[i] += 1


@pytest.fixture(params=[1, 4])
def partners(request, monkeypatch):
    """No partner and three, on however many cores, and parts of one thing each."""
    monkeypatch.setattr(together, "cores", lambda: request.param)
    monkeypatch.setattr(together, "PARTS", 1000)
    monkeypatch.setattr(together, "partners", together.Partners())
    monkeypatch.setattr(steps, "partners", together.partners)
    return together.partners


def chain(n, size, least=1):
    """n pieces, each of which takes the result of the one before, in turns forth and back between two arrays."""
    pieces, arrays, counts = steps.Steps(), np.zeros((2, size), np.int64), np.zeros(size, np.int64)
    arrays[0] = np.arange(size)
    for number in range(n):
        pieces.add(reverse, size, least, arrays[number % 2], arrays[(number + 1) % 2], number, counts, number % 3)
    pieces.done()
    return pieces, arrays, counts


@pytest.mark.parametrize(("size", "least"), [(0, 1), (1, 1), (7, 1), (40, 1), (40, 40)])
def test_pieces_are_done_in_order_as_often_as_they_are_asked_for(partners, size, least):
    """By three partners, or alone; also where a piece has one part, or none."""
    pieces, arrays, counts = chain(20, size, least)
    for turn in range(1, 100):
        with within(products="/bfloat16"):
            pieces()
        assert (arrays[0] == np.arange(size) + turn * sum(range(20))).all()
        assert (counts == 20 * turn).all()
    assert len(partners.wanted) in (together.cores() - 1, 0)


def test_pieces_that_need_nothing_of_each_other_are_one(partners):
    """The parts of all, of one and of none: each is computed once, by whichever thread."""
    pieces, first, _ = chain(1, 5)
    sizes, counts = (3, 0, 1, 20), []
    pieces.table = list(pieces.table)
    for size in sizes:
        counts.append(np.zeros(size, np.int64))
        pieces.add(reverse, size, 1, np.arange(size), np.zeros(size, np.int64), 1, counts[-1], size % 3)
    pieces.together(len(sizes))
    pieces.done()
    assert pieces.table[:, steps.PARTS].tolist() == [5, 24]
    for turn in range(1, 100):
        first[1] = 0
        with within(products="/bfloat16"):
            pieces()
        assert all((each == turn).all() for each in counts)
        assert first[1].tolist() == [4, 3, 2, 1, 0]


def test_their_arrays_are_kept_and_let_go():
    x, y, counts = np.arange(5), np.zeros(5, np.int64), np.zeros(5, np.int64)
    pieces, watched = steps.Steps(), weakref.ref(x)
    pieces.add(reverse, 5, 1, x, y, 1, counts, 0)
    pieces.done()
    before = sys.getrefcount(y)
    del x
    gc.collect()
    for _ in range(100):
        pieces()
    assert y.tolist() == [5, 4, 3, 2, 1]
    assert watched().tolist() == [0, 1, 2, 3, 4]
    assert sys.getrefcount(y) == before
    del pieces
    assert watched() is None


def test_what_is_kept_owns_no_array():
    """Numba counts who uses an array, in memory that is gone after the call in which the array was handed over.

    Of an array come an owner, the object it belongs to, how many numbers, of how many bytes, and where they lie.
    """
    pieces, arrays, counts = chain(1, 5)
    room, _ = pieces.kept[0]
    for array in (*arrays, counts):
        (place,) = np.flatnonzero(room == array.ctypes.data)
        assert room[place - 4 : place].tolist() == [0, 0, array.size, array.itemsize]


def test_the_arguments_must_find_room(monkeypatch):
    monkeypatch.setattr(steps, "ROOM", 20)
    with pytest.raises(ValueError, match="reverse: its arguments are too long"):
        chain(1, 5)


def test_once_late_partners_are_left_alone_until_the_end(monkeypatch):
    """And the lateness is reported: see test_together.py for what follows from that."""
    waited, mailboxes, alone = iter([0, together.LATE + 7, 0]), [], []
    monkeypatch.setattr(steps, "lead", lambda mailbox, *piece: mailboxes.append(mailbox) or next(waited))
    monkeypatch.setattr(steps, "compute", lambda *piece: alone.append(piece))
    table, mailbox = np.array([[1, 2, 3], [4, 5, 1], [6, 7, 8], [9, 10, 0], [11, 12, 2]]), np.zeros(32, np.int64)
    assert steps.perform.py_func(0, 0, 0, mailbox, table) == together.LATE + 7
    assert [found is mailbox for found in mailboxes] == [True, True, False]
    assert mailboxes[2].shape == mailbox.shape
    assert alone == [(4, 5, 0)]


def test_partners_help_where_they_may(monkeypatch):
    used, (pieces, *_) = [], chain(1, 5)
    monkeypatch.setattr(steps.partners, "work", lambda *arguments: used.append("work"))
    monkeypatch.setattr(steps.partners, "alone", lambda *arguments: used.append("alone"))
    for allowed in (True, False):
        monkeypatch.setattr(steps.partners, "allowed", lambda allowed=allowed: allowed)
        pieces()
    assert used == ["work", "alone"]
