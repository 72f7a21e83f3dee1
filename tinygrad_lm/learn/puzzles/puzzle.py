"""Find the mistake in a rule that looks right: its source, and the smallest example on which it is wrong

With no NAME the puzzles are listed, the easy ones first.
"""

import ast
import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, TinygradError
from tinygrad_lm.learn.puzzles.compare import Difference, compare, names
from tinygrad_lm.learn.puzzles.examples import EXAMPLES, Example, cotangent
from tinygrad_lm.learn.puzzles.laws import broken_laws
from tinygrad_lm.learn.puzzles.puzzles import PUZZLES
from tinygrad_lm.learn.puzzles.words import given, table


def add_arguments(parser):
    parser.add_argument("name", nargs="*", metavar="NAME", help="a puzzle, such as: softmax 2")
    parser.add_argument("--hint", action="store_true", help="where to look, and a law that is broken")
    parser.add_argument("--answer", action="store_true", help="the mistake, and the right way back")


def run(args):
    if not args.name:
        print(listing())
        return 0
    bug = puzzle(" ".join(args.name))
    symptom = find(bug.rule, bug.operation)
    print(question(bug, symptom))
    if args.hint:
        print("\n" + hint(bug, symptom))
    if args.answer:
        print("\n" + answer(bug, symptom))
    if not args.hint and not args.answer:
        print("\nWhat is wrong? --hint helps, --answer tells.")
    return 0


def puzzle(name):
    if name in PUZZLES:
        return PUZZLES[name]
    several = [other for other in PUZZLES if other.split()[0] == name.split()[0]]
    if several:
        raise ConfigError(f"bug: there is no puzzle {name!r}; of this operation there are: {', '.join(several)}")
    raise ConfigError(f"bug: there is no puzzle {name!r}; without a name all are listed")


# ---- the smallest example


@dataclass
class Symptom:
    """The smallest example on which a rule is wrong, and how."""

    example: Example
    dy: np.ndarray
    y: np.ndarray
    differences: list[Difference]
    smaller: int  # how many examples of fewer numbers it is right on
    with_ones: list[Difference]  # what is wrong if dy is 1 everywhere

    @property
    def level(self):
        """1 to 3: one more if smaller examples do not show it, one more if a careless check would not notice."""
        return 1 + bool(self.smaller) + bool(not self.with_ones or self.slight or self.in_value_alone)

    @property
    def slight(self):
        """Within the tolerance of a loose check."""
        return all(abs(d.found - d.right).max() <= 1e-3 * max(1.0, abs(d.right).max()) for d in self.differences)

    @property
    def in_value_alone(self):
        return all(d.what == "y" for d in self.differences)


def find(rule, operation):
    """The Symptom of a rule that has one. Examples on which it cannot be run show less, and are passed over."""
    right = []
    with np.errstate(all="ignore"):
        for example in EXAMPLES[operation]:
            try:
                differences = compare(rule, operation, example)
            except (TinygradError, ValueError):
                continue
            if differences:
                y = np.asarray(rule(*example.inputs, **example.options)[0])
                smaller = sum(other.size < example.size for other in right)
                with_ones = compare(rule, operation, example, dy=np.ones(y.shape))
                return Symptom(example, cotangent(y.shape), y, differences, smaller, with_ones)
            right.append(example)
    raise AssertionError(f"no example shows what is wrong with {rule.__name__}")


# ---- in words


def listing():
    """Every puzzle: what it should compute and how hard it is, not what is wrong."""
    found = {name: find(bug.rule, bug.operation) for name, bug in PUZZLES.items()}
    lines = ["Each of these rules has one mistake, in its gradient or its value. Find it.\n"]
    for name in sorted(found, key=lambda name: (found[name].level, found[name].example.size)):
        level = found[name].level
        lines.append(f"  {'●' * level + '○' * (3 - level)}  {name:<15}  {forward(PUZZLES[name].operation)}")
    lines.append(
        "\n●○○ any check shows it   ●●○ small examples hide it, or careless checks do   ●●● both\n"
        "python -m tinygrad_lm.learn bug NAME [--hint] [--answer]"
    )
    return "\n".join(lines)


def forward(operation):
    """The first half of the operation's formula."""
    return Op.registry[operation].formula.split("        ")[0].strip()


def question(bug, symptom):
    right = list(helpers(bug))
    lines = [source(bug), *[""] * bool(right), *right, "\nThe smallest example on which it is wrong:\n"]
    lines.append(given(bug.rule, symptom.example, y=symptom.y, dy=symptom.dy))
    for difference in symptom.differences:
        lines += ["", table(difference)]
    said = list(lessons(symptom))
    return "\n".join([*lines, *[""] * bool(said), *said])


def helpers(bug):
    """What the rule calls that stands beside it in its file, and is right."""
    called = [node.func.id for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(bug.rule))))
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]  # fmt: skip
    for name in dict.fromkeys(called):
        function = bug.rule.__globals__.get(name)
        if function and function.__module__.startswith("tinygrad_lm.") and name != "bug_of":
            yield f"# {name}, which is right: {inspect.getdoc(function).splitlines()[0]}"


def lessons(symptom):
    """What would not have noticed."""
    if symptom.in_value_alone:
        yield "Its gradient is that of its own, wrong value: no gradient check notices, only an independent value does."
    elif not symptom.with_ones:
        yield "With dy = 1 everywhere, as under .sum(), it is right: a check with that loss lets it pass."
    if symptom.slight:
        yield "It is off by less than a thousandth: a check with that tolerance lets it pass."
    if symptom.smaller:
        yield f"On {symptom.smaller} smaller example{'s' * (symptom.smaller > 1)} it is right."


def hint(bug, symptom):
    wrong = [d.what for d in symptom.differences]
    given = names(bug.rule, symptom.example.inputs)
    right = [f"d{name}" for name, x in zip(given, symptom.example.inputs, strict=True)
             if is_floating(x.dtype) and f"d{name}" not in wrong]  # fmt: skip
    first = f"Hint: wrong here: {', '.join(wrong)}" + (f"; right: {', '.join(right)}." if right else ".")
    return "\n".join([first, *broken_laws(bug.rule, bug.operation, symptom.example), bug.hint])


def answer(bug, symptom):
    op, example = Op.registry[bug.operation], symptom.example
    backward = op.rule(*example.inputs, **example.options)[1]
    lines, number = inspect.getsourcelines(backward)
    path = Path(inspect.getsourcefile(backward))
    code = textwrap.indent(textwrap.dedent("".join(lines)), "    ").rstrip()
    return (
        f"Answer: {bug.title}. {inspect.getdoc(bug.rule)}\n\n"
        f"  right: {op.formula}\n  tinygrad_lm/{path.parent.name}/{path.name}, line {number}:\n\n{code}"
    )


def source(bug):
    """The rule as the operation's, with the formula of its value for a docstring: neither may say what is wrong."""
    text = textwrap.dedent(inspect.getsource(bug.rule))
    function = ast.parse(text).body[0]
    lines, doc = text.splitlines(), function.body[0]
    indent = " " * doc.col_offset
    kept = [
        *lines[function.lineno - 1 : doc.lineno - 1],
        f'{indent}"""{forward(bug.operation)}"""',
        *lines[doc.end_lineno :],
    ]
    return "\n".join(kept).replace(f"def {bug.rule.__name__}(", f"def {bug.operation}(", 1)
