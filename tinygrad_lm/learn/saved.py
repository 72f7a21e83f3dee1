"""What the recorded graph keeps alive: the arrays that gradient functions mention, and how many bytes that is."""

from collections import Counter
from contextlib import suppress
from types import FunctionType

import numpy as np

from tinygrad_lm.backend import array_module


def mentioned(function):
    """(name, value) of what a function itself holds: its closure, and its arguments' defaults."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that was never assigned
            yield name, cell.cell_contents
    defaults = function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def captured(function):
    """{name: value} of what a function mentions, and of what the functions it mentions do, and so on."""
    found, waiting, seen = {}, [function], set()
    while waiting:
        function = waiting.pop(0)
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)  # one may mention itself
        for name, value in mentioned(function):
            parts = value if isinstance(value, dict) else dict(enumerate(value if type(value) in (tuple, list) else ()))
            if isinstance(value, FunctionType):
                waiting.append(value)
            elif any(hasattr(part, "nbytes") for part in parts.values()):
                found |= {f"{name}[{key!r}]": part for key, part in parts.items()}
            else:
                while name in found and found[name] is not value:  # two functions call different things the same
                    name += "′"
                found[name] = value
    return found


def saved(node):
    """({name: array}, {name: number, tuple, text or None}) of what a node's gradient function keeps."""
    found = captured(node.backward)
    arrays = {name: x for name, x in found.items() if hasattr(x, "nbytes") and hasattr(x, "dtype")}
    plain = (int, float, str, tuple, list, slice, type(None), np.dtype)
    return arrays, {name: x for name, x in found.items() if name not in arrays and isinstance(x, plain)}


def bounds(x):
    """The addresses between which an array lies; nowhere if it is empty or a NumPy scalar, which has none."""
    if not x.nbytes or isinstance(x, np.generic):
        return 0, 0
    if array_module(x) is np:
        return np.lib.array_utils.byte_bounds(x)
    return x.data.ptr, x.data.ptr + x.nbytes


class HeldMemory:
    """How many bytes the nodes that are still to come keep alive; each array once, however many mention it.

    Arrays that lie within a known leaf, such as a weight or its transpose, live anyway and do not count.
    """

    def __init__(self, leaves):
        self.outside = [bounds(x) for x in leaves]
        self.uses, self.kept, self.bytes = Counter(), {}, 0

    def add(self, node):
        """Count what this node keeps."""
        arrays = {bounds(x) for x in saved(node)[0].values()}
        self.kept[node.order] = [
            (low, high) for low, high in arrays if not any(a <= low and high <= b for a, b in self.outside)
        ]
        for low, high in self.kept[node.order]:
            self.bytes += 0 if self.uses[low, high] else high - low
            self.uses[low, high] += 1

    def drop(self, node):
        """The pass has gone over this node: stop counting what no other node keeps."""
        for low, high in self.kept.pop(node.order):
            self.uses[low, high] -= 1
            self.bytes -= 0 if self.uses[low, high] else high - low
