"""O7: mistakes planted in the functions that train; the check that should notice each one does. And none unplanted."""

import pytest
from oracles import drawing, gradients, preferences, values
from posttrain_mutants import CHECKS, CLASSIC, OWN
from tiny_world import FAMILIES

from tinygrad_lm.posttrain.policy import policy

MUTANTS = {mutant.mistake: mutant for mutant in [*CLASSIC, *OWN]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_holds(check, family):
    check(family)


@pytest.mark.parametrize("mistake", MUTANTS)
def test_mutants_are_killed(mistake, monkeypatch, record_property):
    mutant = MUTANTS[mistake]
    mutant.plant(monkeypatch)
    try:
        mutant.check("gpt2")
    except AssertionError as noticed:
        record_property("mutant", [f"posttrain: {mistake}", "posttrain", mutant.check.__name__, str(noticed)])
        return
    pytest.fail(f"{mutant.check.__name__} does not notice: {mistake}")


def test_every_check_notices_something():
    assert len(MUTANTS) == len(CLASSIC) + len(OWN)
    assert {mutant.check for mutant in MUTANTS.values()} == set(CHECKS)


def test_without_an_edit_a_replanted_function_is_right(monkeypatch):
    """So it is the edit that is noticed, and not the planting."""
    for mutant in MUTANTS.values():
        unharmed = type(mutant)(mutant.mistake, mutant.function, {}, mutant.check)
        unharmed.plant(monkeypatch)
    assert policy.learn_from.__code__.co_filename == "<string>"
    for checks in (gradients.CHECKS, preferences.CHECKS, values.CHECKS, drawing.CHECKS):
        checks[-1]("gpt2")
