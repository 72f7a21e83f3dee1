"""The whole story in one command: examples/from_text_to_assistant.py, small, and stopped wherever it can be."""

import os
import re
import shutil
import signal
from dataclasses import replace
from functools import partialmethod

import pytest
from small_run import example, results, status

from tinygrad_lm.posttrain import report_card
from tinygrad_lm.posttrain.data import prompts
from tinygrad_lm.posttrain.data.prompts import load_prompts
from tinygrad_lm.posttrain.policy.policy_run import PolicyRun
from tinygrad_lm.posttrain.run import ChatRun
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.run import RunFolder

STAGES = ["pretraining", "supervised", "reinforcement"]


@pytest.fixture(scope="module")
def tell():
    """tell(folder, ...): the program with a model and data that are small. Returns the exit status."""
    program = example("from_text_to_assistant")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "SHAPE", replace(program.SHAPE, n_layer=1, n_embd=16, n_head=2))
        patch.setattr(prompts, "COUNTS", (60, 20))
        patch.setattr("tinygrad_lm.kernels.choice.gain", lambda dtype: 0.0)  # by a clock: runs would differ in dtype
        for kind in (RunFolder, ChatRun, PolicyRun):
            patch.setattr(kind, "sample", lambda self, model, n: "a sample")
            patch.setattr(kind, "draw", draw)
        yield lambda folder, *options: status(program.main, "--out", folder, *options)


@pytest.fixture(scope="module")
def told(tell, tmp_path_factory):
    folder = tmp_path_factory.mktemp("story") / "assistant"
    assert tell(folder, "--minutes", 0.06) == 0
    return folder


def draw(run):
    """Takes the place of a picture of the run, which takes a while."""
    (run.path / run.picture).write_bytes(b"a picture")


def without_costs(card):
    return re.sub(r"[0-9.]+ \|$|[0-9]+ MiB", "", card, flags=re.MULTILINE)


def interrupt(log, stage, step_of_it, write=Log.write, **record):
    """Write a record to a log, and stop after an update of a stage."""
    if "norm" in record and (log.path.parent.name, record["step"]) == (stage, step_of_it):
        os.kill(os.getpid(), signal.SIGINT)
    write(log, **record)


@pytest.mark.slow
def test_three_runs_and_a_report(told):
    held_out = load_prompts("instructions")[1]
    card = (told / "report.md").read_text()
    for stage, kind in zip(STAGES, (RunFolder, ChatRun, PolicyRun), strict=True):
        run = RunFolder(told / stage)
        assert run.log.curve("validation")[0][-1] == run.train_config.steps >= 2
        assert f"![{stage}]({stage}/{kind.picture})" in card
    assert "| task | prompts | constant | pretraining | supervised | reinforcement |" in card
    for task in {prompt.task for prompt in held_out}:
        assert f"| {task} | {sum(prompt.task == task for prompt in held_out)} |" in card
    assert [RunFolder(told / stage).config.get("base") for stage in STAGES] == [
        None,
        str(told / "pretraining"),
        str(told / "supervised"),
    ]


@pytest.mark.slow
def test_stopped_at_every_stage_it_continues_to_the_same_end(tell, told, tmp_path, capsys):
    folder = tmp_path / "assistant"
    shutil.copytree(told, folder, ignore=shutil.ignore_patterns(*STAGES, "report.md"))
    for stage, step in zip(STAGES, (1, 2, 1), strict=True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Log, "write", partialmethod(interrupt, stage, step))
            assert tell(folder) == 130
        assert {path.name for path in folder.iterdir()} & set(STAGES) == set(STAGES[: STAGES.index(stage) + 1])
        assert not (folder / "report.md").exists()
    assert tell(folder) == 0
    assert re.findall(r"(\w+): from step (\d+) ", capsys.readouterr().out) == [*zip(STAGES, "121", strict=True)]
    for stage in STAGES:
        assert results(folder / stage) == results(told / stage)
    cards = [without_costs((path / "report.md").read_text()) for path in (folder, told)]
    assert cards[0] == cards[1]


@pytest.mark.slow
def test_a_finished_story_is_told_again_without_training(tell, told, capsys):
    before = {stage: results(told / stage) for stage in STAGES}
    assert tell(told) == 0
    assert capsys.readouterr().out.count("is finished") == 3
    assert {stage: results(told / stage) for stage in STAGES} == before


@pytest.mark.slow
def test_a_stage_that_was_killed_before_its_first_checkpoint_begins_again(tell, told, tmp_path):
    folder = tmp_path / "assistant"
    shutil.copytree(told, folder)
    shutil.rmtree(folder / "reinforcement" / "checkpoints")
    assert tell(folder) == 0
    assert results(folder / "reinforcement") == results(told / "reinforcement")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--minutes", 0], "--minutes must be a positive number, found 0"),
        (["--minutes", "nan"], "--minutes must be a positive number, found nan"),
        (["--minutes", "inf"], "--minutes must be a positive number, found inf"),
    ],
)
def test_impossible_times_are_refused(tell, tmp_path, capsys, options, complaint):
    assert tell(tmp_path / "new", *options) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_other_folders_and_other_times_are_refused(tell, told, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert tell(tmp_path) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert tell(told, "--minutes", 5) == 2
    assert "was begun with --minutes 0.06" in capsys.readouterr().err


def test_answers_are_right_where_the_verifier_says_so_and_they_ended(monkeypatch):
    asked = load_prompts("sums")[1][:3]
    drawn = {0: (asked[0].answer, True), 1: (asked[1].answer, False), 2: ("no", True)}

    class Told:
        """A chat format that parses what a row drew into what is told above."""

        ends = frozenset([9])
        prompt = staticmethod(lambda messages: [1])
        parse = staticmethod(lambda ids: drawn[ids[0]])

    monkeypatch.setattr(report_card, "generate_batch", lambda *_, **__: [(i, i) for i in range(3)])
    found = report_card.likeliest_answers(None, Told, asked, 5)
    assert found == [(asked[0].answer, True), (asked[1].answer, False), ("no", False)]


def test_marks_and_answers_as_tables():
    asked = [prompt._replace(task=task, answer=answer) for prompt, task, answer in
             zip(load_prompts("sums")[1], "abb", "xyy", strict=False)]  # fmt: skip
    answers = {"one": [("x", True), ("n", False), ("y", True)], "two": [("|\n", False)] * 3}
    assert report_card.marks_table(asked, answers).splitlines() == [
        "| task | prompts | constant | one | two |",
        "| --- | --- | --- | --- | --- |",
        "| a | 1 | 100.0% | 100.0% | 0.0% |",
        "| b | 2 | 100.0% | 50.0% | 0.0% |",
        "| **all** | 3 | 66.7% | 66.7% | 0.0% |",
    ]
    shown = report_card.answers_table(asked, answers).splitlines()[2:]
    assert shown[0].endswith("| `x` | `x` | `\\| ⏎ ` |")
    assert shown[1].endswith("| `y` | `n` | `\\| ⏎ ` |")
    assert report_card.cell("a" * 100) == f"`{'a' * 70}…`"
    assert report_card.cell("") == ""
