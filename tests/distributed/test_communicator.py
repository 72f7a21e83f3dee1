"""What ranks tell each other, and that they tell it in arrays."""

import ast
from pathlib import Path

import numpy as np
import pytest
from thread_ranks import together

import tinygrad_lm.distributed as package
from tinygrad_lm.distributed.communicator import CALLS, Alone, Job, enter, world

# Methods of mpi4py that pickle.
PICKLING = {"send", "recv", "isend", "irecv", "ssend", "issend", "bsend", "ibsend", "sendrecv", "bcast", "scatter"}
PICKLING |= {"gather", "allgather", "alltoall", "reduce", "allreduce", "scan", "exscan"}


def test_what_rank_0_says_holds_everywhere():
    assert together(3, lambda rank: rank.first(10.5 + rank.rank)) == [10.5] * 3
    assert together(3, lambda rank: rank.text(f"ἔργα {rank.rank}")) == ["ἔργα 0"] * 3
    times = together(3, lambda rank: rank.clock())
    assert times[0] == times[1] == times[2]


@pytest.mark.parametrize("said", [{}, {1: ["SIGTERM"]}, {0: ["SIGINT", "SIGTERM"], 2: ["SIGTERM"]}])
def test_what_one_says_all_hear(said):
    heard = together(3, lambda rank: rank.agreed(said.get(rank.rank, [])))
    assert heard == [next((said[rank][0] for rank in sorted(said)), "")] * 3


def test_alone_everything_is_as_it_is():
    alone = Alone()
    x = np.arange(3.0)
    alone.add_up(x)
    alone.broadcast(x, 0)
    alone.meet()
    assert [each.tolist() for each in alone.gather(x)] == [[0, 1, 2]]
    assert alone.collect(x) is x
    assert (alone.agreed([]), alone.agreed(["SIGINT"]), alone.text("a")) == ("", "SIGINT", "a")
    assert alone.clock() <= alone.clock()


def test_the_world_of_a_process():
    alone, other = world(), Alone()
    assert alone.size == 1
    assert enter(other) is alone
    assert world() is other
    assert enter(alone) is other


def test_a_job_says_in_which_call_it_is():
    """Number and name change at once; whatever ends the call, it is no longer inside."""

    class Comm:
        """Of two ranks; it notes what the job says while it sends."""

        Get_rank, Get_size = (lambda self: 0), (lambda self: 2)

        def __getattr__(self, name):
            def send(*arguments, **options):
                seen.append((CALLS[job.call[1]], job.call[0], job.inside))
                if name == "Bcast":
                    raise RuntimeError("planted")

            return send

    seen, job, x = [], Job(Comm()), np.zeros(0)
    for number, call in enumerate([job.add_up, job.gather, job.collect], start=1):
        seen.clear()
        call(x)
        assert {*seen} == {(call.__name__, number, True)}
        assert not job.inside
    with pytest.raises(RuntimeError, match="planted"):
        job.broadcast(x, 1)
    assert (seen[-1], job.inside) == (("broadcast", 4, True), False)
    job.begins("steps")
    assert (job.call, job.inside) == ((5, CALLS.index("steps")), False)


@pytest.mark.parametrize("path", sorted(Path(package.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_nothing_is_pickled_on_the_way(path):
    """mpi4py's methods pickle where their names are in lower case; Send, Bcast, … send arrays as they are."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            receiver = ast.unparse(node.func.value)
            assert not (receiver.endswith(("comm", "here", "aside", "MPI")) and node.func.attr in PICKLING), (
                ast.unparse(node)
            )
