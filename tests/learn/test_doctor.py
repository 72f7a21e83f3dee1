"""The training doctor: all fine on a healthy run, and each finding turns where its fault is planted."""

import argparse
import json
import math
import shutil

import numpy as np
import pytest
import small_run
from small_run import TEXT, editing, pretrain

from tinygrad_lm import ops
from tinygrad_lm.engine.observe import Observer, current_module, observers, observing
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import CheckpointError, DataError, ShapeError
from tinygrad_lm.learn.doctor import doctor, log_findings, model_findings
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.run import RunFolder

RATES = {"lr": 0.005, "muon_lr": 0.0, "embedding_lr": 0.0, "clip": 3.0}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(name, *options, **recipe): the exit status and the folder of a run on two blocks of two heads."""
    folder = tmp_path_factory.mktemp("runs")
    text = folder / "text.txt"
    text.write_text(TEXT)

    def start(name, *options, **recipe):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small_run, "MODEL", small_run.MODEL | {"n_layer": 2, "qk_norm": False})
            told = ["--preset", "tiny", "--data", text, "--out", folder / name, "--steps", 60, "--eval-every", 20]
            return pretrain(*told, *options, **RATES | recipe), folder / name

    return start


@pytest.fixture(scope="module")
def healthy(start):
    status, folder = start("healthy")
    assert status == 0
    return folder


@pytest.fixture
def patient(healthy, tmp_path):
    """A copy that may be made ill."""
    return shutil.copytree(healthy, tmp_path / "patient")


def weights(folder, change):
    """change(weights by name) in the newest checkpoint."""
    run = RunFolder(folder)
    manifest, state = run.read_checkpoint()
    change(state["model"])
    run.write_checkpoint(state, manifest["step"])


def settings(folder, **train):
    with editing(folder) as config:
        config["train"] |= train


def log(folder, change):
    """change(record) for each record of the log; one that is made empty goes."""
    records = Log(folder / "log.jsonl").records
    for record in records:
        change(record)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records if record))


def command(*arguments):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.examine_run(parser.parse_args(list(map(str, arguments))))


def verdicts(folder):
    return {found.title: found.verdict for found in doctor.examine(RunFolder(folder), "newest", 5.0, "cpu")[1]}


def changed(folder):
    """The findings that are not fine."""
    return {title: verdict for title, verdict in verdicts(folder).items() if verdict != "fine"}


# ---- the whole


@pytest.mark.slow
def test_a_healthy_run_is_fine_everywhere_and_left_as_it_was(patient, capsys):
    before = {path: path.read_bytes() for path in patient.rglob("*") if path.is_file()}
    assert command(patient) == 0
    told = capsys.readouterr().out
    assert "11 fine, 0 look, 0 wrong" in told
    report = json.loads((patient / "doctor.json").read_text())
    assert report["step"] == 60
    assert [found["verdict"] for found in report["findings"]] == ["fine"] * 11
    for found in report["findings"]:
        assert f"✓ {found['title']}: {found['value']} – fine\n" in told
        assert f"usual: {found['usual']}\n" in told
        assert found["meaning"].endswith(".")
        assert found["advice"].endswith(".")
    assert (patient / "doctor.png").read_bytes().startswith(b"\x89PNG")
    after = {path: path.read_bytes() for path in patient.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {patient / "doctor.png", patient / "doctor.json"}
    assert before.items() <= after.items()


@pytest.mark.slow
def test_an_ill_run_is_told_what_to_do(patient, capsys):
    def explode(record):
        if "norm" in record:
            record["norm"] = math.inf if record["step"] > 50 else 1.2 ** record["step"]

    log(patient, explode)
    assert command(patient, "--checkpoint", "best") == 1
    told = capsys.readouterr().out
    assert "✗ gradient norm over the run" in told
    assert (patient / "doctor.png").read_bytes().startswith(b"\x89PNG")
    assert "what to do: Growing: lower the learning rate." in told
    json.loads((patient / "doctor.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_run_is_examined_when_it_has_ended(start, capsys):
    status, folder = start("examined", "--doctor")
    assert status == 0
    assert "11 fine, 0 look, 0 wrong" in capsys.readouterr().out
    assert (folder / "doctor.json").exists()
    assert start("asleep", "--doctor", lr=1e-8)[0] == 1
    told = capsys.readouterr().out
    assert "✗ update of a step / weights" in told
    assert "– fine" not in told.partition("learning rate, by the log")[2].partition("\n")[0]


def test_mistakes(patient, tmp_path):
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        command(tmp_path / "nowhere")
    text = tmp_path / "text.txt"
    text.write_text(TEXT + "!")
    with editing(patient) as config:
        config["data"]["path"] = str(text)
    with pytest.raises(DataError, match="is not the text that"):
        command(patient)
    shutil.rmtree(patient / "checkpoints")
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        command(patient)


# ---- the weights


@pytest.mark.parametrize(("share", "verdict"), [(0.05, "fine"), (0.3, "look"), (0.7, "wrong")])
def test_dead_units(share, verdict, patient):
    def kill(w):
        w["h.1.mlp.c_fc.bias"][: round(share * 64)] = -100.0

    weights(patient, kill)
    assert verdicts(patient)["dead hidden units"] == verdict


def test_collapsed_attention(patient):
    def collapse(w):
        for name in ("h.0.attn.c_q.weight", "h.0.attn.c_k.weight"):
            w[name] *= 1e4

    weights(patient, collapse)
    assert verdicts(patient)["attention entropy"] == "look"  # half of all heads
    weights(patient, lambda w: collapse({name.replace("h.0", "h.0"): w[name.replace("0", "1")] for name in w}))
    assert verdicts(patient)["attention entropy"] == "wrong"


def test_attention_that_looks_at_everything_alike(patient):
    def blur(w):
        for name in w:
            if ".attn.c_q." in name:
                w[name][...] = 0

    weights(patient, blur)
    assert verdicts(patient)["attention entropy"] == "look"


@pytest.mark.parametrize(("scale", "verdict"), [(3e-3, "look"), (1e-6, "wrong")])
def test_gradients_that_vanish(scale, verdict, patient):
    def shrink(w):
        for name in w:
            if name.startswith("h.0."):
                w[name] *= scale

    weights(patient, shrink)
    assert verdicts(patient)["gradients across depth"] == verdict


@pytest.mark.parametrize(("scale", "verdict"), [(2, "fine"), (40, "look"), (1000, "wrong")])
def test_large_logits(scale, verdict, patient):
    def enlarge(w):
        w["lm_head.weight"] *= scale

    weights(patient, enlarge)
    assert verdicts(patient)["size of the logits"] == verdict


def test_saturated_logits():
    logits = np.full((1, 4, 10), 15.0) * np.sign(np.arange(10) - 4.5)
    assert model_findings.logit_scale(logits, 0.0).verdict == "fine"
    assert model_findings.logit_scale(logits, 15.0).verdict == "wrong"
    logits[..., 1:] = 0.0
    assert model_findings.logit_scale(logits, 15.0).verdict == "look"
    assert model_findings.logit_scale(logits + 1e4, 0.0).verdict == "fine"  # what is common to all changes nothing
    assert model_findings.logit_scale(logits * math.nan, 0.0).verdict == "wrong"


@pytest.mark.parametrize(("factor", "verdict"), [(1e-6, "wrong"), (1e3, "wrong")])
def test_a_wrong_learning_rate(factor, verdict, patient):
    settings(patient, lr=0.005 * factor)
    assert changed(patient) == {"update of a step / weights": verdict}


def test_update_ratios():
    assert model_findings.update_ratios({"a": 1e-3, "b": 2e-2, "c": 3e-4}).verdict == "fine"
    assert model_findings.update_ratios({"a": 1e-3, "b": 2e-1, "c": 3e-4}).verdict == "look"
    assert model_findings.update_ratios({"a": 1e-3, "b": 9e-6, "c": 3e-4}).verdict == "look"
    assert model_findings.update_ratios({"a": 1e-3, "b": 9e-6, "c": math.nan}).verdict == "wrong"


@pytest.mark.slow
def test_a_wrong_derivative_keeps_it_from_learning_by_heart(patient, monkeypatch):
    def wrong(x, w, b=None):
        y, backward = rule(x, w, b)

        def flipped(dy):
            dx, dw, *db = backward(dy)
            return dx, lambda: -dw(), *db

        return y, flipped

    rule = ops.linear.rule
    monkeypatch.setattr(ops.linear, "implementations", {})
    monkeypatch.setattr(ops.linear, "rule", wrong)
    assert verdicts(patient)["overfitting one sequence"] == "wrong"


# ---- the log


def logged(tmp_path, losses=(), norms=(), validation=()):
    """A log of steps from 1 on, and of validation losses by step."""
    log = Log(tmp_path / "log.jsonl")
    norms = norms or [1.0] * len(losses)
    log.records = [{"step": i, "loss": a, "norm": b} for i, (a, b) in enumerate(zip(losses, norms, strict=True), 1)]
    log.records += [{"step": step, "validation": loss} for step, loss in validation]
    return log


FALLING = [3 * 0.99**i + 0.01 * (-1) ** i for i in range(200)]


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [(4.0, "fine"), (4.6, "fine"), (5.2, "look"), (3.1, "look"), (8.0, "wrong"), (math.nan, "wrong")],
)
def test_the_loss_at_the_start(loss, verdict, tmp_path):
    log = logged(tmp_path, [loss, 1.0])
    assert log_findings.first_loss(log, round(math.exp(4.2))).verdict == verdict
    assert log_findings.first_loss(logged(tmp_path), 65).verdict == "wrong"


@pytest.mark.parametrize(("loss", "verdict"), [(1.0, "fine"), (4.4, "look"), (9.0, "wrong")])
def test_trained_weights_know_something_at_the_start(loss, verdict, tmp_path):
    assert log_findings.first_loss(logged(tmp_path, [loss]), 65, pretrained=True).verdict == verdict


def test_spikes(tmp_path):
    assert log_findings.spikes(logged(tmp_path, FALLING)).verdict == "fine"
    one = [*FALLING[:120], 4.0, *FALLING[121:]]
    found = log_findings.spikes(logged(tmp_path, one))
    assert (found.verdict, found.numbers["spikes"]) == ("look", [120])
    many = [loss + 3 * (i % 20 == 19) for i, loss in enumerate(FALLING)]
    assert log_findings.spikes(logged(tmp_path, many)).verdict == "wrong"
    assert log_findings.spikes(logged(tmp_path, FALLING[::-1])).verdict == "wrong"
    assert (
        log_findings.spikes(logged(tmp_path, [2.0 + 0.01 * (-1) ** i for i in range(100)] + [1.99])).verdict == "look"
    )
    assert log_findings.spikes(logged(tmp_path, FALLING[:5])).verdict == "look"  # too few to tell
    assert log_findings.spikes(logged(tmp_path)).verdict == "look"


def test_norms(tmp_path):
    def verdict(norms, clip=1.0):
        return log_findings.norm_curve(logged(tmp_path, [1.0] * len(norms), norms), clip).verdict

    steady = [5.0] * 10 + [0.5, 0.7] * 50
    assert verdict(steady) == "fine"
    assert verdict(steady, clip=0.4) == "look"
    assert verdict(steady, clip=0.0) == "fine"
    assert verdict([*steady, *[0.5 * 1.3**i for i in range(16)]], clip=0.0) == "look"
    assert verdict([0.01 * 1.1**i for i in range(120)]) == "wrong"
    assert verdict([*steady, *[math.nan] * 20]) == "wrong"
    assert verdict([]) == "fine"


@pytest.mark.parametrize(
    ("validation", "verdict", "state"),
    [
        ([2.5, 1.0, 0.6], "fine", "still falling"),
        ([2.5, 0.6, 0.605], "fine", "settled"),
        ([2.5, 0.5, 0.6], "look", "overfitting"),
        ([2.5, 0.2, 0.6], "wrong", "overfitting"),
        ([2.5, 1.6, 1.5], "look", "still falling"),
        ([1.0, 0.6, math.nan], "wrong", "settled"),
    ],
)
def test_validation_against_training(validation, verdict, state, tmp_path):
    log = logged(tmp_path, FALLING, validation=zip((50, 100, 200), validation, strict=True))
    found = log_findings.validation_curve(log)
    assert (found.verdict, found.numbers["state"]) == (verdict, state)
    assert log_findings.validation_curve(logged(tmp_path, FALLING)).verdict == "look"


def test_unused_tokens():
    assert log_findings.unused_tokens(np.arange(95), 100).verdict == "fine"
    found = log_findings.unused_tokens(np.repeat(np.arange(80), 3), 100)
    assert (found.verdict, found.numbers["unused"]) == ("look", 20)
    assert found.numbers["counts"][0] == 3
    assert found.numbers["counts"][-1] == 0


def test_entropy_of_attention():
    """1 for heads that look at all alike, 0 for one that looks at one key; else what its definition says."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 5, 4, 6)), rng.standard_normal((2, 5, 2, 6))
    v = np.zeros_like(k)
    np.testing.assert_allclose(model_findings.entropy(0 * q, k, v), np.ones(4), atol=1e-12)
    np.testing.assert_allclose(model_findings.entropy(1e6 * q, k, v), np.zeros(4), atol=1e-3)
    expected = np.zeros(4)
    for h in range(4):
        for b in range(2):
            for t in range(1, 5):
                z = np.array([q[b, t, h] @ k[b, s, h // 2] for s in range(t + 1)]) / math.sqrt(6)
                P = np.exp(z) / np.exp(z).sum()
                expected[h] -= (P * np.log(P)).sum() / math.log(t + 1) / 8
    np.testing.assert_allclose(model_findings.entropy(q, k, v), expected, atol=1e-12)
    np.testing.assert_allclose(model_findings.entropy(q[:, :1], k[:, :1], v[:, :1]), np.ones(4))  # nothing to choose


# ---- looking without touching


def test_observing_names_the_modules_and_leaves_nothing_behind():
    model = GPT(GPTConfig(7, 5, n_layer=2, n_head=2, n_embd=8))
    kinds = {type(module) for _, module in model.named_modules()}
    before = {kind: dict(vars(kind)) for kind in (Op, *kinds)}
    tokens, seen = np.arange(5)[None], []
    expected = model(tokens).data

    class Names(Observer):
        def operation(self, op, inputs, options, y):
            seen.append((current_module(), op.name, y.shape))

    with observing(Names()):
        found = model(tokens).data
    np.testing.assert_array_equal(found, expected)
    assert {kind: dict(vars(kind)) for kind in before} == before
    assert seen[0] == ("wte", "embedding", (1, 5, 8))
    assert ("h.1.attn", "attention", (1, 5, 2, 4)) in seen
    assert ("h.0.mlp.c_fc", "linear", (1, 5, 32)) in seen
    assert seen[-1] == ("", "linear", (1, 5, 7))
    count = len(seen)
    assert observers == []
    with pytest.raises(ShapeError, match=r"in h\.0\.ln_1"), observing(Names()):
        model.h[0](ops.add(np.zeros((1, 5, 3)), 0.0))
    assert {kind: dict(vars(kind)) for kind in before} == before
    assert observers == []
    assert current_module() == ""
    model(tokens)
    assert len(seen) == count + 1
