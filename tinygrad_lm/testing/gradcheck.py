"""gradcheck: compare a derivative that was worked out by hand with that of what the code computes.

Three ways to differentiate a function numerically, each more exact than the one before:

central      (φ(x+h) − φ(x−h)) / 2h                   error about 1e-9: h² from above, ε/h from below
richardson   central at h, h/2, h/4, ... extrapolated  about 1e-12: the powers of h cancel one after the other
complex      Im φ(x + ih) / h with h = 1e-30           about 1e-15: nothing is subtracted, so nothing is lost

The last needs a function that is analytic at x and code that runs on complex numbers, as every rule here does
(Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions").
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import is_floating, random
from tinygrad_lm.engine.tensor import Tensor, as_array
from tinygrad_lm.errors import ConfigError, DtypeError, GradientError

TOLERANCE = {"central": 1e-6, "richardson": 1e-10, "complex": 1e-12}


def gradcheck(f, *inputs, method="central", tolerance=None, entries=None, cotangents=1, seed=0, verbose=True):
    """Compare the gradients of f with numerical ones, entry by entry; raise GradientError where they differ.

    f           maps tensors to a tensor of any shape
    inputs      arrays, tensors or numbers; floating ones are checked in float64, integer ones passed on
    method      "central", "richardson" or "complex"
    tolerance   for |analytic − numerical| / max(1, largest gradient entry); by default what the method can resolve
    entries     check only so many random entries of each input; all by default
    cotangents  how many random combinations φ = Σ u f(x) of the outputs to differentiate, u = ±uniform(0.5, 1.5).
                With u = 1 everywhere a wrong softmax passes: its gradient sums to 0 either way.

    Prints and returns a Report: for each input the worst entry, with both its numbers.
    """
    if method not in TOLERANCE:
        raise ConfigError(f"gradcheck: method {method!r} is unknown; expected one of {', '.join(TOLERANCE)}")
    arrays = [as_array(x) for x in inputs]
    arrays = [x.astype(np.float64) if is_floating(x.dtype) and x.dtype.kind != "c" else x for x in arrays]
    floating = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    if not floating:
        raise DtypeError("gradcheck: no input is floating, so there is no gradient to check")
    report = Report(getattr(f, "__name__", "f"), method, TOLERANCE[method] if tolerance is None else tolerance, [])
    for round in range(cotangents):
        rng = random(seed, "gradcheck", round)
        u = signed(rng, f(*map(Tensor, arrays)).shape)
        gradients = analytic(f, arrays, u)
        for i in floating:
            places = list(np.ndindex(arrays[i].shape))
            if entries is not None and entries < len(places):
                places = [places[j] for j in rng.choice(len(places), entries, replace=False)]
            report.rows.append(compare(f, arrays, u, i, gradients[i], places, method))
    if verbose:
        print(report)
    if not report.passed:
        raise GradientError(str(report))
    return report


@dataclass
class Row:
    """One input under one cotangent: its worst entry."""

    input: int
    shape: tuple
    checked: int
    place: tuple
    analytic: float
    numerical: float
    error: float
    uncertainty: float  # what the numerical side thinks its own error is, relative as `error`


@dataclass
class Report:
    name: str
    method: str
    tolerance: float
    rows: list

    @property
    def worst(self):
        """The largest relative error."""
        return max((row.error for row in self.rows), default=0.0)

    @property
    def passed(self):
        return all(row.error <= self.tolerance for row in self.rows)  # a NaN is not

    def __str__(self):
        verdict = "agree" if self.passed else "DIFFER"
        lines = [
            f"gradcheck {self.name}: analytic and {self.method} derivatives {verdict}, tolerance {self.tolerance:g}"
        ]
        for row in self.rows:
            if row.checked:
                mark = " " if row.error <= self.tolerance else "✗"
                lines.append(
                    f" {mark} input {row.input} {row.shape}: {row.checked} entries, worst at {list(row.place)}: "
                    f"analytic {row.analytic:+.15e}  numerical {row.numerical:+.15e}  "
                    f"relative error {row.error:.1e} (numerical side ±{row.uncertainty:.0e})"
                )
        return "\n".join(lines)


def signed(rng, shape):
    """Random numbers of both signs, none near zero: what an error multiplies with cannot hide it."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)


def analytic(f, arrays, u):
    """The gradients of Σ u f by backward; zeros where none arrived."""
    tensors = [Tensor(x, requires_grad=is_floating(x.dtype)) for x in arrays]
    y = f(*tensors)
    if y.requires_grad:
        y.backward(u.astype(y.dtype))
    return [np.zeros(x.shape) if x.grad is None else x.grad for x in tensors]


def compare(f, arrays, u, i, gradient, places, method):
    """The Row for input i: its analytic gradient beside numerical derivatives at the given places."""

    def phi(place, step):
        shifted = [x.astype(np.complex128) if isinstance(step, complex) and x.dtype.kind == "f" else x for x in arrays]
        shifted[i] = shifted[i].copy()
        shifted[i][place] += step
        return (u * f(*map(Tensor.of, shifted)).data).sum()

    found = np.array([DERIVATIVES[method](phi, place, arrays[i][place]) for place in places]).reshape(-1, 2)
    expected = np.array([gradient[place] for place in places])
    scale = max(1.0, abs(expected).max(initial=0), abs(found[:, 0]).max(initial=0))
    errors = abs(expected - found[:, 0]) / scale
    if not places:
        return Row(i, arrays[i].shape, 0, (), 0.0, 0.0, 0.0, 0.0)
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    numerical, uncertainty = found[worst]
    return Row(
        i,
        arrays[i].shape,
        len(places),
        places[worst],
        float(expected[worst]),
        numerical,
        errors[worst],
        uncertainty / scale,
    )


def central(phi, place, x, h=1e-6):
    h *= max(1.0, abs(x))
    up, down = phi(place, h), phi(place, -h)
    return (up - down) / (2 * h), np.finfo(float).eps * max(1.0, abs(up)) / h


def richardson(phi, place, x, h=2e-2, levels=6):
    """The entry of Richardson's triangle that its neighbours confirm best, and how far they are from it."""
    h *= max(1.0, abs(x))
    best, uncertainty, before = None, np.inf, []
    for _ in range(levels):
        row = [(phi(place, h) - phi(place, -h)) / (2 * h)]
        for k, coarse in enumerate(before, start=1):
            row.append(row[-1] + (row[-1] - coarse) / (4**k - 1))  # cancels the term in h^2k
            distance = max(abs(row[k] - row[k - 1]), abs(row[k] - coarse))
            if distance < uncertainty:
                best, uncertainty = row[k], distance
        before, h = row, h / 2
    return best if best is not None else row[0], uncertainty


def complex_step(phi, place, x, h=1e-30):
    return phi(place, 1j * h).imag / h, np.finfo(float).eps


DERIVATIVES = {"central": central, "richardson": richardson, "complex": complex_step}


def hessian_vector_product(f, x, v, h=1e-30):
    """∂²f/∂x² v of a function of one tensor to one number, exact to rounding.

    The backward pass computes g(x) = ∂f/∂x by analytic formulas; run on x + ihv it gives g + ih Hv, so Hv = Im g / h.
    Second derivatives without differentiating the backward pass. x, v: arrays of one shape; returns another.
    """
    z = Tensor(np.asarray(x, np.float64) + 1j * h * np.asarray(v, np.float64), requires_grad=True)
    f(z).backward()
    return np.zeros(z.shape) if z.grad is None else z.grad.imag / h
