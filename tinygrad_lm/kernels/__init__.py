"""Kernels: faster implementations of what the core defines, one subject a file, in a room for each way to compute.

    numpy/  blocks that fit into the cache, and all cores
    numba/  loops compiled for this machine, if Numba is installed (the extra `fast`)
    bfloat16/  products of bfloat16 numbers by a CPU's instructions for them, if it has any, compiled by Numba
    cuda/   a GPU's, if CuPy is installed: each .py beside the .cu that it launches

Importing tinygrad_lm registers none of them, so at a prompt and under a debugger the definitions run. The programs that
train or generate call `enable()`. The files register with `@….on(device, dtype)` (engine/replaceable.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from tinygrad_lm.engine.replaceable import Replaceable

# And what each needs; a later one replaces an earlier.
ROOMS = {"numpy": "numpy", "numba": "numba", "bfloat16": "numba", "cuda": "cupy"}


def enable() -> None:
    """Use the implementations that this machine can run, in all threads."""
    for room, library in ROOMS.items():
        if find_spec(library):
            register(room)
    Replaceable.enabled = True


def register(room):
    """Import the files of a room, each of which registers its implementations."""
    package = import_module(f"{__name__}.{room}")
    for file in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{file.name}")


@contextmanager
def disabled() -> Iterator[None]:
    """Within the block the definitions run, in all threads: for comparisons."""
    before, Replaceable.enabled = Replaceable.enabled, False
    try:
        yield
    finally:
        Replaceable.enabled = before
