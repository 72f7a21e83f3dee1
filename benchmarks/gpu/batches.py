"""GPT-2's step at several batch sizes, each contender alone: the one that suits it best is what it may be judged by."""

from gpu.contenders import Ours, Task, Theirs, race
from gpu.steps import MODES

SIZES = (64, 32, 16)


def items(place):
    for size in SIZES:
        yield f"ours, {size}", lambda size=size: one(place, size, Ours)
    for name, mode in MODES.items():
        mode = None if place.tiny else mode
        for size in SIZES:
            yield f"{name}, {size}", lambda size=size, mode=mode: one(place, size, lambda task: Theirs(task, mode))


def one(place, size, make):
    return race(Task(place, "gpt2", size), {"it": make}, rounds=4)["it"]
