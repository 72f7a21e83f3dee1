"""Each kernel against its definition in float64 on the same numbers: how far off, the same bits again, how fast.

New arrays hold NaN beforehand, so what a kernel leaves out shows. An error is ‖found − right‖ / ‖right‖.
"""

from gpu.cases import rule_cases
from gpu.place import DTYPES
from tinygrad_lm import kernels
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.cuda import columns as cuda_columns
from tinygrad_lm.optim import adamw
from tinygrad_lm.optim.clipping import sum_of_squares

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


def items(place):
    cases = list(rule_cases(place))
    for case in cases:
        for dtype in case.dtypes:
            yield f"{case.label} {dtype}", lambda case=case, dtype=dtype: against_its_definition(place, case, dtype)
    implemented = {name for name, op in Op.registry.items() if ("cuda", "bfloat16") in op.implementations}
    for name in sorted(implemented - {case.name for case in cases}):
        yield name, lambda: {"error": "has a CUDA implementation, but gpu/cases.py has no case for it"}
    for dtype in DTYPES:
        yield f"column sums {dtype}", lambda dtype=dtype: columns(place, dtype)
    yield "adamw", lambda: one_update(place)
    yield "sum of squares", lambda: squares(place)


def against_its_definition(place, case, dtype):
    op, inputs = Op.registry[case.name], [make(dtype) for make in case.inputs]
    forward = lambda: op.run(*inputs, **case.options)
    with place.poisoned():
        y, backward = forward()
        dy = place.normal(99, y.shape, y.dtype.name)
        found, again = results(y, backward(dy)), results(forward()[0], backward(dy))
        same = all(map(place.same, found, again))
        del again
        if case.name == "attention":  # the definition has all weights of a text in memory
            texts = slice(0, 2)
            found, exact, dy_exact = [x[texts] for x in found], [x[texts] for x in inputs], dy[texts]
        else:
            exact, dy_exact = inputs, dy
    exact = [x if x.dtype.kind in "iu" else x.astype("f8") for x in exact]
    expected = by_definition(op.rule, exact, case.options, dy_exact.astype("f8"))
    errors = [relative(x, e) for x, e in zip(found, expected, strict=True)]
    del exact, expected, found
    times = place.seconds(forward), place.seconds(lambda: results(y, backward(dy)))
    result = {"errors": errors, "same again": same, "forward us": times[0] * 1e6, "backward us": times[1] * 1e6}
    if any(case.moved):
        size = DTYPES[dtype].itemsize / 1e9
        result |= {"GB/s": case.moved[0] * size / times[0], "back GB/s": case.moved[1] * size / times[1]}
    else:
        result |= {"TFLOP/s": case.flops[0] / 1e12 / times[0], "back TFLOP/s": case.flops[1] / 1e12 / times[1]}
    return judged(result, errors, TOLERANCE[dtype], same)


def by_definition(rule, inputs, options, dy):
    """Value and gradients as the engine completes them; a mask is drawn by its definition, too."""
    with kernels.disabled():
        y, backward = rule(*inputs, **options)
        pairs = zip(backward(dy), inputs, strict=True)
        return [y] + [unbroadcast(dx() if callable(dx) else dx, x.shape) for dx, x in pairs if dx is not None]


def results(y, gradients):
    """A kernel's value and gradients, those computed that are still functions."""
    return [y] + [dx() if callable(dx) else dx for dx in gradients if dx is not None]


def relative(found, right):
    found, right = found.astype("f8"), right.astype("f8")
    off, size = float(((found - right) ** 2).sum()), float((right**2).sum())
    return (off / size) ** 0.5 if size else off**0.5


def judged(result, errors, tolerance, same=True):
    """The same, with what is wrong about it. A NaN is within no tolerance."""
    beyond = [error for error in errors if not error < tolerance]
    wrong = [f"off by {beyond[:4]}, {tolerance} allowed"] if beyond else []
    wrong += [] if same else ["other bits the second time"]
    return {"error": "; ".join(wrong), **result} if wrong else result


def columns(place, dtype):
    """A bias's gradient."""
    shape = (50, 40) if place.tiny else (65536, 3072)
    x = place.normal(0, shape, dtype)
    with place.poisoned():
        found, again = (cuda_columns.column_sums(x) for _ in "ab")
    errors = [relative(found, x.astype("f8").sum(0))]
    took = place.seconds(lambda: cuda_columns.column_sums(x))
    result = {"errors": errors, "us": took * 1e6, "GB/s": x.nbytes / 1e9 / took}
    return judged(result, errors, TOLERANCE[dtype], place.same(found, again))


def one_update(place):
    n = 1000 if place.tiny else 124_000_000
    w, g, m = (place.normal(seed, (n,)) for seed in range(3))
    v = m * m
    rates = 1e-3, 0.9, 0.99, 0.1, 0.01, 1e-8, 0.1
    right = [x.astype("f8") for x in (w, g, m, v)]
    adamw.update.definition(*right, *rates)
    update = lambda: adamw.update(w, g, m, v, *rates)
    update()
    errors = [relative(x, e) for x, e in zip((w, m, v), (right[0], *right[2:]), strict=True)]
    took = place.seconds(update)
    return judged({"errors": errors, "us": took * 1e6, "GB/s": 28 * n / 1e9 / took}, errors, 1e-5)


def squares(place):
    n = 1000 if place.tiny else 124_000_000
    g = place.normal(0, (n,))
    with place.poisoned():
        found, again = sum_of_squares(g), sum_of_squares(g)
    errors = [relative(found, (g.astype("f8") ** 2).sum())]
    took = place.seconds(lambda: sum_of_squares(g))
    result = {"errors": errors, "us": took * 1e6, "GB/s": 4 * n / 1e9 / took}
    return judged(result, errors, 1e-5, place.same(found, again))
