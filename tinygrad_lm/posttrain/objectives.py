"""What a model is trained for after pretraining. What an objective is: train/objective.py.

First the formulas, on log-probabilities and scores; then the objectives, which compute these with a model. Supervised
fine-tuning needs nothing new: it is next_token with the targets of answers alone.

B pairs, N answers, T time. Of a pair the better answer comes first.
"""

from dataclasses import replace

from tinygrad_lm import ops
from tinygrad_lm.backend import array_module

# ---- formulas


def bradley_terry_loss(better, worse):
    """−log P(better beats worse) = −log σ(r_w − r_l) = −log softmax([r_w, r_l])[0]

    Scores (B,) and (B,) -> (B,), in nats. Bradley & Terry 1952; Ouyang et al. 2022, "InstructGPT", equation 1.
    """
    xp = array_module(better.data)
    return -ops.log_probability(ops.stack(better, worse, axis=1), xp.zeros(len(better), int))


def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    """Bradley and Terry's loss of the scores r = β log(π / π_ref)

    Each (B,): the log-probability of a whole answer, the sum over its tokens -> (B,). Rafailov et al. 2023, "Direct
    preference optimization", equation 7. With means over the tokens the optimum would be another.
    """
    return bradley_terry_loss(beta * (chosen - reference_chosen), beta * (rejected - reference_rejected))


def surrogate(logp, old, advantages, clip=0.0):
    """min(ρ A, clip(ρ, 1 − ε, 1 + ε) A),  ρ = exp(log π − log π_old)

    Each (N, T) -> (N, T). At π = π_old the gradient is A ∇log π, that of the expected reward. clip: ε, 0 for none.
    Schulman et al. 2017, "Proximal policy optimization algorithms", equations 6 and 7.
    """
    ratio = ops.exp(logp - old)
    if not clip:
        return ratio * advantages
    xp = array_module(ratio.data)
    bound = xp.where(advantages > 0, 1 + clip, 1 - clip).astype(ratio.dtype)  # as far as it pays to go
    inside = xp.where(advantages > 0, ratio.data <= bound, ratio.data >= bound)
    return ops.where(inside, ratio, bound) * advantages


def value_loss(values, returns):
    """½ (V − R)²

    Each (N, T) -> (N, T). Not clipped: where a clip was tried on its own, it did no good (Engstrom et al. 2020,
    "Implementation matters in deep policy gradients").
    """
    return 0.5 * (values - returns) ** 2


# ---- objectives


def bradley_terry(model, batch, context):
    """The mean loss of a reward model on pairs.

    batch: tokens (B, 2, T), ends (B, 2), the place of each answer's last token; model: a ScoredGPT (reward.py)
    """
    tokens, ends = batch
    B, _, T = tokens.shape
    scores = model.reward(tokens.reshape(2 * B, T), ends.reshape(2 * B), both_rows(context)).reshape(B, 2)
    return bradley_terry_loss(scores[:, 0], scores[:, 1]).mean(), count(tokens)


def dpo(model, batch, context, *, beta):
    """The mean DPO loss of pairs.

    batch: tokens (B, 2, T), targets (B, 2, T), reference (B, 2), the log-probabilities by the reference
    """
    tokens, targets, reference = batch
    B, _, T = tokens.shape
    logp = model.log_probability(tokens.reshape(2 * B, T), targets.reshape(2 * B, T), both_rows(context))
    logp = logp.sum(axis=1).reshape(B, 2)
    losses = dpo_loss(logp[:, 0], logp[:, 1], reference[:, 0], reference[:, 1], beta)
    return losses.mean(), count(tokens)


def policy_gradient(model, batch, context, *, clip=0.0):
    """Minus the mean over answers of the surrogate, summed over an answer's tokens.

    batch: tokens, targets, advantages, old, each (N, T); old: the log-probabilities when the answers were drawn
    """
    tokens, targets, advantages, old = batch
    gain = surrogate(model.log_probability(tokens, targets, context), old, advantages, clip)
    return -gain.sum() / len(tokens), count(tokens)


def ppo(model, batch, context, *, clip, value_weight):
    """policy_gradient, and value_weight times the value head's loss, summed and averaged alike.

    batch: as there, and returns (N, T), NaN where nothing was drawn; model: a ScoredGPT (reward.py)
    """
    tokens, targets, advantages, old, returns = batch
    logp, values = model.log_probability_and_values(tokens, targets, context)
    xp = array_module(returns)
    returns = xp.where(xp.isnan(returns), values.data, returns)  # no loss there, and a gradient of 0, not NaN
    loss = value_weight * value_loss(values, returns).sum() - surrogate(logp, old, advantages, clip).sum()
    return loss / len(tokens), count(tokens)


def count(tokens):
    """How many rows there are, a 0-d array where the tokens are."""
    return array_module(tokens).array(len(tokens))


def both_rows(context):
    """The context of a batch of pairs whose 2 B answers are the rows: row i of it begins at row 2 i."""
    if not context.key:
        return context
    seed, step, row = context.key
    return replace(context, key=(seed, step, 2 * row))
