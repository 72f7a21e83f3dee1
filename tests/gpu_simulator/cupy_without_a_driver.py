"""The real CuPy, its memory pools, streams, graphs and NVRTC, on a machine without a GPU and its driver.

Importing this module puts fake_cuda.py where CuPy calls the CUDA runtime and the driver, and fake_cublaslt.py where
we call cuBLASLt, and leaves them there: it is for a process of its own, before CuPy is imported. In Cython a module's
functions are called through capsules in its __pyx_capi__; those are exchanged.

It shows what CuPy does with our calls: that kernels compile and are found, in which stream, pool and capture things
are done, what waits or copies, what memory a graph is left with. It shows no number that a kernel computes (all memory
handed out holds zeros), and no order in which a GPU does things. What CuPy has in compiled C++ is not here: its sums
are CuPy's own kernels instead of CUB's, and sorting, which is Thrust's, fails.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from importlib import import_module, util
from pathlib import Path

from fake_cublaslt import FakeCublasLt
from fake_cuda import NOTHING, STAND_INS, fill, note, owned

from tinygrad_lm.kernels.cuda import cublaslt_plan as cuda_cublaslt_plan

folder = tempfile.TemporaryDirectory()
os.environ.setdefault("CUPY_CACHE_DIR", folder.name)
os.environ["CUPY_ACCELERATORS"] = ""  # no CUB

from cupy_backends.cuda.api import driver, runtime  # noqa: E402

C = {"PyObject *": ctypes.py_object, "int": ctypes.c_int, "intptr_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t}
C |= {"unsigned int": ctypes.c_uint, "float": ctypes.c_float, "uintmax_t": ctypes.c_size_t, "CUdevice": ctypes.c_int}
NOT_REPLACED = {"check_status", "memPoolCreate", "get_build_version"}
# Asked too often to be noted; a launch is noted with more.
QUIET = {"getDevice", "getDeviceCount", "setDevice", "streamIsCapturing", "deviceGetAttribute", "_ensure_context"}
QUIET |= {"runtimeGetVersion", "driverGetVersion", "_getCUDAMajorVersion", "ctxGetCurrent", "ctxGetDevice"}
QUIET |= {"pointerGetMemoryType", "launchKernel"}
STREAM = {
    "memcpyAsync": 4,
    "memsetAsync": 3,
    "eventRecord": 1,
    "streamWaitEvent": 0,
    "graphLaunch": 1,
}  # which argument
ADDRESSES = {"memcpyAsync": 2, "memsetAsync": 1, "memcpy": 2, "memset": 1}  # how many arguments are some
DIRECTIONS = ["on the host", "to or from the host", "on the device"]  # of a copy, by how many of its ends are there
new, name_of = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetName
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
refused, kept = [], []  # what went wrong in a stand-in; what C calls must not be freed


def stand_in(name, nothing):
    """The function that is called instead."""
    function = STAND_INS.get(name, (lambda *_: nothing) if name in NOTHING else None)

    def called(*arguments):
        if name not in QUIET:
            pointers = tuple(filter(owned, arguments[: ADDRESSES.get(name, 0)]))
            direction = f" {DIRECTIONS[len(pointers)]}" if "memcpy" in name else ""
            note(name + direction, arguments[STREAM[name]] if name in STREAM else None, pointers=pointers)
        try:
            assert function, "has no stand-in"
            return function(*arguments)
        except BaseException as error:  # which C could not pass on
            refused.append(f"{name}: {type(error).__name__}: {error}")
            return nothing

    return called


def replace(module):
    for name, capsule in list(module.__pyx_capi__.items()):
        declared = name_of(capsule)  # "intptr_t (size_t, int __pyx_skip_dispatch)"
        parts = re.fullmatch(r"(.*?)\s*\((.*)\)", declared.decode())
        if not parts or name in NOT_REPLACED:
            continue
        types = [parts[1].strip(), *(text.removesuffix("__pyx_skip_dispatch").strip() for text in parts[2].split(","))]
        types = [ctypes.c_void_p if "struct " in text else C.get(text) for text in types if text != "void"]
        if None in types:  # structures by value, of which we use none
            continue
        called = stand_in(name, None if types[0] is ctypes.py_object else 0)
        kept.extend((in_c := ctypes.PYFUNCTYPE(*types)(called), label := ctypes.create_string_buffer(declared)))
        module.__pyx_capi__[name] = new(ctypes.cast(in_c, ctypes.c_void_p), ctypes.addressof(label), None)
        if hasattr(module, name):
            setattr(module, name, called)


def empty_cublas():
    """A libcublas whose functions do nothing: CuPy is linked with it, for products in float64."""
    wanted = next(Path(util.find_spec("cupy_backends.cuda.libs").origin).parent.glob("cublas.*.so")).read_bytes()
    names = sorted(set(re.findall(rb"\0(cublas[A-Z]\w+)", wanted)))
    soname = re.search(rb"libcublas\.so\.\d+", wanted)[0].decode()
    source, versions, library = (Path(folder.name, name) for name in ("cublas.c", "versions", soname))
    source.write_text("".join(f"int {name.decode()}(void) {{ return 0; }}\n" for name in names))
    versions.write_text(f"{soname} {{ global: *; }};")
    options = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{soname}", f"-Wl,--version-script={versions}"]
    subprocess.run(["gcc", *options, "-o", library, source], check=True)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import_module("cupy_backends.cuda.libs.cublas")


class CublasLt(FakeCublasLt):
    """Refuses what the fake refuses, on any device memory; computes nothing."""

    def guarded(self, name, function):
        answer = super().guarded(name, function)

        def noted(*arguments):
            pointers = tuple(x for x in arguments if isinstance(x, int) and owned(x))
            note(f"cublasLt{name}", arguments[-1] if name == "Matmul" else None, pointers=pointers)
            return answer(*arguments)

        return noted

    def span(self, pointer, bytes):
        assert owned(pointer), "beside the arrays"
        assert owned(pointer + bytes - 1), "over the end of the arrays"
        return (ctypes.c_uint8 * bytes).from_address(pointer)

    def compute(self, *arguments):
        pass


for _module in (runtime, driver):
    replace(_module)
empty_cublas()
_cublaslt = CublasLt(set())
cuda_cublaslt_plan.loaded = lambda: _cublaslt

import cupy  # noqa: E402


class Owners(cupy.cuda.MemoryHook):
    """Clears what pools hand out, and keeps what it was: `handed`, (address, bytes) in order."""

    name = "Owners"

    def __init__(self):
        self.handed = []

    def malloc_postprocess(self, *, mem_size, mem_ptr, **_):
        fill(mem_ptr, 0, mem_size)
        self.handed.append((mem_ptr, mem_size))


owners = Owners()
owners.__enter__()


def leave(status):
    """End the process at once: when Python tidies up, CuPy would call stand-ins that are gone already."""
    folder.cleanup()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
