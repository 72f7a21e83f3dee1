"""Time of a training step, ours against PyTorch eager and torch.compile, side by side.

    python benchmarks/train_step.py                                # both of nanoGPT's character models
    python benchmarks/train_step.py --preset nanogpt-cpu --rounds 10

Same network, weights, batches, optimizer and data type. They take turns, a few steps each, so that whatever else the
machine does falls on all of them; medians and ratios of medians are printed, and a line is added to results.jsonl.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from common import machine, product_ceiling, product_flops, record
from torch_nanogpt import TorchGPT, TorchTrainer

from tinygrad_lm import kernels
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores, keep_memory, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

CASES = {"nanogpt-cpu": (12, 25), "nanogpt-shakespeare": (8, 4)}  # batch size, steps a turn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    print(f"{machine()}, PyTorch {torch.__version__}")
    keep_memory()  # for all contenders alike, and before any of them starts threads
    for preset in args.preset or CASES:
        compare(preset, args)


def compare(preset, args):
    shape, (batch_size, steps) = replace(PRESETS[preset], dropout=0.0), CASES[preset]
    config = TrainConfig(**RECIPES[preset] | {"steps": 10**6, "batch_size": batch_size})
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 100_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, shape.block_size)
    parameters = GPT(shape).flat

    def ours(alone):
        trainer = Trainer(GPT(shape), batches, config, default_shares(config.batch_size))

        def step(i):
            with kernels.disabled() if alone else nullcontext():
                return trainer.step(i)[0]

        return step

    def theirs(mode):
        network = TorchGPT(shape)
        network.load(parameters)
        peer = TorchTrainer(network, config, mode)
        return lambda i: peer.step(*batches(i), config.rate_factor(i))

    contenders = {"tinygrad_lm": ours(False), "  NumPy alone": ours(True), "PyTorch eager": theirs(None)}
    if not args.no_compile:
        contenders["torch.compile"] = theirs("default")

    times, losses, ceiling = {name: [] for name in contenders}, {}, 0.0
    for turn in range(args.rounds + 1):
        ceiling = max(ceiling, product_ceiling())
        for name, step in contenders.items():
            with nullcontext() if "orch" in name else workers(cores()):
                for i in range(steps):
                    began = time.perf_counter()
                    losses[name] = step(turn * steps + i)
                    if turn:  # the first round warms up
                        times[name].append(time.perf_counter() - began)

    size = config.batch_size * shape.block_size
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    floor = product_flops(parameters, shape, config.batch_size) / ceiling
    print(f"\n{preset}: {shape.n_layer} layers × {shape.n_embd}, batch {config.batch_size} × {shape.block_size}")
    for name, seconds in medians.items():
        ratio = seconds / medians["tinygrad_lm"]
        print(
            f"  {name:14}{seconds * 1e3:8.1f} ms a step {size / seconds:9,.0f} tokens/s {ratio:6.2f} × our time, "
            f"{floor / seconds:4.0%} of the ceiling, loss {losses[name]:.5f}"
        )
    print(f"  the products alone at {ceiling / 1e9:.0f} GFLOP/s, what this machine reaches: {floor * 1e3:.1f} ms")
    record("train_step", preset=preset, seconds=medians, losses=losses, floor=floor, flops=ceiling)


if __name__ == "__main__":
    main()
