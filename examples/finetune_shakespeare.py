"""Teach a trained model the style of another text: a few steps at a low learning rate.

python examples/finetune_shakespeare.py --model gpt2 --block-size 256
python examples/finetune_shakespeare.py --model runs/... --data my_text.txt --steps 100
python examples/finetune_shakespeare.py --model gpt2 --lora 4                  # train small adapters alone
python examples/finetune_shakespeare.py --model gpt2 --freeze "wte.*" "wpe.*" "h.[0-5].*"
python examples/finetune_shakespeare.py --resume runs/...                     # go on where a run was stopped
"""

import sys
from dataclasses import replace
from pathlib import Path

from tinygrad_lm.adapt.inherit import inherit
from tinygrad_lm.backend import dtype_of, wide
from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.threads import cores
from tinygrad_lm.train import material, session
from tinygrad_lm.train.config import FINETUNE, LORA, TrainConfig
from tinygrad_lm.train.loop import Trainer

OPTIONS = {
    "--model": {"metavar": "WHERE", "help": "what to begin with: gpt2, the folder of a model, or of a run"},
    "--lora": {"type": int, "metavar": "RANK", "help": "train adapters of this rank and nothing else [0: none]"},
    "--freeze": {"nargs": "+", "metavar": "PATTERN", "help": "names of parameters that are not to be trained [none]"},
    "--block-size": {
        "type": int,
        "metavar": "T",
        "help": "context; a shorter one costs less, and of learned positions the first are kept [the model's]",
    },
    "--dropout": {"type": float, "metavar": "P", "help": "[0]"},
    "--steps": {"type": int, "help": f"updates of the weights [{FINETUNE['steps']}]"},
    "--lr": {"type": float, "help": f"learning rate [{FINETUNE['lr']:g}; with --lora {LORA['lr']:g}]"},
    "--batch-size": {"type": int, "metavar": "B", "help": f"sequences a batch [{FINETUNE['batch_size']}]"},
    "--accumulate": {"type": int, "metavar": "N", "help": f"batches a step [{FINETUNE['accumulate']}]"},
    "--dtype": session.PRETRAINING["--dtype"],
} | session.DATA


def main(arguments=None):
    return session.command(__doc__, OPTIONS, start, arguments)


def start(
    model=None,
    data=None,
    lora=0,
    freeze=(),
    block_size=None,
    dropout=0.0,
    device="auto",
    dtype="float32",
    out=None,
    **options,
):
    """A new run, from the weights of another model."""
    if model is None:
        raise ConfigError("--model WHERE says what to begin with; or --resume RUN goes on with a run")
    device = resolve_device(device)
    config = TrainConfig(**(LORA if lora else FINETUNE) | options, frozen=tuple(freeze))
    base, tokenizer = load_pretrained(model, device, wide(dtype_of(dtype)))  # masters of bfloat16 are float32
    changes = {"lora": lora, "dropout": dropout} | ({} if block_size is None else {"block_size": block_size})
    tuned = inherit(GPT(replace(base.config, **changes), config.seed, dtype, device, config.frozen), base)
    del base  # its memory is wanted
    corpus = load_corpus(data)
    batches, validation = material.text(corpus, tokenizer, config, tuned.config.block_size)
    trainer = Trainer(tuned, batches, config, cores())
    parameters = tuned.parameters
    print(f"model   {model}: trains {parameters.grad.size:,} of {parameters.data.size:,} parameters on {device}")
    run = session.create(
        out,
        trainer,
        tokenizer,
        data=material.text_settings(data, corpus),
        program="examples/finetune_shakespeare.py",
        title=f"{Path(model).name} on {corpus.name}",
        levels=material.floor(corpus, validation),
        base=model,
    )
    print(f"before\n{run.sample(tuned, 200)}\n")
    return session.go(run, trainer, validation)


if __name__ == "__main__":
    sys.exit(main())
