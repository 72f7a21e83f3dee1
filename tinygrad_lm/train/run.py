"""A run is a folder: everything that training it writes, and all that resuming or sampling it needs.

config.json     what was asked for, complete
tokenizer/      the tokenizer's files, where it is made from files
log.jsonl       one line a step and one an evaluation
loss.png        the loss curve, drawn anew at every evaluation
samples.txt     what the model wrote at every evaluation
checkpoints/    step-N/ (train/checkpoint.py): the newest two and the best
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from shlex import quote

from tinygrad_lm.data.tokenizers import tokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.files import replace
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.log import Log, plot


class Run:
    """An existing run. `Run.create` makes one."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            content = (self.path / "config.json").read_bytes()
        except OSError as error:
            problem = f"{self.path} is not the folder of a run; config.json: {error.strerror}"
            raise CheckpointError(f"run: {problem}") from None
        try:
            self.settings = json.loads(content)
            missing = [f'"{name}"' for name in ("model", "train", "tokenizer") if name not in self.settings]
            if missing and isinstance(self.settings, dict):
                raise CheckpointError(
                    f"run: {self.path / 'config.json'} has no {', '.join(missing)}, so it is not a run's; if the "
                    f'folder is of a published model, its config.json should have a "model_type": fetch it again'
                )
            self.model_config = GPTConfig(**self.settings["model"])
            self.train_config = TrainConfig(**self.settings["train"])
            self.tokenizer = tokenizer.tokenizer_from_dict(self.settings["tokenizer"], self.path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"run: {self.path / 'config.json'} is damaged: {error}") from error
        self.log = Log(self.path / "log.jsonl")

    @classmethod
    def create(cls, path, model_config, train_config, tokenizer, **settings):
        """Make the folder. settings: the rest of config.json: program, title, data, dtype, threads, levels, floors,
        start."""
        path = Path(path)
        settings |= {"model": asdict(model_config), "train": asdict(train_config), "tokenizer": tokenizer.to_dict()}
        try:
            check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            if files := tokenizer.contents():  # the folder that they came from may be gone tomorrow
                (path / "tokenizer").mkdir()
                settings["tokenizer"]["folder"] = "tokenizer"
            for name, content in files.items():
                replace(path / "tokenizer" / name, content)
            replace(path / "config.json", json.dumps(settings, indent=1).encode())
        except OSError as error:
            raise ConfigError(f"run: cannot write to {path}: {error.strerror}; give another folder") from error
        return cls(path)

    def extend(self, steps):
        """Plan for another number of steps from now on."""
        self.settings["train"]["steps"] = steps
        replace(self.path / "config.json", json.dumps(self.settings, indent=1).encode())
        self.train_config = TrainConfig(**self.settings["train"])

    def build(self, device):
        """The model as initialised."""
        config = self.train_config
        return GPT(self.model_config, config.seed, self.settings["dtype"], device, config.frozen)

    def trained(self, device="cpu", dtype=None):
        """The model with the weights of the best checkpoint, in the run's dtype if no other is wanted."""
        model = GPT(self.model_config, None, dtype or self.settings["dtype"], device)
        model.parameters.load(self.load("best")[1]["model"])
        return model

    def load(self, which="newest"):
        """(manifest, state) of a checkpoint, if it was made with this run's vocabulary."""
        manifest, state = checkpoint.load(self.path / "checkpoints", which)
        if manifest["vocabulary"] != self.tokenizer.fingerprint:
            raise CheckpointError(
                f"run: the checkpoint was trained with the vocabulary {manifest['vocabulary'][:12]}, "
                f"config.json has {self.tokenizer.fingerprint[:12]}; one of them is of another run"
            )
        return manifest, state

    def save(self, state, step):
        """Write a checkpoint after `step` updates."""
        steps, losses = self.log.curve("validation")
        info = {"validation": losses[-1] if steps and steps[-1] == step else None}
        checkpoint.save(self.path / "checkpoints", step, state, info | {"vocabulary": self.tokenizer.fingerprint})

    def rewind(self, step):
        """Forget what was written after saving at a step: a run that resumes there will write it again."""
        self.log.rewind(step)
        path = self.path / "samples.txt"
        content = path.read_bytes() if path.exists() else b""
        for head in re.finditer(rb"^--- step (\d+), ", content, re.MULTILINE):
            if int(head[1]) >= step:
                replace(path, content[: head.start()])
                break

    def report(self, model, step):
        """Draw the loss curve and write a sample."""
        floors = self.settings.get("floors", {})
        plot(self.log, self.path / "loss.png", self.settings["title"], self.settings["levels"], floors)
        loss = self.log.curve("validation")[1][-1]
        with open(self.path / "samples.txt", "a", encoding="utf-8") as file:
            file.write(f"--- step {step}, validation loss {loss:.4f}\n{self.sample(model, 300)}\n\n")

    def sample(self, model, n, **options):
        """A text of n tokens from the model, beginning as the training text does."""
        start, tokenizer = [self.settings["start"]], self.tokenizer
        return tokenizer.decode(list(generate(model, start, n, vocab_size=tokenizer.vocab_size, **options)), start)

    def progress(self, first, steps):
        """A progress bar on the terminal."""
        from tqdm import tqdm

        return tqdm(initial=first, total=steps, unit="step", dynamic_ncols=True)


def check_free(path):
    """Raises ConfigError where something is already."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            f"run: {path} exists and is not an empty folder; give another, or --resume {quote(str(path))}"
        )
