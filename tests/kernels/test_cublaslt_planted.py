"""Faults planted in the code around cuBLASLt: each must show as a wrong number or be refused by fake_cublaslt.py."""

import itertools
import sys
import types
from contextlib import contextmanager
from ctypes import ArgumentError
from pathlib import Path

import cuda_emulator
import numpy as np
import pytest
import strict_array as xp
from cublaslt_checks import LAYOUTS, WANTED, drawn, product
from cuda_checks import agree, cotangent, expected, on_device
from cuda_emulator import LaunchError, emulated
from slow import first_of_each

from tinygrad_lm import ops
from tinygrad_lm.errors import DeviceError, DtypeError, ShapeError
from tinygrad_lm.kernels.cuda import cublaslt_plan as plans
from tinygrad_lm.optim.muon import product as product_of_muon
from tinygrad_lm.testing.case import Case

pytestmark = pytest.mark.skipif(cuda_emulator.UNABLE is not None, reason=str(cuda_emulator.UNABLE))
ml_dtypes = pytest.importorskip("ml_dtypes")
OURS = DeviceError, DtypeError, ShapeError
NAMES = ("cublaslt_plan", "cublaslt", "matmul")
PLANTED = [
    # file, what stands there, what is planted
    ("plan", '"bfloat16": 14', '"bfloat16": 2'),
    ("plan", "COMPUTE_32F = 68", "COMPUTE_32F = 77"),
    ("plan", "BIAS_POINTER = 3, 4, 7, 8", "BIAS_POINTER = 4, 3, 7, 8"),
    ("plan", "DEFAULT, BIAS = 1, 4", "DEFAULT, BIAS = 1, 32"),
    ("plan", "DEFAULT, BIAS = 1, 4", "DEFAULT, BIAS = 4, 1"),
    ("plan", "BATCH_COUNT, BATCH_STEP = 5, 6", "BATCH_COUNT, BATCH_STEP = 6, 5"),
    ("plan", "ALIGNMENTS = 1, 3, (5, 6, 7, 8)", "ALIGNMENTS = 1, 3, (8, 7, 6, 5)"),
    ("plan", "IN_FLOAT32 = 2", "IN_FLOAT32 = 7"),
    ("plan", "IN_FLOAT32 = 2", "IN_FLOAT32 = 1"),
    ("plan", '"Matmul": [*[c_void_p] * 14, c_size_t, c_void_p]', '"Matmul": None'),
    ("plan", '"MatmulPreferenceCreate": [c_void_p]', '"MatmulPreferenceCreate": [c_int]'),
    ("plan", "(TRANSA, c_int(b[0])), (TRANSB, c_int(a[0]))", "(TRANSA, c_int(a[0])), (TRANSB, c_int(b[0]))"),
    ("plan", "(TRANSA, c_int(b[0]))", "(TRANSA, c_int(not b[0]))"),
    ("plan", "(EPILOGUE, c_uint32(epilogue))", "(EPILOGUE, c_int64(epilogue))"),
    ("plan", "attributes.append((BIAS_POINTER, c_void_p(alignments[3])))", "pass"),
    ("plan", "attributes.append((BIAS_POINTER, c_void_p(alignments[3])))",
     "attributes.append((BIAS_POINTER, c_void_p(256)))"),
    ("plan", "layout(held, m, k, batch, *b), layout(held, k, n, batch, *a)",
     "layout(held, k, n, batch, *a), layout(held, m, k, batch, *b)"),
    ("plan", "layout(held, m, k, batch, *b)", "layout(held, k, m, batch, *b)"),
    ("plan", "layout(held, k, n, batch, *a)", "layout(made, k, n, batch, *a)"),
    ("plan", "layout(made, m, n, batch, False, m, m * n)", "layout(held, m, n, batch, False, m, m * n)"),
    ("plan", "layout(made, m, n, batch, False, m, m * n)", "layout(made, m, n, batch, False, m + 1, m * n)"),
    ("plan", "layout(made, m, n, batch, False, m, m * n)", "layout(made, m, n, batch, False, n, m * n)"),
    ("plan", "layout(made, m, n, batch, False, m, m * n)", "layout(made, m, n, batch, False, m, m)"),
    ("plan", "layout(made, m, n, batch, False, m, m * n)", "layout(made, n, m, batch, False, m, m * n)"),
    ("plan", "c_uint64(WORKSPACE)", "c_uint64(0)"),
    ("plan", "c_uint64(WORKSPACE)", "c_uint32(WORKSPACE)"),
    ("plan", "(first, second, result, result), strict", "(256, 256, result, result), strict"),
    ("plan", "assign(\"MatmulDesc\", self.operation, [(BIAS_POINTER, c_void_p(vector))])", "pass"),
    ("plan", "ONE if adds else ZERO", "ZERO"),
    ("plan", "ONE if adds else ZERO", "ONE"),
    ("plan", "alpha, b, first, a, second, beta", "alpha, a, first, b, second, beta"),
    ("plan", "alpha, b, first, a, second, beta", "beta, b, first, a, second, alpha"),
    ("plan", "beta, before, result[0]", "beta, a, result[0]"),
    ("plan", "workspace, WORKSPACE, stream", "workspace, 0, stream"),
    ("plan", "workspace, WORKSPACE, stream", "y, WORKSPACE, stream"),
    ("plan", '("algorithm", c_uint64 * 8)', '("algorithm", c_uint64 * 7)'),
    ("plan", "(columns, rows) if transposed else (rows, columns)", "(rows, columns)"),
    ("plan", "(BATCH_STEP, c_int64(step))", "(BATCH_STEP, c_int64(rows * columns))"),
    ("plan", "if batch > 1:", "if batch > 3:"),
    ("plan", 'xp.empty(WORKSPACE, "uint8")', 'xp.empty(WORKSPACE // 2, "uint8")'),
    ("", "(columns == 1 or right == 1) and (rows == 1 or down >= columns)", "(columns == 1 or right == 1)"),
    ("", "(columns == 1 or right == 1) and", ""),
    ("", "(rows == 1 or down == 1) and", ""),
    ("", " and right >= rows", ""),
    ("", "step >= 0 and (columns", "(columns"),
    ("", "step >= 0 and (rows", "(rows"),
    ("", "columns if rows == 1 else down", "down"),
    ("", "columns if rows == 1 else down", "columns"),
    ("", "Matrices(x, True, right, step)", "Matrices(x, True, rows, step)"),
    ("", "step[0] if step and len(x) > 1 else 0", "0"),
    ("", "x.reshape(-1, *x.shape[-2:])", "x[0]"),
    ("", "out=y, plus=plus)", "out=y)"),
    ("plan", "beta, before, result[0]", "beta, y, result[0]"),
    ("", "before = y if plus is None else plus", "before = y"),
    ("", "y.size // (n * m)", "1"),
    ("", "a[1:], b[1:]", "b[1:], a[1:]"),
    ("", "(b.array, a.array, before, y, vector)", "(a.array, b.array, before, y, vector)"),
    ("", "min(pointer & -pointer, 256)", "256"),
    ("", "contiguous(bias)", "bias"),
    ("", "a.array.dtype.name, y.dtype.name", "y.dtype.name, y.dtype.name"),
    ("matmul", "multiply(dy, b.swapaxes(-1, -2), plus=plus, out=out)", "multiply(dy, b, plus=plus, out=out)"),
    ("matmul", "multiply(a.swapaxes(-1, -2), dy, plus=plus, out=out)", "multiply(a, dy, plus=plus, out=out)"),
    ("matmul", "multiply(a.swapaxes(-1, -2), dy, plus=plus, out=out)", "multiply(dy.swapaxes(-1, -2), a)"),
    ("matmul", "a.shape[:-2] != b.shape[:-2] or ", ""),
    ("matmul", " or not covered(a, b)", ""),
    ("matmul", " or not covered(x, w, b)", ""),
    ("matmul", "(b is None or b.shape == w.shape[1:])", "True"),
    ("matmul", "multiply(rows, w, bias=b)", "multiply(rows, w)"),
    ("matmul", "multiply(dy, w.T, plus=plus, out=out)", "multiply(dy, w, plus=plus, out=out)"),
    ("matmul", "xp.empty(w.shape, f4) if out is None else out", "out"),
    ("matmul", "multiply(dy, b.swapaxes(-1, -2), plus=plus, out=out)", "multiply(dy, b.swapaxes(-1, -2), out=out)"),
    ("matmul", "multiply(a.swapaxes(-1, -2), dy, plus=plus, out=out)", "multiply(a.swapaxes(-1, -2), dy, plus=plus)"),
    ("matmul", "multiply(dy, w.T, plus=plus, out=out)", "multiply(dy, w.T, plus=out, out=out)"),
    ("matmul", "multiply(rows.T, dy, plus=plus,", "multiply(rows.T, dy,"),
    ("matmul", "column_sums(contiguous(dy), plus, out)", "column_sums(dy, plus, out)"),
    ("matmul", "column_sums(contiguous(dy), plus, out)", "column_sums(contiguous(dy))"),
    ("matmul", "column_sums(contiguous(dy), plus, out)", "column_sums(contiguous(dy), plus)"),
]  # fmt: skip


@contextmanager
def planted(file="", there="", fault=""):
    """`multiply`, and in the registry the implementations of cuda/matmul.py, with the fault in one of their files."""
    with emulated() as patch:
        for op in (ops.linear, ops.matmul, product_of_muon):
            patch.setattr(op, "implementations", dict(op.implementations))
        modules = []
        for name in NAMES:
            text = Path(plans.__file__).with_name(f"{name}.py").read_text()
            if name in (file or "cublaslt", f"cublaslt_{file}"):
                assert there in text
                text = text.replace(there, fault)
            module = types.ModuleType(f"tinygrad_lm.kernels.cuda.{name}")
            patch.setitem(sys.modules, module.__name__, module)
            exec(compile(text, name, "exec"), module.__dict__)
            modules.append(module)
        modules[0].loaded = plans.loaded
        yield modules[1].multiply


def unaligned(x):
    """At an address that is no multiple of 16."""
    flat = xp.empty(x.size + 1, x.dtype)[1:]
    flat[...] = x.ravel()
    return flat.reshape(x.shape)


def products():
    """Of every dtype, shape, layout and wish, in an order with something of everything at its beginning."""
    shapes = (3, 4, 5, ()), (1, 24, 8, ()), (5, 1, 6, ()), (5, 5, 1, ()), (4, 3, 6, (3,)), (2, 3, 2, (2, 3))
    layouts = *zip(LAYOUTS, reversed(LAYOUTS), strict=True), *zip(LAYOUTS, LAYOUTS, strict=True)
    every = [
        (dtype, shape, pair, wanted, made)
        for dtype, shape, pair in itertools.product(("float32", ml_dtypes.bfloat16), shapes, layouts)
        for wanted, made in itertools.product(["plain", "added"] if shape[3] else WANTED, (None, "float32"))
    ]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))]


def looked_at(multiply):
    """All that must hold of a product and of the implementations, on a few cases."""
    for dtype in ("float32", ml_dtypes.bfloat16):
        rng = np.random.default_rng(1)
        a, b = (drawn(xp, rng, shape, dtype) for shape in ((6, 8), (8, 4)))
        for one, other in ((unaligned(a), b), (a, unaligned(b))):
            multiply(one, other)
            multiply(one, other, out=unaligned(drawn(xp, rng, (6, 4), dtype)))
        shapes = ((3, 4), (4, 5), (5,)), ((2, 3, 4), (4, 4)), ((33, 4), (4, 7), (7,))
        rules = [("linear", shape) for shape in shapes] + [("matmul", ((2, 3, 4), (2, 4, 5)))]
        rules += [("matmul", ((2, 3, 4), (4, 5)))] if dtype == "float32" else []  # for which NumPy has a product
        for name, shapes in rules:
            case = Case(tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes))
            dy = cotangent(rng, name, case, dtype)
            agree(on_device(xp, name, case, dy), expected(name, case, dy), case, str(np.dtype(dtype)))
            if len(shapes) > 2:
                db = ops.linear.run(*map(xp.asarray, case.inputs))[1](xp.asarray(dy)[..., ::-1])[2]()
                agree([db.get()], [dy.astype("f8")[..., ::-1].sum(0)], None, str(np.dtype(dtype)))
    for op in (ops.linear, ops.matmul):
        implementation = op.implementation("cuda", np.dtype("float32"))
        assert implementation(xp.zeros((2, 2)), xp.zeros((2, 2))) is NotImplemented
    with pytest.raises(ShapeError, match="one entry for each"):
        ops.linear.run(*(xp.zeros(shape, "f4") for shape in ((2, 3), (3, 4), (1,))))
    for dtype, (n, k, m, leading), (first, second), wanted, made in products():
        bits = []
        for _ in range(2):
            rng = np.random.default_rng(0)
            a = drawn(xp, rng, (*leading, n, k), dtype, first)
            b = drawn(xp, rng, (*leading, k, m), dtype, second)
            bits.append(product(xp, multiply, rng, a, b, wanted, made))
        assert bits[0] == bits[1]


@pytest.mark.slow
def test_without_a_fault_all_is_right():
    with planted() as multiply:
        looked_at(multiply)


@pytest.mark.parametrize(("file", "there", "fault"), first_of_each(PLANTED, lambda fault: fault[0]))
def test_a_planted_fault_is_noticed(file, there, fault):
    with (
        pytest.raises((AssertionError, AttributeError, ArgumentError, LaunchError, *OURS)),
        planted(file, there, fault) as multiply,
    ):
        looked_at(multiply)
