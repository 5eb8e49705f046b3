"""How much a cache may hold.

Whoever fetches reserves room first: under a lock that all users of the directory share, what has to go is deleted, and
an empty file as long as all that is to come is put among the temporary files. Its owner holds a lock on it. When the
kernel has freed that lock, the owner is dead, and its files are deleted. What is fetched gets its name under the lock,
too, so that what lies there is known without a survey of the directory (:mod:`arrowstream.cache.ledger`).
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from arrowstream.cache import names, reservations
from arrowstream.cache.ledger import Ledger
from arrowstream.cache.locks import locked
from arrowstream.cache.stock import Stock, kept
from arrowstream.cache.victims import IntArray, Place
from arrowstream.errors import CacheLimitError
from arrowstream.index import Index
from arrowstream.plan.parts import Parts
from arrowstream.units import format_bytes

#: The lock that whoever makes or reserves room holds; no shard is called that.
ROOM = ".room"


class NoRoomAheadError(Exception):
    """Something that is needed sooner would have to go."""


class Scratch:
    """A place for temporary files, with the room that was reserved for them.

    Attributes:
        prefix: What is appended to its name, with a dot, makes the temporary files.
        num_bytes: What may still come, at most.
    """

    def __init__(self, room: "Room", directory: Path, prefix: Path, num_bytes: int) -> None:
        self.prefix = prefix
        self.num_bytes = num_bytes
        self._room = room
        self._directory = directory

    def file(self, step: str) -> Path:
        """Name a temporary file."""
        return self.prefix.with_name(f"{self.prefix.name}.{step}")

    def put(self, ready: Path, name: str) -> None:
        """Give a finished temporary file its name in the cache."""
        self._room.put(self, self._directory, ready, name)

    def write(self, text: bytes, name: str) -> None:
        """Write a file that appears in the cache at once."""
        ready = self.file(uuid.uuid4().hex)
        ready.write_bytes(text)
        self.put(ready, name)

    def grow(self, place: Place) -> None:
        """Make room for temporary files that have become larger than was reserved for them.

        Raises:
            CacheLimitError: There is none, and none can be made.
        """
        if reservations.held_bytes(self.prefix) > self.num_bytes:
            self._room.grow(self, self._directory, place)


class Room:
    """The disk space that one or several cache directories share.

    Args:
        limit: Bytes that may lie in them together, unfinished files included; None: as many as the disk takes.
        timeout_s: How long to wait for others who hold a lock or are fetching.

    Attributes:
        let_go: Is called when files were deleted on a full disk: what is mapped still takes its space.
    """

    def __init__(self, limit: int | None = None, *, timeout_s: float = 300.0) -> None:
        self.limit = limit
        self.let_go: Callable[[], None] = lambda: None
        self._timeout_s = timeout_s
        self._stock = Stock()

    def add(self, directory: Path, index: Index, first_shard: int) -> None:
        """Let a directory share the room."""
        self._stock.add(directory, index, first_shard)

    def follow(self, next_uses: Callable[[], IntArray] | None, parts: Parts | None) -> None:
        """Go by a plan, as :meth:`arrowstream.cache.victims.Victims.follow` says."""
        self._stock.victims.follow(next_uses, parts)

    @contextlib.contextmanager
    def scratch(
        self, directory: Path, num_bytes: int, place: Place = (None, None), *, ahead: bool = False
    ) -> Iterator[Scratch]:
        """Give temporary files a place, and the room for them; what is left of them is deleted afterwards.

        Args:
            directory: Of the cache.
            num_bytes: Most bytes that will lie there at a time.
            place: What they are for.
            ahead: Whether it is fetched ahead of time: then nothing is deleted for it that is needed sooner.

        Raises:
            NoRoomAheadError: There is no room ahead of time.
            CacheLimitError: There is no room, and none can be made.
        """
        prefix = directory / names.TEMPORARY / uuid.uuid4().hex
        with ExitStack() as stack:
            self._reserve(stack, directory, prefix, num_bytes, place, ahead=ahead)
            scratch = Scratch(self, directory, prefix, num_bytes)
            try:
                yield scratch
            finally:
                with self._locked_one(directory) as held, kept(directory, held=held) as change:
                    reservations.release(prefix)
                    change(-scratch.num_bytes)

    def _reserve(
        self, stack: ExitStack, directory: Path, prefix: Path, num_bytes: int, place: Place, *, ahead: bool
    ) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            with self._locked(directory) as held:
                used = self._make_room(num_bytes, place, ahead=ahead, held=held)
                if used is None:
                    with kept(directory, held=held) as change:
                        change(num_bytes)
                    stack.callback(reservations.reserve(prefix, num_bytes).close)
                    return
                if ahead:
                    raise NoRoomAheadError
                if held and self._sweep_all():
                    continue
                living = [
                    one for each in self._stock.shelves for one in reservations.of_the_living(each / names.TEMPORARY)
                ]
            # What others are fetching cannot be deleted; it can be once it is there.
            if not living or not reservations.wait_for(living[0], deadline - time.monotonic()):
                raise self._too_small(directory, used, num_bytes)

    def put(self, scratch: Scratch, directory: Path, ready: Path, name: str) -> None:
        """Give a finished temporary file its name; its bytes are no longer among those that may still come."""
        path = directory / name
        with self._locked_one(directory) as held, kept(directory, held=held) as change:
            status = ready.stat()  # by its own name anybody may delete it at once
            num_bytes = status.st_size
            try:
                replaced = path.stat().st_size
            except FileNotFoundError:
                replaced = 0
            ready.replace(path)
            reserved = min(num_bytes, scratch.num_bytes)
            scratch.num_bytes -= reserved
            reservations.resize(scratch.prefix, scratch.num_bytes)
            change(num_bytes - replaced - reserved)
            if held:
                self._stock.put(directory, name, status)

    def grow(self, scratch: Scratch, directory: Path, place: Place) -> None:
        """Reserve what temporary files have become, as :meth:`Scratch.grow` says."""
        with self._locked(directory) as held:
            num_bytes = reservations.held_bytes(scratch.prefix)
            with kept(directory, held=held) as change:  # they lie there already, whether there is room or not
                change(num_bytes - scratch.num_bytes)
            scratch.num_bytes = num_bytes
            reservations.resize(scratch.prefix, num_bytes)
            used = self._make_room(0, place, ahead=False, held=held)
        if used is not None:
            raise self._too_small(directory, used, 0)

    def keep_limit(self, directory: Path) -> None:
        """Delete what has to go.

        Raises:
            CacheLimitError: That is not enough; nothing was deleted.
        """
        with self._locked(directory):
            used = self._make_room(0, (None, None), ahead=False, held=False)  # by a survey
        if used is not None:
            raise self._too_small(directory, used, 0)

    def sweep(self, directory: Path) -> None:
        """Delete what processes left in a directory that were killed."""
        temporary = directory / names.TEMPORARY
        if temporary.is_dir() and os.access(temporary, os.W_OK) and any(temporary.iterdir()):
            with self._locked_one(directory) as held:
                if held and reservations.sweep(temporary):
                    Ledger(directory).forget()

    def _sweep_all(self) -> bool:
        """Delete what the dead left in all directories; the locks are held. Tells whether there was anything."""
        swept = [each for each in self._stock.shelves if reservations.sweep(each / names.TEMPORARY)]
        for directory in swept:
            Ledger(directory).forget()
        return bool(swept)

    def listing(self, directory: Path) -> Iterator[tuple[str, os.stat_result, bool]]:
        """Name the files of a directory, each with whether it may be deleted."""
        shelf = self._stock.shelves[directory]
        others = shelf.named_by_others()
        for name, status in shelf.files():
            yield name, status, shelf.describe(name, status, others) is not None

    def expire(self, directory: Path, *, before_ns: int) -> None:
        """Delete what may be deleted and was last opened before a time."""
        with self._locked_one(directory):
            Ledger(directory).forget()
            for name, status, removable in self.listing(directory):
                if removable and status.st_atime_ns < before_ns:
                    (directory / name).unlink(missing_ok=True)

    def _too_small(self, directory: Path, used: int, num_bytes: int) -> CacheLimitError:
        return CacheLimitError(
            f"{directory}: cache_limit is {format_bytes(self.limit or 0)}; {format_bytes(used)} there cannot be "
            f"deleted, and {format_bytes(num_bytes)} are needed for one more shard: raise cache_limit= to at least "
            f"{used + num_bytes} bytes, or give another directory as local="
        )

    def evict(self, num_bytes: int, place: Place) -> int:
        """Make place on a disk that is full, if that can be done without what is needed sooner.

        Returns:
            How many files were deleted.
        """
        with ExitStack() as stack:
            held = [stack.enter_context(self._locked_one(each)) for each in sorted(self._stock.shelves)]
            swept = all(held) and self._sweep_all()
            deleted = self._stock.evict(num_bytes, place, held=all(held))
        self.let_go()
        return deleted + swept

    def wait(self, directory: Path) -> bool:
        """Wait until one of those who are fetching into a directory is done; False where nobody is, or is in time."""
        living = reservations.of_the_living(directory / names.TEMPORARY)
        return bool(living) and reservations.wait_for(living[0], self._timeout_s)

    @contextlib.contextmanager
    def _locked(self, directory: Path) -> Iterator[bool]:
        """Lock all directories that share the room, in an order that all their users keep to."""
        with ExitStack() as stack:
            together = sorted({directory, *(self._stock.shelves if self.limit is not None else ())})
            held = [stack.enter_context(self._locked_one(each)) for each in together]
            yield all(held)

    def _make_room(self, num_bytes: int, place: Place, *, ahead: bool, held: bool) -> int | None:
        if self.limit is None:
            return None
        return self._stock.make_room(num_bytes, self.limit, place, ahead=ahead, held=held)

    def _locked_one(self, directory: Path) -> contextlib.AbstractContextManager[bool]:
        (directory / names.TEMPORARY).mkdir(parents=True, exist_ok=True)
        return locked(directory / names.LOCK, ROOM, timeout_s=self._timeout_s, what="making room")
