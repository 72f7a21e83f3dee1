"""What may import what. An engine that knew of models, or data that knew of training, could not be read on its own."""

import ast
import functools
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinygrad_lm"
FILES, EXAMPLES = sorted(PACKAGE.rglob("*.py")), sorted(ROOT.glob("examples/**/*.py"))

# What each part may import besides itself. First the core, which a person reads in an evening, then what stands around
# it. A part below cannot know of one above, and the core knows of nothing around it.
CORE = {
    "errors": set(),
    "backend": {"errors"},
    "engine": {"backend", "errors"},
    "ops": {"engine", "backend", "errors"},
    "nn": {"ops", "engine", "backend", "errors"},
    "optim": {"engine", "backend", "errors"},
    "models": {"nn", "ops", "engine", "backend", "errors"},
}
PLAIN = {
    "commands",
    "errors",
    "files",
    "locks",
    "programs",
    "signals",
    "tables",
    "threads",
    "unchanged",
}  # they know of no arrays that learn
LEARNING = CORE.keys() | PLAIN | {"kernels"}
AROUND = {
    "commands": {"errors"},
    "files": {"errors"},
    "habits": {"engine", "ops", "nn", "optim"},  # other libraries' names, for messages
    "locks": {"errors"},
    "programs": {"errors", "signals"},
    "signals": {"errors"},
    "tables": {"errors"},
    "threads": {"errors"},
    "unchanged": {"errors"},
    "testing": {"engine", "ops", "backend", "errors"},  # how a derivative is proven
    "kernels": CORE.keys() - {"models"} | {"threads", "unchanged", "generation"},  # they stand in for definitions
    "generation": {"nn", "ops", "engine", "backend", "errors", "unchanged"},
    "adapt": {"nn", "ops", "engine", "backend", "errors"},
    "data": {"backend"} | PLAIN,
    "distributed": {"backend"} | PLAIN,
    "curate": CORE.keys() - {"models"} | PLAIN | {"data", "distributed"},  # raw files to tokens; it trains a classifier
    "train": LEARNING | {"data", "generation", "adapt", "distributed"},
    "pretrained": LEARNING | {"data", "adapt", "train"},
    "posttrain": LEARNING | {"data", "generation", "adapt", "distributed", "train", "pretrained"},
    "evaluate": LEARNING | {"data", "generation", "pretrained"},
    "serve": LEARNING | {"data", "generation", "posttrain", "pretrained"},
    "learn": LEARNING | {"data", "generation", "adapt", "testing", "train", "posttrain"},
    "__main__": PLAIN,
    "__init__": {"habits", "engine", "ops", "nn", "optim", "models", "testing"},  # what `import tinygrad_lm` gives
}
ALLOWED = CORE | AROUND | {"examples": CORE.keys() | AROUND.keys()}
LINES = 3000  # of the core
WORDS = {"data", "tables"}  # of the parts around the core, these are also words that its code needs
# Programs and libraries with unsafe or foreign formats, and another engine's work.
FORBIDDEN = {"pickle", "shelve", "marshal", "dill", "joblib", "torch", "jax", "tensorflow", "autograd", "scipy"}


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def imports(path):
    """The full names of everything that a file imports, in functions too: "tinygrad_lm.ops.softmax", "numpy", …"""
    for node in ast.walk(parsed(path)):
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
            if rest[0] not in ALLOWED[own] | {own}:
                yield f"{own} imports {name}"
        elif own != "examples":
            yield f"{own} imports {name} from the whole package"


@pytest.mark.slow
def test_imports_run_one_way():
    found = {path: list(problems(path)) for path in [*FILES, *EXAMPLES]}
    assert {path: names for path, names in found.items() if names} == {}


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
    """The table is the order of the design, and has every part that there is."""
    order = ["errors", "backend", "engine", "ops", "nn", "models"]
    for lower, higher in pairwise(order):
        assert lower in ALLOWED[higher]
    order += ["kernels", "train", "posttrain", "examples"]
    for i, lower in enumerate(order):
        assert not ALLOWED[lower] & set(order[i + 1 :]), lower
    for name in CORE:
        assert CORE[name] <= CORE.keys(), name
    assert {part(path) for path in FILES} <= ALLOWED.keys()


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("engine/x.py", "from tinygrad_lm import ops"),
        ("engine/x.py", "import tinygrad_lm.ops.softmax"),
        ("ops/x.py", "def f():\n    from tinygrad_lm.nn.module import Module"),
        ("data/x.py", "from tinygrad_lm.engine.tensor import Tensor"),
        ("optim/x.py", "from tinygrad_lm.nn import module"),
        ("optim/x.py", "from tinygrad_lm.ops import matmul"),
        ("nn/x.py", "from tinygrad_lm import Tensor"),
        ("nn/x.py", "from tinygrad_lm.adapt.lora import lora"),
        ("models/x.py", "from tinygrad_lm.generation import generate"),
        ("backend.py/x.py", "from tinygrad_lm.threads import cores"),
        ("files.py/x.py", "from tinygrad_lm.backend import zeros"),
        ("nn/x.py", "from tinygrad_lm.kernels.numpy import attention"),
        ("kernels/x.py", "from tinygrad_lm.models.gpt import GPT"),
    ],
)
def test_a_wrong_import_is_seen(where, line, tmp_path, monkeypatch):
    path = tmp_path / where
    path.parent.mkdir()
    path.write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "part", lambda path: where.split("/")[0].removesuffix(".py"))
    assert len(list(problems(path))) == 1


# ---- the core


def core_files():
    return [path for path in FILES if part(path) in CORE]


def words(source):
    """Every identifier of a program, and what its strings call a part of the package; comments and docstrings not."""
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(word := getattr(node, field, None), str):
                yield from word.split(".")
        if isinstance(node, ast.ImportFrom):
            yield from node.module.split(".")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            yield from re.findall(r"\btinygrad_lm\.(\w+)", node.value)


def known_around(source):
    """The parts around the core that a source names."""
    return set(words(source)) & (AROUND.keys() - WORDS - {"__init__"})


def test_the_core_reads_in_an_evening():
    """Lines as `wc -l` counts them: docstrings and empty lines, too."""
    assert sum(path.read_text().count("\n") for path in core_files()) <= LINES


def test_the_core_knows_nothing_of_what_stands_around_it():
    known = {path: known_around(path.read_text()) for path in core_files()}
    assert {path: parts for path, parts in known.items() if parts} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from tinygrad_lm.kernels.numpy import flat", {"kernels"}),
        ("import tinygrad_lm.threads as t", {"threads"}),
        ("from tinygrad_lm import train", {"train"}),
        ("def f():\n    return importlib.import_module('tinygrad_lm.distributed')", {"distributed"}),
        ("def f(x, *, kernels=True):\n    return x", {"kernels"}),
        ("f(train=False)", {"train"}),
        ("self.threads = 3", {"threads"}),
        ("class pretrained:\n    pass", {"pretrained"}),
        ("import x as learn", {"learn"}),
        ("x.data = tables  # kernels/ has a faster way, see train", set()),
        ("def f():\n    'as kernels/numpy/flat.py does'\n    raise ValueError('a file of tinygrad_lm/train')", set()),
    ],
)
def test_what_the_core_would_know_is_seen(source, expected):
    assert known_around(source) == expected


def test_only_a_few_know_of_cupy():
    """The name itself, in comments too: no rule may be written for one library."""
    for path in FILES:
        if part(path) not in ("backend", "kernels", "distributed"):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                code = line.split("#")[0]
                assert "cupy" not in code, f"{path}, line {number}: {line}"


@pytest.mark.slow
def test_no_foreign_engine_and_no_format_that_can_run():
    for path in [*FILES, *EXAMPLES]:
        assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN, path
        called = {node.func.id for node in ast.walk(parsed(path))
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
        assert not called & {"eval", "exec", "compile", "__import__"}, path
        assert "allow_pickle=True" not in path.read_text(), path


def test_importing_the_package_needs_numpy_alone():
    heavy = ["cupy", "torch", "tiktoken", "matplotlib", "tqdm", "safetensors", "threadpoolctl", "numba",
             "google_crc32c", "tokenizers", "huggingface_hub", "regex", "warcio", "pyarrow", "datasketch",
             "gguf", "hypothesis", "jinja2"]  # fmt: skip
    program = f"import sys, tinygrad_lm; print(*[name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    assert ended.stdout.split() == []


def test_files_are_short():
    """A file that grows past this has two subjects."""
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path: n for path, n in lines.items() if n > 250} == {}
