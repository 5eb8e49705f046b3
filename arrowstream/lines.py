"""Text files, block by block, cut where lines end."""

from collections.abc import Iterator
from typing import BinaryIO

from arrowstream.errors import CorruptShardError

BLOCK_BYTES = 1 << 20
#: What Arrow takes at once: its sizes of blocks have 31 bits.
MAX_BLOCK_BYTES = (1 << 31) - 2


def read_blocks(file: BinaryIO, newline: bytes, *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Read whole lines, as many as fit into a block; a longer line is a block of its own.

    Args:
        file: Read from where it is, to its end.
        newline: What ends a line.
        block_bytes: To read at a time.

    Yields:
        Text that ends with a newline; the last one perhaps not. None is empty.

    Raises:
        CorruptShardError: A line is longer than 2 GiB.
    """
    parts: list[bytes] = []  # of a line that has not ended
    length = 0
    while part := file.read(block_bytes):
        # A newline of several characters may lie across two reads.
        tail = b"".join(parts[-len(newline) :])[-len(newline) + 1 :] if len(newline) > 1 else b""
        end = (tail + part).rfind(newline) - len(tail)
        if end + len(tail) < 0:
            parts.append(part)
            length += len(part)
            if length > MAX_BLOCK_BYTES:
                raise CorruptShardError(f"a line is longer than {MAX_BLOCK_BYTES} bytes; the file is no text of lines")
            continue
        stop = end + len(newline)
        yield b"".join([*parts, part[:stop]])
        parts = [part[stop:]] if stop < len(part) else []
        length = len(part) - stop
    if parts:
        yield b"".join(parts)
