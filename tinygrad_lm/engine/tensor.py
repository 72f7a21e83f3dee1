"""Tensor: its operators and methods, a line each; the operations behind them are in ops/. The page has only +."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinygrad_lm.backend import Array, Axis
from tinygrad_lm.engine.variable import Variable, plain, recorded
from tinygrad_lm.errors import GraphError, ShapeError

operations = SimpleNamespace()  # every operation by its name; @op puts it there
spellings: dict[str, str] = {}  # how what other libraries have is written here; tinygrad_lm/habits.py puts it there


def spelled(*names):
    """A hint for each of these names that is known from another library."""
    return "".join(f"\n  hint : {name} is written {spellings[name]}" for name in names if name in spellings)


def in_place(sign):
    """A method for an operator such as +=: it gives a result, as + does, and refuses a leaf."""

    def refuse(self: Tensor, other: ArrayLike) -> Tensor:
        if self.node is not None and self.node.op is None:
            raise GraphError(
                f"{sign}: a leaf {self.describe()} would be replaced by a result, and would never be trained again\n"
                f"  hint : x.data {sign} ... changes its values in place; y = x {sign[:-1]} ... makes a result"
            )
        return NotImplemented  # then Python takes the operator without =

    return refuse


class Tensor(Variable):
    """An n-dimensional array that operations record a graph for.

    data is a NumPy or CuPy array (shared, not copied), a number, or nested lists (numbers become float32 and int64).
    With requires_grad=True it is a leaf: after `loss.backward()` its `grad` holds ∂loss/∂data. Gradients of several
    backward passes add up until `zero_grad()`.

    Arrays are not to be changed in place between the forward pass and `backward`: the gradients would be computed from
    the new values.
    """

    __slots__ = ()
    __array_ufunc__ = None  # so that `array + tensor` comes to __radd__, not element by element

    # fmt: off
    def __add__(self, other: ArrayLike) -> Tensor: return operations.add(self, other)
    def __radd__(self, other: ArrayLike) -> Tensor: return operations.add(other, self)
    def __sub__(self, other: ArrayLike) -> Tensor: return operations.subtract(self, other)
    def __rsub__(self, other: ArrayLike) -> Tensor: return operations.subtract(other, self)
    def __mul__(self, other: ArrayLike) -> Tensor: return operations.multiply(self, other)
    def __rmul__(self, other: ArrayLike) -> Tensor: return operations.multiply(other, self)
    def __truediv__(self, other: ArrayLike) -> Tensor: return operations.divide(self, other)
    def __rtruediv__(self, other: ArrayLike) -> Tensor: return operations.divide(other, self)
    def __pow__(self, other: ArrayLike) -> Tensor: return operations.power(self, other)
    def __rpow__(self, other: ArrayLike) -> Tensor: return operations.power(other, self)
    def __matmul__(self, other: ArrayLike) -> Tensor: return operations.matmul(self, other)
    def __rmatmul__(self, other: ArrayLike) -> Tensor: return operations.matmul(other, self)
    def __neg__(self) -> Tensor: return operations.negate(self)
    def __abs__(self) -> Tensor: return operations.where(self < 0, -self, self.relu())

    __iadd__, __isub__, __imul__ = in_place("+="), in_place("-="), in_place("*=")
    __itruediv__, __ipow__, __imatmul__ = in_place("/="), in_place("**="), in_place("@=")

    # Comparisons are entry by entry, and give arrays of booleans: these have no derivative.
    def __eq__(self, other: object) -> Any: return self.data == values(other)
    def __ne__(self, other: object) -> Any: return self.data != values(other)
    def __lt__(self, other: ArrayLike) -> Array: return self.data < values(other)
    def __le__(self, other: ArrayLike) -> Array: return self.data <= values(other)
    def __gt__(self, other: ArrayLike) -> Array: return self.data > values(other)
    def __ge__(self, other: ArrayLike) -> Array: return self.data >= values(other)
    __hash__ = object.__hash__  # by identity: a tensor can be the key of a dict

    def exp(self) -> Tensor: return operations.exp(self)
    def log(self) -> Tensor: return operations.log(self)
    def sqrt(self) -> Tensor: return operations.sqrt(self)
    def tanh(self) -> Tensor: return operations.tanh(self)
    def sigmoid(self) -> Tensor: return operations.sigmoid(self)
    def relu(self) -> Tensor: return operations.relu(self)
    # foreign: keywords of other libraries, dim=0, which the operation refuses with ours
    def softmax(self, axis: int = -1, **foreign: Never) -> Tensor:
        return operations.softmax(self, axis=axis, **foreign)
    def sum(self, axis: Axis = None, keepdims: bool = False, **foreign: Never) -> Tensor:
        return operations.sum(self, axis=axis, keepdims=keepdims, **foreign)
    def mean(self, axis: Axis = None, keepdims: bool = False, **foreign: Never) -> Tensor:
        return operations.mean(self, axis=axis, keepdims=keepdims, **foreign)
    def max(self, axis: Axis = None, keepdims: bool = False, **foreign: Never) -> Tensor:
        return operations.max(self, axis=axis, keepdims=keepdims, **foreign)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return operations.swapaxes(self, axis1=axis1, axis2=axis2)
    @property
    def T(self) -> Tensor: return operations.transpose(self)  # with its axes reversed

    def __len__(self) -> int: return len(self.data)
    def __iter__(self) -> Iterator[Tensor]: return (self[i] for i in range(len(self)))
    def __float__(self) -> float: return float(self.item())
    def __int__(self) -> int: return int(self.item())

    if not TYPE_CHECKING:  # editors are to mark what a tensor does not have
        def __getattr__(self, name):
            raise AttributeError(f"a tensor has no {name}{spelled(name)}", name=name, obj=self)
    # fmt: on

    def reshape(self, *shape: Any) -> Tensor:
        """x.reshape(2, 3) or x.reshape((2, 3)); one axis may be -1."""
        return operations.reshape(self, shape=sizes(shape))

    def transpose(self, *axes: Any) -> Tensor:
        """x.transpose(1, 0, 2) or x.transpose((1, 0, 2)); without axes they are reversed."""
        return operations.transpose(self, axes=sizes(axes) if axes else None)

    def to(self, device: str | None = None, dtype: DTypeLike | None = None) -> Tensor:
        """x on a device, "cpu" or "cuda", or in another floating dtype (dtype=…); x itself if it is so already."""
        if (device is None or device == self.device) and (dtype is None or dtype == self.dtype):
            return self
        return operations.to(self, device=device, dtype=dtype)

    def detach(self) -> Tensor:
        """The same array, with no graph behind it."""
        return Tensor.of(self.data)

    def __getitem__(self, index: Any) -> Tensor:
        """x[i, 2:5, ids]: NumPy's indices; tensors among them are taken as arrays."""
        return operations.getitem(self, index=tuple(map(values, index)) if isinstance(index, tuple) else values(index))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"bool: a tensor of shape {self.shape} is not one truth value\n  hint : (x > 0).any()")
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}": a specification is for the one number in it."""
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, separator=", ", threshold=50, prefix="Tensor(")
        return f"Tensor({values}, {self.describe()})"

    def __array_function__(self, function, types, arguments, options):
        """NumPy's functions on tensors without a graph; with one they would lose it."""
        name = function.__name__
        if recorded([*arguments, *options.values()]):
            here = f"ops.{name}" if hasattr(operations, name) else "an operation of tinygrad_lm.ops"
            raise GraphError(f"np.{name}: it would lose the graph\n  hint : {here}, or x.numpy(){spelled(name)}")
        return function(*map(plain, arguments), **{key: plain(x) for key, x in options.items()})


def values(x):
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def sizes(arguments):
    """(2, 3) from f(2, 3) as from f((2, 3))."""
    return arguments[0] if len(arguments) == 1 and not isinstance(arguments[0], int) else arguments
