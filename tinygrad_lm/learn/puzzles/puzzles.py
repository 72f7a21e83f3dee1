"""All bugs by names that do not give them away: "softmax 1", "softmax 2"; "log" where there is one."""

from tinygrad_lm.learn.puzzles import (  # noqa: F401  they register
    bugs_attention,
    bugs_elementwise,
    bugs_model,
    bugs_shape,
)
from tinygrad_lm.learn.puzzles.bugs import BUGS


def numbered(bugs):
    operations = [bug.operation for bug in bugs]
    named = {}
    for i, bug in enumerate(bugs):
        alone = operations.count(bug.operation) == 1
        named[bug.operation if alone else f"{bug.operation} {operations[: i + 1].count(bug.operation)}"] = bug
    return named


PUZZLES = numbered(BUGS)
