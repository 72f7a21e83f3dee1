"""The page of one response: what it says, in a real Chromium, where there is one, on a wide and a narrow screen."""

import re

import browser
import pytest

from tinygrad_lm.learn.response.response import Answer, Response, Token
from tinygrad_lm.learn.response.response_page import response_page
from tinygrad_lm.learn.response.response_text import GROUP, response_text, token_columns

LONG = "A long answer, " * 12 + "<script>alert('it ran')</script>\n{{style}} & that is all"
WORDS = """return [...document.querySelectorAll(arguments[0])].map((one) =>
  [...one.querySelectorAll("th, td")].map((cell) => cell.textContent));"""


def made(value=0.25):
    """A Response that never was, with texts that would break a careless page."""
    answers = [
        Answer(LONG, True, 60, 1.0, 2.5, 0.5, 0.5),
        Answer("", False, 64, 0.0, -0.125, 1.0, -1.0),
    ]
    texts = ["A", "␣", "<b>", "&", "⟨end⟩", *["word"] * 55]
    advantages = [0.5, -0.5, 0.0, 0.5, 0.5, *[0.5] * 55]
    tokens = [
        Token(text, -1.5, -1.5 + i / 1e4, -2.0 - i / 7, value, advantage, 1.0 + i, (1.0 + i) / 1830)
        for i, (text, advantage) in enumerate(zip(texts, advantages, strict=True))
    ]
    messages = [{"role": "system", "content": "Be <i>brief</i>."}, {"role": "user", "content": "2 < 3?\nWhy?"}]
    return Response(7, messages, answers, 0, tokens, 12.5)


def test_nothing_foreign_and_nothing_that_runs():
    page = response_page(made(), "a <title>")
    assert "<script" not in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page
    assert "{{style}}" in page  # of the answer: what is put in is not searched


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1440])
def test_it_shows_the_same_as_the_terminal_at_any_width(width, chromium, tmp_path):
    browser.resize(chromium, width, 900)
    response, title = made(), "sums, after 10 steps: prompt 7"
    path = tmp_path / "response.html"
    path.write_text(response_page(response, title), encoding="utf-8")
    chromium.get(path.as_uri())
    assert chromium.title == title
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    group, tokens = (
        chromium.execute_script(WORDS, f"[aria-label='{label}'] tr")
        for label in ("The answers of the group", "The tokens of the answer")
    )
    assert group[0] == ["answer", "text", *GROUP]
    assert group[1] == ["0", LONG, *(column(response.answers[0]) for column in GROUP.values())]
    columns = token_columns(response)
    assert tokens[0] == ["token", *columns]
    shown = [[token.text, *(column(token) for column in columns.values())] for token in response.tokens]
    assert tokens[1:] == shown
    assert all(cell in response_text(response, title) for row in shown for cell in row)
    marked = chromium.execute_script("return [...document.querySelectorAll('[aria-current]')].map((e) => e.rowIndex)")
    assert marked == [1]
    ways = chromium.execute_script("return [...document.querySelectorAll('.tokens span')].map((e) => e.className)")
    assert ways[:4] == ["up", "down", "", "up"]
    bars = chromium.execute_script("return [...document.querySelectorAll('.bar-cell i')].map((e) => e.offsetWidth)")
    assert bars[0] < bars[30] < bars[-1]
    assert chromium.get_log("browser") == []


@pytest.mark.slow
def test_without_a_value_head_there_is_no_column_of_values():
    for text in (response_page(made(None), "t"), response_text(made(None), "t")):
        assert "ratio" in text
        assert "value" not in re.sub(r"what the value head.*?</dd>", "", text).split("<body>")[-1]
