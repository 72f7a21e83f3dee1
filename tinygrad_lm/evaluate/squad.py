"""SQuAD (Rajpurkar et al. 2016, 2018): questions about a passage, answered with words from it."""

import re
import string
from collections import Counter
from pathlib import Path

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.files import expect, parse_json
from tinygrad_lm.evaluate.prompting import split_examples
from tinygrad_lm.evaluate.report import mean

NONE = "unanswerable"  # the answer when the passage has none


def read_squad(path):
    """[(id, passage, question, answers)] of version 1.1 or 2.0; answers is empty if the passage has none."""
    questions = []
    try:
        (articles,) = expect(parse_json(read_text(path)), data=list)
        for article in articles:
            for paragraph in expect(article, paragraphs=list)[0]:
                passage, asked = expect(paragraph, context=str, qas=list)
                for one in asked:
                    id, question, answers = expect(one, id=str, question=str, answers=list)
                    texts = [expect(answer, text=str)[0] for answer in answers]
                    if not texts and not one.get("is_impossible"):
                        raise ValueError(f"question {id}: expected answers, found none")
                    questions.append((id, passage, question, texts))
    except ValueError as error:
        raise DataError(f"data file {Path(path)}: after {len(questions):,} questions: {error}") from error
    if not questions:
        raise DataError(f"data file {Path(path)}: expected questions, found none")
    return questions


def evaluate_squad(evaluator, questions):
    """100 × exact match and F1, as in SQuAD, of the line after "A:". The first `shots` are solved examples."""
    examples, questions = split_examples(evaluator, "squad", questions)
    before = "".join(
        f"{prompt(passage, question)} {(answers or [NONE])[0]}\n\n" for _, passage, question, answers in examples
    )
    asked = [before + prompt(passage, question) for _, passage, question, _ in questions]
    found = [text.strip() for text in evaluator.complete(asked, 30, ["\n"], "squad")]
    evaluator.write_samples("squad", {id: text for (id, *_), text in zip(questions, found, strict=True)})
    pairs = [
        ("" if normalized_words(text) == [NONE] else text, answers)
        for text, (*_, answers) in zip(found, questions, strict=True)
    ]
    return [
        mean("exact", [best(exact, text, answers) for text, answers in pairs], 100),
        mean("f1", [best(f1, text, answers) for text, answers in pairs], 100),
    ]


def prompt(passage, question):
    return f"{passage}\n\nQ: {question}\nA:"


def best(metric, text, answers):
    """The metric against the answer that fits best; without answers, against the empty one."""
    return max(
        metric(normalized_words(text), normalized_words(answer))
        for answer in [a for a in answers if normalized_words(a)] or [""]
    )


def normalized_words(text):
    """Lower case, without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact(found, right):
    return float(found == right)


def f1(found, right):
    """2PR / (P + R), P = common words / found, R = common words / right; 1 if both are empty."""
    if not found or not right:
        return float(found == right)
    common = sum((Counter(found) & Counter(right)).values())
    return 2 * common / (len(found) + len(right))
