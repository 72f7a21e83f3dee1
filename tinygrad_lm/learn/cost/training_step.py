"""One training step, operation by operation: what each computes, moves and keeps.

The model's own code runs, and an observer counts. Where a step is too large for that, operations give arrays that have
a shape and no content (kept.py), and of the model's equal blocks only two are made.
"""

import math
import tracemalloc
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_lm.adapt.lora import lora
from tinygrad_lm.engine.observe import Observer, current_module, observing
from tinygrad_lm.learn.cost import flops, kept
from tinygrad_lm.learn.saved import saved
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.nn.module import freeze


@dataclass
class OperationCost:
    """What one operation costs; (forward, backward) where there are two.

    module     that called it; of what the whole model itself computes, the module before it
    times      how many operations like it this one stands for
    products, entrywise  floating-point operations (flops.py)
    moved      bytes read and written, each array once
    saved      bytes that it keeps for its gradient function and no operation before it did
    peak       the most memory that it took on top of what was held, measured; 0 where it was not executed
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


class CostObserver(Observer):
    """Makes the OperationCosts of a step while it runs.

    times: the name of a module -> how many such modules it stands for; executed: whether operations compute
    """

    def __init__(self, model, times, executed):
        self.costs, self.nodes, self.times, self.executed = [], {}, times, executed
        self.module = ""  # the last that was seen
        self.known = {id(kept.root(p.data)) for p in model.parameters()}  # whose memory has been counted
        self.alive = []  # what was counted, so that nothing new gets its identity
        self.mark = self.most = 0  # memory before the operation at work; the most there ever was

    def start(self):
        """Measure from here on."""
        if self.executed:
            self.mark = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()

    def rise(self):
        """How far memory rose since `start`, at the most."""
        peak = tracemalloc.get_traced_memory()[1] if self.executed else self.mark
        self.most = max(self.most, peak)
        return peak - self.mark

    def before(self, op):
        self.start()

    def operation(self, op, inputs, options, y):
        peak = self.rise()
        self.module = current_module() or self.module
        arrays, wanted = [x.data for x in inputs], [x.requires_grad for x in inputs]
        shapes, causal = [x.shape for x in arrays], options.get("causal", True)
        keeps = []
        if y.node and self.executed:
            keeps = [x for x in saved(y.node)[0].values() if isinstance(x, np.ndarray)]
        elif y.node:
            keeps = kept.KEPT[op.name](arrays, y.data, options)
        cost = OperationCost(
            self.module,
            op.name,
            y.shape,
            self.times(self.module),
            flops.products(op.name, shapes, wanted, causal),
            flops.entrywise(op.name, shapes, y.shape, wanted, causal),
            moved(op, arrays, wanted, y, keeps),
            sum(map(self.fresh, keeps)),
            (peak, 0),
        )
        self.costs.append(cost)
        if y.node:
            self.nodes[y.node] = cost

    def fresh(self, x):
        """The bytes of an array, if nothing before kept its memory."""
        owner = kept.root(x)
        if id(owner) in self.known:
            return 0
        self.known.add(id(owner))
        self.alive.append(owner)
        return x.nbytes if owner.size == 1 else owner.nbytes

    def begin(self, nodes):
        self.alive.clear()
        self.start()

    def step(self, node, dy, dxs):
        """The peak since the node before: that of this node's gradient function."""
        self.nodes[node].peak = (self.nodes[node].peak[0], self.rise())
        self.start()


def moved(op, arrays, wanted, y, keeps):
    """(forward, backward) bytes that an operation reads and writes."""
    if op.name in flops.VIEWS:
        return 0, 0
    table = op.name == "embedding"  # of which only rows are read
    read = sum(y.data.nbytes if table and x is arrays[0] else x.nbytes for x in arrays)
    written = sum(x.nbytes for x, want in zip(arrays, wanted, strict=True) if want)
    return read + y.data.nbytes, y.data.nbytes + sum(x.nbytes for x in keeps) + written if y.node else 0


@dataclass
class TrainingStep:
    """config: of the model; tokens: (B, T); costs: of each operation; parameters: {name: (shape, times, trained)};

    measured: the most bytes at once for weights, gradients and what the step needs, 0 where it was not executed
    """

    config: GPTConfig
    tokens: tuple
    costs: list
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
        """The sum of a field over all operations, forward and backward together."""
        return sum(cost.times * int(np.sum(getattr(cost, field))) for cost in self.costs)


def count_step(config, batch_size, execute=True, frozen=(), rank=0):
    """The TrainingStep of a model on batches (B, T) of full contexts.

    execute: compute it, on random tokens; if not, only shapes are followed, and what is saved is what the definitions
             keep by kept.py, where an executed step counts what its kernels keep
    frozen:  patterns of parameters that are not trained; rank: of LoRA's adapters, 0 for none
    """

    def build(config, seed=0):
        model = GPT(config, seed)
        model = lora(model, rank, seed or 0) if rank else model
        return freeze(model, *frozen) if frozen else model

    few = not execute and not frozen and config.n_layer > 2

    def times(name):
        return config.n_layer - 1 if few and f"{name}.".startswith("h.1.") else 1

    context = Context(key=(0, 0, 0))
    if execute:
        one = np.zeros((1, config.block_size), int)  # a first step, for what kernels and libraries need once
        build(config).loss(one, one, context).backward()
        tracemalloc.start()
    try:
        model = build(replace(config, n_layer=2) if few else config, 0 if execute else None)
        observer = CostObserver(model, times, execute)
        shape = (batch_size, config.block_size)
        tokens, targets = kept.blank(shape, int), kept.blank(shape, int)
        if execute:
            tokens, targets = (np.random.default_rng(i).integers(config.vocab_size, size=shape) for i in (0, 1))
        with nullcontext() if execute else kept.shapes_alone(), observing(observer):
            loss = model.loss(tokens, targets, context)
            if execute:
                loss.backward()
        parameters = {name: (p.shape, times(name), p.requires_grad) for name, p in model.flat.items()}
        return TrainingStep(config, shape, observer.costs, parameters, observer.most)
    finally:
        if execute:
            tracemalloc.stop()
