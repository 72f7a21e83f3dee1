"""Tokens a second when many answers are sampled, as post-training does: small models, one thread.

    python benchmarks/sampling.py

Prompts of 8 tokens, 24 tokens each, drawn from the whole distribution; the fastest of some rounds, in seconds of the
processor, which other programs do not slow down by much. With PYTHONPATH set to the folder of another version of the
project that one is measured. A line is added to results.jsonl.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
from common import machine, record

from tinygrad_lm import kernels
from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import workers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    kernels.enable()
    print(machine())
    sizes = {"vocab_size": 16, "block_size": 64, "zero_init": False}
    for layers, width in ((2, 64), (4, 128)):
        model = GPT(replace(PRESETS["modern-tiny"], n_layer=layers, n_head=width // 32, n_embd=width, **sizes))
        for batch in (1, 16, 128):
            prompts = np.random.default_rng(0).integers(0, 16, (batch, 8)).tolist()
            with workers(1):
                seconds = min(timed(model, prompts) for _ in range(args.rounds))
            print(f"{layers} × {width}, batch {batch:3}: {batch * 24 / seconds:9,.0f} tokens/s")
            record("sampling", layers=layers, width=width, batch=batch, seconds=seconds)


def timed(model, prompts):
    began = time.process_time()
    for _ in generate_batch(model, prompts, 24):
        pass
    return time.process_time() - began


if __name__ == "__main__":
    main()
