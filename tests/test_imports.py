"""What may import what. An engine that knew of models, or data that knew of training, could not be read on its own."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinygrad_lm"
FILES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"errors", "files", "programs", "signals", "streams", "tables"}
# What each part may import besides itself and these. A part below cannot know of one above.
TOWER = [
    "backend", "engine", "ops", "kernels", "nn", "models", "train", "pretrained", "evaluate", "learn", "finetune",
    "examples",
]  # fmt: skip
BELOW = {part: set(TOWER[:i]) for i, part in enumerate(TOWER)}
BELOW["nn"] -= {"kernels"}  # kernels stand in for rules; nobody asks for one by name
BELOW["models"] -= {"kernels"}
BELOW["kernels"] |= {"nn", "optim"}  # they stand in for the gradient norm and the optimizers, too
ALLOWED = BELOW | {
    "errors": set(),
    "files": set(),
    "programs": set(),
    "signals": set(),
    "streams": set(),
    "tables": set(),
    "data": {"backend"},
    "optim": {"backend"},
    "testing": {"backend", "engine", "ops"},
    "distributed": {"backend"},
    "learn": BELOW["learn"] | {"data"},  # its trace/ledger files ask for engine alone
    "curate": {"backend", "engine", "ops", "nn", "optim", "data"},  # raw files to tokens; it trains a classifier
    "train": BELOW["train"] | {"data", "optim", "distributed"},
    "pretrained": BELOW["pretrained"] | {"data"},
    "evaluate": BELOW["evaluate"] | {"data"},
    "finetune": BELOW["finetune"] | {"data", "optim", "distributed"},
    "examples": BELOW["examples"] | {"data", "curate", "optim", "distributed", "learn", "testing"},
    "__init__": {"engine", "ops", "kernels"},  # what `import tinygrad_lm` gives
}
# Programs and libraries with unsafe or foreign formats, and another engine's work.
FORBIDDEN = {"pickle", "shelve", "marshal", "dill", "joblib", "torch", "jax", "tensorflow", "autograd", "scipy"}


def imports(path):
    """The full names of everything that a file imports, in functions too: "tinygrad_lm.ops.softmax", "numpy", …"""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"  # whole names can be searched for
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path):
    """Of tinygrad_lm/ops/softmax.py it is "ops", of tinygrad_lm/backend.py "backend"."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py") if PACKAGE in path.parents else "examples"


def problems(path):
    """The imports of a file that point the wrong way."""
    own = part(path)
    for name in imports(path):
        first, *rest = name.split(".")
        if first != "tinygrad_lm":
            continue
        if path == PACKAGE / "data" / "__main__.py":  # a program: nothing imports it
            continue
        if (PACKAGE / rest[0]).is_dir() or (PACKAGE / f"{rest[0]}.py").is_file():
            if rest[0] not in ALLOWED[own] | {own, *FOUNDATION}:
                yield f"{own} imports {name}"
        elif own != "examples":
            yield f"{own} imports {name} from the whole package"


@pytest.mark.parametrize("path", [*FILES, *ROOT.glob("examples/**/*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    assert list(problems(path)) == []


def test_imports_within_a_part_run_one_way():
    """No circles among the files either."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    wants = {}
    for name, path in names.items():
        ends = [end if end in names else end.rpartition(".")[0] for end in imports(path)]
        wants[name] = {end for end in ends if end in names and end != "tinygrad_lm"} - {name}
    while wants:
        free = {name for name in wants if not wants[name] & wants.keys()}
        assert free, f"these import each other: {sorted(wants)}"
        wants = {name: needs for name, needs in wants.items() if name not in free}


def test_the_rule_itself():
    """The table is the order of the design, and a wrong import would be seen."""
    order = ["backend", "engine", "ops", "nn", "models", "train", "pretrained", "evaluate", "finetune", "examples"]
    for lower, higher in pairwise(order):
        assert lower in ALLOWED[higher]
        assert higher not in ALLOWED[lower]
    assert {part(path) for path in FILES} <= ALLOWED.keys()


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("engine/x.py", "from tinygrad_lm import ops"),
        ("engine/x.py", "import tinygrad_lm.ops.softmax"),
        ("ops/x.py", "def f():\n    from tinygrad_lm.nn.module import Module"),
        ("data/x.py", "from tinygrad_lm.engine.tensor import Tensor"),
        ("optim/x.py", "from tinygrad_lm.nn import module"),
        ("nn/x.py", "from tinygrad_lm import Tensor"),
        ("files.py/x.py", "from tinygrad_lm.backend import cores"),
        ("nn/x.py", "from tinygrad_lm.kernels.numpy import attention"),
    ],
)
def test_a_wrong_import_is_seen(where, line, tmp_path, monkeypatch):
    path = tmp_path / where
    path.parent.mkdir()
    path.write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "part", lambda path: where.split("/")[0].removesuffix(".py"))
    assert len(list(problems(path))) == 1


def test_only_a_few_know_of_cupy():
    """The name itself, in comments too: no rule may be written for one library."""
    for path in FILES:
        if part(path) not in ("backend", "kernels", "distributed"):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                code = line.split("#")[0]
                assert "cupy" not in code, f"{path}, line {number}: {line}"


@pytest.mark.parametrize("path", [*FILES, *ROOT.glob("examples/**/*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_foreign_engine_and_no_format_that_can_run(path):
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN
    called = {node.func.id for node in ast.walk(ast.parse(path.read_text()))
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not called & {"eval", "exec", "compile", "__import__"}
    assert "allow_pickle=True" not in path.read_text()


def test_importing_the_package_needs_numpy_alone():
    heavy = ["cupy", "torch", "tiktoken", "matplotlib", "tqdm", "safetensors", "threadpoolctl", "numba",
             "google_crc32c", "tokenizers", "huggingface_hub", "regex", "warcio", "pyarrow", "datasketch"]  # fmt: skip
    program = f"import sys, tinygrad_lm; print(*[name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    """A file that grows past this has two subjects."""
    assert len(path.read_text().splitlines()) <= 250
