"""Time of a training step, ours against PyTorch eager and torch.compile, side by side.

    python benchmarks/train_step.py                                # both of nanoGPT's character models
    python benchmarks/train_step.py --preset nanogpt-cpu --rounds 10

Same network, weights, batches, optimizer and data type. The three take turns, a few steps each, so that whatever else
the machine does falls on all of them; medians and ratios of medians are printed, and a line is added to results.jsonl.
"""

import argparse
import json
import platform
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch_nanogpt import TorchGPT, TorchTrainer

from tinygrad_lm.backend import cores, parallel, workers
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.loop import Trainer

BATCH = {"nanogpt-cpu": 12, "nanogpt-shakespeare": 8}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=BATCH, action="append")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5, help="of each in a round")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    versions = f"NumPy {np.__version__}, PyTorch {torch.__version__}"
    print(f"{platform.processor() or platform.machine()}, {cores()} cores, {versions}")
    for preset in args.preset or BATCH:
        compare(preset, args)


def compare(preset, args):
    model_config = replace(PRESETS[preset], dropout=0.0)
    config = TrainConfig(**RECIPES[preset] | {"steps": 10**6, "batch_size": BATCH[preset]})
    tokens = np.random.default_rng(0).integers(0, model_config.vocab_size, 100_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, model_config.block_size)
    model = GPT(model_config)
    trainer = Trainer(model, batches, config, cores())

    def ours(step):
        return trainer.step(step)[0]

    contenders = {"tinygrad_lm": ours}
    for name, compiled in {"PyTorch eager": False, "torch.compile": True}.items():
        if not (compiled and args.no_compile):
            network = TorchGPT(model_config)
            network.load(model.parameters)
            peer = TorchTrainer(network, config, compiled)
            contenders[name] = lambda step, peer=peer: peer.step(*batches(step), config.rate(step))

    times, losses, ceiling = {name: [] for name in contenders}, {}, 0.0
    for turn in range(args.rounds + 1):
        ceiling = max(ceiling, products())
        for name, step in contenders.items():
            with workers(cores()) if step is ours else nullcontext():
                for i in range(args.steps):
                    began = time.perf_counter()
                    losses[name] = step(turn * args.steps + i)
                    if turn:  # the first round warms up
                        times[name].append(time.perf_counter() - began)

    size = config.batch_size * model_config.block_size
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(
        f"\n{preset}: batch {config.batch_size} x {model_config.block_size}; products reach {ceiling:.0f} GFLOP/s here"
    )
    for name, seconds in medians.items():
        ratio, rate = seconds / medians["tinygrad_lm"], size / seconds
        print(
            f"  {name:14} {seconds * 1e3:8.1f} ms a step {rate:9,.0f} tokens/s {ratio:6.2f}   loss {losses[name]:.5f}"
        )
    record = {"preset": preset, "seconds": medians, "losses": losses, "gflops": ceiling, "cores": cores()}
    with open(Path(__file__).parent / "results.jsonl", "a") as file:
        file.write(json.dumps({"benchmark": "train_step"} | record) + "\n")


def products(n=1024):
    """What the machine's matrix products reach: each core with a product of its own, in GFLOP/s."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    with workers(cores()):
        began = time.perf_counter()
        parallel(lambda _: a @ b, range(8 * cores()))
        return 8 * cores() * 2 * n**3 / (time.perf_counter() - began) / 1e9


if __name__ == "__main__":
    main()
