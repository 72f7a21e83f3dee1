"""The next token of a few texts in bfloat16: one call of compiled code goes through all of the model.

What the modules of a GPT do for one new token each of at most 15 texts is written down once as a list of pieces of work
(numba/steps.py): the same pieces as those that they would ask for one by one. So the logits have the same bits.

Covered is what a configuration (models/config.py) chooses from, except the activations "gelu" and "relu" and widths
that 32 does not divide, within a promise about the weights (unchanged.py), during which the modules stay as they are,
too. Modules of other types, such as adapters, and documents, empty caches and observers need the definition.
"""

import weakref

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.engine.observe import observers, thread
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.generation.generate import next_logits
from tinygrad_lm.kernels.bfloat16.linear import FEW
from tinygrad_lm.kernels.bfloat16.plan import Plan, covers
from tinygrad_lm.kernels.bfloat16.tiles import DTYPES
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.unchanged import derived


@next_logits.on("cpu", *(["int64"] if DTYPES else []))  # tokens; none where the processor lacks the instructions
def next_logits_in_steps(tokens, model, context):
    """The definition of generation/generate.py."""
    if observers or thread.recording or context.key or context.document_starts is not None:
        return NotImplemented
    if tokens.shape[1:] != (1,) or not 0 < len(tokens) < FEW:
        return NotImplemented
    plans = derived(Plans, model.flat.data)
    z = plans and plans.logits(tokens[:, 0], model, context.cache)
    if z is None:
        return NotImplemented
    z, softcap = Tensor.of(z), model.config.softcap
    return softcap * ops.tanh(z / softcap) if softcap else z


class Plans:
    """What is written down for the models whose weights lie in an array that does not change."""

    def __init__(self, weights):
        self.weights, self.covered, self.free, self.places = weights, {}, {}, weakref.WeakKeyDictionary()

    def logits(self, tokens, model, caches):
        """Those of tokens (B,), but for the softcap, (B, 1, V), which are appended to the caches; None if not covered.

        Several threads may be in here; each computes with a plan of its own.
        """
        if model not in self.covered:
            self.covered[model] = covers(model)
        if not self.covered[model] or not all(self.have_room(cache, model) for cache in caches):
            return None
        rows, V = [cache.rows for cache in caches], model.config.vocab_size
        if sum(rows) != len(tokens) or tokens.min() < 0 or tokens.max() >= V:
            return None
        with model.computing():
            if not thread.products:
                return None
            free = self.free.setdefault((model, len(tokens)), [])
            plan = free.pop() if free else Plan(model, len(tokens))
            places = np.concatenate([self.places[cache][1] for cache in caches], 1)
            z = plan(tokens, np.repeat([cache.length for cache in caches], rows), places)
            free.append(plan)
        for cache in caches:
            cache.lengths = {name: length + 1 for name, length in cache.lengths.items()}
        return z

    def have_room(self, cache, model):
        """Whether a cache has keys and values of all blocks, and room for one more. Notes where they lie.

        Where there is none, the modules append the next key: then the cache gets larger, and its arrays are others.
        """
        if type(cache) is not Cache or cache.length >= min(cache.size, model.config.block_size):
            return False
        first = cache.arrays.get(model.h[0].attn.name)
        if first is None:
            return False
        room, (known, _) = first[0].shape[1], self.places.get(cache, (None, None))
        if known is not first:
            found = [places_of(cache, block.attn, room) for block in model.h]
            if None in found:
                return False
            self.places[cache] = first, np.array(found)
        return cache.length < room


def places_of(cache, attn, room):
    """Where each text's keys and values of an attention lie, (rows, 6), as `attend` says; None if they are others."""
    arrays = cache.arrays.get(attn.name, ())
    shape = cache.rows, room, attn.c_k.weight.shape[1] // attn.head_size, attn.head_size
    if not arrays or any(x.shape != shape or x.dtype != f4 or x.strides[3] != 4 for x in arrays):
        return None
    steps = [step for x in arrays for step in x.strides[1:3]]
    return [[*(x.ctypes.data + b * x.strides[0] for x in arrays), *steps] for b in range(cache.rows)]
