"""Services for the training programs in examples/: the command line, a new run's folder, --resume, the final report."""

import argparse
import math
import time
from pathlib import Path
from shlex import quote

from tinygrad_lm.commands import spelled
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.distributed.job import connected
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import nearest
from tinygrad_lm.kernels.choice import resolve_dtype
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.programs import checked_output, ignore
from tinygrad_lm.threads import peak_memory
from tinygrad_lm.train.data import outcome_table, place
from tinygrad_lm.train.following import as_rank
from tinygrad_lm.train.pace import pace_of
from tinygrad_lm.train.run import RunFolder, check_free

DATA: dict[str, dict] = {
    "--data": {
        "metavar": "FILE",
        "help": "UTF-8 text to train on; 'built-in' for the built-in play [tiny Shakespeare]",
    },
}
PRETRAINING: dict[str, dict] = {
    "--preset": {"choices": PRESETS, "help": "model and recipe [modern]"},
    "--steps": {"type": int, "help": "updates of the weights [what fits into --minutes and the recipe's epochs]"},
    "--minutes": {"type": float, "help": "how long the run may take; the learning rate follows the clock [5]"},
    "--batch-size": {"type": int, "metavar": "B", "help": "sequences a batch [the preset's]"},
    "--accumulate": {"type": int, "metavar": "N", "help": "batches a step [1]"},
    "--dtype": {
        "choices": ["auto", "bfloat16", "float32", "float64"],
        "help": "auto: bfloat16 on a CPU or GPU whose products are faster so, else float32 [auto]",
    },
    "--doctor": {"action": "store_const", "const": True, "help": "examine the run when it has ended; status 1 if ill"},
}
OPTIONS = {
    "--device": {"choices": ["auto", "cpu", "cuda"], "help": "[auto]"},
    "--seed": {"type": int, "help": "[0]"},
    "--eval-every": {"type": int, "metavar": "STEPS", "help": "[a fifth of the run]"},
    "--shares": {
        "type": int,
        "metavar": "N",
        "help": "parts that a batch is divided into: with the same number, any cores and processes give the same bits "
        "[cores times processes; processes on GPUs, and in bfloat16 where kernels share up to 8 cores]",
    },
    "--patience": {"type": int, "metavar": "N", "help": "stop after N evaluations without a better one [never]"},
    "--out": {"metavar": "FOLDER", "help": "where to write the run [runs/<date and time>]"},
    "--resume": {"metavar": "RUN", "help": "continue a run: with --steps to more steps, with --data its moved data"},
}
LESS_MEMORY = {  # an option, and what it can do where a GPU's memory is full
    "--accumulate": "half the --batch-size with twice the --accumulate, which trains the same",
    "--preset": "a smaller --preset",
    "--block-size": "a shorter --block-size",
    "--lora": "--lora RANK",
    "--dtype": "--dtype bfloat16",
}


def command(description, options, start, train, arguments, kind=RunFolder):
    """Start or resume a run as the command line says. Returns the exit status.

    options: {"--name" or "name": argparse's}; start: begins a run, with the options that were given as keywords, and
    trains it; train(run, trainer, validate, first): trains the run that --resume names, which is of the class `kind`.
    Both return the status.
    """
    with connected():
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        for name, option in (options | OPTIONS).items():
            parser.add_argument(name, **option)
        args = parser.parse_args(arguments)
        given = {key: value for key, value in vars(args).items() if value is not None}
        with checked_output(failed=ignore), explained(less_memory(options, args.resume)):
            if args.resume:
                return train(*resumed(kind, **given))
            if args.out:
                check_free(args.out)  # before the time is planned, which takes some
                world().meet()
            return start(**given)


def resolve(device, dtype):
    """(device, dtype) of a run, by name, where "auto" leaves them to the machine: on all ranks those of rank 0."""
    device = common_device(device)
    return device, world().text(resolve_dtype(dtype, device))


def common_device(device):
    """The name of a device, where "auto" leaves it to the machine. ConfigError unless it is the same on all ranks."""
    found = world().texts(resolve_device(device))
    if len(set(found)) > 1:
        without = ", ".join(str(rank) for rank, name in enumerate(found) if name == "cpu")
        raise ConfigError(
            f"--device {device}: {len(found)} processes need as many GPUs, and there is none for rank {without}\n"
            f"  hint : {found.count('cuda')} processes or fewer, or --device cpu"
        )
    return found[0]


def vocab_size(tokenizer, device):
    """How many rows a model's embedding has: as many as there are tokens. On a GPU it is a multiple of 64, so that each
    row of logits begins where 16 bytes can be read at once; the ids beyond are never targets and never drawn."""
    return tokenizer.vocab_size if device == "cpu" else -(-tokenizer.vocab_size // 64) * 64


def less_memory(options, resumed):
    """What a program with these options can do where a GPU's memory is full. A run that is resumed keeps its own."""
    ways = " or ".join(way for name, way in LESS_MEMORY.items() if name in options)
    if resumed:
        return f"--resume it on a GPU with more memory, or with --device cpu; or begin a new run with {ways}"
    return ways


def create_run(out, trainer, tokenizer, start=None, kind=RunFolder, **others):
    """A new RunFolder for a trainer. start: the id that samples begin with [the first of the training text's].

    kind: the class, RunFolder or one of its; others: see RunFolder.create; data: see train/data.py.
    """
    model, batches, config = trainer.model, trainer.batches, trainer.config
    run = as_rank(kind).create(
        world().text(str(out or time.strftime("runs/%Y-%m-%d-%H%M%S"))),
        model.config,
        config,
        tokenizer,
        dtype=str(model.dtype),
        shares=trainer.shares,
        start=int(batches.beginning(1)[0] if start is None else start),
        **{"levels": {}, "floors": {}} | others,
    )
    trainer.pace = pace_of(config, batches)
    print(f"run     {run.path}: {'about ' * bool(config.seconds)}{batches.amount(config.steps)}")
    return run


def resumed(kind, resume, steps=None, device="auto", data=None, prepared=None, **others):
    """(run, trainer, validate, first): a run that was stopped, from its newest checkpoint.

    data or prepared: where its data are now, if they have been moved
    """
    if others:
        names = ", ".join("MIXTURE" if name == "mixture" else "--" + name.replace("_", "-") for name in others)
        raise ConfigError(f"--resume takes its settings from the run's config.json; leave out {names}")
    kind = as_rank(kind)
    with kind.locked(resume) as lock:  # before anything is read that another process may change
        run, *rest = reopened(kind, resume, steps, device, data or prepared)
    run.lock = lock
    return run, *rest


def reopened(kind, resume, steps, device, moved):
    """As `resumed`, of a folder that is locked."""
    run = kind(resume)
    if moved is not None:
        if moved != "built-in" and not Path(moved).exists():
            raise DataError(f"{moved}: there is no such file or folder to go on with{nearest(moved)}")
        run.config["data"] |= {"prepared" if "prepared" in run.config["data"] else "path": place(moved)}
    manifest, state = run.read_checkpoint()
    before, first = run.train_config, manifest["step"]
    further = steps is not None and steps > first
    if further:
        run.plan(steps)
    run.log.check_steps(first, ("seconds", "position") if run.train_config.seconds else ("seconds",))
    trainer, validate = run.reopen(common_device(device))
    trainer.pace = pace_of(trainer.config, trainer.batches, run.log.records)
    if not (steps is None or further or trainer.pace.over(first)):
        raise ConfigError(f"--steps {steps}: {run.path} is at step {first:,}; give more, or leave it out")
    if trainer.pace.over(first):
        raise ConfigError(f"{run.path} is finished, at step {first:,}; --steps N with N > {first:,} trains it further")
    world().meet()  # all ranks have read what is now changed
    run.write_config()
    trainer.load_state(state)
    run.rewind(first)
    config = run.train_config
    print(f"run     {run.path}: from step {first:,} to {'about ' * bool(config.seconds)}{config.steps:,}")
    if further:
        positions = run.log.curve("position")[1]
        print(end=rate_jump(before, config, first, positions[-1] + 1 if positions else first))
    return run, trainer, validate, first


def rate_jump(before, after, first, position):
    """A note that the learning rate jumps at step `first`, where the plan `after` replaces `before`, by which the run
    is at this position; "" if it does not.

    Most schedules depend on the number of steps: planned for more, they are higher at the same step.
    """
    planned, now = before.rate_factor(min(position, before.steps - 1)), after.rate_factor(first)
    if math.isclose(planned, now, rel_tol=0.01):
        return ""
    return (
        f"note    the learning rate jumps from {planned:.3g} to {now:.3g} of its largest: {after.steps:,} steps are\n"
        f"        now planned, not {before.steps:,}; the schedule stable-decay, resumed before it decays, has no jump\n"
    )


def conclude(run, trainer, ended):
    """Print what came of the training and how to continue. Returns the exit status.

    ended: "finished", "settled" (the validation loss no longer fell), or the signal that asked to stop.
    """
    path, config = quote(str(run.path)), trainer.config
    again = f"{spelled(run.config['program'])} --resume {path}"
    if ended.startswith("SIG"):
        print(f"\nstopped by {ended} and saved; continue with\n  {again}")
        return {"SIGINT": 130, "SIGTERM": 143}[ended]
    steps, losses = run.log.curve("validation")
    print(f"\n{run.sample(trainer.model, 500)}\n")
    whole = " on the whole validation split" if run.log.curve("whole")[0] else ""
    print(f"{ended} at step {steps[-1]:,}; {run.measure} {run.log.result()[0]:.4f} {run.unit}{whole}", end=", ")
    print(f"lowest of the curve {min(losses):.4f}")
    if floors := run.config["floors"]:  # of a mixture
        print(outcome_table(run.log, floors))
    print(f"{sum(run.log.curve('seconds')[1]):.0f} s in training steps, {peak_memory() / 2**20:.0f} MiB at the most")
    print(f"in {run.path}: {run.picture}, samples.txt, log.jsonl, checkpoints")
    print(run.how_to_use())
    print(f"train on:    {again} --steps {2 * max(config.steps, steps[-1])}")
    return 0
