"""The peer: nanoGPT's network and optimizer in PyTorch, with the settings that are best on a CPU or on a GPU.

The same function as our GPT with LayerNorm and learned positions; parameters by the same names, so that both start
from the same weights. scaled_dot_product_attention and the fused AdamW are what PyTorch offers for speed; on a GPU
also bfloat16 by autocast (weights, gradients and moments stay float32), and TF32 where float32 is left.
"""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F


class TorchGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, bias = config.n_embd, config.bias
        self.n_head, self.dropout = config.n_head, config.dropout
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
        """The mean loss. In training, dropout where nanoGPT has it: after the embeddings, of the weights of attention,
        and of what each block adds."""
        B, T = tokens.shape
        p = self.dropout if self.training else 0.0
        x = F.dropout(self.wte(tokens) + self.wpe.weight[:T], p)
        for block in self.h:
            q, k, v = block.c_attn(block.ln_1(x)).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
            x = x + F.dropout(block.c_out(y.transpose(1, 2).reshape(B, T, -1)), p)
            x = x + F.dropout(block.c_proj(F.gelu(block.c_fc(block.ln_2(x)), approximate="tanh")), p)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(B * T, -1), targets.reshape(-1))


class TorchTrainer:
    """One call of `step` is one update, as train.trainer.Trainer's.

    mode: torch.compile's, such as "default" and "reduce-overhead"; None: eager. bf16: forward under autocast.
    """

    def __init__(self, model, config, mode=None, device="cpu", bf16=False):
        self.model, self.config, self.device = model.to(device), config, device
        self.forward = torch.compile(model, mode=mode, dynamic=False) if mode else model
        self.precision = torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()
        if device == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32
        groups = [
            {"params": [p for p in model.parameters() if (p.ndim >= 2) == matrix], "weight_decay": decay}
            for matrix, decay in ((True, config.weight_decay), (False, 0.0))
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)

    def step(self, x, y, rate):
        """The loss before the update, a float: waits for the device."""
        return self.update(*(self.place(tokens) for tokens in (x, y)), rate).item()

    def place(self, tokens):
        """Ids on the device. From pinned memory, as nanoGPT does it: the copy is asynchronous."""
        tokens = torch.from_numpy(tokens.astype("int64"))
        return tokens.pin_memory().to(self.device, non_blocking=True) if self.device == "cuda" else tokens

    def update(self, x, y, rate):
        """The loss before the update, on the device: reading it would synchronise."""
        with self.precision:
            loss = self.forward(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach().clone()  # a replayed graph writes the next loss where this one is

    def evaluate(self, pairs):
        """Mean loss over (inputs, targets), without dropout."""
        self.model.eval()
        total = count = 0
        with torch.no_grad(), self.precision:
            for x, y in pairs:
                total += y.size * self.model(self.place(x), self.place(y)).item()
                count += y.size
        self.model.train()
        return total / count
