"""The peer in PyTorch is the same network as our GPT, with dropout where nanoGPT has it."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch_nanogpt import TorchGPT, TorchTrainer  # noqa: E402

from tinygrad_lm.backend import random  # noqa: E402
from tinygrad_lm.data.loader import Batches  # noqa: E402
from tinygrad_lm.models.config import PRESETS  # noqa: E402
from tinygrad_lm.models.gpt import GPT  # noqa: E402
from tinygrad_lm.ops import cross_entropy  # noqa: E402
from tinygrad_lm.train.config import TrainConfig  # noqa: E402
from tinygrad_lm.train.trainer import Trainer  # noqa: E402

SHAPE = replace(PRESETS["gpt2"], vocab_size=31, block_size=12, n_layer=2, n_head=2, n_embd=16)


def twins(shape=SHAPE):
    model, peer = GPT(shape, seed=1), TorchGPT(shape)
    for i in range(shape.n_layer):
        model.flat[f"h.{i}.mlp.c_fc.weight"].data *= 30  # so that the kinds of GELU differ
    peer.load(model.flat)
    return model, peer


def tokens(seed=0):
    x = np.random.default_rng(seed).integers(0, 31, (3, 13))
    return x[:, :-1], x[:, 1:]


@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients(bias):
    model, peer = twins(replace(SHAPE, bias=bias))
    x, y = tokens()
    loss = cross_entropy(model(x), y)
    loss.backward()
    found = peer(torch.from_numpy(x), torch.from_numpy(y))
    found.backward()
    assert found.item() == pytest.approx(loss.item(), abs=1e-5)
    for name in ("wte.weight", "wpe.weight", "h.1.ln_2.weight", "ln_f.weight"):
        right = dict(peer.named_parameters())[name].grad.numpy()
        np.testing.assert_allclose(model.flat[name].grad, right, atol=1e-5, err_msg=name)


def test_dropout_where_nanogpt_has_it(monkeypatch):
    """Once after the embeddings, in each block in attention and after both parts; none in an evaluation."""
    _, peer = twins(replace(SHAPE, dropout=0.2))
    asked = []
    plain, attend = torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p: asked.append(("x", p)) or plain(x, p))
    watched = lambda *qkv, dropout_p, is_causal: (
        asked.append(("attention", dropout_p)) or attend(*qkv, is_causal=is_causal)
    )
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    x, y = tokens()
    peer(torch.from_numpy(x), torch.from_numpy(y))
    assert asked == [("x", 0.2), *[("attention", 0.2), ("x", 0.2), ("x", 0.2)] * 2]
    trainer = TorchTrainer(peer, TrainConfig(10, 3))
    first = trainer.evaluate([(x, y)])
    assert {p for _, p in asked[7:]} == {0.0}
    assert trainer.evaluate([(x, y)]) == first
    assert peer.training


def test_modes_and_precision(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "compile", lambda model, **options: asked.update(options) or model)
    x, y = tokens()
    losses = {}
    for mode, bf16 in ((None, False), ("reduce-overhead", False), (None, True)):
        trainer = TorchTrainer(twins()[1], TrainConfig(10, 3, lr=1e-2), mode, bf16=bf16)
        losses[mode, bf16] = [trainer.step(x, y, 1.0) for _ in range(5)]
    assert asked == {"mode": "reduce-overhead", "dynamic": False}
    exact, compiled, rounded = losses.values()
    assert exact == compiled
    assert exact != rounded
    np.testing.assert_allclose(rounded, exact, rtol=1e-2)
    assert exact[-1] < exact[0] - 0.1


@pytest.mark.slow
def test_bfloat16_moves_the_losses_no_further_than_autocast():
    """Twenty steps of four seeds, in bfloat16 beside float32: our products of rounded numbers, and PyTorch's autocast.

    A network amplifies what it is off by, ours as theirs, by up to ten times in such a run: means are compared.
    """
    shape = replace(PRESETS["nanogpt-cpu"], vocab_size=20, block_size=16, n_layer=2, n_embd=64, dropout=0.0)
    distances = {"ours": [], "PyTorch's": []}
    for seed in range(4):
        config = TrainConfig(100, 8, lr=1e-3, warmup=10, seed=seed)
        tokens = random(seed, "test").integers(0, 20, 30).astype(np.int32)
        batches = Batches(np.tile(tokens, 40), 8, shape.block_size, seed)
        losses = {}
        for dtype in ("float32", "bfloat16"):
            trainer = Trainer(GPT(shape, seed, dtype), batches, config)
            peer = TorchGPT(shape)
            peer.load(GPT(shape, seed).flat)
            peer = TorchTrainer(peer, config, bf16=dtype == "bfloat16")
            losses["ours", dtype] = [trainer.step(i)[0] for i in range(20)]
            losses["PyTorch's", dtype] = [peer.step(*batches(i), config.rate_factor(i)) for i in range(20)]
        assert losses["ours", "float32"][-1] < losses["ours", "float32"][0] - 0.5  # it learns
        for whose, found in distances.items():
            found += list(np.abs(np.subtract(losses[whose, "bfloat16"], losses[whose, "float32"])))
    means = {whose: np.mean(found) for whose, found in distances.items()}
    assert 0 < means["ours"] < means["PyTorch's"]
