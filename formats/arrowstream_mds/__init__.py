"""MDS over Arrow IPC: the native format. A shard is an Arrow IPC file whose fields name their encodings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from arrowstream import ipc
from arrowstream.format import Format, WrittenShard
from arrowstream.index import Shard


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
