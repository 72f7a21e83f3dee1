"""What became of the records of a source: how many were damaged, what each step removed, and what is left.

All of it is plain JSON, for the journal carries it through a kill. Examples of what was removed are those whose ids
have the least hashes: a random choice that depends neither on the order nor on where the work was taken up again.
"""

import hashlib
import json

KEEP = 5  # examples of each step and source
EXCERPT = 300  # characters of each
ENOUGH = 100  # records from which on the share of damaged ones means something
SPLITS = ("train", "val")


def fresh():
    """The counts of a source before its first record."""
    return {"records": 0, "characters": 0, "damaged": 0, "lost": 0, "damage": [], "file": ["", 0], "worst": ["", 0],
            "removed": {}}  # fmt: skip


def count(removed, step, id, reason, text, characters=None):
    """One more document, or a part of one, that a step removed. characters: of all of it, if `text` is a part."""
    rank = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    example = [rank, id, reason, text[:EXCERPT]]
    merge(removed, {step: {"reasons": {reason: 1}, "characters": characters or len(text), "examples": [example]}})


def merge(removed, more):
    """Add up what two parts of a source lost. removed: {step: {"reasons", "characters", "examples"}}"""
    for step, entry in more.items():
        total = removed.setdefault(step, {"reasons": {}, "characters": 0, "examples": []})
        for reason, times in entry["reasons"].items():
            total["reasons"][reason] = total["reasons"].get(reason, 0) + times
        total["characters"] += entry["characters"]
        total["examples"] = sorted(total["examples"] + entry["examples"])[:KEEP]


def take(report, worked):
    """Add what a worker found in a batch."""
    report["records"] += worked.records
    report["characters"] += worked.characters
    merge(report["removed"], worked.removed)
    for file, damaged in worked.damaged:
        report["damaged"] += 1
        report["lost"] += damaged.lost
        examples = [*report["damage"], [file, damaged.id, damaged.reason, damaged.lost]]
        report["damage"] = sorted(examples, key=lambda example: -example[3])[
            :KEEP
        ]  # the first, where all lost the same
        here = report["file"][1] if report["file"][0] == file else 0
        report["file"] = [file, here + 1]  # files come one after the other
        report["worst"] = max(report["worst"], report["file"], key=lambda entry: entry[1])


def damage(report, name, size, allowed):
    """The complaint about a source of which more than this share is damaged. size: of its files, in bytes"""
    (file, worst), damaged, records = report["worst"], report["damaged"], report["records"]
    return "\n".join([
        f"source {name}: {damaged:,} of {records:,} records are damaged, {damaged / records:.2%}; "
        f"damage = {allowed:g} allows {allowed:.2%}",
        f"  lost       : {report['lost']:,} of {size:,} bytes; of a file that was cut short as many as it has",
        f"  worst file : {file}, {worst:,} of them",
        *(f"  example    : {file}, {id}: {reason}" for file, id, reason, _ in report["damage"]),
        "  hint       : fetch the files again and prepare with --restart; or raise `damage` and go on",
    ])  # fmt: skip


def nothing_left(report, name, held_out):
    """The complaint about a source that gives no document to train on."""
    removed = [f"{step} {sum(entry['reasons'].values()):,}" for step, entry in report["removed"].items()]
    removed += [f"damaged {report['damaged']:,}"] if report["damaged"] else []
    removed += [f"held out {held_out:,}"] if held_out else []
    return (
        f"source {name}: no document is left to train on of {report['records']:,} records\n"
        f"  removed : {', '.join(removed) or 'none, there are no records'}\n"
        "  hint    : loosen [clean] or `validation`, give it other files, or take the source out; then --restart"
    )


def as_json(sources):
    """report.json: {source: counts}, of {source: the journal's entry}."""
    counts = {}
    for name, source in sources.items():
        report = source["report"]
        removed = {step: {key: entry[key] for key in ("reasons", "characters")}
                   for step, entry in report["removed"].items()}  # fmt: skip
        kept = {split: {key: source[split][key] for key in ("documents", "tokens", "bytes")} for split in SPLITS}
        counts[name] = {key: report[key] for key in ("records", "characters", "damaged", "lost", "damage", "worst")}
        counts[name] |= {"removed": removed} | kept
    return json.dumps(counts, indent=1)


def examples(sources):
    """removed.jsonl: a line for each example."""
    for name, source in sources.items():
        for step, entry in source["report"]["removed"].items():
            for _, id, reason, text in entry["examples"]:
                yield json.dumps({"source": name, "step": step, "id": id, "reason": reason, "text": text}) + "\n"


def table(sources):
    """The report for the eye."""
    lines = [f"{'source':16}{'records':>12}{'documents':>12}{'held out':>10}{'tokens':>16}{'bytes a token':>15}"]
    for name, source in sources.items():
        report, train, val = (source[key] for key in ("report", *SPLITS))
        documents, tokens, size = (train[key] + val[key] for key in ("documents", "tokens", "bytes"))
        records = f"{report['records']:,}" if report["records"] else "-"  # of token files nobody knows them
        ratio = f"{size / tokens:.2f}" if size else "-"
        lines.append(f"{name:16}{records:>12}{documents:>12,}{val['documents']:>10,}{tokens:>16,}{ratio:>15}")
        if report["damaged"]:
            lines.append(row("damaged", report["damaged"], report["records"]))
        for step, entry in report["removed"].items():
            line = row(step, sum(entry["reasons"].values()), report["records"])
            characters = entry["characters"] / max(1, report["characters"])
            lines.append(f"{line}, {characters:.2%} of the characters")
    return "\n".join(lines)


def row(what, count, records):
    return f"  - {what:16}{count:>8,}  {count / records:.2%} of the records"
