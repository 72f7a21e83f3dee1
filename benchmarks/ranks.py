"""One process with several threads beside several processes: a step's time, the share spent talking, memory a process.

    python benchmarks/ranks.py                           # 1 × 2, 2 × 1 (processes × threads), in turns
    python benchmarks/ranks.py --preset gpt2 --batch-size 2 --block-size 128 --rounds 1 --memory

Each process is started anew for each round, so that none profits from another's luck. `--memory` trains with AdamW
alone, once as it is, each process with the moments of its part, and once with all moments everywhere, and compares the
difference with what was computed: 8 bytes a parameter × (1 − 1/N).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
from common import machine, record, status

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.distributed.job import connected
from tinygrad_lm.distributed.launcher import find_launcher
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import workers
from tinygrad_lm.train import trainer as training
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import shares_of

TALKING = "exchange", "gather", "broadcast"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="modern")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--block-size", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="with and without the division of the moments")
    parser.add_argument("--worker", choices=["divided", "whole"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        with connected():
            print(json.dumps(measure(args)))
        return
    print(machine())
    ways = [(n, "divided") for n in args.processes] + [(n, "whole") for n in args.processes if args.memory and n > 1]
    found = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way in ways:
            found[way].append(started(*way))
    report(found, args)


def started(processes, how):
    """What `measure` found in so many processes."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", how]
    if processes > 1:
        command = [find_launcher()[0], "-n", str(processes), *command]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(args):
    """{"seconds": of a step, "talking": of these, "bytes": sent a step, "memory": a process's peak, …} of this job."""
    shape, recipe = PRESETS[args.preset], RECIPES[args.preset] | {"steps": 10**6, "epochs": 0}
    shape = replace(shape, block_size=args.block_size or shape.block_size)
    recipe["batch_size"] = args.batch_size or recipe["batch_size"]
    if args.memory:
        recipe |= {"muon_lr": 0.0}
    config, ranks = TrainConfig(**recipe), world()
    if args.worker == "whole":
        training.sharded = lambda optimizers, ranks: optimizers
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 200_000).astype(np.int32)
    batches = Batches(tokens, config.batch_size, shape.block_size)
    model = GPT(shape, dtype=args.dtype)
    trainer = training.Trainer(model, batches, config, shares_of(model, config))
    talked = listened(ranks)
    times, talking = [], []
    with workers(trainer.threads):
        for step in range(args.steps + 3):
            began, before = time.perf_counter(), dict(talked)
            trainer.step(step)
            times.append(time.perf_counter() - began)
            talking.append(talked["seconds"] - before["seconds"])
    return {
        "seconds": statistics.median(times[3:]),
        "talking": statistics.median(talking[3:]),
        "bytes": talked["bytes"] // len(times),
        "memory": int(max(each.item() for each in ranks.gather(np.array([status("VmHWM")])))),
        "parameters": trainer.model.flat.data.size,
        "threads": trainer.threads,
    }


def listened(ranks):
    """{"seconds", "bytes"} that this rank has talked and sent, which grow from now on."""
    talked = {"seconds": 0.0, "bytes": 0}

    def timed(name, method, x, *others):
        began = time.perf_counter()
        result = method(x, *others)
        talked["seconds"] += time.perf_counter() - began
        talked["bytes"] += x.nbytes if name != "broadcast" or others == (ranks.rank,) else 0
        return result

    for name in TALKING if ranks.size > 1 else ():
        setattr(ranks, name, partial(timed, name, getattr(ranks, name)))
    return talked


def report(found, args):
    first = found[args.processes[0], "divided"]
    for (processes, how), runs in found.items():
        seconds, talking = (statistics.median(run[name] for run in runs) for name in ("seconds", "talking"))
        ratio = statistics.median(run["seconds"] / other["seconds"] for run, other in zip(runs, first, strict=True))
        size, memory = runs[0]["parameters"], min(run["memory"] for run in runs)
        bound = 2 * (processes - 1) / processes * 4 * size  # of a sum; the weights are handed round besides
        print(
            f"{processes} × {runs[0]['threads']} {how:8} {seconds * 1e3:8.1f} ms a step ({ratio:.3f} ×), "
            f"{talking / seconds:5.1%} talking, {runs[0]['bytes'] / 2**20:7.1f} MiB sent (a sum alone: "
            f"{bound / 2**20:.1f}), {memory / 2**20:,.0f} MiB a process"
        )
        record("ranks", preset=args.preset, dtype=args.dtype, processes=processes, how=how, runs=runs)
    for processes in args.processes if args.memory else ():
        if processes > 1:
            divided, whole = (min(run["memory"] for run in found[processes, how]) for how in ("divided", "whole"))
            computed = 8 * size * (1 - 1 / processes)
            print(f"{processes} processes: {(whole - divided) / 2**20:.0f} MiB less, {computed / 2**20:.0f} computed")


if __name__ == "__main__":
    main()
