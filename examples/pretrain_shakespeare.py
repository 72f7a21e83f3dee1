"""Pretrain a small GPT on tiny Shakespeare and watch it learn.

python examples/pretrain_shakespeare.py                       # about five minutes on a laptop's CPU
python examples/pretrain_shakespeare.py --preset nanogpt-cpu --steps 2000
python examples/pretrain_shakespeare.py --data my_text.txt --tokenizer gpt2
python examples/pretrain_shakespeare.py --resume runs/...     # go on where a run was stopped
python examples/pretrain_shakespeare.py --doctor              # and say afterwards how healthy the run was
"""

import sys
from dataclasses import replace

from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.learn.doctor.doctor import report
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores
from tinygrad_lm.train import material, session
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import baselines
from tinygrad_lm.train.loop import Trainer
from tinygrad_lm.train.plan import check_time, within

TOKENIZER = {"metavar": "NAME", "help": "char, byte, gpt2, or a trained one: its name or *.tiktoken [char]"}
OPTIONS = session.PRETRAINING | {"--tokenizer": TOKENIZER} | session.DATA


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
    check_time(steps, minutes)
    device = resolve_device(device)
    config = TrainConfig(**RECIPES[preset] | options | {"steps": 10 if steps is None else steps})
    corpus = load_corpus(data)
    tokenizer = make_tokenizer(tokenizer, corpus.text)
    model_config = replace(PRESETS[preset], vocab_size=session.vocab_size(tokenizer, device))
    batches, validation = material.text(corpus, tokenizer, config, model_config.block_size)
    levels = baselines(batches.tokens, validation[corpus.name][1], tokenizer.vocab_size)
    levels |= material.floor(corpus, validation)
    if steps is None:
        model = GPT(model_config, config.seed, dtype, device)
        config = within(minutes or 5, Trainer(model, batches, config, cores()), validation)

    model = GPT(model_config, config.seed, dtype, device)
    print(f"model   {preset}: {model.parameters.data.size:,} parameters on {device}")
    trainer = Trainer(model, batches, config, cores())
    title = f"{preset} on {corpus.name}"
    settings = {"program": "examples/pretrain_shakespeare.py", "data": material.text_settings(data, corpus)}
    run = session.create(out, trainer, tokenizer, title=title, levels=levels, **settings)
    return session.go(run, trainer, validation) or (report(run, device=device) if doctor else 0)


if __name__ == "__main__":
    sys.exit(main())
