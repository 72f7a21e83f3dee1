"""The folder to prepare as it is found: empty, begun, finished, or somebody else's."""

import os
from contextlib import contextmanager, suppress
from datetime import datetime

from tinygrad_lm.curate.output import report, shard_writer
from tinygrad_lm.curate.output.journal import JOURNAL, SEALED_KEYS, differences, reporting_write_errors, save_journal
from tinygrad_lm.curate.output.manifest import write_manifest
from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.data.mixture.dataset import MANIFEST, read_manifest, read_sealed
from tinygrad_lm.errors import ConfigError

SHOWN_LINES = 5  # lines of a complaint


@contextmanager
def folder_lock(out):
    """No other process prepares the same folder meanwhile; the system takes the lock from one that dies.

    Where all is done already the others only compare, and one waits for them.
    """
    with reporting_write_errors(out):
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


def begin_or_resume(out, mixture, state, restart):
    """The journal's state to go on from, None if all is done. state: that of a new one (`fresh`).

    Raises ConfigError for a folder of something else, of other settings, or of files that were changed since.
    """
    refuse_foreign_folder(out)
    if restart:
        clear_output(out, state)
    elif (out / MANIFEST).exists():
        update_finished(out, mixture, state["mixture"])
        return None
    elif (out / JOURNAL).exists():
        return resume(out, state)
    else:
        save_journal(out, state)
    return state


def update_finished(out, mixture, settings=None):
    """What is finished is compared, and gets the weights of the mixture file.

    settings: None where raw files are gone; then the mixture file is compared with what it said.
    """
    manifest = read_manifest(out)
    if settings is None:
        refuse_differences(out, manifest.get("written", {}), recorded_config(mixture))
    else:
        refuse_differences(out, manifest["mixture"], settings)
    before = {name: entry["weight"] for name, entry in manifest["sources"].items()}
    write_manifest(out, manifest, mixture)
    gone = "; raw files are gone, so what the mixture file says was compared alone" if settings is None else ""
    print(f"{out} is prepared already{gone}; prepare --restart makes it anew")
    for name, entry in manifest["sources"].items():
        if entry["weight"] != before[name]:
            print(
                f"source {name}: weight {before[name]} before, {entry['weight']} now; its token files stay as they are"
            )


def resume(out, anew):
    """The state that was saved. Sources that are not begun yet may be others than they were. anew: a new state."""
    state = read_sealed(out / JOURNAL)
    begun = list(state["sources"])[: state["source"] + bool(state["file"] or state["record"])]
    refuse_differences(out, *(first_sources(each["mixture"], len(begun)) for each in (state, anew)))
    refuse_modified_files(out, *({name: each["times"][name] for name in begun} for each in (state, anew)))
    remove_sources(out, state["sources"].keys() - anew["sources"].keys())
    for key in ("sources", "signatures"):
        kept = begun if key == "sources" else state[key]
        anew[key] |= {name: state[key][name] for name in kept}
    return state | {key: anew[key] for key in ("mixture", "times", "sources", "signatures")}


def first_sources(settings, count):
    """Of the first sources alone."""
    sources = dict(list(settings["sources"].items())[:count])
    return settings | {"sources": sources}


def refuse_differences(out, before, now):
    """Nothing may go on with other settings or files than it began with."""
    if lines := differences(before, now):
        first = f"prepare: {out} was begun with other settings or files:"
        hint = "hint : give another --out, or make it anew with --restart"
        raise ConfigError("\n  ".join([first, *lines, hint]))


def refuse_modified_files(out, before, now):
    """Nor with files that hold something else than when their first half was read. before, now: {source: times}"""
    lines = [
        f"source {source}: {name}: written {as_date(time)} before, {as_date(now[source][name])} now"
        for source, times in before.items()
        for name, time in times.items()
        if now[source][name] != time
    ]
    if lines:
        first = f"prepare: files were written anew since {out} was begun; what was made of them may be of other text:"
        hint = "hint : make it anew with --restart, or put back the files of then, with their times (cp -p, rsync -t)"
        more = [f"and {len(lines) - SHOWN_LINES:,} more"] if len(lines) > SHOWN_LINES else []
        raise ConfigError("\n  ".join([first, *lines[:SHOWN_LINES], *more, hint]))


def as_date(time):
    return datetime.fromtimestamp(time / 1e9)


def refuse_foreign_folder(out):
    """Nothing is written to, or removed from, a folder of something else."""
    found = [out / name for name in (MANIFEST, JOURNAL) if (out / name).exists()]
    others = [path for path in found if not (path.is_file() and all(mark in path.read_bytes() for mark in SEALED_KEYS))]
    if not found:
        others = [path for path in sorted(out.iterdir()) if not path.name.startswith(".")]
    if others:
        raise ConfigError(
            f"prepare: {out} exists and is nothing that was prepared, it has "
            f"{', '.join(path.name for path in others[:SHOWN_LINES])} of something else; give another --out"
        )


def clear_output(out, state):
    """Forget what is there, of what was written here: what else lies in the folder stays.

    First the journal says that nothing is there, so a kill in between takes nothing for whole.
    """
    names, files = set(), []
    for path in (out / JOURNAL, out / MANIFEST):
        with suppress(OSError):  # not there, or damaged: that is why it is made anew
            before = read_sealed(path)
            names |= before["sources"].keys()
            files += before.get("tokenizer", {}).get("files", [])
    save_journal(out, state)
    with reporting_write_errors(out):
        for name in [MANIFEST, "report.json", "removed.jsonl"]:
            (out / name).unlink(missing_ok=True)
        for name in files:
            (out / "tokenizer" / os.path.basename(name)).unlink(missing_ok=True)  # a path would lead elsewhere
        remove_sources(out, names)


def remove_sources(out, names):
    """The folders of these sources go, with their token files."""
    for name in sorted(map(os.path.basename, names)):  # a path would lead elsewhere
        for split in report.SPLITS:
            shard_writer.rewind(out / name, split, 1, shard_writer.new_split())
        with suppress(OSError):
            (out / name).rmdir()
