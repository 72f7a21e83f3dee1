"""How the time of a training step grows with layers, width, context and batch: a plot with the floor.

    python benchmarks/scaling.py               # writes scaling.png beside this file

Each of the four is doubled by itself, starting from nanoGPT's smaller character model. The floor is what the matrix
products alone would take at the rate that this machine reaches.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import machine, product_ceiling, product_flops, record
from matplotlib.figure import Figure

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

PRESET = "nanogpt-cpu"
AXES = {
    "layers": ("n_layer", [1, 2, 4, 8, 16]),
    "width": ("n_embd", [64, 128, 256, 512]),
    "context": ("block_size", [32, 64, 128, 256, 512, 1024]),
    "batch": ("batch_size", [2, 4, 8, 16, 32, 64]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="at each point")
    args = parser.parse_args()
    print(machine())
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    ceiling = max(product_ceiling() for _ in range(5))
    for plot, (title, (field, values)) in zip(figure.subplots(1, 4, sharey=True), AXES.items(), strict=True):
        points = [measure(field, value, args.steps, ceiling) for value in values]
        seconds, floors = zip(*points, strict=True)
        plot.loglog(values, np.multiply(seconds, 1e3), "o-", label="a step")
        plot.loglog(values, np.multiply(floors, 1e3), "k:", label="its products alone")
        plot.set(xlabel=title, xticks=values, xticklabels=values)
        plot.minorticks_off()
        for value, s, f in zip(values, seconds, floors, strict=True):
            print(f"{title:8} {value:5} {s * 1e3:8.1f} ms, of which products {f / s:4.0%}")
        record("scaling", axis=title, values=values, seconds=seconds, floors=floors)
    figure.axes[0].set_ylabel("milliseconds")
    figure.axes[0].legend(frameon=False)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=130)
    print(path)


def measure(field, value, steps, ceiling):
    """Median seconds of a step, and the floor."""
    shape, settings = PRESETS[PRESET], RECIPES[PRESET] | {"steps": 10**6, "batch_size": 8}
    if field == "batch_size":
        settings["batch_size"] = value
    else:
        shape = replace(shape, **{field: value})
    config = TrainConfig(**settings)
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 100_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, shape.block_size)
    trainer = Trainer(GPT(shape), batches, config, default_shares(config))
    times = []
    with workers(cores()):
        for i in range(steps + 2):
            began = time.perf_counter()
            trainer.step(i)
            times.append(time.perf_counter() - began)
    return statistics.median(times[2:]), product_flops(trainer.model.flat, shape, config.batch_size) / ceiling


if __name__ == "__main__":
    main()
