"""Optimizers of which each rank has a part: the same bits, less memory, and one state for any number of ranks."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import shaken, tiny
from thread_ranks import together

from tinygrad_lm.distributed.communicator import Alone
from tinygrad_lm.distributed.sharded import BLOCK, Sharded, check_same, part_of, sharded
from tinygrad_lm.errors import DeviceError
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.muon import Muon

RANKS = pytest.mark.parametrize("size", [2, 3, 4])


class Pieces:
    """As much of an optimizer as is divided."""

    def __init__(self, lengths, whole):
        ends = np.cumsum([0, *lengths]).tolist()
        self.pieces, self.whole = [(slice(*ends), ends) for ends in pairwise(ends)], whole


@given(
    lengths=st.lists(st.sampled_from([1, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 2, 40 * BLOCK]), min_size=1, max_size=6),
    whole=st.booleans(),
    size=st.sampled_from([1, 2, 3, 4, 8]),
)
def test_every_entry_has_one_rank(lengths, whole, size):
    optimizer = Pieces(lengths, whole)
    parts = [part_of(optimizer, rank, size) for rank in range(size)]
    cuts = [(here.start, here.stop) for part in parts for here, _ in part]
    assert all(start < stop for start, stop in cuts)
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == sum(lengths)
    if whole:
        assert [piece for part in parts for piece in part] == optimizer.pieces
    else:
        held = [sum(here.stop - here.start for here, _ in part) for part in parts]
        assert max(held) <= sum(lengths) / size + BLOCK


def model_of(seed=0):
    return shaken(tiny("modern", n_embd=64, vocab_size=200), seed, np.float32)


def optimizers_of(model):
    """Muon for the hidden layers' matrices, AdamW for all else."""
    hidden = [p for name, p in model.flat.items() if name.startswith("h.") and p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not q for q in hidden)]
    return [Muon(hidden), AdamW(rest, lr=0.01, weight_decay=0.1)]


def train(model, optimizers, steps):
    for step in steps:
        model.flat.grad[...] = np.random.default_rng(step).standard_normal(model.flat.grad.size)
        for optimizer in optimizers:
            optimizer.step(1 / (1 + step))
    return model.flat.data


@RANKS
def test_the_weights_are_those_of_one_process(size):
    model = model_of()
    expected = train(model, optimizers_of(model), range(4))

    def of(rank):
        model = model_of()
        return train(model, sharded(optimizers_of(model), rank), range(4))

    for found in together(size, of):
        assert found.tobytes() == expected.tobytes()


@RANKS
def test_a_rank_keeps_the_moments_of_its_part(size):
    """Muon's one for each entry, AdamW's two: together those of one process."""

    model = model_of()
    whole = [optimizer.m.size for optimizer in optimizers_of(model)]
    held = together(size, lambda rank: [each.optimizer.m.size for each in sharded(optimizers_of(model), rank)])
    muon, adamw = zip(*held, strict=True)
    assert [sum(muon), sum(adamw)] == whole
    assert max(muon) <= whole[0] / size + max(p.size for p in model.parameters() if p.ndim == 2)
    assert max(adamw) <= whole[1] / size + BLOCK


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2), (2, 4)])
def test_a_state_goes_on_on_any_number_of_ranks(before, after):
    model = model_of()
    expected = train(model, optimizers_of(model), range(6))

    def first(rank):
        model = model_of()
        optimizers = sharded(optimizers_of(model), rank)
        return train(model, optimizers, range(3)), [optimizer.state() for optimizer in optimizers]

    (weights, states), *_ = together(before, first)

    def second(rank):
        model = model_of(seed=1)
        model.flat.data[...] = weights
        optimizers = sharded(optimizers_of(model), rank)
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state(state)
        return train(model, optimizers, range(3, 6))

    for found in together(after, second):
        assert found.tobytes() == expected.tobytes()


def test_a_state_is_that_of_one_process():
    model = model_of()
    optimizers = optimizers_of(model)
    train(model, optimizers, range(2))

    def of(rank):
        model = model_of()
        optimizers = sharded(optimizers_of(model), rank)
        train(model, optimizers, range(2))
        return [optimizer.state() for optimizer in optimizers]

    for found, expected in zip(together(4, of)[0], optimizers, strict=True):
        expected = expected.state()
        assert list(found) == list(expected)
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_one_process_has_its_optimizers_as_they_are():
    model = model_of()
    optimizers = optimizers_of(model)
    assert sharded(optimizers, Alone()) is optimizers
    assert isinstance(sharded(optimizers, together(2, lambda rank: rank)[0])[0], Sharded)


@pytest.mark.parametrize(("size", "rank", "named"), [(2, 1, "1"), (4, 2, "2"), (4, 0, "0"), (3, 0, "0")])
def test_a_flipped_bit_names_its_rank(size, rank, named):
    weights = np.random.default_rng(0).standard_normal(1000).astype(np.float32)

    def check(ranks):
        mine = weights.copy()
        check_same(ranks, mine)
        if ranks.rank == rank:
            mine.view(np.uint32)[517] ^= 1  # the last bit of one weight
        with pytest.raises(DeviceError, match=f"weights of rank {named} differ from those of {size - 1} other"):
            check_same(ranks, mine)
        return hashlib.sha256(mine).hexdigest()

    assert len(set(together(size, check))) == 2
