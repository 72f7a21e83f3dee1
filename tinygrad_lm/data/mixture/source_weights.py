"""The weights of a mixture: exact fractions that add up to 1, written in the file or taken from GPT-3's mixture."""

import re
from fractions import Fraction
from math import lcm

LARGEST_DENOMINATOR = 1_000_000  # the sources alternate with this period, in windows (mixture_batches.py)

# source: (billions of tokens, percent of the training mix, epochs elapsed when training for 300 billion tokens)
GPT3_MIXTURE = {
    "commoncrawl": (410, 60, 0.44),
    "webtext2": (19, 22, 2.9),
    "books1": (12, 8, 1.9),
    "books2": (55, 8, 0.43),
    "wikipedia": (3, 3, 3.4),
}
GPT3_BILLIONS = 300  # billions of tokens


def period(weights):
    """The least number of windows in which every source gets a whole number of them."""
    return lcm(*(weight.denominator for weight in weights))


def weight_problems(names, weights):
    """Yield the problems with the weights of a mixture as a whole."""
    found = " + ".join(f"{name} {weight}" for name, weight in zip(names, weights, strict=True))
    if not all(weight > 0 for weight in weights):
        yield f"the weights must be above 0: {found}"
    elif (total := sum(weights)) != 1:
        value = f"{total} = {float(total):.6g}" if total.denominator > 1 else str(total)
        yield f'the weights add up to {value}, expected exactly 1: {found}; write thirds as "1/3"'
    elif (length := period(weights)) > LARGEST_DENOMINATOR:
        yield (
            f"the weights have the common denominator {length:,}, expected at most {LARGEST_DENOMINATOR:,}: {found}; "
            "round them, for instance to three decimals"
        )


def take_weights(sources, preset, problems):
    """Remove the weight from each source's table and return them all; an invalid one is 0.

    With the preset "gpt3" the sources without a weight share what the others leave.
    """
    weights = [_take_fraction(source, problems) if "weight" in source else None for source in sources]
    rest = 1 - sum(weight for weight in weights if weight is not None)
    lacking = [source.get("name") for source, weight in zip(sources, weights, strict=True) if weight is None]
    unknown = [name for name in lacking if preset != "gpt3" or name not in list(GPT3_MIXTURE)]
    for name in unknown:
        knows = f"; preset gpt3 knows {', '.join(GPT3_MIXTURE)}" if preset else ""
        problems.append(f'source {name!r}: weight: expected a number such as 0.6 or "3/5", found none{knows}')
    if lacking and rest <= 0 and not unknown:
        problems.append(f"preset gpt3: the given weights leave {rest} for {', '.join(lacking)}; lower them")
    shares = gpt3_weights(lacking, rest) if lacking and not unknown else {}
    return [
        weight if weight is not None else shares[source["name"]] if shares else Fraction(0)
        for source, weight in zip(sources, weights, strict=True)
    ]


def _take_fraction(source, problems):
    value = source.pop("weight")
    written = str(value)
    try:
        # Only digits, and few: converting "1e-99999999" to a fraction would take hours.
        if not re.fullmatch(r"\d{1,20}([./]\d{1,20})?", written, re.ASCII):
            raise ValueError
        fraction = Fraction(written)
        if not 0 < fraction <= 1:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        problems.append(
            f"source {source.get('name')!r}: weight: expected a number above 0 and at most 1 such as 0.6 or "
            f'"3/5", found {repr(value) if isinstance(value, str) else value}'
        )
        return Fraction(0)
    return fraction


def gpt3_weights(names, total=Fraction(1)):
    """{name: weight}: divide a total among these sources in proportion to GPT-3's percentages.

    The paper's percentages are rounded and add up to 101, so with all five sources a weight is its percentage / 101.
    """
    percent = sum(GPT3_MIXTURE[name][1] for name in names)
    return {name: total * Fraction(GPT3_MIXTURE[name][1], percent) for name in names}


def gpt3_epochs_line():
    """A line that reports gpt3_epochs()."""
    passes = ", ".join(f"{name} {passes:.2g}" for name, passes in gpt3_epochs().items())
    return f"epochs over the paper's sources in its {GPT3_BILLIONS} billion tokens, with these weights: {passes}"


def gpt3_epochs():
    """{name: epochs in 300 billion tokens}, from the table's sizes and our weights.

    They round to 0.43, 3.4, 2.0, 0.43 and 3.0; the paper prints 0.44, 2.9, 1.9, 0.43 and 3.4. Within the rounding of
    sizes and percentages its three columns agree for four sources. For WebText2 they do not: even 21.5 % of 300
    billion tokens are 3.3 × 19.5 billion. The paper does not say why.
    """
    return {
        name: float(weight * GPT3_BILLIONS / GPT3_MIXTURE[name][0])
        for name, weight in gpt3_weights(GPT3_MIXTURE).items()
    }
