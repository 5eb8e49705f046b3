"""The contract between arrowstream and a format.

A format is a plugin: a class without state that knows how one kind of file becomes an Arrow IPC file, and perhaps how
to write such files, and perhaps how to tell what is in one that nobody indexed. The dataset, the decoder and the
analytics know Arrow IPC files alone, so a format of fifty lines streams, shuffles, resumes, caches and scans like the
native one. ``docs/writing-a-format.md`` writes one from beginning to end.

**Reading.** A shard arrives as one local file. By then its length and hash were checked and its wrapping (``gz``, …)
was taken off. :meth:`Format.transcode` turns it into an Arrow IPC file, uncompressed so that it can be mapped; the
caller then validates that file in full, compares the number of rows and ``content`` with the index, brings it to the
disk and gives it its place in the cache. It happens once a shard, on arrival; whoever reads the shard afterwards maps
Arrow. Three promises make this work:

* *The rows are those of the file, in its order*, in record batches of one size (but the last) of about 1 MiB, so that
  a row is found by a division. ``arrowstream.ipc.write_batches`` cuts any stream of record batches like that, and
  writes what identifies the shard; use it, and memory stays small however large the file is.
* *The columns are those that* ``shard.columns`` *declares*, each by the name of an encoding or of an Arrow type.
  ``arrowstream.foreign.Projection`` picks and casts them. An empty mapping means: all that the file has.
* *A file that is cut off, flipped or hostile raises* ``CorruptShardError``, whatever the library beneath raises, and
  takes no more memory than a file of its length may. The message goes on after "the URL: ".

**Writing.** :meth:`Format.write` gets the record batches of one shard and writes one file. A format that only reads
leaves it as it is. With it, a subclass of :class:`arrowstream.writer.ShardWriter` of two lines is a writer.
:meth:`Format.options_for` is for those that have to know what the user asked for, or cannot hold every column;
:meth:`Format.row_bytes` for those whose files are sized otherwise than Arrow's.

**Describing.** :meth:`Format.describe` looks at a file that nobody indexed yet and tells how many rows it has and of
what columns, reading as little as it can; ``arrowstream index`` puts that into an ``index.json``. What it says and what
``transcode`` does must agree. A format that cannot tell leaves it as it is.

**Being found.** A package names its class in the entry-point group ``arrowstream.formats``::

    [project.entry-points."arrowstream.formats"]
    mds = "arrowstream_mds:MDS"

The class is loaded and made (without arguments) when a dataset first needs it, once a process. It is called from
several threads at a time and keeps no state. ``arrowstream.testing.FormatTests`` checks all that stands here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream.index import IntArray, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSettings:
    """What a user asked a writer for.

    Attributes:
        compression: ``"zstd:3"``, … or None.
        hashes: Names of the hashes that are stored, sorted.
        size_limit: Bytes that a shard takes at most before compression; None: no limit.
    """

    compression: str | None
    hashes: Sequence[str]
    size_limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What a format says of a file it wrote.

    Attributes:
        raw_bytes: Length that the file has once it is uncompressed.
        content: What identifies the rows in it; the cached file will carry the same. Empty where the index derives it
            (version 2).
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
        raw_bytes: About how long its Arrow IPC file is; None: about as long as the file.
        content: What identifies its rows, where the file itself says so and the transcoded file carries the same.
            Empty: the caller makes something up from the file's length and hash or version.
        compression: What its bytes are compressed with, where the format must be told (``zstd``).
        rows_per_batch: Rows of every record batch but the last, where the file is mapped as it is; 0: unknown.
    """

    num_samples: int
    columns: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    raw_bytes: int | None = None
    content: str = ""
    compression: str | None = None
    rows_per_batch: int = 0


class Format(ABC):
    """How one kind of file becomes an Arrow IPC file.

    Attributes:
        name: As the index names it.
        suffix: Of the files it writes, with the dot.
        suffixes: Of the files it describes, with the dot; where several formats name one, the first that recognizes a
            file has it, those that are read in place before the others. Empty: ``suffix`` alone.
        in_place: Whether its files are Arrow IPC files that may be mapped where they lie.
        codecs: Compressions that it applies inside the file; any other is wrapped around the file by the caller.
        index_version: Of the index that its writer makes.
        holds_nulls: Whether its files hold missing values.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    in_place: ClassVar[bool] = False
    codecs: ClassVar[frozenset[str]] = frozenset()
    index_version: ClassVar[int] = 3
    holds_nulls: ClassVar[bool] = True

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

    def options_for(self, schema: pa.Schema, settings: WriteSettings) -> Mapping[str, Any]:
        """Choose, before anything is written, the options of a dataset besides those that the user gave.

        Args:
            schema: Of all shards, each field with its encoding.
            settings: What the user asked for.

        Raises:
            EncodingError: The format cannot hold one of the columns.
            ValueError: It cannot be written as the user asked.
        """
        del schema, settings
        return {}

    def file_overhead(self, schema: pa.Schema, options: Mapping[str, Any]) -> int:
        """Tell how many bytes a file takes besides its rows; counts where ``row_bytes`` does.

        Args:
            schema: Of all shards.
            options: As for ``write``.
        """
        del schema, options
        return 0

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
            CorruptShardError: The file is not of this format. The message goes on after "the URL: ".
            EncodingError: A column is of a type that no index can declare. Likewise.
            NotImplementedError: The format cannot tell.
        """
        raise NotImplementedError(f"the format {self.name!r} cannot describe files that have no index")
