"""Where one shard ends and the next begins."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.ipc import BATCH_BYTES, recut

# What an Arrow IPC file adds to the buffers of its rows, at most: in all, a record batch, and a buffer.
_FILE_OVERHEAD, _BATCH_OVERHEAD, _BUFFER_OVERHEAD = 2048, 512, 40
# A chunk that is a smaller part of a shard is not cut to fill it up.
_PARTS_OF_SHARD = 32
_ROWS_WITH_OWN_DICTIONARY = 8192


class ShardCutter:
    """Collects record batches of any size and gives the rows of one shard after the other.

    Args:
        schema: Of all record batches.
        size_limit: Bytes that a shard's Arrow IPC file takes at most without compression; None: no limit.
    """

    def __init__(self, schema: pa.Schema, size_limit: int | None) -> None:
        self._schema = schema
        self._limit = size_limit
        self._fixed_bytes = _FILE_OVERHEAD + 2 * schema.serialize().size
        self._batch_bytes = _BATCH_OVERHEAD + _BUFFER_OVERHEAD * sum(map(_num_buffers, schema.types))
        self._chunks: list[pa.RecordBatch] = []
        self._num_bytes = 0

    def add(self, chunk: pa.RecordBatch) -> Iterator[list[pa.RecordBatch]]:
        """Take rows in, and give the shards that are full now.

        Yields:
            The record batches of a shard, every one of the same number of rows but the last.
        """
        for part in _with_own_dictionaries(chunk):
            yield from self._add(part)

    def _add(self, chunk: pa.RecordBatch) -> Iterator[list[pa.RecordBatch]]:
        while chunk.num_rows:
            rows = self._rows_that_fit(chunk)
            if rows == chunk.num_rows:
                self._keep(chunk)
                return
            if rows:
                self._keep(chunk.slice(0, rows))
            yield self.finish()
            chunk = chunk.slice(rows)

    def finish(self) -> list[pa.RecordBatch]:
        """Give the rows that are left, as the record batches of a last shard; empty when there are none."""
        chunks, self._chunks = self._chunks, []
        num_bytes, self._num_bytes = self._num_bytes, 0
        return _rebatch(chunks, num_bytes)

    def _keep(self, chunk: pa.RecordBatch) -> None:
        self._chunks.append(chunk)
        self._num_bytes += _num_bytes(chunk)

    def _rows_that_fit(self, chunk: pa.RecordBatch) -> int:
        """Count the rows at the front of a chunk that the shard still has room for."""
        if self._limit is None or self._file_bytes(self._num_bytes + _num_bytes(chunk)) <= self._limit:
            return int(chunk.num_rows)
        if self._chunks and chunk.nbytes <= self._limit // _PARTS_OF_SHARD:
            return 0  # what was cut would have to be copied, together with every chunk behind it
        fit, beyond = 0, chunk.num_rows
        while beyond - fit > 1:
            middle = (fit + beyond) // 2
            if self._file_bytes(self._num_bytes + _num_bytes(chunk.slice(0, middle))) <= self._limit:
                fit = middle
            else:
                beyond = middle
        # A sample that is larger than a shard may be has one of its own.
        return fit if fit or self._chunks else 1

    def _file_bytes(self, num_bytes: int) -> int:
        num_batches = num_bytes // BATCH_BYTES + 2
        return int(self._fixed_bytes + num_bytes + num_batches * self._batch_bytes)


def _rebatch(chunks: list[pa.RecordBatch], num_bytes: int) -> list[pa.RecordBatch]:
    num_rows = sum(chunk.num_rows for chunk in chunks)
    if not num_rows:
        return []
    if _are_batches(chunks):
        return chunks
    num_batches = max(1, round(num_bytes / BATCH_BYTES))
    rows_per_batch = -(-num_rows // num_batches)
    return list(recut(chunks, rows_per_batch))


def _are_batches(chunks: list[pa.RecordBatch]) -> bool:
    """Tell whether chunks have the size that record batches have to have, so that nothing needs to be copied."""
    first = chunks[0].num_rows
    alike = all(chunk.num_rows == first for chunk in chunks[:-1]) and chunks[-1].num_rows <= first
    return alike and bool(0.75 * BATCH_BYTES <= chunks[0].nbytes <= 1.25 * BATCH_BYTES)


def _with_own_dictionaries(chunk: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a chunk with dictionary columns into parts whose dictionaries hold what the part uses, and no more.

    A slice shares the dictionary of the whole, however large: written shard by shard it would be written every time.
    """
    numbers = [number for number, kind in enumerate(chunk.schema.types) if pa.types.is_dictionary(kind)]
    if not numbers:
        yield chunk
        return
    for start in range(0, chunk.num_rows, _ROWS_WITH_OWN_DICTIONARY):
        part = chunk.slice(start, _ROWS_WITH_OWN_DICTIONARY)
        columns = [_compacted(column) if number in numbers else column for number, column in enumerate(part.columns)]
        yield pa.record_batch(columns, schema=chunk.schema)


def _compacted(column: pa.DictionaryArray) -> pa.DictionaryArray:
    used = np.unique(column.indices.drop_null().to_numpy())  # in the order of the dictionary, which may have a meaning
    indices = pc.index_in(column.indices, pa.array(used, column.type.index_type)).cast(column.type.index_type)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(pa.array(used)), ordered=column.type.ordered)


def _num_bytes(chunk: pa.RecordBatch) -> int:
    """Count the bytes of a chunk, joined with others: one null among them gives all rows a validity bitmap."""
    bitmap = chunk.num_rows // 8 + 1
    return int(chunk.nbytes + sum(bitmap for column in chunk.columns if not column.null_count))


def _num_buffers(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _num_buffers(kind.storage_type)
    own = 3  # validity, offsets, values: no Arrow type that a shard holds has more of its own
    return own + sum(_num_buffers(kind.field(number).type) for number in range(kind.num_fields))
