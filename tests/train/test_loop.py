"""Training: it learns, it goes on after any stop as if nothing had been, and it notices when it is lost."""

import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import small_run
from hypothesis import given
from hypothesis import strategies as st
from slow import slow_but
from small_gpt import Given, random_tokens, shaken, tiny
from small_run import TEXT, after_update, pretrain, results

from tinygrad_lm.data.corpus import split
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.errors import DivergedError, TokenError
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train import evaluate as evaluation
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.data import reopen_data
from tinygrad_lm.train.evaluate import Validation, baselines, evaluate
from tinygrad_lm.train.log import Log, settled
from tinygrad_lm.train.run import RunFolder
from tinygrad_lm.train.trainer import Trainer

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


def samples(run):
    return (run / "samples.txt").read_bytes()


def at_step(monkeypatch, step, act):
    """`act` when that step's update has been made, and nothing else."""
    after_update(monkeypatch, lambda i: i == step and act())


@pytest.mark.slow
def test_validation_stays_inside_documents_as_training_does(tmp_path):
    """The loop of the program hands the batches' token of documents to evaluation."""
    model = shaken(tiny("modern"))
    tokens = np.random.default_rng(0).integers(0, 7, 40)
    batches = Batches(tokens, 2, 5)
    batches.document_token = 3
    trainer = Trainer(model, batches, TrainConfig(1, batch_size=2))
    run = RunFolder.create(tmp_path / "run", model.config, trainer.config, CharTokenizer("abcdefg"), dtype="float64",
                           program="", title="", start=0, levels={}, floors={})  # fmt: skip
    validate = Validation({"text": (Fraction(1), tokens)}, batches, trainer.config)
    assert small_run.example("pretrain_shakespeare").train(run, trainer, validate) == 0
    inside = evaluate(model, tokens, 2, document_token=3)
    assert run.log.curve("validation") == ([1], [inside])
    assert inside != evaluate(model, tokens, 2)


# ---- it learns


@pytest.mark.slow
def test_the_loss_falls(text, tmp_path, capsys):
    """Below what counting pairs can reach, and its log, picture and samples say so."""
    options = ["--steps", 150, "--eval-every", 50]
    assert pretrain("--preset", "tiny", "--data", text, "--out", tmp_path, *options, pictures=True) == 0
    log = Log(tmp_path / "log.jsonl")
    (steps, losses), (when, validation) = log.curve("loss"), log.curve("validation")
    assert steps == list(range(1, 151))
    assert when == [50, 100, 150]
    characters = sorted(set(TEXT))
    levels = baselines(*split(np.array([characters.index(c) for c in TEXT])), len(characters))
    assert abs(losses[0] - levels["uniform"]) < 0.05
    assert validation[-1] < levels["bigram"] - 0.1
    assert validation[-1] == min(validation)
    records = [record for record in log.records if "loss" in record]
    assert all(record["norm"] > 0 and 0 < record["rate_factor"] <= 1 and record["seconds"] > 0 for record in records)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    samples = (tmp_path / "samples.txt").read_text()
    assert samples.count("--- step ") == 3
    assert f"--- step 150, validation loss {validation[-1]:.4f}\n" in samples
    told = capsys.readouterr().out
    assert f"validation loss {validation[-1]:.4f}" in told
    assert f"generate.py {tmp_path}" in told


def test_the_loop_of_the_program_makes_the_steps_of_a_trainer(undisturbed):
    """Losses, norms and weights, bit for bit."""
    run = RunFolder(undisturbed)
    batches, _ = reopen_data(run)
    trainer = Trainer(run.initial_model("cpu"), batches, run.train_config, run.config["shares"])
    updates = trainer.steps(0, STEPS)
    assert [list(values) for values in zip(*updates, strict=True)] == [run.log.curve(k)[1] for k in ("loss", "norm")]
    saved = run.read_checkpoint()[1]["model"]
    assert all(np.array_equal(w, saved[name]) for name, w in trainer.state()["model"].items())


# ---- it goes on


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


def gone(*_):
    raise Gone


@pytest.mark.parametrize("stop", slow_but(range(EVERY + 1, STEPS + 1), 5))
def test_resumed_at_any_step_it_is_the_run_without_a_stop(stop, start, undisturbed, tmp_path, monkeypatch):
    """Bit for bit: weights, moments, and every loss in the log. It goes on from the last checkpoint."""
    with monkeypatch.context() as patch:
        at_step(patch, stop, gone)
        with pytest.raises(Gone):
            start(tmp_path)
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)
    assert samples(tmp_path) == samples(undisturbed)


def test_stopped_before_the_first_checkpoint(start, tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, EVERY - 1, gone)
    with pytest.raises(Gone):
        start(tmp_path)
    assert pretrain("--resume", tmp_path) == 2
    assert "holds no whole checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["report", "write_checkpoint"])
def test_stopped_between_an_evaluation_and_its_checkpoint(place, start, undisturbed, tmp_path, monkeypatch):
    """The log is ahead of the checkpoint then, and a last line may be half there."""
    with monkeypatch.context() as patch:
        original = getattr(RunFolder, place)
        patch.setattr(RunFolder, place, lambda self, what, step: gone() if step == 6 else original(self, what, step))
        with pytest.raises(Gone):
            start(tmp_path)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)
    assert samples(tmp_path) == samples(undisturbed)


def test_a_report_that_fails_costs_no_training(start, undisturbed, tmp_path, monkeypatch, capsys):
    """The sample at step 6 cannot be told; training goes on, and all but that sample is as ever."""
    report = RunFolder.draw_and_sample

    def failing(self, model, step):
        if step == 6:
            assert checkpoint.read_checkpoint(self.path / "checkpoints")[0]["step"] == 6
            raise TokenError("no such id")
        report(self, model, step)

    monkeypatch.setattr(RunFolder, "draw_and_sample", failing)
    assert start(tmp_path) == 0
    assert "step 6: no picture or sample: TokenError: no such id" in capsys.readouterr().err
    assert results(tmp_path) == results(undisturbed)
    assert samples(tmp_path).count(b"--- step ") == samples(undisturbed).count(b"--- step ") - 1


def test_a_report_that_was_cut_short_is_written_again(start, undisturbed, tmp_path, monkeypatch):
    """Its evaluation's weights are saved before it begins."""
    report = RunFolder.report

    def cut(self, model, step):
        report(self, model, step)
        if step == 6:
            (tmp_path / "samples.txt").write_bytes(samples(tmp_path)[:-9])
            gone()

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "report", cut)
        with pytest.raises(Gone):
            start(tmp_path)
    assert checkpoint.read_checkpoint(tmp_path / "checkpoints")[0]["step"] == 6
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)
    assert samples(tmp_path) == samples(undisturbed)


def test_a_damaged_checkpoint_is_passed_over(start, undisturbed, tmp_path, capsys):
    assert start(tmp_path) == 0
    (tmp_path / "checkpoints" / "step-000008" / "optimizer.safetensors").write_bytes(b"")
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)
    assert "step-000008 is damaged" in capsys.readouterr().out


def test_a_moved_text_is_found_again(text, undisturbed, tmp_path, capsys, monkeypatch):
    """A run that was stopped says what to do, and goes on with a text of the same content alone."""
    here, there, folder = tmp_path / "here.txt", tmp_path / "there" / text.name, tmp_path / "run"
    there.parent.mkdir()
    here.write_text(TEXT)
    plan = ["--steps", STEPS, "--eval-every", EVERY]
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert pretrain("--preset", "tiny", "--data", here, "--out", folder, *plan) == 130
    here.rename(there)
    assert pretrain("--resume", folder) == 2
    told = capsys.readouterr().err
    assert f"{here}, which the run was trained on, is not there any more" in told
    assert f"--resume {folder} --data FILE goes on" in told
    other = tmp_path / "other.txt"
    other.write_text(TEXT + "!")
    assert pretrain("--resume", folder, "--data", other) == 2
    assert "other.txt is not the text that" in capsys.readouterr().err
    assert pretrain("--resume", folder, "--data", there) == 0
    assert results(folder)[:2] == results(undisturbed)[:2]
    assert RunFolder(folder).config["data"]["path"] == str(there)


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
    assert f"stopped by {number.name} and saved; continue with\n" in (told := capsys.readouterr().out)
    assert told.rstrip().endswith(f"pretrain_shakespeare.py --resume {tmp_path}")
    assert checkpoint.read_checkpoint(tmp_path / "checkpoints")[0]["step"] == 4  # though no evaluation is due there
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
    assert checkpoint.read_checkpoint(tmp_path / "checkpoints")[0]["step"] == 3


@pytest.mark.slow
def test_killed_for_real_and_resumed(text, tmp_path):
    """kill -9 from outside, whatever it is doing; then the example itself goes on, in a process of its own."""
    plan = ["--preset", "tiny", "--data", str(text), "--steps", "200", "--eval-every", "50"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, small_run.__file__, *plan, "--out", str(tmp_path / "killed")]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline, log = time.monotonic() + 100, tmp_path / "killed" / "log.jsonl"
    while child.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 70):
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
        model.flat.data[3] = weights
    batches = Given(lambda step, part: random_tokens(model.config, B=2, T=5, seed=step))
    settings = {"steps": 10, "batch_size": 2, "muon_lr": 0.02, "embedding_lr": 0.03} | config
    return Trainer(model, batches, TrainConfig(**settings), shares=2, threads=2)


def test_each_batch_is_drawn_once_for_all_threads():
    """And just when it is its turn: no list of batches is made."""
    trainer, drawn, shares = trainer_with(accumulate=3), [], []
    batches, share = trainer.batches, trainer.gradients.share
    trainer.gradients.batches = Given(lambda *place: drawn.append((*place, len(shares))) or batches(*place))
    trainer.gradients.share = lambda *given: shares.append(given) or share(*given)
    for step in range(2):
        trainer.step(step)
    assert drawn == [(step, part, 2 * (3 * step + part)) for step in range(2) for part in range(3)]


def everything(trainer):
    return {f"{file}/{name}": x.tobytes() for file, group in trainer.state().items() for name, x in group.items()}


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
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
    gradients = trainer.gradients

    def damaged(step):
        found = gradients(step)
        trainer.model.flat.grad[5] = math.nan
        return found

    trainer.gradients = damaged
    with pytest.raises(DivergedError, match=r"(?s)gradient norm nan.*1 parameters? .*wte.weight.*weights: all finite"):
        trainer.step(1)
    assert everything(trainer) == before
    trainer.gradients = gradients
    trainer.step(1)  # it can go on
    assert everything(trainer) != before


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow", "ignore:divide by zero")
@pytest.mark.parametrize("every", [1, 3])
def test_a_learning_rate_far_too_high(every, start, tmp_path, capsys):
    """Exit status 1 with the reason, before weights that are no numbers, or are far off, become a checkpoint."""
    assert start(tmp_path, "--eval-every", every, lr=1e38, muon_lr=1e38, warmup=0) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "a lower learning rate" in told
    assert "the last checkpoint" not in told  # for there is none
    assert not (tmp_path / "checkpoints").exists()


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
    losses = iter([2.0, 3.0, 9.0, 2.0, 9.0, 0.5, 9.0])  # 9.0: on the whole validation split
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: next(losses))
    assert start(tmp_path, "--eval-every", 2, "--patience", 1) == 0
    assert "settled at step 4;" in capsys.readouterr().out
    assert pretrain("--resume", tmp_path) == 0  # the next evaluation decides; it is no better either
    assert "settled at step 6;" in capsys.readouterr().out
    assert pretrain("--resume", tmp_path) == 0
    assert "finished at step 8;" in capsys.readouterr().out
    assert checkpoint.read_checkpoint(tmp_path / "checkpoints", "best")[0]["step"] == 8


# ---- what somebody looked at in between


def test_gradients_left_by_a_look_do_not_count():
    """As after a backward pass of one's own: the step is that of a trainer that nobody looked into."""
    trainers = [trainer_with() for _ in range(2)]
    for step in range(2):
        model = trainers[0].model
        model.loss(*random_tokens(model.config, B=2, T=5, seed=7)).backward()
        assert trainers[0].step(step) == trainers[1].step(step)
    assert everything(trainers[0]) == everything(trainers[1])


def test_an_evaluation_may_leave_gradients(start, undisturbed, tmp_path, monkeypatch):
    """In the loop of the program."""
    measure = Validation.__call__

    def looking(self, model):
        found = measure(self, model)
        model.flat.grad[...] = 1
        return found

    monkeypatch.setattr(Validation, "__call__", looking)
    assert start(tmp_path) == 0
    assert results(tmp_path) == results(undisturbed)


def test_what_a_stopped_run_cannot_go_on_with(start, tmp_path, monkeypatch, capsys):
    """Fewer steps than it has made, while it is not finished; and data that are nowhere."""
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert start(tmp_path / "run") == 130
    for options, message in (
        (["--steps", 3], f"--steps 3: {tmp_path}/run is at step 4; give more, or leave it out"),
        (
            ["--data", tmp_path / "rum"],
            f"rum: there is no such file or folder to go on with; did you mean {tmp_path}/run?",
        ),
    ):
        assert pretrain("--resume", tmp_path / "run", *options) == 2
        assert message in capsys.readouterr().err
