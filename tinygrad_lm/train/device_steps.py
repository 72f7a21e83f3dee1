"""Training steps on a GPU: one list of launches, the same in every step, so that it can be captured and replayed."""

import numpy as np

from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.kernels.cuda.graph import Graph
from tinygrad_lm.nn.context import Context
from tinygrad_lm.ops.attention import attention
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.train.shares import backward, carry, starts_of

AHEAD = 20  # steps whose batches are on the GPU at once


class DeviceSteps:
    """steps(trainer, first, count) -> [(loss, norm), …], updates as Trainer.step makes them; count is at most AHEAD.

    All that differs from step to step (batches, learning rates, the counters of the random numbers) lies in tables on
    the GPU, a row a step, and so do losses and norms; `place`, on the GPU too, counts the rows. So the host fills the
    tables, launches the steps one after the other, and waits once, for all of them.

    In bfloat16 a step is captured as a CUDA graph. Not in float32, where attention has no kernel: its rule's products
    are CuPy's, which cannot be captured.

    Of several ranks each has a GPU, and computes the shares that it owns (shares.py), one after the other. Gradients
    are added over the ranks within the step, and the weights handed round, so both are captured too (distributed/).
    """

    def __init__(self, trainer):
        flat = trainer.model.flat
        self.xp = xp = array_module(flat.data)
        self.place, self.rows, self.tables, self.drawn = xp.zeros((), np.int64), xp.arange(AHEAD), {}, {}
        self.losses, self.norms = (xp.zeros(AHEAD, flat.data.dtype) for _ in range(2))
        self.of_shares = xp.zeros((trainer.shares, 2), flat.data.dtype)  # summed loss and count of each
        self.launched = Graph(xp) if capturable(trainer.model) else lambda function: function()

    def __call__(self, trainer, first, count):
        steps = range(first, first + count)
        following = range(steps.stop, steps.stop + AHEAD)
        batch = lambda step: self.drawn.get(step) or draw(trainer, step)
        batches = [batch(step) for step in steps]
        self.place.fill(0)
        for name, rows in (numbers_of(trainer, steps, self.losses.dtype) | stacked(batches)).items():
            table = self.tables.setdefault(name, self.xp.zeros((AHEAD, *rows.shape[1:]), rows.dtype))
            table[:count] = self.xp.asarray(rows)
        for _ in steps:
            self.launched(lambda: self.launch(trainer))
        self.drawn = {step: batch(step) for step in following}  # while the GPU works
        trainer.ranks.begins("steps")  # and may now wait for other ranks' GPUs
        found = (to_device(x, "cpu")[:count].tolist() for x in (self.losses, self.norms))
        return list(zip(*found, strict=True))

    def launch(self, trainer):
        """One update by the rows at `place`: launches alone, and nothing that the host has to wait for."""
        from tinygrad_lm.kernels.cuda.rounding import rounded_once  # registers it, so not where CuPy is not

        config, flat, shares = trainer.config, trainer.model.flat, trainer.gradients
        row = {name: table.take(self.place, axis=0) for name, table in self.tables.items()}
        B = row["batch 0"].shape[1]
        self.of_shares.fill(0)
        flat.zero_grad()
        with rounded_once(flat.data, trainer.model.dtype):
            for turn, share in enumerate(shares.own):
                rows, total, counted = shares.rows(share, B), 0.0, 0.0
                for part in range(config.accumulate):
                    batch = [table[part, rows] for name, table in row.items() if name.startswith("batch ")]
                    starts = row["starts"][part, rows] if "starts" in row else None
                    context = Context((config.seed, row["counters"][turn, part]), starts)
                    loss, count = backward(trainer.objective, trainer.model, batch, context)
                    total, counted = total + loss * count, counted + count
                self.of_shares[share, 0], self.of_shares[share, 1] = total, counted
                carry(trainer.model, shares.sums[0], turn)
        trainer.ranks.add_up(flat.grad)
        trainer.ranks.add_up(self.of_shares.reshape(-1))  # to the zeros of the ranks that have other shares
        total, counted = self.of_shares.sum(axis=0)
        counted = self.xp.maximum(counted, 1)
        norm = clip_gradients(flat, config.clip, counted)
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.apply(row[f"optimizer {i}"])
        here = self.rows == self.place
        for found, value in ((self.losses, total / counted), (self.norms, norm)):
            found[...] = self.xp.where(here, value, found)
        self.place += 1


def draw(trainer, step):
    """A step's batches, (accumulate, B, ...) each by name."""
    parts = [trainer.batches(step, part) for part in range(trainer.config.accumulate)]
    tables = {f"batch {i}": arrays for i, arrays in enumerate(zip(*parts, strict=True))}
    if trainer.batches.document_token is not None:
        tables["starts"] = [starts_of(trainer.batches, tokens) for tokens, *_ in parts]
    return {name: np.array(rows, np.int32) for name, rows in tables.items()}


def numbers_of(trainer, steps, dtype):
    """The counters of the random numbers and the numbers of the optimizers, by name, a row a step."""
    config, shares = trainer.config, trainer.gradients
    places = [shares.rows(share, config.batch_size).start for share in shares.own]
    first_rows = [[part * config.batch_size + place for part in range(config.accumulate)] for place in places]
    counters = [[[(step, row) for row in parts] for parts in first_rows] for step in steps]
    rows = {"counters": np.array(counters, np.uint64)}
    factors = [trainer.pace.rate_factor(step) for step in steps]
    for i, optimizer in enumerate(trainer.optimizers):
        rows[f"optimizer {i}"] = np.array([optimizer.numbers(factor) for factor in factors], dtype)
    return rows


def stacked(batches):
    """The batches of some steps as one array each by name."""
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def capturable(model):
    """Whether all products of a training step are ours, attention's too."""
    flat, config = model.flat, model.config
    if attention.implementation(flat.device, model.dtype) is None:
        return False
    from tinygrad_lm.kernels.cuda.attention import covers  # registers the kernel, so not where CuPy is not

    return covers(model.dtype, config.head_size, config.block_size, config.dropout)
