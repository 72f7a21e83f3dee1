"""Tensor: an array, and where it came from.

What this adds to examples/minimal.py: any number of axes, dtypes and devices; operators and methods for every operation
(arithmetic.py); and habits that would lose a gradient in silence are refused with the way out.
"""

import numpy as np

from tinygrad_lm.backend import array_module, device_of, is_floating
from tinygrad_lm.engine.arithmetic import Arithmetic, operations
from tinygrad_lm.engine.graph import Node, backpropagate
from tinygrad_lm.errors import DtypeError, GraphError, ShapeError


class Tensor(Arithmetic):
    """An n-dimensional array that operations record a graph for.

    Tensor(data, requires_grad=False, name="")

    data is a NumPy or CuPy array (shared, not copied), a number, or nested lists (numbers become float32 and int64).
    With requires_grad=True it is a leaf: after `loss.backward()` its `grad` holds ∂loss/∂data. Gradients of several
    backward passes add up until `zero_grad()`.

    Arrays are not to be changed in place between the forward pass and `backward`: the gradients would be computed from
    the new values.
    """

    __slots__ = ("__weakref__", "data", "node")
    __array_ufunc__ = None  # so that `array + tensor` comes to Tensor.__radd__, not element by element

    def __init__(self, data, requires_grad=False, name=""):
        self.data = as_array(data)
        self.node = None
        if requires_grad:
            if not is_floating(self.data.dtype):
                raise DtypeError(f"Tensor: requires_grad needs a floating dtype, found {self.data.dtype}")
            self.node = Node(None, (), None, self.data.shape, name)

    @classmethod
    def of(cls, data, node=None):
        """A tensor around an array and a node as they are: what operations make their results with."""
        self = object.__new__(cls)
        self.data = data
        self.node = node
        return self

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)
    device = property(lambda self: device_of(self.data), doc="'cpu' or 'cuda'")
    requires_grad = property(lambda self: self.node is not None)

    @property
    def grad(self):
        """∂loss/∂self, an array of self's shape; None before a backward pass, and for anything but a leaf."""
        return None if self.node is None or self.node.op is not None else self.node.grad

    def zero_grad(self):
        """Forget the gradient that earlier backward passes left."""
        if self.node is not None:
            self.node.grad = None

    def backward(self, dy=None):
        """Add the gradients of this scalar to the `grad` of every leaf it was computed from (graph.py).

        For a tensor that is not a scalar, `dy` is the array of its shape to start from: the gradient of some loss by
        this tensor. The graph is freed on the way.
        """
        if self.node is None:
            raise GraphError(
                f"backward: nothing was recorded for this tensor {self.describe()}\n"
                "  rule : a result is recorded if an input has requires_grad=True, outside no_grad()"
            )
        if dy is None:
            if self.size != 1:
                raise ShapeError(
                    f"backward: it starts from a scalar; this tensor has shape {self.shape}\n"
                    "  hint : .sum() or .mean() first, or backward(dy) with the gradient that arrives here"
                )
            dy = array_module(self.data).ones_like(self.data)
        dy = as_array(dy, like=self.data)
        if dy.shape != self.shape:
            raise ShapeError(f"backward: dy has shape {dy.shape}, the tensor {self.shape}; they must be equal")
        backpropagate(self.node, dy.astype(self.dtype, copy=False))

    def detach(self):
        """The same array, with no graph behind it."""
        return Tensor.of(self.data)

    def item(self):
        """The one number in it, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: a tensor of shape {self.shape} has {self.size} numbers, not one")
        return self.data.item()

    def numpy(self):
        """Its values as a NumPy array: shared memory on a CPU, a copy from a GPU."""
        return self.data if self.device == "cpu" else self.data.get()

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(self, function, types, arguments, options):
        """NumPy's functions on tensors without a graph; with one they would lose it."""
        name = function.__name__
        if recorded([*arguments, *options.values()]):
            here = f"ops.{name}" if hasattr(operations, name) else "an operation of tinygrad_lm.ops"
            raise GraphError(f"np.{name}: it would lose the graph of a recorded tensor\n  hint : {here}, or x.numpy()")
        return function(*map(plain, arguments), **{key: plain(x) for key, x in options.items()})

    def __reduce__(self):
        """Copies and pickles hold a leaf's values and gradient, and become leaves of their own."""
        if self.node is not None and self.node.op is not None:
            raise GraphError(
                f"copy: this tensor {self.describe()} has a graph behind it, which cannot be copied\n"
                "  hint : x.detach() has its values alone"
            )
        return rebuilt, (type(self), self.data, self.requires_grad, self.grad, self.node.name if self.node else "")

    def describe(self):
        """Shape, dtype, device and origin in one line: '(8, 768) float32 cpu, from layer_norm'."""
        origin = ""
        if self.node is not None:
            origin = f", from {self.node.op.name}" if self.node.op else f", parameter {self.node.name}".rstrip()
        return f"{self.shape} {self.dtype} {self.device}{origin}"

    def __repr__(self):
        values = np.array2string(self.numpy(), precision=4, separator=", ", threshold=50, prefix="Tensor(")
        return f"Tensor({values}, {self.describe()})"


def rebuilt(kind, data, requires_grad, grad, name):
    """A leaf from what `__reduce__` gave. Its node is new: it must be older than all that will be computed from it."""
    self = kind.of(data, Node(None, (), None, data.shape, name) if requires_grad else None)
    if requires_grad:
        self.node.grad = grad
    return self


def recorded(x):
    """Whether a value is a recorded tensor, or a list or tuple with one somewhere in it."""
    if isinstance(x, (list, tuple)):
        return any(map(recorded, x))
    return isinstance(x, Tensor) and x.requires_grad


def plain(x):
    """A value with arrays in the places of its tensors."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x))
    return x.numpy() if isinstance(x, Tensor) else x


def as_array(data, like=None):
    """Numbers, nested lists, arrays or a tensor -> an array.

    What has no dtype adapts to the array `like`: `x * 2` stays on x's device and in x's dtype. Only lists of integers
    stay integers, for they are ids or indices.
    """
    if isinstance(data, Tensor):
        return data.data
    if isinstance(data, np.generic):  # it has a dtype but is on no device
        return (np if like is None else array_module(like)).asarray(data)
    if recorded(data):
        raise GraphError(
            "Tensor: a list of recorded tensors would become bare numbers, without their graph\n"
            "  hint : ops.stack(*xs) and ops.concat(*xs) join tensors"
        )
    own = isinstance(getattr(data, "dtype", None), np.dtype)  # a list has none, and another library's is not NumPy's
    array = data if own and not isinstance(data, np.ndarray) else np.asarray(plain(data))  # no np.matrix
    if array.dtype.kind not in "biu" and not is_floating(array.dtype):
        raise DtypeError(f"Tensor: expected numbers, found a {type(data).__name__}, an array of {array.dtype}")
    if own:
        return array
    if like is None:
        return array.astype(np.float32) if array.dtype == np.float64 else array
    adapts = array.dtype.kind == "f" or type(data) is int
    dtype = like.dtype if adapts and is_floating(like.dtype) else np.float32 if array.dtype.kind == "f" else None
    xp = array_module(like)
    if xp is not np and not array.ndim:  # made where it is needed, without a copy from the host
        return xp.full((), array.item(), dtype or array.dtype)
    return xp.asarray(array, dtype=dtype)
