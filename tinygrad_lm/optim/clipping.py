"""Gradient clipping."""

from tinygrad_lm.backend import array_module


def clip_gradients(parameters, max_norm):
    """Scale all gradients by one factor so that their norm is at most max_norm. Returns the norm before.

    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1. max_norm 0: no limit.
    On a CPU a norm that is not finite is returned with the gradients as they were. On a GPU nobody looks at the norm,
    an array of no axes there, for that would be to wait for it: gradients within the limit are multiplied by 1.
    """
    norm = parameters.norm()
    if parameters.device != "cpu":
        if max_norm:
            parameters.grad *= max_norm / array_module(norm).maximum(norm, max_norm)
    elif 0 < max_norm < norm < float("inf"):
        parameters.grad *= max_norm / norm
    return norm
