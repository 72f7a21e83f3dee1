"""Find the bug: rules as a learner writes them, each with one mistake in it.

The function's name says what is wrong, its docstring why it looks right, the hint where to look. The tests plant all of
them and must notice each; `python -m tinygrad_lm.learn bug` sets them as puzzles. They are in bugs_elementwise.py,
bugs_shape.py, bugs_model.py and bugs_attention.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tinygrad_lm.engine.op import Op


@dataclass(frozen=True)
class Bug:
    title: str
    operation: str
    hint: str
    rule: Callable


BUGS = []


def bug_of(operation, hint):
    """Register a wrong rule under the name of the operation that it is meant to be."""

    def register(rule):
        BUGS.append(Bug(rule.__name__.replace("_", " "), operation, hint, rule))
        return rule

    return register


def value(operation, *inputs, **options):
    """What the right rule of an operation computes."""
    return Op.registry[operation].rule(*inputs, **options)[0]
