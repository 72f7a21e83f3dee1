"""Find the mistake in a rule that looks right: its source, and the smallest example on which it is wrong

Without a NAME the puzzles are listed, the easy ones first.
"""

import difflib
import inspect
from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, TinygradError
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.learn.puzzles.bugs import PUZZLES
from tinygrad_lm.learn.puzzles.compare import Difference, compare
from tinygrad_lm.learn.puzzles.estimator_bugs import ESTIMATOR_PUZZLES, EstimatorBug
from tinygrad_lm.learn.puzzles.examples import EXAMPLES, Example, cotangent, listed
from tinygrad_lm.learn.puzzles.laws import broken_laws
from tinygrad_lm.learn.puzzles.patch import called_names


def add_arguments(parser):
    parser.add_argument("name", nargs="*", metavar="NAME", help="a puzzle, such as: softmax 2")
    parser.add_argument("--hint", action="store_true", help="where to look, and a law that is broken")
    parser.add_argument("--answer", action="store_true", help="the mistake, and the right rule's lines")


def show_puzzle(args):
    """Print a puzzle, or the list of all. Returns the exit status."""
    if not args.name:
        print(listing())
        return 0
    bug = find_puzzle(" ".join(args.name))
    if isinstance(bug, EstimatorBug):
        asked, hinted = bug.question(), f"Hint: {bug.broken_law()}\n{bug.hint}"
    else:
        symptom = find_symptom(bug.rule, bug.operation)
        asked, hinted = question(bug, symptom), hint(bug, symptom)
    print(asked)
    if args.hint:
        print("\n" + hinted)
    if args.answer:
        print("\n" + answer(bug))
    if not args.hint and not args.answer:
        print("\nWhat is wrong? --hint says where to look, --answer shows the mistake.")
    return 0


def find_puzzle(name):
    puzzles = PUZZLES | ESTIMATOR_PUZZLES
    if name in puzzles:
        return puzzles[name]
    several = [other for other in puzzles if other.split()[0] == name.split()[0]]
    if several:
        raise ConfigError(f"bug: unknown puzzle {name!r}; this function's puzzles are {', '.join(several)}")
    raise ConfigError(f"bug: unknown puzzle {name!r}; without a name all puzzles are listed")


# ---- the smallest example


@dataclass
class Symptom:
    """The smallest example on which a rule is wrong, and how."""

    example: Example
    dy: np.ndarray
    y: np.ndarray
    differences: list[Difference]
    smaller: int  # number of smaller examples on which the rule is right
    with_ones: list[Difference]  # the differences if dy is 1 everywhere

    @property
    def level(self):
        """1 to 3: one more if smaller examples do not show it, one more if a careless check would not notice."""
        return 1 + bool(self.smaller) + bool(not self.with_ones or self.slight or self.in_value_alone)

    @property
    def slight(self):
        """Whether a loose check's tolerance covers it."""
        return all(abs(d.found - d.right).max() <= 1e-3 * max(1.0, abs(d.right).max()) for d in self.differences)

    @property
    def in_value_alone(self):
        return all(d.what == "y" for d in self.differences)


def find_symptom(rule, operation):
    """The Symptom of a wrong rule. Examples on which it cannot be run show less, and are skipped."""
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
    raise AssertionError(f"no example shows what is wrong with this rule of {operation}")


# ---- in words


def listing():
    """Every puzzle: what it should compute and how hard it is, not what is wrong."""
    found = {name: find_symptom(bug.rule, bug.operation) for name, bug in PUZZLES.items()}
    lines = ["Each of these rules has one mistake, in its gradient or its value. Find it.\n"]
    for name in sorted(found, key=lambda name: (found[name].level, found[name].example.size)):
        level, op = found[name].level, Op.registry[PUZZLES[name].operation]
        lines.append(f"  {'●' * level + '○' * (3 - level)}  {name:<15}  {halves(op)[0]}")
    lines.append(
        "\n●○○ any check shows it   ●●○ small examples or careless checks do not show it   ●●● neither does\n\n"
        "What trains after pretraining (lessons 13 and 14); here no gradient check notices anything:\n"
    )
    for name, bug in ESTIMATOR_PUZZLES.items():
        lines.append(f"  {name:<18}  {bug.estimator.purpose.partition(': ')[2]}")  # less the shapes
    lines.append("\npython -m tinygrad_lm.learn bug NAME [--hint] [--answer]")
    return "\n".join(lines)


def question(bug, symptom):
    """The wrong rule, the example that shows it, and which checks would not have noticed."""
    right = list(right_functions(bug))
    lines = [bug.source, *[""] * bool(right), *right, "\nThe smallest example on which it is wrong:\n"]
    lines.append(listed(bug.operation, symptom.example, y=symptom.y, dy=symptom.dy))
    for difference in symptom.differences:
        lines += ["", difference.table()]
    blind = list(blind_checks(symptom))
    return "\n".join([*lines, *[""] * bool(blind), *blind])


def right_functions(bug):
    """A comment for each of this package's functions that the rule calls and whose source is not shown."""
    for name in called_names(bug.source):
        function = bug.rule.__globals__.get(name)
        ours = inspect.isfunction(function) and function.__module__.startswith("tinygrad_lm.")
        if ours and f"def {name}(" not in bug.source:
            yield f"# {name} is right: {inspect.getdoc(function).splitlines()[0]}"


def blind_checks(symptom):
    """A sentence for each way of checking that would not have noticed."""
    if symptom.in_value_alone:
        yield "Its gradient fits its own, wrong value: no gradient check notices, only an independent value does."
    elif not symptom.with_ones:
        yield "With dy = 1 everywhere, as under .sum(), it is right: a check with that loss lets it pass."
    if symptom.slight:
        yield "It is off by less than a thousandth: a check with that tolerance lets it pass."
    if symptom.smaller:
        yield f"On {symptom.smaller} smaller example{'s' * (symptom.smaller > 1)} it is right."


def hint(bug, symptom):
    """Which gradients are wrong, the laws that they break, and where to look."""
    wrong = [d.what for d in symptom.differences]
    inputs = symptom.example.inputs
    names = Op.registry[bug.operation].input_names(len(inputs))
    right = [f"d{name}" for name, x in zip(names, inputs, strict=True)
             if is_floating(x.dtype) and f"d{name}" not in wrong]  # fmt: skip
    first = f"Hint: wrong here: {', '.join(wrong)}" + (f"; right: {', '.join(right)}." if right else ".")
    return "\n".join([first, *broken_laws(bug.rule, bug.operation, symptom.example), bug.hint])


def answer(bug):
    """The mistake, and the lines to change: - as they are, + as they should be."""
    path, number = bug.original.__module__.replace(".", "/"), inspect.getsourcelines(bug.original)[1]
    wrong, right = bug.source.splitlines(), bug.right_source.splitlines()
    _, _, *diff = difflib.unified_diff(wrong, right, n=0, lineterm="")  # less the file names
    formula = inspect.getdoc(bug.original).splitlines()[0]
    return f"Answer: {bug.title}. {bug.reason}\n\n  right: {formula}\n  {path}.py, line {number}:\n\n" + "\n".join(
        f"    {line[0]} {line[1:]}".rstrip() for line in diff if not line.startswith("@@")
    )
