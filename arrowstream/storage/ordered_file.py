"""A file whose pieces arrive in any order, and are looked at in theirs."""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

from arrowstream.storage.failures import unwritable

#: Is given the bytes of a file from its beginning to its end, without gaps; must not keep them.
Look = Callable[[bytes | memoryview], None]


class OrderedFile:
    """Where several threads write the pieces of an object.

    A piece is looked at right away if all before it have been, while it is still near the processor: a second pass
    over the file would cost as much as a third of the download, and would come after it. What comes before its turn is
    read back when that has come, by whoever is looking: nobody waits for another's look.

    Args:
        file: Unbuffered, may be written and read; stays the caller's.
        look: Is given each piece, in the order of the file, by one thread at a time; None: nobody looks.
    """

    def __init__(self, file: io.FileIO, look: Look | None) -> None:
        self._path = Path(os.fsdecode(file.name))
        self._descriptor = file.fileno()
        self._look = look
        self._lock = threading.Lock()
        self._is_looking = False
        self._seen = 0  # everything before it has been looked at
        self._early: dict[int, int] = {}  # lengths of pieces by where they begin

    def write(self, piece: bytes | memoryview, start: int) -> None:
        """Write a piece at its place.

        Raises:
            UnwritableError: The disk does not take it.
        """
        self._put(piece, start)
        if self._look is None:
            return
        with self._lock:
            if self._is_looking or start != self._seen:
                self._early[start] = len(piece)
                return
            self._is_looking = True
        self._show(self._look, piece)
        while (length := self._next_early()) is not None:
            self._show(self._look, os.pread(self._descriptor, length, self._seen))

    def write_whole(self, content: bytes | memoryview) -> None:
        """Write everything, whatever has been written so far."""
        self._put(content, 0)
        if self._look is not None:
            self._show(self._look, memoryview(content)[self._seen :])

    def _next_early(self) -> int | None:
        with self._lock:
            length = self._early.pop(self._seen, None)
            self._is_looking = length is not None
            return length

    def _show(self, look: Look, piece: bytes | memoryview) -> None:
        look(piece)
        self._seen += len(piece)

    def _put(self, piece: bytes | memoryview, start: int) -> None:
        rest = memoryview(piece)
        try:
            while rest:  # a write may be cut short, by a disk that is almost full or a signal
                written = os.pwrite(self._descriptor, rest, start)
                rest, start = rest[written:], start + written
        except OSError as error:
            raise unwritable(self._path, error) from error


class Arrival:
    """A range of an object, written as it arrives.

    Args:
        target: Where it is written.
        start: Where it begins.

    Attributes:
        position: Where the next byte goes: what came before an answer broke off is not asked for again.
    """

    def __init__(self, target: OrderedFile, start: int) -> None:
        self.position = start
        self._target = target
        self._lock = threading.Lock()
        self._is_over = False

    def take(self, piece: bytes | memoryview) -> None:
        """Write the next piece.

        Raises:
            TimeoutError: ``end`` was called.
            UnwritableError: The disk does not take it.
        """
        with self._lock:
            if self._is_over:
                raise TimeoutError("nobody waits for it any more")
            self._target.write(piece, self.position)
            self.position += len(piece)

    def end(self) -> None:
        """Take no more.

        Who gave up waiting closes the file, whose number is soon that of another one; and a request that nobody waits
        for may still bring a piece.
        """
        with self._lock:
            self._is_over = True
