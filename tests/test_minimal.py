"""The package computes what examples/minimal.py says: the same losses, gradients and weights, to the last digits."""

import ast
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_lm import kernels
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients

PAGE = Path(__file__).parents[1] / "examples" / "minimal.py"
V, T, L, H, C = 13, 8, 2, 2, 16
STEPS, LR, BETAS, EPS, DECAY = 8, 1e-2, (0.9, 0.99), 1e-8, 0.1


# ---- the package: all that this file knows of its interface


def package_model():
    return GPT(GPTConfig(V, T, n_layer=L, n_head=H, n_embd=C), dtype=np.float64)


def package_weights(model):
    """{name: tensor with data and grad}"""
    return model.flat


def package_steps(model, batches):
    """Train; after each backward pass yield the loss and copies of the gradients and of the weights before the step."""
    optimizer = AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    for factor, (tokens, targets) in batches:
        loss = model.loss(tokens, targets)
        loss.backward()
        yield loss.item(), *arrays(package_weights(model))
        assert clip_gradients(model.flat, 1.0) > 1, "no step would show a wrong clipping"
        optimizer.step(factor)
        optimizer.zero_grad()


# ---- the page


def page_module(old="", new=""):
    """The page; `old` in its source replaced by `new`, a mistake to be found."""
    source = PAGE.read_text(encoding="utf-8")
    assert not old or source.count(old) == 1
    page = {"__name__": "minimal"}
    exec(compile(source.replace(old, new) if old else source, PAGE, "exec"), page)
    return SimpleNamespace(**page)


def page_model(page, weights):
    """The page's GPT with copies of these weights, in float64."""
    model = page.GPT(V, T, L, H, C, np.random.default_rng(0))
    assert {name: p.data.shape for name, p in model.weights.items()} == {name: w.shape for name, w in weights.items()}
    for name, p in model.weights.items():
        p.data = weights[name].copy()
    return model


def page_steps(page, model, batches):
    moments = [(p, np.zeros_like(p.data), np.zeros_like(p.data)) for p in model.weights.values()]
    for t, (factor, (tokens, targets)) in enumerate(batches, start=1):
        loss = page.cross_entropy(model(tokens), targets=targets.ravel())
        loss.backward()
        yield loss.data.item(), *arrays(model.weights)
        page.adamw(moments, t, LR * factor, betas=BETAS, eps=EPS, decay=DECAY)


# ---- both


def arrays(weights):
    """Copies of the gradients and of the values, by name."""
    return {name: p.grad.copy() for name, p in weights.items()}, {name: p.data.copy() for name, p in weights.items()}


def random_weights(rng):
    """Larger than a model begins with, biases and gains too, so that no term of a gradient is negligible."""
    shapes = {name: p.data.shape for name, p in package_weights(package_model()).items()}
    return {name: rng.normal(bool(re.search(r"ln_.\.weight", name)), 0.5, s) for name, s in shapes.items()}


def random_batches(rng):
    """[(factor of the learning rate, (tokens, targets))]; some windows are shorter than the context."""
    for step in range(STEPS):
        windows = rng.integers(V, size=(3, T + 1 - step % 3))
        yield 1 / (1 + step), (windows[:, :-1], windows[:, 1:])


def differences(page):
    """The largest differences while both train, relative to the loss, the largest gradient and the largest weight.

    Of the weights, the keys' biases are left out. They add one constant to all scores of a query, and softmax does not
    see a constant: their gradient is 0 but for rounding, which is compared, and which AdamW then divides by little more
    than ε. The loss does not depend on them.
    """
    rng = np.random.default_rng(1)
    weights, batches = random_weights(rng), list(random_batches(rng))
    ours = package_model()
    for name, p in package_weights(ours).items():
        p.data[...] = weights[name]
    theirs = page_model(page, weights)
    batches.append(batches[0])  # its loss and weights are what the last step led to
    worst = {"loss": 0.0, "gradient": 0.0, "weight": 0.0}
    for (loss1, grads1, weights1), (loss2, grads2, weights2) in zip(
        package_steps(ours, batches), page_steps(page, theirs, batches), strict=True
    ):
        worst["loss"] = max(worst["loss"], abs(loss1 - loss2) / loss1)
        seen = [name for name in weights1 if not name.endswith("c_k.bias")]
        for kind, names, one, other in ("gradient", grads1, grads1, grads2), ("weight", seen, weights1, weights2):
            largest = max(abs(one[name]).max() for name in names)
            difference = max(abs(one[name] - other[name]).max() for name in names)
            worst[kind] = max(worst[kind], difference / largest)
    return worst


def agree(worst):
    return worst["loss"] <= 1e-14 and worst["gradient"] <= 1e-12 and worst["weight"] <= 1e-12


@pytest.mark.parametrize("with_kernels", [True, False])
def test_the_package_trains_as_the_page_does(with_kernels):
    """The definitions alone, and the kernels in their places."""
    kernels.enable()
    with nullcontext() if with_kernels else kernels.disabled():
        worst = differences(page_module())
    assert agree(worst), worst


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("g - mean(g) - xhat", "g - xhat"),  # layer norm: a mean is missing
        (" - xhat * mean(g * xhat)", ""),  # and the other
        ("eps=1e-5", "eps=1e-6"),
        ("(P * dP).sum(-1, keepdims=True)", "0"),  # softmax: a change of one probability changes the others
        ("np.tri(T, dtype=bool)", "np.tri(T, k=1, dtype=bool)"),  # attention sees one position of the future
        ("(dZ.mT @ q)", "(dZ @ q)"),
        ("np.add.at(dw, ids, dy)", "dw[ids] = dy"),  # a token that occurs twice counts once
        ("else parent.grad + dx", "else dx"),  # so does a tensor that is used twice
        (" * slope()", ""),
        ("v / (1 - betas[1] ** t)", "v / (1 - betas[1])"),  # the correction of step 1 for all steps
        ("m / (1 - betas[0] ** t)", "m"),
        ("p.grad / max(1, norm)", "p.grad"),  # no clipping
        ("p.data.ndim == 2", "True"),  # vectors decay, too
    ],
)
def test_a_mistake_is_noticed(old, new):
    assert not agree(differences(page_module(old, new)))


@pytest.mark.slow
def test_gradients_are_those_of_the_loss():
    """Beside the difference quotient (8 (f(h) − f(−h)) − f(2h) + f(−2h)) / 12h at some entries of each weight."""
    page, rng = page_module(), np.random.default_rng(2)
    model = page_model(page, random_weights(rng))
    _, (tokens, targets) = next(random_batches(rng))
    loss = lambda: page.cross_entropy(model(tokens), targets=targets.ravel())
    loss().backward()
    h, largest = 1e-3, max(abs(p.grad).max() for p in model.weights.values())
    for name, p in model.weights.items():
        for entry in rng.choice(p.data.size, 5):
            index, values = np.unravel_index(entry, p.data.shape), []
            before = p.data[index]
            for step in (h, -h, 2 * h, -2 * h):
                p.data[index] = before + step
                values.append(loss().data)
            p.data[index] = before
            quotient = (8 * (values[0] - values[1]) - values[2] + values[3]) / (12 * h)
            assert abs(quotient - p.grad[index]) < 1e-8 * largest, (name, index)


# ---- as a program


def test_the_page_needs_numpy_alone():
    roots = set()
    for node in ast.walk(ast.parse(PAGE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.partition(".")[0])
    assert roots - sys.stdlib_module_names == {"numpy"}


def run(folder, *arguments):
    """What the program prints, in a folder and for a user without data."""
    home = {name: str(folder) for name in ("HOME", "USERPROFILE", "TINYGRAD_LM_DATA")}
    return subprocess.run(
        [sys.executable, "-W", "error", PAGE, *arguments],
        cwd=folder, env=os.environ | home | {"PYTHONUTF8": "1"}, capture_output=True, encoding="utf-8", timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_the_page_learns(tmp_path):
    """A text of three words in random order, nearly: after 40 steps its letters are known."""
    words = np.random.default_rng(0).choice(["the ", "cat ", "sat\n"], size=500)
    Path(tmp_path, "text.txt").write_text("".join(words))
    ended = run(tmp_path, "text.txt", "40")
    assert ended.returncode == 0, ended.stderr
    losses = [tuple(map(float, pair)) for pair in re.findall(r"loss (\S+)   held out (\S+) ", ended.stdout)]
    assert len(losses) == 2
    assert abs(losses[0][0] - np.log(8)) < 0.3
    assert losses[-1][0] < losses[0][0] - 0.5
    assert losses[-1][1] < losses[0][1] - 0.5
    assert len(ended.stdout.rpartition("'\n")[2]) == 501  # the sample


@pytest.mark.slow
def test_the_page_finds_a_text(tmp_path):
    assert run(tmp_path, "missing.txt", "1").returncode
    assert int(run(tmp_path, "", "1").stdout.split()[0].replace(",", "")) > 100_000  # Python's language reference
    Path(tmp_path, "tinyshakespeare.txt").write_text("to be or not to be")
    ended = run(tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the text has 18 characters, at least 641 are needed" in ended.stderr
