"""Multiple choice: the answer is the completion that the model finds most likely."""

import csv
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate.files import convert_lines, expect, read_json_lines, read_lines
from tinygrad_lm.evaluate.report import mean


@dataclass(frozen=True)
class Question:
    """A context, the completions to choose from, and the index of the right one; solved examples may come first."""

    context: str
    choices: list
    answer: int
    header: str = ""
    examples: tuple = ()

    def __post_init__(self):
        if len(self.choices) < 2 or not all(map(str.strip, self.choices)):
            raise ValueError(f"expected at least two choices, none of them empty, found {str(self.choices)[:60]}")
        if not 0 <= self.answer < len(self.choices):
            raise ValueError(f"expected an answer from 0 to {len(self.choices) - 1}, found {self.answer}")

    def prompt(self, shots):
        """The header, `shots` solved examples, the question."""
        if shots > len(self.examples):
            raise ConfigError(
                f"shots must be at most {len(self.examples)}, the number of solved examples, found {shots}"
            )
        return self.header + "".join(f"{example}\n\n" for example in self.examples[:shots]) + self.context


def evaluate_choices(evaluator, questions):
    """The share of questions whose right choice has the greatest

    acc            log P(choice | context)
    acc_norm       the same per token of the choice: acc_norm of build-nanogpt and llm.c
    acc_norm_char  the same per character of the choice without its leading space: acc_norm of lm-evaluation-harness
    """
    questions = questions[: evaluator.limit]
    pairs = [(question.prompt(evaluator.shots), choice) for question in questions for choice in question.choices]
    scores = iter(evaluator.score(pairs, "questions"))
    hits = {"acc": [], "acc_norm": [], "acc_norm_char": []}
    for question in questions:
        found = [next(scores) for _ in question.choices]
        totals = np.array([score.total for score in found])
        sizes = {
            "acc": 1,
            "acc_norm": np.array([len(score.logprobs) for score in found]),
            "acc_norm_char": np.array([len(choice) - 1 for choice in question.choices]),  # less the space in front
        }
        for metric, size in sizes.items():
            hits[metric].append((totals / size).argmax() == question.answer)
    return [mean(metric, values) for metric, values in hits.items()]


# ---- formats


def read_hellaswag(path):
    return read_json_lines(path, hellaswag)


def hellaswag(record):
    """The sentence unchanged, as in build-nanogpt and llm.c."""
    ctx, endings, label = expect(record, ctx=str, endings=list, label=int)
    return Question(ctx, [f" {ending}" for ending in expect_texts(endings)], label)


def read_hellaswag_harness(path):
    return read_json_lines(path, hellaswag_harness)


def hellaswag_harness(record):
    """Activity, context and ending without WikiHow's marks, as in lm-evaluation-harness."""
    activity, a, b, endings, label = expect(record, activity_label=str, ctx_a=str, ctx_b=str, endings=list, label=int)
    context = without_marks(f"{activity}: {a} {b.capitalize()}")
    return Question(context, [f" {without_marks(ending)}" for ending in expect_texts(endings)], label)


def expect_texts(values):
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected texts, found {str(values)[:60]}")
    return values


def without_marks(text):
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def read_arc(path):
    return read_json_lines(path, arc)


def arc(record):
    question, key = expect(record, question=dict, answerKey=str)
    stem, choices = expect(question, stem=str, choices=list)
    pairs = [expect(choice, text=str, label=str) for choice in choices]
    labels = [label for _, label in pairs]
    if key not in labels:
        raise ValueError(f"expected an answerKey among the labels {labels}, found {key!r}")
    return Question(f"Question: {stem}\nAnswer:", [f" {text}" for text, _ in pairs], labels.index(key))


def read_piqa(path, labels_path):
    problems, labels = (
        read_json_lines(path, lambda record: expect(record, goal=str, sol1=str, sol2=str)),
        read_lines(labels_path),
    )
    if len(problems) != len(labels):
        raise DataError(
            f"piqa: {path} has {len(problems):,} lines, {labels_path} {len(labels):,}; their numbers must be equal"
        )
    return convert_lines(labels_path, enumerate(zip(problems, labels, strict=True), start=1), piqa)


def piqa(pair):
    (goal, *solutions), label = pair
    if label.strip() not in ("0", "1"):
        raise ValueError(f"expected a label 0 or 1, found {label[:40]!r}")
    return Question(f"Question: {goal}\nAnswer:", [f" {solution}" for solution in solutions], int(label))


LETTERS = "ABCD"


def read_mmlu(test, dev):
    """All questions of a folder of <subject>_test.csv, with solved ones from a folder of <subject>_dev.csv.

    The prompt follows Hendrycks et al. 2021: it lists the choices, and the model chooses among their letters.
    """
    paths = sorted(Path(test).glob("*_test.csv"))
    if not paths:
        raise DataError(f"mmlu: expected files <subject>_test.csv in {test}, found none")
    questions = []
    for path in paths:
        subject = path.name.removesuffix("_test.csv")
        header = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        solved = read_mmlu_file(Path(dev, f"{subject}_dev.csv"))
        examples = tuple(f"{context} {LETTERS[answer]}" for context, answer in solved)
        questions += [
            Question(context, [f" {letter}" for letter in LETTERS], answer, header, examples)
            for context, answer in read_mmlu_file(path)
        ]
    return questions


def read_mmlu_file(path):
    """[(question with its choices, index of the answer)]"""
    reader = csv.reader(StringIO(read_text(path), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"data file {path}: line {reader.line_num:,}: expected CSV: {error}") from error
    return convert_lines(path, rows, mmlu)


def mmlu(row):
    if len(row) != 6 or row[5] not in set(LETTERS):
        raise ValueError(
            f"expected question, A, B, C, D and the answer's letter, found {len(row)} columns: {str(row)[:60]}"
        )
    question, *choices, answer = row
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    return "\n".join([question.strip(), *listed, "Answer:"]), LETTERS.index(answer)
