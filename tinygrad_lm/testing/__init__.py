"""How a derivative is proven: which inputs are drawn, what must hold of every rule, and which wrong rules must fail.

    from tinygrad_lm.testing import prove, unary
    prove(my_op, unary(), reference=my_value)      # docs/proving.md

Inputs are drawn by Hypothesis. Only this part of the package needs it, and of this part all but gradcheck: so a name is
imported when it is asked for. Editors and type checkers, which run nothing, import them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_lm.testing.case import Case, along, binary, reduction, some_cases, unary
    from tinygrad_lm.testing.cases import CASES, PROOFS
    from tinygrad_lm.testing.drawing import arrays, positive, separated, signed
    from tinygrad_lm.testing.proof import Proof
    from tinygrad_lm.testing.proving import ProofReport, prove

HOMES = {
    "case": ["Case", "along", "binary", "reduction", "some_cases", "unary"],
    "cases": ["CASES", "PROOFS"],
    "drawing": ["arrays", "positive", "separated", "signed"],
    "proof": ["Proof"],
    "proving": ["ProofReport", "prove"],
}
__all__ = [
    "CASES", "PROOFS", "Case", "Proof", "ProofReport", "along", "arrays", "binary", "positive", "prove", "reduction",
    "separated", "signed", "some_cases", "unary",
]  # fmt: skip


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names:
            try:
                return getattr(import_module(f"{__name__}.{home}"), name)
            except ModuleNotFoundError as error:
                if error.name != "hypothesis":
                    raise
                raise ImportError(
                    "tinygrad_lm.testing draws its inputs with Hypothesis, which is missing; "
                    "get it with: pip install 'tinygrad-lm[test]'"
                ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
