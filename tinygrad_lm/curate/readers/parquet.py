"""Parquet, as for FineWeb: a table with a column that has one document per row."""

from pathlib import Path

from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record, require_library
from tinygrad_lm.errors import DataError

FIELD = "text"
ROWS = 256  # read at once, so that a row group need not fit into memory


def parquet_records(path, field=FIELD):
    """Yield the texts of a column as bytes, None for null. The unreadable rest of a row group is a Damaged."""
    require_library("pyarrow", "a Parquet file")
    import pyarrow as pa
    from pyarrow import parquet

    name, first = Path(path).name, 1
    errors = (pa.ArrowException, OSError, ValueError, MemoryError)  # what pyarrow raises for damaged files
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
    except errors as error:
        raise DataError(f"data file {path}: expected a Parquet file: {error}; download it again") from None
    with file:
        kinds = {field.name: field.type for field in file.schema_arrow}
        if not _is_text(kinds.get(field)):
            found = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
            raise DataError(
                f"data file {path}: expected a column {field} of strings, found {found or 'no column'}; name the one "
                'with the documents by field = "…" of the source'
            )
        if not file.metadata.num_rows:
            raise DataError(
                f"data file {path}: expected documents, found a table without rows; remove it from the list"
            )
        for group in range(file.metadata.num_row_groups):
            rows, row = file.metadata.row_group(group).num_rows, first
            try:
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[field], use_threads=False):
                    for content in batch.column(0).cast(pa.large_string()).cast(pa.large_binary()).to_pylist():
                        yield _record(f"{name}#{row}", content)
                        row += 1
                if row != first + rows:
                    raise ValueError(f"expected {rows:,} rows, found {row - first:,}")
            except errors as error:
                yield Damaged(
                    f"{name}#{row}",
                    f"row group {group + 1}, rows {first:,} to {first + rows - 1:,}: {error}",
                    Path(path).stat().st_size * max(0, first + rows - row) // file.metadata.num_rows,
                )
            first += rows


def _is_text(kind):
    """Whether a column's type is one of strings, which may be stored as views or as places in a dictionary."""
    from pyarrow import types

    if kind is not None and types.is_dictionary(kind):
        kind = kind.value_type
    return kind is not None and (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _record(id, content):
    if content is not None and len(content) > LARGEST_RECORD:
        return Damaged(id, f"a text of {len(content):,} bytes, more than {LARGEST_RECORD:,}")
    return Record(id, content)
