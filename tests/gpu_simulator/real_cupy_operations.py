"""Every operation on arrays of the real CuPy, without a GPU: see cupy_without_a_driver.py."""

import re

import fake_cuda
import numpy as np
from cuda_sizes import LARGER
from cupy_without_a_driver import cupy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.kernels.cuda.compile import SOURCES, source
from tinygrad_lm.testing.cases import CASES

STEPS = {"adamw", "squares", "total", "rounding", "widening"}  # kernels of no operation, but of a training step


def forth_and_back(name, case):
    """One call of an operation on the device: dtypes and shapes of its value and gradients."""
    inputs = [Tensor(cupy.asarray(x), requires_grad=is_floating(x.dtype)) for x in case.inputs]
    y = Op.registry[name](*inputs, **({} if name == "to" else case.options))
    right, _ = Op.registry[name].run(*case.inputs, **case.options)
    assert (y.shape, y.dtype, y.device) == (right.shape, right.dtype, "cuda"), f"{name}: {y.describe()}"
    if y.requires_grad:
        y.backward(cupy.ones(y.shape, y.dtype))
    for x in inputs:
        if x.grad is not None:
            assert (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype), f"{name}: {x.grad.shape} {x.grad.dtype}"
    cupy.cuda.Device().synchronize()


def each(strategies, dtype, examples=10):
    """A few cases of each operation, the same every time."""
    few = settings(max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
                   suppress_health_check=list(HealthCheck))  # fmt: skip

    @few
    @given(st.data())
    def test(data):
        for name, cases in strategies.items():
            forth_and_back(name, data.draw(cases).to(dtype))

    test()


def no_mask(case):
    """How much a mask selects is computed on the device."""
    index = case.options["index"]
    return not any(np.asarray(part).dtype == bool for part in (index if isinstance(index, tuple) else (index,)))


def operations(dtype):
    """Each of cases.py, small."""
    each(CASES | {"getitem": CASES["getitem"].filter(no_mask)}, dtype)


def larger(dtype):
    """What does not fit one packet, warp, block or strip."""
    each(LARGER, dtype)
    if dtype == "bfloat16":
        written = "".join(map(source, (path.stem for path in SOURCES.glob("*.cu"))))
        ours = set(re.findall(r"__global__ void (?:__launch_bounds__\([^)]+\)\s+)?(\w+)\(", written))
        missing = ours - {call.kernel for call in fake_cuda.calls} - STEPS
        assert not missing, f"not launched: {missing}"
