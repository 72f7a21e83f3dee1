"""How to train: the settings of a run, a recipe for each model preset, and the optimizers they ask for."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import DTypeLike

from tinygrad_lm.adapt.lora import lora
from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import computing
from tinygrad_lm.nn.module import freeze
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.muon import Muon
from tinygrad_lm.optim.optimizer import Optimizer
from tinygrad_lm.optim.schedule import warmup_cosine, warmup_stable_decay

SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": warmup_cosine,
    "linear": partial(warmup_stable_decay, decay=1.0),
    "constant": partial(warmup_stable_decay, decay=0.0),
    "stable-decay": warmup_stable_decay,
}

# What every message about a run that diverged ends with.
ADVICE = "a lower learning rate, more warm-up or a smaller clip; checkpoints saved before are whole"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. Learning rates are the largest of the schedule."""

    steps: int  # where time decides: how many were expected
    batch_size: int  # sequences a batch
    accumulate: int = 1  # batches a step; the loss is the mean over all their targets
    lr: float = 1e-3  # AdamW's, for everything without another rate below
    muon_lr: float = 0.0  # Muon's, for the hidden layers' matrices; 0: AdamW for them too
    embedding_lr: float = 0.0  # AdamW's for the embeddings; 0: lr
    betas: tuple = (0.9, 0.99)
    weight_decay: float = 0.1
    clip: float = 1.0  # largest gradient norm; 0: any
    schedule: str = "cosine"
    warmup: int = 100  # steps, but no more than a tenth of the run
    epochs: int = 0  # where time decides how many steps there are: no more passes over the text; 0: any number
    seconds: float = 0.0  # where time decides: how long the run is, with its last evaluation; 0: its steps decide
    ending: float = 0.0  # how long evaluating the whole validation split takes, in steps
    eval_every: int = 0  # steps between evaluations; 0: a fifth of the run
    # Validation targets a source that an evaluation measures; at the end all are. The loss of a token varies by about 2
    # nats, so the mean of so many is known to 0.016; between evaluations, which measure the same, it is much less.
    curve_tokens: int = 2**14
    eval_first: bool = False  # evaluate before the first step, too
    patience: int = 0  # stop after so many evaluations without a better one; 0: never
    seed: int = 0
    shares: int = 0  # parts of a batch, whose gradients are added in a fixed order (shares.py); 0: as many as cores
    lora: int = 0  # rank of the adapters that are trained in place of the weights (adapt/lora.py); 0: none
    frozen: tuple = ()  # patterns of the names of parameters that are not trained (nn/module.py)

    def __post_init__(self):
        least = dict.fromkeys(("steps", "batch_size", "accumulate", "curve_tokens"), 1)
        rates = ["lr", "muon_lr", "embedding_lr", "weight_decay", "clip", "seconds", "ending"]
        least |= dict.fromkeys([*rates, "warmup", "epochs", "eval_every", "patience", "seed", "shares", "lora"], 0)
        checks = {}
        for name, bound in least.items():
            value = getattr(self, name)
            rule = "finite" if value == math.inf else f"at least {bound}"
            checks[name] = value, rule, bound <= value < math.inf
        if self.seed >= 2**64:
            checks["seed"] = self.seed, "below 2⁶⁴", False
        checks["schedule"] = self.schedule, f"one of {', '.join(SCHEDULES)}", self.schedule in SCHEDULES
        check_ranges("training configuration", checks)

    def rate_factor(self, position: float) -> float:
        """What the learning rates are multiplied by at this position (pace.py), from 0 to 1."""
        return SCHEDULES[self.schedule](position, self.steps, warmup=min(self.warmup, self.steps // 10))


def build_model(
    model_config: GPTConfig, train_config: TrainConfig, dtype: DTypeLike, device: str, seed: int | None = 0
) -> GPT:  # fmt: skip
    """The GPT of a run, with its adapters and frozen parts. seed: of the weights, or None for zeros to be loaded."""
    model = GPT(model_config, seed, dtype, device)
    return adapted(model, train_config)


def adapted(model: GPT, config: TrainConfig) -> GPT:
    """Give a model the adapters that a TrainConfig asks for, and freeze what it names. Returns the model."""
    if config.lora:
        lora(model, config.lora, config.seed)
    return freeze(model, *config.frozen) if config.frozen else model


class RoundingMuon(Muon):
    """Muon whose products round as those of a model of this dtype."""

    def __init__(self, parameters: Iterable, dtype: DTypeLike, lr: float):
        super().__init__(parameters, lr)
        self.dtype = dtype

    def apply(self, numbers: list) -> None:
        """The update with these numbers."""
        with computing(self.dtype, self.flat.device):
            super().apply(numbers)


def make_optimizers(model: GPT, config: TrainConfig) -> list[Optimizer]:
    """The optimizers that together train every parameter of a GPT once, except frozen ones. ConfigError if all are."""
    trained = {name: model.flat[name] for name in model.flat.trained}
    if not trained:
        raise ConfigError(
            f"training: all {len(model.flat)} parameters are frozen, so there is nothing to train\n"
            "  hint : freeze fewer of them; 'wte.*' and 'wpe.*' are the embeddings alone"
        )
    hidden, embeddings, rest = [], [], []
    for name, p in trained.items():
        if config.muon_lr and name.startswith("h.") and p.ndim == 2:
            hidden.append(p)
        elif config.embedding_lr and name.startswith(("wte.", "wpe.")):
            embeddings.append(p)
        else:
            rest.append(p)
    adamw: dict[str, Any] = {"betas": config.betas, "weight_decay": config.weight_decay}
    optimizers: list[Optimizer | None] = [
        RoundingMuon(hidden, model.dtype, config.muon_lr) if hidden else None,
        AdamW(embeddings, lr=config.embedding_lr, **adamw) if embeddings else None,
        AdamW(rest, lr=config.lr, **adamw) if rest else None,
    ]
    return [optimizer for optimizer in optimizers if optimizer]


# A recipe for each preset of models/config.py.
# GPT-2's is GPT-3's of this size: Brown et al. 2020
GPT2: dict[str, Any] = {"lr": 6e-4, "betas": (0.9, 0.95), "warmup": 700, "batch_size": 8}
NANOGPT: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99), "warmup": 100}
# The rates were found on tiny Shakespeare (benchmarks/RESULTS.md). They fall from the first step to the last (Defazio
# et al. 2023, "When, why and how much?"). No dropout: in five epochs of so short a text it only slows learning; after
# them the model would begin to know it by heart.
MODERN: dict[str, Any] = {
    "lr": 3e-3,
    "muon_lr": 0.02,
    "embedding_lr": 0.03,
    "betas": (0.8, 0.95),
    "weight_decay": 0.0,
    "schedule": "linear",
    "warmup": 0,
    "epochs": 5,
}
RECIPES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2-medium": GPT2 | {"lr": 3e-4},
    "gpt2-large": GPT2 | {"lr": 2.5e-4},
    "gpt2-xl": GPT2 | {"lr": 2e-4},
    "nanogpt-shakespeare": NANOGPT | {"batch_size": 64},
    "nanogpt-cpu": NANOGPT | {"batch_size": 12},
    "modern": MODERN | {"batch_size": 16},
    "modern-tiny": MODERN | {"batch_size": 16},
}

# For a model that knows much already, whatever its size: few steps at a low, constant rate (nanoGPT's
# config/finetune_shakespeare.py: 20 of 32 contexts each).
FINETUNE: dict[str, Any] = {
    "steps": 20,
    "lr": 3e-5,
    "betas": (0.9, 0.95),
    "schedule": "constant",
    "warmup": 0,
    "batch_size": 2,
    "accumulate": 16,
    "eval_first": True,
}
LORA = FINETUNE | {"lr": 2e-4, "weight_decay": 0.01}  # Hu et al. 2021, table 11
