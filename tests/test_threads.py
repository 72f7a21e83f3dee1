"""Blocks of long arrays, worker threads, and the memory that a process has had."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.threads import blas, in_blocks, parallel, workers


@given(size=st.integers(0, 600_000), step=st.sampled_from([1000, 2**16]))
def test_blocks_cover_an_array_once_and_in_order(size, step):
    """In threads of their own or not."""
    for threads in (1, 2):
        with workers(threads):
            found = in_blocks(lambda here: here, size, step)
        assert [i for here in found for i in range(here.start, here.stop)] == list(range(size))
        assert all(here.stop - here.start <= step for here in found)


def test_parallel_is_map_with_workers_and_without():
    function = lambda a, b: a - b
    expected = [-1, 2, 9]
    assert parallel(function, [1, 5, 9], [2, 3, 0]) == expected
    with workers(2):
        assert parallel(function, [1, 5, 9], [2, 3, 0]) == expected
        with pytest.raises(ZeroDivisionError):
            parallel(lambda a: 1 / a, [1, 0])


def test_after_workers_all_is_as_before():
    """Within them BLAS has one thread; also where one block is in another, and where it ends with an exception."""

    def fail():
        with workers(2):
            with workers(1):
                assert blas.single
            assert blas.single
            parallel(lambda a: 1 / a, [0, 1])

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not blas.single
    names = parallel(lambda _: threading.current_thread().name, range(2))
    assert names == [threading.current_thread().name] * 2


def test_peak_memory_counts_what_was_used_and_given_back():
    program = (
        "import numpy; from tinygrad_lm.threads import peak_memory\n"
        "numpy.ones(2**27, numpy.uint8); print(peak_memory())"
    )
    command = [sys.executable, "-c", program]
    if sys.platform != "win32":  # Linux counts what forked the process, too: a shell, then, and not these tests
        command = ["sh", "-c", '"$0" "$@"; exit $?', *command]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert 2**27 < int(ended.stdout) < 2**30 or sys.platform == "win32"


FORKED = """
import os, signal, threading
from tinygrad_lm.threads import parallel, workers

with workers(2):
    both = threading.Barrier(2)
    parallel(lambda _: both.wait(10), range(2))  # now both threads are there
    if (child := os.fork()) == 0:
        signal.alarm(10)  # instead of waiting for ever
        os._exit(parallel(abs, [-3, -4]) != [3, 4])
    assert os.waitpid(child, 0)[1] == 0
    assert parallel(abs, [-5, -6]) == [5, 6]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_alone():
    """Of the threads of a pool it has none, as multiprocessing's processes on Linux before Python 3.14."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=100)
