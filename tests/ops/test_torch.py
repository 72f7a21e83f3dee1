"""Every operation that PyTorch has, against PyTorch in float64: values to 1e-12, gradients to 1e-10."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm import Tensor
from tinygrad_lm.engine.op import Op
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it is only compared with")
import torch_gpt  # noqa: E402

F = torch.nn.functional
torch.set_num_threads(1)


def over(f):
    """A torch function over one dimension or several; axis=None means all."""
    return lambda x, axis=None, keepdims=False: f(x, dims(x, axis), keepdims)


def dims(x, axis):
    return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def softmax(f):
    """Several axes as one: torch's softmax has one."""

    def softmax_over(x, axis):
        axes = sorted(i % x.ndim for i in dims(x, axis))
        rest = [i for i in range(x.ndim) if i not in axes]
        order = rest + axes
        flat = x.permute(order).reshape(*(x.shape[i] for i in rest), -1 if x.numel() else 0 if rest else 1)
        return f(flat, -1).reshape([x.shape[i] for i in order]).permute(tuple(np.argsort(order)))

    return softmax_over


def getitem(x, index):
    """Negative steps are what torch's indexing lacks, and lists within tuples are deprecated there."""
    places = torch.tensor(np.arange(x.numel()).reshape(x.shape)[index].copy())
    return x.reshape(-1)[places]


def rotary(x, base, start, scaling):
    """By complex numbers, as in Llama's first code."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    frequency = torch.tensor([torch_gpt.stretched(scaling, f) for f in frequency.tolist()], dtype=torch.float64)
    angle = torch.outer(torch.arange(start, start + x.shape[1], dtype=torch.float64), frequency)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat((turned.real, turned.imag), -1)


def attention(q, k, v, causal, document_starts, p, key):
    T, S = q.shape[1], k.shape[1]
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T) if causal else torch.ones(T, S, dtype=torch.bool)
    if document_starts is not None:
        mask = (mask & (torch.arange(S) >= torch.tensor(np.array(document_starts))[..., None]))[:, None]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)


def log_probability(logits, targets, ignore_index):
    counted = targets != ignore_index
    logp = torch.log_softmax(logits, -1).gather(-1, torch.where(counted, targets, 0)[..., None])[..., 0]
    return torch.where(counted, logp, 0.0)


def cross_entropy(logits, targets, ignore_index):
    V = logits.shape[-1]
    loss = F.cross_entropy(logits.reshape(targets.numel(), V), targets.reshape(-1), ignore_index=ignore_index)
    return loss if (targets != ignore_index).any() else (logits * 0).sum()  # where torch says 0/0, and we say 0


def after_linear(function):
    return lambda x, w, *others, **options: function(x @ w, *others, **options)


# What PyTorch has under the same name, with the same arguments, needs no line here.
TORCH = {
    "power": torch.pow,
    "negate": torch.negative,
    "relu_squared": lambda x: torch.relu(x) ** 2,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sum": over(torch.sum),
    "mean": over(torch.mean),
    "max": over(torch.amax),
    "logsumexp": over(torch.logsumexp),
    "softmax": softmax(torch.softmax),
    "log_softmax": softmax(torch.log_softmax),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.permute(tuple(range(x.ndim))[::-1] if axes is None else axes),
    "swapaxes": lambda x, axis1, axis2: torch.swapaxes(x, axis1, axis2),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "getitem": getitem,
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "stack": lambda *xs, axis: torch.stack(xs, axis),
    "linear": lambda x, w, b=None: F.linear(x, w.T, b),
    "layer_norm": lambda x, w=None, b=None, eps=1e-5: F.layer_norm(x, x.shape[-1:], w, b, eps),
    "rms_norm": lambda x, w=None, eps=1e-6: F.rms_norm(x, x.shape[-1:], w, eps),
    "embedding": lambda w, ids: F.embedding(ids, w),
    "rotary": rotary,
    "attention": attention,
    "log_probability": log_probability,
    "linear_log_probability": after_linear(log_probability),
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": after_linear(cross_entropy),
}
NOT_IN_TORCH = {
    "dropout": "its random numbers are its own; see references.py",
    "recompute": "it computes what its function does",
    "to": "it computes nothing",
}


def torch_function(name):
    return TORCH.get(name) or getattr(torch, name, None) or getattr(F, name, None)


def test_the_tables_are_of_operations_and_all_of_today_are_compared():
    assert TORCH.keys() | NOT_IN_TORCH.keys() <= Op.registry.keys()
    assert not TORCH.keys() & NOT_IN_TORCH.keys()
    assert len([name for name in Op.registry if name not in NOT_IN_TORCH and torch_function(name)]) >= 40


def in_torch(x):
    x = np.array(x, np.int64 if x.dtype.kind in "iu" else x.dtype)
    return torch.tensor(x, requires_grad=x.dtype.kind == "f")


@pytest.mark.parametrize("name", sorted(Op.registry.keys() - NOT_IN_TORCH.keys()))
@given(data=st.data())
def test_value_and_gradients_are_pytorchs(name, data):
    if torch_function(name) is None:
        pytest.skip(
            "PyTorch has no function of this name; the reference in testing/cases.py is what it is compared with"
        )
    case, seed = data.draw(CASES[name]), data.draw(seeds)
    if case.options.get("p"):
        case.options |= {"p": 0.0, "key": None}
    compare(name, case, seed)


def compare(name, case, seed):
    ours = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs]
    theirs = [in_torch(x) for x in case.inputs]
    y, right = Op.registry[name](*ours, **case.options), torch_function(name)(*theirs, **case.options)
    assert y.shape == tuple(right.shape)
    np.testing.assert_allclose(y.data, right.detach().numpy(), rtol=1e-12, atol=1e-12)
    u = signed(np.random.default_rng(seed), y.shape)
    y.backward(u)
    right.backward(torch.tensor(u))
    for mine, other in zip(ours, theirs, strict=True):
        if mine.requires_grad:
            expected = np.zeros(mine.shape) if other.grad is None else other.grad.numpy()
            np.testing.assert_allclose(mine.grad, expected, rtol=1e-10, atol=1e-10)


def large(*shapes, ids=(), **options):
    """A case of the sizes that are met in training, and so beyond one block of any kernel."""
    rng = np.random.default_rng(0)
    inputs = [signed(rng, shape) for shape in shapes] + [rng.integers(0, n, shape) for n, shape in ids]
    return Case(tuple(inputs), options)


PLAIN = {"document_starts": None, "p": 0.0, "key": None}
PACKED = PLAIN | {"document_starts": np.arange(130) // np.array([[40], [130]]) * 40}  # four documents, and one
LOGITS = [large((4, 65, 500), ids=[(500, (4, 65))], ignore_index=7)]
FEATURES = [large((4, 65, 96), (96, 500), ids=[(500, (4, 65))], ignore_index=7)]
LARGE = {
    "attention": [
        large((2, 130, 6, 16), (2, 130, 6, 16), (2, 130, 6, 16), causal=True, **PLAIN),
        large((2, 130, 6, 16), (2, 130, 3, 16), (2, 130, 3, 16), causal=True, **PACKED),
        large((1, 130, 6, 8), (1, 200, 2, 8), (1, 200, 2, 8), causal=True, **PLAIN),
        large((2, 70, 4, 8), (2, 90, 1, 8), (2, 90, 1, 8), causal=False, **PLAIN),
    ],
    "log_probability": LOGITS,
    "linear_log_probability": FEATURES,
    "cross_entropy": LOGITS,
    "linear_cross_entropy": FEATURES,
    "layer_norm": [large((4, 65, 96), (96,), (96,), eps=1e-5)],
    "rms_norm": [large((4, 65, 96), (96,), eps=1e-6)],
    "linear": [large((4, 65, 96), (96, 160), (160,))],
    "embedding": [large((500, 32), ids=[(500, (4, 65))])],
    "gelu_tanh": [large((4, 65, 160))],
    "softmax": [large((4, 65, 500), axis=-1)],
}


@pytest.mark.parametrize(
    ("name", "case"), [pytest.param(n, c, id=f"{n}-{i}") for n in LARGE for i, c in enumerate(LARGE[n])]
)
def test_sizes_of_real_models(name, case):
    compare(name, case, 0)
