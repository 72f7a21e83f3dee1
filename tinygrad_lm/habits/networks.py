"""Of networks: parts, optimizers and what they can do in PyTorch and JAX, and how each is written here."""

ACTIVATIONS = "GELU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh"
A_LIST = "self.layers = [nn.Linear(3, 4), …], or a dict; forward calls them: for layer in self.layers: x = layer(x)"
PARTS = {name: f"ops.{name.lower()}(x), in forward" for name in ACTIVATIONS} | {
    "Flatten": "x.reshape(len(x), -1), in forward",
    "Identity": "x, in forward",
    "CrossEntropyLoss": "ops.cross_entropy(logits, targets)",
    "MSELoss": "((x - y) ** 2).mean()",
    "MultiheadAttention": "ops.attention(q, k, v); nn.CausalSelfAttention(config, out_std)",
    "TransformerEncoderLayer": "models.GPT(models.GPTConfig(…))",
    "functional": "ops",
    "init": "nn.Linear(3, 4, std=0.02), then model.initialize(seed=0); or p.data[...] = values",
    "utils": "optim.clip_gradients(model.flat, max_norm=1.0)",
} | dict.fromkeys(("Sequential", "ModuleList", "ModuleDict", "ParameterList"), A_LIST)  # fmt: skip
OPTIMIZERS = {
    "SGD": "model.flat.data -= lr * model.flat.grad; without a module w.data -= lr * w.grad",
    "Adam": "optim.AdamW(model.parameters(), weight_decay=0.0)",
    "lr_scheduler": "optimizer.step(optim.warmup_cosine(step, steps, warmup=100))",
    "adamw": "optim.AdamW(model.parameters(), lr=1e-3)",
}
NO_MODE = "model(x, nn.Context(key=(seed, step, 0))) to train with dropout; within no_grad() nothing is dropped"
OF_A_MODULE = {
    "state_dict": "model.flat.arrays()",
    "load_state_dict": "model.flat.load(arrays)",
    "zero_grad": "model.flat.zero_grad()",
    "to": 'model.initialize(device="cuda"); GPT(config, device="cuda", dtype="bfloat16")',
    "requires_grad_": 'nn.freeze(model, "*")',
    "apply": "for name, p in model.named_parameters(): p.data[...] = values",
    "modules": "model.named_modules()",
    "register_buffer": "self.mask = array: an attribute; arrays are not saved with the parameters",
    "register_parameter": "self.w = nn.Parameter(3, 4, std=0.02)",
    "register_forward_hook": "with observing(Observer()): …; both are in tinygrad_lm.engine.observe",
    "generate": "generate(model, ids, n); from tinygrad_lm.generation import generate",
    "save_pretrained": "python examples/export.py RUN FOLDER; or tinygrad_lm.pretrained.export",
    "from_pretrained": "load_pretrained(name); from tinygrad_lm.pretrained.load import load_pretrained",
    "compile": "kernels.enable(); from tinygrad_lm import kernels",
    "configure_optimizers": "optim.AdamW(model.parameters()): only matrices decay",
    "flat": "model.initialize(seed=0), which makes it; then model.flat",
} | dict.fromkeys(("train", "eval", "training"), NO_MODE)  # fmt: skip
for _one, _all in {"cuda": "to", "cpu": "to", "half": "to", "float": "to", "children": "modules",
                   "named_children": "modules", "buffers": "register_buffer"}.items():  # fmt: skip
    OF_A_MODULE[_one] = OF_A_MODULE[_all]
OF_AN_OPTIMIZER = {
    "state_dict": "optimizer.state()",
    "load_state_dict": "optimizer.load_state(state)",
    "param_groups": "optimizer.lr; optimizer.step(factor) scales it; an optimizer for each group",
    "add_param_group": "another optimizer, of other parameters",
}
