"""Whether there is a GPU to compute on, and why not."""

import os

from tinygrad_lm.errors import DeviceError


def resolve_device(name="auto"):
    """'auto', 'cpu' or 'cuda' -> 'cpu' or 'cuda'. Raises DeviceError where 'cuda' was asked for and cannot be had."""
    if name == "auto":
        return "cuda" if gpu_problem() is None else "cpu"
    if name == "cuda" and (problem := gpu_problem()):
        raise DeviceError(f"device cuda: {problem}; or run with --device cpu")
    if name not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is unknown; expected auto, cpu or cuda")
    return name


def gpu_problem():
    """Why no GPU can be used, with the way out, or None."""
    try:
        import cupy
    except ImportError as error:
        if error.name == "cupy":
            return "CuPy is not installed; pip install 'tinygrad-lm[cuda12]' or 'tinygrad-lm[cuda13]', as the driver is"
        return f"CuPy cannot be imported ({error.__cause__ or error}); install it again, and only one of its packages"
    cuda = cupy.cuda
    try:
        count = cuda.runtime.getDeviceCount()
        cuda.nvrtc.getVersion()  # is there a compiler?
    except cuda.runtime.CUDARuntimeError as error:  # is_available() would hide which
        return driver_problem(str(error), cuda.runtime.driverGetVersion(), cuda.runtime.runtimeGetVersion())
    except (RuntimeError, ImportError) as error:
        major = cuda.runtime.runtimeGetVersion() // 1000
        return f"CuPy lacks CUDA's libraries ({str(error).splitlines()[0]}); pip install 'cupy-cuda{major}x[ctk]'"
    return None if count else driver_problem("cudaErrorNoDevice", 0, 0)


def driver_problem(error, driver, runtime):
    """error: CUDA's; driver, runtime: the CUDA versions of the driver, 0 if there is none, and of CuPy, as 13020."""
    if "cudaErrorNoDevice" in error:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"the driver shows no GPU{chosen}; nvidia-smi should list one"
    if "cudaErrorInsufficientDriver" not in error:
        return f"CUDA does not start ({error}); nvidia-smi should list a GPU"
    if not driver:
        return "there is no NVIDIA driver here (docker run needs --gpus all); nvidia-smi should list a GPU"
    theirs, ours = (f"{version // 1000}.{version % 1000 // 10}" for version in (driver, runtime))
    former = driver // 1000 == 12 < runtime // 1000
    other = ", or pip uninstall cupy-cuda13x and pip install 'tinygrad-lm[cuda12]'" if former else ""
    return f"the driver's CUDA is {theirs}, CuPy's is {ours}; update the driver{other}"
