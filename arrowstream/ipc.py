"""The one kind of file in a cache: an Arrow IPC file (Feather V2) that any Arrow tool opens and maps.

Ours says three things more in the metadata of its schema:

* ``arrowstream.content``: what identifies its rows. A shard keeps it when it is compressed or uncompressed, so that a
  cached file can be matched with the index without reading it.
* ``arrowstream.rows_per_batch``: every record batch has that many rows but the last.
* ``arrowstream.batches``: 40 hex digits a record batch: offset (12), length (12) and xxh3_64 (16) of its message. With
  them one range of a remote file can be fetched and checked; no client of an object store notices a flipped byte.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import xxhash

from arrowstream.errors import CorruptShardError, MissingShardError

CONTENT = b"arrowstream.content"
ROWS_PER_BATCH = b"arrowstream.rows_per_batch"
BATCHES = b"arrowstream.batches"
#: Bytes of a record batch: the unit of range reads and of the finest shuffle.
BATCH_BYTES = 1 << 20
_BATCH_DIGITS = 40
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
    compression = pa.Codec(codec, compression_level=level) if codec else None
    marked = _marked(schema, batches[0].num_rows if batches else 0, len(batches), content)
    ends = _write(path, marked, _with_shared_dictionaries(schema, batches), compression)
    return _fill_in(path, schema, ends, content)


def write_rows(
    path: Path,
    schema: pa.Schema,
    chunks: Iterable[pa.RecordBatch],
    *,
    num_samples: int,
    num_bytes: int,
    content: str,
) -> None:
    """Write rows as an Arrow IPC file as they come; memory stays within a few chunks and one record batch.

    Args:
        path: The file to make.
        schema: Of all the chunks; without dictionaries.
        chunks: Record batches of any size.
        num_samples: Rows in all of them.
        num_bytes: About what they take, in whatever form they come from; keeps rows that grow within bounds.
        content: Identity of the rows.

    Raises:
        CorruptShardError: There are more or fewer rows.
    """
    chunks = iter(chunks)
    first = next((chunk for chunk in chunks if chunk.num_rows), None)
    if first is None or not num_samples:
        _check_rows(first.num_rows if first is not None else 0, num_samples)
        write_file(path, schema, [], content=content)
        return
    row_bytes = max(first.nbytes / first.num_rows, num_bytes / num_samples / 4)
    num_batches = max(1, round(num_samples * row_bytes / BATCH_BYTES))
    rows_per_batch = -(-num_samples // num_batches)
    num_batches = -(-num_samples // rows_per_batch)
    batches = recut(_counted(chain([first], chunks), num_samples), rows_per_batch)
    ends = _write(path, _marked(schema, rows_per_batch, num_batches, content), batches, None)
    _fill_in(path, schema, ends, content)


def recut(chunks: Iterable[pa.RecordBatch], rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    """Cut and join record batches, so that every one has the same number of rows but the last."""
    parts: list[pa.RecordBatch] = []
    missing = rows_per_batch
    for chunk in chunks:
        start = 0
        while start < chunk.num_rows:
            part = chunk.slice(start, missing)
            parts.append(part)
            start += part.num_rows
            missing -= part.num_rows
            if not missing:
                yield _concatenate(parts)
                parts, missing = [], rows_per_batch
    if parts:
        yield _concatenate(parts)


def _concatenate(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def _counted(chunks: Iterable[pa.RecordBatch], num_samples: int) -> Iterator[pa.RecordBatch]:
    found = 0
    for chunk in chunks:
        found += chunk.num_rows
        if found > num_samples:
            raise CorruptShardError(f"holds more than {num_samples} rows, the index says {num_samples}")
        yield chunk
    _check_rows(found, num_samples)


def _check_rows(found: int, num_samples: int) -> None:
    if found != num_samples:
        raise CorruptShardError(f"holds {found} rows, the index says {num_samples}")


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], compression: pa.Codec | None) -> list[int]:
    ends: list[int] = []
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            ends.append(sink.tell())
    return ends


def file_bytes(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> int:
    """Tell how long the uncompressed file of these record batches is, to the byte, without writing it."""
    sink = pa.MockOutputStream()
    marked = _marked(schema, batches[0].num_rows if batches else 0, len(batches), None)
    with pa.ipc.new_file(sink, marked) as writer:
        for batch in _with_shared_dictionaries(schema, batches):
            writer.write_batch(batch)
    return int(sink.size())


def uncompress(source: Path, target: Path, content: str) -> None:
    """Write the rows of one Arrow IPC file as another without compression, record batch by record batch.

    Raises:
        CorruptShardError: The source is no Arrow IPC file, or one of its record batches does not decode.
    """
    reader = open_file(source)
    try:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        write_file(target, reader.schema, batches, content=content or None)
    except pa.ArrowException as error:
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


def content_of(schema: pa.Schema) -> str:
    """Give the identity of a file's rows; empty when the file does not say."""
    return str((schema.metadata or {}).get(CONTENT, b"").decode(errors="replace"))


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
    except pa.ArrowException as error:
        raise CorruptShardError(f"{path}: record batch {len(rows)} is corrupt ({error})") from error
    if sum(rows) != num_samples:
        raise CorruptShardError(f"{path}: holds {sum(rows)} rows, the index says {num_samples}")
    if any(count != rows[0] for count in rows[:-1]) or (rows and rows[-1] > rows[0]):
        raise CorruptShardError(f"{path}: its record batches are not of one size")


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
    if not any(_has_dictionary(field.type) for field in schema):
        return batches
    table = pa.Table.from_batches(batches, schema).unify_dictionaries()
    return list(table.to_batches())


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    return pa.types.is_dictionary(kind) or any(
        _has_dictionary(kind.field(number).type) for number in range(kind.num_fields)
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
