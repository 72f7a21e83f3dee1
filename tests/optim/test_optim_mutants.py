"""Optimizers with one mistake each, of the kind that one makes. The checks of optim_checks.py must notice every one.

Most of them still train a network, a little worse: only a comparison with the algorithm finds them.
"""

import math

import numpy as np
import pytest
from optim_checks import Course, clips, follows_adamw, follows_muon

from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.optim.muon import COEFFICIENTS, Muon, orthogonalize


def each_run(adamw):
    """(weights, gradients, m, v, weight decay) of each of its runs."""
    for *arrays, matrices in adamw.runs(adamw.m, adamw.v):
        yield *arrays, adamw.weight_decay if matrices else 0.0


class Adam(AdamW):
    """AdamW out of a function that updates one run of parameters."""

    update = None

    def step(self, factor=1.0):
        self.t += 1
        for w, g, m, v, decay in each_run(self):
            self.update(w, g, m, v, decay, self.lr * factor, *self.betas, self.eps, self.t)


def adam(update):
    return type(update.__name__, (Adam,), {"update": staticmethod(update)})


def listed(mutant, record_property):
    """In the table of all mutants, at the end of the terminal's output."""
    record_property("mutant", [f"optim: {mutant.__name__.replace('_', ' ')}", "optim", "reference of 50 digits"])


def right(w, g, m, v, decay, lr, b1, b2, eps, t):
    """No mistake, to show that what the checks notice is the mistake."""
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def no_bias_correction(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * m / (np.sqrt(v) + eps)


def bias_of_v_not_corrected(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v) + eps)


def bias_corrected_for_the_step_before(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    t = max(1, t - 1)
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def bias_of_v_corrected_outside_the_root(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v) / (1 - b2**t) + eps)


def epsilon_inside_the_root(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / np.sqrt(v / (1 - b2**t) + eps)


def epsilon_before_the_correction(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)


def decay_coupled_to_the_gradient(w, g, m, v, decay, lr, b1, b2, eps, t):
    """Adam with L2 regularisation: what AdamW was written against."""
    g = g + decay * w
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def decay_without_the_learning_rate(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def decay_after_the_step(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    w -= lr * decay * w


def vectors_decay_too(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, m, v, 0.1, lr, b1, b2, eps, t)


def nothing_decays(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, m, v, 0.0, lr, b1, b2, eps, t)


def betas_exchanged(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, m, v, decay, lr, b2, b1, eps, t)


def new_gradient_in_full(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + g
    v[:] = b2 * v + (1 - b2) * g**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def square_of_the_mean(w, g, m, v, decay, lr, b1, b2, eps, t):
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * m**2
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def gradient_in_place_of_its_mean(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, np.zeros_like(m), v, decay, lr, 0.0, b2, eps, t)


def square_forgotten_at_every_step(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, m, v * 0, decay, lr, b1, b2, eps, t)


def moments_updated_after_the_step(w, g, m, v, decay, lr, b1, b2, eps, t):
    w -= lr * decay * w
    w -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2


def uphill(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, -g, m, v, decay, lr, b1, b2, eps, t)


def off_by_a_millionth(w, g, m, v, decay, lr, b1, b2, eps, t):
    right(w, g, m, v, decay, lr * (1 + 1e-6), b1, b2, eps, t)


class DeafToTheSchedule(AdamW):
    def step(self, factor=1.0):
        super().step()


class OneCountForEachRun(AdamW):
    """The step counter within the loop over runs of parameters."""

    def step(self, factor=1.0):
        for w, g, m, v, decay in each_run(self):
            self.t += 1
            right(w, g, m, v, decay, self.lr * factor, *self.betas, self.eps, self.t)


class TrainsAllParameters(AdamW):
    def __init__(self, parameters, *options):
        super().__init__(parameters[0].flat.values(), *options)


ADAMW_FUNCTIONS = [
    no_bias_correction, bias_of_v_not_corrected, bias_corrected_for_the_step_before,
    bias_of_v_corrected_outside_the_root, epsilon_inside_the_root, epsilon_before_the_correction,
    decay_coupled_to_the_gradient, decay_without_the_learning_rate, decay_after_the_step, vectors_decay_too,
    nothing_decays, betas_exchanged, new_gradient_in_full, square_of_the_mean, gradient_in_place_of_its_mean,
    square_forgotten_at_every_step, moments_updated_after_the_step, uphill, off_by_a_millionth,
]  # fmt: skip


def adamw_passes(make):
    follows_adamw(make, Course(), lr=0.01, betas=(0.9, 0.99), eps=1e-6, decay=0.1, names=("a", "b", "e"))


def test_adamw_and_its_other_spelling_pass():
    adamw_passes(AdamW)
    adamw_passes(adam(right))


ADAMW_CLASSES = [*map(adam, ADAMW_FUNCTIONS), DeafToTheSchedule, OneCountForEachRun, TrainsAllParameters]


@pytest.mark.parametrize("mutant", ADAMW_CLASSES, ids=lambda mutant: mutant.__name__)
def test_adamw_mutant_is_noticed(mutant, record_property):
    with pytest.raises(AssertionError, match=r"after|was not to be trained"):
        adamw_passes(mutant)
    listed(mutant, record_property)


# ---- Muon


class Spelled(Muon):
    """Muon out of a function that gives the update of one matrix."""

    update = None

    def step(self, factor=1.0):
        start = 0
        for p in self.parameters:
            m = self.m[start : start + p.size].reshape(p.shape)
            p.data -= self.lr * factor * self.update(p.grad, m, self.momentum)
            start += p.size


def right_muon(g, m, momentum):
    m[:] = momentum * m + g
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * orthogonalize(g + momentum * m)


def no_look_ahead(g, m, momentum):
    m[:] = momentum * m + g
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * orthogonalize(m)


def no_momentum(g, m, momentum):
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * orthogonalize(g)


def not_orthogonal(g, m, momentum):
    m[:] = momentum * m + g
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * (g + momentum * m)


def two_steps(g, m, momentum):
    m[:] = momentum * m + g
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * orthogonalize(g + momentum * m, COEFFICIENTS[:2])


def momentum_made_orthogonal_before_it_is_kept(g, m, momentum):
    m[:] = momentum * m + orthogonalize(g)
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * (orthogonalize(g) + momentum * m)


def sides_exchanged(g, m, momentum):
    """For weights (out, in), as PyTorch keeps them; ours are (in, out)."""
    m[:] = momentum * m + g
    return math.sqrt(max(1, g.shape[0] / g.shape[1])) * orthogonalize(g + momentum * m)


def no_scale(g, m, momentum):
    m[:] = momentum * m + g
    return orthogonalize(g + momentum * m)


def exact_singular_values(g, m, momentum):
    """U Vᵀ itself, which the three steps only come near to: prettier, and not what is claimed."""
    m[:] = momentum * m + g
    U, _, Vt = np.linalg.svd(g + momentum * m, full_matrices=False)
    return math.sqrt(max(1, g.shape[1] / g.shape[0])) * U @ Vt


MUON = [
    no_look_ahead, no_momentum, not_orthogonal, two_steps, momentum_made_orthogonal_before_it_is_kept, sides_exchanged,
    no_scale, exact_singular_values,
]  # fmt: skip


def muon_passes(update):
    make = type(update.__name__, (Spelled,), {"update": staticmethod(update)})
    follows_muon(make, Course(steps=5), lr=0.1, momentum=0.9)


def test_the_other_spelling_of_muon_passes():
    muon_passes(right_muon)


@pytest.mark.parametrize("update", MUON, ids=lambda update: update.__name__)
def test_muon_mutant_is_noticed(update, record_property):
    with pytest.raises(AssertionError, match="after"):
        muon_passes(update)
    listed(update, record_property)


# ---- clipping


def norm_of(flat):
    return np.sqrt((flat.grad * flat.grad).sum())


def each_parameter_alone(flat, limit):
    for p in flat.values():
        norm = np.linalg.norm(p.grad)
        if 0 < limit < norm:
            p.grad[...] *= limit / norm
    return norm_of(flat)


def also_up(flat, limit):
    norm = norm_of(flat)
    if limit and math.isfinite(norm):
        flat.grad *= limit / norm
    return norm


def each_entry(flat, limit):
    norm = norm_of(flat)
    if limit:
        flat.grad[...] = np.clip(flat.grad, -limit, limit)
    return norm


def norm_after(flat, limit):
    clip_gradients(flat, limit)
    return norm_of(flat)


def square_of_the_norm(flat, limit):
    norm = norm_of(flat)
    if 0 < limit < norm < math.inf:
        flat.grad *= limit / norm**2
    return norm


def nan_is_not_above_the_limit(flat, limit):
    norm = norm_of(flat)
    return clip_gradients(flat, limit) if norm > 0 else limit


def infinity_scaled_to_nothing(flat, limit):
    norm = norm_of(flat)
    if 0 < limit < norm:
        flat.grad *= limit / norm
    return norm


CLIPPING = [
    each_parameter_alone, also_up, each_entry, norm_after, square_of_the_norm, nan_is_not_above_the_limit,
    infinity_scaled_to_nothing,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("clip", CLIPPING, ids=lambda clip: clip.__name__)
def test_clipping_mutant_is_noticed(clip, record_property):
    with pytest.raises(AssertionError, match=r"norm|scaled"):
        clips(clip)
    listed(clip, record_property)
