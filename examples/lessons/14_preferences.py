"""Lesson 14: learning from preferences: the best policy in one line, and what DPO does to both log-probabilities.

A policy that climbs a reward r, but pays for leaving its reference, maximises

    J = Σ π r − β KL(π‖π_ref)        and the maximum is known:  π* = π_ref exp(r/β) / Z,  J = β log Z

Read backwards, r = β log(π*/π_ref) + β log Z: every policy is the best one for some reward. People, who say which of
two answers is better, choose w over l with P = σ(r_w − r_l) (Bradley & Terry 1952), in which Z cancels. So preferences
can be fitted by the policy itself, without a reward model (Rafailov et al. 2023, "Direct preference optimization"):

    loss = −log σ(β log π(w)/π_ref(w) − β log π(l)/π_ref(l))

    python examples/lessons/14_preferences.py
"""

import numpy as np

from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.exact import Table, World, differentiate, kl, optimum
from tinygrad_lm.posttrain.objectives import dpo_loss
from tinygrad_lm.programs import run_lesson

LETTERS, BETA = "ab.", 0.5  # the last letter ends an answer
world = World(len(LETTERS), prompt=(0,), end=2, limit=2)
answers = ["".join(LETTERS[token] for token in response) for response in world.responses]
reward = np.array([answer.count("b") for answer in answers], float)  # people like the letter b
WON, LOST = answers.index("ab"), answers.index("aa")  # a pair


def main(out="."):
    table = Table(world)  # a policy with a logit for each beginning of an answer and each next letter
    table.logits.data = 0.5 * np.random.default_rng(7).standard_normal(table.logits.shape)
    log_q = world.log_probability(table).sum(1)  # it is the reference
    stars, pairs = best_policies(log_q), all_pairs(table, log_q)
    return {"log_q": log_q, "stars": stars, "pairs": pairs, "gpt": one_pair(), "margins": one_pair_forever(log_q)}


def best_policies(log_q):
    """π* for three β, and its value."""
    stars = {beta: optimum(log_q, reward, beta) for beta in (5.0, BETA, 0.05)}
    print("π* = π_ref exp(r/β) / Z: a large β holds it at the reference, a small one lets the reward decide")
    print("  answer   r    π_ref " + "".join(f"{f'β = {beta:g}':>12}" for beta in stars))
    for y, answer in enumerate(answers):
        star = "".join(f"{np.exp(star[y]):12.4f}" for star, _ in stars.values())
        print(f"  {answer:6}{reward[y]:4g}{np.exp(log_q[y]):9.4f}{star}")
    figures = {beta: (np.exp(star) @ reward, kl(star, log_q), value) for beta, (star, value) in stars.items()}
    print("  Σ π r              " + "".join(f"{r:12.4f}" for r, _, _ in figures.values()))
    print("  KL in nats         " + "".join(f"{d:12.4f}" for _, d, _ in figures.values()))
    print("  Σ π r − β KL       " + "".join(f"{r - beta * d:12.4f}" for beta, (r, d, _) in figures.items()))
    print("  β log Z            " + "".join(f"{value:12.4f}" for _, _, value in figures.values()))
    return stars


def loss_of(model, log_q, won, lost, beta=BETA):
    """The DPO losses of pairs of answers, by their numbers: a Tensor."""
    log_pi = world.recorded(model).sum(axis=1)
    return dpo_loss(log_pi[won], log_pi[lost], log_q[won], log_q[lost], beta)


def all_pairs(table, log_q):
    """DPO on the population: all pairs, each as often as the reference draws it and people label it so."""
    star, _ = optimum(log_q, reward, BETA)
    P = 1 / (1 + np.exp(reward[None] - reward[:, None]))  # that the first is preferred
    chance = np.exp(log_q[:, None] + log_q[None]) * P * (1 - np.eye(len(answers)))
    chance /= chance.sum()
    floor, rows = -(chance * np.log(P)).sum(), []
    won, lost = chance.nonzero()
    print(f"\nDPO on all pairs, β = {BETA:g}. It sees labels and no reward. Their entropy is {floor:.6f} nats.")
    for step in range(101):
        loss, gradient = differentiate(table, lambda: (loss_of(table, log_q, won, lost) * chance[won, lost]).sum())
        if step in (0, 1, 10, 100):
            far = abs(np.exp(world.log_probability(table).sum(1)) - np.exp(star)).sum() / 2
            rows.append((step, loss, far))
            print(f"  {step:3} steps   loss {loss:.6f}   distance to π* {far:.6f}   " + "█" * round(60 * far))
        table.flat.data -= 10 * gradient
    return {"rows": rows, "floor": floor}


def one_pair(rate=0.01):
    """Δ log π(y) = η β σ(−d) ⟨∇log π(y), ∇log π(w) − ∇log π(l)⟩: nothing says that it is positive for y = w."""
    model = GPT(GPTConfig(len(LETTERS), 4, n_layer=1, n_head=2, n_embd=8, tied=False), seed=6, dtype=np.float64)
    model.flat.data += 0.2 * np.random.default_rng(6).standard_normal(model.flat.data.shape)  # no longer small
    log_q, curve = world.log_probability(model).sum(1), []
    slopes = np.stack([world.gradient(model, one) for one in np.eye(len(answers))])
    predicted = rate * BETA / 2 * slopes @ (slopes[WON] - slopes[LOST])
    print("\n'ab' is better than 'aa', again and again, to a GPT, whose answers share weights: log π/π_ref of them all")
    print(" " * 29 + "".join(f"{answer:>9}" for answer in answers))
    print(f"  {'predicted for a small step':27}" + "".join(f"{x:+9.4f}" for x in predicted))
    for step in range(401):
        loss, gradient = differentiate(model, lambda: loss_of(model, log_q, [WON], [LOST]).sum())
        curve.append((loss, world.log_probability(model).sum(1) - log_q))
        if step in (1, 100, 200, 400):
            print(f"  step {step:3}, loss {loss:.4f}      " + "".join(f"{x:+9.4f}" for x in curve[-1][1]))
        model.flat.data -= rate * gradient
    print("The loss asks only that 'aa' falls further than 'ab'. What both lose goes to answers that are in no pair.")
    return {"predicted": predicted, "curve": curve}


def one_pair_forever(log_q):
    """Labels that always agree ask for an infinite margin d; labels that do not, for a finite one."""
    print("\nThat pair on a table, and its margin d = β log π(w)/π_ref(w) − β log π(l)/π_ref(l)")
    print("  labels for 'ab'      β     after 10, 100, 500 steps         π('aa') then")
    rows = []
    for share, beta in ((1.0, 0.1), (1.0, 1.0), (0.9, 0.1), (0.9, 1.0)):
        table, margins = Table(world).become(log_q), []
        for _ in range(500):
            table.flat.zero_grad()
            loss_of(table, log_q, [WON, LOST], [LOST, WON], beta).backward(np.array([share, 1 - share]))
            table.flat.data -= table.flat.grad / beta**2
            ratio = world.log_probability(table).sum(1) - log_q
            margins.append(beta * (ratio[WON] - ratio[LOST]))
        rows.append((share, beta, *(margins[i - 1] for i in (10, 100, 500)), np.exp(ratio + log_q)[LOST]))
        print("  {:15.0%}  {:5g}   {:8.4f} {:8.4f} {:8.4f}   {:16.1e}".format(*rows[-1]))
    print(f"Nine of ten: d = log 9 = {np.log(9):.4f}. Ten of ten: no d is enough, and no β keeps π('aa') from 0.")
    return rows


if __name__ == "__main__":
    run_lesson(main)
