"""HumanEval (Chen et al. 2021): Python functions from their description.

Code that a model wrote is not run here. It goes to a file in the form that HumanEval's own checker takes, which is to
be run in a sandbox: github.com/openai/human-eval.
"""

import numpy as np

from tinygrad_lm.evaluate.files import expect, json_lines
from tinygrad_lm.evaluate.report import exponential, mean

ENDS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]  # Chen et al. 2021, section 2


def read(path):
    """[(task id, prompt, solution)]"""
    return json_lines(path, lambda record: expect(record, task_id=str, prompt=str, canonical_solution=str))


def run(evaluation, problems):
    """Nats a token of the authors' solution after its prompt; with --samples the model's own solutions to a file."""
    problems = problems[: evaluation.limit]
    scores = evaluation.score([(prompt, solution) for _, prompt, solution in problems], "humaneval")
    nats = mean("nats_per_token", -np.concatenate([score.logprobs for score in scores]))
    if evaluation.samples:
        found = evaluation.complete([prompt for _, prompt, _ in problems], 256, ENDS, "humaneval")
        evaluation.keep("humaneval", {id: text for (id, *_), text in zip(problems, found, strict=True)})
    return [nats, exponential("perplexity", nats)]
