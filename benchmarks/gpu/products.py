"""Every matrix product of a step through cuBLASLt as we call it, and through PyTorch: what no step can be faster than.

A layer (i → o) on N tokens takes y = x w, dx = dy wᵀ and dw = xᵀ dy. Their sum over all layers is a floor under the
time of a step; attention's two products forward and five backward come on top.
"""

from importlib import import_module

import numpy as np

from gpu.environment import torch_seconds
from gpu.kernels import TOLERANCE, judged, relative
from tinygrad_lm.kernels.cuda import cublaslt as cuda_cublaslt
from tinygrad_lm.kernels.cuda.cublaslt_plan import tuning

# task: (layers, channels, vocabulary, tokens)
SHAPES = {"gpt2": (12, 768, 50304, 32 * 1024), "nanogpt-shakespeare": (6, 384, 65, 64 * 256)}


def items(place):
    for task, (layers, c, v, n) in SHAPES.items():
        if place.tiny:
            layers, c, v, n = 1, 16, 24, 32
        yield task, lambda task=task, sizes=(layers, c, v, n): of_task(place, task, *sizes)


def of_task(place, task, layers, c, v, n):
    """Microseconds and TFLOP/s of each product, ours and PyTorch's, and the floors."""
    rows, wrong = [], []
    for name, i, o, times in linears(layers, c, v):
        for way, (a, b) in ways(place, n, i, o).items():
            found = one(place, a, b)
            rows.append({"name": f"{name} {way}", "times": times, **found})
            wrong += [f"{name} {way}: {found['error']}"] if "error" in found else []
    fused = [row for row in rows if not row["name"].startswith("q, k or v")]
    apart = [row for row in rows if not row["name"].startswith("q, k and v")]
    floor = lambda rows, key: sum(row["times"] * row.get(key, 0) for row in rows) / 1e3
    flops = sum(row["times"] * row["TFLOP"] for row in apart)
    result = {
        "floor ms": floor(apart, "us"),
        "with q, k, v at once": floor(fused, "us"),
        "tuned": floor(apart, "tuned us"),
        "PyTorch's": floor(apart, "torch us"),
        "its, at once": floor(fused, "torch us"),
        "TFLOP/s": flops / max(floor(apart, "us") / 1e3, 1e-9),
    }
    result["table"] = "\n".join(
        f"    {row['name']:22} × {row['times']:3} {row.get('us', 0):9.1f} us {row.get('TFLOP/s', 0):7.1f} TFLOP/s, "
        f"tuned {row.get('tuned us', 0):9.1f} us"
        f"   PyTorch {row['torch us']:9.1f} us {row['torch TFLOP/s']:7.1f} TFLOP/s" for row in rows
    )  # fmt: skip
    result["rows"] = rows
    return {"error": "; ".join(wrong), **result} if wrong else result


def linears(layers, c, v):
    """(name, inputs, outputs, how many there are)"""
    return [("q, k or v", c, c, 3 * layers), ("q, k and v", c, 3 * c, layers), ("attention's out", c, c, layers),
            ("MLP in", c, 4 * c, layers), ("MLP out", 4 * c, c, layers), ("logits", c, v, 1)]  # fmt: skip


def ways(place, n, i, o):
    x, w, dy = (place.normal(seed, shape, "bfloat16") for seed, shape in enumerate(((n, i), (i, o), (n, o))))
    return {"y": (x, w), "dx": (dy, w.T), "dw": (x.T, dy)}


def one(place, a, b):
    torch = import_module("torch")
    flops = 2 * a.shape[0] * a.shape[1] * b.shape[1] / 1e12
    theirs = [as_torch(torch, place, x) for x in (a, b)]
    took = torch_seconds(place, lambda: theirs[0] @ theirs[1])
    result = {"TFLOP": flops, "torch us": took * 1e6, "torch TFLOP/s": flops / took}
    try:
        with place.poisoned():
            found = cuda_cublaslt.multiply(a, b)
            same = place.same(found, cuda_cublaslt.multiply(a, b))
        took = place.seconds(lambda: cuda_cublaslt.multiply(a, b))
        with tuning():
            cuda_cublaslt.multiply(a, b)
        tuned = place.seconds(lambda: cuda_cublaslt.multiply(a, b))
    except Exception as error:
        return {**result, "error": f"{type(error).__name__}: {error}"[:1000]}
    rows = slice(0, 256)  # against float64, of which a whole product would take long
    errors = [relative(found[rows], a[rows].astype("f8") @ b.astype("f8"))]
    return judged(
        {**result, "us": took * 1e6, "TFLOP/s": flops / took, "tuned us": tuned * 1e6},
        errors,
        TOLERANCE["bfloat16"],
        same,
    )


def as_torch(torch, place, x):
    """The same numbers, lying the same way, for PyTorch."""
    if x.flags.c_contiguous:
        if place.tiny:
            return torch.from_numpy(x.get().view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(x.view("i2")).view(torch.bfloat16)  # DLPack of bfloat16 is not CuPy's everywhere
    return as_torch(torch, place, x.T).T
