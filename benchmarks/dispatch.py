"""What an operation costs besides its arithmetic: on four numbers, where there is next to none.

    python benchmarks/dispatch.py              # peers that are not installed are left out

An addition that is recorded, and a chain of 100 multiplications forward and backward, in microseconds an operation.
Each figure is the least of many rounds in turn: what the machine can do when nothing else runs.
"""

import importlib
import timeit

import numpy as np
from common import machine, record

from tinygrad_lm import Tensor

LENGTH = 100


def chain(x):
    y = x
    for _ in range(LENGTH):
        y = y * x
    return y.sum()


def numpy_alone():
    x = np.ones(4, np.float32)
    return lambda: x + x, lambda: chain(x)


def ours():
    x = Tensor(np.ones(4, np.float32), requires_grad=True)
    return lambda: x + x, lambda: chain(x).backward()


def torch(torch):
    torch.set_num_threads(1)
    x = torch.ones(4, requires_grad=True)
    return lambda: x + x, lambda: chain(x).backward()


def autograd(autograd):
    from autograd import numpy as anp

    x = np.ones(4, np.float32)
    both = autograd.grad(lambda x: anp.sum(chain(x)))
    return None, lambda: both(x)


def mygrad(mygrad):
    x = mygrad.tensor(np.ones(4, np.float32))
    return lambda: x + x, lambda: chain(x).backward()


def main():
    print(machine())
    contenders = {"NumPy, forward only": numpy_alone(), "tinygrad_lm": ours()}
    for name, make in {"torch": torch, "autograd": autograd, "mygrad": mygrad}.items():
        try:
            contenders[name] = make(importlib.import_module(name))
        except ImportError:
            print(f"{name} is not installed")
    least = {}
    for _ in range(20):
        for name, (add, both) in contenders.items():
            for what, function, number, operations in (("add", add, 2000, 1), ("chain", both, 20, LENGTH)):
                if function:
                    seconds = timeit.timeit(function, number=number) / number / operations
                    least[name, what] = min(seconds, least.get((name, what), np.inf))
    print(f"{'microseconds':20} {'add':>8} {'chain, an operation':>22}")
    for name in contenders:
        add, both = (f"{least[name, what] * 1e6:.2f}" if (name, what) in least else "" for what in ("add", "chain"))
        print(f"{name:20} {add:>8} {both:>22}")
    record("dispatch", seconds={" ".join(key): value for key, value in least.items()})


if __name__ == "__main__":
    main()
