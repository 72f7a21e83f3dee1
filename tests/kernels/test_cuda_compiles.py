"""The compile gate: NVIDIA's compiler makes machine code of every CUDA source, on a machine without a GPU.

For Ampere and Hopper, for each REAL and WIDTH: no register is spilled to memory, no kernel takes more registers than
its line below says, and what warpgroups compute does not wait for each instruction. Skipped where the wheel
nvidia-cuda-nvrtc is not installed.
"""

import ctypes
import functools
import importlib.util
import re
from pathlib import Path

import pytest
from slow import first_of_each, slow_but

from tinygrad_lm.kernels.cuda import attention as cuda_attention
from tinygrad_lm.kernels.cuda import compile as cuda_compile
from tinygrad_lm.kernels.cuda import normalize as cuda_normalize

ARCHITECTURES = ["sm_80", "sm_90"]
CUPYS = ["-std=c++17", "-ftz=true", "--device-as-default-execution-space"]  # ours, and what CuPy adds
FILES = sorted(path.stem for path in cuda_compile.SOURCES.glob("*.cu"))
FILES_SOON_COMPILED = [file for file in FILES if "attention" not in file and file != "normalize"]
# What is not for each REAL and WIDTH.
ONLY = {file: [("bf16", 8)] for file in FILES if file.startswith("attention")}
ONLY["rounding"] = [("bf16", 1), ("bf16", 8)]
P, E = cuda_normalize.PACKETS, cuda_normalize.ENTRIES
MOST = f"({P} * WIDTH < {E} ? {P} : {E} / WIDTH)"
SWITCHES = [{"DROPOUT": dropout, "STARTS": starts} for dropout, starts in ((0, 0), (1, 1), (1, 0), (0, 1))]
ATTENTION = [
    {"D": D, "STRIPS": 2 if D <= 64 and not some["DROPOUT"] else 1, "WGMMA": 0, "WARPS": cuda_attention.WARPS} | some
    for D in (16, 64, cuda_attention.LARGEST)
    for some in SWITCHES[: 2 if D == 16 else 4]
]
WARPGROUPS = {  # compiled for sm_90a alone
    file: [{"D": 64, "STRIPS": 1, "WGMMA": 1, "WARPS": warps} | some for some in SWITCHES]
    for file, warps in (("attention", 2 * cuda_attention.WARPS), ("attention_backward", cuda_attention.WARPS))
}
CONSTANTS = {  # what Python passes beside REAL and WIDTH; the largest
    "attention": ATTENTION, "attention_backward": ATTENTION,
    "activation": [{"F": f} for f in ("relu", "relu_squared", "silu", "gelu", "gelu_tanh")],
    "embedding": [{"GROUPS": 1}, {"GROUPS": 8}, {"GROUPS": 32}],
    "columns": [{"WARPS": warps} for warps in (8, 32)],
    "cross_entropy": [{"KEPT": kept} for kept in (1, 0)],
    "normalize": [
        {"CENTRED": centred, "GAIN": gain, "BIAS": centred, "PACKETS": packets, "WARPS": warps, "TEAM": team}
        for centred, gain in ((1, 1), (0, 1), (0, 0))
        for packets, warps, team in ((1, 4, 32), (MOST, 4, 32), (1, 5, 160), (MOST, 8, 256))
    ],
}  # fmt: skip
REGISTERS = {  # a thread's; 65,536 are there for the 2,048 threads of a multiprocessor
    "activation_forward": 48, "activation_backward": 64,
    "add": 40, "multiply": 40, "scale": 24, "multiply_backward": 56,
    "adamw": 56, "squares": 40, "total": 32,
    "attention_forward": 248, "attention_dq": 248, "attention_dkv": 255, "attention_mask": 32,
    "column_sums": 64,
    "losses": 48, "share_of_counted": 32, "mean_loss": 32, "losses_backward": 40, "losses_and_gradients": 64,
    "dropout": 56, "dropout_backward": 40,
    "embedding_forward": 40, "embedding_backward": 40,
    "ranks_in_strips": 32, "counts_before": 48, "starts_from_totals": 32, "positions_by_id": 32,
    "norm_forward": 72, "norm_backward": 255,
    "rotary": 56, "rounding": 24, "widening": 24,
}  # fmt: skip


@functools.cache
def nvrtc():
    """NVIDIA's run-time compiler from its wheel, or None. Its tables must be loaded before it looks for them."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations if spec else ():
        if tables := sorted(Path(place).glob("cu13/lib/libnvrtc-builtins.so.13*")):
            ctypes.CDLL(str(tables[-1]), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(tables[-1].with_name("libnvrtc.so.13")), mode=ctypes.RTLD_GLOBAL)
    return None


@functools.cache
def compiled(code, *options):
    """(error, log, assembly text) of one compilation."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernel.cu", 0, None, None) == 0
    texts = [option.encode() for option in (*options, *CUPYS, "--ptxas-options=-v")]
    error = library.nvrtcCompileProgram(program, len(texts), (ctypes.c_char_p * len(texts))(*texts))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    if not error:
        library.nvrtcGetPTXSize(program, ctypes.byref(size))
        library.nvrtcGetPTX(program, ptx := ctypes.create_string_buffer(size.value))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return error, log.value.decode(), "" if error else ptx.value.decode()


def usage(log):
    """{kernel: (registers, bytes spilled, bytes of stack)} out of ptxas's report."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        stack = int(re.search(r"(\d+) bytes stack frame", part)[1])
        found[part.split("'")[0]] = registers, spilled, stack
    return found


def defined(file, real, width):
    """The options of each compilation that Python may ask for."""
    for constants in CONSTANTS.get(file, [{}]) if (real, width) in ONLY.get(file, [(real, width)]) else ():
        yield options_of(real, width, constants)


def options_of(real, width, constants):
    return [f"-D{key}={value}" for key, value in {"REAL": real, "WIDTH": width, **constants}.items()]


nvrtc_only = pytest.mark.skipif(nvrtc() is None, reason="the wheel nvidia-cuda-nvrtc is not installed")


@nvrtc_only
@pytest.mark.parametrize("architecture", first_of_each(ARCHITECTURES, lambda architecture: "sm"))
@pytest.mark.parametrize(
    ("real", "width"), first_of_each([("bf16", 8), ("bf16", 1), ("float", 4), ("float", 1)], lambda packet: "packet")
)
@pytest.mark.parametrize("file", slow_but(FILES, *FILES_SOON_COMPILED))
def test_it_compiles_without_spills(file, real, width, architecture):
    code = cuda_compile.source(file)
    for options in defined(file, real, width):
        error, log, _ = compiled(code, f"--gpu-architecture={architecture}", *options)
        assert not error, log
        kernels = usage(log)
        assert kernels, log
        for name, (registers, spilled, stack) in kernels.items():
            assert (spilled, stack) == (0, 0), f"{name} {options}: {spilled} bytes spilled, {stack} of stack"
            assert registers <= REGISTERS[name], f"{name} {options}: {registers} registers"


@nvrtc_only
@pytest.mark.parametrize(
    "switches", first_of_each(range(len(SWITCHES)), lambda i: "switches"), ids=lambda i: str(SWITCHES[i])
)
@pytest.mark.parametrize("file", WARPGROUPS)
def test_what_warpgroups_compute_is_not_serialized(file, switches):
    """ptxas says so where it must wait after each wgmma: C7510 to C7520, "Potential Performance Loss"."""
    options = options_of("bf16", 8, WARPGROUPS[file][switches])
    error, log, ptx = compiled(cuda_compile.source(file), *cuda_compile.HOPPER, *options, "--gpu-architecture=sm_90")
    assert not error, log
    assert "Performance Loss" not in log
    for name, (registers, spilled, stack) in usage(log).items():
        assert (spilled, stack) == (0, 0), f"{name} {options}: {spilled} bytes spilled, {stack} of stack"
        assert registers <= REGISTERS[name], f"{name} {options}: {registers} registers"
    for text in ptx.split(".entry ")[1:]:
        assert len(re.findall(r"wgmma\.mma_async\.sync\.aligned\.m64n(32|64)k16", text)) >= 8
        assert "mma.sync" not in text.replace("wgmma.", "")


def test_every_kernel_has_a_bound():
    sources = "".join(map(cuda_compile.source, FILES))
    assert set(re.findall(r"__global__ void (?:__launch_bounds__\([^)]+\)\s+)?(\w+)\(", sources)) == REGISTERS.keys()


@nvrtc_only
@pytest.mark.parametrize(("real", "width"), first_of_each([("bf16", 8), ("float", 4)], lambda packet: "packet"))
@pytest.mark.parametrize("file", FILES)
def test_packets_move_as_one_instruction(file, real, width):
    """16 bytes each: of all loads and stores of global memory only those of single numbers are left as they are."""
    text = (cuda_compile.SOURCES / f"{file}.cu").read_text()
    options = next(defined(file, real, width), None)
    if options is None:
        pytest.skip(f"{file}.cu is for {ONLY[file]} alone")
    error, log, ptx = compiled(cuda_compile.source(file), "--gpu-architecture=sm_80", *options)
    assert not error, log
    moved = re.findall(r"(ld|st)\.global\.v4\.[fu]32", ptx)
    assert moved.count("ld") >= len(re.findall(r"\bload\(", text))
    assert moved.count("st") >= len(re.findall(r"\bstore\(", text))


@nvrtc_only
@pytest.mark.parametrize(
    ("real", "width", "bias", "packets"),
    [("bf16", 8, 1, 3), ("bf16", 8, 1, 4), ("float", 4, 1, 8), ("bf16", 8, 0, 4), ("float", 4, 0, 8)],
)
@pytest.mark.parametrize("architecture", first_of_each(ARCHITECTURES, lambda architecture: "sm"))
def test_as_many_blocks_of_norms_fit_as_there_are(real, width, bias, packets, architecture):
    """All at the same time on 132 multiprocessors: none waits for others to end."""
    constants = {"CENTRED": 1, "GAIN": 1, "BIAS": bias, "PACKETS": packets, "WARPS": cuda_normalize.WARPS, "TEAM": 32}
    options = options_of(real, width, constants)
    error, log, _ = compiled(cuda_compile.source("normalize"), f"--gpu-architecture={architecture}", *options)
    assert not error, log
    blocks = (cuda_normalize.WITH_BIAS if bias else cuda_normalize.BLOCKS)[16 // width]
    assert usage(log)["norm_backward"][0] <= 65536 // (32 * cuda_normalize.WARPS * blocks // 132) // 8 * 8


@nvrtc_only
@pytest.mark.parametrize("options", ATTENTION[::5], ids=str)
@pytest.mark.parametrize("file", ["attention", "attention_backward"])
def test_attention_is_made_of_the_instructions_it_is_written_for(file, options):
    """Tiles come by cp.async, 16 bytes each; exponentials are one instruction; nothing lies in local memory."""
    options = options_of("bf16", 8, options)
    error, log, ptx = compiled(cuda_compile.source(file), "--gpu-architecture=sm_80", *options)
    assert not error, log
    for text in ptx.split(".entry ")[1:]:
        found = {what: text.count(what) for what in ("mma.sync", "ldmatrix", "cp.async.cg", "ex2.approx.ftz.f32")}
        assert min(found.values()) > 0, f"{text[:30]}: {found}"
        assert not re.search(r"\b(ld|st)\.local|ex2\.approx\.f32", text), text[:30]


@nvrtc_only
def test_what_does_not_compile_or_spills_is_noticed():
    assert compiled("__global__ void f() { int x = y; }", "--gpu-architecture=sm_80")[0]
    code = 'extern "C" __global__ void f(float* y, int i) { float x[999]; for (int j = 0; j < 999; j++) x[j] = y[j];'
    error, log, _ = compiled(code + " *y = x[i]; }", "--gpu-architecture=sm_90")
    assert not error
    assert usage(log)["f"][2] >= 999 * 4
