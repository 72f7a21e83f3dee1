"""python -m tinygrad_lm.learn bug: what a puzzle shows is real, small, and does not give the answer away."""

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
from slow import slow_but
from small_run import status

from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn import __main__ as program
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.learn.puzzles.bugs import BUGS, PUZZLES
from tinygrad_lm.learn.puzzles.compare import compare, gradients
from tinygrad_lm.learn.puzzles.examples import EXAMPLES, Example
from tinygrad_lm.learn.puzzles.laws import LAWS, broken_laws
from tinygrad_lm.learn.puzzles.patch import rule_from_source, rule_source
from tinygrad_lm.learn.puzzles.puzzle import find_symptom, hint, question
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.checks import agree, jacobians

HAS_KINKS = {"max", "maximum"}  # at a tie there is no derivative; the operation's own sharing is what is right


@pytest.fixture(scope="module")
def symptoms():
    return {name: find_symptom(bug.rule, bug.operation) for name, bug in PUZZLES.items()}


def learn(*arguments):
    return status(program.main, *arguments)


# ---- patches


def test_every_bug_is_one_edit_or_two():
    assert len(BUGS) == len({bug.title for bug in BUGS}) == len(PUZZLES) == 48
    for bug in BUGS:
        assert 1 <= len(bug.edits) <= 2
        assert bug.source != rule_source(bug.operation)


@pytest.mark.parametrize("operation", slow_but(sorted({bug.operation for bug in BUGS}), "softmax"))
def test_without_an_edit_the_rule_is_right(operation):
    """So the edit alone is what is wrong, and its surroundings are compiled as they are in the operation's file."""
    with np.errstate(all="ignore"):
        for example in EXAMPLES[operation]:
            assert compare(rule_from_source(operation, rule_source(operation)), operation, example) == []


@pytest.mark.parametrize(("fragment", "times"), [("dy * z", 0), ("axis, keepdims=True", 3)])
def test_a_fragment_that_is_not_found_exactly_once_is_an_error(fragment, times):
    bug = replace(PUZZLES["softmax 1"], edits={fragment: "0"})
    with pytest.raises(ValueError, match=f"^softmax with only the diagonal: '.*' occurs {times} times, not once, in"):
        _ = bug.rule


def test_a_wrong_rule_replaces_nothing():
    names = vars(inspect.getmodule(Op.registry["softmax"].rule))
    before = dict(Op.registry), dict(names)
    wrong = PUZZLES["softmax 1"].rule
    assert (dict(Op.registry), names) == before
    assert wrong not in names.values()


# ---- puzzles


@pytest.mark.parametrize("name", PUZZLES)
def test_the_shown_symptom_is_real(name, symptoms):
    """What is shown as right is so by another way, a complex step; and what is shown as found is far from it."""
    bug, symptom = PUZZLES[name], symptoms[name]
    example, dy = symptom.example, symptom.dy
    operation = Op.registry[bug.operation].rule
    given = Op.registry[bug.operation].input_names(len(example.inputs))
    if bug.operation in HAS_KINKS:
        right = gradients(operation(*example.inputs, **example.options)[1], dy, example.inputs, given)
    else:
        exact = jacobians(bug.rule, Case(example.inputs, example.options))
        right = {f"d{given[i]}": (dy.ravel() @ j).reshape(example.inputs[i].shape) for i, j in exact.items()}
    right["y"] = operation(*example.inputs, **example.options)[0]
    y, backward = bug.rule(*example.inputs, **example.options)
    found = gradients(backward, dy, example.inputs, given) | {"y": y}
    wrong = {difference.what for difference in symptom.differences}
    assert wrong
    for difference in symptom.differences:
        what = difference.what
        agree(difference.right, np.asarray(right[what]), what, tolerance=1e-9)
        agree(difference.found, np.asarray(found[what]), what)
        assert difference.wrong
        for place in difference.wrong:
            assert not abs(found[what][place] - right[what][place]) < 1e-4
    for what in found.keys() - wrong:
        agree(np.asarray(found[what]), np.asarray(right[what]), what, tolerance=1e-8)


@pytest.mark.parametrize("name", PUZZLES)
def test_an_example_can_be_computed_by_hand(name, symptoms):
    assert symptoms[name].example.size <= 12
    for x in symptoms[name].example.inputs:
        assert np.array_equal(x, np.round(x.astype(float), 1))


@pytest.mark.parametrize("operation", EXAMPLES)
def test_right_rules_are_right_on_every_example_and_break_no_law(operation):
    sizes = [example.size for example in EXAMPLES[operation]]
    assert sizes == sorted(sizes)
    with np.errstate(all="ignore"):
        for example in EXAMPLES[operation]:
            for dtype in ("float64", "float32"):
                assert compare(Op.registry[operation].rule, operation, example, dtype=dtype) == []
            assert broken_laws(Op.registry[operation].rule, operation, example) == []


def test_every_law_is_broken_by_some_bug(symptoms):
    with np.errstate(all="ignore"):
        said = [broken_laws(bug.rule, bug.operation, symptoms[name].example) for name, bug in PUZZLES.items()]
    for _, sentence, *_ in LAWS:
        assert any(sentence in one for sentences in said for one in sentences)


@pytest.mark.parametrize("name", PUZZLES)
def test_neither_question_nor_hint_gives_the_answer(name, symptoms):
    bug = PUZZLES[name]
    right = halves(Op.registry[bug.operation])[1]
    said = question(bug, symptoms[name]) + hint(bug, symptoms[name])
    for secret in (bug.title, bug.mistake, bug.reason, bug.reason.split(". ")[0]):
        assert secret not in said
    assert right not in hint(bug, symptoms[name])
    assert f"def {bug.operation}(" in said
    code = said.partition("\nThe smallest example")[0].splitlines()
    assert not [line for line in code if "#" in line and " is right: " not in line]  # no comment of the right rule


@pytest.mark.parametrize("name", PUZZLES)
def test_every_puzzle_can_be_asked_and_answered(name, capsys):
    bug = PUZZLES[name]
    assert learn("bug", *name.split()) == 0
    asked = capsys.readouterr().out
    assert learn("bug", name, "--hint") == 0
    hinted = capsys.readouterr().out
    assert learn("bug", name, "--hint", "--answer") == 0
    told = capsys.readouterr().out
    assert bug.hint not in asked
    assert bug.hint in hinted
    assert bug.title not in hinted
    assert bug.hint in told
    assert bug.title in told
    assert Op.registry[bug.operation].formula in told
    assert re.search(r"tinygrad_lm/ops/\w+\.py, line \d+:\n\n( {4}[-+].*\n)+$", told)
    for right, wrong in bug.edits.items():
        assert right.strip().splitlines()[-1].strip() in told
        assert not wrong or wrong.strip().splitlines()[-1].strip() in told


@pytest.mark.slow
def test_the_list_names_all_and_tells_nothing(capsys):
    assert learn("bug") == 0
    listed = capsys.readouterr().out
    for name, bug in PUZZLES.items():
        assert f"  {name} " in listed
        assert bug.title not in listed
    levels = re.findall("^  ([●○]+)", listed, re.MULTILINE)
    assert levels == sorted(levels, key=lambda text: text.count("●"))
    assert len(levels) == len(PUZZLES)
    assert len(set(levels)) == 3


@pytest.mark.parametrize(
    ("title", "sentence"),
    [
        ("softmax with dy outside the sum", "With dy = 1 everywhere"),
        ("recompute that forgets dy", "With dy = 1 everywhere"),
        ("gelu with the tanh form's density", "less than a thousandth"),
        ("attention that sees one key too many", "no gradient check notices"),
        ("layer norm with the unbiased variance", "no gradient check notices"),
        ("attention without its scale in the backward pass", "smaller examples it is right"),
    ],
)
def test_what_would_not_have_noticed_is_said(title, sentence, symptoms):
    name = next(name for name, bug in PUZZLES.items() if bug.title == title)
    assert sentence in question(PUZZLES[name], symptoms[name])
    assert "With dy = 1" not in question(PUZZLES["sqrt"], symptoms["sqrt"])


def test_tables_say_what_wrong_entries_have_in_common(symptoms):
    said = lambda name: question(PUZZLES[name], symptoms[name])
    assert "everywhere 2 times what is right" in said("mean")
    assert "it is the transpose of what is right" in said("linear 1")
    assert "backward gave None for it" in said("power 2")
    assert Example((np.zeros((2, 3)), np.zeros(3))).size == 9


@pytest.mark.parametrize("arguments", [["softmax"], ["softmax", "9"], ["nonsense"], ["--nonsense"]])
def test_an_unknown_puzzle_is_an_error(arguments, capsys):
    assert learn("bug", *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: " in said.err
    assert "softmax 1" in said.err or "softmax" not in arguments


def test_no_command_is_told_all_of_them_and_an_unknown_one_is_an_error(capsys):
    assert learn() == 0
    assert "doctor" in capsys.readouterr().out
    assert learn("nonsense") == 2
    assert "bug" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["embedding", "getitem"])
def test_what_is_said_to_be_right_is_not_what_is_wrong(name, capsys):
    """`dw[ids] += dy` as a formula is right, as NumPy it is the mistake."""
    assert learn("bug", name, "--answer") == 0
    assert "+= dy" not in capsys.readouterr().out.partition("right:")[2].splitlines()[0]
