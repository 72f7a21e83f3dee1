"""The quality classifier: features, scores, Pareto's rule, its file."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from slow import slow_but

from tinygrad_lm.curate.cleaning.classifier import FEATURES, FILE_FORMAT, Classifier, features
from tinygrad_lm.errors import DataError


def constant(score):
    """A classifier that gives every text this score."""
    return Classifier(np.zeros(FEATURES, np.float32), np.log(score) - np.log1p(-score), {})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_a_vector_of_length_1(text):
    ids, values = features(text)
    assert len(ids) == len(values) == len(set(ids.tolist()))
    assert ((ids >= 0) & (ids < FEATURES)).all()
    assert np.isclose((values**2).sum(), 1) or not text.split()


def test_features_are_words_by_their_share():
    ids, values = features("The cat the THE dog")
    assert sorted(values.tolist()) == pytest.approx([0.2**0.5, 0.2**0.5, 0.6**0.5])
    assert set(features("the")[0]) < set(ids)
    assert ids[values.argmax()] == features("tHe")[0][0]
    assert features("The\ncat  the\tTHE dog the cat the the dog")[0].tolist() == ids.tolist()


def test_the_score_is_the_sigmoid_of_what_the_words_weigh():
    weight = np.zeros(FEATURES, np.float32)
    weight[features("good")[0]], weight[features("bad")[0]] = 2, -3
    classifier = Classifier(weight, 0.5, {})
    for text, z in (("good", 2.5), ("bad", -2.5), ("other", 0.5), ("", 0.5), ("good bad", 0.5 - 0.5**0.5)):
        assert classifier.score(text) == pytest.approx(1 / (1 + np.exp(-z)))
    for bias in (-1e30, 1e30):  # no overflow
        assert Classifier(weight, bias, {}).score("good") == (bias > 0)


@pytest.mark.parametrize("score", slow_but([0.001, 0.3, 0.5, 0.8, 0.95, 0.999], 0.95))
def test_texts_are_kept_as_often_as_pareto_says(score):
    classifier, n = constant(score), 20_000
    kept = sum(classifier.keeps(f"text {i}") for i in range(n))
    p = (2 - score) ** -9
    assert abs(kept - n * p) < 4 * np.sqrt(n * p * (1 - p)) + 1


@pytest.mark.parametrize("score", slow_but([0.1, 0.5, 0.7, 0.95], 0.5))
def test_texts_are_kept_as_often_as_numpys_pareto_would(score):
    """Brown et al. 2020, appendix A: kept if np.random.pareto(α) > 1 − score."""
    theirs = np.random.default_rng(0).pareto(9, 10**6) > 1 - score
    ours = [constant(score).keeps(f"text {i}") for i in range(20_000)]
    p = theirs.mean()
    assert abs(np.mean(ours) - p) < 5 * np.sqrt(p * (1 - p) / len(ours))


def test_a_better_score_keeps_all_that_a_worse_one_keeps():
    texts = [f"text {i}" for i in range(2000)]
    worse, better = ({text for text in texts if constant(score).keeps(text)} for score in (0.5, 0.8))
    assert worse < better
    assert len(worse) > 20
    assert all(Classifier(np.zeros(FEATURES, np.float32), 100, {}).keeps(text) for text in texts)


def test_the_draw_is_not_the_one_of_other_choices():
    """With the hash that decides about validation, all kept texts would be on one side."""
    from tinygrad_lm.curate.cleaning.duplicates import signature

    texts = [f"text {i}" for i in range(5000)]
    kept = [text for text in texts if constant(0.8).keeps(text)]
    for order in ("big", "little"):
        low = np.mean([int.from_bytes(signature("exact", text), order) < 2**63 for text in kept])
        assert abs(low - 0.5) < 4 * 0.5 / np.sqrt(len(kept))


# The file


@pytest.fixture
def saved(tmp_path):
    weight = np.random.default_rng(0).standard_normal(FEATURES).astype(np.float32)
    Classifier(weight, np.float32(0.3), {"seed": 1}).save(tmp_path / "quality.safetensors")
    return tmp_path / "quality.safetensors"


def test_it_is_loaded_as_it_was(saved):
    loaded = Classifier.load(saved)
    weight = np.random.default_rng(0).standard_normal(FEATURES).astype(np.float32)
    assert np.array_equal(loaded.weight, weight)
    assert (loaded.bias, loaded.settings) == (np.float32(0.3), {"seed": 1})
    assert [path.name for path in saved.parent.iterdir()] == ["quality.safetensors"]


@given(data=st.data())
def test_any_changed_byte_is_noticed(saved_bytes, data):
    path, content = saved_bytes
    start = 8 + int.from_bytes(content[:8], "little")  # of the arrays: the bias is their first or last 4 bytes
    at = data.draw(
        st.sampled_from([start, len(content) - 1]) | st.integers(0, start) | st.integers(0, len(content) - 1)
    )
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    if bytes([content[at], changed[at]]).isspace():  # one space for another changes nothing
        return
    with pytest.raises(DataError, match=r"quality\.safetensors"):
        Classifier.load(path)


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "quality.safetensors"
    constant(0.5).save(path)
    return path, path.read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected a file from train-classifier"),
        (b"no safetensors at all", "expected a file from train-classifier"),
        (safetensors.numpy.save({"wte": np.zeros(3)}, {"classifier": "{"}), "expected a file from train-classifier"),
        (safetensors.numpy.save({"wte": np.zeros(3)}), "expected a file from train-classifier"),
        (safetensors.numpy.save({"weight": np.zeros(3), "bias": np.zeros(1)}), "expected 'tinygrad_lm quality"),
        (
            safetensors.numpy.save(
                {"weight": np.zeros(3), "bias": np.zeros(1)}, {"classifier": json.dumps({"format": FILE_FORMAT})}
            ),
            r"found 'tinygrad_lm quality classifier 1' with .*'weight': \(\(3,\), 'float64'\)",
        ),
        (
            safetensors.numpy.save(
                {"weight": np.zeros(FEATURES, "f4"), "bias": np.zeros(1, "f4")},
                {"classifier": json.dumps({"format": FILE_FORMAT, "settings": {}})},
            ),
            "is damaged: its checksum is wrong",
        ),
    ],
)
def test_another_file_is_refused(tmp_path, content, complaint):
    (tmp_path / "quality.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        Classifier.load(tmp_path / "quality.safetensors")


def test_no_file_is_an_error(tmp_path):
    for path in (tmp_path / "quality.safetensors", tmp_path):
        with pytest.raises(DataError, match=r"cannot be read|train-classifier wrote"):
            Classifier.load(path)
    with pytest.raises(DataError, match="cannot be written: No such file"):
        constant(0.5).save(tmp_path / "missing" / "quality.safetensors")
