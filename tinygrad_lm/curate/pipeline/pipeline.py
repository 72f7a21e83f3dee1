"""The main loop of `prepare`: send batches to workers, write the tokens to files, and save progress in the journal."""

import json
from functools import partial
from itertools import islice
from os.path import relpath

from tinygrad_lm.curate.output import journal, report
from tinygrad_lm.curate.output.shard_writer import ShardWriter
from tinygrad_lm.curate.output.signatures import SignatureStore
from tinygrad_lm.curate.pipeline.batches import Batch, items_from_files, items_from_texts, make_batches, map_in_order
from tinygrad_lm.curate.pipeline.worker import Job, process_batch
from tinygrad_lm.curate.readers.record import too_damaged
from tinygrad_lm.curate.survey import survey_files
from tinygrad_lm.data.mixture.dataset import SPLITS
from tinygrad_lm.data.synthetic.kinds import make_synthetic_source
from tinygrad_lm.errors import DataError

JOURNAL_INTERVAL = 2**25  # size of the records between two saves: a few seconds of work, which a kill would lose


class Pipeline:
    """Process everything that is not done according to the journal's `state`, and update the state.

    mixture: MixtureConfig; found: what find_inputs returns; out: the output folder
    """

    def __init__(self, mixture, found, out, tokenizer, state):
        self.mixture, self.found, self.out, self.tokenizer, self.state = mixture, found, out, tokenizer, state
        self.tokenizer_description = json.dumps(state["tokenizer"])
        self.signatures = {kind: SignatureStore(out, kind, entry) for kind, entry in state["signatures"].items()}
        self.writers = []

    def process_sources(self, executor, ahead, received, bar):
        """Process all sources, or stop at the first batch after a signal.

        ahead: the most batches in flight; received: the list of stop_signals; bar: ProgressBar
        """
        try:
            for number, source in enumerate(self.mixture.sources):
                if number < self.state["source"]:
                    self.open_writers(source)  # checks its files
                elif self.process_source(source, partial(map_in_order, executor, ahead), received, bar):
                    self.save(source=number + 1, file=0, record=0)
                else:
                    return
        finally:
            for writer in self.writers:
                writer.close()

    def process_source(self, source, map_batches, received, bar):
        """Process one source. Returns whether it is complete."""
        entry, since = self.state["sources"][source.name], 0
        for batch in (self.list_shards if source.shards else self.tokenize)(source, entry, map_batches):
            since += batch.size
            bar.update(source.name, batch.file, batch.within, entry)
            stop = bool(received)
            if stop or since >= JOURNAL_INTERVAL:
                self.save(file=batch.file, record=batch.record)
                since = 0
            if stop:
                return False
        return True

    def tokenize(self, source, entry, map_batches):
        """Read the records of a source and write its tokens. Yields each finished batch."""
        self.writers = train, val = self.open_writers(source)
        for batch, result in map_batches(process_batch, self.job(source), make_batches(self.items(source))):
            report.add_batch(entry["report"], result)
            kept = [document for document in result.documents if not self.is_duplicate(entry, document)]
            for writer in self.writers:
                writer.append([document for document in kept if document.held_out == (writer is val)])
            self.check_damage(source, entry["report"], ended=False)
            yield batch
        self.check_damage(source, entry["report"], ended=True)
        if not entry["train"]["documents"]:
            raise DataError(report.nothing_left_message(entry["report"], source.name, entry["val"]["documents"]))
        train.finish()
        val.finish()

    def list_shards(self, source, entry, map_batches):
        """Survey the existing token files of a source. Yields a batch for each."""
        files = [("train", path) for path in self.found[source.name]["shards"].values()]
        files += [("val", path) for path in self.found[source.name].get("validation_shards", {}).values()]
        sizes = [path.stat().st_size for _, path in files]
        todo = [Batch([path], sizes[i], i, 1, sizes[i]) for i, (_, path) in enumerate(files)]
        first = self.state["file"] + self.state["record"]
        for batch, [seen] in map_batches(survey_files, self.job(source), islice(todo, first, None)):
            split, path = files[batch.file]
            file = relpath(path.resolve(), self.out.resolve())  # ".." after a symbolic link leaves the link's target
            shard = {"file": file, "tokens": seen["tokens"], "sha256": seen["sha256"]}
            entry[split]["shards"].append(shard)
            for key in ("documents", "tokens", "bytes"):
                entry[split][key] += seen[key] or 0
            yield batch
        if not entry["train"]["tokens"]:
            raise DataError(f"source {source.name}: its token files contain no training tokens; name others")

    def items(self, source):
        """Yield (file number, record number, WorkItem) from the journal's place on."""
        if source.synthetic:
            count, seed, first = source.synthetic["documents"], source.synthetic.get("seed", 0), self.state["record"]
            texts = make_synthetic_source(source.synthetic).documents(count, seed, first)
            return items_from_texts(source.name, texts, first)
        paths = self.found[source.name]["files"]
        return items_from_files(paths, source.format, self.state["file"], self.state["record"], **source.options)

    def job(self, source):
        """The workers' description of a source."""
        return Job(
            out=str(self.out.resolve()),
            tokenizer=self.tokenizer_description,
            folder=str(self.mixture.folder.resolve()),
            validation=self.mixture.validation,
            clean=source.clean if source.files else None,
            synthetic=json.dumps(source.synthetic) if source.synthetic else None,
        )

    def is_duplicate(self, entry, document):
        """Whether an earlier document is like this one; if so, count it as removed."""
        kind = next((kind for kind, keys in document.signatures.items() if self.signatures[kind].seen(keys)), None)
        if kind is None:
            return False
        reason = "like an earlier document"
        removed = entry["report"]["removed"]
        report.count_removal(removed, f"{kind} duplicate", document.id, reason, document.excerpt, document.characters)
        return True

    def check_damage(self, source, counts, ended):
        """Raise DataError if more of the source is damaged than the mixture file allows."""
        size = sum(path.stat().st_size for path in self.found[source.name].get("files", {}).values())
        if too_damaged(counts["records"], counts["damaged"], size, counts["lost"], self.mixture.damage, ended):
            raise DataError(report.damage_message(counts, source.name, size, self.mixture.damage))

    def open_writers(self, source):
        """The ShardWriters of a source's two splits, with the files rewound to the journal's state."""
        if source.shards:
            return []
        size, entry = self.mixture.shard_tokens, self.state["sources"][source.name]
        folder, vocab_size = self.out / source.name, self.tokenizer.vocab_size
        return [ShardWriter(folder, split, vocab_size, size, entry[split]) for split in SPLITS]

    def save(self, **place):
        """Sync all output to disk, then save the journal."""
        for file in [*self.writers, *self.signatures.values()]:
            file.sync()
        self.state |= place
        journal.save_journal(self.out, self.state)
