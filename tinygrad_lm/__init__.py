"""tinygrad_lm: pretrain a language model on a hand-written autograd engine.

    from tinygrad_lm import Tensor
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                        # [[2., 4.]]

The engine is in `engine/`, every operation with its derivative in `ops/`, the parts of a network in `nn/`, the
optimizers in `optim/`, the transformer in `models/gpt.py`. Around them stands what makes them fast, large and safe.
"""

from tinygrad_lm import habits, models, nn, ops, optim  # noqa: F401  (habits: for messages)
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.testing.gradcheck import gradcheck
from tinygrad_lm.testing.modules import gradcheck_module

__version__ = "0.1.0"
__all__ = ["Tensor", "gradcheck", "gradcheck_module", "models", "nn", "no_grad", "ops", "optim"]
