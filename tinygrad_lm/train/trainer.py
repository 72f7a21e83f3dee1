"""One training step: zero the gradients, forward, loss, backward, clip, update; and again."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lm import kernels
from tinygrad_lm.backend import Array, to_device
from tinygrad_lm.data.loader import BatchStream
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.distributed.sharded import check_same, sharded
from tinygrad_lm.errors import DivergedError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.train.config import ADVICE, TrainConfig, make_optimizers
from tinygrad_lm.train.device_steps import AHEAD, DeviceSteps
from tinygrad_lm.train.objective import next_token
from tinygrad_lm.train.pace import Steps
from tinygrad_lm.train.shares import Shares


class Trainer:
    """A model, its optimizers and its batches, a BatchStream (data/loader.py): all that one training step needs.

    On a CPU the gradients come from `Shares` (shares.py); on a GPU whole steps are those of train/device_steps.py.
    shares     how many parts the sum of gradients is made of: it decides the order of additions, so the last bits
    threads    how many replicas of the model there are: train within `workers(trainer.threads)`
    ranks      the processes that train together [those of this process's job], each of which updates a part
    ahead      how many steps are done before their losses are read
    objective  what is minimised (objective.py)
    pace       where in its plan the run is, which decides the learning rate [by the steps alone] (pace.py)
    """

    def __init__(
        self, model: GPT, batches: BatchStream, config: TrainConfig, shares: int = 1, threads: int | None = None,
        objective: Callable = next_token, ranks: Any = None,
    ):  # fmt: skip
        kernels.enable()
        self.ranks = ranks or world()
        self.model, self.batches, self.config, self.objective = model, batches, config, objective
        self.optimizers = sharded(make_optimizers(model, config), self.ranks)
        self.shares, on_cpu = shares, model.flat.device == "cpu"
        self.gradients = Shares(model, batches, config, objective, shares, threads if on_cpu else 1, self.ranks)
        self.threads = self.gradients.threads
        self.device_steps = None if on_cpu else DeviceSteps(self)
        self.ahead = 1 if on_cpu else AHEAD
        self.pace = Steps(config)

    def step(self, step: int) -> tuple[float, float]:
        """One update, as the loop of examples/pretrain_shakespeare.py makes it. Returns the loss before it, in nats a
        target, and the gradient norm."""
        if self.device_steps is not None:
            return self.steps(step, 1)[0]
        self.model.flat.zero_grad()  # whoever looked at gradients in between has left some
        loss, count = self.gradients(step)
        norm = clip_gradients(self.model.flat, self.config.clip, max(count, 1)).item()
        self.check(step, loss, norm)
        for optimizer in self.optimizers:
            optimizer.step(self.pace.rate_factor(step))
        return loss, norm

    def steps(self, first: int, count: int) -> list[tuple[float, float]]:
        """Updates number `first` to first + count − 1. Returns the loss and the norm of each, [(loss, norm), …]; on a
        GPU count is at most `ahead`."""
        if self.device_steps is None:
            return [self.step(step) for step in range(first, first + count)]
        found = self.device_steps(self, first, count)
        for step, (loss, norm) in enumerate(found, start=first):
            if not math.isfinite(loss + norm):
                raise DivergedError(
                    f"training: step {step + 1} has loss {loss} and gradient norm {norm}, seen on the GPU "
                    f"{first + count - 1 - step} steps later; the weights since then are of no use\n"
                    f"  hint : {ADVICE}"
                )
        return found

    def check(self, step: int, loss: float, norm: float) -> None:
        """Raise DivergedError, with what is wrong, unless both are finite; weights and optimizers are as they were."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        flat = self.model.flat
        wrong = [name for name in flat.trained if not np.isfinite(to_device(flat[name].grad, "cpu")).all()]
        weights = np.isfinite(to_device(flat.data, "cpu")).all()
        where = "the loss alone" if not math.isfinite(loss) else "the norm alone: the gradients' squares overflow"
        if wrong:
            where = f"{len(wrong)} parameters have such gradients, the first is {wrong[0]}"
        raise DivergedError(
            f"training: step {step + 1} has loss {loss} and gradient norm {norm}; it was not applied\n"
            f"  where : {where}\n"
            f"  weights: {'all finite' if weights else 'not all finite'}; "
            f"learning rate {self.config.lr * self.pace.rate_factor(step):.2e}\n"
            f"  hint : {ADVICE}"
        )

    def state(self) -> dict[str, dict[str, Array]]:
        """What a resumed run needs, as files of arrays by name: {"model": {...}, "optimizer": {...}}.

        Of many ranks all call it, and rank 0 has it. Raises DeviceError if their weights are not the same.
        """
        check_same(self.ranks, to_device(self.model.flat.data, "cpu"))
        states = [optimizer.state().items() for optimizer in self.optimizers]
        optimizer = {f"{i}.{name}": to_device(x, "cpu") for i, state in enumerate(states) for name, x in state}
        return {"model": self.model.flat.arrays(), "optimizer": optimizer}

    def load_state(self, state: dict[str, dict[str, Array]]) -> None:
        """Continue from what `state` returned."""
        self.model.flat.load(state["model"])
        for i, optimizer in enumerate(self.optimizers):
            prefix, arrays = f"{i}.", state["optimizer"].items()
            optimizer.load_state({name.removeprefix(prefix): x for name, x in arrays if name.startswith(prefix)})
