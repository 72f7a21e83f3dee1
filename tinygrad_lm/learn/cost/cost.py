"""Count what each operation of a training step computes, moves and keeps, and what training costs.

The counts come from the recorded graph. They are compared with the papers' formula, 6 N + 12 L C T per token, and for a
run with the clock; then the training of the papers' models is priced in hours, energy and money.
"""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_lm import kernels
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.cost.budget import GPUS, flops_per_token, matrix_size, table
from tinygrad_lm.learn.cost.training_step import count_step
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.threads import cores, parallel, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.run import RunFolder

HEAD = "head and loss"  # one operation, where nothing comes between them
EXECUTED = 2e11  # FLOPs that a laptop computes in some seconds; a larger step is traced by its shapes alone


def add_arguments(parser):
    parser.add_argument("run", nargs="?", metavar="RUN", help="the folder of a run")
    parser.add_argument("--preset", choices=PRESETS, help="one of our models instead [gpt2]")
    parser.add_argument("--batch-size", type=int, metavar="B", help="sequences per batch [the run's or the recipe's]")
    parser.add_argument("--block-size", type=int, metavar="T", help="tokens per sequence [the model's]")
    parser.add_argument(
        "--tokens", type=float, default=300e9, help="training tokens of the papers' models [3e11, as GPT-3]"
    )
    parser.add_argument("--gpu", choices=GPUS, default="a100", help="[a100]")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the GPU's peak that is reached [0.4]")
    parser.add_argument("--watts", type=float, help="power of a GPU [its datasheet's]")
    parser.add_argument(
        "--pue", type=float, default=1.1, help="power of the data centre / power of its computers [1.1]"
    )
    parser.add_argument("--price", type=float, help="$ per GPU hour [an assumption]")


def count_costs(args):
    """Print the ledger of a step and the table of costs. Returns the exit status."""
    check_arguments(args)
    trained = RunFolder(args.run) if args.run else None
    name = args.run or args.preset or "gpt2"
    config = trained.model_config if trained else PRESETS[name]
    recipe = trained.train_config if trained else TrainConfig(**{"steps": 1} | RECIPES[name])
    config = replace(config, block_size=args.block_size or config.block_size)
    batch_size = args.batch_size or recipe.batch_size
    tokens = batch_size * config.block_size
    kernels.enable()
    execute = flops_per_token(config, causal=True) * tokens <= EXECUTED
    try:
        step = count_step(config, batch_size, execute, recipe.frozen)
    except MemoryError as error:
        raise ConfigError(f"cost: {error}; take a smaller --block-size or --batch-size") from None
    how = "executed" if execute else "traced by its shapes, not executed"
    print(f"{name}: a step of {batch_size} × {config.block_size} = {tokens:,} tokens, {how}")
    print("products and entrywise in FLOP: a multiplication is one, an addition another\n")
    for key, title in ((lambda e: kind(e.module), "by module"), (lambda e: e.op, "by operation")):
        print("\n".join(ledger(step, key, title)) + "\n")
    print("\n".join(reconciled(step)) + "\n")
    print("\n".join(memory(step, recipe, execute)) + "\n")
    if trained and trained.log.curve("seconds")[1] and not args.block_size:
        print("\n".join(measured(step, trained)) + "\n")
    gpu = GPUS[args.gpu]
    gpu = replace(gpu, watts=args.watts or gpu.watts, price=gpu.price if args.price is None else args.price)
    print("\n".join(table(args.tokens, gpu, args.utilisation, args.pue, {Path(name).name: (config, step.size())})))
    return 0


def check_arguments(args):
    """Raise ConfigError with all problems of the options."""
    problems = ["RUN and --preset both name a model; give one of them"] if args.run and args.preset else []
    for name in ("batch_size", "block_size", "tokens", "watts", "price", "pue", "utilisation"):
        value, least = getattr(args, name), {"pue": 1, "price": 0}.get(name)
        option = "--" + name.replace("_", "-")
        if value is not None and not (np.isfinite(value) and (value > 0 if least is None else value >= least)):
            problems.append(
                f"{option} must be {'above 0' if least is None else f'at least {least}'} and finite, found {value}"
            )
    if args.utilisation > 1:
        problems.append(f"--utilisation is a share, at most 1, found {args.utilisation}")
    if problems:
        raise ConfigError("cost: " + "; ".join(problems))


def kind(module):
    """'h.3.attn.c_q' -> 'h.*.attn'; outside the blocks: embeddings, or head and loss."""
    if match := re.match(r"h\.\d+(\.attn|\.mlp)?", module):
        return "h.*" + (match[1] or " norms, residual")
    return {"wte": "embeddings", "wpe": "embeddings", "dropout": "embeddings"}.get(
        module, HEAD if module in ("ln_f", "lm_head") else module
    )


def ledger(step, key, title):
    """Lines: the costs summed over entries with the same key, the most expensive first."""
    groups = {}
    for cost in step.costs:
        row = groups.setdefault(key(cost), np.zeros(7))
        row += cost.times * np.array([*cost.products, sum(cost.entrywise), *cost.moved, cost.saved, 0])
        row[6] = max(row[6], *cost.peak)
    total = sum(groups.values()) + 0.0
    total[6] = max(row[6] for row in groups.values())
    lines = [
        f"{title:22} {'products':>21} {'entrywise':>10} {'bytes moved':>21} {'kept':>10} {'peak of one':>12}",
        f"{'':22} {'forward':>10} {'backward':>10} {'both':>10} {'forward':>10} {'backward':>10}",
    ]
    rows = sorted(groups.items(), key=lambda item: -sum(item[1][:3]))
    for name, row in [*((name, row) for name, row in rows if row[:6].any()), ("all", total)]:
        counts = " ".join(f"{short(x):>10}" for x in row[:3])
        lines.append(f"{name:22} {counts} " + " ".join(f"{short(x, 'B'):>10}" for x in row[3:]))
    return lines


def short(x, unit=""):
    """1234567 -> '1.23 M'."""
    if not x:
        return "–"
    power = min(6, max(0, int(np.log10(x) // 3)))
    return f"{x / 1000**power:.3g} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}".rstrip()


def reconciled(step):
    """Lines: the ledger's products compared with the formula, in both of its conventions."""
    config, (B, T) = step.config, step.tokens
    counted, N = step.total("products") / (B * T), matrix_size(config)
    half, whole = flops_per_token(config, causal=True), flops_per_token(config, causal=False)
    lines = [
        f"products per token: {counted:,.0f} counted, attention as the causal mask leaves it",
        f"  6 N + 12 L C (T + 1)/2 = {half:,.0f}, ratio {counted / half:.6f}, with N = {N:,} in blocks and head",
        f"  6 N + 12 L C T         = {whole:,.0f}, ratio {counted / whole:.6f}: PaLM's convention, all T × T weights",
    ]
    if step.size() != step.size(lambda name, shape, trained: trained):
        lines.append("  frozen weights have no gradient, and adapters are not in N")
    return lines


def memory(step, recipe, execute):
    """Lines: the memory that a step needs by count, and what was measured."""
    width = 4
    trained = step.size(lambda name, shape, trained: trained)
    muon = step.size(lambda name, shape, trained: trained and name.startswith("h.") and len(shape) == 2)
    moments = 2 * trained - (muon if recipe.muon_lr else 0)
    saved = step.total("saved")
    parts = {"weights": width * step.size(), "gradients": width * trained, "moments": width * moments}
    lines = ["memory: " + ", ".join(f"{name} {short(x, 'B')}" for name, x in parts.items())]
    if execute:
        expected = parts["weights"] + parts["gradients"] + saved
        lines += [
            f"  kept for the backward pass {short(saved, 'B')}; with weights and gradients {short(expected, 'B')}",
            f"  measured {short(step.measured, 'B')} at most, {step.measured / expected:.2f} of that: single "
            "operations need memory, too; moments are not included",
        ]
    else:
        (B, T), config = step.tokens, step.config
        weights = width * B * config.n_layer * config.n_head * T * T
        lines += [
            f"  kept for the backward pass {short(saved, 'B')} by the definitions in ops/; {short(weights, 'B')} are",
            "  attention's T × T weights, which fused kernels compute again instead of keeping them. If head and loss",
            "  are one operation with many logits, its gradients count instead, as the CPU's kernel keeps them",
        ]
    return lines


def measured(step, trained):
    """Lines: tokens per second by the run's log, and the share of this machine's peak that they reach."""
    config = trained.train_config
    seconds = float(np.median(trained.log.curve("seconds")[1]))
    speed = config.batch_size * config.accumulate * step.config.block_size / seconds
    reached = speed * step.total("products") / (step.tokens[0] * step.tokens[1])
    limit = peak_flops()
    return [
        f"measured: {speed:,.0f} tokens/s by the log, {short(reached, 'FLOP/s')} in products",
        f"  this machine can multiply matrices at {short(limit, 'FLOP/s')}; if the run was here, it reached "
        f"{reached / limit:.0%} of that",
    ]


def peak_flops(n=1024):
    """FLOP/s of this machine's matrix products when each core computes its own: the best of five tries."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    times = []
    with workers(cores()):
        for _ in range(5):
            began = time.perf_counter()
            parallel(lambda _: a @ b, range(2 * cores()))
            times.append(time.perf_counter() - began)
    return 2 * cores() * 2 * n**3 / min(times)
