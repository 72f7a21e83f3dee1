"""AdamW and Muon on the settings that PyTorch's own tests use (its database of optimizers), beside PyTorch's."""

import math
from functools import partial

import numpy as np
import pytest
from optim_checks import Bag
from torch_databases import databases

from tinygrad_lm.errors import TinygradError
from tinygrad_lm.optim import AdamW, Muon, muon

torch = pytest.importorskip("torch", reason="PyTorch, whose optimizers these are, is not installed")

GRADIENTS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "sparse": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.2),
    "zero": lambda rng, n: np.zeros(n),
    "tiny": lambda rng, n: 1e-12 * rng.standard_normal(n),
    "huge": lambda rng, n: 1e12 * rng.standard_normal(n),
    "of all sizes": lambda rng, n: rng.standard_normal(n) * 10.0 ** rng.integers(-8, 8, n),
}
MORE_ADAMW = [
    {"betas": (0.0, 0.0)}, {"betas": (0.5, 0.999)}, {"eps": 1e-3}, {"lr": 0.0}, {"weight_decay": 0.0}, {"lr": 1.0},
]  # fmt: skip
NOT_HERE = {
    "AdamW": {"maximize": {"maximize"}, "amsgrad": {"amsgrad"}},
    "Muon": {"Tensor lr": {"lr"}},  # a number here, and refused as anything else
}
DECAY = {"AdamW": 0.01}  # torch's default; here 0.1


def settings(name):
    """(description, settings) of what both have; a difference that is listed must be there."""
    found = [(i.desc, dict(i.kwargs)) for i in databases()[1][name].optim_inputs_func(device="cpu")]
    absent = {desc for desc, _ in found} & NOT_HERE[name].keys()
    assert absent == NOT_HERE[name].keys()
    return [(desc, kwargs) for desc, kwargs in found if desc not in absent]


def follow(bag, make_ours, make_theirs, gradients, steps=6):
    """Both take the same steps; returns the largest relative difference of a weight."""
    twins = [torch.tensor(p.data.copy(), requires_grad=True) for p in bag.flat.values()]
    ours, theirs, rng = make_ours(bag.parameters()), make_theirs(twins), np.random.default_rng(0)
    for _ in range(steps):
        bag.flat.grad[...] = gradients(rng, bag.flat.grad.size)
        for twin, p in zip(twins, bag.flat.values(), strict=True):
            twin.grad = torch.tensor(p.grad.copy())
        ours.step()
        theirs.step()
    return max(
        abs(p.data - twin.detach().numpy()).max() / abs(p.data).max()
        for twin, p in zip(twins, bag.flat.values(), strict=True)
    )


@pytest.mark.parametrize("gradients", GRADIENTS)
def test_adamw_is_torchs(gradients):
    cases = [kwargs for _, kwargs in settings("AdamW")] + MORE_ADAMW
    assert len(cases) >= 9
    for kwargs in cases:
        kwargs = {"weight_decay": DECAY["AdamW"]} | kwargs
        bag = Bag({"a": (2, 3), "b": (4, 1)}, np.random.default_rng(1))  # matrices: vectors do not decay here
        ours, theirs = partial(AdamW, **kwargs), partial(torch.optim.AdamW, **kwargs)
        assert follow(bag, ours, theirs, GRADIENTS[gradients]) < 1e-12, kwargs


def muon_of_torch(lr, momentum, steps, coefficients, weight_decay):
    """torch.optim.Muon's update in float64, line by line (torch/optim/_muon.py), for matrices (in, out)."""

    class TorchMuon:
        def __init__(self, parameters):
            self.parameters = [(p, torch.zeros_like(p)) for p in parameters]

        @torch.no_grad()
        def step(self):
            for p, m in self.parameters:
                m.lerp_(p.grad, 1 - momentum)
                update = p.grad.lerp(m, momentum).T  # torch's matrices are (out, in)
                a, b, c = coefficients
                x = update if update.shape[0] <= update.shape[1] else update.T
                x = x / x.norm().clamp(min=1e-7)
                for _ in range(steps):
                    s = x @ x.T
                    x = a * x + (b * s + c * s @ s) @ x
                x = x if update.shape[0] <= update.shape[1] else x.T
                p.mul_(1 - lr * weight_decay)
                p.sub_(lr * math.sqrt(max(1, update.shape[0] / update.shape[1])) * x.T)

    return TorchMuon


def test_the_copy_of_torchs_muon_is_torchs():
    """Up to bfloat16, in which torch's makes its matrices orthogonal."""
    for kwargs in [{}, *(kwargs for _, kwargs in settings("Muon"))]:
        options = {"lr": 1e-3, "momentum": 0.95, "ns_steps": 5, "ns_coefficients": (3.4445, -4.775, 2.0315)}
        options |= {"weight_decay": 0.1} | kwargs
        start = np.random.default_rng(0).standard_normal((5, 3))
        real, copy = (torch.tensor(start.T.copy(), requires_grad=True), torch.tensor(start, requires_grad=True))
        steps, coefficients = options.pop("ns_steps"), options.pop("ns_coefficients")
        optimizers = [
            torch.optim.Muon([real], ns_steps=steps, ns_coefficients=coefficients, **options),
            muon_of_torch(steps=steps, coefficients=coefficients, **options)([copy]),
        ]
        for seed in range(4):
            g = np.random.default_rng(seed).standard_normal(start.shape)
            real.grad, copy.grad = torch.tensor(g.T.copy()), torch.tensor(g)
            for optimizer in optimizers:
                optimizer.step()
        moved = abs(real.detach().numpy().T - start).max()
        assert abs(real.detach().numpy().T - copy.detach().numpy()).max() < 0.03 * moved, kwargs


@pytest.mark.parametrize("gradients", ["normal", "huge", "of all sizes"])
def test_muon_is_torchs_with_its_polynomial(gradients, monkeypatch):
    """Without torch's decay; the norm's 1e-7, added here and a lower bound there, is below 1e-7 of these."""
    for _, kwargs in settings("Muon"):
        coefficients = kwargs.pop("ns_coefficients", (3.4445, -4.775, 2.0315))
        steps = kwargs.pop("ns_steps", 5)
        kwargs.pop("weight_decay", None)
        monkeypatch.setattr(muon.orthogonalize, "__defaults__", ([coefficients] * steps,))
        kwargs = {"lr": 1e-3, "momentum": 0.95} | kwargs
        bag = Bag({"a": (3, 5), "b": (5, 3), "c": (4, 4)}, np.random.default_rng(1))
        theirs = muon_of_torch(steps=steps, coefficients=coefficients, weight_decay=0.0, **kwargs)
        assert follow(bag, partial(Muon, **kwargs), theirs, GRADIENTS[gradients]) < 1e-8, kwargs


CALLS = "foreach", "capturable"  # options that are not here


@pytest.mark.parametrize("make", [AdamW, Muon], ids=lambda make: make.__name__)
def test_what_torch_refuses_is_refused(make):
    """Each setting of torch's list of errors that is offered here. Of parameters: test_parameters_given.py."""
    errors = databases()[1][make.__name__].optim_error_inputs_func("cpu", torch.float64)
    cases = [e.optimizer_error_input.kwargs for e in errors if e.error_type is ValueError]
    cases = [c for c in cases if c and not any(name in c for name in (*CALLS, "adjust_lr_fn"))]
    assert len(cases) >= (5 if make is AdamW else 1)
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    for kwargs in cases:
        with pytest.raises(TinygradError):
            make(bag.parameters(), **kwargs)
