"""What gradcheck found: for each input the worst entry with both its numbers, and of which inputs nothing is proven."""

import sys
from dataclasses import dataclass, field


def show(report):
    """Print a report; characters that the terminal's encoding lacks become "?"."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(str(report).encode(encoding, "replace").decode(encoding))


@dataclass
class Row:
    """One input under one cotangent: its worst entry.

    error        |analytic − numerical| / max(1, largest gradient entry)
    uncertainty  what the numerical side thinks its own error is, relative as `error`
    influence    the largest numerical derivative, relative as `error`: the error that a gradient of zeros would have
    """

    input: int
    name: str
    shape: tuple
    checked: int
    place: tuple = ()
    analytic: float = 0.0
    numerical: float = 0.0
    error: float = 0.0
    uncertainty: float = 0.0
    influence: float = 0.0


@dataclass
class Report:
    """All rows of a check.

    allowed  the positions of the inputs that may have no influence
    others   descriptions of leaves, besides the inputs, that the result was computed from
    """

    name: str
    method: str
    tolerance: float
    rows: list = field(default_factory=list)
    allowed: frozenset = frozenset()
    others: list = field(default_factory=list)

    @property
    def worst(self):
        """The largest relative error; NaN if one is."""
        return max((row.error for row in self.rows), key=lambda error: (error != error, error), default=0.0)

    @property
    def unproven(self):
        """The rows of inputs for which a gradient of zeros would pass under every cotangent, and which may not."""
        seen = {row.input for row in self.rows if not row.influence <= self.tolerance}
        return [row for row in self.rows if row.input not in seen | self.allowed]

    @property
    def passed(self):
        return bool(self.rows) and not self.unproven and all(map(self.right, self.rows))

    def right(self, row):
        return row.error <= self.tolerance  # a NaN is not

    def __str__(self):
        agree, unproven = all(map(self.right, self.rows)), self.unproven
        verdict = "DIFFER" if not agree else "agree, in part ON ZEROS ONLY" if unproven else "agree"
        lines = [
            f"gradcheck {self.name}: analytic and {self.method} derivatives {verdict}, tolerance {self.tolerance:g}",
            *(self.line(row, row in unproven) for row in self.rows),
        ]
        if unproven:
            names = ", ".join(dict.fromkeys(row.name for row in unproven))
            elsewhere = (
                f"\n         the result depends on {', '.join(self.others)}, not passed in" if self.others else ""
            )
            lines.append(
                "  rule : each input has an influence on the result, or its gradient cannot be told from zeros\n"
                f"  found: no derivative above the tolerance: {names}{elsewhere}\n"
                "  hint : compute with the tensors that are passed in; gradcheck_module checks a module's parameters;\n"
                "         method='complex' resolves smaller ones; allow_unused declares inputs without an influence"
            )
        return "\n".join(lines)

    def line(self, row, unproven):
        mark = " " if self.right(row) and not unproven else "✗"
        if not row.checked:
            return f" {mark} {row.name} {row.shape}: no entries"
        return (
            f" {mark} {row.name} {row.shape}: {row.checked} entries, worst at {list(row.place)}: "
            f"analytic {row.analytic:+.15e}  numerical {row.numerical:+.15e}  "
            f"relative error {row.error:.1e} (numerical side ±{row.uncertainty:.0e})"
        )
