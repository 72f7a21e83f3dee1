"""Pretrain a small GPT on tiny Shakespeare and watch it learn.

python examples/pretrain_shakespeare.py                       # about five minutes on a laptop's CPU
python examples/pretrain_shakespeare.py --preset nanogpt-cpu --steps 2000
python examples/pretrain_shakespeare.py --data my_text.txt --tokenizer gpt2
python examples/pretrain_shakespeare.py --resume runs/...     # go on where a run was stopped
python examples/pretrain_shakespeare.py --doctor              # and say afterwards how healthy the run was
"""

import math
import statistics
import sys
import time
from dataclasses import replace

from tinygrad_lm.backend import cores, resolve_device, workers
from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.data.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.doctor import report
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import session
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import baselines, evaluate
from tinygrad_lm.train.loop import Trainer

OPTIONS = {
    "--preset": {"choices": PRESETS, "help": "model and recipe [modern]"},
    "--tokenizer": {"metavar": "NAME", "help": "char, byte, gpt2, or a trained one: its name or *.tiktoken [char]"},
    "--steps": {"type": int, "help": "updates of the weights [what fits into --minutes and the recipe's epochs]"},
    "--minutes": {"type": float, "help": "how long to train [5]"},
    "--batch-size": {"type": int, "metavar": "B", "help": "sequences a batch [the preset's]"},
    "--accumulate": {"type": int, "metavar": "N", "help": "batches a step [1]"},
    "--dtype": {"choices": ["float32", "float64"], "help": "[float32]"},
    "--doctor": {"action": "store_const", "const": True, "help": "examine the run when it has ended; status 1 if ill"},
}


def main(arguments=None):
    return session.command(__doc__, OPTIONS, start, arguments)


def start(
    data=None,
    tokenizer="char",
    preset="modern",
    steps=None,
    minutes=None,
    device="auto",
    dtype="float32",
    out=None,
    doctor=False,
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
    model_config = replace(PRESETS[preset], vocab_size=tokenizer.vocab_size)
    batches, validation = session.prepare(corpus, tokenizer, config, model_config.block_size)
    levels = baselines(batches.tokens, validation, tokenizer.vocab_size) | session.floor(corpus, validation)
    if steps is None:
        trainer = Trainer(GPT(model_config, config.seed, dtype, device), batches, config, cores())
        steps = plan(trainer, validation, 60 * (minutes or 5))
        if config.epochs:
            steps = min(steps, max(1, config.epochs * len(batches.tokens) // batches.tokens_a_step))
        config = replace(config, steps=steps)

    model = GPT(model_config, config.seed, dtype, device)
    print(f"model   {preset}: {model.parameters.data.size:,} parameters on {device}")
    trainer = Trainer(model, batches, config, cores())
    title = f"{preset} on {corpus.name}"
    program = "examples/pretrain_shakespeare.py"
    run = session.create(out, trainer, tokenizer, data, corpus, program=program, title=title, levels=levels)
    return session.go(run, trainer, validation) or (report(run, device=device) if doctor else 0)


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


if __name__ == "__main__":
    sys.exit(main())
