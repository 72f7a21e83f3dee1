"""Seeing the steps of backward passes."""

from contextlib import contextmanager

from tinygrad_lm.engine.observe import Observer, observing


@contextmanager
def steps(visit):
    """Within the block visit(node, dy, dxs) is called at each step, but not within a recomputation."""
    with observing(Steps(visit)):
        yield


class Steps(Observer):
    def __init__(self, visit):
        self.visit, self.depth = visit, 0

    def begin(self, nodes):
        self.depth += 1

    def step(self, node, dy, dxs):
        if self.depth == 1:
            self.visit(node, dy, dxs)

    def end(self, nodes):
        self.depth -= 1
