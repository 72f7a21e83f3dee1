"""The world of a few tokens: every response of a model to a prompt, so that an expectation is a sum, not a sample.

The estimators of a policy gradient are gradients of Σ w(y, t) log π(y_t | y_<t), whose weights w are numbers: rewards
less a baseline, divided by a length. Which responses share a group is chance, but the expectation over all groups only
averages the weights. So the expected gradient of an estimator is one backward pass, exact up to rounding, and what an
estimator is said to do can be proven: its gradient is that of J = Σ π(y) r(y), or it is not.

n responses, S positions of a row, G responses a group, V vocabulary
"""

from itertools import product

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import to_device
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.train.objective import IGNORED

MOST = 100_000  # responses of a world: more take longer than a good sample of them


class World:
    """World(vocab_size, prompt, end, limit): all responses to a prompt, as one batch that is padded on the right.

    A response is a tuple of ids. It ends with the id `end`, or is cut off after `limit` tokens; their probabilities sum
    to 1. vocab_size: of the model, which gives probability to these ids and no others.

    responses  the n tuples, those that end sooner first
    tokens     (n, S) what a model reads: the prompt, and all of a response but its last token; S = prompt + limit − 1
    targets    (n, S) what comes next: the response, at other positions IGNORED
    mask       (n, S) where a target is a response's token
    lengths    (n,) tokens a response;  ended: (n,) whether it ends, or is cut off
    """

    def __init__(self, vocab_size, prompt, end, limit):
        inside = all(0 <= token < vocab_size for token in prompt)
        settings = {
            "prompt": (prompt, f"one or more ids below vocab_size = {vocab_size}", len(prompt) > 0 and inside),
            "end": (end, f"an id below vocab_size = {vocab_size}", 0 <= end < vocab_size),
            "limit": (limit, "at least 1", limit >= 1),
        }
        check_ranges("world", settings)
        n = sum((vocab_size - 1) ** t for t in range(limit)) + (vocab_size - 1) ** limit
        if n > MOST:
            raise ConfigError(f"world: {vocab_size} ids and {limit} tokens make {n} responses, more than {MOST}")
        self.vocab_size, self.prompt, self.end, self.limit = vocab_size, tuple(prompt), end, limit
        others = [token for token in range(vocab_size) if token != end]
        ending = [(*body, end) for t in range(limit) for body in product(others, repeat=t)]
        self.responses = [*ending, *product(others, repeat=limit)]
        self.lengths = np.array([len(response) for response in self.responses])
        self.ended = np.arange(n) < len(ending)
        before = len(prompt) - 1  # positions that only read
        self.tokens = np.full((n, before + limit), end)
        self.targets = np.full((n, before + limit), IGNORED)
        for row, response in enumerate(self.responses):
            self.tokens[row, : before + len(response)] = [*prompt, *response[:-1]]
            self.targets[row, before : before + len(response)] = response
        self.mask = self.targets != IGNORED

    def rewards(self, reward):
        """reward(response) of each response, (n,)."""
        return np.array([float(reward(response)) for response in self.responses])

    def recorded(self, model):
        """log π(y_t | y_<t) as a Tensor (n, S), with its graph."""
        batch = [to_device(x, model.flat.device) for x in (self.tokens, self.targets)]
        return model.log_probability(*batch)

    def log_probability(self, model):
        """log π(y_t | y_<t) of each token, (n, S), 0 elsewhere; the sum of a row is log π(y)."""
        with no_grad():
            return self.recorded(model).numpy()

    def gradient(self, model, weights):
        """The gradient of Σ w log π(y_t | y_<t) by all parameters, flat. weights: (n, S), or (n,) for whole responses.

        With w = π r it is ∇J, since ∇π = π ∇log π (Williams 1992, "REINFORCE", theorem 1).
        """

        def estimate():
            logp = self.recorded(model)
            return (logp * like(logp, np.reshape(weights, (len(self.responses), -1)))).sum()

        return differentiate(model, estimate)[1]

    def value(self, model, rewards, reference=0.0, beta=0.0):
        """J = Σ π (r − β log π/π_ref) and its gradient by all parameters, flat.

        It is differentiated as it stands here, sum and all: no identity of policy gradients is used.
        rewards: (n,); reference: log π_ref(y), (n,)
        """

        def J():
            log_pi = self.recorded(model).sum(axis=1)
            return (log_pi.exp() * (like(log_pi, rewards) - beta * (log_pi - like(log_pi, reference)))).sum()

        return differentiate(model, J)

    def groups(self, G):
        """Every group of G responses, in every order: indices (n^G, G)."""
        return np.indices((len(self.responses),) * G).reshape(G, -1).T

    def expected_weights(self, log_pi, groups, weights):
        """The expectation of what each token's log-probability is weighted by, (n, S), over independent draws from π.

        log_pi: (n,); groups: all of `groups(G)`; weights: of each member, (n^G, G), or of its tokens, (n^G, G, S).
        """
        chance = np.exp(log_pi[groups].sum(1))  # of drawing this group
        weights = np.reshape(weights, (*groups.shape, -1)) * chance[:, None, None]
        sums = np.zeros((len(self.responses), weights.shape[-1]))
        np.add.at(sums, groups, weights)
        return np.where(self.mask, sums, 0)


def like(x, array):
    """An array on the device and in the dtype of the tensor x."""
    return to_device(np.asarray(array), x.device).astype(x.dtype)


def differentiate(model, function):
    """The value of a function of the model, a float, and its gradient by all parameters, flat."""
    model.flat.zero_grad()
    y = function()
    y.backward()
    return y.item(), to_device(model.flat.grad, "cpu").copy()


class Table(Module):
    """A policy of a world with a logit for each prefix and id, so that it can be any distribution over the responses.

    It takes a GPT's place where only log-probabilities are asked for.
    """

    def __init__(self, world, dtype=np.float64):
        self.world = world
        self.logits = Parameter(sum(world.vocab_size**t for t in range(world.limit)), world.vocab_size)
        self.initialize(dtype=dtype)

    def rows(self, tokens):
        """The row of the table for each position: the number of the prefix, in base V with digits 1 … V."""
        row, rows = 0, np.zeros(tokens.shape, int)
        for position in range(len(self.world.prompt), tokens.shape[1]):
            row = row * self.world.vocab_size + tokens[:, position] + 1
            rows[:, position] = row
        return rows

    def log_probability(self, tokens, targets, context=NONE):
        """log π of the targets, as a GPT's: (B, T) -> (B, T), 0 where they are IGNORED."""
        return ops.log_probability(self.logits[self.rows(tokens)], targets)

    def become(self, log_pi):
        """Become the policy with this log π(y), (n,), all of them finite. Returns the table.

        A logit is the logarithm of the probability of all responses that begin with the prefix and the id.
        """
        mask = self.world.mask
        mass = np.zeros(self.logits.shape)
        place = self.rows(self.world.tokens)[mask], self.world.targets[mask]
        np.add.at(mass, place, np.exp(log_pi)[mask.nonzero()[0]])
        self.logits.data = np.log(np.where(mass > 0, mass, 1))  # a row without mass is never reached
        return self


def kl(log_p, log_q):
    """KL(p‖q) = Σ p log p/q, in nats, of two distributions over the responses."""
    return float(np.exp(log_p) @ (log_p - log_q))


def optimum(reference, rewards, beta):
    """log π*(y) (n,) and its value J = β log Z:  π* = π_ref exp(r/β) / Z maximises Σ π r − β KL(π‖π_ref).

    Rafailov et al. 2023, "Direct preference optimization", equation 4. reference: log π_ref(y), (n,)
    """
    energy = reference + np.asarray(rewards) / beta
    log_z = np.logaddexp.reduce(energy)
    return energy - log_z, float(beta * log_z)


def frontier(reference, rewards, betas):
    """KL(π*‖π_ref) and Σ π* r for each β, (K,) each: no policy with that KL has more reward."""
    best = [optimum(reference, rewards, beta)[0] for beta in betas]
    return np.array([kl(star, reference) for star in best]), np.array([np.exp(star) @ rewards for star in best])
