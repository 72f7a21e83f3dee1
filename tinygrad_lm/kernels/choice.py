"""Which dtype a machine computes in, where that is left to it."""

import time
from importlib.util import find_spec

import numpy as np

from tinygrad_lm import kernels
from tinygrad_lm.backend import array_module, zeros
from tinygrad_lm.engine.observe import no_grad, within
from tinygrad_lm.ops.matmul import linear
from tinygrad_lm.threads import workers

SIZE, TIMES, ENOUGH = 512, 5, 1.2  # rows and columns of the products that are timed; how much faster bfloat16 must be


def resolve_dtype(name, device):
    """The dtype of a model, by name: "auto" is bfloat16 where such products are faster, else float32.

    On a CPU that is measured; GPUs have units for them since Ampere, compute capability 8.0.
    """
    if name != "auto":
        return name
    if device == "cpu":
        faster = has_products("bfloat16") and gain("bfloat16") > ENOUGH
    else:
        xp = array_module(zeros(1, np.float32, device))
        faster = find_spec("ml_dtypes") is not None and int(xp.cuda.Device().compute_capability) >= 80
    return "bfloat16" if faster else "float32"


def has_products(dtype):
    """Whether this CPU has products of float32 arrays that round to dtype."""
    kernels.enable()
    return find_spec("ml_dtypes") is not None and ("cpu", f"float32/{dtype}") in linear.implementations


def gain(dtype):
    """How many times as fast a product is that rounds to dtype: the shortest of a few times, some milliseconds."""
    x, w = np.ones((2, SIZE, SIZE), np.float32)
    times = {"": [], f"/{dtype}": []}
    with workers(1), no_grad():
        for turn in range(TIMES + 1):
            for rounding, seconds in times.items():
                began = time.perf_counter()
                with within(products=rounding):
                    linear.run(x, w)
                if turn:  # the first compiles
                    seconds.append(time.perf_counter() - began)
    plain, rounded = (min(seconds) for seconds in times.values())
    return plain / rounded
