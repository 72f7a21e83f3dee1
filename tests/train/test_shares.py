"""A step's gradients do not depend on how its batches are cut, and its bits not on how many threads compute them."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow import slow_but
from small_gpt import Given, random_tokens, shaken, tiny

from tinygrad_lm.data.loader import document_starts
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import TOGETHER, cores, workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.objective import IGNORED, next_token
from tinygrad_lm.train.shares import Shares, add_up, default_shares, replica, shares_of
from tinygrad_lm.train.trainer import Trainer

FAMILIES = pytest.mark.parametrize("preset", ["gpt2", "modern"])
ROWS = 8  # cut into so many batches, shares and threads
CUTS = [(1, 1, 1), (2, 1, 1), (8, 1, 1), (1, 2, 1), (1, 8, 1), (1, 8, 4), (2, 4, 2), (4, 2, 2)]


def masked_tokens(config, seed, ignored):
    """Inputs and targets of ROWS rows, in which the first `ignored` targets of each row are not counted."""
    tokens, targets = random_tokens(config, ROWS, config.block_size, seed)
    targets = targets.copy()
    for row, n in zip(targets, ignored, strict=True):
        row[:n] = IGNORED
    return tokens, targets


def batches_of(tokens, targets, parts):
    """The rows as `parts` batches of a step."""
    cut = lambda x, part: np.split(x, parts)[part]
    return Given(lambda step, part: (cut(tokens, part), cut(targets, part)))


def gradient(model, batches, parts, shares, threads):
    """(loss, count, mean gradient) of step 3."""
    config = TrainConfig(10, ROWS // parts, accumulate=parts)
    model.flat.zero_grad()
    with workers(threads):
        loss, count = Shares(model, batches, config, next_token, shares, threads)(3)
    return loss, count, model.flat.grad / max(count, 1)


@FAMILIES
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@given(
    cut=st.sampled_from(CUTS),
    ignored=st.lists(st.sampled_from([0, 0, 1, 3, 5]), min_size=ROWS, max_size=ROWS),
    seed=st.integers(0, 99),
)
def test_however_a_batch_is_cut_its_loss_and_gradient_are_the_same(preset, dropout, cut, ignored, seed):
    """Micro-batches, shares and threads, with targets that are not counted, unevenly, whole rows, or all of them."""
    model = shaken(tiny(preset, dropout=dropout))
    tokens, targets = masked_tokens(model.config, seed, ignored)
    model.flat.zero_grad()
    expected = cross_entropy(model(tokens, Context(key=(0, 3, 0))), targets)
    expected.backward()
    right = model.flat.grad.copy()
    parts, shares, threads = cut
    found = gradient(model, batches_of(tokens, targets, parts), parts, shares, threads)
    assert found[1] == (targets != IGNORED).sum()
    agree(found[0], expected.item(), "loss", 1e-12)
    agree(found[2], right, "gradient", 1e-12)
    if all(n == 5 for n in ignored):
        assert found[0] == 0
        assert not found[2].any()


def trained(preset, dtype, shares, threads):
    """The sha256 sums of weights and moments after four updates with everything, and their losses and norms."""
    config = TrainConfig(9, ROWS, accumulate=2, muon_lr=0.02, embedding_lr=0.03, clip=0.5, weight_decay=0.1, seed=7)
    shape = tiny(preset, dropout=0.2, n_embd=16)
    model = GPT(shape, 1, dtype)
    batches = Given(lambda step, part: masked_tokens(shape, 2 * step + part, [0, 1, 5, 2, 0, 3, 4, 0]))
    trainer = Trainer(model, batches, config, shares, threads)
    with workers(threads):
        updates = trainer.steps(0, 4)
    assert max(norm for _, norm in updates) > 0.5 or preset == "gpt2"  # something was clipped
    arrays = [x for file in trainer.state().values() for _, x in sorted(file.items())]
    return hashlib.sha256(b"".join(x.tobytes() for x in arrays)).hexdigest(), updates


@FAMILIES
@pytest.mark.parametrize("dtype", slow_but(["float32", "float64", "bfloat16"], "float32"))
def test_any_number_of_threads_gives_the_same_bits(preset, dtype):
    """Dropout, micro-batches, clipping, targets not counted, Muon and AdamW: weights, moments, losses and norms."""
    expected = trained(preset, dtype, shares=8, threads=1)
    for threads in (2, 3, 4, 8, 16):
        assert trained(preset, dtype, shares=8, threads=threads) == expected


@given(data=st.data(), levels=st.integers(0, 5))
def test_sums_are_those_of_the_tree(data, levels):
    """Whatever the arrays; and all but the first are zero afterwards."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = list(rng.standard_normal((2**levels, 7)).astype(np.float32) * 10.0 ** rng.integers(-8, 8, (2**levels, 1)))
    sums = [x.copy() for x in arrays]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    add_up(arrays)
    assert arrays[0].tobytes() == sums[0].tobytes()
    assert not np.any(arrays[1:])


def test_log2_buffers_are_enough():
    """Of a thread with 8 shares: one for a single share, one for two, one for four."""
    model = shaken(tiny("gpt2"))
    made = Shares(model, None, TrainConfig(1, ROWS), next_token, shares=8, threads=1)
    assert [len(sums) for sums in made.sums] == [3]
    made = Shares(model, None, TrainConfig(1, ROWS), next_token, shares=8, threads=4)
    assert [len(sums) for sums in made.sums] == [1] * 4


@FAMILIES
def test_a_replica_has_the_same_weights_and_gradients_of_its_own(preset):
    model = shaken(tiny(preset), rank=2, frozen=("h.1.mlp.*",))
    twin = replica(model)
    assert twin.flat.trained == model.flat.trained
    assert np.shares_memory(twin.flat.data, model.flat.data)
    for name, p in model.flat.items():
        assert np.shares_memory(twin.flat[name].data, p.data), name
        assert twin.flat[name].requires_grad == p.requires_grad
    model.flat.data += 1.0
    x, y = random_tokens(model.config, 2, 5)
    model.loss(x, y).backward()
    twin.loss(x, y).backward()
    assert np.array_equal(twin.flat.grad, model.flat.grad)
    assert not np.shares_memory(twin.flat.grad, model.flat.grad)
    assert model.flat.grad.any()


def test_a_batch_without_any_counted_target_changes_nothing_but_what_momentum_and_decay_do():
    shape = tiny("modern")
    tokens, targets = masked_tokens(shape, 0, [5] * ROWS)
    trainer = Trainer(
        shaken(shape), Given(lambda step, part: (tokens, targets)), TrainConfig(9, ROWS, weight_decay=0.0)
    )
    before = trainer.model.flat.data.copy()
    assert trainer.step(0) == (0.0, 0.0)
    assert np.array_equal(trainer.model.flat.data, before)


@pytest.mark.parametrize("shares", [0, 3, 6, 16])
def test_shares_are_a_power_of_two_and_have_rows(shares):
    with pytest.raises(ConfigError, match=f"power of two and at most the batch's 8 rows, found {shares}"):
        Trainer(shaken(tiny("gpt2")), None, TrainConfig(1, ROWS), shares)


def test_a_run_has_as_many_shares_as_there_are_cores(monkeypatch):
    of_rows = lambda rows, **options: default_shares(TrainConfig(1, rows, **options))
    assert of_rows(1) == 1
    assert of_rows(10**6) <= cores() < 2 * of_rows(10**6)
    for n, rows, expected in ((6, 64, 4), (64, 12, 8), (1, 5, 1)):
        monkeypatch.setattr("tinygrad_lm.train.shares.cores", lambda n=n: n)
        assert of_rows(rows) == expected
        assert of_rows(rows, shares=2) == 2


def test_steps_in_bfloat16_have_one_share(monkeypatch):
    """Where products round, on so few cores as kernels share; in float32 as many as there are cores."""
    pytest.importorskip("ml_dtypes")
    config, shape = TrainConfig(1, 16), tiny("gpt2")
    for there, n, expected in ((True, 4, 1), (True, TOGETHER, 1), (True, 2 * TOGETHER, 16), (False, 4, 4)):
        monkeypatch.setattr("tinygrad_lm.train.shares.cores", lambda n=n: n)
        monkeypatch.setattr("tinygrad_lm.train.shares.has_products", lambda dtype, there=there: there and "b" in dtype)
        assert shares_of(GPT(shape, dtype="bfloat16"), config) == expected
        assert shares_of(GPT(shape), config) == n
        assert shares_of(GPT(shape, dtype="bfloat16"), replace(config, shares=2)) == 2


def test_an_objective_of_one_s_own_may_count_what_it_likes():
    """Here the last position of each row; the batch has a third array, which is cut along with the others."""
    model = shaken(replace(tiny("gpt2"), dropout=0.0))
    tokens, targets = random_tokens(model.config, ROWS, 5)
    weight = np.arange(1.0, ROWS + 1)

    def objective(model, batch, context):
        tokens, targets, weight = batch
        losses = [cross_entropy(model(tokens[b : b + 1])[:, -1], targets[b : b + 1, -1]) for b in range(len(tokens))]
        total = sum(loss * w for loss, w in zip(losses, weight.tolist(), strict=True))
        return total / weight.sum(), weight.sum()

    found = []
    for shares in (1, 4):
        model.flat.zero_grad()
        config = TrainConfig(1, ROWS)
        loss, count = Shares(model, Given(lambda step, part: (tokens, targets, weight)), config, objective, shares, 1)(
            0
        )
        assert count == weight.sum()
        found.append((loss, model.flat.grad.copy()))
    agree(found[0][0], found[1][0], "loss", 1e-12)
    agree(found[0][1], found[1][1], "gradient", 1e-12)


@pytest.mark.parametrize(("shares", "threads"), [(1, 1), (4, 1), (4, 2)])
def test_a_step_stays_inside_documents(shares, threads):
    """Where its batches have a token of documents; each share finds the starts of its own rows."""
    model = shaken(tiny("modern"))
    tokens, targets = random_tokens(model.config, ROWS, model.config.block_size)
    batches = batches_of(tokens, targets, 1)
    batches.document_token = int(np.bincount(tokens.ravel()).argmax())
    starts = document_starts(tokens, batches.document_token)
    assert len(np.unique(starts, axis=0)) > 2
    model.flat.zero_grad()
    right = cross_entropy(model(tokens, Context(document_starts=starts)), targets)
    right.backward()
    expected = model.flat.grad.copy()
    loss, _, found = gradient(model, batches, 1, shares, threads)
    agree(loss, right.item(), "loss")
    agree(found, expected, "gradient")
