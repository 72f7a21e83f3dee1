"""Training steps on a GPU: one list of launches, the same in every step, so that it can be captured and replayed."""

import numpy as np

from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.kernels.cuda.graph import Graph
from tinygrad_lm.ops.attention import attention
from tinygrad_lm.optim.clipping import clip_gradients

AHEAD = 20  # steps whose batches are on the GPU at once


class DeviceSteps:
    """steps(trainer, first, count) -> [(loss, norm), …], updates as Trainer.step makes them; count is at most AHEAD.

    All that differs from step to step (batches, learning rates, the counters of the random numbers) lies in tables on
    the GPU, a row a step, and so do losses and norms; `place`, on the GPU too, counts the rows. So the host fills the
    tables, launches the steps one after the other, and waits once, for all of them.

    In bfloat16 a step is captured as a CUDA graph. Not in float32, where attention has no kernel: its rule's products
    are CuPy's, which cannot be captured.
    """

    def __init__(self, trainer):
        parameters = trainer.model.parameters
        self.xp = xp = array_module(parameters.data)
        self.place, self.rows, self.tables, self.drawn = xp.zeros((), np.int64), xp.arange(AHEAD), {}, {}
        self.losses, self.norms = (xp.zeros(AHEAD, parameters.master.dtype) for _ in range(2))
        self.run = Graph(xp) if capturable(trainer.model) else lambda function: function()

    def __call__(self, trainer, first, count):
        steps = range(first, first + count)
        following = range(steps.stop, min(steps.stop + AHEAD, trainer.config.steps))
        batch = lambda step: self.drawn.get(step) or draw(trainer, step)
        batches = [batch(step) for step in steps]
        self.place.fill(0)
        for name, rows in (counted(trainer, steps, self.losses.dtype) | stacked(batches)).items():
            table = self.tables.setdefault(name, self.xp.zeros((AHEAD, *rows.shape[1:]), rows.dtype))
            table[:count] = self.xp.asarray(rows)
        for _ in steps:
            self.run(lambda: self.launch(trainer))
        self.drawn = {step: batch(step) for step in following}  # while the GPU works
        found = (to_device(x, "cpu")[:count].tolist() for x in (self.losses, self.norms))
        return list(zip(*found, strict=True))

    def launch(self, trainer):
        """One update by the rows at `place`: launches alone, and nothing that the host has to wait for."""
        config, parameters = trainer.config, trainer.model.parameters
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


def draw(trainer, step):
    """A step's batches, (accumulate, B, T) each by name."""
    parts = [trainer.batches(step, part) for part in range(trainer.config.accumulate)]
    batch = {"inputs": [x for x, _ in parts], "targets": [y for _, y in parts]}
    if trainer.batches.document_token is not None:
        batch["starts"] = [trainer.starts(x) for x, _ in parts]
    return {name: np.array(rows, np.int32) for name, rows in batch.items()}


def counted(trainer, steps, dtype):
    """The counters of the random numbers and the numbers of the optimizers, by name, a row a step."""
    parts = range(trainer.config.accumulate)
    rows = {"counters": np.array([[(step, part, 0) for part in parts] for step in steps], np.uint64)}
    for i, optimizer in enumerate(trainer.optimizers):
        rows[f"optimizer {i}"] = np.array([optimizer.numbers(trainer.config.rate(step)) for step in steps], dtype)
    return rows


def stacked(batches):
    """The batches of some steps as one array each by name."""
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def capturable(model):
    """Whether all products of a training step are ours, attention's too."""
    if "cuda" not in attention.kernels:
        return False
    from tinygrad_lm.kernels.cuda.attention import covers  # registers the kernel, so not where CuPy is not

    config = model.config
    return covers(model.parameters.data.dtype, config.head_size, config.block_size, config.dropout)
