"""The folder that is prepared, from its first file to its last.

manifest.json   what there is, written last: counts, sums, the tokenizer and the settings
tokenizer/      the tokenizer's files
report.json     what each step removed; removed.jsonl has examples of it
<source>/       train_000000.bin, …, val_000000.bin, …
"""

import os
from contextlib import contextmanager, suppress

from tinygrad_lm.curate import report, shard_writer, signatures
from tinygrad_lm.curate.inputs import changed
from tinygrad_lm.curate.journal import NAME, differences, load, save, sealed, writing
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import replace

MANIFEST = "manifest.json"
SHOWN = 5  # lines of a complaint


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


def begin(out, mixture, state, restart):
    """The journal's state to go on from, None if all is done. state: that of a new one (`fresh`).

    Raises ConfigError for a folder of something else, of other settings, or of files that were changed since.
    """
    if (out / MANIFEST).exists() and not restart:
        manifest = load(out / MANIFEST)
        compare(out, manifest["mixture"], state["mixture"])
        finish(out, manifest, mixture)
        return None
    if restart:
        clear(out, state)
    elif (out / NAME).exists():
        before = load(out / NAME)
        compare(out, before["mixture"], state["mixture"])
        refuse_changed(out, changed(before["times"], state["times"]))
        return before
    else:
        refuse_others(out)
        save(out, state)
    return state


def fresh(mixture, settings, times, tokenizer):
    """The journal before the first record.

    times: when each raw file was written, which no manifest needs: between a kill and going on nothing is copied.
    """
    entries = {
        source.name: {"report": report.fresh()} | {split: shard_writer.fresh() for split in report.SPLITS}
        for source in mixture.sources
    }
    kinds = {source.clean.deduplicate for source in mixture.sources if source.files} - {"none"}
    memory = {kind: signatures.fresh() for kind in sorted(kinds)}
    return {"mixture": settings, "tokenizer": described(tokenizer), "times": times} | {
        "source": 0, "file": 0, "record": 0, "sources": entries, "signatures": memory,
    }  # fmt: skip


def described(tokenizer):
    """The description that makes it again from its files in the folder."""
    files = sorted(tokenizer.contents())
    return tokenizer.to_dict() | ({"folder": "tokenizer", "files": files} if files else {})


def compare(out, before, now):
    """Nothing may go on with other settings or files than it began with."""
    if lines := differences(before, now):
        first = f"prepare: {out} was begun with other settings or files:"
        hint = "hint : give another --out, or make it anew with --restart"
        raise ConfigError("\n  ".join([first, *lines, hint]))


def refuse_changed(out, lines):
    """Nor with files that hold something else than when their first half was read."""
    if lines:
        first = f"prepare: files were written anew since {out} was begun; what was made of them may be of other text:"
        hint = "hint : make it anew with --restart, or put back the files of then, with their times (cp -p, rsync -t)"
        more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
        raise ConfigError("\n  ".join([first, *lines[:SHOWN], *more, hint]))


def refuse_others(out):
    if others := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        raise ConfigError(
            f"prepare: {out} exists and is nothing that was prepared, it has {', '.join(others[:5])}; "
            "give another --out"
        )


def clear(out, state):
    """Forget what is there, of what was written here: what else lies in the folder stays.

    First the journal says that nothing is there, so a kill in between takes nothing for whole.
    """
    names, files = set(), []
    if not (out / NAME).exists() and not (out / MANIFEST).exists():
        refuse_others(out)
    for path in (out / NAME, out / MANIFEST):
        with suppress(DataError):  # damaged: that is why it is made anew
            if before := load(path):
                names |= {os.path.basename(name) for name in before["sources"]}  # a path would lead out of the folder
                files += map(os.path.basename, before.get("tokenizer", {}).get("files", []))
    save(out, state)
    with writing(out):
        for name in [MANIFEST, "report.json", "removed.jsonl", *(f"tokenizer/{file}" for file in files)]:
            (out / name).unlink(missing_ok=True)
        for name in sorted(names):
            for split in report.SPLITS:
                shard_writer.rewind(out / name, split, 1, shard_writer.fresh())
            with suppress(OSError):
                (out / name).rmdir()


def write_tokenizer(out, tokenizer):
    """Its files."""
    for name, content in tokenizer.contents().items():
        with writing(out / "tokenizer" / name):
            (out / "tokenizer").mkdir(exist_ok=True)
            replace(out / "tokenizer" / name, content)


def conclude(out, mixture, state):
    """Report, manifest; then what only the work needed goes."""
    with writing(out / "report.json"):
        replace(out / "report.json", report.as_json(state["sources"]).encode())
        replace(out / "removed.jsonl", "".join(report.examples(state["sources"])).encode())
    sources = {}
    for name, entry in state["sources"].items():
        sources[name] = {"weight": None, "floor": {split: floor(entry[split]) for split in report.SPLITS}}
        for split in report.SPLITS:
            sources[name][split] = {key: entry[split][key] for key in ("documents", "tokens", "bytes", "shards")}
    finish(out, {"tokenizer": state["tokenizer"], "mixture": state["mixture"], "sources": sources}, mixture)


def floor(split):
    """The entropy of a synthetic source as its documents have it, in nats a token; None where nobody knows it."""
    return split["nats"] / split["tokens"] if split["nats"] and split["tokens"] else None


def finish(out, manifest, mixture):
    """The manifest with the weights of the mixture file, for they may change at any time; and no work files."""
    for source in mixture.sources:
        manifest["sources"][source.name]["weight"] = str(source.weight)
    with writing(out / MANIFEST):
        if not (out / MANIFEST).exists() or load(out / MANIFEST) != manifest:
            replace(out / MANIFEST, sealed(manifest, indent=1))
        for path in [out / NAME, *(out / name for name in signatures.NAMES.values())]:
            path.unlink(missing_ok=True)
