"""Everything that a short visit to a GPU should answer, in one command, one table and one JSON file.

    python benchmarks/gpu_check.py                      # about five minutes
    python benchmarks/gpu_check.py --out gpu.json --no-tests

What is there (card, driver, CUDA, libraries); the tests marked gpu and every operation on CuPy arrays against NumPy;
each kernel against its rule at the size of a real model and how many bytes a second it moves; training steps with the
kernels and without. A part that fails says so in its line, and the others go on. Written without a GPU at hand.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tinygrad_lm import kernels
from tinygrad_lm.backend import resolve_device
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import DeviceError
from tinygrad_lm.kernels import cuda_adamw, cuda_columns
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.loop import Trainer

ROOT = Path(__file__).parents[1]
N, T, C, V = 16 * 1024, 1024, 768, 50304  # tokens a batch and a text, channels, vocabulary: GPT-2 124M
RESULTS = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--no-tests", action="store_true", help="leave pytest out")
    args = parser.parse_args()
    try:
        resolve_device("cuda")
    except DeviceError as error:
        parser.error(str(error))
    import cupy

    try:
        check(cupy, args.no_tests)
    finally:
        args.out.write_text(json.dumps(RESULTS, indent=1) + "\n")
        print(f"\n{sum('error' in r for r in RESULTS)} of {len(RESULTS)} parts failed; written to {args.out}")


def check(cupy, no_tests):
    part("environment", environment, cupy)
    if not no_tests:
        part("pytest -m gpu", tests)
    kernels.load()
    for name, inputs, options, moved in cases(cupy.random.RandomState(0)):
        for dtype in ("float32", "bfloat16"):
            part(f"{name} {dtype}", time_kernel, cupy, name, inputs, options, dtype, moved)
    part("column sums float32", time_columns, cupy)
    part("adamw float32", time_adamw, cupy)
    for preset, batch_size in (("nanogpt-shakespeare", 64), ("gpt2", 16)):
        for fast in (False, True):
            part(f"step of {preset}, {'kernels' if fast else 'rules'}", time_step, cupy, preset, batch_size, fast)


def part(name, function, *args):
    """Run one part; its findings, or its error, become a line of the table and of the file."""
    try:
        found = function(*args)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:2000], "trace": traceback.format_exc()[-3000:]}
    RESULTS.append({"part": name, **found})
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in found.items() if k not in ("trace", "output")}
    print(f"{name:32}", "  ".join(f"{k} {v}" for k, v in shown.items()), flush=True)


def environment(cupy):
    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(0)
    return {
        "card": card["name"].decode(), "GB": card["totalGlobalMem"] / 1e9, "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(), "nvrtc": str(cupy.cuda.nvrtc.getVersion()), "cupy": cupy.__version__,
        "numpy": np.__version__, "python": sys.version.split()[0],
    }  # fmt: skip


def tests():
    """The kernels and their training, and every operation's cases, on CuPy."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "-m",
        "gpu",
        "tests/kernels",
        "tests/ops/test_on_gpu.py",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=420)
    lines = ended.stdout.strip().splitlines() or [ended.stderr[-500:]]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    found = {"summary": lines[-1], "failed": failed[:40], "output": ended.stdout[-20_000:]}
    return found if ended.returncode == 0 else found | {"error": f"pytest ended with {ended.returncode}"}


def cases(rng):
    """(operation, its inputs in float32, options, how many times N × C entries forward and backward move)."""
    x, gain = rng.standard_normal((N, C), "f4"), rng.standard_normal(C, "f4")
    for name in ("relu_squared", "silu", "gelu", "gelu_tanh"):
        yield name, (x,), {}, (2, 3)
    yield "layer_norm", (x, gain, gain), {}, (2, 3)
    yield "rms_norm", (x, gain), {}, (2, 3)
    yield "dropout", (x,), {"p": 0.1, "key": (0, "check", 1)}, (2, 2)
    q, k, v = rng.standard_normal((3, N // T, T, C // 64, 64), "f4")
    yield "rotary", (q,), {}, (2, 2)
    yield "embedding", (rng.standard_normal((V, C), "f4"), rng.randint(0, V, N).astype("i4")), {}, (2, 1 + V / N)
    logits, targets = rng.standard_normal((N // 4, V), "f4"), rng.randint(0, V, N // 4).astype("i4")
    yield "cross_entropy", (logits, targets), {}, (V / 4 / C, V / 2 / C)
    yield "attention", (q, k, v), {}, (4, 8)


def time_kernel(cupy, name, inputs, options, dtype, moved):
    """The kernel's largest errors against the rule in float32 on the same numbers, and the time of both ways."""
    op = Op.registry[name]
    if name == "attention" and dtype == "float32":
        return {"left out": "float32 goes to the rule"}
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    y, backward = op.kernels["cuda"](*inputs, **options)
    dy = cupy.random.RandomState(1).standard_normal(y.shape, "f4").astype(dtype)
    dxs = [dx for dx in backward(dy) if dx is not None]
    exact = [x if x.dtype.kind in "iu" else x.astype("f4") for x in inputs]
    if name == "attention":  # the rule's weights for one sequence at a time
        exact, found, dy_exact = [x[:1] for x in exact], [x[:1] for x in (y, *dxs)], dy[:1].astype("f4")
    else:
        found, dy_exact = [y, *dxs], dy.astype("f4")
    right, back = op.rule(*exact, **options)
    expected = [right, *(dx for dx in back(dy_exact) if dx is not None)]
    errors = [difference(x, e.sum(0) if e.ndim > x.ndim else e) for x, e in zip(found, expected, strict=True)]
    again = [dx for dx in backward(dy) if dx is not None]
    same = all(a.get().tobytes() == b.get().tobytes() for a, b in zip(dxs, again, strict=True))
    del right, back, exact, expected, again
    forward_s = seconds(cupy, lambda: op.kernels["cuda"](*inputs, **options))
    backward_s = seconds(cupy, lambda: backward(dy))
    size = N * C * np.dtype(dtype).itemsize / 1e9
    if name == "attention":
        flops = 2 * N * T * C / 1e12  # two products, half of each seen
        return {"errors": " ".join(f"{e:.1e}" for e in errors), "reproducible": same,
                "forward us": forward_s * 1e6, "TFLOP/s": flops / forward_s,
                "backward us": backward_s * 1e6, "back TFLOP/s": 2.5 * flops / backward_s}  # fmt: skip
    return {"errors": " ".join(f"{e:.1e}" for e in errors), "reproducible": same,
            "forward us": forward_s * 1e6, "GB/s": moved[0] * size / forward_s,
            "backward us": backward_s * 1e6, "back GB/s": moved[1] * size / backward_s}  # fmt: skip


def difference(x, right):
    """The largest difference, as a part of the largest number or of 1; NaN if there is one."""
    return float(abs(x.astype("f4") - right).max() / max(1.0, float(abs(right).max())))


def seconds(cupy, function, repeats=20):
    """The median time on the device, after three calls to warm up."""
    start, stop, found = cupy.cuda.Event(), cupy.cuda.Event(), []
    for _ in range(repeats + 3):
        start.record()
        function()
        stop.record()
        stop.synchronize()
        found.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return float(np.median(found[3:]))


def time_columns(cupy):
    x = cupy.random.RandomState(0).standard_normal((N, C), "f4")
    sums_s = seconds(cupy, lambda: cuda_columns.column_sums(x, x.dtype))
    off = difference(cuda_columns.column_sums(x, x.dtype), x.astype("f8").sum(0))
    return {"errors": f"{off:.1e}", "us": sums_s * 1e6, "GB/s": x.nbytes / 1e9 / sums_s}


def time_adamw(cupy):
    n = 124_000_000
    w, g, m = (cupy.random.RandomState(i).standard_normal(n, "f4") for i in range(3))
    v = m * m
    update = lambda: AdamW.kernels["cuda"](w, g, m, v, 1e-4, 0.9, 0.99, 0.1, 0.01, 1e-8, 0.1)
    update_s, norm_s = seconds(cupy, update), seconds(cupy, lambda: cuda_adamw.squared_norm(g))
    error = float(cuda_adamw.squared_norm(g)) / float(cupy.vdot(g, g)) - 1
    return {"us": update_s * 1e6, "GB/s": 28 * n / 1e9 / update_s, "norm us": norm_s * 1e6,
            "norm GB/s": 4 * n / 1e9 / norm_s, "norm error": error}  # fmt: skip


def time_step(cupy, preset, batch_size, fast):
    """Losses of the first steps and the median time of one, in float32; with kernels, or with the rules alone."""
    shape, rng = PRESETS[preset], np.random.default_rng(0)
    cupy.get_default_memory_pool().free_all_blocks()
    config = TrainConfig(**RECIPES[preset] | {"steps": 100, "batch_size": batch_size})
    tokens = rng.integers(0, shape.vocab_size, (12, batch_size, shape.block_size + 1)).astype(np.int32)
    trainer = Trainer(GPT(shape, device="cuda"), lambda step, part: (tokens[step, :, :-1], tokens[step, :, 1:]), config)
    losses, times = [], []
    with nullcontext() if fast else kernels.numpy_alone():
        for step in range(12):
            began = time.perf_counter()
            losses.append(trainer.step(step)[0])
            cupy.cuda.Device().synchronize()
            times.append(time.perf_counter() - began)
    step_s, memory = float(np.median(times[3:])), cupy.get_default_memory_pool().total_bytes()
    return {"losses": " ".join(f"{x:.4f}" for x in losses[:3]), "ms": step_s * 1e3,
            "tokens/s": batch_size * shape.block_size / step_s, "GB": memory / 1e9}  # fmt: skip


if __name__ == "__main__":
    main()
