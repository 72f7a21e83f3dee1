"""Until the core has them: op.input_names(n), op.forward_formula and op.backward_formula."""

import inspect


def input_names(op, n):
    """The names of the rule's first n inputs; those of *xs are xs[0], xs[1], …"""
    names = []
    for p in inspect.signature(op.rule).parameters.values():
        names += [f"{p.name}[{i}]" for i in range(n)] if p.kind is p.VAR_POSITIONAL else [p.name]
    return names[:n]


def forward_formula(op):
    """y = …"""
    return op.formula.partition("        ")[0]


def backward_formula(op):
    """dx = …"""
    return op.formula.partition("        ")[2]
