"""Where each parameter of ours is in the tensors of a published file.

A `Place` serves loading and exporting: its `view` of a stored tensor is a NumPy view, to copy from or to write to.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.errors import CheckpointError


class Place(NamedTuple):
    """A parameter is view(the stored tensor), whose shape is `shape`."""

    parameter: str
    tensor: str
    shape: tuple
    view: Callable = np.asarray


def columns(start, stop):
    return lambda stored: stored[..., start:stop]


def copy_weights(model, tensors, places, spare=lambda name: False):
    """Copy weights into a model, one tensor at a time.

    tensors: a mapping from names to arrays that knows their `shapes` unread (TensorBundle, SafetensorsFolder)
    places: one Place for each parameter
    spare: spare(name) says whether a tensor without a Place may be in the file

    Raises one CheckpointError that lists everything that does not fit; nothing is copied then. And one for values that
    are not finite, after all is copied.
    """
    wanted = {}
    for place in places:
        wanted.setdefault(place.tensor, []).append(place)
    shapes = tensors.shapes
    problems = [f"{name} is missing" for name in wanted if name not in shapes]
    problems += [
        f"{name} has no place in this configuration" for name in shapes if name not in wanted and not spare(name)
    ]
    for name in filter(shapes.__contains__, wanted):
        (shape, dtype), expected = shapes[name], wanted[name][0].shape
        if shape != expected:
            problems.append(f"{name} has shape {shape}, expected {expected}")
        if getattr(dtype, "kind", None) != "f":
            problems.append(f"{name} is stored as {dtype}, expected floating-point numbers of 16 to 64 bits")
    if problems:
        raise CheckpointError("weights do not fit the model:\n  " + "\n  ".join(shortened(problems)))
    device, problems = model.flat.device, []
    for name, parts in wanted.items():
        stored = tensors[name]
        for part in parts:
            w, values = model.flat[part.parameter].data, part.view(stored)
            w[...] = values if device == "cpu" else to_device(values := values.astype(w.dtype), device)
            if n := not_finite(w if device == "cpu" else values):
                problems.append(f"{name}: {n} of the {values.size} values of {part.parameter} are not finite")
    if problems:
        head = "weights are damaged, or of a training that diverged; download them again"
        raise CheckpointError("\n  ".join([head, *shortened(problems)]))


def not_finite(values, block=2**13):
    """How many values of an array are NaN or infinite; the array of booleans is a block's."""
    flat = values.reshape(-1)
    blocks = (flat[i : i + block] for i in range(0, flat.size, block))
    return flat.size - sum(np.count_nonzero(np.isfinite(part)) for part in blocks)


def shortened(problems, most=30):
    """At most `most` problems: a model has hundreds of tensors, and the head of the message should stay visible."""
    return problems[:most] + [f"and {len(problems) - most} more"] * (len(problems) > most)
