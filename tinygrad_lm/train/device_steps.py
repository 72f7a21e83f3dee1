"""Training steps on a GPU: one list of launches, the same in every step, so that it can be captured and replayed."""

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda_graph import Graph
from tinygrad_lm.optim.clipping import clip_gradients

AHEAD = 20  # steps whose batches are on the GPU at once


class DeviceSteps:
    """steps(first, count) -> [(loss, norm), …], as Trainer.step does it; count is at most AHEAD.

    All that differs from step to step (batches, learning rates, the counters of the random numbers) lies in tables on
    the GPU, a row a step, and so do losses and norms; `place`, on the GPU too, counts the rows. So the host fills the
    tables, launches the steps one after the other, and waits once, for all of them.

    In bfloat16 a step is captured as a CUDA graph. Not in float32, where attention has no kernel: its rule's products
    are CuPy's, which cannot be captured.
    """

    def __init__(self, trainer):
        self.trainer, parameters = trainer, trainer.model.parameters
        self.xp = xp = array_module(parameters.data)
        self.place, self.rows, self.tables, self.drawn = xp.zeros((), np.int64), xp.arange(AHEAD), {}, {}
        self.losses, self.norms = (xp.zeros(AHEAD, parameters.master.dtype) for _ in range(2))
        self.update = Graph(xp, self.launch) if capturable(trainer.model) else self.launch

    def __call__(self, first, count):
        steps = range(first, first + count)
        drawn, self.drawn = self.drawn, {}
        batches = [drawn.get(step) or self.draw(step) for step in steps]
        self.place.fill(0)
        for name, rows in (self.counted(steps) | stacked(batches)).items():
            table = self.tables.setdefault(name, self.xp.zeros((AHEAD, *rows.shape[1:]), rows.dtype))
            table[:count] = self.xp.asarray(rows)
        for _ in steps:
            self.update()
        following = range(steps.stop, min(steps.stop + AHEAD, self.trainer.config.steps))
        self.drawn = {step: self.draw(step) for step in following}  # while the GPU works
        return list(zip(*(x.get()[:count].tolist() for x in (self.losses, self.norms)), strict=True))

    def draw(self, step):
        """A step's batches, (accumulate, B, T) each by name."""
        parts = [self.trainer.batches(step, part) for part in range(self.trainer.config.accumulate)]
        batch = {"inputs": [x for x, _ in parts], "targets": [y for _, y in parts]}
        if self.trainer.batches.document_token is not None:
            batch["starts"] = [self.trainer.starts(x) for x, _ in parts]
        return {name: np.array(rows, np.int32) for name, rows in batch.items()}

    def counted(self, steps):
        """The counters of the random numbers and the numbers of the optimizers, by name, a row a step."""
        trainer, dtype = self.trainer, self.losses.dtype
        parts = range(trainer.config.accumulate)
        rows = {"counters": np.array([[(step, part, 0) for part in parts] for step in steps], np.uint64)}
        for i, optimizer in enumerate(trainer.optimizers):
            rows[f"optimizer {i}"] = np.array([optimizer.numbers(trainer.config.rate(step)) for step in steps], dtype)
        return rows

    def launch(self):
        """One update by the rows at `place`: launches alone, and nothing that the host has to wait for."""
        trainer, config, parameters = self.trainer, self.trainer.config, self.trainer.model.parameters
        row = {name: table.take(self.place, axis=0) for name, table in self.tables.items()}
        loss = 0.0
        for part in range(config.accumulate):
            x, y, starts = (row[name][part] if name in row else None for name in ("inputs", "targets", "starts"))
            loss = loss + trainer.share(trainer.model, x, y, starts, (config.seed, row["counters"][part]))
        norm = clip_gradients(parameters, config.clip)
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.apply(row[f"optimizer {i}"])
        parameters.round()
        parameters.zero_grad()
        here = self.rows == self.place
        for found, value in ((self.losses, loss), (self.norms, norm)):
            found[...] = self.xp.where(here, value, found)
        self.place += 1


def stacked(batches):
    """The batches of some steps as one array each by name."""
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def capturable(model):
    """Whether all kernels of a training step are ours: whether attention has one, that is."""
    size = model.config.head_size
    return model.parameters.data.dtype.name == "bfloat16" and size % 16 == 0 and size <= 128
