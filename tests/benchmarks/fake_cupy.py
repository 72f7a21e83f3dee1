"""As much of CuPy as benchmarks/gpu/place.py asks for, out of NumPy. test_gpu_place.py asks CuPy whether it has it."""

import types
from contextlib import contextmanager

import numpy as np

NAMES = """
    random.RandomState.standard_normal random.RandomState.randint cuda.Event.record cuda.Event.synchronize
    cuda.get_elapsed_time cuda.MemoryPool.malloc cuda.MemoryPool.free_all_blocks cuda.MemoryPointer.memset_async
    cuda.using_allocator cuda.Device.synchronize cuda.runtime.memGetInfo cuda.runtime.getDeviceProperties
    cuda.runtime.driverGetVersion cuda.runtime.runtimeGetVersion cuda.nvrtc.getVersion get_default_memory_pool
    cuda.MemoryHook.malloc_postprocess cuda.MemoryHook.free_postprocess cuda.MemoryHook.__enter__ ndarray.view
    ndarray.flags ndarray.copy
"""


class RandomState(np.random.RandomState):
    def standard_normal(self, size, dtype):
        return super().standard_normal(size).astype(dtype)


class Event:
    time = 0

    def record(self):
        Event.time += 1
        self.at = Event.time

    def synchronize(self):
        pass


class Memory:
    def __init__(self, size):
        self.bytes = np.zeros(size, np.uint8)

    def memset_async(self, value, size):
        self.bytes[:size] = value


class MemoryPool:
    def malloc(self, size):
        return Memory(size)

    def free_all_blocks(self):
        pass


class MemoryHook:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@contextmanager
def using_allocator(allocate):
    """Gives what the allocator allocates, for the test to look at."""
    yield allocate and allocate(8)


def module():
    properties = {"name": b"a card", "totalGlobalMem": 10**11, "multiProcessorCount": 132, "l2CacheSize": 6 * 10**7,
                  "major": 9, "minor": 0}  # fmt: skip
    runtime = types.SimpleNamespace(
        memGetInfo=lambda: (30, 100), getDeviceProperties=lambda device: properties,
        driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
    )  # fmt: skip
    fake = types.ModuleType("cupy")
    fake.random, fake.get_default_memory_pool = types.SimpleNamespace(RandomState=RandomState), MemoryPool
    fake.cuda = types.SimpleNamespace(
        is_available=lambda: True, Event=Event, MemoryPool=MemoryPool, MemoryHook=MemoryHook, runtime=runtime,
        get_elapsed_time=lambda a, b: float(b.at - a.at), using_allocator=using_allocator,
        Device=lambda: types.SimpleNamespace(synchronize=lambda: None),
        nvrtc=types.SimpleNamespace(getVersion=lambda: (13, 0)),
    )  # fmt: skip
    return fake
