"""Examples and differences in words and tables, in as many digits as it takes to compute along."""

import math

import numpy as np

from tinygrad_lm.learn.puzzles.compare import names


def short(number):
    return f"{number + 0.0:.6g}"  # + 0.0: there is no −0


def shown(x):
    """An array, a number or an option."""
    if not isinstance(x, (np.ndarray, np.generic)):
        return getattr(x, "name", None) or repr(x)
    text = np.array2string(np.asarray(x), separator=", ", formatter={"float_kind": short}, max_line_width=90)
    return "\n".join(line for line in text.splitlines() if line.strip())


def given(rule, example, **more):
    """One line an input, an option, and whatever else is given by name."""
    inputs = dict(zip(names(rule, example.inputs), example.inputs, strict=True))
    named = {name: shown(x) for name, x in (inputs | example.options | more).items()}
    width = max(map(len, named))
    return "\n".join(
        f"  {name:<{width}} = " + text.replace("\n", "\n" + " " * (width + 5)) for name, text in named.items()
    )


def table(difference):
    """What it is compared with, at most eight wrong entries beside the right ones, and what they have in common."""
    places, limit, factor = difference.wrong, difference.limit, difference.factor
    beside = "what the operation computes" if difference.what == "y" else "a numerical derivative of this y"
    lines = [f"{difference.what}, beside {beside}:", f"  {'entry':<16}{'found':>14}{'right':>14}{'found / right':>16}"]
    for place in places[:8]:
        found, right = float(difference.found[place]), float(difference.right[place])
        right = 0.0 if abs(right) <= 1e-3 * limit else right  # the numerical side's own error
        ratio = found / right if right else math.inf
        entry = difference.what + (str(list(place)) if place else "")
        ratio = short(ratio) if abs(ratio) < 1000 else ""
        lines.append(f"  {entry:<16}{short(found):>14}{short(right):>14}{ratio:>16}".rstrip())
    if len(places) > 8:
        lines.append(f"  and {len(places) - 8} more")
    lines.append(f"  {len(places)} of {difference.right.size} wrong")
    if difference.missing:
        lines[-1] += "; backward gave None for it, which counts as 0"
    elif difference.transposed:
        lines[-1] += "; it is the transpose of what is right"
    elif factor is not None and 1e-9 < abs(factor) < 1000 and difference.right.size > 1:
        lines[-1] += f"; everywhere {short(factor)} times what is right"
    return "\n".join(lines)
