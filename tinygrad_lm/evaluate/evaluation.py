"""A model under examination: what the tasks may ask of it, and under which settings."""

import json
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.evaluate.score import encode, score
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.threads import parallel


@dataclass(frozen=True)
class Evaluation:
    """A model, its tokenizer, and the settings of the command line."""

    model: object
    tokenizer: object
    batch_size: int = 1  # whole windows a batch, or as many tokens in shorter ones
    stride: int | None = None  # of the sliding window; None: the window
    limit: int | None = None  # evaluate the first so many examples of each task only; None: all
    shots: int = 0  # solved examples in front of each
    samples: Path | None = None  # a folder for what the model writes

    def __post_init__(self):
        for name, least in {"batch_size": 1, "limit": 1, "shots": 0}.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigError(f"{name.replace('_', ' ')}: expected at least {least}, found {value}")

    @property
    def start(self):
        """The id that a text starts with: bos, or the end of the text before it; None where the tokenizer has none."""
        return self.tokenizer.eot if self.tokenizer.bos is None else self.tokenizer.bos

    def score(self, texts, title):
        """A Score for each (context, completion), two texts."""
        return self.score_ids([encode(self.tokenizer, *pair) for pair in texts], title)

    def score_ids(self, pairs, title):
        """The same for token ids."""
        return score(self.model, pairs, self.start, self.stride, self.batch_size, title)

    def complete(self, prompts, n, ends, title):
        """How the model goes on from each prompt: greedily, for at most n tokens, up to the first of `ends`.

        A prompt is cut on the left so that it and the n tokens fit into the window.
        """
        from tqdm import tqdm

        tokenizer, first = self.tokenizer, [] if self.tokenizer.bos is None else [self.tokenizer.bos]
        room = max(1, self.model.config.block_size - n - len(first))
        with tqdm(total=len(prompts), unit="text", desc=title, leave=False, disable=None) as bar:

            def run(prompt):
                ids, text, before = [], "", [*first, *tokenizer.encode(prompt)[-room:].tolist()]
                for token in generate(self.model, before, n, temperature=0, vocab_size=tokenizer.vocab_size):
                    if token == tokenizer.eot:
                        break
                    ids.append(token)
                    text = tokenizer.decode(ids, before)
                    if any(end in text for end in ends):
                        break
                bar.update()
                return min((text.split(end)[0] for end in ends), key=len, default=text)

            return parallel(run, prompts)

    def keep(self, task, texts):
        """Write {id: text} of a task to samples/<task>.jsonl, one {"task_id": …, "completion": …} a line."""
        if self.samples is None:
            return
        path = Path(self.samples, f"{task}.jsonl")
        lines = [json.dumps({"task_id": id, "completion": text}) + "\n" for id, text in texts.items()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"samples: cannot write {path}: {error.strerror}; choose another folder") from error
