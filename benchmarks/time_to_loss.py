"""How long training takes to a given validation loss on tiny Shakespeare, ours against nanoGPT's recipe in PyTorch.

    python benchmarks/time_to_loss.py                    # both goals, three seeds: half an hour
    python benchmarks/time_to_loss.py --goal 1.898 --seeds 1

A contender is one fixed preset, recipe and number of steps. Its loss is that of the last weights over the whole
validation split, in windows of its context side by side; its time that of all steps, with and without this evaluation.
The goals are nanoGPT's own results, on a laptop's CPU (1.898 by this measure) and on an A100 (1.4697 by its estimate).
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace

import torch
from common import machine, record
from torch_nanogpt import TorchGPT, TorchTrainer

from tinygrad_lm.data.corpus import load_corpus, split
from tinygrad_lm.data.loader import Batches, windows
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

# goal: {contender: (preset, steps)}
GOALS = {
    1.898: {"tinygrad_lm": ("modern-tiny", 400), "PyTorch": ("nanogpt-cpu", 2000)},
    1.4697: {"tinygrad_lm": ("modern", 700)},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", type=float, choices=GOALS, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(f"{machine()}, PyTorch {torch.__version__}")
    corpus = load_corpus()
    tokenizer = make_tokenizer("char", corpus.text)
    tokens, validation = map(tokenizer.encode, split(corpus.text))
    for goal in args.goal or GOALS:
        print(f"\nvalidation loss {goal}")
        means = {}
        for name, (preset, steps) in GOALS[goal].items():
            runs = []
            for seed in range(args.seeds):
                settings = RECIPES[preset] | {"steps": steps, "seed": seed}
                config = TrainConfig(**settings)
                shape = replace(PRESETS[preset], vocab_size=tokenizer.vocab_size)
                train = torch_run if name == "PyTorch" else our_run
                loss, training, evaluation = train(shape, config, tokens, validation)
                runs.append((loss, training, training + evaluation))
                print(
                    f"  {name:12}{preset:13}{steps:5} steps, seed {seed}: loss {loss:.4f} after {training:6.1f} s, "
                    f"{training + evaluation:6.1f} s with its evaluation"
                )
                record("time_to_loss", goal=goal, contender=name, preset=preset, steps=steps, seed=seed, loss=loss,
                       training=training, evaluation=evaluation)  # fmt: skip
            means[name] = [statistics.mean(column) for column in zip(*runs, strict=True)]
        for name, (loss, training, total) in means.items():
            print(f"  {name:12}mean loss {loss:.4f}, {training:.1f} s, {total:.1f} s with evaluation")
        if len(means) == 2:
            ours, theirs = means.values()
            print(f"  PyTorch takes {theirs[1] / ours[1]:.1f} × our time, {theirs[2] / ours[2]:.1f} × with evaluation")


def our_run(shape, config, tokens, validation):
    """Validation loss, seconds of training, seconds of evaluation."""
    batches = Batches(tokens, config.batch_size, shape.block_size, config.seed)
    trainer = Trainer(GPT(shape, config.seed), batches, config, default_shares(config))
    return timed(trainer.step, lambda: evaluate(trainer.model, validation, config.batch_size), config, workers(cores()))


def torch_run(shape, config, tokens, validation):
    """The same with PyTorch, from the same weights and on the same batches."""
    batches = Batches(tokens, config.batch_size, shape.block_size, config.seed)
    network = TorchGPT(shape)
    network.load(GPT(shape, config.seed).flat)
    peer = TorchTrainer(network, config)

    pairs = list(windows(validation, shape.block_size, config.batch_size))
    step = lambda i: peer.step(*batches(i), config.rate_factor(i))
    return timed(step, lambda: peer.evaluate(pairs), config, nullcontext())


def timed(step, loss, config, context):
    with context:
        began = time.perf_counter()
        for i in range(config.steps):
            step(i)
        trained = time.perf_counter()
        found = loss()
        return found, trained - began, time.perf_counter() - trained


if __name__ == "__main__":
    main()
