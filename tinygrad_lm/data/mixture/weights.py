"""The weights of a mixture: fractions, exactly as they are written, that add up to 1."""

import re
from fractions import Fraction
from math import lcm

from tinygrad_lm.data.mixture import gpt3
from tinygrad_lm.data.mixture.settings import shown

LARGEST_DENOMINATOR = 1_000_000  # the sources alternate in a period of so many windows (mixing.py)


def period(weights):
    """The least number of windows in which every source gets a whole number of them."""
    return lcm(*(weight.denominator for weight in weights))


def weight_problems(names, weights):
    """What is wrong with the weights of a mixture as a whole."""
    found = " + ".join(f"{name} {weight}" for name, weight in zip(names, weights, strict=True))
    if not all(weight > 0 for weight in weights):
        yield f"the weights must be above 0: {found}"
    elif (total := sum(weights)) != 1:
        value = f"{total} = {float(total):.6g}" if total.denominator > 1 else str(total)
        yield f'the weights add up to {value}, expected exactly 1: {found}; thirds are written as "1/3"'
    elif (length := period(weights)) > LARGEST_DENOMINATOR:
        yield (
            f"the weights have the common denominator {length:,}, expected at most {LARGEST_DENOMINATOR:,}: {found}; "
            "round them, for instance to three decimals"
        )


def weights_of(sources, preset, problems):
    """The weight that each source's table has, and that is taken out of it; 0 where there is a problem with it.

    With the preset "gpt3" those that have none share what the others leave.
    """
    weights = [_fraction(source, problems) if "weight" in source else None for source in sources]
    rest = 1 - sum(weight for weight in weights if weight is not None)
    lacking = [source.get("name") for source, weight in zip(sources, weights, strict=True) if weight is None]
    unknown = [name for name in lacking if preset != "gpt3" or name not in list(gpt3.TABLE)]
    for name in unknown:
        knows = f"; preset gpt3 knows {', '.join(gpt3.TABLE)}" if preset else ""
        problems.append(f'source {name!r}: weight: expected a number such as 0.6 or "3/5", found none{knows}')
    if lacking and rest <= 0 and not unknown:
        problems.append(f"preset gpt3: the weights that are given leave {rest} for {', '.join(lacking)}; lower them")
    shares = gpt3.weights(lacking, rest) if lacking and not unknown else {}
    return [
        weight if weight is not None else shares[source["name"]] if shares else Fraction(0)
        for source, weight in zip(sources, weights, strict=True)
    ]


def _fraction(source, problems):
    value = source.pop("weight")
    written = value if isinstance(value, str) else shown(value)
    try:
        # Digits alone, and not too many: "1e-99999999" is a fraction that takes hours.
        if not re.fullmatch(r"\d{1,20}([./]\d{1,20})?", written, re.ASCII):
            raise ValueError
        fraction = Fraction(written)
        if not 0 < fraction <= 1:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        problems.append(
            f"source {source.get('name')!r}: weight: expected a number above 0 and at most 1 such as 0.6 or "
            f'"3/5", found {shown(value)}'
        )
        return Fraction(0)
    return fraction
