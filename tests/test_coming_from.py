"""docs/coming-from.md, line by line: what a line gives there it gives here; pasted here it works, or is answered."""

import copy
import importlib
import inspect
import io
import math
import re
import tokenize
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinygrad_lm
from tinygrad_lm import Tensor, gradcheck, gradcheck_module, models, nn, no_grad, ops, optim
from tinygrad_lm.errors import ConfigError, DtypeError, GraphError, ShapeError
from tinygrad_lm.generation import generate
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.learn.notebook import tree

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")
SETUP = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
OPERATORS = {"+", "-", "*", "/", "@", "**", ">", "<", ">=", "==", "!=", "&"}
# Names that a hint need not have.
LOCAL = {"np", "len", "rows", "columns", "ids", "loss", "net", "math", "None", "True", "False", "float32"}


def tables(*head):
    """The rows below each table head of the page, as lists of cells."""
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        first, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        if first == list(head):
            yield from rows


def spans(cell):
    """The code at the beginning of a cell: one or more pieces with commas between them."""
    return re.findall(r"`(.*?)`", re.match(r"(?:`.*?`(?:, )?)*", cell)[0])


THREE = list(tables("PyTorch", "NumPy, JAX", "here"))
ROWS = [("torch", theirs, here) for theirs, _, here in THREE]
ROWS += [("torch", *row) for row in tables("PyTorch", "here")]
ROWS += [("numpy", theirs, here) for _, theirs, here in THREE]
LINES = [(library, line, here) for library, theirs, here in ROWS for line in spans(theirs)]
# These are NumPy's alone.
NOT_JAX = {"x + [1.0, 2.0, 3.0]", "x.tolist()"}
# Python's or PyTorch's own answers, which no object that is handed over can change.
BARE = {
    "x.size()": "'int' object is not callable",
    "x.size(0)": "'int' object is not callable",
    "x.device.type": "'str' object has no attribute 'type'",
    "(x > 0).float()": "'numpy.ndarray' object has no attribute 'float'",
    "v.data.add_(1.0); v": "'numpy.ndarray' object has no attribute 'add_'",
    "net.bias.data.fill_(1.0); net(x)": "'numpy.ndarray' object has no attribute 'fill_'",
    "x.sum().backward(); x.grad.zero_(); x.mean().backward(); x.grad": "object has no attribute 'zero_'",
    "torch.masked_select(x, x > 0)": "must be Tensor, not numpy.ndarray",
    "torch.where(x > 0, x, y)": "numpy.ndarray, Tensor, Tensor",
    "x.to(dtype=torch.float64)": "expected float16, bfloat16, float32, float64",
    "s.transpose(1, 2)": "x.swapaxes(1, 2) exchanges two",
    "loss = x.mean(); loss.backward(retain_graph=True); loss.backward(); x.grad": "argument 'retain_graph'",
}
# These run, and give something else: the page's first table says so.
OTHERWISE = {"with torch.no_grad(): z = x * 2", "with torch.inference_mode(): z = x * 2", "net.weight.T"}


def run(code, names):
    """The value of the last statement of a line, in names of its own."""
    *statements, last = code.split("; ")
    names = {**names}
    if last.startswith("with ") or re.match(r"\w+ = ", last):
        statements, last = [*statements, last], "z"
    exec("\n".join(statements), names)
    return eval(last, names)


def here_names():
    names = {}
    exec(SETUP, names)
    return names | {"copy": copy, "tinygrad_lm": tinygrad_lm}


def torch_names():
    torch = pytest.importorskip("torch", reason="PyTorch, whose lines this test runs, is not installed")
    ours = here_names()
    names = {name: torch.tensor(ours[name].data, requires_grad=ours[name].requires_grad) for name in "xyswv"}
    net = torch.nn.Linear(3, 4)
    net.load_state_dict({name: torch.tensor(p.data.T) for name, p in ours["net"].named_parameters()})
    names |= {"net": net, "torch": torch, "F": torch.nn.functional, "nn": torch.nn, "optim": torch.optim}
    return names | {"copy": copy, "math": math, "np": np} | {name: ours[name] for name in ("a", "b", "c", "ids")}


def numpy_names():
    ours = here_names()
    names = {name: np.array(plain(ours[name])) for name in NAMES}
    return names | {"np": np, "math": math, "ids": ours["ids"]}


def jax_names():
    jax = pytest.importorskip("jax", reason="JAX, whose lines this test runs, is not installed")
    optax = pytest.importorskip("optax", reason="Optax, whose lines this test runs, is not installed")
    jnp, ours = jax.numpy, here_names()
    names = {"np": jnp, "jnp": jnp, "jax": jax, "optax": optax, "math": math, "ids": jnp.asarray(ours["ids"])}
    return names | {name: jnp.asarray(plain(ours[name])) for name in NAMES}


NAMES = "xyswvab"
THERE = {"torch": torch_names, "torch.optim": torch_names, "numpy": numpy_names, "jax": jax_names}


def plain(value):
    """A value as an array, whatever library it is of; what is no number stays what it is."""
    if hasattr(value, "detach") and not isinstance(value, Tensor):
        value = value.detach().numpy()
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (str, int, float, list)):
        value = [plain(x) for x in value]
    array = np.asarray(value.data if isinstance(value, Tensor) else value)
    return array if array.dtype.kind in "biufU" else None


def agree(theirs, ours, code):
    """Whether two values are equal, and as trainable."""
    a, b = plain(theirs), plain(ours)
    if a is None or b is None or a.shape != b.shape:
        return False
    same = np.array_equal(a, b) if a.dtype.kind == "U" else np.allclose(a, b, rtol=2e-5, atol=1e-6)
    if hasattr(theirs, "requires_grad") and theirs.requires_grad and not isinstance(ours, (Tensor, type(theirs))):
        return same and "numpy()" in code
    if isinstance(ours, Tensor) and hasattr(theirs, "requires_grad"):
        return same and theirs.requires_grad == ours.requires_grad
    return same


SLOW = [pytest.param(library, marks=pytest.mark.slow) for library in ("torch.optim", "jax")]  # imports, compilation


def lines_of(library):
    """(line, here) of each line that is of a library."""
    for column, line, here in LINES:
        theirs = {"torch.optim" if "optim." in line else "torch"} if column == "torch" else {"numpy", "jax"}
        if column == "numpy":
            theirs -= {"numpy"} if re.search(r"\b(?:jax|jnp|optax)\.", line) else {"jax"} if line in NOT_JAX else set()
        if library in theirs:
            yield line, here


@pytest.mark.parametrize("library", ["torch", "numpy", *SLOW])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the libraries' own
def test_a_line_gives_here_what_it_gives_there(library):
    wrong = []
    for line, here in lines_of(library):
        for ours in [line] if here.startswith("the same") else spans(here):
            theirs, found = run(line, THERE[library]()), run(ours, here_names())
            if not agree(theirs, found, ours):
                wrong.append(f"{line} gives {theirs!r}\n  {ours} gives {found!r}")
    assert not wrong, "\n".join(wrong)


def words(code):
    """The names and operators of a piece of code, but for the page's own tensors."""
    tokens = [token.string for token in tokenize.generate_tokens(io.StringIO(code).readline)]
    return {t for t in tokens if t in OPERATORS or (re.fullmatch(r"[A-Za-z_]\w+", t) and t not in LOCAL)}


def answered(line, here, error, bare):
    """Whether an error says how the line is written here."""
    if bare.get(line, "  hint :") not in str(error):
        return "does not support ufuncs" in str(error)  # NumPy's own answer, before anything of ours is asked
    wanted = words(spans(here)[0]) - words(line) if spans(here) and line not in bare else set()
    return all(word in str(error) for word in wanted)


def problem(line, here, names, bare):
    """What is wrong where a line runs on our tensors; "" if it works, or if its error says how it is written here."""
    try:
        found = run(line, names | here_names())
    except Exception as error:
        return "" if answered(line, here, error, bare) else f"{line}: {type(error).__name__}: {error}\n  not {here}\n"
    expected = run(line if here.startswith("the same") else spans(here)[0], here_names())
    if hasattr(found, "detach") and not isinstance(found, Tensor):  # torch.zeros(2, 3) knows nothing of us
        expected, found = plain(expected), plain(found)
    fine = line in OTHERWISE or agree(expected, found, line)
    return "" if fine else f"{line} gives {found!r}\n  not {expected!r}\n"


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_line_from_there_works_here_or_is_answered(library):
    lines = [*lines_of(library), *(lines_of("torch.optim") if library == "torch" else ())]
    assert not "".join(problem(*line, THERE[library](), BARE) for line in lines)


def test_a_function_that_is_looked_for_in_ops_is_answered():
    """F.mse_loss(x, y) with ops in the place of F."""
    tried = 0
    for line, here in lines_of("torch"):
        name = re.match(r"(?:torch|F)\.(\w+)\(", line)
        if name and name[1] not in vars(ops) and "torch." not in line[2:]:
            assert not problem(line, here, {"torch": ops, "F": ops}, {})
            tried += 1
    assert tried > 40


def test_the_package_and_hasattr_are_answered_too():
    with pytest.raises(AttributeError, match=r"^tinygrad_lm has no tensor\n  hint : tensor is written Tensor\("):
        tinygrad_lm.tensor([1.0])
    with pytest.raises(AttributeError, match=r"^Linear has no nonsense$"):
        _ = nn.Linear(3, 4).nonsense
    assert not any(hasattr(owner, "cat") for owner in (tinygrad_lm, ops, nn, optim, nn.Linear(3, 4), Tensor([1.0])))
    with pytest.raises(AttributeError, match=r"flat is written model\.initialize\(seed=0\)"):
        _ = nn.Linear(3, 4).flat


def test_there_are_enough():
    assert len({line for _, line, _ in LINES}) >= 208
    assert BARE.keys() | NOT_JAX | OTHERWISE <= {line for _, line, _ in LINES}


# ---- the same name, another meaning: each row of that table, there (t) and here (o)


def refuses(kind, call, *said):
    """Whether a call raises this kind of error, with these words."""
    with pytest.raises(kind) as caught:
        call()
    return all(word in str(caught.value) for word in said)


def slope(f, x):
    """The gradient of f at x, of either library."""
    f(x).sum().backward()
    return float(x.grad)


def after_a_step(names, **options):
    """The parameters of a layer with bias 1 after a step of AdamW without gradients."""
    names["net"].bias.data[...] = 1.0
    before = plain(names["net"].weight).copy()
    optimizer = names["optim"].AdamW(names["net"].parameters(), lr=0.1, **options)
    (names["net"](names["x"]) * 0).sum().backward()
    optimizer.step()
    return plain(names["net"].weight) / before, plain(names["net"].bias)


def norm_after_clipping(names, clip):
    (names["net"].bias * 1e-6).sum().backward()  # of norm 2e-6
    clip(names["net"])
    return float((plain(names["net"].bias.grad) ** 2).sum() ** 0.5)


def of_max(t, o):
    assert hasattr(t.x.max(1), "indices")
    assert np.array_equal(plain(t.x.max(1)[0]), o.x.max(1).data)
    return np.array_equal(o.x.max(1)[0].data, o.x.max(1).data[0])


def of_data(t, o):
    o.x.data[0, 0] = 7
    return type(t.x.data) is t.torch.Tensor and type(o.x.data) is np.ndarray and o.x[0, 0].item() == 7


def of_grad(t, o):
    for names in (t, o):
        names.net(names.x).sum().backward()
    theirs, ours = t.net.bias.grad, o.net.bias.grad
    t.net.zero_grad()
    o.net.flat.zero_grad()
    return type(theirs) is t.torch.Tensor and t.net.bias.grad is None and type(ours) is np.ndarray and not ours.any()


def of_linear(t, o):
    theirs, ours = t.nn.Linear(30, 40), nn.Linear(30, 40).initialize()
    assert theirs.weight.shape == (40, 30)
    assert ours.weight.shape == (30, 40)
    assert all(0.5 < abs(plain(p)).max() * 30**0.5 < 1.001 for p in theirs.parameters())
    return not ours.bias.data.any() and 0.018 < ours.weight.data.std() < 0.022 and ours.weight.data.max() > 0.05


def of_rms_norm(t, o):
    theirs, ours = t.nn.RMSNorm(3), nn.RMSNorm(3)
    gains = theirs.weight is not None, ours.weight is not None, nn.RMSNorm(3, gain=True).weight is not None
    return gains == (True, False, True) and theirs.eps is None and ours.eps == 1e-6


def of_dropout(t, o):
    theirs, ours = t.nn.Dropout(0.5), nn.Dropout(0.5).initialize()
    assert (theirs(t.x * 0 + 1) != 1).any()
    assert np.array_equal(plain(theirs.eval()(t.x)), plain(t.x))
    with no_grad():
        assert ours(o.x) is o.x
    assert set(ours(o.x * 0 + 1, nn.Context(key=(0, 1, 0))).data.flat) == {0, 2}
    return refuses(ConfigError, lambda: ours(o.x), "nn.Context(key=(seed, step, 0))")


def of_cross_entropy(t, o):
    targets = np.array([[1, 0, 3], [2, 2, 0]])
    theirs = t.F.cross_entropy(t.s.swapaxes(1, 2), t.torch.tensor(targets))
    return np.isclose(theirs.item(), ops.cross_entropy(o.s, targets).item(), rtol=1e-6)


def of_attention(t, o):
    q = t.torch.randn(1, 5, 2, 4, generator=t.torch.Generator().manual_seed(0))
    theirs = t.F.scaled_dot_product_attention(*[q.swapaxes(1, 2)] * 3)
    assert np.allclose(theirs.swapaxes(1, 2), ops.attention(*[q.numpy()] * 3, causal=False).data, atol=1e-6)
    return not np.allclose(theirs.swapaxes(1, 2), ops.attention(*[q.numpy()] * 3).data, atol=1e-2)


def of_adamw(t, o):
    (weight, bias), (our_weight, our_bias) = after_a_step(vars(t)), after_a_step(vars(o))
    assert np.allclose([weight.min(), bias.min()], 1 - 0.1 * 0.01)
    return np.allclose(our_weight, 1 - 0.1 * 0.1) and (our_bias == 1).all()


def of_clipping(t, o):
    theirs = norm_after_clipping(vars(t), lambda net: t.nn.utils.clip_grad_norm_(net.parameters(), 1e-6))
    ours = norm_after_clipping(vars(o), lambda net: optim.clip_gradients(net.flat, 1e-6))
    return np.allclose([theirs, ours], [2e-6 / 3, 1e-6], rtol=1e-3)


def of_zero_grad(t, o):
    found = []
    for names in (t, o):
        names.net(names.x).sum().backward()
        names.optim.AdamW([names.net.bias]).zero_grad()
        found.append(bool((plain(names.net.weight.grad) != 0).any()))
    return found == [True, False]


def of_step(t, o):
    assert refuses(TypeError, lambda: t.optim.AdamW(t.net.parameters()).step(0.5), "not callable")
    before = o.net.bias.data.copy()
    o.net(o.x).sum().backward()
    optim.AdamW(o.net.parameters(), lr=0.1).step(0.5)
    return np.allclose(before - o.net.bias.data, 0.05)


def of_cosine(t, o):
    schedule = t.optim.lr_scheduler.CosineAnnealingLR(t.optim.AdamW(t.net.parameters()), 10)
    return schedule.eta_min == 0 and optim.warmup_cosine(10, 10) == 0.1 and optim.warmup_cosine(10, 10, floor=0.0) == 0


def of_generate(t, o):
    model = models.GPT(models.PRESETS["modern-tiny"], seed=1)
    likeliest = [list(generate(model, [1, 2], 5, seed=seed, temperature=0)) for seed in (0, 1)]
    drawn = [tuple(generate(model, [1, 2], 5, seed=seed)) for seed in range(3)]
    return likeliest[0] == likeliest[1] and len(likeliest[0]) == 5 and len(set(drawn)) == 3


def of_backward(t, o):
    theirs, ours = t.x.mean(), o.x.mean()
    theirs.backward(retain_graph=True)
    theirs.backward()
    ours.backward()
    return refuses(GraphError, ours.backward, "compute the result again, or add losses up")


def shares_memory(t, o):
    array = np.zeros(2, "float32")
    theirs = t.torch.tensor(array), t.torch.from_numpy(array)
    ours = Tensor(array)
    ours.numpy()[0] = 5
    return [float(x[0]) for x in theirs] == [0, 5] and array[0] == 5


MEANINGS = {
    "`x.max(1)`": of_max,
    "`x.data`": of_data,
    "`x.grad`": of_grad,
    "`x > 0`": lambda t, o: type(t.x > 0) is t.torch.Tensor and type(o.x > 0) is np.ndarray,
    "`x.dtype`": lambda t, o: o.x.dtype == "float32" and o.x.dtype != t.torch.float32,
    "`x.transpose(1, 2)`": lambda t, o: t.s.transpose(1, 2).shape == o.s.swapaxes(1, 2).shape
    and refuses(ShapeError, lambda: o.s.transpose(1, 2), "permutation"),
    "`x.var()`, `x.std()`": lambda t, o: refuses(AttributeError, lambda: o.x.var(), "** 2).mean()", "x.size - 1")
    and refuses(AttributeError, lambda: o.x.std(), ".mean().sqrt()", "x.size - 1"),
    "`Tensor([1, 2])`": lambda t, o: (t.torch.Tensor([1, 2]).dtype, t.torch.tensor([1, 2]).dtype)
    == (t.torch.float32, t.torch.int64) and Tensor([1, 2]).dtype == "int64" and Tensor([1.0, 2.0]).dtype == "float32",
    "`Tensor(a)`, `x.numpy()`": shares_memory,
    "a float64 array": lambda t, o: (t.x * t.x.double()).dtype == t.torch.float64
    and Tensor(np.zeros(2)).dtype == "float64" and refuses(DtypeError, lambda: o.x * Tensor(np.zeros(3)), "float64"),
    "`Tensor([1, 2]) / 2`": lambda t, o: (t.torch.tensor([1, 2]) / 2).dtype == t.torch.float32
    and (Tensor([1, 2]) / 2).dtype == "float64",
    "`nn.Linear(3, 4)`": of_linear,
    "`nn.Embedding(10, 3)`": lambda t, o: 0.9 < plain(t.nn.Embedding(100, 30).weight).std() < 1.1
    and 0.018 < nn.Embedding(100, 30).initialize().weight.data.std() < 0.022,
    "`nn.RMSNorm(3)`": of_rms_norm,
    "`nn.Dropout(0.5)`": of_dropout,
    "`ops.gelu`": lambda t, o: np.allclose(plain(t.F.gelu(t.x)), ops.gelu(o.x).data, atol=1e-6),  # JAX: in the tables
    "`ops.softmax(x)`, `ops.log_softmax(x)`": lambda t, o: refuses(TypeError, lambda: t.torch.softmax(t.x), "dim")
    and np.allclose(ops.softmax(o.x).sum(axis=-1).data, 1) and np.allclose(ops.log_softmax(o.x).exp().sum(-1).data, 1),
    "`ops.logsumexp(x)`": lambda t, o: refuses(TypeError, lambda: t.x.logsumexp(), "dim")
    and ops.logsumexp(o.x).shape == (),
    "`ops.cross_entropy`": of_cross_entropy,
    "`ops.cross_entropy` of no target": lambda t, o: t.F.cross_entropy(t.x, t.torch.tensor([-100, -100])).isnan()
    and ops.cross_entropy(o.x, [-100, -100]).item() == 0,
    "`ops.attention(q, k, v)`": of_attention,
    "`ops.linear(x, w)`": lambda t, o: np.allclose(plain(t.F.linear(t.x, t.w.T)), ops.linear(o.x, o.w).data, atol=1e-6),
    "`ops.maximum(x, 0.0)` where x is 0": lambda t, o: [
        slope(lambda x: x.clamp(min=0.0), t.torch.tensor(0.0, requires_grad=True)),
        slope(lambda x: t.torch.maximum(x, 0 * x.detach()), t.torch.tensor(0.0, requires_grad=True)),
        slope(lambda x: ops.maximum(x, 0.0), Tensor(0.0, requires_grad=True)),
    ] == [1, 0.5, 0.5],
    "`optim.AdamW(...)`": of_adamw,
    "`optim.Muon(...)`": lambda t, o: "weight_decay" in inspect.signature(t.optim.Muon).parameters
    and "weight_decay" not in inspect.signature(optim.Muon).parameters,  # the sizes: tests/optim
    "`optim.clip_gradients`": of_clipping,
    "`optimizer.zero_grad()`": of_zero_grad,
    "`optimizer.step(0.5)`": of_step,
    "`optim.warmup_cosine(step, steps)`": of_cosine,
    "`generate(model, ids, n)`": of_generate,
    "`with torch.no_grad():`": lambda t, o: run("with torch.no_grad(): z = x * 2", vars(t) | vars(o)).requires_grad
    and not run("with no_grad(): z = x * 2", vars(o)).requires_grad,
    "`loss.backward()` twice": of_backward,
    "`model.initialize(seed=0)` twice": lambda t, o: np.array_equal(
        o.net.weight.data.copy(), o.net.initialize(seed=0).weight.data
    ),
}  # fmt: skip


# ---- the tables without a library of their own, and the loop


def of_batches(o):
    xs, rows = np.arange(64), np.random.default_rng(0).permutation(64).reshape(-1, 32)
    return sorted(np.concatenate([xs[these] for these in rows])) == list(xs)


def of_compilation(o):
    kernels = importlib.import_module("tinygrad_lm.kernels")
    with kernels.disabled():
        expected = ops.softmax(o.x).data
        kernels.enable()
        return np.allclose(ops.softmax(o.x).data, expected)


def of_seeds(o):
    model = models.GPT(models.PRESETS["modern-tiny"], seed=0)
    drops = [nn.Dropout(0.5).initialize()(o.x, nn.Context(key=(0, 1, 0))).data for _ in range(2)]
    drawn = [list(generate(model, [1], 5, seed=0)) for _ in range(2)]
    return np.array_equal(*drops) and drawn[0] == drawn[1]


def of_loss(o):
    model, ids = models.GPT(models.PRESETS["modern-tiny"]), np.array([[1, 2, 3]])
    return model(ids).shape == (1, 3, 65) and model.loss(ids, ids).shape == ()


def has(module, *names):
    return all(hasattr(importlib.import_module(f"tinygrad_lm.{module}"), name) for name in names)


HERE = {
    "torch.autograd.gradcheck(f, x)": lambda o: (
        gradcheck(ops.tanh, o.x, verbose=False) and gradcheck_module(lambda net, x: net(x), o.net, o.a, verbose=False)
    ),
    "torch.utils.checkpoint.checkpoint(f, x)": lambda o: ops.recompute(o.x, function=ops.tanh).requires_grad,
    "x.register_hook": lambda o: trace(lambda: o.net(o.x).sum()).steps,
    "create_graph=True": lambda o: type((o.x * o.x).sum().backward() or o.x.grad) is np.ndarray,
    "jax.jit": of_compilation,
    "jax.vmap": lambda o: (o.s @ o.s.swapaxes(1, 2)).shape == (2, 3, 3),
    "DataLoader(dataset, batch_size=32, shuffle=True)": of_batches,
    "torch.manual_seed(0)": of_seeds,
    "AutoModelForCausalLM.from_pretrained(name)": lambda o: has("pretrained.load", "load_pretrained"),
    "model.save_pretrained(folder)": lambda o: has("pretrained.export", "export"),
    "logits, loss = model(x, y)": of_loss,
    "model.generate(ids, max_new_tokens=20)": lambda o: has("generation", "generate"),
    "DistributedDataParallel(net)": lambda o: has("distributed.job", "__name__"),
    "print(net)": lambda o: "weight (3, 4), bias (4,)" in tree(o.net) and "16 parameters" in str(o.net),
}


def test_what_is_only_here():
    titles = [re.search("`(.*?)`", row[0])[1] for row in tables("there", "here")]
    assert titles == list(HERE)
    assert not [title for title in titles if not HERE[title](SimpleNamespace(**here_names()))]


@pytest.mark.parametrize("side", ["here", pytest.param("there", marks=pytest.mark.slow)])
def test_the_loop_side_by_side(side, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there = side == "there"
    names = torch_names() if there else here_names()
    lines = re.search(r"```\n# PyTorch.*?\n```", PAGE, re.DOTALL)[0].splitlines()[1:-1]
    names |= {"Net": lambda: names["nn"].Linear(3, 4), "steps": 20, "xs": names["x"].detach(), "targets": names["ids"]}
    names |= {"save_file": save_file, "load_file": load_file}
    if there:
        torch = names["torch"]
        names |= {"CosineAnnealingLR": torch.optim.lr_scheduler.CosineAnnealingLR, "targets": torch.tensor([2, 0])}
        names["clip_grad_norm_"] = torch.nn.utils.clip_grad_norm_
    exec("\n".join(line[:56].rstrip() if there else line[56:] for line in lines), names)
    losses = [float(line) for line in capsys.readouterr().out.split()]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.05
    assert len(names["classes"]) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_each_other_meaning_has_its_check():
    assert [title for title, _, _ in tables("", "there", "here")] == list(MEANINGS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own
@pytest.mark.parametrize("optimizers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_same_name_has_another_meaning(optimizers):
    there, here = (lambda: SimpleNamespace(**torch_names())), (lambda: SimpleNamespace(**here_names()))
    titles = [title for title in MEANINGS if ("optim" in title) == optimizers]
    assert not [title for title in titles if not MEANINGS[title](there(), here())]
