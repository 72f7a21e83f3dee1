"""The cost of training a transformer from its shape alone: FLOPs by the papers' formula, then hours, energy, money."""

from dataclasses import dataclass

from tinygrad_lm.models.config import PRESETS, GPTConfig

GPT3 = GPTConfig(50257, 2048, n_layer=96, n_head=96, n_embd=12288)  # Brown et al. 2020, table 2.1
MODELS = {name: PRESETS[name] for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")} | {"gpt3": GPT3}
GPT3_FLOPS = 3.14e23  # published: ibid., table D.1, for 300 billion tokens


@dataclass(frozen=True)
class GPU:
    """flops: peak FLOP/s of bfloat16 matrix products, without sparsity; watts: of the whole board."""

    name: str
    flops: float
    watts: float
    price: float  # $ an hour: an assumption, prices change


GPUS = {
    "a100": GPU("A100 SXM", 312e12, 400, 2.0),  # NVIDIA A100 datasheet
    "h100": GPU("H100 SXM", 989e12, 700, 3.0),  # NVIDIA H100 datasheet
}


def matrix_size(config):
    """N: the entries of the matrices that each token is multiplied by, those of the blocks and the head.

    Embeddings are looked up, biases added, gains multiplied entry by entry; none is a matrix product (Kaplan et al.
    2020, table 1, leave out the head, too).
    """
    C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
    attention = 2 * C * H * D + 2 * C * G * D
    mlp = (3 if config.gated else 2) * C * config.hidden
    return config.n_layer * (attention + mlp) + config.vocab_size * C


def parameters(config):
    """The number of parameters of a model like GPT-2, with norms, biases and positions; its head is the embedding."""
    C = config.n_embd
    vectors = config.n_layer * (9 * C + config.hidden) + 2 * C  # of a block: 2 norms, biases of q, k, v, proj, fc, proj
    return matrix_size(config) + vectors + config.block_size * C


def flops_per_token(config, causal):
    """6 N + 12 L C T: 2 per parameter forward and 4 backward; the same for attention's two products.

    Kaplan et al. 2020, table 1; Chowdhery et al. 2022 (PaLM), appendix B, whose convention is causal=False: all T × T
    weights. causal=True counts the (T + 1)/2 keys that a query sees on average, as good kernels compute them.
    """
    seen = (config.block_size + 1) / 2 if causal else config.block_size
    return 6 * matrix_size(config) + 12 * config.n_layer * config.n_head * config.head_size * seen


def bill(flops, gpu, utilisation, pue):
    """{"hours": of one GPU, "kwh", "dollars"} for this many FLOPs at a share `utilisation` of the GPU's peak.

    pue: power usage effectiveness, the power of the whole data centre over that of its computers.
    """
    hours = flops / (gpu.flops * utilisation) / 3600
    return {"hours": hours, "kwh": hours * gpu.watts / 1000 * pue, "dollars": hours * gpu.price}


def table(tokens, gpu, utilisation, pue, more):
    """Lines: the cost of training each model of `more`, {name: (config, parameters)}, and each of the papers'."""
    lines = [
        f"Trained on {tokens:.3g} tokens, 6 N a token for all N parameters, as Brown et al. 2020, table D.1, count:",
        f"{'':12} {'parameters':>15} {'FLOP':>10} {'with attention':>15} {'GPU hours':>12} {'MWh':>9} {'$':>13}",
    ]
    for name, (config, size) in (more | {name: (model, parameters(model)) for name, model in MODELS.items()}).items():
        flops = 6 * size * tokens
        costs = bill(flops, gpu, utilisation, pue)
        lines.append(
            f"{name:12} {size:15,} {flops:10.2e} {flops_per_token(config, False) * tokens:15.2e} "
            f"{costs['hours']:12,.0f} {costs['kwh'] / 1000:9,.1f} {costs['dollars']:13,.0f}"
        )
    lines += [
        f"published for GPT-3 and 300 billion tokens: {GPT3_FLOPS:.2e}; here: {6 * parameters(GPT3) * 300e9:.2e}",
        f"assumed: {gpu.name}, {gpu.flops / 1e12:,.0f} TFLOP/s used at {utilisation:.0%}, {gpu.watts:.0f} W, PUE "
        f"{pue:g}, ${gpu.price:.2f} an hour. GPT-2's own tokens were not published.",
    ]
    return lines
