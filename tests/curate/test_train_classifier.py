"""Training the quality classifier: its gradient, its batches, and that it recovers planted differences."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_texts import vocabulary, zipf

from tinygrad_lm.curate.cleaning.classifier import ALPHA, FEATURES, Classifier, features
from tinygrad_lm.curate.cleaning.train_classifier import (
    HELD_OUT,
    Logistic,
    draw_texts,
    fit_logistic,
    logistic_loss,
    measure_scores,
    pad_features,
    read_features,
    score_table,
)
from tinygrad_lm.data.__main__ import main
from tinygrad_lm.errors import DataError

VOCABULARY = vocabulary(2000)


def texts(count, seed, spread=0.0, length=(50, 200)):
    """Zipf's texts; spread: how differently three of ten words are used, in e-folds."""
    same = np.random.default_rng(7)
    frequencies = np.where(same.random(2000) < 0.3, np.exp(spread * same.standard_normal(2000)), 1)
    rng = np.random.default_rng(seed)
    return [" ".join(zipf(VOCABULARY, int(rng.integers(*length)), rng, frequencies)) for _ in range(count)]


def test_the_loss_and_its_gradient_are_those_of_logistic_regression():
    """In closed form, ∂loss/∂z = (σ(z) − good) / B, on dense vectors in float64."""
    rng = np.random.default_rng(0)
    rows = [features(text) for text in texts(6, 0, length=(1, 30))]
    good = np.array([1, 0, 1, 1, 0, 0])
    model = Logistic().initialize(dtype=np.float64)
    w, b = model.weight.data, model.bias.data
    w[...], b[...] = rng.standard_normal(w.shape), 0.3
    ids, values = pad_features(rows)
    error = logistic_loss(model(ids, values.astype(np.float64)), good)
    error.backward()
    x = np.zeros((6, FEATURES))
    for i, (ids, values) in enumerate(rows):
        x[i, ids] = values
    p = 1 / (1 + np.exp(-(x @ w[:, 0] + b[0])))
    assert float(error.data) == pytest.approx(-np.mean(np.log(np.where(good, p, 1 - p))), rel=1e-12)
    assert np.allclose(model.weight.grad[:, 0], x.T @ (p - good) / 6, rtol=1e-12, atol=1e-15)
    assert model.bias.grad[0] == pytest.approx(np.mean(p - good), rel=1e-12)


def test_what_is_trained_is_what_scores():
    rows = texts(4, 1)
    model = Logistic().initialize()
    model.weight.data[...] = np.random.default_rng(1).standard_normal((FEATURES, 1))
    model.bias.data[...] = -0.2
    classifier = Classifier(model.weight.data[:, 0], model.bias.data[0], {})
    z = model(*pad_features([features(text) for text in rows])).data[:, 0]
    assert np.allclose([classifier.score(text) for text in rows], 1 / (1 + np.exp(-z)), atol=1e-6)


@given(n=st.integers(1, 50), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_each_pass_takes_every_text_once(n, count, seed):
    places = [place for step in range(3 * n) for place in draw_texts(n, count, seed, "good", step)]
    for start in range(0, len(places) - n + 1, n):
        assert sorted(places[start : start + n]) == list(range(n))


def test_passes_and_kinds_and_seeds_have_orders_of_their_own():
    orders = [tuple(draw_texts(50, 50, *which)) for which in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))]
    assert len(set(orders)) == 4
    assert draw_texts(50, 50, 0, "a", 0) == list(orders[0])


@pytest.mark.slow
def test_planted_quality_is_found():
    """Two kinds of text from known frequencies, so the best possible classifier is known: their likelihood ratio."""
    good, bad = texts(600, 1), texts(600, 2, spread=1.0)
    losses = []
    model = fit_logistic(
        *([features(text) for text in side[:400]] for side in (good, bad)), 200, 0, lambda _, x: losses.append(x)
    )
    classifier = Classifier(model.weight.data[:, 0], model.bias.data[0], {})
    facts = measure_scores(*([classifier.score(text) for text in side[400:]] for side in (good, bad)))
    assert losses[0] == pytest.approx(np.log(2))
    assert np.mean(losses[-20:]) < 0.2
    assert min(facts["accuracy"], facts["precision"], facts["recall"]) > 0.93
    assert facts["kept of good"] > 10 * facts["kept of bad"]
    same = measure_scores(*([classifier.score(text) for text in texts(200, seed)] for seed in (3, 4)))
    assert abs(same["accuracy"] - 0.5) < 0.1  # equal texts cannot be distinguished


def test_training_is_the_same_every_time_and_other_for_other_seeds():
    good, bad = ([features(text) for text in texts(50, seed, spread)] for seed, spread in ((1, 0), (2, 1)))
    for sides in ((good, bad[:1]), (good[:1], bad)):  # each side's order
        a, b, c = (fit_logistic(*sides, 2, seed).weight.data for seed in (0, 0, 1))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_few_of_one_kind_weigh_as_much_as_many_of_the_other():
    good, bad = [features("a")] * 3, [features("b")] * 90
    model = fit_logistic(good, bad, 30)
    classifier = Classifier(model.weight.data[:, 0], model.bias.data[0], {})
    assert classifier.score("c") == pytest.approx(0.5, abs=1e-3)
    assert classifier.score("a") == pytest.approx(1 - classifier.score("b"), abs=1e-3)
    assert classifier.score("a") > 0.7


def test_what_is_measured():
    facts = measure_scores([0.9, 0.8, 0.3, 0.6], [0.2, 0.7])
    assert facts["recall"] == 3 / 4
    assert facts["accuracy"] == (3 / 4 + 1 / 2) / 2
    assert facts["precision"] == 0.75 / (0.75 + 0.5)
    assert facts["kept of good"] == pytest.approx(np.mean([(2 - s) ** -ALPHA for s in (0.9, 0.8, 0.3, 0.6)]))
    assert facts["kept of bad"] == pytest.approx(np.mean([(2 - s) ** -ALPHA for s in (0.2, 0.7)]))
    assert measure_scores([0.1], [0.1])["precision"] == 0
    assert score_table([0.95, 1.0], [0.0, 0.05]).splitlines()[1:] == [
        "0.0 – 0.1    0.0%  100.0%    0.2%",
        *(f"{i / 10:.1f} – {i / 10 + 0.1:.1f}    0.0%    0.0% {(1.95 - i / 10) ** -9:7.1%}" for i in range(1, 9)),
        "0.9 – 1.0  100.0%    0.0%   64.5%",
    ]


# The command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for kind, spread in (("good", 0), ("bad", 1)):
        for i, text in enumerate(texts(120, len(kind), spread)):
            (folder / f"{kind}{i:03}.txt").write_text(text)
    return folder


def command(files, out, *more):
    files = ["--good", f"{files}/good*.txt", "--bad", f"{files}/bad*.txt"]
    return main(["train-classifier", *files, "--out", out, "--steps", "60", *more])


@pytest.mark.slow
def test_the_command(files, tmp_path, capsys):
    assert command(files, tmp_path / "a.safetensors") == 0
    out = capsys.readouterr().out
    classifier = Classifier.load(tmp_path / "a.safetensors")
    settings = classifier.settings
    assert (settings["steps"], settings["seed"]) == (60, 0)
    assert 90 <= settings["good"] < 120
    assert f"trained on {settings['good']} good and {settings['bad']} bad texts" in out
    assert f"accuracy      {settings['accuracy']:.3f}" in out
    assert "score       good     bad    kept" in out
    for seed, spread, wanted in ((14, 0, 1), (13, 1, 0)):  # others of the same kinds
        assert np.mean([(classifier.score(text) > 0.5) == wanted for text in texts(120, seed, spread)]) > 0.85

    command(files, tmp_path / "b.safetensors")
    command(files, tmp_path / "c.safetensors", "--seed", "1")
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_the_first_so_many_texts_are_read(files):
    learned, held_out = read_features([f"{files}/good*.txt"], 100, "good")
    assert len(learned) + len(held_out) == 100
    assert len(held_out) == pytest.approx(100 / HELD_OUT, abs=10)
    twice = read_features([f"{files}/good*.txt"] * 2, 240, "good")
    ids = [{tuple(ids) for ids, _ in side} for side in twice]
    assert not ids[0] & ids[1]  # a text and its copy are on one side
    assert sum(map(len, ids)) == 120


def test_a_file_that_is_there_stays(files, tmp_path, capsys, monkeypatch):
    """And it is reported before the work begins."""
    monkeypatch.setattr("tinygrad_lm.curate.cleaning.train_classifier.read_texts", None)
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    assert command(files, tmp_path / "a.safetensors") == 2
    assert "a.safetensors exists; choose another name, or remove it first" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--good", "nothing.txt"], "nothing.txt"),
        (["--good", __file__], "test_train_classifier.py: its name does not imply its format"),
        (
            ["--documents", "3"],
            "texts: expected some for training and one in 10 held out, found 3 and 0; provide more",
        ),
        (["--documents", "0"], "at least one document and one step, found 0 and 60"),
        (["--steps", "-1"], "at least one document and one step, found 50000 and -1"),
        (["--out", "missing/a.safetensors"], "the folder of missing/a.safetensors does not exist"),
        (["--seed", "-1"], "a seed is a whole number"),
    ],
)
def test_mistakes_are_told(files, tmp_path, capsys, more, complaint):
    assert command(files, tmp_path / "a.safetensors", *more) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert complaint in err
    assert not list(tmp_path.iterdir())


def test_nothing_to_hold_out_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(DataError, match=r"bad texts: .* found 0 and 0; provide more"):
        read_features([str(tmp_path / "a.txt")], 5, "bad")


def test_fields_are_of_the_files_that_have_them(files, tmp_path):
    """--field content of the good texts' JSON lines, beside bad ones that are plain text."""
    rows = [{"content": path.read_text(), "text": "another"} for path in sorted(files.glob("good*.txt"))]
    (tmp_path / "good.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = ["--good", f"{tmp_path}/good.jsonl", "--steps", "2"]
    assert command(files, tmp_path / "a.safetensors", *more, "--field", "content") == 0
    assert command(files, tmp_path / "b.safetensors", "--steps", "2") == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
