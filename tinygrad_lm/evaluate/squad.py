"""SQuAD (Rajpurkar et al. 2016, 2018): questions about a passage, answered in its words."""

import re
import string
from collections import Counter
from pathlib import Path

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.prompting import divide
from tinygrad_lm.evaluate.files import expect, parse
from tinygrad_lm.evaluate.report import mean

NONE = "unanswerable"  # how a model says that the passage does not tell


def read(path):
    """[(id, passage, question, answers)] of version 1.1 or 2.0; no answers: the passage does not tell."""
    questions = []
    try:
        (articles,) = expect(parse(read_text(path)), data=list)
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


def run(evaluation, questions):
    """exact and f1, as the data define them, × 100, of the line after "A:". The first `shots` are examples."""
    examples, questions = divide(evaluation, "squad", questions)
    before = "".join(
        f"{prompt(passage, question)} {(answers or [NONE])[0]}\n\n" for _, passage, question, answers in examples
    )
    asked = [before + prompt(passage, question) for _, passage, question, _ in questions]
    found = [text.strip() for text in evaluation.complete(asked, 30, ["\n"], "squad")]
    evaluation.keep("squad", {id: text for (id, *_), text in zip(questions, found, strict=True)})
    pairs = [
        ("" if words(text) == [NONE] else text, answers) for text, (*_, answers) in zip(found, questions, strict=True)
    ]
    return [
        mean("exact", [best(exact, text, answers) for text, answers in pairs], 100),
        mean("f1", [best(f1, text, answers) for text, answers in pairs], 100),
    ]


def prompt(passage, question):
    return f"{passage}\n\nQ: {question}\nA:"


def best(metric, text, answers):
    """Against the answer that fits best; no answer is the empty one."""
    return max(metric(words(text), words(answer)) for answer in [a for a in answers if words(a)] or [""])


def words(text):
    """Lower case, without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact(found, right):
    return float(found == right)


def f1(found, right):
    """2PR / (P + R) of the words in common, P = common / found and R = common / right; 1 if both are empty."""
    if not found or not right:
        return float(found == right)
    common = sum((Counter(found) & Counter(right)).values())
    return 2 * common / (len(found) + len(right))
