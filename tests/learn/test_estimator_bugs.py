"""python -m tinygrad_lm.learn bug, of what trains after pretraining: each mistake shows, and breaks its law."""

import inspect

import numpy as np
import pytest
from small_run import status

from tinygrad_lm.learn import __main__ as program
from tinygrad_lm.learn.puzzles.bugs import PUZZLES
from tinygrad_lm.learn.puzzles.estimator_bugs import ESTIMATOR_BUGS, ESTIMATOR_PUZZLES
from tinygrad_lm.learn.puzzles.estimators import ESTIMATORS
from tinygrad_lm.learn.puzzles.patch import function_from_source


def learn(*arguments):
    return status(program.main, *arguments)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_right_functions_keep_their_law_on_every_example(name):
    estimator = ESTIMATORS[name]
    sizes = [sum(np.size(x) for x in arguments.values()) for arguments in estimator.examples]
    assert max(sizes) <= 17  # to be computed by hand
    for arguments in estimator.examples:
        found, expected = estimator.both_sides(estimator.function, arguments)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ESTIMATOR_PUZZLES)
def test_without_its_edit_the_function_is_right(name):
    bug = ESTIMATOR_PUZZLES[name]
    assert bug.source != bug.right_source
    same = function_from_source(bug.original, bug.right_source)
    for arguments in bug.estimator.examples:
        found, right = (bug.estimator.value(f, **arguments) for f in (same, bug.original))
        assert np.array_equal(found, right)


@pytest.mark.parametrize("name", ESTIMATOR_PUZZLES)
def test_every_puzzle_can_be_asked_and_answered(name, capsys):
    bug = ESTIMATOR_PUZZLES[name]
    assert learn("bug", *name.split()) == 0
    asked = capsys.readouterr().out
    assert learn("bug", name, "--hint") == 0
    hinted = capsys.readouterr().out
    assert learn("bug", name, "--answer") == 0
    told = capsys.readouterr().out
    formula = inspect.getdoc(bug.original).splitlines()[0]
    arguments, difference = bug.symptom()
    for argument in arguments:
        assert f"\n  {argument} " in asked
    assert f"{len(difference.wrong)} of {difference.right.size} wrong" in asked
    assert f"def {bug.operation}(" in asked
    assert "# " not in asked
    assert bug.estimator.law in hinted
    for secret in (bug.title, bug.mistake, bug.reason, formula):
        assert secret not in asked + hinted
        assert secret == bug.mistake or secret in told
    assert f"  {bug.original.__module__.replace('.', '/')}.py, line " in told


def test_the_law_is_broken_by_enough_to_see():
    for bug in ESTIMATOR_BUGS:
        worst = 0.0
        for arguments in bug.estimator.examples:
            found, expected = bug.estimator.both_sides(bug.rule, arguments)
            worst = max(worst, abs(found - expected).max())
        assert worst > 0.01, bug.title
    assert {bug.operation for bug in ESTIMATOR_BUGS} == set(ESTIMATORS)


@pytest.mark.slow
def test_the_list_names_them_and_no_name_is_taken_twice(capsys):
    assert learn("bug") == 0
    listed = capsys.readouterr().out
    assert len(ESTIMATOR_PUZZLES) == len(ESTIMATOR_BUGS) == 16
    assert not ESTIMATOR_PUZZLES.keys() & PUZZLES.keys()
    for name, bug in ESTIMATOR_PUZZLES.items():
        assert f"  {name} " in listed
        assert bug.title not in listed
    assert max(map(len, listed.partition("What trains")[2].splitlines())) <= 120


def test_an_unknown_one_is_an_error(capsys):
    assert learn("bug", "gae", "9") == 2
    assert "this function's puzzles are gae 1, gae 2" in capsys.readouterr().err
