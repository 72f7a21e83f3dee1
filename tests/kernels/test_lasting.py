"""Memory for what is kept for long: arrays side by side in large pieces, which are freed with the last of them."""

import gc
import threading
import weakref
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("numba")
Lasting = import_module("tinygrad_lm.kernels.bfloat16.lasting").Lasting
CHUNK = import_module("tinygrad_lm.kernels.bfloat16.lasting").CHUNK


def spans(arrays):
    """Where arrays begin and end."""
    return sorted((x.ctypes.data, x.ctypes.data + x.nbytes) for x in arrays)


def test_arrays_lie_beside_each_other():
    new = Lasting()
    arrays = [new((n, 3), np.uint16) for n in range(1, 60)]
    for n, x in enumerate(arrays, 1):
        x[...] = n
    for n, x in enumerate(arrays, 1):
        assert x.shape == (n, 3)
        assert x.flags.c_contiguous
        assert x.ctypes.data % 64 == 0
        assert (x == n).all()
    found = spans(arrays)
    assert all(0 <= begin - end < 64 for (_, end), (begin, _) in pairwise(found))


def test_none_reaches_beyond_its_memory():
    """Also where the rest of a chunk is too small, or a whole one is."""
    new = Lasting()
    arrays = [new((n,), np.uint8) for n in (CHUNK - 1000, 900, 90, 500, 3 * CHUNK, 100)]
    for x in arrays:
        begin = x.base.ctypes.data
        assert begin <= x.ctypes.data <= x.ctypes.data + x.nbytes <= begin + x.base.nbytes
    found = spans(arrays)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(found))
    assert len({x.base.ctypes.data for x in arrays}) == 4


def test_memory_is_freed_with_the_last_of_its_arrays():
    new = Lasting()
    one, two = new((9,), np.uint8), new((9,), np.uint8)
    memory = weakref.ref(one.base)
    del one
    gc.collect()
    assert memory() is two.base
    del two
    gc.collect()
    assert memory() is None
    assert new((9,), np.uint8).size == 9


def test_threads_get_memory_of_their_own():
    """Also where another one begins a chunk while one has just looked which is the last."""
    new, found = Lasting(), []
    found.append(new((CHUNK - 1000,), np.uint8))
    last, other = new.chunk, threading.Thread(target=lambda: found.append(new((2000,), np.uint8)))

    def interrupted():
        new.chunk = last
        other.start()
        other.join(0.2)
        return last()

    new.chunk = interrupted
    found.append(new((100,), np.uint8))
    other.join()
    assert len(found) == 3
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans(found)))
