"""Where the parts run: on the GPU at hand, or without one, for a rehearsal at tiny sizes that shows that all works.

Both offer `xp`, an array library with CUDA kernels; `torch`, the name of PyTorch's device; `tiny`, whether sizes are;
random numbers; a clock; and how much memory is taken.
"""

import gc
import statistics
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ml_dtypes
import numpy as np

from tinygrad_lm import backend, kernels
from tinygrad_lm.kernels.cuda import cublaslt_plan as cuda_cublaslt_plan
from tinygrad_lm.kernels.cuda import driver

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


class Gpu:
    """The first GPU, through CuPy. DeviceError where there is none."""

    tiny, torch = False, "cuda"

    def __init__(self):
        driver.resolve_device("cuda")
        import cupy

        self.xp, self.nan_pool = cupy, cupy.cuda.MemoryPool()
        kernels.enable()

    def normal(self, seed, shape, dtype="float32"):
        return self.xp.random.RandomState(seed).standard_normal(shape, "f4").astype(DTYPES[dtype])

    def integers(self, seed, high, shape):
        return self.xp.random.RandomState(seed).randint(0, high, shape).astype("i4")

    def same(self, a, b):
        """Whether two arrays are equal bit for bit."""
        a, b = (x.view(f"u{x.dtype.itemsize}") for x in (a, b))
        return bool((a == b).all())

    def synchronize(self):
        """Wait for all streams, PyTorch's too. Raises what went wrong on them."""
        self.xp.cuda.Device().synchronize()

    def seconds(self, function, repeats=20):
        """The median time of a call on the device, after three calls to warm up."""
        start, stop, found = self.xp.cuda.Event(), self.xp.cuda.Event(), []
        for _ in range(repeats + 3):
            start.record()
            function()
            stop.record()
            stop.synchronize()
            found.append(self.xp.cuda.get_elapsed_time(start, stop) / 1e3)
        return statistics.median(found[3:])

    def start(self):
        """From here: a function that ends the span, and returns one that gives its microseconds when it is over."""
        begin, end = self.xp.cuda.Event(), self.xp.cuda.Event()
        begin.record()

        def stop():
            end.record()
            return lambda: self.xp.cuda.get_elapsed_time(begin, end) * 1e3

        return stop

    def poisoned(self):
        """Within the block new arrays hold NaN until something is written."""

        def allocate(size):
            memory = self.nan_pool.malloc(size)
            memory.memset_async(0xFF, size)
            return memory

        return self.xp.cuda.using_allocator(allocate)

    def unpooled(self):
        """Within the block each array has its own allocation, whose ends compute-sanitizer knows."""
        return self.xp.cuda.using_allocator(None)

    def taken(self):
        """Bytes of the device that are given out, to whichever library."""
        free, total = self.xp.cuda.runtime.memGetInfo()
        return total - free

    def release(self):
        """Free what the pools hold unused."""
        gc.collect()  # a Trainer and its steps know each other
        self.nan_pool.free_all_blocks()
        self.xp.get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    def watched(self):
        """A context; `most` of what it gives is the most bytes that CuPy's arrays had at once within the block."""
        return watcher(self.xp.cuda.MemoryHook)


class Rehearsed:
    """The tests' emulator instead of a GPU, and PyTorch on the processor. Its times say nothing."""

    tiny, torch = True, "cpu"

    def __init__(self, xp):
        self.xp = xp

    def normal(self, seed, shape, dtype="float32"):
        return self.xp.asarray(np.random.default_rng(seed).standard_normal(shape).astype(DTYPES[dtype]))

    def integers(self, seed, high, shape):
        return self.xp.asarray(np.random.default_rng(seed).integers(0, high, shape).astype("i4"))

    def same(self, a, b):
        return a.get().tobytes() == b.get().tobytes()

    def synchronize(self):
        pass

    def seconds(self, function, repeats=20):
        began = time.perf_counter()
        function()
        return time.perf_counter() - began

    def start(self):
        began = time.perf_counter()

        def stop():
            took = time.perf_counter() - began
            return lambda: took * 1e6

        return stop

    def poisoned(self):
        return nullcontext()  # the emulator's new arrays always are

    unpooled = poisoned

    def taken(self):
        return 0

    def release(self):
        pass

    def watched(self):
        return nullcontext(watcher(object))


@contextmanager
def rehearsal():
    """A Rehearsed place, with tests/gpu_simulator/cuda_emulator.py in the place of CuPy."""
    tests = Path(__file__).parents[2] / "tests"
    sys.path += [str(tests / "helpers"), str(tests / "gpu_simulator")]
    import cuda_emulator
    import strict_array

    with cuda_emulator.emulated() as patch:
        patch.setattr(backend, "_cupy", lambda: strict_array)
        patch.setattr(cuda_cublaslt_plan, "milliseconds", lambda xp, launch: launch() or 0.0)
        kernels.enable()
        yield Rehearsed(strict_array)


def watcher(MemoryHook):
    class Watcher(MemoryHook):
        name = "most at once"
        now = most = 0

        def malloc_postprocess(self, **event):
            self.now += event["mem_size"]
            self.most = max(self.most, self.now)

        def free_postprocess(self, **event):
            self.now -= event["mem_size"]

    return Watcher()
