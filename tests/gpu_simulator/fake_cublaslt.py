"""cuBLASLt without a GPU: the functions of its header, computed in NumPy as NVIDIA's documentation says.

    with emulated():                    # puts it in the library's place, see cuda_emulator.py
        y = multiply(strict_array.asarray(a), strict_array.asarray(b))

It is called as the library is, by address with C arguments, and takes nothing from the code under test. It refuses
what the library refuses or must never be asked for: attributes of the wrong size, matrices whose sizes, dtypes or
leading dimensions do not fit, reads and writes beside the arrays, an output over an input, algorithms of another
product, less workspace or coarser addresses than the algorithm was promised, epilogues where they do not exist.
Schemes that add up in the output, and TensorFloat32, it has too: rounded, and in another order every time.
"""

import ctypes
import itertools
from collections import deque
from ctypes import CFUNCTYPE, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from types import SimpleNamespace

import numpy as np
import strict_capture

try:
    from ml_dtypes import bfloat16
except ImportError:  # then nobody can ask for it
    bfloat16 = None

DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 14: bfloat16 and np.dtype(bfloat16)}  # cudaDataType
COMPUTE_32F, COMPUTE_32F_FAST_TF32 = 68, 77
SUCCESS, INVALID_VALUE, REFUSED = 0, 7, 15  # REFUSED: CUBLAS_STATUS_NOT_SUPPORTED
# attribute: (name, bytes, default)
OPERATION = {
    0: ("compute", 4, None), 1: ("scale", 4, None), 2: ("pointer_mode", 4, 0), 3: ("transpose_a", 4, 0),
    4: ("transpose_b", 4, 0), 5: ("transpose_c", 4, 0), 7: ("epilogue", 4, 1), 8: ("bias", 8, 0),
    10: ("bias_step", 8, 0),
}  # fmt: skip
LAYOUT = {
    0: ("type", 4, None), 1: ("order", 4, 0), 2: ("rows", 8, None), 3: ("columns", 8, None), 4: ("ld", 8, None),
    5: ("batch", 4, 1), 6: ("step", 8, 0),
}  # fmt: skip
PREFERENCE = {
    0: ("search", 4, 0), 1: ("workspace", 8, 0), 3: ("reductions", 4, 7), 5: ("a", 4, 256), 6: ("b", 4, 256),
    7: ("c", 4, 256), 8: ("d", 4, 256), 12: ("implementations", 8, -1),
}  # fmt: skip
NEEDED = 2**20  # bytes of workspace
P = c_void_p
PROTOTYPES = {
    "Create": (P,), "MatmulDescCreate": (P, c_int, c_int), "MatmulDescSetAttribute": (P, c_int, P, c_size_t),
    "MatrixLayoutCreate": (P, c_int, c_uint64, c_uint64, c_int64),
    "MatrixLayoutSetAttribute": (P, c_int, P, c_size_t),
    "MatmulPreferenceCreate": (P,), "MatmulPreferenceSetAttribute": (P, c_int, P, c_size_t),
    "MatmulPreferenceDestroy": (P,), "MatmulAlgoGetHeuristic": (P, P, P, P, P, P, P, c_int, P, P),
    "Matmul": (P, P, P, P, P, P, P, P, P, P, P, P, P, P, c_size_t, P),
}  # fmt: skip


class Result(ctypes.Structure):
    _fields_ = [("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float),
                ("reserved", c_int * 4)]  # fmt: skip


class Function(ctypes._CFuncPtr):
    """As ctypes sees a function of a library: an address and nothing about its arguments."""

    _flags_ = ctypes._FUNCFLAG_CDECL
    _restype_ = c_int


class Refusal(Exception):
    """What the library would answer with a status."""


class FakeCublasLt:
    """Attributes: the library's functions, and for the tests

    algorithms  how many the heuristic proposes
    calls       the names of the functions called, a set
    used        number of the algorithm of each product
    streams     of each product, and workspaces
    problem     why the last call was refused
    """

    def __init__(self, calls):
        self.objects, self.address, self.seen = {}, itertools.count(4096, 64), deque(maxlen=64)
        self.algorithms, self.calls, self.used, self.problem = 3, calls, [], ""
        self.streams, self.workspaces = [], []
        self.known, self.rng, self.kept = {}, np.random.default_rng(), []
        self.cublasLtGetStatusName = lambda status: self.name(status)  # whose restype can be set
        for name, kinds in PROTOTYPES.items():
            self.kept.append(CFUNCTYPE(c_int, *kinds)(self.guarded(name, getattr(self, name))))
            address = ctypes.cast(self.kept[-1], c_void_p).value
            setattr(self, f"cublasLt{name}", Function(address))

    def guarded(self, name, function):
        def answer(*arguments):
            self.calls.add(f"cublasLt{name}")
            try:
                function(*arguments)
            except Exception as error:  # nothing may leave a function that C calls
                self.problem = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
                return getattr(error, "status", INVALID_VALUE)
            return SUCCESS

        return answer

    def name(self, status):
        name = {INVALID_VALUE: "INVALID_VALUE", REFUSED: "NOT_SUPPORTED"}.get(status, str(status))
        return f"CUBLAS_STATUS_{name} ({self.problem})".encode()

    def saw(self, array):
        """What CuPy's x.data is. From now on the array's address may be handed over."""
        self.seen.append((array.ctypes.data, np.lib.array_utils.byte_bounds(array)[1]))
        return SimpleNamespace(ptr=array.ctypes.data)

    # ---- descriptors

    def new(self, place, table, *values):
        here = next(self.address)
        self.objects[here] = {name: default for name, _, default in table.values()}
        names = [name for name, default in self.objects[here].items() if default is None]
        self.objects[here] |= zip(names, values, strict=True)
        ctypes.cast(place, ctypes.POINTER(c_void_p))[0] = here

    def set(self, here, table, attribute, value, size):
        need(here in self.objects, "no such descriptor")
        need(attribute in table, f"no attribute {attribute}")
        name, width, _ = table[attribute]
        need(size == width, f"{name} has {width} bytes, not {size}")
        self.objects[here][name] = int.from_bytes(ctypes.string_at(value, size), "little", signed=True)

    def Create(self, place):
        self.new(place, {})

    def MatmulDescCreate(self, place, compute, scale):
        self.new(place, OPERATION, compute, scale)

    def MatmulDescSetAttribute(self, here, attribute, value, size):
        self.set(here, OPERATION, attribute, value, size)

    def MatrixLayoutCreate(self, place, kind, rows, columns, ld):
        need(DTYPES.get(kind) is not None, f"no dtype {kind}")
        self.new(place, LAYOUT, kind, rows, columns, ld)

    def MatrixLayoutSetAttribute(self, here, attribute, value, size):
        self.set(here, LAYOUT, attribute, value, size)

    def MatmulPreferenceCreate(self, place):
        self.new(place, PREFERENCE)

    def MatmulPreferenceSetAttribute(self, here, attribute, value, size):
        self.set(here, PREFERENCE, attribute, value, size)

    def MatmulPreferenceDestroy(self, here):
        del self.objects[here]

    # ---- products

    def MatmulAlgoGetHeuristic(self, handle, operation, a, b, c, d, preference, wanted, results, count):
        layouts, settings = self.product(handle, operation, a, b, c, d)
        preference = self.objects[preference]
        results = ctypes.cast(results, ctypes.POINTER(Result))
        enough = preference["workspace"] >= NEEDED
        number = min(wanted, self.algorithms)
        for i in range(number):
            results[i].algorithm[0] = key = len(self.known) + 1
            results[i].workspace, results[i].state = NEEDED, SUCCESS if enough else REFUSED
            self.known[key] = i, layouts, settings, preference
        ctypes.cast(count, ctypes.POINTER(c_int))[0] = number

    def Matmul(self, handle, operation, alpha, a, a_, b, b_, beta, c, c_, d, d_, algorithm, workspace, bytes, stream):
        layouts, settings = self.product(handle, operation, a_, b_, c_, d_)
        key = ctypes.cast(algorithm, ctypes.POINTER(c_uint64))[0]
        need(key in self.known, "no such algorithm")
        number, *asked, preference = self.known[key]
        bias = asked[1]["bias"]
        need(asked == [layouts, settings | {"bias": bias}], "an algorithm of another product")
        promised = [(preference["a"], a), (preference["b"], b), (preference["c"], c), (preference["d"], d)]
        for promise, pointer in [*promised, (alignment(bias), settings["bias"])]:
            need(alignment(pointer) >= min(promise, 16), "not as aligned as was promised")  # NumPy's arrays are to 16
        need(bytes >= NEEDED and workspace, "too little workspace")
        self.span(workspace, bytes)
        alpha, beta = (float(ctypes.cast(p, ctypes.POINTER(c_float))[0]) for p in (alpha, beta))
        A, B, D = (self.matrices(p, layout) for p, layout in zip((a, b, d), layouts, strict=True))
        for x in (A, B):
            need(not np.may_share_memory(x, D) or not np.shares_memory(x, D), "the output lies over an input")
        A = A.swapaxes(1, 2) if settings["transpose_a"] else A
        B = B.swapaxes(1, 2) if settings["transpose_b"] else B
        C = self.matrices(c, layouts[2]) if beta else D
        need(c == d or not beta or not np.may_share_memory(C, D), "C lies over D, but not in its place")
        shape, step = D.shape[1:2], (D.dtype.itemsize,)
        vector = self.view(settings["bias"], D.dtype, shape, step) if settings["epilogue"] == 4 else None
        self.used.append(number)
        self.streams.append(stream)
        self.workspaces.append(workspace)
        launch = strict_capture.noted("launch", self.compute, None)
        launch(A, B, C, D, vector, alpha, beta, dict(settings), preference["reductions"], workspace)

    def compute(self, A, B, C, D, vector, alpha, beta, settings, reductions, workspace):
        """What the device does, now or whenever a captured product is replayed."""
        y = alpha * self.summed(A, B, settings["compute"], reductions, D.dtype)
        if beta:
            y = y + beta * C.astype("f8")
        if vector is not None:
            y += vector.astype("f8")[None, :, None]
        D[...] = y.astype("f4").astype(D.dtype)
        ctypes.memset(workspace, 0xFF, NEEDED)

    def product(self, handle, operation, a, b, c, d):
        """The descriptors, if they fit each other. C must be as D."""
        need(handle in self.objects, "no handle")
        settings, (A, B, C, D) = self.objects[operation], (self.objects[here] for here in (a, b, c, d))
        need(C == D, "C and D differ")
        need(settings["compute"] in (COMPUTE_32F, COMPUTE_32F_FAST_TF32) and not settings["scale"], "not in float32")
        need(A["type"] == B["type"] and D["type"] in (0, A["type"]) and A["type"] in (0, 14), "dtypes do not fit")
        for layout in (A, B, D):
            need(layout["ld"] >= layout["rows"] > 0 and layout["columns"] > 0, f"a leading dimension of {layout['ld']}")
            need(layout["batch"] == D["batch"], "batches differ")
        m, k = sides(A, settings["transpose_a"])
        k_, n = sides(B, settings["transpose_b"])
        need((m, n) == (D["rows"], D["columns"]) and k == k_, f"({m}, {k}) @ ({k_}, {n}) -> {D['rows'], D['columns']}")
        need(D["batch"] == 1 or D["step"] >= D["ld"] * n, "matrices of the output overlap")
        epilogue = settings["epilogue"]
        need(epilogue in (1, 4), f"no epilogue {epilogue}")
        need(epilogue == 1 or settings["bias"], "an epilogue without an address")
        return [dict(layout) for layout in (A, B, D)], dict(settings)

    def summed(self, A, B, compute, reductions, dtype):
        """Σ over k. Where another reduction than in float32 is allowed, the worst of them is taken."""
        A, B = A.astype("f8"), B.astype("f8")
        if compute == COMPUTE_32F_FAST_TF32:
            A, B = ((x.astype("f4").view("u4") & 0xFFFFE000).view("f4").astype("f8") for x in (A, B))
        if not reductions & ~2:
            return A @ B
        y = 0
        for part in self.rng.permutation(4):
            y = (y + A[:, :, part::4] @ B[:, part::4]).astype("f4").astype(dtype).astype("f8")
        return y

    # ---- memory

    def matrices(self, pointer, layout):
        """(batch, rows, columns) of what lies there, column by column."""
        dtype = DTYPES[layout["type"]]
        shape, steps = (layout["batch"], layout["rows"], layout["columns"]), (layout["step"], 1, layout["ld"])
        return self.view(pointer, dtype, shape, tuple(step * dtype.itemsize for step in steps))

    def view(self, pointer, dtype, shape, strides):
        """An array of what lies there, all of which must belong to an array whose address was asked for."""
        bytes = dtype.itemsize + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        raw = np.frombuffer(self.span(pointer, bytes), np.uint8)
        return np.ndarray(shape, dtype, raw, 0, strides)

    def span(self, pointer, bytes):
        need(any(pointer == start and pointer + bytes <= end for start, end in self.seen), "beside the arrays")
        return (ctypes.c_uint8 * bytes).from_address(pointer)


def sides(layout, transposed):
    return (layout["columns"], layout["rows"]) if transposed else (layout["rows"], layout["columns"])


def alignment(pointer):
    return min(pointer & -pointer, 256) if pointer else 0


def need(true, message, status=INVALID_VALUE):
    if not true:
        refusal = Refusal(message)
        refusal.status = status
        raise refusal
