"""Results: values with standard errors, as a table beside published numbers, and as JSON."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Result:
    """One number about a model. `error` is its standard error, None if unknown; n: the number of examples."""

    metric: str
    value: float
    error: float | None
    n: int


def mean(metric, values, scale=1.0):
    """The mean of the values × scale; the error is σ / √n, which for hits and misses is √(p (1 − p) / (n − 1))."""
    values = np.asarray(values, np.float64)
    n = len(values)
    error = scale * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return Result(metric, scale * float(values.mean()), error, n)


def exponential(metric, result):
    """exp of a result: a perplexity. By the delta method its error is its value times the error of the exponent."""
    value = math.exp(result.value) if result.value < 709 else math.inf
    return Result(metric, value, None if result.error is None else value * result.error, result.n)


SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
SOURCES = {
    1: "Radford et al. 2019, Language models are unsupervised multitask learners, table 3; without the "
    "spaces that the data's tokenisation left",
    2: "EleutherAI/lm-evaluation-harness issue 2159",
    3: "EleutherAI/gpt-neo README (lm-evaluation-harness)",
    4: "karpathy/build-nanogpt hellaswag.py (both its own numbers and the harness's)",
    5: "Hugging Face crumb/gpt2023 README (lm-evaluation-harness)",
    6: "Radford et al. 2019, table 4, drawn among the two most likely tokens; ours takes the most likely",
    7: "Radford et al. 2019, section 3.7: WMT-14, English to French",
}
# (task, metric): [(source, a number or None for each of SIZES)]
PUBLISHED = {
    # As others measured, table 3's "WikiText2" is a perplexity per token and its "WikiText103" one per word of the same
    # test text (huggingface/transformers issue 13761).
    ("wikitext", "perplexity"): [(1, (29.41, 22.76, 19.93, 18.34))],
    ("wikitext", "word_perplexity"): [(1, (37.50, 26.37, 22.05, 17.48))],
    # Table 3 counts the last token of a passage, not its last word (EleutherAI/lm-evaluation-harness issues 350, 356).
    ("lambada", "last_token_acc"): [(1, (0.4599, 0.5548, 0.6012, 0.6324))],
    ("lambada", "acc"): [(2, (0.3256, None, None, None)), (3, (None, None, None, 0.5121))],
    ("lambada", "perplexity"): [
        (1, (35.13, 15.60, 10.87, 8.63)),
        (2, (40.0554, None, None, None)),
        (3, (None, None, None, 10.634)),
    ],
    ("hellaswag", "acc"): [(4, (0.2859, None, None, 0.3842))],
    ("hellaswag", "acc_norm"): [(4, (0.2955, None, None, 0.4893))],
    ("hellaswag_harness", "acc"): [(4, (0.2892, None, None, 0.4004))],
    ("hellaswag_harness", "acc_norm_char"): [(4, (0.3114, None, None, 0.5089))],
    ("piqa", "acc"): [(5, (0.6289, None, None, None)), (3, (None, None, None, 0.7078))],
    ("translation", "bleu"): [(7, (None, None, None, 5))],
    ("summarization", "rouge1"): [(6, (None, None, None, 29.34))],
    ("summarization", "rouge2"): [(6, (None, None, None, 8.27))],
    ("summarization", "rougeL"): [(6, (None, None, None, 26.58))],
}


def results_table(rows):
    """The results as text for a terminal. rows: [(task, Result, seconds)], seconds of the whole task."""
    lines, cited, before = [["task", "metric", "value ± error", "n", "seconds", *SIZES, "source"]], set(), None
    for task, result, seconds in rows:
        error = "" if result.error is None else f" ± {result.error:.4f}"
        first = [task, result.metric, f"{result.value:.4f}{error}", f"{result.n:,}", f"{seconds:.1f}"]
        if task == before:
            first[0] = first[4] = ""
        before = task
        for source, numbers in PUBLISHED.get((task, result.metric), [(None, [None] * len(SIZES))]):
            cited |= {source} - {None}
            cells = ["" if number is None else f"{number:g}" for number in numbers]
            lines.append([*first, *cells, f"[{source}]" if source else ""])
            first = [""] * 5
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    notes = [f"[{source}] {SOURCES[source]}" for source in sorted(cited)]
    return "\n".join([text, *notes])


def results_json(rows, **options):
    """The results and the options that led to them, for JSON. Infinity, which JSON lacks, becomes null."""
    return options | {
        "results": [
            {
                "task": task,
                "metric": result.metric,
                "value": finite(result.value),
                "error": finite(result.error),
                "n": result.n,
                "seconds": round(seconds, 3),
                "published": [
                    {"model": size, "value": number, "source": SOURCES[source]}
                    for source, numbers in PUBLISHED.get((task, result.metric), [])
                    for size, number in zip(SIZES, numbers, strict=True)
                    if number is not None
                ],
            }
            for task, result, seconds in rows
        ]
    }


def finite(x):
    return x if x is not None and math.isfinite(x) else None
