"""Gradient clipping."""


def clip_gradients(parameters, max_norm):
    """Scale all gradients by one factor so that their norm is at most max_norm. Returns the norm before, a float.

    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1. max_norm 0: no limit.
    A norm that is not finite is returned with the gradients as they were.
    """
    norm = parameters.norm()
    if 0 < max_norm < norm < float("inf"):
        parameters.grad *= max_norm / norm
    return norm
