"""Pretrain a GPT on a mixture of sources: GPT-3's way, at any size.

python examples/pretrain.py mixture.toml --preset modern-tiny --minutes 5   # prepares the data first, if need be
python examples/pretrain.py prepared/ --preset gpt2 --steps 10000
python examples/pretrain.py --resume runs/...                               # go on where a run was stopped

A mixture file is described in tinygrad_lm/data/mixture/mixture_file.py; pretrain_shakespeare.py is the small sibling.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.learn.doctor.doctor import report
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores
from tinygrad_lm.train import material, session
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.loop import Trainer
from tinygrad_lm.train.plan import check_time, within
from tinygrad_lm.train.sources import planned

OPTIONS = session.PRETRAINING | {
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


def main(arguments=None):
    return session.command(__doc__, OPTIONS, start, arguments)


def start(
    mixture=None,
    prepared=None,
    preset="modern",
    steps=None,
    minutes=None,
    device="auto",
    dtype="float32",
    validation_tokens=2**18,
    inside_documents=False,
    out=None,
    doctor=False,
    **options,
):
    """A new run."""
    check_time(steps, minutes)
    if validation_tokens < 2:
        raise ConfigError(f"--validation-tokens must be at least 2, found {validation_tokens}")
    device = resolve_device(device)
    config = TrainConfig(**RECIPES[preset] | options | {"steps": 10 if steps is None else steps})
    data = find(mixture, prepared)
    tokenizer = data.tokenizer
    model_config = replace(PRESETS[preset], vocab_size=session.vocab_size(tokenizer, device))
    batches, validation = material.mixture(data, config, model_config.block_size, validation_tokens, inside_documents)
    if steps is None:
        model = GPT(model_config, config.seed, dtype, device)
        config = within(minutes or 5, Trainer(model, batches, config, cores()), validation)
    print(planned(batches, config.steps))

    model = GPT(model_config, config.seed, dtype, device)
    print(f"model   {preset}: {model.parameters.data.size:,} parameters on {device}")
    trainer = Trainer(model, batches, config, cores())
    run = session.create(
        out,
        trainer,
        tokenizer,
        tokenizer.eot,
        program="examples/pretrain.py",
        title=f"{preset} on {data.path.name}",
        data=material.mixture_settings(data, validation_tokens, inside_documents),
        levels={"uniform": math.log(tokenizer.vocab_size)},
        floors={source.name: source.floor for source in data.sources},
    )
    return session.go(run, trainer, validation) or (report(run, device=device) if doctor else 0)


def find(mixture, folder):
    """The Dataset of a mixture file, prepared first where they are not, and compared with it where they are; or
    those of a folder."""
    if mixture is None:
        raise ConfigError("MIXTURE says what to train on, a .toml file or a prepared folder; or --resume RUN goes on")
    path = Path(mixture)
    if path.is_dir():
        if folder is not None:
            raise ConfigError(f"{path} is a prepared folder itself; leave out --prepared")
        return Dataset(path)
    from tinygrad_lm.curate.prepare import prepare

    return Dataset(prepare(path, folder, progress=True))


if __name__ == "__main__":
    sys.exit(main())
