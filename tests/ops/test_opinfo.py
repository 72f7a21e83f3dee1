"""Every operation with a counterpart, on the inputs that PyTorch's own tests use (OpInfo): values and gradients.

Far-out numbers, integers, booleans and axes of 0-d arrays included. What differs is listed with its reason; a listed
difference that does not occur fails.
"""

import collections
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from slow import slow_but
from torch_databases import NotHereError, both, info, samples

from tinygrad_lm import Tensor, ops
from tinygrad_lm.errors import DtypeError, ShapeError, TinygradError

torch = pytest.importorskip("torch", reason="PyTorch, whose samples these are, is not installed")
torch.set_num_threads(1)


def absent(condition, reason):
    if condition:
        raise NotHereError(reason)


def binary(op):
    def call(a, b, alpha=1, rounding_mode=None):
        absent(rounding_mode, "rounding")
        return op(a, b if alpha == 1 else b * alpha)

    return call


def reduced(op):
    def call(x, dim=None, keepdim=False, dtype=None):
        absent(dtype, "a dtype of its own")
        return op(x, axis=tuple(dim) if isinstance(dim, list) else dim if dim != () else None, keepdims=keepdim)

    return call


def sized(x, *shape):
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape


def getitem(x, index):
    index = index if isinstance(index, tuple) else (index,)
    apart = [isinstance(i, (int, list, Tensor, np.ndarray)) for i in index]
    places = [i for i, advanced in enumerate(apart) if advanced]
    mixed = len(places) > 1 and places[-1] - places[0] + 1 > len(places)
    absent(mixed and int in map(type, index), "integers and arrays apart: torch's order of axes is its own")
    return x[index]


def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    absent(len(shape) != 1, "normalisation over several axes")
    absent(weight is None and bias is not None, "a bias without a weight")
    return ops.layer_norm(x, *[w for w in (weight, bias) if w is not None], eps=eps)


def rms_norm(x, shape, weight=None, eps=None):
    absent(len(shape) != 1, "normalisation over several axes")
    return ops.rms_norm(x, *[] if weight is None else [weight], eps=np.finfo(x.dtype).eps if eps is None else eps)


def linear(x, w, b=None):
    absent(w.ndim != 2, "a vector for the weight")
    return ops.linear(x, w.T, *[] if b is None else [b])


def embedding(w, ids, padding_idx=None, max_norm=None, scale_grad_by_freq=False, sparse=False, norm_type=2.0):
    absent(padding_idx is not None or max_norm or scale_grad_by_freq or sparse, "options of embedding")
    return ops.embedding(w, ids)


def classes_last(logits, targets, weight, label_smoothing):
    absent(weight is not None or label_smoothing, "weights of classes, smoothed labels")
    absent(targets.dtype.kind == "f", "probabilities for targets")
    return (ops.transpose(logits, axes=(0, *range(2, logits.ndim), 1)) if logits.ndim > 1 else logits), targets


def cross_entropy(logits, targets, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    logits, targets = classes_last(logits, targets, weight, label_smoothing)
    absent(not (targets.data != ignore_index).any(), "the mean over no target: 0 here, 0/0 there")
    if reduction == "mean":
        return ops.cross_entropy(logits, targets, ignore_index=ignore_index)
    y = -ops.log_probability(logits, targets, ignore_index=ignore_index)
    return y.sum() if reduction == "sum" else y


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    absent(attn_mask is not None or dropout_p or scale, "masks, dropout or a scale of one's own")
    absent(
        q.ndim not in (3, 4) or q.ndim != k.ndim or k.shape != v.shape, "other numbers of axes, other sizes of k and v"
    )
    absent(is_causal and q.shape[-2] != k.shape[-2], "causality counted from the first key")
    if q.ndim == 3:  # one head
        return ops.attention(*(x[:, :, None] for x in (q, k, v)), causal=is_causal)[:, :, 0]
    return ops.attention(*(x.swapaxes(1, 2) for x in (q, k, v)), causal=is_causal).swapaxes(1, 2)


def matmul(a, b):
    absent(a.ndim < 2 or b.ndim < 2, "products of vectors")
    return a @ b


# By the name of the OpInfo, "name/variant": torch's call, made with ours.
OURS = {
    "add": binary(ops.add), "sub": binary(ops.subtract), "mul": binary(ops.multiply),
    "div/no_rounding_mode": binary(ops.divide), "true_divide": binary(ops.divide), "pow": binary(ops.power),
    "float_power": binary(ops.power), "rsub": lambda a, b, alpha=1: b - a * alpha if alpha != 1 else b - a,
    "__radd__": lambda a, b: b + a, "__rsub__": lambda a, b: b - a, "__rmul__": lambda a, b: b * a,
    "__rdiv__": lambda a, b: b / a, "__rpow__": lambda a, b: b**a, "__rmatmul__": lambda a, b: matmul(b, a),
    "neg": ops.negate, "exp": ops.exp, "log": ops.log, "sqrt": ops.sqrt, "tanh": ops.tanh, "sigmoid": ops.sigmoid,
    "abs": abs, "square": lambda x: x * x, "reciprocal": lambda x: 1 / x, "rsqrt": lambda x: 1 / x.sqrt(),
    "maximum": ops.maximum, "max/binary": ops.maximum, "where": lambda a, condition, b: ops.where(condition, a, b),
    "eq": lambda a, b: Tensor(a == b), "ne": lambda a, b: Tensor(a != b), "lt": lambda a, b: Tensor(a < b),
    "le": lambda a, b: Tensor(a <= b), "gt": lambda a, b: Tensor(a > b), "ge": lambda a, b: Tensor(a >= b),
    "sum": reduced(ops.sum), "mean": reduced(ops.mean), "amax": reduced(ops.max), "logsumexp": reduced(ops.logsumexp),
    "max/reduction_no_dim": ops.max, "softmax": lambda x, dim, dtype=None: ops.softmax(x, axis=dim),
    "log_softmax": lambda x, dim, dtype=None: ops.log_softmax(x, axis=dim),
    "reshape": lambda x, *shape: x.reshape(sized(x, *shape)), "view": lambda x, *shape: x.reshape(sized(x, *shape)),
    "transpose": lambda x, a, b: x.swapaxes(a, b), "permute": lambda x, *axes: x.transpose(sized(x, *axes)),
    "mT": lambda x: x.swapaxes(-1, -2), "T": lambda x: x.T, "clone": lambda x, **_: x * 1,
    "broadcast_to": lambda x, shape: ops.broadcast_to(x, shape=tuple(shape)), "__getitem__": getitem,
    "cat": lambda xs, dim=0: ops.concat(*xs, axis=dim), "stack": lambda xs, dim=0: ops.stack(xs, axis=dim),
    "matmul": matmul, "mm": matmul, "bmm": matmul, "nn.functional.linear": linear,
    "nn.functional.relu": lambda x, inplace=False: ops.relu(x),
    "nn.functional.silu": lambda x, inplace=False: ops.silu(x),
    "nn.functional.gelu": lambda x, approximate="none": (ops.gelu if approximate == "none" else ops.gelu_tanh)(x),
    "nn.functional.layer_norm": layer_norm, "nn.functional.rms_norm": rms_norm, "nn.functional.embedding": embedding,
    "nn.functional.cross_entropy": cross_entropy, "nn.functional.scaled_dot_product_attention": attention,
}  # fmt: skip
TOLERANCES = {"float64": 1e-12, "float32": 2e-5}
LOOSER = {"nn.functional.scaled_dot_product_attention": 5}  # its gradients are differences of numbers of size 10

# Where ours differs from torch on its samples: {operation: {difference: (how often, why)}}.
SAMPLES = {
    "logsumexp": {"refused: axis 0 is out of bounds": (3, "NumPy's 0-d arrays have an axis 0, but not in a tuple")},
    "softmax": {"refused: zero-size array": (1, "a distribution over nothing is refused; torch returns nothing")},
    "log_softmax": {"refused: zero-size array": (1, "as for softmax")},
    "transpose": {"refused: axis1: axis 0 is out": (1, "a 0-d array has no axes to exchange; torch counts it as 1-d")},
    "cat": {"refused: axis 1 is out of bounds": (1, "torch skips an array of shape (0,), whatever the others' axes")},
    "nn.functional.layer_norm": {"gradient 1": (1, "of one channel the gradient is 0; torch's float32 has -4e-5")},
}
ONLY_FLOAT32 = {"nn.functional.layer_norm"}


def differences(name, sample, tolerance):
    """What differs between ours and torch's on a sample, as texts; NotHereError if it is not offered here."""
    try:
        found, right = both(info(name).op, sample, OURS[name], torch)
    except TinygradError as error:
        return [f"refused: {str(error).splitlines()[0].partition(': ')[2]}"]
    assert found.keys() == right.keys()
    return [what for what, y in right.items() if not close(found[what], y, tolerance).all()]


def close(x, y, tolerance):
    """Entry by entry; numbers to a tolerance of the largest one."""
    if x.shape != y.shape:
        return np.array(False)
    size = np.abs(y, where=np.isfinite(y), out=np.ones(y.shape)).max(initial=1)
    return np.isclose(x, y, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def tally(found, listed):
    """Raise AssertionError unless the differences found are exactly those listed, as often as listed."""
    left = collections.Counter(found)
    for text, (times, _) in listed.items():
        here = [what for what in left if what.startswith(text)]
        assert sum(left.pop(what) for what in here) == times, f"listed {times} times: {text}; found {found}"
    assert not left, "differs from torch, and is not listed"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # negative numbers to broken powers, NaN in both
@pytest.mark.parametrize("dtype", slow_but(TOLERANCES, "float64"))
@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients_are_torchs(name, dtype, record_property):
    found, compared = [], 0
    for sample in samples(name, getattr(torch, dtype), torch):
        try:
            found += differences(name, sample, TOLERANCES[dtype] * LOOSER.get(name, 1))
            compared += 1
        except NotHereError:
            pass
    assert compared
    record_property("compared", compared)
    tally(found, {} if name in ONLY_FLOAT32 and dtype == "float64" else SAMPLES.get(name, {}))


# ---- NaN, infinities and signed zeros

FAR = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.5)
NAN_GRADIENT = "the value is NaN in both; the gradient is 0 here, where nothing is greater, and dy there"
FAR_DIFFERENCES = {
    "nn.functional.relu": {"gradient 0 at nan": (1, NAN_GRADIENT)},
    "maximum": {
        "gradient 0 at nan": (7, NAN_GRADIENT), "gradient 1 at nan": (7, NAN_GRADIENT),
        **{f"gradient {i} at {x}, nan": (1, NAN_GRADIENT) for i in (0, 1) for x in FAR[1:]},
    },
    "pow": {
        **{f"gradient 1 at {x}, {y}": (1, "aᵇ = 0, where the gradient is 0 whatever log a is; there NaN")
           for x, y in ((math.inf, -math.inf), (math.inf, -2.5), (-math.inf, -math.inf), (-math.inf, -2.5),
                        (-2.5, -math.inf))},
        **{f"gradient 1 at {x}, {y}": (1, "0⁰ = 1 falls to 0 at once: −∞, the one-sided limit; there 0")
           for x in (0.0, -0.0) for y in (0.0, -0.0)},
    },
}  # fmt: skip
ONE = [
    "neg", "exp", "log", "sqrt", "tanh", "sigmoid", "abs", "square", "reciprocal", "rsqrt", "nn.functional.relu",
    "nn.functional.silu", "nn.functional.gelu",
]  # fmt: skip
TWO = ["add", "sub", "mul", "true_divide", "pow", "maximum", "eq", "ne", "lt", "le", "gt", "ge"]
OTHERS = {
    "gelu_tanh": (lambda x: torch.nn.functional.gelu(x, approximate="tanh"), ops.gelu_tanh),
    "relu_squared": (lambda x: torch.relu(x) ** 2, ops.relu_squared),
}


def far_differences(name, *inputs, **options):
    """Where value and gradients differ from torch's in float64, as texts: "gradient 1 at nan, 0.0"."""
    theirs, ours = OTHERS.get(name) or (info(name).op, OURS[name])
    first, *others = (torch.tensor(x) if isinstance(x, (list, np.ndarray)) else x for x in inputs)
    sample = SimpleNamespace(input=first, args=others, kwargs=options)
    with np.errstate(all="ignore"):
        found, right = both(theirs, sample, ours, torch)
    for what, y in right.items():
        for place in np.argwhere(~close(found[what], y, 1e-12)):
            yield what, tuple(place)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [*ONE, *OTHERS])
def test_far_out_numbers(name):
    found = [f"{what} at {FAR[i]}" for what, (i,) in far_differences(name, np.array(FAR))]
    tally(found, FAR_DIFFERENCES.get(name, {}))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TWO)
def test_pairs_of_far_out_numbers(name):
    a, b = np.array(list(itertools.product(FAR, FAR))).T
    found = [f"{what} at {a[i]}, {b[i]}" for what, (i,) in far_differences(name, a, b)]
    tally(found, FAR_DIFFERENCES.get(name, {}))


def test_where_of_far_out_numbers():
    a, b = np.array(list(itertools.product(FAR, FAR))).T
    for shift in (0, 1):
        assert list(far_differences("where", a, np.arange(len(a)) % 2 == shift, b)) == []


ROWS = np.array(list(itertools.product((math.nan, math.inf, -math.inf, 0.0, 2.0), repeat=3)))
REDUCTIONS = dict.fromkeys(("sum", "mean", "amax", "logsumexp", "softmax", "log_softmax"), (-1,))
REDUCTIONS |= {f"nn.functional.{name}": ((3,), np.array([1.0, 2, 3])) for name in ("layer_norm", "rms_norm")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows_of_far_out_numbers(name):
    """Only the gradient of a maximum that is NaN differs: shared by the entries that are NaN, and NaN there."""
    found = list(far_differences(name, ROWS, *REDUCTIONS[name]))
    if name == "amax":
        with_nan = np.argwhere(np.isnan(ROWS).any(1, keepdims=True) & np.ones(3, bool))
        assert sorted(found) == [("gradient 0", tuple(place)) for place in with_nan.tolist()]
    else:
        assert found == []


# ---- integers and booleans

NO_NEGATIVE = (8, "2 to the power −1 is no integer; torch gives 0")
NO_REAL = ("refused: booleans, bytes and unsigned", "refused: numpy boolean", "refused: The numpy boolean")
REAL = {"exp": 3, "log": 3, "sqrt": 1, "tanh": 1, "sigmoid": 3, "rsqrt": 3, "logsumexp": 4, "reciprocal": 3}
REAL |= {"div/no_rounding_mode": 9, "true_divide": 9, "__rdiv__": 9}
WHOLE = {
    "int64": {"__rpow__": {"refused: Integers to negative integer powers": NO_NEGATIVE}},
    "uint8": {name: {"value": (1, "a bare integer is int64 here, uint8 there")} for name in ("add", "sub", "rsub")}
    | {"float_power": {"value": (7, "powers of bytes are bytes, as for `pow`; torch's float_power is for others")}},
    "bool": {},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("name", OURS)
def test_integers_and_booleans(name, dtype):
    """As torch, or refused where NumPy's would be wrong: 1 − 2 is 255 for bytes, so their softmax would be, too."""
    kind = getattr(torch, dtype)
    if kind not in info(name).dtypes:
        return  # no counterpart
    found = []
    for sample in samples(name, kind, torch):
        try:
            with np.errstate(divide="ignore", over="ignore"):
                found += differences(name, sample, 1e-6)
        except NotHereError:
            pass
    listed = {text: entry for text, entry in SAMPLES.get(name, {}).items() if text.startswith("refused: axis")}
    if dtype != "int64":
        refused = [what for what in found if what.startswith(NO_REAL)]
        assert len(refused) == REAL.get(name, 0)
        found = [what for what in found if what not in refused]
    listed |= {text: (1, "") for text in listed if name == "logsumexp" and text.startswith("refused: axis")}
    tally(found, listed | WHOLE[dtype].get(name, {}))


NO_TORCH = [
    ("softmax", ops.softmax), ("log_softmax", ops.log_softmax), ("silu", ops.silu), ("gelu", ops.gelu),
    ("gelu_tanh", ops.gelu_tanh), ("layer_norm", ops.layer_norm), ("rms_norm", ops.rms_norm), ("mean", ops.mean),
    ("cross_entropy", lambda x: ops.cross_entropy(x, np.array([0, 1]))), ("divide", lambda x: x / 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f"), NO_TORCH, ids=[name for name, _ in NO_TORCH])
def test_real_functions_of_integers(name, f):
    """Of int64 and int32 in float64, as NumPy; of others refused."""
    x = np.array([[0, 1, 2], [3, 0, 1]])
    right = f(Tensor(x.astype("float64"))).data
    for dtype in ("int64", "int32"):
        np.testing.assert_allclose(f(Tensor(x.astype(dtype))).data, right, rtol=1e-15)
    for dtype in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "bool"):
        refused = pytest.raises(DtypeError, match=r"no real functions here(.|\n)*to\(dtype|not supported")
        with refused, np.errstate(over="ignore", invalid="ignore"):
            f(Tensor(x.astype(dtype)))


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int64"])
def test_absolute_values_and_the_least_of_integers(dtype):
    x = Tensor(np.array([0, 1, 200], dtype))
    assert np.array_equal(abs(x).data, [0, 1, 200])


def test_rotations_and_attention_of_integers_are_refused():
    """cos and sin as integers would be 0 and 1."""
    x = np.ones((1, 3, 1, 4), int)
    with pytest.raises(DtypeError, match="rotary: expected floating numbers"):
        ops.rotary(x)
    with pytest.raises(DtypeError, match="attention: "):
        ops.attention(x, x, x)


# ---- axes of 0-d arrays


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "logsumexp", "softmax", "log_softmax"])
def test_an_axis_of_a_0d_array(name, axis):
    """NumPy's 0-d arrays have an axis 0, and −1, over one entry; so do torch's."""
    if axis is None and "softmax" in name:
        return
    assert list(far_differences(name, np.array(3.0), 0 if axis is None else axis)) == []
    operation = getattr(ops, name.removeprefix("a"))
    x = Tensor(np.array(3.0), requires_grad=True)
    operation(x, axis=axis).backward()
    assert x.grad.shape == ()
    for wrong in (1, -2):
        with pytest.raises(ShapeError, match=f"axis {wrong} is out of bounds"):
            operation(x, axis=wrong)
