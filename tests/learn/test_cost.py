"""The cost ledger: counted by hand, by PyTorch, by the papers' formula and by the machine, it is the same."""

import argparse
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import small_gpt
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_run import TEXT, pretrain

from tinygrad_lm import kernels
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.replaceable import Replaceable
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.kernels.numpy import cross_entropy as numpy_classifier
from tinygrad_lm.learn.cost import budget, cost, flops, kept
from tinygrad_lm.learn.cost.kept import root
from tinygrad_lm.learn.cost.training_step import count_step
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.train.run import RunFolder


def command(*arguments):
    parser = argparse.ArgumentParser()
    cost.add_arguments(parser)
    return cost.count_costs(parser.parse_args(list(map(str, arguments))))


# ---- counts


def test_every_operation_has_one_place_in_the_table():
    parts = [set(flops.ENTRYWISE), flops.MOVING, flops.PRODUCTS, flops.INSIDE]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) <= set(Op.registry)
    assert len(set.union(*parts)) >= 43  # all of today; what comes is counted by the default
    assert flops.entrywise("softplus", [(4, 3)], (4, 3), [True]) == (12, 12)
    assert flops.VIEWS <= flops.MOVING
    assert set(flops.ENTRYWISE) >= flops.REDUCING


def test_a_linear_layer_by_hand():
    """(2, 3, 5) times (5, 7): 42 results of 5 multiplications and 5 additions; as many for dx, and for dw."""
    shapes = [(2, 3, 5), (5, 7), (7,)]
    assert flops.products("linear", shapes, [True] * 3) == (420, 840)
    assert flops.products("linear", shapes, [False, True, True]) == (420, 420)
    assert flops.products("linear", shapes, [True, False, False]) == (420, 420)
    assert flops.entrywise("linear", shapes, (2, 3, 7), [True] * 3) == (42, 42)
    assert flops.entrywise("linear", shapes[:2], (2, 3, 7), [True] * 2) == (0, 0)


def test_the_last_layer_with_its_loss_takes_what_both_take():
    """(4, 5) times (5, 3), and 12 logits."""
    shapes, both = [(4, 5), (5, 3), (4,)], [True, True, False]
    assert flops.products("linear_cross_entropy", shapes, both) == flops.products("linear", shapes[:2], both[:2])
    assert flops.entrywise("linear_cross_entropy", shapes, (), both) == (48, 12)
    assert flops.entrywise("linear_cross_entropy", shapes, (), [False] * 3) == (48, 0)


def test_attention_by_hand():
    """Three queries see 1, 2 and 3 keys; a score takes 8 FLOPs and a part of the answer 8, for each of two heads."""
    shapes = [(1, 3, 2, 4)] * 3
    assert flops.products("attention", shapes, [True] * 3) == (2 * 6 * 16, 2 * 6 * 32)
    assert flops.products("attention", shapes, [True] * 3, causal=False) == (2 * 9 * 16, 2 * 9 * 32)
    assert flops.products("attention", shapes, [False, False, True]) == (2 * 6 * 16, 2 * 6 * 8)
    assert flops.visible(2, 5, True) == 4 + 5


def test_broadcasting_back_is_adding():
    assert flops.entrywise("add", [(4, 3), (3,)], (4, 3), [True, True]) == (12, 12)
    assert flops.entrywise("add", [(4, 3), (4, 3)], (4, 3), [True, True]) == (12, 0)
    assert flops.entrywise("multiply", [(4, 3), (3,)], (4, 3), [True, True]) == (12, 36)
    assert flops.entrywise("cross_entropy", [(4, 3), (4,)], (), [True, False]) == (48, 12)


@pytest.mark.slow
@given(small_gpt.configs(), st.integers(1, 3), st.sampled_from([0.0, 0.2]), st.sampled_from([0, 0, 1, 2]))
@settings(max_examples=40)
def test_what_is_followed_by_shapes_is_what_is_recorded(drawn, batch_size, dropout, rank):
    """Every operation of every model: its shape, its FLOPs, the bytes that it moves and those that it keeps."""
    config = replace(drawn[0], dropout=dropout, n_layer=2)
    assume(config.head_size > 1)  # heads of one number change places without a copy
    with kernels.disabled():
        executed = count_step(config, batch_size, rank=rank)
    followed = count_step(config, batch_size, execute=False, rank=rank)
    for entry in executed.costs:
        entry.peak = (0, 0)
    assert executed.costs == followed.costs
    assert executed.parameters == followed.parameters


@pytest.mark.parametrize("name", PRESETS)
def test_two_blocks_stand_for_all(name):
    """Five blocks that are executed, and two of them followed by their shapes."""
    config = small_gpt.tiny(name, n_layer=5, dropout=0.1)
    with kernels.disabled():
        executed = count_step(config, 2)
    followed = count_step(config, 2, execute=False)
    assert len(followed.costs) < len(executed.costs)
    for field in ("products", "entrywise", "moved", "saved"):
        assert followed.total(field) == executed.total(field), field
    assert followed.size() == executed.size() == GPT(config).flat.data.size


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("frozen", [(), ("wte.*", "lm_head.*")], ids=["", "frozen"])
@pytest.mark.parametrize("execute", [True, False])
def test_what_is_recorded_is_what_is_trained(name, frozen, execute):
    """The last operations are those of the model's loss, be they one or more, and all under one name."""
    config = small_gpt.tiny(name, n_layer=1)
    frozen = frozen[: 1 + (not config.tied)]
    entries = count_step(config, 2, execute, frozen).costs
    after = [entry.module for entry in entries].index("ln_f") + 1
    head = ["linear", "divide", "tanh", "multiply"] if config.softcap else ["linear"]
    expected = [*head, "cross_entropy"] if config.softcap or frozen else ["linear_cross_entropy"]
    assert [entry.op for entry in entries[after:] if entry.op != "transpose"] == expected
    assert {cost.kind(entry.module) for entry in entries[after - 1 :]} == {"head and loss"}
    assert {cost.kind(entry.module) for entry in entries[: after - 1]}.isdisjoint({"head and loss"})


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("execute", [True, False])
def test_of_many_logits_their_gradients_are_kept(tied, execute, monkeypatch):
    """More rows than the kernel holds at a time are many, as many are few."""
    config = small_gpt.tiny("gpt2", tied=tied)
    rows, C, V = config.block_size, config.n_embd, config.vocab_size

    def kept(limit):
        monkeypatch.setattr(numpy_classifier, "CHUNK", limit * 4 * V)
        return next(entry.saved for entry in count_step(config, 1, execute).costs if entry.op == "linear_cross_entropy")

    assert kept(rows - 1) == 4 * (rows * C + C * V)
    composed = rows * (4 * (C + V + 1) + 1 + 8 + 8)  # x, exp and its sum, what counts, targets and their numbers
    assert rows * 4 * V <= kept(rows) <= composed  # of those a kernel may spare some, x too where it is computed again
    assert execute or kept(rows) == composed


@given(small_gpt.configs(), st.integers(1, 3))
@settings(max_examples=40)
def test_the_sum_is_the_formula(drawn, batch_size):
    config = drawn[0]
    step = count_step(config, batch_size, execute=False)
    assert step.total("products") == batch_size * config.block_size * budget.flops_per_token(config, causal=True)


def test_shapes_alone_leave_nothing_behind():
    before = {op: (op.implementations, dict(op.implementations)) for op in Op.registry.values()}
    enabled = Replaceable.enabled
    count_step(small_gpt.tiny("gpt2"), 1, execute=False)
    with pytest.raises(ConfigError, match="exp: no shape is known"), kept.shapes_alone():
        Op.registry["exp"](np.zeros(3, np.float32))
    assert Replaceable.enabled is enabled
    for op, (implementations, content) in before.items():
        assert op.implementations is implementations
        assert implementations == content


def test_frozen_weights_cost_less():
    config = small_gpt.tiny("gpt2")
    tokens, C, hidden = config.block_size, config.n_embd, config.hidden
    whole = count_step(config, 1).total("products")
    less = count_step(config, 1, frozen=("h.1.mlp.*",))
    assert whole - less.total("products") == 2 * tokens * 2 * C * hidden
    assert "frozen weights have no gradient" in "\n".join(cost.reconciled(less))


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_pytorch_counts_the_same(name):
    torch = pytest.importorskip("torch")
    import torch_gpt
    from torch.utils.flop_counter import FlopCounterMode

    config = small_gpt.tiny(name)
    model = GPT(config, dtype=np.float64)
    p = {key: torch.tensor(w.data, requires_grad=True) for key, w in model.flat.items()}
    tokens = torch.zeros((3, config.block_size), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        torch_gpt.logits(config, p, tokens).sum().backward()
    assert counter.get_total_flops() == tokens.numel() * budget.flops_per_token(config, causal=False)


# ---- memory


def test_what_is_kept_is_what_memory_holds():
    """The counted bytes against those that are held between the forward and the backward pass."""
    config = replace(PRESETS["nanogpt-cpu"], vocab_size=65, n_layer=2)
    step = count_step(config, 8)
    model, tokens = GPT(config), np.zeros((8, config.block_size), int)
    tracemalloc.start()
    try:
        loss = model.loss(tokens, tokens, Context(key=(0, 0, 0)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert loss.requires_grad
    assert held == pytest.approx(step.total("saved"), rel=0.03)
    weights = 8 * step.size()
    widest = 4 * tokens.size * config.hidden  # of the last MLP the gradients on both sides are there, and its y again
    assert weights + held < step.measured < weights + held + 3 * widest


def test_bytes_by_hand():
    """An embedding reads rows, not its table; a linear layer everything once, and on the way back again."""
    config = small_gpt.tiny("gpt2")
    entries = count_step(config, 3, execute=False).costs
    T, C, hidden = config.block_size, config.n_embd, config.hidden
    rows, ids, y = 4 * 3 * T * C, 8 * 3 * T, 4 * 3 * T * C
    assert (entries[0].op, entries[0].moved) == ("embedding", (rows + ids + y, y + ids + 4 * config.vocab_size * C))
    layer = next(entry for entry in entries if entry.module == "h.0.mlp.c_fc")
    x, w, b, y = 4 * 3 * T * C, 4 * C * hidden, 4 * hidden, 4 * 3 * T * hidden
    assert layer.moved == (x + w + b + y, y + (x + w + b) + (x + w + b))
    assert all(entry.moved == (0, 0) for entry in entries if entry.op == "reshape")


def test_the_peak_of_an_operation_holds_its_result():
    step = count_step(small_gpt.tiny("gpt2", n_embd=64), 16)
    linear = [entry for entry in step.costs if entry.op == "linear"]
    assert linear
    for entry in linear:
        size = 4 * math.prod(entry.shape)
        assert size <= entry.peak[0] < 3 * size + 2000
        assert entry.peak[1] > 0


def test_an_array_is_known_by_its_owner():
    x = np.zeros((4, 6))
    assert root(x[1:].T.reshape(6, 1, 3)[0]) is x
    assert root(x[1:, ::2].T) is x
    assert root(x.copy()) is not x


# ---- money


@pytest.mark.parametrize("name", budget.MODELS)
def test_parameters(name):
    """The formula against a model, and against what was published."""
    config = budget.MODELS[name]
    small = replace(config, vocab_size=11, block_size=7, n_layer=3, n_embd=4 * config.n_head, n_head=config.n_head)
    small = replace(small, n_embd=8, n_head=2)
    assert budget.parameters(small) == GPT(small, None).flat.data.size
    published = {"gpt2": 124e6, "gpt2-medium": 355e6, "gpt2-large": 774e6, "gpt2-xl": 1558e6, "gpt3": 174.6e9}
    assert budget.parameters(config) == pytest.approx(published[name], rel=0.004)


def test_gpt3_as_published():
    assert f"{6 * budget.parameters(budget.GPT3) * 300e9:.3g}" == f"{budget.GPT3_FLOPS:.3g}"


def test_a_bill():
    gpu = budget.GPU("x", flops=1e12, watts=500, price=3.0)
    found = budget.bill(3.6e18, gpu, utilisation=0.5, pue=1.2)
    assert found == {"hours": 2000.0, "kwh": 1200.0, "dollars": 6000.0}


# ---- the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    assert pretrain("--preset", "tiny", "--data", folder / "text.txt", "--out", folder / "run", "--steps", 5) == 0
    return folder / "run"


@pytest.mark.slow
def test_the_ledger_of_a_run(trained, capsys):
    assert command(trained) == 0
    told = capsys.readouterr().out
    assert "a step of 4 × 8 = 32 tokens, executed" in told
    for name in (
        "h.*.attn",
        "h.*.mlp",
        "h.* norms, residual",
        "embeddings",
        "head and loss",
        "linear",
        "attention",
        "linear_cross_entropy",
    ):
        assert f"\n{name:22} " in told, name
    assert "ratio 1.000000, with N" in told
    assert "tokens/s by the log" in told
    assert "  measured " in told
    assert "published for GPT-3 and 300 billion tokens: 3.14e+23; here: 3.14e+23" in told


def test_a_large_preset_is_not_executed(capsys):
    assert command("--preset", "gpt2-xl", "--block-size", 512, "--batch-size", 2, "--gpu", "h100", "--watts", 1000,
                   "--price", 5, "--pue", 1.5, "--utilisation", 0.5, "--tokens", 1e9) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert "a step of 2 × 512 = 1,024 tokens, traced by its shapes, not executed" in told
    assert "ratio 1.000000, with N = 1,554,971,200" in told
    assert "assumed: H100 SXM, 989 TFLOP/s used at 50%, 1000 W, PUE 1.5, $5.00 an hour." in told
    assert "Trained on 1e+09 tokens" in told


def test_the_bill_of_the_model_that_was_asked_for(trained, capsys):
    assert command(trained, "--tokens", 1e6) == 0
    told = capsys.readouterr().out
    assert "FLOP: a multiplication is one, an addition another" in told
    row = next(line.split() for line in told.partition("Trained on")[2].splitlines() if line.startswith("run "))
    size = RunFolder(trained).initial_model("cpu").flat.data.size
    assert (int(row[1].replace(",", "")), float(row[2])) == (size, pytest.approx(6e6 * size, rel=1e-2))


def test_what_does_not_fit_into_memory_is_told(monkeypatch):
    def too_large(*_):
        raise MemoryError("Unable to allocate 7 PiB")

    monkeypatch.setattr(cost, "count_step", too_large)
    with pytest.raises(ConfigError, match="cost: Unable to allocate 7 PiB; take a smaller --block-size"):
        command("--preset", "gpt2")


def test_sums_by_module_and_by_operation_agree():
    step = count_step(small_gpt.tiny("modern"), 2)
    one, other = (cost.ledger(step, key, "")[-1] for key in (lambda e: cost.kind(e.module), lambda e: e.op))
    assert one == other
    assert cost.kind("h.12.attn.c_q") == "h.*.attn"
    assert cost.kind("h.0.ln_1") == cost.kind("h.1") == "h.* norms, residual"


@pytest.mark.parametrize(
    ("x", "text"), [(0, "–"), (999, "999"), (1234567, "1.23 M"), (6e18, "6 E"), (5e-3, "0.005"), (7e21, "7e+03 E")]
)
def test_short_numbers(x, text):
    assert cost.short(x) == text


def test_mistakes(trained, tmp_path):
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        command(tmp_path)
    with pytest.raises(ConfigError, match="both name a model"):
        command(trained, "--preset", "gpt2")
    with pytest.raises(ConfigError) as error:
        command("--batch-size", 0, "--pue", 0.9, "--utilisation", 1.5, "--price", -1, "--tokens", "inf")
    for part in ("--batch-size must be above 0", "--pue must be at least 1", "at most 1", "--price", "--tokens"):
        assert part in str(error.value)
