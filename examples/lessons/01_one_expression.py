"""Lesson 1: the chain rule on one expression, by hand, and then by the engine.

L = (tanh(w x + b) − t)² is the squared error of a neuron with one input x against a target t. Training asks: if w grows
a little, how does L change? That number is ∂L/∂w, and backpropagation computes it for all inputs at once.

    python examples/lessons/01_one_expression.py
"""

import math

import numpy as np

from tinygrad_lm import Tensor
from tinygrad_lm.engine.observe import Observer, observing
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.programs import run_lesson

VALUES = {"w": 1.5, "x": 0.8, "b": -0.4, "t": 0.2}


def main(out="."):
    by_hand = hand(**VALUES)
    by_engine = engine(VALUES)
    by_nudge = {name: nudge(name) for name in VALUES}

    print("\nThree answers. The nudge is (L(v + h) − L(v − h)) / 2h: what a derivative means, but inexact.")
    print(f"  {'':6}{'by hand':>20}{'by the engine':>20}{'by a nudge of 1e-5':>22}")
    for v in VALUES:
        print(f"  ∂L/∂{v} {by_hand[v]:+20.15f}{by_engine[v]:+20.15f}{by_nudge[v]:+22.15f}")
    return {"hand": by_hand, "engine": by_engine, "nudge": by_nudge}


def hand(w, x, b, t):
    """Forward and backward, one step per line."""
    print("Forward: cut the expression into steps so small that each has a well-known derivative.")
    u = show("u = w x", w * x)
    z = show("z = u + b", u + b)
    y = show("y = tanh z", math.tanh(z))
    e = show("e = y − t", y - t)
    show("L = e²", e * e)

    # From here on dv is short for ∂L/∂v. The chain rule: to go one step back, multiply by that step's own derivative.
    print("\nBackward: the same steps from the last to the first; dv means ∂L/∂v.")
    dL = show("dL = 1", 1.0)  # if L grows, L grows as much
    de = show("de = dL · 2e", dL * 2 * e)
    dy = show("dy = de · 1", de)
    dt = show("dt = de · (−1)", -de)
    dz = show("dz = dy · (1 − y²)", dy * (1 - y * y))  # tanh′ z = 1 − tanh² z, and the forward pass has computed tanh z
    du = show("du = dz · 1", dz)
    db = show("db = dz · 1", dz)
    dw = show("dw = du · x", du * x)  # a product's derivative by one factor is the other
    dx = show("dx = du · w", du * w)

    # Each backward step needs only the gradient that arrived and numbers from the forward pass. One walk has found the
    # derivatives by all four inputs; nudging needs two more forward passes for each of them.
    return {"w": dw, "x": dx, "b": db, "t": dt}


def engine(values):
    """The same with tensors: the operations record the steps, `backward` walks back over them."""
    w, x, b, t = (Tensor(np.array(value), requires_grad=True, name=name) for name, value in values.items())
    L = ((w * x + b).tanh() - t) ** 2

    print("\nThe engine walks the same steps. Each line: an operation, its formula, the gradient that arrived.")
    with observing(Printer()):
        L.backward()
    return {name: v.grad.item() for name, v in zip(values, (w, x, b, t), strict=True)}


class Printer(Observer):
    def step(self, node, dy, dxs):
        value, derivative = halves(node.op)
        print(f"  {node.op.name:9} {value:11} {derivative:34} dy = {dy:+.6f}")


def nudge(name, h=1e-5):
    """∂L/∂name from two more forward passes."""

    def L(change):
        w, x, b, t = (VALUES | {name: VALUES[name] + change}).values()
        return (math.tanh(w * x + b) - t) ** 2

    return (L(h) - L(-h)) / (2 * h)


def show(step, value):
    print(f"  {step:20} {value:+.6f}")
    return value


if __name__ == "__main__":
    run_lesson(main)
