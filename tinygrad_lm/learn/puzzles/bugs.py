"""All planted bugs, the arithmetic first. The proof of the operations must notice every one of them.

`python -m tinygrad_lm.learn bug` sets them as puzzles.
"""

from tinygrad_lm.learn.puzzles.patch import Bug

TERMS = "y is a product of two factors, and both depend on x. How many terms does its derivative have?"
DIGITS = "Count digits: up to which digit do the two gradients agree? What has that accuracy?"
EXACT_DENSITY = "density = xp.exp(-x * x / 2) / math.sqrt(2 * math.pi)"
MEAN_OF_G = " - xhat * (g * xhat).mean(-1, keepdims=True)"

# fmt: off
BUGS = [
    Bug("subtract", "with a plus", {"(dy, -dy)": "(dy, dy)"},
        "Which way does y go when b grows?",
        "Both inputs get the same gradient, as in `add`; but y falls as b grows."),
    Bug("multiply", "by each input itself", {"(dy * b, dy * a)": "(dy * a, dy * b)"},
        "With b = 100, how far does y move when a moves by 1?",
        "da needs b, not a."),
    Bug("divide", "with one division too few", {"-dy * y / b": "-dy * y"},
        "Write y as a b⁻¹ and differentiate by b. What if b is 1?",
        "d(a/b)/db is −a/b², which is −y/b and not −y."),
    Bug("power", "without lowering the exponent", {"a ** xp.where(b == 0, b, b - 1)": "y"},
        "Try b = 1, where y is a: how far does y move when a moves by 1?",
        "b aᵇ instead of b aᵇ⁻¹."),
    Bug("power", "of a constant exponent", {"return da, db": "return da, None"},
        "How many inputs have a gradient?",
        "Right for x², where the exponent's gradient is not used."),
    Bug("sqrt", "without the two", {"dy / (2 * y)": "dy / y"},
        "Write y as a power of x.",
        "d√x/dx is 1/(2√x)."),
    Bug("log", "divided by its value",
        {"return array_module(x).log(x)": "y = array_module(x).log(x)\n    return y", "dy / x": "dy / y"},
        "At x = 1 the logarithm is 0. Is its slope infinite there?",
        "1/y instead of 1/x. The derivative of exp is its value, so it is easy to write y here, too."),
    Bug("tanh", "without the square", {"1 - y * y": "1 - y"},
        "tanh(−x) = −tanh(x), so its slope is the same at −x and x. Is this one?",
        "1 − y instead of 1 − y²."),
    Bug("sigmoid", "differentiated in its input", {"dy * y * (1 - y)": "dy * x * (1 - x)"},
        "y only ever rises. Can its slope be negative?",
        "y (1 − y), with x instead of y."),
    Bug("where", "without its condition", {"xp.where(condition, dy, 0), xp.where(condition, 0, dy)": "dy, dy"},
        "How far does y move when the branch that was not taken moves?",
        "Both branches get all of dy, though only one was taken."),
    Bug("maximum", "that loses the gradient at ties", {
            "greater, equal, less = a.real > b.real, a.real == b.real, a.real < b.real":
            "greater, less = a.real > b.real, a.real < b.real",
            "half = xp.where(equal, dy / 2, 0)\n        return xp.where(greater, dy, half), xp.where(less, dy, half)":
            "return xp.where(greater, dy, 0), xp.where(less, dy, 0)"},
        "All is well while a and b differ. Where they are equal, which input gets dy?",
        "a > b and b > a look like the only two cases; at a tie both are false and dy is lost."),

    Bug("relu", "masked by the gradient", {"xp.where(positive, dy, 0)": "xp.where(dy.real > 0, dy, 0)"},
        "Is the gradient of −y minus the gradient of y?",
        "The sign of x decides which entries pass, not the sign of dy. (Guided backpropagation does this on purpose.)"),
    Bug("silu", "with the sigmoid's derivative", {"(s + y * (1 - s))": "y * (1 - s)"},
        TERMS,
        "x σ′ is one term of two; the product rule's other term is σ."),
    Bug("gelu", "with the tanh form's density", {
            EXACT_DENSITY:
            "c = math.sqrt(2 / math.pi)\n"
            "        t = xp.tanh(c * x * (1 + 0.044715 * x * x))\n"
            "        density = (1 - t * t) * c * (1 + 3 * 0.044715 * x * x) / 2"},
        DIGITS,
        "The tanh form's density differs from φ by less than 1e-3: enough to pass a check at 1e-3."),
    Bug("gelu", "without the density",
        {EXACT_DENSITY + "\n        return (dy * (cumulative + x * density),)": "return (dy * cumulative,)"},
        TERMS,
        "Φ alone, as if the gate did not depend on x."),
    Bug("gelu_tanh", "with the exact form's density", {
            "slope = c * (1 + 3 * 0.044715 * x * x)": EXACT_DENSITY,
            "(1 + t) + x * (1 - t * t) * slope": "(1 + t) + 2 * x * density"},
        DIGITS,
        "φ is the density of the function that the tanh approximates, not of the value that was computed."),

    Bug("sum", "spread without its axis", {"spread(dy, axis, shape, keepdims)": "spread(dy, None, shape, keepdims)"},
        "Take a square matrix summed along its rows. Which dy should reach the entries of row 0?",
        "Unless the axis is put back, a row is copied where a column belongs, wherever the shapes allow it."),
    Bug("mean", "divided by the size of the result", {"(y.size or 1) / (x.size or 1)": "1 / (y.size or 1)"},
        "A mean of n numbers is divided by n. Which n is it here?",
        "y.size is the number of means, not the number of entries in each."),
    Bug("max", "without sharing among ties", {
            "\n    n = equal.sum(axis, keepdims=True).astype(x.real.dtype)": "", " / n": ""},
        "All is well while one entry is the greatest. What if there are two?",
        "Each of the greatest gets all of dy; the gradient of a constant row is then as large as the row is long."),
    Bug("logsumexp", "over everything", {"e / total": "e / e.sum()"},
        "In which of the sums is an entry of row 0?",
        "The softmax of the whole array instead of each row's."),
    Bug("transpose", "by the same axes",
        {"None if axes is None else tuple(int(i) for i in np.argsort([axis % x.ndim for axis in axes]))": "axes"},
        "Two axes cannot show it. Take three, and follow one entry forward and backward.",
        "Right for two axes: a swap is its own inverse. A cycle of three is not."),
    Bug("getitem", "assigned, not added", {"type(None), type(...))": "type(None), type(...), list, np.ndarray)"},
        "What if an index is in the list twice?",
        "An array of indices may take an entry twice; with `dx[index] = dy` only the last gradient stays."),
    Bug("concat", "split evenly", {"[x.shape[axis] for x in xs]": "[xs[0].shape[axis]] * len(xs)"},
        "What if the pieces are not equally long?",
        "All pieces get the length of the first."),

    Bug("matmul", "reshaped, not transposed", {
            "dy @ b.swapaxes(-1, -2)": "dy @ b.reshape(*b.shape[:-2], b.shape[-1], b.shape[-2])",
            "a.swapaxes(-1, -2) @": "a.reshape(*a.shape[:-2], a.shape[-1], a.shape[-2]) @"},
        "The shapes fit. Are the entries where they belong?",
        "(n, k) becomes (k, n) either way; but a reshape keeps the entries in their order, a transpose moves them."),
    Bug("linear", "with a transposed weight gradient", {"rows.T @ dy": "(dy.T @ rows).reshape(w.shape)"},
        "The sizes fit. Which index of dw is the input's, which the output's?",
        "dyᵀ x is (o, i), and is right where weights are stored as (out, in)."),
    Bug("linear", "with an averaged bias gradient", {"(dx, dw, dy)": "(dx, dw, dy.mean(0))"},
        "If b grows by 1, how far does Σ dy y move, with two examples in the batch?",
        "The mean over the batch belongs to the loss, and is taken there."),
    Bug("embedding", "with rows overwritten", {"xp.add.at(dw, ids, dy)": "dw[ids] += dy"},
        "What if a token is in the text twice?",
        "NumPy reads all rows, adds, and writes all back: of a token that occurs twice only the last gradient stays."),

    Bug("softmax", "with only the diagonal", {"y * (dy - (dy * y).sum(axis, keepdims=True))": "dy * y * (1 - y)"},
        "In how many of the yᵢ does xⱼ appear?",
        "y_i (1 − y_i) is ∂y_i/∂x_i; but each x_j is also in the sum below every other fraction."),
    Bug("softmax", "with dy outside the sum", {"(dy * y).sum(axis, keepdims=True)": "dy * y.sum(axis, keepdims=True)"},
        "What is Σ y, always? What is then left of the gradient?",
        "y (dy − dy Σ y): passes where dy is the same everywhere, as under `.sum()`."),
    Bug("log_softmax", "without the sum", {"dy.sum(axis, keepdims=True)": "dy"},
        "In how many of the yᵢ does xⱼ appear?",
        "dy − P dy instead of dy − P Σ dy."),
    Bug("cross_entropy", "divided by N twice", {"(-dy / N)": "(-dy / N / N)"},
        "How does the gradient change when the batch is doubled by a copy of itself? How must it?",
        "The mean is over N positions, so 1/N comes in once."),
    Bug("cross_entropy", "divided by all positions", {"-dy / N": "-dy / counted.size"},
        "If a position is ignored, of how many positions is the value the mean?",
        "The value's mean is over the counted positions, the gradient's over all."),
    Bug("log_probability", "that ignores by half", {"xp.where(counted, dy.reshape(-1), 0)": "dy.reshape(-1)"},
        "How far does y move when the logits of an ignored position move?",
        "P is left out at an ignored position, but [target] is not: the 0 that stands in for it gets dy."),

    Bug("layer_norm", "without the mean terms",
        {f"inverse * (g - g.mean(-1, keepdims=True){MEAN_OF_G})": "g * inverse"},
        "Two things in x̂ = (x − μ)/σ besides x itself depend on x. Do they here?",
        "μ and σ are treated as constants, but they depend on x as well."),
    Bug("layer_norm", "with σ as a constant", {MEAN_OF_G: ""},
        "Double x: y stays. So along which direction must dx be 0?",
        "Of the two means only the one that μ brings."),
    Bug("layer_norm", "with the unbiased variance", {
            "inverse = 1 / xp.sqrt((centred * centred).mean(-1, keepdims=True) + eps)":
            "n = max(x.shape[-1] - 1, 1)\n"
            "    inverse = 1 / xp.sqrt((centred * centred).sum(-1, keepdims=True) / n + eps)",
            MEAN_OF_G: " - xhat * (g * xhat).sum(-1, keepdims=True) / n"},
        "Value and gradient agree with each other. But what is mean y², without a weight? What must it be?",
        "Divided by C − 1, as statistics books have it. Value and gradient agree with each other."),
    Bug("rms_norm", "without the projection", {f"inverse * (g{MEAN_OF_G})": "inverse * g"},
        "Double x: y stays. So along which direction must dx be 0?",
        "dy w/ρ still has the part along x̂, which must be taken out because scaling x does not change x̂."),
    Bug("rotary", "turned the wrong way", {"turn(dy, cos, -sin)": "turn(dy, cos, sin)"},
        "Turn dy forward and then backward by this rule: do you get dy again?",
        "Forward by t, and backward by t again."),
    Bug("rotary", "that starts at zero in the backward pass",
        {"    return turn(x, cos, sin), lambda dy: (turn(dy, cos, -sin),)": """
    def backward(dy):
        cos, sin = angles(array_module(dy), T, D, base, 0, scaling, dy.real.dtype)
        return (turn(dy, cos, -sin),)

    return turn(x, cos, sin), backward"""},
        "Which positions does the forward pass use? And the backward pass?",
        "Right in training; wrong as soon as there is a cache of keys."),
    Bug("dropout", "without the scale in the backward pass", {"dy / (1 - p)": "dy"},
        "How far does y move when a kept entry of x moves by 1?",
        "The mask is there, the factor 1 / (1 − p) is not."),
    Bug("dropout", "with a fresh mask in the backward pass",
        {
            "xp.where(m, dy": "xp.where(keep(x, p, (*key[:-1], key[-1] + 1)), dy"},
        "Which entries of x were dropped? Do exactly these get no gradient?",
        "Drawn with a key that has been counted up, it is another mask; it must be the one that was used."),
    Bug("recompute", "that forgets dy", {".backward(dy)": ".sum().backward()"},
        "Does the gradient double when dy doubles?",
        "The second evaluation is walked from 1, as a loss is, and not from the gradient that arrived."),

    Bug("attention", "with the mask after the softmax", {
            "z *= scale\n":
            "z *= scale\n    shift = z.real.max(-1, keepdims=True)\n"
            "    total = xp.exp(z - shift).sum(-1, keepdims=True)\n",
            "P = xp.exp(z - z.real.max(-1, keepdims=True))\n    P /= P.sum(-1, keepdims=True)":
            "P = xp.exp(z - shift) / total"},
        "What is the sum of each row of P, when some keys are hidden?",
        "The hidden weights are 0 either way; but the others must be divided by the sum of those that are seen."),
    Bug("attention", "that sees one key too many", {"xp.arange(S - T, S)": "xp.arange(S - T + 1, S + 1)"},
        "Value and gradient agree with each other. But change the last key and value: which outputs may move?",
        "Off by one in the mask, and the model is trained to copy the next token. Value and gradient agree."),
    Bug("attention", "without its scale in the backward pass", {"keepdims=True)) * scale": "keepdims=True))"},
        "Try D = 1, where all is well. What depends on D?",
        "z = q kᵀ/√D: the gradient is divided by √D, too, on its way through z."),
    Bug("attention", "with only the softmax's diagonal", {"(dP - (y * dy).sum(-1, keepdims=True))": "(1 - P) * dP"},
        "In how many of the weights in a row of P does one score appear?",
        "P (1 − P) dP, as if each weight depended on its own score alone."),
    Bug("attention", "without dropout in the backward pass", {
            "dropped(dy @ v.swapaxes(-1, -2))": "dy @ v.swapaxes(-1, -2)"},
        "y = (P m) v. How far does y move with a weight that was dropped?",
        "dv uses the mask, dP does not."),
    Bug("attention", "with shared heads averaged", {
            "(dz.swapaxes(-1, -2) @ q).swapaxes(1, 2), dv.swapaxes(1, 2)":
            "(dz.swapaxes(-1, -2) @ q / R).swapaxes(1, 2), dv.swapaxes(1, 2) / R"},
        "All is well with as many key heads as query heads. What if two share one?",
        "The mean over the query heads that share a key head; the chain rule takes the sum."),
]
# fmt: on


def puzzle_names(bugs):
    """{name that does not give the bug away: bug}: "softmax 1", "softmax 2"; "log" where there is one."""
    operations = [bug.operation for bug in bugs]
    named = {}
    for i, bug in enumerate(bugs):
        alone = operations.count(bug.operation) == 1
        named[bug.operation if alone else f"{bug.operation} {operations[: i + 1].count(bug.operation)}"] = bug
    return named


PUZZLES = puzzle_names(BUGS)
