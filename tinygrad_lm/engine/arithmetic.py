"""The operators and methods of a tensor, a line each; the operations behind them are in ops/. The page has only +."""

import operator
from types import SimpleNamespace

from tinygrad_lm.errors import GraphError, ShapeError

operations = SimpleNamespace()  # every operation by its name; @op puts it there
spellings = {}  # how what other libraries have is written here, for messages; tinygrad_lm/habits.py puts it there


def spelled(*names):
    """A hint for each of these names that is known from another library."""
    return "".join(f"\n  hint : {name} is written {spellings[name]}" for name in names if name in spellings)


def both_ways(name):
    """The methods for x + y and y + x, by the operation of this name."""
    operation = lambda x, y: getattr(operations, name)(x, y)
    return operation, lambda self, other: operation(other, self)


def compared(comparison):
    """A method that compares entry by entry. It gives an array of booleans: these have no derivative."""
    return lambda self, other: comparison(self.data, values(other))


def in_place(sign):
    """A method for an operator such as +=: it gives a result, as + does, and refuses a leaf."""

    def refuse(self, other):
        if self.node is not None and self.node.op is None:
            raise GraphError(
                f"{sign}: a leaf {self.describe()} would be replaced by a result, and would never be trained again\n"
                f"  hint : x.data {sign} ... changes its values in place; y = x {sign[:-1]} ... makes a result"
            )
        return NotImplemented  # then Python takes the operator without =

    return refuse


class Arithmetic:
    """What `Tensor` inherits: x + y, x[i], x.sum(), … foreign: others' keywords (dim=0), for operations to refuse."""

    __slots__ = ()

    __add__, __radd__ = both_ways("add")
    __sub__, __rsub__ = both_ways("subtract")
    __mul__, __rmul__ = both_ways("multiply")
    __truediv__, __rtruediv__ = both_ways("divide")
    __pow__, __rpow__ = both_ways("power")
    __matmul__, __rmatmul__ = both_ways("matmul")
    __neg__ = lambda self: operations.negate(self)
    __abs__ = lambda self: operations.where(self < 0, operations.negate(self), operations.relu(self))

    __iadd__, __isub__, __imul__ = in_place("+="), in_place("-="), in_place("*=")
    __itruediv__, __ipow__, __imatmul__ = in_place("/="), in_place("**="), in_place("@=")
    __eq__, __ne__ = compared(operator.eq), compared(operator.ne)
    __lt__, __le__ = compared(operator.lt), compared(operator.le)
    __gt__, __ge__ = compared(operator.gt), compared(operator.ge)
    __hash__ = object.__hash__  # by identity: a tensor can be the key of a dict

    def __bool__(self):
        if self.size != 1:
            raise ShapeError(f"bool: a tensor of shape {self.shape} is not one truth value\n  hint : (x > 0).any()")
        return bool(self.item())

    __float__ = lambda self: float(self.item())
    __int__ = lambda self: int(self.item())

    def __format__(self, spec):
        """f"{loss:.3f}": a specification is for the one number in it."""
        return format(self.item(), spec) if spec else str(self)

    def __getattr__(self, name):
        raise AttributeError(f"a tensor has no {name}{spelled(name)}", name=name, obj=self)

    __len__ = lambda self: len(self.data)
    __iter__ = lambda self: (self[i] for i in range(len(self)))

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

    def softmax(self, axis=-1, **foreign):
        return operations.softmax(self, axis=axis, **foreign)

    def sum(self, axis=None, keepdims=False, **foreign):
        """The sum over an axis, a tuple of axes, or all of them."""
        return operations.sum(self, axis=axis, keepdims=keepdims, **foreign)

    def mean(self, axis=None, keepdims=False, **foreign):
        """The mean over an axis, a tuple of axes, or all of them."""
        return operations.mean(self, axis=axis, keepdims=keepdims, **foreign)

    def max(self, axis=None, keepdims=False, **foreign):
        """The maximum over an axis, a tuple of axes, or all of them; equal ones share the gradient."""
        return operations.max(self, axis=axis, keepdims=keepdims, **foreign)

    def reshape(self, *shape):
        """x.reshape(2, 3) or x.reshape((2, 3)); one axis may be -1."""
        return operations.reshape(self, shape=sizes(shape))

    def transpose(self, *axes):
        """x.transpose(1, 0, 2) or x.transpose((1, 0, 2)); without axes they are reversed."""
        return operations.transpose(self, axes=sizes(axes) if axes else None)

    def swapaxes(self, axis1, axis2):
        return operations.swapaxes(self, axis1=axis1, axis2=axis2)

    T = property(lambda self: operations.transpose(self), doc="x with its axes reversed.")

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
