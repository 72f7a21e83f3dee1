"""One thread a test process, a reproducible Hypothesis, and where the real data are."""

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # pytest-xdist runs one process a core; more threads only get in the way

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("normal", max_examples=100, derandomize=False, **common)
settings.register_profile("thorough", max_examples=1000, **common)
settings.load_profile("normal")


@pytest.fixture(scope="session")
def shakespeare():
    """The path of tiny Shakespeare, under $TINYGRAD_LM_DATA."""
    path = Path(os.environ.get("TINYGRAD_LM_DATA", "")) / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("TINYGRAD_LM_DATA names no folder with tinyshakespeare.txt")
    return path
