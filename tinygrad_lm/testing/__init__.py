"""How a derivative is proven: which inputs are drawn, what must hold of every rule, and which wrong rules must fail.

    from tinygrad_lm.testing import prove, unary
    prove(my_op, unary(), reference=my_value)      # docs/proving.md

Inputs are drawn by Hypothesis. Only this part of the package needs it, and of this part all but gradcheck: so a name is
imported when it is asked for.
"""

from importlib import import_module

HOMES = {
    "case": ["Case", "along", "binary", "reduction", "some_cases", "unary"],
    "cases": ["CASES", "PROOFS"],
    "drawing": ["arrays", "positive", "separated", "signed"],
    "proof": ["Proof"],
    "proving": ["ProofReport", "prove"],
}
__all__ = sorted(name for names in HOMES.values() for name in names)


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
