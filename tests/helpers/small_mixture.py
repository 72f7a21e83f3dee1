"""A mixture of a few kilobytes, an executor that computes immediately, and the content of a folder."""

import itertools
import json
import os
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tinygrad_lm.curate import prepare
from tinygrad_lm.curate.pipeline import pipeline
from tinygrad_lm.curate.readers.formats import FORMATS, Format
from tinygrad_lm.curate.readers.record import Damaged, Record
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters

MERGES = ["t h", "th e", "a n", "Ġ the", "Ġ a", "e r"]
WORDS = ["the", "and", "other", "there", "weather", "ab", "Ünder", "猫", "ten", "hat", "that"]


def tiny_tokenizer(folder):
    """A vocabulary like GPT-2's with six merges, from files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*byte_letters().values(), *(merge.replace(" ", "") for merge in MERGES), "<|endoftext|>"]
    (folder / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return GPT2Tokenizer(folder)


def line_records(path):
    """A format for tests: one record per line; ! is damaged, ? has no text, * fails in extract_text."""
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), start=1):
        id = f"{Path(path).name}#{number}"
        yield Damaged(id, "it begins with !") if line.startswith("!") else Record(id, line)


def line_text(content):
    if content.startswith("*"):
        raise ValueError("it begins with *")
    return None if content == "?" else content


LINES = Format("lines", (".lines",), line_records, line_text)


class Inline:
    """An executor that computes in submit. `executor.submitted` counts the calls."""

    submitted = 0

    def submit(self, function, *arguments):
        self.submitted += 1
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def documents(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(count)]


def write_mixture(folder, shard_tokens=10_000, validation=0.2, **settings):
    """Write three sources with duplicates, damaged and empty records. Returns the path of the mixture file."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = documents(120, seed=1)
    parts = {
        "books/a.lines": [*texts[:30], "!", "?"],
        "books/b.lines": texts[30:50],
        "books/c.lines": ["*", *texts[40:60]],
        "web/a.lines": [*texts[55:80], "!"],
        "web/b.lines": [*texts[70:90], *texts[:10], "?"],
        "more/a.lines": texts[90:],
    }
    for name, lines in parts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    path = folder / "mix.toml"
    lines = [f"validation = {validation}", f"shard_tokens = {shard_tokens}", "damage = 0.5"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines += ["[clean]", 'deduplicate = "exact"']
    for name, weight in (("books", "1/2"), ("web", "1/4"), ("more", "1/4")):
        lines += ["[[source]]", f'name = "{name}"', f'weight = "{weight}"', f'files = ["{name}/*.lines"]']
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(folder):
    """{path: bytes} of all files in a folder tree."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def set_up(patch, folder, batch=600, journal=1500):
    """Patch in the tests' format and tokenizer, small batches and frequent saves of the journal.

    fsync does nothing, because no test here cuts the power.
    """
    patch.setattr(os, "fsync", lambda descriptor: None)
    tokenizer = tiny_tokenizer(folder / "vocabulary")
    patch.setitem(FORMATS, "lines", LINES)
    patch.setattr(prepare, "open_tokenizer", lambda mixture: tokenizer)
    patch.setattr("tinygrad_lm.curate.pipeline.batches.BATCH_SIZE", batch)
    patch.setattr(pipeline, "JOURNAL_INTERVAL", journal)
    return tokenizer


def prepare_inline(mixture, out, executor=None, workers=1, **settings):
    return prepare.prepare(mixture, out, nullcontext((executor or Inline(), workers)), **settings)


def tokens_in(out, source, split):
    """All ids of a split, from an independent reader of llm.c's format: 256 int32, then uint16."""
    parts = [np.empty(0, "<u2")]
    for number in itertools.count():
        path = out / source / f"{split}_{number:06d}.bin"
        if not path.exists():
            return np.concatenate(parts)
        content = path.read_bytes()
        head = np.frombuffer(content[:1024], "<i4")
        assert head[:2].tolist() == [20240520, 1]
        assert not head[3:].any()
        parts.append(np.frombuffer(content[1024:], "<u2"))
        assert len(parts[-1]) == head[2]
