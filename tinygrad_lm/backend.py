"""Arrays and where they live; random numbers that are a function, not a state. The page has NumPy's of both."""

import sys
import zlib
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tinygrad_lm.errors import ConfigError, DeviceError

Array = NDArray[Any]  # NumPy's, or on a GPU CuPy's, which has the same methods
Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None  # one axis, several, or all


def array_module(x: Any) -> Any:
    """The library that x belongs to: numpy, or cupy for an array on a GPU. Rules call it to run on both."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def device_of(x: Any) -> str:
    """'cpu' or 'cuda'."""
    return "cpu" if array_module(x) is np else "cuda"


def to_device(x: Any, device: str) -> Array:
    """x on the named device; x itself if it is there already."""
    if device_of(x) == device:
        return x
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"device {device!r} is unknown; expected cpu or cuda")
    return x.get() if device == "cpu" else _cupy().asarray(x)


def zeros(shape: Shape | int, dtype: DTypeLike, device: str) -> Array:
    """A new array of zeros on the named device."""
    return (np if device == "cpu" else _cupy()).zeros(shape, dtype)


def _cupy():
    """The library of arrays on a GPU."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError("cuda: CuPy cannot be imported; pip install 'tinygrad-lm[cuda13]' or cuda12") from error
    return cupy


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype have derivatives: float16 to float64, complex ones, and ml_dtypes' bfloat16.

    NumPy knows nothing of bfloat16: its kind is "V", as that of any bytes.
    """
    return dtype.kind in "fc" or dtype.type.__name__ == "bfloat16"


FLOAT32 = np.dtype(np.float32)
DTYPES = "float16, bfloat16, float32, float64, complex64 or complex128"


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype to compute in: float32 for the half precisions, whose sums overflow or stall; else dtype itself."""
    return FLOAT32 if dtype.itemsize == 2 and is_floating(dtype) else dtype


def dtype_of(name: DTypeLike | None) -> np.dtype:
    """The floating dtype of a name such as "float32" or "bfloat16", the latter from the library ml_dtypes.

    ConfigError says which there are, where it is unknown, not floating, or not in this machine's order of bytes.
    """
    try:
        if name == "bfloat16":
            import ml_dtypes  # noqa: F401  (registers the name with NumPy)
        dtype = np.dtype(name) if name is not None else None  # NumPy's None is float64
    except ImportError:
        raise ConfigError("bfloat16 comes from ml_dtypes, which is not installed; pip install ml_dtypes") from None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not is_floating(dtype):
        raise ConfigError(f"dtype {name!r} is unknown or not floating; expected {DTYPES}")
    if not dtype.isnative:
        raise ConfigError(f"dtype {name!r} has foreign byte order; .newbyteorder('=') is native; expected {DTYPES}")
    return dtype


def random(seed, stream, *counter):
    """A NumPy generator whose numbers depend on the arguments alone.

    `stream` is a name such as "init/wte.weight", `counter` up to three integers such as step and row. Distinct
    arguments give independent numbers, so a resumed run draws what an undisturbed one would have drawn, with no state
    to save and no order of calls to keep. Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
    encrypts a counter under a key; its counter's first word is left to the generator to count in.
    """
    counter = np.array([0, *counter, *[0] * (3 - len(counter))], np.uint64)
    return np.random.Generator(np.random.Philox(key=philox_key(seed, stream), counter=counter))


def philox_key(seed, stream):
    """The key that `random` draws with: two 64-bit words."""
    if not (hasattr(seed, "__index__") and 0 <= seed < 2**64):
        raise ConfigError(f"a seed is a whole number from 0 to 2⁶⁴ − 1, found {seed!r}")
    return np.array([seed, zlib.crc32(stream.encode())], np.uint64)


def integers(counter):
    """A counter as a list of integers: it may be given as one array, which may lie on a GPU."""
    return to_device(counter[0], "cpu").tolist() if counter and getattr(counter[0], "ndim", 0) else list(counter)
