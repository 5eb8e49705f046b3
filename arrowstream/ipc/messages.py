"""What the messages of an Arrow IPC file or stream say of themselves, read without their bodies.

Arrow's readers tell how many rows a record batch has once they have read all of it. The numbers stand in its metadata,
a FlatBuffer of a few hundred bytes: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from arrowstream.errors import CorruptShardError

FILE_MAGIC = b"ARROW1"
_CONTINUATION = b"\xff\xff\xff\xff"
_RECORD_BATCH = 3  # of the union MessageHeader
_CODECS = {0: "lz4", 1: "zstd"}
_MOST_METADATA_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMessage:
    """A record batch.

    Attributes:
        num_rows: Rows in it.
        codec: What its body is compressed with, or None.
    """

    num_rows: int
    codec: str | None


def batch_messages(file: BinaryIO, num_bytes: int) -> Iterator[BatchMessage]:
    """Go through the record batches of an Arrow IPC file or stream in their order.

    Args:
        file: Seekable.
        num_bytes: Its length.

    Raises:
        CorruptShardError: It is cut off, or holds something else than messages.
    """
    file.seek(0)
    if file.read(8).startswith(FILE_MAGIC):
        # What stands before the first of a file's blocks is not always a message: Polars writes something else there.
        for position in _batch_positions(file, num_bytes):
            yield batch_message(file, position, num_bytes)
        return
    position = 0
    while position < num_bytes:
        batch, end = _message(file, position, num_bytes)
        if end == position:
            return
        if batch is not None:
            yield batch
        position = end


def _batch_positions(file: BinaryIO, num_bytes: int) -> list[int]:
    """Read from a file's footer where its record batches begin."""
    file.seek(max(num_bytes - 10, 0))
    end = file.read(10)
    length = int.from_bytes(end[:4], "little")
    if len(end) < 10 or end[4:] != FILE_MAGIC or not 0 < length <= num_bytes - 18:
        raise CorruptShardError("its footer is cut off or corrupt")
    file.seek(num_bytes - 10 - length)
    try:
        return _Table.root(file.read(length)).starts_of_blocks(3)
    except (struct.error, ValueError) as error:
        raise CorruptShardError(f"its footer is corrupt ({error})") from error


def batch_message(file: BinaryIO, position: int, num_bytes: int) -> BatchMessage:
    """Read what one record batch says, given where it begins.

    Raises:
        CorruptShardError: None begins there.
    """
    batch, _ = _message(file, position, num_bytes) if 0 <= position < num_bytes else (None, 0)
    if batch is None:
        raise CorruptShardError(f"at byte {position} begins no record batch")
    return batch


def _message(file: BinaryIO, position: int, num_bytes: int) -> tuple[BatchMessage | None, int]:
    """Read one message; gives where it ends, and what it says if it is a record batch. The last one is empty."""
    file.seek(position)
    prefix = file.read(8)
    # Before 2019 the length stood alone.
    start = 8 if prefix[:4] == _CONTINUATION else 4
    length = int.from_bytes(prefix[start - 4 : start], "little")
    if not length:
        return None, position
    file.seek(position + start)
    metadata = file.read(length) if length <= _MOST_METADATA_BYTES else b""
    try:
        if len(metadata) < length:
            raise ValueError(f"its metadata is cut off after {len(metadata)} of {length} bytes")
        message = _Table.root(metadata)
        end = position + start + length + message.integer(3, "<q", 0)
        if not position < end <= num_bytes:
            raise ValueError(f"its body ends at byte {end} of {num_bytes}")
        is_batch = message.integer(1, "<B", 0) == _RECORD_BATCH
        return _batch_message(message) if is_batch else None, end
    except (struct.error, ValueError) as error:
        raise CorruptShardError(f"the message at byte {position} is corrupt ({error})") from error


def _batch_message(message: "_Table") -> BatchMessage:
    batch = message.table(2)
    if batch is None:
        raise ValueError("a record batch without a header")
    num_rows = batch.integer(0, "<q", 0)
    if num_rows < 0:
        raise ValueError(f"{num_rows} rows")
    compression = batch.table(3)
    codec = _CODECS.get(compression.integer(0, "<b", 0)) if compression is not None else None
    return BatchMessage(num_rows=num_rows, codec=codec)


class _Table:
    """A table of a FlatBuffer: https://flatbuffers.dev/internals/."""

    def __init__(self, buffer: bytes, start: int) -> None:
        self._buffer = buffer
        self._start = start
        self._fields = start - self._unpack("<i", start)
        self._fields_end = self._fields + self._unpack("<H", self._fields)

    @classmethod
    def root(cls, buffer: bytes) -> "_Table":
        return cls(buffer, struct.unpack_from("<I", buffer)[0])

    def integer(self, field: int, layout: str, default: int) -> int:
        place = self._place(field)
        return self._unpack(layout, place) if place is not None else default

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return _Table(self._buffer, place + self._unpack("<I", place)) if place is not None else None

    def starts_of_blocks(self, field: int) -> list[int]:
        """Read the first member, an offset, of each of a vector of blocks of 24 bytes."""
        place = self._place(field)
        if place is None:
            return []
        vector = place + self._unpack("<I", place)
        count = self._unpack("<I", vector)
        if count > len(self._buffer) // 24:
            raise ValueError(f"{count} blocks in a footer of {len(self._buffer)} bytes")
        starts = [self._unpack("<q", vector + 4 + 24 * number) for number in range(count)]
        if starts and min(starts) < 0:
            raise ValueError("a block before the file")
        return starts

    def _place(self, field: int) -> int | None:
        entry = self._fields + 4 + 2 * field
        offset = self._unpack("<H", entry) if entry < self._fields_end else 0
        return self._start + offset if offset else None

    def _unpack(self, layout: str, start: int) -> int:
        if start < 0:
            raise ValueError("an offset out of the metadata")
        return int(struct.unpack_from(layout, self._buffer, start)[0])
