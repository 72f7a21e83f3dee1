"""`tinygrad-lm COMMAND`: one table names every program, and a hint names what the user can start from where he is."""

import ast
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from small_run import TEXT, pretrain, write

import tinygrad_lm
from tinygrad_lm import commands
from tinygrad_lm.__main__ import main
from tinygrad_lm.commands import COMMANDS, file_of, spelled

ROOT = Path(__file__).parents[1]


@pytest.fixture
def started(monkeypatch):
    """main(arguments) as the console script calls it; what it changes of the process is put back."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tinygrad-lm"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield lambda *arguments: main(list(map(str, arguments)))
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == ROOT / "examples":
            del sys.modules[name]


def test_every_program_is_a_command():
    def is_program(path):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        return any(node.name == "main" and node.decorator_list for node in functions)

    programs = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py") if is_program(path)}
    programs |= {f"-m tinygrad_lm.{path.parent.name}" for path in (ROOT / "tinygrad_lm").glob("*/__main__.py")}
    assert len(programs) == 16
    assert programs == {" ".join(program.split()[:2]) for program in COMMANDS.values()}
    assert all(file_of(name).is_file() for name in COMMANDS)


def test_alone_it_lists_them(started, capsys):
    assert started() == 0
    listed = dict(re.findall(r"^  (\S+)  +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert list(listed) == list(COMMANDS)
    assert listed["train"] == "Pretrain a small GPT on tiny Shakespeare and watch it learn."
    assert listed["doctor"] == "Examine a run: is it healthy, and if not, what is wrong and what to do."


def test_one_version_everywhere(started, capsys):
    assert started("--version") == 0
    assert capsys.readouterr().out == f"tinygrad-lm {tinygrad_lm.__version__}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == tinygrad_lm.__version__
    assert f"\nversion: {tinygrad_lm.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {tinygrad_lm.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("word", "hint"), [("trian", "did you mean train or pretrain?"), ("?", "there are: train, pretrain, ")]
)
def test_another_word_is_refused(word, hint, started, capsys):
    assert started(word) == 2
    assert f"error: {word} is not a command of tinygrad-lm; {hint}" in capsys.readouterr().err


def test_a_missing_library_is_named(started, capsys, monkeypatch):
    """As the package's own messages do; what the import system says keeps its traceback."""

    def missing(name, message="it needs Hypothesis; get it with: pip install 'tinygrad-lm[test]'"):
        raise ImportError(message, name=name)

    monkeypatch.setattr("tinygrad_lm.__main__.import_module", lambda _: missing(None))
    assert started("check-gradients") == 2
    assert capsys.readouterr().err == "error: it needs Hypothesis; get it with: pip install 'tinygrad-lm[test]'\n"
    monkeypatch.setattr("tinygrad_lm.__main__.import_module", lambda _: missing("numpy"))
    with pytest.raises(ImportError):
        started("check-gradients")


@pytest.mark.parametrize("name", ["finetune", "doctor"])
def test_the_help_names_commands(name, started, capsys):
    """Of a file of examples/ that imports another one, and of a module with several programs."""
    with pytest.raises(SystemExit, match="0"):
        started(name, "--help")
    told = capsys.readouterr().out
    assert "examples/" not in told
    assert {"finetune": "tinygrad-lm finetune --model gpt2 --lora 4", "doctor": "learn doctor [-h]"}[name] in told


def test_a_command_is_its_program(tmp_path, started, monkeypatch, capsys):
    """It writes the same text, and a run that it trains ends with the commands that go on."""
    (tmp_path / "text.txt").write_text(TEXT)
    options = ["--preset", "tiny", "--data", tmp_path / "text.txt", "--steps", 2]
    assert pretrain(*options, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    assert write(tmp_path / "run", "--tokens", 9) == 0
    expected = capsys.readouterr().out
    assert started("generate", tmp_path / "run", "--tokens", 9) == 0
    assert capsys.readouterr().out == expected
    assert sys.argv[0] == "tinygrad-lm generate"
    assert pretrain(*options, "--out", tmp_path / "again") == 0
    told = capsys.readouterr().out
    assert f"write more:  tinygrad-lm generate {tmp_path / 'again'}\n" in told
    assert f"train on:    tinygrad-lm train --resume {tmp_path / 'again'} --steps 4\n" in told


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("clone", "python examples/chat.py"),
        ("elsewhere", "python {}"),
        ("wheel", "tinygrad-lm chat"),
        ("command", "tinygrad-lm chat"),
    ],
)
def test_a_hint_fits_the_place(where, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tinygrad-lm train" if where == "command" else "train.py"])
    monkeypatch.setattr(commands, "INSTALLED", where == "wheel")
    monkeypatch.chdir(ROOT if where == "clone" else tmp_path)
    assert spelled("examples/chat.py") == expected.format(os.path.relpath(ROOT / "examples" / "chat.py", tmp_path))
    assert spelled("mine.py") == "python mine.py"
