"""CuPy's RawModule without a GPU: g++ and cuda_emulator.h compile a .cu file, and its kernels run on strict arrays.

    with emulated():
        y, backward = ops.silu.run(strict_array.asarray(x))

Importing this module registers the implementations for "cuda". Outside of `emulated()` a strict array that comes to one
is an AttributeError: there is no RawModule. With `kernels.disabled()` strict arrays are computed by the definitions.

Every array that a kernel gets is copied between closed pages first, so that a wild read or write is noticed; the few
bytes that alignment leaves before them hold NaN and must not change. A kernel that is launched with arguments of other
types than it has is refused. `order` chooses in which order threads and blocks take their turns, `capability` which GPU
it is, by its compute capability. `beside` has, for a source, those that g++ compiles with it: of ten that differ in a
line each it takes as long as of three. For matrix products there is fake_cublaslt.py.
"""

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import strict_array
import strict_capture
from fake_cublaslt import FakeCublasLt

from tinygrad_lm import kernels
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.cuda import compile as cuda_compile
from tinygrad_lm.kernels.cuda import cublaslt_plan as plans

kernels.register("cuda")
KERNELS = sorted(name for name, op in Op.registry.items() if ("cuda", "bfloat16") in op.implementations)
UNABLE = None if sys.platform == "linux" and shutil.which("g++") else "no g++ on Linux to emulate CUDA with"
LAUNCHED = set()  # the kernels that ran, by name, and the functions of cuBLASLt

HERE = Path(__file__).parent
PAGE, GUARD = mmap.PAGESIZE, 64 * mmap.PAGESIZE
TRAPS = "alignment,bounds,signed-integer-overflow,integer-divide-by-zero,shift,float-cast-overflow"
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-w", "-ffp-contract=off", f"-fsanitize={TRAPS}"]
FLAGS += ["-fsanitize-undefined-trap-on-error", "-U_FORTIFY_SOURCE"]  # which forbids to jump between stacks
order, capability, beside = 0, "90", {}
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def emulated():
    """Within the block the kernels of strict arrays run, and new arrays hold NaN until something is written."""
    if UNABLE:
        pytest.skip(UNABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_array, "RawModule", RawModule, raising=False)
        patch.setattr(strict_array.cuda, "Device", Device)
        patch.setattr(strict_array, "empty", lambda shape, dtype=float: poisoned(np.empty(shape, dtype)))
        patch.setattr(strict_array, "empty_like", lambda x: poisoned(np.empty(x.shape, x.dtype)))
        use_cublaslt(patch, FakeCublasLt(LAUNCHED))
        forget()
        yield patch
    forget()


def use_cublaslt(patch, fake):
    """Let products go there, and it know which addresses are arrays'."""
    patch.setattr(plans, "loaded", lambda: fake)
    patch.setattr(strict_array.ndarray, "data", property(lambda x: fake.saw(x._array)))


def forget():
    """Everything compiled, planned and set aside for another library."""
    for module, names in ((cuda_compile, "module compiled"), (plans, "library handle planned workspace")):
        for name in names.split():
            getattr(module, name).cache_clear()


def poisoned(array):
    flat(array)[:] = 0xFF
    return strict_array.wrap(array)


class LaunchError(RuntimeError):
    """A kernel did what it must not, or was called wrongly."""


class Device:
    id = 0
    compute_capability = property(lambda self: capability)


class RawModule:
    def __init__(self, *, code, options=()):
        codes, options = beside.get(code, [code]), [option for option in options if option.startswith("-D")]
        try:
            path = compiled(codes, options)
        except LaunchError:  # perhaps because of another one
            path = compiled(codes := [code], options)
        self.library, self.number = ctypes.CDLL(str(path)), codes.index(code)

    def get_function(self, name):
        kinds = ctypes.create_string_buffer(500)
        self.library[f"kinds_{self.number}_{name}"](kinds)
        size = ctypes.c_uint.in_dll(self.library, "dynamic_size")
        return Kernel(name, self.library[f"launch_{self.number}_{name}"], kinds.value.decode().split(), size)


class Kernel:
    def __init__(self, name, function, kinds, dynamic_size):
        self.name, self.function, self.kinds, self.dynamic_size = name, function, kinds, dynamic_size
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, args, *, shared_mem=0):
        strict_capture.noted("launch", self.launch, strict_array.ndarray)(grid, block, args, shared_mem)

    def launch(self, grid, block, args, shared_mem):
        LAUNCHED.add(self.name)
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise LaunchError(f"{self.name}: {shared_mem} bytes of shared memory are more than it may ask for")
        self.dynamic_size.value = shared_mem
        if len(args) != len(self.kinds):
            raise LaunchError(f"{self.name} has {len(self.kinds)} arguments, was given {len(args)}")
        guarded, values = {}, []  # what the kernel reads its arguments from
        for i, (x, kind) in enumerate(zip(args, self.kinds, strict=True)):
            if not fits(x, kind):
                raise LaunchError(f"{self.name}: argument {i} is {kind} in the source, was given {x!r}")
            if isinstance(x, strict_array.ndarray):
                if x.data.ptr not in guarded:
                    guarded[x.data.ptr] = Guarded(x._array)
                x = np.uintp(guarded[x.data.ptr].pointer)
            values.append(np.array(x))
        shape = ctypes.c_uint * 3
        message, address = ctypes.create_string_buffer(300), ctypes.c_size_t()
        wrong = self.function(
            shape(*grid, *[1] * (3 - len(grid))), shape(*block, *[1] * (3 - len(block))), order,
            (ctypes.c_void_p * len(args))(*(value.ctypes.data for value in values)), message, ctypes.byref(address),
        )  # fmt: skip
        problems = [message.value.decode()] if wrong else []
        if address.value:
            problems += [text for g in guarded.values() if (text := g.locate(address.value))]
        problems += [text for g in guarded.values() if (text := g.release())]
        if problems:
            raise LaunchError(f"{self.name}: " + "; ".join(problems))


def fits(x, kind):
    """Whether an argument is what the kernel's source says: arrays by the size of their entries, numbers by type."""
    if kind[0] == "p":
        null = isinstance(x, np.uint64) and x == 0
        return null or (isinstance(x, strict_array.ndarray) and x.dtype.itemsize == int(kind[1]))
    return isinstance(x, np.generic) and x.dtype == kind


class Guarded:
    """A copy of an array between two closed pages: its end as near to the second as its alignment allows."""

    def __init__(self, array):
        if not array.flags.c_contiguous:
            raise LaunchError(f"an array {array.shape} of strides {array.strides}; kernels take contiguous ones")
        self.array, self.size = array, array.nbytes
        self.pages = -(-(self.size + 16) // PAGE) * PAGE
        self.memory = mmap.mmap(-1, self.pages + 2 * GUARD)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        self.start = self.bytes.ctypes.data
        end = GUARD + self.pages
        self.bytes[GUARD:end] = 0xFF
        self.offset = end - self.size - (end - self.size - array.ctypes.data) % 16
        self.here = slice(self.offset, self.offset + self.size)
        self.bytes[self.here] = flat(array)
        self.pointer = self.start + self.offset
        for page in (self.start, self.start + end):
            assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(GUARD), 0) == 0

    def locate(self, address):
        if self.start <= address < self.start + len(self.bytes):
            return f"byte {address - self.pointer} of an array {self.array.shape} {self.array.dtype}"
        return None

    def release(self):
        """Copy back what changed. Returns what is wrong around the array, if anything."""
        changed = self.bytes[self.here]
        if not np.array_equal(changed, flat(self.array)):
            flat(self.array)[:] = changed
        around = (self.bytes[GUARD : self.offset], self.bytes[self.offset + self.size : GUARD + self.pages])
        damaged = any((part != 0xFF).any() for part in around)
        for page in (self.start, self.start + GUARD + self.pages):
            libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(GUARD), 3)
        return f"wrote beside an array {self.array.shape} {self.array.dtype}" if damaged else None


def flat(array):
    """Its bytes."""
    return array.reshape(-1).view(np.uint8)


def compiled(codes, options):
    """The shared library of sources, kept in __pycache__ until sources, options or emulator change.

    options: -DNAME=VALUE. They come after the emulator's header, which is compiled once for all.
    """
    constants = "".join(f"#define {option.removeprefix('-D').replace('=', ' ', 1)}\n" for option in options)
    more = "#if WGMMA\n#include <cuda_emulator_warpgroup.h>\n#endif\n"
    text = f"#include <cuda_emulator.h>\n{constants}{more}{''.join(map(in_namespace, range(len(codes)), codes))}"
    header = kept("cuda_emulator.h.gch", f'#include "{HERE}/cuda_emulator.h"\n', "-x", "c++-header")
    return kept("emulated.so", text, "-shared", "-I", str(header.parent), "-I", str(HERE), "-x", "c++")


def in_namespace(number, code):
    """A source in a namespace of its own, and the functions by which its kernels are launched."""
    kernels = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]+\)\s+)?(\w+)\(', code)
    tail = "".join(
        f'extern "C" void kinds_{number}_{name}(char* text) {{ emulator::kinds(source_{number}::{name}, text); }}\n'
        f'extern "C" int launch_{number}_{name}(const unsigned* grid, const unsigned* block, int order, void** args, '
        "char* message, uintptr_t* address) {\n"
        f"    return emulator::launch(source_{number}::{name}, grid, block, order, args, message, address);\n}}\n"
        for name in kernels
    )
    code = re.sub(r"extern __shared__ (\w+) (\w+)\[\];", r"static \1* \2 = (\1*)dynamic_shared;", code)
    code = code.replace('extern "C" __global__', "__global__")
    return f"namespace source_{number} {{\n{code}\n}}\n{tail}"


def kept(name, text, *options):
    """What g++ makes of a text, in a folder of __pycache__ that the text, the options and the emulator determine."""
    headers = "".join(path.read_text() for path in sorted(HERE.glob("cuda_emulator*.h")))
    digest = hashlib.sha256(f"{text}{options}{FLAGS}{headers}".encode()).hexdigest()[:20]
    path = HERE / "__pycache__" / f"emulated-{digest}" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source, partial = (path.with_suffix(f".{os.getpid()}.{kind}") for kind in ("cc", "partial"))
        source.write_text(text)
        command = ["g++", *FLAGS, *options, str(source), "-o", str(partial)]
        ended = subprocess.run(command, capture_output=True, text=True)
        source.unlink()
        if ended.returncode:
            raise LaunchError(f"g++ refuses the source:\n{ended.stderr[:3000]}")
        partial.replace(path)
    return path
