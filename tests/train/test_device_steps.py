"""Training steps on a GPU: several at a time, captured and replayed, in bfloat16 with float32 weights."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import small_run
import strict_capture
from small_gpt import Given, shaken, tiny

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.errors import DivergedError
from tinygrad_lm.kernels.cuda import driver
from tinygrad_lm.kernels.cuda import graph as cuda_graph
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import device_steps
from tinygrad_lm.train.config import RECIPES, TrainConfig, make_optimizers
from tinygrad_lm.train.objective import IGNORED
from tinygrad_lm.train.run import RunFolder
from tinygrad_lm.train.trainer import Trainer

TOKENS = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)
PRESETS = ["gpt2", "modern"]


def trainer(preset, device, dtype="bfloat16", document_token=None, block_size=8, **settings):
    """Of a GPT whose attention has a kernel: heads of 16."""
    shape = replace(tiny(preset), n_embd=32, n_head=2, dropout=0.3, block_size=block_size)
    config = TrainConfig(**RECIPES[preset] | {"steps": 20, "batch_size": 2, "accumulate": 2} | settings)
    batches = Batches(TOKENS, 2, block_size, accumulate=2)
    batches.document_token = document_token
    return Trainer(GPT(shape, dtype=dtype, device=device), batches, config)


def weights(trained):
    return {f"{file}/{name}": x for file, arrays in trained.state().items() for name, x in arrays.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_replayed_steps_are_the_eager_ones_bit_for_bit(device, preset, monkeypatch):
    replayed = trainer(preset, device)
    found = replayed.steps(0, 3)
    with monkeypatch.context() as patch:
        patch.setattr(device_steps, "backward", None)  # from now on no Python runs within a step
        found += replayed.steps(3, 5) + replayed.steps(8, 2)
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph, "WARM_UP", 99)
        eager = trainer(preset, device)
        expected = [eager.step(step) for step in range(10)]
    assert found == expected
    same(weights(replayed), weights(eager))


@pytest.mark.slow
def test_what_has_no_kernel_is_not_captured(device):
    """Dropout of attention's weights needs a multiple of eight keys."""
    odd = trainer("gpt2", device, block_size=12)
    assert len(odd.steps(0, 4)) == 4
    assert odd.model.config.dropout


@pytest.mark.slow
def test_a_trainer_is_freed_at_once(device):
    """Its graph's memory with it: nothing waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        freed = weakref.ref(used := trainer("gpt2", device))
        used.steps(0, 4)
        del used
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.slow
def test_what_waits_for_the_gpu_within_a_step_is_noticed(device, monkeypatch):
    def looking(*arguments, backward=device_steps.backward):
        loss, count = backward(*arguments)
        loss.item()
        return loss, count

    monkeypatch.setattr(device_steps, "backward", looking)
    with pytest.raises((strict_capture.CaptureError, RuntimeError)):
        trainer("gpt2", device).steps(0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("document_token", [None, 3])
def test_half_precision_follows_single_precision(device, preset, document_token):
    """Within the usual band of bfloat16, on a GPU and on the CPU; the weights are float32."""
    reference = trainer(preset, "cpu", "float32", document_token)
    expected = np.array(reference.steps(0, 10))
    for place in ("cpu", device):
        half = trainer(preset, place, document_token=document_token)
        found = np.array(half.steps(0, 10))
        assert half.model.dtype.name == "bfloat16"
        assert {x.dtype.name for x in weights(half).values()} <= {"float32", "int64"}
        np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=2e-2)
        np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=0.2)


def test_weights_keep_what_bfloat16_would_lose():
    """An update of a thousandth of a weight is less than half of bfloat16's last bit."""
    half = trainer("gpt2", "cpu", lr=1e-5, warmup=0, schedule="constant", clip=0.0)
    weights = half.model.flat.data
    weights[...] = 1.0
    half.steps(0, 3)
    assert np.mean(weights != 1) > 0.9
    assert abs(weights - 1).max() < 1e-4


@pytest.mark.parametrize("preset", PRESETS)
def test_an_optimizers_step_reaches_the_weights_that_compute(preset):
    """In a loop of one's own, in half precision."""
    model = shaken(tiny(preset), dtype="bfloat16")
    x = TOKENS[None, :5]
    for optimizer in make_optimizers(model, TrainConfig(**RECIPES[preset] | {"steps": 9, "lr": 0.1})):
        before = model(x).numpy()
        model.flat.grad[...] = np.random.default_rng(0).standard_normal(model.flat.grad.size)
        optimizer.step()
        assert (model(x).numpy() != before).any()


@pytest.mark.slow
def test_what_diverged_is_reported_with_its_step(device):
    broken = trainer("gpt2", device, "float32", lr=1e30, clip=0.0, warmup=0)
    message = r"step \d+ has loss (nan|inf) .* \d+ steps later"
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=message):
        broken.steps(0, 10)


def test_steps_come_in_stretches_between_evaluations():
    made = trainer("gpt2", "cpu", steps=50, eval_every=15)
    found = []
    made.pace.made = [{"seconds": 1.0, "elapsed": 1.0}] * 7
    for steps in made.pace.stretches(7, 10):
        made.pace.ended(steps)
        found.append(steps)
    assert [step for steps in found for step in steps] == list(range(7, 50))
    assert max(map(len, found)) == 10
    assert {15, 30, 50} <= {steps.stop for steps in found}


@pytest.mark.slow
def test_a_resumed_run_goes_on_bit_for_bit(device):
    """From float32 weights, which the state holds; the new one's first steps are eager, the old one's replayed."""
    undisturbed, stopped = trainer("modern", device), trainer("modern", device)
    expected = undisturbed.steps(0, 8)
    found = stopped.steps(0, 4)
    state, resumed = stopped.state(), trainer("modern", device)
    resumed.load_state(state)
    assert found + resumed.steps(4, 4) == expected
    same(weights(resumed), weights(undisturbed))


@pytest.mark.slow
def test_a_run_from_the_command_line_to_a_sample(device, tmp_path, monkeypatch, capsys):
    """In bfloat16, as a newcomer with a GPU would: trained, evaluated, saved, resumed, written from on the CPU."""
    monkeypatch.setattr(driver, "gpu_problem", lambda: None)
    monkeypatch.setitem(small_run.MODEL, "n_embd", 32)  # heads of 16: it is captured
    replays = []
    launch = strict_capture.Graph.launch
    monkeypatch.setattr(strict_capture.Graph, "launch", lambda *args: replays.append(launch(*args)))
    text = tmp_path / "text.txt"
    text.write_text(small_run.TEXT)
    run = tmp_path / "run"
    on_gpu = ["--device", device, "--dtype", "bfloat16", "--data", text, "--preset", "tiny", "--out", run]
    assert small_run.pretrain(*on_gpu, "--steps", 7, "--eval-every", 3) == 0
    log = RunFolder(run).log
    assert log.curve("loss")[0] == list(range(1, 8))
    assert log.curve("validation")[0] == [3, 7]
    assert log.curve("validation")[1][-1] < log.curve("validation")[1][0]
    assert small_run.pretrain("--resume", run, "--device", device, "--steps", 9) == 0
    assert RunFolder(run).log.curve("loss")[0] == list(range(1, 10))
    assert not replays or len(replays) == 5 + 2 - 2  # all but the first two of each process
    written = RunFolder(run).read_checkpoint()[1]["model"]
    assert len(written["wte.weight"]) == 64
    assert {x.dtype.name for x in written.values()} == {"float32"}
    capsys.readouterr()
    assert small_run.write(run, "--prompt", "the", "--tokens", 5, "--device", "cpu") == 0
    assert capsys.readouterr().out.startswith("the")


@pytest.mark.slow
def test_gradients_left_by_a_look_do_not_count(device):
    """As on a CPU: before a captured step, too."""
    looked, other = trainer("gpt2", device), trainer("gpt2", device)
    for first in (0, 4):
        looked.model.flat.grad.fill(1)
        assert looked.steps(first, 4) == other.steps(first, 4)
    same(weights(looked), weights(other))


@pytest.mark.slow
def test_the_mean_is_over_all_counted_targets_of_a_step(device):
    """However few of them a batch has: 1, then 16, then none. As on a CPU (test_shares.py)."""
    shape = replace(tiny("gpt2"), n_embd=32, n_head=2, dropout=0.0, block_size=8)
    tokens = np.random.default_rng(1).integers(0, 7, (3, 2, 9))
    targets = tokens[..., 1:].copy()
    targets[0].flat[1:] = targets[2] = IGNORED
    batches = Given(lambda step, part: (tokens[part, :, :-1], targets[part]))
    config = TrainConfig(2, 2, accumulate=3, clip=0)
    found, right = (
        Trainer(GPT(shape, 0, dtype, where), batches, config).step(0)
        for where, dtype in ((device, "bfloat16"), ("cpu", "float32"))
    )
    np.testing.assert_allclose(found, right, rtol=0.02)
