"""The work of a preparation: batches out, answers in, tokens to their files, and a journal of it."""

import json
from functools import partial
from itertools import islice
from os.path import relpath

from tinygrad_lm.curate.output import journal, report
from tinygrad_lm.curate.output.provenance import as_json_value
from tinygrad_lm.curate.output.shard_writer import ShardWriter
from tinygrad_lm.curate.output.signatures import SignatureStore
from tinygrad_lm.curate.pipeline.batches import Batch, items_from_files, items_from_texts, make_batches, map_in_order
from tinygrad_lm.curate.pipeline.inputs import synthetic_source
from tinygrad_lm.curate.pipeline.worker import Job, process_batch
from tinygrad_lm.curate.readers.record import too_damaged
from tinygrad_lm.curate.survey import survey_files
from tinygrad_lm.errors import DataError

JOURNAL_INTERVAL = (
    2**25
)  # of content between two entries of the journal: a few seconds' work, and that is what a kill costs


class Pipeline:
    """What is left to do according to the journal's `state`, which changes as it is done."""

    def __init__(self, mixture, found, out, tokenizer, description, state):
        self.mixture, self.found, self.out, self.tokenizer, self.state = mixture, found, out, tokenizer, state
        self.description = json.dumps(description)
        self.signatures = {kind: SignatureStore(out, kind, entry) for kind, entry in state["signatures"].items()}
        self.writers = []

    def run(self, executor, ahead, received, bar):
        """All sources to the end, or to the first batch after a signal was received."""
        try:
            for number, source in enumerate(self.mixture.sources):
                if number < self.state["source"]:
                    self.writers_of(source)  # are its files still there?
                elif self.source(source, partial(map_in_order, executor, ahead), received, bar):
                    self.save(source=number + 1, file=0, record=0)
                else:
                    return
        finally:
            for writer in self.writers:
                writer.close()

    def source(self, source, answers, received, bar):
        """One source. Returns whether it came to its end."""
        entry, since = self.state["sources"][source.name], 0
        for batch in (self.listed if source.shards else self.written)(source, entry, answers):
            since += batch.size
            bar.at(source.name, batch.file, batch.within, entry)
            stop = bool(received)
            if stop or since >= JOURNAL_INTERVAL:
                self.save(file=batch.file, record=batch.record)
                since = 0
            if stop:
                return False
        return True

    def written(self, source, entry, answers):
        """Reads the records of a source and writes its tokens; yields each batch that is done."""
        self.writers = train, val = self.writers_of(source)
        for batch, worked in answers(process_batch, self.job(source), make_batches(self.records(source))):
            report.add_batch(entry["report"], worked)
            kept = [document for document in worked.documents if not self.is_duplicate(source, entry, document)]
            for writer in self.writers:
                writer.append([document for document in kept if document.held_out == (writer is val)])
            self.check_damage(source, entry["report"], ended=False)
            yield batch
        self.check_damage(source, entry["report"], ended=True)
        if not entry["train"]["documents"]:
            raise DataError(report.nothing_left_message(entry["report"], source.name, entry["val"]["documents"]))
        train.finish()
        val.finish()

    def listed(self, source, entry, answers):
        """Looks through token files that are there already; yields a batch for each."""
        files = [("train", path) for path in self.found[source.name]["shards"].values()]
        files += [("val", path) for path in self.found[source.name].get("validation_shards", {}).values()]
        sizes = [path.stat().st_size for _, path in files]
        todo = [Batch([path], sizes[i], i, 1, sizes[i]) for i, (_, path) in enumerate(files)]
        first = self.state["file"] + self.state["record"]
        for batch, [seen] in answers(survey_files, self.job(source), islice(todo, first, None)):
            split, path = files[batch.file]
            file = relpath(path.resolve(), self.out.resolve())  # ".." leaves the folder that a link leads to
            shard = {"file": file, "tokens": seen["tokens"], "sha256": seen["sha256"]}
            entry[split]["shards"].append(shard)
            for key in ("documents", "tokens", "bytes"):
                entry[split][key] += seen[key] or 0
            yield batch
        if not entry["train"]["tokens"]:
            raise DataError(f"source {source.name}: its token files hold no token to train on; give it others")

    def records(self, source):
        """(file, record, Item) from where the journal is."""
        if source.synthetic:
            count, seed, first = source.synthetic["documents"], source.synthetic.get("seed", 0), self.state["record"]
            return items_from_texts(
                source.name, synthetic_source(source.synthetic).documents(count, seed, first), first
            )
        return items_from_files(
            self.found[source.name]["files"], source.format, self.state["file"], self.state["record"]
        )

    def job(self, source):
        return Job(
            out=str(self.out.resolve()),
            tokenizer=self.description,
            folder=str(self.mixture.folder.resolve()),
            validation=self.mixture.validation,
            clean=source.clean if source.files else None,
            synthetic=json.dumps(as_json_value(source.synthetic)) if source.synthetic else None,
        )

    def is_duplicate(self, source, entry, document):
        kind = next((kind for kind, keys in document.signatures.items() if self.signatures[kind].seen(keys)), None)
        if kind is None:
            return False
        reason = "a document before it is like it"
        removed = entry["report"]["removed"]
        report.count_removal(removed, f"{kind} duplicate", document.id, reason, document.excerpt, document.characters)
        return True

    def check_damage(self, source, counts, ended):
        size = sum(path.stat().st_size for path in self.found[source.name].get("files", {}).values())
        if too_damaged(counts["records"], counts["damaged"], size, counts["lost"], self.mixture.damage, ended):
            raise DataError(report.damage_message(counts, source.name, size, self.mixture.damage))

    def writers_of(self, source):
        """The ShardWriters of a source's two splits, with their files as the journal has them."""
        if source.shards:
            return []
        size, entry = self.mixture.shard_tokens, self.state["sources"][source.name]
        folder, vocab_size = self.out / source.name, self.tokenizer.vocab_size
        return [ShardWriter(folder, split, vocab_size, size, entry[split]) for split in report.SPLITS]

    def save(self, **place):
        """All that was made so far is on the disk, and then the journal says so."""
        for file in [*self.writers, *self.signatures.values()]:
            file.sync()
        self.state |= place
        journal.save_journal(self.out, self.state)
