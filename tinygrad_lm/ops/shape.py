"""Operations that move entries; each gradient returns to where its entry was. On the page within its operations."""

import numpy as np

from tinygrad_lm.backend import array_module, device_of, dtype_of, to_device
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError


@op
def reshape(x, *, shape):
    """y = x in another shape        dx = dy in x's shape

    x: any shape with as many entries as `shape`; one axis may be -1
    """
    old = x.shape
    return x.reshape(shape), lambda dy: (dy.reshape(old),)


@op
def transpose(x, *, axes=None):
    """y = x with its axes permuted        dx = dy with them permuted back

    x: any shape; axes: a permutation of its axes, reversed if None; x.swapaxes(1, 2) exchanges two
    """
    y = x.transpose(axes)
    back = None if axes is None else tuple(int(i) for i in np.argsort([axis % x.ndim for axis in axes]))
    return y, lambda dy: (dy.transpose(back),)


@op
def swapaxes(x, *, axis1, axis2):
    """y = x with two axes exchanged        dx = dy with them exchanged back

    x: any shape that has both axes
    """
    return x.swapaxes(axis1, axis2), lambda dy: (dy.swapaxes(axis1, axis2),)


@op
def broadcast_to(x, *, shape):
    """y = x, copied along new axes and axes of size 1        dx = Σ dy over the copies

    x: any shape that broadcasts to `shape`
    """
    return array_module(x).broadcast_to(x, shape), lambda dy: (dy,)  # the engine's unbroadcast takes the sum


@op
def getitem(x, *, index):
    """y = x[i]        dx[j] = Σ dy over i = j, zero elsewhere

    x: any shape; index: integers, slices, None, ..., integer or boolean arrays, as NumPy takes them
    """
    xp, shape = array_module(x), x.shape
    parts = index if isinstance(index, tuple) else (index,)
    single = (int, np.integer, slice, type(None), type(...))  # of these, none takes an entry twice
    repeats = not all(isinstance(part, single) for part in parts)

    def backward(dy):
        dx = xp.zeros(shape, dy.dtype)
        if repeats:
            xp.add.at(dx, index, dy)  # an entry that was taken twice gets both gradients; += would give it one
        else:
            dx[index] = dy
        return (dx,)

    return x[index], backward


@op
def concat(*xs, axis=0):
    """y = x₀, x₁, … in a row along an axis        dxᵢ = its own stretch of dy

    xs: one or more shapes, equal but for `axis`
    """
    if not xs:
        raise ShapeError("there is nothing to join")
    xp = array_module(xs[0])
    y = xp.concatenate(xs, axis)
    ends = np.cumsum([x.shape[axis] for x in xs])[:-1].tolist()
    return y, lambda dy: tuple(xp.split(dy, ends, axis))


@op
def stack(*xs, axis=0):
    """y = x₀, x₁, … in a row along a new axis        dxᵢ = dy at place i of that axis

    xs: one or more equal shapes
    """
    if not xs:
        raise ShapeError("there is nothing to stack")
    xp = array_module(xs[0])
    return xp.stack(xs, axis), lambda dy: tuple(xp.moveaxis(dy, axis, 0))


@op
def to(x, *, device=None, dtype=None):
    """y = x        dx = dy, brought back to x's device and dtype

    x: any shape; device: 'cpu' or 'cuda'; dtype: a floating dtype, or its name
    """
    home, own = device_of(x), x.dtype
    y = to_device(x, device or home).astype(own if dtype is None else dtype_of(dtype), copy=False)
    return y, lambda dy: (to_device(dy, home).astype(own, copy=False),)
