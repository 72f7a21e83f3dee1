"""Dtypes, random numbers, and what a GPU's user is told."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from small_run import example

from tinygrad_lm.backend import dtype_of, integers, is_floating, random, to_device, wide
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DeviceError
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.programs import program as ended_by_status
from tinygrad_lm.train import command

# ---- dtypes


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_floating_dtypes_have_names(name):
    dtype = dtype_of(name)
    assert (dtype.name, dtype_of(dtype)) == (name, dtype)
    assert is_floating(dtype)
    assert wide(dtype) == ("float32" if name in ("float16", "bfloat16") else name)


@pytest.mark.parametrize("name", ["bool", "int8", "int16", "uint16", "int64", "V2", "S2"])
def test_what_is_not_floating_is_not_widened(name):
    assert not is_floating(np.dtype(name))
    assert wide(np.dtype(name)) == np.dtype(name)


def test_bfloat16_is_asked_for_by_its_name_and_its_library_then_imported():
    program = (
        "import sys; from tinygrad_lm import Tensor; print('ml_dtypes' in sys.modules)\n"
        "print(Tensor([1.5]).to(dtype='bfloat16').dtype)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert ended.stdout.split() == ["False", "bfloat16"]


def test_bfloat16_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        ConfigError, match="bfloat16 comes from ml_dtypes, which is not installed; pip install ml_dtypes"
    ):
        dtype_of("bfloat16")
    assert dtype_of("float32") == np.float32


UNKNOWN = ["float33", "BFLOAT16", "float8_e4m3fn", "int32", "bool", "V2", "f4,f4", "", None, 3.5, [1], int, np.int64]
SMALL = GPTConfig(n_layer=1, n_head=1, n_embd=2)
EXPECTED = "expected float16, bfloat16, float32, float64, complex64 or complex128"


@pytest.mark.parametrize("name", UNKNOWN, ids=str)
@pytest.mark.parametrize("use", [dtype_of, lambda name: GPT(SMALL, dtype=name)], ids=["dtype_of", "GPT"])
def test_what_is_no_floating_dtype_is_refused(use, name):
    with pytest.raises(ConfigError) as caught:
        use(name)
    assert str(caught.value) == f"dtype {name!r} is unknown or not floating; {EXPECTED}"


def test_foreign_byte_order_is_refused():
    foreign = np.dtype(np.float32).newbyteorder("S")
    for name in (foreign, foreign.str):
        with pytest.raises(ConfigError, match="has foreign byte order; .*" + EXPECTED):
            dtype_of(name)
    assert dtype_of(foreign.newbyteorder("S")) == np.float32


@pytest.mark.parametrize("name", ["float33", "int32", int, ""])
def test_a_tensor_becomes_of_no_other_dtype(name):
    with pytest.raises(ConfigError, match=EXPECTED):
        Tensor([1.5]).to(dtype=name)
    assert Tensor([1]).to(device="cpu").dtype == np.int64  # what stays as it is may be anything


# ---- a CuPy that has no GPU, in each of the ways


class CUDARuntimeError(RuntimeError):
    """As CuPy's: its text begins with the error's name."""


class OutOfMemoryError(MemoryError):
    pass


class CompileException(Exception):
    pass


NO_DRIVER = CUDARuntimeError(
    "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
)
NO_GPU = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
NO_NVRTC = RuntimeError('Failure finding "libnvrtc.so.13": No such file: libnvrtc.so.13\nsearched: ...')
FREE, TOTAL = 300 * 2**20, 80_000 * 2**20


def fake_cupy(devices=1, driver=13000, runtime=13020, nvrtc=(13, 2)):
    """What the package looks at. An exception in the place of a value is raised."""

    def gives(value):
        def function():
            if isinstance(value, Exception):
                raise value
            return value

        return function

    calls = {"getDeviceCount": devices, "driverGetVersion": driver, "runtimeGetVersion": runtime}
    calls = {name: gives(value) for name, value in (calls | {"memGetInfo": (FREE, TOTAL)}).items()}
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError, **calls),
        nvrtc=SimpleNamespace(getVersion=gives(nvrtc)),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=SimpleNamespace(CompileException=CompileException),
    )
    return SimpleNamespace(cuda=cuda, asarray=lambda x: ("there", x))


@pytest.fixture
def cupy(monkeypatch):
    """Puts a package, or None, in the place of CuPy."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda package: monkeypatch.setitem(sys.modules, "cupy", package)


def test_a_gpu_is_taken_where_one_is(cupy):
    cupy(fake_cupy())
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu") == "cpu"
    assert to_device(np.ones(1), "cuda")[0] == "there"


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (None, r"CuPy is not installed; pip install 'tinygrad-lm\[cuda12\]' or .*"),
        (fake_cupy(NO_DRIVER, driver=0), r"there is no NVIDIA driver here \(docker run needs --gpus all\)"),
        (
            fake_cupy(NO_DRIVER, driver=12040),
            r"driver's CUDA is 12.4, CuPy's is 13.2; update the driver, or .*\[cuda12\]'",
        ),
        (fake_cupy(NO_DRIVER, driver=11080), r"driver's CUDA is 11.8, CuPy's is 13.2; update the driver"),
        (fake_cupy(NO_DRIVER, 12020, 12090), r"driver's CUDA is 12.2, CuPy's is 12.9; update the driver"),
        (fake_cupy(NO_DRIVER, 11080, 12090), r"driver's CUDA is 11.8, CuPy's is 12.9; update the driver"),
        (fake_cupy(NO_GPU), "the driver shows no GPU"),
        (fake_cupy(0), "the driver shows no GPU"),
        (
            fake_cupy(CUDARuntimeError("cudaErrorUnknown: unknown error")),
            r"does not start \(cudaErrorUnknown: unknown error\)",
        ),
        (fake_cupy(nvrtc=NO_NVRTC), r"lacks CUDA's libraries \(Failure.*13\); pip install 'cupy-cuda13x\[ctk\]'"),
    ],
)
def test_without_a_gpu_the_message_says_why(cupy, package, message):
    cupy(package)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError, match=f"^device cuda: .*{message}(; nvidia-smi.*)?; or run with --device cpu$"):
        resolve_device("cuda")


def test_hidden_gpus_are_named(cupy, monkeypatch):
    cupy(fake_cupy(NO_GPU))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(DeviceError, match=r"shows no GPU \(CUDA_VISIBLE_DEVICES is '7'\); nvidia-smi"):
        resolve_device("cuda")


def test_a_broken_cupy_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text(
        "try:\n    import libcupy\nexcept ImportError as e:\n    raise ImportError('x') from e"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(DeviceError, match=r"CuPy cannot be imported \(No module named 'libcupy'\); install it again"):
        resolve_device("cuda")


# ---- errors while it computes

FULL = OutOfMemoryError("Out of memory allocating 2,097,152,000 bytes (allocated so far: 83,000,000,000 bytes).")
TEXT = "k.cu(3): error: identifier\n" * 20


def what_comes_of(error, hint="less"):
    with explained(hint):
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FULL,
            "2,000 MiB more were needed, 300 MiB of 80,000 MiB are free, this program has 79,155 MiB\n  hint : less",
        ),
        (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), "some more were needed, 300 MiB of 80,000 MiB"),
        (
            CompileException(TEXT),
            "    k.cu(3): error: identifier\n  hint : update CuPy and remove ~/.cupy/kernel_cache",
        ),
        (CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)"), "newer than CuPy's CUDA 13.2"),
        (CompileException('cannot open source file "cuda_bf16.h"'), "pip install 'cupy-cuda13x[ctk]'; or run with"),
    ],
)
def test_errors_of_a_gpu_that_a_user_can_mend(cupy, error, message):
    cupy(fake_cupy())
    with pytest.raises(DeviceError) as caught:
        what_comes_of(error)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 7
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [CUDARuntimeError("cudaErrorIllegalAddress: ..."), MemoryError(), ValueError("x")])
def test_other_errors_stay_what_they_are(cupy, error):
    for package in (fake_cupy(), None):
        cupy(package)
        with pytest.raises(type(error)) as caught:
            what_comes_of(error)
        assert caught.value is error


def test_a_full_gpu_ends_a_command_with_a_message_and_status_2(cupy, capsys, tmp_path):
    cupy(fake_cupy())

    def start():
        raise FULL

    main = ended_by_status(lambda arguments: command.command("train", command.PRETRAINING, start, None, arguments))
    assert main([]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the GPU's memory is full: 2,000 MiB more")
    assert "--batch-size with twice the --accumulate" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("program", ["pretrain", "pretrain_shakespeare", "finetune_shakespeare"])
@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_advised_can_be_done(cupy, capsys, monkeypatch, tmp_path, program, resumed):
    """The hint names options that the program has, and of --resume what can still be chosen."""
    cupy(fake_cupy())

    def begun(*_, **__):
        raise FULL

    module = example(program)
    monkeypatch.setattr(module, "start", begun)
    monkeypatch.setattr(command, "resumed", begun)
    assert module.main(["--resume", str(tmp_path)] if resumed else []) == 2
    hint = capsys.readouterr().err.partition("hint : ")[2]
    now, _, anew = hint.partition("; or begin a new run with")
    options = {"--batch-size", "--accumulate", "--dtype"}
    options |= {"--lora", "--block-size"} if program == "finetune_shakespeare" else {"--preset"}
    assert set(re.findall(r"--[a-z-]+", anew if resumed else now)) == options <= set(module.OPTIONS)
    assert not resumed or set(re.findall(r"--[a-z-]+", now)) == {"--resume", "--device"}


@pytest.mark.parametrize(
    "counter", [(np.int64(3),), (np.uint64(3), np.int32(0)), (np.array([3, 0, 0], np.uint64),), (np.array([3]),)]
)
def test_a_counter_may_be_of_any_integers(counter):
    """NumPy's as well as Python's, and one array of up to three: the same numbers."""
    assert random(7, "a stream", *integers(counter)).random() == random(7, "a stream", 3).random()
    assert all(type(number) is not np.ndarray for number in integers(counter))


@pytest.mark.parametrize("seed", [-1, 2**64, 3.5, "7", None], ids=repr)
def test_a_seed_is_a_whole_number(seed):
    """3.5 would be cut to 3."""
    with pytest.raises(ConfigError, match=r"a seed is a whole number from 0 to 2⁶⁴ − 1, found "):
        random(seed, "x")
