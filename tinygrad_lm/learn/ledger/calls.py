"""CallObserver: notes where in the source each operation is called, and on what values.

The engine keeps nothing of this, so training pays nothing for it. The lines are found by looking at the call stack.
"""

import inspect
import linecache
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.engine.observe import Observer, current_module
from tinygrad_lm.learn.ledger.snapshot import Snapshot, snapshot

PACKAGE = Path(__file__).parents[2]
TRACE = str(PACKAGE / "learn" / "ledger" / "trace.py")  # the traced function begins here
# Where no reader looks for the line that called an operation.
MACHINERY = (
    *(str(PACKAGE / part) + os.sep for part in ("engine", "ops", "kernels")),
    str(PACKAGE / "nn" / "module.py"),
)
# What a prompt calls the values that it has shown: _, __, _12. No name that somebody gave.
SHOWN = re.compile(r"_+\d*")


@dataclass(frozen=True)
class Line:
    """A line of source: its file, its number, and what it says."""

    file: str
    number: int
    text: str

    @property
    def place(self):
        """'tinygrad_lm/nn/mlp.py:30' in this package, 'script.py:12' elsewhere, 'In[3]:12' in a notebook."""
        path = Path(self.file)
        short = path.relative_to(PACKAGE.parent).as_posix() if PACKAGE in path.parents else cell(path) or path.name
        return f"{short}:{self.number}"


def cell(path):
    """'In[3]', if the path is that under which IPython compiled a cell; otherwise None."""
    if not (shell := getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()):
        return None
    _, name = shell.compile.format_code_name(str(path)) or (None, None)
    return name


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    callers  the lines that led to it, innermost first
    codes    the code objects of the functions that these lines are in
    module   the name of the module that called it, such as "h.0.attn.c_q"
    options  {name: text} of the options that are not the default
    inputs   a Snapshot of each
    value    the Snapshot of the result
    """

    callers: tuple
    codes: set
    module: str
    options: dict
    inputs: tuple
    value: Snapshot


class CallObserver(Observer):
    """Collects, by the creation number of a node: Calls, names of values, Snapshots of values, arrays of leaves."""

    def __init__(self, keep):
        self.keep = keep
        self.calls, self.names, self.leaves, self.values = {}, {}, {}, {}

    def operation(self, op, inputs, options, y):
        if y.node is None:
            return
        frames = list(stack(sys._getframe(1)))
        lines = [(frame.f_code.co_filename, frame.f_lineno) for frame in frames]
        self.values[y.node.order] = snapshot(y.data, self.keep)
        self.calls[y.node.order] = Call(
            callers=tuple(Line(file, number, linecache.getline(file, number).strip()) for file, number in lines),
            codes={frame.f_code for frame in frames},
            module=current_module(),
            options=changed(op, options),
            inputs=tuple(self.input(x, frames) for x in inputs),
            value=self.values[y.node.order],
        )

    def input(self, x, frames):
        """The Snapshot of an input; one that has a node is also given its name."""
        if x.node is None:
            return snapshot(x.data, self.keep)
        order = x.node.order
        if not self.names.get(order):
            # Other functions than those that made it call it by the names of their parameters.
            made = self.calls.get(order)
            self.names[order] = name_of(x, [f for f in frames if made is None or f.f_code in made.codes])
        if x.node.op is None:
            self.leaves[order] = x.data
        if order not in self.values:
            self.values[order] = snapshot(x.data, self.keep)
        return self.values[order]


def stack(frame):
    """The frames of a call, innermost first, up to trace's own; without those of the engine and its operations."""
    while frame is not None and frame.f_code.co_filename != TRACE:
        if not frame.f_code.co_filename.startswith(MACHINERY):
            yield frame
        frame = frame.f_back


def name_of(x, frames):
    """What the code calls a tensor: its variable in the outermost of the frames that has one; "" if none has."""
    for variables in (*(frame.f_locals for frame in reversed(frames)), *(frame.f_globals for frame in frames[-1:])):
        for name, value in variables.items():
            if value is x and not SHOWN.fullmatch(name):
                return name
    return ""


def changed(op, options):
    """{name: text} of the options that are not what they are by default."""
    usual = inspect.signature(op.rule).parameters
    return {name: one_line(value) for name, value in options.items() if value is not usual[name].default}


def one_line(value):
    """A value as text of one line."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:59] + "…"
