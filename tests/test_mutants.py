"""The checks can fail: planted wrong derivatives, all of which they must notice. A table at the end shows who did."""

import numpy as np
import pytest
from broken_engines import ENGINES
from slow import slow_but

from tinygrad_lm import Tensor, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn.puzzles import bugs
from tinygrad_lm.learn.puzzles.patch import rule_from_source, rule_source
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.case import some_cases
from tinygrad_lm.testing.cases import CASES, PROOFS
from tinygrad_lm.testing.mutants import GENERIC, generic_mutants, killers, mutated, notices

OPERATIONS = sorted(Op.registry)
BUGS = {bug.title: bug for bug in bugs.BUGS}


def who_notices(name, rule, cases):
    return killers(rule, cases, PROOFS[name].rule_checks)


@pytest.fixture(scope="module")
def cases():
    """Each operation's cases, drawn once."""
    drawn = {}
    return lambda name: drawn.get(name) or drawn.setdefault(name, some_cases(CASES[name]))


@pytest.mark.parametrize("name", slow_but(OPERATIONS, "matmul"))
def test_right_rules_pass(name, cases):
    assert who_notices(name, Op.registry[name].rule, cases(name)) == []


@pytest.mark.parametrize("name", slow_but(OPERATIONS, "matmul", "softmax"))
def test_generic_mutants_are_killed(name, cases, record_property):
    found = generic_mutants(Op.registry[name].rule, cases(name), PROOFS[name].rule_checks)
    for title, who in found.items():
        if who is not None:
            record_property("mutant", [title, name, *who])
    assert [title for title, who in found.items() if who == []] == []
    one_gradient = all(len(case.floating) < 2 for case in cases(name))
    expected = {"second gradient zero", "gradients swapped"} if one_gradient else set()
    assert {title for title, who in found.items() if who is None} == expected | PROOFS[name].equivalent


@pytest.mark.parametrize("title", BUGS)
def test_named_mutants_are_killed(title, cases, record_property):
    name, rule = BUGS[title].operation, BUGS[title].rule
    noticed = who_notices(name, rule, cases(name))
    record_property("mutant", [f"{name}: {BUGS[title].mistake}", name, *noticed])
    assert noticed


# ---- the engine, on graphs small enough to know the answer


def fan_out():
    """A value used three times, once late: its gradient is the sum over the uses."""
    x = Tensor(np.array([2.0, 3.0]), requires_grad=True)
    y = x * x
    (y * x + y).sum().backward()
    checks.same(x.grad, 3 * x.data**2 + 2 * x.data, "gradient of x³ + x²")


def broadcasting():
    """A row added to each of three rows: its gradient is the sum over them."""
    x, b = Tensor(np.ones((3, 2)), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    u = np.arange(6.0).reshape(3, 2)
    (x + b).backward(u)
    checks.same(x.grad, u, "gradient of the matrix")
    checks.same(b.grad, u.sum(0), "gradient of the row")


def ownership():
    """`add` returns dy itself, twice; adding to one gradient must change neither the other nor the seed."""
    a, b, u = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True), np.ones(2)
    (a + b).backward(u)
    (a * 2.0).backward(u)
    checks.same(a.grad, np.full(2, 3.0), "gradient of a, used in two walks")
    checks.same(b.grad, np.ones(2), "gradient of b, used in the first")
    checks.same(u, np.ones(2), "the seed")


def late_use():
    """x's gradient is complete only after its oldest and its youngest use."""
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x * 2.0
    z = (y * 3.0) * 5.0
    (z + y).backward()
    checks.same(x.grad, np.array(32.0), "gradient of 30x + 2x")


GRAPH_CHECKS = {f.__name__.replace("_", " "): f for f in (fan_out, broadcasting, ownership, late_use)}


@pytest.mark.parametrize("title", ENGINES)
def test_broken_engines_are_noticed(title, monkeypatch, record_property):
    def failing():
        found = []
        for check_title, check in GRAPH_CHECKS.items():
            try:
                check()
            except Exception:
                found.append(check_title)
        return found

    assert failing() == []
    monkeypatch.setattr(*ENGINES[title])
    noticed = failing()
    record_property("mutant", [f"engine: {title}", "engine", *noticed])
    assert noticed


@pytest.mark.parametrize("name", slow_but(sorted({bug.operation for bug in bugs.BUGS}), "softmax"))
def test_named_mutants_are_right_but_for_their_edit(name, cases):
    """The rule made from its source as the mutants are, but without an edit, passes."""
    assert who_notices(name, rule_from_source(name, rule_source(name)), cases(name)) == []


def edited(name, old, new):
    """The operation's rule with one piece of its source replaced, wherever it occurs."""
    source = rule_source(name)
    assert old in source
    return rule_from_source(name, source.replace(old, new))


DOCUMENTS = {
    "the mask of documents off by one": ("xp.asarray(document_starts)", "(xp.asarray(document_starts) - 1)"),
    "a document without its first key": (
        "xp.arange(S) < xp.asarray(document_starts)",
        "xp.arange(S) <= xp.asarray(document_starts)",
    ),
    "starts counted from the first query": ("xp.asarray(document_starts)", "(xp.asarray(document_starts) - (S - T))"),
    "every sequence with the first one's starts": ("xp.asarray(document_starts)[", "xp.asarray(document_starts)[:1]["),
    "starts in the order of another head": ("xp.tile(before, (R, 1))", "xp.repeat(before, R, axis=2)"),
    "documents kept apart in the first head alone": (
        "xp.tile(before, (R, 1))",
        "xp.tile(before, (R, 1)) & (xp.arange(R * T) < T)[:, None]",
    ),
    "documents kept apart without causality alone": (
        "if document_starts is not None:",
        "if document_starts is not None and not causal:",
    ),
}


@pytest.mark.parametrize("title", DOCUMENTS)
def test_mutants_of_the_mask_of_documents_are_killed(title, cases, record_property):
    with np.errstate(all="ignore"):
        noticed = who_notices("attention", edited("attention", *DOCUMENTS[title]), cases("attention"))
    record_property("mutant", [f"attention: {title}", "attention", *noticed])
    assert "value" in noticed


# ---- checkers that are broken themselves


def all_ones(rng, shape):
    return np.ones(shape)


def first_entry_only(found, expected, what, tolerance=None):
    assert np.shape(found) == np.shape(expected)
    if np.size(expected):
        assert abs(np.ravel(found)[0] - np.ravel(expected)[0]) <= checks.TOLERANCE * max(1, abs(expected).max())


def always_equal(found, expected, what, tolerance=None):
    pass


def nan_blind(found, expected, what, tolerance=None):
    if np.size(expected):
        assert not abs(found - expected).max() / max(1, abs(expected).max()) > checks.TOLERANCE


def nan_rule(x, *, axis=-1):
    y, _ = ops.softmax.rule(x, axis=axis)
    return y, lambda dy: (dy * np.nan,)


BROKEN = {
    "all-ones cotangent": ("signed", all_ones, mutated(ops.softmax.rule, GENERIC["zero"])),
    "all-ones cotangent again": ("signed", all_ones, BUGS["softmax with dy outside the sum"].rule),
    "tolerance × 1e6": ("TOLERANCE", 1e-6, mutated(ops.softmax.rule, GENERIC["× (1 + 1e-9)"])),
    "first entry only": ("agree", first_entry_only, mutated(ops.softmax.rule, GENERIC["last entry × 1.001"])),
    "always equal": ("agree", always_equal, mutated(ops.softmax.rule, GENERIC["wrong sign"])),
    "a NaN passes": ("agree", nan_blind, nan_rule),
}


@pytest.mark.parametrize("title", BROKEN)
def test_broken_checkers_let_a_mutant_live_that_the_right_one_kills(title, cases, monkeypatch, record_property):
    attribute, broken, mutant = BROKEN[title]
    # At least two entries a row: in a row of one the first is also the last.
    some = [case for case in cases("softmax") if case.inputs[0].size and min(case.inputs[0].shape, default=0) > 1]
    assert len(some) > 3
    assert notices(checks.every_entry, mutant, some)
    monkeypatch.setattr(checks, attribute, broken)
    assert not notices(checks.every_entry, mutant, some)
    record_property("mutant", [f"checker: {title}", "checker", "a mutant lived"])
