"""Proof: all that an operation is proven with. cases.py has one for each of ours; `prove` makes one for a user's."""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import partial

from hypothesis.strategies import SearchStrategy

from tinygrad_lm.testing import checks, op_checks
from tinygrad_lm.testing.derivatives import COMPLEX, Derivative


@dataclass(frozen=True)
class Proof:
    """What an operation is proven with.

    strategy    draws its inputs and options, as a Case
    reference   the same value computed another way, from arrays; None if there is no other way
    checks      laws of this operation alone, by title: functions as those in checks.py
    roundings   how many roundings float32 and float16 may take, in eps × condition: about four times the most ever seen
    equivalent  generic mutants that change nothing here, besides those that need a second gradient
    derivative  what the gradients are compared with
    """

    strategy: SearchStrategy
    reference: Callable | None = None
    checks: dict[str, Callable] = field(default_factory=dict)
    roundings: float = 20
    equivalent: Set = frozenset()
    derivative: Derivative = COMPLEX

    @property
    def rule_checks(self) -> dict[str, Callable]:
        """All checks of a rule by title, each a function of the rule, a Case and a generator of numbers."""
        numerical = {
            "every entry": partial(checks.every_entry, derivative=self.derivative),
            "adjoint": partial(checks.adjoint, derivative=self.derivative),
        }
        value = {} if self.reference is None else {"value": checks.value_of(self.reference)}
        return checks.CHECKS | numerical | value | self.checks

    @property
    def op_checks(self) -> dict[str, Callable]:
        """All checks of an operation as a whole by title, each a function of the operation, a Case and a generator."""

        def precise(dtype):
            def check(op, case, rng):
                op_checks.precision(op.run, case, rng, dtype, self.roundings, self.derivative)

            check.__doc__ = op_checks.precision.__doc__
            return check

        return op_checks.OP_CHECKS | {dtype: precise(dtype) for dtype in ("float32", "float16")}
