"""What the training programs of examples/ share: the command line, the text, going on with a run, and the report."""

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tinygrad_lm.backend import cores, peak_memory, resolve_device
from tinygrad_lm.data.corpus import load_corpus, split
from tinygrad_lm.data.loader import Batches, check_length
from tinygrad_lm.errors import ConfigError, DataError, DivergedError, TinygradError, TokenError
from tinygrad_lm.train.loop import Trainer, train
from tinygrad_lm.train.run import Run

OPTIONS = {
    "--data": {
        "metavar": "FILE",
        "help": "UTF-8 text to train on; 'built-in' for the built-in play [tiny Shakespeare]",
    },
    "--device": {"choices": ["auto", "cpu", "cuda"], "help": "[auto]"},
    "--seed": {"type": int, "help": "[0]"},
    "--eval-every": {"type": int, "metavar": "STEPS", "help": "[a fifth of the run]"},
    "--patience": {"type": int, "metavar": "N", "help": "stop after N evaluations without a better one [never]"},
    "--out": {"metavar": "FOLDER", "help": "where to write the run [runs/<date and time>]"},
    "--resume": {"metavar": "RUN", "help": "go on with a run; with --steps, to more steps than it was planned for"},
}


def command(description, options, start, arguments):
    """Start or resume a run as the command line says. options: {"--name": argparse's}. Returns the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, option in (options | OPTIONS).items():
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


def prepare(corpus, tokenizer, config, block_size):
    """The Batches of a corpus to train on, and the tokens to validate on."""
    tokens, validation = map(tokenizer.encode, split(corpus.text))
    batches = Batches(tokens, config.batch_size, block_size, config.seed, config.accumulate)
    check_length(validation, 1)
    print(f"data    {corpus.name}: {len(tokens):,} tokens to train on, {len(validation):,} to validate")
    return batches, validation


def reopen(run):
    """The Batches of the text that a run was trained on, and the tokens to validate on."""
    corpus = load_corpus(run.settings["data"]["path"])
    if digest(corpus.text) != run.settings["data"]["sha256"]:
        raise DataError(f"{corpus.name} is not the text that {run.path} was trained on; its sha256 differs")
    return prepare(corpus, run.tokenizer, run.train_config, run.model_config.block_size)


def floor(corpus, validation):
    """The level of the loss that no model can go below, {label: nats a token}, where it is known."""
    characters = len(split(corpus.text)[1])
    return {"entropy of the source": corpus.floor * characters / len(validation)} if corpus.floor else {}


def create(out, trainer, tokenizer, data, corpus, **settings):
    """A new Run for a trainer on a corpus that --data named. settings: see Run.create."""
    model, batches = trainer.model, trainer.batches
    run = Run.create(
        out or time.strftime("runs/%Y-%m-%d-%H%M%S"),
        model.config,
        trainer.config,
        tokenizer,
        data={
            "path": data and str(Path(data).resolve()) if data != "built-in" else data,
            "sha256": digest(corpus.text),
        },
        dtype=str(model.parameters.data.dtype),
        threads=cores(),
        start=int(batches.tokens[0]),
        **settings,
    )
    steps, size = trainer.config.steps, batches.tokens_a_step
    epochs = steps * size / len(batches.tokens)
    print(f"run     {run.path}: {steps:,} steps of {size:,} tokens, {epochs:.2g} epochs")
    return run


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
    again = f"python {program} --resume {run.path}"
    if ended.startswith("SIG"):
        print(f"\nstopped by {ended} and saved; go on with\n  {again}")
        return {"SIGINT": 130, "SIGTERM": 143}[ended]
    steps, losses = run.log.curve("validation")
    print(f"\n{run.sample(trainer.model, 500)}\n")
    print(f"{ended} at step {steps[-1]:,}; validation loss {losses[-1]:.4f} nats a token, lowest {min(losses):.4f}")
    print(f"{sum(run.log.curve('seconds')[1]):.0f} s in training steps, {peak_memory() / 2**20:.0f} MiB at the most")
    print(f"in {run.path}: loss.png, samples.txt, log.jsonl, checkpoints")
    print(f"write more:  python examples/generate.py {run.path}{prompt(run.tokenizer)}")
    print(f"train on:    {again} --steps {2 * trainer.config.steps}")
    return 0


def prompt(tokenizer):
    """The option for a prompt, where the vocabulary can express the one that we know."""
    try:
        tokenizer.encode("ROMEO:")
    except TokenError:
        return ""
    return ' --prompt "ROMEO:"'


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
