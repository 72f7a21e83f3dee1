"""O7: what is drawn comes from the policy itself, and what is learnt from is what was drawn."""

from types import SimpleNamespace

import numpy as np
from tiny_world import SCORE, WORLD

from oracles.common import close, living, near, slope
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain import objectives
from tinygrad_lm.posttrain.exact import World, differentiate
from tinygrad_lm.posttrain.policy import rollouts
from tinygrad_lm.posttrain.policy.method import Method
from tinygrad_lm.posttrain.policy.policy import PolicySteps
from tinygrad_lm.train.objective import IGNORED

OTHER = World(WORLD.vocab_size, (0, 1, 1), WORLD.end, WORLD.limit)  # the same responses, to a longer prompt
NUMBER = {response: row for row, response in enumerate(WORLD.responses)}


class Bare:
    """A chat format of ids alone: a message's content is the prompt."""

    ends = frozenset({WORLD.end})

    def prompt(self, messages):
        return np.array(messages[0]["content"])

    def parse(self, ids):
        return tuple(ids), ids[-1] in self.ends


def number(targets):
    """Which response a row of targets is, by its number in the world."""
    response = tuple(targets[targets != IGNORED].tolist())
    assert response in NUMBER, f"{response} is not a response: {len(response)} tokens, expected up to {WORLD.limit}"
    return NUMBER[response]


def judge(answers):
    """The score of each answer, read from what is learnt."""
    return SCORE[[number(row) for row in answers.targets]]


def prompt_of(world):
    return SimpleNamespace(messages=[{"role": "user", "content": world.prompt}])


def steps(family, method, batch_size, worlds=(WORLD,)):
    """PolicySteps of a model whose context has room for both prompts."""
    model, reference = living(family)[0], living(family, 1)[0]
    prompts = [prompt_of(world) for world in worlds]
    config = SimpleNamespace(batch_size=batch_size, seed=7, accumulate=1)
    return PolicySteps(model, reference, Bare(), prompts, judge, method, config)


def a_batch_of_all_answers_has_their_gradient(family):
    """As they are padded and masked, the answers weighted by their probabilities ascend ∇J: ends and all."""
    model, log_p = living(family)
    answers = rollouts.as_batch(Bare(), [prompt_of(WORLD)] * len(SCORE), [list(y) for y in WORLD.responses])
    assert answers.ended.tolist() == WORLD.ended.tolist()
    with no_grad():
        old = model.log_probability(answers.tokens, answers.targets).numpy()
    pi, mask = np.exp(log_p.sum(1)), answers.targets != IGNORED
    batch = answers.tokens, answers.targets, len(pi) * (pi * (SCORE - pi @ SCORE))[:, None] * mask, old
    _, gradient = differentiate(model, lambda: objectives.policy_gradient(model, batch, NONE)[0])
    close(-gradient, slope(family, SCORE))


def answers_are_drawn_from_the_policy(family):
    """χ² of their frequencies, over steps and within groups, which must not repeat: 60 is by chance once in 10⁷."""
    batches = steps(family, Method(group=20, limit=WORLD.limit), 120)
    numbers = [number(row) for step in range(10) for row in batches(step)[1]]
    mean = len(numbers) * np.exp(living(family)[1].sum(1))
    squares = ((np.bincount(numbers, minlength=len(mean)) - mean) ** 2 / mean).sum()
    assert squares < 60, f"χ² is {squares:.0f}, expected {len(mean) - 1}"


def what_is_learnt_is_what_was_drawn(family):
    """Each row is the world's, at its own prompt; one prompt a group; log-probabilities by policy and reference."""
    beta, G = 0.3, 4
    batches = steps(family, Method(beta=beta, group=G, limit=WORLD.limit), 24, (WORLD, OTHER))
    log_p = {world: world.log_probability(living(family)[0]) for world in (WORLD, OTHER)}
    log_q = {world: world.log_probability(living(family, 1)[0]) for world in (WORLD, OTHER)}
    tokens, targets, found, old = batches(0)
    rewards, scores, seen = [], [], []
    for row in range(len(tokens)):
        answer = number(targets[row])
        world = WORLD if (tokens[row, :2] == WORLD.prompt).all() else OTHER
        n = len(world.prompt) + world.lengths[answer] - 1
        assert tokens[row, :n].tolist() == world.tokens[answer, :n].tolist()
        assert targets[row, :n].tolist() == world.targets[answer, :n].tolist()
        assert (targets[row, n:] == IGNORED).all()
        close(old[row, :n], log_p[world][answer, :n], 1e-13)
        assert not old[row, n:].any()
        rewards.append(SCORE[answer] - beta * (log_p[world] - log_q[world])[answer].sum())
        scores.append(SCORE[answer])
        seen.append(world)
    assert all(len(set(seen[i : i + G])) == 1 for i in range(0, len(seen), G)), "a group of several prompts"
    assert len(set(seen)) == 2
    groups = np.reshape(rewards, (-1, G))
    right = (groups - groups.mean(1, keepdims=True)) * G / (G - 1)
    close(found, right.reshape(-1, 1) * (targets != IGNORED), 1e-12)
    near(batches.figures(0, 0.0)["reward"], np.mean(scores))


def the_first_ratio_is_one(family):
    """Bitwise: old log-probabilities come from the computation that the step does."""
    tokens, targets, _, old = steps(family, Method(group=2, limit=WORLD.limit), 30)(0)
    with no_grad():
        now = living(family)[0].log_probability(tokens, targets).numpy()
    assert np.array_equal(now, old), f"off by {abs(now - old).max():.1e}"


CHECKS = [
    a_batch_of_all_answers_has_their_gradient,
    answers_are_drawn_from_the_policy,
    what_is_learnt_is_what_was_drawn,
    the_first_ratio_is_one,
]
