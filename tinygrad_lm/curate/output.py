"""The folder that is prepared, from its first file to its last.

manifest.json   what there is, written last: counts, sums, the tokenizer and the settings
tokenizer/      the tokenizer's files
report.json     what each step removed; removed.jsonl has examples of it
<source>/       train_000000.bin, …, val_000000.bin, …
"""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from tinygrad_lm.curate import report, shard_writer, signatures
from tinygrad_lm.curate.journal import NAME, differences, load, save, sealed, writing
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import replace

MANIFEST = "manifest.json"


@contextmanager
def locked(out):
    """No other process prepares the same folder meanwhile; the system takes the lock from one that dies."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"prepare: another process is preparing {out}; wait for it, or give another --out"
            ) from None
        yield
    finally:
        os.close(descriptor)


def begin(out, mixture, settings, restart):
    """The state to go on from, None if all is done.

    Raises ConfigError for a folder of something else, or of other settings.
    """
    if (out / MANIFEST).exists() and not restart:
        manifest = load(out / MANIFEST)
        compare(out, manifest["mixture"], settings)
        finish(out, manifest, mixture)
        return None
    state = fresh(mixture, settings)
    if restart:
        clear(out, state)
    elif (out / NAME).exists():
        state = load(out / NAME)
        compare(out, state["mixture"], settings)
    else:
        refuse_others(out)
        save(out, state)
    return state


def fresh(mixture, settings):
    """The journal before the first record."""
    entries = {
        source.name: {"report": report.fresh()} | {split: shard_writer.fresh() for split in report.SPLITS}
        for source in mixture.sources
    }
    kinds = {source.clean.deduplicate for source in mixture.sources if source.files} - {"none"}
    memory = {kind: signatures.fresh() for kind in sorted(kinds)}
    return {"mixture": settings, "source": 0, "file": 0, "record": 0, "sources": entries, "signatures": memory}


def compare(out, before, now):
    """Nothing may go on with other settings or files than it began with."""
    if lines := differences(before, now):
        first = f"prepare: {out} was begun with other settings or files:"
        hint = "hint : give another --out, or make it anew with --restart"
        raise ConfigError("\n  ".join([first, *lines, hint]))


def refuse_others(out):
    if others := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        raise ConfigError(
            f"prepare: {out} exists and is nothing that was prepared, it has {', '.join(others[:5])}; "
            "give another --out"
        )


def clear(out, state):
    """Forget what is there. First the journal says that nothing is, so a kill in between takes nothing for whole."""
    names = set()
    if not (out / NAME).exists() and not (out / MANIFEST).exists():
        refuse_others(out)
    for path in (out / NAME, out / MANIFEST):
        with suppress(DataError):  # damaged: that is why it is made anew
            names |= set((load(path) or {"sources": ()})["sources"])
    save(out, state)
    with writing(out):
        for path in [out / MANIFEST, out / "report.json", out / "removed.jsonl", *(out / "tokenizer").glob("*")]:
            path.unlink(missing_ok=True)
        for name in sorted(names):
            for split in report.SPLITS:
                shard_writer.rewind(out / name, split, 1, shard_writer.fresh())
            with suppress(OSError):
                (out / name).rmdir()


def write_tokenizer(out, tokenizer):
    """Its files, and the description that makes it again from them."""
    contents = tokenizer.contents()
    for name, content in contents.items():
        with writing(out / "tokenizer" / name):
            (out / "tokenizer").mkdir(exist_ok=True)
            replace(out / "tokenizer" / name, content)
    description = tokenizer.to_dict()
    return description | {"folder": "tokenizer"} if contents else description


def conclude(out, mixture, description, state):
    """Report, manifest; then what only the work needed goes."""
    with writing(out / "report.json"):
        replace(out / "report.json", report.as_json(state["sources"]).encode())
        replace(out / "removed.jsonl", "".join(report.examples(state["sources"])).encode())
    sources = {}
    for name, entry in state["sources"].items():
        sources[name] = {"weight": None, "floor": {split: floor(entry[split]) for split in report.SPLITS}}
        for split in report.SPLITS:
            sources[name][split] = {key: entry[split][key] for key in ("documents", "tokens", "bytes", "shards")}
    finish(out, {"tokenizer": description, "mixture": state["mixture"], "sources": sources}, mixture)


def floor(split):
    """The mean −ln P per token of all documents of a synthetic source's split: no model does better, in expectation.
    None where nobody knows it."""
    return split["nats"] / split["tokens"] if split["nats"] and split["tokens"] else None


def finish(out, manifest, mixture):
    """The manifest with the weights of the mixture file, for they may change at any time; and no work files."""
    for source in mixture.sources:
        manifest["sources"][source.name]["weight"] = str(source.weight)
    with writing(out / MANIFEST):
        if not (out / MANIFEST).exists() or load(out / MANIFEST) != manifest:
            replace(out / MANIFEST, sealed(manifest, indent=1))
        for path in [out / NAME, *Path(out).glob("signatures.*")]:
            path.unlink(missing_ok=True)
