"""The command lines of examples/: what they do, and that a mistake ends in a message and nothing half-written."""

import io
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_run
from slow import slow_but
from small_run import TEXT, pretrain, write

from tinygrad_lm.data.corpus import Corpus
from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.train import checkpoint, plan
from tinygrad_lm.train.run import RunFolder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    """A run of five steps. Tests that change it make a copy."""
    folder = tmp_path_factory.mktemp("runs") / "char"
    assert pretrain("--preset", "tiny", "--data", text, "--out", folder, "--steps", 5) == 0
    return folder


def no_gpu():
    try:
        import cupy
    except ImportError:
        return True
    return not cupy.cuda.is_available()


# ---- what they do


@pytest.mark.parametrize("tokenizer", slow_but(["char", "byte", "gpt2", "bpe"], "byte"))
def test_five_steps_and_a_text(tokenizer, text, tmp_path, capsys):
    if tokenizer == "gpt2" and not os.environ.get("TIKTOKEN_CACHE_DIR"):
        pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
    folder = tmp_path / "run"
    options = ["--preset", "tiny", "--data", text, "--out", folder, "--steps", 5, "--eval-every", 2]
    if trained := tokenizer == "bpe":
        BPETokenizer([*ALPHABET, b"th", b"the"]).save(tmp_path / "mine.tiktoken")
    given = tmp_path / "mine.tiktoken" if trained else tokenizer
    assert pretrain(*options, "--tokenizer", given, "--seed", 3, "--batch-size", 3) == 0
    told = capsys.readouterr().out
    assert "finished at step 5" in told
    trained = RunFolder(folder)
    assert trained.tokenizer.name == tokenizer
    assert (trained.train_config.seed, trained.train_config.batch_size) == (3, 3)
    assert trained.log.curve("loss")[0] == [1, 2, 3, 4, 5]
    assert trained.log.curve("validation")[0] == [2, 4, 5]

    assert write(folder, "--prompt", "the cat", "--tokens", 30) == 0
    told = capsys.readouterr().out
    assert told.startswith("the cat")
    assert len(told) > len("the cat\n")


def test_the_same_seed_writes_the_same_text(run, capsys):
    texts = []
    for options in (["--seed", 1], ["--seed", 1], ["--seed", 2], ["--seed", 1, "--temperature", 9], ["--top-k", 1]):
        assert write(run, "--prompt", "the cat", "--tokens", 30, *options) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4
    assert {len(text) for text in texts} == {len("the cat") + 30 + len("\n")}


def test_the_text_comes_as_it_is_written(run, capsys, monkeypatch):
    """What a token spells is on the terminal before the next one is thought of. The prompt comes with the first:
    computing that may compile kernels, which prints a line."""
    program, shown = small_run.example("generate"), []

    def watched(*arguments, generate=program.generate_batch, **sampling):
        for drawn in generate(*arguments, **sampling):
            shown.append(capsys.readouterr().out)
            yield drawn

    monkeypatch.setattr(program, "generate_batch", watched)
    assert program.main([str(run), "--prompt", "the ", "--tokens", "5", "--temperature", "0"]) == 0
    assert [len(text) for text in shown] == [0, len("the ") + 1, 1, 1, 1]


def test_several_samples_are_those_of_a_batch(run, capsys):
    assert write(run, "--prompt", "the ", "--tokens", 9, "--samples", 2) == 0
    first, second = re.fullmatch(r"--- 1\n(the .*)--- 2\n(the .*)", capsys.readouterr().out, re.DOTALL).groups()
    assert first != second
    assert write(run, "--prompt", "the ", "--tokens", 9) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("samples", [1, 2])
def test_a_text_ends_at_a_stop(run, samples, capsys):
    assert write(run, "--prompt", "the cat", "--tokens", 200, "--stop", "at", "og", "--samples", samples) == 0
    for text in re.split("--- .\n", capsys.readouterr().out)[-samples:]:
        assert not re.search("at|og", text.removeprefix("the cat"))
        assert len(text) < 200


def test_log_probabilities_by_token(run, capsys):
    assert write(run, "--prompt", "the ", "--tokens", 3, "--logprobs", "--temperature", 0) == 0
    lines = [re.fullmatch(r"  0 +(-\d\.\d{4})  '(.)'", line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert write(run, "--prompt", "the ", "--tokens", 3, "--temperature", 0) == 0
    assert capsys.readouterr().out == "the " + "".join(line[2] for line in lines) + "\n"


def test_an_empty_prompt_is_the_beginning_of_a_text(run, capsys):
    assert write(run, "--prompt", "", "--tokens", 5) == 0
    text = capsys.readouterr().out
    assert write(run, "--tokens", 5) == 0
    assert capsys.readouterr().out == text


def test_prompts_are_asked_for_until_the_input_ends(run, capsys, monkeypatch):
    """A wrong one is told, and the next asked for."""
    prompts = iter(["the ", "ROMEO", "a "])

    def asked(question):
        print(question, end="")
        if prompt := next(prompts, None):
            return prompt
        raise EOFError

    monkeypatch.setattr("builtins.input", asked)
    assert write(run, "--interactive", "--tokens", 2) == 0
    assert re.fullmatch(
        r"\nprompt> the ..\n\nprompt> error: .* lacks .*\nprompt> a ..\n\nprompt> \n",
        capsys.readouterr().out,
        re.DOTALL,
    )


def test_each_prompt_has_random_numbers_of_its_own(run, capsys, monkeypatch):
    """The first answer is that of --prompt, and asking again gives another; all of them by the seed."""
    told = []
    for seed in (0, 0, 1):
        monkeypatch.setattr("sys.stdin", io.StringIO("the \nthe \n"))
        assert write(run, "--interactive", "--tokens", 9, "--temperature", 3, "--seed", seed) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]
    first, second = told[0].split("\nprompt> ")[1:3]
    assert first != second
    assert write(run, "--prompt", "the ", "--tokens", 9, "--temperature", 3) == 0
    assert capsys.readouterr().out == first


def test_the_best_checkpoint_writes(run, capsys, monkeypatch):
    asked = []

    def watched(folder, which, read=checkpoint.read_checkpoint):
        asked.append(which)
        return read(folder, which)

    monkeypatch.setattr(checkpoint, "read_checkpoint", watched)
    assert write(run, "--tokens", 0, "--prompt", "the cat") == 0
    assert asked == ["best"]
    assert capsys.readouterr().out == "the cat\n"


def test_the_same_seed_is_the_same_run_and_another_another(text, run, tmp_path):
    runs = []
    for seed in (0, 1):
        options = ["--preset", "tiny", "--data", text, "--out", tmp_path / str(seed), "--steps", 5]
        assert pretrain(*options, "--seed", seed) == 0
        runs.append(small_run.results(tmp_path / str(seed)))
    assert runs[0] == small_run.results(run) != runs[1]


def test_minutes_are_planned(text, tmp_path, monkeypatch):
    """As many steps as the timing of a few says are expected, whatever that is on this machine; and time ends it."""
    speeds = []

    def watched(*arguments, speed=plan.speed):
        speeds.append(speed(*arguments))
        return speeds[0]

    monkeypatch.setattr(plan, "speed", watched)
    options = ["--preset", "tiny", "--data", text, "--out", tmp_path, "--dtype", "float64"]
    assert pretrain(*options, "--minutes", 0.005) == 0
    trained, ((step, target),) = RunFolder(tmp_path), speeds
    config = trained.train_config
    assert 0 < config.seconds < 0.3
    expected = plan.planned(replace(config, curve_tokens=2**14), config.seconds, step, target, [376], math.inf)
    assert config == expected
    assert trained.log.curve("position")[1][0] == 0
    assert checkpoint.read_checkpoint(tmp_path / "checkpoints")[1]["model"]["wte.weight"].dtype == np.float64


@pytest.mark.slow
def test_time_is_not_used_to_learn_a_text_by_heart(text, tmp_path, capsys, monkeypatch):
    """However fast the machine, a run planned by time stops after the recipe's epochs."""
    monkeypatch.setattr(plan, "speed", lambda *_: (1e-6, 1e-9))
    assert pretrain("--preset", "tiny", "--data", text, "--out", tmp_path, epochs=2) == 0
    trained = RunFolder(tmp_path)
    tokens = int(0.9 * len(small_run.TEXT))
    assert trained.train_config.steps == trained.log.curve("loss")[0][-1] == 2 * tokens // (4 * 2 * 8)
    assert "2 epochs" in capsys.readouterr().out


def test_the_floor_of_a_known_source_is_drawn_in_nats_a_token(tmp_path, monkeypatch):
    program, text = small_run.example("pretrain_shakespeare"), "ä" * 300
    monkeypatch.setattr(program, "load_corpus", lambda path: Corpus("umlauts", text, floor=1.0))
    with small_run.tiny_preset():
        assert program.main(["--preset", "tiny", "--out", str(tmp_path), "--steps", "1", "--tokenizer", "byte"]) == 0
    assert RunFolder(tmp_path).config["levels"]["entropy of the source"] == 0.5  # an umlaut is two bytes


# ---- mistakes

FILES = {
    "empty": b"", "latin1": "für".encode("latin1") * 100, "short": b"abcdefgh", "one": b"0123456789",
}  # fmt: skip

WRONG = [
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["--steps", "many"], "invalid int value: 'many'"),
    (["--preset", "huge"], "invalid choice: 'huge'"),
    (["--tokenizer", "words"], "tokenizer 'words' is unknown; expected char, byte or gpt2, the path of"),
    (["--tokenizer", "missing.tiktoken"], "tokenizer missing.tiktoken: no such file"),
    (["--device", "tpu"], "invalid choice: 'tpu'"),
    (["--steps", "0"], "steps must be at least 1, found 0"),
    (["--steps", "-5"], "steps must be at least 1, found -5"),
    (["--minutes", "0"], "--minutes must be a positive number, found 0"),
    (["--minutes", "-1"], "--minutes must be a positive number, found -1"),
    (["--minutes", "nan"], "--minutes must be a positive number, found nan"),
    (["--minutes", "inf"], "--minutes must be a positive number, found inf"),
    (["--minutes", "1", "--steps", "1"], "give one of them"),
    (["--batch-size", "0"], "batch_size must be at least 1"),
    (["--accumulate", "0"], "accumulate must be at least 1"),
    (["--eval-every", "-1"], "eval_every must be at least 0"),
    (["--patience", "-1"], "patience must be at least 0"),
    (["--seed", "-1"], "seed must be at least 0"),
    (["--seed", str(2**64)], "seed must be below"),
    (["--data", "missing"], "missing"),
    (["--data", "empty"], "empty"),
    (["--data", "."], "folder"),
    (["--data", "latin1"], "UTF-8"),
    (["--data", "short"], "a text of 7 tokens is too short"),
    (["--data", "one"], "a text of 1 tokens is too short"),
]


@pytest.fixture
def here(tmp_path, monkeypatch, text):
    """A folder with files that are no good, to work in."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    return tmp_path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def title(value):
    return " ".join(value) if isinstance(value, list) else ""


@pytest.mark.parametrize(("options", "message"), WRONG, ids=title)
def test_wrong_options(options, message, here, text, capsys):
    """Exit status 2, a message that says what was wrong, and no new file or folder."""
    before = names(here)
    assert pretrain("--preset", "tiny", "--data", text, "--out", "run", *options) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert names(here) == before
    assert "steps of" not in told.out  # nothing was begun


@pytest.mark.parametrize("program", ["pretrain_shakespeare", "pretrain", "finetune_shakespeare"])
def test_a_folder_that_is_in_use_is_told_before_all_else(program, here, capsys):
    Path("used").mkdir()
    Path("used", "file").write_text("mine")
    module = small_run.example(program)
    module.start = None
    assert module.main(["--out", "used"]) == 2
    assert "used exists and is not an empty folder; give another, or --resume used" in capsys.readouterr().err


def test_what_is_proposed_can_be_copied_to_a_shell(here, text, capsys):
    assert pretrain("--preset", "tiny", "--data", text, "--steps", 1, "--out", "my runs/ü") == 0
    told = capsys.readouterr().out
    assert "generate.py 'my runs/ü'" in told
    assert "--resume 'my runs/ü' --steps 2" in told
    assert pretrain("--preset", "tiny", "--out", "my runs/ü") == 2
    assert "--resume 'my runs/ü'" in capsys.readouterr().err


def test_a_folder_that_is_in_use_or_cannot_be(here, text, run, capsys):
    start = ["--preset", "tiny", "--data", text, "--steps", 1, "--out"]
    Path("file").write_text("mine")
    Path("used").mkdir()
    Path("used", "file").write_text("mine")
    before = names(here)
    for out in ("used", "file", "file/run"):
        assert pretrain(*start, out) == 2
        assert ("cannot write" if "/" in out else "is not an empty folder") in capsys.readouterr().err
    assert names(here) == before
    assert pretrain(*start, run) == 2
    assert f"--resume {run}" in capsys.readouterr().err
    Path("empty_folder").mkdir()
    assert pretrain(*start, "empty_folder") == 0


def test_resume_with_other_settings(run, text, capsys):
    before = small_run.results(run)
    assert pretrain("--resume", run, "--batch-size", 3, "--data", text) == 2
    assert "leave out --batch-size\n" in capsys.readouterr().err
    for steps in ("0", "-1", "5"):
        assert pretrain("--resume", run, "--steps", steps) == 2
        assert "is finished, at step 5" in capsys.readouterr().err
    assert small_run.results(run) == before


def test_resume_on_another_text(here, text, capsys):
    Path("text").write_text(TEXT)
    assert pretrain("--preset", "tiny", "--data", "text", "--out", "run", "--steps", 3) == 0
    Path("text").write_text(TEXT.replace("cat", "cow"))
    assert pretrain("--resume", "run", "--steps", 6) == 2
    assert "is not the text that run was trained on" in capsys.readouterr().err
    Path("text").unlink()
    assert pretrain("--resume", "run", "--steps", 6) == 2
    assert "is not there any more" in capsys.readouterr().err
    assert RunFolder("run").train_config.steps == 3


RESUME = (lambda run: pretrain("--resume", run), *["is not the folder of a run"] * 3)
WRITE = (write, "missing is neither a folder in", "is a file, expected a folder", "holds no model that can be loaded")


@pytest.mark.parametrize(("program", *("missing", "empty", "folder")), [RESUME, WRITE], ids=["resume", "generate"])
def test_what_is_no_run(program, missing, empty, folder, here, run, capsys):
    Path("folder").mkdir()
    Path("damaged").mkdir()
    for name, message in (("missing", missing), ("empty", empty), ("folder", folder)):
        assert program(name) == 2
        assert message in capsys.readouterr().err
    settings = (run / "config.json").read_bytes()
    for content in (b"", b"\xff", b"[]", settings[:-9], settings.replace(b'"n_layer": 1', b'"n_layer": 0')):
        Path("damaged", "config.json").write_bytes(content)
        assert program("damaged") == 2
        assert f"{Path('damaged', 'config.json')} is damaged" in capsys.readouterr().err
    Path("damaged", "config.json").write_bytes(b"{}")
    assert program("damaged") == 2
    assert 'config.json has no "model", "train", "tokenizer", so it is not a run\'s' in capsys.readouterr().err
    Path("damaged", "config.json").write_bytes(settings)
    assert program("damaged") == 2
    assert "holds no whole checkpoint" in capsys.readouterr().err
    assert names(here / "damaged") == ["config.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "ROMEO"], "the vocabulary lacks"),
        (["--tokens", "-1"], "n must be at least 0"),
        (["--temperature", "-0.5"], "temperature must be at least 0"),
        (["--temperature", "nan"], "temperature must be at least 0"),
        (["--top-k", "-1"], "top_k must be at least 0"),
        (["--top-p", "0"], "top_p must be above 0"),
        (["--top-p", "1.5"], "top_p must be above 0"),
        (["--min-p", "2"], "min_p must be from 0 to 1"),
        (["--repetition-penalty", "0"], "repetition_penalty must be positive"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--stop", ""], "--stop must be texts that are not empty"),
        (["--seed", "-1"], "seed must be a whole number from 0"),
        (["--tokens", "many"], "invalid int value"),
        (["--device", "tpu"], "invalid choice"),
    ],
    ids=title,
)
def test_wrong_wishes(options, message, run, capsys):
    assert write(run, "--tokens", 3, "--prompt", "the", *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(here, text, run, capsys):
    before = names(here)
    assert pretrain("--preset", "tiny", "--data", text, "--out", "run", "--steps", 1, "--device", "cuda") == 2
    assert "--device cpu" in capsys.readouterr().err
    assert names(here) == before
    assert write(run, "--device", "cuda") == 2
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["pretrain_shakespeare.py", "--data", "missing"],
        ["finetune_shakespeare.py", "--model", "missing"],
        ["generate.py", "missing"],
    ],
)
def test_as_a_program(command, here):
    """A process of its own: the status is the process's, and no traceback is shown."""
    program, *options = command
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / program, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
    assert "missing" in ended.stderr
