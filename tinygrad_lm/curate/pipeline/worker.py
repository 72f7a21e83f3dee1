"""What a worker does with a batch of records: text, cleaning, tokens. It depends on nothing but its arguments.

So any executor may run it, anywhere, in any order, and the shards are the same.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

from tinygrad_lm.curate.cleaning.cleaner import Cleaner
from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS, signature
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.output.report import EXCERPT, count_removal
from tinygrad_lm.curate.pipeline.inputs import synthetic_source
from tinygrad_lm.curate.readers.formats import FORMATS
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.data.mixture.mixture_file import CleaningConfig
from tinygrad_lm.data.shards import token_dtype
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.data.tokenizers.vocabulary import utf8
from tinygrad_lm.errors import DataError

LOCK = Lock()  # threads wait for one set of tools instead of making one each


@dataclass(frozen=True)
class Job:
    """All that a worker has to know of a source, fit to be sent to another machine with the same files."""

    out: str  # the folder in which the tokenizer's files are
    tokenizer: str  # its description, JSON
    folder: str  # the one that the paths in `clean` are seen from
    validation: float
    clean: CleaningConfig | None  # None for a synthetic source: what is drawn from a distribution stays as it is drawn
    synthetic: str | None = None  # its settings, JSON


class WorkItem(NamedTuple):
    """A record on its way to a worker."""

    file: str
    format: str | None
    found: object  # Record or Damaged


class TokenizedDocument(NamedTuple):
    """A text on its way back."""

    id: str
    held_out: bool
    size: int  # in bytes of UTF-8
    characters: int
    tokens: bytes  # as they lie in a token file, end-of-text first
    nats: float | None  # −ln P(text), where its source is known
    signatures: dict  # {kind: bytes}
    excerpt: str


@dataclass
class BatchResult:
    """What became of a batch."""

    records: int = 0
    characters: int = 0
    pieces: int = 0  # how many more documents there are than records, because some were cut
    damaged: list = field(default_factory=list)  # (file, Damaged)
    removed: dict = field(default_factory=dict)  # report.count's
    documents: list = field(default_factory=list)


def process_batch(job, items):
    """The Worked of a batch of Items, in their order."""
    with LOCK:
        tokenizer, cleaner, source = load_tools(job)
    worked = BatchResult(len(items))
    for file, format, found in items:
        if not isinstance(found, Damaged):
            try:
                left = make_documents(job, worked, tokenizer, cleaner, source, found, format)
                worked.documents += left
                worked.pieces += max(0, len(left) - 1)
                continue
            except Unreadable as error:
                found = Damaged(*error.args)
        worked.damaged.append((file, found))
    return worked


class Unreadable(Exception):
    """A record that no text or no tokens can be made of: (id, reason)."""


def make_documents(job, worked, tokenizer, cleaner, source, record, format):
    """The Documents that are left of a record; what was removed is counted."""
    try:
        text = FORMATS[format].extract_text(record.content) if format else record.content
        if text:
            utf8(text)
    except (ValueError, DataError) as error:
        raise Unreadable(record.id, str(error)) from error
    if not text:
        count_removal(worked.removed, "no text", record.id, "there is none in it", "")
        return []
    worked.characters += len(text)
    if cleaner is None:
        texts = (text,)
    else:
        cleaned = cleaner(text)
        texts = cleaned.texts
        for number, removal in enumerate(cleaned.removed, start=1):
            all_of_it = not texts and number == len(cleaned.removed)  # what came before the last took parts
            count_removal(
                worked.removed, removal.step, record.id, removal.reason, removal.text, documents=int(all_of_it)
            )
        if not texts:
            return []
        text = normalise(text) if cleaned.removed else texts[0]  # which is the same, and saves the time
    out = is_held_out(text.encode(), job.validation)  # all pieces of a text are on one side
    return [make_document(job, tokenizer, source, record.id, piece, out) for piece in texts]


def make_document(job, tokenizer, source, id, text, out):
    kind = job.clean.deduplicate if job.clean else "none"
    ids = encode_text(tokenizer, id, text).astype(token_dtype(tokenizer.vocab_size))
    return TokenizedDocument(
        id,
        out,
        len(text.encode()),
        len(text),
        ids.dtype.type(tokenizer.eot).tobytes() + ids.tobytes(),
        source.nats(text) if source else None,
        {kind: signature(kind, text) for kind in SIGNATURE_KINDS[kind]},
        text[:EXCERPT],
    )


def is_held_out(content, share):
    """Is a record's text one to validate on? Its own bytes decide, so neither order nor other records matter."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) < share * 2**64


def encode_text(tokenizer, id, text):
    """The ids of a text, or Unreadable."""
    try:
        return tokenizer.encode(text)
    except ValueError as error:  # tiktoken's expression has no end of a million spaces in a row
        raise Unreadable(id, f"the tokenizer cannot cut it: {error}") from error


@lru_cache(maxsize=1)  # sources come one after the other, and what cleans one may be large
def load_tools(job):
    """(tokenizer, cleaner, synthetic source) of a job."""
    source = job.synthetic and synthetic_source(json.loads(job.synthetic))
    return load_tokenizer(job.tokenizer, job.out), job.clean and Cleaner(job.clean, job.folder), source


@lru_cache(maxsize=1)
def load_tokenizer(description, where):
    return tokenizer_from_dict(json.loads(description), where)
