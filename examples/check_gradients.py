"""Check every gradient of every operation, and see why a finite difference can only go so far.

    python examples/check_gradients.py               # a table, and gradients.png

The cases are those of the proof (docs/proving.md), drawn by Hypothesis: pip install -e ".[test]".
"""

import argparse
import sys
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import Tensor, gradcheck, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.programs import program, progress_bar
from tinygrad_lm.testing import CASES, some_cases
from tinygrad_lm.testing.gradcheck import central, complex_step, richardson

STEPS = np.logspace(-16, 0, 97)


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, help="drawn inputs an operation [20]")
    parser.add_argument("--picture", default="gradients.png", metavar="FILE", help="[gradients.png]")
    args = parser.parse_args(arguments)

    print(f"{'operation':15} {'cases':>6} {'entries':>8}   worst relative error by complex step, by central difference")
    bar = progress_bar(Op.registry, unit="op", leave=False)
    for name in bar:
        entries, exact, rough = check(name, args.cases)
        bar.write(f"{name:15} {args.cases:6} {entries:8}   {exact:22.1e} {rough:22.1e}")
    draw(args.picture)
    print(f"\n{args.picture}: the error of each method against its step size\n")
    causality()


def check(name, count):
    """Entries checked, and the worst relative errors by complex step and by central differences."""
    entries, exact, rough = 0, 0.0, 0.0
    for case in some_cases(CASES[name], count):
        f = partial(Op.registry[name], **case.options)
        # `prove` asks for influence in some case.
        options: dict = {"allow_unused": range(len(case.inputs)), "verbose": False}
        report = gradcheck(f, *case.inputs, method="complex", **options)
        entries += sum(row.checked for row in report.rows)
        exact = max(exact, report.worst)
        rough = max(rough, gradcheck(f, *case.inputs, method="central", **options).worst)
    return entries, exact, rough


def draw(path):
    """The V: a large step is inexact because the function bends, a small one because a difference of equals is lost."""
    functions = {name: Op.registry[name] for name in ("exp", "gelu_tanh", "softmax", "layer_norm")}
    x = np.array([0.7, -1.2, 0.4, 1.9])
    figure = Figure(figsize=(11, 7), dpi=120, layout="constrained")
    for axes, (name, f) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, functions.items(), strict=True):
        t = Tensor(x, requires_grad=True)
        f(t)[0].backward()

        def phi(_, h, f=f):
            return f(Tensor.of(x + np.eye(len(x))[0] * h)).data[0]

        for label, method in {"central": central, "Richardson": richardson, "complex step": complex_step}.items():
            errors = [abs(method(phi, 0, 1.0, h=h)[0] - t.grad[0]) / abs(t.grad[0]) for h in STEPS]
            width = 4 if method is central else 1.5  # the complex step lies over it on the right
            axes.loglog(STEPS, np.maximum(errors, 1e-17), label=label, linewidth=width, alpha=0.7)
        axes.set(title=name, xlabel="step h", ylabel="relative error", ylim=(1e-17, 10))
        axes.grid(alpha=0.2)
    axes.legend()
    figure.suptitle("A finite difference loses digits at both ends; the complex step subtracts nothing")
    figure.savefig(path)


def causality():
    """No prediction sees the future: ∂ logits[t] / ∂ embedding[s] is not small but 0, bit for bit, for every s > t."""
    T, C = 8, 16
    model = GPT(GPTConfig(vocab_size=11, block_size=T, n_layer=2, n_head=2, n_embd=C), dtype=np.float64)
    reach = np.zeros((T, T), bool)
    for t in range(T):
        x = Tensor(np.random.default_rng(0).standard_normal((1, T, C)), requires_grad=True)
        h = x
        for block in model.h:
            h = block(h)
        ops.linear(model.ln_f(h), model.wte.weight.T)[0, t].sum().backward()
        reach[t] = (x.grad[0] != 0).any(-1)
    print("causality: which embeddings s (across) the logits at t (down) depend on: their gradient is not exactly 0")
    for t, row in enumerate(reach):
        print(f"  t = {t}  " + " ".join("■" if seen else "·" for seen in row))
    if not (reach == np.tri(T, dtype=bool)).all():
        sys.exit("error: a gradient crosses from the future")


if __name__ == "__main__":
    sys.exit(main())
