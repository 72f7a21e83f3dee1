"""The folder that is prepared, from its first file to its last.

manifest.json   what there is, written last: counts, sums, the tokenizer and the settings
tokenizer/      the tokenizer's files
report.json     what each step removed; removed.jsonl has examples of it
<source>/       train_000000.bin, …, val_000000.bin, …
"""

import os
from contextlib import contextmanager, suppress

from tinygrad_lm.curate import report, shard_writer, signatures
from tinygrad_lm.curate.inputs import written
from tinygrad_lm.curate.journal import NAME, differences, save, sealed, writing
from tinygrad_lm.data.prepared import MANIFEST, read_manifest, read_sealed
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.files import replace


@contextmanager
def locked(out):
    """No other process prepares the same folder meanwhile; the system takes the lock from one that dies.

    Where all is done already the others only compare, and one waits for them.
    """
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
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if (out / MANIFEST).exists() else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ConfigError(
                f"prepare: another process is preparing {out}; wait for it, or give another --out"
            ) from None
        except OSError as error:
            print(f"warning: {out}: no lock to be had, {error.strerror}; see that nothing else prepares it meanwhile")
        yield
    finally:
        os.close(descriptor)


def begin(out, mixture, settings, restart):
    """The state to go on from, None if all is done.

    Raises ConfigError for a folder of something else, or of other settings.
    """
    if restart:
        state = fresh(mixture, settings)
        clear(out, state)
    elif (out / MANIFEST).exists():
        done(out, mixture, settings)
        return None
    elif (out / NAME).exists():
        state = gone_on(out, mixture, settings)
    else:
        refuse_others(out)
        save(out, state := fresh(mixture, settings))
    return state


def fresh(mixture, settings):
    """The journal before the first record."""
    entries = {
        source.name: {"report": report.fresh()} | {split: shard_writer.fresh() for split in report.SPLITS}
        for source in mixture.sources
    }
    kinds = {kind for source in mixture.sources if source.files for kind in signatures.KINDS[source.clean.deduplicate]}
    memory = {kind: signatures.fresh() for kind in sorted(kinds)}
    return {"mixture": settings, "source": 0, "file": 0, "record": 0, "sources": entries, "signatures": memory}


def done(out, mixture, settings=None):
    """What is finished is compared, and gets the weights of the mixture file.

    settings: None where raw files are gone; then the mixture file is compared with what it said.
    """
    manifest = read_manifest(out)
    if settings is None:
        compare(out, manifest.get("written", {}), written(mixture))
    else:
        compare(out, manifest["mixture"], settings)
    before = {name: entry["weight"] for name, entry in manifest["sources"].items()}
    finish(out, manifest, mixture)
    gone = "; raw files are gone, so what the mixture file says was compared alone" if settings is None else ""
    print(f"{out} is prepared already{gone}; prepare --restart makes it anew")
    for name, entry in manifest["sources"].items():
        if entry["weight"] != before[name]:
            print(
                f"source {name}: weight {before[name]} before, {entry['weight']} now; its token files stay as they are"
            )


def gone_on(out, mixture, settings):
    """The state that was saved. Sources that are not begun yet may be others than they were."""
    state, anew = read_sealed(out / NAME), fresh(mixture, settings)
    begun = list(state["sources"])[: state["source"] + bool(state["file"] or state["record"])]
    compare(out, *(part(each, len(begun)) for each in (state["mixture"], settings)))
    remove(out, state["sources"].keys() - anew["sources"].keys())
    for key in ("sources", "signatures"):
        kept = begun if key == "sources" else state[key]
        anew[key] |= {name: state[key][name] for name in kept}
    return state | {key: anew[key] for key in ("mixture", "sources", "signatures")}


def part(settings, count):
    """Of the first sources alone."""
    sources = dict(list(settings["sources"].items())[:count])
    return settings | {"sources": sources}


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
        with suppress(OSError):  # not there, or damaged: that is why it is made anew
            names |= set(read_sealed(path)["sources"])
    save(out, state)
    with writing(out):
        for path in [out / MANIFEST, out / "report.json", out / "removed.jsonl", *(out / "tokenizer").glob("*")]:
            path.unlink(missing_ok=True)
        remove(out, names)


def remove(out, names):
    """The folders of these sources go, with their token files."""
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
    """The manifest with the weights of the mixture file, for they may change at any time; and no work files.

    written: what the file says, to compare with when the raw files are gone.
    """
    manifest["written"] = written(mixture)
    for source in mixture.sources:
        manifest["sources"][source.name]["weight"] = str(source.weight)
    with writing(out / MANIFEST):
        if not (out / MANIFEST).exists() or read_manifest(out) != manifest:
            replace(out / MANIFEST, sealed(manifest, indent=1))
        for path in [*out.glob(NAME), *out.glob("signatures.*")]:
            path.unlink()
