"""MDS over Arrow IPC: the native format. A shard is an Arrow IPC file whose fields name their encodings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream import ipc
from arrowstream.columns import encoding_of
from arrowstream.errors import ArrowStreamError, CorruptShardError
from arrowstream.format import Description, Format, WrittenShard
from arrowstream.index import Shard
from arrowstream.ipc.messages import batch_message


class MDS(Format):
    """Arrow IPC files; ``zstd`` and ``lz4`` compress the bodies of their record batches."""

    name: ClassVar[str] = "mds"
    suffix: ClassVar[str] = ".arrow"
    in_place: ClassVar[bool] = True
    codecs: ClassVar[frozenset[str]] = frozenset({"zstd", "lz4"})

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Uncompress the bodies; a file without compression is what the cache wants already, and is moved."""
        compression = (shard.compression or "").partition(":")[0]
        if compression in self.codecs:
            ipc.uncompress(source, target, shard.content)
        else:
            source.replace(target)

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
        """Write one Arrow IPC file."""
        del options
        content = ipc.write_file(path, schema, batches, codec=codec, level=level)
        raw_bytes = ipc.file_bytes(schema, batches) if codec else path.stat().st_size
        return WrittenShard(raw_bytes=raw_bytes, content=content)

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Read the footer, and the metadata of the last record batch: a shard says all of itself that an index says."""
        del options
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            schema = pa.ipc.open_file(pa.PythonFile(file, mode="r")).schema
            columns = {field.name: encoding_of(field).name for field in schema}
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and (error.errno is not None or isinstance(error, ArrowStreamError)):
                raise
            raise CorruptShardError(f"is no whole Arrow IPC file ({error})") from error
        content = ipc.content_of(schema)
        table = ipc.batch_table(schema)
        if not content:
            raise CorruptShardError("is an Arrow IPC file that arrowstream did not write; its format is arrow")
        last = batch_message(file, table[-1][0], num_bytes) if table else None
        rows_per_batch = ipc.rows_per_batch_of(schema)
        return Description(
            num_samples=(len(table) - 1) * rows_per_batch + last.num_rows if last is not None else 0,
            columns=columns,
            content=content,
            compression=last.codec if last is not None else None,
            rows_per_batch=rows_per_batch,
        )
