"""The settings of a policy gradient, and what the known methods are in terms of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_lm.errors import check_ranges
from tinygrad_lm.posttrain.policy.advantages import ADVANTAGES


@dataclass(frozen=True)
class Method:
    """How answers become a gradient. RLOO as it stands; the others are in METHODS.

    advantage     leave-one-out, centred or standardised (advantages.py), or gae: by a value head
    length        sum, constant, own or group: what the tokens of an answer are weighted by (advantages.py)
    beta          of the KL divergence from the reference, subtracted from the reward
    group         G, answers to a prompt
    limit         tokens an answer, at most; one that has not ended by then gets the reward 0 of a verifier
    passes        updates on the same answers
    clip          ε of the surrogate, which matters from the second pass on; 0: none
    lam           λ of gae
    value_weight  of the value head's loss
    """

    advantage: str = "leave-one-out"
    length: str = "sum"
    beta: float = 0.0
    group: int = 8
    limit: int = 64
    passes: int = 1
    clip: float = 0.0
    lam: float = 0.95
    value_weight: float = 0.1

    def __post_init__(self):
        kinds, lengths = (*ADVANTAGES, "gae"), ("sum", "constant", "own", "group")
        least = 1 if self.advantage == "gae" else 2
        ranges = {
            "advantage": (self.advantage, f"one of {', '.join(kinds)}", self.advantage in kinds),
            "length": (self.length, f"one of {', '.join(lengths)}", self.length in lengths),
            "beta": (self.beta, "at least 0", 0 <= self.beta < np.inf),
            "group": (self.group, f"at least {least}", self.group >= least),
            "limit": (self.limit, "at least 1", self.limit >= 1),
            "passes": (self.passes, "at least 1", self.passes >= 1),
            "clip": (self.clip, "from 0 to below 1", 0 <= self.clip < 1),
            "lam": (self.lam, "from 0 to 1", 0 <= self.lam <= 1),
            "value_weight": (self.value_weight, "at least 0", 0 <= self.value_weight < np.inf),
        }
        check_ranges("policy gradient", ranges)


# For a model that can do the task now and then: a rate so high that it leaves that behind ends everything.
RECIPE: dict[str, Any] = {
    "steps": 100,
    "lr": 1e-4,
    "betas": (0.9, 0.95),
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 10,
    "batch_size": 128,
    "eval_first": True,
}
METHODS: dict[str, dict] = {
    "rloo": {},
    "dr-grpo": {"advantage": "centred", "length": "constant"},
    "grpo": {"advantage": "standardised", "length": "own"},
    "ppo": {"advantage": "gae", "passes": 2, "clip": 0.2, "group": 1},
}


def in_iterations(config, passes):
    """A TrainConfig whose run ends, and is evaluated and saved, between iterations of so many updates on the same
    answers."""
    whole = lambda steps: max(1, round(steps / passes)) * passes
    return replace(config, steps=whole(config.steps), eval_every=whole(config.eval_every or config.steps / 5))
