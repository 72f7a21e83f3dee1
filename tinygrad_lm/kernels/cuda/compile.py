"""How the CUDA kernels of *.cu are compiled and launched, through CuPy's RawModule.

A source is compiled at its first use for the GPU at hand, once for each REAL and WIDTH (see common.cuh) and each
further constant it names, and kept on disk by CuPy.
"""

import functools
import re
from pathlib import Path

import numpy as np

from tinygrad_lm.backend import array_module

SOURCES = Path(__file__).parent
REALS = {"float32": "float", "bfloat16": "bf16"}
i4, i8, u4, u8, f4 = np.int32, np.int64, np.uint32, np.uint64, np.float32  # CUDA's types, by size
SHARED = 99 * 1024  # bytes of shared memory that a block has at the most on every GPU from Ampere on
NULL = np.uint64(0)  # an absent array; CuPy takes None, and the launch fails on it


def covered(x, *others):
    """Whether the kernels can work on these arrays: all of one dtype that kernels exist for, none of them empty."""
    others = [y for y in others if y is not None]
    return x.dtype.name in REALS and all(y.dtype == x.dtype for y in others) and all(y.size for y in (x, *others))


def width(length, *arrays):
    """How many entries a thread moves at once: 16 bytes' worth if rows of `length` and all addresses allow, else 1."""
    n = 16 // min(x.dtype.itemsize for x in arrays)
    return n if length % n == 0 and all(x.data.ptr % 16 == 0 for x in arrays) else 1


def contiguous(x):
    """x as kernels read it, row after row from a multiple of 16 bytes on; None stays None."""
    return x if x is None or (x.flags.c_contiguous and x.data.ptr % 16 == 0) else x.copy()


def kernel(file, name, like, width=1, shared=0, **constants):
    """The kernel `name` of <file>.cu for arrays like `like`: a function of (blocks, threads, *arguments).

    Arguments are arrays, None for no array, and NumPy scalars of just the C type. shared: bytes of shared memory that
    the source declares without a size, SHARED at most.
    """
    constants = {"REAL": REALS[like.dtype.name], "WIDTH": width, **constants}
    function = compiled(array_module(like), file, name, shared > 0, tuple(constants.items()))

    def launch(blocks, threads, *arguments):
        arguments = tuple(NULL if x is None else x for x in arguments)
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        function(grid, (threads,), arguments, shared_mem=shared)

    return launch


@functools.cache
def compiled(xp, file, name, shares, constants):
    """CuPy's handle of a kernel; one that `shares` may ask for more shared memory than the 48 KB that all may have."""
    function = module(xp, file, constants).get_function(name)
    if shares:
        function.max_dynamic_shared_size_bytes = SHARED
    return function


@functools.cache
def hopper(xp):
    """Whether the GPU has Hopper's matrix instructions, wgmma: compute capability 9.x, neither less nor more."""
    return xp.cuda.Device().compute_capability.startswith("9")


@functools.cache
def module(xp, file, constants):
    options = ("-std=c++17", *(f"-D{key}={value}" for key, value in constants))
    if ("WGMMA", 1) in constants:
        options = ("-arch=sm_90a", *options)  # CuPy names sm_90 later, which has no wgmma; the compiler takes the first
    return xp.RawModule(code=source(file), options=options)


def source(file):
    """The text of <file>.cu with what it includes in its place: CuPy looks for changes in this text alone."""
    lines = []
    for number, line in enumerate((SOURCES / f"{file}.cu").read_text("utf-8").splitlines(), start=2):
        if included := re.fullmatch(r'#include "(.*)"', line):
            line = f'#line 1 "{included[1]}"\n{(SOURCES / included[1]).read_text("utf-8")}#line {number} "{file}.cu"'
        lines.append(line)
    text = "\n".join(lines)
    return text.encode("ascii", "replace").decode()  # CuPy writes it to a file in whatever encoding the locale has


def for_each(n, width=1, threads=256):
    """Blocks and threads so that each thread has one packet of n entries."""
    return -(-n // (width * threads)), threads
