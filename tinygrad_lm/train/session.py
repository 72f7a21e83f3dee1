"""What the training programs of examples/ share: the command line, a new run, going on with one, and the report."""

import argparse
import sys
import time
from shlex import quote

from tinygrad_lm.errors import ConfigError, DivergedError, TinygradError, TokenError
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.streams import guarded
from tinygrad_lm.threads import cores, peak_memory
from tinygrad_lm.train.loop import Trainer, train
from tinygrad_lm.train.material import reopen
from tinygrad_lm.train.run import Run, check_free
from tinygrad_lm.train.sources import outcome

DATA = {
    "--data": {
        "metavar": "FILE",
        "help": "UTF-8 text to train on; 'built-in' for the built-in play [tiny Shakespeare]",
    },
}
PRETRAINING = {
    "--preset": {"choices": PRESETS, "help": "model and recipe [modern]"},
    "--steps": {"type": int, "help": "updates of the weights [what fits into --minutes and the recipe's epochs]"},
    "--minutes": {"type": float, "help": "how long to train [5]"},
    "--batch-size": {"type": int, "metavar": "B", "help": "sequences a batch [the preset's]"},
    "--accumulate": {"type": int, "metavar": "N", "help": "batches a step [1]"},
    "--dtype": {"choices": ["bfloat16", "float32", "float64"], "help": "bfloat16 is for GPUs [float32]"},
    "--doctor": {"action": "store_const", "const": True, "help": "examine the run when it has ended; status 1 if ill"},
}
OPTIONS = {
    "--device": {"choices": ["auto", "cpu", "cuda"], "help": "[auto]"},
    "--seed": {"type": int, "help": "[0]"},
    "--eval-every": {"type": int, "metavar": "STEPS", "help": "[a fifth of the run]"},
    "--patience": {"type": int, "metavar": "N", "help": "stop after N evaluations without a better one [never]"},
    "--out": {"metavar": "FOLDER", "help": "where to write the run [runs/<date and time>]"},
    "--resume": {"metavar": "RUN", "help": "go on with a run; with --steps, to more steps than it was planned for"},
}
LESS_MEMORY = {  # an option, and what it can do where a GPU's memory is full
    "--accumulate": "half the --batch-size with twice the --accumulate, which trains the same",
    "--preset": "a smaller --preset",
    "--block-size": "a shorter --block-size",
    "--lora": "--lora RANK",
    "--dtype": "--dtype bfloat16",
}


def command(description, options, start, arguments):
    """Start or resume a run as the command line says. Returns the exit status.

    options: {"--name" or "name": argparse's}; start: what begins a run, with those that are given as keywords
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, option in (options | OPTIONS).items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    given = {key: value for key, value in vars(args).items() if value is not None}
    with guarded(failed=lambda error: None):  # a training outlives its reader: all that counts is in its folder
        try:
            if args.out and not args.resume:
                check_free(args.out)  # before the time is planned, which takes some
            with explained(less_memory(options, args.resume)):
                return resume(**given) if args.resume else start(**given)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)  # before training began, so there is nothing to save
            return 130
        except DivergedError as error:
            print(error, file=sys.stderr)
            return 1
        except (TinygradError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2


def vocab_size(tokenizer, device):
    """How many rows a model's embedding has: as many as there are tokens. On a GPU it is a multiple of 64, so that each
    row of logits begins where 16 bytes can be read at once; what is beyond is never a target, and never drawn."""
    return tokenizer.vocab_size if device == "cpu" else -(-tokenizer.vocab_size // 64) * 64


def less_memory(options, resumed):
    """What a program with these options can do where a GPU's memory is full. A run that is resumed keeps its own."""
    ways = " or ".join(way for name, way in LESS_MEMORY.items() if name in options)
    if resumed:
        return f"--resume it on a GPU with more memory, or with --device cpu; or begin a new run with {ways}"
    return ways


def create(out, trainer, tokenizer, start=None, **settings):
    """A new Run for a trainer. start: the id that samples begin with, of itself that of the training text.

    settings: see Run.create; data: see train/material.py.
    """
    model, batches = trainer.model, trainer.batches
    run = Run.create(
        out or time.strftime("runs/%Y-%m-%d-%H%M%S"),
        model.config,
        trainer.config,
        tokenizer,
        dtype=str(model.parameters.data.dtype),
        threads=cores(),
        start=int(batches.beginning(1)[0] if start is None else start),
        **settings,
    )
    steps, size = trainer.config.steps, batches.tokens_a_step
    epochs = steps * size / sum(len(tokens) for _, tokens in batches.sources.values())
    print(f"run     {run.path}: {steps:,} steps of {size:,} tokens, {epochs:.2g} epochs")
    return run


def resume(resume, steps=None, device="auto", **others):
    """A run that was stopped, from its newest checkpoint."""
    if others:
        names = ", ".join("MIXTURE" if name == "mixture" else "--" + name.replace("_", "-") for name in others)
        raise ConfigError(f"--resume takes its settings from the run's config.json; leave out {names}")
    run = Run(resume)
    manifest, state = run.load()
    first, last = manifest["step"], run.train_config.steps if steps is None else steps
    if first >= last:
        raise ConfigError(f"{run.path} is finished, at step {first:,}; --steps N with N > {first:,} trains it further")
    batches, validation = reopen(run)
    run.extend(last)
    config = run.train_config
    trainer = Trainer(run.build(resolve_device(device)), batches, config, run.settings["threads"])
    trainer.load_state(state)
    run.rewind(first)
    print(f"run     {run.path}: from step {first:,} to {last:,}")
    return go(run, trainer, validation, first)


def go(run, trainer, validation, first=0):
    """Train, and tell what came of it. Returns the exit status."""
    ended = train(trainer, run, validation, first)
    program = run.settings.get("program", "examples/pretrain_shakespeare.py")  # older runs don't tell
    path = quote(str(run.path))
    again = f"python {program} --resume {path}"
    if ended.startswith("SIG"):
        print(f"\nstopped by {ended} and saved; go on with\n  {again}")
        return {"SIGINT": 130, "SIGTERM": 143}[ended]
    steps, losses = run.log.curve("validation")
    print(f"\n{run.sample(trainer.model, 500)}\n")
    print(f"{ended} at step {steps[-1]:,}; validation loss {losses[-1]:.4f} nats a token, lowest {min(losses):.4f}")
    floors = run.settings.get("floors")  # of a mixture
    if floors:
        print(outcome(run.log, floors))
    print(f"{sum(run.log.curve('seconds')[1]):.0f} s in training steps, {peak_memory() / 2**20:.0f} MiB at the most")
    print(f"in {run.path}: loss.png, samples.txt, log.jsonl, checkpoints")
    print(f"write more:  python examples/generate.py {path}{'' if floors else prompt(run.tokenizer)}")
    print(f"train on:    {again} --steps {2 * trainer.config.steps}")
    return 0


def prompt(tokenizer):
    """The option for a prompt, where the vocabulary can express the one that we know."""
    try:
        tokenizer.encode("ROMEO:")
    except TokenError:
        return ""
    return ' --prompt "ROMEO:"'
