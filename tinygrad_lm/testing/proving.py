"""prove: run on one operation all that the operations of this package must pass."""

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, GradientError, check_ranges
from tinygrad_lm.testing.case import as_case, some_cases
from tinygrad_lm.testing.cases import PROOFS
from tinygrad_lm.testing.checks import every_entry, jacobians
from tinygrad_lm.testing.derivatives import COMPLEX, real_derivative
from tinygrad_lm.testing.drawing import seeds
from tinygrad_lm.testing.mutants import generic_mutants
from tinygrad_lm.testing.proof import Proof
from tinygrad_lm.testing.report import show


def prove(
    op: Op, strategy: SearchStrategy | None = None, reference: Callable | None = None, *,
    checks: dict[str, Callable] | None = None, roundings: float = 20, analytic: bool = True, examples: int = 100,
    verbose: bool = True,
) -> "ProofReport":  # fmt: skip
    """Prove an operation's derivative on drawn inputs; raise GradientError at the first thing that does not hold.

    op         an operation, made with @op
    strategy   a Hypothesis strategy of its inputs: of a Case (inputs and options), a tuple of arrays, or one array;
               away from kinks, where no derivative is to compare with. Left out for an operation of this package: then
               strategy, reference, checks and roundings are those of its entry in cases.py
    reference  computes the same value another way, from the same arrays and options. Without it nothing says that the
               value is the one meant, only that the gradient is this value's
    checks     {title: check}: laws of this operation; check(rule, case, rng) raises an AssertionError
    roundings  how many roundings float32 and float16 may take, in eps × condition
    analytic   False for a rule that cannot compute with complex numbers: then the gradients are compared with real
               differences, to twelve digits where the rule computes in long double and to ten where it does not
    examples   how many inputs are drawn for each check

    Prints and returns a ProofReport: the checks, and which of them noticed which planted wrong derivative.
    """
    if not isinstance(op, Op):
        raise ConfigError(f"prove: expected an operation, found {op!r:.60}\n  hint : put @op above the rule's `def`")
    if strategy is None and op.name not in PROOFS:
        raise ConfigError(f"prove {op.name}: it has no entry in tinygrad_lm/testing/cases.py, so a strategy is needed")
    if strategy is None and (reference, checks, roundings) != (None, None, 20):
        raise ConfigError(f"prove {op.name}: without a strategy, reference, checks and roundings are its entry's")
    proof = PROOFS[op.name] if strategy is None else Proof(strategy.map(as_case), reference, {}, roundings)
    taken = sorted((checks or {}).keys() & (proof.rule_checks | proof.op_checks).keys())
    check_ranges(
        f"prove {op.name}",
        {
            "examples": (examples, "at least 1", examples >= 1),
            "roundings": (roundings, "above 0 and below 1024, where float16 has no digit left", 0 < roundings < 1024),
            "checks": (taken, "a law of its own, under a title that no other check has", not taken),
        },
    )
    proof = replace(proof, checks=proof.checks | (checks or {}))
    cases, report = some_cases(proof.strategy), ProofReport(op.name, examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)  # it throws derivatives away
        if not analytic:
            proof = replace(proof, derivative=real_derivative(op.rule, cases[0]))
        for subject, checks in ((op.rule, proof.rule_checks), (op, proof.op_checks)):
            for title, check in checks.items():
                run_check(op, subject, title, check, proof, examples)
                report.checks.append(title)
        every_input_matters(op, cases, proof.derivative)
        report.mutants = generic_mutants(op.rule, cases, proof.rule_checks)
    if report.survivors:
        raise GradientError(
            f"prove {op.name}: every check passes, and would for a wrong gradient, too\n"
            f"  rule : some check notices each change of the gradients that changes something\n"
            f"  found: unnoticed {', '.join(map(repr, report.survivors))}\n"
            "  hint : draw larger and more varied inputs, where the gradient is not close to 0"
        )
    if verbose:
        show(report)
    return report


@dataclass
class ProofReport:
    """What was proven of an operation.

    checks   the titles of the checks, each of which held on `examples` inputs
    mutants  {title: the checks that noticed it}; None for one that changes nothing in this operation
    """

    name: str
    examples: int
    checks: list = field(default_factory=list)
    mutants: dict = field(default_factory=dict)

    @property
    def planted(self) -> dict[str, list[str]]:
        """The mutants that are wrong here."""
        return {title: noticed for title, noticed in self.mutants.items() if noticed is not None}

    @property
    def survivors(self) -> list[str]:
        """The mutants that no check noticed."""
        return [title for title, noticed in self.planted.items() if not noticed]

    def __str__(self):
        killed = len(self.planted) - len(self.survivors)
        lines = [
            f"prove {self.name}: {len(self.checks)} checks hold on {self.examples} drawn inputs each, "
            f"{killed} of {len(self.planted)} wrong gradients noticed",
            f"  checks: {', '.join(self.checks)}",
            f"  {'wrong gradient':28} noticed by",
        ]
        for title, noticed in self.mutants.items():
            lines.append(f"  {title:28} {'(changes nothing here)' if noticed is None else ', '.join(noticed)}")
        return "\n".join(lines)


def run_check(op, subject, title, check, proof, examples):
    """Run a check on drawn inputs; raise GradientError with the smallest input on which it fails.

    subject: the rule or the operation, whichever the check takes
    """
    last = None

    @seed(zlib.crc32(title.encode()))  # the same inputs in every run, others for each check
    @settings(
        max_examples=examples, database=None, deadline=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],  # it is explained below
    )  # fmt: skip
    @given(proof.strategy, seeds)
    def on_drawn(case, numbers):
        nonlocal last
        last = case
        check(subject, case, np.random.default_rng(numbers))

    try:
        on_drawn()
    except Exception as error:  # Hypothesis shrinks what fails, and runs the smallest last
        if last is None:
            raise
        meaning = (getattr(check, "func", check).__doc__ or "a law of this operation alone").splitlines()[0]
        found = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        raise GradientError(
            f'prove {op.name}: "{title}" does not hold\n  rule : {meaning}\n'
            f"  found: {found}\n{listing(op, last)}{hint(op, title, last, proof)}"
        ) from error


def listing(op, case):
    """One line for each input and option: its name, shape, dtype and numbers."""
    lines = []
    for name, x in zip(op.input_names(len(case.inputs)), case.inputs, strict=True):
        numbers = np.array2string(x, threshold=12, edgeitems=2, prefix=" " * 9).replace("\n", "\n" + " " * 9)
        lines.append(f"  {name:<5}: {x.shape} {x.dtype} {numbers}")
    return "\n".join([*lines, *(f"  {name:<5}: {value!r}" for name, value in case.options.items())])


def hint(op, title, case, proof):
    """Where real differences agree with the gradient and the complex step does not, the rule is the reason."""
    if proof.derivative is not COMPLEX or title not in ("every entry", "adjoint"):
        return ""
    try:
        every_entry(op.rule, case, np.random.default_rng(0), real_derivative(op.rule, case))
    except Exception:
        return ""
    return (
        "\n  hint : real differences agree with the gradient, so the rule is not analytic on complex numbers. Compare"
        "\n         x.real; np.abs, np.sign, np.var, np.linalg.norm lose derivatives; or prove(…, analytic=False)"
    )


def every_input_matters(op, cases, derivative):
    """Of an input that moves nothing any gradient of zeros is right, and nothing is proven."""
    idle = {i for case in cases for i in case.floating}
    for case in cases:
        if idle:
            idle -= {i for i, jacobian in jacobians(op.rule, case, derivative).items() if jacobian.any()}
    if idle:
        names = op.input_names(max(len(case.inputs) for case in cases))
        raise GradientError(
            f"prove {op.name}: {', '.join(names[i] for i in sorted(idle))} has no influence on the value, "
            f"in none of {len(cases)} drawn cases\n"
            "  rule : each floating input has an influence, or its gradient cannot be told from zeros\n"
            "  hint : make it an option (a keyword argument), or draw inputs where it counts"
        )
