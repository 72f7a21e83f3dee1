"""Start in the output folder as it is: empty, unfinished, finished, or not a dataset."""

import os
from contextlib import contextmanager, suppress
from datetime import datetime

from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS
from tinygrad_lm.curate.output import report, shard_writer, signatures
from tinygrad_lm.curate.output.journal import JOURNAL, SEALED_KEYS, differences, reporting_write_errors, save_journal
from tinygrad_lm.curate.output.manifest import write_manifest
from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.data.mixture.dataset import MANIFEST, SPLITS, read_manifest, read_sealed
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.locks import FolderLock

SHOWN_LINES = 5  # of a message


def new_journal(mixture, settings, times, tokenizer):
    """The state before the first record. times: when each raw file was last modified (modification_times)"""
    entries = {
        source.name: {"report": report.new_report()} | {split: shard_writer.new_split() for split in SPLITS}
        for source in mixture.sources
    }
    kinds = {kind for source in mixture.sources if source.files for kind in SIGNATURE_KINDS[source.clean.deduplicate]}
    files = sorted(tokenizer.contents())
    description = tokenizer.to_dict() | ({"folder": "tokenizer", "files": files} if files else {})
    return {"mixture": settings, "tokenizer": description, "times": times} | {
        "source": 0, "file": 0, "record": 0, "sources": entries,
        "signatures": {kind: signatures.new_signatures() for kind in sorted(kinds)},
    }  # fmt: skip


@contextmanager
def folder_lock(out):
    """Make the output folder and lock it against other processes.

    If the dataset is finished, wait for the lock, because other processes only compare; otherwise raise ConfigError.
    """
    with reporting_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with FolderLock(out, wait=(out / MANIFEST).exists()):
        yield


def begin_or_resume(out, mixture, state, restart):
    """The state to continue from; None if the dataset is finished. state: a new one (new_journal)

    Raises ConfigError for a folder of something else, and for changed settings or files.
    """
    refuse_foreign_folder(out)
    if restart:
        clear_output(out, state)
    elif (out / MANIFEST).exists():
        update_finished(out, mixture, state["mixture"])
        return None
    elif (out / JOURNAL).exists():
        return resume_journal(out, state)
    else:
        save_journal(out, state)
    return state


def update_finished(out, mixture, settings=None):
    """Compare a finished dataset with the mixture file and write the file's weights to the manifest.

    settings: recorded_inputs; None if raw files are gone, then only the mixture file is compared
    """
    manifest = read_manifest(out)
    if settings is None:
        refuse_differences(out, manifest["written"], recorded_config(mixture))
    else:
        refuse_differences(out, manifest["mixture"], settings)
    before = {name: entry["weight"] for name, entry in manifest["sources"].items()}
    write_manifest(out, manifest, mixture)
    gone = "; raw files are gone, so only the mixture file was compared" if settings is None else ""
    print(f"{out} is finished already{gone}; prepare --restart makes it again")
    for name, entry in manifest["sources"].items():
        if entry["weight"] != before[name]:
            print(f"source {name}: weight {before[name]} before, {entry['weight']} now; its token files are unchanged")


def resume_journal(out, new):
    """The saved state, checked against a new one. Sources that were not begun may have changed."""
    state = read_sealed(out / JOURNAL)
    begun = list(state["sources"])[: state["source"] + bool(state["file"] or state["record"])]
    refuse_differences(out, *(first_sources(each["mixture"], len(begun)) for each in (state, new)))
    refuse_modified_files(out, *({name: each["times"][name] for name in begun} for each in (state, new)))
    remove_sources(out, state["sources"].keys() - new["sources"].keys())
    for key in ("sources", "signatures"):
        kept = begun if key == "sources" else state[key]
        new[key] |= {name: state[key][name] for name in kept}
    return state | {key: new[key] for key in ("mixture", "times", "sources", "signatures")}


def first_sources(settings, count):
    """The settings with the first `count` sources only."""
    sources = dict(list(settings["sources"].items())[:count])
    return settings | {"sources": sources}


def refuse_differences(out, before, now):
    """Raise ConfigError if settings or files have changed."""
    if lines := differences(before, now):
        first = f"prepare: {out} was begun with other settings or files:"
        hint = "hint : choose another --out, or start again with --restart"
        raise ConfigError("\n  ".join([first, *lines, hint]))


def refuse_modified_files(out, before, now):
    """Raise ConfigError if files of begun sources were modified. before, now: {source: {name: time}}"""
    lines = [
        f"source {source}: {name}: modified {as_date(time)} before, {as_date(now[source][name])} now"
        for source, times in before.items()
        for name, time in times.items()
        if now[source][name] != time
    ]
    if lines:
        first = f"prepare: files were modified since {out} was begun, so its first part may come from other text:"
        hint = "hint : use --restart, or restore the original files with their timestamps (cp -p, rsync -t)"
        more = [f"and {len(lines) - SHOWN_LINES:,} more"] if len(lines) > SHOWN_LINES else []
        raise ConfigError("\n  ".join([first, *lines[:SHOWN_LINES], *more, hint]))


def as_date(time):
    """The date of a time in ns."""
    return datetime.fromtimestamp(time / 1e9)


def refuse_foreign_folder(out):
    """Raise ConfigError for a folder that is not empty and not a dataset of ours."""
    found = [out / name for name in (MANIFEST, JOURNAL) if (out / name).exists()]
    others = [path for path in found if not (path.is_file() and all(mark in path.read_bytes() for mark in SEALED_KEYS))]
    if not found:
        others = [path for path in sorted(out.iterdir()) if not path.name.startswith(".")]
    if others:
        raise ConfigError(
            f"prepare: {out} exists and is not a dataset: it has other files, "
            f"{', '.join(path.name for path in others[:SHOWN_LINES])}; choose another --out"
        )


def clear_output(out, state):
    """Remove what an earlier run wrote; other files in the folder stay.

    The journal is reset first, so that a kill in between leaves nothing that looks complete.
    """
    names, files = set(), []
    for path in (out / JOURNAL, out / MANIFEST):
        with suppress(OSError):  # missing, or damaged, which may be why --restart was given
            before = read_sealed(path)
            names |= before["sources"].keys()
            files += before.get("tokenizer", {}).get("files", [])
    save_journal(out, state)
    with reporting_write_errors(out):
        for name in [MANIFEST, "report.json", "removed.jsonl"]:
            (out / name).unlink(missing_ok=True)
        for name in files:
            (out / "tokenizer" / os.path.basename(name)).unlink(missing_ok=True)  # a path could lead out of the folder
        remove_sources(out, names)


def remove_sources(out, names):
    """Remove the token files of these sources and their folders."""
    for name in sorted(map(os.path.basename, names)):  # a path could lead out of the folder
        for split in SPLITS:
            shard_writer.rewind(out / name, split, 1, shard_writer.new_split())
        with suppress(OSError):
            (out / name).rmdir()
