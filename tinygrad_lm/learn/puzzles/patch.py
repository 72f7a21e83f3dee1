"""A planted bug: the rule of an operation with one edit.

Only the edit is stored; the wrong rule is made from the right rule's source. A fragment that is not found there exactly
once is an error, so a bug cannot fall behind the rule that it belongs to.
"""

import ast
import importlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

from tinygrad_lm.engine.op import Op
from tinygrad_lm.learn.formula import halves


@dataclass(frozen=True)
class Bug:
    """A mistake in an operation's rule.

    mistake  what is wrong, to be read after the operation's name
    edits    {fragment of the rule's source: what it is replaced with}; two entries where two lines belong together
    hint     where to look
    reason   why it is wrong, or why it looks right
    """

    operation: str
    mistake: str
    edits: dict[str, str]
    hint: str
    reason: str

    @property
    def title(self):
        return f"{self.operation.replace('_', ' ')} {self.mistake}"

    @property
    def original(self):
        """The right function."""
        return inspect.unwrap(Op.registry[self.operation].rule)

    @property
    def right_source(self):
        return rule_source(self.operation)

    @cached_property
    def source(self):
        """The wrong rule's source. Raises ValueError if a fragment does not occur exactly once in the right one."""
        source = self.right_source
        for right, wrong in self.edits.items():
            if source.count(right) != 1:
                raise ValueError(
                    f"{self.title}: {right!r} occurs {source.count(right)} times, not once, in\n\n{source}"
                )
            source = source.replace(right, wrong)
        return source

    @cached_property
    def rule(self) -> Callable:
        """The wrong rule. It is compiled among the names of the right one's module."""
        return function_from_source(self.original, self.source)


def rule_source(operation):
    """The source of an operation's rule, less what would give a bug away: comments, and all but the value's formula.

    If the gradient function is built by another function of the same file, that function's source stands in front.
    """
    op = Op.registry[operation]
    sources = [function_source(function) for function in called(op) if "def backward" in inspect.getsource(function)]
    return "\n\n\n".join([*sources, function_source(op.rule, halves(op)[0])])


def called(op):
    """The functions that the rule calls and that stand in its file."""
    rule = inspect.unwrap(op.rule)
    for name in called_names(inspect.getsource(rule)):
        function = rule.__globals__.get(name)
        if inspect.isfunction(function) and function.__module__ == rule.__module__:
            yield function


def called_names(source):
    """The names of the functions called in a source, each once, methods not among them."""
    calls = [node.func for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.Call)]
    return list(dict.fromkeys(function.id for function in calls if isinstance(function, ast.Name)))


def function_source(function, doc=None):
    """A function's source without decorators and comments; doc: a line in place of its docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() or None
    if doc is not None:
        first = node.body[0]
        lines[first.lineno - 1 : first.end_lineno] = [f'{" " * first.col_offset}"""{doc}"""']
    return "\n".join(line for line in lines[node.lineno - 1 :] if line is not None)


class SourceInMemory(InspectLoader):
    """An importer of source text that is not in a file."""

    def __init__(self, source):
        self.source = source

    def get_source(self, fullname):
        return self.source


def rule_from_source(operation, source):
    """The function of the operation's name that a source defines, run in a copy of the operation's module."""
    return function_from_source(inspect.unwrap(Op.registry[operation].rule), source)


def function_from_source(original, source):
    """The function of the original's name that a source defines, run in a copy of the original's module."""
    original_module = importlib.import_module(original.__module__)
    loader = SourceInMemory(source)
    module = module_from_spec(ModuleSpec(f"{original.__module__}.{original.__name__}", loader))
    vars(module).update({name: value for name, value in vars(original_module).items() if not name.startswith("__")})
    loader.exec_module(module)
    return getattr(module, original.__name__)
