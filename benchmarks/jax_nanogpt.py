"""Another peer: nanoGPT's network and optimizer in JAX, each step compiled as a whole."""

import jax
import jax.numpy as jnp
import optax


def jax_trainer(parameters, shape, config, batches):
    """step(i) -> the loss before update i, from our weights by name."""
    weights = {name: jnp.asarray(p.data.copy()) for name, p in parameters.items()}
    decayed = {name: w.ndim >= 2 for name, w in weights.items()}
    factors = jnp.asarray([config.rate_factor(step) for step in range(4096)])
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(lambda i: config.lr * factors[i], *config.betas, weight_decay=config.weight_decay, mask=decayed),
    )
    state = {"weights": weights, "moments": optimizer.init(weights)}

    @jax.jit
    def update(weights, moments, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(weights, shape, x, y)
        changes, moments = optimizer.update(gradients, moments, weights)
        return optax.apply_updates(weights, changes), moments, loss

    def step(i):
        state["weights"], state["moments"], loss = update(state["weights"], state["moments"], *batches(i))
        return float(loss)

    return step


def loss_of(w, shape, tokens, targets):
    """The mean loss. Biases are left out: the shapes that are compared have none."""
    B, T = tokens.shape
    x = w["wte.weight"][tokens] + w["wpe.weight"][:T]
    for i in range(shape.n_layer):
        h = f"h.{i}"
        a = layer_norm(x, w[f"{h}.ln_1.weight"])
        q, k, v = ((a @ w[f"{h}.attn.c_{c}.weight"]).reshape(B, T, shape.n_head, -1) for c in "qkv")
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(B, T, -1)
        x = x + y @ w[f"{h}.attn.c_proj.weight"]
        a = layer_norm(x, w[f"{h}.ln_2.weight"]) @ w[f"{h}.mlp.c_fc.weight"]
        x = x + jax.nn.gelu(a, approximate=True) @ w[f"{h}.mlp.c_proj.weight"]
    logits = layer_norm(x, w["ln_f.weight"]) @ w["wte.weight"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def layer_norm(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain
