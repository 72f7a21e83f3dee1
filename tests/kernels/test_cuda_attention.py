"""What only the attention kernels have: weights that are dropped, documents, and what no tile may do."""

import cuda_emulator
import numpy as np
import pytest
import strict_array
from cuda_checks import agree, cotangent, expected, on_device, on_host
from cuda_sizes import documents
from hypothesis import given, settings
from slow import first_of_each

from tinygrad_lm import ops
from tinygrad_lm.backend import random
from tinygrad_lm.errors import ConfigError, ShapeError
from tinygrad_lm.kernels.cuda import compile as cuda_compile
from tinygrad_lm.ops.dropout import keep
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.cases import CASES

few = settings(max_examples=settings.default.max_examples // 5)


@pytest.fixture(autouse=True)
def bf16():
    return pytest.importorskip("ml_dtypes").bfloat16


def numbers(dtype, *shape):
    return np.random.default_rng(shape[1]).standard_normal(shape).astype(dtype)


def inputs(dtype, B, T, S, H, G, D):
    return tuple(numbers(dtype, *shape) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, D)))


@pytest.mark.parametrize(("T", "D"), first_of_each([(16, 16), (60, 64), (100, 128)], lambda size: "size"))
def test_the_weights_dropped_are_the_definitions(xp, bf16, T, D):
    """Seen one by one: equal weights times unit vectors, forward and in both ways back."""
    B, H, S, key = 2, 4, D, (1, "test", 5, 2**40)
    drawn = np.array([random(1, "test", 5, 2**40 + b).random((H, T, S), "float32") for b in range(B)])
    p = drawn.flat[abs(drawn - 0.3).argmin()]  # its last bit decides that one
    p = float(p if D == 128 else np.nextafter(p, np.float32(1)))
    kept = drawn >= p
    assert not kept.all(-1).any()  # of a row that is kept as a whole dq would be 0
    unit = np.broadcast_to(np.eye(S, D)[:, None], (B, S, 2, D)).astype(bf16)
    ones = xp.asarray(np.ones((B, S, 2, D), bf16))
    q, dy = xp.asarray(np.zeros((B, T, H, D), bf16)), xp.asarray(np.full((B, T, H, D), 1 / D, bf16))
    options = {"causal": False, "p": p, "key": key}
    y, _ = ops.attention.run(q, xp.asarray(unit), xp.asarray(unit), **options)
    assert np.array_equal(y.get().transpose(0, 2, 1, 3) != 0, kept)
    dq = ops.attention.run(q, xp.asarray(unit), ones, **options)[1](dy)[0]()
    assert np.array_equal(dq.get().astype("f4").transpose(0, 2, 1, 3) > 0, kept)
    one = np.broadcast_to(np.eye(T, D)[:, None], (B, T, H, D)) * (np.arange(H)[:, None] % 2)  # of a group's two heads
    dv = ops.attention.run(q, xp.asarray(unit), ones, **options)[1](xp.asarray(one.astype(bf16)))[2]()
    found = dv.get().transpose(0, 2, 3, 1)[:, :, :T] != 0
    assert np.array_equal(found, kept[:, 1::2])


@pytest.mark.parametrize("name", ["attention", "dropout"])
def test_the_counter_may_lie_on_the_device(xp, bf16, name):
    """A step that was captured finds there which step it is."""
    x = inputs(bf16, 1, 40, 40, 2, 1, 16)
    case = Case(x if name == "attention" else x[:1])
    counter = xp.asarray(np.zeros(2, np.uint64))
    for step in (5, 2**63 + 1):
        words = np.array([step, 2], np.uint64)
        counter += xp.asarray(words) - counter
        dy = cotangent(np.random.default_rng(0), name, Case(case.inputs, {"p": 0.3, "key": (9, "a", 0, 0)}), bf16)
        found = on_device(xp, name, Case(case.inputs, {"p": 0.3, "key": (9, "a", counter)}), dy)
        right = on_device(xp, name, Case(case.inputs, {"p": 0.3, "key": (9, "a", step, 2)}), dy)
        assert [a.tobytes() for a in found] == [b.tobytes() for b in right]
    for wrong in (counter[:1], counter.astype(np.int64)):
        with pytest.raises(ShapeError, match=r"\(2,\) of uint64"):
            on_device(xp, name, Case(case.inputs, {"p": 0.3, "key": (9, "a", wrong)}), dy)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90", "100"])
def test_heads_of_64_are_right_with_each_gpus_instructions(xp, bf16, monkeypatch, capability):
    """Several tiles and blocks, with and without dropout: 9.x alone has wgmma."""
    if xp is not strict_array:
        pytest.skip("the GPU has one capability")
    monkeypatch.setattr(cuda_emulator, "capability", capability)
    compiled, launched = cuda_compile.compiled, set()
    monkeypatch.setattr(
        cuda_compile, "compiled", lambda *key: [launched.add(dict(key[-1]).get("WGMMA")), compiled(*key)][1]
    )
    for options in ({"p": 0.3, "key": (1, "test", 2, 3)}, {"causal": False}):
        case = Case(inputs(bf16, 2, 70, 136, 2, 1, 64), options)
        dy = cotangent(np.random.default_rng(0), "attention", case, bf16)
        for cuda_emulator.order in (1, 2, 0):
            agree(on_device(xp, "attention", case, dy), expected("attention", case, dy), case, "bfloat16")
    assert launched - {None} == {int(capability == "90")}


@pytest.mark.slow
def test_starts_may_lie_on_the_device(xp, bf16):
    starts = documents(np.random.default_rng(0), 2, 70, 90, True)
    case = Case(inputs(bf16, 2, 70, 90, 2, 2, 32), {"document_starts": starts})
    dy = cotangent(np.random.default_rng(0), "attention", case, bf16)
    for dtype in (np.int32, np.int64, np.uint16):
        device = Case(case.inputs, {"document_starts": xp.asarray(starts.astype(dtype))})
        agree(on_device(xp, "attention", device, dy), expected("attention", case, dy), case, "bfloat16")


@pytest.mark.parametrize(
    ("D", "options"), [(24, {}), (144, {}), (16, {"p": 0.3, "key": (1, "test", 2, 3)})], ids=["odd", "large", "ragged"]
)
def test_what_no_tile_fits_goes_to_the_definition(xp, bf16, D, options):
    implementation = ops.attention.implementation("cuda", np.dtype(bf16))
    assert implementation(*map(xp.asarray, inputs(bf16, 1, 5, 12, 2, 1, D)), **options) is NotImplemented
    case = Case(inputs(bf16, 1, 5, 12, 2, 1, D), options)
    dy = cotangent(np.random.default_rng(0), "attention", case, bf16)
    agree(on_device(xp, "attention", case, dy), expected("attention", case, dy), case, "bfloat16")


def test_impossible_probabilities_are_refused(xp, bf16):
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        ops.attention.run(*map(xp.asarray, inputs(bf16, 1, 8, 8, 1, 1, 16)), p=1.0, key=(1, "test", 2, 3))


@pytest.mark.slow
def test_future_gradients_are_exactly_zero(xp, bf16):
    rng = np.random.default_rng(0)
    q, k, v = (xp.asarray(x.astype(bf16)) for x in rng.standard_normal((3, 1, 70, 2, 16)))
    y, backward = ops.attention.run(q, k, v)
    for t in (0, 3, 63, 64, 68):
        dy = np.zeros(y.shape, bf16)
        dy[:, t] = rng.standard_normal(dy[:, t].shape)
        _, dk, dv = (dx.astype("float32") for dx in on_host(backward(xp.asarray(dy))))
        assert dv[:, : t + 1].any()
        assert not dk[:, t + 1 :].any()
        assert not dv[:, t + 1 :].any()


@pytest.mark.slow
def test_the_zeros_that_fill_a_tile_never_win(xp, bf16):
    """All logits near −140: exp of a padding's 0 less their log-sum would be infinite."""
    rng = np.random.default_rng(0)
    q, k, v = ((rng.standard_normal((1, 70, 1, 32)) + mean).astype(bf16) for mean in (5, -5, 0))
    y, backward = ops.attention.run(*map(xp.asarray, (q, k, v)), causal=False)
    assert all(np.isfinite(x.astype("float32")).all() for x in (y.get(), *on_host(backward(xp.asarray(v)))))


@few
@given(case=CASES["attention"])
def test_attentions_mask_is_the_definitions(xp, case):
    B, T, H, S = *case.inputs[0].shape[:3], case.inputs[1].shape[1]
    key = (1, "test", B, T)
    for dtype in ("float32", "float64"):
        P = np.zeros((B, H, T, S), dtype)
        found = keep(xp.asarray(P), 0.3, key)
        assert found.dtype == bool
        assert np.array_equal(found.get(), keep.definition(P, 0.3, key))
