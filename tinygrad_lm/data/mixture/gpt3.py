"""GPT-3's mixture: Brown et al. 2020, "Language models are few-shot learners", table 2.2."""

from fractions import Fraction

# source: (billions of tokens, percent of the training mix, epochs elapsed when training for 300 billion tokens)
TABLE = {
    "commoncrawl": (410, 60, 0.44),
    "webtext2": (19, 22, 2.9),
    "books1": (12, 8, 1.9),
    "books2": (55, 8, 0.43),
    "wikipedia": (3, 3, 3.4),
}
TRAINED = 300  # billions of tokens


def weights(names, total=Fraction(1)):
    """{name: weight}: a total parted among these sources in proportion to GPT-3's percentages.

    The paper's are rounded and add up to 101, so that of all five sources each weight is its percentage over 101.
    """
    percent = sum(TABLE[name][1] for name in names)
    return {name: total * Fraction(TABLE[name][1], percent) for name in names}


def told():
    """A line on `epochs`."""
    passes = ", ".join(f"{name} {passes:.2g}" for name, passes in epochs().items())
    return f"epochs of the paper's sources in its {TRAINED} billion tokens, by these weights: {passes}"


def epochs():
    """{name: passes over it in 300 billion tokens}, from the table's sizes and our weights.

    They round to 0.43, 3.4, 2.0, 0.43 and 3.0; the paper prints 0.44, 2.9, 1.9, 0.43 and 3.4. Its three columns fit
    each other for four sources, if one grants that sizes and percentages are rounded, for Wikipedia rather far. For
    WebText2 they do not: even 21.5 % of 300 billion tokens are 3.3 times 19.5 billion. The paper does not say why.
    """
    return {name: float(weight * TRAINED / TABLE[name][0]) for name, weight in weights(TABLE).items()}
