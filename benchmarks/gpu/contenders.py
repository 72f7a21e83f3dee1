"""Who trains beside whom: our Trainer and nanoGPT's network in PyTorch, from the same weights on the same batches."""

import statistics
import time
from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np

from gpu.place import DTYPES
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.trainer import Trainer

PADDED = {"gpt2": 50304}  # the vocabulary as nanoGPT trains it, a multiple of 64
TINY = {"vocab_size": 64, "block_size": 16, "n_layer": 1, "n_head": 1, "n_embd": 16}


class Task:
    """A preset to train, and the batches of its steps."""

    def __init__(self, place, preset, batch_size, **changes):
        shape = replace(PRESETS[preset], **{"vocab_size": PADDED.get(preset, PRESETS[preset].vocab_size), **changes})
        if place.tiny:
            shape, batch_size = replace(shape, **TINY), 2
        self.place, self.shape = place, shape
        self.config = TrainConfig(**RECIPES[preset] | {"steps": 10**6, "batch_size": batch_size})
        self.tokens_a_step = batch_size * shape.block_size
        length = (20 if place.tiny else 200) * self.tokens_a_step
        self.batches = Batches(text(shape.vocab_size, length), batch_size, shape.block_size)

    @property
    def flops(self):
        """Of a step's products, attention's in full: 855 million a token for GPT-2 124M (Chowdhery et al. 2022,
        "PaLM", appendix B)."""
        c = self.shape
        matrices = c.n_layer * 12 * c.n_embd**2 + c.vocab_size * c.n_embd
        return 6 * self.tokens_a_step * (matrices + 2 * c.n_layer * c.block_size * c.n_embd)


@cache
def text(vocab_size, length):
    """Tokens as unequally frequent as a language's, the k-th about 1/k of the time: so the loss falls, and gradients
    of the embedding meet."""
    return (vocab_size ** np.random.default_rng(0).random(length)).astype(np.int32) - 1


class Ours:
    """In float32 or bfloat16, there with the step captured as a graph unless `eager`."""

    def __init__(self, task, dtype="bfloat16", eager=False):
        self.trainer = Trainer(GPT(task.shape, dtype=DTYPES[dtype], device="cuda"), task.batches, task.config)
        if eager:
            self.trainer.device_steps.launched = lambda function: function()

    def prepare(self, first, count):
        pass  # fills its tables within the time that is measured

    def run(self, first, count):
        """Train; the losses."""
        return [loss for loss, _ in self.trainer.steps(first, count)]


class Theirs:
    """PyTorch with bfloat16 by autocast. Its batches are on the device before the clock starts."""

    def __init__(self, task, mode=None, bf16=True):
        torch, peer = import_module("torch"), import_module("torch_nanogpt")
        if mode:
            torch.compiler.reset()
        network = peer.TorchGPT(task.shape)
        network.load(GPT(task.shape).flat)
        self.torch, self.task = torch, task
        self.trainer = peer.TorchTrainer(network, task.config, mode, task.place.torch, bf16)

    def prepare(self, first, count):
        steps = range(first, first + count)
        self.batches = {step: [self.trainer.place(tokens) for tokens in self.task.batches(step)] for step in steps}

    def run(self, first, count):
        rate, update = self.task.config.rate_factor, self.trainer.update
        losses = [update(*self.batches[step], rate(step)) for step in range(first, first + count)]
        return self.torch.stack(losses).tolist()


def race(task, makers, rounds=8, count=10):
    """{name: findings} of contenders that take turns of `count` steps. One that fails leaves the race."""
    place, found, running, times = task.place, {}, {}, {name: [] for name in makers}
    rounds, count = (1, 2) if place.tiny else (rounds, count)
    for turn in range(rounds + 1):
        for name, make in makers.items():
            try:
                if not turn:  # the first turn warms up
                    found[name], running[name] = started(task, make, count)
                elif name in running:
                    times[name].append(timed(place, running[name], turn * count, count))
            except Exception as error:
                running.pop(name, None)
                found[name] = {"error": f"{type(error).__name__}: {error}"[:1500]}
    for name in running:
        found[name] |= speed(task, times[name])
    return found


def started(task, make, count):
    """Its first losses and the most memory that it had: of arrays, and taken from the device."""
    place = task.place
    place.release()
    torch, before = import_module("torch"), place.taken()
    if place.torch == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated()
    with place.watched() as watcher:
        contender = make(task)
        contender.prepare(0, count)
        losses = contender.run(0, count)
    arrays = watcher.most
    if place.torch == "cuda":
        arrays += torch.cuda.max_memory_allocated() - others
    return {"GB": arrays / 1e9, "GB taken": (place.taken() - before) / 1e9, "losses": losses}, contender


def timed(place, contender, first, count):
    """Seconds a step. The clock is the host's, around work that is waited for on both sides: which streams do it is
    a contender's own business."""
    contender.prepare(first, count)
    place.synchronize()
    began = time.perf_counter()
    contender.run(first, count)
    place.synchronize()
    return (time.perf_counter() - began) / count


def speed(task, times):
    step = statistics.median(times)
    return {"ms": step * 1e3, "best ms": min(times) * 1e3, "worst ms": max(times) * 1e3,
            "tokens/s": task.tokens_a_step / step, "TFLOP/s": task.flops / 1e12 / step}  # fmt: skip
