"""Helpers for the tests of `prepare`: edit a mixture file, compute what should be left, interrupt a run."""

import hashlib
import json

from small_mixture import (
    Inline,
    line_records,
    line_text,
    prepare_inline,
)

from tinygrad_lm.curate.readers.record import Damaged


def edit(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def kept(folder, sources=("books", "web", "more")):
    """{source: its remaining texts}, computed in the simplest way: each text once, in the first source that has it."""
    seen, texts = set(), {}
    for source in sources:
        texts[source] = []
        for path in sorted((folder / source).glob("*.lines")):
            for record in line_records(path):
                if isinstance(record, Damaged) or record.content.startswith("*") or line_text(record.content) is None:
                    continue
                if record.content not in seen:
                    seen.add(record.content)
                    texts[source].append(record.content)
    return texts


def held_out(text, share):
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) / 2**64 < share


def damage(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


def begun(mixture, out, monkeypatch, finished=False):
    """Run `prepare` until a worker fails in the second source, or to the end."""

    class Failing(Inline):
        def submit(self, function, job, items):
            if items[-1].file == "web/b.lines" and not finished:
                raise RuntimeError("stop")
            return super().submit(function, job, items)

    try:
        prepare_inline(mixture, out, Failing(), workers=1)
    except RuntimeError:
        assert json.loads((out / "progress.json").read_bytes())["source"] == 1
    assert (out / "manifest.json").exists() == finished
