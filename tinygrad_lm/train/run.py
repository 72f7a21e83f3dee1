"""A run is a folder: everything that training writes, and all that resuming or sampling needs.

config.json     what was asked for, complete
tokenizer/      the tokenizer's files, where it is made from files
log.jsonl       one line a step and one an evaluation
loss.png        the loss curve, drawn again at every evaluation
samples.txt     what the model wrote at every evaluation
checkpoints/    step-N/ (train/checkpoint.py): the newest two and the best
"""

import json
import math
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from shlex import quote

from tinygrad_lm import files
from tinygrad_lm.commands import spelled
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.errors import CheckpointError, ConfigError, DivergedError, TokenError
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.locks import LOCK, FolderLock
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train.config import ADVICE, TrainConfig, build_model
from tinygrad_lm.train.data import reopen_data
from tinygrad_lm.train.evaluate import Validation
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.loss_curve import draw_losses
from tinygrad_lm.train.trainer import Trainer

FETCH_AGAIN = 'if the folder is of a published model, its config.json should have a "model_type": fetch it again'
# What every message about a damaged config.json ends with.
DAMAGED = 'hint : restore it from a copy, or begin another run; if it was changed on purpose, delete its entry "seal"'


class RunFolder:
    """The folder of an existing run; `RunFolder.create` makes one.

    config                     the content of config.json, of which two parts are objects, too:
    model_config, train_config
    tokenizer, log
    lock                       of the folder: a run that was created or resumed holds it until its training has ended
    """

    log_class = Log
    measure, unit = "validation loss", "nats per token"  # what an evaluation measures, and training lowers
    picture = "loss.png"  # what `draw` draws

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            content = (self.path / "config.json").read_bytes()
        except OSError as error:
            problem = f"{self.path} is not the folder of a run; config.json: {error.strerror}"
            raise CheckpointError(f"run: {problem}{files.nearest(self.path)}") from None
        try:
            self.config = json.loads(content)
            if "seal" in self.config:  # runs of earlier versions have none
                self.config = files.unsealed(self.config)
            missing = [f'"{name}"' for name in ("model", "train", "tokenizer") if name not in self.config]
            if missing and isinstance(self.config, dict):
                hint = "it is a published model's" if "model_type" in self.config else FETCH_AGAIN
                raise CheckpointError(
                    f"run: {self.path / 'config.json'} has no {', '.join(missing)}, so it is not a run's; {hint}"
                )
            self.model_config = GPTConfig(**self.config["model"])
            self.train_config = TrainConfig(**self.config["train"])
            self.tokenizer = tokenizer_from_dict(self.config["tokenizer"], self.path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"run: {self.path / 'config.json'} is damaged: {error}\n  {DAMAGED}") from error
        self.lock = FolderLock(self.path)

    @cached_property
    def log(self) -> Log:
        """The Log; only what needs it reads it, so that damage to it costs no weights."""
        return self.log_class(self.path / "log.jsonl")

    @staticmethod
    @contextmanager
    def locked(path):
        """The FolderLock of an existing run, held beyond the block unless that fails."""
        lock = FolderLock(path)
        with world().leading():
            lock.acquire()
        with lock.kept():
            yield lock

    @classmethod
    def create(cls, path, model_config: GPTConfig, train_config: TrainConfig, tokenizer, **others) -> "RunFolder":
        """Make the folder. others: the rest of config.json: program, title, data, dtype, shares, levels, floors, start,
        for fine-tuning base, and heads, the names of weights that the published model has not."""
        path = Path(path)
        config = others | {
            "model": asdict(model_config),
            "train": asdict(train_config),
            "tokenizer": tokenizer.to_dict(),
        }
        with world().leading():
            try:
                check_free(path)
                path.mkdir(parents=True, exist_ok=True)
                with FolderLock(path).kept() as lock:
                    check_free(path)  # another process may have begun a run in between
                    if contents := tokenizer.contents():  # the folder that they came from may be gone tomorrow
                        (path / "tokenizer").mkdir()
                        config["tokenizer"]["folder"] = "tokenizer"
                    for name, content in contents.items():
                        files.replace(path / "tokenizer" / name, content)
                    files.replace(path / "config.json", files.sealed_json(config, indent=1))
            except OSError as error:
                raise ConfigError(f"run: cannot write to {path}: {error.strerror}; give another folder") from error
        run = cls(path)
        run.lock = lock
        return run

    def plan(self, steps: int) -> None:
        """Plan for a number of steps, whatever decided before."""
        self.config["train"] |= {"steps": steps, "seconds": 0.0}
        self.train_config = TrainConfig(**self.config["train"])

    def write_config(self) -> None:
        """Write config.json as it is now."""
        files.replace(self.path / "config.json", files.sealed_json(self.config, indent=1))

    def reopen(self, device: str) -> tuple[Trainer, Validation]:
        """(trainer, validate): the run as it began, with its first weights. DataError if its data have changed."""
        batches, validation = reopen_data(self)
        trainer = Trainer(self.initial_model(device), batches, self.train_config, self.config["shares"])
        return trainer, Validation(validation, batches, self.train_config)

    def initial_model(self, device: str) -> GPT:
        """The model as initialised, with its adapters and frozen parts."""
        return build_model(self.model_config, self.train_config, self.config["dtype"], device, self.train_config.seed)

    def best_model(self, device: str = "cpu", dtype=None) -> GPT:
        """The model with the weights of the best checkpoint, in the run's dtype if no other is wanted."""
        dtype = dtype or self.config["dtype"]
        model = build_model(self.model_config, replace(self.train_config, frozen=()), dtype, device, None)
        heads = self.config.get("heads", ())  # what training gave the model besides, such as a value head
        weights = self.read_checkpoint("best")[1]["model"]
        model.flat.load({name: weights[name] for name in weights if name not in heads})
        return model

    def read_checkpoint(self, which: str = "newest") -> tuple[dict, dict]:
        """(manifest, state) of a checkpoint, if it was made with this run's vocabulary."""
        manifest, state = checkpoint.read_checkpoint(self.path / "checkpoints", which)
        if manifest["vocabulary"] != self.tokenizer.fingerprint:
            raise CheckpointError(
                f"run: the checkpoint was trained with the vocabulary {manifest['vocabulary'][:12]}, "
                f"config.json has {self.tokenizer.fingerprint[:12]}; one of them is of another run"
            )
        return manifest, state

    def write_checkpoint(self, state: dict, step: int) -> None:
        """Write a checkpoint after `step` updates."""
        steps, losses = self.log.curve("validation")
        info = {"validation": losses[-1] if steps and steps[-1] == step else None}
        info |= {"vocabulary": self.tokenizer.fingerprint}
        self.log.sync()
        self.save("checkpoints", step, state, info)

    def save(self, name: str, step: int, state: dict, info: dict) -> None:
        """Write a checkpoint into a folder of the run's."""
        checkpoint.write_checkpoint(self.path / name, step, state, info)

    def log_validation(self, step: int, used: dict, loss: float, losses: dict, figures: dict | None = None) -> None:
        """Log an evaluation: what was used of each source (data/loader.py), the mean loss, {source: loss}, and other
        figures, {name: number}.

        DivergedError where the mean is not a finite number: such weights are not worth saving.
        """
        if not math.isfinite(loss):
            where = ", ".join(name for name in losses if not math.isfinite(losses[name]))
            raise DivergedError(
                f"training: the validation loss after step {step} is {loss}, on {where}; these weights were not saved\n"
                f"  hint : {ADVICE}"
            )
        self.log.write(step=step, validation=loss, validation_sources=losses, sources=used, **figures or {})

    def log_whole(self, step: int, loss: float, losses: dict) -> None:
        """Log the result: the mean loss on the whole validation texts, and {source: loss}."""
        self.log.write(step=step, whole=loss, whole_sources=losses)

    def rewind(self, step: int) -> None:
        """Forget what was written after the checkpoint of a step: a run that resumes there writes it again."""
        self.log.rewind(step)
        path = self.path / "samples.txt"
        content = path.read_bytes() if path.exists() else b""
        for head in re.finditer(rb"^--- step (\d+), ", content, re.MULTILINE):
            if int(head[1]) >= step:
                files.replace(path, content[: head.start()])
                break

    def report(self, model: GPT, step: int):
        """Draw the loss curve, write a sample and return it. No failure of that ends the training: the weights are
        saved."""
        try:
            return self.draw_and_sample(model, step)
        except Exception as error:
            print(f"step {step}: no picture or sample: {type(error).__name__}: {error}", file=sys.stderr)

    def draw_and_sample(self, model: GPT, step: int) -> str:
        """What `report` does, with its failures."""
        self.draw()
        sample = self.sample(model, 300)
        with open(self.path / "samples.txt", "a", encoding="utf-8") as file:
            file.write(f"--- step {step}, {self.measure} {self.log.result()[0]:.4f}\n{sample}\n\n")
        return sample

    def draw(self) -> None:
        """Draw the curves of the log."""
        config = self.config
        draw_losses(self.log, self.path / self.picture, config["title"], config["levels"], config["floors"])

    def how_to_use(self) -> str:
        """The command that uses the model."""
        prompt = "" if self.config["floors"] else prompt_option(self.tokenizer)
        return f"write more:  {spelled('examples/generate.py')} {quote(str(self.path))}{prompt}"

    def sample(self, model: GPT, n: int, **options) -> str:
        """A text of n tokens from the model, beginning as the training text does."""
        start, tokenizer = [self.config["start"]], self.tokenizer
        return tokenizer.decode(list(generate(model, start, n, vocab_size=tokenizer.vocab_size, **options)), start)


def prompt_option(tokenizer):
    """The option for a prompt, where the vocabulary can express the one that is known."""
    try:
        tokenizer.encode("ROMEO:")
    except TokenError:
        return ""
    return ' --prompt "ROMEO:"'


def check_free(path):
    """Raise ConfigError unless a path is free, or an empty folder."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(each.name != LOCK for each in path.iterdir())):
        raise ConfigError(
            f"run: {path} exists and is not an empty folder; give another, or --resume {quote(str(path))}"
        )
