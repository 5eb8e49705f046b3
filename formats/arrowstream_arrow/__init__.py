"""Arrow IPC files and streams that others wrote: Feather, Polars, Hugging Face's ``datasets``.

Their record batches are of any size and may be compressed, so they are not mapped as they are: arriving, they are cut
anew. What arrowstream itself wrote is of the format ``mds``.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream import ipc
from arrowstream.errors import CorruptShardError
from arrowstream.foreign import Projection, describe_columns
from arrowstream.format import Description, Format
from arrowstream.index import Shard
from arrowstream.ipc.messages import FILE_MAGIC, batch_messages

# A file may be one record batch; what is converted of it at a time should not be.
_ROWS_AT_ONCE = 8192


class Arrow(Format):
    """Arrow IPC files (Feather V2) and Arrow IPC streams, told apart by their first bytes."""

    name: ClassVar[str] = "arrow"
    suffix: ClassVar[str] = ".arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc", ".arrows")

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Cut the record batches anew, uncompressed; other columns than the declared ones are left out."""
        try:
            with pa.memory_map(str(source)) as file:
                _check_stream(file, source.stat().st_size)
                reader = _open(file)
                projection = Projection(reader.schema, shard.columns)
                rows = (projection.apply(part) for batch in _batches(reader) for part in _parts(batch))
                ipc.write_batches(target, projection.schema, rows, num_rows=shard.num_samples, content=shard.content)
        except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno is not None and source.stat().st_size:
                raise
            raise CorruptShardError(f"is no whole Arrow IPC file or stream ({error})") from error

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Read the schema, and the length of each record batch from its metadata."""
        del options
        try:
            num_bytes = file.seek(0, os.SEEK_END)
            _check_stream(file, num_bytes)
            schema = _open(pa.PythonFile(file, mode="r")).schema
            columns = describe_columns(schema)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise CorruptShardError(f"is no whole Arrow IPC file or stream ({error})") from error
        num_samples = sum(batch.num_rows for batch in batch_messages(file, num_bytes))
        return Description(num_samples=num_samples, columns=columns)


def _is_file(file: BinaryIO | pa.NativeFile) -> bool:
    file.seek(0)
    is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
    file.seek(0)
    return bool(is_file)


def _check_stream(file: BinaryIO | pa.NativeFile, num_bytes: int) -> None:
    """Refuse a stream whose messages are longer than it is: Arrow makes room before it reads."""
    if not _is_file(file):
        for _ in batch_messages(file, num_bytes):
            pass


def _open(file: pa.NativeFile) -> Any:
    is_file = _is_file(file)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    # Offsets that lead elsewhere would crash what reads them.
    batch.validate(full=True)
    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
        yield batch.slice(start, _ROWS_AT_ONCE)
