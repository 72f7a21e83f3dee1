"""The whole network and its training, beside the same in PyTorch (tests/helpers/torch_gpt.py)."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small_gpt import configs, differentiate, random_tokens, shaken, tiny

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.optim.muon import Muon
from tinygrad_lm.optim.schedule import warmup_cosine
from tinygrad_lm.testing.checks import agree

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
import torch_gpt  # noqa: E402

every_preset = pytest.mark.parametrize("preset", PRESETS)


def twins(model):
    """Its parameters, copied, as torch leaves."""
    return {name: torch.tensor(p.data, requires_grad=True) for name, p in model.flat.items()}


def same_network(config, B, T, seed):
    model, (x, y) = shaken(config, seed), random_tokens(config, B, T, seed)
    p, x_torch, y_torch = twins(model), torch.tensor(x), torch.tensor(y)
    agree(model(x).data, torch_gpt.logits(config, p, x_torch).detach().numpy(), "logits")
    loss, _ = differentiate(model, x, y)
    expected = torch_gpt.loss(config, p, x_torch, y_torch)
    expected.backward()
    agree(loss, expected.item(), "loss")
    for name in model.flat.trained:
        agree(model.flat[name].grad, p[name].grad.numpy(), f"gradient of {name}", 1e-10)


@given(drawn=configs(), B=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_any_configuration(drawn, B, seed):
    """But where a norm has divided by next to nothing, so that one rounding of the weights is seen in the logits."""
    config, T = drawn
    model, (x, _) = shaken(config, seed), random_tokens(config, B, T, seed)
    logits = model(x).data
    signs = np.random.default_rng(seed).choice([-1, 1], model.flat.data.shape)
    model.flat.data *= 1 + 4e-16 * signs
    assume(abs(model(x).data - logits).max() < 2e-13)
    same_network(config, B, T, seed)


@every_preset
def test_preset(preset):
    same_network(tiny(preset, n_embd=16, block_size=12, vocab_size=31), B=2, T=12, seed=1)


@every_preset
def test_ten_steps_of_adamw_in_single_precision(preset):
    """Clipping, warm-up and cosine, parameter groups and all: the losses of ten updates agree to 1e-5."""
    model = GPT(tiny(preset, n_embd=16, block_size=12, vocab_size=31), seed=2)
    p = twins(model)
    tokens = np.random.default_rng(2).integers(0, 5, 500)  # of 31: that much can be learned in ten steps
    batches = Batches(tokens, batch_size=4, block_size=12)
    tables = [w for name, w in model.flat.items() if name in ("wte.weight", "wpe.weight")]
    others = [w for name, w in model.flat.items() if name not in ("wte.weight", "wpe.weight")]
    ours = [AdamW(ws, lr, (0.9, 0.95), weight_decay=0.3) for ws, lr in ((tables, 3e-2), (others, 1e-2))]

    embeddings = [w for name, w in p.items() if name in ("wte.weight", "wpe.weight")]
    matrices = [w for name, w in p.items() if w.ndim == 2 and name not in ("wte.weight", "wpe.weight")]
    vectors = [w for w in p.values() if w.ndim == 1]
    groups = [
        {"params": embeddings, "lr": 3e-2},
        {"params": matrices},
        *([{"params": vectors, "weight_decay": 0.0}] if vectors else []),
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.3)
    cosine = lambda step: 0.5 if step < 1 else 0.55 + 0.45 * math.cos(math.pi * (step - 1) / 9)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, cosine)
    clipped = 0
    for step in range(10):
        x, y = batches(step)
        loss, _ = differentiate(model, x, y)
        norm = clip_gradients(model.flat, 0.5)
        for optimizer in ours:
            optimizer.step(warmup_cosine(step, 10, warmup=1))
        expected = torch_gpt.loss(model.config, p, torch.tensor(x), torch.tensor(y))
        assert abs(loss - expected.item()) < 1e-5, step
        expected.backward()
        right = torch.nn.utils.clip_grad_norm_(p.values(), 0.5).item()
        assert abs(norm - right) < 1e-4 * right, step
        clipped += right > 0.5
        adamw.step()
        schedule.step()
        adamw.zero_grad()
    assert clipped  # else the test would not see a wrong clipping
    assert loss < math.log(31)


@every_preset
def test_ten_steps_of_muon(preset):
    """In float64 the weights agree, not just the losses."""
    model = shaken(tiny(preset), seed=3)
    p = twins(model)
    names = [name for name in p if name.startswith("h.") and p[name].ndim == 2]
    muon = Muon([model.flat[name] for name in names], lr=0.05, momentum=0.9)
    momenta = {name: torch.zeros_like(p[name]) for name in names}
    for step in range(10):
        x, y = random_tokens(model.config, B=2, T=5, seed=step)
        differentiate(model, x, y)
        muon.step(factor=1 / (step + 1))
        torch_gpt.loss(model.config, p, torch.tensor(x), torch.tensor(y)).backward()
        with torch.no_grad():
            for name in names:
                torch_muon(p[name], momenta[name], lr=0.05 / (step + 1))
        for w in p.values():
            w.grad = None
    for name, w in p.items():
        agree(model.flat[name].data, w.detach().numpy(), name, 1e-10)


def torch_muon(w, m, lr):
    """Jordan's update, with Newton and Schulz's polynomial written by singular values: no products to get wrong."""
    m.mul_(0.9).add_(w.grad)
    U, S, Vh = torch.linalg.svd(w.grad + 0.9 * m, full_matrices=False)
    S = S / (S.norm() + 1e-7)
    for a, b, c in ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518)):
        S = a * S + b * S**3 + c * S**5
    w -= lr * max(1, w.shape[1] / w.shape[0]) ** 0.5 * (U * S) @ Vh
