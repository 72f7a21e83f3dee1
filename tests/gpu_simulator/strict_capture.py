"""CUDA streams and graphs for strict_array.py: while a stream captures, calls are noted, and a replay makes them again.

Nothing is computed meanwhile: what changes an array waits for the replay, and what makes one leaves only its shape to
rely on. What CUDA forbids is a CaptureError: to read something back, to copy from the host, and what CuPy computes by
cuBLAS. A replay computes each result anew from the same arrays with the same other arguments, and puts it where the
first one was: a number that should have changed, but was an argument, stays what it was.
"""

import functools
import threading
import types
from contextlib import nullcontext

import numpy as np

READS = ["get", "item", "tolist", "__bool__", "__int__", "__float__", "__index__"]
COPIES = ["array", "asarray", "asnumpy"]
NOT_CAPTURED = ["__matmul__", "vdot"]
NOT_NOTED = ["host", "array_of", "wrap", "index_of", "binary", "unary", "in_place", "of_shape", "of_array", "of_arrays"]
IN_PLACE = [
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__ifloordiv__",
    "__imod__",
    "__ipow__",
    "__setitem__",
    "fill",
    "at",
    "launch",
]
QUIET = ["__len__", "__iter__", "__repr__", "__array__", "__array_function__"]

tape = None  # what has been called since a stream began to capture


class CaptureError(RuntimeError):
    """cudaErrorStreamCaptureUnsupported, or an exception of CuPy's own."""


def watch(module):
    """Make the module's functions, ufuncs and array methods note their calls; give it a namespace `cuda`."""
    array = module["ndarray"]
    for name, value in list(vars(array).items()):
        if isinstance(value, types.FunctionType) and name not in QUIET:
            setattr(array, name, noted(name, value, array))
    for name, value in list(module.items()):
        if isinstance(value, types.FunctionType) and name not in NOT_NOTED:
            module[name] = noted(name, value, array)
    ufunc, adding = module["ufunc"], module["adding"]
    ufunc.__call__, adding.at = noted("ufunc", ufunc.__call__, array), noted("at", adding.at, array)
    module["cuda"] = types.SimpleNamespace(
        is_available=lambda: True,
        Device=lambda: types.SimpleNamespace(id=0),
        Stream=Stream,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        get_current_stream=lambda: current.stream,
        using_allocator=lambda malloc: nullcontext(),
    )


def noted(name, function, array):
    """The function, noted while a stream captures."""

    @functools.wraps(function)
    def called(*args, **options):
        global tape
        if tape is None or current.stream is not tape.stream:
            return function(*args, **options)
        from_host = name in COPIES and not isinstance(args[0], array)
        if name in READS or name in NOT_CAPTURED or from_host:
            raise CaptureError(f"{name}: operation not permitted when stream is capturing")
        if name in IN_PLACE or name.startswith("__i"):
            result = args[0] if name.startswith("__i") else None
        elif options.get("out") is not None:
            result = options["out"]
        else:
            before, tape = tape, None  # what it calls in its turn is part of it
            try:
                with np.errstate(all="ignore"):
                    result = function(*args, **options)
            finally:
                tape = before
        tape.append((function, args, options, result))
        return result

    return called


class Stream:
    def __init__(self, non_blocking=False):
        self.non_blocking, self.before = non_blocking, []
        self.ptr = id(self)

    def __enter__(self):
        self.before.append(current.stream)
        current.stream = self
        return self

    def __exit__(self, *error):
        current.stream = self.before.pop()

    def record(self):
        return object()

    def wait_event(self, event):
        pass

    def synchronize(self):
        if tape is not None:
            raise CaptureError("synchronize: operation not permitted when stream is capturing")

    def begin_capture(self):
        global tape
        if not self.non_blocking or current.stream is not self:
            raise CaptureError("the stream that captures must be non-blocking and the current one")
        tape = Tape(self)

    def end_capture(self):
        global tape
        captured, tape = tape, None
        return Graph(captured)


class Tape(list):
    """What was launched into a stream."""

    def __init__(self, stream):
        self.stream = stream


class Current(threading.local):
    """Each thread has a current stream of its own: what one thread captures, another does not launch into."""

    def __init__(self):
        self.stream = Stream()


current = Current()


class Graph:
    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream=None):
        for function, args, options, result in self.calls:
            again = function(*args, **options)
            for old, new in zip(*(x if isinstance(x, list) else [x] for x in (result, again)), strict=True):
                if old is not None and old is not new:
                    old._array[...] = new._array
