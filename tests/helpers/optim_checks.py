"""What AdamW, Muon and clipping must compute, once more with 50 digits; test_optim_mutants.py shows that it can fail.

The references work on arrays of mpmath numbers: NumPy's operators, their arithmetic.
"""

from dataclasses import dataclass

import mpmath
import numpy as np

from tinygrad_lm.nn.module import Module, Parameter

exact = np.vectorize(mpmath.mpf, otypes=[object])
root = np.vectorize(mpmath.sqrt, otypes=[object])
SHAPES = {"a": (2, 3), "b": (3,), "c": (3, 2), "d": (1,), "e": (2, 2)}


class Bag(Module):
    """Parameters of any names and shapes."""

    def __init__(self, shapes, rng):
        for name, shape in shapes.items():
            setattr(self, name, Parameter(*shape))
        self.initialize(dtype=np.float64)
        self.flat.data[...] = rng.standard_normal(self.flat.data.shape)


@dataclass
class Course:
    """What an optimizer is driven through: gradients and learning rate factors of `steps` steps, from a seed."""

    seed: int = 0
    steps: int = 20
    size: float = 1.0  # of the gradients
    spread: float = 1.0  # and how many powers of e they differ by

    def run(self, make, names):
        """Yields (all parameters, {name: gradient}, factor) after each step of the optimizer `make(parameters)`.

        It is made with those of `names`, in that order.
        """
        rng = np.random.default_rng(self.seed)
        bag = Bag(SHAPES, rng)
        flat = bag.flat
        optimizer = make([flat[name] for name in names])
        yield flat, None, None
        for _ in range(self.steps):
            g = self.size * np.exp(self.spread * rng.standard_normal(flat.grad.shape))
            flat.grad[...] = g * rng.choice([-1, 0, 1], g.shape)
            gradients = {name: flat[name].grad.copy() for name in names}
            factor = rng.uniform(0.1, 1.0)
            optimizer.step(factor)
            yield flat, gradients, factor


def close(found, expected, what):
    """Equal to twelve digits of the largest, or of 1."""
    with mpmath.workdps(50):
        error = abs(exact(found) - expected).max() / max(1, abs(expected).max())
    assert error <= 1e-12, f"{what}: off by {float(error):.1e}"


def follows_adamw(make, course, lr, betas, eps, decay, names=tuple(SHAPES)):
    """Step by step, `make(parameters, lr, betas, eps, decay)` is Loshchilov and Hutter's algorithm 2."""
    made = lambda parameters: make(parameters, lr, betas, eps, decay)
    states = course.run(made, names)
    flat, _, _ = next(states)
    untouched = {name: flat[name].data.copy() for name in SHAPES if name not in names}
    with mpmath.workdps(50):
        beta1, beta2 = map(mpmath.mpf, betas)
        w = {name: exact(flat[name].data) for name in names}
        m = {name: 0 * w[name] for name in names}
        v = {name: 0 * w[name] for name in names}
        for t, (_, gradients, factor) in enumerate(states, start=1):
            rate = mpmath.mpf(lr) * mpmath.mpf(factor)
            for name in names:
                g = exact(gradients[name])
                m[name] = beta1 * m[name] + (1 - beta1) * g
                v[name] = beta2 * v[name] + (1 - beta2) * g * g
                step = m[name] / (1 - beta1**t) / (root(v[name] / (1 - beta2**t)) + mpmath.mpf(eps))
                shrink = mpmath.mpf(decay) if len(SHAPES[name]) == 2 else 0
                w[name] = w[name] - rate * (step + shrink * w[name])
                close(flat[name].data, w[name], f"{name} after {t} steps")
    for name, before in untouched.items():
        assert np.array_equal(flat[name].data, before), f"{name} was not to be trained"


def follows_muon(make, course, lr, momentum, names=("a", "c", "e")):
    """Step by step, `make(parameters, lr, momentum)` is Jordan's Muon."""
    states = course.run(lambda parameters: make(parameters, lr, momentum), names)
    flat, _, _ = next(states)
    untouched = {name: flat[name].data.copy() for name in SHAPES if name not in names}
    with mpmath.workdps(50):
        w = {name: exact(flat[name].data) for name in names}
        m = {name: 0 * w[name] for name in names}
        for t, (_, gradients, factor) in enumerate(states, start=1):
            for name in names:
                g, (rows, columns) = exact(gradients[name]), SHAPES[name]
                m[name] = mpmath.mpf(momentum) * m[name] + g
                step = orthogonal(g + mpmath.mpf(momentum) * m[name])
                rate = mpmath.mpf(lr) * mpmath.mpf(factor) * mpmath.sqrt(max(1, mpmath.mpf(columns) / rows))
                w[name] = w[name] - rate * step
                close(flat[name].data, w[name], f"{name} after {t} steps")
    for name, before in untouched.items():
        assert np.array_equal(flat[name].data, before), f"{name} was not to be trained"


def orthogonal(x):
    """Newton and Schulz's three steps, by x xᵀ whether x is wide or tall: both ways are one polynomial."""
    x = x / (mpmath.sqrt((x * x).sum()) + mpmath.mpf(1e-7))
    for step in ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518)):
        a, b, c = map(mpmath.mpf, step)
        s = x @ x.T
        x = a * x + b * (s @ x) + c * (s @ (s @ x))
    return x


def clips(clip, seed=0):
    """`clip(flat, max_norm)` returns the norm of all gradients, and scales them down to max_norm together."""
    rng = np.random.default_rng(seed)
    bag = Bag(SHAPES, rng)
    flat = bag.flat
    g = rng.standard_normal(flat.grad.shape)
    norm = float(mpmath.sqrt(mpmath.fsum(mpmath.mpf(x) ** 2 for x in g)))
    for limit in (norm / 3, norm * (1 - 1e-9), norm * (1 + 1e-9), 3 * norm, 0):
        flat.grad[...] = g
        assert abs(clip(flat, limit) - norm) <= 1e-14 * norm, "not the norm before"
        if 0 < limit < norm:
            assert abs(flat.grad - g * (limit / norm)).max() <= 1e-15 * norm, "not all scaled by limit / norm"
        else:
            assert np.array_equal(flat.grad, g), "changed, though the norm is within the limit"
    for wrong in (np.nan, np.inf, -np.inf):
        flat.grad[...] = g
        flat.grad[3] = wrong
        before = flat.grad.copy()
        assert not np.isfinite(clip(flat, 1.0)), "the norm hides a number that is not finite"
        assert np.array_equal(flat.grad, before, equal_nan=True), "changed, though the norm is not finite"
