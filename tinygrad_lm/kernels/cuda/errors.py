"""CuPy's errors in a user's words."""

import re
import sys
from contextlib import contextmanager

from tinygrad_lm.errors import DeviceError


@contextmanager
def explained(hint):
    """Within the block CuPy's errors that a user can act on become DeviceErrors. hint: what would take less memory."""
    try:
        yield
    except Exception as error:
        if message := explanation(error, hint):
            raise DeviceError(message) from error
        raise


def explanation(error, hint):
    """What one of CuPy's errors means and what to do, or None."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return None
    full = isinstance(error, cupy.cuda.runtime.CUDARuntimeError) and "cudaErrorMemoryAllocation" in str(error)
    if full or isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return out_of_memory(error, hint, *cupy.cuda.runtime.memGetInfo())
    if isinstance(error, cupy.cuda.compiler.CompileException):
        return not_compiled(error, cupy.cuda.runtime.runtimeGetVersion())
    return None


def out_of_memory(error, hint, free, total):
    """The message; CuPy knows what its pool holds, the driver what all programs hold."""
    counted = re.search(r"allocating ([\d,]+) bytes \(allocated so far: ([\d,]+)", str(error))
    needed, held = (mebibytes(int(n.replace(",", ""))) for n in counted.groups()) if counted else ("some", "the rest")
    return (
        f"the GPU's memory is full: {needed} more were needed, {mebibytes(free)} of {mebibytes(total)} are free, "
        f"this program has {held}\n  hint : {hint}"
    )


def mebibytes(n):
    return f"{n / 2**20:,.0f} MiB"


def not_compiled(error, version):
    said = "\n".join(f"    {line}" for line in str(error).strip().splitlines()[:5])
    if "architecture" in said:
        hint = f"this GPU is newer than CuPy's CUDA {version // 1000}.{version % 1000 // 10}; update CuPy"
    elif "cannot open source file" in said:
        hint = f"CUDA's headers are missing; pip install 'cupy-cuda{version // 1000}x[ctk]'"
    else:
        hint = "update CuPy and remove ~/.cupy/kernel_cache; if that does not help, report the lines above"
    return f"a kernel does not compile on this GPU\n{said}\n  hint : {hint}; or run with --device cpu"
