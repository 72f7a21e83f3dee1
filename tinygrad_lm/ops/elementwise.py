"""Arithmetic, entry by entry, of shapes that broadcast; the engine sums the gradients back. The page only adds."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import DtypeError


@op
def add(a, b):
    """y = a + b        da = dy,  db = dy

    a, b: any shapes that broadcast
    """
    return a + b, lambda dy: (dy, dy)


@op
def subtract(a, b):
    """y = a − b        da = dy,  db = −dy

    a, b: any shapes that broadcast
    """
    return a - b, lambda dy: (dy, -dy)


@op
def multiply(a, b):
    """y = a b        da = dy b,  db = dy a

    a, b: any shapes that broadcast
    """
    return a * b, lambda dy: (dy * b, dy * a)


@op
def divide(a, b):
    """y = a / b        da = dy / b,  db = −dy y / b

    a, b: any shapes that broadcast
    """
    y = a / b
    return y, lambda dy: (dy / b, -dy * y / b)


@op
def power(a, b):
    """y = aᵇ        da = dy b aᵇ⁻¹,  db = dy y log a

    a, b: any shapes that broadcast
    """
    xp = array_module(a)
    y = a**b

    def backward(dy):
        # At b = 0 and at y = 0 the products are 0, whatever the other factor, if it is finite. a⁰ = 1 for any a.
        da = lambda: dy * b * a ** xp.where(b == 0, b, b - 1)
        db = lambda: dy * y * xp.log(xp.where(y == 0, xp.ones_like(y), a))
        return da, db

    return y, backward


@op
def negate(x):
    """y = −x        dx = −dy

    x: any shape
    """
    return -x, lambda dy: (-dy,)


@op
def exp(x):
    """y = exp x        dx = dy y

    x: any shape
    """
    y = array_module(x).exp(x)
    return y, lambda dy: (dy * y,)


@op
def log(x):
    """y = log x        dx = dy / x

    x: any shape, natural logarithm
    """
    return array_module(x).log(x), lambda dy: (dy / x,)


@op
def sqrt(x):
    """y = √x        dx = dy / 2y

    x: any shape
    """
    y = array_module(x).sqrt(x)
    return y, lambda dy: (dy / (2 * y),)


@op
def maximum(a, b):
    """y = max(a, b)        da = dy [a > b],  db = dy [b > a],  half to each where a = b

    a, b: any shapes that broadcast
    """
    xp = array_module(a)
    greater, equal, less = a.real > b.real, a.real == b.real, a.real < b.real

    def backward(dy):
        half = xp.where(equal, dy / 2, 0)
        return xp.where(greater, dy, half), xp.where(less, dy, half)

    return xp.where(greater | xp.isnan(a.real), a, b), backward


@op
def where(condition, a, b):
    """y = a where condition, else b        da = dy [condition],  db = dy [not condition]

    condition (boolean), a, b: any shapes that broadcast
    """
    if condition.dtype != bool:
        raise DtypeError(f"the condition must be boolean, found {condition.dtype}\n  hint : x > 0 compares")
    xp = array_module(a)
    return xp.where(condition, a, b), lambda dy: (None, xp.where(condition, dy, 0), xp.where(condition, 0, dy))
