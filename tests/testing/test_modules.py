"""gradcheck_module: every parameter of a module, by its name; it sees mistakes that first values hide."""

import re

import numpy as np
import pytest
from small_gpt import random_tokens, tiny

from tinygrad_lm import Tensor, gradcheck_module, nn, ops
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, DtypeError, GradientError
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.module import freeze
from tinygrad_lm.testing.gradcheck import DERIVATIVES

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
few = {"verbose": False}


def run(model, x):
    return model(x)


class Net(nn.Module):
    """Two layers around an activation, and a gain for each of the results."""

    def __init__(self, activation=ops.tanh):
        self.layers = [nn.Linear(3, 4, std=0.5), nn.Linear(4, 2, std=0.5)]
        self.gain = nn.Parameter(2, mean=1.0)
        self.activation = activation

    def forward(self, x):
        first, second = self.layers
        return second(self.activation(first(x))) * self.gain


@pytest.fixture
def op(monkeypatch):
    """@op for a test's own rules: it leaves no trace in the registry."""
    monkeypatch.setattr(Op, "registry", {})
    return Op


@pytest.mark.parametrize("method", sorted(DERIVATIVES))
def test_each_parameter_has_a_row_under_its_name(method, capsys):
    net = Net().initialize(seed=0)
    report = gradcheck_module(run, net, X, method=method)
    assert [(row.name, row.checked) for row in report.rows] == [(name, p.size) for name, p in net.named_parameters()]
    assert report.passed
    assert capsys.readouterr().out.startswith(f"gradcheck Net: analytic and {method} derivatives agree")


def test_a_wrong_operation_inside_is_found_with_parameter_and_place(op):
    def my_tanh(x):
        y = np.tanh(x)
        slip = np.ones(x.shape)
        slip[:, 2] = 1.001
        return y, lambda dy: (dy * (1 - y * y) * slip,)

    with pytest.raises(GradientError) as caught:
        gradcheck_module(run, Net(op(my_tanh)).initialize(seed=0), X, **few)
    lines = str(caught.value).splitlines()
    assert lines[0] == "gradcheck Net: analytic and central derivatives DIFFER, tolerance 1e-06"
    assert re.match(r" ✗ layers\.0\.weight \(3, 4\): 12 entries, worst at \[\d, 2\]: analytic ", lines[1])
    assert re.match(r" ✗ layers\.0\.bias \(4,\): 4 entries, worst at \[2\]: analytic ", lines[2])
    assert all(line.startswith("   ") for line in lines[3:6])


def test_it_draws_parameters_because_their_first_values_hide_mistakes(op):
    """With a gain of 1 and a bias of 0 these gradients are right."""

    def scaled(x, gain, bias):
        return x * gain + bias + bias**2, lambda dy: (dy, dy * x, dy)

    class Scale(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(3, 3, std=0.5)
            self.gain, self.bias = nn.Parameter(3, mean=1.0), nn.Parameter(3)
            self.op = op(scaled)

        def forward(self, x):
            return self.op(self.linear(x), self.gain, self.bias)

    with pytest.raises(GradientError) as caught:
        gradcheck_module(run, Scale().initialize(seed=0), X, **few)
    wrong = {line.split()[1] for line in str(caught.value).splitlines() if line.startswith(" ✗")}
    assert wrong == {"linear.weight", "linear.bias", "bias"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_transformer_by_complex_step(preset):
    model = GPT(tiny(preset, n_layer=1))
    x, y = random_tokens(model.config, B=2, T=5)
    if preset == "gpt2":
        recomputed(*model.h)
    unused = ["*.c_k.bias"] if model.config.bias else []  # the same number for all keys, which the softmax cancels
    loss, options = lambda model: model.loss(x, y), {"method": "complex", "entries": 4, "verbose": False}
    gradcheck_module(loss, model, allow_unused=unused, **options)
    if unused:
        with pytest.raises(GradientError, match=r"no derivative above the tolerance: h\.0\.attn\.c_k\.bias\n"):
            gradcheck_module(loss, model, **options)


def test_the_model_is_left_as_it_is():
    net = Net().initialize(seed=0)
    before = net.flat.data.copy()
    gradcheck_module(run, net, X, method="complex", **few)
    assert np.array_equal(net.flat.data, before)
    assert not net.flat.grad.any()
    assert net(X).dtype == "float32"


def test_frozen_parameters_keep_their_values_and_are_not_checked():
    net = freeze(Net().initialize(seed=0), "layers.0.*")
    seen = set()

    def loss(model, x):
        seen.add(model.layers[0].weight.data.real.astype(np.float32).tobytes())
        return model(x)

    rows = gradcheck_module(loss, net, X, method="complex", **few).rows
    assert {row.name for row in rows} == {"layers.1.weight", "layers.1.bias", "gain"}
    assert seen == {net.layers[0].weight.data.tobytes()}


@pytest.mark.parametrize("kind", [np.asarray, Tensor])
@pytest.mark.parametrize("method", sorted(DERIVATIVES))
def test_other_arrays_of_a_module_are_computed_in_the_same_dtype(kind, method):
    net = Net().initialize(seed=0)
    net.layers[0].table = kind(X)
    gradcheck_module(lambda model, x: model(ops.multiply(model.layers[0].table, x)), net, kind(X), method=method, **few)
    assert net.layers[0].table.dtype == "float32"


# ---- where nothing would be checked


def test_a_parameter_without_influence_fails_unless_it_is_declared():
    net = Net()
    net.spare = {"one": nn.Parameter(2, std=1.0)}
    net.initialize(seed=0)
    with pytest.raises(GradientError, match=r"ON ZEROS ONLY[^✗]+✗ spare\.one \(2,\)") as caught:
        gradcheck_module(run, net, X, **few)
    assert "\n  found: no derivative above the tolerance: spare.one\n" in str(caught.value)
    assert gradcheck_module(run, net, X, allow_unused=["spare.*"], **few).passed
    with pytest.raises(ConfigError, match=r"Net has no parameter named 'spore.\*'\n  names : layers\.0\.weight, "):
        gradcheck_module(run, net, X, allow_unused=["spare.*", "spore.*"], **few)


def test_a_loss_of_another_model_than_the_given_one_fails():
    net = Net().initialize(seed=0)
    with pytest.raises(GradientError, match=r"depends on layers\.0\.weight, .*, gain, not passed in"):
        gradcheck_module(lambda model: net(X), net, **few)


def test_what_has_no_parameter_to_check_is_refused():
    with pytest.raises(ConfigError, match="Net has no parameter to check\n  names : none that is not frozen"):
        gradcheck_module(run, freeze(Net().initialize(seed=0), "*"), X, **few)
    with pytest.raises(ConfigError, match="expected a function and a module, found Tensor"):
        gradcheck_module(run, Tensor(X), X, **few)
    with pytest.raises(ConfigError, match=r"layers\.0\.weight, .* have no values yet"):
        gradcheck_module(run, Net(), X, **few)


def test_an_array_that_is_not_an_input_is_of_another_dtype():
    with pytest.raises(DtypeError, match=r"hint : gradcheck_module computes in float64"):
        gradcheck_module(lambda model: model(X), Net().initialize(seed=0), **few)
