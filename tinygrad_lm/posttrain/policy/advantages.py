"""How much better an answer was than expected: what each of its tokens' log-probabilities is multiplied by.

Arrays of NumPy, for they are numbers and not functions of the weights. P prompts, G answers to each (a group), N = P G
answers, T time.
"""

import numpy as np


def leave_one_out(rewards):
    """A_i = r_i − mean of the group's other rewards = G / (G − 1) · (r_i − mean r)

    (P, G) -> (P, G). Its expected gradient is that of the expected reward. Kool et al. 2019, "Buy 4 REINFORCE samples,
    get a baseline for free!"; Ahmadian et al. 2024, "Back to basics" (RLOO).
    """
    G = rewards.shape[1]
    return centred(rewards) * (G / (G - 1))


def centred(rewards):
    """A_i = r_i − mean r

    (P, G) -> (P, G). 1 − 1/G times as much as leave_one_out. Liu et al. 2025, "Understanding R1-Zero-like training".
    """
    return rewards - rewards.mean(axis=1, keepdims=True)


def standardised(rewards):
    """A_i = (r_i − mean r) / std r,  std with G − 1; 0 where all rewards of a group are equal

    (P, G) -> (P, G). It climbs another function than the expected reward: for rewards 0 and 1 and a large G that is
    2 arcsin √P(success). Shao et al. 2024, "DeepSeekMath", section 4.1.2 (GRPO).
    """
    std = rewards.std(axis=1, ddof=1, keepdims=True)
    silent = silent_groups(rewards)[:, None]  # a mean is rounded: equal rewards need not give exactly 0
    return np.where(silent, 0.0, centred(rewards) / np.where(silent, 1.0, std))


ADVANTAGES = {"leave-one-out": leave_one_out, "centred": centred, "standardised": standardised}


def silent_groups(rewards):
    """(P,): which groups' rewards are all equal, so that they teach nothing."""
    return (rewards == rewards[:, :1]).all(axis=1)


def length_weights(mask, kind, group, limit):
    """(N, 1): what an answer's tokens are weighted by.

    mask: (N, T), the tokens that were drawn. group: G; limit: the most tokens that an answer can have.
    sum       1: the log-probability of the answer. What else there is follows another gradient, or this one scaled
    constant  1 / limit (Liu et al. 2025, Dr. GRPO)
    own       1 / |y|: short answers count more a token (Shao et al. 2024, GRPO)
    group     G / Σ |y| over its group: the mean over the group's tokens (Yu et al. 2025, "DAPO", equation 8)
    """
    length = mask.sum(axis=1, keepdims=True).astype(float)
    if kind == "own":
        return 1 / length
    if kind == "group":
        total = length.reshape(-1, group).sum(axis=1)
        return np.repeat(group / total, group)[:, None]
    return np.full(length.shape, {"sum": 1.0, "constant": 1 / limit}[kind])


def kl_in_reward(scores, logp, reference, mask, beta):
    """R_t = −β (log π(y_t) − log π_ref(y_t)), and the answer's score at its last token

    scores (N,), the others (N, T) -> rewards (N, T). Of all places for the KL divergence this one has the right
    gradient (k1; Schulman 2020, "Approximating KL divergence"); Stiennon et al. 2020, "Learning to summarize".
    """
    rewards = -beta * np.where(mask, logp - reference, 0.0)
    rewards[np.arange(len(mask)), last_tokens(mask)] += scores
    return rewards


def last_tokens(mask):
    """(N,): the place of each answer's last token. mask: (N, T), at least one token a row."""
    return mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)


def gae(rewards, values, mask, lam):
    """δ_t = R_t + V_{t+1} − V_t,  A_t = δ_t + λ A_{t+1},  returns A + V; nothing comes after the last token

    Each (N, T) -> advantages and returns, (N, T); 0 where nothing was drawn. γ = 1. Schulman et al. 2015,
    "High-dimensional continuous control using generalized advantage estimation", equation 16.
    """
    values = np.where(mask, values, 0.0)
    advantages = np.zeros(mask.shape)
    after = following = np.zeros(len(mask))  # A and V of the next token
    for t in reversed(range(mask.shape[1])):
        delta = rewards[:, t] + following - values[:, t]
        after = np.where(mask[:, t], delta + lam * after, 0.0)
        advantages[:, t], following = after, values[:, t]
    return advantages, np.where(mask, advantages + values, 0.0)
