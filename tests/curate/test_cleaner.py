"""Cleaning one document: which steps run, in which order, and how removed texts are reported."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_texts import ANY_TEXT

from tinygrad_lm.curate.cleaning.classifier import FEATURES, Classifier, features
from tinygrad_lm.curate.cleaning.cleaner import Cleaned, Cleaner, Removal, cleaning_notes, cleaning_problems
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.cleaning.quality import RULES
from tinygrad_lm.data.mixture.mixture_file import CleaningConfig
from tinygrad_lm.errors import DataError

EVALUATION = "to be or not to be that is the question whether tis nobler in the mind"
SENTENCE = "The old cat of the house sat with the dog and was glad to have it there."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Evaluation texts, and a classifier that knows one bad word: "spam"."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "eval").mkdir()
    (folder / "eval" / "a.txt").write_text(EVALUATION)
    (folder / "eval" / "b.json").write_text(
        '["one two three four five six seven eight nine ten eleven twelve thirteen"]'
    )
    weight = np.zeros(FEATURES, np.float32)
    weight[features("spam")[0]] = -1000
    Classifier(weight, 100, {}).save(folder / "quality.safetensors")
    return folder


def test_without_settings_a_text_is_normalised():
    assert Cleaner(CleaningConfig())("cafe\u0301 \r\n") == Cleaned(("café",), ())
    for nothing in ("", " \n\x00"):
        assert Cleaner(CleaningConfig())(nothing) == Cleaned((), (Removal("normalise", "empty", ""),))


def test_a_rule_removes_the_whole_text_and_says_why():
    cleaner = Cleaner(CleaningConfig(rules=("fineweb", "gopher")))
    assert cleaner("Short.") == Cleaned(
        (), (Removal("fineweb", "67% of lines or more have fewer than 30 characters", "Short."),)
    )
    assert cleaner(SENTENCE) == Cleaned((), (Removal("gopher", "fewer than 50 words", SENTENCE),))


def test_rules_are_asked_in_their_order():
    text = "A menu\nand another"
    for rules in (("gopher", "c4"), ("c4", "gopher")):
        assert [removal.step for removal in Cleaner(CleaningConfig(rules=rules))(text).removed] == [rules[0]]


def test_lines_that_c4_takes_out_are_told_and_the_next_rule_does_not_see_them():
    text = f"{SENTENCE}\nMenu\n{SENTENCE}\nImprint\n{SENTENCE}"
    assert Cleaner(CleaningConfig(rules=("c4",)))(text) == Cleaned(
        ("\n".join([SENTENCE] * 3),), (Removal("c4", "lines", "Menu\nImprint"),)
    )
    text = "\n".join([SENTENCE] * 3 + [f"menu {i}" for i in range(27)])
    cleaned = Cleaner(CleaningConfig(rules=("c4", "fineweb")))(text)
    assert [(removal.step, removal.reason) for removal in cleaned.removed] == [
        ("c4", "lines"),
        ("fineweb", "10% of characters or more are in repeated lines"),
    ]
    assert cleaned.removed[1].text == "\n".join([SENTENCE] * 3)
    # For a text that is removed whole, removed lines are not reported separately.
    assert Cleaner(CleaningConfig(rules=("c4",)))("Menu\nImprint").removed == (
        Removal("c4", "fewer than 3 sentences", "Menu\nImprint"),
    )


def test_what_c4_leaves_is_normalised():
    cleaned = Cleaner(CleaningConfig(rules=("c4",)))(f"The e[1]\u0301clair was very good. {SENTENCE} {SENTENCE}")
    assert cleaned.texts[0].startswith("The \xe9clair")


def test_the_classifier_removes_what_it_is_sure_of(folder):
    cleaner = Cleaner(CleaningConfig(classifier="quality.safetensors"), folder)
    texts = [f"{word} number {i}" for word in ("ham", "spam") for i in range(50)]
    kept = [bool(cleaner(text).texts) for text in texts]
    assert all(kept[:50])
    assert sum(kept[50:]) <= 2  # 1 in 512
    removed = next(text for text, k in zip(texts, kept, strict=True) if not k)
    assert cleaner(removed) == Cleaned((), (Removal("classifier", "not drawn", removed),))
    first = Cleaner(CleaningConfig(classifier="quality.safetensors", rules=("gopher",)), folder)
    assert first("spam " * 10).removed[0].step == "gopher"


def test_decontamination_cuts_and_tells_the_passages(folder):
    cleaner = Cleaner(CleaningConfig(decontaminate=("eval/*",)), folder)
    before, after = "b" * 250 + " ", " " + "a" * 250
    passage = f"{'x' * 199} {EVALUATION.title()}! {'y' * 199}"
    assert cleaner(before + passage + after) == Cleaned(
        (before, after), (Removal("decontaminate", "passage", passage),)
    )
    for number in ("One, two, three, four, five: six seven eight nine ten eleven twelve thirteen", EVALUATION):
        assert cleaner(number) == Cleaned((), (Removal("decontaminate", "too little left", number),))
    assert cleaner(SENTENCE) == Cleaned((SENTENCE,), ())


def test_decontamination_sees_what_c4_put_together(folder):
    """Words of two lines become neighbours when the line between them is removed."""
    half = EVALUATION.index("that")
    text = f"{SENTENCE}\n{EVALUATION[:half]}.\nMenu\n{EVALUATION[half:]}.\n{SENTENCE}"
    assert Cleaner(CleaningConfig(decontaminate=("eval/*",)), folder)(text).texts == (text,)
    cleaned = Cleaner(CleaningConfig(rules=("c4",), decontaminate=("eval/*",)), folder)(text)
    assert [removal.step for removal in cleaned.removed] == ["c4", "decontaminate"]


def test_everything_wrong_is_told_at_once(folder):
    clean = CleaningConfig(
        rules=("gofer", "c4", "c5"), classifier="x.safetensors", decontaminate=("eval/*.txt", "exam/*")
    )
    found = cleaning_problems(clean, folder)
    assert found == [
        "rules: 'gofer' is unknown; expected some of gopher, repetition, c4, fineweb",
        "rules: 'c5' is unknown; expected some of gopher, repetition, c4, fineweb",
        f"classifier: {folder / 'x.safetensors'} is missing; train-classifier makes one",
        f"decontaminate: no file matches {folder / 'exam/*'}; check the pattern",
    ]
    with pytest.raises(DataError) as raised:
        Cleaner(clean, folder)
    assert str(raised.value) == "\n  ".join(["clean: 4 problems", *found])
    assert (
        cleaning_problems(
            CleaningConfig(rules=tuple(RULES), decontaminate=("eval/*",), classifier="quality.safetensors"), folder
        )
        == []
    )


def test_files_are_read_at_the_first_document_and_once(folder, tmp_path, monkeypatch):
    (tmp_path / "broken.json").write_text("{")
    cleaner = Cleaner(CleaningConfig(decontaminate=("broken.json",)), tmp_path)
    with pytest.raises(DataError, match=r"broken\.json"):
        cleaner("text")
    (tmp_path / "whole.json").write_text('["x"]')
    clean = CleaningConfig(decontaminate=("whole.json",))
    Cleaner(clean, tmp_path)("text")
    monkeypatch.setattr("tinygrad_lm.curate.cleaning.cleaner.Contamination", None)
    assert Cleaner(clean, str(tmp_path))("text").texts == ("text",)


def test_evaluation_texts_that_are_too_short_are_told(tmp_path):
    twelve = " ".join(map(str, range(12)))
    for name, texts in (("a", [twelve, f"{twelve} – !", f"{twelve} 12"]), ("b", ["x"]), ("c", []), ("d", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts))
    clean, several = CleaningConfig(decontaminate=("a.json",)), CleaningConfig(decontaminate=("*.json",))
    assert list(cleaning_notes([clean, CleaningConfig(), several, clean], tmp_path)) == [
        "decontaminate: 2 of 3 texts in a.json have fewer than 13 words; copies of these are not detected",
        "decontaminate: 3 of 4 texts in a.json, b.json, c.json, … have fewer than 13 words; copies of these are not "
        "detected",
    ]
    assert Cleaner(clean, tmp_path)(f"{twelve} 11 {twelve} 12 {SENTENCE}").removed  # 0 to 12
    assert not Cleaner(clean, tmp_path)(f"{twelve} 11 {twelve} 11 {SENTENCE}").removed


def test_settings_and_results_travel_between_processes(folder):
    clean = CleaningConfig(rules=("c4",), decontaminate=("eval/*",), classifier="quality.safetensors")
    assert pickle.loads(pickle.dumps(clean)) == clean
    cleaned = Cleaner(clean, folder)(f"{SENTENCE}\nMenu\n{SENTENCE} {SENTENCE}")
    assert cleaned.texts
    assert pickle.loads(pickle.dumps(cleaned)) == cleaned


@given(text=ANY_TEXT, rules=st.lists(st.sampled_from(list(RULES))), all_steps=st.booleans())
def test_any_text_is_cleaned_and_always_alike(folder, text, rules, all_steps):
    more = {"decontaminate": ("eval/*",), "classifier": "quality.safetensors"} if all_steps else {}
    clean = CleaningConfig(rules=tuple(rules), **more)
    cleaned = Cleaner(clean, folder)(text)
    assert cleaned == Cleaner(clean, folder)(text)
    assert bool(cleaned.texts) or len(cleaned.removed) >= 1
    for text in cleaned.texts:
        assert text == normalise(text) != ""
