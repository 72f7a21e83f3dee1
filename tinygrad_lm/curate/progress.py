"""The progress bar of a preparation, in bytes of its input files."""

from itertools import accumulate


class Bar:
    """found: {source: {kind: {name: Path}}}."""

    def __init__(self, found, shown):
        from tqdm import tqdm

        self.places, total = {}, 0  # {source: where each of its files begins in the row of all files, and the end}
        for name, kinds in found.items():
            sizes = [path.stat().st_size for paths in kinds.values() for path in paths.values()]
            self.places[name] = list(accumulate(sizes, initial=total))
            total = self.places[name][-1]
        hidden = None if shown else True  # None: hidden unless on a terminal
        self.bar = tqdm(total=total, unit="B", unit_scale=True, dynamic_ncols=True, disable=hidden)

    def at(self, source, file, within, documents, tokens):
        """`within`: how much of this file's content was read; of a compressed one it may be more than its size."""
        first, end = (self.places[source] * 2)[file : file + 2]  # one that is made by a program has no files
        self.bar.set_postfix_str(f"{source}: {documents:,} documents, {tokens:,} tokens", refresh=False)
        self.bar.update(min(first + within, end) - self.bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()
