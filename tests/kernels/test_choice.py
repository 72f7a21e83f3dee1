"""Which dtype is chosen where the user leaves it open."""

import sys
from types import SimpleNamespace

import pytest
import strict_array

from tinygrad_lm import backend
from tinygrad_lm.kernels import choice
from tinygrad_lm.kernels.choice import resolve_dtype


@pytest.mark.parametrize(
    ("products", "gain", "right"),
    [(True, 3.0, "bfloat16"), (True, 1.1, "float32"), (True, 0.6, "float32"), (False, None, "float32")],
)
def test_auto_is_bfloat16_where_that_is_faster(products, gain, right, monkeypatch):
    """Its instructions alone say little: on a Xeon without AMX they are slower than float32's."""
    monkeypatch.setattr(choice, "has_products", lambda dtype: products)
    monkeypatch.setattr(choice, "gain", lambda dtype: gain)
    assert resolve_dtype("auto", "cpu") == right


@pytest.mark.parametrize(("capability", "right"), [("75", "float32"), ("80", "bfloat16"), ("120", "bfloat16")])
def test_a_gpu_computes_in_bfloat16_if_it_has_units_for_it(capability, right, monkeypatch):
    pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(backend, "_cupy", lambda: strict_array)
    monkeypatch.setattr(strict_array.cuda, "Device", lambda: SimpleNamespace(compute_capability=capability))
    monkeypatch.setattr(choice, "gain", None)
    assert resolve_dtype("auto", "cuda") == right
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert resolve_dtype("auto", "cuda") == "float32"


@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
def test_what_is_asked_for_is_not_measured(name, monkeypatch):
    monkeypatch.setattr(choice, "gain", None)
    assert resolve_dtype(name, "cpu") == resolve_dtype(name, "cuda") == name


def test_there_are_no_products_without_the_dtype_s_library(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert not choice.has_products("bfloat16")


@pytest.mark.skipif(not choice.has_products("bfloat16"), reason="this machine has no products in bfloat16")
def test_both_ways_are_timed(monkeypatch):
    """By a clock under which rounded products take a third of the time."""
    from tinygrad_lm.engine.observe import thread

    now = [0.0]
    run = choice.linear.run
    taken = lambda *arrays: now.__setitem__(0, now[0] + (1.0 if thread.products else 3.0)) or run(*arrays)
    monkeypatch.setattr(choice.linear, "run", taken)
    monkeypatch.setattr(choice.time, "perf_counter", lambda: now[0])
    assert choice.gain("bfloat16") == 3.0
    assert thread.products == ""
    assert "threadpoolctl" in sys.modules  # one thread each, as in training
