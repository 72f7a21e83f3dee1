"""The shapes of our models, and presets by name. The page has one shape, GPT-2's."""

from dataclasses import dataclass, replace

from tinygrad_lm.errors import check_ranges
from tinygrad_lm.ops.rotary import SCALING, is_scaling

CHOICES = {
    "norm": ("layer", "rms"),
    "position": ("learned", "rotary"),
    "activation": ("gelu", "gelu_tanh", "relu", "relu_squared", "silu"),
}

POSITIVE = "vocab_size", "block_size", "n_layer", "n_head", "kv_heads", "n_embd"
NOT_NEGATIVE = "n_hidden", "n_head_embd", "n_kv_head", "norm_eps", "softcap"


@dataclass(frozen=True)
class GPTConfig:
    """A decoder-only transformer. The defaults are GPT-2's 124M-parameter model."""

    vocab_size: int = 50257
    block_size: int = 1024  # the longest context T
    n_layer: int = 12
    n_head: int = 12
    n_kv_head: int = 0  # key and value heads, a divisor of n_head; 0: as many as n_head
    n_embd: int = 768  # channels C
    n_hidden: int = 0  # channels within the MLP; 0: 4 n_embd
    n_head_embd: int = 0  # channels D of one head; 0: n_embd / n_head
    norm: str = "layer"
    norm_eps: float = 0.0  # 0: the operation's default
    gain: bool = False  # RMS norms have a gain; layer norms always have
    position: str = "learned"
    rope_base: float = 10000.0
    rope_scaling: tuple = ()  # rotary's option `scaling`
    activation: str = "gelu_tanh"
    gated: bool = False  # the MLP multiplies the activation by a second projection; with silu: SwiGLU
    bias: bool = True
    qk_norm: bool = False  # normalise queries and keys
    tied: bool = True  # the head's matrix is the token embedding's
    zero_init: bool = False  # blocks start as the identity: output projections and head are zero
    softcap: float = 0.0  # logits within ±softcap, through tanh; 0: unbounded
    dropout: float = 0.0

    def __post_init__(self):
        ranges = {name: (x := getattr(self, name), "positive", x >= 1) for name in POSITIVE}
        ranges |= {name: (x := getattr(self, name), "at least 0", x >= 0) for name in NOT_NEGATIVE}
        for name, allowed in CHOICES.items():
            ranges[name] = (x := getattr(self, name)), f"one of {', '.join(allowed)}", x in allowed
        ranges["rope_base"] = self.rope_base, "positive", self.rope_base > 0
        ranges["rope_scaling"] = self.rope_scaling, f"() or {SCALING}", is_scaling(self.rope_scaling)
        ranges["dropout"] = self.dropout, "in [0, 1)", 0 <= self.dropout < 1
        check_ranges("model configuration", ranges)
        whole = self.n_head_embd or self.n_embd % self.n_head == 0
        even = self.position != "rotary" or self.head_size % 2 == 0
        fits = {"n_embd": (self.n_embd, f"a multiple of n_head {self.n_head}", whole)}
        fits["head size"] = self.head_size, "even for rotary positions", even or not whole
        fits["n_head"] = self.n_head, f"a multiple of n_kv_head {self.kv_heads}", self.n_head % self.kv_heads == 0
        check_ranges("model configuration", fits)

    kv_heads = property(lambda self: self.n_kv_head or self.n_head)
    head_size = property(lambda self: self.n_head_embd or self.n_embd // self.n_head)
    hidden = property(lambda self: self.n_hidden or 4 * self.n_embd)


# What the years since GPT-2 have found to learn faster.
MODERN = GPTConfig(65, 256, n_layer=4, n_head=4, n_embd=256, norm="rms", position="rotary", activation="relu_squared",
                   bias=False, qk_norm=True, tied=False, zero_init=True, softcap=15.0)  # fmt: skip
PRESETS = {
    # Radford et al. 2019, "Language models are unsupervised multitask learners", table 2
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
    # nanoGPT's two character models, for a GPU and for a laptop
    "nanogpt-shakespeare": GPTConfig(65, 256, n_layer=6, n_head=6, n_embd=384, bias=False, dropout=0.2),
    "nanogpt-cpu": GPTConfig(65, 64, n_layer=4, n_head=4, n_embd=128, bias=False),
    # ours: for five minutes on a laptop, and for five seconds
    "modern": MODERN,
    "modern-tiny": replace(MODERN, block_size=64, n_layer=2, n_head=2, n_embd=64),
}
