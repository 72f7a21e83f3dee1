"""Checkpoints that survive a crash at any moment, and are refused with the reason where they did not.

A checkpoint is a folder `step-000200` with safetensors files and a manifest of their sizes and sha256 sums, which is
sealed with its own checksum. It is written under a temporary name, synced to disk (fsync), and only then renamed:
under its own name it is complete. Older ones go when the new one has been read back and found right.
"""

import hashlib
import json
import math
import os
import shutil
from itertools import islice
from pathlib import Path

import safetensors.numpy

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.files import seal, sealed_json, sync, write


def write_checkpoint(folder, step, groups, info, keep=2):
    """Write folder/step-<step> and verify it; then remove all but the `keep` newest and the best.

    groups: {file name: {array name: NumPy array}}; info: JSON-able facts, `validation` among them where it is known
    (the best checkpoint is that with the least). Returns the path.
    """
    folder = Path(folder)
    final, temporary = folder / f"step-{step:06d}", folder / f".step-{step:06d}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        files = {}
        for name, arrays in groups.items():
            content = safetensors.numpy.save(arrays)
            write(temporary / f"{name}.safetensors", content)
            files[f"{name}.safetensors"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"step": step, **info, "files": files}
        write(temporary / "manifest.json", sealed_json(manifest, indent=1))
        sync(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint: cannot write {final}: {error.strerror or error}\n"
            "  hint : earlier checkpoints are untouched; make room or choose another folder, then resume"
        ) from error
    verify(final)
    prune(folder, keep)
    return final


def verify(path):
    """Return the manifest of the checkpoint at `path`, if every file has the size and the sum that it says."""
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        problems = [] if manifest.pop("seal") == seal(manifest) else ["manifest.json: its seal does not fit"]
        for name, expected in manifest["files"].items():
            with open(path / name, "rb") as file:
                found = {
                    "size": os.fstat(file.fileno()).st_size,
                    "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
                }
            problems += [
                f"{name}: {k} is {found[k]}, expected {expected[k]}" for k in expected if found[k] != expected[k]
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems = [f"{type(error).__name__}: {error}"]
    if problems:
        raise CheckpointError(f"checkpoint {path} is damaged: " + "; ".join(problems))
    return manifest


def whole(path):
    """Whether the checkpoint at `path` is as it was written."""
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def read_checkpoint(folder, which="newest"):
    """Return (manifest, {file name: {array name: array}}) of the newest whole checkpoint in a folder, or of the best.

    Damaged ones are passed over with a printed line.
    """
    problems = []
    for path in order(folder, which):
        try:
            manifest = verify(path)
            groups = {Path(name).stem: safetensors.numpy.load_file(path / name) for name in manifest["files"]}
        except (CheckpointError, safetensors.SafetensorError) as error:
            problems.append(str(error))
            print(f"{error}; trying the one before")
        else:
            return manifest, groups
    raise CheckpointError("\n".join([f"checkpoint: {folder} holds no whole checkpoint", *problems]))


def order(folder, which):
    """Checkpoints, newest first or best first."""
    newest = sorted(Path(folder).glob("step-*"), key=lambda path: (len(path.name), path.name), reverse=True)
    return newest if which == "newest" else sorted(newest, key=validation)


def validation(path):
    """The validation loss in a checkpoint's manifest; infinite where there is none, or a NaN."""
    try:
        loss = float(json.loads((path / "manifest.json").read_text("utf-8"))["validation"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
    return math.inf if math.isnan(loss) else loss


def prune(folder, keep):
    """Remove all but the newest `keep` whole checkpoints and the best, and what a killed process left half-written."""
    kept = list(islice(filter(whole, order(folder, "newest")), keep))
    kept += list(islice(filter(whole, order(folder, "best")), 1))
    for path in [*order(folder, "newest"), *Path(folder).glob(".step-*.tmp")]:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
