"""An object as a file: what is asked for is fetched by its range."""

import io
import os
from typing import Any

import xxhash

from arrowstream.storage.storage import Storage

#: A footer of a Parquet file is about that long, and pyarrow reads as much of the end at first.
TAIL_BYTES = 64 << 10
_READ_AHEAD_BYTES = 256 << 10
_MOST_AHEAD_BYTES = 8 << 20


class RangedFile(io.RawIOBase):
    """A file that is read, from a storage.

    Whoever reads from front to back gets ever larger ranges (256 KiB to 8 MiB); who begins near the end gets the last
    64 KiB at once, which for most Parquet files is one request in all. At most one range is held.

    Args:
        storage: Where the object is.
        key: Which one.
        num_bytes: Its length.

    Attributes:
        num_requests: Ranges that were fetched.
    """

    def __init__(self, storage: Storage, key: str, num_bytes: int) -> None:
        super().__init__()
        self._storage = storage
        self._key = key
        self._num_bytes = num_bytes
        self._position = 0
        self._start = 0  # of what is held
        self._held = b""
        self._ahead = _READ_AHEAD_BYTES
        self._hash = xxhash.xxh3_64()
        self._hashed = 0
        self.num_requests = 0

    @property
    def digest(self) -> str | None:
        """The xxh3_64 of the whole file, if it was read from front to back; else None."""
        return self._hash.hexdigest() if self._hashed == self._num_bytes else None

    def readable(self) -> bool:
        """Say that it is."""
        return True

    def seekable(self) -> bool:
        """Say that it is."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position, which may lie behind the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._storage.url_of(self._key)}: there is no position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as one range reaches."""
        with memoryview(buffer).cast("B") as view:
            part = self._part(len(view))
            view[: len(part)] = part
        return len(part)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read that many bytes, fewer only at the end."""
        wanted = self._num_bytes - self._position if size is None or size < 0 else size
        parts = []
        while wanted > 0 and (part := self._part(wanted)):
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _part(self, wanted: int) -> memoryview:
        """Give what is held of the next bytes, after fetching them if nothing is."""
        stop = min(self._position + wanted, self._num_bytes)
        if stop <= self._position:
            return memoryview(b"")
        if not self._start <= self._position < self._start + len(self._held):
            self._fetch(stop)
        part = memoryview(self._held)[self._position - self._start : stop - self._start]
        self._position += len(part)
        if self._position - len(part) <= self._hashed < self._position:
            self._hash.update(part[len(part) - (self._position - self._hashed) :])
            self._hashed = self._position
        return part

    def _fetch(self, stop: int) -> None:
        start = self._position
        in_sequence = start == self._start + len(self._held)
        self._ahead = min(2 * self._ahead, _MOST_AHEAD_BYTES) if in_sequence else _READ_AHEAD_BYTES
        tail = self._num_bytes - TAIL_BYTES
        if start >= tail:
            start, stop = max(tail, 0), self._num_bytes
        else:
            stop = min(max(min(stop, start + _MOST_AHEAD_BYTES), start + self._ahead), self._num_bytes)
        self._held = self._storage.read(self._key, start, stop)
        self._start = start
        self.num_requests += 1
