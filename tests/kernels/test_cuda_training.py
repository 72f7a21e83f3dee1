"""A training step with every CUDA kernel in its place: the losses are the CPU's but for rounding."""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import cuda_emulator
import numpy as np
import pytest
import strict_array
from slow import first_of_each
from small_gpt import tiny

from tinygrad_lm import backend
from tinygrad_lm.backend import array_module
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.engine.op import Op
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.trainer import Trainer

TOKENS = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)
WANTED = {
    "gpt2": {"linear_cross_entropy", "layer_norm", "gelu_tanh", "dropout", "linear"},
    "modern": {"cross_entropy", "rms_norm", "relu_squared", "rotary", "linear"},
}


def losses(device, preset, steps):
    config = TrainConfig(**RECIPES[preset] | {"steps": steps, "batch_size": 2})
    shape = replace(tiny(preset), dropout=0.3)
    trainer = Trainer(GPT(shape, device=device), Batches(TOKENS, 2, 5), config)
    return [trainer.step(step) for step in range(steps)]


@pytest.mark.parametrize("preset", first_of_each(WANTED, lambda preset: "preset"))
def test_losses_and_gradient_norms_agree_with_the_cpus(device, preset, monkeypatch):
    cuda_emulator.LAUNCHED.clear()
    asked = set()
    for name in cuda_emulator.KERNELS:
        op = Op.registry[name]
        if kernel := op.implementations.get(("cuda", "float32")):
            watched = lambda *args, name=name, kernel=kernel, **options: asked.add(name) or kernel(*args, **options)
            monkeypatch.setitem(op.implementations, ("cuda", "float32"), watched)
    steps, tolerance = (5, 2e-5) if array_module(backend.zeros(1, "f4", device)) is strict_array else (50, 1e-3)
    found = losses(device, preset, steps)
    np.testing.assert_allclose(found, losses("cpu", preset, steps), rtol=tolerance)
    assert asked >= WANTED[preset] | {"embedding"}
    assert not cuda_emulator.LAUNCHED or "cublasLtMatmul" in cuda_emulator.LAUNCHED


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_no_cuda_kernel_is_registered():
    program = "import sys; from tinygrad_lm import kernels; kernels.enable(); print(*sys.modules)"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert "tinygrad_lm.kernels" in ended.stdout.split()
    assert "kernels.cuda" not in ended.stdout
