"""Tasks in which the model writes: translation and summaries, prompted as GPT-2's paper did, sections 3.6 and 3.7.

Written greedily. The metrics come from their keepers: sacrebleu (Post 2018) and rouge-score (Lin 2004).
"""

import importlib
import re

from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate.files import checked, expect, json_lines, lines
from tinygrad_lm.evaluate.report import Result, mean


def library(name, metric):
    """A library that only one metric needs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{metric}: {name} is not installed; pip install 'tinygrad-lm[eval]'") from None


def divide(evaluation, task, items):
    """The first `shots` items as solved examples, the others, up to the limit, as the test."""
    shots = evaluation.shots
    if shots >= len(items):
        raise ConfigError(
            f"{task}: {shots} solved examples leave nothing to evaluate of {len(items)}; take fewer shots"
        )
    return items[:shots], items[shots:][: evaluation.limit]


def read_translation(source, target):
    """[(sentence, its translation)] of two files whose lines belong together."""
    library("sacrebleu", "bleu")  # whether it is there should be known before hours of evaluation
    pair = lines(source), lines(target)
    if len(pair[0]) != len(pair[1]):
        raise DataError(
            f"translation: {source} has {len(pair[0]):,} lines, {target} {len(pair[1]):,}; line by line one must "
            "translate the other"
        )
    return checked(source, enumerate(zip(*pair, strict=True), start=1), translation)


def translation(pair):
    if not all(text.strip() for text in pair):
        raise ValueError(f"expected a sentence and its translation, found {pair}")
    return pair


def run_translation(evaluation, pairs):
    """BLEU of what follows "sentence =" up to the line's end, after `shots` lines "sentence = translation"."""
    sacrebleu = library("sacrebleu", "bleu")
    examples, pairs = divide(evaluation, "translation", pairs)
    before = "".join(f"{source} = {target}\n" for source, target in examples)
    found = evaluation.complete([f"{before}{source} =" for source, _ in pairs], 100, ["\n"], "translation")
    found = [text.strip() for text in found]
    evaluation.keep("translation", {f"translation/{i}": text for i, text in enumerate(found)})
    value = sacrebleu.corpus_bleu(found, [[target for _, target in pairs]]).score
    return [Result("bleu", value, None, len(pairs))]  # of the corpus as a whole: no mean of anything


def read_summarization(path):
    """[(article, highlights)]"""
    library("rouge_score.rouge_scorer", "rouge")
    return json_lines(path, lambda record: expect(record, article=str, highlights=str))


TLDR = "\nTL;DR:"


def run_summarization(evaluation, articles):
    """ROUGE F1 of the first three sentences of 100 tokens after "TL;DR:". The article is cut where the window ends."""
    scorer = library("rouge_score.rouge_scorer", "rouge").RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    articles = articles[: evaluation.limit]
    tokenizer = evaluation.tokenizer
    room = max(0, evaluation.model.config.block_size - 100 - len(tokenizer.encode(TLDR)))
    prompts = [tokenizer.decode(tokenizer.encode(article)[:room]) + TLDR for article, _ in articles]
    found = [sentences(text, 3) for text in evaluation.complete(prompts, 100, [], "summarization")]
    evaluation.keep("summarization", {f"summarization/{i}": text for i, text in enumerate(found)})
    scores = [scorer.score(highlights, text) for (_, highlights), text in zip(articles, found, strict=True)]
    return [mean(name, [score[name].fmeasure for score in scores], 100) for name in ("rouge1", "rouge2", "rougeL")]


def sentences(text, n):
    """The first n sentences: each ends with . ! or ? before white space, or with the line."""
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
    return " ".join([part for part in parts if part][:n])
