"""tinygrad_lm: pretrain a language model on a hand-written autograd engine.

    from tinygrad_lm import Tensor
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                        # [[2., 4.]]

The engine is in `engine/`, every operation with its derivative in `ops/`, the transformer in `models/gpt.py`, and the
training loop in `train/loop.py`.
"""

from tinygrad_lm import kernels, ops  # noqa: F401  kernels register themselves
from tinygrad_lm.engine.gradcheck import gradcheck
from tinygrad_lm.engine.graph import no_grad
from tinygrad_lm.engine.tensor import Tensor

__version__ = "0.1.0"
__all__ = ["Tensor", "gradcheck", "no_grad", "ops"]
