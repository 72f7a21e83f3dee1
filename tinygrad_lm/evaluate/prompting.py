"""Generation tasks: translation and summarization, prompted as in GPT-2's paper, sections 3.6 and 3.7.

Generation is greedy. The metrics are those of the libraries sacrebleu (Post 2018) and rouge-score (Lin 2004).
"""

import importlib
import re

from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate.files import convert_lines, expect, read_json_lines, read_lines
from tinygrad_lm.evaluate.report import Result, mean


def import_metric(name, metric):
    """Import a library that only one metric needs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{metric}: {name} is not installed; pip install 'tinygrad-lm[eval]'") from None


def split_examples(evaluator, task, examples):
    """(the first `shots` as solved examples, the others up to the limit as the test)"""
    shots = evaluator.shots
    if shots >= len(examples):
        raise ConfigError(
            f"{task}: {shots} solved examples leave nothing to evaluate of {len(examples)}; use fewer shots"
        )
    return examples[:shots], examples[shots:][: evaluator.limit]


def read_translation(source, target):
    """[(sentence, its translation)] of two files, aligned line by line."""
    import_metric("sacrebleu", "bleu")  # a missing library should be reported before hours of evaluation
    pair = read_lines(source), read_lines(target)
    if len(pair[0]) != len(pair[1]):
        raise DataError(
            f"translation: {source} has {len(pair[0]):,} lines, {target} {len(pair[1]):,}; each line must translate "
            "the same line of the other file"
        )
    return convert_lines(source, enumerate(zip(*pair, strict=True), start=1), check_translation)


def check_translation(pair):
    if not all(text.strip() for text in pair):
        raise ValueError(f"expected a sentence and its translation, found {pair}")
    return pair


def evaluate_translation(evaluator, pairs):
    """BLEU of the rest of the line "sentence =", after `shots` lines "sentence = translation"."""
    sacrebleu = import_metric("sacrebleu", "bleu")
    examples, pairs = split_examples(evaluator, "translation", pairs)
    before = "".join(f"{source} = {target}\n" for source, target in examples)
    found = evaluator.complete([f"{before}{source} =" for source, _ in pairs], 100, ["\n"], "translation")
    found = [text.strip() for text in found]
    evaluator.write_samples("translation", {f"translation/{i}": text for i, text in enumerate(found)})
    value = sacrebleu.corpus_bleu(found, [[target for _, target in pairs]]).score
    return [Result("bleu", value, None, len(pairs))]  # of the whole corpus; not a mean, so without an error


def read_summarization(path):
    """[(article, highlights)]"""
    import_metric("rouge_score.rouge_scorer", "rouge")
    return read_json_lines(path, lambda record: expect(record, article=str, highlights=str))


TLDR = "\nTL;DR:"


def evaluate_summarization(evaluator, articles):
    """ROUGE F1 of the first three sentences of 100 tokens after "TL;DR:". Articles are truncated to fit the window."""
    scorer = import_metric("rouge_score.rouge_scorer", "rouge").RougeScorer(
        ["rouge1", "rouge2", "rougeL"], use_stemmer=True
    )
    articles = articles[: evaluator.limit]
    tokenizer = evaluator.tokenizer
    room = max(0, evaluator.model.config.block_size - 100 - len(tokenizer.encode(TLDR)))
    prompts = [tokenizer.decode(tokenizer.encode(article)[:room]) + TLDR for article, _ in articles]
    found = [first_sentences(text, 3) for text in evaluator.complete(prompts, 100, [], "summarization")]
    evaluator.write_samples("summarization", {f"summarization/{i}": text for i, text in enumerate(found)})
    scores = [scorer.score(highlights, text) for (_, highlights), text in zip(articles, found, strict=True)]
    return [mean(name, [score[name].fmeasure for score in scores], 100) for name in ("rouge1", "rouge2", "rougeL")]


def first_sentences(text, n):
    """The first n sentences: each ends with . ! or ? before white space, or at a line end."""
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
    return " ".join([part for part in parts if part][:n])
