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

from arrowstream.index import Shard


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
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
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

    def write(
        self, path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch], *, codec: str | None, level: int | None
    ) -> WrittenShard:
        """Write one shard.

        Args:
            path: The file to make.
            schema: Of all the batches, each field with its encoding.
            batches: All rows; every batch has the same number of rows but the last.
            codec: One of ``codecs``, or None.
            level: Of the codec; None where it has none.

        Raises:
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
