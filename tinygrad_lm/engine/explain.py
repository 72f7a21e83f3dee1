"""What went wrong in an operation: its rule, its place in the model, all inputs. The page lets NumPy speak."""

import inspect

from tinygrad_lm.backend import is_floating, wide
from tinygrad_lm.engine.observe import current_module
from tinygrad_lm.engine.precision import is_half
from tinygrad_lm.engine.tensor import spelled
from tinygrad_lm.errors import DeviceError, DtypeError, ShapeError, TinygradError


def check_dtypes(op, inputs, y):
    """Floating inputs and the value must agree: one float64 that slips in doubles the cost of all that follows.

    Half precision goes with float32 (precision.py). y is None if nothing came of it.
    """
    floating = {x.dtype for x in inputs if is_floating(x.dtype)}
    real = y is not None and is_floating(y.dtype)
    if real and not floating and any(x.dtype not in ("int32", "int64") for x in inputs):
        raise DtypeError(
            f"{place(op)}: booleans, bytes and unsigned integers have no real functions here: their differences wrap\n"
            f"  rule : {op.signature}\n{listing(op, inputs)}\n  hint : x.to(dtype='float32')"
        )
    allowed = {dtype for dtype in floating if is_half(dtype)} or floating
    found = floating | {y.dtype} if floating and real else floating
    if len(allowed) > 1 or not found <= allowed | {wide(dtype) for dtype in allowed}:
        result = "" if y is None else f"; the result would be {y.dtype}"
        raise DtypeError(
            f"{place(op)}: the inputs' dtypes do not fit each other{result}\n"
            "  rule : all floating inputs share one dtype, and so does the result; bare Python numbers adapt\n"
            f"{listing(op, inputs)}\n  hint : x.to(dtype=...) converts a tensor, x.astype(...) an array"
        )


def failure(op, error, inputs, options):
    """Raise the error again naming the operation, its rule and all inputs, as one of our kinds."""
    if len({x.device for x in inputs}) > 1:
        raise DeviceError(
            f"{place(op)}: the inputs are on different devices\n"
            f"{listing(op, inputs)}\n  hint : x.to('cuda') moves a tensor"
        ) from error
    kind = type(error) if isinstance(error, TinygradError) else ShapeError
    if isinstance(error, TypeError):
        check_call(op, inputs, options)
        check_dtypes(op, inputs, None)  # NumPy does not mix bfloat16 and float16
        kind = DtypeError
    message, *hint = str(error).split("\n")
    lines = [f"{place(op)}: {message}", f"  rule : {op.signature}", listing(op, inputs), *hint]
    raise kind("\n".join(lines)) from error


def check_call(op, inputs, options):
    """What no function would take is a TypeError, as for any function: a missing input, an unknown option."""
    head = inspect.signature(op.rule)
    try:
        head.bind(*inputs, **options)
    except TypeError as error:
        raise TypeError(f"{place(op)}: {error}\n  rule : {op.name}{head}{spelled(*options)}") from None


def place(op):
    """'linear', or within a model 'linear in h.0.attn.c_q'."""
    return f"{op.name} in {module}" if (module := current_module()) else op.name


def listing(op, inputs):
    """One line an input: its name in the rule, shape, dtype, device and origin."""
    names = op.input_names(len(inputs))
    return "\n".join(f"  {name:<5}: {x.describe()}" for name, x in zip(names, inputs, strict=False))
