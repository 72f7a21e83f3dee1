"""All tasks by name: what they read, and how they are run."""

from collections.abc import Callable
from dataclasses import dataclass

from tinygrad_lm.evaluate import choices, humaneval, lambada, perplexity, prompting, squad
from tinygrad_lm.evaluate.files import Source


@dataclass(frozen=True)
class Task:
    """read(*paths) -> items;  run(evaluation, items) -> [Result]."""

    about: str
    sources: tuple
    read: Callable
    run: Callable
    shots: bool = False  # can there be solved examples in front?


HELLASWAG = Source(
    "hellaswag_val.jsonl",
    "JSON lines with ctx, ctx_a, ctx_b, activity_label, endings, label",
    "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
)
PIQA = "https://yonatanbisk.com/piqa/data/"
MMLU = "https://people.eecs.berkeley.edu/~hendrycks/data.tar"
WMT = "pip install sacrebleu; sacrebleu -t wmt14/full -l en-fr --echo"


def arc(name):
    return Source(
        f"ARC-{name}-Test.jsonl",
        "JSON lines with question: {stem, choices: [{text, label}]}, answerKey",
        f"https://ai2-public-datasets.s3.amazonaws.com/arc/ARC-V1-Feb2018.zip (ARC-{name})",
    )


TASKS = {
    "text": Task(
        "perplexity of a text",
        (Source("text.txt", "UTF-8 text", "any text of yours"),),
        perplexity.read,
        perplexity.run,
    ),
    "wikitext": Task(
        "perplexity of WikiText's test text",
        (
            Source(
                "wiki.test.raw",
                "WikiText-2's or WikiText-103's raw text; their test texts are the same",
                "https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
            ),
        ),
        perplexity.read,
        perplexity.run,
    ),
    "lambada": Task(
        "the last word of a passage",
        (
            Source(
                "lambada_test.jsonl",
                "JSON lines with text, as OpenAI has them; or a plain file with a passage a line",
                "https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
            ),
        ),
        lambada.read,
        lambada.run,
    ),
    "hellaswag": Task("how a scene goes on", (HELLASWAG,), choices.read_hellaswag, choices.run),
    "hellaswag_harness": Task(
        "the same, as lm-evaluation-harness asks it", (HELLASWAG,), choices.read_hellaswag_harness, choices.run
    ),
    "arc_easy": Task("school science", (arc("Easy"),), choices.read_arc, choices.run),
    "arc_challenge": Task("harder school science", (arc("Challenge"),), choices.read_arc, choices.run),
    "piqa": Task(
        "everyday physics",
        (
            Source("valid.jsonl", "JSON lines with goal, sol1, sol2", f"{PIQA}valid.jsonl"),
            Source("valid-labels.lst", "a line 0 or 1 for each problem", f"{PIQA}valid-labels.lst"),
        ),
        choices.read_piqa,
        choices.run,
    ),
    "mmlu": Task(
        "57 subjects",
        (
            Source("test", "a folder of <subject>_test.csv: question, A, B, C, D, answer", MMLU),
            Source("dev", "a folder of <subject>_dev.csv, in the same form", MMLU),
        ),
        choices.read_mmlu,
        choices.run,
        shots=True,
    ),
    "translation": Task(
        "BLEU after 'sentence ='",
        (
            Source("source.txt", "a sentence a line", f"{WMT} src"),
            Source("target.txt", "its translation, line by line", f"{WMT} ref"),
        ),
        prompting.read_translation,
        prompting.run_translation,
        shots=True,
    ),
    "summarization": Task(
        "ROUGE after 'TL;DR:'",
        (
            Source(
                "cnn_dailymail_test.jsonl",
                "JSON lines with article, highlights",
                "https://huggingface.co/datasets/abisee/cnn_dailymail (version 3.0.0, test; written as JSON lines)",
            ),
        ),
        prompting.read_summarization,
        prompting.run_summarization,
    ),
    "squad": Task(
        "questions about a passage",
        (
            Source(
                "dev-v1.1.json",
                "SQuAD's JSON, version 1.1 or 2.0",
                "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json",
            ),
        ),
        squad.read,
        squad.run,
        shots=True,
    ),
    "humaneval": Task(
        "Python functions",
        (
            Source(
                "HumanEval.jsonl.gz",
                "JSON lines with task_id, prompt, canonical_solution, gzipped or not",
                "https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
            ),
        ),
        humaneval.read,
        humaneval.run,
    ),
}
