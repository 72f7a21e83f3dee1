"""One training step, operation by operation: what each computes, moves and keeps.

The model's own code runs and records its graph. Where a step is too large for that, it runs on arrays that have a shape
and no content, and of its equal blocks only two.
"""

import math
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_lm.engine.tensor import Tensor, as_array
from tinygrad_lm.learn.cost import flops, kept
from tinygrad_lm.learn.saved import saved
from tinygrad_lm.learn.observe import observing
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT

HEAD = "head and loss"  # one operation, where nothing comes between them


@dataclass
class Entry:
    """What one operation costs; (forward, backward) where there are two.

    times: for how many like it it stands; products, entrywise: floating-point operations (learn/cost/flops.py);
    moved: bytes read and written, each array once; saved: bytes that it keeps for its way back and none before it did;
    peak: the most memory that it took on top of what was held, measured; 0 where it was not executed
    """

    module: str
    op: str
    shape: tuple
    times: int
    products: tuple
    entrywise: tuple
    moved: tuple
    saved: int
    peak: tuple = (0, 0)


class Recorder:
    """Makes the entries of a step while it runs."""

    def __init__(self, model, times, execute):
        self.entries, self.nodes, self.times, self.execute = [], {}, times, execute
        self.section = "embeddings"  # a name for what the model does outside its modules
        self.known = {id(kept.root(p.data)) for p in model.parameters.values()}  # whose memory has been counted
        self.alive = []  # what was counted, so that nothing new gets its identity
        self.mark = self.most = 0  # memory before the operation at work; the most there ever was

    def start(self):
        """Measure from here on."""
        self.mark = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()

    def rise(self):
        """How far memory rose since `start`, at the most."""
        peak = tracemalloc.get_traced_memory()[1]
        self.most = max(self.most, peak)
        return peak - self.mark

    def call(self, op, *inputs, **options):
        if self.execute:
            self.start()
            return kept.compute(op, *inputs, **options)
        return kept.shaped(op, *inputs, **options)

    def see(self, module, op, inputs, options, y):
        """Write the entry of an operation that has just been called."""
        peak = self.rise() if self.execute else 0
        arrays = [as_array(x, like=y.data) for x in inputs]
        wanted = [isinstance(x, Tensor) and x.node is not None for x in inputs]
        shapes, causal = [x.shape for x in arrays], options.get("causal", True)
        keeps = []
        if y.node and self.execute:
            keeps = [x for x in saved(y.node)[0].values() if isinstance(x, np.ndarray)]
        elif y.node:
            keeps = kept.KEPT[op.name](arrays, y.data, options)
        moved = (0, 0)
        if op.name not in flops.VIEWS:
            table = op.name == "embedding"  # of which only rows are read
            read = sum(y.data.nbytes if table and x is arrays[0] else x.nbytes for x in arrays)
            written = sum(x.nbytes for x, want in zip(arrays, wanted, strict=True) if want)
            back = y.data.nbytes + sum(x.nbytes for x in keeps) + written if y.node else 0
            moved = (read + y.data.nbytes, back)
        entry = Entry(
            module or self.section,
            op.name,
            y.shape,
            self.times(module),
            flops.products(op.name, shapes, wanted, causal),
            flops.entrywise(op.name, shapes, y.shape, wanted, causal),
            moved,
            sum(map(self.fresh, keeps)),
            (peak, 0),
        )
        self.entries.append(entry)
        if module == "ln_f":  # the last of the features
            self.section = HEAD
        if y.node:
            self.nodes[y.node] = entry

    def fresh(self, x):
        """The bytes of an array, if nothing before kept its memory."""
        owner = kept.root(x)
        if id(owner) in self.known:
            return 0
        self.known.add(id(owner))
        self.alive.append(owner)
        return x.nbytes if owner.size == 1 else owner.nbytes

    def visit(self, node, dy, dxs):
        """The peak since the node before: that of this node's way back."""
        self.nodes[node].peak = (self.nodes[node].peak[0], self.rise())
        self.start()


@dataclass
class Step:
    """config: of the model, without recomputation; tokens: (B, T); parameters: {name: (shape, times, trained)};

    measured: bytes at the most for weights, gradients and what the step needs, 0 where it was not executed
    """

    config: GPTConfig
    tokens: tuple
    entries: list
    parameters: dict
    measured: int

    def size(self, select=lambda name, shape, trained: True):
        """How many numbers the selected parameters have."""
        return sum(
            times * math.prod(shape)
            for name, (shape, times, trained) in self.parameters.items()
            if select(name, shape, trained)
        )

    def total(self, field):
        """The sum of a field over all entries, forward and backward together."""
        return sum(entry.times * int(np.sum(getattr(entry, field))) for entry in self.entries)


def record(config, batch_size, execute=True, frozen=()):
    """A training step of a model on batches (B, T) of full contexts, as a Step.

    execute: compute it, on random tokens; if not, only shapes are followed, and saved is what definitions keep by
    learn/cost/kept.py, where a step that is executed tells what its kernels kept.
    """
    config = replace(config, recompute=False)
    few = not execute and not frozen and config.n_layer > 2

    def times(name):
        return config.n_layer - 1 if few and f"{name}.".startswith("h.1.") else 1

    if execute:
        one = np.zeros((1, config.block_size), int)  # a first step, for what kernels and libraries need once
        GPT(config, frozen=frozen).loss(one, one, (0, 0)).backward()
        tracemalloc.start()
    try:
        model = GPT(replace(config, n_layer=2) if few else config, 0 if execute else None, frozen=frozen)
        recorder = Recorder(model, times, execute)
        shape = (batch_size, config.block_size)
        tokens, targets = kept.blank(shape, int), kept.blank(shape, int)
        if execute:
            tokens, targets = (np.random.default_rng(i).integers(config.vocab_size, size=shape) for i in (0, 1))
        with observing(model, recorder.see, recorder.call):
            loss = model.loss(tokens, targets, (0, 0))
            if execute:
                recorder.alive.clear()
                recorder.start()
                loss.backward(visit=recorder.visit)
        parameters = {name: (p.shape, times(name), p.requires_grad) for name, p in model.parameters.items()}
        return Step(config, shape, recorder.entries, parameters, recorder.most)
    finally:
        if execute:
            tracemalloc.stop()
