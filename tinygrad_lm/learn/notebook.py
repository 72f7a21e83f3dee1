"""Show a model in a notebook, or at IPython's prompt, as the tree of its parts with shapes and counts.

    %load_ext tinygrad_lm.learn.notebook
    model                                                       # elsewhere: print(tree(model))

Without it a model is shown as `print(model)` shows it: names and shapes of its parameters, in one list. A ledger needs
none of this: it shows its page, folded.
"""

import html
from itertools import groupby

from tinygrad_lm.nn.module import Module
from tinygrad_lm.tables import aligned


def load_ipython_extension(shell):
    """Register how modules are shown: what %load_ext calls."""
    formatters = shell.display_formatter.formatters
    formatters["text/plain"].for_type(Module, lambda model, printer, cycle: printer.text(tree(model)))
    formatters["text/html"].for_type(Module, folded_tree)


def tree(model):
    """The parts of a module that have parameters, as text: their types, the shapes of their parameters, and how many
    numbers these are. Equal neighbours in a list are one entry, below which the counts are those of one."""
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    found = rows("", kinds[""], dict(model.named_parameters()), kinds, 0)
    return "\n".join(aligned([["", "shapes", "parameters"], *found]))


def folded_tree(model):
    """The tree as HTML, below its first line."""
    head = f"{type(model).__name__}: {count(dict(model.named_parameters())):,} parameters"
    summary = f"<summary style='cursor: pointer'>{html.escape(head)}</summary>"
    return f"<details>{summary}<pre style='font-family: monospace'>{html.escape(tree(model))}</pre></details>"


def rows(name, title, parameters, kinds, depth):
    """The row of a module, [title, shapes, count], and those of the parts below it.

    name: of the module; parameters: {name below it: Parameter}; kinds: {name: type} of all modules
    """
    yield ["  " * depth + title, shapes(parameters), f"{count(parameters):,}"]
    for part, inside in children(parameters):
        yield from part_rows(f"{name}.{part}".strip("."), part, inside, kinds, depth + 1)


def part_rows(name, title, parameters, kinds, depth):
    """The rows of a part that is a module, or of what is in a list or dict."""
    if name in kinds:
        yield from rows(name, f"{title}: {kinds[name]}", parameters, kinds, depth)
        return
    if own := {part: p for part, p in parameters.items() if "." not in part}:
        yield ["  " * depth + title, shapes(own), f"{count(own):,}"]
    for _, equal in groupby(children(parameters), key=lambda child: signature(f"{name}.{child[0]}", child[1], kinds)):
        (first, inside), *others = equal
        if not others:
            yield from part_rows(f"{name}.{first}", f"{title}.{first}", inside, kinds, depth)
            continue
        number, one = len(others) + 1, count(inside)
        title_of_all = f"{title}.{first} … {title}.{others[-1][0]}: {number} × {kinds.get(f'{name}.{first}', 'list')}"
        yield ["  " * depth + title_of_all, f"{number} × {one:,}", f"{number * one:,}"]
        _, *below = part_rows(f"{name}.{first}", "", inside, kinds, depth)
        yield from below if children(inside) else [["  " * (depth + 1) + "each", shapes(inside), f"{one:,}"]]


def shapes(parameters):
    """The shapes of a part's own parameters."""
    own = {name: p for name, p in parameters.items() if "." not in name}
    return ", ".join(f"{name} {p.shape}" + " frozen" * (not p.requires_grad) for name, p in own.items())


def children(parameters):
    """(part, {name below it: Parameter}) for each part that these names begin with."""
    inside = {}
    for name, p in parameters.items():
        part, dot, below = name.partition(".")
        if dot:
            inside.setdefault(part, {})[below] = p
    return inside.items()


def signature(name, parameters, kinds):
    """What equal neighbours have in common."""
    return kinds.get(name), [(below, p.shape, p.requires_grad) for below, p in parameters.items()]


def count(parameters):
    return sum(p.size for p in parameters.values())
