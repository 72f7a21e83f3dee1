"""CUDA graphs: launches recorded once and replayed, so that a GPU does not wait for Python."""

from contextlib import suppress

WARM_UP = 2  # calls that load modules, choose algorithms and fill the pool, none of which can be done while recording


class Graph:
    """graph(function): what a function without arguments launches, which must be the same work on the same arrays at
    every call.

    The first calls run it; the next one records what it launches, and from then on the recording is replayed: numbers
    that differ from call to call must be read from memory on the GPU. While it is recorded nothing may be read back,
    copied from the host, or computed by CuPy's cuBLAS: that raises CUDA's error, and nothing is recorded.

    Everything runs on a separate stream, with memory from a separate pool: what the recording uses must not be handed
    out again.
    """

    def __init__(self, xp):
        self.xp, self.calls, self.recorded = xp, 0, None
        self.stream, self.pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()

    def __call__(self, function):
        others = self.xp.cuda.get_current_stream()
        before = others.record()  # what was launched before comes first
        self.stream.wait_event(before)
        with self.stream:
            if self.recorded is None and self.calls >= WARM_UP:
                self.recorded = self.record(function)
            if self.recorded is None:
                self.run(function)
            else:
                self.recorded.launch(self.stream)
        self.calls += 1
        others.wait_event(self.stream.record())

    def run(self, function):
        with self.xp.cuda.using_allocator(self.pool.malloc):
            function()

    def record(self, function):
        self.stream.begin_capture()
        try:
            self.run(function)
        except BaseException:
            with suppress(Exception):  # it fails too then, with a less useful error
                self.stream.end_capture()
            raise
        return self.stream.end_capture()
