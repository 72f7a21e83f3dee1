"""The progress bar of `prepare`, in bytes of input files; synthetic sources count with their expected size."""

from itertools import accumulate

from tinygrad_lm.data.mixture.dataset import SPLITS
from tinygrad_lm.data.synthetic.kinds import make_synthetic_source
from tinygrad_lm.programs import progress_bar


class ProgressBar:
    """Show how much of the input is processed; start at the journal's place, so that the rate is that of this run.

    found: what find_inputs returns; state: the journal's
    """

    def __init__(self, mixture, found, state, shown):
        self.places, self.mean, total = {}, {}, 0  # {source: where its files begin, and the end}
        for source in mixture.sources:
            sizes = [path.stat().st_size for paths in found[source.name].values() for path in paths.values()]
            if source.synthetic:
                entropy = make_synthetic_source(source.synthetic).entropy
                self.mean[source.name] = entropy.document / entropy.character  # characters per document
                sizes = [round(source.synthetic["documents"] * self.mean[source.name])]
            self.places[source.name] = list(accumulate(sizes, initial=total))
            total = self.places[source.name][-1]
        done, begun = state["source"], total
        if done < len(mixture.sources):
            name = mixture.sources[done].name
            begun = self.position(name, state["file"], 0, state["sources"][name])
        hidden = {} if shown else {"disable": True}
        self.bar = progress_bar(total=total, initial=begun, unit="B", unit_scale=True, **hidden)

    def position(self, source, file, within, entry):
        """Position among all files. within: Batch.within, which can exceed the size of a compressed file"""
        first, end = self.places[source][file : file + 2]
        if source in self.mean:
            within = round(both_splits(entry, "documents") * self.mean[source])
        return min(first + within, end)

    def update(self, source, file, within, entry):
        """Show a finished batch. entry: the source's in the journal"""
        documents, tokens = both_splits(entry, "documents"), both_splits(entry, "tokens")
        self.bar.set_postfix_str(f"{source}: {documents:,} documents, {tokens:,} tokens", refresh=False)
        self.bar.update(self.position(source, file, within, entry) - self.bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def both_splits(entry, key):
    return sum(entry[split][key] for split in SPLITS)
