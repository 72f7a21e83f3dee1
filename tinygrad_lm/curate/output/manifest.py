"""The folder that is prepared, from its first file to its last.

manifest.json   what there is, written last: counts, sums, the tokenizer and the settings
tokenizer/      the tokenizer's files
report.json     what each step removed; removed.jsonl has examples of it
<source>/       train_000000.bin, …, val_000000.bin, …
"""

from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS
from tinygrad_lm.curate.output import report, shard_writer, signatures
from tinygrad_lm.curate.output.journal import JOURNAL, reporting_write_errors, sealed_json
from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.data.mixture.dataset import MANIFEST, read_manifest
from tinygrad_lm.files import replace


def new_journal(mixture, settings, times, tokenizer):
    """The journal before the first record.

    times: when each raw file was written, which no manifest needs: between a kill and going on nothing is copied.
    """
    entries = {
        source.name: {"report": report.new_report()} | {split: shard_writer.new_split() for split in report.SPLITS}
        for source in mixture.sources
    }
    kinds = {kind for source in mixture.sources if source.files for kind in SIGNATURE_KINDS[source.clean.deduplicate]}
    memory = {kind: signatures.new_signatures() for kind in sorted(kinds)}
    return {"mixture": settings, "tokenizer": tokenizer_entry(tokenizer), "times": times} | {
        "source": 0, "file": 0, "record": 0, "sources": entries, "signatures": memory,
    }  # fmt: skip


def tokenizer_entry(tokenizer):
    """The description that makes it again from its files in the folder."""
    files = sorted(tokenizer.contents())
    return tokenizer.to_dict() | ({"folder": "tokenizer", "files": files} if files else {})


def write_tokenizer(out, tokenizer):
    """Its files."""
    for name, content in tokenizer.contents().items():
        with reporting_write_errors(out / "tokenizer" / name):
            (out / "tokenizer").mkdir(exist_ok=True)
            replace(out / "tokenizer" / name, content)


def write_results(out, mixture, state):
    """Report, manifest; then what only the work needed goes."""
    with reporting_write_errors(out / "report.json"):
        replace(out / "report.json", report.report_json(state["sources"]).encode())
        replace(out / "removed.jsonl", "".join(report.removed_lines(state["sources"])).encode())
    sources = {}
    for name, entry in state["sources"].items():
        sources[name] = {"weight": None, "floor": {split: split_floor(entry[split]) for split in report.SPLITS}}
        for split in report.SPLITS:
            sources[name][split] = {key: entry[split][key] for key in ("documents", "tokens", "bytes", "shards")}
    write_manifest(out, {"tokenizer": state["tokenizer"], "mixture": state["mixture"], "sources": sources}, mixture)


def split_floor(split):
    """The mean −ln P per token of all documents of a synthetic source's split: no model does better, in expectation.
    None where nobody knows it."""
    return split["nats"] / split["tokens"] if split["nats"] and split["tokens"] else None


def write_manifest(out, manifest, mixture):
    """The manifest with the weights of the mixture file, for they may change at any time; and no work files.

    written: what the file says, to compare with when the raw files are gone.
    """
    manifest["written"] = recorded_config(mixture)
    for source in mixture.sources:
        manifest["sources"][source.name]["weight"] = str(source.weight)
    with reporting_write_errors(out / MANIFEST):
        if not (out / MANIFEST).exists() or read_manifest(out) != manifest:
            replace(out / MANIFEST, sealed_json(manifest, indent=1))
        for name in [JOURNAL, *(f"signatures.{kind}" for kind in SIGNATURE_KINDS)]:
            if (out / name).exists():  # where nothing is to be removed the folder may be one to read only
                (out / name).unlink()
