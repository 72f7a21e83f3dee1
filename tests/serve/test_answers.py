"""Several answers at once: their texts are those of each alone, and end where they must."""

import numpy as np
import pytest
from small_service import small_service

from tinygrad_lm.generation.generate import generate
from tinygrad_lm.serve.answers import write_answers
from tinygrad_lm.serve.refusal import Gone

PROMPT = [256, 104, 105]


@pytest.fixture(scope="module")
def service():
    return small_service()


@pytest.fixture
def write(service):
    """A function that writes answers, and returns for each its text, its tokens and why it is over."""

    def write(n=1, limit=20, ends=(), stops=(), gone=lambda: False, **options):
        spell = service.chat.tokenizer.stream
        options = {"vocab_size": 256, "seed": 3} | options
        pieces = list(write_answers(service.model, PROMPT, n, limit, spell, frozenset(ends), stops, gone, **options))
        found = []
        for index in range(n):
            own = [piece for piece in pieces if piece.number == index]
            assert [piece.finish for piece in own[:-1]] == [None] * (len(own) - 1)
            tokens = [drawn.token for piece in own for drawn in piece.drawn]
            found.append(("".join(piece.text for piece in own), tokens, own[-1].finish))
        return found

    return write


def drawn(service, row, n=20, vocab_size=256):
    return list(generate(service.model, PROMPT, n, 3, rows=[row], vocab_size=vocab_size))


def test_each_answer_is_what_its_row_draws(write, service):
    answers = write(n=3)
    assert [tokens for _, tokens, _ in answers] == [drawn(service, row) for row in range(3)]
    assert [text for text, _, _ in answers] == [bytes(drawn(service, row)).decode(errors="replace") for row in range(3)]
    assert {finish for _, _, finish in answers} == {"length"}


def test_an_answer_ends_with_an_end_and_the_others_continue(write, service):
    rows = [drawn(service, row) for row in range(3)]
    end = rows[1][4]
    answers = write(n=3, ends={end})
    for (_, tokens, finish), row in zip(answers, rows, strict=True):
        stop = row.index(end) + 1 if end in row else 20
        assert tokens == row[:stop]
        assert finish == ("stop" if end in row else "length")


def test_an_end_that_is_the_last_token_allowed_is_an_end(write, service):
    row = drawn(service, 0)
    at = next(i for i in range(1, 20) if row[i] not in row[:i])
    assert write(limit=at + 1, ends={row[at]})[0][1:] == (row[: at + 1], "stop")
    assert write(limit=at, ends={row[at]})[0][1:] == (row[:at], "length")


def test_a_stop_ends_the_text_before_it_and_the_drawing_after_it(write, service):
    text = bytes(drawn(service, 0, vocab_size=128)).decode()
    at = next(i for i in range(5, 18) if text.index(text[i : i + 2]) == i)
    ((found, tokens, finish),) = write(stops=[text[at : at + 2], "never"], vocab_size=128)
    assert (found, finish) == (text[:at], "stop")
    assert bytes(tokens).decode() == text[: at + 2]


def test_a_stop_that_is_complete_with_the_last_token_is_a_stop(write, service):
    text = bytes(drawn(service, 0, 3, vocab_size=128)).decode()
    assert write(limit=3, stops=[text[-1]], vocab_size=128)[0][2] == "stop"


def test_a_character_of_several_tokens_comes_with_its_last_one(write, service, monkeypatch):
    tokens = [*"aé🦢".encode(), 0xC3]
    given = iter(tokens)
    draw = lambda *_: (np.array([next(given)]), np.array([0.0]))
    monkeypatch.setattr("tinygrad_lm.generation.sampling.Sampler.draw", draw)
    pieces = list(write_answers(service.model, PROMPT, 1, 8, service.chat.tokenizer.stream, {}, [], lambda: False))
    assert [(piece.text, len(piece.drawn)) for piece in pieces] == [("a", 1), ("é", 2), ("🦢", 4), ("�", 1), ("", 0)]


def test_a_client_that_hangs_up_stops_the_drawing(write, service, monkeypatch):
    calls = []
    forward = type(service.model).forward
    monkeypatch.setattr(type(service.model), "forward", lambda *args: calls.append(1) or forward(*args))
    with pytest.raises(Gone):
        write(gone=lambda: len(calls) == 5)
    assert len(calls) == 5
