"""Adding an operation with its proof takes one file and one entry: done here to a throw-away copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULE = '''"""A smooth relu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op


@op
def softplus(x):
    """y = log(1 + exp x)        dx = dy / (1 + exp −x)

    x: any shape
    """
    xp = array_module(x)
    return xp.log(1 + xp.exp(x)), lambda dy: (dy / (1 + xp.exp(-x)),)
'''
ENTRY = '    "softplus": Proof(unary(), each(lambda x: math.log1p(math.exp(x)))),\n'
# Every test that asks something of all operations: a gate, or one case for each.
GATES = [
    "tests/ops", "tests/test_mutants.py", "tests/engine/test_tensor.py", "tests/learn/test_cost.py",
    "tests/learn/test_formulas.py",
]  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    for name in ("tinygrad_lm", "tests", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def add(copy, rule=RULE, entry=ENTRY):
    (copy / "tinygrad_lm/ops/softplus.py").write_text(rule)
    cases = copy / "tinygrad_lm/testing/cases.py"
    before = cases.read_text()
    cases.write_text(before.replace("PROOFS = {\n", "PROOFS = {\n" + entry))
    assert not entry or cases.read_text() != before


def python(copy, *arguments):
    """A Python process that knows the copy alone: exit status and all that it wrote."""
    command = [sys.executable, "-B", *arguments]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    return ended.returncode, ended.stdout + ended.stderr


def outcome_of(copy, select, *files):
    return python(copy, "-m", "pytest", "--runslow", "-n0", "-q", "-p", "no:cacheprovider", "-k", select, *files)


PROVE = "from tinygrad_lm import ops; from tinygrad_lm.testing import prove; prove(ops.softplus, examples=20)"


@pytest.mark.slow
def test_one_file_and_one_entry(copy):
    add(copy)
    status, output = python(copy, "-c", PROVE)
    assert status == 0, output
    assert output.startswith("prove softplus: 13 checks hold on 20 drawn inputs each, 25 of 25 wrong gradients noticed")
    status, output = outcome_of(copy, "softplus or every_operation_has or table or methods_are_bound", *GATES)
    assert status == 0, output
    assert "passed" in output


@pytest.mark.slow
def test_a_wrong_derivative_is_red(copy):
    add(copy, RULE.replace("xp.exp(-x)", "xp.exp(x)"))
    status, output = python(copy, "-c", PROVE)
    assert status == 1
    assert 'GradientError: prove softplus: "every entry" does not hold' in output
    status, output = outcome_of(copy, "test_rule and softplus", "tests/ops/test_properties.py")
    assert status == 1, output
    assert "1 failed" in output


def test_a_file_without_its_entry_is_red(copy):
    add(copy, entry="")
    status, output = outcome_of(copy, "every_operation_has_cases", "tests/ops/test_properties.py")
    assert status == 1, output
    assert "softplus" in output
