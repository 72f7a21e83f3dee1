"""Each rank updates a part of the weights, and keeps the moments of this part alone.

ZeRO-1: Rajbhandari et al. 2020, "ZeRO: Memory optimizations toward training trillion parameter models", section 5.1.
AdamW's moments take 8 bytes a parameter in float32: on N ranks each keeps 1/N of them, and makes 1/N of the updates.
No bit depends on it, because no part of an update looks at another.
"""

import hashlib
from collections import Counter

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.errors import DeviceError

BLOCK = 2**12  # entries: a piece that may be cut is cut at multiples of it


def sharded(optimizers, ranks):
    """The optimizers (optim/optimizer.py), each of whose pieces are divided between the ranks, if there are several."""
    return [Sharded(optimizer, ranks) for optimizer in optimizers] if ranks.size > 1 else optimizers


class Sharded:
    """An optimizer of which this rank has a part, and as an optimizer: all ranks call the same at the same time."""

    def __init__(self, optimizer, ranks):
        self.optimizer, self.ranks, self.numbers = optimizer, ranks, optimizer.numbers
        self.flat = optimizer.flat
        self.parts = [part_of(optimizer, rank, ranks.size) for rank in range(ranks.size)]
        optimizer.pieces = self.parts[ranks.rank]
        self.divided = [name for name in optimizer.kept if getattr(optimizer, name).ndim]
        for name in self.divided:
            setattr(optimizer, name, optimizer.moments())

    def step(self, factor=1.0):
        """One update with learning rate lr · factor."""
        self.optimizer.step(factor)
        self.hand_round()

    def apply(self, numbers):
        """The update with these numbers."""
        self.optimizer.apply(numbers)
        self.hand_round()

    def hand_round(self):
        """Give all ranks the weights that each has updated."""
        weights = self.flat.data
        transport = self.ranks.transport(weights)
        with transport.grouped():
            for rank, part in enumerate(self.parts):
                for here in self.flat.runs([here for here, _ in part]):
                    transport.broadcast(weights[here], rank)

    def state(self):
        """What a resumed run needs, on any number of ranks: arrays by name, whole on rank 0."""
        parts = {name: to_device(x, "cpu") for name, x in self.optimizer.state().items()}
        return parts | {name: self.ranks.collect(parts[name]) for name in self.divided}

    def load_state(self, state):
        """Continue from what `state` returned."""
        sizes = [sum(here.stop - here.start for here, _ in part) for part in self.parts]
        own = slice(first := sum(sizes[: self.ranks.rank]), first + sizes[self.ranks.rank])
        self.optimizer.load_state(state | {name: state[name][own] for name in self.divided})


def part_of(optimizer, rank, size):
    """The pieces of an optimizer that one of `size` ranks updates, about as many entries as each other has.

    The entries of all pieces are counted through; a rank has those from one limit on up to the next. A piece that is
    updated as a whole belongs to the rank that has its middle.
    """
    total = sum(here.stop - here.start for here, _ in optimizer.pieces)
    low, high = (total * i // size for i in (rank, rank + 1))
    part, first = [], 0  # first: the number of a piece's first entry
    for here, known in optimizer.pieces:
        length = here.stop - here.start
        if optimizer.whole:
            start, stop = (0, length) if low <= first + length / 2 < high else (0, 0)
        else:
            start, stop = (rounded(limit - first, length) for limit in (low, high))
        if start < stop:
            part.append((slice(here.start + start, here.start + stop), known))
        first += length
    return part


def rounded(place, length):
    """A place in a piece of so many entries as a multiple of BLOCK, or one of its ends."""
    return length if place >= length else max(0, place // BLOCK * BLOCK)


def check_same(ranks, weights):
    """Raise DeviceError, on all ranks, unless all have the same weights: a bit may have flipped in a memory."""
    sums = ranks.gather(np.frombuffer(hashlib.sha256(weights).digest(), np.uint8))
    sums = [each.tobytes() for each in sums]
    right, count = Counter(sums).most_common(1)[0]  # of two equally common ones rank 0's
    if wrong := [str(rank) for rank, each in enumerate(sums) if each != right]:
        raise DeviceError(
            f"training: the weights of rank {', '.join(wrong)} differ from those of {count} other ranks\n"
            "  rule : all make the same updates, so memory, a processor or the network has changed a bit\n"
            "  hint : these weights were not saved; --resume goes on from the checkpoint before"
        )
