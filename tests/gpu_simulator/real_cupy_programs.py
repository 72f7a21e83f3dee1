"""What test_with_real_cupy.py runs, each in a process of its own: python real_cupy_programs.py NAME ARGUMENTS."""

import re
import sys
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cupy_without_a_driver as without
import fake_cuda
import fake_nccl_library
import numpy as np
import small_run
from cupy_without_a_driver import cupy
from real_cupy_faults import FAULTS
from real_cupy_operations import larger, operations
from small_gpt import tiny

from tinygrad_lm import kernels
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.distributed.communicator import Alone, Communicator
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.kernels.cuda.graph import Graph
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.trainer import Trainer

TALK = {"ncclSend", "ncclRecv", "ncclBroadcast"}
WORK = {"launch", "memsetAsync", "memcpyAsync on the device", "cublasLtMatmul"} | TALK
# All else that may be called while a graph is recorded.
BESIDE = {"cublasLtMatmulDescSetAttribute", "ncclGroupStart", "ncclGroupEnd"}
TOKENS = np.random.default_rng(0).integers(0, 7, 2000).astype(np.int32)
DOCUMENT = 3
PROGRAMS = {"operations": operations, "larger": larger}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


SMALL = {"n_embd": 32, "n_head": 2, "dropout": 0.1, "block_size": 64}  # heads of 16: their attention has a kernel
ALONE = Alone()
LARGE = SMALL | {"n_layer": 1, "n_embd": 768, "n_head": 12, "block_size": 1024, "vocab_size": 50304}  # GPT-2's


def trainer(preset, dtype, sizes=SMALL, B=2, seed=0, ranks=ALONE):
    """With dropout, documents, two batches a step."""
    shape, T = replace(tiny(preset), **sizes), sizes["block_size"]
    config = TrainConfig(**RECIPES[preset] | {"steps": 20, "batch_size": B, "accumulate": 2})
    batches = Batches(np.resize(TOKENS, max(len(TOKENS), 2 * B * T + 1)), B, T, accumulate=2)
    batches.document_token = DOCUMENT
    return Trainer(GPT(shape, seed, dtype, "cuda"), batches, config, ranks.size, ranks=ranks)


@contextmanager
def watched():
    """Within the block: a list of (graph, what was called) of each run of a step in Python."""
    runs, run = [], Graph.run

    def noted(graph, function):
        first = len(fake_cuda.calls)
        run(graph, function)
        runs.append((graph, fake_cuda.calls[first:]))

    Graph.run = noted
    try:
        yield runs
    finally:
        Graph.run = run


def check_recorded(runs):
    """Two warm-ups, and a recording of the same work, all of it in the capture and nothing else. Returns it."""
    assert len(runs) == 3, f"a step ran {len(runs)} times"
    (_, warm), (graph, recorded) = runs[1:]
    others = {call.name for call in recorded} - WORK - BESIDE
    assert not others, f"while a graph was recorded: {others}"
    astray = [call for call in recorded if call.name in WORK and call.stream != graph.stream.ptr]
    assert not astray, f"{len(astray)} outside of the graph's stream, such as {astray[0]}"
    assert all(call.capturing for call in recorded)
    before, work = ([call for call in calls if call.name in WORK] for calls in (warm, recorded))
    assert len(before) == len(work), f"{len(before)} launches in the warm-up, {len(work)} recorded"
    for call, other in zip(before, work, strict=True):  # but for where, and that it is recorded
        assert call[:1] + call[3:6] + call[7:] == other[:1] + other[3:6] + other[7:], f"{call}\nwas recorded as {other}"
    assert {"launch", "cublasLtMatmul"} <= {call.name for call in recorded}
    return recorded


@program
def captured_step(preset):
    with watched() as runs:
        trained = trainer(preset, "bfloat16")
        trained.steps(0, 5)
    recorded = check_recorded(runs)
    missing = {"attention_forward", "attention_dkv", "adamw", "total", "dropout_backward", "widening"} - {
        call.kernel for call in recorded
    }
    assert not missing, f"not launched: {missing}"


class Halved(Communicator):
    """One of two ranks; the other one says what this one does."""

    rank, size = 0, 2

    def gather(self, x):
        return [x, x]


@program
def captured_step_of_two_ranks(preset):
    fake_nccl_library.load(without.folder.name)
    ranks = Halved()
    with watched() as runs:
        trainer(preset, "bfloat16", ranks=ranks).steps(0, 5)
    recorded = [call for call in check_recorded(runs) if call.name.startswith("nccl")]
    names = " ".join(call.name.removeprefix("nccl") for call in recorded)
    assert re.fullmatch("(GroupStart Send Recv GroupEnd ){4}( ?GroupStart( Broadcast)+ GroupEnd)+", names), names
    assert {call.numbers[2] for call in recorded if call.name in TALK} == {0, 1}  # two parts; one partner
    connections = [call for call in fake_cuda.calls if call.name == "ncclCommInitRank"]
    assert [(call.numbers, call.capturing) for call in connections] == [((2, 7, 0), False)]
    transport = ranks.nccl
    assert transport.trouble() is None
    fake_nccl_library.breaks()
    assert transport.trouble().startswith("NCCL cannot send between GPUs any more: NCCL_ERROR_")


@program
def large_step(preset):
    """65,536 positions, one more than a grid is wide but along x."""
    with watched() as runs:
        trainer(preset, "bfloat16", LARGE, B=64, seed=None).steps(0, 3)
    check_recorded(runs)


@program
def command_line():
    """examples/pretrain_shakespeare.py to its end, resumed, and writing."""
    small_run.MODEL["n_embd"] = 32  # heads of 16: it is captured
    with tempfile.TemporaryDirectory() as folder, watched() as runs:
        text, run = Path(folder, "text.txt"), Path(folder, "run")
        text.write_text(small_run.TEXT)
        on_gpu = ["--device", "cuda", "--dtype", "bfloat16", "--data", text, "--preset", "tiny", "--out", run]
        assert small_run.pretrain(*on_gpu, "--steps", 7, "--eval-every", 3) == 0
        check_recorded(runs)
        assert small_run.pretrain("--resume", run, "--device", "cuda", "--steps", 11) == 0
        check_recorded(runs[3:])
        assert small_run.write(run, "--prompt", "the", "--tokens", 20, "--device", "cuda") == 0


@program
def memory_of_a_graph(preset):
    """What a graph's launches were given is handed to nobody else as long as it is replayed."""
    trained = trainer(preset, "bfloat16")
    use(trained)
    with watched() as runs:
        trained.steps(0, 5)
    held = {pointer for call in check_recorded(runs) for pointer in call.pointers}
    first = len(without.owners.handed)
    use(trained)
    kept = [cupy.empty(size, np.uint8) for size in range(512, 2**16, 512) for _ in range(20)]  # fills what is free
    again = [
        (start, size) for start, size in without.owners.handed[first:] if any(start <= p < start + size for p in held)
    ]
    assert not again, f"{len(again)} pieces of the graph's memory were handed out again: {again[:3]}"
    del kept
    cupy.get_default_memory_pool().free_all_blocks()
    assert all(map(fake_cuda.owned, held)), "the graph's memory was freed"
    trained.steps(5, 5)


def use(trained):
    """Evaluate, generate beyond the context, and save."""
    evaluate(trained.model, TOKENS[:500], 2, DOCUMENT)
    assert len(list(generate(trained.model, [1, 2, 3], 100))) == 100
    trained.load_state(trained.state())


@program
def used(preset, dtype):
    use(trainer(preset, dtype))


@program
def trained(preset, dtype):
    of_dtype = trainer(preset, dtype)
    assert len(of_dtype.steps(0, 5) + of_dtype.steps(5, 5)) == 10
    for arrays in of_dtype.state().values():
        assert {x.dtype.name for x in arrays.values()} <= {dtype, "int64"}


@program
def planted(fault, name, *arguments):
    owner, attribute, value = FAULTS[fault]
    setattr(owner, attribute, value)
    PROGRAMS[name](*arguments)


def main(name, *arguments):
    kernels.enable()
    try:
        PROGRAMS[name](*arguments)
    finally:
        assert not without.refused, "\n".join(without.refused[:10])


if __name__ == "__main__":
    status = 1
    try:
        status = main(*sys.argv[1:]) or 0
    except BaseException:
        traceback.print_exc()
    without.leave(status)
