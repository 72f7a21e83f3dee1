"""python -m tinygrad_lm.evaluate: exit status, messages, the report."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from slow import slow_but
from small_evaluation import Told, json_file, values
from small_run import pretrain, status

from tinygrad_lm.evaluate import __main__ as program
from tinygrad_lm.evaluate import choices, perplexity
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.evaluate.tasks import TASKS
from tinygrad_lm.train.run import RunFolder

TEXT = "the cat sat on the mat.\na dog ate his hat.\n" * 20


def evaluate(*arguments):
    return status(program.main, *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of bytes, after two steps."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    options = ["--preset", "tiny", "--data", folder / "text.txt", "--out", folder / "run", "--tokenizer", "byte"]
    assert pretrain(*options, "--steps", 2) == 0
    return folder / "run"


@pytest.fixture
def data(tmp_path):
    """Every task's files, small."""
    ending = {"ctx": "the cat", "ctx_a": "the cat", "ctx_b": "", "activity_label": "Cats", "endings": ["sat", "ate"]}
    science = {"stem": "Who?", "choices": [{"text": "cat", "label": "A"}, {"text": "dog", "label": "B"}]}
    code = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    asked = {"id": "1", "question": "Who sat?", "answers": [{"text": "the cat"}]}
    files = {
        "lambada_test.jsonl": [{"text": "the cat sat"}, {"text": "a dog ate his hat"}],
        "hellaswag_val.jsonl": [ending | {"label": 0}, ending | {"label": 1}],
        "ARC-Easy-Test.jsonl": [{"question": science, "answerKey": "A"}],
        "ARC-Challenge-Test.jsonl": [{"question": science, "answerKey": "B"}],
        "valid.jsonl": [{"goal": "Sit", "sol1": "on a mat", "sol2": "on a hat"}],
        "cnn_dailymail_test.jsonl": [{"article": "The cat sat.", "highlights": "cat sat"}],
        "dev-v1.1.json": [{"data": [{"paragraphs": [{"context": "The cat sat.", "qas": [asked, asked]}]}]}],
        "HumanEval.jsonl": [code],
    }
    for name, records in files.items():
        json_file(tmp_path / name, *records)
    for name, text in {
        "text.txt": TEXT,
        "wiki.test.raw": TEXT,
        "valid-labels.lst": "0\n",
        "source.txt": "the cat\na dog\n",
        "target.txt": "le chat\nun chien\n",
    }.items():
        (tmp_path / name).write_text(text)
    for split in ("test", "dev"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"cats_{split}.csv").write_text("Who?,cat,dog,hat,mat,A\n")
    return tmp_path


def needs(task):
    library = {"translation": "sacrebleu", "summarization": "rouge_score"}.get(task)
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed: the extra eval")


@pytest.mark.parametrize("task", slow_but(TASKS, *list(TASKS)[:3]))
def test_every_task_runs(task, run, data, capsys):
    needs(task)
    given = f"{task}={data / 'HumanEval.jsonl'}" if task == "humaneval" else task
    shots = ["--shots", 1] if TASKS[task].shots else []
    out = data / "report.json"
    assert evaluate(run, "--tasks", given, "--data", data, "--out", out, "--samples", data / "samples", *shots) == 0
    told = capsys.readouterr()
    assert told.err == ""
    report = json.loads(out.read_text())
    assert report["tasks"] == [task]
    assert {result["task"] for result in report["results"]} == {task}
    for result in report["results"]:
        assert result["n"] >= 1
        assert result["seconds"] > 0
        assert math.isfinite(result["value"])
        assert f" {result['metric']} " in told.out
        assert f" {result['value']:.4f} " in told.out
    writes = task in ("translation", "summarization", "squad", "humaneval")
    assert (data / "samples" / f"{task}.jsonl").is_file() == writes


def test_no_two_tasks_are_the_same():
    assert len({(task.read_examples, task.files) for task in TASKS.values()}) == len(TASKS)
    assert TASKS["arc_challenge"].files[0].name == "ARC-Challenge-Test.jsonl"
    assert TASKS["hellaswag"].read_examples is choices.read_hellaswag


def test_the_report_is_what_the_functions_say(run, data):
    """One call of several tasks; the settings reach them and are written down."""
    out = data / "report.json"
    options = ["--data", data, "--out", out, "--stride", 3, "--limit", 5, "--batch-size", 2, "--device", "cpu"]
    assert evaluate(run, "--tasks", "lambada", f"text={data / 'wiki.test.raw'}", *options) == 0
    report, opened = json.loads(out.read_text()), RunFolder(run)
    settings = {"model": str(run), "stride": 3, "limit": 5, "batch_size": 2, "shots": 0, "device": "cpu"}
    assert report.items() >= (settings | {"tasks": ["lambada", "text"]}).items()
    model = opened.best_model()
    expected = perplexity.evaluate_perplexity(Evaluator(model, opened.tokenizer, limit=5, stride=3), TEXT)
    found = {result["metric"]: result["value"] for result in report["results"] if result["task"] == "text"}
    assert found == pytest.approx(values(expected), rel=1e-5)
    assert found != pytest.approx(
        values(perplexity.evaluate_perplexity(Evaluator(model, opened.tokenizer, limit=5), TEXT)), rel=1e-5
    )
    lambada = [result for result in report["results"] if result["task"] == "lambada"]
    assert [result["n"] for result in lambada] == [2, 2, 2]
    assert lambada[0]["published"][0] == {
        "model": "gpt2",
        "value": 0.3256,
        "source": "EleutherAI/lm-evaluation-harness issue 2159",
    }


def test_the_stride_of_the_report_is_the_window_if_none_was_told(run, data):
    assert evaluate(run, "--tasks", "text", "--data", data, "--out", data / "r.json") == 0
    assert json.loads((data / "r.json").read_text())["stride"] == RunFolder(run).model_config.block_size


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tasks", "lambda", "text", "x=y"], "error: tasks: lambda, x unknown; expected some of text, wikitext"),
        (["--tasks", "text", "text"], "error: tasks: text is given twice"),
        (["--tasks", "text", "--shots", "1"], "error: shots: text cannot have solved examples in its prompt; mmlu, "),
        (["--tasks", "mmlu", "--shots", "-1"], "error: evaluation: shots must be at least 0, found -1"),
        (["--tasks", "mmlu", "--shots", "2"], "error: shots must be at most 1, the number of solved examples, found 2"),
        (["--tasks", "text", "--limit", "0"], "error: evaluation: limit must be at least 1, found 0"),
        (["--tasks", "text", "--batch-size", "0"], "error: evaluation: batch_size must be at least 1, found 0"),
        (["--tasks", "text", "--stride", "9"], "error: score: stride must be from 1 to 8, the model's window, found 9"),
        (["--tasks", "text", "--stride", "0"], "error: score: stride must be from 1 to 8, the model's window, found 0"),
        (["--tasks", "text=nowhere.txt"], "error: text: there is no nowhere.txt\n  format : UTF-8 text"),
        (["--tasks", "text", "--out", "nowhere/r.json"], "error: report: nowhere/r.json is in a folder that does not"),
        (["--tasks", "piqa=a"], "error: piqa: expected 2 paths after '='"),
        ([], "the following arguments are required: --tasks"),
        (["--tasks", "text", "--limit", "many"], "argument --limit: invalid int value: 'many'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_message(arguments, told, run, data, capsys):
    assert evaluate(run, "--data", data, *arguments) == 2
    seen = capsys.readouterr()
    assert told in seen.err
    assert "Traceback" not in seen.err
    assert seen.out == ""


def test_all_missing_files_are_told_at_once(run, tmp_path, capsys):
    assert evaluate(run, "--tasks", "lambada", "piqa", "--data", tmp_path) == 2
    told = capsys.readouterr().err
    for name in ("lambada_test.jsonl", "valid.jsonl", "valid-labels.lst"):
        assert f"there is no {tmp_path / name}" in told


def test_a_damaged_file_is_told_before_anything_is_evaluated(run, data, capsys):
    with open(data / "lambada_test.jsonl", "a") as file:
        file.write("{\n")
    assert evaluate(run, "--tasks", "text", "lambada", "--data", data, "--out", data / "r.json") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert (
        f"error: data file {data / 'lambada_test.jsonl'}: 1 damaged line; nothing was evaluated\n  line 3" in told.err
    )
    assert not (data / "r.json").exists()


def test_no_model_there(data, capsys):
    assert evaluate(data, "--tasks", "text", "--data", data) == 2
    assert "error: " in capsys.readouterr().err


def test_what_was_evaluated_before_an_error_is_kept(run, data, capsys):
    """And the report says which tasks were asked for."""
    (data / "text.txt").write_text("a")  # a byte tokenizer has nothing to predict it from
    assert evaluate(run, "--tasks", "lambada", "text", "--data", data, "--out", data / "r.json") == 2
    told, report = capsys.readouterr(), json.loads((data / "r.json").read_text())
    assert "error: text: it has no token to score" in told.err
    assert "last_token_acc" in told.out
    assert report["tasks"] == ["lambada", "text"]
    assert {result["task"] for result in report["results"]} == {"lambada"}


def test_ctrl_c_ends_it_without_a_traceback_and_keeps_what_was_evaluated(run, data, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(TASKS, "text", replace(TASKS["text"], evaluate=interrupted))
    assert evaluate(run, "--tasks", "lambada", "text", "--data", data, "--out", data / "r.json") == 130
    told, report = capsys.readouterr(), json.loads((data / "r.json").read_text())
    assert told.err == "stopped\n"
    assert "last_token_acc" in told.out
    assert {result["task"] for result in report["results"]} == {"lambada"}


def test_a_model_without_finite_numbers_is_no_result(run, data, capsys, monkeypatch):
    broken = Told(lambda tokens: np.full((*tokens.shape, 256), np.nan), vocab_size=256)
    monkeypatch.setattr(program, "load_pretrained", lambda where, device: (broken, RunFolder(run).tokenizer))
    assert evaluate(run, "--tasks", "text", "--data", data) == 1
    assert "error: score: the model's logits are not finite" in capsys.readouterr().err


def test_a_full_gpu_is_told_and_what_was_evaluated_kept(run, data, capsys, monkeypatch):
    class OutOfMemoryError(MemoryError):
        pass

    runtime = SimpleNamespace(CUDARuntimeError=KeyError, memGetInfo=lambda: (0, 2**30))
    cuda = SimpleNamespace(runtime=runtime, memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError))

    def full(*_):
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
        raise OutOfMemoryError("Out of memory allocating 2,097,152 bytes (allocated so far: 1,048,576 bytes).")

    monkeypatch.setitem(TASKS, "text", replace(TASKS["text"], evaluate=full))
    assert evaluate(run, "--tasks", "lambada", "text", "--data", data, "--device", "cpu") == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: the GPU's memory is full: 2 MiB more were needed")
    assert told.err.endswith("hint : a smaller --batch-size, or --device cpu\n")
    assert "last_token_acc" in told.out


@pytest.mark.slow
def test_as_a_program(run, data):
    command = [sys.executable, "-m", "tinygrad_lm.evaluate", str(run), "--tasks", "lambada", "--data", str(data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("task     metric")
    shown = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, timeout=100, check=True).stdout
    assert all(f"  {task} " in shown for task in TASKS)
