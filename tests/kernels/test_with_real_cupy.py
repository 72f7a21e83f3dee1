"""The real CuPy calls stand-ins of CUDA, in processes of their own: see cupy_without_a_driver.py.

Skipped where CuPy is not installed (beside the extra `test`, pip install cupy-cuda13x is enough), or a GPU is there.
Each launch of each program is checked against what CUDA and the compiled kernel allow.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from slow import first_of_each, slow_but

TESTS = Path(__file__).parents[1]
PRESETS = ["gpt2", "modern"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """run(name, *arguments) -> (status, what came on stderr)"""
    if not (find_spec("cupy") and find_spec("nvidia") and sys.platform == "linux" and shutil.which("gcc")):
        pytest.skip("CuPy, NVIDIA's compiler, Linux or gcc is missing")
    folder = tmp_path_factory.mktemp("programs")
    at_once = "PYTEST_XDIST_WORKER" in os.environ  # then all share what has been compiled
    cache = tmp_path_factory.getbasetemp().parent / "cupy" if at_once else folder / "cupy"
    paths = os.pathsep.join(map(str, [TESTS.parent, TESTS / "helpers", TESTS / "gpu_simulator"]))
    environment = os.environ | {"PYTHONPATH": paths, "CUPY_CACHE_DIR": str(cache), "MPLCONFIGDIR": str(folder)}
    look = [sys.executable, "-c", "import cupy; print(cupy.cuda.is_available())"]
    if subprocess.run(look, env=environment, capture_output=True, check=True).stdout.strip() == b"True":
        pytest.skip("there is a GPU, and what this looks at happens on it")

    def run(name, *arguments):
        command = [sys.executable, TESTS / "gpu_simulator" / "real_cupy_programs.py", name, *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300)
        return done.returncode, done.stderr.decode()

    return run


def ends_well(outcome):
    status, told = outcome
    assert status == 0, told[-3000:]


@pytest.mark.parametrize("preset", slow_but(PRESETS, "modern"))
def test_a_recorded_step_is_the_warm_up_and_nothing_else(programs, preset):
    """All on the graph's stream, inside the capture; no copy from or to the host, no wait, no memory from CUDA."""
    ends_well(programs("captured_step", preset))


def test_so_it_is_with_a_second_rank(programs):
    """What both exchange, through CuPy's own module of NCCL, is in the recording, and their connection comes before."""
    ends_well(programs("captured_step_of_two_ranks", "modern"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_so_it_is_in_large(programs, preset):
    """Where blocks and threads come near what CUDA allows."""
    ends_well(programs("large_step", preset))


@pytest.mark.slow
def test_so_it_is_from_the_command_line(programs):
    ends_well(programs("command_line"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_the_memory_of_a_recorded_step_is_nobody_elses(programs, preset):
    """After evaluation, generation and checkpoints, too."""
    ends_well(programs("memory_of_a_graph", preset))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", PRESETS)
def test_other_dtypes_evaluate_generate_and_save(programs, preset, dtype):
    ends_well(programs("used", preset, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", PRESETS)
def test_other_dtypes_train(programs, preset, dtype):
    ends_well(programs("trained", preset, dtype))


@pytest.mark.parametrize("dtype", slow_but(["float32", "float64", "bfloat16"], "bfloat16"))
def test_every_operation_gives_shapes_and_dtypes(programs, dtype):
    ends_well(programs("operations", dtype))


@pytest.mark.parametrize("dtype", slow_but(["float32", "bfloat16"], "bfloat16"))
def test_every_kernel_is_launched_on_larger_arrays(programs, dtype):
    ends_well(programs("larger", dtype))


@pytest.mark.parametrize(
    ("fault", "program", "told"),
    first_of_each(
        [
            ("a thread", ["captured_step", "modern"], "outside of the graph's stream"),
            ("short-lived tables", ["memory_of_a_graph", "modern"], "handed out again"),
            ("a loss that is read", ["captured_step", "gpt2"], "D2H transfers are disallowed"),
            ("an array of the host", ["captured_step", "gpt2"], "H2D transfers are disallowed"),
            ("an array that is kept", ["captured_step", "gpt2"], "launches in the warm-up"),
            ("a number of the step", ["captured_step", "gpt2"], "was recorded as"),
            ("another stream", ["captured_step_of_two_ranks", "gpt2"], "outside of the graph's stream"),
            ("too many threads", ["captured_step", "gpt2"], "(1056, 1, 1) threads"),
        ],
        lambda row: "a fault",
    ),
)
def test_planted_faults_are_noticed(programs, fault, program, told):
    status, found = programs("planted", fault, *program)
    assert status == 1
    assert told in found.splitlines()[-1], found[-3000:]
