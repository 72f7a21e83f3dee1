"""Group records into batches and map a function over them in workers, in order and in bounded memory."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from tinygrad_lm.curate.pipeline.worker import WorkItem
from tinygrad_lm.curate.readers.formats import format_of
from tinygrad_lm.curate.readers.record import Damaged, Record

BATCH_SIZE = 2**20  # characters or bytes: large enough to hide the cost of sending, small enough for several in memory
RECORD_OVERHEAD = 100  # counted per record, so that a batch of empty records ends too


@dataclass
class Batch:
    """WorkItems for a worker, and the place after them: `record` records of file number `file` are consumed."""

    items: list = field(default_factory=list)
    size: int = 0
    file: int = 0
    record: int = 0
    within: int = 0  # size of the records read from this file in this run
    held: int = 0  # size of the items in memory


def make_batches(found, size=None):
    """Yield batches of about `size`. found: (file number, record number, WorkItem)s"""
    batch = Batch()
    for file, record, item in found:
        content = 0 if isinstance(item.found, Damaged) else content_size(item.found.content)
        batch.items.append(item)
        batch.size += content + RECORD_OVERHEAD
        batch.held = batch.size
        batch.within = content + (batch.within if batch.file == file else 0)
        batch.file, batch.record = file, record
        if batch.size >= (size or BATCH_SIZE):
            yield batch
            batch = Batch(file=file, within=batch.within)
    if batch.items:
        yield batch


def content_size(content):
    """The size of a record's content: a text, bytes, or a tuple of these."""
    return sum(map(content_size, content)) if isinstance(content, tuple) else len(content or b"")


def items_from_files(paths, format, file=0, record=0, **options):
    """Yield (file number, record number, WorkItem) of all records from a place on.

    paths: {name: Path}; options: of the format
    """
    for number, (name, path) in islice(enumerate(paths.items()), file, None):
        kind = format_of(path, format, **options)
        first = record if number == file else 0
        for count, found in islice(enumerate(kind.read_records(path), 1), first, None):
            yield number, count, WorkItem(name, kind.name, found)


def items_from_texts(name, texts, record=0):
    """Yield the same for generated texts; `record` of them came before."""
    for count, text in enumerate(texts, record + 1):
        yield 0, count, WorkItem(name, None, Record(f"{name}#{count}", text))


def map_in_order(executor, ahead, function, argument, batches):
    """Yield (batch, function(argument, batch.items)) for each batch, in order.

    At most `ahead` batches are in flight, and fewer if they hold more than 2 · BATCH_SIZE each on average, because a
    record can have 64 MiB.
    """
    waiting, held = deque(), 0

    def first():
        nonlocal held
        batch, future = waiting.popleft()
        held -= batch.held
        return batch, future.result()

    try:
        for batch in batches:
            while waiting and (len(waiting) == ahead or held + batch.held > ahead * 2 * BATCH_SIZE):
                yield first()
            waiting.append((batch, executor.submit(function, argument, batch.items)))
            held += batch.held
        while waiting:
            yield first()
    finally:
        for _, future in waiting:
            future.cancel()
