"""One thread a test process, the quick profile and the whole, and where the real data are.

Without --runslow the tests marked slow are left out, most of the parameters of those that have many, and Hypothesis
draws fewer examples, the same in every run. Where -k chooses the tests, none is left out but the slow ones. Where -m
chooses the tests, it has the last word about slow ones too, and Hypothesis draws as many as in the whole.
"""

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # pytest-xdist runs one process a core; more threads only get in the way

from pathlib import Path  # noqa: E402

import cuda_emulator  # noqa: E402, F401  (registers the CUDA kernels)
import pytest  # noqa: E402
import strict_array  # noqa: E402
from cuda_checks import gpu, small_blocks  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from slow import LEFT_OUT, NOTHING_QUICK, few_of_each  # noqa: E402

from tinygrad_lm import backend, kernels  # noqa: E402
from tinygrad_lm.data.tokenizers.tokenizer import GPT2Tokenizer  # noqa: E402

kernels.enable()  # as training does, so that no test depends on which came before it

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("quick", max_examples=10, derandomize=True, **common)
settings.register_profile("whole", max_examples=50, **common)
settings.register_profile("thorough", max_examples=1000, **common)


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the slow tests too, and draw 50 examples, not 10")


def quick(config):
    """Whether the slow tests are left out."""
    return not (config.option.runslow or config.option.markexpr)


def pytest_configure(config):
    settings.load_profile("quick" if quick(config) else "whole")


@pytest.hookimpl(trylast=True)  # after -k has chosen
def pytest_collection_modifyitems(config, items):
    others = [item for item in items if not item.get_closest_marker("slow")]
    config.stash[NOTHING_QUICK] = {item.path for item in items} - {item.path for item in others}
    if quick(config):
        kept = set(others if config.option.keyword else few_of_each(others))
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        config.stash[LEFT_OUT] = len(items) - len(kept)
        items[:] = [item for item in items if item in kept]
    if hasattr(config, "workeroutput"):
        config.workeroutput["left out"] = config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Of a worker of pytest-xdist: each collects all tests and leaves out the same."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


@pytest.fixture(scope="session")
def shakespeare():
    """The path of tiny Shakespeare, under $TINYGRAD_LM_DATA."""
    path = Path(os.environ.get("TINYGRAD_LM_DATA", "")) / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("TINYGRAD_LM_DATA names no folder with tinyshakespeare.txt")
    return path


@pytest.fixture(scope="session")
def gpt2():
    """GPT-2's tokenizer, from tiktoken's cache in $TIKTOKEN_CACHE_DIR."""
    if not os.environ.get("TIKTOKEN_CACHE_DIR"):
        pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
    return GPT2Tokenizer()


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """'cuda': a GPU, or the emulator in its place."""
    if request.param == "cuda":
        gpu()
        yield "cuda"
        return
    with small_blocks() as patch:
        patch.setattr(backend, "_cupy", lambda: strict_array)
        yield "cuda"


def pytest_terminal_summary(terminalreporter, config):
    table_of_mutants(terminalreporter)
    if quick(config):
        terminalreporter.write_line(
            f"quick profile: {config.stash.get(LEFT_OUT, 0)} tests left out, 10 examples of each property; "
            "everything: python -m pytest --runslow",
            yellow=True,
        )


def table_of_mutants(terminalreporter):
    """Say of the mutants that tests recorded who was planted, and which checks noticed."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome) if r.when == "call"]
    rows = [value for report in reports for key, value in report.user_properties if key == "mutant"]
    if not rows:
        return
    planted = {}
    for title, _, *killers in rows:
        planted.setdefault(title, []).append(killers)
    terminalreporter.section("mutants: killed / planted, and which checks noticed how many")
    for title, all_killers in planted.items():
        counts = {
            check: sum(check in killers for killers in all_killers) for killers in all_killers for check in killers
        }
        noticed = ", ".join(f"{check} {n}" if len(all_killers) > 1 else check for check, n in counts.items())
        killed = sum(map(bool, all_killers))
        terminalreporter.write_line(
            f"{killed:4} / {len(all_killers):<4}{title:<58} {noticed}", red=killed < len(all_killers)
        )
    killed = sum(bool(killers) for _, _, *killers in rows)
    terminalreporter.write_line(f"{killed:4} / {len(rows):<4}in all", bold=True)
