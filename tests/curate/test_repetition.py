"""The rule against repetition: at its thresholds, and against a slow plain implementation."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.curate.cleaning.repetition import (
    DUPLICATE_GRAMS,
    LINES,
    PARAGRAPHS,
    TOP_GRAMS,
    repeated_shares,
    repetition,
)


def filler(characters):
    """Different words of 6 characters, the last one longer, that many characters in all."""
    words = [f"{i:06}" for i in range(characters // 6)]
    words[-1] += "z" * (characters % 6)
    return words


def scattered(rows, characters):
    """The n-grams with different words between them, with this many characters in all."""
    between = filler(characters - sum(len(word) for row in rows for word in row))
    assert len(between) >= len(rows)
    words = [word for row, word in zip(rows, between, strict=False) for word in (*row, word)]
    return " ".join(words + between[len(rows) :])


def row(i, n):
    """n words of 2 characters, others for each i."""
    return [f"{chr(97 + (i * n + k) // 26)}{chr(97 + (i * n + k) % 26)}" for k in range(n)]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_row(n):
    times = {2: 5, 3: 3, 4: 2}[n]
    total = round(times * 2 * n / TOP_GRAMS[n])  # 2n characters so many times are just the largest share
    rows = [row(0, n)] * times
    assert repetition(scattered(rows, total)) is None
    reason = f"more than {TOP_GRAMS[n]:.0%} of characters are in one {n}-gram"
    assert repetition(scattered(rows, total - 1)) == reason


@pytest.mark.parametrize("n", DUPLICATE_GRAMS)
def test_repeated_rows(n):
    different = round(100 * DUPLICATE_GRAMS[n])  # each of 2n characters, there twice: of 200n the largest share
    rows = [row(i, n) for i in range(different)] * 2
    assert repetition(scattered(rows, 200 * n)) is None
    reason = f"more than {DUPLICATE_GRAMS[n]:.0%} of characters are in repeated {n}-grams"
    assert repetition(scattered(rows, 200 * n - 1)) == reason


def test_repeated_lines():
    long = [word + "x" * 100 for word in filler(600)]
    assert repetition("\n".join([*long[:69], *["a"] * 31])) is None  # 30 of 100, little of the characters
    assert repetition("\n\n".join([*long[:68], *["a"] * 32])) == "more than 30% of lines are repeated"


def test_characters_in_repeated_lines():
    lines = [f"{i:05}" for i in range(60)]
    assert repetition("\n".join([*lines, "x" * 100, "x" * 100])) is None  # 100 of 500
    reason = "more than 20% of characters are in repeated lines"
    assert repetition("\n".join([*lines[1:], "1234", "x" * 100, "x" * 100])) == reason  # of 499


def test_repeated_paragraphs():
    long = ["\n".join(f"{p}{i}{'x' * 20}" for i in range(5)) for p in "abcdef"]  # 6 paragraphs of 5 lines
    assert repetition("\n\n".join([*long, "g" + "x" * 20, *["y"] * 4])) is None  # 3 of 11
    reason = "more than 30% of paragraphs are repeated"
    assert repetition("\n \n\n".join([*long, *["y"] * 5])) == reason  # 4 of 11, but of 35 lines


def test_characters_in_repeated_paragraphs():
    """A paragraph of short lines: its line ends are characters of it, not of its lines."""
    twice = "\n".join("abcdefghij")
    others = [f"{i:04}" for i in range(14)]
    reason = "more than 20% of characters are in repeated paragraphs"  # 19 of 94; of 76 + 18 in lines 10
    assert repetition("\n\n".join([*others, twice, twice])) == reason
    assert repetition("\n\n".join([*others, "4" * 20, twice, twice])) != reason


def test_the_last_rows_of_a_text_count():
    assert repetition("a b c d") is None
    assert repetition("a b a b") == "more than 20% of characters are in one 2-gram"


def plainly(text):
    """The rule as in the paper, for each n separately."""
    for kind, parts in (("line", text.split("\n")), ("paragraph", PARAGRAPHS.split(text))):
        before, again = set(), []
        parts = [part for part in parts if part.strip()]
        for part in parts:
            if part in before:
                again.append(part)
            before.add(part)
        if len(again) > LINES[kind][0] * len(parts):
            return f"more than {LINES[kind][0]:.0%} of {kind}s are repeated"
        if len("".join(again)) > LINES[kind][1] * len("".join(parts)):
            return f"more than {LINES[kind][1]:.0%} of characters are in repeated {kind}s"
    words = text.split()
    total = len("".join(words))
    for n in range(2, 11):
        rows = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        counts = Counter(rows)
        if n in TOP_GRAMS:
            most = max(counts.values(), default=0)
            top = max((len("".join(row)) * most for row in counts if counts[row] == most > 1), default=0)
            if top > TOP_GRAMS[n] * total:
                return f"more than {TOP_GRAMS[n]:.0%} of characters are in one {n}-gram"
        else:
            covered = {i + k for i, row in enumerate(rows) if row in rows[:i] for k in range(n)}
            if sum(len(words[i]) for i in covered) > DUPLICATE_GRAMS[n] * total:
                return f"more than {DUPLICATE_GRAMS[n]:.0%} of characters are in repeated {n}-grams"
    return None


@st.composite
def repetitive_texts(draw):
    """Different words with repeated passages, in lines and paragraphs."""
    words = [f"{i:0{draw(st.integers(1, 4))}}" for i in range(draw(st.integers(0, 120)))]
    for _ in range(draw(st.integers(0, 4))):
        start, length, to = (draw(st.integers(0, 100)) for _ in range(3))
        words[to:to] = words[start : start + length % 15]
    for _ in range(draw(st.integers(0, 10))):
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(["\n", "\n\n", "a\nb\na"])))
    return " ".join(words)


@given(repetitive_texts())
def test_it_is_what_the_paper_says(text):
    assert repetition(text) == plainly(text)


@given(st.text(st.sampled_from("ab \n"), max_size=60))
def test_it_is_what_the_paper_says_of_hardly_any_words(text):
    assert repetition(text) == plainly(text)


def test_the_first_of_equal_parts_is_no_duplicate():
    assert repeated_shares(["aa", "b", "aa", "aa", "b"]) == (3 / 5, 5 / 8)
    assert repeated_shares([]) == (0.0, 0.0)
