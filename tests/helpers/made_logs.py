"""Logs of runs that never were: healthy ones, and what may be changed in them."""

import numpy as np

from tinygrad_lm.train.log import Log

LOG_2 = float(np.log(2))
HEALTHY = {  # a figure at the first and at the last step
    "reward": (0.2, 0.7),
    "reward_error": (0.03, 0.03),
    "kl": (0.0, 2.0),
    "kl3": (0.0, 1.9),
    "length": (20.0, 22.0),
    "ended": (0.97, 0.99),
    "silent": (0.3, 0.5),
    "entropy": (1.0, 0.6),
    "length_reward": (0.02, 0.02),
    "surrogate": (777.0, 777.0),
    "norm": (1.0, 1.0),
}


def policy_log(path, steps=60, **figures):
    """The log of a policy gradient. figures: (first, last) of a figure, or all its values."""
    log = Log(path / "log.jsonl")
    curves = {name: np.broadcast_to(curve(pair, steps), steps) for name, pair in (HEALTHY | figures).items()}
    log.records = [{"step": 0, "validation": 0.8, "validation_sources": {"sum": 0.7, "sort": 0.9}}]
    for i in range(steps):
        log.records.append({"step": i + 1} | {name: float(values[i]) for name, values in curves.items()})
    log.records += [{"step": steps, "validation": 0.25, "validation_sources": {"sum": 0.2, "sort": 0.3}}]
    return log


def curve(values, steps):
    return np.linspace(*values, steps) if len(values) == 2 else np.array(values)


def preference_log(path, steps=60, start=LOG_2, end=0.5, **figures):
    """The log of a run on pairs, evaluated three times. figures: (first, last) of an evaluation's figure."""
    log = Log(path / "log.jsonl")
    figures = {"accuracy": (0.6, 0.74), "chosen": (-0.5, -1.5), "rejected": (-1.0, -3.0)} | figures
    losses = np.linspace(start, end, steps)
    for step in range(1, steps + 1):
        log.records.append({"step": step, "loss": float(losses[step - 1]), "norm": 1.0})
        if step % (steps // 3) == 0:
            share = step / steps
            found = {name: first + share * (last - first) for name, (first, last) in figures.items()}
            found["margin"] = found["chosen"] - found["rejected"]
            loss = float(losses[step - 1])
            log.records.append({"step": step, "validation": loss, "validation_sources": {"held out": loss}} | found)
    return log
