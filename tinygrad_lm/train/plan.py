"""How many steps fit into a time."""

import math
import statistics
import time
from dataclasses import replace

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.threads import workers
from tinygrad_lm.train.evaluate import evaluate


def check_time(steps, minutes):
    """--steps and --minutes, None where they are not given. Raises ConfigError unless they make sense together."""
    if steps is not None and minutes is not None:
        raise ConfigError("--steps and --minutes both say how long to train; give one of them")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be a positive number, found {minutes}")


def within(minutes, trainer, validation):
    """The trainer's config with as many steps as fit into the minutes, and into its recipe's epochs. The trainer is
    spent afterwards: it has trained."""
    config, steps = trainer.config, affordable_steps(trainer, validation, 60 * minutes)
    if config.epochs:
        steps = min(steps, trainer.batches.steps_within(config.epochs))
    return replace(config, steps=steps)


def affordable_steps(trainer, validation, seconds):
    """How many steps fit into the time: a few are timed, on a model that is then thrown away."""
    with workers(trainer.threads):
        n = trainer.ahead
        trainer.steps(0, n)  # where kernels are compiled, once for a machine: no part of the time to train
        began = time.perf_counter()
        times = [seconds_of(trainer.steps, i * n, n) / n for i in range(1, 1 + max(1, 6 // n))]
        size = trainer.model.config.block_size * trainer.config.batch_size * trainer.threads
        texts = [tokens for _, tokens in validation.values()]
        part = max(texts, key=len)[: size + 1]
        evaluation = seconds_of(evaluate, trainer.model, part, trainer.config.batch_size)
        evaluation *= sum(map(len, texts)) / len(part)
    left = seconds - (time.perf_counter() - began) - 5 * evaluation
    return max(1, int(left / statistics.median(times[-5:])))


def seconds_of(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began
