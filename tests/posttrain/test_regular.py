"""The regular expressions that never backtrack: what Python's `re` matches, at a bounded cost."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.verifiers.regular import LARGEST, compile_program, match_whole

ATOMS = st.sampled_from(
    ["a", "b", ".", "\\d", "\\W", "[ab]", "[^a]", "[]a]", "[a-c\\]]", "\\.", "\\n", "é", "\\]", "-"]
)
REPEATS = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "{1,3}", "{0}"])
EXPRESSIONS = st.recursive(
    ATOMS | st.just(""),
    lambda part: (
        st.tuples(part, part).map("".join)
        | st.tuples(part, part).map("({0[0]}|{0[1]})".format)
        | st.tuples(part, REPEATS).map("(?:{0[0]}){0[1]}".format)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(EXPRESSIONS, st.text("abc1.]-é\n", max_size=8))
@example("(a|ab)(c|bcd)(d*)", "abcd")
@example("a|b|", "")
@example("()*", "")
@example("(a*)*", "aaa")
@example("(a|)+b", "b")
@example("a{0}b", "b")
def test_it_matches_what_re_matches(expression, text):
    assert match_whole(expression, text) == bool(re.fullmatch(expression, text, re.ASCII))


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_texts_of_an_expression_match(data):
    expression = data.draw(EXPRESSIONS)
    text = data.draw(st.from_regex(re.compile(expression, re.ASCII), fullmatch=True))
    assert match_whole(expression, text)


@pytest.mark.parametrize(
    ("expression", "place", "complaint"),
    [
        ("(a", 0, "a bracket that closes"),
        ("]", 0, "expected a character"),
        ("a)b", 1, "a bracket that nothing opens"),
        ("*a", 0, "expected a character"),
        ("a**", 2, "expected a character"),
        ("a*?", 2, "expected a character"),
        ("a++", 2, "expected a character"),
        ("^a", 0, "expected a character"),
        ("a$", 1, "expected a character"),
        ("(?=a)", 1, "expected a character"),
        ("(?i)a", 1, "expected a character"),
        ("(?P<x>a)", 1, "expected a character"),
        (r"(a)\1", 3, "expected a character"),
        (r"\bx", 0, "expected a character"),
        (r"\Z", 0, "expected a character"),
        ("[a", 0, "expected a character"),
        ("[[a]", 0, "expected a character"),
        ("[a--b]", 0, "an operation on sets"),
        ("[b-a]", 0, "bad character range"),
        ("a{2,1}", 1, "2 or more"),
        ("a{,3}", 1, "expected a character"),
        ("a{x}", 1, "expected a character"),
        ("a\\", 1, "expected a character"),
        ("(" * 60 + ")" * 60, 51, "at most 50 groups"),
        ("((a{99}){99}){99}", 13, "few, repetitions"),
    ],
)
def test_what_is_not_in_the_notation_is_refused_with_its_place(expression, place, complaint):
    with pytest.raises(DataError, match=f"(?s)position {place}: .*{complaint}"):
        match_whole(expression, "")


@given(st.text("ab(){}[]|*+?,12^$\\.-&", max_size=12), st.text("ab12", max_size=5))
def test_any_expression_matches_as_in_python_or_is_refused(expression, text):
    try:
        matches = match_whole(expression, text)
    except DataError:
        return
    assert matches == bool(re.fullmatch(expression, text, re.ASCII))


def test_the_cost_is_bounded():
    """It ends: by trying one way after another it would take 2³⁰⁰ steps."""
    for expression in ("(a|a)*b", "(a*)*b", "(a+)+b", "(a?){40}a{40}b", "(.*)*(.*)*x"):
        assert not match_whole(expression, "a" * 300)


def test_programs_are_small():
    assert len(compile_program("(a{10}){100}")) == 1000
    with pytest.raises(DataError):
        compile_program(f"(a{{10}}){{{LARGEST // 10 + 1}}}")
