"""Verifiers accept what they should and nothing that looks like it: the table of hostile answers."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.synthetic.speeches import play_conversations
from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.verifiers.verifiers import (
    LONGEST_SPEECH,
    VERIFIERS,
    best_constant,
    equal,
    grammar,
    number,
    pattern,
)

RIGHT = [
    (equal, "Mira", ["Mira"]),
    (equal, "042", ["042"]),
    (equal, "two\nlines", ["two\nlines"]),
    (number, "42", ["42", "+42", "42.0", "42.00"]),
    (number, "+42", ["42"]),
    (number, "-1234.5", ["-1234.5", "-1,234.5", "-1234.50"]),
    (number, "1,234,567", ["1234567", "1,234,567"]),
    (number, "0", ["0", "-0", "+0", "0.0"]),
    (number, "0.1", ["0.1", "0.10"]),
    (number, "12345678901234567890123456789012345678901", ["12345678901234567890123456789012345678901"]),
    (pattern, r"\d{3}", ["042"]),
    (pattern, r"(.|\n)*#### 42", ["6 times 7 is 42\n#### 42", "#### 42"]),
    (grammar, "speech", ["I ate him.", "I ate him,\nMy pie is fat!", "Fie, la la la?"]),
]
HOSTILE = {
    "part of the answer": [(equal, "Mira", "Mir"), (number, "42", "4"), (pattern, "abc", "ab"),
                           (grammar, "speech", "I")],
    "prefix": [(equal, "Mira", "It is Mira"), (number, "42", "142"), (number, "42", "is 42"), (pattern, "42", "is 42")],
    "suffix": [(equal, "Mira", "Mira."), (number, "42", "420"), (number, "42", "42."), (pattern, "42", "42!")],
    "several answers": [
        (equal, "Mira", "Mira Mira"), (equal, "Mira", "Mira or Nilo"), (number, "42", "41 42"), (number, "42", "42 42"),
        (number, "42", "42,43"), (number, "42", "42\n42"), (number, "42", "40 41 42 43"), (pattern, "42|43", "42|43"),
    ],
    "an equation": [(number, "42", "x=42"), (number, "42", "40+2"), (number, "42", "84/2"), (number, "42", "42=42")],
    "the prompt": [(number, "42", "What is 40 plus 2?"), (equal, "zot", "What is toz backwards?"),
                   (grammar, "speech", "KING:\nI ate him.")],
    "nothing": [(equal, "Mira", ""), (number, "0", ""), (number, "0", " "), (pattern, "a*b", ""),
                (grammar, "speech", "")],
    "case": [(equal, "Mira", "mira"), (equal, "Mira", "MIRA"), (pattern, "[a-z]+", "Mira"),
             (grammar, "speech", "i ate him.")],
    "white space": [
        (equal, "Mira", " Mira"), (equal, "Mira", "Mira\n"), (equal, "a b", "a  b"), (equal, "a b", "a\u00a0b"),
        (equal, "Mira", "Mi\u200bra"), (number, "42", " 42"), (number, "42", "42\n"), (number, "42", "4 2"),
        (number, "42", "42\u2003"), (number, "-42", "- 42"), (pattern, "42", "42\n"), (pattern, "a.b", "a\nb"),
        (grammar, "speech", "I ate him.\n"), (grammar, "speech", "I  ate him."),
    ],
    "the digits of other scripts": [
        (equal, "1", "１"), (number, "1", "１"), (number, "1", "١"), (number, "1", "𝟏"), (number, "1", "①"),
        (number, "2", "²"), (number, "12", "1２"), (pattern, r"\d", "１"), (pattern, r"\w+", "é"), (number, "-1", "−1"),
    ],
    "other forms of Unicode": [(equal, "é", "e\u0301"), (equal, "fi", "ﬁ"), (equal, "Mira", "Мira")],
    "other notations": [
        (number, "1000", "1e3"), (number, "1000", "1_000"), (number, "1000", "1.000,0"), (number, "1000", "1 000"),
        (number, "255", "0xff"), (number, "7", "007"), (number, "7", "07"), (number, "0", "00"), (number, "0.5", ".5"),
        (number, "5", "5."), (number, "42", "++42"), (number, "42", "--42"), (number, "42", "42%"),
        (number, "42", "$42"),
        (number, "0.5", "1/2"), (number, "42", "forty-two"), (number, "42", "(42)"), (number, "42", "**42**"),
    ],
    "commas elsewhere": [
        (number, "1234", "12,34"), (number, "1234", "1,2,3,4"), (number, "1234", ",1234"), (number, "1234", "1234,"),
        (number, "1234567", "1234,567"), (number, "1234", "1,234,"), (number, "0.1234", "0.123,4"),
        (number, "12", "0,012"),
    ],
    "no number": [(number, "0", "inf"), (number, "0", "nan"), (number, "0", "-inf"), (number, "1", "Infinity"),
                  (number, "0", "None"), (number, "1", "True"), (number, "0", "-"), (number, "0", "+")],
    "the other sign": [(number, "42", "-42"), (number, "-42", "42")],
    "nearly": [(number, "0.1", "0.1000000000000000055"), (number, "9007199254740993", "9007199254740992"),
               (number, "0.3", "0.30000000000000004")],
    "endless": [(number, "0", "0" * 10**6), (number, "1", "1." + "0" * 10**6),
                (grammar, "speech", "Fie, " + "la " * 10**5 + "la."),
                (grammar, "speech", "I ate him,\n" * 10**4 + "I ate him."), (pattern, "(a|a)*b", "a" * 3000),
                (pattern, "(a*)*b", "a" * 3000), (pattern, "(a+)+b", "a" * 3000), (pattern, "a*a*a*a*a*b", "a" * 1000),
                (pattern, "(.*)*(.*)*x", "a" * 1000)],
    "half a speech": [(grammar, "speech", "I ate"), (grammar, "speech", "I ate him"),
                      (grammar, "speech", "I ate him,"),
                      (grammar, "speech", "I ate him,\n"), (grammar, "speech", "I ate him,\nMy pie")],
    "two speeches": [(grammar, "speech", "I ate him.\n\nI ate him."),
                     (grammar, "speech", "I ate him.\n\nKING:\nI ate him.")],
}  # fmt: skip
CASES = [(kind, *case) for kind, cases in HOSTILE.items() for case in cases]


def name_of(value):
    """A name of a test's argument that is the same in every process."""
    return getattr(value, "__name__", repr(value)[:30])


@pytest.mark.parametrize(("verifier", "answer", "texts"), RIGHT, ids=name_of)
def test_right_answers(verifier, answer, texts):
    for text in texts:
        reward = verifier(text, answer)
        assert (type(reward), reward) == (float, 1.0), text


@pytest.mark.parametrize(("kind", "verifier", "answer", "text"), CASES, ids=name_of)
def test_hostile_answers(kind, verifier, answer, text):
    reward = verifier(text, answer)
    assert (type(reward), reward) == (float, 0.0)


@pytest.mark.parametrize(
    ("name", "answer", "complaint"),
    [
        ("equal", "", "an empty one, which silence would match"),
        ("number", "", "expected a number such as"),
        ("number", "007", "found '007'"),
        ("number", "inf", "found 'inf'"),
        ("number", "١", "expected a number"),
        ("number", "1e3", "found '1e3'"),
        ("pattern", "(a", "position 0: expected a bracket that closes this one"),
        ("grammar", "line", "found 'line'"),
        ("grammar", "", "found ''"),
    ],
)
def test_an_answer_that_cannot_be_checked_is_refused(name, answer, complaint):
    """Whatever the text is, so that a file of prompts can be checked before training."""
    for text in ("", answer, "x"):
        with pytest.raises(DataError, match=complaint):
            VERIFIERS[name](text, answer)


@given(
    st.integers() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=3)
)
def test_every_number_is_its_own_answer_with_and_without_commas(value):
    for text in (f"{value}", f"{value:,}", f"{value:+}"):
        assert number(text, str(value)) == 1
        assert number(text, f"{value + 1:,}") == 0


@given(st.text(min_size=1), st.text())
def test_equal_is_equality(answer, text):
    assert equal(answer, answer) == 1
    assert equal(text, answer) == (text == answer)


@given(st.text("0123456789+-.,e \u0661x"))
def test_a_number_is_one_that_python_reads_too(text):
    if number(text, "7"):
        assert float(text.replace(",", "")) == 7


def test_speeches_of_the_play_are_legal_and_worse_ones_are_not():
    for conversation in play_conversations(200):
        lines = conversation.messages[-1]["content"]
        if len(lines) <= LONGEST_SPEECH:
            assert grammar(lines, "speech") == 1
            assert grammar(lines[:-1], "speech") == 0
            assert grammar(lines + " ", "speech") == 0
            assert grammar(lines.replace(" ", "  ", 1), "speech") == (" " not in lines)


# ---- the baseline


def test_the_best_constant_is_the_most_frequent_answer():
    assert best_constant(equal, ["b", "a", "b", "c"]) == ("b", 0.5)
    assert best_constant(number, ["1", "1.0", "+1", "2", "2"])[1] == pytest.approx(0.6)


def test_the_best_constant_of_given_texts():
    answers = [r"\d+", r"[a-z]+", r"\w+"]
    assert best_constant(pattern, answers, ["7", "!", "x"]) == ("7", pytest.approx(2 / 3))
    assert best_constant(grammar, ["speech"] * 5, ["I ate him.", "no"]) == ("I ate him.", 1.0)
    assert best_constant(grammar, ["speech"] * 5)[1] == 0


def test_no_answers_have_no_best_constant():
    with pytest.raises(DataError, match="expected answers, found none"):
        best_constant(equal, [])


@given(st.lists(st.sampled_from("abc"), min_size=1), st.text("abcd", max_size=1).filter(bool))
def test_no_constant_is_better(answers, text):
    best, reward = best_constant(equal, answers)
    mean = lambda text: sum(equal(text, answer) for answer in answers) / len(answers)
    assert 0 < reward == mean(best) < inf
    assert mean(text) <= reward
