"""The peer: nanoGPT's network and optimizer in PyTorch, with the settings that are best on a CPU.

The same function as our GPT with LayerNorm and learned positions; parameters by the same names, so that both start
from the same weights. scaled_dot_product_attention and the fused AdamW are what PyTorch offers for speed.
"""

import torch
from torch import nn
from torch.nn import functional as F


class TorchGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, bias = config.n_embd, config.bias
        self.n_head = config.n_head
        self.wte, self.wpe = nn.Embedding(config.vocab_size, C), nn.Embedding(config.block_size, C)
        self.h = nn.ModuleList(
            nn.ModuleDict(
                {
                    "ln_1": nn.LayerNorm(C, bias=bias),
                    "c_attn": nn.Linear(C, 3 * C, bias=bias),
                    "c_out": nn.Linear(C, C, bias=bias),
                    "ln_2": nn.LayerNorm(C, bias=bias),
                    "c_fc": nn.Linear(C, 4 * C, bias=bias),
                    "c_proj": nn.Linear(4 * C, C, bias=bias),
                }
            )
            for _ in range(config.n_layer)
        )
        self.ln_f = nn.LayerNorm(C, bias=bias)

    def load(self, parameters):
        """Our weights, by name, into this network: Linear keeps them as (out, in), and q, k and v are one matrix."""
        arrays = {name: torch.from_numpy(p.data.copy()) for name, p in parameters.items()}
        for kind in ("weight", "bias"):
            for i in range(len(self.h)):
                names = [f"h.{i}.attn.c_{x}.{kind}" for x in "qkv"]
                if names[0] in arrays:
                    arrays[f"h.{i}.c_attn.{kind}"] = torch.cat([arrays.pop(name) for name in names], -1)
                    arrays[f"h.{i}.c_out.{kind}"] = arrays.pop(f"h.{i}.attn.c_proj.{kind}")
                    for name in ("c_fc", "c_proj"):
                        arrays[f"h.{i}.{name}.{kind}"] = arrays.pop(f"h.{i}.mlp.{name}.{kind}")
        self.load_state_dict({name: a.T if ".c_" in name and a.ndim == 2 else a for name, a in arrays.items()})

    def forward(self, tokens, targets):
        B, T = tokens.shape
        x = self.wte(tokens) + self.wpe.weight[:T]
        for block in self.h:
            q, k, v = block.c_attn(block.ln_1(x)).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block.c_out(y.transpose(1, 2).reshape(B, T, -1))
            x = x + block.c_proj(F.gelu(block.c_fc(block.ln_2(x)), approximate="tanh"))
        logits = self.ln_f(x) @ self.wte.weight.T
        return F.cross_entropy(logits.view(B * T, -1), targets.reshape(-1))


class TorchTrainer:
    """One call of `step` is one update, as train.loop.Trainer's."""

    def __init__(self, model, config, compiled=False):
        self.model, self.config = model, config
        self.forward = torch.compile(model) if compiled else model
        groups = [
            {"params": [p for p in model.parameters() if (p.ndim >= 2) == matrix], "weight_decay": decay}
            for matrix, decay in ((True, config.weight_decay), (False, 0.0))
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)

    def step(self, x, y, rate):
        loss = self.forward(torch.from_numpy(x).long(), torch.from_numpy(y).long())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()
