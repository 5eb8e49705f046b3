"""Parquet: any file that pyarrow reads, and a writer whose row groups are arrowstream's record batches."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from arrowstream import ipc
from arrowstream.columns import encoding_of
from arrowstream.errors import CorruptShardError, EncodingError, UnknownEncodingError
from arrowstream.foreign import Projection, declared_encoding, describe_columns
from arrowstream.format import Description, Format, WriteSettings, WrittenShard
from arrowstream.index import Shard

T = TypeVar("T")

# How much is decoded at a time. The footer tells the bytes of a row before decoding, and values that a dictionary
# repeats take more afterwards: hence both limits.
_BYTES_AT_ONCE = 4 << 20
_ROWS_AT_ONCE = 8192
_CODECS = {"zstd": "zstd", "lz4": "lz4", "gz": "gzip", "br": "brotli", "snappy": "snappy"}


class Parquet(Format):
    """Parquet files; ``zstd``, ``lz4``, ``gz``, ``br`` and ``snappy`` compress their pages."""

    name: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    codecs: ClassVar[frozenset[str]] = frozenset(_CODECS)

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Decode the declared columns, a few thousand rows at a time; the others are not even read."""

        def decode() -> None:
            with pq.ParquetFile(source, memory_map=True) as file:  # else it reads a column of a row group at once
                projection = Projection(file.schema_arrow, shard.columns)
                batches = file.iter_batches(_rows_at_once(file.metadata), columns=projection.names)
                rows = map(projection.apply, batches)
                ipc.write_batches(target, projection.schema, rows, num_rows=shard.num_samples, content=shard.content)

        _translated(decode)

    def options_for(self, schema: pa.Schema, settings: WriteSettings) -> Mapping[str, Any]:
        """Refuse columns whose type an index cannot name: nobody could read them back as they were.

        Raises:
            EncodingError: There is one.
        """
        del settings
        for field in schema:
            try:
                declared_encoding(encoding_of(field).name)
            except UnknownEncodingError as error:
                raise EncodingError(
                    f"column {field.name!r} is {field.type}, which Parquet files do not give back; write mds"
                ) from error
        return {}

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
        """Write one file with a row group for each record batch."""
        del options
        compression = _CODECS[codec] if codec is not None else "none"
        try:
            with pq.ParquetWriter(path, schema, compression=compression, compression_level=level) as writer:
                for batch in batches:
                    writer.write_batch(batch, row_group_size=max(batch.num_rows, 1))
        except pa.ArrowNotImplementedError as error:
            raise EncodingError(f"Parquet does not store these columns: {error}") from error
        raw_bytes = ipc.file_bytes(schema, batches) if codec else path.stat().st_size
        return WrittenShard(raw_bytes=raw_bytes, content=ipc.identity(schema, batches))

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Read the footer."""
        del options

        def read() -> Description:
            with pq.ParquetFile(file) as found:
                metadata = found.metadata
                groups = range(metadata.num_row_groups)
                return Description(
                    num_samples=metadata.num_rows,
                    columns=describe_columns(found.schema_arrow),
                    raw_bytes=sum(metadata.row_group(number).total_byte_size for number in groups),
                )

        return _translated(read)


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    return int(min(max(_BYTES_AT_ONCE / max(widest, 1), 1), _ROWS_AT_ONCE))


def _translated(read: Callable[[], T]) -> T:
    """Call what reads a file, and say in our words what is wrong with the file."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, CorruptShardError | EncodingError) or (
            isinstance(error, OSError) and error.errno is not None
        ):
            raise
        raise CorruptShardError(f"is no whole Parquet file ({error})") from error
