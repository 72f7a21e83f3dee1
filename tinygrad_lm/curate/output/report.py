"""The report of a source: how many records were damaged, what each cleaning step removed, and what is left.

Its state is JSON-able, because the journal stores it. The examples of removed texts are those whose ids have the lowest
hashes: a random choice that does not depend on order or interruptions.
"""

import hashlib
import json
from copy import deepcopy

from tinygrad_lm.data.mixture.dataset import SPLITS
from tinygrad_lm.tables import aligned

KEPT_EXAMPLES = 5  # examples per step and source
EXCERPT = 300  # characters of an example
SHOWN = 3  # damaged records in the table
COUNTS = ("records", "pieces", "characters", "damaged", "lost", "damage", "worst")  # keys of a source in report.json
NO_REMOVALS = {"reasons": {}, "documents": 0, "parts": 0, "characters": 0, "examples": []}


def new_report():
    """The counts of a source before its first record.

    records + pieces − damaged − removed documents = remaining documents. pieces: additional documents from cutting
    """
    counts = {"records": 0, "pieces": 0, "characters": 0, "damaged": 0, "lost": 0}
    return counts | {"damage": [], "file": ["", 0], "worst": ["", 0], "removed": {}}


def count_removal(removed, step, id, reason, text, characters=None, documents=1):
    """Count a document that a step removed; or, with documents=0, a part of one that remains.

    characters: of the whole text, if `text` is an excerpt
    """
    rank = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    entry = {"documents": documents, "parts": 1 - documents, "characters": characters or len(text)}
    merge_removals(removed, {step: {"reasons": {reason: 1}, "examples": [[rank, id, reason, text[:EXCERPT]]]} | entry})


def merge_removals(removed, more):
    """Add the counts `more` to `removed`. Both: {step: dict with the keys of NO_REMOVALS}"""
    for step, entry in more.items():
        total = removed.setdefault(step, deepcopy(NO_REMOVALS))
        for reason, times in entry["reasons"].items():
            total["reasons"][reason] = total["reasons"].get(reason, 0) + times
        for key in ("documents", "parts", "characters"):
            total[key] += entry[key]
        total["examples"] = sorted(total["examples"] + entry["examples"])[:KEPT_EXAMPLES]


def add_batch(report, result):
    """Add a worker's BatchResult."""
    for key in ("records", "pieces", "characters", "marked"):
        report[key] = report.get(key, 0) + getattr(result, key)
    merge_removals(report["removed"], result.removed)
    for file, damaged in result.damaged:
        report["damaged"] += 1
        report["lost"] += damaged.lost
        examples = [*report["damage"], [file, damaged.id, damaged.reason, damaged.lost]]
        report["damage"] = sorted(examples, key=lambda example: -example[3])[
            :KEPT_EXAMPLES
        ]  # the first of those that lost most
        here = report["file"][1] if report["file"][0] == file else 0
        report["file"] = [file, here + 1]  # files come one after the other
        report["worst"] = max(report["worst"], report["file"], key=lambda entry: entry[1])


def damage_message(report, name, size, allowed):
    """The message about a source with more than the allowed share of damage. size: of its files, in bytes"""
    (file, worst), damaged, records = report["worst"], report["damaged"], report["records"]
    return "\n".join([
        f"source {name}: {damaged:,} of {records:,} records are damaged, {damaged / records:.2%}; "
        f"damage = {allowed:g} allows {allowed:.2%}",
        f"  lost       : {report['lost']:,} of {size:,} bytes; a truncated file counts whole",
        f"  worst file : {file}, {worst:,} of them",
        *(f"  example    : {file}, {id}: {reason}" for file, id, reason, _ in report["damage"]),
        "  hint       : download the files again and use --restart; or raise `damage` and resume",
    ])  # fmt: skip


def nothing_left_message(report, name, held_out):
    """The message about a source without training documents."""
    removed = [f"{step} {entry['documents']:,}" for step, entry in report["removed"].items() if entry["documents"]]
    removed += [f"damaged {report['damaged']:,}"] if report["damaged"] else []
    removed += [f"held out {held_out:,}"] if held_out else []
    return (
        f"source {name}: no training document is left of {report['records']:,} records\n"
        f"  removed : {', '.join(removed) or 'nothing; there are no records'}\n"
        "  hint    : relax [clean] or `validation`, name other files, or remove the source; then use --restart"
    )


def report_json(sources):
    """The content of report.json, {source: counts}. sources: {source: the journal's entry}"""
    counts = {}
    for name, source in sources.items():
        report = source["report"]
        removed = {step: {key: entry[key] for key in NO_REMOVALS if key != "examples"}
                   for step, entry in report["removed"].items()}  # fmt: skip
        kept = {split: {key: source[split][key] for key in ("documents", "tokens", "bytes")} for split in SPLITS}
        counts[name] = {key: report[key] for key in COUNTS}
        counts[name] |= {"removed": removed} | kept
    return json.dumps(counts, indent=1)


def removed_lines(sources):
    """Yield the lines of removed.jsonl, one per example."""
    for name, source in sources.items():
        for step, entry in source["report"]["removed"].items():
            for _, id, reason, text in entry["examples"]:
                yield json.dumps({"source": name, "step": step, "id": id, "reason": reason, "text": text}) + "\n"


def report_table(sources):
    """The report as a table: a line for each source, and below it what was removed."""
    rows = [["source", "records", "documents", "held out", "tokens", "bytes/token"]]
    for name, source in sources.items():
        train, val = (source[split] for split in SPLITS)
        documents, tokens, size = (train[key] + val[key] for key in ("documents", "tokens", "bytes"))
        records = source["report"]["records"]  # unknown for existing token files
        counts = [f"{records:,}" if records else "-", f"{documents:,}", f"{val['documents']:,}", f"{tokens:,}"]
        rows.append([name, *counts, f"{size / tokens:.2f}" if size else "-"])
    head, *lines = aligned(rows)
    below = [removal_lines(source["report"]) for source in sources.values()]
    return "\n".join([head, *(line for one, more in zip(lines, below, strict=True) for line in (one, *more))])


def removal_lines(report):
    """Yield lines with what leads from the records to the documents, and the first damaged records."""
    rows, notes = [], []
    if damaged := report["damaged"]:
        rows.append(["  - damaged", f"{damaged:,}"])
        notes.append([f"{damaged / report['records']:.2%} of the records", *damaged_lines(report)])
    for step, entry in report["removed"].items():
        rows.append([f"  - {step}", f"{entry['documents']:,}"])
        parts = f"and {entry['parts']:,} parts of others, " if entry["parts"] else ""
        notes.append([f"{parts}{entry['characters'] / max(1, report['characters']):.2%} of the characters"])
    if report["pieces"]:
        rows.append(["  + pieces", f"{report['pieces']:,}"])
        notes.append(["more documents, because some were cut"])
    for line, (note, *more) in zip(aligned(rows), notes, strict=True):
        yield from (f"{line}  {note}", *more)


def damaged_lines(report):
    """Yield lines with the places of the first damaged records."""
    for file, id, reason, _ in report["damage"][:SHOWN]:
        yield f"      {file}, {id}: {reason}"
    if report["damaged"] > SHOWN:
        yield f"      … more in report.json; most are in {report['worst'][0]}"


def mark_warnings(sources, mark):
    """Yield a line for each source whose texts hold the tokenizer's end-of-text token `mark` as ordinary text."""
    for name, source in sources.items():
        if marked := source["report"].get("marked"):
            yield (
                f"warning: source {name}: {marked:,} documents hold {mark} as ordinary text, which ends nothing; "
                f'separator = "{mark}" ends documents of text files there'
            )


def held_out_warnings(mixture, sources):
    """Yield a line for each source without validation tokens."""
    for source in mixture.sources:
        if not sources[source.name]["val"]["tokens"]:
            remedy = "name `validation_shards`" if source.shards else "raise `validation`"
            yield f"warning: source {source.name}: no validation tokens; {remedy} and prepare it again"
