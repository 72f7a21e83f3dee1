"""The emulator notices what it is for: each kernel here is wrong in one way, and right again with one line changed."""

import re

import cuda_emulator
import numpy as np
import pytest
import strict_array as xp
from cuda_emulator import LaunchError
from slow import first_of_each

from tinygrad_lm.kernels.cuda import compile as cuda_compile

pytestmark = pytest.mark.skipif(cuda_emulator.UNABLE is not None, reason=str(cuda_emulator.UNABLE))


def launch(body, *arguments, order=0):
    """Run a kernel of these lines in two blocks of 64 threads."""
    code = f'{cuda_compile.source("activation")}\nextern "C" __global__ void f(float* y, int n) {{\n{body}\n}}'
    module = cuda_emulator.RawModule(code=code, options=("-DREAL=float", "-DWIDTH=4", "-DF=relu"))
    cuda_emulator.order = order
    try:
        module.get_function("f")((2,), (64,), arguments)
    finally:
        cuda_emulator.order = 0


def zeros(n=128, dtype="float32"):
    return xp.zeros(n, dtype)


X = "__shared__ float x[64];"
N, HERE = np.int32(128), "int i = blockIdx.x * blockDim.x + threadIdx.x;"


@pytest.mark.parametrize(
    ("body", "message"),
    first_of_each(
        [
            ("y[i] = i;", None),
            ("y[i + 1] = i;", r"outside the arrays.*block \(1, 0, 0\), thread 63.*byte 512 of an array \(128,\)"),
            ("y[i] = y[i + 1];", "outside the arrays"),
            ("y[i - 1] = i;", "wrote beside"),  # the array's start is not always at a page's
            ("y[i - 5000] = i;", "outside the arrays"),
            ("float x[4]; x[i % 5] = i; y[i] = x[0];", "index outside"),
            ("__shared__ float x[64]; x[i] = i; y[i] = x[0];", "index outside"),
            ("packet<float> p = *(packet<float>*)(y + i % 2); y[i] = p.at[0];", "misaligned"),
            ("y[i] = (n << 10) * (n << 10) * i;", "overflows"),
            ("if (i % 64 < 40) __syncthreads(); y[i] = 0;", "for one that has ended"),
            ("if (i % 2) __syncthreads();\nelse __syncthreads(); y[i] = 0;", "different places"),
            ("if (i % 32) y[i] = __shfl_xor_sync(~0u, 1.0f, 1);", "for one that has ended"),
            ("for (int k = 0; k < i % 2 + 1; k++) y[i] = block_sum(1.0f);", "for one that has ended"),
            ("y[i] = __shfl_sync(~0u, i, 3, 4) - 3 + i % 4;", None),
            ("y[i] = i - 31 + __reduce_max_sync(~0u, i % 32) + __reduce_min_sync(~0u, i % 32);", None),
            ("y[i] = i - 1 + __any_sync(~0u, i % 32 == 5) + __any_sync(~0u, i < 0);", None),
            (f"{X} copy_later_4(x + i % 64, y + i, 1);", "copy that nobody waits for"),
            (f"{X} copy_later_16(x + i % 64, y + i, 1); wait_for_copies();", "misaligned"),
            (f"{X} copy_later_4(x + i % 64, y + i + 1, 1); wait_for_copies();", "outside the arrays"),
            (f"{X} copy_later_4(x + 10000 * i, y + i, 0); wait_for_copies();", "misaligned"),
            (f"{X} copy_later_4(y + i, x, 0); wait_for_copies();", "misaligned"),
        ],
        lambda row: row[1] is None,
    ),
)
def test_a_fault_is_reported(body, message):
    if message is None:
        launch(f"{HERE} {body}", y := zeros(), N)
        assert np.array_equal(y.get(), np.arange(128))
    else:
        with pytest.raises(LaunchError, match=f"(?s){message}"):
            launch(f"{HERE} {body}", zeros(), N)


BARRIER = "__syncthreads();"


@pytest.mark.parametrize(
    ("body", "right"),
    first_of_each(
        [
            ("x[t] = t; {} y[i] = x[63 - t];", BARRIER),
            ("x[t] = t; __syncthreads(); float v = x[(t + 1) % 64]; {} x[t] = v; y[i] = x[t] + v;", BARRIER),
            ("for (int k = 0; k < 3; k++) {{ if (t == k) x[0] = k; __syncthreads(); y[i] += x[0]; {} }}", BARRIER),
            ("if (t == 0) x[0] = 7; {} y[i] = x[0];", BARRIER),
            ("if (t < 63) x[t] = t; __syncthreads(); y[i] = x[63{}];", "- 1"),  # never written: NaN
            ("x[t] = 0; copy_later_4(x + t, y + i, 1); {} y[i] = x[t]; wait_for_copies();", "wait_for_copies();"),
            ("copy_later_4(x + t, y + i, 1); wait_for_copies(); {} y[i] = x[63 - t] + t;", BARRIER),
            ("x[t] = t; __syncthreads(); y[i] = x[63 - t]; {} copy_later_4(x + t, y, 1); wait_for_copies();", BARRIER),
        ],
        lambda row: row[1],
    ),
)
def test_a_missing_line_shows_in_some_order(body, right):
    """A barrier left out gives other numbers in one of the orders; with it all orders give the same."""
    results = {}
    for line in (right, ""):
        results[line] = []
        for order in range(4):
            text = f"{HERE} int t = threadIdx.x; __shared__ float x[64];" + body.format(line)
            launch(text, y := zeros(), N, order=order)
            results[line].append(y.get().tobytes())
    assert len(set(results[right])) == 1
    assert not np.isnan(np.frombuffer(results[right][0], "f4")).any()
    assert len(set(results[""])) > 1 or np.isnan(np.frombuffer(results[""][0], "f4")).any()


def test_shared_memory_of_a_launch_has_an_end():
    """A kernel may ask for 48 KB, more where its handle allows it, and must not write beyond what it has asked for."""
    code = 'extern __shared__ uint4 x[];\nextern "C" __global__ void f(float* y) { ((float*)x)[threadIdx.x] = 1; }'
    f = cuda_emulator.RawModule(code=code).get_function("f")
    with pytest.raises(LaunchError, match="wrote beside the shared memory"):
        f((1,), (32,), (zeros(),), shared_mem=124)
    f((1,), (32,), (zeros(),), shared_mem=128)
    with pytest.raises(LaunchError, match="49153 bytes of shared memory"):
        f((1,), (32,), (zeros(),), shared_mem=49153)
    f.max_dynamic_shared_size_bytes = 99 * 1024
    f((1,), (32,), (zeros(),), shared_mem=49153)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, N), (np.uint64(8), N), (zeros(), 128), (zeros(), np.int64(128)), (zeros(), np.float32(128)),
        (zeros(dtype="float64"), N), (zeros().get(), N), (zeros(256)[::2], N), (zeros(),), (zeros(), N, N),
        (zeros(), None),
    ],
)  # fmt: skip
def test_arguments_of_another_type_are_refused(arguments):
    with pytest.raises(LaunchError):
        launch("", *arguments)


@pytest.mark.parametrize(("blocks", "threads"), [(0, 32), (1, 0), (1, 33), (1, 2048), ((1, 70000), 32)])
def test_launches_that_cannot_be_are_refused(blocks, threads):
    f = cuda_emulator.RawModule(code='extern "C" __global__ void f(float* y) {}').get_function("f")
    with pytest.raises(LaunchError, match=r"no such grid|a block has 32"):
        f(blocks if isinstance(blocks, tuple) else (blocks,), (threads,), (zeros(),))


def test_what_does_not_compile_is_reported():
    with pytest.raises(LaunchError, match="refuses the source"):
        launch("y[0] = z;")


TEMPLATE = re.compile(r"^template <[^\n]*>[^;{]*\{[^\n]*\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def test_no_template_has_shared_memory_of_its_own():
    """g++ leaves it outside of what the emulator fills and watches."""
    bodies = [
        body for path in sorted(cuda_compile.SOURCES.glob("*.cu*")) for body in TEMPLATE.findall(path.read_text())
    ]
    assert len(bodies) > 10
    assert not [body for body in bodies if "__shared__" in body]
