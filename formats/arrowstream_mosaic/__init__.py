"""The row-wise ``.mds`` shards of mosaicml-streaming: read as they are, and written so that it reads them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from arrowstream import ipc
from arrowstream.columns import Encoding, encoding_of, parse_encoding
from arrowstream.errors import CorruptShardError, EncodingError, UnknownEncodingError
from arrowstream.format import Format, WriteSettings, WrittenShard
from arrowstream.index import IntArray, Shard
from arrowstream_mosaic.cells import BadValueError, ends_of
from arrowstream_mosaic.encode import Rows
from arrowstream_mosaic.layout import value_bytes
from arrowstream_mosaic.rows import RowFile
from arrowstream_mosaic.values import decode

_BATCH_BYTES = 1 << 20
_MAX_BYTES = (1 << 32) - 1  # offsets have 32 bits
_CODECS = frozenset({"br", "bz2", "gz", "snappy", "zstd"})


class Mosaic(Format):
    """Rows one behind the other, found by a table of offsets; wrapped as a whole where they are compressed."""

    name: ClassVar[str] = "mosaic"
    suffix: ClassVar[str] = ".mds"
    index_version: ClassVar[int] = 2
    holds_nulls: ClassVar[bool] = False

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Turn rows into columns, about 1 MiB at a time."""
        encodings = _encodings(source, shard)
        sizes = _column_sizes(source, shard, encodings)
        batches = _Batches(source, RowFile(source, shard.num_samples), encodings, sizes)
        ipc.write_file(target, batches.schema, batches, content=shard.content)

    def options_for(self, schema: pa.Schema, settings: WriteSettings) -> Mapping[str, Any]:
        """Give what a file says of itself: its columns in the order in which they lie in a row, and the settings.

        Raises:
            EncodingError: mosaicml-streaming has no encoding for a column.
            ValueError: It has no such compression, or no shards as large as that.
        """
        codec = (settings.compression or "").partition(":")[0]
        if codec and codec not in _CODECS:
            raise ValueError(f"compression {codec!r}: mosaicml-streaming has only {', '.join(sorted(_CODECS))}")
        if settings.size_limit is not None and settings.size_limit > _MAX_BYTES:
            raise ValueError(f"size_limit is {settings.size_limit}; a shard of mosaicml-streaming is below 4 GiB")
        sizes = {}
        for column in sorted(schema, key=lambda column: column.name):
            try:
                sizes[column.name] = value_bytes(encoding_of(column).name)
            except UnknownEncodingError as error:
                raise EncodingError(f"column {column.name!r}: {error}") from error
        return {
            "column_sizes": sizes,
            "compression": settings.compression,
            "hashes": list(settings.hashes),
            "size_limit": settings.size_limit,
        }

    def file_overhead(self, schema: pa.Schema, options: Mapping[str, Any]) -> int:
        """Count the number of rows, the offset of the first one, and what the file says of itself."""
        return 8 + len(_config(schema, options))

    def row_bytes(self, batch: pa.RecordBatch, options: Mapping[str, Any], first_row: int) -> IntArray:
        """Count sizes, values and offset of each row, as mosaicml-streaming's writer does."""
        return Rows(batch, options["column_sizes"], first_row).sizes + 4

    def write(
        self,
        path: Path,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        *,
        codec: str | None,
        level: int | None,
        options: Mapping[str, Any],
    ) -> WrittenShard:
        """Write the table of offsets, and the rows record batch by record batch."""
        del codec, level
        config = _config(schema, options)
        parts = [Rows(batch, options["column_sizes"]) for batch in batches]
        sizes = np.concatenate([np.empty(0, np.int64), *(part.sizes for part in parts)])
        offsets = 8 + 4 * len(sizes) + len(config) + ends_of(sizes)
        if offsets[-1] > _MAX_BYTES:
            raise EncodingError(
                f"{path}: would be {offsets[-1]} bytes long, and a shard of mosaicml-streaming is below 4 GiB; "
                f"give a size_limit"
            )
        with path.open("wb") as file:
            file.write(np.array([len(sizes)], "<u4").tobytes() + offsets.astype("<u4").tobytes() + config)
            for part in parts:
                file.write(part.joined())
        return WrittenShard(raw_bytes=path.stat().st_size, content="")


def _config(schema: pa.Schema, options: Mapping[str, Any]) -> bytes:
    """Give the JSON in front of the rows, byte for byte that of mosaicml-streaming."""
    sizes: Mapping[str, int | None] = options["column_sizes"]
    return json.dumps(
        {
            "column_encodings": [encoding_of(schema.field(name)).name for name in sizes],
            "column_names": list(sizes),
            "column_sizes": list(sizes.values()),
            "compression": options["compression"],
            "format": "mds",
            "hashes": options["hashes"],
            "size_limit": options["size_limit"],
            "version": 2,
        },
        sort_keys=True,
    ).encode()


class _Batches(Sequence[pa.RecordBatch]):
    """The record batches of a shard, each made when it is asked for, so that only one is in memory."""

    def __init__(
        self, source: Path, rows: RowFile, encodings: Mapping[str, Encoding], sizes: Mapping[str, int | None]
    ) -> None:
        self._source = source
        self._rows = rows
        self._encodings = encodings
        self._sizes = sizes
        self._num_rows = len(rows.offsets) - 1
        num_bytes = int(rows.offsets[-1] - rows.offsets[0])
        self._rows_per_batch = max(1, -(-self._num_rows // max(1, round(num_bytes / _BATCH_BYTES))))
        self._first: pa.RecordBatch | None = None  # asked for twice
        self.schema = pa.schema([encoding.field(name) for name, encoding in encodings.items()])

    def __len__(self) -> int:
        return (self._num_rows + self._rows_per_batch - 1) // self._rows_per_batch

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        if number:
            self._first = None
            return self._make(number)
        if self._first is None:
            self._first = self._make(number)
        return self._first

    def _make(self, number: int) -> pa.RecordBatch:
        first = number * self._rows_per_batch
        stop = min(first + self._rows_per_batch, self._num_rows)
        where = ""
        try:
            cells = self._rows.cells(first, stop, self._sizes)
            columns = []
            for name, encoding in self._encodings.items():
                where = f" of the column {name!r} ({encoding.name})"
                columns.append(decode(cells[name], encoding))
        except BadValueError as error:
            raise CorruptShardError(f"{self._source}: row {first + error.row}{where} {error.reason}") from error
        return pa.record_batch(columns, schema=self.schema)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (self[number] for number in range(len(self)))


def _encodings(source: Path, shard: Shard) -> dict[str, Encoding]:
    if not shard.columns:
        raise CorruptShardError(f"{source}: the index names no columns of it")
    try:
        return {name: parse_encoding(spec) for name, spec in shard.columns.items()}
    except UnknownEncodingError as error:
        raise UnknownEncodingError(f"{source}: {error}") from error


def _column_sizes(source: Path, shard: Shard, encodings: Mapping[str, Encoding]) -> dict[str, int | None]:
    """Give the bytes of each column's values in the order in which they lie in a row.

    Raises:
        CorruptShardError: The index says other sizes than the encodings have.
        UnknownEncodingError: mosaicml-streaming has no such encoding.
    """
    sizes = {name: value_bytes(encoding.name) for name, encoding in encodings.items()}
    said = shard.options.get("column_sizes", sizes)
    if not isinstance(said, Mapping) or dict(said) != sizes:
        raise CorruptShardError(f"{source}: the index says that its values take {said}, its encodings {sizes}")
    return {name: sizes[name] for name in said}
