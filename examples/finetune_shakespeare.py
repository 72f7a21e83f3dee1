"""Teach a trained model the style of another text: a few steps at a low learning rate.

python examples/finetune_shakespeare.py --model gpt2 --block-size 256
python examples/finetune_shakespeare.py --model runs/... --data my_text.txt --steps 100
python examples/finetune_shakespeare.py --model gpt2 --lora 4                  # train small adapters alone
python examples/finetune_shakespeare.py --model gpt2 --freeze "wte.*" "wpe.*" "h.[0-5].*"
python examples/finetune_shakespeare.py --resume runs/...                     # continue where a run was stopped
"""

import sys
from dataclasses import replace
from pathlib import Path

from pretrain_shakespeare import train  # the loop

from tinygrad_lm.adapt import inherit, merge
from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.programs import program
from tinygrad_lm.train.command import DATA, PRETRAINING, command, create_run, resolve
from tinygrad_lm.train.config import FINETUNE, LORA, TrainConfig, adapted
from tinygrad_lm.train.data import describe_text, known_floor, text_data
from tinygrad_lm.train.evaluate import Validation
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

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
    "--dtype": PRETRAINING["--dtype"] | {"help": "as for pretraining [float32]"},
} | DATA


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train, arguments)


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
    **recipe,
):
    """Begin a run from the weights of another model."""
    if model is None:
        raise ConfigError("--model WHERE says what to begin with; or --resume RUN continues a run")
    device, dtype = resolve(device, dtype)
    config = TrainConfig(**(LORA if lora else FINETUNE) | recipe, lora=lora, frozen=tuple(freeze))
    base, tokenizer = load_pretrained(model, device, dtype)
    base = merge(base)  # adapters that it has become part of its weights
    shape = replace(
        base.config, dropout=dropout, block_size=base.config.block_size if block_size is None else block_size
    )
    tuned = adapted(inherit(GPT(shape, config.seed, dtype, device), base), config)
    del base  # its memory is wanted
    corpus = load_corpus(data)
    batches, validation = text_data(corpus, tokenizer, config, shape.block_size)
    trainer = Trainer(tuned, batches, config, shares_of(tuned, config))
    print(f"model   {model}: trains {tuned.flat.grad.size:,} of {tuned.flat.data.size:,} parameters on {device}")
    run = create_run(
        out,
        trainer,
        tokenizer,
        program="examples/finetune_shakespeare.py",
        title=f"{Path(model).name} on {corpus.name}",
        data=describe_text(data, corpus),
        levels=known_floor(corpus, validation),
        base=model,
    )
    print(f"before\n{run.sample(tuned, 200)}\n")
    return train(run, trainer, Validation(validation, batches, config))


if __name__ == "__main__":
    sys.exit(main())
