"""How a derivative is proven: which inputs are drawn, what must hold of every rule, and which wrong rules must fail.

    from tinygrad_lm.testing import prove, unary
    prove(my_op, unary(), reference=my_value)      # docs/proving.md

Inputs are drawn by Hypothesis, which only this part of the package needs.
"""

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "tinygrad_lm.testing draws its inputs with Hypothesis, which is missing; "
        "get it with: pip install 'tinygrad-lm[test]'"
    ) from error

from tinygrad_lm.testing.case import Case, along, binary, reduction, unary
from tinygrad_lm.testing.cases import CASES, PROOFS
from tinygrad_lm.testing.drawing import arrays, positive, separated, signed
from tinygrad_lm.testing.proof import Proof
from tinygrad_lm.testing.prove import ProofReport, prove

__all__ = [
    "CASES", "PROOFS", "Case", "Proof", "ProofReport", "along", "arrays", "binary", "positive", "prove", "reduction",
    "separated", "signed", "unary",
]  # fmt: skip
