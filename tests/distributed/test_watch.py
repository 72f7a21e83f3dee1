"""A rank that hangs is named, in time and not before; no processes and no real clock."""

import threading

import numpy as np
import pytest

from tinygrad_lm.distributed import watch
from tinygrad_lm.distributed.watch import ACCUSED, ALIVE, WORK, Watch, time_limit
from tinygrad_lm.errors import ConfigError

LIMIT = 30.0


class Post:
    """What ranks have sent each other; each of them sees it through its `Side`, as it would see MPI."""

    def __init__(self):
        self.letters = []  # (source, destination, tag, numbers), oldest first

    def first(self, source, destination, tag):
        return next((each for each in self.letters if each[:3] == (source, destination, tag)), None)


class Side:
    def __init__(self, post, rank):
        self.post, self.rank, self.taken = post, rank, True

    def Isend(self, numbers, destination, tag):
        self.post.letters.append((self.rank, destination, tag, numbers.copy()))
        return self

    Send = Isend

    def Test(self):
        return self.taken

    def Iprobe(self, source, tag):
        return self.post.first(source, self.rank, tag) is not None

    def Recv(self, numbers, source, tag):
        letter = self.post.first(source, self.rank, tag)
        self.post.letters.remove(letter)
        numbers[...] = letter[3]


class Rank:
    """As much of a Job as a watch looks at."""

    def __init__(self, rank, size):
        self.rank, self.size, self.calls = rank, size, 0


class Ring:
    """Ranks and their watches, at one time, `now`."""

    def __init__(self, size):
        self.now, post = 1000.0, Post()
        self.ranks = [Rank(rank, size) for rank in range(size)]
        self.sides = [Side(post, rank) for rank in range(size)]
        pairs = zip(self.ranks, self.sides, strict=True)
        self.watches = [Watch(rank, side, LIMIT, lambda: self.now) for rank, side in pairs]

    def pass_by(self, seconds, silent=(), step=5.0):
        """[(who, when, what), …] of the problems that are seen as time passes; `silent` ranks do nothing at all."""
        found, until = [], self.now + seconds
        while self.now < until:
            self.now += step
            awake = [watch for watch in self.watches if watch.ranks.rank not in silent]
            for each in awake:
                each.tell()
            for each in awake:
                if problem := each.problem():
                    found.append((each.ranks.rank, self.now, problem))
        return found


@pytest.fixture(autouse=True)
def without_sleep(monkeypatch):
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)


def test_ranks_that_work_are_left_alone():
    """As long as each is at most one call behind, however long a call takes."""
    ring = Ring(4)
    for turn in range(100):
        for rank in ring.ranks:
            rank.calls += 1
            assert ring.pass_by(10) == [], turn


def test_nobody_is_accused_while_all_compute():
    """A step of an hour: none waits for another."""
    assert Ring(3).pass_by(3600) == []


@pytest.mark.parametrize("lost", range(4))
def test_one_that_gives_no_sign_is_named_by_the_next(lost):
    """After the limit, not before."""
    ring = Ring(4)
    ring.pass_by(50)
    began = ring.now
    assert ring.pass_by(LIMIT, silent=[lost]) == []
    (who, when, what), *_ = ring.pass_by(5, silent=[lost])
    assert (who, when) == ((lost + 1) % 4, began + LIMIT + 5)
    assert what == f"rank {lost} has given no sign of life for 30 s"


@pytest.mark.parametrize("late", range(4))
@pytest.mark.parametrize("ahead", [1, 3])
def test_one_that_does_not_come_where_others_wait_is_named_by_the_next(late, ahead):
    """Though it is alive; and it is told, so that it says where it is. Others are as far as they can come."""
    ring = Ring(4)
    for rank in ring.ranks:
        rank.calls = 7 + ahead * (rank.rank != late)
    ring.pass_by(5)
    began = ring.now
    assert ring.pass_by(WORK * LIMIT - 5) == []
    found = ring.pass_by(10)
    next_one = (late + 1) % 4
    assert (next_one, f"rank {late} is alive, but others have waited for it for 300 s") in [
        (who, what) for who, _, what in found
    ]
    assert {who for who, _, _ in found} == {next_one, late}
    assert next(what for who, _, what in found if who == late) == "the others have been waiting for this rank for 300 s"
    assert began + WORK * LIMIT - 5 < min(when for _, when, _ in found)


def test_one_that_comes_at_last_is_not_named():
    ring = Ring(2)
    first, second = ring.ranks
    for _ in range(3):
        first.calls += 1
        assert ring.pass_by(WORK * LIMIT - 10) == []
        second.calls += 1
        assert ring.pass_by(5) == []


@pytest.mark.parametrize("pause", [LIMIT, 100 * WORK * LIMIT])
def test_a_process_that_was_stopped_itself_accuses_nobody(pause):
    """Ctrl-Z for all, a laptop that sleeps: afterwards each waits for the others' next sign."""
    ring = Ring(3)
    ring.ranks[0].calls = 1
    ring.pass_by(20)
    ring.now += pause
    assert ring.pass_by(LIMIT - 5) == []


def test_after_a_pause_a_rank_that_does_not_come_back_is_named():
    ring = Ring(2)
    ring.pass_by(20)
    ring.now += 1000
    ((who, _, what),) = ring.pass_by(LIMIT + 10, silent=[1])[:1]
    assert (who, what) == (0, "rank 1 has given no sign of life for 30 s")


def test_it_tells_no_more_than_is_taken():
    """Messages to a process that was stopped do not pile up."""
    ring = Ring(2)
    ring.watches[0].tell()
    ring.sides[0].taken = False
    for _ in range(5):
        ring.watches[0].tell()
    assert len(ring.watches[0].comm.post.letters) == 1
    ring.sides[0].taken, ring.ranks[0].calls = True, 9
    ring.watches[0].tell()
    assert [(tag, numbers.tolist()) for *_, tag, numbers in ring.watches[0].comm.post.letters] == [
        (ALIVE, [0]),
        (ALIVE, [9]),
    ]


def test_what_is_accused_says_where_it_is(monkeypatch, capfd):
    """The thread looks, and ends the process with a message and the place of each thread."""
    ring, ended = Ring(2), threading.Event()
    monkeypatch.setattr(watch, "BEAT", 0.001)
    monkeypatch.setattr(watch.os, "_exit", lambda status: (ended.set(), ring.watches[0].ended.set()))
    monkeypatch.setattr(watch.sys, "__stderr__", open(2, "w", closefd=False))  # noqa: SIM115
    ring.sides[1].Send(np.zeros(1, int), 0, ACCUSED)
    with ring.watches[0]:
        assert ended.wait(60)
    said = capfd.readouterr().err
    assert said.startswith(
        "error: rank 0: the others have been waiting for this rank for 300 s\n  hint : the newest checkpoint"
    )
    assert "test_what_is_accused_says_where_it_is" in said.split("this process is here:")[1]


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv(watch.VARIABLE, text)
    with pytest.raises(ConfigError, match=f"TINYGRAD_LM_TIMEOUT must be a positive number of seconds, found '{text}'"):
        time_limit()


def test_the_limit(monkeypatch):
    monkeypatch.delenv(watch.VARIABLE, raising=False)
    assert time_limit() == 30
    monkeypatch.setenv(watch.VARIABLE, "0.5")
    assert time_limit() == 0.5
