"""The optimizers step by step against references of 50 digits (tests/helpers/optim_checks.py), and the schedules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_checks import SHAPES, Bag, Course, clips, follows_adamw, follows_muon

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.optim.muon import Muon, orthogonalize
from tinygrad_lm.optim.schedule import warmup_cosine, warmup_stable_decay

seeds = st.integers(0, 2**32 - 1)
# from far below AdamW's ε to far above it, alike or spread over many powers of ten
courses = st.builds(
    Course, seeds, st.integers(20, 25), st.sampled_from([1e-10, 1e-6, 1.0, 1e6]), st.sampled_from([0.0, 1.0, 5.0])
)
subsets = st.sets(st.sampled_from(list(SHAPES)), min_size=1).map(tuple)
rates = st.sampled_from([1e-4, 1e-2, 0.5])
matrices = st.sampled_from([("a",), ("e", "c"), ("a", "c", "e")])


# ---- the updates


@given(
    course=courses,
    names=subsets,
    lr=rates,
    betas=st.sampled_from([(0.9, 0.999), (0.8, 0.95), (0.0, 0.5)]),
    eps=st.sampled_from([1e-8, 1e-3]),
    decay=st.sampled_from([0.0, 0.1, 1.5]),
)
def test_adamw(course, names, lr, betas, eps, decay):
    follows_adamw(AdamW, course, lr, betas, eps, decay, names)


@settings(max_examples=settings.default.max_examples // 4)  # fifty digits take their time
@given(course=courses, names=matrices, lr=rates, momentum=st.sampled_from([0.0, 0.5, 0.95]))
def test_muon(course, names, lr, momentum):
    follows_muon(Muon, course, lr, momentum, names)


def test_first_step_of_adamw_is_the_learning_rate():
    """m̂ / √v̂ = g / |g| at first: what the bias corrections are there for."""
    bag = Bag(SHAPES, np.random.default_rng(0))
    before, gradient = bag.flat.data.copy(), bag.flat.grad
    gradient[...] = [-3.0, 1e-3] * (gradient.size // 2)
    AdamW(bag.parameters(), lr=0.25, eps=0.0, weight_decay=0.0).step(0.5)
    np.testing.assert_allclose(bag.flat.data - before, -0.125 * np.sign(gradient), rtol=1e-12)


def test_decay_is_for_matrices():
    bag = Bag(SHAPES, np.random.default_rng(0))
    before = {name: p.data.copy() for name, p in bag.flat.items()}
    AdamW(bag.parameters(), lr=0.5, weight_decay=0.2).step()  # no gradient, so decay is all there is
    for name, p in bag.flat.items():
        np.testing.assert_allclose(p.data, before[name] * (0.9 if p.ndim == 2 else 1.0), rtol=1e-15)


@pytest.mark.parametrize(
    "make", [AdamW, lambda parameters: Muon([p for p in parameters if p.ndim == 2])], ids=["AdamW", "Muon"]
)
def test_state_is_all_that_a_resumed_run_needs(make):
    bags = [Bag(SHAPES, np.random.default_rng(0)) for _ in range(2)]
    rng, optimizer = np.random.default_rng(1), make(bags[0].parameters())
    for step in range(10):
        if step in (0, 6):  # as if the process had ended here
            state = {name: np.array(x) for name, x in optimizer.state().items()}
            optimizer = make(bags[1].parameters())
            optimizer.load_state(state)
            bags[1].flat.data[...] = bags[0].flat.data
            bags.reverse()
        bags[0].flat.grad[...] = rng.standard_normal(bags[0].flat.grad.shape)
        optimizer.step()
    undisturbed, rng = Bag(SHAPES, np.random.default_rng(0)), np.random.default_rng(1)
    optimizer = make(undisturbed.parameters())
    for _ in range(10):
        undisturbed.flat.grad[...] = rng.standard_normal(undisturbed.flat.grad.shape)
        optimizer.step()
    assert np.array_equal(bags[0].flat.data, undisturbed.flat.data)


# ---- orthogonalize


@given(
    seed=seeds, rows=st.integers(1, 12), columns=st.integers(1, 12), condition=st.sampled_from([1.0, 3.0, 30.0, 100.0])
)
def test_singular_values_are_brought_near_one(seed, rows, columns, condition):
    """Those above 1/300 of the norm end in [0.18, 1.87], the singular vectors as they were."""
    rng, n = np.random.default_rng(seed), min(rows, columns)
    U, S, Vt = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
    S = np.geomspace(1, 1 / condition, n)
    y = U.T @ orthogonalize((U * S) @ Vt) @ Vt.T
    values = np.diagonal(y)
    assert abs(y - np.diag(values)).max() < 1e-10
    assert values.min() > 0.186
    assert values.max() < 1.866


def test_tiny_and_zero_gradients_stay_small():
    """No division by zero, and none of its noise brought to size one."""
    assert not orthogonalize(np.zeros((3, 4))).any()
    assert abs(orthogonalize(np.full((3, 4), 1e-12))).max() < 1e-2


@given(seed=seeds, rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_orthogonalize_knows_no_scale_and_no_sides(seed, rows, columns):
    x = np.random.default_rng(seed).standard_normal((rows, columns))
    x *= 1e6 / np.linalg.norm(x)  # beside which the norm's 1e-7 is nothing
    y = orthogonalize(x)
    np.testing.assert_allclose(orthogonalize(1e6 * x), y, atol=1e-6)
    np.testing.assert_allclose(orthogonalize(x.T), y.T, atol=1e-10)
    np.testing.assert_allclose(orthogonalize(-x), -y, atol=1e-10)


# ---- clipping


@given(seed=seeds)
def test_clipping(seed):
    clips(clip_gradients, seed)


def test_clipping_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    for seed, limit in enumerate([0.1, 1.0, 100.0]):
        bag = Bag(SHAPES, np.random.default_rng(seed))
        flat = bag.flat
        flat.grad[...] = np.random.default_rng(seed).standard_normal(flat.grad.shape)
        twins = [torch.zeros(p.shape, dtype=torch.float64) for p in flat.values()]
        for twin, p in zip(twins, flat.values(), strict=True):
            twin.grad = torch.tensor(p.grad)
        norm = torch.nn.utils.clip_grad_norm_(twins, limit).item()
        assert math.isclose(clip_gradients(flat, limit), norm, rel_tol=1e-14)
        for twin, p in zip(twins, flat.values(), strict=True):
            np.testing.assert_allclose(p.grad, twin.grad.numpy(), rtol=2e-5)  # torch adds 1e-6 to the norm


@given(seed=seeds, count=st.sampled_from([1, 2, 7, 1000]))
def test_clipping_makes_the_mean_of_a_sum(seed, count):
    """The sum of gradients over `count` targets is what its mean would be, norm and limit included: see `clips`."""

    def clip_sum(flat, limit):
        flat.grad *= count
        return clip_gradients(flat, limit, count)

    rng = np.random.default_rng(seed)
    bag = Bag(SHAPES, rng)
    g = rng.standard_normal(bag.flat.grad.shape)
    norm = np.sqrt((g * g).sum())
    for limit in (norm / 3, 3 * norm, 0):
        bag.flat.grad[...] = g
        assert math.isclose(clip_sum(bag.flat, limit), norm, rel_tol=1e-14)
        expected = g * min(1, limit / norm) if limit else g
        np.testing.assert_allclose(bag.flat.grad, expected, rtol=1e-14)


def test_the_norm_is_an_array_where_the_gradients_are():
    """Reading it would synchronise a GPU."""
    bag = Bag(SHAPES, np.random.default_rng(0))
    bag.flat.grad[:2] = 3.0, -4.0
    norm = clip_gradients(bag.flat, 0)
    assert norm == 5.0
    assert isinstance(norm, (np.ndarray, np.generic))
    assert norm.shape == ()
    bag.flat.grad[5] = np.nan
    assert np.isnan(clip_gradients(bag.flat, 0))


# ---- schedules

lengths = st.tuples(st.integers(1, 300), st.integers(0, 100)).filter(lambda n: 2 * n[1] <= n[0])  # steps, warm-up
floors = st.sampled_from([0.0, 0.1, 1.0])


@given(lengths=lengths, floor=floors)
def test_cosine(lengths, floor):
    steps, warmup = lengths
    rate = [warmup_cosine(step, steps, warmup, floor) for step in range(steps + 1)]
    assert rate[warmup] == 1
    assert abs(rate[steps] - floor) < 1e-15
    assert abs(rate[(warmup + steps) // 2] - (1 + floor) / 2) <= (1 - floor) * math.pi / 2 / (steps - warmup)
    shape(rate, warmup, largest_fall=(1 - floor) * math.pi / 2 / (steps - warmup))


@given(lengths=lengths, floor=floors, decay=st.sampled_from([0.1, 0.5]))
def test_stable_decay(lengths, floor, decay):
    steps, warmup = lengths
    rate = [warmup_stable_decay(step, steps, warmup, decay, floor) for step in range(steps + 1)]
    stable = [r for step, r in enumerate(rate) if warmup <= step <= (1 - decay) * steps]
    assert set(stable) <= {1.0}
    assert rate[steps] == floor
    shape(rate, warmup, largest_fall=(1 - floor) / max(1, decay * steps))


def shape(rate, warmup, largest_fall):
    """Even steps up from above 0 to 1, then never up again, and down without a jump."""
    steps = np.diff(rate)
    np.testing.assert_allclose(np.diff([0.0, *rate[: warmup + 1]]), 1 / (warmup + 1), rtol=1e-9)
    assert (steps[warmup:] <= 1e-15).all()
    assert (steps[warmup:] >= -largest_fall - 1e-12).all()


def test_the_stable_part_does_not_depend_on_the_length():
    assert [warmup_stable_decay(step, 100, 7) for step in range(50)] == [
        warmup_stable_decay(step, 1000, 7) for step in range(50)
    ]


@pytest.mark.parametrize(("steps", "warmup", "floor"), [(10, 0, 0.0), (200, 20, 0.1), (77, 5, 0.5)])
def test_schedules_against_torch(steps, warmup, floor):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    schedulers = torch.optim.lr_scheduler

    def factors(make, n):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule, found = make(optimizer), []
        for _ in range(n):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    linear = lambda start, end, n: lambda optimizer: schedulers.LinearLR(optimizer, start, end, total_iters=n)
    cosine = lambda optimizer: schedulers.CosineAnnealingLR(optimizer, steps - warmup, eta_min=floor)
    up = factors(linear(1 / (warmup + 1), 1.0, warmup), warmup) if warmup else []
    ours = [warmup_cosine(step, steps, warmup, floor) for step in range(steps)]
    np.testing.assert_allclose(ours, up + factors(cosine, steps - warmup), atol=1e-12)
    ours = [warmup_stable_decay(step, steps, warmup, 0.0, floor) for step in range(steps)]
    np.testing.assert_allclose(ours, up + [1.0] * (steps - warmup), atol=1e-12)
    ours = [warmup_stable_decay(step, steps, 0, 1.0, floor) for step in range(steps)]
    np.testing.assert_allclose(ours, factors(linear(1.0, floor, steps), steps), atol=1e-12)


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_stable_decay])
def test_after_its_last_step_a_schedule_stays_where_it_is(schedule):
    """A loop that goes on too long must neither climb again nor go uphill."""
    end = schedule(100, 100)
    assert {schedule(step, 100) for step in range(100, 300)} == {end}
    assert 0 <= end <= 0.1


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda p: AdamW(p, lr=-1), "lr must be at least 0, found -1"),
        (lambda p: AdamW(p, lr=float("nan")), "lr must be at least 0, found nan"),
        (lambda p: AdamW(p, eps=-1), "eps must be at least 0"),
        (lambda p: AdamW(p, betas=(1, 0)), "betas must be two numbers in"),
        (lambda p: AdamW(p, weight_decay=-1), "weight_decay must be at least 0"),
        (lambda p: Muon(p, momentum=1.5), r"momentum must be in \[0, 1\), found 1.5"),
        (lambda p: Muon(p, lr=math.inf), "lr must be at least 0, found inf"),
    ],
)
def test_settings_outside_their_range_are_refused(make, wrong):
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=wrong):
        make(bag.parameters())
