"""The lower half of cuda/cublaslt.py: the library through ctypes, descriptors of a product, and its algorithm.

Numbers and names are those of NVIDIA's header cublasLt.h; what they mean is said in the cuBLAS guide. Compared with the
header in tests/kernels/test_cublaslt_library.py.
"""

import ctypes
import functools
from contextlib import contextmanager
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import NamedTuple

from tinygrad_lm.errors import DeviceError

TYPES = {"float32": 0, "bfloat16": 14}  # CUDA_R_32F, CUDA_R_16BF
COMPUTE_32F = 68  # multiplied and added in float32; TensorFloat32 would be another number
TRANSA, TRANSB, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8  # CUBLASLT_MATMUL_DESC_
DEFAULT, BIAS = 1, 4  # CUBLASLT_EPILOGUE_
BATCH_COUNT, BATCH_STEP = 5, 6  # CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, _STRIDED_BATCH_OFFSET
MAX_WORKSPACE, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # CUBLASLT_MATMUL_PREF_; MIN_ALIGNMENT_A, _B, _C, _D_BYTES
# CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: where several blocks share a sum, its parts are kept in float32 and added in a
# step of their own. The other schemes add up in the output: rounded to its dtype, and in an order that is not promised.
IN_FLOAT32 = 2
NOT_SUPPORTED = 15  # CUBLAS_STATUS_
WORKSPACE = 32 * 2**20  # bytes, NVIDIA's advice for Hopper: cuBLAS guide, cublasSetWorkspace
CANDIDATES, REPEATS = 8, 10  # algorithms that `tuning` compares, and how often it runs each
ZERO, ONE = c_float(0), c_float(1)
tune = False  # see `tuning`

SIGNATURES = {  # without them ctypes would cut addresses to 32 bits
    "Create": [c_void_p],
    "MatmulDescCreate": [c_void_p, c_int, c_int],
    "MatmulDescSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "MatrixLayoutCreate": [c_void_p, c_int, c_uint64, c_uint64, c_int64],
    "MatrixLayoutSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "MatmulPreferenceCreate": [c_void_p],
    "MatmulPreferenceSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "MatmulPreferenceDestroy": [c_void_p],
    "MatmulAlgoGetHeuristic": [*[c_void_p] * 7, c_int, c_void_p, c_void_p],
    "Matmul": [*[c_void_p] * 14, c_size_t, c_void_p],
}


@contextmanager
def tuning():
    """Within the block the first product of each kind times up to eight algorithms and keeps the fastest.

    Not during capture: it waits for the GPU. Which one wins may change from run to run, and the last bits with it.
    """
    global tune
    tune = True
    try:
        yield
    finally:
        tune = False


class Kind(NamedTuple):
    """All that a plan depends on but the alignment of the addresses."""

    n: int
    k: int
    m: int
    batch: int
    a: tuple  # Matrices without the array
    b: tuple
    held: str  # dtype of a and b
    made: str  # of y
    epilogue: int


class Plan:
    """The descriptors of one kind of product and the algorithms that can compute it, the one to use in front."""

    def __init__(self, device, kind, alignments):
        n, k, m, batch, a, b, held, made, epilogue = kind
        self.handle, self.epilogue, self.tuned = handle(device), epilogue, False
        self.operation = created("MatmulDesc", COMPUTE_32F, TYPES["float32"])
        attributes = [(TRANSA, c_int(b[0])), (TRANSB, c_int(a[0])), (EPILOGUE, c_uint32(epilogue))]
        if epilogue != DEFAULT:  # the heuristic looks at the address' alignment only
            attributes.append((BIAS_POINTER, c_void_p(alignments[4])))
        assign("MatmulDesc", self.operation, attributes)
        self.layouts = [layout(held, m, k, batch, *b), layout(held, k, n, batch, *a)]
        self.layouts += [layout(made, m, n, batch, False, m, m * n)] * 2
        self.algorithms = self.proposed(alignments)
        if not self.algorithms:
            raise DeviceError(
                f"cuBLASLt has no algorithm for ({n}, {k}) @ ({k}, {m}), {batch} of them, {held} to {made}, "
                f"epilogue {epilogue}\n  a, b : (by columns, leading dimension, step) {a}, {b}\n  hint : sizes and "
                f"addresses that are multiples of 16 bytes; here those of b, a, plus, y, bias are of {alignments}"
            )

    def proposed(self, alignments):
        """What NVIDIA's heuristic proposes, in the order of the time that it expects."""
        preference = created("MatmulPreference")
        attributes = [(MAX_WORKSPACE, c_uint64(WORKSPACE)), (REDUCTIONS, c_uint32(IN_FLOAT32))]
        attributes += zip(ALIGNMENTS, map(c_uint32, alignments[:4]), strict=True)
        assign("MatmulPreference", preference, attributes)
        results, count = (Heuristic * CANDIDATES)(), c_int()
        asked = self.handle, self.operation, *self.layouts, preference, CANDIDATES, results, byref(count)
        call("MatmulAlgoGetHeuristic", *asked, allowed=(0, NOT_SUPPORTED))
        call("MatmulPreferenceDestroy", preference)
        return [result for result in results[: count.value] if result.status == 0]

    def run(self, xp, y, pointers, adds, workspace, stream):
        """Write to y the product of what lies at these addresses: of b, a, what is added if it `adds`, y, and the
        vector of the epilogue."""
        b, a, before, here, vector = pointers
        first, second, *result = self.layouts
        alpha, beta = byref(ONE), byref(ONE if adds else ZERO)
        if self.epilogue != DEFAULT:
            assign("MatmulDesc", self.operation, [(BIAS_POINTER, c_void_p(vector))])

        def launch(algorithm, y):
            call("Matmul", self.handle, self.operation, alpha, b, first, a, second, beta, before, result[0], y,
                 result[1], byref(algorithm), workspace, WORKSPACE, stream)  # fmt: skip

        if tune and not self.tuned:
            trial = y.copy()  # y itself may be added to, but once
            self.algorithms.sort(key=lambda algorithm: milliseconds(xp, lambda: launch(algorithm, trial.data.ptr)))
            self.tuned = True
        launch(self.algorithms[0], here)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t. It begins with the algorithm, so its address is the algorithm's."""

    _fields_ = [("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("status", c_int), ("waves", c_float),
                ("reserved", c_int * 4)]  # fmt: skip


def layout(dtype, rows, columns, batch, transposed, line, step):
    """The descriptor of matrices in memory whose (rows, columns), once transposed or not, enter the product."""
    descriptor = created("MatrixLayout", TYPES[dtype], *((columns, rows) if transposed else (rows, columns)), line)
    if batch > 1:
        assign("MatrixLayout", descriptor, [(BATCH_COUNT, c_int(batch)), (BATCH_STEP, c_int64(step))])
    return descriptor


def created(kind, *arguments):
    descriptor = c_void_p()
    call(f"{kind}Create", byref(descriptor), *arguments)
    return descriptor


def assign(kind, descriptor, attributes):
    for attribute, value in attributes:
        call(f"{kind}SetAttribute", descriptor, attribute, byref(value), ctypes.sizeof(value))


def call(name, *arguments, allowed=(0,)):
    """Call cublasLt<name>; any other status than those allowed is a DeviceError."""
    status = getattr(library(), f"cublasLt{name}")(*arguments)
    if status not in allowed:
        raise DeviceError(
            f"cublasLt{name} answers {library().cublasLtGetStatusName(status).decode()}\n"
            "  hint : does nvidia-smi list the GPU? with CUBLASLT_LOG_LEVEL=5 in the environment cuBLASLt says more"
        )


@functools.cache
def library():
    """cuBLASLt, with the types of its arguments."""
    found = loaded()
    for name, kinds in SIGNATURES.items():
        getattr(found, f"cublasLt{name}").argtypes = kinds
    found.cublasLtGetStatusName.restype = ctypes.c_char_p
    return found


def loaded():
    """cuBLASLt from where CuPy has its libraries, be it a wheel, the CUDA toolkit or the system."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy, which finds its own with it

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        raise DeviceError(
            f"matrix products on a GPU need NVIDIA's cuBLASLt, which cannot be loaded: {error}\n"
            "  hint : pip install nvidia-cublas for CUDA 13, nvidia-cublas-cu12 for CUDA 12"
        ) from error


@functools.cache
def handle(device):
    """cuBLASLt's of this device, which must be the current one."""
    return created("")


planned = functools.cache(Plan)


@functools.cache
def workspace(xp, device, stream):
    """Memory for cuBLASLt, one piece a stream: what runs at once must not share it."""
    return xp.empty(WORKSPACE, "uint8")


def milliseconds(xp, launch):
    """The time of a launch on the GPU. The first, which loads the algorithm, is not counted."""
    launch()
    start, end = xp.cuda.Event(), xp.cuda.Event()
    start.record()
    for _ in range(REPEATS):
        launch()
    end.record()
    end.synchronize()
    return xp.cuda.get_elapsed_time(start, end) / REPEATS
