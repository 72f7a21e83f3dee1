"""The optimizers step by step against references of 50 digits (tests/helpers/optim_checks.py), and the schedules."""

import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_checks import SHAPES, Bag, Course, clips, follows_adamw, follows_muon

from tinygrad_lm import kernels
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.errors import ConfigError, DtypeError
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.optim.muon import COEFFICIENTS, Muon, orthogonalize, product
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
    AdamW(bag.parameters(), lr=0.25, eps=1e-300, weight_decay=0.0).step(0.5)
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


def polynomial(size):
    for a, b, c in COEFFICIENTS:
        size = a * size + b * size**3 + c * size**5
    return size


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_refused_where_the_polynomial_explodes(dtype):
    """A singular value of 1 that half precision makes 1.01 would become 7,400."""
    assert 1.85 < polynomial(1.0) < 1.86
    assert polynomial(1.002) > 20
    assert polynomial(1.01) > 7000
    x = np.eye(4).astype(dtype_of(dtype))
    for wrong in (x, x[:2], x[:, :2]):
        with pytest.raises(DtypeError, match=f"Muon: {dtype} rounds singular values to above 1"):
            orthogonalize(wrong)


def test_no_product_of_muon_rounds_what_it_multiplies():
    """Whatever stands in for it is for float32 as it is, on every device, with all kernels imported.

    Products that round need other polynomials: kernels/bfloat16/muon.py and its tests.
    """
    assert product.implementations
    assert {dtype for _, dtype in product.implementations} <= {"float32", "float64"}


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (64, 64)])
def test_one_dominant_direction_stays_below_two_in_float32(shape):
    """Rank one is where the largest singular value is 1 up to rounding."""
    rng = np.random.default_rng(0)
    x = np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1])).astype("float32")
    assert np.linalg.norm(orthogonalize(x), 2) < 1.87


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


NAN = math.nan
RATE, PAIR, MOMENTUM = "at least 0 and finite", r"two numbers in \[0, 1\)", r"in \[0, 1\)"
REFUSED = {
    (AdamW, "lr", RATE): [-1, NAN, math.inf, "a", None, 1j, [1e-3], np.array([1e-3])],
    (AdamW, "eps", "positive and finite"): [-1, 0, 0.0, NAN, math.inf, "a"],
    (AdamW, "betas", PAIR): [(1, 0), (0, 1.0), (-0.1, 0.9), (0.9, NAN), (0.9,), (0.9, 0.9, 0.9), 0.9, "ab", None],
    (AdamW, "weight_decay", RATE): [-1, NAN, math.inf, "a"],
    (Muon, "lr", RATE): [-1, NAN, math.inf, "a", None],
    (Muon, "momentum", MOMENTUM): [1.5, 1, -0.1, NAN, "a", None, (0.9,)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "name", "rule", "value"),
    [
        pytest.param(*key, x, id=f"{key[0].__name__}-{key[1]}-{i}")
        for key, xs in REFUSED.items()
        for i, x in enumerate(xs)
    ],
)
def test_settings_outside_their_range_are_refused(make, name, rule, value):
    """When the optimizer is made, naming the setting, its range and what was found; before, (1, 0) divided by zero."""
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=f"^{make.__name__}: {name} must be {rule}, found {re.escape(repr(value))}$"):
        make(bag.parameters(), **{name: value})


def test_all_wrong_settings_are_in_one_message():
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"betas must(.|\n)*eps must(.|\n)*lr must(.|\n)*weight_decay must"):
        AdamW(bag.parameters(), lr=-1, betas=(2, 0), eps=0, weight_decay=NAN)


def test_settings_at_the_ends_of_their_ranges_are_taken():
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    bag.flat.grad[...] = 1
    for optimizer in (
        AdamW(bag.parameters(), lr=0, betas=[0, np.float32(0)], eps=1e-300, weight_decay=0),
        AdamW(bag.parameters(), lr=np.float64(1e-3), betas=(0.0, 0.999999)),
        Muon(bag.parameters(), lr=0, momentum=0),
    ):
        optimizer.step()
        assert np.isfinite(bag.flat.data).all()


@pytest.mark.parametrize("limit", [-1, -1e-9, NAN, math.inf, "a", None])
def test_clipping_to_no_norm_is_refused(limit):
    """To a norm of −1 all gradients would turn round; to NaN all would be lost."""
    bag = Bag({"a": (2, 3)}, np.random.default_rng(0))
    bag.flat.grad[...] = 1
    with pytest.raises(ConfigError, match="clip_gradients: max_norm must be at least 0 and finite, found"):
        clip_gradients(bag.flat, limit)
    assert np.array_equal(bag.flat.grad, np.ones(6))


@pytest.mark.parametrize("size", [1e20, 3e38, 1e-30])
@pytest.mark.parametrize("enabled", [True, False], ids=["kernels", "definitions"])
def test_squares_beyond_float32_are_clipped_as_any_others(size, enabled):
    """1e20² overflows float32, and 1e-30² underflows; the norm does not."""
    bag = Bag({"a": (2, 8)}, np.random.default_rng(0)).initialize()
    assert bag.flat.grad.dtype == "float32"
    bag.flat.grad[...] = size
    with nullcontext() if enabled else kernels.disabled(), np.errstate(over="ignore"):
        norm = clip_gradients(bag.flat, size)
    assert math.isclose(norm, 4 * size, rel_tol=1e-6)
    np.testing.assert_allclose(bag.flat.grad, size / 4, rtol=1e-6)
