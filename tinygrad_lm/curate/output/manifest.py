"""The files of a dataset besides its token files.

manifest.json   counts, checksums, tokenizer and settings; written last
tokenizer/      the tokenizer's files
report.json     what each cleaning step removed
removed.jsonl   examples of removed texts
"""

from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS
from tinygrad_lm.curate.output import report
from tinygrad_lm.curate.output.journal import JOURNAL, reporting_write_errors
from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.data.mixture.dataset import MANIFEST, SPLITS, read_manifest
from tinygrad_lm.files import replace, sealed_json


def write_tokenizer(out, tokenizer):
    """Write the tokenizer's files."""
    for name, content in tokenizer.contents().items():
        with reporting_write_errors(out / "tokenizer" / name):
            (out / "tokenizer").mkdir(exist_ok=True)
            replace(out / "tokenizer" / name, content)


def write_results(out, mixture, state):
    """Write the report and the manifest, and remove the work files."""
    with reporting_write_errors(out / "report.json"):
        replace(out / "report.json", report.report_json(state["sources"]).encode())
        replace(out / "removed.jsonl", "".join(report.removed_lines(state["sources"])).encode())
    sources = {}
    for name, entry in state["sources"].items():
        sources[name] = {"weight": None, "floor": {split: split_floor(entry[split]) for split in SPLITS}}
        for split in SPLITS:
            sources[name][split] = {key: entry[split][key] for key in ("documents", "tokens", "bytes", "shards")}
    write_manifest(out, {"tokenizer": state["tokenizer"], "mixture": state["mixture"], "sources": sources}, mixture)


def split_floor(split):
    """Lowest expected loss on the documents of a split, in nats per token; None if unknown."""
    return split["nats"] / split["tokens"] if split["nats"] and split["tokens"] else None


def write_manifest(out, manifest, mixture):
    """Write the manifest with the mixture file's current weights, and remove the work files.

    The manifest's entry "written" is the mixture file's own content, for comparison when the raw files are gone.
    """
    manifest["written"] = recorded_config(mixture)
    for source in mixture.sources:
        manifest["sources"][source.name]["weight"] = str(source.weight)
    with reporting_write_errors(out / MANIFEST):
        if not (out / MANIFEST).exists() or read_manifest(out) != manifest:
            replace(out / MANIFEST, sealed_json(manifest, indent=1))
        for name in [JOURNAL, *(f"signatures.{kind}" for kind in SIGNATURE_KINDS)]:
            if (out / name).exists():  # without work files the folder may be read-only
                (out / name).unlink()
