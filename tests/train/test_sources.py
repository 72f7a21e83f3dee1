"""Training on a mixture: the loss on each source and what was used of it are told, and a stop changes nothing.
On the command line of examples/pretrain.py, with prepared data of two sources."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_run
from matplotlib.figure import Figure
from small_dataset import CHARACTERS, two_sources, with_end_of_text, write_dataset, write_manifest
from small_run import after_update, editing, results, status, tiny_preset

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.data.mixture.mixture_file import load_mixture_config
from tinygrad_lm.errors import DivergedError
from tinygrad_lm.learn.doctor import doctor
from tinygrad_lm.train import evaluate as evaluation
from tinygrad_lm.train import plan
from tinygrad_lm.train import run as run_folder
from tinygrad_lm.train.data import outcome_table, reopen_data, source_table
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.loss_curve import draw_losses
from tinygrad_lm.train.run import RunFolder

ROOT = Path(__file__).parents[2]
PLAN = ["--preset", "tiny", "--steps", 8, "--eval-every", 3]
MIXTURE = """
[[source]]
name = "cats"
weight = "2/3"
files = ["cats.txt"]
[[source]]
name = "sums"
weight = "1/3"
files = ["sums.txt"]
"""


def pretrain(*arguments, **recipe):
    with tiny_preset(**recipe):
        return status(small_run.example("pretrain").main, *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return two_sources(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The run without a stop. Tests that change it make a copy."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert pretrain(data, "--out", folder, *PLAN) == 0
    return folder


# ---- what it tells


def test_losses_are_those_of_evaluate_on_each_source(run, data):
    """At every evaluation; the one number is their mean by weight, and the best checkpoint's is in its manifest."""
    log, held_out = Log(run / "log.jsonl"), Dataset(data).validation()
    records = [record for record in log.records if "validation" in record]
    assert [record["step"] for record in records] == [3, 6, 8]
    assert log.records[-1] == {"step": 8, "whole": records[-1]["validation"], "whole_sources": log.result()[1]}
    manifest, state = RunFolder(run).read_checkpoint()
    model = RunFolder(run).initial_model("cpu")
    model.flat.load(state["model"])
    losses = {name: evaluate(model, tokens, 4) for name, (_, tokens) in held_out.items()}
    assert records[-1]["validation_sources"] == losses
    for record in records:
        cats, sums = record["validation_sources"]["cats"], record["validation_sources"]["sums"]
        assert record["validation"] == pytest.approx(2 / 3 * cats + 1 / 3 * sums, rel=1e-14)
        assert cats != sums
    assert manifest["validation"] == records[-1]["validation"]
    assert log.curve("validation") == ([3, 6, 8], [record["validation"] for record in records])
    assert log.curves("validation_sources")["cats"] == (
        [3, 6, 8],
        [record["validation_sources"]["cats"] for record in records],
    )


def test_what_was_used_is_what_the_batches_held(run, data):
    """64 windows of 8 tokens: the source of each is known by its characters."""
    batches, _ = reopen_data(RunFolder(run))
    first = [
        CHARACTERS.decode(row.tolist()) for step in range(8) for part in range(2) for row in batches(step, part)[0]
    ]
    sums = sum(bool(re.search(r"[\d+=]", text)) for text in first)
    record = Log(run / "log.jsonl").records[-2]
    assert record["step"] == 8
    assert list(record["sources"]) == ["cats", "sums"]
    used = record["sources"]["sums"]
    assert used["requested"] == 1 / 3
    assert used["realised"] == sums / 64
    assert used["error"] == pytest.approx(sums / 64 - 1 / 3, abs=1e-15)
    assert used["epochs"] == sums * 8 / len(Dataset(data).train()["sums"][1])
    for record in Log(run / "log.jsonl").records:
        for used in record.get("sources", {}).values():
            assert abs(used["error"]) <= 0.5 / (8 * record["step"])  # of two sources: half a window


def test_what_is_printed(data, tmp_path, capsys):
    assert pretrain(data, "--out", tmp_path, *PLAN) == 0
    told = capsys.readouterr().out
    cats, sums = (len(shards) for _, shards in Dataset(data).train().values())
    assert re.search(rf"\ncats +{cats:,}  66.67%  +0\.\d\d\nsums +{sums:,}  33.33%  +0\.\d\d\n", told)
    losses = Log(tmp_path / "log.jsonl").result()[1]
    assert re.search(rf"\ncats +66.67%  67.19%  \+0.521% +0\.\d\d +{losses['cats']:.4f} +–\n", told)
    assert re.search(rf"\nsums +33.33%  32.81%  -0.521% +0\.\d\d +{losses['sums']:.4f}  0.9000\n", told)
    assert f"pretrain.py --resume {tmp_path} --steps 16\n" in told
    assert "warning" not in told
    assert RunFolder(tmp_path).config["start"] == Dataset(data).train()["cats"][1].read(0, 1)[0]


def test_a_source_that_is_passed_too_often_is_warned_of(data):
    prepared = Dataset(data)
    batches = small_run_mixture(prepared, batch_size=3, block_size=10)
    size = {name: len(tokens) for name, (_, tokens) in batches.sources.items()}
    steps = 4 * size["sums"] // 10
    assert size["cats"] > size["sums"] * 2
    assert "warning" not in source_table(batches, steps)
    warning = source_table(batches, steps + 2).split("\n")[-1]
    assert warning.startswith("warning: sums: more than 4 epochs")
    assert "Muennighoff et al. 2023" in warning
    assert "cats, sums: more" in source_table(batches, 10 * steps)


def small_run_mixture(prepared, **sizes):
    from tinygrad_lm.data.mixture.mixture_batches import MixtureBatches

    return MixtureBatches(prepared.train(), **sizes)


def test_a_text_is_the_case_of_one_source(tmp_path):
    (tmp_path / "text").write_text(small_run.TEXT)
    assert small_run.pretrain("--data", tmp_path / "text", "--out", tmp_path / "run", *PLAN) == 0
    log = Log(tmp_path / "run" / "log.jsonl")
    for record in log.records:
        if "validation" in record:
            assert record["validation_sources"] == {"text": record["validation"]}
            epochs = record["step"] * 64 / int(0.9 * len(small_run.TEXT))
            assert record["sources"] == {"text": {"requested": 1, "realised": 1, "error": 0, "epochs": epochs}}


def test_a_source_without_held_out_documents_is_left_out_of_the_mean(tmp_path, capsys):
    encode = CHARACTERS.encode
    one = {"weight": "1/4", "train": [encode("the cat sat on the mat.\n" * 9)]}
    sources = {"a": one | {"val": [encode("the cat ate his hat.\n")]}, "b": one | {"weight": "1/2"}}
    sources["c"] = one | {"val": [encode("1+1=2\n2+2=4\n")]}
    assert pretrain(write_dataset(tmp_path / "data", sources), "--out", tmp_path / "run", *PLAN) == 0
    record = Log(tmp_path / "run" / "log.jsonl").records[-2]
    assert list(record["validation_sources"]) == ["a", "c"]
    assert record["validation"] == pytest.approx(sum(record["validation_sources"].values()) / 2)
    assert list(record["sources"]) == ["a", "b", "c"]
    assert re.search(r"\nb +50.00% .* – +–\n", capsys.readouterr().out)


def test_a_loss_that_is_no_number_is_told_with_its_source(data, tmp_path, monkeypatch):
    losses = iter([1.0, np.nan])
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: next(losses))
    with pytest.MonkeyPatch.context() as patch:
        caught = []
        patch.setattr(run_folder, "DivergedError", lambda message: caught.append(message) or DivergedError(message))
        assert pretrain(data, "--out", tmp_path, *PLAN) == 1
    assert "the validation loss after step 3 is nan, on sums; these weights were not saved" in caught[0]
    assert not (tmp_path / "checkpoints").exists()


# ---- the picture


def drawn(log, monkeypatch, levels, floors, tmp_path):
    """The axes of the picture."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: (figures.append(self), path.write_bytes(b"png")))
    draw_losses(log, tmp_path / "loss.png", "title", levels, floors)
    assert (tmp_path / "loss.png").read_bytes() == b"png"
    return figures[0].axes[0]


def test_a_curve_and_a_floor_for_each_source(run, tmp_path, monkeypatch):
    log = Log(run / "log.jsonl")
    axes = drawn(log, monkeypatch, {"uniform": 3.0}, {"cats": None, "sums": 0.9}, tmp_path)
    curves = {line.get_label(): line for line in axes.lines}
    labels = [label for label in curves if label.startswith(("cats, ", "sums, "))]
    stars = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "*"]
    assert stars == [log.curve("whole")[1], *([loss] for loss in log.result()[1].values())]
    assert len(labels) == 2
    for label in labels:
        name = label.split(",")[0]
        steps, losses = log.curves("validation_sources")[name]
        assert curves[label].get_xdata().tolist() == steps
        assert curves[label].get_ydata().tolist() == losses
        assert label == f"{name}, {losses[-1]:.3f}" + (", floor 0.900" if name == "sums" else "")
    validation = next(line for label, line in curves.items() if label.startswith("validation, lowest"))
    assert validation.get_ydata().tolist() == log.curve("validation")[1]
    colours = [curves[label].get_color() for label in labels]
    assert len({*colours, validation.get_color()}) == 3
    (floor,) = [line for line in axes.lines if list(line.get_ydata()) == [0.9, 0.9]]
    assert floor.get_color() == curves[labels[1]].get_color()
    assert [text.get_text() for text in axes.texts] == ["uniform 3.000"]
    assert [text.get_text() for text in axes.get_legend().get_texts()][3:] == labels


def test_a_run_has_its_floors_drawn(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tinygrad_lm.train.run.draw_losses", lambda *arguments: drawn.append(arguments))
    monkeypatch.setattr(RunFolder, "sample", lambda *_: "")
    shutil.copytree(run, tmp_path / "run")
    RunFolder(tmp_path / "run").report(None, 8)
    assert drawn[0][-1] == {"cats": None, "sums": 0.9}


def test_one_source_has_one_curve(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    for step in (1, 2):
        log.write(step=step, loss=3.0)
        log.write(step=step, validation=2.0, validation_sources={"text": 2.0}, sources={})
    assert len(drawn(log, monkeypatch, {}, {}, tmp_path).lines) == 3
    axes = drawn(log, monkeypatch, {}, {"text": 1.5}, tmp_path)
    assert axes.lines[-1].get_ydata() == [1.5, 1.5]
    assert [text.get_text() for text in axes.get_legend().get_texts()][2:] == ["text, floor 1.500"]
    assert not axes.texts


def test_more_sources_than_colours(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    log.write(step=1, validation=2.0, validation_sources={f"s{i}": 2.0 for i in range(12)})
    assert len(drawn(log, monkeypatch, {}, {}, tmp_path).lines) == 3 + 12


# ---- it goes on


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


@pytest.mark.parametrize("stop", [4, 6, 7])
def test_resumed_at_any_step_it_is_the_run_without_a_stop(stop, data, run, tmp_path, monkeypatch):
    """Bit for bit: weights, moments, every loss and share in the log, samples."""

    def gone(step):
        if step == stop:
            raise Gone

    with monkeypatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            pretrain(data, "--out", tmp_path, *PLAN)
    assert pretrain("--resume", tmp_path) == 0
    assert results(tmp_path) == results(run)
    assert (tmp_path / "samples.txt").read_bytes() == (run / "samples.txt").read_bytes()


def test_moved_data_are_found_again(data, run, tmp_path, capsys):
    """A run that was stopped says what to do, and goes on with data of the same content alone."""
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "run"
    shutil.copytree(data, here)

    def gone(step):
        if step == 6:
            raise Gone

    with pytest.MonkeyPatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            pretrain(here, "--out", folder, *PLAN)
    here.rename(there)
    assert pretrain("--resume", folder) == 2
    assert f"if it was moved, --resume {folder} --prepared FOLDER goes on" in capsys.readouterr().err
    before = (folder / "config.json").read_bytes()
    assert pretrain("--resume", folder, "--prepared", two_sources(tmp_path / "other", shift=7)) == 2
    assert "is not the data that" in capsys.readouterr().err
    assert (folder / "config.json").read_bytes() == before
    assert pretrain("--resume", folder, "--prepared", there) == 0
    assert results(folder) == results(run)
    assert pretrain("--resume", folder, "--steps", 9) == 0  # it has noted where they are


def test_other_data_are_refused(run, tmp_path, capsys):
    """By the seal, with both sides named; nothing is changed."""
    shutil.copytree(run, tmp_path / "run")
    other = two_sources(tmp_path / "other", shift=7)
    with editing(tmp_path / "run") as settings:
        settings["data"]["prepared"] = str(other)
    before = results(tmp_path / "run")
    assert pretrain("--resume", tmp_path / "run", "--steps", 10) == 2
    told = capsys.readouterr().err
    assert f"{other} is not the data that {tmp_path / 'run'} was trained on" in told
    assert f"{Dataset(other).seal[:12]}, expected {settings['data']['seal'][:12]};" in told
    assert results(tmp_path / "run") == before
    shutil.rmtree(other)
    assert pretrain("--resume", tmp_path / "run", "--steps", 10) == 2
    assert "is not there any more" in capsys.readouterr().err


@pytest.mark.slow
def test_the_doctor_examines_a_mixture(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    doctor.report(RunFolder(tmp_path / "run"), seconds=0.1, device="cpu")
    told = capsys.readouterr().out
    assert "tokens of the vocabulary in use" in told
    assert "of the training text" in told
    assert (tmp_path / "run" / "doctor.png").exists()


# ---- where the data come from


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mixture.toml"
    path.write_text(MIXTURE)
    return path


def two_sources_of(file, folder):
    """The two sources, as if they had been prepared from a mixture file whose raw files are gone."""
    manifest = json.loads((two_sources(folder) / "manifest.json").read_text())
    write_manifest(folder, manifest | {"written": recorded_config(load_mixture_config(file))})


def test_a_mixture_file_finds_its_data(file, tmp_path, run):
    """Beside it, or where --prepared says; and the run is the one that the folder gives."""
    two_sources_of(file, tmp_path / "mixture")
    assert pretrain(file, "--out", tmp_path / "a", *PLAN) == 0
    assert results(tmp_path / "a") == results(run)
    (tmp_path / "mixture").rename(tmp_path / "elsewhere")
    assert pretrain(file, "--prepared", tmp_path / "elsewhere", "--out", tmp_path / "b", *PLAN) == 0
    assert results(tmp_path / "b") == results(run)


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_it_is_always_prepared_which_only_compares_where_it_was_before(folder, file, tmp_path, monkeypatch, run):
    calls = []

    def prepare(path, out, progress):
        calls.append((path, out, progress))
        return two_sources(tmp_path / f"prepared{len(calls)}")

    monkeypatch.setattr(module, "prepare", prepare)
    options = ["--prepared", tmp_path / folder] if folder else []
    for number in (1, 2):
        assert pretrain(file, "--out", tmp_path / f"run{number}", *options, *PLAN) == 0
        assert calls == [(file, str(tmp_path / folder) if folder else None, True)] * number
        assert results(tmp_path / f"run{number}") == results(run)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"sums"', '"products"', "sources, sums"),
        ('"sums.txt"', '"more.txt"', "sources, sums, files"),
        ("\n[[source]]", 'tokenizer = "char"\n[[source]]', "tokenizer: gpt2 before, char now"),
        ("\n[[source]]", "validation = 0.5\n[[source]]", "validation: 0.01 before, 0.5 now"),
        ("\n[[source]]", '[clean]\nrules = ["c4"]\n[[source]]', "cats, clean, rules: [] before, ['c4'] now"),
    ],
)
def test_a_file_that_was_changed_since(file, tmp_path, capsys, old, new, told):
    two_sources_of(file, tmp_path / "mixture")
    file.write_text(file.read_text().replace(old, new, 1))
    assert pretrain(file, "--out", tmp_path / "run", *PLAN) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'mixture'} was begun with other settings or files" in error
    assert told in error
    assert not (tmp_path / "run").exists()


def test_other_weights_are_another_run_and_leave_the_one_before_as_it_is(file, tmp_path, run, capsys):
    """A run goes on with its own weights, whatever the folder's are by then."""
    two_sources_of(file, tmp_path / "mixture")
    assert pretrain(file, "--out", tmp_path / "a", *PLAN) == 0
    file.write_text(MIXTURE.replace("2/3", "1/2").replace("1/3", "1/2"))
    assert pretrain(file, "--out", tmp_path / "b", *PLAN) == 0
    assert "source cats: weight 2/3 before, 1/2 now" in capsys.readouterr().out
    used = [Log(tmp_path / name / "log.jsonl").records[-2]["sources"]["cats"]["requested"] for name in "ab"]
    assert used == [2 / 3, 1 / 2]
    for name in "ab":
        assert pretrain("--resume", tmp_path / name, "--steps", 10) == 0
    used = [Log(tmp_path / name / "log.jsonl").records[-2]["sources"]["cats"]["requested"] for name in "ab"]
    assert used == [2 / 3, 1 / 2]


def test_asked_to_stop_while_preparing(file, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", interrupted)
    assert pretrain(file, "--out", tmp_path / "run", *PLAN) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_minutes_are_planned(data, tmp_path, monkeypatch):
    """And stop after the recipe's epochs of the source that is passed most often."""
    monkeypatch.setattr(plan, "speed", lambda *_: (1e-6, 1e-9))
    size = {name: len(tokens) for name, (_, tokens) in Dataset(data).train().items()}
    most = min(2 * size["cats"] * 3 // 2 // 64, 2 * size["sums"] * 3 // 64)
    assert pretrain(data, "--minutes", 9, "--out", tmp_path, "--preset", "tiny", epochs=2) == 0
    assert RunFolder(tmp_path).train_config.steps == most
    assert Log(tmp_path / "log.jsonl").curve("loss")[0][-1] == most


@pytest.mark.slow
def test_attention_inside_documents(tmp_path, data, capsys):
    """The batches say by which token documents begin, also in a run that goes on; samples begin with it."""
    pytest.importorskip("tiktoken")
    tokenizer = with_end_of_text(tmp_path / "tokenizer")
    tokens = [256, *range(30), 256, *range(40)] * 9
    folder = write_dataset(tmp_path / "data", {"a": {"weight": "1", "train": [tokens], "val": [tokens]}}, tokenizer)
    for name, options, expected in (("a", [], None), ("b", ["--inside-documents"], 256)):
        assert pretrain(folder, "--out", tmp_path / name, *PLAN, *options) == 0
        assert reopen_data(RunFolder(tmp_path / name))[0].document_token == expected
        trained = RunFolder(tmp_path / name)
        assert trained.config["start"] == 256
        model = trained.initial_model("cpu")
        model.flat.load(trained.read_checkpoint()[1]["model"])
        loss = evaluate(model, np.array(tokens), 4, expected)
        assert trained.log.curve("validation")[1][-1] == loss
        assert evaluate(model, np.array(tokens), 4, 256 if expected is None else None) != loss
    capsys.readouterr()
    assert pretrain(data, "--out", tmp_path / "c", *PLAN, "--inside-documents") == 2
    assert "its tokenizer, char, has no end-of-text token" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_held_out_tokens_are_as_many_as_wanted(data, tmp_path):
    assert pretrain(data, "--out", tmp_path, *PLAN, "--validation-tokens", 50) == 0
    assert [len(tokens) for _, tokens in reopen_data(RunFolder(tmp_path))[1].values()] == [50, 50]


def test_the_seed_decides_the_batches(data, run, tmp_path):
    assert pretrain(data, "--out", tmp_path, *PLAN, "--seed", 3) == 0
    ours, theirs = (reopen_data(RunFolder(folder))[0](0)[0] for folder in (tmp_path, run))
    assert not np.array_equal(ours, theirs)


# ---- mistakes


def wrong(*options, message):
    return pytest.param(options, message, id=" ".join(map(str, options)) or "nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        wrong(message="MIXTURE says what to train on"),
        wrong("missing.toml", message="missing.toml: cannot be read"),
        wrong(".", message="manifest.json: No such file"),
        wrong("empty.toml", message="expected one [[source]] or more"),
        wrong("DATA", "--prepared", "x", message="is a prepared folder itself; leave out --prepared"),
        wrong("DATA", "--steps", "0", message="steps must be at least 1, found 0"),
        wrong("DATA", "--minutes", "0", message="--minutes must be a positive number, found 0"),
        wrong("DATA", "--minutes", "1", "--steps", "1", message="give one of them"),
        wrong("DATA", "--validation-tokens", "1", message="--validation-tokens must be at least 2, found 1"),
        wrong("DATA", "--batch-size", "0", message="batch_size must be at least 1"),
        wrong("DATA", "--preset", "huge", message="invalid choice: 'huge'"),
        wrong("DATA", "--resume", "run", "--batch-size", "3", message="leave out --batch-size, MIXTURE"),
        wrong("--resume", "run", message="is not the folder of a run"),
        wrong("short", message="source 'a': a text of 8 tokens is too short"),
    ],
)
def test_wrong_options(options, message, data, tmp_path, monkeypatch, capsys):
    """Exit status 2, a message that says what was wrong, and nothing begun."""
    monkeypatch.chdir(tmp_path)
    Path("empty.toml").write_text("")
    write_dataset(Path("short"), {"a": {"weight": "1", "train": [range(8)], "val": [range(8)]}})
    before = sorted(tmp_path.rglob("*"))
    preset = [] if "--resume" in options else ["--preset", "tiny"]
    assert pretrain(*preset, *[data if option == "DATA" else option for option in options]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert sorted(tmp_path.rglob("*")) == before
    assert "steps of" not in told.out


@pytest.mark.slow
def test_as_a_program(tmp_path):
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / "pretrain.py", tmp_path / "missing.toml"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: mixture ")


# ---- tables


def test_the_table_of_what_came(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    used = {"requested": 0.25, "realised": 0.2512, "error": 0.0012, "epochs": 1.5}
    log.write(step=1, validation=1.0, validation_sources={"a": 9.0}, sources={"a": used})
    log.write(step=2, validation=1.0, validation_sources={"a": 1.25}, sources={"a": used, "longer": used})
    log.write(step=3, loss=1.0)
    assert outcome_table(log, {"a": 1.0}).split("\n") == [
        "source  asked for    came    error  epochs  validation   floor",
        "a          25.00%  25.12%  +0.120%    1.50      1.2500  1.0000",
        "longer     25.00%  25.12%  +0.120%    1.50           –       –",
    ]
