"""Is what was prepared as it was when it was written? Every file against the manifest, and what is in none."""

from tinygrad_lm.curate.report import SPLITS
from tinygrad_lm.curate.survey import look_through
from tinygrad_lm.errors import DataError


def verify(out, manifest, tokenizer):
    """All that is wrong, as a list of sentences."""
    problems, listed = [], set()
    for name, source in manifest["sources"].items():
        for split in SPLITS:
            expected = source[split]
            found = dict.fromkeys(("documents", "tokens", "bytes"), 0)
            for shard in expected["shards"]:
                listed.add((out / shard["file"]).resolve())
                try:
                    seen = look_through(out / shard["file"], tokenizer)
                except DataError as error:
                    problems.append(str(error))
                    found = None
                    continue
                problems += [
                    f"token file {out / shard['file']}: {key} is {seen[key]!s:.12}, expected {shard[key]!s:.12}"
                    for key in ("tokens", "sha256")
                    if seen[key] != shard[key]
                ]
                if found:
                    found = {key: found[key] if seen[key] is None else found[key] + seen[key] for key in found}
            problems += [
                f"source {name}, {split}: {found[key]:,} {key} found, {expected[key]:,} expected"
                for key in found or ()
                if found[key] != expected[key] and (key != "bytes" or hasattr(tokenizer, "vocabulary"))
            ]
        problems += [
            f"{path} is not in the manifest"
            for path in sorted((out / name).glob("*.bin*"))
            if path.resolve() not in listed
        ]
    return problems
