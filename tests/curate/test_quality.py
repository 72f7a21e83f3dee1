"""Each rule, on texts just inside and just outside each threshold."""

import pytest
from hypothesis import given
from small_texts import ANY_TEXT

from tinygrad_lm.curate.cleaning.quality import RULES, c4, c4_lines, fineweb, gopher

# gopher


def prose(count, *, symbol="", symbols=0, per_line=10):
    """Words of 4 letters on average with stop words among them, the first ones with a symbol at their end."""
    words = [("the", "and", "house", "river")[i % 4] + symbol * (i < symbols) for i in range(count)]
    return "\n".join(" ".join(words[i : i + per_line]) for i in range(0, count, per_line))


def ended(lines, count, end, beginning=""):
    """Lines of ten words of which `count` have this beginning and end."""
    return "\n".join(f"{beginning}{prose(10)}{end}" if i < count else prose(10) for i in range(lines))


LONG = ["the", "and"] + ["x" * 17] * 2 + ["x" * 10] * 48  # 520 letters in 52 words
EDGES = [
    (prose(50), prose(49), "fewer than 50 words"),
    (prose(100_000), prose(100_001), "more than 100,000 words"),
    ("the and " * 50, "the and " * 50 + "of", "mean word length outside 3 to 10 characters"),
    (" ".join(LONG), " ".join([*LONG[:-1], "x" * 11]), "mean word length outside 3 to 10 characters"),
    (
        prose(100, symbol="#", symbols=10),
        prose(100, symbol="#", symbols=11),
        "more than 0.1 hash signs or ellipses a word",
    ),
    (
        prose(101, symbol="...", symbols=10, per_line=101),
        prose(101, symbol="...", symbols=11, per_line=101),
        "more than 0.1 hash signs or ellipses a word",
    ),
    (
        prose(101, symbol="…", symbols=10, per_line=101),
        prose(101, symbol="…", symbols=11, per_line=101),
        "more than 0.1 hash signs or ellipses a word",
    ),
    (ended(20, 18, "", "• "), ended(20, 19, "", "• "), "more than 90% of lines begin with a bullet"),
    (ended(20, 18, "", "  - "), ended(20, 19, "", "  - "), "more than 90% of lines begin with a bullet"),
    (ended(10, 3, "..."), ended(10, 4, "..."), "more than 30% of lines end with an ellipsis"),
    (ended(10, 3, "…"), ended(10, 4, "…"), "more than 30% of lines end with an ellipsis"),
    (
        prose(80) + " 1234" * 20,
        prose(79) + " 1234" * 21,
        "fewer than 80% of words have a letter",
    ),
    (
        "the and " * 20 + "x1y2 " * 40 + "1234 " * 20,
        "the and " * 20 + "x1y2 " * 39 + "1234 " * 21,
        "fewer than 80% of words have a letter",
    ),
    ("house river " * 30 + "The with", "house river " * 30 + "the the", "fewer than 2 English stop words"),
]


@pytest.mark.parametrize(("inside", "outside", "reason"), EDGES, ids=range(len(EDGES)))
def test_gopher(inside, outside, reason):
    assert gopher(inside) is None
    assert gopher(outside) == reason


def test_gopher_counts_lines_that_have_something():
    assert gopher(ended(10, 3, "...").replace("\n", "\n\n \n")) is None
    assert gopher(ended(10, 4, "...").replace("\n", "\n\n \n")) == "more than 30% of lines end with an ellipsis"


# c4


LINE = "The cat sat there."


@pytest.mark.parametrize(
    "line",
    [
        "One two three four five.",
        "One two three four five!",
        "One two three four five?",
        'He said "one two three."',
        "“One two three four five.”",
        "We use a cookie and a policy of privacy.",
        "  One two three four five.",
    ],
)
def test_c4_keeps_a_line(line):
    assert c4_lines(f"no\n{line}") == (line.strip(), "no")


@pytest.mark.parametrize(
    "line",
    [
        "One two three four.",
        "One two three four five",
        "One two three four five,",
        "One two three four five...",
        "Please turn on JavaScript in your browser.",
        "You agree to our Terms of Use today.",
        "Read our privacy policy to the end.",
        "Read our cookie policy to the end.",
        "This site uses cookies to know you.",
        "By the use of cookies we know.",
        "We use cookies to know you well.",
        "",
    ],
)
def test_c4_drops_a_line(line):
    kept = "One two three four five."
    assert c4_lines(f"{kept}\n{line}\n{kept}") == (f"{kept}\n{kept}", line)


def test_c4_takes_out_the_marks_of_citations():
    line = "Cats[1] are [citation needed]small animals[edit] with four[23] legs.[]"
    assert c4_lines(line)[0] == "Cats are small animals with four legs."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{LINE} Then it ran! Did it?", None),
        (f"{LINE} Then it ran! Did it", "fewer than 3 sentences"),
        (f'{LINE}\n"Did it run?" asked 3.5 dogs.', None),
        (f"{LINE}\nIt ran 3.5 miles.", "fewer than 3 sentences"),
        (f"{LINE * 5} if (x) { {} }", "a curly bracket"),
        ((LINE + " ") * 5 + "Lorem Ipsum dolor.", "lorem ipsum"),
        ((LINE + " ") * 5 + "Lorem and Ipsum dolor.", None),
        ("", "fewer than 3 sentences"),
    ],
)
def test_c4(text, reason):
    assert c4(text) == reason


# fineweb


def lines(*counts):
    """Lines of 40 different characters. counts: how many with which end."""
    ends = [end for count, end in counts for _ in range(count)]
    return "\n".join(f"{i:039}{end}" for i, end in enumerate(ends))


PUNCTUATION = "at most 12% of lines end with punctuation"
REPEATED = "10% of characters or more are in repeated lines"
SHORT = "67% of lines or more have fewer than 30 characters"


@pytest.mark.parametrize("end", ".!?\"”’'…。")
def test_fineweb_wants_ends_of_sentences(end):
    assert fineweb(lines((22, "x"), (3, end))) == PUNCTUATION
    assert fineweb(lines((21, "x"), (4, end))) is None
    assert fineweb(lines((21, "x"), (4, end)).replace("\n", "\n\n \n")) is None


def test_fineweb_wants_no_lines_twice():
    different = lines((9, "."))
    assert fineweb(f"{different}\n{different[:40]}") == REPEATED  # 40 characters of 400
    assert fineweb(f"{different}.\n{different[:40]}") is None  # of 401


def test_fineweb_wants_long_lines():
    long, short = lines((33, ".")).split("\n"), [f"{i:028}." for i in range(67)]
    assert fineweb("\n".join(long + short)) == SHORT
    assert fineweb("\n".join([*long, *short[:-1], f"{1:029}."])) is None


def test_fineweb_wants_something():
    assert fineweb("") == PUNCTUATION


# All of them


@given(ANY_TEXT)
def test_any_text_is_judged_and_always_alike(text):
    for rule in RULES.values():
        changed = rule.change(text)[0] if rule.change else text
        assert rule.judge(changed) is None or isinstance(rule.judge(changed), str)
        if rule.change:
            assert rule.change(changed) == (changed, "") or "[" in text
