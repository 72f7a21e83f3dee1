"""A rule that returns something of another form is named, with what it returned and what was expected."""

import numpy as np
import pytest

from tinygrad_lm import Tensor, gradcheck, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import GradientError, ShapeError

A, B = np.full((2, 3), 0.5), np.full((3,), 2.0)
few = {"verbose": False}


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Operations of these tests leave no trace."""
    monkeypatch.setattr(Op, "registry", {})


def product(back, pair=tuple):
    """An operation of two inputs whose rule gives pair((y, function)), where the function gives back(dy, a, b)."""

    def my_product(a, b):
        """y = a b        da = dy b,  db = dy a

        a, b: any shapes that broadcast
        """
        return pair((a * b, lambda dy: back(dy, a, b)))

    return Op(my_product)


BACKWARDS = {
    "an array": (lambda dy, a, b: dy * b, "backward returned an array of shape (2, 3); expected a tuple with one"),
    "two rows": (lambda dy, a, b: np.stack([dy * b, dy * a]), "backward returned an array of shape (2, 2, 3);"),
    "None": (lambda dy, a, b: None, "backward returned None; expected a tuple with one gradient for each input"),
    "too few": (lambda dy, a, b: (dy * b,), "backward returned a tuple of 1 gradients; expected 2, one for each input"),
    "too many": (lambda dy, a, b: (dy * b, dy * a, dy), "backward returned a tuple of 3 gradients; expected 2,"),
    "a number": (lambda dy, a, b: (dy * b, 1.0), "a gradient is a float: 1.0; expected an array, or None"),
    "another shape": (lambda dy, a, b: (dy * b, np.ones(5)), "ShapeError: backward: a gradient of shape (5,) arrived"),
    "a mistake of its own": (lambda dy, a, b: (dy * b, dy / a.nothing), "AttributeError: 'numpy.ndarray' object has"),
}


@pytest.mark.parametrize("name", BACKWARDS)
def test_an_operation_with_the_wrong_gradients_is_named(name):
    back, found = BACKWARDS[name]
    wrong = product(back)
    with pytest.raises(GradientError) as caught:
        gradcheck(lambda a, b: ops.exp(wrong(ops.tanh(a), b)), A, B, **few)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"gradcheck: operation my_product: {found}")
    assert rest == [
        "  rule : it returns its value and a function from dy to a tuple of gradients: `return y, backward`",
        "  op   : y = a b        da = dy b,  db = dy a",
        "  input: a, b",
    ]


PAIRS = {
    "the value alone, of two rows": (lambda pair: pair[0], "in place of `backward` the rule returned an array of"),
    "nothing": (lambda pair: None, "TypeError: cannot unpack non-iterable NoneType object"),
    "three things": (lambda pair: (*pair, 1), "ValueError: too many values to unpack"),
    "a number as the value": (lambda pair: (1.0, pair[1]), "AttributeError: 'float' object has no attribute 'dtype'"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_rule_that_returns_no_pair_is_named(name):
    pair, found = PAIRS[name]
    wrong = product(lambda dy, a, b: (dy * b, dy * a), pair)
    with pytest.raises(GradientError) as caught:
        gradcheck(lambda a, b: wrong(a, b).sum(), A, B, **few)
    assert str(caught.value).startswith(f"gradcheck: operation my_product: {found}")


def test_gradients_in_a_list_or_as_functions_are_of_the_right_form():
    right = product(lambda dy, a, b: [lambda: dy * b, dy * a])
    assert gradcheck(right, A, B, **few).passed


def test_mistakes_elsewhere_keep_their_own_errors():
    def not_mine(a):
        raise KeyError("a mistake of the function")

    with pytest.raises(KeyError):
        gradcheck(not_mine, A, **few)
    with pytest.raises(ShapeError, match="matmul"):
        gradcheck(lambda a: a @ np.ones((2, 2)), A, **few)
    with pytest.raises(GradientError, match=r"the function returned an array of shape \(2, 3\); expected a tensor"):
        gradcheck(lambda a: a.data, A, **few)
    with pytest.raises(GradientError, match="the function returned a tuple of 2; expected a tensor"):
        gradcheck(lambda a: (a, Tensor(a.data)), A, **few)
