"""CuPy's manners without a GPU: an array type that refuses what CuPy refuses, so that its device bugs show on a CPU.

    import strict_array as xp
    x = xp.asarray(numpy_array)         # the way in, a copy
    x.get()                             # the only way out

What it shares with CuPy 14: no implicit conversion to NumPy; an array and a NumPy array in one operation are a
TypeError, though Python's and NumPy's scalars are welcome; reductions give arrays of no axes, never scalars; a
condition of `where` must be an array; reductions know neither `initial` nor `where`, ufuncs no `where`; of bfloat16
`where` gives float32, and products of stacks of matrices are refused, for CuPy's are wrong; and a function that is not
here is an AttributeError, as one that CuPy lacks would be. Underneath is NumPy, so that numbers must agree
with the CPU's bit for bit. Add what CuPy has, when code needs it; leave out what it has not.

Streams and graphs are in strict_capture.py. `array_module(x)` finds this module by its name, so it must be imported as
`strict_array`.
"""

import operator
import types

import numpy as np
import strict_capture

SCALARS = (bool, int, float, complex, np.generic)


def host(x):
    """The NumPy array underneath, or a scalar as it is; nothing else may stand where an array is expected."""
    if isinstance(x, ndarray):
        return x._array
    if isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def array_of(x):
    """As `host`, of what must be an array."""
    if not isinstance(x, ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x._array


def wrap(array, base=None):
    """An array of the device; base: the array that it is a view of, and keeps alive as CuPy's views do."""
    result = ndarray.__new__(ndarray)
    result._array, result.base = np.asarray(array), base
    return result


class ndarray:
    __slots__ = ("__weakref__", "_array", "base")
    __array_ufunc__ = None  # a NumPy array on the left leaves the operation to us, and we refuse it
    __hash__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function, kinds, args, options):
        raise TypeError(f"numpy.{function.__name__} on an array of the device")

    def get(self):
        return self._array.copy()

    def item(self):
        return self._array.item()

    def tolist(self):
        return self._array.tolist()

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    strides = property(lambda self: self._array.strides)
    nbytes = property(lambda self: self._array.nbytes)
    real = property(lambda self: wrap(self._array.real))
    imag = property(lambda self: wrap(self._array.imag))
    T = property(lambda self: wrap(self._array.T, self))
    flags = property(lambda self: self._array.flags)
    data = property(lambda self: types.SimpleNamespace(ptr=self._array.ctypes.data))

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self._array)

    def __int__(self):
        return int(self._array)

    def __float__(self):
        return float(self._array)

    def __index__(self):
        return operator.index(self._array)

    def __repr__(self):
        return f"strict_{self._array!r}"

    def __getitem__(self, index):
        return wrap(self._array[index_of(index)], self)

    def __setitem__(self, index, value):
        self._array[index_of(index)] = host(value)

    def reshape(self, *shape):
        return wrap(self._array.reshape(*shape), self)

    def transpose(self, *axes):
        return wrap(self._array.transpose(*axes), self)

    def swapaxes(self, axis1, axis2):
        return wrap(self._array.swapaxes(axis1, axis2), self)

    def squeeze(self, axis=None):
        return wrap(self._array.squeeze(axis), self)

    def ravel(self):
        return wrap(self._array.ravel(), self)

    def copy(self):
        return wrap(self._array.copy())

    def fill(self, value):
        self._array.fill(value if isinstance(value, SCALARS) else host(value).item())

    def astype(self, dtype, copy=True):
        found = self._array.astype(dtype, copy=copy)
        return self if found is self._array else wrap(found)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return wrap(self._array.sum(axis, dtype, keepdims=keepdims))

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return wrap(self._array.mean(axis, dtype, keepdims=keepdims))

    def max(self, axis=None, out=None, keepdims=False):
        return wrap(self._array.max(axis, keepdims=keepdims))

    def min(self, axis=None, out=None, keepdims=False):
        return wrap(self._array.min(axis, keepdims=keepdims))

    def any(self, axis=None, out=None, keepdims=False):
        return wrap(self._array.any(axis, keepdims=keepdims))

    def all(self, axis=None, out=None, keepdims=False):
        return wrap(self._array.all(axis, keepdims=keepdims))

    def take(self, indices, axis=None):
        return wrap(self._array.take(array_of(indices), axis))

    def argmax(self, axis=None, dtype=None, out=None, keepdims=False):
        return wrap(self._array.argmax(axis, keepdims=keepdims))


def index_of(index):
    """Indices may be lists and NumPy arrays too: CuPy moves them to the device, silently."""
    if isinstance(index, tuple):
        return tuple(index_of(part) for part in index)
    return index._array if isinstance(index, ndarray) else index


def matmul(a, b):
    """a @ b: of half precision added up in float32."""
    if a.dtype != b.dtype or a.dtype.name not in ("float16", "bfloat16"):
        return a @ b
    if a.dtype.name == "bfloat16" and not a.ndim == b.ndim == 2:
        raise TypeError("products of stacks of bfloat16 matrices are wrong in CuPy")
    return (a.astype(np.float32) @ b.astype(np.float32)).astype(a.dtype)


def binary(name):
    plain, reflected = name.removeprefix("r"), name.startswith("r")
    function = matmul if plain == "matmul" else getattr(operator, plain)

    def method(self, other):
        if not isinstance(other, ndarray) and getattr(type(other), "__array_ufunc__", True) is None:
            return NotImplemented  # a Tensor: its turn
        other = host(other)
        return wrap(function(other, self._array) if reflected else function(self._array, other))

    return method


def unary(name):
    function = getattr(operator, name)
    return lambda self: wrap(function(self._array))


def in_place(name):
    function = getattr(operator, name)

    def method(self, other):
        self._array = function(self._array, host(other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(ndarray, f"__{_name}__", binary(_name))
    setattr(ndarray, f"__r{_name}__", binary("r" + _name))
    setattr(ndarray, f"__i{_name}__", in_place("i" + _name))
for _name in ("lt", "le", "eq", "ne", "gt", "ge", "and_", "or_", "xor"):
    setattr(ndarray, f"__{_name.rstrip('_')}__", binary(_name))
for _name in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", unary(_name))


class ufunc:
    """Entry by entry, of arrays and scalars; `at` where CuPy has it."""

    def __init__(self, name):
        self.numpy = getattr(np, name)

    def __call__(self, *args, out=None, dtype=None):
        result = self.numpy(*map(host, args), out=None if out is None else out._array, dtype=dtype)
        return wrap(result) if out is None else out


class adding(ufunc):
    def at(self, a, indices, b):
        if a.dtype.name not in ("float16", "float32", "float64", "int32", "uint32", "uint64"):
            raise TypeError(f"scatter_add does not support {a.dtype}")  # CUDA's atomicAdd
        self.numpy.at(a._array, index_of(indices), host(b))


UFUNCS = """
    abs absolute arccos cos divide equal exp expm1 floor greater greater_equal isfinite isinf isnan less less_equal log
    log1p logical_and logical_not logical_or maximum minimum multiply negative not_equal power reciprocal sign sin sqrt
    square tanh true_divide
"""
for _name in UFUNCS.split():
    globals()[_name] = ufunc(_name)
add, subtract = adding("add"), adding("subtract")


def array(data, dtype=None):
    """From the host or the device, always a copy."""
    return wrap(np.array(data._array if isinstance(data, ndarray) else data, dtype))


def asarray(data, dtype=None):
    return wrap(np.asarray(data._array, dtype)) if isinstance(data, ndarray) else array(data, dtype)


def where(condition, x, y):
    result = np.where(array_of(condition), host(x), host(y))
    return wrap(result.astype(np.float32) if result.dtype.name == "bfloat16" else result)


def of_shape(name):
    return lambda shape, dtype=float: wrap(getattr(np, name)(shape, dtype))


def of_array(name):
    """NumPy's function of one array, whose other arguments are numbers, tuples and lists."""
    return lambda a, *args, **options: wrap(getattr(np, name)(array_of(a), *args, **options))


def of_arrays(name):
    """NumPy's function of a sequence of arrays."""
    return lambda arrays, axis=0: wrap(getattr(np, name)([array_of(a) for a in arrays], axis))


zeros, ones, empty = map(of_shape, ("zeros", "ones", "empty"))
for _name in ("zeros_like", "ones_like", "empty_like", "full_like", "broadcast_to", "expand_dims", "moveaxis", "tile"):
    globals()[_name] = of_array(_name)
concatenate, stack = of_arrays("concatenate"), of_arrays("stack")


def vdot(a, b):
    return wrap(np.vdot(array_of(a), array_of(b)))


def split(a, indices_or_sections, axis=0):
    return [wrap(part) for part in np.split(array_of(a), indices_or_sections, axis)]


def arange(*args, dtype=None):
    return wrap(np.arange(*(host(a) for a in args), dtype=dtype))


def full(shape, value, dtype=None):
    return wrap(np.full(shape, host(value), dtype))


def asnumpy(x):
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


inf, nan, pi, newaxis = np.inf, np.nan, np.pi, None
float16, float32, float64, int32, int64, bool_ = np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_
strict_capture.watch(globals())
