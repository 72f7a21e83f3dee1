"""Work on all cores: one thread a core, each with a whole piece of work."""

import ctypes
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

TOGETHER = 8  # cores that are at work on one piece at most: of a small one, more would rather fight for its parts
_pool = None
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h


class _Thread(threading.local):
    """is_worker: whether this is a thread of `workers`, so that other cores have others."""

    is_worker = False


this_thread = _Thread()
blas = SimpleNamespace(single=False)  # whether BLAS has one thread, since we are within `workers`: other cores are free


@contextmanager
def workers(n):
    """Within the block `parallel` computes n things at once.

    One thread a core, each with a whole piece of work and single-threaded BLAS, never waits for another: NumPy runs
    outside the interpreter's lock. Threads inside every small matrix product wait for each other instead, and
    for any other program that takes a core from one of them: measured 10 to 40 times slower then.
    """
    from threadpoolctl import threadpool_limits

    global _pool
    before, was_single = _pool, blas.single
    keep_memory()
    # One has no thread of its own: CuPy's current stream and allocator are those of the thread that chose them.
    marked = {"initializer": setattr, "initargs": (this_thread, "is_worker", True)}
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n, **marked) if n > 1 else nullcontext() as _pool:
        blas.single = True
        try:
            yield
        finally:
            _pool, blas.single = before, was_single


def after_fork(function):
    """Decorator: call function() in every process that is forked from this one, in which its threads are not."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=function)
    return function


@after_fork
def alone():
    """Let `parallel` compute in the thread that calls it: what waits for a pool without threads waits for ever."""
    global _pool
    _pool = None


def keep_memory():
    """Let the C library keep what is freed, in one place for all threads, for the arrays of the next training step.

    Otherwise glibc hands large arrays back to the system, and the system clears every page of the next ones: measured
    23,000 page faults and a tenth of the time of a step of `modern`. Memory in use at the peak is the same. Elsewhere
    nothing is done.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            library.mallopt(option, value)


def peak_memory():
    """The most memory that this process has had at once, in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def parallel(function, *arguments):
    """[function(x, ...) for x, ... in zip(*arguments)], at once if `workers` are there."""
    return list((_pool.map if _pool else map)(function, *arguments))


def in_blocks(function, size, step=2**16):
    """[function(here), ...] for slices of a flat array, short ones, whose entries stay in the cache.

    A few are computed in this thread, in less time than it takes to wake another.
    """
    slices = [slice(i, min(i + step, size)) for i in range(0, size, step)]
    return parallel(function, slices) if len(slices) > 4 else [function(here) for here in slices]


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
