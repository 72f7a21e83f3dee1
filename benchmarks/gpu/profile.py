"""Where the time of our step goes, by kernel: name, calls, microseconds, share.

PyTorch's profiler listens to CUPTI, which reports every kernel of the process, from any library, in replayed graphs
too. Where it reports none, events around each operation of an eager step show where the time goes by operation.
"""

import json
import tempfile
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from gpu.contenders import Ours, Task
from gpu.steps import TASKS
from tinygrad_lm.engine.observe import Observer, observing

STEPS = 5  # that are looked at
ON_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}  # categories of a trace


def items(place):
    for preset, batch_size in TASKS.items():
        yield f"{preset}, kernels", lambda p=preset, b=batch_size: by_kernel(place, Task(place, p, b))
        yield f"{preset}, operations", lambda p=preset, b=batch_size: by_operation(place, Task(place, p, b))


def by_kernel(place, task):
    contender = Ours(task)
    contender.run(0, 10)  # warms up, and is captured
    return of_kernels(place, contender, 10)


def of_kernels(place, contender, first):
    """Where the time of some steps of a contender that is warm goes."""
    import_module("torch").zeros(1, device=place.torch)  # or PyTorch takes the GPU to be unused
    profiler = import_module("torch.profiler")
    contender.prepare(first, STEPS)
    with profiler.profile() as profile:
        contender.run(first, STEPS)
        place.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    times = kernels_of(events)
    if not times:
        return (
            {"us a step": 0, "table": "", "kernels": 0} if place.tiny else {"error": "the profiler heard of no kernel"}
        )
    return summed(times, STEPS) | {"between, us a step": idle(events) / STEPS}


def kernels_of(events):
    """{name: its durations in microseconds} of the kernels and copies in a trace."""
    times = defaultdict(list)
    for event in events:
        if event.get("cat") in ON_GPU:
            times[event["name"]].append(event["dur"])
    return times


def idle(events):
    """Microseconds between the first and the last of a trace's kernels in which none ran."""
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") in ON_GPU)
    found, end = 0.0, spans[0][0]
    for start, stop in spans:
        found, end = found + max(0, start - end), max(end, stop)
    return found


def by_operation(place, task):
    contender = Ours(task, eager=True)
    contender.run(0, 3)
    with observing(Timed(place)) as timed:
        contender.run(3, 1)
        place.synchronize()
    return summed({name: [measure() for measure in found] for name, found in timed.spans.items()}, 1)


class Timed(Observer):
    """spans: {name: functions that return microseconds}, of each operation and of each step of the backward pass.

    A step's span begins where the one before ended, so it includes adding up the gradients that that one left.
    """

    def __init__(self, place):
        self.place, self.spans, self.stops = place, defaultdict(list), []

    def before(self, op):
        self.stops.append(self.place.start())

    def operation(self, op, inputs, options, y):
        self.spans[op.name].append(self.stops.pop()())

    def begin(self, nodes):
        self.stops.append(self.place.start())

    def step(self, node, dy, dxs):
        self.spans[f"{node.op.name} back"].append(self.stops.pop()())
        self.stops.append(self.place.start())

    def end(self, nodes):
        self.stops.pop()


def summed(times, steps, most=40):
    """The findings: all of the time of a step in microseconds, and a table of what takes most of it."""
    total = sum(map(sum, times.values())) or 1e-9
    ranked = sorted(times.items(), key=lambda item: -sum(item[1]))
    rows = [
        {"name": name, "calls": len(found) / steps, "us": sum(found) / steps, "share": sum(found) / total}
        for name, found in ranked[:most]
    ]
    text = "\n".join(f"    {r['us']:10.1f} us {r['calls']:7.1f} × {r['share']:6.1%}  {r['name'][:90]}" for r in rows)
    return {"us a step": total / steps, "kinds": len(times), "table": text, "rows": rows}
