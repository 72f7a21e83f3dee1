"""Logs of runs that never were: healthy ones, and what may be changed in them."""

import numpy as np

from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.run import RunFolder

LOG_2 = float(np.log(2))
OTHERS = {"dtype": "float32", "title": "t", "data": {"path": "a"}, "levels": {}, "floors": {}, "start": 0, "shares": 1}
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


def made_run(path, losses=(3.0, 2.0), text="ab", n_embd=4, others=OTHERS, **train):
    """A run that has evaluations at every tenth step, and no weights."""
    tokenizer = make_tokenizer("char", text)
    model = GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=1, n_embd=n_embd)
    run = RunFolder.create(path, model, TrainConfig(**{"steps": 20, "batch_size": 2} | train), tokenizer, **others)
    for i, loss in enumerate(losses):
        run.log.write(step=10 * i + 10, loss=loss, norm=1.0, elapsed=90.0 * (i + 1))
        run.log.write(step=10 * i + 10, validation=loss, validation_sources={"text": loss}, sources={})
    if losses:
        run.log.write(step=10 * len(losses), whole=losses[-1] + 0.5, whole_sources={"text": losses[-1] + 0.5})
    return run
