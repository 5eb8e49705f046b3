"""How much a cache may hold, and who has to go.

The directory itself is the ledger: nothing is counted anywhere else, so nothing can be counted wrong, whoever is killed
whenever. Whoever fetches reserves room first: under a lock that all users of the directory share, what lies there is
summed up, victims are deleted, and an empty file as long as all that is to come is put among the temporary files.
Its owner holds a lock on it. When the kernel has freed that lock, the owner is dead, and its files are deleted.
"""

import contextlib
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arrowstream.cache import names
from arrowstream.cache.locks import Lock, locked
from arrowstream.errors import CacheLimitError
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, Index
from arrowstream.plan.parts import Parts
from arrowstream.units import format_bytes

IntArray = npt.NDArray[np.int64]
Place = tuple[
    int | None, int | None
]  # number of a shard, and of a record batch in it; None: all of it, or nobody knows

RESERVATION = ".room"
#: The lock that whoever makes or reserves room holds; no shard is called that.
ROOM = ".room"


class NoRoomAheadError(Exception):
    """Something that is needed sooner would have to go."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A directory of a cache, and the index of what may lie in it.

    Attributes:
        directory: Of the cache.
        index: Of the shards that are fetched into it.
        first_shard: Number that the dataset gives the first of them.
    """

    directory: Path
    index: Index
    first_shard: int

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each shard by the names that its files have."""
        numbers = {}
        for number, both in enumerate(names.cached_names(self.index), self.first_shard):
            numbers.update(dict.fromkeys(both, number))
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file that may be fetched again; the lower its rank, the sooner it goes."""

    path: Path
    num_bytes: int
    rank: tuple[int, int]


class Room:
    """The disk space that one or several cache directories share.

    Args:
        limit: Bytes that may lie in them together, unfinished files included; None: as many as the disk takes.
        timeout_s: How long to wait for others who hold a lock or are fetching.

    Attributes:
        next_uses: Gives the position at which each part is needed next, int64 of shape (parts,), as far as a plan
            knows. None: nobody knows, and what was opened least recently goes first.
        parts: What the parts are; None: shards.
        let_go: Is called when files were deleted on a full disk: what is mapped still takes its space.
    """

    def __init__(self, limit: int | None = None, *, timeout_s: float = 300.0) -> None:
        self.limit = limit
        self.next_uses: Callable[[], IntArray] | None = None
        self.parts: Parts | None = None
        self.let_go: Callable[[], None] = lambda: None
        self._timeout_s = timeout_s
        self._shelves: dict[Path, Shelf] = {}
        self._others: dict[Path, frozenset[str]] = {}  # names that other indexes give, by the lists' paths
        self._began_ns = time.time_ns()

    def add(self, directory: Path, index: Index, first_shard: int) -> None:
        """Let a directory share the room."""
        self._shelves[directory] = Shelf(directory=directory, index=index, first_shard=first_shard)

    @contextlib.contextmanager
    def scratch(
        self,
        directory: Path,
        num_bytes: int,
        place: Place = (None, None),
        *,
        ahead: bool = False,
    ) -> Iterator[Path]:
        """Give temporary files a place, and the room for them; what is left of them is deleted afterwards.

        Args:
            directory: Of the cache.
            num_bytes: Most bytes that will lie there at a time.
            place: What they are for.
            ahead: Whether it is fetched ahead of time: then nothing is deleted for it that is needed sooner.

        Yields:
            A path; what is appended to its name, with a dot, makes the temporary files.

        Raises:
            NoRoomAheadError: There is no room ahead of time.
            CacheLimitError: There is no room, and none can be made.
        """
        prefix = directory / names.TEMPORARY / uuid.uuid4().hex
        lock = self._reserve(directory, prefix, num_bytes, place, ahead=ahead)
        try:
            yield prefix
        finally:
            # The reservation goes last: without one, the others are a dead process's.
            leftovers = prefix.parent.glob(f"{prefix.name}.*")
            for leftover in sorted(leftovers, key=lambda file: file.suffix == RESERVATION):
                leftover.unlink(missing_ok=True)
            lock.close()

    def sweep(self, directory: Path) -> None:
        """Delete what processes left in a directory that were killed."""
        temporary = directory / names.TEMPORARY
        if temporary.is_dir() and os.access(temporary, os.W_OK) and any(temporary.iterdir()):
            with self._locked_one(directory) as held:
                if held:
                    self._sweep(temporary)

    def settle(self, directory: Path, place: Place) -> None:
        """Keep the limit where temporary files have become larger than was reserved for them.

        Raises:
            CacheLimitError: There is no room for them, and none can be made.
        """
        with self._locked(directory):
            used = self._make_room(0, place, ahead=False)
        if used is not None:
            raise self._too_small(directory, used, 0)

    def listing(self, directory: Path) -> Iterator[tuple[str, os.stat_result, bool]]:
        """Name the files of a directory, each with whether it may be deleted."""
        shelf = self._shelves[directory]
        for name, status in self._walk(directory, ""):
            removable = not name.startswith(f"{names.TEMPORARY}/") and self._rank(shelf, name, status, None) is not None
            yield name, status, removable

    def expire(self, directory: Path, *, before_ns: int) -> None:
        """Delete what may be deleted and was last opened before a time."""
        with self._locked_one(directory):
            for name, status, removable in self.listing(directory):
                if removable and status.st_atime_ns < before_ns:
                    (directory / name).unlink(missing_ok=True)

    def _reserve(self, directory: Path, prefix: Path, num_bytes: int, place: Place, *, ahead: bool) -> Lock:
        deadline = time.monotonic() + self._timeout_s
        while True:
            with self._locked(directory) as held:
                living = self._sweep(prefix.parent) if held else []
                used = self._make_room(num_bytes, place, ahead=ahead)
                if used is None:
                    return self._new_reservation(prefix, num_bytes)
                if self.limit is not None:
                    living = [one for each in self._shelves for one in _reservations(each / names.TEMPORARY)]
            if ahead:
                raise NoRoomAheadError
            # What others are fetching cannot be deleted; it can be once it is there.
            if not living or not _wait_for(living[0], deadline - time.monotonic()):
                raise self._too_small(directory, used, num_bytes)

    def _too_small(self, directory: Path, used: int, num_bytes: int) -> CacheLimitError:
        return CacheLimitError(
            f"{directory}: cache_limit is {format_bytes(self.limit or 0)}; {format_bytes(used)} there cannot be "
            f"deleted, and {format_bytes(num_bytes)} are needed for one more shard: raise cache_limit= to at least "
            f"{used + num_bytes} bytes, or give another directory as local="
        )

    def _new_reservation(self, prefix: Path, num_bytes: int) -> Lock:
        file = prefix.with_name(prefix.name + RESERVATION)
        lock = Lock(file)
        lock.take()
        if self.limit is not None:
            os.truncate(file, num_bytes)  # sparse: it has a length, and takes no space
        return lock

    def evict(self, num_bytes: int, place: Place) -> int:
        """Make place on a disk that is full, if that can be done without what is needed sooner.

        Returns:
            How many files were deleted.
        """
        freed = deleted = 0
        with ExitStack() as stack:
            for directory in sorted(self._shelves):
                stack.enter_context(self._locked_one(directory))
            _, files = self._survey()
            for file in self._sooner_kept(files, place):
                if freed >= num_bytes:
                    break
                file.path.unlink(missing_ok=True)
                freed, deleted = freed + file.num_bytes, deleted + 1
        self.let_go()
        return deleted

    @contextlib.contextmanager
    def _locked(self, directory: Path) -> Iterator[bool]:
        """Lock all directories that share the room, in an order that all their users keep to."""
        with ExitStack() as stack:
            together = sorted({directory, *(self._shelves if self.limit is not None else ())})
            held = [stack.enter_context(self._locked_one(each)) for each in together]
            yield all(held)

    def _locked_one(self, directory: Path) -> contextlib.AbstractContextManager[bool]:
        (directory / names.TEMPORARY).mkdir(parents=True, exist_ok=True)
        return locked(directory / names.LOCK, ROOM, timeout_s=self._timeout_s, what="making room")

    def _sweep(self, temporary: Path) -> list[Path]:
        """Delete what the dead left behind; the lock is held.

        Returns:
            The reservations of the living.
        """
        living = _reservations(temporary)
        alive = {file.stem for file in living}
        for leftover in temporary.iterdir():
            if leftover.name.partition(".")[0] not in alive:
                leftover.unlink(missing_ok=True)
        return living

    def _make_room(self, num_bytes: int, place: Place, *, ahead: bool) -> int | None:
        """Delete what has to go for so many bytes.

        Returns:
            None; or, where that is not enough and nothing was deleted, the bytes of what cannot be.
        """
        if self.limit is None:
            return None
        used, files = self._survey()
        excess = used + num_bytes - self.limit
        victims = []
        for file in self._sooner_kept(files, place) if ahead else files:
            if excess <= 0:
                break
            victims.append(file)
            excess -= file.num_bytes
        if excess > 0:
            return used - sum(file.num_bytes for file in files)
        for file in victims:
            file.path.unlink(missing_ok=True)
        return None

    def _sooner_kept(self, files: list[_File], place: Place) -> list[_File]:
        """Choose those that are needed later than a shard, or a record batch; all of them where nobody knows."""
        shard, batch = place
        if self.next_uses is None or shard is None:
            return files
        latest = (1, -self._next_use(self.next_uses(), shard, batch))
        return [file for file in files if file.rank < latest]

    def _survey(self) -> tuple[int, list[_File]]:
        """Sum up what lies in the directories.

        Returns:
            Bytes in all, and the files that may be deleted, the first to go at the front.
        """
        used = 0
        files = []
        uses = self.next_uses() if self.next_uses is not None else None
        for shelf in self._shelves.values():
            reserved: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # and actual, of each temporary prefix
            # Temporary files first: what gets its name meanwhile is then counted twice, and not overlooked.
            temporary = list(self._walk(shelf.directory, names.TEMPORARY))
            rest = (each for each in self._walk(shelf.directory, "") if not each[0].startswith(names.TEMPORARY))
            for name, status in chain(temporary, rest):
                if name.startswith(f"{names.TEMPORARY}/"):
                    prefix, _, step = name.rpartition("/")[2].partition(".")
                    reserved[prefix][f".{step}" != RESERVATION] += status.st_size
                    continue
                used += status.st_size
                rank = self._rank(shelf, name, status, uses)
                if rank is not None:
                    files.append(_File(path=shelf.directory / name, num_bytes=status.st_size, rank=rank))
            used += sum(map(max, reserved.values()))
        return used, sorted(files, key=lambda file: file.rank)

    def _rank(self, shelf: Shelf, name: str, status: os.stat_result, uses: IntArray | None) -> tuple[int, int] | None:
        """Say how soon a file goes; None: never, for nobody says that it could be fetched again."""
        if name == INDEX_NAME or name.startswith((names.NAMES, names.LOCK)):
            return None
        number = shelf.numbers.get(names.shard_of(name))
        if number is not None:
            if name.endswith(names.FOOTER) and name.startswith(names.BATCHES):
                return (2, status.st_atime_ns)  # small, and every record batch of the shard needs it
            next_use = self._next_use(uses, number, names.batch_of(name)) if uses is not None else None
            return (1, -next_use) if next_use is not None else (1, status.st_atime_ns)
        if name.startswith(PRIVATE_FOLDER) or name in self._named_by_others(shelf.directory):
            # Another dataset's. What nobody has opened since we began is the first to go, what is in use the last.
            return (0 if status.st_atime_ns < self._began_ns else 2, status.st_atime_ns)
        return None

    def _next_use(self, uses: IntArray, shard: int, batch: int | None) -> int:
        """Tell when a record batch is needed next, or the first one of a shard."""
        if self.parts is None:
            return int(uses[shard])
        first, stop = self.parts.first_parts[shard : shard + 2].tolist()
        return int(uses[first:stop].min() if batch is None or first + batch >= stop else uses[first + batch])

    def _named_by_others(self, directory: Path) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        with contextlib.suppress(FileNotFoundError):
            for file in (directory / names.NAMES).iterdir():
                if file not in self._others:
                    self._others[file] = frozenset(file.read_text().splitlines())
                found |= self._others[file]
        return found

    def _walk(self, directory: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
        """Find all files of a cache, but not those of another one that lies in it."""
        try:
            entries = list(os.scandir(directory / below))
        except FileNotFoundError:
            return
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                if not entry.is_dir(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False)
                elif not (directory / name / PRIVATE_FOLDER).is_dir():
                    yield from self._walk(directory, name)
            except FileNotFoundError:
                continue  # somebody else needed the room


def _reservations(temporary: Path) -> list[Path]:
    """Find the reservations whose owners live."""
    living = []
    for file in temporary.glob(f"*{RESERVATION}"):
        with contextlib.suppress(FileNotFoundError):  # its owner has just finished
            lock = Lock(file, create=False)
            if lock.is_taken():
                living.append(file)
            lock.close()
    return living


def _wait_for(reservation: Path, timeout_s: float) -> bool:
    """Wait until its owner is done, or dead."""
    try:
        lock = Lock(reservation, create=False)
    except FileNotFoundError:
        return True
    try:
        return lock.take(timeout_s=max(timeout_s, 0.001))
    finally:
        lock.close()
