"""The services of the training programs: how a resumed run's learning rate jumps, and that it is announced."""

from dataclasses import replace

import pytest
from small_run import TEXT, pretrain
from thread_ranks import here, together

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.train import command
from tinygrad_lm.train.command import common_device, rate_jump
from tinygrad_lm.train.config import TrainConfig


@pytest.mark.parametrize(
    ("schedule", "first", "jump"),
    [
        ("linear", 4, "from 0.25 to 0.5 "),
        ("linear", 2, "from 0.5 to 0.75 "),
        ("cosine", 2, "from 0.55 to 0.868 "),
        ("stable-decay", 4, "from 0.5 to 1 "),
        ("stable-decay", 2, ""),
        ("constant", 4, ""),
    ],
)
def test_a_jump_of_the_learning_rate_has_a_note(schedule, first, jump):
    before = TrainConfig(4, 1, schedule=schedule, warmup=0)
    note = rate_jump(before, replace(before, steps=8), first, first)
    assert jump in note
    assert bool(note) == bool(jump)
    assert not note or "8 steps are" in note.split("\n")[0]
    assert rate_jump(before, before, min(first, 3), min(first, 3)) == ""


@pytest.mark.slow
def test_a_run_that_is_extended_says_that_its_rate_jumps(tmp_path, capsys):
    (tmp_path / "text").write_text(TEXT)
    options = ["--preset", "tiny", "--data", tmp_path / "text", "--out", tmp_path / "run", "--steps", 4]
    assert pretrain(*options, schedule="linear") == 0
    assert "jumps" not in capsys.readouterr().out
    assert pretrain("--resume", tmp_path / "run", "--steps", 8) == 0
    note = capsys.readouterr().out
    assert "\nnote    the learning rate jumps from 0.25 to 0.5 of its largest: 8 steps are\n" in note
    assert "stable-decay, resumed before it decays, has no jump" in note


@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), (1, None), (3, "cuda")])
def test_all_ranks_are_on_gpus_or_none(gpus, expected, monkeypatch):
    monkeypatch.setattr(command, "world", lambda: here.rank)
    monkeypatch.setattr(command, "resolve_device", lambda device: "cuda" if here.rank.rank < gpus else "cpu")

    def common(rank):
        if expected is None:
            with pytest.raises(ConfigError, match="3 processes need as many GPUs, and there is none for rank 1, 2\n"):
                common_device("auto")
            return None
        return common_device("auto")

    assert together(3, common) == [expected] * 3
