"""What a model is trained for: an objective is a function of the model, a batch and a Context (nn/context.py).

It returns the mean loss over what it counted, a Tensor, and that count, a 0-d array where the model is. A
batch is a tuple of arrays with a row for each example, so that it can be cut along its rows. The count is what makes
the mean of a whole step the same however its batches are cut: each part gives the gradient of its sum (shares.py).
"""

from typing import Any

from tinygrad_lm.backend import Array
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.context import Context

IGNORED = -100  # a target that is not counted: the default of ops.cross_entropy


def next_token(model: Any, batch: tuple[Array, Array], context: Context) -> tuple[Tensor, Array]:
    """The mean cross-entropy, in nats, of the tokens that come next, and how many of these are counted.

    batch: tokens (B, T) and targets (B, T)
    """
    tokens, targets = batch
    return model.loss(tokens, targets, context), (targets != IGNORED).sum()
