"""What the code and fake_cublaslt.py say of cuBLASLt, against NVIDIA's own header and library.

Skipped where the wheel nvidia-cublas (CUDA 13) is not installed; descriptors need no GPU.
"""

import ctypes
import importlib.util
import shutil
import subprocess
from ctypes import byref, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

import fake_cublaslt
import pytest

from tinygrad_lm.errors import DeviceError
from tinygrad_lm.kernels.cuda import cublaslt_plan as plans

spec = importlib.util.find_spec("nvidia")
PLACES = [Path(place) / "cu13" for place in (spec.submodule_search_locations if spec else ())]
LIBRARY = next((path for place in PLACES for path in place.glob("lib/libcublasLt.so.13")), None)
INCLUDED = [str(place / "include") for place in PLACES if (place / "include").is_dir()]
COMPLETE = {
    name
    for place in INCLUDED
    for name in ("cublasLt.h", "driver_types.h", "crt/host_defines.h")
    if (Path(place) / name).is_file()
}
needs_library = pytest.mark.skipif(LIBRARY is None, reason="the wheel nvidia-cublas is not installed")
needs_header = pytest.mark.skipif(
    len(COMPLETE) < 3 or not shutil.which("g++"),
    reason="no g++, or not the wheels nvidia-cublas, nvidia-cuda-runtime and nvidia-cuda-crt",
)

a, b, c, d = plans.ALIGNMENTS
CONSTANTS = {
    "CUDA_R_32F": plans.TYPES["float32"], "CUDA_R_16BF": plans.TYPES["bfloat16"],
    "CUBLAS_COMPUTE_32F": plans.COMPUTE_32F, "CUBLAS_OP_N": False, "CUBLAS_OP_T": True,
    "CUBLAS_STATUS_SUCCESS": 0, "CUBLAS_STATUS_NOT_SUPPORTED": plans.NOT_SUPPORTED,
    "CUBLASLT_MATMUL_DESC_TRANSA": plans.TRANSA, "CUBLASLT_MATMUL_DESC_TRANSB": plans.TRANSB,
    "CUBLASLT_MATMUL_DESC_EPILOGUE": plans.EPILOGUE, "CUBLASLT_MATMUL_DESC_BIAS_POINTER": plans.BIAS_POINTER,
    "CUBLASLT_EPILOGUE_DEFAULT": plans.DEFAULT, "CUBLASLT_EPILOGUE_BIAS": plans.BIAS,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": plans.BATCH_COUNT,
    "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": plans.BATCH_STEP,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": plans.MAX_WORKSPACE,
    "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": plans.REDUCTIONS,
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": a, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": b,
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES": c, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": d,
    "CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE": plans.IN_FLOAT32, "CUBLASLT_REDUCTION_SCHEME_NONE": 0,
    "sizeof(cublasLtMatmulAlgo_t)": plans.Heuristic.workspace.offset,
    "sizeof(cublasLtMatmulHeuristicResult_t)": ctypes.sizeof(plans.Heuristic),
    "offsetof(cublasLtMatmulHeuristicResult_t, algo)": plans.Heuristic.algorithm.offset,
    "offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)": plans.Heuristic.workspace.offset,
    "offsetof(cublasLtMatmulHeuristicResult_t, state)": plans.Heuristic.status.offset,
    "sizeof(cublasStatus_t)": plans.Heuristic.status.size,
    # what the fake adds
    "CUBLAS_COMPUTE_32F_FAST_TF32": fake_cublaslt.COMPUTE_32F_FAST_TF32, "CUDA_R_64F": 1,
    "CUBLAS_STATUS_INVALID_VALUE": fake_cublaslt.INVALID_VALUE,
    "CUBLASLT_REDUCTION_SCHEME_MASK": 7, "CUBLASLT_MATMUL_DESC_COMPUTE_TYPE": 0, "CUBLASLT_MATMUL_DESC_SCALE_TYPE": 1,
    "CUBLASLT_MATMUL_DESC_POINTER_MODE": 2, "CUBLASLT_POINTER_MODE_HOST": 0, "CUBLASLT_MATMUL_DESC_TRANSC": 5,
    "CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE": 10, "CUBLASLT_MATRIX_LAYOUT_TYPE": 0, "CUBLASLT_MATRIX_LAYOUT_ORDER": 1,
    "CUBLASLT_ORDER_COL": 0, "CUBLASLT_MATRIX_LAYOUT_ROWS": 2, "CUBLASLT_MATRIX_LAYOUT_COLS": 3,
    "CUBLASLT_MATRIX_LAYOUT_LD": 4, "CUBLASLT_MATMUL_PREF_SEARCH_MODE": 0, "CUBLASLT_MATMUL_PREF_IMPL_MASK": 12,
}  # fmt: skip
KINDS = {c_void_p: "p", c_int: "i4", c_int64: "i8", c_uint64: "u8", c_size_t: "u8"}
HALVES = {"__half": "cuda_fp16.h", "__nv_bfloat16": "cuda_bf16.h"}
PROGRAM = """
#include <cstddef>
#include <cstdio>
#include <type_traits>
#include <cublasLt.h>

template <class T> void kind() {
    if (std::is_pointer<T>::value) printf(" p");
    else printf(" %%c%%zu", std::is_enum<T>::value || std::is_signed<T>::value ? 'i' : 'u', sizeof(T));
}

template <class F> struct Signature;
template <class... T> struct Signature<cublasStatus_t(T...)> {
    static void print() { (kind<T>(), ...); puts(""); }
};

int main() {
%s
}
"""


@needs_header
def test_every_number_size_and_signature_is_the_headers(tmp_path):
    lines = [f'printf("%lld\\n", (long long)({name}));' for name in CONSTANTS]
    lines += [f"Signature<decltype(cublasLt{name})>::print();" for name in plans.SIGNATURES]
    for name, header in HALVES.items():  # NVIDIA's of these names want a further wheel
        (tmp_path / header).write_text(f"struct {name} {{ unsigned short bits; }};")
    (tmp_path / "print.cpp").write_text(PROGRAM % "\n".join(lines))
    options = ["-I.", *(f"-I{place}" for place in INCLUDED)]
    subprocess.run(["g++", "-std=c++17", "-w", *options, "print.cpp", "-o", "print"], cwd=tmp_path, check=True)
    printed = subprocess.run(["./print"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    found = dict(zip([*CONSTANTS, *plans.SIGNATURES], printed, strict=True))
    assert {name: int(found[name]) for name in CONSTANTS} == CONSTANTS
    for table in (plans.SIGNATURES, fake_cublaslt.PROTOTYPES):
        for name, types in table.items():
            assert found[name].split() == [KINDS[kind] for kind in types], name


@pytest.fixture
def library(monkeypatch):
    """NVIDIA's library in its place, and a plan that asks it for no algorithm, which would need a GPU."""
    monkeypatch.setattr(plans, "loaded", lambda: ctypes.CDLL(str(LIBRARY)))
    plans.library.cache_clear()
    yield plans.library()
    plans.library.cache_clear()


def read(library, kind, descriptor, attribute, size):
    value, written = c_uint64(), c_size_t()
    function = getattr(library, f"cublasLt{kind}GetAttribute")
    function.argtypes = [c_void_p, c_int, c_void_p, c_size_t, c_void_p]
    assert function(descriptor, attribute, byref(value), size, byref(written)) == 0, (kind, attribute, size)
    assert written.value == size
    return int.from_bytes(bytes(value)[:size], "little", signed=True)


def attributes(library, kind, descriptor, table):
    return {name: read(library, kind, descriptor, number, size) for number, (name, size, _) in table.items()}


@needs_library
def test_the_fakes_attributes_are_the_librarys(library):
    """Sizes and defaults; a preference has nothing else."""
    operation, layout = plans.created("MatmulDesc", 68, 0), plans.created("MatrixLayout", 14, 3, 5, 7)
    preference = plans.created("MatmulPreference")
    for kind, descriptor, table in (
        ("MatmulDesc", operation, fake_cublaslt.OPERATION),
        ("MatrixLayout", layout, fake_cublaslt.LAYOUT),
        ("MatmulPreference", preference, fake_cublaslt.PREFERENCE),
    ):
        given = iter({"MatmulDesc": (68, 0), "MatrixLayout": (14, 3, 5, 7), "MatmulPreference": ()}[kind])
        right = {name: next(given) if default is None else default for name, _, default in table.values()}
        assert attributes(library, kind, descriptor, table) == right


@needs_library
def test_a_plan_says_the_same_to_the_library_as_to_the_fake(library, monkeypatch):
    """All descriptors of a product in batches, and of one with a bias, read back."""
    monkeypatch.setattr(plans, "handle", lambda device: c_void_p())
    monkeypatch.setattr(plans.Plan, "proposed", lambda self, alignments: [self])
    tables = [("MatmulDesc", fake_cublaslt.OPERATION)] + [("MatrixLayout", fake_cublaslt.LAYOUT)] * 4
    for kind in (
        plans.Kind(3, 4, 5, 6, (True, 9, 77), (False, 8, 99), "bfloat16", "float32", plans.DEFAULT),
        plans.Kind(3, 4, 5, 1, (False, 9, 0), (True, 8, 0), "float32", "float32", plans.BIAS),
    ):
        plan = plans.Plan(0, kind, (256, 16, 2, 32))
        descriptors = plan.operation, *plan.layouts
        found = [attributes(library, *pair) for pair in descriptions(tables, descriptors)]
        with monkeypatch.context() as patch:
            fake = fake_cublaslt.FakeCublasLt(set())
            patch.setattr(plans, "loaded", lambda fake=fake: fake)
            plans.library.cache_clear()
            plan = plans.Plan(0, kind, (256, 16, 2, 32))
            assert found == [fake.objects[here.value] for here in (plan.operation, *plan.layouts)]
        plans.library.cache_clear()


def descriptions(tables, descriptors):
    return [(kind, here, table) for (kind, table), here in zip(tables, descriptors, strict=True)]


@needs_library
def test_without_a_gpu_the_library_says_so(library, monkeypatch):
    """And it has taken everything that it was told before."""
    if library.cublasLtCreate(byref(c_void_p())) == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=r"cublasLtCreate answers CUBLAS_STATUS_NOT_INITIALIZED\n.*nvidia-smi"):
        plans.handle(0)
    monkeypatch.setattr(plans, "handle", lambda device: c_void_p())
    kind = plans.Kind(3, 4, 5, 1, (False, 4, 0), (False, 5, 0), "float32", "float32", plans.BIAS)
    with pytest.raises(DeviceError, match="cublasLtMatmulAlgoGetHeuristic answers CUBLAS_STATUS_NOT_INITIALIZED"):
        plans.Plan(0, kind, (256, 256, 256, 16))


@needs_library
def test_a_wrong_size_is_refused(library):
    operation = plans.created("MatmulDesc", 68, 0)
    with pytest.raises(DeviceError, match="cublasLtMatmulDescSetAttribute answers CUBLAS_STATUS_INVALID_VALUE"):
        plans.assign("MatmulDesc", operation, [(plans.TRANSA, c_int64(1))])
