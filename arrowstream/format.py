"""The contract between arrowstream and a format.

A format is a plugin: a class without state that knows how one kind of file becomes an Arrow IPC file, and perhaps how
to write such files. The dataset, the decoder and the analytics know Arrow IPC files alone.

**Reading.** A shard arrives as one local file whose length and hash were checked and whose wrapping (``gz``, …) was
taken off. :meth:`Format.transcode` turns it into an Arrow IPC file, uncompressed so that it can be mapped; the caller
then validates it in full and gives it its place in the cache. It happens once a shard, on arrival.

**Writing.** :meth:`Format.write` gets the record batches of one shard and writes one file. A format that only reads
leaves it as it is.

**Describing.** :meth:`Format.describe` looks at a file that nobody indexed yet and tells how many rows it has and of
what columns. A format that cannot tell leaves it as it is.

**Being found.** A package names its class in the entry-point group ``arrowstream.formats``::

    [project.entry-points."arrowstream.formats"]
    mds = "arrowstream_mds:MDS"
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream.index import IntArray, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What a format says of a file it wrote.

    Attributes:
        raw_bytes: Length that the file has once it is uncompressed.
        content: What identifies the rows in it; the cached file will carry the same.
    """

    raw_bytes: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a format says of a file that it found.

    Attributes:
        num_samples: Rows in it.
        columns: Encodings by column name.
        options: What the format has to know to read it, in JSON values; the index keeps it.
    """

    num_samples: int
    columns: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


class Format(ABC):
    """How one kind of file becomes an Arrow IPC file.

    Attributes:
        name: As the index names it.
        suffix: Of the files it writes, with the dot.
        in_place: Whether its files are Arrow IPC files that may be mapped where they lie.
        codecs: Compressions that it applies inside the file; any other is wrapped around the file by the caller.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    in_place: ClassVar[bool] = False
    codecs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Turn a shard's file into an uncompressed Arrow IPC file that carries ``shard.content``.

        Args:
            source: The shard as it was transported, checked and unwrapped. It may be moved.
            target: Where the Arrow IPC file has to be when the call returns; on the same file system.
            shard: What the index says of it.

        Raises:
            CorruptShardError: The file is not what it claims to be.
        """

    def row_bytes(self, batch: pa.RecordBatch, options: Mapping[str, Any], first_row: int) -> IntArray | None:
        """Tell how many bytes each row will take in a file, so that shards keep to their size limit.

        Args:
            batch: Rows that are going to be written; none when a writer asks whether the format takes such columns.
            options: As for ``write``.
            first_row: Number that errors call the first of the rows by.

        Returns:
            int64 of shape (rows,); None: as many as in an Arrow IPC file.

        Raises:
            EncodingError: The format cannot hold a column of this type, or a value.
        """
        del batch, options, first_row
        return None

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
        """Write one shard.

        Args:
            path: The file to make.
            schema: Of all the batches, each field with its encoding.
            batches: All rows; every batch has the same number of rows but the last.
            codec: One of ``codecs``, or None.
            level: Of the codec; None where it has none.
            options: What the index will say of the files, in JSON values.

        Raises:
            EncodingError: The format cannot hold a column of this type, or a value.
            NotImplementedError: The format only reads.
        """
        raise NotImplementedError(f"the format {self.name!r} only reads")

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Look at a file that no index knows yet.

        Args:
            file: Seekable, near or far: a footer is read by its range, text in one pass. Unwrapped already.
            options: What the user said of the files.

        Raises:
            CorruptShardError: The file is not of this format.
            NotImplementedError: The format cannot tell.
        """
        raise NotImplementedError(f"the format {self.name!r} cannot describe files that have no index")
