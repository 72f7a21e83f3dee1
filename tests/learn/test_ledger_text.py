"""The ledger as text: what a reader sees, and what the filters leave."""

import re
import runpy
from pathlib import Path

import numpy as np
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import ops
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.learn.ledger.ledger_text import bars, show, size
from tinygrad_lm.learn.ledger.snapshot import snapshot
from tinygrad_lm.learn.ledger.trace import trace

PAGE = Path(__file__).parents[2] / "docs" / "learn.md"


def test_the_docs_show_what_their_program_prints(tmp_path, capsys):
    learn = PAGE.read_text(encoding="utf-8")
    program, shown = re.search(r"```python\n(.*?)```\n+```\n…\n\n(.*?)\n\n…\n```", learn, re.DOTALL).groups()
    path = tmp_path / "example.py"
    path.write_text(program, encoding="utf-8")
    runpy.run_path(str(path))
    assert f"\n\n{shown}\n\n" in capsys.readouterr().out
    name, op = re.search(r'ledger.where\(name="(.*?)", op="(.*?)"\)', program).groups()
    model = shaken(tiny("gpt2"))
    x, y = random_tokens(model.config, 2, 4)
    assert trace(lambda: ops.cross_entropy(model(x), y)).where(name=name, op=op).steps


DIAMOND = """\
backward pass of loss = 10: 3 steps, youngest first; besides the leaves the graph held 8 B

#4  add  loss  () float64
    test_ledger_text.py:{line}  return y + 3 * x
    y = a + b        da = dy,  db = dy
    saved               no array
    held                8 B, then 8 B
    y                   10
    dy                  1
    ∂y/∂a               1
    da → #2 y           1
    ∂y/∂b               1
    db → #3 multiply    1

#3  multiply  () float64
    test_ledger_text.py:{line}  return y + 3 * x
    y = a b        da = dy b,  db = dy a
    saved      a () 8 B,  b () 8 B
    held       8 B, then 0 B
    y          6
    dy         1
    ∂y/∂b      3
    db → #1 x  3

#2  multiply  y  () float64
    test_ledger_text.py:{before}  y = x * x
    y = a b        da = dy b,  db = dy a
    saved       a () 8 B,  b () 8 B
    held        0 B, then 0 B
    y           4
    dy          1
    ∂y/∂a       2
    da → #1 x   2
      += there  3 + 2 = 5
    ∂y/∂b       2
    db → #1 x   2
      += there  5 + 2 = 7

what arrived at the leaves
    #1 x ← #3, #2, #2  7"""


def test_a_fan_out_reads_like_this():
    def f(x):
        y = x * x
        return y + 3 * x

    line = f.__code__.co_firstlineno + 2
    text = str(trace(f, np.array(2.0)))
    spaced = lambda text: [" ".join(row.split()) for row in text.splitlines()]
    assert spaced(text) == spaced(DIAMOND.format(line=line, before=line - 1))
    columns = [row.index(part) for row, part in ((text.splitlines()[i], "1") for i in (8, 9))]
    assert len(set(columns)) == 1  # numbers stand below each other


def test_local_derivatives_are_written_as_matrices():
    x, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])
    text = str(trace(lambda x, b: ((x + 0) * b).sum(), x, b))
    rows = [row.strip() for row in text.splitlines()]
    begin = next(i for i, row in enumerate(rows) if row.startswith("∂y/∂b"))
    assert rows[begin].endswith("  [[1. 0.]")
    assert rows[begin + 1 : begin + 4] == ["[0. 2.]", "[3. 0.]", "[0. 4.]]"]
    assert any(row.endswith("diagonal [ 1. 10.  1. 10.]") for row in rows)
    assert any(row.endswith("the identity") for row in rows)
    assert "diagonal" not in str(
        trace(lambda x: (ops.softmax(x) * x.data).sum(), np.array([1.0, 2.0])).where(op="softmax")
    )
    for n, written in ((64, True), (65, False)):
        text = str(trace(lambda x: x.sum(), np.ones(n)))
        assert ("∂y/∂x" in text) is written


def test_what_is_large_takes_one_line():
    x = snapshot(np.linspace(-2, 2, 64).reshape(8, 8), keep=100)
    assert show(x) == "(8, 8)  norm 9.383  from -2 to 2  mean 0  ▕████████████████▏".replace(
        "mean 0", f"mean {x.mean:.4g}"
    )
    assert show(snapshot(np.array([[1.0], [2.5]]), keep=100)) == "[[1. ]\n [2.5]]"
    assert show(snapshot(np.array(0.1234567), keep=100)) == "0.123457"
    assert show(snapshot(np.array([np.nan] * 20), keep=100)).endswith("20 not finite")
    assert show(snapshot(np.array([1.0, 2.0]), keep=1)).startswith("(2,)  norm 2.236")
    assert bars((0, 1, 50, 100)) == " ▁▄█"
    assert [size(n) for n in (0, 999, 1500, 2_345_678, 4e9)] == ["0 B", "999 B", "1.5 kB", "2.35 MB", "4 GB"]


def test_filters_leave_what_fits_all_of_them():
    model = shaken(tiny("gpt2"))
    x, y = random_tokens(model.config, 2, 4)
    ledger = trace(lambda: ops.cross_entropy(model(x), y))
    assert ledger.where().steps == ledger.steps
    first = ledger.where("h.0.*")
    assert first.steps
    assert all(step.module.startswith("h.0.") for step in first.steps)
    assert {step.op for step in ledger.where(op="l*").steps} == {"linear", "layer_norm"}
    near = ledger.where(depth=2)
    assert [step.depth for step in near.steps] == [0, 1, 2, 2]
    assert ledger.where("h.1*", op="attention", depth=9).steps == ledger.where(op="attention").steps[:1]
    assert ledger.where("h.1*", op="attention", depth=2).steps == []
    assert [step.op for step in ledger.where("wte.weight").steps] == ["transpose", "embedding"]
    assert ledger.where(f"#{ledger.root}").steps == ledger.steps[:1]
    assert ledger.where("nothing").steps == []
    assert f"backward pass: 2 of {ledger.of} steps, youngest first" in str(ledger.where("wte.weight"))
    rows = str(ledger.where("wte.weight")).rpartition("leaves\n")[2].splitlines()
    assert [row.split()[1] for row in rows] == ["wte.weight"]
    assert str(ledger.where("nothing")) == f"backward pass: 0 of {ledger.of} steps, youngest first"


def test_a_whole_model_is_readable():
    model = shaken(tiny("modern"))
    recomputed(*model.h)
    x, y = random_tokens(model.config, 2, 4)
    text = str(trace(lambda: ops.cross_entropy(model(x), y)))
    assert "recomputed for #" in text
    assert "attention  h.1.attn:y  (2, 4, 2, 4) float64\n    tinygrad_lm/nn/attention.py:" in text
    assert "P = softmax(q kᵀ/√D)        dv = Pᵀ dy" in text
    assert max(map(len, text.splitlines())) < 190
    assert not any(row.endswith(" ") for row in text.splitlines())
