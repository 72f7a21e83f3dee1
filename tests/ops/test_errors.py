"""What does not fit is refused, in a message that names the operation, the rule, every input, and often a way out."""

import numpy as np
import pytest

from tinygrad_lm import Tensor, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, DtypeError, ShapeError, TinygradError, TokenError
from tinygrad_lm.testing import CASES, some_cases


def x(*shape, dtype="float32"):
    return np.ones(shape, dtype)


ids = np.array([1, 2])
words = ["no", "numbers"]
KEY = (1, "a", 0, 0)
binary = {name: [
    ((x(2, 3), x(2, 4)), {}, ShapeError, "could not be broadcast together"),
    ((x(2), x(2, dtype="float64")), {}, DtypeError, "hint : x.to(dtype=...) converts"),
] for name in ("add", "subtract", "multiply", "divide", "power", "maximum")}  # fmt: skip
axes = {name: [
    ((x(2, 3),), {"axis": 2}, ShapeError, "axis 2 is out of bounds"),
    ((x(2, 3),), {"axis": [0]}, DtypeError, "'list' object cannot be interpreted as an integer"),
    ((x(2, 3),), {"axis": 0.5}, DtypeError, "float"),
    ((x(2, 3),), {"axis": "0"}, DtypeError, "'str' object cannot be interpreted as an integer"),
] for name in ("sum", "mean", "max", "logsumexp", "softmax", "log_softmax")}  # fmt: skip

BAD = binary | axes | {
    "where": [
        ((x(2) > 0, x(2), x(3)), {}, ShapeError, "could not be broadcast together"),
        ((x(2) > 0, x(2), x(2, dtype="float64")), {}, DtypeError, "condition: (2,) bool cpu"),
        ((x(2), x(2), x(2)), {}, DtypeError, "the condition must be boolean, found float32\n"),
        ((np.array([0, 1]), x(2), x(2)), {}, DtypeError, "the condition must be boolean, found int64\n"),
    ],
    "max": [*axes["max"], ((x(2, 0),), {"axis": 1}, ShapeError, "an entry to every maximum")],
    "softmax": [*axes["softmax"], ((x(0),), {}, ShapeError, "at least one entry")],
    "negate": [((x(2) > 0,), {}, DtypeError, "boolean negative")],
    "exp": [
        ((x(2, dtype="uint8"),), {}, DtypeError, "booleans, bytes and unsigned integers have no real functions"),
    ],
    "reshape": [
        ((x(2, 3),), {"shape": (4, 2)}, ShapeError, "cannot reshape array of size 6"),
        ((x(2, 3),), {"shape": (2.0, 3)}, DtypeError, "'float' object cannot be interpreted as an integer"),
    ],
    "transpose": [((x(2, 3),), {"axes": (0, 0)}, ShapeError, "repeated axis")],
    "swapaxes": [((x(2, 3),), {"axis1": 0, "axis2": 2}, ShapeError, "out of bounds")],
    "broadcast_to": [((x(2, 3),), {"shape": (2, 4)}, ShapeError, "any shape that broadcasts to `shape`")],
    "getitem": [
        ((x(2, 3),), {"index": 2}, ShapeError, "index 2 is out of bounds"),
        ((x(2, 3),), {"index": (0, 0, 0)}, ShapeError, "too many indices"),
        ((x(2, 3),), {"index": "a"}, ShapeError, "only integers, slices"),
    ],
    "concat": [
        ((x(2, 3), x(2, 4)), {"axis": 0}, ShapeError, "xs[1]: (2, 4) float32 cpu"),
        ((), {}, ShapeError, "there is nothing to join"),
    ],
    "stack": [((x(2), x(3)), {}, ShapeError, "one or more equal shapes"), ((), {}, ShapeError, "nothing to stack")],
    "matmul": [
        ((x(3), x(3, 2)), {}, ShapeError, "hint : x[None, :] is a row"),
        ((x(2, 3), x(2, 3)), {}, ShapeError, "hint : b.swapaxes(-1, -2) would fit"),
        ((x(2, 3), x(4, 2)), {}, ShapeError, "a.shape[-1] = 3, b.shape[-2] = 4"),
        ((x(2, 2, 3), x(3, 3, 2)), {}, ShapeError, "(..., n, k) @ (..., k, m) -> (..., n, m)"),
    ],
    "linear": [
        ((x(2, 3), x(4, 5)), {}, ShapeError, "inner dimensions differ: x.shape = (2, 3), w.shape = (4, 5)"),
        ((x(2, 3), x(3, 5), x(3)), {}, ShapeError, "one entry for each of the 5 outputs"),
        ((x(), x(3, 5)), {}, ShapeError, "(..., i), (i, o)[, (o,)] -> (..., o)"),
        ((x(2, 3), x(3, 5, dtype="float64")), {}, DtypeError, "w    : (3, 5) float64 cpu"),
    ],
    "layer_norm": [((x(2, 3), x(2), x(3)), {}, ShapeError, "one entry for each of (3,) channels")],
    "rms_norm": [((x(2, 3), x(2, 3)), {}, ShapeError, "(..., C)[, (C,)] -> (..., C)")],
    "dropout": [
        ((x(2),), {"p": p, "key": KEY}, ConfigError, "p must be at least 0 and below 1") for p in (1.0, -0.1, 2)
    ],
    "embedding": [
        ((x(4, 2), np.array([1, 4, -1])), {}, TokenError, "token id 4 is outside the vocabulary of 4 (2 such ids)"),
        ((x(4, 2), np.array([-1])), {}, TokenError, "token id -1 is outside"),
        ((x(4, 2), x(3)), {}, DtypeError, "token ids must be integers, found float32"),
        ((x(4, 2), np.array([True])), {}, DtypeError, "token ids must be integers, found bool"),
        *(((x(*shape), ids), {}, ShapeError, f"two axes, found shape {shape}") for shape in [(), (4,), (4, 2, 2)]),
    ],
    "rotary": [
        ((x(2, 3, 1, 5),), {}, ShapeError, "the last of even size"),
        ((x(2, 3, 4),), {}, ShapeError, "four axes"),
        ((x(1, 3, 1, 4, dtype="int64"),), {}, DtypeError, "floating numbers to turn, found int64"),
        *(((x(1, 3, 1, 4),), {"base": base}, ConfigError, "base must be positive") for base in (0.0, -1.0, np.nan)),
        *(((x(1, 3, 1, 4),), {"scaling": scaling}, ConfigError, "all positive, with low below high, found")
          for scaling in [(8, 4, 1, 6), (8, 4, 4, 6), (0, 1, 4, 6), (8, -1, 4, 6), (8, 1, 4, 0), (8, 1, 4),
                          (np.nan, 1, 4, 6), (8, 1, np.inf, 6)]),
    ],
    "attention": [
        ((x(2, 3, 4), x(2, 3, 4), x(2, 3, 4)), {}, ShapeError, "four axes each"),
        ((x(1, 2, 2, 4), x(1, 2, 2, 4), x(1, 3, 2, 4)), {}, ShapeError, "k and v the same shape"),
        ((x(1, 2, 2, 4), x(1, 2, 2, 3), x(1, 2, 2, 3)), {}, ShapeError, "the head size of q and k differs"),
        ([x(1, 2, 2, 0)] * 3, {}, ShapeError, "the head size is 0"),
        ((x(1, 2, 3, 4), x(1, 2, 2, 4), x(1, 2, 2, 4)), {}, ShapeError, "3 query heads cannot share 2 key heads"),
        ((x(1, 3, 2, 4), x(1, 2, 2, 4), x(1, 2, 2, 4)), {}, ShapeError, "3 causal queries need as many keys, found 2"),
        ((x(1, 2, 2, 4), x(1, 2, 2, 4), x(1, 2, 2, 4)), {"p": 1, "key": KEY}, ConfigError, "p must be at least 0"),
        *((
            (x(1, 3, 2, 4), *[x(1, 4, 2, 4)] * 2), {"document_starts": np.array(starts), "causal": causal}, kind,
            f"document_starts{fragment}",
        ) for starts, causal, kind, fragment in [
            ([[0, 2, 4]], True, ConfigError, "[0, 2] = 4 is outside 0 to 3, the last key that this query sees"),
            ([[2, 0, 0]], True, ConfigError, "[0, 0] = 2 is outside 0 to 1"),
            ([[0, -1, 9]], True, ConfigError, "[0, 1] = -1 is outside 0 to 2, the last key that this query sees"),
            ([[0, -1, 9]], True, ConfigError, "[0, 1] = -1 is outside 0 to 2, the last key that this query sees (2"),
            ([[3, 3, 4]], False, ConfigError, "[0, 2] = 4 is outside 0 to 3"),
            ([0, 0, 0], True, ShapeError, " has shape (3,); expected (B, T) = (1, 3)"),
            ([[0]], True, ShapeError, " has shape (1, 1); expected (B, T) = (1, 3)"),
            ([[0.0, 0, 0]], True, DtypeError, " must be integers, found float64"),
        ]),
    ],
    "linear_log_probability": [
        ((x(2, 4), x(4, 3), np.array([0, 3])), {}, TokenError, "token id 3 is outside the vocabulary of 3"),
        ((x(2, 4), x(4, 3), np.array([0])), {}, ShapeError, "targets.shape must be x.shape[:-1]"),
    ],
    "log_probability": [
        ((x(2, 3), np.array([0, -1])), {}, TokenError, "token id -1 is outside"),
        ((x(2, 3), np.array([0])), {}, ShapeError, "targets.shape must be logits.shape[:-1]"),
        ((x(2, 3), x(2)), {}, DtypeError, "token ids must be integers"),
        ((x(2, 3), x(2) > 0), {}, DtypeError, "token ids must be integers, found bool"),
    ],
    "linear_cross_entropy": [
        ((x(2, 4), x(4, 3), np.array([0, 3])), {}, TokenError, "token id 3 is outside the vocabulary of 3"),
        ((x(2, 4), x(4, 3), np.array([0])), {}, ShapeError, "targets.shape must be x.shape[:-1]"),
        ((x(2, 4), x(4, 3), x(2) > 0), {}, DtypeError, "token ids must be integers, found bool"),
        ((x(2, 4), x(3, 4), np.array([0, 1])), {}, ShapeError, "inner dimensions differ"),
        ((x(2, 4), x(4, 3), x(2)), {}, DtypeError, "token ids must be integers"),
    ],
    "cross_entropy": [
        ((x(2, 3), np.array([0, 3])), {}, TokenError, "token id 3 is outside the vocabulary of 3"),
        ((x(2, 3), np.array([0, -1])), {}, TokenError, "token id -1 is outside"),
        ((x(2, 3), np.array([0])), {}, ShapeError, "targets.shape must be logits.shape[:-1]"),
        ((x(2, 3), x(2)), {}, DtypeError, "token ids must be integers"),
        ((x(2, 3), x(2) > 0), {}, DtypeError, "token ids must be integers, found bool"),
    ],
    "recompute": [((x(2, 3), x(2, 4)), {"function": ops.add}, ShapeError, "xs[1]: (2, 4) float32 cpu")],
}  # fmt: skip


def test_the_table_is_of_operations():
    assert BAD.keys() <= Op.registry.keys()


@pytest.mark.parametrize("name", sorted(Op.registry))
def test_every_operation_refuses_what_is_not_numbers_wherever_it_stands(name):
    case = some_cases(CASES[name], 5)[-1]
    for i in range(len(case.inputs)):
        with pytest.raises(DtypeError, match="expected numbers") as caught:
            Op.registry[name](*case.inputs[:i], words, *case.inputs[i + 1 :], **case.options)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "inputs", "options", "kind", "fragment"),
    [pytest.param(name, *bad, id=f"{name}-{i}") for name, all_bad in BAD.items() for i, bad in enumerate(all_bad)],
)
def test_a_bad_call_is_explained(name, inputs, options, kind, fragment):
    op = Op.registry[name]
    with pytest.raises(TinygradError) as caught:
        op(*map(Tensor, inputs), **options)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert isinstance(caught.value, ValueError)
    assert fragment in message
    if inputs:
        assert message.startswith(f"{name}: ")
        assert "\n  rule : " in message
        for a in inputs:
            assert f": {a.shape} {a.dtype} cpu" in message


def test_a_message_tells_where_an_input_comes_from():
    w = Tensor(x(3, 5), requires_grad=True, name="h.0.attn.weight")
    with pytest.raises(ShapeError, match=r"from exp\n  b    : .* parameter h\.0\.attn\.weight"):
        _ = ops.exp(Tensor(x(2, 4), requires_grad=True)) @ w


def test_ids_that_numpy_would_take_from_the_end_are_refused_on_the_way_to_the_loss():
    with pytest.raises(TokenError):
        ops.cross_entropy(x(1, 3), np.array([-100]), ignore_index=-1)
    assert ops.cross_entropy(x(1, 3), np.array([-100])).item() == 0


def test_a_call_that_python_refuses_stays_a_type_error():
    with pytest.raises(TypeError, match="missing"):
        ops.add(Tensor(1.0))
    with pytest.raises(TypeError, match="unexpected keyword"):
        ops.exp(Tensor(1.0), base=2)
