"""What a run can do within a time: steps, and evaluations that leave most of it to them."""

import math
import statistics
from dataclasses import replace

from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.threads import workers
from tinygrad_lm.train.evaluate import evaluate

EVALUATING = 0.1  # the largest share of the time for the evaluations on the way
OTHERS = 3.0  # seconds that else pass: until Python has started, and at the end for samples, a picture, a checkpoint
MEASURING = 0.02  # the share of the time after which no further step is timed


def check_time(steps, minutes):
    """--steps and --minutes, None where they are not given. Raises ConfigError unless they make sense together."""
    if steps is not None and minutes is not None:
        raise ConfigError("--steps and --minutes both say how long to train; give one of them")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be a positive number, found {minutes}")


def within(minutes, trainer, validation):
    """The trainer's config for a run of so many minutes, this planning included. The trainer is spent afterwards: it
    has trained."""
    print("plan    measuring how fast this machine is…", flush=True)
    config = trainer.config
    most = trainer.batches.steps_within(config.epochs) if config.epochs else math.inf
    with workers(trainer.threads):
        trainer.steps(0, trainer.ahead)  # where kernels are compiled, once for a machine: no part of the time to train
        began = world().clock()
        step, target = speed(trainer, validation, 60 * minutes * MEASURING)
    left = 60 * minutes - (world().clock() - began)
    return planned(config, left, step, target, [len(tokens) - 1 for _, tokens in validation.values()], most)


def speed(trainer, validation, longest):
    """(seconds a step, seconds a target of an evaluation), by a few of each: no more steps where these took `longest`
    seconds."""
    n, times = trainer.ahead, []
    while not times or (len(times) * n < 6 and n * sum(times) < longest):
        times.append(seconds_of(trainer.steps, n * (1 + len(times)), n) / n)
    ranks = trainer.ranks
    size = trainer.model.config.block_size * trainer.config.batch_size * ranks.first(trainer.threads) * ranks.size
    part = max((tokens for _, tokens in validation.values()), key=len)[: size + 1]
    evaluation = seconds_of(evaluate, trainer.model, part, trainer.config.batch_size)
    return statistics.median(times[-5:]), evaluation / (len(part) - 1)


def planned(config, seconds, step, target, sizes, most):
    """The config for so many seconds, or for one step; a step takes `step`, each target of an evaluation `target`.

    sizes: targets of each validation text; most: the largest number of steps
    """
    seconds = max(seconds - OTHERS, step)
    evaluations = seconds / step / config.eval_every if config.eval_every else 5
    share = EVALUATING * seconds / max(1, evaluations) / target / len(sizes)
    curve = max(1, min(config.curve_tokens, int(share)))
    evaluating = evaluations * target * sum(min(size, curve) for size in sizes)
    ending = target * sum(sizes) / step
    steps = max(1, min(int((seconds - evaluating) / step - ending), most))
    return replace(config, steps=steps, seconds=seconds, ending=ending, curve_tokens=curve)


def seconds_of(function, *arguments):
    began = world().clock()
    function(*arguments)
    return world().clock() - began
