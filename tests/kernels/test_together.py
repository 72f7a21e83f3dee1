"""All cores on one piece of work: every part is computed once, whoever comes to help and whenever."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tinygrad_lm.engine.observe import within
from tinygrad_lm.threads import parallel, workers

numba = pytest.importorskip("numba")
together = import_module("tinygrad_lm.kernels.numba.together")
memory = import_module("tinygrad_lm.kernels.numba.memory")
compiled = import_module("tinygrad_lm.kernels.numba.compile").compiled


@together.shared(beside_blas=True)
def note(start, stop, counts, number, slowness):
    """counts += number from start to stop, slowly."""
    for i in range(start, stop):
        for _ in range(slowness):
            memory.pause()
        counts[i] += number


@pytest.fixture
def partners(monkeypatch):
    """Three partners, on however many cores, and parts of one thing each."""
    monkeypatch.setattr(together, "cores", lambda: 4)
    monkeypatch.setattr(together, "PARTS", 1000)
    monkeypatch.setattr(together, "partners", together.Partners())
    return together.partners


def test_each_part_is_computed_once(partners):
    for number in range(1, 300):
        counts = np.zeros(number % 40, np.int64)
        note(counts.size, 1, counts, number, number % 7)
        assert (counts == number).all()


@pytest.mark.parametrize(("size", "least", "expected"), [(0, 1, 1), (8, 1, 1), (9, 1, 2), (100, 20, 20), (1000, 5, 80)])
def test_a_piece_is_cut_into_few_parts(size, least, expected):
    """Into eight, unless these were too small to be worth it, or too long to wait for the last."""
    assert together.grain_of(size, least) == expected


note_all, take_part = note.leader, together.take


@compiled
def lead_many(size, grain, part, mailbox, counts, pieces, slowness):
    """How many parts were not there when their piece was said to be done."""
    missed = 0
    for number in range(1, pieces + 1):
        note_all(size, grain, part, mailbox, counts, 1, slowness)
        for count in counts:
            missed += count != number
    return missed


def test_nothing_is_missed_or_done_twice_in_many_pieces(partners):
    """One after the other, as fast as can be: partners come late, and early for the next piece."""
    missed = []
    for slowness in (0, 1, 20):
        leader = lambda *arguments: missed.append(lead_many(*arguments)) or 0
        partners.work(leader, 9, 1, np.zeros(9, np.int64), 3000, slowness)
    assert missed == [0, 0, 0]


@numba.cfunc("void(CPointer(int64), int64)")
def note_part(order, part):
    """order[0] is where the next one is noted."""
    order[order[0]] = part
    order[0] += 1


@compiled
def take(mailbox, leads):
    return take_part(mailbox, leads)


def test_the_leader_takes_parts_from_the_first_on_and_others_from_the_last():
    mailbox, order = np.zeros(32, np.int64), np.ones(6, np.int64)
    mailbox[[together.FUNCTION, together.ARGUMENTS]] = note_part.address, order.ctypes.data
    mailbox[together.NEXT] = (1 << 2 * together.BITS) + 5
    assert all(take(mailbox, leads) for leads in (1, 0, 0, 1, 0))
    assert not take(mailbox, 1)
    assert order[1:].tolist() == [0, 4, 3, 1, 2]
    assert mailbox[together.DONE] == 5


def test_a_part_is_taken_only_of_the_piece_that_was_seen():
    """exchange writes if nobody was faster."""
    number = np.array([5])

    @compiled
    def swap(number, expected, value):
        return memory.exchange(number.ctypes.data, expected, value)

    assert swap(number, 5, 4)
    assert not swap(number, 5, 3)
    assert number[0] == 4


def test_a_part_that_another_thread_took_first_is_left_to_it(monkeypatch):
    seen, computed = (1 << 2 * together.BITS) + 5, []
    monkeypatch.setattr(together, "read", lambda address: seen)
    monkeypatch.setattr(together, "compute", lambda *part: computed.append(part))
    monkeypatch.setattr(together, "count", lambda address: None)
    for was_there in (False, True):
        monkeypatch.setattr(together, "exchange", lambda *arguments, was_there=was_there: was_there)
        assert together.take.py_func(np.zeros(32, np.int64), 1)  # look again: other parts may be left
        assert bool(computed) == was_there


def test_no_two_pieces_look_alike():
    """A partner that saw the one, and was late, finds that it is over, though the next has as many parts."""
    mailbox, seen = np.zeros(32, np.int64), set()
    for _ in range(3):
        note.leader(9, 1, -1, mailbox, np.zeros(9, np.int64), 1, 0)
        seen.add(int(mailbox[together.NEXT]))
    assert len(seen) == 3


def test_partners_do_help(partners):
    """A leader that offers work and leaves it alone finds it done."""
    order = np.ones(6, np.int64)
    partners.mailbox[[together.FUNCTION, together.ARGUMENTS]] = note_part.address, order.ctypes.data
    partners.mailbox[together.NEXT] = (1 << 2 * together.BITS) + 5
    while partners.mailbox[together.DONE] < 5:
        partners.wake()
    assert order[0] == 6


def test_without_work_they_sleep_and_are_woken_again(partners):
    for _ in range(2):
        counts = np.zeros(9, np.int64)
        note(9, 1, counts, 1, 0)
        assert (counts == 1).all()
        assert len(partners.wanted) == 3
        while any(wanted.is_set() for wanted in partners.wanted):
            pass


def test_one_core_has_no_partner(monkeypatch):
    monkeypatch.setattr(together, "cores", lambda: 1)
    partners, before, counts = together.Partners(), threading.active_count(), np.zeros(9, np.int64)
    partners.work(note.leader, 9, 1, counts, 2, 0)
    assert (counts == 2).all()
    assert (partners.wanted, threading.active_count()) == ([], before)


def test_several_threads_at_once(partners):
    def use(number):
        counts = np.zeros(30, np.int64)
        note(30, 1, counts, number, 3)
        return (counts == number).all()

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(use, range(1, 200)))
    assert not partners.one_at_a_time.locked()


def test_partners_whose_cores_others_want_are_left_alone_for_a_while(partners, monkeypatch):
    """Where a part came late, or another thread is served; twice as long when it happens again. The clock is ours."""
    now, woken = [100.0], []
    monkeypatch.setattr(together.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(partners, "wake", lambda: woken.append(now[0]))
    piece = lambda waited: partners.work(lambda *arguments: waited, 9, 1)
    shortest, longest = together.REST

    piece(together.LATE)
    piece(together.LATE + 1)
    assert woken == [100.0, 100.0]
    now[0] += shortest / 2
    piece(together.LATE + 1)  # alone, so it does not count
    assert len(woken) == 2
    now[0] += shortest
    piece(together.LATE + 1)
    assert woken[2:] == [now[0]]
    now[0] += 1.5 * shortest
    piece(0)  # still alone
    assert len(woken) == 3
    now[0] += shortest
    with partners.one_at_a_time:
        piece(0)
    piece(0)
    assert len(woken) == 3
    for _ in range(20):
        now[0] += 2 * longest
        piece(together.LATE + 1)
    assert partners.until - now[0] == pytest.approx(longest)
    now[0] += longest
    for _ in range(1000):
        piece(0)
    piece(together.LATE + 1)
    assert partners.until - now[0] == pytest.approx(shortest)
    assert not partners.one_at_a_time.locked()


def test_other_cores_are_used_where_nobody_else_uses_them(partners, monkeypatch):
    """Within `workers` BLAS has one thread, and a model in bfloat16 calls none; a worker leaves other cores alone."""
    allowed = partners.allowed
    assert not allowed()
    with within(products="/bfloat16"):
        assert allowed()
    with workers(1):
        assert allowed()
        assert parallel(lambda _: allowed(), range(2)) == [True, True]
    with workers(2):
        assert allowed()
        assert parallel(lambda _: allowed(), range(2)) == [False, False]
        with within(products="/bfloat16"):
            assert parallel(lambda _: within(products="/bfloat16").__enter__() or allowed(), [0]) == [False]
    assert not allowed()

    used = []
    monkeypatch.setattr(partners, "work", lambda *arguments: used.append("work"))
    monkeypatch.setattr(partners, "alone", lambda *arguments: used.append("alone"))
    here = together.shared(note.__wrapped__)
    for size, least in ((9, 1), (9, 9)):
        note(size, least)
        here(size, least)
        with workers(1):
            here(size, least)
    assert used == ["work", "alone", "work", "alone", "alone", "alone"]


ROOT = Path(__file__).parents[2]
STEP = """
import hashlib

import numpy as np
from small_gpt import shaken, tiny

from tinygrad_lm import kernels
from tinygrad_lm.nn.context import Context

kernels.enable()
found = hashlib.sha256()
for preset in ("gpt2", "modern"):
    model = shaken(tiny(preset, n_embd=16, block_size=8), dtype=np.float32)
    tokens = np.random.default_rng(0).integers(0, 7, (4, 9))
    model.loss(tokens[:, :-1], tokens[:, 1:], Context(key=(0, 0, 0))).backward()
    found.update(model.flat.grad)
print(found.hexdigest())
"""


@pytest.mark.slow
def test_the_first_process_has_the_bits_of_all_others(tmp_path):
    """The one that compiles the kernels: it had others where a loop was compiled by itself, and into its leader."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    environment = os.environ | {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = lambda: subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True
    )
    first, second = run(), run()
    assert "compiling the CPU kernels" in first.stderr
    assert "compiling" not in second.stderr
    assert first.stdout == second.stdout


FORKED = """
import os
from tinygrad_lm.kernels.numba.together import partners

partners.one_at_a_time.acquire()  # as while another thread computes
partners.wanted.append(None)
if (child := os.fork()) == 0:
    os._exit(partners.wanted != [] or partners.one_at_a_time.locked())
assert os.waitpid(child, 0)[1] == 0
assert partners.wanted == [None]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_starts_partners_of_its_own():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], env=environment, check=True, timeout=100)
