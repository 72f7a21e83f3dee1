"""What training on many GPUs takes: the time to compute, the time on the links between them, and memory.

By the formulas of the command `cost` and a model of the links, for the training of this package as it is: each GPU has
the whole model, gradients are added in a tree, each GPU updates a part of the weights and hands it round, and nothing
is sent while something is computed. Beside runs of others that were published.
"""

import math
from dataclasses import dataclass

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.cost.budget import GPUS, MODELS, flops_per_token, parameters

COUNTS = 1, 8, 64, 1024
NODE = 8  # GPUs of a machine
TOKENS = {"gpt2": (2**19, 10e9), "gpt2-xl": (2**20, 33.6e9), "gpt3": (3.2e6, 300e9)}  # a step's, and all (below)


@dataclass(frozen=True)
class Links:
    """Bytes a second that a GPU sends while it receives as many: to those of its machine, and to others."""

    near: float
    far: float
    memory: float  # of the GPU, bytes
    latency: float = 2e-5  # seconds a message


LINKS = {
    "a100": Links(300e9, 25e9, 80e9),  # DGX A100: NVLink 3, a 200 Gb/s adapter a GPU
    "h100": Links(450e9, 50e9, 80e9),  # DGX H100: NVLink 4, a 400 Gb/s adapter a GPU
}

# (model, GPU, how many, hours, tokens a step, tokens, utilisation as published, source)
PUBLISHED = [
    ("gpt2", "a100", 8, 1.5, 2**19, 10e9, 0.6, "llm.c, discussion 481"),
    ("gpt2-xl", "h100", 8, 24, 2**20, 33.6e9, 0.5, "llm.c, discussion 677"),
    ("gpt3", "a100", 1024, 34 * 24, 1536 * 2048, 300e9, 0.34, "Narayanan et al. 2021, section 5.1"),
]


def add_arguments(parser):
    parser.add_argument("--gpu", choices=LINKS, default="h100", help="[h100]")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the GPU's peak that is reached [0.4]")


def show_scale(args):
    """Print the tables. Returns the exit status."""
    if not 0 < args.utilisation <= 1:
        raise ConfigError(f"scale: --utilisation must be above 0 and at most 1, found {args.utilisation}")
    gpu, links = GPUS[args.gpu], LINKS[args.gpu]
    print(
        f"{gpu.name}, {gpu.flops / 1e12:,.0f} TFLOP/s, of which {args.utilisation:.0%} are used while it computes; "
        f"{NODE} a machine,\nwhich send {links.near / 1e9:.0f} GB/s to each other and {links.far / 1e9:.0f} GB/s each "
        "to other machines. Seconds a step:\n"
    )
    print(f"{'':8}{'GPUs':>6}{'tokens':>11}{'computes':>12}{'adds':>9}{'hands round':>13}{'efficiency':>12}", end="")
    print(f"{'days':>10}{'memory':>11}")
    for name, (tokens, total) in TOKENS.items():
        for count in COUNTS:
            print(line(name, count, tokens, total, args.gpu, args.utilisation))
    print(
        "\nmemory: weights, gradients, a rounded copy of the weights, a part of the moments; activations come on top.\n"
        "too large: such a model must itself be divided, by tensors or layers, which nothing here does.\n\n"
        "Published runs, and what these formulas say at the utilisation that was published:"
    )
    for name, kind, count, hours, tokens, total, utilisation, source in PUBLISHED:
        computing, *talking, _ = (x * total / tokens / 3600 for x in of_step(name, count, tokens, kind, utilisation))
        print(
            f"{name:8}{count:6,} {GPUS[kind].name}: {hours:,.1f} h; here {computing:,.1f} h, and {sum(talking):,.1f} h "
            f"on the links ({source})"
        )
    return 0


def line(name, count, tokens, total, gpu, utilisation):
    """A row of the table."""
    computing, adding, handing, memory = of_step(name, count, tokens, gpu, utilisation)
    step = computing + adding + handing
    fits = f"{memory / 1e9:8.1f} GB" if memory < LINKS[gpu].memory else f"{'too large':>11}"
    return (
        f"{name:8}{count:6,}{tokens:11,.0f}{computing:12,.3f}{adding:9.3f}{handing:13.3f}{computing / step:12.0%}"
        f"{step * total / tokens / 86400:10,.2f}{fits}"
    )


def of_step(name, count, tokens, gpu, utilisation):
    """(seconds to compute, to add gradients, to hand weights round, bytes a GPU) of a step on so many GPUs."""
    config, links = MODELS[name], LINKS[gpu]
    size, levels = parameters(config), int(math.log2(count))
    computing = flops_per_token(config, causal=True) * tokens / (count * GPUS[gpu].flops * utilisation)
    adding = handing = 0.0
    for level in range(
        levels
    ):  # partners at distance 2 ** level exchange that part of the gradient, and later hand back
        speed = links.near if 2**level < NODE else links.far
        adding += 2 * (4 * size / 2 ** (level + 1) / speed + links.latency)
    if count > 1:  # each GPU receives all weights; into a machine they come by all its adapters
        speed = links.near if count <= NODE else min(links.near, NODE * links.far)
        handing = 4 * size * (1 - 1 / count) / speed + count * links.latency
    return computing, adding, handing, size * (4 + 4 + 2 + 8 / count)
