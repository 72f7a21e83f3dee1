"""Tasks in which the model writes: prompts, where its text ends, and the metrics."""

import json
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_evaluation import EndedTokenizer, byte_gpt, ended, json_file, values

from tinygrad_lm import no_grad
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate import evaluator, humaneval, prompting, squad
from tinygrad_lm.threads import workers

MODEL = byte_gpt(24)


@pytest.fixture
def script(monkeypatch):
    """Let generation write from a script {prompt: text}; returns what it was asked for."""
    asked, texts, tokenizer = [], {}, EndedTokenizer()

    def written(model, prompt, n, temperature, vocab_size):
        assert (temperature, vocab_size) == (0, tokenizer.vocab_size)
        asked.append((tokenizer.decode(prompt), n))
        text = texts[asked[-1][0]] if asked[-1][0] in texts else texts[None]
        yield from [*tokenizer.encode(text).tolist(), tokenizer.eot, 65, 66][:n]

    monkeypatch.setattr(evaluator, "generate", written)
    return lambda told: texts.update(told) or asked


# ---- where a text ends


@pytest.mark.slow
@settings(max_examples=25)
@given(prompt=st.text("abc ", min_size=1, max_size=40), n=st.integers(1, 12), threads=st.integers(1, 2))
def test_a_completion_is_the_likeliest_token_again_and_again(prompt, n, threads):
    tokenizer = EndedTokenizer()
    tokens, new = tokenizer.encode(prompt)[-(24 - n) :].tolist(), []
    while len(new) < n:
        with no_grad():
            new.append(int(MODEL(np.array([tokens + new])).data[0, -1].argmax()))
        if new[-1] == tokenizer.eot:
            new.pop()
            break
    with workers(threads):
        found = ended(MODEL).complete([prompt, "x"], n, [], "writing")
    assert found[0] == tokenizer.decode(new)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("written", "ends", "n", "found"),
    [
        ("one\ntwo", ["\n"], 20, "one"),
        ("one two", ["\n"], 20, "one two"),
        ("one two", ["\n"], 3, "one"),
        ("x = 1\nclass A", ["\ndef", "\nclass"], 20, "x = 1"),
        ("a\ndef b\nclass", ["\nclass", "\ndef"], 20, "a"),
        ("\n", ["\n"], 20, ""),
        ("é", [], 1, "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_completion_ends_at_the_first_end(written, ends, n, found, script):
    script({None: written})
    assert ended(MODEL).complete(["p"], n, ends, "writing") == [found]


def test_nothing_is_written_after_an_end(monkeypatch):
    def written(*arguments, **options):
        yield from b"ab\n"
        pytest.fail("the text had ended")

    monkeypatch.setattr(evaluator, "generate", written)
    assert ended(MODEL).complete(["p"], 9, ["\n"], "writing") == ["ab"]


def test_a_prompt_loses_its_beginning(script):
    asked = script({None: "x"})
    ended(MODEL).complete(["abcdefghij" * 3], 10, [], "writing")
    assert asked == [("ghijabcdefghij", 10)]  # 24 − 10


def test_samples_are_kept(tmp_path, script):
    asked = script({None: " return x\ndef g"})
    problems = [("HumanEval/0", "def f(x):", " return x"), ("HumanEval/1", "def h(x):", "\n 1")]
    humaneval.evaluate_humaneval(ended(MODEL), problems)
    assert list(tmp_path.iterdir()) == asked == []
    humaneval.evaluate_humaneval(ended(MODEL, samples=tmp_path / "new"), problems)
    kept = [json.loads(line) for line in (tmp_path / "new" / "humaneval.jsonl").read_text().splitlines()]
    assert kept == [{"task_id": id, "completion": " return x"} for id in ("HumanEval/0", "HumanEval/1")]


def test_code_ends_where_another_definition_begins(script):
    texts = {f"{i}": f" 1\n  # in\n{end} more" for i, end in enumerate(["class", "def", "#", "if", "print"])}
    script(texts)
    assert set(ended(MODEL).complete(list(texts), 99, humaneval.ENDS, "code")) == {" 1\n  # in"}


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"samples: cannot write .*squad.jsonl"):
        ended(MODEL, samples=tmp_path / "file").write_samples("squad", {"a": "b"})


# ---- translation


@pytest.fixture
def parallel_text(tmp_path):
    paths = tmp_path / "en", tmp_path / "fr"
    paths[0].write_text("the cat\nthe dog sleeps\na bird sings loudly today\n")
    paths[1].write_text("le chat\nle chien dort\nun oiseau chante fort aujourd'hui\n")
    return paths


def test_translation(parallel_text, script, tmp_path):
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: the extra eval")
    asked = script(
        {None: " un oiseau chante fort aujourd'hui\nmore", "the cat = le chat\nthe dog sleeps =": " le chien\n"}
    )
    model = byte_gpt(256)
    pairs = prompting.read_translation(*parallel_text)
    (found,) = prompting.evaluate_translation(ended(model, shots=1, samples=tmp_path), pairs)
    assert [prompt for prompt, _ in asked] == [
        "the cat = le chat\nthe dog sleeps =",
        "the cat = le chat\na bird sings loudly today =",
    ]
    written = ["le chien", "un oiseau chante fort aujourd'hui"]
    truth = [["le chien dort", "un oiseau chante fort aujourd'hui"]]
    assert found.value == pytest.approx(sacrebleu.corpus_bleu(written, truth).score)
    assert (found.metric, found.error, found.n) == ("bleu", None, 2)
    kept = [json.loads(line)["completion"] for line in (tmp_path / "translation.jsonl").read_text().splitlines()]
    assert kept == written


def test_a_perfect_translation(parallel_text, script):
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: the extra eval")
    pairs = prompting.read_translation(*parallel_text)
    script({f"{source} =": f" {target}\n" for source, target in pairs})
    assert prompting.evaluate_translation(ended(byte_gpt(256), limit=3), pairs)[0].value == pytest.approx(100)


def test_parallel_texts_must_be_parallel(parallel_text):
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: the extra eval")
    parallel_text[1].write_text("le chat\n")
    with pytest.raises(DataError, match=r"en has 3 lines, .*fr 1"):
        prompting.read_translation(*parallel_text)
    parallel_text[1].write_text("le chat\n\noiseau\n")
    with pytest.raises(DataError, match="line 2: expected a sentence and its translation"):
        prompting.read_translation(*parallel_text)


def test_examples_must_leave_something(script):
    with pytest.raises(ConfigError, match="3 solved examples leave nothing to evaluate of 3"):
        prompting.split_examples(ended(MODEL, shots=3), "squad", [1, 2, 3])
    assert prompting.split_examples(ended(MODEL, shots=1, limit=1), "squad", [1, 2, 3]) == ([1], [2])


@pytest.mark.parametrize(
    ("read", "name"), [("read_translation", "sacrebleu"), ("read_summarization", "rouge_score.rouge_scorer")]
)
def test_a_missing_library_is_known_at_once(read, name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    paths = [tmp_path] * (2 if read == "read_translation" else 1)
    with pytest.raises(ConfigError, match=rf"{name} is not installed; pip install 'tinygrad-lm\[eval\]'"):
        getattr(prompting, read)(*paths)


# ---- summaries


@pytest.mark.slow
def test_summaries(tmp_path, script):
    pytest.importorskip("rouge_score", reason="rouge-score is not installed: the extra eval")
    long, short = ("ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 9, "the cat sat ."), ("Short.", "dogs bark loudly")
    path = json_file(tmp_path / "cnn.jsonl", *[{"article": a, "highlights": b} for a, b in (long, short)])
    asked = script({None: " The cat! It sat. So.\n And more.", "Short.\nTL;DR:": " dogs bark\n"})
    found = prompting.evaluate_summarization(ended(byte_gpt(128), samples=tmp_path), prompting.read_summarization(path))
    assert asked == [
        ("ABCDEFGHIJKLMNOPQRSTU\nTL;DR:", 100),
        ("Short.\nTL;DR:", 100),
    ]  # 128 − 100 − 7: the article's end goes
    kept = [json.loads(line)["completion"] for line in (tmp_path / "summarization.jsonl").read_text().splitlines()]
    assert kept == ["The cat! It sat. So.", "dogs bark"]
    # "the cat it sat so" against "the cat sat": 3 of 5 and of 3, pairs 1 of 4 and of 2, in a row 3; then 2 of 2, of 3.
    f = lambda common, found, right: 200 * common / (found + right)
    assert values(found) == pytest.approx(
        {
            "rouge1": (f(3, 5, 3) + f(2, 2, 3)) / 2,
            "rouge2": (f(1, 4, 2) + f(1, 1, 2)) / 2,
            "rougeL": (f(3, 5, 3) + f(2, 2, 3)) / 2,
        }
    )


@pytest.mark.parametrize(
    ("text", "n", "found"),
    [
        (" One. Two! Three? Four.", 3, "One. Two! Three?"),
        ("3.5 of it. Yes", 1, "3.5 of it."),
        ("no end", 3, "no end"),
        ("a line\nanother. third", 2, "a line another."),
        ("", 3, ""),
    ],
)
def test_sentences(text, n, found):
    assert prompting.first_sentences(text, n) == found


# ---- SQuAD


@pytest.mark.parametrize(
    ("found", "answers", "exact", "f1"),
    [
        ("The Cat!", ["cat"], 1, 1),
        ("a big cat", ["cat", "dog"], 0, 2 / 3),  # P 1/2, R 1
        ("cat cat dog", ["cat dog"], 0, 4 / 5),  # a word counts as often as both have it
        ("cat cat dog", ["cat cat"], 0, 4 / 5),
        ("in the year 1492", ["1492", "year 1492"], 0, 4 / 5),
        ("mouse", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("", ["the"], 1, 1),  # an answer of nothing but articles is none
        ("", ["the", "cat"], 0, 0),
        ("another", ["other"], 0, 0),  # an article is a word, not letters
        ("don't", ["dont"], 1, 1),
    ],
)
def test_exact_match_and_f1_by_hand(found, answers, exact, f1):
    assert squad.best(squad.exact, found, answers) == exact
    assert squad.best(squad.f1, found, answers) == pytest.approx(f1)


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_and_one_for_the_same(a, b):
    a, b = squad.normalized_words(a), squad.normalized_words(b)
    assert squad.f1(a, b) == squad.f1(b, a) <= 1
    assert squad.f1(a, a) == squad.exact(a, a) == 1


def question(id, text, *answers, **more):
    return {"id": id, "question": text, "answers": [{"text": a, "answer_start": 0} for a in answers]} | more


def squad_file(tmp_path, *qas):
    path = tmp_path / "dev-v2.0.json"
    paragraphs = [{"context": "Cats sleep.", "qas": list(qas)}]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Cats", "paragraphs": paragraphs}]}))
    return path


def test_squad(tmp_path, script):
    path = squad_file(
        tmp_path,
        question("1", "Who?", "Cats", "cats do"),
        question("2", "What?", "sleep", is_impossible=False),
        question("3", "When?", is_impossible=True),
        question("4", "Where?", is_impossible=True),
    )
    shot = "Cats sleep.\n\nQ: Who?\nA: Cats\n\n"
    asked = [f"{shot}Cats sleep.\n\nQ: {q}?\nA:" for q in ("What", "When", "Where")]
    told = script(dict(zip(asked, [" They sleep.\nQ", " Unanswerable.\n", " here"], strict=True)))
    found = squad.evaluate_squad(ended(byte_gpt(256), shots=1, samples=tmp_path), squad.read_squad(path))
    assert [prompt for prompt, _ in told] == asked
    assert values(found) == pytest.approx({"exact": 100 / 3, "f1": 100 * (2 / 3 + 1) / 3})
    assert found[0].error == pytest.approx(100 / 3)  # √(1/3 · 2/3 / 2)
    kept = [json.loads(line) for line in (tmp_path / "squad.jsonl").read_text().splitlines()]
    assert kept[0] == {"task_id": "2", "completion": "They sleep."}


def test_an_example_without_an_answer_shows_what_to_say(tmp_path, script):
    path = squad_file(tmp_path, question("1", "Who?", is_impossible=True), question("2", "What?", "sleep"))
    told = script({None: "x"})
    squad.evaluate_squad(ended(byte_gpt(256), shots=1), squad.read_squad(path))
    assert told[0][0].startswith("Cats sleep.\n\nQ: Who?\nA: unanswerable\n\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "expected an object with data: a list, found '[]'"),
        ("{", "expected JSON"),
        ('{"data": []}', "expected questions, found none"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "found no context"),
        (question("7", "Q"), "after 0 questions: question 7: expected answers"),
        (question("7", 3, "a"), "expected question: text, found '3'"),
        (question("7", "Q", "a") | {"answers": ["a"]}, "expected an object with text: text, found 'a'"),
    ],
)
def test_a_damaged_squad_file(content, told, tmp_path):
    path = squad_file(tmp_path, content)
    if isinstance(content, str):
        path.write_text(content)
    with pytest.raises(DataError, match=re.escape(told)) as error:
        squad.read_squad(path)
    assert str(path) in str(error.value)
