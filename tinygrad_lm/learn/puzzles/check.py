"""Check a rule that you wrote, and show the smallest example on which it is wrong

FILE is what `exercise` wrote, or any Python file with a rule that has the name of an operation: a function of arrays
that returns its value and `backward`. Exit status: 0 right, 1 wrong, 2 nothing to check.
"""

import ast
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path

import numpy as np

from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, DataError, GradientError, TinygradError
from tinygrad_lm.learn.puzzles.compare import compare
from tinygrad_lm.learn.puzzles.examples import EXAMPLES, cotangent, listed
from tinygrad_lm.learn.puzzles.laws import broken_laws


def add_arguments(parser):
    parser.add_argument("file", metavar="FILE", help="a Python file with your rule")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the rule to check [all in the file]")


def check_file(args):
    """Check the rules of the learner's file. Returns the exit status."""
    path = Path(args.file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"check: cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = load_rules(path)
    except GradientError as error:
        print(f"WRONG: {error}")
        return 1
    if args.name and args.name not in found:
        raise ConfigError(f"check: {path} defines no rule {args.name!r}; found {', '.join(found)}")
    status = 0
    for name, rule in found.items() if args.name is None else [(args.name, found[args.name])]:
        try:
            check_filled_in(path, text, name)
            count = check_rule(rule, name, path)
            ours = Path(inspect.getsourcefile(inspect.unwrap(Op.registry[name].rule)))
            print(f"PASSED: {name} is right on all {count} examples, in float64 and in float32.")
            print(f"        Ours is in tinygrad_lm/{ours.parent.name}/{ours.name}.")
        except GradientError as error:
            print(f"WRONG: {error}")
            status = 1
    return status


# ---- the learner's file


def load_rules(path):
    """{operation: function}: the functions of the file that have an operation's name."""
    spec = importlib.util.spec_from_file_location(f"exercise_{path.stem}", path)
    if spec is None:
        raise ConfigError(f"check: {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    registry, cached = dict(Op.registry), sys.dont_write_bytecode
    sys.dont_write_bytecode = (
        True  # the cache knows seconds only: a file saved twice in one second would stay the older one
    )
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = f"\n    {error.text.strip()}" if error.text else ""
        raise GradientError(f"{path}, line {error.lineno}: {error.msg}{line}") from None
    except (Exception, SystemExit) as error:
        raise GradientError(explained(error, path)) from None
    finally:
        sys.dont_write_bytecode = cached
        Op.registry.clear()  # `@op` in the file must not replace the operation that it is compared with
        Op.registry.update(registry)
    functions = {name: getattr(x, "rule", x) for name, x in vars(module).items() if name in EXAMPLES}
    own = {name: f for name, f in functions.items() if inspect.isfunction(f) and f.__module__ == module.__name__}
    if not own:
        raise ConfigError(
            f"check: {path} defines no function with the name of an operation\n"
            f"  expected one of {', '.join(sorted(EXAMPLES))}"
        )
    return own


def check_filled_in(path, text, name):
    """Raise GradientError if the body of `backward` is still what `exercise` wrote, or does nothing."""
    for rule in ast.walk(ast.parse(text)):
        if isinstance(rule, ast.FunctionDef) and rule.name == name:
            for node in ast.walk(rule):
                if isinstance(node, ast.FunctionDef) and all(map(does_nothing, node.body)):
                    line, body = node.body[-1].lineno, ast.unparse(node.body[-1])
                    raise GradientError(f"{path}, line {line}: still `{body}`: fill in the body of {node.name}")


def does_nothing(statement):
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def explained(error, path):
    """What went wrong in the learner's code, and on which line of it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()]
    kind = type(error).__name__
    message = str(error) or "(no message)"
    if "read-only" in message:
        message += (
            "\n  hint : other functions use dy and the inputs, too: `dx = dx * 2` makes a new array, `dx *= 2` does not"
        )
    if not frames:
        return f"{path}: {kind}: {message}"
    last = frames[-1]
    return f"{path}, line {last.lineno}, in {last.name}: {kind}: {message}\n    {last.line}"


# ---- the learner's rule


def check_rule(rule, name, path):
    """Return the number of examples on which the rule is right. Raises GradientError on the smallest one where not."""
    examples = [example for example in EXAMPLES[name] if can_take(rule, example)]
    if not examples:
        expected = f"{name}{inspect.signature(Op.registry[name].rule)}"
        where = f"{path}, line {rule.__code__.co_firstlineno}"
        raise GradientError(
            f"{where}: {name}{inspect.signature(rule)} cannot be called as the operation is: {expected}"
        )
    for dtype in ("float64", "float32"):
        for example in examples:
            with np.errstate(all="ignore"):
                try:
                    differences = compare(rule, name, example, dtype=dtype)
                    laws = broken_laws(rule, name, example) if differences else []
                except TinygradError as error:
                    where = f"{path}, line {rule.__code__.co_firstlineno}, {name}"
                    raise GradientError(f"{where}: {error}\n\n{smallest(dtype)}\n{listed(name, example)}") from None
                except (Exception, SystemExit) as error:
                    raise GradientError(
                        f"{explained(error, path)}\n\n{smallest(dtype)}\n{listed(name, example)}"
                    ) from None
            if differences:
                raise GradientError(f"{path}, {report(rule, name, example, dtype, differences, laws)}")
    return len(examples)


def can_take(rule, example):
    """Whether the rule takes these inputs and options: one without a weight, or without dropout, is checked without."""
    try:
        inspect.signature(rule).bind(*example.inputs, **example.options)
    except TypeError:
        return False
    return True


def report(rule, name, example, dtype, differences, laws):
    y = np.asarray(rule(*example.inputs, **example.options)[0])
    what = " and ".join(d.what for d in differences)
    lines = [f"{name}: {what} {'is' if len(differences) == 1 else 'are'} not right\n"]
    lines += [f"{smallest(dtype)}\n{listed(name, example, y=y, dy=cotangent(y.shape))}"]
    lines += ["\n" + difference.table() for difference in differences]
    return "\n".join(lines + [""] * bool(laws) + laws)


def smallest(dtype):
    return f"The smallest example that shows it, in {dtype}:"
