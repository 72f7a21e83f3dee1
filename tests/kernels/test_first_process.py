"""The process that compiles the kernels computes the same bits as those that load what it has compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP = """
import hashlib

import numpy as np
from small_gpt import shaken, tiny

from tinygrad_lm import kernels
from tinygrad_lm.nn.context import Context

kernels.enable()
found = hashlib.sha256()
for preset in ("gpt2", "modern"):
    model = shaken(tiny(preset, n_embd=16, block_size=8), dtype=np.float32)
    tokens = np.random.default_rng(0).integers(0, 7, (4, 9))
    model.loss(tokens[:, :-1], tokens[:, 1:], Context(key=(0, 0, 0))).backward()
    found.update(model.flat.grad)
print(found.hexdigest())
"""


@pytest.mark.slow
def test_the_first_process_has_the_bits_of_all_others(tmp_path):
    """Seen where a kernel was compiled twice, by itself and into what Numba keeps."""
    pytest.importorskip("numba", reason="without Numba nothing is compiled")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    environment = os.environ | {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = lambda: subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True
    )
    first, second = run(), run()
    assert "compiling the CPU kernels" in first.stderr
    assert "compiling" not in second.stderr
    assert first.stdout == second.stdout
