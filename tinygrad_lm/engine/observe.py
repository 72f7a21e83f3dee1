"""What is at work in this thread, and who looks on.

Nothing in here computes. A module notes its name while it runs, for messages and for observers; an observer sees each
operation and each step of a backward pass, for ledgers and measurements. Without observers the cost is one look at an
empty list. The page is not watched.
"""

import threading
from contextlib import AbstractContextManager, contextmanager


class _Thread(threading.local):
    """recording: do operations leave nodes? modules: the names of the modules that are running, innermost last.
    products: how products round what they multiply, "" or "/bfloat16" (nn/context.py)."""

    recording, products = True, ""

    def __init__(self):
        self.modules = []


thread = _Thread()
observers: list["Observer"] = []


class Observer:
    """Sees what the engine does while it is `observing`. Any of the methods may be overridden."""

    def before(self, op):
        """An operation is about to be computed."""

    def operation(self, op, inputs, options, y):
        """An operation was called with these tensors and gave the tensor y."""

    def begin(self, nodes):
        """A backward pass begins; it will go over these nodes, youngest first."""

    def step(self, node, dy, dxs):
        """The pass is at a node: the gradient of its value, and those of its inputs, before they are added."""

    def end(self, nodes):
        """The pass has gone over these nodes."""


@contextmanager
def observing(observer):
    """Within the block the observer sees what all threads do."""
    observers.append(observer)
    try:
        yield observer
    finally:
        observers.remove(observer)


def current_module():
    """The name of the innermost module at work in this thread, such as "h.0.attn.c_q"; "" outside of modules."""
    return thread.modules[-1] if thread.modules else ""


@contextmanager
def within(**settings):
    """Within the block this thread's `recording` or `products` are as given; other threads keep their own."""
    before = {name: getattr(thread, name) for name in settings}
    vars(thread).update(settings)
    try:
        yield
    finally:
        vars(thread).update(before)


def no_grad() -> AbstractContextManager[None]:
    """Within `with no_grad():` nothing is recorded and nothing is kept for a backward pass: for evaluation."""
    return within(recording=False)
