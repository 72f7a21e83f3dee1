"""NCCL between ranks that are threads, on strict arrays: what nccl.library() is exchanged for, under CuPy's names.

    together(2, function, in_turns=True)        # thread_ranks.py

It copies bytes as NCCL does, and refuses what would hang or be wrong there: a connection, or a first exchange of two
ranks, while a stream captures; a stream that is not the current one; sending and receiving outside of a group, where
each would wait for the other; unequal sizes. A group is such a pair, or broadcasts, which need none. Each call is noted
in `calls`; one that is captured happens at a replay. `broken`: what a connection has met since, an NcclError or None.
"""

import ctypes
import queue
import threading
from typing import NamedTuple

import numpy as np
import strict_array
import strict_capture
import thread_ranks

available, NCCL_UINT8, broken = True, 1, None


class NcclError(RuntimeError):
    pass


class Call(NamedTuple):
    rank: int
    name: str
    partner: int  # of a broadcast: the root
    bytes: int
    group: int  # its number among this rank's; 0 outside of any
    stream: int
    capturing: bool


class State(threading.local):
    """A rank's: groups: how many it has begun; group: what the open one has, or None."""

    groups, group = 0, None


calls, mail, met = [], {}, {}
state = State()


def get_unique_id():
    return np.random.default_rng().bytes(128)


def groupStart():
    assert state.group is None, "a group in a group"
    state.group, state.groups = [], state.groups + 1


def groupEnd():
    group, state.group = state.group, None
    names = [name for name, *_ in group]
    assert names == ["send", "recv"] or {*names} <= {"broadcast"}, f"a group of {names}"
    launched(group)


def launched(group):
    """Do what is in a group, now or at each replay."""
    strict_capture.noted("launch", happen, strict_array.ndarray)(group)


def happen(group):
    for name, partner, communicator, address, size in group:
        getattr(communicator, f"do_{name}")(partner, address, size)


def capturing():
    return strict_capture.tape is not None


class NcclCommunicator:
    def __init__(self, ndev, commId, rank):
        assert type(commId) is bytes, type(commId)
        assert len(commId) == 128
        assert not capturing(), "a connection while a stream captures"
        self.size, self.id, self.rank, self.known = ndev, commId, rank, set()
        barrier = met.setdefault(commId, threading.Barrier(ndev))
        with thread_ranks.here.rank.waiting():
            barrier.wait(thread_ranks.PATIENCE)

    def send(self, address, count, datatype, peer, stream):
        self.note("send", peer, address, count, datatype, stream)

    def recv(self, address, count, datatype, peer, stream):
        self.note("recv", peer, address, count, datatype, stream)

    def broadcast(self, source, to, count, datatype, root, stream):
        assert source == to
        self.note("broadcast", root, to, count, datatype, stream)

    def check_async_error(self):
        if broken:
            raise broken

    def note(self, name, partner, address, count, datatype, stream):
        alone = name == "broadcast"
        assert alone or state.group is not None, f"{name} outside of a group"
        assert datatype == NCCL_UINT8
        assert 0 <= partner < self.size
        assert stream == strict_capture.current.stream.ptr, "not the current stream"
        if not capturing():
            self.known.add((alone, partner))
        assert (alone, partner) in self.known, f"the first {name} with {partner} while a stream captures"
        group = 0 if state.group is None else state.groups
        calls.append(Call(self.rank, name, partner, count, group, stream, capturing()))
        call = name, partner, self, address, count
        if state.group is None:
            launched([call])
        else:
            state.group.append(call)

    def mailbox(self, sender, receiver):
        return mail.setdefault((self.id, sender, receiver), queue.SimpleQueue())

    def do_send(self, partner, address, size):
        self.mailbox(self.rank, partner).put(ctypes.string_at(address, size))

    def do_recv(self, partner, address, size):
        with thread_ranks.here.rank.waiting():
            found = self.mailbox(partner, self.rank).get(timeout=thread_ranks.PATIENCE)
        assert len(found) == size, f"{len(found)} bytes were sent, {size} are expected"
        ctypes.memmove(address, found, size)

    def do_broadcast(self, root, address, size):
        if self.rank == root:
            for other in set(range(self.size)) - {root}:
                self.do_send(other, address, size)
        else:
            self.do_recv(root, address, size)
