"""CUDA's runtime and driver without a GPU, under CuPy's names for their functions, in STAND_INS.

Memory is the host's, and copies copy. A launch computes nothing: it is checked against what CUDA and the compiled
kernel allow, and noted in `calls`. For use see cupy_without_a_driver.py.
"""

import bisect
import ctypes
import itertools
import math
from typing import NamedTuple

import cubin
import numpy as np

SHARED, DYNAMIC_SHARED_SIZE = 48 * 1024, 8  # bytes without asking; CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
LARGEST_SHARED, RESERVED = 227 * 1024, 1024  # Hopper's: of a block in all, and what CUDA takes of it itself
REGISTERS = 2**16
LOOKED_AT = 2**20  # bytes of an array that tests read; the rest of what is filled takes no memory
DEVICE = {"major": 9, "minor": 0, "name": b"none", "multiProcessorCount": 132, "maxThreadsPerBlock": 1024}
DEVICE |= {"sharedMemPerBlock": SHARED, "warpSize": 32, "maxThreadsPerMultiProcessor": 2048, "totalGlobalMem": 2**37}
ATTRIBUTES = {1: 1024, 8: SHARED, 10: 32, 16: 132, 39: 2048, 75: 9, 76: 0}  # cudaDeviceAttr


class Call(NamedTuple):
    name: str  # CuPy's, of a function of CUDA's; of copies from where to where, too
    stream: int | None
    capturing: bool
    kernel: str = ""
    grid: tuple = ()
    block: tuple = ()
    pointers: tuple = ()  # to device memory, wherever they stand among the arguments, in structures too
    numbers: tuple = ()  # the other arguments, but for structures, of which CuPy leaves parts unset


calls = []
memory, starts, pinned = {}, [], {}  # the device's, arrays by address; its addresses in order; the host's
capturing, handles = set(), itertools.count(4096, 16)
modules, functions, dynamic_shared = {}, {}, {}


def note(name, stream=None, **more):
    calls.append(Call(name, stream, bool(capturing), **more))


def owned(address):
    """Whether an address is one of device memory."""
    place = bisect.bisect_right(starts, address) - 1
    return place >= 0 and address < starts[place] + memory[starts[place]].nbytes - 512


def aligned(size, place):
    array = np.zeros(size + 512, np.uint8)  # zeros that nobody touches take no memory
    address = -(-array.ctypes.data // 512) * 512
    place[address] = array
    return address


def malloc(size, *_):
    bisect.insort(starts, address := aligned(size, memory))
    return address


def free(address, *_):
    del memory[address]
    starts.remove(address)


def copy(to, source, size, *_):
    ctypes.memmove(to, source, size)


def fill(address, value, size, *_):
    ctypes.memset(address, value, min(size, LOOKED_AT))


def end_capture(stream, *_):
    capturing.remove(stream)
    return next(handles)


def load(code, *_):
    modules[handle := next(handles)] = cubin.kernels(code)
    return handle


def get_function(module, name, *_):
    functions[handle := next(handles)] = modules[module][name.decode() if isinstance(name, bytes) else name]
    return handle


def set_attribute(function, attribute, value, *_):
    if attribute == DYNAMIC_SHARED_SIZE:
        dynamic_shared[function] = value


def launch(function, *arguments):
    """Six sizes, bytes of shared memory, stream, address of the addresses of the kernel's arguments."""
    grid, block, (shared, stream, parameters) = arguments[:3], arguments[3:6], arguments[6:9]
    kernel = functions[function]
    check(kernel, grid, block, shared, dynamic_shared.get(function, SHARED))
    places = (ctypes.c_void_p * len(kernel.parameters)).from_address(parameters) if kernel.parameters else ()
    values = [ctypes.string_at(place, size) for place, size in zip(places, kernel.parameters, strict=True)]
    words = [[int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value), 8)] for value in values]
    pointers = tuple(word for some in words for word in some if owned(word))
    numbers = tuple(some[0] for some in words if len(some) == 1 and not owned(some[0]))
    note("launch", stream, kernel=kernel.name, grid=grid, block=block, pointers=pointers, numbers=numbers)


def check(kernel, grid, block, shared, dynamic):
    """What CUDA refuses is an AssertionError. CUDA programming guide, technical specifications of compute capabilities.

    shared: bytes asked for at the launch; dynamic: the most that may be asked for.
    """
    threads, (x, y, z) = math.prod(block), grid
    assert min(grid) > 0, f"{kernel.name}: {grid} blocks"
    assert max(x / 2**15, y, z) < 2**16, f"{kernel.name}: {grid} blocks"
    assert 0 < threads <= kernel.threads, f"{kernel.name}: {block} threads, {kernel.threads} allowed"
    warp = -(-32 * kernel.registers // 256) * 256  # given in packets
    assert -(-threads // 32) * warp <= REGISTERS, f"{kernel.name}: {threads} threads of {kernel.registers} registers"
    assert shared <= dynamic, f"{kernel.name}: {shared} bytes of shared memory at the launch, {dynamic} allowed"
    limit = max(SHARED, dynamic) if shared else SHARED
    assert kernel.shared + shared <= min(limit, LARGEST_SHARED) + RESERVED, f"{kernel.name}: {kernel.shared} + {shared}"


STAND_INS = {
    "getDeviceCount": lambda *_: 1, "ctxGetCurrent": lambda *_: 1, "_getCUDAMajorVersion": lambda *_: 13,
    "runtimeGetVersion": lambda *_: 13020, "driverGetVersion": lambda *_: 13020,
    "deviceGetAttribute": lambda attribute, *_: ATTRIBUTES.get(attribute, 1), "getDeviceProperties": lambda *_: DEVICE,
    "memGetInfo": lambda *_: (2**36, 2**37), "deviceGetPCIBusId": lambda *_: "0",
    "malloc": malloc, "free": free,
    "hostAlloc": lambda size, *_: aligned(size, pinned), "freeHost": lambda address, *_: pinned.pop(address),
    "memcpy": copy, "memcpyAsync": copy, "memset": fill, "memsetAsync": fill,
    "eventCreate": lambda *_: next(handles), "eventCreateWithFlags": lambda *_: next(handles),
    "eventElapsedTime": lambda *_: 1.0,
    "streamCreate": lambda *_: next(handles), "streamCreateWithFlags": lambda *_: next(handles),
    "streamCreateWithPriority": lambda *_: next(handles),
    "streamIsCapturing": lambda stream, *_: stream in capturing,
    "streamBeginCapture": lambda stream, *_: capturing.add(stream), "streamEndCapture": end_capture,
    "graphInstantiate": lambda *_: next(handles),
    "moduleLoadData": load, "moduleGetFunction": get_function, "launchKernel": launch,
    "funcSetAttribute": set_attribute,
}  # fmt: skip
NOTHING = {  # nothing to do, nothing to return
    "eventRecord", "eventQuery", "eventSynchronize", "eventDestroy", "streamWaitEvent", "streamQuery",
    "streamSynchronize", "deviceSynchronize", "streamDestroy", "graphLaunch", "graphUpload", "graphDestroy",
    "graphExecDestroy", "moduleUnload", "getDevice", "setDevice", "_ensure_context", "ctxGetDevice",
    "pointerGetMemoryType", "profilerStart", "profilerStop",
}  # fmt: skip
