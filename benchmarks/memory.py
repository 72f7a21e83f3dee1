"""Peak memory of a training step, ours against PyTorch, each in a separate process (Linux only).

    python benchmarks/memory.py

Counted is the growth of the resident set, from after a step of a tiny network, which loads and compiles what every
network needs, to the highest point of five steps: weights, gradients, moments, and all that a step allocates. What was
free before, after compiling, is given back to the system first: it would be used again without being counted.
"""

import argparse
import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import machine, record, status

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

BATCH = {"nanogpt-cpu": 12, "nanogpt-shakespeare": 8}
CONTENDERS = [name + dtype for name in ("tinygrad_lm", "PyTorch eager", "torch.compile") for dtype in ("", " bfloat16")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("CONTENDER", "PRESET"), help="one of them, in this process")
    args = parser.parse_args()
    if args.measure:
        print(measure(*args.measure))
        return
    print(f"{machine()}\n{'MiB':22}" + "".join(f"{name:>24}" for name in CONTENDERS))
    for preset in BATCH:
        found = {}
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--measure", contender, preset]
            found[contender] = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(f"{preset:22}" + "".join(f"{value / 2**20:24.0f}" for value in found.values()))
        record("memory", preset=preset, bytes=found)


def measure(contender, preset):
    """The bytes that five steps take."""
    shape = replace(PRESETS[preset], dropout=0.0)
    config = TrainConfig(**RECIPES[preset] | {"steps": 100, "batch_size": BATCH[preset]})
    with workers(cores()):
        five_steps(contender, replace(shape, n_layer=1, n_embd=8 * shape.n_head, block_size=16), config)
        ctypes.CDLL(None).malloc_trim(0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the highest point so far is forgotten
        five_steps(contender, shape, config)
        return status("VmHWM") - before


def five_steps(contender, shape, config):
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 100_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, shape.block_size)
    name, _, dtype = contender.partition(" bf")
    if name == "tinygrad_lm":
        model = GPT(shape, dtype="bfloat16" if dtype else "float32")
        step = Trainer(model, batches, config, shares_of(model, config)).step
    else:
        from torch_nanogpt import TorchGPT, TorchTrainer

        mode = "default" if name == "torch.compile" else None
        peer = TorchTrainer(TorchGPT(shape), config, mode, bf16=bool(dtype))
        step = lambda i: peer.step(*batches(i), config.rate_factor(i))
    for i in range(5):
        step(i)


if __name__ == "__main__":
    main()
