"""One directory of a cache: files appear in it whole, one process fetches each, and all keep within the room."""

import contextlib
import errno
import logging
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from arrowstream import ipc
from arrowstream.cache import names
from arrowstream.cache.locks import locked
from arrowstream.cache.room import NoRoomAheadError, Room, Scratch
from arrowstream.cache.victims import Place
from arrowstream.errors import ArrowStreamError, CorruptShardError, MissingShardError, UnwritableError
from arrowstream.index import Shard
from arrowstream.units import format_bytes

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_FULL_OR_READ_ONLY = {*_FULL, *_NOT_ALLOWED, errno.EROFS, errno.EFBIG}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}  # or taken away, with all that it held
# A disk that was full is tried so often though nothing can be deleted from it any more.
_CHANCES = 20
_log = logging.getLogger(__name__)


class CacheDirectory:
    """A directory that many processes put files into.

    Args:
        directory: The directory, which need not exist.
        lock_timeout_s: How long to wait for another process that is fetching the same file, before fetching it too.

    Attributes:
        room: What it may hold; shared with other directories of a dataset.
    """

    def __init__(self, directory: Path, *, lock_timeout_s: float) -> None:
        self.directory = directory
        self.room = Room(timeout_s=lock_timeout_s)
        self._lock_timeout_s = lock_timeout_s

    def claimed(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Be the one who fetches a file, for a block."""
        (self.directory / names.TEMPORARY).mkdir(parents=True, exist_ok=True)
        (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        return locked(self.directory / names.LOCK, name, timeout_s=self._lock_timeout_s, what="fetching this")

    def fill(self, num_bytes: int, place: Place, work: Callable[[Scratch], None], *, ahead: bool) -> None:
        """Do work that needs room; once more after something was deleted, where the disk turns out to be full.

        Args:
            num_bytes: Most bytes that will lie in temporary files at a time.
            place: What they are for.
            work: Is given the place for the temporary files.
            ahead: Whether it is done ahead of time.
        """
        chances = 0 if ahead else _CHANCES
        while True:
            try:
                with self.room.scratch(self.directory, num_bytes, place, ahead=ahead) as scratch:
                    return work(scratch)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if not self._evict(num_bytes, place):
                    # Others may have let go meanwhile of what they read, or be about to.
                    chances -= 1
                    if chances < 0 or not (self._free_bytes() >= num_bytes or self.room.wait(self.directory)):
                        raise self._full(error, num_bytes) from error

    def _full(self, error: OSError, num_bytes: int) -> UnwritableError:
        cause, free = os.strerror(error.errno or errno.ENOSPC), format_bytes(self._free_bytes())
        return UnwritableError(
            error.errno,
            f"{self.directory}: {cause}; {format_bytes(num_bytes)} are needed for one more part of the data, {free} "
            f"are free, and nothing is left to delete that is not needed sooner. What was deleted keeps its space "
            f"while a process reads it: give cache_limit= a good deal below what the disk holds, which all processes "
            f"keep to, or a larger disk as local=",
        )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.directory).free

    def _evict(self, num_bytes: int, place: Place) -> bool:
        deleted = self.room.evict(num_bytes, place)
        if deleted:
            _log.warning(
                "%s: the disk is full; %d files were deleted that can be fetched again. Give cache_limit= to keep "
                "within the disk, or a larger disk as local=",
                self.directory,
                deleted,
            )
        return bool(deleted)


@contextlib.contextmanager
def declining() -> Iterator[None]:
    """End a block early that fetches ahead of time, where there is no room yet."""
    try:
        yield
    except NoRoomAheadError:
        pass
    except UnwritableError as error:
        if error.errno not in _FULL:  # there may be room by the time that it is needed
            raise


def holds(path: Path, shard: Shard) -> bool:
    """Tell whether a file is the shard, or a record batch of it."""
    try:
        return ipc.content_of(ipc.open_file(path).schema) == shard.content
    except MissingShardError:
        return False
    except CorruptShardError:
        # Nobody writes here but by renaming a whole file: somebody else damaged it, and it is fetched again.
        return False


def mark_used(path: Path) -> None:
    """Remember when a file was opened last; the disk itself may have been told not to."""
    with contextlib.suppress(OSError):  # another user's, or deleted just now
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def flush(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk: a rename must not outlive its data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writable(directory: Path) -> Iterator[None]:
    """Say of what goes wrong while a cache is written that it does.

    Raises:
        UnwritableError: The directory or the disk does not take it.
    """
    try:
        yield
    except ArrowStreamError:
        raise
    except OSError as error:
        if error.errno not in _FULL_OR_READ_ONLY | _IN_THE_WAY:
            raise
        way_out = "give another directory as local=, or make room in this one"
        if error.errno in _NOT_ALLOWED:
            way_out = f"{_whose(Path(error.filename or directory))}; give another directory as local="
        raise UnwritableError(error.errno, f"{error.strerror}; {way_out}", str(directory)) from error


def _whose(path: Path) -> str:
    """Say whose a file is that we may not use, or the directory that we may not look into for it."""
    for each in (path, *path.parents):
        try:
            owner = each.stat().st_uid
        except (PermissionError, FileNotFoundError):
            continue
        return (
            f"{each} belongs to user {_user(owner)}, this process to {_user(os.geteuid())}: users who share a cache "
            f"need a directory of a group that they are all in (chgrp, chmod g+rws) and umask 002"
        )
    return f"{path} cannot be looked at"


def _user(number: int) -> str:
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return str(number)
