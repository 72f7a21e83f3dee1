"""A GPT with a second head, which gives each position a number: a reward model's score, or an expected reward.

C channels, N answers, T time.
"""

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import array_module, to_device, wide
from tinygrad_lm.commands import spelled
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.layers import Linear
from tinygrad_lm.train.objective import IGNORED
from tinygrad_lm.train.run import RunFolder

HEAD = "score.weight"
ROWS = 16  # answers that are judged together


class ScoredGPT(GPT):
    """ScoredGPT(config, seed, dtype, device): as GPT, and `score` (C, 1), which begins as zeros.

    There is no bias: differences of scores decide, and an expected reward of 0 is as good a start as another.
    """

    def __init__(self, config, seed=0, dtype=np.float32, device="cpu"):
        super().__init__(config, None, dtype, device)
        self.score = Linear(config.n_embd, 1, bias=False, std=0.0)
        self.initialize(seed, wide(self.dtype), device)

    def reward(self, tokens, ends, context=NONE):
        """The score of whole answers: tokens (N, T), ends (N,), the place of each one's last token -> (N,)."""
        x = self.features(tokens, context)
        rows = array_module(tokens).arange(len(tokens))
        return self.score(x[rows, ends]).reshape(len(tokens))

    def log_probability_and_values(self, tokens, targets, context=NONE):
        """log P of each target, and the number at its position: (N, T) and (N, T)."""
        x = self.features(tokens, context)
        logp = self.judged(ops.log_probability, ops.linear_log_probability, x, targets)
        return logp, self.score(x).reshape(*tokens.shape)


def scored(model):
    """A ScoredGPT with the weights of a GPT."""
    twin = ScoredGPT(model.config, None, model.dtype, model.flat.device)
    weights = model.flat.arrays()
    twin.flat.load({HEAD: to_device(twin.score.weight.data, "cpu")} | weights)
    return twin


def whole_answers(tokens, targets):
    """What a reward model reads, from what a language model learns: tokens (…, T + 1) with each answer's last token,
    and its place (…,)."""
    counted = targets != IGNORED
    whole = np.concatenate([tokens, np.zeros_like(tokens[..., :1])], axis=-1)
    whole[..., 1:][counted] = targets[counted]
    ends = counted.shape[-1] - counted[..., ::-1].argmax(axis=-1)
    return whole[..., : int(ends.max()) + 1], ends


def judge(model, answers):
    """The reward model's score of each answer (rollouts.py), (N,), computed on all cores of all ranks."""
    tokens, ends = whole_answers(answers.tokens, answers.targets)

    def piece(first):
        rows = (to_device(x[first : first + ROWS], model.flat.device) for x in (tokens, ends))
        with no_grad():
            return model.reward(*rows).numpy()

    return np.concatenate(dealt(piece, range(0, len(tokens), ROWS)))


def load_reward(where, device):
    """The reward model of a run of examples/prefer.py."""
    run = RunFolder(where)
    if run.config.get("heads") != [HEAD]:
        raise ConfigError(
            f"reward: {where} is not the run of a reward model; {spelled('examples/prefer.py')} --reward trains one"
        )
    model = ScoredGPT(run.model_config, None, run.config["dtype"], device)
    model.flat.load(run.read_checkpoint("best")[1]["model"])
    return model
