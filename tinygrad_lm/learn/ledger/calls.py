"""Recorder: while it is on, every operation leaves a note of where in the source it was called, and on what values.

The engine itself notes nothing of this, so training pays nothing for it. The recorder stands in for `Op.__call__`
within its block, and looks at the call stack.
"""

import inspect
import linecache
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor, as_array
from tinygrad_lm.learn.ledger.snapshot import Snapshot, snapshot

PACKAGE = Path(__file__).parents[2]
OWN = {str(PACKAGE / "learn" / "ledger" / name) for name in ("trace.py", "walk.py")}  # trace begins here
WITHIN = tuple(str(PACKAGE / part) + os.sep for part in ("engine", "ops", "kernels"))  # nobody looks for a line there


@dataclass(frozen=True)
class Line:
    """A line of source: its file, its number, and what it says."""

    file: str
    number: int
    text: str

    @property
    def place(self):
        """'tinygrad_lm/nn/mlp.py:30' in this package, 'script.py:12' elsewhere."""
        path = Path(self.file)
        short = path.relative_to(PACKAGE.parent).as_posix() if PACKAGE in path.parents else path.name
        return f"{short}:{self.number}"


@dataclass(frozen=True)
class Note:
    """What was seen of one operation's call.

    callers: the lines that led to it, innermost first; codes: of the functions they are in; module: the path of the nn
    module that made it; options: their texts by name; inputs: their Snapshots; value: that of the result.
    """

    callers: tuple
    codes: set
    module: str
    options: dict
    inputs: tuple
    value: Snapshot


class Recorder:
    """What was noted, by the creation number of a node: notes of operations, names of values, arrays of leaves."""

    def __init__(self, keep):
        self.keep = keep
        self.notes, self.names, self.leaves, self.values = {}, {}, {}, {}

    @contextmanager
    def on(self):
        """Within the block operations are noted."""
        plain = Op.__call__

        def noted(op, *inputs, **options):
            y = plain(op, *inputs, **options)
            if y.node is not None:
                self.note(op, y, inputs, options, sys._getframe(1))
            return y

        Op.__call__ = noted
        try:
            yield
        finally:
            Op.__call__ = plain

    def note(self, op, y, inputs, options, frame):
        """Note one call, made by this frame."""
        frames = list(stack(frame))
        callers = [(f.f_code.co_filename, f.f_lineno) for f in frames]
        modules = (f.f_locals.get("self") for f in frames)
        self.values[y.node.order] = snapshot(y.data, self.keep)
        self.notes[y.node.order] = Note(
            callers=tuple(Line(file, number, linecache.getline(file, number).strip()) for file, number in callers),
            codes={f.f_code for f in frames},
            module=next((each.name for each in modules if hasattr(each, "named_modules")), ""),  # nn is above `learn`
            options=changed(op, options),
            inputs=tuple(self.input(x, frames) for x in inputs),
            value=self.values[y.node.order],
        )

    def input(self, x, frames):
        """The Snapshot of an input; one that has a node is also given its name."""
        if not isinstance(x, Tensor) or x.node is None:
            return snapshot(as_array(x), self.keep)
        order = x.node.order
        if not self.names.get(order):
            # Other functions than those that made it call it by the names of their parameters.
            made = self.notes.get(order)
            self.names[order] = name_of(x, [f for f in frames if made is None or f.f_code in made.codes])
        if x.node.op is None:
            self.leaves[order] = x.data
        if order not in self.values:
            self.values[order] = snapshot(x.data, self.keep)
        return self.values[order]


def stack(frame):
    """The frames of a call outside of the engine and its operations, innermost first, up to trace's own."""
    while frame is not None and frame.f_code.co_filename not in OWN:
        if not frame.f_code.co_filename.startswith(WITHIN):
            yield frame
        frame = frame.f_back


def name_of(x, frames):
    """What the code calls a tensor: its variable in the outermost of the frames that has one; "" if none has."""
    for variables in (*(frame.f_locals for frame in reversed(frames)), *(frame.f_globals for frame in frames[-1:])):
        for name, value in variables.items():
            if value is x:
                return name
    return ""


def changed(op, options):
    """{name: text} of the options that are not what they are by default."""
    usual = inspect.signature(op.rule).parameters
    return {name: short(value) for name, value in options.items() if value is not usual[name].default}


def short(value):
    """A value as text of one line."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:59] + "…"
