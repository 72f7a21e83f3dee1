"""What an editor and a type checker know of the public names: all of them, each with its parameters and its result."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_lm
from tinygrad_lm import Tensor, ops, testing
from tinygrad_lm.engine.op import Op

ROOT = Path(__file__).parents[1]
# Where users import from: what these modules list as theirs, and the names that stand here.
PUBLIC = {
    "": [], "adapt": [], "generation": [], "models": [], "nn": [], "optim": [], "testing": [],
    "data.corpus": ["Corpus", "load_corpus", "split"],
    "data.loader": ["Batches"],
    "data.mixture.dataset": ["Dataset"],
    "data.tokenizers.bpe_tokenizer": ["BPETokenizer"],
    "data.tokenizers.gpt2_tokenizer": ["GPT2Tokenizer"],
    "data.tokenizers.json_tokenizer": ["JsonTokenizer"],
    "data.tokenizers.tokenizer": ["ByteTokenizer", "CharTokenizer", "make_tokenizer", "tokenizer_from_dict"],
    "kernels": ["disabled", "enable"],
    "learn.ledger.trace": ["trace"],
    "pretrained.export": ["export"],
    "pretrained.load": ["load_pretrained"],
    "train.config": ["TrainConfig", "adapted", "build_model", "make_optimizers"],
    "train.evaluate": ["Validation", "baselines", "evaluate"],
    "train.objective": ["next_token"],
    "train.run": ["RunFolder"],
    "train.trainer": ["Trainer"],
}  # fmt: skip
# Of a model's configuration the layers know the fields alone; and what is not called from outside.
WITHOUT = {
    "MLP.__init__: config", "CausalSelfAttention.__init__: config", "clip_gradients: flat", "GPT.judged",
    "CausalSelfAttention.continued", "CausalSelfAttention.turned", "Sampler.candidates", "Sampler.filtered",
    "Sampler.penalised", "Validation.measure", "RunFolder.locked", "RunFolder.best_model: dtype",
    "RunFolder.create: path", "RunFolder.create: tokenizer", "RunFolder.create: others", "RunFolder.report",
    "RunFolder.sample: options",
}  # fmt: skip
OWN = ("self", "cls", "draw")  # what a call does not name
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def public():
    """(name, function) for each public function and method; operations are of one class, Op, and have their rules'."""
    for name, names in PUBLIC.items():
        module = importlib.import_module(f"tinygrad_lm.{name}".rstrip("."))
        for key in names or module.__all__:
            value = getattr(module, key)
            if inspect.isclass(value):
                for base in [base for base in value.__mro__ if base.__module__.startswith("tinygrad_lm")]:
                    for method, f in vars(base).items():
                        f = getattr(f, "__func__", getattr(f, "fget", f))
                        own = not method.startswith("_") or method in ("__init__", "__call__", "__getitem__", "__add__")
                        if inspect.isfunction(f) and own and f.__name__ != "<lambda>":
                            yield f"{base.__name__}.{method}", f
            elif inspect.isfunction(value) and not isinstance(value, Op):
                yield key, value


def missing(name, f):
    """The parameters of a function that have no annotation, and its result if that has none."""
    signature = inspect.signature(f)
    unknown = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in OWN]
    if signature.return_annotation is signature.empty and not name.endswith("__init__"):
        return [name]
    return [f"{name}: {parameter}" for parameter in unknown]


def test_public_functions_have_hints():
    found = dict(public())
    assert len(found) > 150
    assert {"Tensor.sum", "Variable.backward", "gradcheck", "Module.__call__", "generate", "prove"} <= found.keys()
    assert {gap for name, f in found.items() for gap in missing(name, f)} == WITHOUT


def literal(module):
    """The names that a module lists in its source, where a checker reads them."""
    for node in ast.parse(Path(module.__file__).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return None


def imported(module):
    """The names that a module imports from this package, on whatever condition."""
    nodes = ast.walk(ast.parse(Path(module.__file__).read_text("utf-8")))
    return {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_every_public_name_stands_in_the_source():
    """What is attached while a program runs cannot be completed by an editor."""
    assert set(literal(ops)) == Op.registry.keys()
    assert set(literal(testing)) == {name for names in testing.HOMES.values() for name in names}
    for module in (tinygrad_lm, ops, testing):
        assert set(literal(module)) <= imported(module), module.__name__
    methods = {"exp", "log", "sqrt", "tanh", "sigmoid", "relu", "softmax", "sum", "mean", "max", "reshape", "transpose"}
    assert methods | {"T", "shape", "grad", "backward", "item", "numpy", "to", "detach"} <= set(dir(Tensor))


def test_help_shows_the_formula():
    assert inspect.getdoc(Tensor.exp) == inspect.getdoc(ops.exp.rule)
    assert inspect.getdoc(Tensor.to).startswith("x on a device")


# ---- mypy, which .ci/run runs on the package


def mypy(folder, *options):
    pytest.importorskip("mypy", reason="mypy, the type checker, is not installed")
    command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={folder}/cache", *options, "."]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return [line for line in ended.stdout.splitlines() if ": error: " in line], ended.stderr


def code_of(page):
    """The Python of a page, one block after the other, without rules that are quoted from files."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return "\n".join(block for block in blocks if not block.startswith("@op\ndef softmax"))


@pytest.mark.slow
def test_code_on_the_pages_passes_strictly(tmp_path):
    """Even `mypy --strict`, but that a user's own functions may go without hints."""
    names = []
    for page in PAGES:
        if code := code_of(page):
            names.append(f"page_{page.stem.lower()}")
            (tmp_path / f"{names[-1]}.py").write_text(code, encoding="utf-8")
    assert len(names) >= 5
    own = [f"--untyped-calls-exclude={name}" for name in names]
    options = ["--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--check-untyped-defs", *own]
    assert mypy(tmp_path, *options, "--allow-redefinition") == ([], "")


@pytest.mark.slow
def test_results_are_known_and_mistakes_are_seen(tmp_path):
    known = ["x.exp()", "2 * x", "x @ x.T", "[1.0] + x", "array @ x", "ops.softmax(x, axis=0)", "nn.Linear(2, 3)(x)"]
    wrong = {
        "x.view(2)": "attr-defined", "x.softmax().foo": "attr-defined", "ops.sofmax(x)": "attr-defined",
        "ops.softmax(x, dim=1)": "call-arg", "ops.where(x)": "call-arg", "x.sum(dim=0)": "arg-type",
        "nn.Linear(2)": "call-arg", "optim.AdamW([x], lr='fast')": "arg-type",
    }  # fmt: skip
    lines = ["import numpy as np", "from typing import assert_type", "from tinygrad_lm import Tensor, nn, ops, optim"]
    lines += ["x = Tensor([[1.0, 2.0]])", "array = np.ones((2, 1))", "assert_type(x.shape, tuple[int, ...])"]
    lines += [f"assert_type({expression}, Tensor)" for expression in known]
    (tmp_path / "use.py").write_text("\n".join([*lines, *wrong]))
    errors, _ = mypy(tmp_path, "--strict")
    assert [re.search(r"\[([a-z-]+)\]$", line)[1] for line in errors] == list(wrong.values()), errors
