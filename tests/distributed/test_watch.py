"""A rank that hangs is named, in time and not before; no processes and no real clock."""

import threading

import numpy as np
import pytest

from tinygrad_lm.distributed import watch
from tinygrad_lm.distributed.watch import ACCUSED, ALIVE, WORK, Watch

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
        self.rank, self.size, self.call, self.inside, self.met = rank, size, (0, 0), False, None

    def begin(self, calls=1, kind=1, inside=True):
        self.call, self.inside = (self.call[0] + calls, kind), inside

    def trouble(self):
        return self.met


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
            rank.begin()
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
        rank.begin(7 + ahead * (rank.rank != late), inside=rank.rank != late)
    ring.pass_by(5)
    began = ring.now
    assert ring.pass_by(WORK * LIMIT - 5) == []
    found = ring.pass_by(10)
    next_one = (late + 1) % 4
    assert (next_one, f"rank {late} is alive, but others have waited for it for 300 s") in [
        (who, what) for who, _, what in found
    ]
    assert {who for who, _, _ in found} == {next_one, late}
    assert next(what for who, _, what in found if who == late) == f"rank {next_one} cannot go on because of this rank"
    assert began + WORK * LIMIT - 5 < min(when for _, when, _ in found)


def test_one_that_comes_at_last_is_not_named():
    ring = Ring(2)
    first, second = ring.ranks
    for _ in range(3):
        first.begin()
        assert ring.pass_by(WORK * LIMIT - 10) == []
        second.begin()
        assert ring.pass_by(5) == []


@pytest.mark.parametrize("pause", [LIMIT, 100 * WORK * LIMIT])
def test_a_process_that_was_stopped_itself_accuses_nobody(pause):
    """Ctrl-Z for all, a laptop that sleeps: afterwards each waits for the others' next sign."""
    ring = Ring(3)
    ring.ranks[0].begin()
    ring.pass_by(20)
    ring.now += pause
    assert ring.pass_by(LIMIT - 5) == []


def test_after_a_pause_a_rank_that_does_not_come_back_is_named():
    ring = Ring(2)
    ring.pass_by(20)
    ring.now += 1000
    ((who, _, what),) = ring.pass_by(LIMIT + 10, silent=[1])[:1]
    assert (who, what) == (0, "rank 1 has given no sign of life for 30 s")


@pytest.mark.parametrize(("size", "other"), [(2, 0), (2, 1), (4, 2)])
def test_ranks_that_make_different_calls_are_named_at_once(size, other):
    """As many of them: none is behind another."""
    ring = Ring(size)
    for rank in ring.ranks:
        rank.begin(57, kind=2 if rank.rank == other else 0)
    found = {who: what for who, _, what in ring.pass_by(5)}
    next_one, before = (other + 1) % size, (other - 1) % size
    assert found[next_one] == (
        f"call 57 of this rank is add_up, that of rank {other} collect: they do not run the same program"
    )
    assert found[other] == (
        f"call 57 of this rank is collect, that of rank {before} add_up: they do not run the same program"
    )


def test_calls_of_different_numbers_may_differ():
    """One is behind, and about to begin what the other has ended."""
    ring = Ring(2)
    ring.ranks[0].begin(3, kind=0)
    ring.ranks[1].begin(4, kind=2)
    assert ring.pass_by(WORK * LIMIT - 10) == []


def test_a_call_in_which_all_wait_for_ever_ends_the_job():
    """A limit later than one that is not entered by all, whose guilty rank is known."""
    ring = Ring(2)
    for rank in ring.ranks:
        rank.begin(8, kind=3)
    ring.pass_by(5)  # it is seen
    began = ring.now
    assert ring.pass_by((WORK + 1) * LIMIT) == []
    (who, when, what), *others = ring.pass_by(10)
    assert (who, when) == (0, began + (WORK + 1) * LIMIT + 5)
    assert what == "broadcast, call 8, has not ended for 330 s"
    assert others  # the other one speaks, too


def test_each_call_has_its_own_time():
    ring = Ring(2)
    for turn in range(30):
        for rank in ring.ranks:
            rank.begin()
        assert ring.pass_by(WORK * LIMIT / 10) == [], turn


def test_what_a_gpu_has_met_ends_the_job():
    ring = Ring(2)
    ring.ranks[1].met = "NCCL cannot send"
    assert ring.pass_by(5) == [(1, 1005.0, "NCCL cannot send")]


def test_it_tells_no_more_than_is_taken():
    """Messages to a process that was stopped do not pile up."""
    ring = Ring(2)
    ring.watches[0].tell()
    ring.sides[0].taken = False
    for _ in range(5):
        ring.watches[0].tell()
    assert len(ring.watches[0].comm.post.letters) == 1
    ring.sides[0].taken = True
    ring.ranks[0].begin(9)
    ring.watches[0].tell()
    assert [(tag, numbers.tolist()) for *_, tag, numbers in ring.watches[0].comm.post.letters] == [
        (ALIVE, [0, 0]),
        (ALIVE, [9, 1]),
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
    assert said.startswith("error: rank 0: rank 1 cannot go on because of this rank\n  hint : the newest checkpoint")
    assert "test_what_is_accused_says_where_it_is" in said.split("this process is here:")[1]
