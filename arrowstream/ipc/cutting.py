"""Streams of record batches of any sizes, cut into record batches of about 1 MiB."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa

from arrowstream.errors import CorruptShardError
from arrowstream.ipc.marks import fill_marks, with_marks
from arrowstream.ipc.reading import open_file
from arrowstream.ipc.writing import Output, has_dictionary, with_shared_dictionaries

#: Bytes of a record batch, about: the unit of range reads and of the finest shuffle.
BATCH_BYTES = 1 << 20
# Rows are sized by the first of them, and again when they turn out to be much larger further on.
_SAMPLE_BYTES = 4 * BATCH_BYTES
_LARGEST_BATCH_BYTES = 16 * BATCH_BYTES
# A file of so many is a terabyte: an index that claims more rows is wrong.
_MOST_BATCHES = 1 << 20


def write_batches(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, num_rows: int, content: str
) -> None:
    """Write a stream of record batches of any sizes as one Arrow IPC file with record batches of about 1 MiB.

    Memory stays within a few of them, however long the stream is; but dictionary columns, which share one dictionary
    in a file, are collected first.

    Args:
        path: The file to make.
        schema: Of all the batches.
        batches: The rows in their order. They may be slices of something larger.
        num_rows: How many rows there have to be.
        content: Identity of the rows.

    Raises:
        CorruptShardError: There are more rows, or fewer.
    """
    if has_dictionary(schema):
        batches = with_shared_dictionaries(schema, list(batches))
    rest = iter(batches)
    sample: list[pa.RecordBatch] = []
    sampled_bytes = 0
    while sampled_bytes < _SAMPLE_BYTES and (batch := next(rest, None)) is not None:
        sample.append(batch)
        sampled_bytes += batch.nbytes
    rows_per_batch = _rows_per_batch(sample)
    chunks = chain(sample, rest)
    sample = []
    largest_bytes = _LARGEST_BATCH_BYTES
    while True:
        oversized = _write_cut(
            path,
            schema,
            chunks,
            rows_per_batch=rows_per_batch,
            largest_bytes=largest_bytes,
            num_rows=num_rows,
            content=content,
        )
        if oversized is None:
            return
        # Rows became much larger: cut what was written into smaller batches, and go on.
        written = open_file(path)
        path.unlink()
        before = (written.get_batch(number) for number in range(written.num_record_batches))
        rows_per_batch = min(rows_per_batch // 2, _rows_per_batch(oversized))
        # One huge row may lie among small ones, and must not have the others cut ever smaller.
        largest_bytes = min(4 * largest_bytes, 1 << 30)
        chunks = chain(before, oversized, chunks)


def recut(
    chunks: Iterable[pa.RecordBatch], rows_per_batch: int, *, largest_bytes: float = math.inf
) -> Iterator[pa.RecordBatch]:
    """Cut a stream of record batches so that every one has the same number of rows but the last.

    Raises:
        _OversizedBatchError: One would be larger than ``largest_bytes``; it has more rows than one.
    """
    parts: list[pa.RecordBatch] = []
    missing, num_bytes = rows_per_batch, 0
    for chunk in chunks:
        start = 0
        while start < chunk.num_rows:
            part = chunk.slice(start, missing)
            parts.append(part)
            start += part.num_rows
            missing -= part.num_rows
            num_bytes += part.nbytes
            if num_bytes > largest_bytes and rows_per_batch - missing > 1:
                raise _OversizedBatchError([*parts, chunk.slice(start)])
            if not missing:
                yield _joined(parts)
                parts, missing, num_bytes = [], rows_per_batch, 0
    if parts:
        yield _joined(parts)


class _OversizedBatchError(Exception):
    """Rows that were taken from a stream and are too large for one record batch."""

    def __init__(self, parts: list[pa.RecordBatch]) -> None:
        super().__init__()
        self.parts = parts


def _write_cut(
    path: Path,
    schema: pa.Schema,
    chunks: Iterator[pa.RecordBatch],
    *,
    rows_per_batch: int,
    largest_bytes: int,
    num_rows: int,
    content: str,
) -> list[pa.RecordBatch] | None:
    """Write record batches of one number of rows, up to one that would be too large.

    Returns:
        The rows of that one, if there was one: they are not in the file.
    """
    num_batches = -(-num_rows // rows_per_batch)
    if num_batches > _MOST_BATCHES:
        raise CorruptShardError(f"the index says {num_rows} rows; that is more than a shard can have")
    found = 0
    with Output(path, with_marks(schema, min(rows_per_batch, num_rows), num_batches, content)) as output:
        try:
            for batch in recut(chunks, rows_per_batch, largest_bytes=largest_bytes):
                found += batch.num_rows
                if found > num_rows:
                    raise CorruptShardError(f"holds more than the {num_rows} rows that the index says")
                output.write(batch)
        except _OversizedBatchError as error:
            return error.parts
    if found != num_rows:
        raise CorruptShardError(f"holds {found} rows, the index says {num_rows}")
    fill_marks(path, schema, output.ends, content)
    return None


def _rows_per_batch(sample: Sequence[pa.RecordBatch]) -> int:
    """Give the power of two of rows like these that comes nearest to a record batch, so that it can be halved."""
    num_rows, num_bytes = sum(batch.num_rows for batch in sample), sum(batch.nbytes for batch in sample)
    fitting = max(num_rows, 1) * BATCH_BYTES / max(num_bytes, 1)
    return int(2 ** min(max(round(math.log2(fitting)), 0), 20))


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
