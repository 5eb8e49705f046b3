"""The one kind of file in a cache: an Arrow IPC file (Feather V2) that any Arrow tool opens and maps.

Ours says three things more in the metadata of its schema:

* ``arrowstream.content``: what identifies its rows. A shard keeps it when it is compressed or uncompressed, so that a
  cached file can be matched with the index without reading it.
* ``arrowstream.rows_per_batch``: every record batch has that many rows but the last.
* ``arrowstream.batches``: 40 hex digits a record batch: offset (12), length (12) and xxh3_64 (16) of its message. With
  them one range of a remote file can be fetched and checked; no client of an object store notices a flipped byte.
"""

import io
import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from arrowstream.errors import CorruptShardError, MissingShardError

CONTENT = b"arrowstream.content"
ROWS_PER_BATCH = b"arrowstream.rows_per_batch"
BATCHES = b"arrowstream.batches"
_BATCH_DIGITS = 40
#: Bytes of a record batch, about: the unit of range reads and of the finest shuffle.
BATCH_BYTES = 1 << 20
# Rows are sized by the first of them, and again when they turn out to be much larger further on.
_SAMPLE_BYTES = 4 * BATCH_BYTES
_LARGEST_BATCH_BYTES = 16 * BATCH_BYTES
# A file of so many is a terabyte: an index that claims more rows is wrong.
_MOST_BATCHES = 1 << 20
# Stand-ins until the file is written; their lengths are those of what replaces them.
_UNKNOWN_CONTENT = b"content to come".ljust(16, b".")
_UNKNOWN_BATCH = b"checksum of a batch to come".ljust(_BATCH_DIGITS, b".")


def write_file(
    path: Path,
    schema: pa.Schema,
    batches: Sequence[pa.RecordBatch],
    *,
    codec: str | None = None,
    level: int | None = None,
    content: str | None = None,
) -> str:
    """Write record batches as an Arrow IPC file.

    Args:
        path: The file to make.
        schema: Of all the batches.
        batches: Every one with the same number of rows but the last.
        codec: ``zstd``, ``lz4`` or None; compresses the bodies of the record batches.
        level: Of the codec.
        content: Identity of the rows where they have one already.

    Returns:
        The identity of the rows, 16 hex digits.
    """
    rows_per_batch = batches[0].num_rows if batches else 0
    marked = _marked(schema, rows_per_batch, len(batches), content)
    compression = pa.Codec(codec, compression_level=level) if codec else None
    with _Output(path, marked, pa.ipc.IpcWriteOptions(compression=compression)) as output:
        for batch in _with_shared_dictionaries(schema, batches):
            output.write(batch)
    return _fill_in(path, schema, output.ends, content)


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
        batches = _with_shared_dictionaries(schema, list(batches))
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


def file_bytes(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> int:
    """Tell how long the uncompressed file of these record batches is, to the byte, without writing it."""
    sink = pa.MockOutputStream()
    marked = _marked(schema, batches[0].num_rows if batches else 0, len(batches), None)
    with pa.ipc.new_file(sink, marked) as writer:
        for batch in _with_shared_dictionaries(schema, batches):
            writer.write_batch(batch)
    return int(sink.size())


def identity(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> str:
    """Give what identifies rows that are stored in files of another kind, 16 hex digits.

    It depends on how they are cut into record batches, not on where their memory lies.
    """
    sink = _HashingSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.digest.hexdigest()


def uncompress(source: Path, target: Path, content: str) -> None:
    """Write the rows of one Arrow IPC file as another without compression, record batch by record batch.

    Raises:
        CorruptShardError: The source is no Arrow IPC file, or one of its record batches does not decode.
    """
    reader = open_file(source)
    try:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        write_file(target, reader.schema, batches, content=content or None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptShardError(f"{source}: does not decode ({error})") from error


def open_file(path: Path) -> pa.ipc.RecordBatchFileReader:
    """Map an Arrow IPC file. No file descriptor stays open; the map lives as long as what was read from it.

    Raises:
        MissingShardError: There is no such file.
        CorruptShardError: It is no Arrow IPC file, or was cut off.
    """
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file.read_buffer())
        _ = reader.schema.names  # Arrow does not check that they are UTF-8
        return reader
    except FileNotFoundError as error:
        raise MissingShardError(f"{path}: does not exist") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # An empty file cannot be mapped (EINVAL); a cut one has no footer.
        size = path.stat().st_size if path.exists() else 0
        raise CorruptShardError(f"{path}: {size} bytes that are no whole Arrow IPC file ({error})") from error


def check_batch(path: Path, schema: pa.Schema, number: int) -> None:
    """Compare the bytes of one record batch in a file with the checksum that the file carries for it, if it does.

    Raises:
        CorruptShardError: They are not those that were written.
    """
    entry = (schema.metadata or {}).get(BATCHES, b"")[number * _BATCH_DIGITS : (number + 1) * _BATCH_DIGITS]
    if len(entry) < _BATCH_DIGITS:
        return
    try:
        offset, length, expected = int(entry[:12], 16), int(entry[12:24], 16), entry[24:].decode()
    except ValueError as error:
        raise CorruptShardError(f"{path}: its table of record batches is damaged ({entry!r})") from error
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents,
        memoryview(contents) as view,
        view[offset : offset + length] as message,
    ):
        found = xxhash.xxh3_64_hexdigest(message)
    if found != expected:
        raise CorruptShardError(
            f"{path}: record batch {number} was damaged since it was written (its xxh3_64 is {found}, not {expected}); "
            f"fetch or write the shard again"
        )


def batch_table(schema: pa.Schema) -> list[tuple[int, int, str]]:
    """Give offset, length and xxh3_64 of every record batch's message; empty when the file does not say.

    Raises:
        ValueError: The table is damaged.
    """
    table = (schema.metadata or {}).get(BATCHES, b"")
    entries = [table[first : first + _BATCH_DIGITS] for first in range(0, len(table), _BATCH_DIGITS)]
    return [(int(entry[:12], 16), int(entry[12:24], 16), entry[24:].decode()) for entry in entries]


def without_marks(schema: pa.Schema) -> pa.Schema:
    """Give the schema as it was before ``write_file`` said more in it."""
    own = {CONTENT, ROWS_PER_BATCH, BATCHES}
    rest = {key: value for key, value in (schema.metadata or {}).items() if key not in own}
    return schema.with_metadata(rest) if rest else schema.remove_metadata()


def content_of(schema: pa.Schema) -> str:
    """Give the identity of a file's rows; empty when the file does not say."""
    return str((schema.metadata or {}).get(CONTENT, b"").decode(errors="replace"))


def rows_per_batch_of(schema: pa.Schema) -> int:
    """Give the number of rows of every record batch of a file but the last.

    Raises:
        CorruptShardError: The file does not say.
    """
    text = (schema.metadata or {}).get(ROWS_PER_BATCH, b"")
    if not text.isdigit() or len(text) > 18:
        raise CorruptShardError(f"its number of rows a record batch is damaged ({text!r})")
    return int(text)


def batch_places(schema: pa.Schema) -> list[int]:
    """Give where each record batch of a file begins, in bytes.

    Raises:
        CorruptShardError: Its table of record batches is damaged.
    """
    table = (schema.metadata or {}).get(BATCHES, b"")
    try:
        return [int(table[start : start + 12], 16) for start in range(0, len(table), _BATCH_DIGITS)]
    except ValueError as error:
        raise CorruptShardError(f"its table of record batches is damaged ({error})") from error


def validate(reader: pa.ipc.RecordBatchFileReader, path: Path, num_samples: int) -> None:
    """Read every record batch and check all that Arrow can check.

    Raises:
        CorruptShardError: Offsets, text or counts are not what they must be.
    """
    rows = []
    try:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            # The plain validate() passes offsets that point outside the buffer.
            batch.validate(full=True)
            rows.append(batch.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Arrow says OSError of a broken message
        raise CorruptShardError(f"{path}: record batch {len(rows)} is corrupt ({error})") from error
    if sum(rows) != num_samples:
        raise CorruptShardError(f"{path}: holds {sum(rows)} rows, the index says {num_samples}")
    if any(count != rows[0] for count in rows[:-1]) or (rows and rows[-1] > rows[0]):
        raise CorruptShardError(f"{path}: its record batches are not of one size")


class _HashingSink(io.RawIOBase):
    """A file that keeps nothing of what is written into it but its hash."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = xxhash.xxh3_64()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)


class _Output:
    """A file that is being written, and where each of its record batches ends."""

    def __init__(self, path: Path, schema: pa.Schema, options: pa.ipc.IpcWriteOptions | None = None) -> None:
        self.ends: list[int] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.ends.append(self._sink.tell())

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        finally:
            self._sink.close()


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
    with _Output(path, _marked(schema, min(rows_per_batch, num_rows), num_batches, content)) as output:
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
    _fill_in(path, schema, output.ends, content)
    return None


def _rows_per_batch(sample: Sequence[pa.RecordBatch]) -> int:
    """Give the power of two of rows like these that comes nearest to a record batch, so that it can be halved."""
    num_rows, num_bytes = sum(batch.num_rows for batch in sample), sum(batch.nbytes for batch in sample)
    fitting = max(num_rows, 1) * BATCH_BYTES / max(num_bytes, 1)
    return int(2 ** min(max(round(math.log2(fitting)), 0), 20))


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def _marked(schema: pa.Schema, rows_per_batch: int, num_batches: int, content: str | None) -> pa.Schema:
    return schema.with_metadata(
        {
            **(schema.metadata or {}),
            CONTENT: content.encode() if content else _UNKNOWN_CONTENT,
            ROWS_PER_BATCH: str(rows_per_batch).encode(),
            BATCHES: _UNKNOWN_BATCH * num_batches,
        }
    )


def _with_shared_dictionaries(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Give all batches of a dictionary column one dictionary, as a *file* (unlike a stream) demands."""
    if not has_dictionary(schema):
        return batches
    table = pa.Table.from_batches(batches, schema).unify_dictionaries()
    return list(table.to_batches())


def has_dictionary(schema: pa.Schema) -> bool:
    """Tell whether a column, or a part of one, keeps its values in a dictionary."""
    return any(_is_dictionary(field.type) for field in schema)


def _is_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_dictionary(kind.storage_type)
    return pa.types.is_dictionary(kind) or any(
        _is_dictionary(kind.field(number).type) for number in range(kind.num_fields)
    )


def _fill_in(path: Path, schema: pa.Schema, ends: Sequence[int], content: str | None) -> str:
    """Put checksums and identity where the stand-ins are.

    They are known only when the messages lie in the file, whose schema comes before them. So the schema was written
    with stand-ins of the same length, which are overwritten here: at the front, and in the footer's copy.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        # The magic number, then the schema's message: a marker, its length, itself.
        start = 16 + int.from_bytes(contents[12:16], "little")
        starts = [start, *ends][: len(ends)]
        with memoryview(contents) as view:
            digests = [xxhash.xxh3_64_hexdigest(view[first:last]) for first, last in zip(starts, ends, strict=True)]
        table = "".join(
            f"{first:012x}{last - first:012x}{digest}"
            for first, last, digest in zip(starts, ends, digests, strict=True)
        )
        identity = content or xxhash.xxh3_64_hexdigest(bytes(schema.serialize()) + "".join(digests).encode())
        body_end = ends[-1] if ends else start
        for stand_in, value in ((_UNKNOWN_BATCH * len(ends), table), (_UNKNOWN_CONTENT, identity)):
            for first, last in ((0, start), (body_end, len(contents))):
                place = contents.find(stand_in, first, last) if stand_in else -1
                if place >= 0:
                    file.seek(place)
                    file.write(value.encode())
    return identity
