"""All tasks by name: the files that they read, and how they are evaluated."""

from collections.abc import Callable
from dataclasses import dataclass

from tinygrad_lm.evaluate import choices, humaneval, lambada, perplexity, prompting, squad
from tinygrad_lm.evaluate.files import TaskFile


@dataclass(frozen=True)
class Task:
    """read_examples(*paths) -> examples;  evaluate(evaluator, examples) -> [Result]."""

    about: str
    files: tuple
    read_examples: Callable
    evaluate: Callable
    shots: bool = False  # whether --shots can put solved examples into the prompt


HELLASWAG = TaskFile(
    "hellaswag_val.jsonl",
    "JSON lines with ctx, ctx_a, ctx_b, activity_label, endings, label",
    "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
)
PIQA = "https://yonatanbisk.com/piqa/data/"
MMLU = "https://people.eecs.berkeley.edu/~hendrycks/data.tar"
WMT = "pip install sacrebleu; sacrebleu -t wmt14/full -l en-fr --echo"


def arc(name):
    return TaskFile(
        f"ARC-{name}-Test.jsonl",
        "JSON lines with question: {stem, choices: [{text, label}]}, answerKey",
        f"https://ai2-public-datasets.s3.amazonaws.com/arc/ARC-V1-Feb2018.zip (ARC-{name})",
    )


TASKS = {
    "text": Task(
        "perplexity of a text",
        (TaskFile("text.txt", "UTF-8 text", "any text"),),
        perplexity.read_running_text,
        perplexity.evaluate_perplexity,
    ),
    "wikitext": Task(
        "perplexity of WikiText's test set",
        (
            TaskFile(
                "wiki.test.raw",
                "the raw text of WikiText-2 or WikiText-103, whose test sets are equal",
                "https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
            ),
        ),
        perplexity.read_running_text,
        perplexity.evaluate_perplexity,
    ),
    "lambada": Task(
        "the last word of a passage",
        (
            TaskFile(
                "lambada_test.jsonl",
                "JSON lines with text, as OpenAI publishes them; or a plain file with one passage per line",
                "https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
            ),
        ),
        lambada.read_lambada,
        lambada.evaluate_lambada,
    ),
    "hellaswag": Task("the continuation of a scene", (HELLASWAG,), choices.read_hellaswag, choices.evaluate_choices),
    "hellaswag_harness": Task(
        "the same with lm-evaluation-harness's prompts",
        (HELLASWAG,),
        choices.read_hellaswag_harness,
        choices.evaluate_choices,
    ),
    "arc_easy": Task("school science", (arc("Easy"),), choices.read_arc, choices.evaluate_choices),
    "arc_challenge": Task("harder school science", (arc("Challenge"),), choices.read_arc, choices.evaluate_choices),
    "piqa": Task(
        "everyday physics",
        (
            TaskFile("valid.jsonl", "JSON lines with goal, sol1, sol2", f"{PIQA}valid.jsonl"),
            TaskFile("valid-labels.lst", "one line, 0 or 1, for each problem", f"{PIQA}valid-labels.lst"),
        ),
        choices.read_piqa,
        choices.evaluate_choices,
    ),
    "mmlu": Task(
        "multiple choice in 57 subjects",
        (
            TaskFile("test", "a folder of <subject>_test.csv: question, A, B, C, D, answer", MMLU),
            TaskFile("dev", "a folder of <subject>_dev.csv, in the same format", MMLU),
        ),
        choices.read_mmlu,
        choices.evaluate_choices,
        shots=True,
    ),
    "translation": Task(
        "BLEU after 'sentence ='",
        (
            TaskFile("source.txt", "one sentence per line", f"{WMT} src"),
            TaskFile("target.txt", "the translation of each line", f"{WMT} ref"),
        ),
        prompting.read_translation,
        prompting.evaluate_translation,
        shots=True,
    ),
    "summarization": Task(
        "ROUGE after 'TL;DR:'",
        (
            TaskFile(
                "cnn_dailymail_test.jsonl",
                "JSON lines with article, highlights",
                "https://huggingface.co/datasets/abisee/cnn_dailymail (version 3.0.0, test; convert it to JSON lines)",
            ),
        ),
        prompting.read_summarization,
        prompting.evaluate_summarization,
    ),
    "squad": Task(
        "questions about a passage",
        (
            TaskFile(
                "dev-v1.1.json",
                "SQuAD's JSON, version 1.1 or 2.0",
                "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json",
            ),
        ),
        squad.read_squad,
        squad.evaluate_squad,
        shots=True,
    ),
    "humaneval": Task(
        "likelihood of Python functions",
        (
            TaskFile(
                "HumanEval.jsonl.gz",
                "JSON lines with task_id, prompt, canonical_solution, gzipped or not",
                "https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
            ),
        ),
        humaneval.read_humaneval,
        humaneval.evaluate_humaneval,
    ),
}
