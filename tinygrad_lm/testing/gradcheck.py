"""gradcheck: compare a derivative that was worked out by hand with that of what the code computes.

Three ways to differentiate a function numerically, each more exact than the one before:

central      (φ(x+h) − φ(x−h)) / 2h                   error about 1e-9: h² from above, ε/h from below
richardson   central at h, h/2, h/4, ... extrapolated  about 1e-12: the powers of h cancel one after the other
complex      Im φ(x + ih) / h with h = 1e-30           about 1e-15: nothing is subtracted, so nothing is lost

The last needs a function that is analytic at x and code that runs on complex numbers, as every rule here does
(Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions").
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lm.backend import Array, is_floating, random
from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.engine.variable import as_array
from tinygrad_lm.errors import ConfigError, DtypeError, GradientError, check_ranges
from tinygrad_lm.testing.form import differentiate, value_of
from tinygrad_lm.testing.report import Report, Row, show

TOLERANCE = {"central": 1e-6, "richardson": 1e-10, "complex": 1e-12}


def gradcheck(
    f: Callable[..., Tensor], *inputs: ArrayLike, method: str = "central", tolerance: float | None = None,
    entries: int | None = None, cotangents: int = 1, seed: int = 0, allow_unused: Iterable[int] = (),
    names: Sequence[str] | None = None, verbose: bool = True,
) -> Report:  # fmt: skip
    """Compare the gradients of f with numerical ones, entry by entry; raise GradientError where they differ.

    f             maps tensors to a tensor of any shape
    inputs        arrays, tensors or numbers; floating ones are checked in float64, integer ones passed on
    method        "central", "richardson" or "complex"
    tolerance     for |analytic − numerical| / max(1, largest gradient entry); by default what the method can resolve
    entries       check only so many entries of each input: random ones and that of the largest gradient; by default all
    cotangents    how many random combinations φ = Σ u f(x) of the outputs to differentiate, u = ±uniform(0.5, 1.5).
                  With u = 1 everywhere a wrong softmax passes: its gradient sums to 0 either way.
    allow_unused  positions of inputs that may have no influence on the result. All others must have one: where every
                  derivative is below the tolerance a gradient of zeros passes, so that nothing is proven
    names         of the inputs, for the report; by default "input 0", "input 1", ...

    Prints and returns a Report: for each input the worst entry, with both its numbers.
    """
    if method not in TOLERANCE:
        raise ConfigError(f"gradcheck: method {method!r} is unknown; expected one of {', '.join(TOLERANCE)}")
    tolerance, allowed = TOLERANCE[method] if tolerance is None else tolerance, frozenset(allow_unused)
    names = [f"input {i}" for i in range(len(inputs))] if names is None else names
    check_ranges(
        "gradcheck",
        {
            "tolerance": (tolerance, "at least 0 and below 1", 0 <= tolerance < 1),
            "entries": (entries, "at least 1, or None for all", entries is None or entries >= 1),
            "cotangents": (cotangents, "at least 1", cotangents >= 1),
            "allow_unused": (sorted(allowed), f"positions below {len(inputs)}", allowed <= set(range(len(inputs)))),
        },
    )
    arrays = [in_float64(as_array(x), name) for x, name in zip(inputs, names, strict=True)]
    floating = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    if not floating:
        raise DtypeError("gradcheck: no input is floating, so there is no gradient to check")
    report = Report(getattr(f, "__name__", "f"), method, tolerance, allowed=allowed)
    for round in range(cotangents):
        rng = random(seed, "gradcheck", round)
        u = signed(rng, value_of(f, map(Tensor, arrays)).shape)
        gradients, report.others = analytic(f, arrays, u)
        for i in floating:
            places = some_places(gradients[i], entries, rng)
            report.rows.append(compare(f, arrays, u, i, names[i], gradients[i], places, method))
    if verbose:
        show(report)
    if not report.passed:
        raise GradientError(str(report))
    return report


def in_float64(x, name):
    """A floating array in float64, others as they are."""
    if x.dtype.kind == "c":
        raise DtypeError(f"gradcheck: {name} is {x.dtype}; gradients are checked for real numbers")
    return x.astype(np.float64) if is_floating(x.dtype) else x


def signed(rng, shape):
    """Random numbers of both signs, none near zero: what an error multiplies with cannot hide it."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)


def some_places(gradient, entries, rng):
    """All indices of an array, or random ones of them; among these is that of its largest entry, so not only zeros."""
    places = list(np.ndindex(gradient.shape))
    if entries is None or entries >= len(places):
        return places
    chosen, largest = rng.choice(len(places), entries, replace=False), np.argmax(abs(gradient))
    if largest not in chosen:
        chosen[0] = largest
    return [places[j] for j in chosen]


def analytic(f, arrays, u):
    """The gradients of Σ u f by backward, zeros where none arrived; and which other leaves f was computed from."""
    tensors = [Tensor(x, requires_grad=is_floating(x.dtype)) for x in arrays]
    y, others = value_of(f, tensors), []
    if y.requires_grad:
        own = {x.node for x in tensors}
        leaves = [node for node in ancestors(y.node)[::-1] if node.op is None and node not in own]
        others = [node.name or f"a leaf of shape {node.shape}" for node in leaves]
        differentiate(y, u.astype(y.dtype))
    return [np.zeros(x.shape) if x.grad is None else x.grad for x in tensors], others


def compare(f, arrays, u, i, name, gradient, places, method):
    """The Row for input i: its analytic gradient beside numerical derivatives at the given places."""
    if not places:
        return Row(i, name, arrays[i].shape, 0)

    def phi(place, step):
        shifted = [x.astype(np.complex128) if isinstance(step, complex) and x.dtype.kind == "f" else x for x in arrays]
        shifted[i] = shifted[i].copy()
        shifted[i][place] += step
        return (u * value_of(f, map(Tensor.of, shifted)).data).sum()

    found = np.array([DERIVATIVES[method](phi, place, arrays[i][place]) for place in places])
    expected = np.array([gradient[place] for place in places])
    scale = max(1.0, abs(expected).max(), abs(found[:, 0]).max())
    errors = abs(expected - found[:, 0]) / scale
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    numerical, uncertainty = found[worst]
    return Row(
        i,
        name,
        arrays[i].shape,
        len(places),
        places[worst],
        float(expected[worst]),
        numerical,
        errors[worst],
        uncertainty / scale,
        abs(found[:, 0]).max() / scale,
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


def hessian_vector_product(f: Callable[[Tensor], Tensor], x: ArrayLike, v: ArrayLike, h: float = 1e-30) -> Array:
    """∂²f/∂x² v of a function of one tensor to one number, exact to rounding.

    The backward pass computes g(x) = ∂f/∂x by analytic formulas; run on x + ihv it gives g + ih Hv, so Hv = Im g / h.
    Second derivatives without differentiating the backward pass. x, v: arrays of one shape; returns another.
    """
    z = Tensor(np.asarray(x, np.float64) + 1j * h * np.asarray(v, np.float64), requires_grad=True)
    f(z).backward()
    return np.zeros(z.shape) if z.grad is None else z.grad.imag / h
