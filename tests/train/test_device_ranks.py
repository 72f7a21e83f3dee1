"""Steps on several GPUs: the bits of one that has the same shares, captured with all that the ranks exchange."""

from dataclasses import replace
from types import SimpleNamespace

import fake_nccl
import numpy as np
import pytest
from small_gpt import tiny
from strict_capture import Graph
from thread_ranks import together

from tinygrad_lm.backend import to_device
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.distributed import nccl, sharded
from tinygrad_lm.distributed.communicator import Alone
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

TOKENS = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)
EMULATED = pytest.mark.parametrize("device", ["emulated"], indirect=True)
B = 5  # shares of it are uneven


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(nccl, "library", lambda: fake_nccl)
    monkeypatch.setattr(sharded, "BLOCK", 64)  # so that parts of so small a model are not empty
    fake_nccl.calls.clear()


def trainer_of(preset, device, ranks, shares, dtype="bfloat16", accumulate=1):
    """Of a GPT whose attention has a kernel: one head of 16."""
    shape = replace(tiny(preset), n_layer=1, n_embd=16, n_head=1, dropout=0.3, block_size=8)
    settings = {"steps": 20, "batch_size": B, "accumulate": accumulate, "clip": 0.1, "lr": 0.01, "warmup": 0}
    batches = Batches(TOKENS, B, 8, accumulate=accumulate)
    batches.document_token = 3
    config = TrainConfig(**RECIPES[preset] | settings)
    return Trainer(GPT(shape, 0, dtype, device), batches, config, shares, threads=2, ranks=ranks)


def course(trainer, steps):
    """[(loss, norm), …] of some steps, and weights and moments after them, which rank 0 has."""
    found = trainer.steps(steps.start, len(steps))
    state = {name: {key: x.copy() for key, x in part.items()} for name, part in trainer.state().items()}
    return found, state


def same(found, expected):
    assert found[0] == expected[0]
    for name, part in expected[1].items():
        for key, x in part.items():
            assert found[1][name][key].tobytes() == x.tobytes(), f"{name} {key}"


@pytest.mark.slow
@EMULATED
@pytest.mark.parametrize(("preset", "shares", "accumulate"), [("modern", 2, 2), ("gpt2", 4, 1)])
def test_many_ranks_have_the_bits_of_one(device, preset, shares, accumulate, monkeypatch):
    """Dropout, documents, batches added up, clipping, AdamW and Muon; two steps in Python, then a recorded one."""
    replays = []
    monkeypatch.setattr(Graph, "launch", lambda *args, launch=Graph.launch: replays.append(launch(*args)))
    of = lambda ranks: course(trainer_of(preset, device, ranks, shares, accumulate=accumulate), range(4))
    expected = of(Alone())
    assert max(norm for _, norm in expected[0]) > 0.1  # something is clipped
    for size in {2, shares}:
        replays.clear()
        fake_nccl.calls.clear()
        found = together(size, of, in_turns=True)
        same(found[0], expected)
        assert all(losses == expected[0] for losses, _ in found)
        assert len(replays) == 2 * size
        for rank in range(size):
            check_captured([call for call in fake_nccl.calls if call.rank == rank], size, shares)


def check_captured(calls, size, shares):
    """A rank's: those of a step three times. Two sums, the second of two numbers a share; then each part's weights."""
    captured = [call for call in calls if call.capturing]
    assert len(calls) == 3 * len(captured)
    assert [call.capturing for call in calls] == sorted(call.capturing for call in calls)
    assert len({call.stream for call in calls}) == 1
    names = [call.name for call in captured]
    messages = 4 * (size.bit_length() - 1)
    assert names == ["send", "recv"] * messages + ["broadcast"] * (len(names) - 2 * messages)
    sent = [call.bytes for call in captured if call.name == "send"]
    assert sum(sent[messages // 2 :]) == 2 * (size - 1) * 2 * shares // size * 4
    handed = [call for call in captured if call.name == "broadcast"]
    assert {call.partner for call in handed} == set(range(size))
    assert 0 not in {call.group for call in handed}  # those of an optimizer at once


@pytest.mark.slow
@EMULATED
def test_in_single_precision_the_same_without_a_recording(device):
    """And, but for rounding, as on a CPU: with the same noise in each row, and its own document's beginnings."""

    def of(ranks, device=device):
        begun = []
        ranks.begins = begun.append  # what the job's watch sees
        trainer = trainer_of("gpt2", device, ranks, 2, "float32")
        found = course(trainer, range(2))
        assert begun == ["steps"] * (device != "cpu")
        return found

    expected = of(Alone())
    same(together(2, of, in_turns=True)[0], expected)
    assert not any(call.capturing for call in fake_nccl.calls)
    np.testing.assert_allclose(expected[0], of(Alone(), "cpu")[0], rtol=1e-4)


@EMULATED
def test_gradients_alone(device):
    """Of a loop of one's own, such as that of examples/pretrain_shakespeare.py."""

    def of(ranks, device=device):
        trainer = trainer_of("gpt2", device, ranks, 4, "float32")
        return *trainer.gradients(1), to_device(trainer.model.flat.grad, "cpu")

    loss, count, expected = of(Alone())
    for found in together(2, of, in_turns=True):
        assert found[:2] == (loss, count)
        assert found[2].tobytes() == expected.tobytes()
    on_cpu = of(Alone(), "cpu")
    agree(loss, on_cpu[0], "loss", 1e-5)
    agree(expected, on_cpu[2], "gradients", 1e-4)


def test_by_default_each_gpu_has_one_share(monkeypatch):
    monkeypatch.setattr("tinygrad_lm.train.shares.cores", lambda: 16)
    for size, rows, expected in ((1, 64, 1), (4, 64, 4), (3, 64, 2), (8, 6, 4)):
        ranks = SimpleNamespace(size=size, first=lambda number: number)
        monkeypatch.setattr("tinygrad_lm.train.shares.world", lambda ranks=ranks: ranks)
        assert default_shares(TrainConfig(1, rows), "cuda") == expected
        assert default_shares(TrainConfig(1, rows, shares=2), "cuda") == 2


@EMULATED
def test_more_gpus_than_shares(device):
    def make(rank):
        with pytest.raises(ConfigError, match="4 processes cannot divide the 2 shares of the run"):
            trainer_of("gpt2", device, rank, 2)

    together(4, make)
