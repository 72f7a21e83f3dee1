"""Pretrain a small GPT on tiny Shakespeare and watch it learn.

python examples/pretrain_shakespeare.py                       # about five minutes on a laptop's CPU
python examples/pretrain_shakespeare.py --preset nanogpt-cpu --steps 2000
python examples/pretrain_shakespeare.py --data my_text.txt --tokenizer gpt2
python examples/pretrain_shakespeare.py --resume runs/...     # go on where a run was stopped
"""

import argparse
import hashlib
import math
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from tinygrad_lm.backend import cores, peak_memory, resolve_device, workers
from tinygrad_lm.data.corpus import load_corpus, split
from tinygrad_lm.data.loader import Batches, check_length
from tinygrad_lm.data.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError, DivergedError, TinygradError
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import baselines, evaluate
from tinygrad_lm.train.loop import Trainer, train
from tinygrad_lm.train.run import Run

OPTIONS = {
    "--data": {
        "metavar": "FILE",
        "help": "UTF-8 text to train on; 'built-in' for the built-in play [tiny Shakespeare]",
    },
    "--tokenizer": {"choices": ["char", "byte", "gpt2"], "help": "[char]"},
    "--preset": {"choices": PRESETS, "help": "model and recipe [modern]"},
    "--steps": {"type": int, "help": "updates of the weights [what fits into --minutes and the recipe's epochs]"},
    "--minutes": {"type": float, "help": "how long to train [5]"},
    "--batch-size": {"type": int, "metavar": "B", "help": "sequences a batch [the preset's]"},
    "--accumulate": {"type": int, "metavar": "N", "help": "batches a step [1]"},
    "--device": {"choices": ["auto", "cpu", "cuda"], "help": "[auto]"},
    "--dtype": {"choices": ["float32", "float64"], "help": "[float32]"},
    "--seed": {"type": int, "help": "[0]"},
    "--eval-every": {"type": int, "metavar": "STEPS", "help": "[a fifth of the run]"},
    "--patience": {"type": int, "metavar": "N", "help": "stop after N evaluations without a better one [never]"},
    "--out": {"metavar": "FOLDER", "help": "where to write the run [runs/<date and time>]"},
    "--resume": {"metavar": "RUN", "help": "go on with a run; with --steps, to more steps than it was planned for"},
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, option in OPTIONS.items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    given = {key: value for key, value in vars(args).items() if value is not None}
    try:
        return resume(**given) if args.resume else start(**given)
    except KeyboardInterrupt:
        return 130  # before training began, so there is nothing to save
    except DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    except (TinygradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def start(
    data=None,
    tokenizer="char",
    preset="modern",
    steps=None,
    minutes=None,
    device="auto",
    dtype="float32",
    out=None,
    **options,
):
    """A new run."""
    if steps is not None and minutes is not None:
        raise ConfigError("--steps and --minutes both say how long to train; give one of them")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be a positive number, found {minutes}")
    device = resolve_device(device)
    config = TrainConfig(**RECIPES[preset] | options | {"steps": 10 if steps is None else steps})
    corpus = load_corpus(data)
    tokenizer = make_tokenizer(tokenizer, corpus.text)
    texts = split(corpus.text)
    tokens, validation = map(tokenizer.encode, texts)
    model_config = replace(PRESETS[preset], vocab_size=tokenizer.vocab_size)
    check_length(tokens, model_config.block_size)
    check_length(validation, 1)
    batches = Batches(tokens, config.batch_size, model_config.block_size, config.seed, config.accumulate)
    threads = cores()

    print(f"data    {corpus.name}: {len(tokens):,} tokens to train on, {len(validation):,} to validate")
    levels = baselines(tokens, validation, tokenizer.vocab_size)
    if corpus.floor:
        levels["entropy of the source"] = corpus.floor * len(texts[1]) / len(validation)
    if steps is None:
        trainer = Trainer(GPT(model_config, config.seed, dtype, device), batches, config, threads)
        steps = plan(trainer, validation, 60 * (minutes or 5))
        if config.epochs:
            steps = min(steps, max(1, config.epochs * len(tokens) // batches.tokens_a_step))
        config = replace(config, steps=steps)

    run = Run.create(
        out or time.strftime("runs/%Y-%m-%d-%H%M%S"),
        model_config,
        config,
        tokenizer,
        title=f"{preset} on {corpus.name}",
        data={
            "path": data and str(Path(data).resolve()) if data != "built-in" else data,
            "sha256": digest(corpus.text),
        },
        dtype=dtype,
        threads=threads,
        levels=levels,
        start=int(tokens[0]),
    )
    model = run.build(device)
    print(f"model   {preset}: {model.parameters.data.size:,} parameters on {device}")
    size = batches.tokens_a_step
    print(f"run     {run.path}: {steps:,} steps of {size:,} tokens, {steps * size / len(tokens):.2g} epochs")
    return go(run, Trainer(model, batches, config, threads), validation, 0)


def resume(resume, steps=None, device="auto", **others):
    """A run that was stopped, from its newest checkpoint."""
    if others:
        names = ", ".join("--" + name.replace("_", "-") for name in others)
        raise ConfigError(f"--resume takes its settings from the run's config.json; leave out {names}")
    run = Run(resume)
    manifest, state = run.load()
    first, last = manifest["step"], run.train_config.steps if steps is None else steps
    if first >= last:
        raise ConfigError(f"{run.path} is finished, at step {first:,}; --steps N with N > {first:,} trains it further")
    corpus = load_corpus(run.settings["data"]["path"])
    if digest(corpus.text) != run.settings["data"]["sha256"]:
        raise DataError(f"{corpus.name} is not the text that {run.path} was trained on; its sha256 differs")
    run.extend(last)
    config = run.train_config
    tokens, validation = map(run.tokenizer.encode, split(corpus.text))
    batches = Batches(tokens, config.batch_size, run.model_config.block_size, config.seed, config.accumulate)
    trainer = Trainer(run.build(resolve_device(device)), batches, config, run.settings["threads"])
    trainer.load_state(state)
    run.log.rewind(first)
    print(f"run     {run.path}: from step {first:,} to {last:,}")
    return go(run, trainer, validation, first)


def go(run, trainer, validation, first):
    """Train, and tell what came of it. Returns the exit status."""
    ended = train(trainer, run, validation, first)
    again = f"python examples/pretrain_shakespeare.py --resume {run.path}"
    if ended.startswith("SIG"):
        print(f"\nstopped by {ended} and saved; go on with\n  {again}")
        return {"SIGINT": 130, "SIGTERM": 143}[ended]
    steps, losses = run.log.curve("validation")
    print(f"\n{run.sample(trainer.model, 500)}\n")
    print(f"{ended} at step {steps[-1]:,}; validation loss {losses[-1]:.4f} nats a token, lowest {min(losses):.4f}")
    print(f"{sum(run.log.curve('seconds')[1]):.0f} s in training steps, {peak_memory() / 2**20:.0f} MiB at the most")
    print(f"in {run.path}: loss.png, samples.txt, log.jsonl, checkpoints")
    print(f'write more:  python examples/generate.py {run.path} --prompt "ROMEO:"')
    print(f"train on:    {again} --steps {2 * trainer.config.steps}")
    return 0


def plan(trainer, validation, seconds):
    """How many steps fit into the time: a few are timed, on a model that is then thrown away."""
    with workers(len(trainer.replicas)):
        trainer.step(0)  # where kernels are compiled, once for a machine: no part of the time to train
        began = time.perf_counter()
        times = [timed(trainer.step, step) for step in range(1, 7)]
        size = trainer.model.config.block_size * trainer.config.batch_size * len(trainer.replicas)
        part = validation[: size + 1]
        evaluation = timed(evaluate, trainer.model, part, trainer.config.batch_size) * len(validation) / len(part)
    left = seconds - (time.perf_counter() - began) - 5 * evaluation
    return max(1, int(left / statistics.median(times[1:])))


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
