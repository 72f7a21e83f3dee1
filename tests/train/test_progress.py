"""What a run shows while it trains, and that the curve and the result are not confused."""

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import small_run
from machines import Machine
from small_run import TEXT, pretrain

from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.pace import Steps
from tinygrad_lm.train.progress import Progress, duration


def test_the_curve_is_of_a_part_and_the_result_of_the_whole(tmp_path, monkeypatch, capsys):
    """They stand apart in the log; what is printed, in samples.txt and in the picture is the result."""
    drawn = []
    monkeypatch.setattr("tinygrad_lm.train.run.draw_losses", lambda log, *_: drawn.append(log.curve("whole")))
    (tmp_path / "text").write_text(TEXT)
    run = tmp_path / "run"
    options = ["--preset", "tiny", "--data", tmp_path / "text", "--out", run, "--steps", 4, "--eval-every", 2]
    assert pretrain(*options, pictures=True, curve_tokens=64) == 0
    log = small_run.Log(run / "log.jsonl")
    (steps, (whole,)), (when, curve) = log.curve("whole"), log.curve("validation")
    assert (steps, when) == ([4], [2, 4])
    assert whole not in curve
    assert log.result() == (whole, {"text": whole})
    assert drawn == [([], []), ([4], [whole])]
    told = capsys.readouterr().out
    assert "curve   evaluations measure 64 of 376 validation tokens, the last one all\n" in told
    result = f"validation loss {whole:.4f} nats per token on the whole validation split"
    result += f", lowest of the curve {min(curve):.4f}"
    assert f"finished at step 4; {result}\n" in told
    samples = (run / "samples.txt").read_text()
    assert f"--- step 2, validation loss {curve[0]:.4f}\n" in samples
    assert f"--- step 4, validation loss {whole:.4f}\n" in samples
    trained = small_run.RunFolder(run)
    assert trained.read_checkpoint()[0]["validation"] == curve[-1]  # as of the others, among which it may be the best
    model = trained.best_model()
    _, validate = trained.reopen("cpu")
    assert validate.whole(model)[0] == whole
    assert validate(model)[0] == curve[-1]


def test_a_line_and_a_sample_at_each_evaluation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small_run.RunFolder, "draw", lambda self: None)
    (tmp_path / "text").write_text(TEXT)
    plan = ["--preset", "tiny", "--data", tmp_path / "text", "--out", tmp_path / "run", "--steps", 6, "--eval-every", 3]
    assert pretrain(*plan) == 0
    told = capsys.readouterr()
    log = small_run.Log(tmp_path / "run" / "log.jsonl")
    for done in (3, 6):
        loss = np.mean(log.curve("loss")[1][done - 3 : done])
        validation = log.curve("validation")[1][done // 3 - 1]
        expected = rf"step {done}: loss {loss:.3f}, validation loss {validation:.3f}, [\d,]+ tokens/s, \d:\d\d left"
        assert re.search(rf"\n{expected}\n    \w", told.out)
    assert "\r" not in told.out + told.err  # a file gets no bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_does_not_tear_the_bar_which_says_when_the_run_ends(monkeypatch):
    """Half of four steps of 30 seconds."""
    terminal, machine = Terminal(), Machine()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    pace = Steps(TrainConfig(4, 1), now=machine.now)
    trainer = SimpleNamespace(pace=pace, batches=SimpleNamespace(tokens_a_step=60))
    run = SimpleNamespace(measure="validation loss", log=SimpleNamespace(curve=lambda kind: ([2], [3.0])))
    with Progress(run, trainer) as progress:
        for steps in pace.stretches(0, 1):
            machine.work(30)
            pace.ended(steps)
            progress.made(steps, {"loss": 2.0})
            progress.evaluated(steps.stop, "a\nb")
    lines = [line.rpartition("\r")[2] for line in terminal.getvalue().split("\n")]
    assert "step 2: loss 2.000, validation loss 3.000, 2 tokens/s, 1:00 left" in lines
    assert "    a ⏎ b" in lines
    bar = r"\r 50%\|.+\| \d\d:\d\d, step 2, loss 2.000, 2 tokens/s, 1:00 left, ends at \d\d:\d\d:\d\d"
    assert re.search(bar, terminal.getvalue())


def test_a_time_is_written_as_minutes_and_seconds():
    assert [duration(seconds) for seconds in (0, 59.6, 600, 3661)] == ["0:00", "1:00", "10:00", "1:01:01"]
