"""How programs end: exit statuses and messages, and terminals whose encoding lacks characters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pretrained.small_models import make_run
from slow import slow_but
from small_run import pretrain

from tinygrad_lm.errors import CheckpointError, ConfigError, DataError, DivergedError
from tinygrad_lm.programs import ask, program, progress_bar

ROOT = Path(__file__).parents[1]


def ends_with(result):
    def main(arguments):
        if isinstance(result, BaseException):
            raise result
        return result

    return program(main)(None)


@pytest.mark.parametrize(
    ("result", "status", "message"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (DivergedError("loss nan"), 1, "error: loss nan\n"),
        (ConfigError("wrong"), 2, "error: wrong\n"),
        (DataError("no file"), 2, "error: no file\n"),
        (CheckpointError("damaged"), 2, "error: damaged\n"),
        (OSError("disk"), 2, "error: disk\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_every_end_has_a_status_and_a_message(result, status, message, capsys):
    assert ends_with(result) == status
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [ZeroDivisionError(), TypeError(), SystemExit(4)])
def test_mistakes_of_the_code_keep_their_traceback(error):
    with pytest.raises(type(error)):
        ends_with(error)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_characters_that_the_encoding_lacks_are_replaced(stream, monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), "cp1252", newline="")
    monkeypatch.setattr(sys, stream, written)
    assert program(lambda arguments: print("∂y/∂x → é", file=getattr(sys, stream)))(None) == 0
    written.flush()
    assert written.buffer.getvalue().decode("cp1252").strip() == "?y/?x ? é"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a Greek text, a run on it, and a run of a model that can be exported."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "ἔργα.txt").write_text("μῆνιν ἄειδε θεά\n" * 30)
    assert pretrain("--preset", "tiny", "--data", folder / "ἔργα.txt", "--out", folder / "run", "--steps", 2) == 0
    make_run(folder / "modern")
    return folder


COMMANDS = {
    "generate": [ROOT / "examples" / "generate.py", "run", "--prompt", "μῆνιν", "--tokens", "5"],
    "generate --help": [ROOT / "examples" / "generate.py", "--help"],
    "evaluate": ["-m", "tinygrad_lm.evaluate", "run", "--tasks", "text=ἔργα.txt"],
    "evaluate --help": ["-m", "tinygrad_lm.evaluate", "--help"],
    "export": [ROOT / "examples" / "export.py", "modern", "σ"],
    "check_gradients": [ROOT / "examples" / "check_gradients.py", "--cases", "1"],
    "chat": [ROOT / "examples" / "chat.py", "run", "--tokens", "5"],
    "serve --help": ["-m", "tinygrad_lm.serve", "--help"],
    "learn": ["-m", "tinygrad_lm.learn"],
    "learn page": ["-m", "tinygrad_lm.learn", "page"],
    "learn bug": ["-m", "tinygrad_lm.learn", "bug", "sqrt"],
    "learn exercise": ["-m", "tinygrad_lm.learn", "exercise"],
    "learn doctor": ["-m", "tinygrad_lm.learn", "doctor", "run"],
    "learn cost": ["-m", "tinygrad_lm.learn", "cost", "run"],
    "data": ["-m", "tinygrad_lm.data"],
    "data inspect": ["-m", "tinygrad_lm.data", "inspect", "Ω"],
}


@pytest.mark.parametrize("name", slow_but(COMMANDS, "generate", "data inspect"))
def test_text_goes_to_any_encoding(name, here):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    command = [sys.executable, *map(str, COMMANDS[name])]
    given = {"input": "μῆνιν\n".encode("cp1252", "replace"), "capture_output": True}
    ended = subprocess.run(command, cwd=here, env=environment, timeout=200, **given)
    told = (ended.stdout + ended.stderr).decode("cp1252")
    assert "Traceback" not in told, told
    assert told
    if name != "learn doctor":  # whose status says whether the run is ill
        assert ended.returncode == (2 if name == "data inspect" else 0), told


@pytest.mark.parametrize(("module", "hidden"), [("tqdm.std", None), ("tqdm.notebook", False)])
def test_a_bar_is_shown_on_terminals_and_in_notebooks(module, hidden, monkeypatch):
    """A notebook's stream is no terminal, so the widget is asked for; into a file nothing is written."""
    kind = type(
        "Bar", (), {"__module__": module, "__init__": lambda self, *iterable, **options: vars(self).update(options)}
    )
    monkeypatch.setattr("tqdm.auto.tqdm", kind)
    assert vars(progress_bar(unit="op")) == {"disable": hidden, "dynamic_ncols": True, "unit": "op"}
    assert vars(progress_bar(disable=True))["disable"]


def test_standard_input_that_is_closed_has_ended(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(EOFError):
        ask("prompt> ")


def test_bytes_that_are_no_text_are_asked_for_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("ü\n".encode() + b"\xff\nb\n"), "utf-8", "strict"))
    assert [ask("") for _ in range(3)] == ["ü", "\ufffd", "b"]
    with pytest.raises(EOFError):
        ask("")


def test_a_bar_writes_nothing_into_a_file(capfd):
    assert list(progress_bar(range(3))) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


# ---- what is printed outside of programs, and without docstrings


def ended(*command, **environment):
    """(status, what it printed) of a process whose streams have an encoding without most of our letters."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"} | environment
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, timeout=200)
    return done.returncode, (done.stdout + done.stderr).decode("cp1252")


def test_lessons_go_to_any_encoding(tmp_path, monkeypatch):
    """By the line with which each of them ends."""
    monkeypatch.chdir(tmp_path)
    paths = sorted((ROOT / "examples" / "lessons").glob("*.py"))
    for path in paths:
        assert path.read_text(encoding="utf-8").endswith('if __name__ == "__main__":\n    run_lesson(main)\n'), path
    status, told = ended(paths[0])
    assert status == 0, told
    assert len(told.splitlines()) > 5


WRONG = """
import numpy as np
from tinygrad_lm.engine.op import op
from tinygrad_lm.testing.gradcheck import gradcheck

@op
def double(x):
    "y = 2 x        dx = 2 dy"
    return 2 * x, lambda dy: (3 * dy,)

gradcheck(double, np.ones(3))
"""


def test_a_failing_gradcheck_goes_to_any_encoding():
    """Its ✗ would end it before it says what is wrong."""
    status, told = ended("-c", WRONG)
    assert status == 1
    assert "UnicodeEncodeError" not in told
    assert "GradientError: gradcheck double: analytic and central derivatives DIFFER" in told
    assert " ? input 0 (3,): 3 entries" in told


@pytest.mark.slow
def test_learning_without_docstrings_is_refused():
    status, told = ended("-OO", "-m", "tinygrad_lm", "learn")
    assert (status, told.count("\n")) == (2, 1)
    assert told.startswith("error: learn: it reads docstrings")
