"""What our files say more in the metadata of their schema.

* ``arrowstream.content``: what identifies its rows. A shard keeps it when it is compressed or uncompressed, so that a
  cached file can be matched with the index without reading it.
* ``arrowstream.rows_per_batch``: every record batch has that many rows but the last.
* ``arrowstream.batches``: 40 hex digits a record batch: offset (12), length (12) and xxh3_64 (16) of its message. With
  them one range of a remote file can be fetched and checked; no client of an object store notices a flipped byte.
"""

import mmap
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import xxhash

from arrowstream.errors import CorruptShardError

CONTENT = b"arrowstream.content"
ROWS_PER_BATCH = b"arrowstream.rows_per_batch"
BATCHES = b"arrowstream.batches"
_BATCH_DIGITS = 40
# Stand-ins until the file is written; their lengths are those of what replaces them.
_UNKNOWN_CONTENT = b"content to come".ljust(16, b".")
_UNKNOWN_BATCH = b"checksum of a batch to come".ljust(_BATCH_DIGITS, b".")


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


def batch_table(schema: pa.Schema) -> list[tuple[int, int, str]]:
    """Give offset, length and xxh3_64 of every record batch's message; empty when the file does not say.

    Raises:
        CorruptShardError: The table is damaged.
    """
    table = (schema.metadata or {}).get(BATCHES, b"")
    return [_parsed(table[start : start + _BATCH_DIGITS]) for start in range(0, len(table), _BATCH_DIGITS)]


def batch_mark(schema: pa.Schema, number: int) -> tuple[int, int, str] | None:
    """Give offset, length and xxh3_64 of one record batch's message; None when the file does not say.

    Raises:
        CorruptShardError: The table is damaged.
    """
    entry = (schema.metadata or {}).get(BATCHES, b"")[number * _BATCH_DIGITS : (number + 1) * _BATCH_DIGITS]
    return _parsed(entry) if entry else None


def _parsed(entry: bytes) -> tuple[int, int, str]:
    try:
        if len(entry) < _BATCH_DIGITS:
            raise ValueError("cut off")
        return int(entry[:12], 16), int(entry[12:24], 16), entry[24:].decode()
    except ValueError as error:
        raise CorruptShardError(f"its table of record batches is damaged ({entry!r})") from error


def without_marks(schema: pa.Schema) -> pa.Schema:
    """Give the schema as it was before ``write_file`` said more in it."""
    own = {CONTENT, ROWS_PER_BATCH, BATCHES}
    rest = {key: value for key, value in (schema.metadata or {}).items() if key not in own}
    return schema.with_metadata(rest) if rest else schema.remove_metadata()


def with_marks(schema: pa.Schema, rows_per_batch: int, num_batches: int, content: str | None) -> pa.Schema:
    """Give the schema with stand-ins for what is known only when the file is written."""
    return schema.with_metadata(
        {
            **(schema.metadata or {}),
            CONTENT: content.encode() if content else _UNKNOWN_CONTENT,
            ROWS_PER_BATCH: str(rows_per_batch).encode(),
            BATCHES: _UNKNOWN_BATCH * num_batches,
        }
    )


def fill_marks(path: Path, schema: pa.Schema, ends: Sequence[int], content: str | None) -> str:
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
