"""A file whose pieces arrive in any order, and are looked at in theirs."""

import os
import threading
from collections.abc import Callable

#: Is given the bytes of a file from its beginning to its end, without gaps; must not keep them.
Look = Callable[[bytes | memoryview], None]


class OrderedFile:
    """Where several threads write the pieces of an object.

    A piece is looked at right away if all before it have been, while it is still near the processor: a second pass
    over the file would cost as much as a third of the download, and would come after it. What comes before its turn is
    read back when that has come.

    Args:
        descriptor: Of a file that may be written and read; stays the caller's.
        look: Is given each piece, in the order of the file, by one thread at a time; None: nobody looks.
    """

    def __init__(self, descriptor: int, look: Look | None) -> None:
        self._descriptor = descriptor
        self._look = look
        self._lock = threading.Lock()
        self._seen = 0  # everything before it has been looked at
        self._early: dict[int, int] = {}  # lengths of pieces by where they begin

    def write(self, piece: bytes | memoryview, start: int) -> None:
        """Write a piece at its place.

        Raises:
            OSError: The disk does not take it, or ``look`` said so.
        """
        self._put(piece, start)
        if self._look is None:
            return
        with self._lock:
            if start != self._seen:
                self._early[start] = len(piece)
                return
            self._show(piece)
            while (length := self._early.pop(self._seen, None)) is not None:
                self._show(os.pread(self._descriptor, length, self._seen))

    def write_whole(self, content: bytes | memoryview) -> None:
        """Write everything, whatever has been written so far."""
        self._put(content, 0)
        if self._look is not None:
            self._show(memoryview(content)[self._seen :])

    def _show(self, piece: bytes | memoryview) -> None:
        assert self._look is not None
        self._look(piece)
        self._seen += len(piece)

    def _put(self, piece: bytes | memoryview, start: int) -> None:
        rest = memoryview(piece)
        while rest:  # a write may be cut short, by a disk that is almost full or a signal
            written = os.pwrite(self._descriptor, rest, start)
            rest, start = rest[written:], start + written
