"""Time of a training step, ours against PyTorch's and JAX's, side by side.

    python benchmarks/train_step.py                       # nanoGPT's two character models and a larger one
    python benchmarks/train_step.py --case 4x128 --rounds 10

Same network, weights, batches and optimizer; float32, and bfloat16 in the products: PyTorch's by autocast, eager and
compiled. They take turns, a few steps each, so that whatever else the machine does falls on all of them; medians and
ratios of medians are printed, and a line is added to results.jsonl. JAX is left out where it is not installed.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from common import machine, product_ceiling, product_flops, record
from torch_nanogpt import TorchGPT, TorchTrainer

from tinygrad_lm import kernels
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import keep_memory, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

CASES = {  # preset, what differs from it, batch size, steps a turn
    "4x128": ("nanogpt-cpu", {}, 12, 25),
    "6x384": ("nanogpt-shakespeare", {}, 8, 4),
    "12x768": ("nanogpt-shakespeare", {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512}, 4, 1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    print(f"{machine()}, PyTorch {torch.__version__}")
    keep_memory()  # for all contenders alike, and before any of them starts threads
    for case in args.case or CASES:
        compare(case, args)


def compare(case, args):
    preset, others, batch_size, steps = CASES[case]
    shape = replace(PRESETS[preset], dropout=0.0, **others)
    config = TrainConfig(**RECIPES[preset] | {"steps": 10**6, "batch_size": batch_size})
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 100_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, shape.block_size)
    parameters = GPT(shape).flat

    def ours(dtype, alone=False):
        model = GPT(shape, dtype=dtype)
        trainer = Trainer(model, batches, config, shares_of(model, config))

        def step(i):
            with kernels.disabled() if alone else nullcontext():
                return trainer.step(i)[0]

        return step, partial(workers, trainer.threads)

    def theirs(mode, bf16):
        network = TorchGPT(shape)
        network.load(parameters)
        peer = TorchTrainer(network, config, mode, bf16=bf16)
        return lambda i: peer.step(*batches(i), config.rate_factor(i)), nullcontext

    contenders = {"tinygrad_lm": ours("float32"), "tinygrad_lm bfloat16": ours("bfloat16")}
    contenders["  NumPy alone"] = ours("float32", alone=True)
    for mode in (None,) if args.no_compile else (None, "default"):
        for bf16 in (False, True):
            contenders[f"{'torch.compile' if mode else 'PyTorch eager'}{' bfloat16' * bf16}"] = theirs(mode, bf16)
    if find_spec("jax") and find_spec("optax"):
        from jax_nanogpt import jax_trainer

        contenders["JAX"] = jax_trainer(parameters, shape, config, batches), nullcontext

    times, losses, ceiling = {name: [] for name in contenders}, {}, 0.0
    for turn in range(args.rounds + 1):
        ceiling = max(ceiling, product_ceiling())
        for name, (step, at_work) in contenders.items():
            with at_work():
                for i in range(steps):
                    began = time.perf_counter()
                    losses[name] = step(turn * steps + i)
                    if turn:  # the first round warms up
                        times[name].append(time.perf_counter() - began)

    size = config.batch_size * shape.block_size
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    floor = product_flops(parameters, shape, config.batch_size) / ceiling
    print(f"\n{case}: {shape.n_layer} layers × {shape.n_embd}, batch {config.batch_size} × {shape.block_size}")
    for name, seconds in medians.items():
        ratio = seconds / min(medians["tinygrad_lm"], medians["tinygrad_lm bfloat16"])
        print(
            f"  {name:22}{seconds * 1e3:8.1f} ms a step {size / seconds:9,.0f} tokens/s {ratio:6.2f} × our best time, "
            f"loss {losses[name]:.5f}"
        )
    print(f"  the products alone in float32 at {ceiling / 1e9:.0f} GFLOP/s, what NumPy reaches: {floor * 1e3:.1f} ms")
    record("train_step", case=case, seconds=medians, losses=losses, floor=floor, flops=ceiling)


if __name__ == "__main__":
    main()
