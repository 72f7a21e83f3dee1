"""Kernels: faster stand-ins for rules of ops/, with the same contract.

Blocked NumPy (numpy/) is registered at once. Compiled loops (numba/; on a GPU cuda/) take its place from `load()`
on, which training calls; so what one tries out at a prompt runs the definitions.
"""

from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from tinygrad_lm.engine.graph import Node
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.numpy import activation, attention, cross_entropy  # noqa: F401
from tinygrad_lm.nn.module import Parameters
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.muon import Muon

NUMBA = ["activation", "adamw", "attention", "matmul", "normalize", "rotary", "tokens"]
CUDA = [
    "activation",
    "add",
    "adamw",
    "attention",
    "cross_entropy",
    "dropout",
    "embedding",
    "matmul",
    "normalize",
    "rotary",
]
NUMPY_KERNELS = {name: dict(op.kernels) for name, op in Op.registry.items()}


def load():
    """Register the Numba kernels if Numba is installed (the extra `fast`), and the CUDA kernels if CuPy is."""
    for library, room, names in (("numba", "numba", NUMBA), ("cupy", "cuda", CUDA)):
        if find_spec(library):
            for name in names:
                import_module(f"tinygrad_lm.kernels.{room}.{name}")


@contextmanager
def numpy_alone():
    """Within the block everything runs as without compiled kernels: for comparisons."""
    owners = {**Op.registry, "AdamW": AdamW, "Muon": Muon, "Parameters": Parameters, "Node": Node}
    before = {name: owner.kernels for name, owner in owners.items()}
    for name, owner in owners.items():
        owner.kernels = NUMPY_KERNELS.get(name, {})
    try:
        yield
    finally:
        for name, owner in owners.items():
            owner.kernels = before[name]
