"""Check an answer: each verifier is a function (text, answer) -> 1.0 or 0.0, a reward that needs no model.

Training finds whatever a verifier lets through (DeepSeek-AI 2025, "DeepSeek-R1", section 2.2.2: rule-based rewards,
because a learnt one is hacked). So the whole text is judged, never a part of it that looks right, and each kind of
answer has one notation, which the docstring states. Whether a text came to its end is the caller's to check.

A verifier raises DataError for an answer that it cannot check against, whatever the text; verifier("", answer) is the
check to make before training.
"""

import re
from collections import Counter
from decimal import Decimal

from tinygrad_lm.data.synthetic.play import probability
from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.verifiers.regular import match_whole

# An ASCII sign, digits without leading zeros or with commas at the thousands, and a decimal fraction.
NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(\.[0-9]+)?")
MOST_DIGITS = 1000
LONGEST_SPEECH = 1000  # characters; the play writes a longer one once in 10⁷ times


def equal(text, answer):
    """1.0 if the text is the answer, character by character: no case, space or Unicode form is folded."""
    if not answer:
        raise DataError("verifier equal: expected an answer, found an empty one, which silence would match")
    return float(text == answer)


def number(text, answer):
    """1.0 if the text is one number, nothing else, and its value is the answer's.

    A number: an optional + or -, ASCII digits, an optional fraction: 42, +42, -7, 1234, 1,234, 0.50. Commas stand at
    all thousands or nowhere. Values are compared exactly: 0.50 is 0.5, and -0 is 0. Not numbers: leading zeros (007),
    exponents (1e3), .5 and 5., inf, nan, other scripts' digits, units, spaces, and words around it.
    """
    expected = number_value(answer)
    if expected is None:
        raise DataError(f"verifier number: expected a number such as -1,234.5 as the answer, found {answer!r}")
    return float(number_value(text) == expected)


def number_value(text):
    """The exact value of a text that is one number; None for any other text."""
    whole = NUMBER.fullmatch(text) if len(text) <= MOST_DIGITS else None
    return whole and Decimal(text.replace(",", ""))


def pattern(text, answer):
    r"""1.0 if the whole text matches the answer, a regular expression (regular.py says which there are).

    The time is at most proportional to the product of both lengths, for any expression: nothing backtracks. An answer
    at the end of a longer text is (.|\n)*#### 42
    """
    return float(match_whole(answer, text))


def grammar(text, answer):
    """1.0 if the built-in play's grammar can write the text as a speech, of at most LONGEST_SPEECH characters.

    text: its lines, without the last one's line end; one that stops within a line is refused. answer: "speech", the
    symbol that the text must come from.
    """
    if answer != "speech":
        raise DataError(f'verifier grammar: expected the answer "speech", found {answer!r}')
    return float(len(text) <= LONGEST_SPEECH and probability("speech", text + "\n") > 0)


VERIFIERS = {"equal": equal, "number": number, "pattern": pattern, "grammar": grammar}


def best_constant(verifier, answers, candidates=None):
    """(text, reward): the constant text with the largest mean reward over the answers of a set of prompts.

    What a policy reaches that never reads its prompt: the baseline of any reward. candidates: the texts to try; the
    100 most frequent answers by default, which has the best constant for `equal` and `number`.
    """
    counts = Counter(answers)
    if not counts:
        raise DataError("best_constant: expected answers, found none")
    tried = [answer for answer, _ in counts.most_common(100)] if candidates is None else candidates
    reward = lambda text: sum(verifier(text, answer) * n for answer, n in counts.items()) / counts.total()
    return max(((text, reward(text)) for text in tried), key=lambda pair: pair[1])
