"""The lessons of examples/lessons/: each runs, and each of its claims is computed here once more in another way."""

import contextlib
import io
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from slow import slow_but
from small_run import EXAMPLES, example

ROOT = Path(__file__).parents[1]
LESSONS = sorted((EXAMPLES / "lessons").glob("*.py"))
PICTURES = {
    "05_product_and_softmax": "softmax.png",
    "06_layer_norm": "layer_norm.png",
    "07_causal_mask": "causal_mask.png",
    "08_cross_entropy": "cross_entropy.png",
    "09_adamw": "adamw.png",
    "11_one_batch": "one_batch.png",
    "12_untrained": "untrained.png",
}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A lesson's module, what its main returned, what it printed, and the folder it wrote to; each is run once."""
    done = {}

    def run(number):
        if number not in done:
            [path] = [path for path in LESSONS if path.name.startswith(f"{number:02}_")]
            folder = tmp_path_factory.mktemp(path.stem)
            module, told = example(f"lessons/{path.stem}"), io.StringIO()
            with contextlib.redirect_stdout(told):
                found = module.main(folder)
            done[number] = module, found, told.getvalue(), folder
        return done[number]

    return run


# ---- all of them


def test_they_are_numbered_without_a_gap():
    assert [path.name[:3] for path in LESSONS] == [f"{i:02}_" for i in range(1, len(LESSONS) + 1)]
    assert len(LESSONS) == 14
    assert PICTURES.keys() <= {path.stem for path in LESSONS}


@pytest.mark.parametrize("path", slow_but(LESSONS, LESSONS[0]), ids=lambda path: path.stem)
def test_it_tells_something_and_draws_what_it_promises(path, lesson):
    _, _, told, folder = lesson(int(path.name[:2]))
    lines, text = told.splitlines(), path.read_text()
    assert len(lines) > 5
    assert [line for line in lines if len(line) > 120 and not line.startswith("    saved ")] == []  # the ledger's own
    assert f"python examples/lessons/{path.name}" in text
    picture = PICTURES.get(path.stem)
    assert [file.name for file in folder.iterdir()] == ([picture] if picture else [])
    if picture:
        assert f"draws {picture}" in text
        assert lines[-1].startswith(str(folder / picture))
        image = imread(folder / picture)[..., :3]
        assert image.shape[0] >= 500
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()  # the ground is white
        assert (image < 0.9).any(-1).mean() > 0.01  # and there is something on it


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_is_short(path):
    assert len(path.read_text().splitlines()) <= 120


def test_the_docs_list_every_lesson():
    page = (ROOT / "docs" / "learn.md").read_text(encoding="utf-8")
    assert [path.name for path in LESSONS if path.name not in page] == []


@pytest.mark.slow
def test_as_a_program(tmp_path):
    """It draws where one is."""
    program = EXAMPLES / "lessons" / "05_product_and_softmax.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert [file.name for file in tmp_path.iterdir()] == ["softmax.png"]


# ---- what each of them claims


def test_one_expression(lesson):
    module, found, told, _ = lesson(1)
    for name, value in module.VALUES.items():
        w, x, b, t = (module.VALUES | {name: value + 1e-30j}).values()
        exact = ((np.tanh(w * x + b) - t) ** 2).imag / 1e-30
        assert found["hand"][name] == pytest.approx(exact, rel=1e-14)
        assert found["engine"][name] == pytest.approx(exact, rel=1e-14)
        assert found["nudge"][name] == pytest.approx(exact, rel=1e-8)
        assert f"∂L/∂{name} {exact:+20.12f}"[:-1].split()[1] in told


def test_the_order(lesson):
    module, found, told, _ = lesson(2)
    gradients = [dx for dx, _ in found["diamond"].values()]
    assert gradients == [2 * 3, 2 * 3 + 2 * (3 + 5), 2 * (3 + 5), 2 * (3 + 5)]
    assert told.count("WRONG") == 2
    for n, paths, nodes in found["counts"]:
        assert paths == 5 * 2**n - 3  # p(0) = 2 and p(n) = 3 + 2 p(n − 1)
        assert nodes == 3 * n + 2
        for walk in (module.every_path, module.youngest_first):
            assert module.gradient_by(walk, module.tower(n))[0] == 2 * 8**n
        root, x = module.tower(n)
        root.backward()
        assert x.grad == 2 * 8**n


def test_adding_up(lesson):
    _, found, _, _ = lesson(3)
    assert found["square"] == {"+=": 6, "=": 3}
    slope = (1 - math.tanh(1) ** 2) / 3
    assert found["residual"]["+="] == pytest.approx(1 + slope)
    assert found["residual"]["="] == pytest.approx(slope)
    assert found["tied"]["="] < 1e-3 * found["tied"]["+="]
    whole, half, both, twice = found["norms"].values()
    assert whole == pytest.approx(found["tied"]["+="], rel=1e-12)
    assert both == pytest.approx(whole, rel=1e-12)
    assert twice == pytest.approx(2 * whole, rel=1e-12)
    assert half != pytest.approx(whole, rel=0.1)


def test_broadcasting(lesson):
    _, found, _, _ = lesson(4)
    dy = found["dy"]
    columns = [math.fsum(column) for column in zip(*dy.tolist(), strict=True)]
    assert found["db"].tolist() == columns == found["product"][0].tolist()
    assert found["nudged"] == pytest.approx(columns, rel=1e-6)
    assert len(found["sums"]) == 6
    for shape, gradient in found["sums"].items():
        assert gradient.shape == shape
        ones = np.zeros(shape)
        for place in np.ndindex(shape):
            ones[place] = 1  # where in y this entry goes
            assert gradient[place] == (dy * ones).sum()
            ones[place] = 0
    assert found["copied"].tolist() == [[1, 2, 3]] * 4


@pytest.mark.slow
def test_product_and_softmax(lesson):
    _, found, _, _ = lesson(5)
    assert max(found["product"]) < 1e-14
    s = found["softmax"]
    x = np.log(s["y"])  # up to a constant, which softmax does not see
    for j in range(5):
        up, down = (np.exp(x + h * np.eye(5)[j]) for h in (1e-6, -1e-6))
        assert s["J"][:, j] == pytest.approx((up / up.sum() - down / down.sum()) / 2e-6, abs=1e-9)
    assert s["numerical"] == pytest.approx(s["J"], abs=1e-15)
    assert s["dx"] == pytest.approx(s["dy"] @ s["J"], abs=1e-15)
    assert s["engine"] == pytest.approx(s["dx"], abs=1e-15)


def test_layer_norm(lesson):
    module, found, _, _ = lesson(6)
    x, σ = module.x, math.sqrt(np.var(module.x) + module.EPS)
    assert found["sigma"] == pytest.approx(σ)
    one, along, other = found["sizes"].values()
    assert one < 1e-15
    assert along == pytest.approx(module.EPS / σ**3, rel=1e-9)
    assert other == pytest.approx(1 / σ)

    def norm(x):
        centred = x - x.mean()
        return centred / np.sqrt((centred * centred).mean() + module.EPS)

    J = np.stack([norm(x + 1e-30j * e).imag / 1e-30 for e in np.eye(len(x))], axis=1)
    assert found["J"] == pytest.approx(J, abs=1e-14)
    assert found["dx"] == pytest.approx(found["g"] @ J, abs=1e-14)
    assert np.linalg.svd(J, compute_uv=False)[:-2] == pytest.approx(1 / σ)
    assert found["xhat"] == pytest.approx(norm(x), abs=1e-14)


@pytest.mark.slow
def test_causal_mask(lesson):
    module, found, _, _ = lesson(7)
    maps, T = found["maps"], module.T
    future = np.triu_indices(T, 1)
    assert (maps["mask_before_softmax"][future] == 0).all()  # not nearly: exactly
    assert (maps["mask_before_softmax"][np.tril_indices(T)] > 1e-3).all()
    assert (maps["mask_after_softmax"][future] > 1e-3).all()
    assert (maps["no_mask"] > 1e-3).all()
    assert found["difference"] < 1e-14
    assert found["same"] == [t < 5 for t in range(T)]

    def output(x, t):
        """Σ y_t, from the keys and values up to t alone."""
        z = (x[t] @ module.W_Q) @ (x[: t + 1] @ module.W_K).T / math.sqrt(module.C)
        return (np.exp(z) / np.exp(z).sum() @ x[: t + 1] @ module.W_V).sum()

    for t, s in np.ndindex(T, T):
        steps = np.zeros((module.C, T, module.C))
        steps[:, s] = np.eye(module.C)
        slopes = [output(module.TOKENS + 1e-30j * step, t).imag / 1e-30 for step in steps]
        assert maps["mask_before_softmax"][t, s] == pytest.approx(np.linalg.norm(slopes), rel=1e-11)


@pytest.mark.slow
def test_cross_entropy(lesson):
    module, found, _, _ = lesson(8)
    y = [1, 0, 0, 0]
    for name, case in found["cases"].items():
        e = [math.exp(value) for value in module.CASES[name]]
        assert case["loss"] == pytest.approx(-math.log(e[0] / sum(e)), rel=1e-14)
        assert case["gradient"] == pytest.approx([p / sum(e) - t for p, t in zip(e, y, strict=True)], abs=1e-15)
        assert case["p"] == pytest.approx([p / sum(e) for p in e])
    p = 1 / (1 + np.exp(-found["scores"]))
    entropy, square = found["pulls"].values()
    assert entropy == pytest.approx(p - 1, abs=1e-14)
    assert square == pytest.approx(-4 * p * (1 - p) ** 2, abs=1e-14)  # L = 2 (1 − p)², p′ = p (1 − p)
    assert abs(square[0]) < 0.01 < 0.99 < abs(entropy[0])


@pytest.mark.slow
def test_adamw(lesson):
    module, found, _, _ = lesson(9)
    straight, turned = found["runs"].values()
    n = np.arange(module.STEPS + 1)[:, None]
    places = module.START * (1 - 1.9 / 200 * module.STEEPNESS) ** n
    assert straight["sgd"][0] == pytest.approx(places, abs=1e-12)
    assert found["too_large"][-1] > 1e6 > 1000 > found["too_large"][0]
    for name in ("sgd", "momentum"):
        assert turned[name][1] == pytest.approx(straight[name][1], rel=1e-6)  # the turn makes no difference
    w, m, v = module.START.copy(), 0, 0
    for t in range(1, module.STEPS + 1):
        g = module.STEEPNESS * w
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        w = w - 0.3 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        assert straight["adamw"][0][t] == pytest.approx(w, abs=1e-9)
    last = {name: losses[-1] for name, (_, losses) in straight.items()}
    assert last["adamw"] < last["momentum"] / 10 < last["sgd"] / 100
    assert turned["adamw"][1][-1] > 100 * turned["momentum"][1][-1]
    assert abs(straight["adamw"][0][1] - module.START) == pytest.approx(0.3)


def test_one_step(lesson):
    _, found, told, _ = lesson(10)
    ledger = found["ledger"]
    for leaf in ledger.leaves:
        assert told.count(f" {leaf.name} gets") == len(ledger.uses(leaf.number)) == 1 + (leaf.name == "wte.weight")
        came = sum(input.contribution.array for _, input in ledger.uses(leaf.number))
        assert np.array_equal(came, leaf.grad.array)
    assert {leaf.name for leaf in ledger.leaves} == set(found["model"].flat)
    assert ledger.leaf("h.0.attn.c_k.bias").grad.norm < 1e-15 < 1e-6 < ledger.leaf("h.0.attn.c_q.bias").grad.norm
    squares = sum((leaf.grad.array**2).sum() for leaf in ledger.leaves)
    missing = [1 - came / promised for _, promised, came in found["promises"]]
    assert [promised / η for η, promised, _ in found["promises"]] == pytest.approx([squares] * 4)
    assert all(10 * later < 1.1 * sooner for sooner, later in pairwise(missing[1:]))
    assert abs(missing[-1]) < 1e-3
    assert found["after"] < found["loss"] - 0.05
    assert not found["model"].flat.grad.any()


@pytest.mark.slow
def test_one_batch(lesson):
    module, found, _, _ = lesson(11)
    curves, V = found["curves"], module.V
    p = math.e / (math.e + V - 1)  # the softmax of a sure prediction
    assert found["floor"] == pytest.approx(-math.log(p), rel=1e-12)
    assert all(abs(curve[0] - math.log(V)) < 0.05 for curve in curves.values())
    assert curves["right"][-1] < 0.02
    assert found["floor"] < curves["softmax_twice"].min() < found["floor"] + 0.05
    assert curves["cut_off"][-1] > 10 * curves["right"][-1]
    assert curves["not_shifted"][-1] < 0.02


@pytest.mark.slow
def test_untrained(lesson):
    module, found, told, _ = lesson(12)
    assert [row[0] for row in found["table"]] == list(module.SIZES)
    for V, zero, gpt2, variance, large, large_variance in found["table"]:
        assert zero == pytest.approx(math.log(V), abs=1e-13)
        assert gpt2 - math.log(V) == pytest.approx(variance / 2, rel=0.01)
        assert large - math.log(V) == pytest.approx(large_variance / 2, rel=0.5)
        assert large_variance == pytest.approx(100 * variance, rel=1e-9)
        assert variance == pytest.approx((1 - 1 / V) * 0.02**2 * module.C, rel=0.1 if V > 50 else 0.3)
    measured = float(told.partition("first weights lose ")[2].split()[0])
    assert measured == pytest.approx(math.log(max(module.SIZES)), abs=0.1)
    assert f"at {math.log(50257) + 0.02**2 * 768 / 2:.2f}." in told


def test_policy_gradient(lesson):
    """Against sums over the seven answers, by the softmax's own derivative [y starts with j] − P(j)."""
    module, found, told, _ = lesson(13)
    pi, reward = found["pi"], module.reward
    assert module.answers == [".", "a.", "b.", "aa", "ab", "ba", "bb"]
    assert reward.tolist() == [0, 0, 1, 0, 1, 1, 0]
    begins = np.array([[answer[0] == letter for letter in module.LETTERS] for answer in module.answers])
    scores = begins - pi @ begins
    assert found["scores"] == pytest.approx(scores, abs=1e-14)
    right = (pi * reward) @ scores
    for gradient in found["gradients"].values():
        assert gradient == pytest.approx(right, abs=1e-9)
    assert (abs(found["samples"]["mean"] - right) < 3 * found["samples"]["error"]).all()
    exact = np.sqrt((pi @ (reward[:, None] * scores) ** 2 - right**2) / module.SAMPLES)
    assert found["samples"]["error"] == pytest.approx(exact, rel=0.1)
    for shift, b, mean, deviation in found["variance"]:
        assert mean == pytest.approx(right, abs=1e-13)
        second = pi @ ((reward + shift - b)[:, None] * scores) ** 2
        assert deviation == pytest.approx(math.sqrt((second - right**2).sum()))
    spreads = [row[-1] for row in found["variance"]]
    assert spreads[1] == pytest.approx(spreads[3])
    assert spreads[2] > 10 * spreads[3]
    assert found["spread"]["b = 0"] > 10 * found["spread"]["b = J"]
    p = pi @ reward
    for G in (2, 4):
        m = np.arange(G + 1) / G
        binomial = np.array([math.comb(G, k) * p**k * (1 - p) ** (G - k) for k in range(G + 1)])
        std = math.sqrt(1 - 1 / G) * (binomial @ np.sqrt(m * (1 - m))) / (p * (1 - p))
        factors = {"leave_one_out": 1, "centred": 1 - 1 / G, "standardised": std}
        for name, factor in factors.items():
            assert found["factors"][name, G] == pytest.approx(factor, rel=1e-12)
    assert told.count("█") > 60


@pytest.mark.slow
def test_preferences(lesson):
    module, found, told, _ = lesson(14)
    q, reward = np.exp(found["log_q"]), module.reward
    assert q.sum() == pytest.approx(1)
    for beta, (log_star, value) in found["stars"].items():
        star = q * np.exp(reward / beta)
        assert np.exp(log_star) == pytest.approx(star / star.sum())
        assert value == pytest.approx(beta * math.log(star.sum()))
        assert f"{value:.4f}" in told
    steps, losses, distances = zip(*found["pairs"]["rows"], strict=True)
    assert steps == (0, 1, 10, 100)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] == pytest.approx(found["pairs"]["floor"], abs=1e-6)
    assert all(later < sooner for sooner, later in pairwise(distances))
    assert distances[-1] < 1e-5
    w, l, curve = module.WON, module.LOST, found["gpt"]["curve"]  # noqa: E741
    predicted, after = found["gpt"]["predicted"], [log for _, log in curve]
    assert max(predicted[w], after[1][w], after[-1][w]) < 0  # the better answer falls, from the first step
    assert after[1] == pytest.approx(predicted, abs=0.005)
    assert after[-1][l] < after[-1][w] < -1
    assert module.answers[after[-1].argmax()] == "bb"
    assert all(later < sooner for (sooner, _), (later, _) in pairwise(curve))
    for loss, log in curve:
        assert loss == pytest.approx(math.log1p(math.exp(-module.BETA * (log[w] - log[l]))))
    for share, _, first, second, last, left in found["margins"]:
        if share == 1:
            assert first < second - 1 < last - 2
            assert left < 1e-3
        else:
            assert last == pytest.approx(math.log(9), abs=1e-9)
