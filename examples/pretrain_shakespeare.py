"""Pretrain a small GPT on tiny Shakespeare and watch it learn.

python examples/pretrain_shakespeare.py                       # five minutes, on a laptop's CPU
python examples/pretrain_shakespeare.py --preset nanogpt-cpu --steps 2000
python examples/pretrain_shakespeare.py --data my_text.txt --tokenizer gpt2
python examples/pretrain_shakespeare.py --resume runs/...     # continue where a run was stopped
python examples/pretrain_shakespeare.py --doctor              # and say afterwards how healthy the run was
"""

import sys
from dataclasses import replace

from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.learn.doctor.doctor import report
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.programs import program
from tinygrad_lm.signals import stop_signals
from tinygrad_lm.threads import workers
from tinygrad_lm.train.command import DATA, PRETRAINING, command, conclude, create_run, resolve, vocab_size
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.data import describe_text, known_floor, text_data
from tinygrad_lm.train.evaluate import Validation, baselines
from tinygrad_lm.train.log import settled
from tinygrad_lm.train.plan import check_time, within
from tinygrad_lm.train.progress import Progress
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

TOKENIZER = {"metavar": "NAME", "help": "char, byte, gpt2, or a trained one: its name or *.tiktoken [char]"}
OPTIONS = PRETRAINING | {"--tokenizer": TOKENIZER} | DATA


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train, arguments)


def start(
    data=None,
    tokenizer="char",
    preset="modern",
    steps=None,
    minutes=None,
    device="auto",
    dtype="auto",
    out=None,
    doctor=False,
    **recipe,
):
    """Begin a run: a text, its tokenizer, a model and its optimizers, and a folder for what comes of them."""
    check_time(steps, minutes)
    device, dtype = resolve(device, dtype)
    config = TrainConfig(**RECIPES[preset] | recipe | {"steps": 10 if steps is None else steps})
    corpus = load_corpus(data)
    tokenizer = make_tokenizer(tokenizer, corpus.text)
    shape = replace(PRESETS[preset], vocab_size=vocab_size(tokenizer, device))
    batches, validation = text_data(corpus, tokenizer, config, shape.block_size)

    def new_trainer(config):
        """A model with its first weights, and the optimizers that its recipe asks for."""
        model = GPT(shape, config.seed, dtype, device)
        return Trainer(model, batches, config, shares_of(model, config))

    if steps is None:
        config = within(minutes or 5, new_trainer(config), validation)
    trainer = new_trainer(config)
    print(f"model   {preset}: {trainer.model.flat.data.size:,} parameters on {device}, {dtype}")
    levels = baselines(batches.tokens, validation[corpus.name][1], tokenizer.vocab_size)
    run = create_run(
        out,
        trainer,
        tokenizer,
        program="examples/pretrain_shakespeare.py",
        title=f"{preset} on {corpus.name}",
        data=describe_text(data, corpus),
        levels=levels | known_floor(corpus, validation),
    )
    return train(run, trainer, Validation(validation, batches, config)) or (report(run, device=device) if doctor else 0)


def train(run, trainer, validate, first=0):
    """Train from step `first` to the last, evaluating and saving into the run's folder. Returns the exit status.

    validate(model): the number that is to fall, {source: its own}, and, if there are, other figures to log by name;
    validate.whole(model), if it measures a part only: the first two on the whole
    """
    model, optimizers, batches, config = trainer.model, trainer.optimizers, trainer.batches, trainer.config
    log, pace, ranks, ended = run.log, trainer.pace, trainer.ranks, "finished"

    def update(step):
        """Zero, loss, backward, clip, step. On a GPU train/device_steps.py does the same."""
        model.flat.zero_grad()
        loss, count = trainer.gradients(step)  # on all cores: gradients of the sum over `count` targets
        norm = clip_gradients(model.flat, config.clip, max(count, 1)).item()  # of the mean
        trainer.check(step, loss, norm)
        for optimizer in optimizers:
            optimizer.step(pace.rate_factor(step))
        return loss, norm

    def evaluate(done):
        """Measure the model after so many steps, and log it; at the end on the whole validation split."""
        run.log_validation(done, batches.used(done), *validate(model))
        if hasattr(validate, "whole") and (pace.over(done) or settled(log, config.patience)):
            run.log_whole(done, *validate.whole(model))

    with run.lock, workers(trainer.threads), stop_signals() as received, Progress(run, trainer) as progress:
        if config.eval_first and not log.records:
            evaluate(0)
            run.write_checkpoint(trainer.state(), 0)
            progress.evaluated(0, run.report(model, 0))
        elif first in log.curve("validation")[0]:
            run.report(model, first)  # again, since the run may have ended before it was whole

        # One step at a time; on a GPU, which runs ahead of the host, several.
        stop = ranks.agreed(received)
        for steps in () if stop else pace.stretches(first, trainer.ahead):
            updates = [update(step) for step in steps] if trainer.ahead == 1 else trainer.steps(steps.start, len(steps))
            pace.ended(steps)
            for step, (loss, norm) in zip(steps, updates, strict=True):
                figures = batches.figures(step, loss)
                log.write(step=step + 1, **figures, norm=norm, **pace.figures(step))
            progress.made(steps, figures)

            done, due, stop = steps.stop, pace.evaluates(steps.stop), ranks.agreed(received)
            if due:
                evaluate(done)
            if due or stop:
                run.write_checkpoint(trainer.state(), done)
            if due:
                progress.evaluated(done, run.report(model, done))
            if stop:
                break
            if due and settled(log, config.patience):
                ended = "settled"
                break
    return conclude(run, trainer, stop or ended)


if __name__ == "__main__":
    sys.exit(main())
