"""The progress bar of a preparation, in bytes of its input files. What a program draws counts by its expected size."""

from itertools import accumulate

from tinygrad_lm.curate.output.report import SPLITS
from tinygrad_lm.curate.pipeline.inputs import synthetic_source


class ProgressBar:
    """found: {source: {kind: {name: Path}}}; state: the journal's, so that rate and time left are of what is to do."""

    def __init__(self, mixture, found, state, shown):
        from tqdm import tqdm

        self.places, self.mean, total = {}, {}, 0  # {source: where its files begin in the row of all, and the end}
        for source in mixture.sources:
            sizes = [path.stat().st_size for paths in found[source.name].values() for path in paths.values()]
            if source.synthetic:
                entropy = synthetic_source(source.synthetic).entropy
                self.mean[source.name] = entropy.document / entropy.character  # characters of a document
                sizes = [round(source.synthetic["documents"] * self.mean[source.name])]
            self.places[source.name] = list(accumulate(sizes, initial=total))
            total = self.places[source.name][-1]
        done, begun = state["source"], total
        if done < len(mixture.sources):
            name = mixture.sources[done].name
            begun = self.place(name, state["file"], 0, state["sources"][name])
        hidden = None if shown else True  # None: hidden unless on a terminal
        self.bar = tqdm(total=total, initial=begun, unit="B", unit_scale=True, dynamic_ncols=True, disable=hidden)

    def place(self, source, file, within, entry):
        """Where one is in the row of all files. within: Batch's; of a compressed file it may be more than its size."""
        first, end = self.places[source][file : file + 2]
        if source in self.mean:
            within = round(both_splits(entry, "documents") * self.mean[source])
        return min(first + within, end)

    def at(self, source, file, within, entry):
        """A batch is done. entry: the journal's of the source."""
        documents, tokens = both_splits(entry, "documents"), both_splits(entry, "tokens")
        self.bar.set_postfix_str(f"{source}: {documents:,} documents, {tokens:,} tokens", refresh=False)
        self.bar.update(self.place(source, file, within, entry) - self.bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def both_splits(entry, key):
    return sum(entry[split][key] for split in SPLITS)
