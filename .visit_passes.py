"""Times of the passes over memory on a GPU, in turns of variants: python .visit_passes.py [result.json]

Each variant in its own try, so that one that fails leaves the others. Microseconds are medians of 20 calls between
events within a CUDA graph of 10 launches (so no host time); GB/s count what must be moved at least. The L2 cache is not
flushed: arrays are 50 MB and more, but for those marked "small".
"""

import json
import statistics
import sys
import time

import cupy
import ml_dtypes
import numpy as np

from tinygrad_lm import kernels, ops
from tinygrad_lm.kernels.cuda import columns, cross_entropy, embedding, normalize
from tinygrad_lm.kernels.cuda import compile as cc
from tinygrad_lm.kernels.cuda.compile import f4, i4, i8, kernel, width
from tinygrad_lm.kernels.cuda.elementwise import scaled

kernels.enable()
bf16 = np.dtype(ml_dtypes.bfloat16)
found, began = {}, time.time()
stream = cupy.cuda.Stream(non_blocking=True)
LAUNCHES = 10


def normal(seed, *shape, dtype=bf16):
    return cupy.random.RandomState(seed).standard_normal(shape, "f4").astype(dtype)


def microseconds(call):
    """Of one call: a graph of ten is replayed, between events."""
    with stream:
        for _ in range(2):
            call()  # compiles; the pool gets its arrays
        stream.synchronize()
        stream.begin_capture()
        try:
            for _ in range(LAUNCHES):
                call()
        finally:
            graph = stream.end_capture()
        times = []
        for _ in range(9):
            a, b = cupy.cuda.Event(), cupy.cuda.Event()
            a.record(stream)
            graph.launch(stream)
            b.record(stream)
            b.synchronize()
            times.append(cupy.cuda.get_elapsed_time(a, b) * 1e3 / LAUNCHES)
    return statistics.median(times[2:])


def timed(name, moved, call):
    """One line of the table. moved: bytes."""
    try:
        us = microseconds(call)
        found[name] = {"us": round(us, 1), "GB/s": round(moved / us / 1e3)}
    except Exception as error:  # the next variant may do better
        found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(f"{time.time() - began:5.1f} s  {name:58s} {found[name]}", flush=True)


def patched(module, **values):
    old = {key: getattr(module, key) for key in values}
    for key, value in values.items():
        setattr(module, key, value)
    return lambda: [setattr(module, key, value) for key, value in old.items()]


def with_source(file, changes, call):
    """`call` with lines of a source replaced; module caches are emptied before and after."""
    whole = cc.source

    def changed(name):
        text = whole(name)
        for a, b in changes if name == file else ():
            assert a in text, a
            text = text.replace(a, b)
        return text

    def run():
        cc.source = changed
        cc.module.cache_clear(), cc.compiled.cache_clear()
        return call()

    def restore():
        cc.source = whole
        cc.module.cache_clear(), cc.compiled.cache_clear()

    return run, restore


# Losses: 4096 rows of GPT-2's logits, as a step has them eight times.
def losses():
    N, V = 4096, 50304
    z, t = normal(0, N, V), cupy.random.RandomState(1).randint(0, V, N).astype("i4")
    share, nll = cupy.full((), 1 / N, f4), cupy.empty(N, f4)
    W = width(V, z)
    moved = 2 * z.nbytes

    def launch(threads, shared, kept):
        k = kernel("cross_entropy", "losses_and_gradients", z, W, shared, KEPT=kept)
        return lambda: k(N, threads, share, i4(0), z, t, nll, i4(V), i4(-100))

    row = V * 2
    for threads in (256, 512, 768, 1024):
        for name, shared, kept in (("kept in shared memory", row, 1), ("read twice", 0, 0)):
            timed(f"losses_and_gradients {threads} threads, {name}", moved, launch(threads, shared, kept))
    # One block a multiprocessor: the second reading stays within 132 rows, 13 MB. SHARED is what keeps others out.
    limit, cc.SHARED = cc.SHARED, 200 * 1024
    cc.compiled.cache_clear()
    for threads in (512, 1024):
        timed(f"losses_and_gradients {threads} threads, read twice, 1 block a multiprocessor", moved,
              launch(threads, 130 * 1024, 0))
        timed(f"losses_and_gradients {threads} threads, kept, 1 block a multiprocessor", moved,
              launch(threads, 130 * 1024, 1))
    cc.SHARED = limit
    cc.compiled.cache_clear()
    for packets in (2, 6):
        changes = [("const int PACKETS = 4;", f"const int PACKETS = {packets};")]
        run, restore = with_source("cross_entropy", changes, lambda: launch(512, row, 1))
        try:
            timed(f"losses_and_gradients 512 threads, kept, {packets} packets at once", moved, run())
        finally:
            restore()
    timed("share_of_counted, 32,768 (small)", 4 * 32768, lambda: cross_entropy.share_of_counted(many, i4(-100)))
    timed("mean_loss, 32,768 (small)", 4 * 32768, lambda: cross_entropy.mean(losses_of, share))


many = cupy.random.RandomState(2).randint(0, 50304, 32768).astype("i4")
losses_of = normal(3, 32768, dtype=f4)


def norms():
    for N, C in ((32768, 768), (16384, 384), (32768, 1024), (8192, 1600)):
        x, dy, total, w, b = normal(4, N, C), normal(5, N, C), normal(6, N, C), normal(7, C), normal(8, C)
        name, size = f"{N} x {C}", x.nbytes
        timed(f"norm forward {name}", 2 * size, lambda: ops.layer_norm.run(x, w, b))
        _, backward = ops.layer_norm.run(x, w, b)
        for blocks in (264, 396, 528, 792, 1056):
            restore = patched(normalize, BLOCKS=blocks)
            timed(f"norm backward {name}, {blocks} blocks", 3 * size, lambda: backward(dy)[0]())
            restore()
        timed(f"norm backward {name} + total", 4 * size, lambda: backward(dy)[0].plus(total))

        def all_three():
            dx, dw, db = backward(dy)
            dx(), dw(), db()

        timed(f"norm backward {name} with dw and db", 3 * size, all_three)
    N, C = 32768, 768
    x, w, b = normal(4, N, C), normal(7, C), normal(8, C)
    for warps in (2, 8):
        restore = patched(normalize, WARPS=warps)
        timed(f"norm forward {N} x {C}, {warps} warps a block", 2 * x.nbytes, lambda: ops.layer_norm.run(x, w, b))
        restore()
    # The former way: a block of 96 threads has a row.
    restore = patched(normalize, PACKETS=1)
    _, backward = ops.layer_norm.run(x, w, b)
    timed(f"norm forward {N} x {C}, a block a row", 2 * x.nbytes, lambda: ops.layer_norm.run(x, w, b))
    timed(f"norm backward {N} x {C}, a block a row", 3 * x.nbytes, lambda: backward(x)[0]())
    restore()


def sums():
    for N, C in ((32768, 768), (32768, 3072), (16384, 384), (16384, 1536)):
        x = normal(9, N, C)
        for blocks in (264, 528, 1056, 2112):
            restore = patched(columns, BLOCKS=blocks)
            timed(f"column_sums {N} x {C}, {blocks} blocks", x.nbytes, lambda: columns.column_sums(x))
            restore()
    x = normal(10, 528, 768, dtype=f4)
    timed("column_sums 528 x 768 float32 (small)", x.nbytes, lambda: columns.column_sums(x))


def entries():
    a, b, wide, dwide = normal(11, 32768, 768), normal(12, 32768, 768), normal(13, 32768, 3072), normal(14, 32768, 3072)
    one = cupy.ones((), f4)
    timed("add 32768 x 768", 3 * a.nbytes, lambda: ops.add.run(a, b))
    timed("scaled 32768 x 768", 2 * a.nbytes, lambda: scaled(a, one))
    for name in ("gelu_tanh", "gelu", "silu"):
        op = getattr(ops, name)
        timed(f"{name} forward 32768 x 3072", 2 * wide.nbytes, lambda: op.run(wide))
        _, backward = op.run(wide)
        timed(f"{name} backward 32768 x 3072", 3 * wide.nbytes, lambda: backward(dwide))
    x = a[:8192].reshape(64, 256, 384)
    counter = cupy.asarray(np.array([3, 0], np.uint64))
    timed("dropout 64 x 256 x 384 (small)", 2 * x.nbytes, lambda: ops.dropout.run(x, p=0.2, key=(5, "test", counter)))
    x = wide.reshape(64, 512, 3072)
    timed("dropout 64 x 512 x 3072", 2 * x.nbytes, lambda: ops.dropout.run(x, p=0.2, key=(5, "test", counter)))


def rows():
    ids = cupy.asarray((np.random.default_rng(0).zipf(1.2, 32768) - 1) % 50304, i4)
    dy = normal(15, 32768, 768)
    for V in (50304, 1024):
        w = normal(16, V, 768)
        here = ids % V if V > 1024 else cupy.tile(cupy.arange(1024, dtype=i4), 32)
        _, backward = ops.embedding.run(w, here)
        timed(f"embedding backward, V = {V}, with sorting", dy.nbytes + w.nbytes, lambda: backward(dy))


for part in (losses, norms, sums, entries, rows):
    try:
        part()
    except Exception as error:
        print(part.__name__, "ended:", type(error).__name__, str(error)[:300], flush=True)
    cupy.get_default_memory_pool().free_all_blocks()
if len(sys.argv) > 1:
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
