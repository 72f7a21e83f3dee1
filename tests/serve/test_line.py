"""Turns in a line: one at a time, in order, not too many, not for ever."""

import threading
import time

import pytest

from tinygrad_lm.serve.line import Line
from tinygrad_lm.serve.refusal import Gone, Refusal

HERE, AWAY = (lambda: False), (lambda: True)


def test_turns_are_taken_in_order_one_at_a_time():
    line, order, inside = Line(9), [], []

    def work(i):
        with line.turn(HERE):
            inside.append(i)
            order.append(i)
            assert inside == [i]
            inside.remove(i)

    with line.turn(HERE):
        threads = []
        for i in range(5):
            threads.append(threading.Thread(target=work, args=[i], daemon=True))
            threads[-1].start()
            end = time.monotonic() + 20
            while len(line.line) < i + 2:
                assert time.monotonic() < end, "it did not wait"
    for thread in threads:
        thread.join(20)
    assert order == list(range(5))


def test_who_finds_the_line_full_or_loses_patience_or_goes():
    line = Line(0, 60)
    with line.turn(HERE), pytest.raises(Refusal, match="1 requests are in line") as refused, line.turn(HERE):
        pass
    assert refused.value.status == 429
    line = Line(1, 0.0)
    with line.turn(HERE), pytest.raises(Refusal, match="the model was busy for 0 seconds") as refused, line.turn(HERE):
        pass
    assert refused.value.status == 503
    with line.turn(HERE):
        inside = list(line.line)
        with pytest.raises(Gone), line.turn(AWAY):
            pass
        assert list(line.line) == inside  # who goes takes nobody else along
    assert not line.line


def test_an_error_gives_the_turn_back():
    line = Line(0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), line.turn(HERE):
            raise ZeroDivisionError
