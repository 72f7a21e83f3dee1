"""Arrays of GPUs between ranks: the tree's bits, by calls that NCCL allows, recorded and replayed."""

from contextlib import nullcontext
from itertools import groupby, pairwise
from types import SimpleNamespace

import fake_nccl
import numpy as np
import pytest
import strict_array as xp
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_capture import Stream
from thread_ranks import together

from tinygrad_lm.distributed import nccl
from tinygrad_lm.distributed.communicator import Job
from tinygrad_lm.errors import DeviceError
from tinygrad_lm.kernels.cuda.graph import WARM_UP, Graph

SIZES = pytest.mark.parametrize("size", [2, 4, 8])


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(nccl, "library", lambda: fake_nccl)
    fake_nccl.calls.clear()
    fake_nccl.met.clear()


def values(rank, n, seed=0):
    """Numbers of very different sizes, each rank's own."""
    rng = np.random.default_rng([seed, rank.rank])
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-4, 5, n)).astype(np.float32)


def added(rank, n, place, seed=0):
    x = place(values(rank, n, seed))
    rank.add_up(x)
    return x


@SIZES
@settings(max_examples=20)
@given(n=st.integers(8, 60), seed=st.integers(0, 99))
def test_sums_have_the_bits_of_the_host_s(size, n, seed):
    expected = together(size, lambda rank: added(rank, n, np.copy, seed))
    for found in together(size, lambda rank: added(rank, n, xp.asarray, seed).get()):
        assert found.tobytes() == expected[0].tobytes()


@SIZES
def test_what_is_sent_and_received_is_one_group_on_the_current_stream(size):
    streams = [Stream(non_blocking=True) for _ in range(size)]

    def add(rank):
        with streams[rank.rank]:
            added(rank, 64, xp.asarray)

    together(size, add)
    for rank, stream in enumerate(streams):
        mine = [call for call in fake_nccl.calls if call.rank == rank]
        groups = [list(calls) for _, calls in groupby(mine, key=lambda call: call.group)]
        assert len(groups) == 2 * (size.bit_length() - 1)
        for send, receive in groups:
            assert (send.name, receive.name, send.partner) == ("send", "recv", receive.partner)
            assert send.stream == receive.stream == stream.ptr
        assert sum(send.bytes for send, _ in groups) == 2 * (size - 1) * 64 // size * 4


def test_what_is_handed_round_is_one_group():
    """Not a launch for each of the parts. Without a group each goes for itself."""

    def hand_round(rank, grouped):
        x = xp.asarray(values(rank, 12))
        transport = rank.transport(x)
        with transport.grouped() if grouped else nullcontext():
            for root in range(3):
                transport.broadcast(x[4 * root : 4 * root + 4], root)
        return x.get().tobytes()

    each = together(3, lambda rank: hand_round(rank, False))
    assert {call.group for call in fake_nccl.calls} == {0}
    fake_nccl.calls.clear()
    assert together(3, lambda rank: hand_round(rank, True)) == each
    assert len({*each}) == 1
    for rank in range(3):
        assert [(call.partner, call.group) for call in fake_nccl.calls if call.rank == rank] == [(0, 1), (1, 1), (2, 1)]


def test_what_it_meets_later_is_an_answer(monkeypatch):
    """Nothing that was launched raises it: on all ranks the host waits for ever."""

    def look(rank):
        x = xp.zeros(8)
        rank.add_up(x)
        before = rank.transport(x).trouble()
        rank.meet()
        monkeypatch.setattr(fake_nccl, "broken", fake_nccl.NcclError("NCCL_ERROR_REMOTE_ERROR"))
        return before, rank.transport(x).trouble()

    assert together(2, look) == [(None, "NCCL cannot send between GPUs any more: NCCL_ERROR_REMOTE_ERROR")] * 2


def test_a_job_looks_at_its_gpu_when_it_has_one():
    job = Job(SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 2))
    assert job.trouble() is None
    assert job.nccl is None
    job.nccl = SimpleNamespace(trouble=lambda: "broken")
    assert job.trouble() == "broken"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bfloat16"])
def test_one_rank_s_array_goes_to_all(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")

    def hand_round(rank):
        before = values(rank, 7).astype(dtype)
        x = xp.asarray(before)
        for root in (2, 0, 1):
            rank.transport(x).broadcast(x[2 * root : 2 * root + 2], root)
        return before, x.get()

    (a, _), (b, _), (c, _) = found = together(3, hand_round)
    for before, after in found:
        assert after.tobytes() == np.concatenate([a[:2], b[2:4], c[4:6], before[6:]]).tobytes()


def test_arrays_of_the_host_go_by_the_host():
    together(2, lambda rank: added(rank, 8, np.copy))
    assert not fake_nccl.calls
    assert not fake_nccl.met


def test_all_meet_once_under_the_number_of_rank_0(monkeypatch):
    drawn = iter([b"a" * 128])  # a second one would be an error
    monkeypatch.setattr(fake_nccl, "get_unique_id", lambda: next(drawn))

    def add(rank):
        for _ in range(3):
            added(rank, 8, xp.asarray)

    together(4, add)
    assert list(fake_nccl.met) == [b"a" * 128]


@pytest.mark.parametrize("size", [2, 4])
def test_a_recording_adds_and_hands_round_again(size):
    """What the arrays hold then; no rank meets another for the first time in it."""

    def steps(rank, graph):
        x, found = xp.zeros(16, "f4"), xp.zeros((6, 16), "f4")
        place, rows = xp.zeros((), np.int64), xp.arange(6)

        def step():
            x.__iadd__((rank.rank + 1) / 3)
            rank.add_up(x)
            x[:4] *= 1 + rank.rank
            rank.transport(x).broadcast(x[:4], size - 1)
            found[...] = xp.where((rows == place).reshape(6, 1), x, found)
            place.__iadd__(1)

        for _ in range(6):
            graph(step)
        return found.get()

    expected = together(size, lambda rank: steps(rank, lambda step: step()), in_turns=True)
    fake_nccl.calls.clear()
    replayed = together(size, lambda rank: steps(rank, Graph(xp)), in_turns=True)
    for found in (*expected, *replayed):
        assert found.tobytes() == expected[0].tobytes()
    assert all((before != after).all() for before, after in pairwise(expected[0]))
    for rank in range(size):  # each call three times: twice before the recording, and in it, all on one stream
        mine = [call for call in fake_nccl.calls if call.rank == rank]
        captured = [call._replace(group=0, capturing=False) for call in mine if call.capturing]
        before = [call._replace(group=0) for call in mine if not call.capturing]
        assert before == WARM_UP * captured
        assert len(captured) == 4 * (size.bit_length() - 1) + 1


def test_a_first_exchange_cannot_be_recorded():
    """Not even between ranks that are connected."""

    def record(rank):
        x, stream = xp.zeros(8), Stream(non_blocking=True)
        rank.transport(x).broadcast(x, 0)
        with stream:
            stream.begin_capture()
            try:
                with pytest.raises(AssertionError, match=r"first send with [01] while a stream captures"):
                    rank.add_up(x)
            finally:
                stream.end_capture()

    together(2, record, in_turns=True)


def test_without_nccl_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(fake_nccl, "available", False)

    def add(rank):
        with pytest.raises(DeviceError, match=r"2 processes .* NCCL, which cannot be loaded\n.*pip install"):
            added(rank, 8, xp.asarray)

    together(2, add)


def test_gpus_that_cannot_be_connected(monkeypatch):
    def refuse(*arguments):
        raise fake_nccl.NcclError("NCCL_ERROR_INVALID_USAGE")

    monkeypatch.setattr(fake_nccl, "NcclCommunicator", refuse)

    def add(rank):
        with pytest.raises(DeviceError, match="the GPUs of 2 processes: NCCL_ERROR_INVALID_USAGE"):
            added(rank, 8, xp.asarray)

    together(2, add)
