"""Turn a batch of records into tokens: extract text, clean, tokenize. The result depends on the arguments alone.

So any executor can run it, anywhere, in any order.
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
from tinygrad_lm.curate.readers.formats import FORMATS
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.data.mixture.mixture_file import CleaningConfig
from tinygrad_lm.data.shards import token_dtype
from tinygrad_lm.data.synthetic.kinds import make_synthetic_source
from tinygrad_lm.data.synthetic.synthetic_source import SyntheticSource
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.data.tokenizers.vocabulary import Tokenizer
from tinygrad_lm.errors import DataError

LOCK = Lock()  # threads share one set of tools


@dataclass(frozen=True)
class Job:
    """What a worker needs to know about a source; it can be pickled and sent to another machine with the same files."""

    out: str  # the folder with the tokenizer's files
    tokenizer: str  # its description as JSON
    folder: str  # the paths in `clean` are relative to it
    validation: float
    clean: CleaningConfig | None  # None for a synthetic source, whose distribution must not change
    synthetic: str | None = None  # its table as JSON


class WorkItem(NamedTuple):
    """A record for a worker."""

    file: str
    format: str | None
    found: object  # Record or Damaged


class TokenizedDocument(NamedTuple):
    """A tokenized text from a worker."""

    id: str
    held_out: bool
    size: int  # in bytes of UTF-8
    characters: int
    tokens: bytes  # as in a token file, end-of-text first
    nats: float | None  # −ln P(text) of a synthetic source
    signatures: dict  # {kind: bytes}
    excerpt: str


class Tools(NamedTuple):
    """What a worker uses for a source."""

    tokenizer: Tokenizer
    cleaner: Cleaner | None
    source: SyntheticSource | None


@dataclass
class BatchResult:
    """The documents and counts of a batch."""

    records: int = 0
    characters: int = 0
    pieces: int = 0  # additional documents from cutting
    marked: int = 0  # documents that hold the text of the tokenizer's end-of-text token
    damaged: list = field(default_factory=list)  # (file, Damaged)
    removed: dict = field(default_factory=dict)  # see report.count_removal
    documents: list = field(default_factory=list)


def process_batch(job, items):
    """The BatchResult of a list of WorkItems, in their order."""
    with LOCK:
        tools = load_tools(job)
    result = BatchResult(len(items))
    for file, format, found in items:
        if not isinstance(found, Damaged):
            try:
                documents = make_documents(job, tools, result, found, format)
                result.documents += documents
                result.pieces += max(0, len(documents) - 1)
                continue
            except Unreadable as error:
                found = Damaged(*error.args)
        result.damaged.append((file, found))
    return result


class Unreadable(Exception):
    """A record without a valid text or tokens: (id, reason)."""


def make_documents(job, tools, result, record, format):
    """The TokenizedDocuments of a record; what was removed is counted in the result."""
    try:
        text = FORMATS[format].extract_text(record.content) if format else record.content
    except (ValueError, DataError) as error:
        raise Unreadable(record.id, str(error)) from error
    if not text:
        count_removal(result.removed, "no text", record.id, "the record has no text", "")
        return []
    result.characters += len(text)
    texts = (text,)
    if tools.cleaner:
        cleaned = tools.cleaner(text)
        texts = cleaned.texts
        for number, removal in enumerate(cleaned.removed, start=1):
            whole = not texts and number == len(cleaned.removed)  # earlier steps removed parts
            count_removal(result.removed, removal.step, record.id, removal.reason, removal.text, documents=int(whole))
        if not texts:
            return []
        text = normalise(text) if cleaned.removed else texts[0]  # equal without removals, and faster
    result.marked += tools.tokenizer.decode([tools.tokenizer.eot]) in text
    held_out = is_held_out(text.encode(), job.validation)  # one decision for all pieces of a text
    return [make_document(job, tools, record.id, piece, held_out) for piece in texts]


def make_document(job, tools, id, text, held_out):
    """Tokenize a text."""
    deduplicate = job.clean.deduplicate if job.clean else "none"
    try:
        ids = tools.tokenizer.encode(text)
    except ValueError as error:  # tiktoken's expression fails on a million consecutive spaces
        raise Unreadable(id, f"the tokenizer failed: {error}") from error
    ids = ids.astype(token_dtype(tools.tokenizer.vocab_size))
    return TokenizedDocument(
        id,
        held_out,
        len(text.encode()),
        len(text),
        ids.dtype.type(tools.tokenizer.eot).tobytes() + ids.tobytes(),
        tools.source.nats(text) if tools.source else None,
        {kind: signature(kind, text) for kind in SIGNATURE_KINDS[deduplicate]},
        text[:EXCERPT],
    )


def is_held_out(content, share):
    """Whether a record's text is for validation: a hash of its bytes decides, independent of order and other texts."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) < share * 2**64


@lru_cache(maxsize=1)  # sources are processed one after another, and a cleaner may be large
def load_tools(job):
    """The Tools of a job."""
    source = job.synthetic and make_synthetic_source(json.loads(job.synthetic))
    return Tools(load_tokenizer(job.tokenizer, job.out), job.clean and Cleaner(job.clean, job.folder), source)


@lru_cache(maxsize=1)
def load_tokenizer(description, where):
    """The tokenizer of a JSON description."""
    return tokenizer_from_dict(json.loads(description), where)
