"""Training steps, cut into micro-batches and threads, by the interfaces before the last change: to be adapted."""

import math

import numpy as np
import pytest
import torch
import torch_gpt
from small_gpt import Given, differentiate, random_tokens, shaken, tiny
from tinygrad_lm.train.loop import Trainer

from tinygrad_lm.data.loader import Batches, document_starts
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig

every_preset = pytest.mark.parametrize("preset", PRESETS)


def small(**options):
    return GPT(tiny("gpt2", n_layer=1, n_kv_head=1), **options)


def twins(model):
    """Its parameters, copied, as torch leaves."""
    return {name: torch.tensor(p.data, requires_grad=True) for name, p in model.flat.items()}


class Listener:
    """In an optimizer's place: what gradient arrives?"""

    def __init__(self, parameters):
        self.parameters = parameters

    def step(self, factor):
        self.heard = self.parameters.grad.copy()


def test_collecting_moves_a_replicas_gradients():
    model = small()
    replica = model.replica()
    ours, theirs = np.random.default_rng(0).standard_normal((2, model.flat.grad.size)).astype("float32")
    model.flat.grad[...], replica.flat.grad[...] = ours, theirs
    model.flat.collect(replica.flat)
    assert np.array_equal(model.flat.grad, ours + theirs)
    assert not replica.flat.grad.any()


def test_a_replica_shares_weights_and_not_gradients():
    model = shaken(tiny("gpt2", dropout=0.5))
    x, y = random_tokens(model.config, B=2, T=5)
    _, gradient = differentiate(model, x, y, noise=(1, 2))
    twin = model.replica()
    assert list(twin.flat) == list(model.flat)
    assert not twin.flat.grad.any()
    _, again = differentiate(twin, x, y, noise=(1, 2))
    assert np.array_equal(gradient, again)  # dropout's noise, a function of the module's name, included
    twin.flat.grad[...] = 0
    assert np.array_equal(model.flat.grad, gradient)
    model.flat.data += 1.0
    assert np.array_equal(twin(x).data, model(x).data)
    assert twin.flat.data is model.flat.data
    for name, p in twin.flat.items():
        assert np.shares_memory(p.data, model.flat[name].data)
        assert not np.shares_memory(p.grad, model.flat[name].grad)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_micro_batches_and_threads_add_up_to_the_full_batch(preset, parts, threads):
    model = shaken(tiny(preset))
    x, y = random_tokens(model.config, B=5 * parts, T=5)  # 5 rows for 2 or 3 threads: unequal shares
    expected = differentiate(model, x, y)
    model.flat.zero_grad()
    batches = Given(lambda step, part: (x[5 * part : 5 * part + 5], y[5 * part : 5 * part + 5]))
    trainer = Trainer(model, batches, TrainConfig(1, batch_size=5, accumulate=parts, clip=0.0), threads)
    listener = Listener(model.flat)
    trainer.optimizers = [listener]
    with workers(threads):
        for step in range(2):  # the second finds no gradients left over from the first
            loss, norm = trainer.step(step)
            agree(loss, expected[0], "loss")
            agree(listener.heard, expected[1], "gradient")
            agree(norm, np.sqrt((expected[1] ** 2).sum()), "norm")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_training_step_stays_inside_documents(threads):
    """Where its batches have a token of documents; each thread finds the starts of its own share."""
    model = shaken(tiny("modern"))
    x, y = random_tokens(model.config, B=5, T=5)
    eot = int(np.bincount(x.ravel()).argmax())
    starts = document_starts(x, eot)
    assert len(np.unique(starts, axis=0)) > 2
    loss = cross_entropy(model(x, starts=starts), y)
    loss.backward()
    expected = model.flat.grad.copy()
    batches = Batches(np.zeros(6, int), 5, 5)
    assert batches.document_token is None
    batches.document_token = eot
    model.flat.zero_grad()
    with pytest.MonkeyPatch.context() as patch, workers(threads):
        patch.setattr(Batches, "__call__", lambda self, step, part: (x, y))
        trainer = Trainer(model, batches, TrainConfig(1, batch_size=5, clip=0.0), threads)
        trainer.optimizers = [listener := Listener(model.flat)]
        agree(trainer.step(0)[0], loss.item(), "loss")
    agree(listener.heard, expected, "gradient")


@every_preset
def test_ten_steps_of_adamw_in_single_precision(preset):
    """Clipping, warm-up and cosine, parameter groups and all: the losses of ten updates agree to 1e-5."""
    model = GPT(tiny(preset, n_embd=16, block_size=12, vocab_size=31), seed=2)
    p = twins(model)
    tokens = np.random.default_rng(2).integers(0, 5, 500)  # of 31: that much can be learned in ten steps
    batches = Batches(tokens, batch_size=4, block_size=12)
    config = TrainConfig(10, 4, lr=1e-2, embedding_lr=3e-2, betas=(0.9, 0.95), clip=0.5, warmup=1, weight_decay=0.3)
    trainer = Trainer(model, batches, config)

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
        loss, _ = trainer.step(step)
        expected = torch_gpt.loss(model.config, p, *map(torch.tensor, batches(step)))
        assert abs(loss - expected.item()) < 1e-5, step
        expected.backward()
        clipped += torch.nn.utils.clip_grad_norm_(p.values(), 0.5).item() > 0.5
        adamw.step()
        schedule.step()
        adamw.zero_grad()
    assert clipped  # else the test would not see a wrong clipping
    assert loss < math.log(31)
