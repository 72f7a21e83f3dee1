"""What the GPU's benchmarks ask of CuPy, on a stand-in; and whether CuPy has it."""

import operator
import sys
from functools import reduce

import fake_cupy
import numpy as np
import pytest

pytest.importorskip("ml_dtypes")
from gpu import environment, place

from tinygrad_lm import kernels
from tinygrad_lm.kernels.cuda import driver


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.module())
    monkeypatch.setattr(kernels, "enable", lambda: None)
    monkeypatch.setattr(driver, "gpu_problem", lambda: None)
    return place.Gpu()


def test_random_numbers(gpu):
    x = gpu.normal(3, (50, 40), "bfloat16")
    assert (x.shape, str(x.dtype)) == ((50, 40), "bfloat16")
    assert 0.9 < x.astype("f4").std() < 1.1
    assert gpu.same(x, gpu.normal(3, (50, 40), "bfloat16"))
    assert not gpu.same(x, gpu.normal(4, (50, 40), "bfloat16"))
    ids = gpu.integers(0, 7, 100)
    assert (ids.dtype, ids.min(), ids.max()) == (np.int32, 0, 6)


def test_the_same_is_the_same_bits(gpu):
    assert not gpu.same(np.array([0.0]), np.array([-0.0]))
    assert gpu.same(np.array([np.nan]), np.array([np.nan]))


def test_time_is_the_median_after_three_calls(gpu):
    calls = []

    def work():
        calls.append(None)
        fake_cupy.Event.time += 999 if len(calls) <= 3 else 7

    assert gpu.seconds(work, repeats=3) == pytest.approx(
        8e-3
    )  # an event of the stand-in is a millisecond after the last
    assert len(calls) == 6
    assert gpu.start()()() == 1000


def test_new_memory_holds_nan(gpu):
    with gpu.poisoned() as memory:
        assert np.isnan(memory.bytes.view("f4")).all()
    with gpu.unpooled() as memory:
        assert memory is None


def test_the_most_memory_at_once(gpu):
    with gpu.watched() as watcher:
        watcher.malloc_postprocess(size=3, mem_size=512)
        watcher.malloc_postprocess(size=600, mem_size=1024)
        watcher.free_postprocess(mem_size=512)
        watcher.malloc_postprocess(size=600, mem_size=100)
    assert watcher.most == 1536
    assert gpu.taken() == 70
    gpu.synchronize()
    gpu.release()


def test_the_card(gpu):
    found = environment.card(gpu)
    assert (found["name"], found["compute"], found["multiprocessors"]) == ("a card", "9.0", 132)


def test_cupy_has_all_that_is_asked_for():
    cupy = pytest.importorskip("cupy")
    for name in fake_cupy.NAMES.split():
        try:
            reduce(getattr, name.split("."), cupy)
        except RuntimeError:  # a library that is looked for when it is first used
            assert name.startswith("cuda.nvrtc")


def test_pytorch_has_all_that_is_asked_for():
    torch = pytest.importorskip("torch")
    names = "reset_peak_memory_stats memory_allocated max_memory_allocated empty_cache Event"
    assert all(hasattr(torch.cuda, name) for name in names.split())
    assert all(hasattr(torch, name) for name in ("compiler", "from_dlpack", "set_float32_matmul_precision"))
    assert operator.attrgetter("reset")(torch.compiler)
