"""The ledger as text: one entry a step, then what has arrived at the leaves.

A small array is written in numbers, a larger one as its shape, norm, extremes, mean and histogram.
"""

import numpy as np

ENTRIES, COLUMNS = 16, 8  # an array of more is written as its statistics
JACOBIAN = 64  # a local derivative of more entries is not written
WIDTH = 110
BARS = " ▁▂▃▄▅▆▇█"


def ledger_text(ledger):
    """A whole Ledger as text."""
    labels = {one.number: reference(one) for one in (*ledger.steps, *ledger.leaves)}
    shown = {input.number for step in ledger.steps for input in step.inputs if input.contribution}
    leaves = [leaf for leaf in ledger.leaves if leaf.number in shown or not ledger.of]
    parts = [heading(ledger), *(entry(step, labels) for step in ledger.steps)]
    if leaves:
        parts.append("what arrived at the leaves\n" + fields([arrived(ledger, leaf) for leaf in leaves]))
    return "\n\n".join(parts)


def heading(ledger):
    """How much there is, and where it begins."""
    count = f"{ledger.of} step" + "s" * (ledger.of != 1)
    if len(ledger.steps) < ledger.of:
        count = f"{len(ledger.steps)} of {count}"
    last = next((step for step in ledger.steps if step.number == ledger.root), None)
    loss = f" of {last.label} = {show(last.value)}" if last and last.value else ""
    held = f"; besides the leaves the graph held {size(ledger.steps[0].held_before)}" if ledger.steps else ""
    return f"backward pass{loss}: {count}, youngest first{held}"


def entry(step, labels):
    """One step: what it is, its formula, and what it did."""
    options = ", ".join(f"{name}={text}" for name, text in step.options.items())
    title = (f"#{step.number}", step.op + f"({options})" * bool(options), step.label, f"{step.shape} {step.dtype}")
    lines = ["  ".join(filter(None, title))]
    if step.source:
        lines.append(f"    {cut(f'{step.source.place}  {step.source.text}')}")
    if step.inside:
        lines.append(f"    recomputed for {labels.get(step.inside, f'#{step.inside}')}")
    lines.append(f"    {step.forward}        {step.backward}".rstrip())
    rows = [
        ("saved", ",  ".join(f"{name} {x.shape} {size(x.bytes)}" for name, x in step.saved.items()) or "no array"),
        ("held", f"{size(step.held_before)}, then {size(step.held_after)}"),
        *([("y", show(step.value))] if step.value else []),
        ("dy", show(step.incoming)),
    ]
    for input in step.inputs:
        if input.contribution:
            if input.local is not None and input.local.size <= JACOBIAN:
                rows.append((f"∂y/∂{input.name}", derivative(input.local, step.incoming.size)))
            rows.append((f"d{input.name} → {labels.get(input.number, f'#{input.number}')}", show(input.contribution)))
            if input.before and input.before.norm:  # gradients of parameters start as zeros
                rows.append(("  += there", running(input)))
    return "\n".join([*lines, fields(rows)])


def arrived(ledger, leaf):
    """A leaf's row: who added to its gradient, and the gradient."""
    steps = ", ".join(f"#{step.number}" for step, _ in ledger.uses(leaf.number))
    return f"{reference(leaf)} ← {steps}" if steps else reference(leaf), show(leaf.grad) if leaf.grad else "nothing"


def reference(one):
    """'#4 h' of a step or leaf; an unnamed step goes by its operation."""
    return f"#{one.number} {one.label or getattr(one, 'op', '')}".rstrip()


def cut(line):
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def fields(rows):
    """Rows of a name and a text, the texts below each other; a text may have several lines."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"    {name:<{width}}" + text.replace("\n", "\n" + " " * (width + 4)) for name, text in rows)


def running(input):
    """What was there + what came = what is there now."""
    before, came, after = show(input.before), show(input.contribution), show(input.after)
    line = f"{before} + {came} = {after}"
    return line if "\n" not in line and len(line) <= WIDTH else after


def show(x):
    """A Snapshot: its numbers if they are few, otherwise its statistics in one line."""
    if x.array is not None and x.size <= ENTRIES and len(x.shape) <= 2 and x.shape[-1:] <= (COLUMNS,):
        return numbers(x.array)
    line = f"{x.shape}  norm {x.norm:.4g}  from {x.low:.4g} to {x.high:.4g}  mean {x.mean:.4g}  ▕{bars(x.histogram)}▏"
    return line + f"  {x.wild} not finite" * bool(x.wild)


def numbers(x):
    return f"{x:.6g}" if not x.ndim else np.array2string(x, precision=4, max_line_width=WIDTH)


def bars(histogram):
    """Counts as bars: nothing for none, and something for each that is not."""
    most = max(histogram) or 1
    return "".join(BARS[-(-8 * count // most)] for count in histogram)


def derivative(local, rows):
    """∂y/∂x as a matrix: a row for each entry of y, a column for each of x."""
    matrix = local.reshape(rows, -1)
    if matrix.size == 1:
        return numbers(matrix[0, 0])
    diagonal = np.diagonal(matrix)
    if len(diagonal) == len(matrix) == len(matrix.T) and np.array_equal(matrix, np.diag(diagonal)):
        return "the identity" if (diagonal == 1).all() else f"diagonal {numbers(diagonal)}"
    return numbers(matrix)


def size(count):
    """Bytes for people: '96 B', '1.5 kB', '2.1 MB'."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
