"""The card, the libraries, and what it reaches at most: the two ceilings that all other numbers are held against."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version


def items(place):
    yield "libraries", lambda: libraries()
    if not place.tiny:
        yield "card", lambda: card(place)
    yield "copy", lambda: copy(place)
    yield "product", lambda: product(place)


def libraries():
    names = ["numpy", "cupy-cuda13x", "torch", "triton", "ml_dtypes", "nvidia-cublas", "numba", "hypothesis"]
    found = {"python": sys.version.split()[0]}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def card(place):
    runtime = place.xp.cuda.runtime
    about = runtime.getDeviceProperties(0)
    return {
        "name": about["name"].decode(), "GB": about["totalGlobalMem"] / 1e9,
        "multiprocessors": about["multiProcessorCount"], "L2 MB": about["l2CacheSize"] / 1e6,
        "compute": f"{about['major']}.{about['minor']}", "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(), "nvrtc": str(place.xp.cuda.nvrtc.getVersion()),
    }  # fmt: skip


def copy(place):
    """Device to device, bytes read and bytes written both counted."""
    x = place.normal(0, (1000 if place.tiny else 10**9,))
    took = place.seconds(x.copy)
    return {"GB/s": 2 * x.nbytes / 1e9 / took}


def product(place):
    """Two large bfloat16 matrices of random numbers, through PyTorch."""
    torch = import_module("torch")
    n = 16 if place.tiny else 8192
    generator = torch.Generator(place.torch).manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator, device=place.torch, dtype=torch.bfloat16) for _ in "ab")
    took = torch_seconds(place, lambda: a @ b)
    return {"TFLOP/s": 2 * n**3 / 1e12 / took, "us": took * 1e6}


def torch_seconds(place, function, repeats=20):
    """As Place.seconds, with PyTorch's events: they are on the stream that PyTorch works on."""
    if place.tiny:
        return place.seconds(function)
    torch = import_module("torch")
    found = []
    for _ in range(repeats + 3):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in "ab")
        start.record()
        function()
        stop.record()
        stop.synchronize()
        found.append(start.elapsed_time(stop) / 1e3)
    return sorted(found[3:])[repeats // 2]
