"""What lies in the directories that share a room, as far as one process knows, and what it deletes of that.

Whoever calls holds the locks of all directories, or says that nobody could be made to hold them: then nothing that was
remembered is believed, and the directories are surveyed.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from arrowstream.cache import names, reservations
from arrowstream.cache.ledger import LEDGER_BYTES, Ledger
from arrowstream.cache.shelf import Shelf
from arrowstream.cache.victims import LATEST, Place, Victims
from arrowstream.index import Index

# A survey is done again when room was made for a part of as many files as it found: so it costs this many a file.
_SURVEYED_PER_FILE = 8


class Stock:
    """The files of one or several cache directories.

    Attributes:
        shelves: What may lie in each directory.
        victims: The files that may be deleted.
    """

    def __init__(self) -> None:
        self.shelves: dict[Path, Shelf] = {}
        self.victims = Victims()
        self._num_made = -1  # how often room was made since the last survey; -1: there was none

    def add(self, directory: Path, index: Index, first_shard: int) -> None:
        """Look after one more directory."""
        self.shelves[directory] = Shelf(directory=directory, index=index, first_shard=first_shard)

    def put(self, directory: Path, name: str, status: os.stat_result) -> None:
        """Know of a file that this process fetched; others may have deleted it since."""
        shelf = self.shelves.get(directory)
        file = shelf.describe(name, status, frozenset()) if shelf is not None else None
        if file is not None:
            self.victims.add(file)

    def make_room(self, num_bytes: int, limit: int, place: Place, *, ahead: bool, held: bool) -> int | None:
        """Delete what has to go for so many bytes.

        Args:
            num_bytes: What is to come.
            limit: What may lie there in all.
            place: What comes.
            ahead: Whether nothing is deleted for it that is needed sooner.
            held: Whether the locks are held.

        Returns:
            None; or, where that is not enough and nothing was deleted, the bytes of what cannot be.
        """
        victims = self.victims if held else self.victims.empty()
        used = self._known_bytes() if held else None
        if used is None:
            used = self._survey(victims, held=held)
        if used + num_bytes <= limit:
            return None
        if self._is_stale():
            used = self._survey(victims, held=held)
        self._num_made += 1
        before = victims.key_of(place) if ahead else LATEST
        for is_last in (ahead, True):
            excess = used + num_bytes - limit
            if excess > 0 and victims.deletable_bytes(before) >= excess:
                excess -= self._delete(victims, excess, before, held=held)[0]
            if excess <= 0:
                return None
            if is_last:
                break
            used = self._survey(victims, held=held)  # others deleted what was known, and brought what was not
        return used - victims.deletable_bytes()

    def evict(self, num_bytes: int, place: Place, *, held: bool) -> int:
        """Delete what is not needed sooner than something, whatever the limit, until so many bytes are free.

        Returns:
            How many files were deleted.
        """
        victims = self.victims if held else self.victims.empty()
        before = victims.key_of(place)
        if self._is_stale() or victims.deletable_bytes(before) < num_bytes:
            self._survey(victims, held=held)
        self._num_made += 1
        return self._delete(victims, num_bytes, before, held=held)[1]

    def _known_bytes(self) -> int | None:
        known = [Ledger(directory).read() for directory in self.shelves]
        return None if None in known else sum(each for each in known if each is not None)

    def _is_stale(self) -> bool:
        return self._num_made < 0 or self._num_made * _SURVEYED_PER_FILE > self.victims.num_surveyed

    def _survey(self, victims: Victims, *, held: bool) -> int:
        """Look what lies in the directories, and give the bytes in all."""
        total, found = 0, []
        for directory, shelf in self.shelves.items():
            ledger = Ledger(directory)
            ledger.forget()
            if held:
                reservations.sweep(directory / names.TEMPORARY)  # the dead need no room
            used, files = shelf.survey()
            if held:
                used += LEDGER_BYTES
                ledger.write(used)
            total += used
            found += files
        victims.replace(found)
        if held:
            self._num_made = 0
        return total

    def _delete(self, victims: Victims, num_bytes: int, before: int, *, held: bool) -> tuple[int, int]:
        """Delete the first to go until so many bytes are free.

        Returns:
            The bytes that are free now, and how many files were deleted.
        """
        freed: dict[Path, int] = defaultdict(int)
        used_since = []
        deleted = 0
        with ExitStack() as stack:
            changes = {each: stack.enter_context(kept(each, held=held)) for each in self.shelves}
            for file in victims.take(before):
                with contextlib.suppress(FileNotFoundError):  # somebody else needed the room
                    status = file.path.stat()
                    if status.st_atime_ns > file.used_ns and victims.goes_by_time(file):
                        used_since.append(file.used_at(status.st_atime_ns))  # its turn is later
                        continue
                    file.path.unlink()
                    freed[file.directory] += status.st_size
                    deleted += 1
                if sum(freed.values()) >= num_bytes:
                    break
            for file in used_since:
                victims.add(file)
            for directory, change in changes.items():
                change(-freed[directory])
        return sum(freed.values()), deleted


@contextlib.contextmanager
def kept(directory: Path, *, held: bool) -> Iterator[Callable[[int], None]]:
    """Keep the ledger of a directory while something is done in it: gives what takes the change in bytes."""
    ledger = Ledger(directory)
    known = ledger.read() if held else None
    if known is None:
        ledger.forget()
    changes: list[int] = []
    yield changes.append
    if known is not None:
        ledger.write(known + sum(changes))
