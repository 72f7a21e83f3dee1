"""Fine-tuning: it begins with what the foundation model knows, learns with the parts it is allowed, and goes on after
any stop. On the command line of examples/finetune_shakespeare.py, and a trainer with frozen parameters."""

import json
import math
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from slow import slow_but
from small_gpt import Given, random_tokens, shaken, tiny
from small_run import TEXT, WORDS, after_update, finetune, pretrain, results, write

from tinygrad_lm.adapt.lora import merge
from tinygrad_lm.data.corpus import split
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train.config import FINETUNE, LORA, TrainConfig, build_model
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.run import RunFolder
from tinygrad_lm.train.trainer import Trainer

BACKWARDS = "".join(random.Random(1).choices([word[-2::-1] + word[-1] for word in WORDS], k=200))
SMALL = ["--batch-size", 4, "--accumulate", 2, "--lr", 0.01]
WAYS = {
    "all": [],
    "adapters": ["--lora", 2],
    "frozen": ["--freeze", "wte.*", "h.*.mlp.*"],
    "adapters of some": ["--lora", 2, "--freeze", "h.*.mlp.*"],
}
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name, text in (("text", TEXT), ("backwards", BACKWARDS), ("foreign", BACKWARDS + "ÄÖ")):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def base(texts, tmp_path_factory):
    """The run that is the foundation."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    assert pretrain("--preset", "tiny", "--data", texts / "text", "--out", folder, "--steps", 40) == 0
    return folder


@pytest.fixture(scope="module")
def start(texts, base):
    """start(folder, ...): a new run from it on another text. Returns the exit status."""

    def start(folder, *options, pictures=False):
        data = ["--data", texts / "backwards", "--out", folder]
        return finetune("--model", base, *data, *SMALL, *options, pictures=pictures)

    return start


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """undisturbed(way): that run of four steps with an evaluation after 0, 2 and 4, made once; "all" with pictures."""
    folder, made = tmp_path_factory.mktemp("undisturbed"), set()

    def undisturbed(way):
        if way not in made:
            options = ["--steps", 4, "--eval-every", 2, "--dropout", 0.1, *WAYS[way]]
            assert start(folder / way, *options, pictures=way == "all") == 0
            made.add(way)
        return folder / way

    return undisturbed


def weights(run, which="newest"):
    return checkpoint.read_checkpoint(Path(run) / "checkpoints", which)[1]["model"]


# ---- what it does


@pytest.mark.parametrize("way", slow_but(WAYS, "adapters"))
def test_it_begins_with_the_loss_of_the_foundation_model(way, base, undisturbed):
    run = RunFolder(undisturbed(way))
    model, tokenizer = load_pretrained(base)
    expected = evaluate(model, tokenizer.encode(split(BACKWARDS)[1]), batch_size=4)
    steps, losses = run.log.curve("validation")
    assert steps == [0, 2, 4]
    assert losses[0] == expected
    assert run.log.curve("loss")[0] == [1, 2, 3, 4]
    samples = (run.path / "samples.txt").read_text()
    assert [f"--- step {step}, " in samples for step in (0, 1, 2, 3, 4)] == [True, False, True, False, True]
    assert way != "all" or (run.path / "loss.png").read_bytes().startswith(b"\x89PNG")


@every_way
def test_the_loss_falls_and_only_what_is_trained_has_moved(way, start, base, tmp_path):
    assert start(tmp_path, "--steps", 30, "--eval-every", 15, *WAYS[way]) == 0
    losses = RunFolder(tmp_path).log.curve("validation")[1]
    assert losses[-1] < losses[0] - 0.3
    before, after = weights(base, "best"), weights(tmp_path)
    trained = RunFolder(tmp_path).initial_model("cpu").flat.trained
    assert trained
    for name in before:
        assert (before[name] != after[name]).any() == (name in trained), name
    assert {name for name in after if name not in before} == {name for name in after if ".lora_" in name}
    for name in after:
        assert after[name].any() == (name in trained or not name.endswith("lora_b")), name


def test_what_is_told(start, tmp_path, capsys):
    assert start(tmp_path, "--steps", 2, "--lora", 3) == 0
    told, run = capsys.readouterr().out, RunFolder(tmp_path)
    C, hidden = run.model_config.n_embd, run.model_config.hidden
    adapters = 3 * (4 * 2 * C + 2 * (C + hidden))
    everything = sum(x.size for x in weights(tmp_path).values())
    assert f"trains {adapters:,} of {everything:,} parameters on cpu\n" in told
    assert "\nbefore\n" in told
    assert f"finetune_shakespeare.py --resume {tmp_path} --steps 4\n" in told
    assert f"validation loss {run.log.curve('validation')[1][-1]:.4f}" in told


def test_settings(start, undisturbed, tmp_path, base, texts):
    """As nanoGPT's recipe and the paper's table have them, unless told otherwise."""
    config = RunFolder(undisturbed("adapters of some")).train_config
    assert (config.lr, config.schedule, config.frozen) == (0.01, "constant", ["h.*.mlp.*"])
    assert json.loads((undisturbed("all") / "config.json").read_text())["base"] == str(base)
    assert (FINETUNE["lr"], FINETUNE["batch_size"] * FINETUNE["accumulate"], LORA["lr"]) == (3e-5, 32, 2e-4)
    for name, options, lr in (("full", [], 3e-5), ("low-rank", ["--lora", 1], 2e-4)):
        told = ["--model", base, "--data", texts / "backwards", "--steps", 1, "--batch-size", 1, *options]
        assert finetune(*told, "--out", tmp_path / name) == 0
        config = RunFolder(tmp_path / name).train_config
        assert (config.lr, config.steps, config.accumulate) == (lr, 1, FINETUNE["accumulate"])
    assert start(tmp_path / "own", "--steps", 1, "--block-size", 5, "--seed", 7, "--dropout", 0.3) == 0
    run = RunFolder(tmp_path / "own")
    assert (run.model_config.block_size, run.model_config.dropout, run.train_config.seed) == (5, 0.3, 7)


@every_way
def test_the_run_writes_and_can_be_a_foundation_itself(way, undisturbed, texts, tmp_path, capsys):
    run = undisturbed(way)
    capsys.readouterr()  # what it printed, if it was made just now
    assert write(run, "--prompt", "eht", "--tokens", 5, "--temperature", 0) == 0
    assert capsys.readouterr().out.startswith("eht")
    start = ["--model", undisturbed(way), "--data", texts / "backwards", "--steps", 1, *SMALL]
    assert finetune(*start, "--out", tmp_path, "--lora", 1) == 0
    best = min(RunFolder(undisturbed(way)).log.curve("validation")[1])
    agree(RunFolder(tmp_path).log.curve("validation")[1][0], best, "loss of what was begun with", 1e-6)
    model = RunFolder(tmp_path).best_model()
    x, _ = random_tokens(model.config, 2, 8)
    agree(merge(model)(x).data, model(x).data, "logits of the merged model", 1e-5)


# ---- it goes on


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


@every_way
@pytest.mark.parametrize("stop", slow_but([1, 3], 3))
def test_resumed_at_any_step_it_is_the_run_without_a_stop(way, stop, start, undisturbed, tmp_path, monkeypatch):
    """Bit for bit, from the weights it began with or from a later checkpoint."""
    folder = tmp_path / "run"

    def gone(step):
        if step == stop:
            raise Gone

    with monkeypatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            start(folder, "--steps", 4, "--eval-every", 2, "--dropout", 0.1, *WAYS[way])
    assert finetune("--resume", folder) == 0
    assert results(folder) == results(undisturbed(way))
    assert (folder / "samples.txt").read_bytes() == (undisturbed(way) / "samples.txt").read_bytes()


def test_asked_to_stop_while_it_evaluates_for_the_first_time(start, undisturbed, tmp_path, monkeypatch, capsys):
    report = RunFolder.report

    def interrupted(self, model, step):
        report(self, model, step)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "report", interrupted)
        assert start(tmp_path, "--steps", 4, "--eval-every", 2, "--dropout", 0.1) == 143
    assert capsys.readouterr().out.rstrip().endswith(f"finetune_shakespeare.py --resume {tmp_path}")
    assert RunFolder(tmp_path).log.records == RunFolder(undisturbed("all")).log.records[:1]
    assert finetune("--resume", tmp_path) == 0
    assert results(tmp_path) == results(undisturbed("all"))


def test_a_finished_run_goes_on_to_more_steps(undisturbed, tmp_path):
    shutil.copytree(undisturbed("frozen"), tmp_path / "run")
    assert finetune("--resume", tmp_path / "run", "--steps", 6) == 0
    assert RunFolder(tmp_path / "run").log.curve("loss")[0] == [1, 2, 3, 4, 5, 6]
    before, after = weights(undisturbed("frozen")), weights(tmp_path / "run")
    assert np.array_equal(before["wte.weight"], after["wte.weight"])


# ---- training with frozen parameters


@pytest.mark.parametrize("threads", slow_but([1, 2, 4], 2))
@pytest.mark.parametrize("frozen", [("wte.*", "h.0.*"), ("h.1.*", "ln_f*"), ("*.attn.*",)])
@pytest.mark.parametrize("lora", [0, 2])
def test_threads_add_up_and_leave_frozen_parameters_alone(lora, frozen, threads):
    """Weight decay, clipping, Muon: three updates, as by one thread; state() has every parameter."""
    config = TrainConfig(
        3, 5, muon_lr=0.02, embedding_lr=0.03, weight_decay=0.3, accumulate=2, lora=lora, frozen=frozen
    )
    source = {name: p.data for name, p in shaken(tiny("gpt2"), rank=lora).flat.items()}
    states = []
    for n in (1, threads):
        model = build_model(tiny("gpt2"), config, np.float64, "cpu", None)
        model.flat.load(source)
        batches = Given(lambda step, part, c=model.config: random_tokens(c, B=5, T=5, seed=10 * step + part))
        trainer = Trainer(model, batches, config, shares=n, threads=n)
        with workers(n):
            for step in range(3):
                trainer.step(step)
        states.append(trainer.state())
    (one, many), trained = states, set(model.flat.trained)
    assert one["model"].keys() == many["model"].keys() == source.keys()
    for name, value in many["model"].items():
        agree(value, one["model"][name], name)
        assert (value != source[name]).any() == (name in trained), name
    moments = [value.size for name, value in many["optimizer"].items() if name.endswith(".m")]
    assert sum(moments) == sum(source[name].size for name in trained)


# ---- dtypes


@pytest.mark.parametrize("found", slow_but(["bfloat16", "float32", "float64"], "bfloat16"))
@pytest.mark.parametrize("wanted", slow_but(["bfloat16", "float32", "float64"], "float32"))
def test_no_digit_of_the_foundation_is_lost(found, wanted, texts, tmp_path):
    """A step of no length: what is trained and saved is what was, in the precision that is asked for."""
    if "bfloat16" in (found, wanted):
        pytest.importorskip("ml_dtypes")
    told = ["--preset", "tiny", "--data", texts / "text", "--out", tmp_path / "base", "--steps", 2]
    assert pretrain(*told, "--dtype", found) == 0
    told = ["--model", tmp_path / "base", "--data", texts / "backwards", "--out", tmp_path / "run", "--steps", 1]
    assert finetune(*told, "--lr", 0, "--dtype", wanted) == 0
    before, after = weights(tmp_path / "base", "best"), weights(tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.initial_model("cpu").dtype.name == run.config["dtype"] == wanted
    for name, w in after.items():
        assert w.dtype == ("float64" if wanted == "float64" else "float32"), name
        assert (w == before[name].astype(w.dtype)).all(), name
        assert not w.any() or (w != w.astype(np.float16)).any(), name  # or nothing could be lost


def test_adapters_are_folded_in_before_anything_is_rounded(undisturbed, texts, tmp_path):
    pytest.importorskip("ml_dtypes")
    told = ["--model", undisturbed("adapters"), "--data", texts / "backwards", "--out", tmp_path, "--steps", 1]
    assert finetune(*told, "--lr", 0, "--dtype", "bfloat16") == 0
    after = weights(tmp_path)
    for name, w in merge(load_pretrained(undisturbed("adapters"))[0]).flat.items():
        assert (w.data == after[name]).all(), name


def test_in_float32_unless_told_otherwise(undisturbed):
    assert RunFolder(undisturbed("all")).config["dtype"] == "float32"


# ---- mistakes

WRONG = [
    (["--model", "missing"], "missing is neither a folder in "),
    (["--freeze", "h.7.*"], "no parameter is named 'h.7.*'"),
    (["--freeze", "wte.*", "wqe.*"], "no parameter is named 'wqe.*'"),
    (["--freeze", "*"], "parameters are frozen, so there is nothing to train"),
    (["--lora", "2", "--freeze", "h.*"], "parameters are frozen, so there is nothing to train"),
    (["--lora", "-1"], "lora must be at least 0, found -1"),
    (["--block-size", "0"], "block_size must be positive, found 0"),
    (["--block-size", "9"], "block_size 9 is longer than the 8 positions"),
    (["--dropout", "1"], "dropout must be in [0, 1), found 1"),
    (["--lr", "-1"], "lr must be at least 0, found -1"),
    (["--steps", "0"], "steps must be at least 1"),
    (["--data", "foreign"], "the vocabulary lacks"),
    (["--resume", "run"], "leave out --model"),
    (["--device", "tpu"], "invalid choice"),
    (["--dtype", "float16"], "invalid choice"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_wrong_options(options, message, base, texts, tmp_path, monkeypatch, capsys):
    """Exit status 2, a message that says what was wrong, and nothing begun."""
    monkeypatch.chdir(texts)
    before = sorted(texts.rglob("*"))
    assert finetune("--model", base, "--data", "backwards", "--out", "run", *options) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert sorted(texts.rglob("*")) == before
    assert "steps of" not in told.out


def test_without_a_model(capsys):
    assert finetune("--steps", 1) == 2
    assert "--model WHERE says what to begin with" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow", "ignore:divide by zero")
def test_a_foundation_that_is_no_number(base, texts, tmp_path, capsys):
    """Exit status 1, and no checkpoint of it."""
    run = RunFolder(base)
    manifest, state = run.read_checkpoint("best")
    state["model"]["ln_f.weight" if "ln_f.weight" in state["model"] else "wte.weight"][...] = math.nan
    shutil.copytree(base, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "checkpoints")
    RunFolder(tmp_path / "base").write_checkpoint(state, manifest["step"])
    start = ["--model", tmp_path / "base", "--data", texts / "backwards", "--out", tmp_path / "run"]
    assert finetune(*start, *SMALL) == 1
    told = capsys.readouterr()
    assert "the model's weights may be damaged" in told.err
    assert not (tmp_path / "run" / "checkpoints").exists()
