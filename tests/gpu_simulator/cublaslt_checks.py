"""A product of cuda/cublaslt.py against float64, with everything that `multiply` can be asked for."""

import numpy as np

from tinygrad_lm.testing import checks

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
WANTED = ["plain", "bias", "added", "added in place"]


def swapped(x):
    return x.swapaxes(-1, -2)


def first_half(xp, x):
    """x with as many columns again between its rows."""
    return xp.concatenate([x, x], -1)[..., : x.shape[-1]]


def spread(xp, x):
    wide = xp.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


# How matrices may lie on a device. What begins with "as" cuBLASLt can read without a copy.
LAYOUTS = {
    "as rows": lambda xp, x: x,
    "as columns": lambda xp, x: swapped(swapped(x).copy()),
    "as rows with gaps": first_half,
    "as columns with gaps": lambda xp, x: swapped(first_half(xp, swapped(x))),
    "as heads": lambda xp, x: x.swapaxes(0, -2).copy().swapaxes(0, -2),  # matrices between each other's rows
    "every second": spread,
    "backwards": lambda xp, x: x[..., ::-1].copy()[..., ::-1],
    "upside down": lambda xp, x: x[::-1].copy()[::-1],
    "columns upside down": lambda xp, x: swapped(swapped(x)[::-1].copy()[::-1]),
    "one row for all": lambda xp, x: xp.broadcast_to(x[..., :1, :], x.shape),
}


def drawn(xp, rng, shape, dtype, layout="as rows"):
    return LAYOUTS[layout](xp, xp.asarray(rng.standard_normal(shape).astype(dtype)))


def product(xp, multiply, rng, a, b, wanted="plain", made=None):
    """Compute a b, look at everything that comes out, and give its bytes."""
    made = a.dtype if made is None else np.dtype(made)
    shape, held = (*a.shape[:-1], b.shape[-1]), [(x, x.get().copy()) for x in (a, b)]
    options, right = {}, a.get().astype("f8") @ b.get().astype("f8")
    if wanted == "bias":
        options["bias"] = drawn(xp, rng, shape[-1:], made, "every second")
        right = right + options["bias"].get().astype("f8")
    if made != a.dtype:
        options["out"] = xp.full(shape, np.nan, made)
    if "added" in wanted:
        options["plus"] = plus = drawn(xp, rng, shape, made)
        right = right + plus.get().astype("f8")
        if wanted == "added in place":
            options["out"] = plus
        else:
            held.append((plus, plus.get().copy()))
    y = multiply(a, b, **options)
    assert y is options.get("out", y)
    assert y.dtype == made
    checks.agree(y.get().astype("f8"), right, f"the product, {wanted}", TOLERANCE[made.name])
    for x, was in held:
        assert x.get().tobytes() == was.tobytes()
    return y.get().tobytes()
