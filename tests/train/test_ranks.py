"""The same bits on one process and on many: weights, moments, losses, evaluations."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from slow import slow_but
from small_gpt import Given, random_tokens, shaken, tiny
from thread_ranks import together

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.distributed.communicator import Alone
from tinygrad_lm.errors import ConfigError, DeviceError, DivergedError
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.objective import IGNORED
from tinygrad_lm.train.trainer import Trainer

SHARES = 4
CUTS = [(1, 4), (2, 2), (4, 1), (1, 1), (2, 1)]  # ranks × threads
CONFIG = TrainConfig(12, 8, accumulate=2, lr=0.01, muon_lr=0.02, embedding_lr=0.03, clip=0.1, warmup=0)


def masked(step, part):
    """Batches in which rows have very different numbers of targets."""
    tokens, targets = random_tokens(tiny("gpt2"), CONFIG.batch_size, 5, 100 * step + part)
    targets = targets.copy()
    for row, n in zip(targets, np.random.default_rng(step).integers(0, 6, len(targets)), strict=True):
        row[:n] = IGNORED
    return tokens, targets


def trainer_of(preset, ranks, threads, config=CONFIG, batches=None):
    model = shaken(tiny(preset, dropout=0.2), dtype=np.float32)
    return Trainer(model, batches or Given(masked), config, SHARES, threads, ranks=ranks)


def digest(trainer):
    """Of weights and moments; rank 0 has all of them."""
    state = trainer.state()
    return hashlib.sha256(b"".join(x.tobytes() for part in state.values() for x in part.values())).hexdigest()


def course(preset, ranks, threads, steps=4, **changes):
    """[(loss, norm), …] of some steps, and the digest after them."""
    trainer = trainer_of(preset, ranks, threads, replace(CONFIG, **changes))
    return [trainer.step(step) for step in range(steps)], digest(trainer)


@pytest.mark.parametrize("preset", slow_but(["gpt2", "modern"], "modern"))
@pytest.mark.parametrize("changes", [{}, {"accumulate": 1, "clip": 0.0}, {"muon_lr": 0.0}], ids=str)
def test_weights_moments_losses_and_norms(preset, changes):
    """Dropout, accumulation, clipping, targets that are not counted, Muon and AdamW; each rank updates its part."""
    expected = None
    for size, threads in CUTS:
        with workers(threads):
            losses, found = together(size, lambda rank, n=threads: course(preset, rank, n, **changes))[0]
        expected = expected or (losses, found)
        assert (losses, found) == expected, f"{size} ranks × {threads} threads"
    assert all(norm > CONFIG.clip for _, norm in expected[0])  # where there is clipping, it acts


def test_whoever_updates_what(monkeypatch):
    """Where each rank updates everything itself the bits are the same."""
    divided = together(2, lambda rank: course("modern", rank, 1))[0]
    monkeypatch.setattr("tinygrad_lm.train.trainer.sharded", lambda optimizers, ranks: optimizers)
    assert together(2, lambda rank: course("modern", rank, 1))[0] == divided == course("modern", Alone(), 1)


@pytest.mark.slow
def test_resumed_on_other_numbers_of_ranks():
    """Steps 0–2 on one, 3–5 on two, 6–8 on four, 9–11 on one: as 12 on one."""
    straight = course("modern", Alone(), 1, 12)[1]
    state = None
    for turn, size in enumerate((1, 2, 4, 1)):

        def go_on(rank, turn=turn, state=state):
            trainer = trainer_of("modern", rank, 1)
            if state:
                trainer.load_state(state)
            for step in range(3 * turn, 3 * turn + 3):
                trainer.step(step)
            return {name: {key: x.copy() for key, x in part.items()} for name, part in trainer.state().items()}

        state = together(size, go_on)[0]
    found = hashlib.sha256(b"".join(x.tobytes() for part in state.values() for x in part.values())).hexdigest()
    assert found == straight


def test_all_windows_of_a_step_are_used_once():
    """Whatever the number of ranks, they are those of one process."""
    tokens = np.arange(400) % 7
    for size in (1, 2, 4):
        seen = []

        def objective(model, batch, context, seen=seen):
            seen.extend(map(tuple, batch[0]))
            return model.loss(*batch, context), (batch[1] != IGNORED).sum()

        def step(rank, objective=objective):
            batches = Batches(tokens, CONFIG.batch_size, 5, 0, CONFIG.accumulate)
            trainer = trainer_of("gpt2", rank, 1, batches=batches)
            trainer.gradients.objective = objective
            trainer.step(3)

        together(size, step)
        batches = Batches(tokens, CONFIG.batch_size, 5, 0, CONFIG.accumulate)
        assert sorted(seen) == sorted(map(tuple, np.concatenate([batches(3, 0)[0], batches(3, 1)[0]])))


@pytest.mark.parametrize("length", [6, 26, 61, 200])
def test_evaluation_is_dealt_out_and_added_in_its_order(length):
    """Also where the windows do not divide, or are fewer than ranks. In float64: sums of float32 losses are exact."""
    model, tokens = shaken(tiny("modern")), np.random.default_rng(0).integers(0, 7, length)
    expected = evaluate(model, tokens, 2)
    for size in (2, 3, 4):
        assert together(size, lambda rank: evaluate(model, tokens, 2, ranks=rank)) == [expected] * size


def test_a_loss_that_is_not_finite_ends_the_step_on_all_ranks():
    """Seen by one of them; no weight has changed."""

    def step(rank):
        trainer = trainer_of("gpt2", rank, 1)
        before, objective = trainer.model.flat.data.copy(), trainer.gradients.objective

        def broken(model, batch, context):
            loss, count = objective(model, batch, context)
            return (loss * np.nan if rank.rank == 1 else loss), count

        trainer.gradients.objective = broken
        with pytest.raises(DivergedError, match="step 3 has loss nan"):
            trainer.step(2)
        return (trainer.model.flat.data == before).all()

    assert all(together(2, step))


def test_weights_that_differ_are_not_saved():
    def flip(rank):
        trainer = trainer_of("gpt2", rank, 1)
        trainer.step(0)
        if rank.rank == 2:
            trainer.model.flat.data.view(np.uint32)[7] ^= 1
        with pytest.raises(DeviceError, match="weights of rank 2 differ"):
            trainer.state()

    together(4, flip)


@pytest.mark.parametrize(("size", "near"), [(3, 2), (8, 4), (6, 4)])
def test_ranks_that_cannot_divide_the_shares(size, near):
    message = f"{size} processes cannot divide the 4 shares of the run between them.*at most 4; {near} can"

    def make(rank):
        with pytest.raises(ConfigError, match=message):
            trainer_of("gpt2", rank, 1)

    together(size, make)


def test_shares_draw_different_noise():
    """Rows that are the same in all shares: without dropout they would have one loss, with one mask for all, too."""
    tokens, targets = random_tokens(tiny("gpt2"), CONFIG.batch_size, 5, 0)
    same = tokens[:1].repeat(CONFIG.batch_size, 0), targets[:1].repeat(CONFIG.batch_size, 0)
    found = []

    def step(rank):
        trainer = trainer_of("gpt2", rank, 1, batches=Given(lambda step, part: same))
        objective = trainer.gradients.objective

        def noted(*arguments):
            loss, count = objective(*arguments)
            found.append(loss.item())
            return loss, count

        trainer.gradients.objective = noted
        trainer.step(0)

    together(2, step)
    assert len(found) == len({*found}) == SHARES * CONFIG.accumulate
