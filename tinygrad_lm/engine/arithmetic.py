"""The operators and methods of a tensor, a line each; the operations behind them are in ops/. The page has only +."""

import operator
from types import SimpleNamespace

from tinygrad_lm.errors import GraphError, ShapeError

operations = SimpleNamespace()  # every operation by its name; @op puts it there


def compared(comparison):
    """A method that compares entry by entry. It gives an array of booleans: these have no derivative."""
    return lambda self, other: comparison(self.data, values(other))


class Arithmetic:
    """What `Tensor` inherits: x + y, x @ y, x[i], x > y, x.sum(), …"""

    __slots__ = ()

    def __add__(self, other):
        return operations.add(self, other)

    def __radd__(self, other):
        return operations.add(other, self)

    def __sub__(self, other):
        return operations.subtract(self, other)

    def __rsub__(self, other):
        return operations.subtract(other, self)

    def __mul__(self, other):
        return operations.multiply(self, other)

    def __rmul__(self, other):
        return operations.multiply(other, self)

    def __truediv__(self, other):
        return operations.divide(self, other)

    def __rtruediv__(self, other):
        return operations.divide(other, self)

    def __pow__(self, other):
        return operations.power(self, other)

    def __rpow__(self, other):
        return operations.power(other, self)

    def __matmul__(self, other):
        return operations.matmul(self, other)

    def __rmatmul__(self, other):
        return operations.matmul(other, self)

    def __neg__(self):
        return operations.negate(self)

    def __abs__(self):
        return operations.maximum(self, operations.negate(self))

    def __iadd__(self, other):
        return self._not_a_leaf("+=") + other

    def __isub__(self, other):
        return self._not_a_leaf("-=") - other

    def __imul__(self, other):
        return self._not_a_leaf("*=") * other

    def __itruediv__(self, other):
        return self._not_a_leaf("/=") / other

    def _not_a_leaf(self, sign):
        if self.node is not None and self.node.op is None:
            raise GraphError(
                f"{sign}: a leaf {self.describe()} would be replaced by a result, and would never be trained again\n"
                f"  hint : x.data {sign} ... changes its values in place; y = x {sign[0]} ... makes a result"
            )
        return self

    __eq__, __ne__ = compared(operator.eq), compared(operator.ne)
    __lt__, __le__ = compared(operator.lt), compared(operator.le)
    __gt__, __ge__ = compared(operator.gt), compared(operator.ge)
    __hash__ = object.__hash__  # by identity: a tensor can be the key of a dict

    def __bool__(self):
        if self.size != 1:
            raise ShapeError(
                f"bool: a tensor of shape {self.shape} is not one truth value\n  hint : (x > 0).all() or (x > 0).any()"
            )
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __format__(self, spec):
        """f"{loss:.3f}": a specification is for the one number in it."""
        return format(self.item(), spec) if spec else str(self)

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        """x[i, 2:5, ids]: NumPy's indices; tensors among them are taken as arrays."""
        return operations.getitem(self, index=tuple(map(values, index)) if isinstance(index, tuple) else values(index))

    def exp(self):
        return operations.exp(self)

    def log(self):
        """The natural logarithm."""
        return operations.log(self)

    def sqrt(self):
        return operations.sqrt(self)

    def tanh(self):
        return operations.tanh(self)

    def sigmoid(self):
        return operations.sigmoid(self)

    def relu(self):
        return operations.relu(self)

    def softmax(self, axis=-1):
        return operations.softmax(self, axis=axis)

    def sum(self, axis=None, keepdims=False):
        """The sum over an axis, a tuple of axes, or all of them."""
        return operations.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        """The mean over an axis, a tuple of axes, or all of them."""
        return operations.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis=None, keepdims=False):
        """The maximum over an axis, a tuple of axes, or all of them; equal ones share the gradient."""
        return operations.max(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape):
        """x.reshape(2, 3) or x.reshape((2, 3)); one axis may be -1."""
        return operations.reshape(self, shape=sizes(shape))

    def transpose(self, *axes):
        """x.transpose(1, 0, 2) or x.transpose((1, 0, 2)); without axes they are reversed."""
        return operations.transpose(self, axes=sizes(axes) if axes else None)

    def swapaxes(self, axis1, axis2):
        return operations.swapaxes(self, axis1=axis1, axis2=axis2)

    @property
    def T(self):
        """x with its axes reversed."""
        return operations.transpose(self)

    def to(self, device=None, dtype=None):
        """x on a device, "cpu" or "cuda", or in another floating dtype (dtype=…); x itself if it is so already."""
        if (device is None or device == self.device) and (dtype is None or dtype == self.dtype):
            return self
        return operations.to(self, device=device, dtype=dtype)


def values(x):
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Arithmetic) else x


def sizes(arguments):
    """(2, 3) from f(2, 3) as from f((2, 3))."""
    return arguments[0] if len(arguments) == 1 and not isinstance(arguments[0], int) else arguments
