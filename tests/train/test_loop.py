"""Training: it learns, it can be stopped anywhere and goes on as if nothing had been, and it notices when it is lost."""

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small_run
from checks import agree
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import random_tokens, shaken, tiny
from small_run import TEXT, pretrain, results

from tinygrad_lm import no_grad
from tinygrad_lm.backend import workers
from tinygrad_lm.errors import ConfigError, DivergedError
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.train import checkpoint, loop
from tinygrad_lm.train.config import RECIPES, TrainConfig, make_optimizers
from tinygrad_lm.train.evaluate import baselines, evaluate
from tinygrad_lm.train.log import Log, smooth
from tinygrad_lm.train.loop import Trainer, settled

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 8, 3


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def start(text):
    """start(folder, ...): a new run, 8 steps with an evaluation after 3, 6 and 8. Returns the exit status."""

    def start(folder, *options, **recipe):
        plan = ["--steps", STEPS, "--eval-every", EVERY]
        return pretrain("--preset", "tiny", "--data", text, "--out", folder, *plan, *options, **recipe)

    return start


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert start(folder) == 0
    return folder


def at_step(monkeypatch, step, act):
    """`act` when that step's update has been made, and nothing else."""
    train_step = Trainer.step

    def watched(self, i):
        result = train_step(self, i)
        if i == step - 1:
            act()
        return result

    monkeypatch.setattr(Trainer, "step", watched)


# ---- it learns


def test_the_loss_falls(text, tmp_path, capsys):
    """Below what counting pairs can reach, and its log, picture and samples say so."""
    assert pretrain("--preset", "tiny", "--data", text, "--out", tmp_path, "--steps", 150, "--eval-every", 50) == 0
    log = Log(tmp_path / "log.jsonl")
    (steps, losses), (when, validation) = log.curve("loss"), log.curve("validation")
    assert steps == list(range(1, 151))
    assert when == [50, 100, 150]
    levels = baselines(*np.split(np.unique(list(TEXT), return_inverse=True)[1], [int(0.9 * len(TEXT))]), len(set(TEXT)))
    assert abs(losses[0] - levels["uniform"]) < 0.05
    assert validation[-1] < levels["bigram"] - 0.1
    assert validation[-1] == min(validation)
    records = [record for record in log.records if "loss" in record]
    assert all(record["norm"] > 0 and 0 < record["rate"] <= 1 and record["seconds"] > 0 for record in records)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    samples = (tmp_path / "samples.txt").read_text()
    assert samples.count("--- step ") == 3
    assert f"--- step 150, validation loss {validation[-1]:.4f}\n" in samples
    told = capsys.readouterr().out
    assert f"validation loss {validation[-1]:.4f}" in told
    assert f"generate.py {tmp_path}" in told


# ---- it goes on


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


def gone(*_):
    raise Gone


@pytest.mark.parametrize("stop", range(EVERY + 1, STEPS + 1))
def test_resumed_at_any_step_it_is_the_run_without_a_stop(stop, start, undisturbed, tmp_path, monkeypatch):
    """Bit for bit: weights, moments, and every loss in the log. It goes on from the last checkpoint."""
    with monkeypatch.context() as patch:
        at_step(patch, stop, gone)
        with pytest.raises(Gone):
            start(tmp_path)
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)


@pytest.mark.parametrize("place", ["report", "save"])
def test_stopped_between_an_evaluation_and_its_checkpoint(place, start, undisturbed, tmp_path, monkeypatch):
    """The log is ahead of the checkpoint then, and a last line may be half there."""
    with monkeypatch.context() as patch:
        original = getattr(loop_run := small_run.example("pretrain_shakespeare").Run, place)
        patch.setattr(loop_run, place, lambda self, x, y: gone() if 6 in (x, y) else original(self, x, y))
        with pytest.raises(Gone):
            start(tmp_path)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)


def test_a_damaged_checkpoint_is_passed_over(start, undisturbed, tmp_path, capsys):
    assert start(tmp_path) == 0
    (tmp_path / "checkpoints" / "step-000008" / "optimizer.safetensors").write_bytes(b"")
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)
    assert "step-000008 is damaged" in capsys.readouterr().out


def test_a_finished_run_goes_on_to_more_steps(start, tmp_path, capsys):
    """Also if it is stopped on that way; then it needs no --steps again."""
    assert start(tmp_path) == 0
    assert pretrain("--resume", tmp_path) == 2
    assert "is finished, at step 8; --steps N with N > 8" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 10, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert pretrain("--resume", tmp_path, "--steps", 12) == 143
    assert pretrain("--resume", tmp_path) == 0
    assert Log(tmp_path / "log.jsonl").curve("loss")[0] == list(range(1, 13))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    number, status, start, undisturbed, tmp_path, monkeypatch, capsys
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), number))
        assert start(tmp_path) == status
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert f"stopped by {number.name} and saved; go on with\n" in (told := capsys.readouterr().out)
    assert told.rstrip().endswith(f"pretrain_shakespeare.py --resume {tmp_path}")
    assert checkpoint.load(tmp_path / "checkpoints")[0]["step"] == 4  # though no evaluation is due there
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)


def test_asked_twice_it_stops_at_once(start, tmp_path, monkeypatch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    ends = []
    monkeypatch.setattr(os, "_exit", lambda status: (ends.append(status), gone()))
    at_step(monkeypatch, 4, twice)
    with pytest.raises(Gone):
        start(tmp_path)
    assert ends == [143]
    assert checkpoint.load(tmp_path / "checkpoints")[0]["step"] == 3


def test_killed_for_real_and_resumed(text, tmp_path):
    """kill -9 from outside, whatever it is doing; then the example itself goes on, in a process of its own."""
    plan = ["--preset", "tiny", "--data", str(text), "--steps", "500", "--eval-every", "100"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, small_run.__file__, *plan, "--out", str(tmp_path / "killed")]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline, log = time.monotonic() + 100, tmp_path / "killed" / "log.jsonl"
    while child.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 130):
        assert time.monotonic() < deadline, "the child does not train"
        time.sleep(0.005)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    command = [sys.executable, ROOT / "examples" / "pretrain_shakespeare.py", "--resume", tmp_path / "killed"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, timeout=100)
    assert pretrain(*plan, "--out", tmp_path / "undisturbed") == 0
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")


# ---- it notices when it is lost


def trainer_with(weights=None, **config):
    model = shaken(tiny("modern"))
    if weights is not None:
        model.parameters.data[3] = weights
    batches = lambda step, part: random_tokens(model.config, B=2, T=5, seed=step)
    settings = {"steps": 10, "batch_size": 2, "muon_lr": 0.02, "embedding_lr": 0.03} | config
    return Trainer(model, batches, TrainConfig(**settings), threads=2)


def everything(trainer):
    return {f"{file}/{name}": x.tobytes() for file, group in trainer.state().items() for name, x in group.items()}


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_loss_that_is_no_number_changes_nothing(value):
    trainer = trainer_with(weights=value)
    before = everything(trainer)
    with pytest.raises(DivergedError, match=r"(?s)step 8 has loss .*not applied.*weights: .*finite.*hint : .*"):
        trainer.step(7)
    assert everything(trainer) == before


def test_a_gradient_that_is_no_number_changes_nothing():
    """Though the loss is one."""
    trainer = trainer_with()
    trainer.step(0)
    before = everything(trainer)
    trainer.model.parameters.grad[5] = math.nan
    with pytest.raises(DivergedError, match=r"(?s)gradient norm nan.*1 parameters? .*wte.weight.*weights: all finite"):
        trainer.step(1)
    assert everything(trainer) == before
    trainer.model.parameters.zero_grad()
    trainer.step(1)  # it can go on
    assert everything(trainer) != before


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow", "ignore:divide by zero")
@pytest.mark.parametrize("every", [1, 3])
def test_a_learning_rate_far_too_high(every, start, tmp_path, capsys):
    """Exit status 1 with the reason, and no checkpoint with weights that are no numbers."""
    assert start(tmp_path, "--eval-every", every, lr=1e38, muon_lr=1e38, warmup=0) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "a lower learning rate" in told
    for path in (tmp_path / "checkpoints").glob("step-*"):
        _, groups = checkpoint.load(path.parent)
        assert all(np.isfinite(x).all() for x in groups["model"].values())


# ---- it stops when nothing comes of it any more


@given(losses=st.lists(st.sampled_from([1.0, 2.0, 3.0]), max_size=7), patience=st.integers(0, 4))
def test_settled(losses, patience):
    """As a loop would have it that counts evaluations since the best."""
    best, since = math.inf, 0
    for loss in losses:
        best, since = (loss, 0) if loss < best else (best, since + 1)
    log = type("", (), {"curve": lambda self, kind: (None, losses)})()
    assert settled(log, patience) == (0 < patience <= since)


def test_patience_ends_a_run_and_resuming_gives_it_another_chance(start, tmp_path, monkeypatch, capsys):
    losses = iter([2.0, 1.0, 1.5, 1.0, 1.0, 0.5, 0.6, 0.7])
    monkeypatch.setattr(loop, "evaluate", lambda *_: next(losses))
    assert start(tmp_path, "--eval-every", 1, "--patience", 2) == 0
    assert "settled at step 4;" in capsys.readouterr().out
    assert pretrain("--resume", tmp_path) == 0  # the fifth is no better either
    assert "settled at step 5;" in capsys.readouterr().out
    assert pretrain("--resume", tmp_path) == 0
    assert "settled at step 8;" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "checkpoints", "best")[0]["step"] == 6


# ---- evaluation


@given(n=st.integers(2, 40), batch_size=st.integers(1, 4), threads=st.integers(1, 3), seed=st.integers(0, 99))
def test_evaluation_is_the_mean_over_every_token(n, batch_size, threads, seed):
    model = shaken(tiny("gpt2", dropout=0.5), seed)
    tokens = np.random.default_rng(seed).integers(0, 7, n)
    total = 0.0
    for i in range(1, n):  # each target on its own, with the part of its window that comes before
        begin = (i - 1) // 5 * 5
        with no_grad():
            total += cross_entropy(model(tokens[None, begin:i])[:, -1], tokens[i : i + 1]).item()
    with workers(threads):
        found = evaluate(model, tokens, batch_size)
    agree(found, total / (n - 1), "mean")
    assert found == evaluate(model, tokens, batch_size)
    assert type(found) is float


@given(data=st.data(), V=st.integers(1, 6), n=st.integers(2, 40), m=st.integers(2, 20))
def test_baselines_count(data, V, n, m):
    draw = lambda size: data.draw(st.lists(st.integers(0, V - 1), min_size=size, max_size=size))
    train, validation = draw(n), draw(m)
    single, pairs, before = Counter(train), Counter(zip(train, train[1:], strict=False)), Counter(train[:-1])
    p = lambda b: (single[b] + 1) / (n + V)
    unigram = [-math.log(p(b)) for b in validation[1:]]
    follows = zip(validation, validation[1:], strict=False)
    bigram = [-math.log((pairs[a, b] + p(b)) / (before[a] + 1)) for a, b in follows]
    found = baselines(np.array(train, "uint16"), np.array(validation, "uint16"), V)
    expected = {"uniform": math.log(V), "unigram": math.fsum(unigram) / (m - 1), "bigram": math.fsum(bigram) / (m - 1)}
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


# ---- the log


def test_log_rewinds_and_forgives_a_cut_line(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.write(step=step, loss=1 / step)
        if step % 2 == 0:
            log.write(step=step, validation=2 / step)
    whole = log.path.read_bytes()
    assert Log(log.path).records == log.records
    assert Log(log.path).curve("loss") == ([1, 2, 3, 4, 5], [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert Log(log.path).curve("validation") == ([2, 4], [1.0, 0.5])
    for cut in range(1, len(whole)):
        log.path.write_bytes(whole[:-cut])
        records = Log(log.path).records
        assert records == log.records[: len(records)]
        assert len(records) >= whole[:-cut].count(b"\n")
    log.path.write_bytes(whole[:-3])
    log = Log(log.path)
    log.rewind(2)
    log.write(step=3, loss=9.0)
    assert Log(log.path).records == log.records
    assert [record["step"] for record in log.records] == [1, 2, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_running_mean_is_one():
    assert smooth([]) == []
    np.testing.assert_allclose(smooth([3.0] * 200), 3.0)
    means = smooth([0.0] * 100 + [1.0] * 100)
    assert means[:100] == [0.0] * 100
    assert (np.diff(means[99:]) > 0).all()
    assert 0.9 < means[-1] < 1


# ---- the plan


@given(steps=st.integers(1, 300), every=st.integers(0, 50))
def test_evaluations_are_regular_and_one_is_at_the_end(steps, every):
    config = TrainConfig(steps, 1, eval_every=every)
    when, every = [step for step in range(1, steps + 1) if config.evaluates(step)], every or max(1, round(steps / 5))
    assert when[-1] == steps
    assert when[:-1] == [every * (i + 1) for i in range(len(when) - 1)]
    assert all(every / 2 <= b - a <= 1.5 * every for a, b in zip(when, when[1:], strict=False))


@pytest.mark.parametrize("preset", RECIPES)
def test_every_recipe_trains_every_parameter_once(preset):
    model = shaken(tiny(preset))
    optimizers = make_optimizers(model.parameters, TrainConfig(10, **RECIPES[preset]))
    before = model.parameters.data.copy()
    model.parameters.grad[...] = np.random.default_rng(0).standard_normal(before.size)
    assert sum(optimizer.m.size for optimizer in optimizers) == before.size
    for optimizer in optimizers:
        optimizer.step()
    assert (model.parameters.data != before).all()


def test_a_training_configuration_names_all_its_problems():
    with pytest.raises(ConfigError) as caught:
        TrainConfig(0, -1, lr=math.nan, clip=-1.0, schedule="none", seed=2**64)
    for name in ("steps", "batch_size", "lr", "clip", "schedule", "seed"):
        assert f"{name} must be" in str(caught.value)
