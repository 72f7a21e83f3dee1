"""What the log of a policy gradient says of the answers that were drawn."""

import math

import numpy as np

# What they are: facts_of (policy.py). The surrogate, which is minimised, is a fact of the update, not of the answers.
FIGURES = ("reward", "reward_error", "kl", "kl3", "length", "ended", "silent", "entropy", "length_reward")


def distinct(log):
    """{figure: its value at each draw of answers} and "step", the first with these: several updates on the same
    answers count once."""
    records = [record for record in log.records if "reward" in record]
    facts = [tuple(record.get(name, math.nan) for name in FIGURES) for record in records]
    new = [i for i, fact in enumerate(facts) if not i or fact != facts[i - 1]]
    figures = {name: np.array([facts[i][j] for i in new], float) for j, name in enumerate(FIGURES)}
    return figures | {"step": np.array([records[i]["step"] for i in new], int)}
