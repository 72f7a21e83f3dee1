"""Pretrain a GPT on a mixture of sources: GPT-3's way, at any size.

python examples/pretrain.py mixture.toml --preset modern-tiny --minutes 5   # prepares the data first, if need be
python examples/pretrain.py prepared/ --preset gpt2 --steps 10000
python examples/pretrain.py --resume runs/...                               # continue where a run was stopped

A mixture file is described in tinygrad_lm/data/mixture/mixture_file.py; pretrain_shakespeare.py is the small sibling.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

from pretrain_shakespeare import train  # the loop

from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.doctor.doctor import report
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.programs import program
from tinygrad_lm.train.command import PRETRAINING, command, create_run, resolve, vocab_size
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.data import describe_mixture, mixture_data, source_table
from tinygrad_lm.train.evaluate import Validation
from tinygrad_lm.train.plan import check_time, within
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

OPTIONS = PRETRAINING | {
    "mixture": {
        "nargs": "?",
        "metavar": "MIXTURE",
        "help": "a mixture file (.toml), or the folder that was prepared from one",
    },
    "--prepared": {"metavar": "FOLDER", "help": "where the mixture file's data are or go [its stem, beside it]"},
    "--validation-tokens": {"type": int, "metavar": "N", "help": "held-out tokens a source, at most [262144]"},
    "--inside-documents": {
        "action": "store_const",
        "const": True,
        "help": "attention sees nothing of the documents before in the same window",
    },
}


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train, arguments)


def start(
    mixture=None,
    prepared=None,
    preset="modern",
    steps=None,
    minutes=None,
    device="auto",
    dtype="auto",
    validation_tokens=2**18,
    inside_documents=False,
    out=None,
    doctor=False,
    **recipe,
):
    """Begin a run."""
    check_time(steps, minutes)
    if validation_tokens < 2:
        raise ConfigError(f"--validation-tokens must be at least 2, found {validation_tokens}")
    device, dtype = resolve(device, dtype)
    config = TrainConfig(**RECIPES[preset] | recipe | {"steps": 10 if steps is None else steps})
    dataset = find_dataset(mixture, prepared)
    tokenizer = dataset.tokenizer
    shape = replace(PRESETS[preset], vocab_size=vocab_size(tokenizer, device))
    batches, validation = mixture_data(dataset, config, shape.block_size, validation_tokens, inside_documents)

    def new_trainer(config):
        """A model with its first weights, and the optimizers that its recipe asks for."""
        model = GPT(shape, config.seed, dtype, device)
        return Trainer(model, batches, config, shares_of(model, config))

    if steps is None:
        config = within(minutes or 5, new_trainer(config), validation)
    print(source_table(batches, config.steps))
    trainer = new_trainer(config)
    print(f"model   {preset}: {trainer.model.flat.data.size:,} parameters on {device}, {dtype}")
    run = create_run(
        out,
        trainer,
        tokenizer,
        tokenizer.eot,
        program="examples/pretrain.py",
        title=f"{preset} on {dataset.path.name}",
        data=describe_mixture(dataset, validation_tokens, inside_documents),
        levels={"uniform": math.log(tokenizer.vocab_size)},
        floors={source.name: source.floor for source in dataset.sources},
    )
    return train(run, trainer, Validation(validation, batches, config)) or (report(run, device=device) if doctor else 0)


def find_dataset(mixture, folder):
    """The Dataset of a folder, or of a mixture file: prepared first, or compared with it where it is there."""
    if mixture is None:
        raise ConfigError(
            "MIXTURE says what to train on, a .toml file or a prepared folder; or --resume RUN continues a run"
        )
    path = Path(mixture)
    if path.is_dir():
        if folder is not None:
            raise ConfigError(f"{path} is a prepared folder itself; leave out --prepared")
        return Dataset(path)
    from tinygrad_lm.curate.prepare import prepare

    return Dataset(prepare(path, folder, progress=True))


if __name__ == "__main__":
    sys.exit(main())
