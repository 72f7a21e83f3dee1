"""What the benchmarks share: a description of the machine, its limit, and a file that results are added to."""

import json
import platform
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from tinygrad_lm.threads import cores, parallel, workers

RESULTS = Path(__file__).parent / "results.jsonl"


def machine():
    """The processor, its cores, and the libraries that compute, as a line of text."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line or (
        "cpu family" in line)] if info.exists() else []  # fmt: skip
    blas = next((b for b in threadpool_info() if b["user_api"] == "blas" and "numpy" in b["filepath"]), {})
    processor = f"{names[1]} family {names[0]}" if len(names) > 1 else platform.processor() or platform.machine()
    library = f"{blas.get('internal_api')} {blas.get('version')} for {blas.get('architecture')}"
    return f"{processor}, {cores()} cores; NumPy {np.__version__} with {library}"


def record(benchmark, **results):
    """Add a line to results.jsonl."""
    with open(RESULTS, "a") as file:
        file.write(json.dumps({"benchmark": benchmark, "machine": machine(), **results}) + "\n")


def product_ceiling(n=1024):
    """What the machine's matrix products reach: each core with its own product, in FLOP/s."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    with workers(cores()):
        began = time.perf_counter()
        parallel(lambda _: a @ b, range(8 * cores()))
        return 8 * cores() * 2 * n**3 / (time.perf_counter() - began)


def product_flops(parameters, config, batch_size):
    """The floating-point operations in the matrix products of one training step.

    A matrix of n entries takes 2 n a token forward and 4 n backward. Attention has two products forward and four
    backward, of half T × T each; what a kernel computes again to save memory is not counted.
    """
    tokens = batch_size * config.block_size
    matrices = sum(p.size for name, p in parameters.items() if p.ndim == 2 and name.startswith(("h.", "lm_head")))
    matrices += parameters["wte.weight"].size if config.tied else 0
    return 6 * tokens * (matrices + config.n_layer * config.block_size * config.n_embd)


def status(entry):
    """An entry of this process's memory status, in bytes: VmRSS now, VmHWM at the highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))
