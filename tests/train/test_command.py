"""The services of the training programs: how a resumed run's learning rate jumps, and that it is announced."""

from dataclasses import replace

import pytest
from small_run import TEXT, pretrain

from tinygrad_lm.train.command import rate_jump
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


def test_a_run_that_is_extended_says_that_its_rate_jumps(tmp_path, capsys):
    (tmp_path / "text").write_text(TEXT)
    options = ["--preset", "tiny", "--data", tmp_path / "text", "--out", tmp_path / "run", "--steps", 4]
    assert pretrain(*options, schedule="linear") == 0
    assert "jumps" not in capsys.readouterr().out
    assert pretrain("--resume", tmp_path / "run", "--steps", 8) == 0
    note = capsys.readouterr().out
    assert "\nnote    the learning rate jumps from 0.25 to 0.5 of its largest: 8 steps are\n" in note
    assert "stable-decay, resumed before it decays, has no jump" in note
