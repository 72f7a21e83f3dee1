"""Check by the losses that it trains alike: on GPU and CPU, in bfloat16 and float32, replayed and not."""

from gpu.contenders import Ours, Task
from gpu.kernels import judged
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.trainer import Trainer

STEPS = 50


def items(place):
    for dropout in (0.0, 0.2):
        yield f"float32 as on a CPU, dropout {dropout}", lambda dropout=dropout: as_on_cpu(place, dropout)
    yield "bfloat16 as float32", lambda: as_float32(place)
    yield "replayed as eager", lambda: as_eager(place)


def small(place, **changes):
    """nanoGPT's character model for a laptop, whose steps a CPU takes in a blink."""
    return Task(place, "nanogpt-cpu", 12, **changes)


def steps(place):
    return 5 if place.tiny else STEPS


def losses(contender, count, stretch=10):
    return [loss for first in range(0, count, stretch) for loss in contender.run(first, min(stretch, count - first))]


def as_on_cpu(place, dropout):
    task, count = small(place, dropout=dropout), steps(place)
    here = Trainer(GPT(task.shape), task.batches, task.config)
    expected = [here.step(step)[0] for step in range(count)]
    return compared(losses(Ours(task, "float32"), count), expected, 1e-4)


def as_float32(place):
    """Heads of 64 entries, which the attention kernel takes."""
    task, count = small(place, n_head=2), steps(place)
    return compared(losses(Ours(task), count), losses(Ours(task, "float32"), count), 2e-2)


def compared(found, expected, tolerance):
    off = [abs(a - b) / b for a, b in zip(found, expected, strict=True)]
    result = {"largest difference": max(off), "mean": sum(off) / len(off), "first": expected[0], "last": expected[-1]}
    return judged(result, off, tolerance)


def as_eager(place):
    """Ten replayed steps, and the weights after them, are those of ten eager ones bit for bit."""
    task, count = small(place, n_head=2, dropout=0.2), 13  # the first three warm up and are captured
    contenders = [Ours(task), Ours(task, eager=True)]
    replayed, eager = (contender.trainer.steps(0, count) for contender in contenders)
    weights = [contender.trainer.model.flat.data.get() for contender in contenders]
    same = sum(a == b for a, b in zip(replayed, eager, strict=True))
    differ = int((weights[0] != weights[1]).sum())
    result = {"steps": count, "with the same loss and norm": same, "weights that differ": differ, "of": weights[0].size}
    return result if same == count and not differ else {"error": "replayed is not eager", **result}
