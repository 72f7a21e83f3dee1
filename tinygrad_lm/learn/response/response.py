"""One answer of a policy, token by token: how probable each is, and what its share of the gradient is.

G answers to a prompt (a group), T time.
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain.objectives import policy_gradient
from tinygrad_lm.posttrain.policy.advantages import ADVANTAGES
from tinygrad_lm.posttrain.policy.policy import learn_from
from tinygrad_lm.posttrain.policy.rollouts import as_batch
from tinygrad_lm.train.objective import IGNORED

ANSWERS = 8  # of a group, where the method has none


@dataclass
class Token:
    """A token of an answer, and what is known of it; log-probabilities in nats.

    drawn      log-probability under the distribution that it was drawn from
    logp       by the policy, as training computes it
    reference  by the reference
    value      the expected reward before it, by the value head; None without one
    advantage  what ∇ log π of it is multiplied by
    norm       ‖gradient of its term‖, over all weights that are trained
    share      norm / the sum of the norms over the answer's tokens; 0 where they are all 0
    """

    text: str
    drawn: float
    logp: float
    reference: float
    value: float | None
    advantage: float
    norm: float
    share: float

    @property
    def ratio(self):
        """ρ = π / π_old, the policy as trained by the policy that drew: 1, up to rounding."""
        return float(np.exp(self.logp - self.drawn))

    @property
    def k1(self):
        """log π / π_ref, whose mean over answers of the policy is KL(π ‖ π_ref)."""
        return self.logp - self.reference


@dataclass
class Answer:
    """An answer of the group.

    kl         Σ k1 over its tokens, nats
    baseline   what its reward, less β kl, is compared with
    advantage  of the whole answer, before its length is weighed; None where a value head gives each token its own
    """

    text: str
    ended: bool
    length: int
    reward: float
    kl: float
    baseline: float
    advantage: float | None


@dataclass
class Response:
    """A prompt by its number, the group of its answers, and one of them, number `chosen`, token by token.

    norm  ‖the answer's gradient‖: its tokens' gradients may point different ways
    """

    number: int
    messages: list
    answers: list
    chosen: int
    tokens: list
    norm: float


def examine_response(steps, number, chosen=None):
    """The Response of prompt `number` of a PolicySteps, as its model is now.

    chosen: the answer to look at [that with the largest advantage, whichever its sign]
    """
    prompts, method, chat = steps.sources["prompts"][1], steps.method, steps.chat
    check_number("--prompt", number, len(prompts))
    count = method.group if method.group > 1 else ANSWERS
    if chosen is not None:
        check_number("--answer", chosen, count)
    asked = [prompts[number]] * count
    drawn, logprobs = draw(steps, asked, number * count)
    answers = as_batch(chat, asked, drawn)
    mask = answers.targets != IGNORED
    logp, values = steps.measured(steps.model, answers)
    reference, _ = steps.measured(steps.reference, answers)
    scores = steps.judge(answers)
    advantages = learn_from(method, scores, logp, reference, values, mask)[0]
    group = group_of(method, answers, scores, ((logp - reference) * mask).sum(axis=1), values, mask)
    if chosen is None:
        chosen = int(np.argmax(abs(advantages).max(axis=1)))
    batch = [x[chosen : chosen + 1] for x in (answers.tokens, answers.targets, advantages, logp)]
    places = np.flatnonzero(mask[chosen])
    gradients = token_gradients(steps.model, batch, method.clip)
    norms, whole = np.zeros(len(places)), 0.0
    for i, gradient in enumerate(gradients):
        norms[i], whole = np.linalg.norm(gradient), whole + gradient
    tokens = [
        Token(
            visible(chat, answers.targets[chosen, t]),
            logprobs[chosen][i],
            *(float(x[chosen, t]) for x in (logp, reference)),
            None if values is None else float(values[chosen, t]),
            float(advantages[chosen, t]),
            float(norms[i]),
            float(norms[i] / norms.sum()) if norms.any() else 0.0,
        )
        for i, t in enumerate(places)
    ]
    return Response(number, asked[0].messages, group, chosen, tokens, float(np.linalg.norm(whole)))


def check_number(option, number, count):
    if not 0 <= number < count:
        raise ConfigError(f"response: {option} must be from 0 to {count - 1:,}, found {number:,}")


def draw(steps, asked, first):
    """The ids of an answer to each prompt, and their log-probabilities under the distribution that they come from."""
    ids = [steps.chat.prompt(prompt.messages) for prompt in asked]
    answers, logprobs = [[] for _ in asked], [[] for _ in asked]
    rows, ends = range(first, first + len(asked)), steps.chat.ends
    stop = lambda drawn: drawn[-1] in ends
    for drawn in generate_batch(steps.model, ids, steps.method.limit, steps.seed, stop, logprobs=True, rows=rows):
        answers[drawn.row].append(drawn.token)
        logprobs[drawn.row].append(drawn.sampling_logprob)
    return answers, logprobs


def group_of(method, answers, scores, kl, values, mask):
    """The Answers of a group. scores, kl: (G,); values: (G, T) or None."""
    penalised = (scores - method.beta * kl)[None]
    if method.advantage == "gae":
        baselines, advantages = values[np.arange(len(mask)), mask.argmax(axis=1)], [None] * len(mask)
    else:
        baselines = np.broadcast_to(penalised.mean(), kl.shape)
        advantages = ADVANTAGES[method.advantage](penalised)[0].tolist()
    if method.advantage == "leave-one-out":
        baselines = (penalised.sum() - penalised[0]) / (len(kl) - 1)
    columns = answers.texts, answers.ended.tolist(), mask.sum(axis=1).tolist(), scores.tolist(), kl.tolist()
    return [Answer(*row) for row in zip(*columns, baselines.tolist(), advantages, strict=True)]


def token_gradients(model, batch, clip):
    """Yield the gradient of each token's term of policy_gradient (objectives.py), as float64 (n,), to be climbed.

    batch: as there, of one answer. One forward and one backward pass a token, over what stands before it.
    """
    tokens, targets, *weights = batch
    weights = [x.astype(model.flat.data.dtype) for x in weights]
    for t in np.flatnonzero(targets[0] != IGNORED):
        alone = np.where(np.arange(t + 1) == t, targets[:, : t + 1], IGNORED)  # what is ignored has no gradient
        here = tokens[:, : t + 1], alone, *(x[:, : t + 1] for x in weights)
        loss, _ = policy_gradient(model, [to_device(x, model.flat.device) for x in here], NONE, clip=clip)
        loss.backward()
        yield -to_device(model.flat.grad, "cpu").astype(np.float64)
        model.flat.zero_grad()


def visible(chat, token):
    """A token as text that can be seen: spaces and line ends have signs, and an end its name."""
    if int(token) in chat.ends:
        return "⟨end⟩"
    text = "".join(chat.stream([int(token)]))
    for sign, character in {"␣": " ", "↵": "\n", "⇥": "\t"}.items():
        text = text.replace(character, sign)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) or f"⟨{int(token)}⟩"
