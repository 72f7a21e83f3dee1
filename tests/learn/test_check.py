"""python -m tinygrad_lm.learn exercise and check: right solutions pass, wrong ones are told where and why."""

import ast
import inspect
import re
import textwrap

import pytest
from slow import slow_but
from small_run import status

from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn import __main__ as program
from tinygrad_lm.learn.puzzles.bugs import PUZZLES
from tinygrad_lm.learn.puzzles.examples import EXAMPLES, cotangent
from tinygrad_lm.learn.puzzles.solutions import EXERCISES


def learn(*arguments):
    return status(program.main, *arguments)


@pytest.fixture
def check(tmp_path, capsys):
    """Check a file of this text: the exit status, and what was said. Never is it a traceback."""

    def checked(text, *arguments):
        path = tmp_path / "mine.py"
        path.write_text(text)
        ended = learn("check", path, *arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert said.err == "" if ended < 2 else said.out == ""
        return ended, (said.out + said.err).replace(str(path), "mine.py")

    return checked


SOFTMAX = """\
import numpy as np

def softmax(x, *, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    def backward(dy):
        return (y * (dy - (y * dy).sum(axis, keepdims=True)),)
    return y, backward
"""
RETURN = "return (y * (dy - (y * dy).sum(axis, keepdims=True)),)"

# ---- right


@pytest.mark.parametrize("name", slow_but(EXERCISES, "softmax"))
def test_the_solution_of_an_exercise_passes(name, check):
    source = inspect.getsource(EXERCISES[name])
    ended, said = check("import math\nimport numpy as np\n" + source)
    assert (ended, said[:9]) == (0, "PASSED: " + name[0])
    assert "tinygrad_lm/ops/" in said


@pytest.mark.parametrize("name", slow_but(EXERCISES, "softmax"))
def test_the_operation_itself_passes(name, check):
    """With its decorator: the file is ours, read as somebody else's."""
    rule = Op.registry[name].rule
    ended, said = check(inspect.getsource(inspect.getmodule(rule)))
    assert (ended, f"PASSED: {name} is right" in said) == (0, True)
    assert Op.registry[name].rule is rule  # the file's @op took no place


# ---- the exercise's file


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_is_handed_out_without_its_solution(name, tmp_path, capsys):
    path = tmp_path / "mine.py"
    assert learn("exercise", name, "--out", path) == 0
    text = path.read_text()
    doc, _, formula = inspect.getdoc(EXERCISES[name]).splitlines()[0].partition("        ")
    assert doc in text
    assert formula not in text
    solved = ast.parse(textwrap.dedent(inspect.getsource(EXERCISES[name])))
    backward = next(n for n in ast.walk(solved) if isinstance(n, ast.FunctionDef) and n.name == "backward")
    assert ast.unparse(backward.body[-1]) not in text
    assert learn("check", path) == 1
    said = capsys.readouterr().out
    assert re.search(r"mine\.py, line \d+: still `\.\.\.`: fill in the body of backward", said)


def test_what_was_solved_is_not_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert learn("exercise", "softmax") == 0
    (tmp_path / "softmax_exercise.py").write_text("solved")
    assert learn("exercise", "softmax") == 2
    assert "error: exercise: softmax_exercise.py exists already" in capsys.readouterr().err
    assert (tmp_path / "softmax_exercise.py").read_text() == "solved"


def test_exercises_are_listed(capsys):
    assert learn("exercise") == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in EXERCISES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nonsense"], "'nonsense' is unknown"), (["softmax", "--out", "no/x.py"], "cannot write")],
)
def test_an_exercise_that_cannot_be_written_is_an_error(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert learn("exercise", *arguments) == 2
    assert message in capsys.readouterr().err


# ---- wrong

UNFIT = {  # on the smallest examples these have no entries to compare
    "sum spread without its axis": "in spread: ValueError: operands could not be broadcast",
    "transpose by the same axes": "the gradient of x has shape (2, 1, 1) instead of (1, 1, 2)",
    "concat split evenly": "the gradient of xs[1] has shape (1,) instead of (2,)",
}


def module_source(operation):
    """The source of the file that an operation stands in."""
    return inspect.getsource(inspect.getmodule(inspect.unwrap(Op.registry[operation].rule))) + "\n\n"


@pytest.mark.parametrize("name", PUZZLES)
def test_every_named_mutant_is_found_wrong_with_input_and_entry(name, check):
    """Each, pasted into a copy of the operation's file, where it stands in for the right rule."""
    bug = PUZZLES[name]
    ended, said = check(module_source(bug.operation) + bug.source, bug.operation)
    assert ended == 1
    if bug.title in UNFIT:
        assert UNFIT[bug.title] in said
    else:
        assert re.search(rf"WRONG: mine\.py, {bug.operation}: .* (is|are) not right", said)
        assert re.search(r"^  (y|d\w+(\[\d+\])?)(\[[\d, ]+\])? +\S+ +\S+", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("replaced", "by", "messages"),
    [
        (RETURN, "...", ["line 7: still `...`"]),
        (RETURN, "pass", ["line 7: still `pass`: fill in"]),
        (RETURN, "dx = dy", ["line 3, softmax: backward returned None", "`return`"]),
        (RETURN, "return None", ["backward returned None"]),
        (RETURN, "return (None,)", ["  dx[0] ", "backward gave None for it"]),
        (RETURN, "return y * dy", ["backward returned an array of shape (1,)", "`return (dx,)`"]),
        (RETURN, "return dy, dy", ["backward returned 2 gradients, the rule has 1 input here: x"]),
        (RETURN, "return ()", ["backward returned 0 gradients"]),
        (RETURN, "return ([1.0],)", ["gradient of x is a list of 1; expected an array"]),
        (RETURN, "return (np.zeros(3 * x.size),)", ["gradient of x has shape (6,) instead of (2,)"]),
        (RETURN, "return (np.float64(1) * y * (dy - (y * dy).sum(axis, keepdims=True)),)",
         ["dtype float64 instead of float32", "in float32"]),
        (RETURN, "return (y * (dy - dy.sum()),)", ["  dx[0] ", "must sum to 0 along its axis. Here"]),
        (RETURN, "return (-y * (dy - (y * dy).sum(axis, keepdims=True)),)", ["everywhere -1 times what is right"]),
        (RETURN, "return (dy * np.nan,)", ["  dx[0] ", "nan"]),
        (RETURN, "return (y * abs(dy - (y * dy).sum(axis, keepdims=True)),)", ["with −dy instead of dy"]),
        (RETURN, "return (Y,)", ["line 7, in backward: NameError: name 'Y' is not defined", "    return (Y,)"]),
        (RETURN, "dy *= y", ["line 7, in backward: ValueError", "read-only", "other functions use dy and the inputs"]),
        (RETURN, "raise SystemExit", ["line 7, in backward: SystemExit"]),
        (RETURN, "return (np.linalg.inv(y),)", ["line 7, in backward: LinAlgError"]),
        ("def backward(dy):", "def backward():", ["backward() takes 0 positional arguments but 1 was given"]),
        ("def backward(dy):", "def backward(dy)", ["line 6: expected ':'", "def backward(dy)"]),
        ("return y, backward", "return y", ["a rule returns two things", "this one returned an array"]),
        ("return y, backward", "return 2 * y, backward",
         ["softmax: y is not right", "what the operation computes", "  y[0] "]),
        ("return y, backward", "return y.sum(), backward", ["the value y has shape () instead of (1,)"]),
        ("x, *, axis=-1", "x, w", ["line 3: softmax(x, w) cannot be called as the operation is: softmax(x, *, axis"]),
        ("import numpy as np", "import numpie as np", ["line 1, in <module>: ModuleNotFoundError"]),
        ("import numpy as np", "import numpy as np; raise SystemExit(3)", ["line 1, in <module>: SystemExit: 3"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_the_learners_own_lines(replaced, by, messages, check):
    assert replaced in SOFTMAX
    ended, said = check(SOFTMAX.replace(replaced, by))
    assert (ended, said.count("WRONG: mine.py")) == (1, 1)
    for message in messages:
        assert message in said
    assert "tinygrad_lm/" not in said  # none of the engine's lines


ATTENTION = "import math\nimport numpy as np\n" + inspect.getsource(EXERCISES["attention"])


@pytest.mark.parametrize(
    ("replaced", "by", "message"),
    [
        ("return dQ.swapaxes(1, 2), shared(dK), shared(dV)", "return tuple(d.swapaxes(1, 2) for d in (dQ, dK, dV))",
         "the gradient of k has shape (1, 1, 4, 1) instead of (1, 1, 2, 1)"),
        ("np.repeat(x.swapaxes(1, 2), H // x.shape[2], 1)", "np.tile(x.swapaxes(1, 2), (1, H // x.shape[2], 1, 1))",
         "attention: y and dv are not right"),
    ],
)  # fmt: skip
def test_key_heads_that_serve_several_queries_are_tried(replaced, by, message, check):
    assert replaced in ATTENTION
    ended, said = check(ATTENTION.replace(replaced, by))
    assert (ended, message in said) == (1, True)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_no_row_is_shown_whose_gradient_eps_alone_makes(name):
    """There every mistake would look like a factor."""
    for example in EXAMPLES[name]:
        x = example.inputs[0]
        dx = Op.registry[name].rule(*example.inputs)[1](cotangent(x.shape))[0]
        assert abs(dx).max() > 1e-3, x


def test_a_rule_may_have_a_docstring_of_one_line_or_none(check):
    for doc in ("", '    """y = exp x / Σ exp x        dx = y (dy − Σ y dy)"""\n'):
        text = SOFTMAX.replace("def softmax", "from tinygrad_lm.engine.op import op\n\n@op\ndef softmax")
        ended, said = check(text.replace("axis=-1):\n", "axis=-1):\n" + doc))
        assert (ended, said[:15]) == (0, "PASSED: softmax")


def test_the_smallest_example_that_shows_it_is_shown(check):
    """A sum over the wrong axis needs two."""
    ended, said = check(SOFTMAX.replace("(y * dy).sum(axis, keepdims=True)", "(y * dy).sum(-1, keepdims=True)"))
    assert ended == 1
    assert "x    = [[2, 3],\n          [-1, 0.5]]\n  axis = -2\n" in said


def test_all_rules_of_a_file_are_checked_or_the_named_one(check):
    wrong = SOFTMAX.replace("softmax", "log_softmax")
    ended, said = check(SOFTMAX + wrong)
    assert (ended, said.count("PASSED: softmax"), said.count("WRONG: mine.py, log_softmax")) == (1, 1, 1)
    assert check(SOFTMAX + wrong, "softmax")[0] == 0
    ended, said = check(SOFTMAX, "tanh")
    assert (ended, "defines no rule 'tanh'; found softmax" in said) == (2, True)


@pytest.mark.parametrize("text", ["", "def f(x):\n    return x\n", "from tinygrad_lm.ops.softmax import softmax\n"])
def test_a_file_without_a_rule_of_its_own_is_an_error(text, check):
    ended, said = check(text)
    assert ended == 2
    assert "error: check: mine.py defines no function with the name of an operation" in said


def test_a_file_that_cannot_be_read_is_an_error(tmp_path, capsys):
    (tmp_path / "latin.py").write_bytes(b"# \xe9\xff")
    (tmp_path / "mine.txt").write_text(SOFTMAX)
    messages = {"none.py": "No such file", ".": "directory", "latin.py": "cannot read", "mine.txt": "not a Python file"}
    for name, message in messages.items():
        assert learn("check", tmp_path / name) == 2
        assert message in capsys.readouterr().err


def test_the_solutions_say_the_operations_formulas():
    for name, rule in EXERCISES.items():
        assert inspect.getdoc(rule).splitlines()[0] == Op.registry[name].formula
