"""The gradients of a step on all cores of all ranks, bitwise the same on any number of them.

A run has a number of *shares*, a power of two. Share i is the i-th piece of the rows of each of the step's batches, and
its gradient is added up over the batches one after the other; shares are added in one binary tree,
((0 + 1) + (2 + 3)) + …, whose order does not depend on who computes what. A rank (distributed/) owns an aligned run of
shares, and of these each of its threads. A thread adds its own like a binary counter, in which two numbers of the same
length become one of the next: that is the tree, and takes log2 of their number in buffers. What each thread has is
added as the next levels of the same tree, and what each rank has as the last ones.

Rows draw their random numbers by their place among all rows of the step, so cutting changes no draw.

A GPU is one thread: its rank adds its own shares one after the other (device_steps.py), in the same order, so they are
the same bits on 1, 2, 4, … GPUs of a kind. A GPU is fastest with all its rows at once, so a run there has one share for
each rank by default: more GPUs can resume it only if it was begun with more, and one that was begun on a CPU keeps its
shares, however small they are for a GPU.
"""

import copy
from functools import partial

import numpy as np

from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.data.loader import document_starts
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.kernels.choice import has_products
from tinygrad_lm.nn.context import Context
from tinygrad_lm.threads import TOGETHER, cores, in_blocks, parallel


def default_shares(config, device="cpu"):
    """The config's shares, or as many as rank 0 has cores, one on a GPU, times ranks, rounded down to a power of two;
    at most one for each row."""
    each = world().first(cores()) if device == "cpu" else 1
    return config.shares or power_of_two(min(each * world().size, config.batch_size))


def shares_of(model, config):
    """`default_shares`, but one for each rank in bfloat16 on a CPU of few cores.

    There the kernels share the cores (kernels/numba/together.py): nothing waits for Python's lock, and gradients take
    memory once, not once a core.
    """
    together = model.flat.device == "cpu" and cores() <= TOGETHER and has_products(model.dtype.name)
    return config.shares or world().size if together else default_shares(config, model.flat.device)


def power_of_two(n):
    """The largest power of two up to n."""
    return 2 ** (n.bit_length() - 1)


class Shares:
    """gradients(step) -> (loss, count): adds the gradient of the step's summed loss to the model's gradients.

    loss: the mean over all targets that the step counted, a float, 0.0 over none; count: how many these are, so that
    1/count makes the gradient that of the mean (optim/clipping.py).
    threads: how many compute at once within `workers(threads)`, rounded down to a power of two [as many as cores]; more
    than there are shares have nothing to do.
    """

    def __init__(self, model, batches, config, objective, shares=1, threads=None, ranks=None):
        self.ranks = ranks = ranks or world()
        if shares < 1 or shares & (shares - 1) or shares > config.batch_size:
            raise ConfigError(
                f"training: shares must be a power of two and at most the batch's {config.batch_size} rows, "
                f"found {shares}"
            )
        if ranks.size & (ranks.size - 1) or ranks.size > shares:
            raise ConfigError(
                f"training: {ranks.size} processes cannot divide the {shares} shares of the run between them: expected "
                f"a power of two, at most {shares}; {power_of_two(min(ranks.size, shares))} can"
            )
        self.batches, self.config, self.objective, self.shares = batches, config, objective, shares
        self.own = range(shares)[shares // ranks.size * ranks.rank :][: shares // ranks.size]
        self.threads = power_of_two(min(len(self.own), threads or cores()))
        self.map = parallel if self.threads > 1 else map
        self.replicas = [model, *(replica(model) for _ in range(self.threads - 1))]
        levels = (len(self.own) // self.threads).bit_length() - 1
        xp, grad = array_module(model.flat.grad), model.flat.grad
        self.sums = [[xp.empty_like(grad) for _ in range(levels)] for _ in self.replicas]

    def __call__(self, step):
        each = len(self.own) // self.threads  # shares a thread
        found, parts = np.zeros((len(self.own), 2)), []  # summed loss and count of each own share
        for turn in range(each):
            mine = [thread * each + turn for thread in range(self.threads)]
            for part in range(self.config.accumulate):
                if not turn:
                    parts.append(self.batches(step, part))  # drawn once, when its turn comes
                share = partial(self.share, step, part, parts[part])
                found[mine] += list(self.map(share, self.replicas, [self.own[i] for i in mine]))
            if each > 1:
                parallel(carry, self.replicas, self.sums, [turn] * self.threads)
        add_up([model.flat.grad for model in self.replicas])
        self.ranks.add_up(self.replicas[0].flat.grad)
        losses, counts = np.concatenate(self.ranks.gather(found.ravel())).reshape(-1, 2).T.tolist()
        return sum(losses) / max(sum(counts), 1.0), int(sum(counts))

    def share(self, step, part, batch, model, i):
        """Forward and backward of share i of a batch. Returns its summed loss and its count."""
        here = self.rows(i, len(batch[0]))
        batch = [x[here] for x in batch]
        key = (self.config.seed, step, part * self.config.batch_size + here.start)
        context = Context(key, starts_of(self.batches, batch[0]))
        batch = [to_device(x, model.flat.device) for x in batch]
        loss, count = backward(self.objective, model, batch, context)
        return loss.item() * count.item(), count.item()

    def rows(self, i, count):
        """Where share i has its rows among so many: as np.array_split cuts."""
        size, larger = divmod(count, self.shares)
        return slice(*(j * size + min(j, larger) for j in (i, i + 1)))


def backward(objective, model, batch, context):
    """Add the gradient of a batch's summed loss to the model's gradients. Returns mean and count, 0-d arrays."""
    loss, count = objective(model, batch, context)
    count = count.astype(loss.dtype)
    loss.backward(count)  # the sum is the mean times the count, and so is its gradient
    return loss.data, count


def starts_of(batches, tokens):
    """Where the document of each position begins, if the batches keep attention inside documents, else None."""
    return None if batches.document_token is None else document_starts(tokens, batches.document_token)


def replica(model):
    """A copy of a model that has the same weights, in the same memory, and separate gradients."""
    twin = copy.deepcopy(model, {id(p.data): p.data for p in model.flat.values()})
    for name, p in twin.flat.items():
        p.store, p.data = None, model.flat[name].data
    twin.flat.data = model.flat.data
    return twin


def carry(model, sums, turn):
    """Add a finished share, number `turn` of its thread, as one is added to a binary counter: sums[k] holds 2ᵏ shares
    where bit k of the turn is set. After the last one, whose bits are all set, the model has the sum of all."""
    gradient, level = model.flat.grad, 0
    while turn >> level & 1:
        gradient += sums[level]
        level += 1
    if level < len(sums):
        sums[level][...] = gradient
        gradient[...] = 0


def add_up(gradients):
    """Add arrays, a power of two of them, into the first in a binary tree, and set the others to zero."""

    def add(here):
        distance = 1
        while distance < len(gradients):
            for i in range(0, len(gradients), 2 * distance):
                gradients[i][here] += gradients[i + distance][here]
            distance *= 2
        for other in gradients[1:]:
            other[here] = 0

    if len(gradients) > 1:
        in_blocks(add, gradients[0].size)
