"""Products through cuBLASLt: computed by fake_cublaslt.py where there is no GPU, by the library itself with -m gpu."""

import sys
import types

import numpy as np
import pytest
import strict_array
from cublaslt_checks import LAYOUTS, TOLERANCE, WANTED, drawn, product
from cuda_checks import gpu, on_host
from cuda_emulator import emulated
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.errors import DeviceError, DtypeError, ShapeError
from tinygrad_lm.kernels.cuda import cublaslt_plan as plans
from tinygrad_lm.kernels.cuda.cublaslt import as_matrices, multiply
from tinygrad_lm.kernels.cuda.matmul import linear_on_gpu
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.drawing import seeds

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
sides = st.sampled_from([1, 2, 3, 8, 16, 17, 40])
layouts = st.sampled_from(sorted(LAYOUTS))
dtypes = pytest.mark.parametrize("dtype", ["float32", bfloat16], ids=["float32", "bfloat16"])


@pytest.fixture
def fake():
    """What computes the products of strict arrays within the test."""
    with emulated():
        yield plans.loaded()


@dtypes
@given(data=st.data())
def test_every_product_is_float64s_and_the_same_again(xp, dtype, data):
    """All sizes, layouts, results and epilogues; what is not written stays NaN and shows."""
    n, k, m = (data.draw(sides) for _ in range(3))
    leading = data.draw(st.sampled_from([(), (), (1,), (3,), (2, 3)]))
    wanted = data.draw(st.sampled_from(["plain", "added", "added in place"] if leading else WANTED))
    made, seed = data.draw(st.sampled_from([None, "float32"])), data.draw(seeds)
    first, second = data.draw(layouts), data.draw(layouts)
    found = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        a, b = drawn(xp, rng, (*leading, n, k), dtype, first), drawn(xp, rng, (*leading, k, m), dtype, second)
        found.append(product(xp, multiply, rng, a, b, wanted, made))
    assert found[0] == found[1]


@dtypes
@pytest.mark.parametrize("shape", [(768, 2304, 513), (4096, 65, 384), (1, 1024, 3072), (129, 50257, 64)])
@pytest.mark.gpu
def test_sizes_of_models(dtype, shape):
    cupy = gpu()
    n, k, m = shape
    for wanted in WANTED:
        found = []
        for _ in range(2):
            rng = np.random.default_rng(0)
            a, b = (drawn(cupy, rng, sizes, dtype) for sizes in ((n, k), (k, m)))
            found.append(product(cupy, multiply, rng, a, b, wanted))
        assert found[0] == found[1]


@dtypes
@pytest.mark.gpu
def test_a_captured_product_is_replayed(dtype):
    """With other numbers in the same places; what is added to grows with every replay."""
    cupy = gpu()
    rng = np.random.default_rng(0)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x, dy, b = (drawn(cupy, rng, shape, dtype) for shape in ((320, 64), (320, 48), (48,)))
        w, dw = (cupy.zeros((64, 48), made) for made in (dtype, "f4"))
        y = cupy.empty((320, 48), dtype)

        def step():
            multiply(x, w, bias=b, out=y)
            multiply(x.T, dy, out=dw, plus=dw)

        step()
        stream.begin_capture()
        step()
        graph = stream.end_capture()
        for array in (x, dy, w):
            array[...] = drawn(cupy, rng, array.shape, dtype)
        y.fill(np.nan)
        dw.fill(0)
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
    inputs = [array.get().astype("f8") for array in (x, w, b, dy)]
    tolerance = TOLERANCE[np.dtype(dtype).name]
    checks.agree(y.get().astype("f8"), inputs[0] @ inputs[1] + inputs[2], "y", tolerance)
    checks.agree(dw.get().astype("f8"), 3 * inputs[0].T @ inputs[3], "dw", tolerance)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8), (2, 3, 6, 8)])
def test_only_what_cannot_be_read_is_copied(xp, layout, shape):
    x = drawn(xp, np.random.default_rng(0), shape, "float32", layout)
    heads_apart = layout == "as heads" and len(shape) > 3  # more leading axes than one step can walk
    copied = not layout.startswith("as") or heads_apart
    assert (as_matrices(x).array.data.ptr != x.data.ptr) == copied


def test_newton_and_schulz_need_no_more_than_two_matrices(xp):
    """Muon's iteration: views, products of a matrix with itself turned over, tall and wide."""
    for shape in ((12, 40), (40, 12)):
        x = drawn(xp, np.random.default_rng(0), shape, "float32") / 20
        right = x.get().astype("f8")
        for _ in range(3):
            s = multiply(x, x.T)
            x = 2 * x - multiply(s + multiply(s, s), x)
            r = right @ right.T
            right = 2 * right - (r + r @ r) @ right
        checks.agree(x.get(), right, "x", 1e-5)


@dtypes
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_products_without_entries(xp, dtype, shape):
    n, k, m = shape
    for wanted in WANTED:
        rng = np.random.default_rng(0)
        product(xp, multiply, rng, drawn(xp, rng, (n, k), dtype), drawn(xp, rng, (k, m), dtype), wanted)


@dtypes
def test_each_gradient_of_linear_can_be_had_alone(xp, dtype):
    """A frozen weight leaves db without dw, a frozen bias dw without db; in any order they are the same."""
    rng = np.random.default_rng(0)
    x, w, b, dy = (drawn(xp, rng, shape, dtype) for shape in ((2, 5, 8), (8, 16), (16,), (2, 5, 16)))
    _, backward = linear_on_gpu(x, w, b)
    right = [dx.astype("f8") for dx in on_host(backward(dy))]
    assert [dx.shape for dx in right] == [(2, 5, 8), (8, 16), (16,)]
    for order in ((0,), (1,), (2,), (2, 1, 0), (1, 2, 1, 2)):
        thunks = backward(dy)
        for i in order:
            checks.agree(thunks[i]().get().astype("f8"), right[i], f"gradient {i}", TOLERANCE[np.dtype(dtype).name])


numbers = lambda *shape, dtype="float32": strict_array.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (numbers(2, 3), numbers(4, 5), {}, ShapeError, r"\(2, 3\) @ \(4, 5\)"),
        (numbers(3), numbers(3, 5), {}, ShapeError, "expected"),
        (numbers(2, 3), numbers(3), {}, ShapeError, "expected"),
        (numbers(4, 2, 3), numbers(3, 5), {}, ShapeError, "equal leading axes"),
        (numbers(4, 2, 3), numbers(1, 3, 5), {}, ShapeError, "equal leading axes"),
        (numbers(2, 3), numbers(3, 5, dtype="float64"), {}, DtypeError, "float32 @ float64"),
        (*[numbers(3, 3, dtype="float64")] * 2, {}, DtypeError, "expected float32 or bfloat16"),
        (numbers(3, 3), numbers(3, 3, dtype=bfloat16), {}, DtypeError, "float32 @ bfloat16"),
        (*[numbers(3, 3)] * 2, {"out": numbers(3, 3, dtype=bfloat16)}, DtypeError, "float32 to bfloat16"),
        (*[numbers(3, 3)] * 2, {"out": numbers(3, 4)}, ShapeError, r"expected \(3, 3\)"),
        (*[numbers(3, 3)] * 2, {"out": numbers(3, 3).T}, ShapeError, "contiguous"),
        (*[numbers(3, 3)] * 2, {"plus": numbers(3, 4)}, ShapeError, r"plus has shape \(3, 4\)"),
        (*[numbers(3, 3)] * 2, {"plus": numbers(3, 3).T}, ShapeError, "contiguous"),
        (*[numbers(3, 3)] * 2, {"plus": numbers(3, 3, dtype=bfloat16)}, DtypeError, "plus is bfloat16"),
        (*[numbers(3, 3)] * 2, {"bias": numbers(4)}, ShapeError, r"bias is \(4,\)"),
        (*[numbers(3, 3)] * 2, {"bias": numbers(3, dtype=bfloat16)}, DtypeError, "bias is bfloat16"),
        (*[numbers(2, 3, 3)] * 2, {"bias": numbers(3)}, ShapeError, "two axes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(fake, a, b, options, error, message):
    with pytest.raises(error, match=message):
        multiply(a, b, **options)
    assert not fake.used


def test_no_algorithm_is_an_error_that_names_the_product(fake):
    fake.algorithms = 0
    with pytest.raises(DeviceError, match=r"no algorithm for \(2, 3\) @ \(3, 5\).*float32 to float32"):
        multiply(numbers(2, 3), numbers(3, 5))


def test_a_status_is_named(fake, monkeypatch):
    monkeypatch.setattr(plans, "COMPUTE_32F", 64)
    with pytest.raises(DeviceError, match="cublasLtMatmulAlgoGetHeuristic answers CUBLAS_STATUS_INVALID_VALUE"):
        multiply(numbers(2, 3), numbers(3, 5))


def test_no_library_is_an_error_that_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(DeviceError, match="pip install nvidia-cublas"):
        plans.loaded()


def test_a_plan_is_made_once(fake):
    """Only the first product of a kind asks NVIDIA's heuristic."""
    a, b, y = numbers(4, 8), numbers(8, 16), numbers(4, 16)  # NumPy's addresses are not as even as a GPU's
    multiply(a, b, out=y)
    for _ in range(2):
        fake.calls.clear()
        multiply(a, b, out=y)
        assert fake.calls == {"cublasLtMatmul"}
    multiply(a, b, out=y, bias=numbers(16))
    assert "cublasLtMatmulAlgoGetHeuristic" in fake.calls


def test_every_stream_has_its_workspace(fake, monkeypatch):
    streams = (types.SimpleNamespace(ptr=ptr) for ptr in (1, 2, 1))
    monkeypatch.setattr(strict_array.cuda, "get_current_stream", lambda: next(streams))
    for _ in range(3):
        multiply(numbers(2, 3), numbers(3, 5))
    assert fake.streams == [1, 2, 1]
    assert len(set(fake.workspaces)) == 2
    assert fake.workspaces[0] == fake.workspaces[2]


class Event:
    """The time at which it is recorded, on a clock that the products advance."""

    def __init__(self, fake):
        self.fake = fake

    def record(self):
        self.at = sum([5, 2, 9][number] for number in self.fake.used)

    def synchronize(self):
        pass


def test_tuning_keeps_the_fastest_algorithm(fake, monkeypatch):
    """The second of three; the product is added once nevertheless. Tuned is tuned, and without asking nothing is."""
    monkeypatch.setattr(strict_array.cuda, "Event", lambda: Event(fake), raising=False)
    monkeypatch.setattr(strict_array.cuda, "get_elapsed_time", lambda start, end: end.at - start.at, raising=False)
    a, b, y = (strict_array.ones(shape, "f4") for shape in ((2, 3), (3, 5), (2, 5)))
    multiply(a, b, out=y)
    assert fake.used == [0]
    with plans.tuning():
        multiply(a, b, out=y, plus=y)
    assert set(fake.used) == {0, 1, 2}
    assert (y.get() == 6).all()
    fake.used.clear()
    for _ in range(2):
        multiply(a, b, out=y)
        with plans.tuning():
            multiply(a, b, out=y)
    assert fake.used == [1] * 4
