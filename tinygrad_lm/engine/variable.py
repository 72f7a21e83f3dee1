"""Variable: an array, and where it came from. Tensor (tensor.py) adds the operators and methods.

What this adds to examples/minimal.py: any number of axes, dtypes and devices; and habits that would lose a gradient in
silence are refused with the way out.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tinygrad_lm.backend import Array, Shape, array_module, device_of, is_floating, to_device
from tinygrad_lm.engine.graph import Node, backpropagate
from tinygrad_lm.errors import DtypeError, GraphError, ShapeError


class Variable:
    """An array `data`, and the `node` of the graph that it came from, None without one."""

    __slots__ = ("__weakref__", "data", "node")

    def __init__(self, data: ArrayLike, requires_grad: bool = False, name: str = ""):
        self.data: Array = as_array(data)
        self.node: Node | None = None
        if requires_grad:
            if not is_floating(self.data.dtype):
                raise DtypeError(f"Tensor: requires_grad needs a floating dtype, found {self.data.dtype}")
            self.node = Node(None, (), None, self.data, name)

    @classmethod
    def of(cls, data: Array, node: Node | None = None) -> Self:
        """A tensor around an array and a node as they are: what operations make their results with."""
        self = object.__new__(cls)
        self.data = data
        self.node = node
        return self

    # fmt: off
    @property
    def shape(self) -> Shape: return self.data.shape
    @property
    def ndim(self) -> int: return self.data.ndim
    @property
    def size(self) -> int: return self.data.size
    @property
    def dtype(self) -> np.dtype: return self.data.dtype
    @property
    def device(self) -> str: return device_of(self.data)  # "cpu" or "cuda"
    @property
    def requires_grad(self) -> bool: return self.node is not None
    # fmt: on

    @property
    def grad(self) -> Array | Any:  # Any: so that w.data -= lr * w.grad needs no test for None
        """∂loss/∂self, an array of self's shape; None before a backward pass, and for anything but a leaf."""
        return None if self.node is None or self.node.op is not None else self.node.grad

    def zero_grad(self) -> None:
        """Forget the gradient that earlier backward passes left."""
        if self.node is not None:
            self.node.grad = None

    def backward(self, dy: ArrayLike | None = None) -> None:
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

    def item(self) -> Any:
        """The one number in it, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: a tensor of shape {self.shape} has {self.size} numbers, not one")
        return self.data.item()

    def numpy(self) -> Array:
        """Its values as a NumPy array: shared memory on a CPU, a copy from a GPU."""
        return to_device(self.data, "cpu")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __reduce__(self):
        """Copies and pickles hold a leaf's values and gradient, and become leaves of their own."""
        if self.node is not None and self.node.op is not None:
            raise GraphError(
                f"copy: this tensor {self.describe()} has a graph behind it, which cannot be copied\n"
                "  hint : x.detach() has its values alone"
            )
        return rebuilt, (type(self), self.data, self.requires_grad, self.grad, self.node.name if self.node else "")

    def describe(self) -> str:
        """Shape, dtype, device and origin in one line: '(8, 768) float32 cpu, from layer_norm'."""
        origin = ""
        if self.node is not None:
            origin = f", from {self.node.op.name}" if self.node.op else f", parameter {self.node.name}".rstrip()
        return f"{self.shape} {self.dtype} {self.device}{origin}"


def rebuilt(kind, data, requires_grad, grad, name):
    """A leaf from what `__reduce__` gave. Its node is new: it must be older than all that will be computed from it."""
    self = kind.of(data, Node(None, (), None, data, name) if requires_grad else None)
    if requires_grad:
        self.node.grad = grad
    return self


def recorded(x: Any) -> bool:
    """Whether a value is a recorded tensor, or a list or tuple with one somewhere in it."""
    if isinstance(x, (list, tuple)):
        return any(map(recorded, x))
    return isinstance(x, Variable) and x.requires_grad


def plain(x):
    """A value with arrays in the places of its tensors."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x))
    return x.numpy() if isinstance(x, Variable) else x


def as_array(data: Any, like: Array | None = None) -> Array:
    """Numbers, nested lists, arrays or a tensor -> an array.

    What has no dtype adapts to the array `like`: `x * 2` stays on x's device and in x's dtype. Only lists of integers
    stay integers, for they are ids or indices.
    """
    if isinstance(data, Variable):
        return data.data
    if isinstance(data, np.generic) and (like is None or not isinstance(data, float)):  # np.sqrt(64) is a Python float
        return (np if like is None else array_module(like)).asarray(data)
    if recorded(data):
        raise GraphError(
            "Tensor: a list of recorded tensors would become bare numbers, without their graph\n"
            "  hint : ops.stack(*xs) and ops.concat(*xs) join tensors"
        )
    own = isinstance(data, np.ndarray) or (hasattr(data, "get") and hasattr(data, "dtype"))  # .get(): off a GPU
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
